//! Finds, makes and opens the file of a store.
//!
//! A new store is made under another name and gets its own once its first commit is durable: what has the store's name
//! is always a whole store, or damaged. redb's lock on the open file keeps a second process out, also of one that is
//! still being made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, StorageBackend};

use super::error::{StoreError, StoreFault};
use super::guard::guarded;
use super::handle::{Handle, Storage};
use super::tables;

/// What redb may keep in memory between writes: half of it buffers small ones, the rest are pages that were used lately.
pub(super) const CACHE_BYTES: usize = 16 << 20;

/// How many damaged stores with one highest id are kept.
const ASIDE_MAX: u32 = 1000;

/// An open store.
pub(super) type OpenedStore = (Storage, Handle);

/// Opens the store at `path`, and makes it when there is none.
pub(super) fn open_or_create(path: &Path) -> Result<OpenedStore, StoreFault> {
    let opened = match open(path) {
        Err(StoreFault::Asked(StoreError::Absent { .. })) => create(path),
        other => other,
    }?;
    // Left by a process that died before it could replace a damaged store. This process has the lock, so no other uses it.
    remove_if_there(&restored_name(path))?;
    Ok(opened)
}

/// Opens the store at `path`.
pub(super) fn open(path: &Path) -> Result<OpenedStore, StoreFault> {
    if !path.try_exists()? {
        let path = path.to_owned();
        return Err(StoreError::Absent { path }.into());
    }
    checked(handle(path, false)?)
}

/// Opens or makes a store on bytes that are not a file with a name.
pub(super) fn open_on(backend: impl StorageBackend) -> Result<OpenedStore, StoreFault> {
    let storage = Storage::new(backend);
    let database = Handle::open(&storage, CACHE_BYTES)?;
    // A store whose making was cut off has no commit of ours, and so nothing to lose.
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
        // Left by a process that died while it made a store.
        Err(_) if making.try_exists()? => {
            fs::remove_file(&making)?;
            handle(&making, true)?
        }
        other => other?,
    };
    // The lock on the new file is ours now. Another process may have finished a store in the meantime.
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

/// Makes a store at `path`, in place of what may be there.
pub(super) fn make_anew(path: &Path) -> Result<OpenedStore, StoreFault> {
    remove_if_there(path)?;
    let opened = handle(path, true)?;
    guarded(|| initialize(&opened.1))?;
    Ok(opened)
}

/// Gives the damaged store at `path` a second name, and returns it. A name that is taken is left alone.
pub(super) fn keep_aside(path: &Path, highest: u64) -> Result<PathBuf, io::Error> {
    for number in 1..=ASIDE_MAX {
        let aside = aside_name(path, highest, number);
        match fs::hard_link(path, &aside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // Named by a process that died before it could go on.
                if !same_file(path, &aside)? {
                    continue;
                }
            }
            // Not all file systems have second names.
            Err(_) => copy(path, &aside)?,
        }
        sync_folder(path)?;
        return Ok(aside);
    }
    Err(io::Error::other(format!(
        "{ASIDE_MAX} damaged stores are kept beside it already"
    )))
}

/// Makes a durable copy that is never seen in part.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), io::Error> {
    let part = with_suffix(to, ".part");
    fs::copy(from, &part)?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, to)
}

fn same_file(a: &Path, b: &Path) -> Result<bool, io::Error> {
    let (a, b) = (fs::metadata(a)?, fs::metadata(b)?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Deletes the store at `path`, which need not exist. Damaged ones that were kept aside stay.
///
/// # Errors
///
/// A store in use is left alone. After an I/O error the store is either there whole or not at all.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    // Opened, so that it is ours: deleting a running job's store would split its checkpoints over two files.
    let held = match handle(path, false) {
        Err(StoreFault::Redb(redb::Error::DatabaseAlreadyOpen)) => {
            let path = path.to_owned();
            return Err(StoreError::InUse { path });
        }
        other => other,
    };
    let removed = remove_if_there(path)
        .and_then(|()| remove_if_there(&making_name(path)))
        .and_then(|()| remove_if_there(&restored_name(path)))
        .and_then(|()| remove_if_there(&writing_name(path)));
    drop(held);
    removed.map_err(|error| StoreFault::from(error).of(path))
}

/// Deletes what may be at `path`.
pub(super) fn remove_if_there(path: &Path) -> Result<(), io::Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

/// A new store's name until its first commit.
fn making_name(path: &Path) -> PathBuf {
    with_suffix(path, ".new")
}

/// The name of a store that is to replace a damaged one. It has checkpoints in it, so a new store must not find it.
pub(super) fn restored_name(path: &Path) -> PathBuf {
    with_suffix(path, ".restored")
}

/// The mark of a commit that is under way.
pub(super) fn writing_name(path: &Path) -> PathBuf {
    with_suffix(path, ".writing")
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// `checkpoints.damaged-7.redb`, and `checkpoints.damaged-7-2.redb` when that is taken.
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

/// Opens the file at `path`; an empty one becomes a database only when it is to be created.
fn handle(path: &Path, create: bool) -> Result<OpenedStore, StoreFault> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(create).open(path)?;
    if !create && file.metadata()?.len() == 0 {
        return Err(StoreFault::NotAStore("it is empty".to_owned()));
    }
    let storage = Storage::new(FileBackend::new(file)?);
    let database = Handle::open(&storage, CACHE_BYTES)?;
    Ok((storage, database))
}

impl From<io::Error> for StoreFault {
    fn from(error: io::Error) -> Self {
        Self::Redb(redb::Error::Io(error))
    }
}
