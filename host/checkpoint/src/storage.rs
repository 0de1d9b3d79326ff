//! The traits of a checkpoint storage: one to change it and one to read it.
//!
//! `store` keeps checkpoints in a redb file, which is also the format of a savepoint; `object` keeps them in an object
//! store. Callers that only read get a [`CheckpointReader`], which cannot change anything and works on several threads.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::store::{Listed, Recovery, StoreError, VerifyReport};
use super::{Checkpoint, CommitPermit, PluginDigest};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Chunk, ChunkRef};

/// A checkpoint to write. Chunks and plugins that are already stored may be included.
#[derive(Debug, Clone, Copy)]
pub struct NewCheckpoint<'a> {
    /// What the manifest will say.
    pub checkpoint: &'a Checkpoint,
    /// The chunks that it names and that may not be stored yet.
    pub chunks: &'a [Arc<Chunk>],
    /// The plugins that it names and that may not be stored yet.
    pub plugins: &'a [(PluginDigest, Arc<[u8]>)],
    /// Number of checkpoints to keep, including this one.
    pub retained: NonZeroU32,
}

/// How chunks are compressed when they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// The lz4 block format, for chunks that it shortens by a tenth or more.
    #[default]
    Lz4,
    /// No compression.
    None,
}

/// Settings for opening a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointStorageSettings {
    /// The compression of new chunks; stored chunks do not change.
    pub compression: Compression,
    /// Memory that one large write may use beside the written data, in bytes. With less memory, more is written.
    pub cache_bytes_max: usize,
}

impl Default for CheckpointStorageSettings {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            cache_bytes_max: 1 << 30,
        }
    }
}

/// How thoroughly a storage is checked before a job starts from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Reads the manifest, and checks that everything it names exists. Bytes are compared with their checksums when
    /// they are read later; a caller that finds damage then recovers again with [`Self::Thorough`].
    Quick,
    /// Reads every byte of the chosen checkpoint, and the storage's own tables.
    Thorough,
}

/// Reads checkpoints, and never changes one.
pub trait CheckpointReader: Send + Sync {
    /// All checkpoints, newest first; for a manifest that cannot be read, the reason.
    ///
    /// # Errors
    /// When the list itself cannot be read.
    fn list(&self) -> Result<Vec<Listed>, StoreError>;

    /// The manifest of one checkpoint. Its chunks are not read.
    ///
    /// # Errors
    /// [`StoreError::NoSuchCheckpoint`], or the damage.
    fn read(&self, id: CheckpointId) -> Result<Checkpoint, StoreError>;

    /// The bytes of a chunk, exactly as written.
    ///
    /// # Errors
    /// When the chunk is missing, has another length, or does not match its checksum.
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, StoreError>;

    /// The index of a chunk, as `state::chunk_index` built it; `None` if there is none, or it does not match its
    /// checksum.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, StoreError>;

    /// The bytes of a plugin's component, exactly as written.
    ///
    /// # Errors
    /// When the component is missing, or has another digest.
    fn plugin(&self, plugin: PluginDigest) -> Result<Vec<u8>, StoreError>;

    /// Checks every byte of one checkpoint, or of all and the storage's own tables.
    ///
    /// # Errors
    /// When there is no such checkpoint, or the list cannot be read. All other damage is in the report.
    fn verify(&self, id: Option<CheckpointId>) -> Result<VerifyReport, StoreError>;
}

/// Stores the checkpoints of one job.
///
/// - A checkpoint is stored as a whole or not at all, after every call and every crash.
/// - Ids are never reused.
pub trait CheckpointStorage: Send {
    /// Writes a checkpoint and retires those beyond `retained`. The checkpoint is durable when this returns.
    ///
    /// # Errors
    /// After [`StoreError::Refused`], nothing was written. After any other error, all earlier checkpoints are still
    /// stored, and it is unknown whether this one is. Write the next one under a new id then, and include the chunks of
    /// this one again.
    fn write(&mut self, new: &NewCheckpoint<'_>) -> Result<CommitPermit, StoreError>;

    /// Finds the checkpoint to start from: the newest sound one, or `at` if given.
    ///
    /// # Errors
    /// When there are checkpoints and none is sound, or `at` is not; and on I/O errors, which may be temporary.
    fn recover(&mut self, depth: Depth, at: Option<CheckpointId>) -> Result<Recovery, StoreError>;

    /// Copies a checkpoint and everything that it names from another storage, under its own id, which must be higher
    /// than all ids here. Only one chunk at a time is in memory.
    ///
    /// # Errors
    /// On failure, the checkpoint is stored as a whole or not at all.
    fn import(
        &mut self,
        from: &dyn CheckpointReader,
        checkpoint: &Checkpoint,
    ) -> Result<CommitPermit, StoreError>;

    /// Deletes checkpoints, and the chunks and plugins that only they name.
    ///
    /// # Errors
    /// When one does not exist, or the storage cannot be written. Each one is then stored as a whole or not at all.
    fn delete(&mut self, ids: &[CheckpointId]) -> Result<(), StoreError>;

    /// A reader of the same checkpoints, which also works during a write.
    fn reader(&self) -> Arc<dyn CheckpointReader>;
}

/// Deletes the checkpoints after one. Returns their ids, lowest first. Their output is taken back after that, so that a
/// checkpoint never exists without its output.
///
/// # Errors
/// When the storage cannot be read or written. Each of them is then there whole or not at all.
pub fn delete_after(
    storage: &mut dyn CheckpointStorage,
    at: CheckpointId,
) -> Result<Vec<CheckpointId>, StoreError> {
    let listed = storage.reader().list()?;
    let mut later: Vec<_> = listed.into_iter().map(|(id, _)| id).collect();
    later.retain(|id| *id > at);
    if !later.is_empty() {
        storage.delete(&later)?;
    }
    later.sort_unstable();
    Ok(later)
}
