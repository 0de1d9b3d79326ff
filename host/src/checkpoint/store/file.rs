//! Finds, makes and opens the file of a store.
//!
//! A new store is made under another name and gets its own once its first commit is durable: what has the store's name
//! is always a whole store, or damaged. redb's lock on the open file keeps a second process out, also of one that is
//! still being made.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, ReadableDatabase, StorageBackend};

use super::error::{Fault, StoreError};
use super::guard::guarded;
use super::tables;

/// What redb may keep in memory: half of it buffers writes, the rest are pages that were used lately.
const CACHE_BYTES: usize = 16 << 20;

/// Opens, and for tests opens again, the same bytes.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, Fault> + Send>;

/// Opens the store at `path`, and makes it when there is none.
pub(super) fn open_or_create(path: &Path) -> Result<Database, Fault> {
    match open(path) {
        Err(Fault::Asked(StoreError::Absent { .. })) => create(path),
        other => other,
    }
}

/// Opens the store at `path`.
pub(super) fn open(path: &Path) -> Result<Database, Fault> {
    if !path.try_exists()? {
        let path = path.to_owned();
        return Err(StoreError::Absent { path }.into());
    }
    guarded(|| checked(builder().open(path)?))
}

/// Opens or makes a store on bytes that are not a file with a name.
pub(super) fn open_on(backend: impl StorageBackend) -> Result<Database, Fault> {
    guarded(|| {
        let empty = backend.len()? == 0;
        let database = builder().create_with_backend(backend)?;
        // A store whose making was cut off has no commit of ours, and so nothing to lose.
        if empty || never_committed(&database)? {
            initialize(&database)?;
        }
        checked(database)
    })
}

fn create(path: &Path) -> Result<Database, Fault> {
    let making = making_name(path);
    let database = match guarded(|| Ok(builder().create(&making)?)) {
        Err(Fault::Redb(redb::Error::DatabaseAlreadyOpen)) => {
            let path = path.to_owned();
            return Err(StoreError::InUse { path }.into());
        }
        // Left by a process that died while it made a store.
        Err(_) if making.try_exists()? => {
            fs::remove_file(&making)?;
            guarded(|| Ok(builder().create(&making)?))?
        }
        other => other?,
    };
    // The lock on the new file is ours now. Another process may have finished a store in the meantime.
    if path.try_exists()? {
        fs::remove_file(&making)?;
        drop(database);
        return open(path);
    }
    guarded(|| initialize(&database))?;
    fs::rename(&making, path)?;
    sync_folder(path)?;
    Ok(database)
}

/// Deletes the store at `path`, which need not exist.
///
/// # Errors
///
/// A store in use is left alone. After an I/O error the store is either there whole or not at all.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    // Opened, so that it is ours: deleting a running job's store would split its checkpoints over two files.
    let held = match guarded(|| Ok(builder().open(path)?)) {
        Err(Fault::Redb(redb::Error::DatabaseAlreadyOpen)) => {
            let path = path.to_owned();
            return Err(StoreError::InUse { path });
        }
        other => other,
    };
    let removed = remove_if_there(path).and_then(|()| remove_if_there(&making_name(path)));
    drop(held);
    removed.map_err(|error| Fault::from(error).of(path))
}

fn remove_if_there(path: &Path) -> Result<(), io::Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(path),
    }
}

fn making_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn sync_folder(path: &Path) -> Result<(), io::Error> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn never_committed(database: &Database) -> Result<bool, Fault> {
    Ok(database.begin_read()?.list_tables()?.next().is_none())
}

fn initialize(database: &Database) -> Result<(), Fault> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(tables::CHECKPOINTS)?;
    transaction.open_table(tables::CHUNKS)?;
    transaction.open_table(tables::CHUNK_BYTES)?;
    transaction.open_table(tables::PLUGINS)?;
    transaction.open_table(tables::PLUGIN_BYTES)?;
    tables::set_meta(&transaction, tables::META_FORMAT, super::FORMAT)?;
    tables::set_meta(&transaction, tables::META_CHECKPOINT, 0)?;
    tables::set_meta(&transaction, tables::META_CHUNK, 0)?;
    Ok(transaction.commit()?)
}

fn checked(database: Database) -> Result<Database, Fault> {
    match tables::meta(&database.begin_read()?)?.format {
        super::FORMAT => Ok(database),
        found => Err(Fault::OtherFormat(found)),
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Redb(redb::Error::Io(error))
    }
}
