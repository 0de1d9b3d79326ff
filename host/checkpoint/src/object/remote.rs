//! Accesses objects by name under one prefix, several at a time, from synchronous code.
//!
//! The runtime drives requests on the calling thread, and only during a call. It has threads of its own for blocking
//! work (files, and resolving host names): at most as many as requests in flight, gone when idle. All other work on
//! checkpoints stays on the calling thread. The client retries with back-off (`address`).

use std::io;
use std::ops::Range;
use std::path::PathBuf;

use object_store::Error;
use object_store::path::Path;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinSet};

use super::objects::{Created, Got, Names, ObjectFuture, Objects};
use crate::store::StoreError;

/// Largest number of requests in flight.
const IN_FLIGHT: usize = 16;

/// An object store and the runtime for its requests.
#[derive(Debug)]
pub(super) struct Remote {
    url: PathBuf,
    objects: Box<dyn Objects>,
    prefix: Path,
    runtime: Runtime,
}

impl Remote {
    pub(super) fn new(
        url: &str,
        objects: impl Objects + 'static,
        prefix: Path,
    ) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(IN_FLIGHT)
            .thread_name("floodmark-objects")
            .build();
        let url = PathBuf::from(url);
        match runtime {
            Ok(runtime) => Ok(Self {
                url,
                objects: Box::new(objects),
                prefix,
                runtime,
            }),
            Err(source) => Err(StoreError::Io { path: url, source }),
        }
    }

    pub(super) fn url(&self) -> PathBuf {
        self.url.clone()
    }

    fn folder(&self, folder: &str) -> Path {
        let prefix = self.prefix.clone();
        if folder.is_empty() {
            prefix
        } else {
            prefix.join(folder)
        }
    }

    fn path(&self, folder: &str, name: &str) -> Path {
        self.folder(folder).join(name)
    }

    /// Waits for an answer. An error of the store is never reported as damage: it may be temporary.
    fn wait<T>(&self, answer: ObjectFuture<T>) -> Result<T, StoreError> {
        let answer = self.runtime.block_on(answer);
        answer.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> StoreError {
        let kind = match error {
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                io::ErrorKind::PermissionDenied
            }
            Error::NotFound { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        StoreError::Io {
            path: self.url(),
            source: io::Error::new(kind, error.to_string()),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Result<Names, StoreError> {
        self.wait(self.objects.list(self.folder(folder)))
    }

    pub(super) fn create(
        &self,
        folder: &str,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<Created, StoreError> {
        self.wait(self.objects.create(self.path(folder, name), bytes))
    }

    pub(super) fn put(&self, folder: &str, name: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.wait(self.objects.put(self.path(folder, name), bytes))
    }

    pub(super) fn get(
        &self,
        folder: &str,
        name: &str,
        range: Option<Range<u64>>,
        bytes_max: u64,
    ) -> Result<Got, StoreError> {
        self.wait(self.objects.get(self.path(folder, name), range, bytes_max))
    }

    /// Reads many objects, several at a time, and passes them on in the order of arrival.
    pub(super) fn get_all<T: Copy + Send + 'static>(
        &self,
        folder: &str,
        names: impl Iterator<Item = (T, String, u64)>,
        mut take: impl FnMut(T, Got),
    ) -> Result<(), StoreError> {
        let mut flight = Flight::new(self);
        for (key, name, bytes_max) in names {
            let got = self.objects.get(self.path(folder, &name), None, bytes_max);
            let landed = flight.launch(async move { Ok((key, got.await?)) })?;
            if let Some((key, got)) = landed {
                take(key, got);
            }
        }
        while let Some((key, got)) = flight.land()? {
            take(key, got);
        }
        Ok(())
    }

    /// Deletes objects, several at a time.
    pub(super) fn delete_all(
        &self,
        folder: &str,
        names: impl Iterator<Item = String>,
    ) -> Result<(), StoreError> {
        let mut flight = Flight::new(self);
        for name in names {
            flight.launch(self.objects.delete(self.path(folder, &name)))?;
        }
        while flight.land()?.is_some() {}
        Ok(())
    }

    /// Writes objects, several at a time, as the caller adds them.
    pub(super) fn uploads(&self) -> Uploads<'_> {
        Uploads(Flight::new(self))
    }
}

/// Uploads in flight. If this is dropped before `finish`, some may still arrive.
pub(super) struct Uploads<'a>(Flight<'a, ()>);

impl Uploads<'_> {
    pub(super) fn put(
        &mut self,
        folder: &str,
        name: &str,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        let remote = self.0.remote;
        let put = remote.objects.put(remote.path(folder, name), bytes);
        self.0.launch(put).map(|_| ())
    }

    /// Waits for all uploads.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        while self.0.land()?.is_some() {}
        Ok(())
    }
}

/// Requests in flight. The code that creates requests runs outside of the runtime, so it may use another storage.
struct Flight<'a, T> {
    remote: &'a Remote,
    requests: JoinSet<Result<T, Error>>,
}

impl<'a, T: Send + 'static> Flight<'a, T> {
    fn new(remote: &'a Remote) -> Self {
        Self {
            remote,
            requests: JoinSet::new(),
        }
    }

    /// Adds a request; waits for an earlier one if there are too many.
    fn launch(
        &mut self,
        request: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let landed = if self.requests.len() < IN_FLIGHT {
            None
        } else {
            self.land()?
        };
        self.requests
            .spawn_on(request, self.remote.runtime.handle());
        Ok(landed)
    }

    /// Waits for one request; `None` if there is none left.
    fn land(&mut self) -> Result<Option<T>, StoreError> {
        let landed: Option<Result<_, JoinError>> =
            self.remote.runtime.block_on(self.requests.join_next());
        let landed =
            landed.map(|joined| joined.unwrap_or_else(|source| Err(Error::JoinError { source })));
        landed
            .transpose()
            .map_err(|error| self.remote.failed(&error))
    }
}
