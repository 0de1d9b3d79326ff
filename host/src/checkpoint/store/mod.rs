//! Where checkpoints are kept: one redb file, and one transaction for each checkpoint.
//!
//! A transaction makes all of a checkpoint true at once: new chunks, plugins and the manifest come, retired checkpoints and
//! what only they used go. It commits in two phases and saves redb's table of free pages with it ("quick repair"), so
//! that opening after a crash reads a few pages and not the file. After an error the handle is thrown away, and the next
//! call opens the file again and looks what is there. Damage is found by our checksums over manifests, chunks and
//! plugins, and by redb's over its pages (`pages`); `guard` turns panics of redb into errors. A damaged file is only read:
//! the job goes on in a new one (`renew`). Deciding what to retire is in `retention`, bytes of manifests are
//! in `manifest`; this module knows neither clock nor threads, and does not judge whether a checkpoint fits a pipeline.

mod error;
mod file;
mod guard;
mod handle;
mod pages;
mod recover;
mod renew;
mod tables;
mod verify;
mod write;

use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend};
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::xxh3_64;

pub use error::{Refusal, StoreError};
pub use file::remove;
pub use recover::{Recovery, RestoredCheckpoint, SetAside};
pub use tables::CHUNK_BYTES_BEST;
pub use verify::{CheckpointReport, VerifyReport};

use super::manifest;
use super::{Checkpoint, ManifestError, PluginDigest};
use crate::state::ChunkRef;
use crate::stream::CheckpointId;
use error::Fault;
use guard::guarded;
use handle::{Handle, Storage};

/// A stored checkpoint's id, and its manifest, or why that cannot be read.
pub type Listed = (CheckpointId, Result<Checkpoint, ManifestError>);

/// The version of the tables and of what is in them.
const FORMAT: u64 = 1;

/// The checkpoints of one job.
///
/// Invariants, after every call and after every crash:
///
/// - A checkpoint is there whole (its manifest, all chunks and all plugins that it names) or not at all.
/// - A chunk's reference count is the number of times that stored checkpoints name it, and no chunk has none.
/// - Ids of checkpoints are only ever used once; the highest one ever written is stored.
pub struct CheckpointStore {
    path: PathBuf,
    /// Dropped before the storage; absent after an error that leaves redb's view of the file in doubt.
    database: Option<Handle>,
    storage: Storage,
    /// What the next handle may keep in memory.
    cache_bytes: usize,
    /// Whether it is a file with a name, which a new one can replace.
    replaceable: bool,
    /// Whether redb may write to it.
    health: Health,
    failed: Option<FailedWrite>,
}

/// What is known of the pages of an open store.
#[derive(Debug)]
enum Health {
    /// Nobody has looked.
    Unknown,
    /// They fit their checksums.
    Sound,
    /// They do not, and there is no new file to go on in.
    Damaged(String),
}

/// The last write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedWrite {
    /// The checkpoint that was being written.
    pub checkpoint: CheckpointId,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a checkpoint whose write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody has looked yet.
    Unknown,
    /// It is there, whole and durable, though its write returned an error.
    Durable,
    /// It is not there.
    Absent,
}

impl CheckpointStore {
    /// Opens the store at `path`, and makes it when there is none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Checkpoints in the file are untouched in each case.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_by(path.into(), file::open_or_create)
    }

    /// Opens the store at `path`; does not make one.
    ///
    /// # Errors
    ///
    /// As for [`CheckpointStore::open`], and [`StoreError::Absent`].
    pub fn open_existing(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_by(path.into(), file::open)
    }

    fn open_by(
        path: PathBuf,
        open: fn(&Path) -> Result<file::Opened, Fault>,
    ) -> Result<Self, StoreError> {
        let opened = open(&path).map_err(|fault| fault.of(&path))?;
        Ok(Self {
            replaceable: true,
            ..Self::new(path, opened)
        })
    }

    /// Opens a store on a backend of the caller's, and makes one there when it is empty. It has no folder, so that
    /// nothing can be written any more once `recover` has found damage.
    ///
    /// # Errors
    ///
    /// As for [`CheckpointStore::open`].
    pub fn open_on(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let path = PathBuf::from("(no file)");
        let opened = file::open_on(backend).map_err(|fault| fault.of(&path))?;
        Ok(Self::new(path, opened))
    }

    fn new(path: PathBuf, (storage, database): file::Opened) -> Self {
        Self {
            path,
            database: Some(database),
            storage,
            cache_bytes: file::CACHE_BYTES,
            replaceable: false,
            health: Health::Unknown,
            failed: None,
        }
    }

    /// All checkpoints, newest first; a manifest that cannot be read is in the list with its reason.
    ///
    /// # Errors
    ///
    /// When the table of checkpoints itself cannot be read.
    pub fn list(&mut self) -> Result<Vec<Listed>, StoreError> {
        self.with(|database| {
            let mut listed = manifests(&database.begin_read()?.open_table(tables::CHECKPOINTS)?)?;
            listed.reverse();
            Ok(listed)
        })
    }

    /// The manifest of one checkpoint. Its chunks are not looked at.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchCheckpoint`], or what is wrong with it.
    pub fn read(&mut self, id: CheckpointId) -> Result<Checkpoint, StoreError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(tables::CHECKPOINTS)?;
            let found = table
                .get(id.0)?
                .ok_or(StoreError::NoSuchCheckpoint { id })?;
            Ok(decode(id, found.value())?)
        })
    }

    /// The bytes of a chunk, equal to those that were written.
    ///
    /// # Errors
    ///
    /// When they are not there, have another length, or do not fit their checksum.
    pub fn chunk(&mut self, chunk: ChunkRef) -> Result<Vec<u8>, StoreError> {
        self.with(|database| read_chunk(&database.begin_read()?, chunk))
    }

    /// The bytes of a plugin's component, equal to those that were written.
    ///
    /// # Errors
    ///
    /// When they are not there, or have another digest.
    pub fn plugin(&mut self, plugin: PluginDigest) -> Result<Vec<u8>, StoreError> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let damaged = |what| Fault::Damaged(format!("plugin {plugin} {what}"));
            let lengths = transaction.open_table(tables::PLUGINS)?;
            let len = lengths
                .get(plugin.0)?
                .ok_or_else(|| damaged("is missing"))?
                .value();
            let pieces = transaction.open_table(tables::PLUGIN_BYTES)?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let bytes = tables::read_plugin(&pieces, plugin.0, len)?;
            if Sha256::digest(&bytes)[..] != plugin.0 {
                return Err(damaged("does not have that digest"));
            }
            Ok(bytes)
        })
    }

    /// The last write that failed, and what is known of it.
    #[must_use]
    pub fn last_failed(&self) -> Option<FailedWrite> {
        self.failed
    }

    /// Looks what became of the last failed write, opening the file again if that is needed.
    ///
    /// # Errors
    ///
    /// When the file still cannot be opened: the fate stays unknown.
    pub fn settle(&mut self) -> Result<Option<FailedWrite>, StoreError> {
        self.with(|_| Ok(()))?;
        Ok(self.failed)
    }

    /// What is wrong with the pages of the file, if anything.
    fn check_pages(&mut self) -> Result<Option<String>, StoreError> {
        // A handle would not see what the check sees, and the other way round.
        self.settle()?;
        self.database = None;
        pages::check(&self.storage, &self.path)
    }

    /// Calls redb on a handle that is not in doubt, and throws the handle away when the call leaves it so.
    fn with<T>(
        &mut self,
        call: impl FnOnce(&Database) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let called = self.handle().and_then(|database| {
            let called = guarded(|| call(&database));
            if !called.as_ref().is_err_and(Fault::spoils_handle) {
                self.database = Some(database);
            }
            called
        });
        called.map_err(|fault| fault.of(&self.path))
    }

    fn handle(&mut self) -> Result<Handle, Fault> {
        if let Some(database) = self.database.take() {
            return Ok(database);
        }
        let database = Handle::open(&self.storage, self.cache_bytes)?;
        if let Some(failed) = &mut self.failed
            && failed.fate == Fate::Unknown
        {
            // Opening wrote redb's header and synced it, so that what is seen now is what is on disk.
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
        Ok(database)
    }
}

impl std::fmt::Debug for CheckpointStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// All manifests, oldest first.
fn manifests(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Vec<Listed>, Fault> {
    let mut listed = Vec::new();
    for entry in table.iter()? {
        let (id, bytes) = entry?;
        let id = CheckpointId(id.value());
        listed.push((id, decode(id, bytes.value())));
    }
    Ok(listed)
}

/// A manifest must be stored under its own id: a key has no checksum of ours.
fn decode(id: CheckpointId, bytes: &[u8]) -> Result<Checkpoint, ManifestError> {
    let checkpoint = manifest::decode(bytes)?;
    if checkpoint.id != id {
        return Err(ManifestError::Malformed("it is stored under another id"));
    }
    Ok(checkpoint)
}

fn read_chunk(transaction: &ReadTransaction, chunk: ChunkRef) -> Result<Vec<u8>, Fault> {
    let damaged = |what| Fault::Damaged(format!("chunk {} {what}", chunk.id.0));
    let chunks = transaction.open_table(tables::CHUNKS)?;
    let found = chunks
        .get(chunk.id.0)?
        .ok_or_else(|| damaged("is missing"))?;
    let (_, len, checksum) = found.value();
    if len != chunk.len {
        return Err(damaged("has another length than its checkpoint says"));
    }
    let pieces = transaction.open_table(tables::CHUNK_BYTES)?;
    let bytes = tables::read_chunk(&pieces, chunk.id.0, len as usize)?;
    if bytes.len() != len as usize {
        return Err(damaged("is shorter than it was written"));
    }
    if xxh3_64(&bytes) != checksum {
        return Err(damaged("does not fit its checksum"));
    }
    Ok(bytes)
}

/// All chunks that a checkpoint names, in its order.
fn chunks_of(checkpoint: &Checkpoint) -> impl Iterator<Item = ChunkRef> {
    let tasks = checkpoint
        .operators
        .iter()
        .flat_map(|operator| &operator.tasks);
    tasks.flat_map(|task| &task.chunks).copied()
}

/// All plugins that a checkpoint names.
fn plugins_of(checkpoint: &Checkpoint) -> impl Iterator<Item = PluginDigest> {
    checkpoint.operators.iter().map(|operator| operator.plugin)
}

#[cfg(test)]
mod tests;
