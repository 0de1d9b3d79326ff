//! redb's handle on a file, which closes as if the power failed.
//!
//! When redb closes, it commits once more: needless here, since each of our commits can be opened as it is, and harmful
//! when the handle is in doubt or the file damaged. A panic in that commit can even abort the process, since redb may panic
//! again while it cleans up. So closing first cuts redb off from the file; it then gives up without writing.

use std::io;
use std::ops::{Bound, Deref};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};

use super::error::Fault;
use super::guard::guarded;

/// An open database.
pub(super) struct Handle {
    /// Absent only while it is dropped.
    database: Option<Database>,
    cut: Arc<AtomicBool>,
}

impl Handle {
    /// Opens the database in `backend`, and makes one there when it is empty.
    pub(super) fn open(builder: &Builder, backend: impl StorageBackend) -> Result<Self, Fault> {
        let cut = Arc::new(AtomicBool::new(false));
        let backend = Severable {
            backend,
            cut: cut.clone(),
        };
        // A panic may leave the backend to a half opened database that closes it in its own time.
        let database = guarded(|| Ok(builder.create_with_backend(backend)?));
        Ok(Self {
            database: Some(database?),
            cut,
        })
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
            // Its first step is a sync, from whose failure redb knows that it must not write any more.
            match database.check_integrity() {
                // A transaction that a panic left behind holds on to the database: not even dropping it is safe.
                Err(DatabaseError::TransactionInProgress) => std::mem::forget(database),
                _ => drop(database),
            }
            Ok(())
        });
    }
}

/// A backend that fails once it is cut.
#[derive(Debug)]
struct Severable<B> {
    backend: B,
    cut: Arc<AtomicBool>,
}

impl<B: StorageBackend> Severable<B> {
    fn there(&self) -> Result<&B, io::Error> {
        if self.cut.load(Ordering::Acquire) {
            return Err(io::Error::other("the checkpoint store is closed"));
        }
        Ok(&self.backend)
    }
}

type Edge = Bound<u64>;

impl<B: StorageBackend> StorageBackend for Severable<B> {
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
        self.backend.close()
    }

    fn try_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Edge, end: Edge) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Edge, end: Edge) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
