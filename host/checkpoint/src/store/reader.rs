//! Reads the checkpoints of an open store, from any thread, also during a write.
//!
//! redb shows each reader the last commit while the next one is written. So readers share the writer's handle, and wait
//! only while it is replaced: after an error that leaves it in doubt, and around a large write. Two handles on one file
//! must never be used at the same time: one would free pages that the other still reads.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use redb::{Database, ReadTransaction, ReadableDatabase};

use super::error::{StoreError, StoreFault};
use super::guard::guarded;
use super::handle::{Handle, Storage};
use super::verify::{PageCheck, Views};
use super::{FailedWrite, Fate, file, pages, tables};

/// The open file of a store.
pub(super) struct StoreReader {
    path: PathBuf,
    slot: RwLock<HandleSlot>,
}

/// The handle on the file, if it is open, and what is needed to open another.
pub(super) struct HandleSlot {
    /// Dropped before the storage; `None` after an error that leaves redb's view of the file in doubt.
    pub(super) database: Option<Handle>,
    pub(super) storage: Storage,
    /// Cache size of the next handle, in bytes.
    pub(super) cache_bytes: usize,
    /// The last write that failed. Opening a handle settles it.
    pub(super) failed: Option<FailedWrite>,
    /// Number of handles opened so far.
    opened: u64,
}

impl StoreReader {
    pub(super) fn new(path: PathBuf, (storage, database): file::OpenedStore) -> Self {
        let slot = HandleSlot {
            database: Some(database),
            storage,
            cache_bytes: file::CACHE_BYTES,
            failed: None,
            opened: 1,
        };
        Self {
            path,
            slot: RwLock::new(slot),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Calls redb with a handle that is not in doubt, and drops the handle if the call leaves it in doubt. A call must
    /// not make another one.
    pub(super) fn attempt<T>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        loop {
            let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = &slot.database {
                let called = guarded(|| call(database));
                let opened = slot.opened;
                drop(slot);
                if called.as_ref().is_err_and(StoreFault::spoils_handle) {
                    self.alone(|slot| {
                        // Another caller may have replaced it already.
                        if slot.opened == opened {
                            slot.database = None;
                        }
                    });
                }
                return called;
            }
            drop(slot);
            self.alone(HandleSlot::open)?;
        }
    }

    /// Like [`StoreReader::attempt`], with errors that name the store.
    pub(super) fn with<T>(
        &self,
        call: impl FnOnce(&Database) -> Result<T, StoreFault>,
    ) -> Result<T, StoreError> {
        self.attempt(call).map_err(|fault| fault.of(&self.path))
    }

    /// Runs `call` with exclusive access to the handle: waits until no other caller uses it, and makes later ones wait.
    pub(super) fn alone<T>(&self, call: impl FnOnce(&mut HandleSlot) -> T) -> T {
        call(&mut self.slot.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Finds out whether the last failed write was stored, opening the file again if needed.
    pub(super) fn settle(&self) -> Result<Option<FailedWrite>, StoreError> {
        let settled = self.alone(|slot| slot.open().map(|()| slot.failed));
        settled.map_err(|fault| fault.of(&self.path))
    }

    /// A description of damage in the pages of the file, if any.
    pub(super) fn check_pages(&self) -> Result<Option<String>, StoreError> {
        self.alone(|slot| {
            slot.open().map_err(|fault| fault.of(&self.path))?;
            // The handle and the check would not see each other's writes.
            slot.database = None;
            pages::check(&slot.storage, &self.path)
        })
    }
}

impl HandleSlot {
    /// Opens a handle unless there is one.
    pub(super) fn open(&mut self) -> Result<(), StoreFault> {
        if self.database.is_some() {
            return Ok(());
        }
        let database = Handle::open(&self.storage, self.cache_bytes)?;
        if let Some(failed) = &mut self.failed
            && failed.fate == Fate::Unknown
        {
            // Opening wrote redb's header and synced it, so what is read now is what is on disk.
            let id = failed.checkpoint.0;
            let look = || {
                Ok(database
                    .begin_read()?
                    .open_table(tables::CHECKPOINTS)?
                    .get(id)?
                    .is_some())
            };
            failed.fate = if guarded(look)? {
                Fate::Durable
            } else {
                Fate::Absent
            };
        }
        self.opened += 1;
        self.database = Some(database);
        Ok(())
    }
}

impl Views for StoreReader {
    fn view<T>(
        &self,
        call: impl Fn(&ReadTransaction) -> Result<T, StoreFault>,
    ) -> Result<T, StoreError> {
        self.with(|database| call(&database.begin_read()?))
    }

    fn pages(&self) -> Result<PageCheck, StoreError> {
        Ok(PageCheck::Checked(self.check_pages()?))
    }
}
