//! Wraps redb's handle on a file: it closes as if the power failed, and passes the lock to the next handle.
//!
//! When redb closes, it commits once more. This is not needed, since each commit of the store can be opened as it is,
//! and it is harmful if the handle is in doubt or the file damaged. A panic in that commit can even abort the process,
//! since redb may panic again during cleanup. So closing first cuts redb off from the file; redb then gives up without
//! writing.
//!
//! A store opens a new handle after an error, and for a large write. No other process may get in between, so `Storage`
//! owns the file and redb's locks on it, and lives as long as the store: the first handle takes the locks, and later
//! handles are told that they hold them.

use std::io;
use std::ops::{Bound, Deref};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};

use super::error::StoreFault;
use super::guard::guarded;

/// The bytes of a store, and the lock on them.
#[derive(Debug, Clone)]
pub(super) struct Storage(Arc<Held>);

#[derive(Debug)]
struct Held {
    backend: Box<dyn StorageBackend>,
    locked: AtomicBool,
}

impl Storage {
    pub(super) fn new(backend: impl StorageBackend) -> Self {
        Self(Arc::new(Held {
            backend: Box::new(backend),
            locked: AtomicBool::new(false),
        }))
    }

    /// The backend of the bytes.
    pub(super) fn backend(&self) -> &dyn StorageBackend {
        &*self.0.backend
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nothing can be lost: everything that counts was synced.
        let _ = self.backend.close();
    }
}

/// An open database.
pub(super) struct Handle {
    /// `None` only during drop.
    database: Option<Database>,
    cut: Arc<AtomicBool>,
}

impl Handle {
    /// Opens the database in `storage`, and creates one if it is empty.
    pub(super) fn open(storage: &Storage, cache_bytes: usize) -> Result<Self, StoreFault> {
        let cut = Arc::new(AtomicBool::new(false));
        let backend = Severable {
            held: storage.0.clone(),
            cut: cut.clone(),
        };
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes);
        let database = guarded(|| Ok(builder.create_with_backend(backend)?))?;
        storage.0.locked.store(true, Ordering::Release);
        Ok(Self {
            database: Some(database),
            cut,
        })
    }

    /// The database, for calls that need exclusive access.
    pub(super) fn get_mut(&mut self) -> &mut Database {
        let database = self.database.as_mut();
        database.expect("it is there until it is dropped")
    }

    /// Lets redb check all its pages, and repair what it can.
    pub(super) fn check_integrity(&mut self) -> Result<bool, StoreFault> {
        guarded(|| Ok(self.get_mut().check_integrity()?))
    }
}

impl Deref for Handle {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.database
            .as_ref()
            .expect("it is there until it is dropped")
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cut.store(true, Ordering::Release);
        let Some(mut database) = self.database.take() else {
            return;
        };
        let _ = guarded(|| {
            // Its first step is a sync; if that fails, redb knows that it must no longer write.
            match database.check_integrity() {
                // A transaction left by a panic keeps the database in use: even dropping it is unsafe.
                Err(DatabaseError::TransactionInProgress) => std::mem::forget(database),
                _ => drop(database),
            }
            Ok(())
        });
    }
}

/// A backend that fails once it is cut.
#[derive(Debug)]
struct Severable {
    held: Arc<Held>,
    cut: Arc<AtomicBool>,
}

impl Severable {
    fn there(&self) -> Result<&dyn StorageBackend, io::Error> {
        if self.cut.load(Ordering::Acquire) {
            return Err(io::Error::other("the checkpoint store is closed"));
        }
        Ok(&*self.held.backend)
    }

    /// The backend that takes locks; `None` if they are already held.
    fn unlocked(&self) -> Option<&dyn StorageBackend> {
        let locked = self.held.locked.load(Ordering::Acquire);
        (!locked).then_some(&*self.held.backend)
    }
}

type OffsetBound = Bound<u64>;

impl StorageBackend for Severable {
    fn len(&self) -> Result<u64, io::Error> {
        self.there()?.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.there()?.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.there()?.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.there()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.there()?.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn try_lock_range(&self, start: OffsetBound, end: OffsetBound) -> Result<bool, BackendError> {
        self.unlocked()
            .map_or(Ok(true), |backend| backend.try_lock_range(start, end))
    }

    fn try_lock_shared_range(
        &self,
        start: OffsetBound,
        end: OffsetBound,
    ) -> Result<bool, BackendError> {
        self.unlocked().map_or(Ok(true), |backend| {
            backend.try_lock_shared_range(start, end)
        })
    }

    fn lock_range(&self, start: OffsetBound, end: OffsetBound) -> Result<(), BackendError> {
        self.unlocked()
            .map_or(Ok(()), |backend| backend.lock_range(start, end))
    }

    fn lock_shared_range(&self, start: OffsetBound, end: OffsetBound) -> Result<(), BackendError> {
        self.unlocked()
            .map_or(Ok(()), |backend| backend.lock_shared_range(start, end))
    }

    fn unlock_range(&self, start: OffsetBound, end: OffsetBound) -> Result<(), BackendError> {
        self.unlocked()
            .map_or(Ok(()), |backend| backend.unlock_range(start, end))
    }

    fn query_lock_range(&self, start: OffsetBound, end: OffsetBound) -> Result<bool, BackendError> {
        self.unlocked()
            .map_or(Ok(false), |backend| backend.query_lock_range(start, end))
    }
}
