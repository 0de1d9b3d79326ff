//! Finds, creates and opens the file of a store.
//!
//! A new store is written under another name and renamed once its first commit is durable: a file with the store's name
//! is always a whole store, or damaged. redb's lock on the open file keeps other processes out, also from a store that
//! is still being created. Only its user may read a new store: it has state and plugins.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend};

use super::error::{StoreError, StoreFault};
use super::guard::guarded;
use super::handle::{Handle, Storage};
use super::tables;

/// redb's memory between writes: half of it buffers small writes, the rest caches recently used pages.
pub(super) const CACHE_BYTES: usize = 16 << 20;

/// Largest number of damaged stores that are kept for one highest id.
const ASIDE_MAX: u32 = 1000;

/// The bytes of an open store, and redb's handle on them.
pub(super) type OpenedStore = (Storage, Handle);

/// Opens the store at `path`, and creates it if it does not exist.
pub(super) fn open_or_create(path: &Path) -> Result<OpenedStore, StoreFault> {
    let opened = match open(path) {
        Err(StoreFault::Asked(StoreError::Absent { .. })) => create(path),
        other => other,
    }?;
    // Left by a process that died before it replaced a damaged store. This process has the lock, so no other uses it.
    remove_if_there(&restored_name(path))?;
    Ok(opened)
}

/// Opens the store at `path`, which must exist.
pub(super) fn open(path: &Path) -> Result<OpenedStore, StoreFault> {
    if !path.try_exists()? {
        let path = path.to_owned();
        return Err(StoreError::Absent { path }.into());
    }
    checked(handle(path, false)?)
}

/// Opens or creates a store on bytes that are not a named file.
pub(super) fn open_on(backend: impl StorageBackend) -> Result<OpenedStore, StoreFault> {
    let storage = Storage::new(backend);
    let database = Handle::open(&storage, CACHE_BYTES)?;
    // Creation was interrupted: no commit of this module exists, so nothing can be lost.
    if guarded(|| never_committed(&database))? {
        guarded(|| initialize(&database))?;
    }
    checked((storage, database))
}

fn create(path: &Path) -> Result<OpenedStore, StoreFault> {
    let making = making_name(path);
    let opened = match handle(&making, true) {
        Err(StoreFault::Redb(redb::Error::DatabaseAlreadyOpen)) => {
            let path = path.to_owned();
            return Err(StoreError::InUse { path }.into());
        }
        // It may be sound, and of a process that lives.
        Err(StoreFault::Redb(redb::Error::Io(error))) if is_out_of_files(&error) => {
            return Err(error.into());
        }
        // Left by a process that died while creating a store.
        Err(_) if making.try_exists()? => {
            fs::remove_file(&making)?;
            handle(&making, true)?
        }
        other => other?,
    };
    // This process now has the lock on the new file. Another process may have finished a store in the meantime.
    if path.try_exists()? {
        fs::remove_file(&making)?;
        drop(opened);
        return open(path);
    }
    guarded(|| initialize(&opened.1))?;
    fs::rename(&making, path)?;
    sync_folder(path)?;
    Ok(opened)
}

/// Creates a store at `path`, replacing an existing file.
pub(super) fn make_anew(path: &Path) -> Result<OpenedStore, StoreFault> {
    remove_if_there(path)?;
    let opened = handle(path, true)?;
    guarded(|| initialize(&opened.1))?;
    Ok(opened)
}

/// Gives the damaged store at `path` a second name, and returns it. Existing names are not replaced.
pub(super) fn keep_aside(path: &Path, highest: u64) -> Result<PathBuf, io::Error> {
    for number in 1..=ASIDE_MAX {
        let aside = aside_name(path, highest, number);
        match fs::hard_link(path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Named by a process that died before its next step.
                if !same_file(path, &aside)? {
                    continue;
                }
            }
            // Not all file systems have hard links.
            Err(_) => copy(path, &aside)?,
        }
        sync_folder(path)?;
        return Ok(aside);
    }
    Err(io::Error::other(format!(
        "{ASIDE_MAX} damaged stores are already kept beside it"
    )))
}

/// Creates a durable copy, which appears as a whole.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), io::Error> {
    let part = with_suffix(to, ".part");
    let mut copied = private()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&part)?;
    io::copy(&mut File::open(from)?, &mut copied)?;
    copied.sync_all()?;
    fs::rename(&part, to)
}

fn same_file(a: &Path, b: &Path) -> Result<bool, io::Error> {
    let (a, b) = (fs::metadata(a)?, fs::metadata(b)?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Deletes the store at `path`, if it exists. Damaged ones that were kept aside stay.
///
/// # Errors
///
/// A store in use is left alone. After an I/O error the store exists as a whole or not at all.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    // Opened first, which takes the lock: deleting a running job's store would split its checkpoints over two files.
    let held = match handle(path, false) {
        Err(StoreFault::Redb(redb::Error::DatabaseAlreadyOpen)) => {
            let path = path.to_owned();
            return Err(StoreError::InUse { path });
        }
        other => other,
    };
    let removed = remove_own(path);
    drop(held);
    removed
}

/// As [`remove`], for a store that this process alone may have open: such handles then have a file without a name.
///
/// # Errors
/// When the files cannot be removed.
pub fn remove_own(path: &Path) -> Result<(), StoreError> {
    let removed = remove_if_there(path)
        .and_then(|()| remove_if_there(&making_name(path)))
        .and_then(|()| remove_if_there(&restored_name(path)))
        .and_then(|()| remove_if_there(&writing_name(path)));
    removed.map_err(|error| StoreFault::from(error).of(path))
}

/// Deletes the file at `path`, if it exists.
pub(super) fn remove_if_there(path: &Path) -> Result<(), io::Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

/// The name of a new store until its first commit.
fn making_name(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// The name of a store that will replace a damaged one. It contains checkpoints, so a new store must not use it.
pub(super) fn restored_name(path: &Path) -> PathBuf {
    with_suffix(path, ".restored")
}

/// The name of the marker of a running commit.
pub(super) fn writing_name(path: &Path) -> PathBuf {
    with_suffix(path, ".writing")
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// `checkpoints.damaged-7.redb`, or `checkpoints.damaged-7-2.redb` if that exists.
fn aside_name(path: &Path, highest: u64, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".damaged-{highest}"));
    if number > 1 {
        name.push(format!("-{number}"));
    }
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

pub(super) fn sync_folder(path: &Path) -> Result<(), io::Error> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn never_committed(database: &Database) -> Result<bool, StoreFault> {
    Ok(database.begin_read()?.list_tables()?.next().is_none())
}

fn initialize(database: &Database) -> Result<(), StoreFault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(tables::CHECKPOINTS)?;
    transaction.open_table(tables::CHUNKS)?;
    transaction.open_table(tables::CHUNK_BYTES)?;
    transaction.open_table(tables::CHUNK_CODEC)?;
    transaction.open_table(tables::CHUNK_INDEX)?;
    transaction.open_table(tables::PLUGINS)?;
    transaction.open_table(tables::PLUGIN_BYTES)?;
    tables::set_meta(&transaction, tables::META_FORMAT, super::FORMAT)?;
    tables::set_meta(&transaction, tables::META_CHECKPOINT, 0)?;
    tables::set_meta(&transaction, tables::META_CHUNK, 0)?;
    Ok(transaction.commit()?)
}

fn checked(opened: OpenedStore) -> Result<OpenedStore, StoreFault> {
    let format = guarded(|| Ok(tables::meta(&opened.1.begin_read()?)?.format))?;
    match format {
        super::FORMAT => Ok(opened),
        found => Err(StoreFault::OtherFormat(found)),
    }
}

/// Options for a file that only its user may read and write, if it is created: with any umask, in any folder.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Opens the file at `path`; an empty file becomes a database only with `create`.
fn handle(path: &Path, create: bool) -> Result<OpenedStore, StoreFault> {
    let file = private().read(true).write(true).create(create).open(path)?;
    let known = file.metadata()?;
    if !known.is_file() {
        return Err(not_regular());
    }
    if !create && known.len() == 0 {
        return Err(StoreFault::NotAStore("it is empty".to_owned()));
    }
    let storage = Storage::new(FileBackend::new(file)?);
    let database = Handle::open(&storage, CACHE_BYTES)?;
    Ok((storage, database))
}

/// Whether the process or the system has too many open files, which says nothing about the file.
fn is_out_of_files(error: &io::Error) -> bool {
    /// `ENFILE` and `EMFILE` of Linux.
    const CODES: [i32; 2] = [23, 24];
    error
        .raw_os_error()
        .is_some_and(|code| CODES.contains(&code))
}

/// For a device, a pipe or a folder.
pub(super) fn not_regular() -> StoreFault {
    StoreFault::NotAStore("it is not a regular file".to_owned())
}

impl From<io::Error> for StoreFault {
    fn from(error: io::Error) -> Self {
        Self::Redb(redb::Error::Io(error))
    }
}
