//! The interface of a place that keeps checkpoints: two traits, one to change it and one to look.
//!
//! `store` keeps them in a redb file, which is also what a savepoint is; `object` keeps them in an object store. Callers
//! that only look get a [`CheckpointReader`], which cannot change anything, and which may be used from several threads.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::store::{Listed, Recovery, StoreError, VerifyReport};
use super::{Checkpoint, CommitPermit, PluginDigest};
use crate::state::{Chunk, ChunkRef};
use crate::stream::CheckpointId;

/// A checkpoint to be written. What is stored already may be handed over again.
#[derive(Debug, Clone, Copy)]
pub struct NewCheckpoint<'a> {
    /// Its manifest.
    pub checkpoint: &'a Checkpoint,
    /// The chunks that it names and that may not be stored yet.
    pub chunks: &'a [Arc<Chunk>],
    /// The plugins that it names and that may not be stored yet.
    pub plugins: &'a [(PluginDigest, Arc<[u8]>)],
    /// How many are to be kept, this one included.
    pub retained: NonZeroU32,
}

/// How a storage keeps chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// The block format of lz4, where it saves a tenth.
    #[default]
    Lz4,
    /// As they are.
    None,
}

/// What a storage is told when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointStorageSettings {
    /// How chunks are kept from now on; what is stored stays as it is.
    pub compression: Compression,
    /// Memory that one large write may take, beside what is written. With less, more is written.
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

/// How much of a storage is read before a job starts from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The manifest, and whether all that it names is there. The bytes are compared with their checksums when they are
    /// read; a caller that finds damage then recovers again with [`Self::Thorough`].
    Quick,
    /// Every byte of the checkpoint that is chosen, and the storage's own books.
    Thorough,
}

/// Looks at checkpoints. Nothing that it does changes one.
pub trait CheckpointReader: Send + Sync {
    /// All checkpoints, newest first; a manifest that cannot be read is in the list with its reason.
    ///
    /// # Errors
    /// When the list itself cannot be read.
    fn list(&self) -> Result<Vec<Listed>, StoreError>;

    /// The manifest of one checkpoint. Its chunks are not looked at.
    ///
    /// # Errors
    /// [`StoreError::NoSuchCheckpoint`], or what is wrong with it.
    fn read(&self, id: CheckpointId) -> Result<Checkpoint, StoreError>;

    /// The bytes of a chunk, equal to those that were written.
    ///
    /// # Errors
    /// When they are not there, have another length, or do not fit their checksum.
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, StoreError>;

    /// The index of a chunk as `state::chunk_index` made it; `None` when there is none, or it does not fit its checksum.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, StoreError>;

    /// The bytes of a plugin's component, equal to those that were written.
    ///
    /// # Errors
    /// When they are not there, or have another digest.
    fn plugin(&self, plugin: PluginDigest) -> Result<Vec<u8>, StoreError>;

    /// Checks every byte of one checkpoint, or of all and the storage's books as well.
    ///
    /// # Errors
    /// When there is no such checkpoint, or the list cannot be read. Damage below that is in the report.
    fn verify(&self, id: Option<CheckpointId>) -> Result<VerifyReport, StoreError>;
}

/// Keeps the checkpoints of one job.
///
/// - A checkpoint is there whole or not at all, after every call and every crash.
/// - Ids are only ever used once.
pub trait CheckpointStorage: Send {
    /// Writes a checkpoint and retires those beyond `retained`. It is durable when this returns.
    ///
    /// # Errors
    /// After [`StoreError::Refused`], nothing was written. After any other, all that was there is still there, and whether
    /// this checkpoint is, too, is unknown. Write the next one under a new id then, and hand over the chunks of this one
    /// again.
    fn write(&mut self, new: &NewCheckpoint<'_>) -> Result<CommitPermit, StoreError>;

    /// Finds the checkpoint to start from: the newest sound one, or `at` when it is given.
    ///
    /// # Errors
    /// When there are checkpoints and none is sound, or `at` is not; and I/O errors, since they may pass.
    fn recover(&mut self, depth: Depth, at: Option<CheckpointId>) -> Result<Recovery, StoreError>;

    /// Copies a checkpoint with all that it names from elsewhere, under its own id, which must be above all ids here. A
    /// chunk at a time is in memory.
    ///
    /// # Errors
    /// Nothing is there of it then, or all of it.
    fn import(
        &mut self,
        from: &dyn CheckpointReader,
        checkpoint: &Checkpoint,
    ) -> Result<CommitPermit, StoreError>;

    /// Deletes checkpoints and what only they named.
    ///
    /// # Errors
    /// When one is not there, or the storage cannot be written. Each is then there whole or not at all.
    fn delete(&mut self, ids: &[CheckpointId]) -> Result<(), StoreError>;

    /// Looks at the same checkpoints, also while one is being written.
    fn reader(&self) -> Arc<dyn CheckpointReader>;
}
