//! A place for objects with a fault at its k-th operation: it fails before the operation, fails after it, or first runs a
//! closure in which another writer can act.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use object_store::path::Path;
use object_store::{Error, ObjectStore};

use crate::object::objects::{Created, Got, Names, ObjectFuture, Objects};

/// What happens at the k-th operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not done.
    Refused,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// It is not done, nor is any after it.
    DownFromHere,
}

type Meanwhile = Box<dyn FnOnce() + Send>;

pub(super) struct Faulty {
    store: Arc<dyn ObjectStore>,
    fault: Option<Fault>,
    at: u64,
    seen: Arc<AtomicU64>,
    meanwhile: Mutex<Option<Meanwhile>>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").finish_non_exhaustive()
    }
}

impl Faulty {
    /// Counts operations in `seen`, from 0.
    pub(super) fn new(
        store: &Arc<dyn ObjectStore>,
        fault: Option<Fault>,
        at: u64,
        seen: &Arc<AtomicU64>,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            fault,
            at,
            seen: Arc::clone(seen),
            meanwhile: Mutex::new(None),
        }
    }

    /// Runs `meanwhile` right before the operation.
    pub(super) fn meanwhile(self, meanwhile: impl FnOnce() + Send + 'static) -> Self {
        *self.meanwhile.lock().unwrap() = Some(Box::new(meanwhile));
        self
    }

    fn next<T: Send + 'static>(&self, request: ObjectFuture<T>) -> ObjectFuture<T> {
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let failed = || Error::Generic {
            store: "faulty",
            source: "told to fail".into(),
        };
        if number == self.at
            && let Some(meanwhile) = self.meanwhile.lock().unwrap().take()
        {
            meanwhile();
        }
        match self.fault {
            Some(Fault::Refused) if number == self.at => Box::pin(async move { Err(failed()) }),
            Some(Fault::DownFromHere) if number >= self.at => {
                Box::pin(async move { Err(failed()) })
            }
            Some(Fault::AnswerLost) if number == self.at => Box::pin(async move {
                request.await?;
                Err(failed())
            }),
            _ => request,
        }
    }
}

impl Objects for Faulty {
    fn put(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<()> {
        self.next(Objects::put(&self.store, path, bytes))
    }

    fn create(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<Created> {
        self.next(self.store.create(path, bytes))
    }

    fn get(&self, path: Path, range: Option<Range<u64>>, bytes_max: u64) -> ObjectFuture<Got> {
        self.next(Objects::get(&self.store, path, range, bytes_max))
    }

    fn list(&self, folder: Path) -> ObjectFuture<Names> {
        self.next(Objects::list(&self.store, folder))
    }

    fn delete(&self, path: Path) -> ObjectFuture<()> {
        self.next(Objects::delete(&self.store, path))
    }
}
