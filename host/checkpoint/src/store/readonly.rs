//! Reads a store that another process may be writing, or in a folder that cannot be written.
//!
//! The file is opened for reading only and without locks; writes of redb stay in memory. redb never writes to a page
//! that its last commit uses. The first bytes of the file name that commit, and are rewritten at each commit. So a page
//! certainly belongs to the view's commit if those bytes, after the page was read, are the same as when the view was
//! created. If they differ, all reads through this view fail from then on, and the query is repeated on a new view. An
//! error on a view whose commit was still the last one is damage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{ReadTransaction, ReadableDatabase, StorageBackend};

use super::error::{StoreError, StoreFault};
use super::guard::guarded;
use super::handle::{Handle, Storage};
use super::pages::{self, Overlay};
use super::verify::{PageCheck, Views};
use super::{FORMAT, file, tables};

/// Bytes at the start of the file that identify the commit.
const HEAD_BYTES: usize = 512;
/// Number of times that a query is repeated because another process writes.
const TRIES: usize = 1000;
/// The same for a query on the whole file, which takes long.
const TRIES_LONG: usize = 3;

/// A store that is opened for reading only.
pub struct ReadOnlyStore {
    path: PathBuf,
    view: Mutex<Option<Arc<View>>>,
}

/// The file as one commit left it.
struct View {
    /// Dropped before the storage.
    database: Handle,
    storage: Storage,
    file: Arc<Quiet>,
}

impl ReadOnlyStore {
    /// Opens the store at `path` without changing anything.
    ///
    /// # Errors
    ///
    /// When it does not exist, or has another format or is too damaged to read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let store = Self {
            path: path.into(),
            view: Mutex::new(None),
        };
        store.view(|transaction| match tables::meta(transaction)?.format {
            FORMAT => Ok(()),
            found => Err(StoreFault::OtherFormat(found)),
        })?;
        Ok(store)
    }

    /// The last view if it is still current, or a new one.
    fn current(&self) -> Result<Arc<View>, StoreFault> {
        let mut last = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = &*last
            && view.file.is_undisturbed()
        {
            return Ok(Arc::clone(view));
        }
        *last = None;
        let view = Arc::new(View::open(&self.path)?);
        *last = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Runs `call` on a view until no commit disturbed it; `None` if all attempts were disturbed.
    fn undisturbed<T>(
        &self,
        tries: usize,
        call: impl Fn(&View) -> Result<T, StoreFault>,
    ) -> Result<Option<T>, StoreFault> {
        // After the file was replaced by another, no disturbance is seen: failures are retried on a new view, too.
        let mut is_new = false;
        for _ in 0..tries {
            let view = match self.current() {
                Err(StoreFault::Disturbed) => {
                    std::thread::yield_now();
                    continue;
                }
                other => other?,
            };
            let called = guarded(|| call(&view));
            if view.file.was_disturbed() {
                std::thread::yield_now();
                continue;
            }
            match called {
                Ok(found) => return Ok(Some(found)),
                Err(fault) if is_new => return Err(fault),
                Err(_) => {
                    is_new = true;
                    *self.view.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
            }
        }
        Ok(None)
    }
}

impl View {
    fn open(path: &Path) -> Result<Self, StoreFault> {
        let file = Arc::new(Quiet::open(path)?);
        let overlay = Overlay::new(Storage::new(ReadOnlyBackend(Arc::clone(&file))))?;
        let storage = Storage::new(overlay);
        let database = Handle::open(&storage, file::CACHE_BYTES);
        if file.was_disturbed() {
            return Err(StoreFault::Disturbed);
        }
        Ok(Self {
            database: database?,
            storage,
            file,
        })
    }
}

impl Views for ReadOnlyStore {
    fn view<T>(
        &self,
        call: impl Fn(&ReadTransaction) -> Result<T, StoreFault>,
    ) -> Result<T, StoreError> {
        let path = &self.path;
        let found = self.undisturbed(TRIES, |view| call(&view.database.begin_read()?));
        let found = found.map_err(|fault| fault.of(path))?;
        found.ok_or_else(|| StoreError::Busy { path: path.clone() })
    }

    fn pages(&self) -> Result<PageCheck, StoreError> {
        let path = &self.path;
        let found = self.undisturbed(TRIES_LONG, |view| Ok(pages::check(&view.storage, path)?));
        match found.map_err(|fault| fault.of(path))? {
            Some(found) => Ok(PageCheck::Checked(found)),
            None => Ok(PageCheck::Busy),
        }
    }
}

impl std::fmt::Debug for ReadOnlyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadOnlyStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// A file that is readable until a commit disturbs it.
#[derive(Debug)]
struct Quiet {
    file: File,
    len: u64,
    head: Vec<u8>,
    disturbed: AtomicBool,
}

impl Quiet {
    fn open(path: &Path) -> Result<Self, StoreFault> {
        // Opening a pipe would wait for its other end, so the type is checked first.
        if !std::fs::metadata(path)?.is_file() {
            return Err(file::not_regular());
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            return Err(StoreFault::NotAStore("it is empty".to_owned()));
        }
        let mut head = vec![0; HEAD_BYTES.min(usize::try_from(len).unwrap_or(HEAD_BYTES))];
        file.read_exact_at(&mut head, 0)?;
        Ok(Self {
            file,
            len,
            head,
            disturbed: AtomicBool::new(false),
        })
    }

    fn was_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Acquire)
    }

    /// Checks the first bytes, and remembers the result.
    fn is_undisturbed(&self) -> bool {
        let mut head = vec![0; self.head.len()];
        let same = self.file.read_exact_at(&mut head, 0).is_ok() && head == self.head;
        if !same {
            self.disturbed.store(true, Ordering::Release);
        }
        !self.was_disturbed()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        // Reading a file that has become shorter also fails, after newer commits or damage.
        let read = self.file.read_exact_at(out, offset);
        if !self.is_undisturbed() {
            return Err(io::Error::other("another process writes to the file"));
        }
        read
    }
}

/// The backend that redb gets. It is never written to: the layer above it keeps writes in memory.
#[derive(Debug)]
struct ReadOnlyBackend(Arc<Quiet>);

impl StorageBackend for ReadOnlyBackend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }

    fn set_len(&self, _: u64) -> Result<(), io::Error> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, _: u64, _: &[u8]) -> Result<(), io::Error> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
