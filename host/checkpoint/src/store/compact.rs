//! Measures the space of a store, and returns unused space to the file system.
//!
//! redb reuses the pages of retired checkpoints, so a file stops growing by itself; only this module makes it shorter.
//! redb moves pages to the front in transactions of its own, and the store is whole after each. They do not save its
//! table of free pages, so this module adds a transaction that does: after a crash in between, the next opening scans
//! all pages.

use redb::{Database, ReadableDatabase};

use super::error::{StoreError, StoreFault};
use super::guard::guarded;
use super::{CheckpointStore, Health};

/// The space that a store takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Length of the file, in bytes.
    pub file_bytes: u64,
    /// Bytes of pages that are in use.
    pub used_bytes: u64,
    /// Bytes of the keys and values in those pages.
    pub stored_bytes: u64,
}

impl CheckpointStore {
    /// Returns free pages to the file system. Returns the length of the file before and after, in bytes.
    ///
    /// # Errors
    ///
    /// When the store is damaged, or the disk fails. No checkpoint is lost in either case.
    pub fn compact(&mut self) -> Result<(u64, u64), StoreError> {
        self.require_name()?;
        // redb reads the pages that it moves without checking their checksums.
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
                // After an error the database is dropped: its state is unknown.
                slot.database = Some(database);
                Ok(())
            })
        });
        compacted.map_err(|fault| fault.of(self.reader.path()))?;
        Ok((before, self.file_bytes()?))
    }

    /// The current space of the store.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is damaged.
    pub fn space(&mut self) -> Result<Space, StoreError> {
        let file_bytes = self.file_bytes()?;
        self.reader.with(|database| {
            // Only a write transaction has these numbers.
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

/// Commits a transaction that only saves the table of free pages.
fn save_free_pages(database: &Database) -> Result<(), StoreFault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.commit()?;
    // Releases the previous transaction's snapshot.
    drop(database.begin_read()?);
    Ok(())
}
