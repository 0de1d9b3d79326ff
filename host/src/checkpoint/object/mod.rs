//! Checkpoints in an object store: a bucket of S3 or of what speaks like it, or a folder that others see, too.
//!
//! An object is there whole or not at all, and can be created on the condition that there is none with its name; more is
//! not asked of the store. A checkpoint is true once its record is created, after all that it names (`layout`). It is
//! retired by deleting the record, before what only it named.
//!
//! Records are created in the order of their ids without a gap: a writer that skips an id leaves a mark there. A new writer
//! takes the next id with a mark of its own (`claim`), so that an earlier writer, which may still run on another machine,
//! can create no more records: its next id is taken. Names of chunks and plugins name their writer. So a writer that has
//! lost the right and does not know it yet neither replaces nor removes objects of its successor.
//!
//! A storage does not notice another writer until it writes itself. Readers always see whole checkpoints, but one that is
//! retired meanwhile is gone. Damaged records stay until the next checkpoint is written.

mod address;
mod claim;
mod layout;
mod objects;
mod reader;
mod recover;
mod remote;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::store::{Recovery, StoreError};
use super::{
    Checkpoint, CheckpointReader, CheckpointStorage, CommitPermit, Compression, Depth,
    NewCheckpoint, PluginDigest,
};
use crate::state::ChunkRef;
use crate::stream::CheckpointId;
use address::Make;
use claim::ClaimStatus;
use reader::ObjectReader;
use remote::Remote;

/// How a storage of objects behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectSettings {
    /// How chunks are kept from now on; what is stored stays as it is.
    pub compression: Compression,
    /// How long one request is tried again before what needs it fails.
    pub give_up_after: Duration,
}

impl Default for ObjectSettings {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            give_up_after: Duration::from_secs(60),
        }
    }
}

/// The checkpoints of one job in an object store.
///
/// Invariants, after every call and every crash:
///
/// - A checkpoint is there whole (its record, all chunks and all plugins that it names) or not at all.
/// - Of all who write under one prefix, only the one that began last can create a record.
/// - The record with the highest id stays, so that no id of a checkpoint or chunk is given out twice.
#[derive(Debug)]
pub struct ObjectStorage {
    remote: Arc<Remote>,
    reader: Arc<ObjectReader>,
    settings: ObjectSettings,
    /// Where it is, if it is in files.
    folder: Option<PathBuf>,
    standing: ClaimStatus,
}

impl ObjectStorage {
    /// Opens the storage at `file:///path` or `s3://bucket/prefix`. A folder is made when there is none; a bucket is not.
    /// Another process that writes there is only stopped by the first call that writes or recovers.
    ///
    /// # Errors
    /// When the address makes no sense, or there are no credentials for it; an I/O error for a folder that cannot be made.
    pub fn open(url: &str, settings: ObjectSettings) -> Result<Self, StoreError> {
        let opened = address::open(url, settings, Make::IfAbsent)?;
        Ok(Self::on(opened.remote, opened.folder, settings))
    }

    fn on(remote: Remote, folder: Option<PathBuf>, settings: ObjectSettings) -> Self {
        let remote = Arc::new(remote);
        Self {
            reader: Arc::new(ObjectReader::new(Arc::clone(&remote))),
            remote,
            settings,
            folder,
            standing: ClaimStatus::Unclaimed,
        }
    }
}

/// Opens the storage at `file:///path` or `s3://bucket/prefix` to look at it, also while a job writes there.
///
/// # Errors
/// As for [`ObjectStorage::open`], and [`StoreError::Absent`] when there is no such folder.
pub fn open_reader(
    url: &str,
    settings: ObjectSettings,
) -> Result<Arc<dyn CheckpointReader>, StoreError> {
    let opened = address::open(url, settings, Make::Never)?;
    Ok(Arc::new(ObjectReader::new(Arc::new(opened.remote))))
}

impl CheckpointStorage for ObjectStorage {
    fn write(&mut self, new: &NewCheckpoint<'_>) -> Result<CommitPermit, StoreError> {
        self.write_checkpoint(new)
    }

    fn recover(&mut self, depth: Depth, at: Option<CheckpointId>) -> Result<Recovery, StoreError> {
        self.recover_from(depth, at)
    }

    fn import(
        &mut self,
        from: &dyn CheckpointReader,
        checkpoint: &Checkpoint,
    ) -> Result<CommitPermit, StoreError> {
        self.import_checkpoint(from, checkpoint)
    }

    fn delete(&mut self, ids: &[CheckpointId]) -> Result<(), StoreError> {
        self.delete_checkpoints(ids)
    }

    fn reader(&self) -> Arc<dyn CheckpointReader> {
        Arc::clone(&self.reader) as Arc<dyn CheckpointReader>
    }
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
