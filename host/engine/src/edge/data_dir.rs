//! The folder that a job keeps between runs, held by one process at a time.
//!
//! ```text
//! .floodmark/word-count/
//!   lock               held for the life of the process; contains its id
//!   id                 identifies the data folder; sinks mark their output with it
//!   storage            the storage of the job's checkpoints: `redb`, `memory` or a URL
//!   control.sock       the socket of the running job; see `control`
//!   checkpoints.redb   the file of the checkpoint store
//!   checkpoints.damaged-7.redb   set aside by the checkpoint store when it was found damaged; may be deleted
//!   replay/            dead letters that are replayed; see `replay_folder`
//!   compiled/          precompiled plugins, if the user has no cache folder; may be deleted
//! ```
//!
//! Folders and files that this module creates are this user's alone, and a folder that another user could have prepared is
//! refused: see `private`.
//!
//! The lock is the system's, so it ends with the process however that ends; a `lock` file that is left behind does not
//! block the next process. It is deleted only with a folder that was made for a job which never ran, such as one that was
//! refused. A second process could have opened it before, so each looks whether what it has locked is still there.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use super::clock::Clock;
use super::whole_file::WholeFile;
use super::{private, regular_file};

/// The file with the storage of the checkpoints.
const STORAGE: &str = "storage";
/// The file of the checkpoint store.
const CHECKPOINTS: &str = "checkpoints.redb";
/// Bytes of an id: 16 digits and a newline.
const ID_BYTES: usize = 17;
/// Longest text of the small files, in bytes.
const TEXT_BYTES_MAX: u64 = 64 << 10;

/// Number of attempts to take a lock that another process holds, and the time between two.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_DELAY: Duration = Duration::from_millis(25);

/// The reason why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// Another process uses the folder.
    #[error(
        "the data folder `{}` is in use by {}; stop it first, or use another `--data-dir`",
        path.display(),
        holder.map_or("another process".to_owned(), |id| format!("process {id}"))
    )]
    InUse {
        /// The path that was given as a data folder.
        path: PathBuf,
        /// The process id of the holder, if it is already written.
        holder: Option<u32>,
    },
    /// There is no data folder at the path.
    #[error("there is no data folder `{}`; pass that of a job that has run with `--data-dir`", path.display())]
    Missing {
        /// The path that was given as a data folder.
        path: PathBuf,
    },
    /// No job has run in the folder. Nothing was changed.
    #[error("`{}` is not the data folder of a job: it has none of its files; pass that of a job that has run with `--data-dir`", path.display())]
    NotOne {
        /// The path that was given as a data folder.
        path: PathBuf,
    },
    /// It belongs to another user. Nothing was changed.
    #[error(
        "the data folder `{}` belongs to another user (user id {owner}), who can change the job's state; use a folder of your own with `--data-dir`",
        path.display()
    )]
    OfAnother {
        /// The path that was given as a data folder.
        path: PathBuf,
        /// The id of that user.
        owner: u32,
    },
    /// Other users may write to it. Nothing was changed.
    #[error(
        "other users may write to the data folder `{}` (mode {mode:04o}), so they can change the job's state; forbid that with `chmod go-w`, or name a folder in it with `--data-dir`, which is created for you alone",
        path.display()
    )]
    Writable {
        /// The path that was given as a data folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file in it is a symbolic link. Nothing was changed.
    #[error(
        "`{}` is a symbolic link, and a data folder has its own files: another user may have made it to have some other file overwritten; remove it, or use another `--data-dir`",
        path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// An I/O error. Files that were created before it remain, and are harmless.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The attempted action, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A data folder that this process holds until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock on the folder, held until this is dropped.
    _lock: File,
    /// The folders that were made for it, the outermost first.
    made: Vec<PathBuf>,
}

impl DataDir {
    /// The default data folder of a job: beside its pipeline file.
    #[must_use]
    pub fn default_path(pipeline_folder: &Path, job: &str) -> PathBuf {
        pipeline_folder.join(".floodmark").join(job)
    }

    /// Locks the folder, and creates it first if it is missing. It is removed again if no job has run in it when this is
    /// dropped.
    ///
    /// # Errors
    /// When another process holds it, another user could have prepared it, or the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataDirError> {
        let path = path.as_ref();
        let made = create_durably(path).map_err(|(at, source)| DataDirError::Io {
            action: "create the data folder",
            path: at,
            source,
        })?;
        let mut held = Self::hold(path)?;
        held.made = made;
        Ok(held)
    }

    /// Locks the folder, which must be that of a job: nothing is created in any other.
    ///
    /// # Errors
    /// When it does not exist, no job has run in it, another process holds it, another user could have prepared it, or the
    /// system refuses.
    pub fn open_existing(path: &Path) -> Result<Self, DataDirError> {
        if !path.is_dir() {
            return Err(DataDirError::Missing {
                path: path.to_path_buf(),
            });
        }
        private::check(path)?;
        if !is_of_a_job(path) {
            return Err(DataDirError::NotOne {
                path: path.to_path_buf(),
            });
        }
        Self::hold(path)
    }

    fn hold(path: &Path) -> Result<Self, DataDirError> {
        private::check(path)?;
        let lock_path = path.join("lock");
        let io_error = |action| {
            let path = lock_path.clone();
            move |source| DataDirError::Io {
                action,
                path,
                source,
            }
        };
        let mut lock = private::file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(io_error("open"))?;
        match patient_lock(&lock) {
            Ok(()) if is_at(&lock, &lock_path) => {}
            Ok(()) | Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse {
                    path: path.to_path_buf(),
                    holder: holder(&mut lock),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock")(source)),
        }
        write_holder(&mut lock).map_err(io_error("write"))?;
        Ok(Self {
            path: path.to_path_buf(),
            _lock: lock,
            made: Vec::new(),
        })
    }

    /// The id of this folder, unique among all folders. It is created with the folder and kept in it, so it survives a
    /// move.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn id(&self) -> Result<String, DataDirError> {
        let path = self.path.join("id");
        let io_error = |action| {
            let path = path.clone();
            move |source| DataDirError::Io {
                action,
                path,
                source,
            }
        };
        match regular_file::read_own_text(&path, TEXT_BYTES_MAX) {
            Ok(text) if text.len() == ID_BYTES && text.ends_with('\n') => {
                return Ok(text.trim_end().to_owned());
            }
            // Cut by a crash: no sink has seen it.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {}
            // With another id, sinks would not know their output again.
            Err(source) => return Err(io_error("read")(source)),
        }
        let seed = (
            self.path.display().to_string(),
            std::process::id(),
            Clock::start().wall(),
        );
        let id = format!("{:016x}\n", xxh3_64(format!("{seed:?}").as_bytes()));
        let mut file = private::file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(io_error("create"))?;
        file.write_all(id.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io_error("write"))?;
        Ok(id.trim_end().to_owned())
    }

    /// Notes the storage of the job's checkpoints, for commands that are given only this folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_storage(&self, storage: &str) -> Result<(), DataDirError> {
        let path = self.path.join(STORAGE);
        let noted = regular_file::read_own_text(&path, TEXT_BYTES_MAX);
        if noted.is_ok_and(|noted| noted.trim_end() == storage) {
            return Ok(());
        }
        // Tools read it while the job runs.
        let file = WholeFile::private(&path);
        let written = file.and_then(|file| file.write(format!("{storage}\n").as_bytes()));
        written.map_err(|source| DataDirError::Io {
            action: "write",
            path,
            source,
        })
    }

    /// The noted storage of a folder that is not locked; `None` if none was noted.
    ///
    /// # Errors
    /// When the folder does not exist, or the note cannot be read.
    pub fn storage_of(path: &Path) -> Result<Option<String>, DataDirError> {
        if !path.is_dir() {
            return Err(DataDirError::Missing {
                path: path.to_path_buf(),
            });
        }
        let note = path.join(STORAGE);
        match regular_file::read_own_text(&note, TEXT_BYTES_MAX) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataDirError::Io {
                action: "read",
                path: note,
                source,
            }),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the checkpoint store's file.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        Self::checkpoints_in(&self.path)
    }

    /// The path of the checkpoint store's file in a folder that is not locked.
    #[must_use]
    pub fn checkpoints_in(path: &Path) -> PathBuf {
        path.join(CHECKPOINTS)
    }

    /// The folder of precompiled plugins.
    #[must_use]
    pub fn compiled(&self) -> PathBuf {
        Self::compiled_in(&self.path)
    }

    /// The folder of precompiled plugins in a data folder that need not be locked: entries are added and removed
    /// atomically.
    #[must_use]
    pub fn compiled_in(path: &Path) -> PathBuf {
        path.join("compiled")
    }
}

impl Drop for DataDir {
    /// Removes a folder that was made for a job that never ran: what ran has noted its storage, and sinks know its id.
    fn drop(&mut self) {
        let is_made = self.made.last() == Some(&self.path);
        if !is_made || self.path.join(STORAGE).exists() {
            return;
        }
        // The lock comes last. What a user has put there meanwhile stays, and the folder with it.
        let files = ["control.sock"].into_iter();
        for name in files.chain(private::OPENED.into_iter().rev()) {
            let path = self.path.join(name);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
        for folder in self.made.iter().rev() {
            if fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }
}

/// Whether a file is still the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |known: &fs::Metadata| (known.dev(), known.ino());
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(there)) => place(&held) == place(&there),
        _ => false,
    }
}

/// Whether a folder has a file that only jobs make there.
#[must_use]
pub fn is_of_a_job(path: &Path) -> bool {
    let files = ["lock", STORAGE, CHECKPOINTS];
    let mut files = files.iter().map(|name| path.join(name));
    files.any(|file| file.symlink_metadata().is_ok())
}

/// The process that holds the folder, as far as it has noted that.
#[must_use]
pub fn holder_of(path: &Path) -> Option<u32> {
    let lock = regular_file::read_own_text(&path.join("lock"), TEXT_BYTES_MAX).ok()?;
    match is_held(path) {
        true => lock.trim().parse().ok(),
        false => None,
    }
}

/// Whether a process holds the folder.
#[must_use]
pub fn is_held(path: &Path) -> bool {
    let lock = regular_file::open_own(&path.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Waits up to ten seconds for the process that holds a folder to end, or until another process than `before` holds it.
/// A folder that is not held is not touched.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing runs here that could wait instead"
)]
pub fn wait_until_free(path: &Path, before: Option<u32>) {
    for _ in 0..10 * LOCK_ATTEMPTS {
        let Ok(lock) = regular_file::open_own(&path.join("lock")) else {
            return;
        };
        // A new process writes its id a moment after it has the lock.
        let is_other = holder_of(path).is_some_and(|now| before.is_some_and(|old| old != now));
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if !is_other => std::thread::sleep(2 * LOCK_DELAY),
            _ => return,
        }
    }
}

/// Locks the file. Retries for a moment, since a killed process may not have ended yet.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing runs yet that could wait instead"
)]
fn patient_lock(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_ATTEMPTS {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_DELAY),
            locked => return locked,
        }
    }
    lock.try_lock()
}

fn write_holder(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn holder(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Creates a folder and its parents, for this user alone. Each is durable before this returns: an acknowledged checkpoint must
/// not be lost with the folder that it is in. Returns those that were created, the outermost first.
pub(super) fn create_durably(path: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    if path.is_dir() {
        return Ok(Vec::new());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut made = create_durably(parent)?;
    match private::create_folder(path) {
        Ok(()) => made.push(path.to_path_buf()),
        // Another process created it first.
        Err(_) if path.is_dir() => {}
        Err(source) => return Err((path.to_path_buf(), source)),
    }
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| (parent.to_path_buf(), source))?;
    Ok(made)
}

#[cfg(test)]
mod tests {
    //! Catches two jobs on one data folder, a dead job that never releases it, and a folder that is left behind by a job that
    //! never ran, or removed with one that did.

    use super::*;

    #[test]
    fn a_folder_has_one_holder() {
        let outer = tempfile::tempdir().unwrap();
        let path = DataDir::default_path(outer.path(), "demo");
        let missing = DataDir::open_existing(&path).unwrap_err().to_string();
        assert!(missing.starts_with("there is no data folder"), "{missing}");

        let first = DataDir::open(&path).unwrap();
        let second = DataDir::open(&path).unwrap_err().to_string();
        let id = std::process::id();
        assert!(
            second.ends_with(&format!(
                "demo` is in use by process {id}; stop it first, or use another `--data-dir`"
            )),
            "{second}"
        );
        assert_eq!(first.checkpoints(), path.join("checkpoints.redb"));
        first.note_storage("redb").unwrap();
        drop(first);
        DataDir::open_existing(&path).unwrap();
    }

    #[test]
    fn a_folder_that_was_made_for_nothing_is_removed() {
        let outer = tempfile::tempdir().unwrap();
        let path = DataDir::default_path(outer.path(), "demo");
        let made = || {
            let held = DataDir::open(&path).unwrap();
            held.id().unwrap();
            fs::write(held.checkpoints(), "").unwrap();
            held
        };
        drop(made());
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0);
        // What another has opened before is not the lock of the next one.
        let held = made();
        let old = File::open(path.join("lock")).unwrap();
        assert!(is_at(&old, &path.join("lock")));
        drop(held);
        let held = made();
        assert!(!is_at(&old, &path.join("lock")));
        // The file of a user keeps the folder.
        fs::write(path.join("notes"), "").unwrap();
        drop(held);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        // A folder that was there before stays.
        fs::remove_file(path.join("notes")).unwrap();
        drop(DataDir::open(&path).unwrap());
        assert!(path.join("lock").exists());
    }

    #[test]
    fn a_folder_without_a_job_is_not_touched() {
        let outer = tempfile::tempdir().unwrap();
        let error = DataDir::open_existing(outer.path()).unwrap_err();
        assert!(matches!(error, DataDirError::NotOne { .. }), "{error}");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 0);
        drop(DataDir::open(outer.path()).unwrap());
        let held = DataDir::open_existing(outer.path()).unwrap();
        assert_eq!(holder_of(outer.path()), Some(std::process::id()));
        drop(held);
        assert_eq!(holder_of(outer.path()), None);
    }

    #[test]
    fn a_lock_file_that_was_left_behind_does_not_block() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("lock"), "4000000000\n").unwrap();
        let held = DataDir::open(outer.path()).unwrap();
        let text = fs::read_to_string(held.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("x"), "").unwrap();
        let error = DataDir::open(outer.path().join("x/y"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot create the data folder `"),
            "{error}"
        );
        assert!(error.contains("/x`: "), "{error}");
    }
}
