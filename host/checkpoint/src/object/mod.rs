//! Stores checkpoints in an object store: a bucket of S3 or a compatible service, or a folder that other machines see
//! as well.
//!
//! The store must write objects atomically, and create an object only if its name is free; nothing more is required. A
//! checkpoint exists once its record is created, which happens after everything that it names (`layout`). It is retired
//! by deleting the record, and then what only it named.
//!
//! Records are created in the order of their ids without a gap: a writer that skips an id leaves a mark there. A new
//! writer takes the next id with a mark of its own (`claim`), so that an earlier writer, which may still run on another
//! machine, can create no more records: its next id is taken. Names of chunks and plugins include their writer. So a
//! writer that has lost the right to write, and does not know it yet, neither replaces nor removes objects of its
//! successor.
//!
//! A storage notices another writer only when it writes. Readers always see whole checkpoints, but a checkpoint may be
//! retired while it is read. Damaged records stay until the next checkpoint is written.

mod address;
mod claim;
mod layout;
mod objects;
mod private_folder;
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
    NewCheckpoint,
};
use address::Make;
use claim::ClaimStatus;
use floodmark_state::stream::CheckpointId;
use reader::ObjectReader;
use remote::Remote;

/// The folders that a storage at `file:///path` has in its own.
pub const FOLDERS: [&str; 3] = [layout::CHECKPOINTS, layout::CHUNKS, layout::PLUGINS];

/// Settings of an object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectSettings {
    /// The compression of new chunks; stored chunks do not change.
    pub compression: Compression,
    /// The time for which one request is retried before the operation fails.
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
/// - A checkpoint is stored as a whole (its record, all chunks and all plugins that it names) or not at all.
/// - Of all writers under one prefix, only the last one that started can create a record.
/// - The record with the highest id stays, so that no id of a checkpoint or chunk is reused.
#[derive(Debug)]
pub struct ObjectStorage {
    remote: Arc<Remote>,
    reader: Arc<ObjectReader>,
    settings: ObjectSettings,
    /// The folder, if the store is one of files.
    folder: Option<PathBuf>,
    standing: ClaimStatus,
}

impl ObjectStorage {
    /// Opens the storage at `file:///path` or `s3://bucket/prefix`. A missing folder is created; a missing bucket is
    /// not. Another process that writes there is stopped only by the first call that writes or recovers.
    ///
    /// # Errors
    /// When the address is invalid, or there are no credentials for it; an I/O error if the folder cannot be created.
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

/// Opens the storage at `file:///path` or `s3://bucket/prefix` for reading, also while a job writes there.
///
/// # Errors
/// As for [`ObjectStorage::open`], and [`StoreError::Absent`] if the folder does not exist.
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

#[cfg(test)]
mod tests;
