//! How much room a store takes, and giving back what it does not need.
//!
//! redb reuses the pages that retired checkpoints leave, so a file stops growing by itself; it only gets shorter here. redb
//! moves pages to the front in transactions of its own, after each of which the store is whole. They do not save its
//! table of free pages, so one more of ours does: a crash in between costs the next opening a look at all pages.

use redb::{Database, ReadableDatabase};

use super::error::{StoreError, StoreFault};
use super::guard::guarded;
use super::{CheckpointStore, Health};

/// What a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// The length of the file.
    pub file_bytes: u64,
    /// The pages in it that are in use.
    pub used_bytes: u64,
    /// What is stored in those: keys and values.
    pub stored_bytes: u64,
}

impl CheckpointStore {
    /// Gives free pages back to the file system. Returns the length of the file before and after.
    ///
    /// # Errors
    ///
    /// When the store is damaged, or the disk fails. All checkpoints are there in each case.
    pub fn compact(&mut self) -> Result<(u64, u64), StoreError> {
        self.require_name()?;
        // A page that is moved is read by redb, which does not look at its checksum.
        if matches!(self.health, Health::Sound) {
            self.health = Health::Suspicious;
        }
        let before = self.file_bytes()?;
        let compacted = self.under_mark(|store| {
            store.reader.alone(|slot| {
                slot.open()?;
                let Some(mut database) = slot.database.take() else {
                    return Ok(());
                };
                guarded(|| {
                    database.get_mut().compact()?;
                    save_free_pages(&database)
                })?;
                // After an error it is gone: it is in doubt.
                slot.database = Some(database);
                Ok(())
            })
        });
        compacted.map_err(|fault| fault.of(self.reader.path()))?;
        Ok((before, self.file_bytes()?))
    }

    /// What it takes now.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is damaged.
    pub fn space(&mut self) -> Result<Space, StoreError> {
        let file_bytes = self.file_bytes()?;
        self.reader.with(|database| {
            // Only a transaction that may write knows.
            let transaction = database.begin_write()?;
            let stats = transaction.stats()?;
            transaction.abort()?;
            Ok(Space {
                file_bytes,
                used_bytes: stats.allocated_pages() * stats.page_size() as u64,
                stored_bytes: stats.stored_bytes(),
            })
        })
    }

    fn file_bytes(&self) -> Result<u64, StoreError> {
        let len = self.reader.alone(|slot| slot.storage.backend().len());
        len.map_err(|error| StoreFault::from(error).of(self.reader.path()))
    }
}

/// A transaction that changes nothing but that.
fn save_free_pages(database: &Database) -> Result<(), StoreFault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.commit()?;
    // The one before it is let go of.
    drop(database.begin_read()?);
    Ok(())
}
