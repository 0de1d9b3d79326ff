//! Stores checkpoints in one redb file, with one transaction for each checkpoint.
//!
//! A transaction applies a whole checkpoint at once: it adds new chunks, plugins and the manifest, and removes retired
//! checkpoints and what only they used. It commits in two phases and saves redb's table of free pages with it ("quick
//! repair"), so that opening after a crash reads a few pages and not the file. After an error the handle is dropped,
//! and the next call opens the file again and checks what was committed. Damage is found by this module's checksums
//! over manifests, chunks and plugins, and by redb's over its pages (`pages`); `guard` turns panics of redb into
//! errors. A damaged file is only read: the job continues in a new one (`renew`).
//!
//! A start does not read the whole file to find damage. During a transaction, `checkpoints.redb.writing` exists beside
//! the file (`write`). A process that finds it knows that a commit did not return: the process was killed, or redb
//! ended it over a damaged page. It then checks every page before it writes. Otherwise a start checks what it needs,
//! and each chunk when it is read.
//!
//! `retention` decides which checkpoints to retire, and `manifest` encodes manifests. This module uses no clock and no
//! threads, and does not check whether a checkpoint fits a pipeline.

mod change;
mod chunks;
mod compact;
mod copy;
mod error;
mod file;
mod guard;
mod handle;
mod pages;
mod read;
mod reader;
mod readonly;
mod recover;
mod renew;
pub mod savepoint;
mod tables;
mod verify;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

pub use compact::Space;
pub use error::{CheckpointRefusal, StoreError};
pub use file::{remove, remove_own};
pub use readonly::ReadOnlyStore;
pub use recover::{Recovery, RestoredCheckpoint, SetAside};
pub use tables::CHUNK_BYTES_BEST;
pub(crate) use verify::is_gone;
pub use verify::{CheckpointReport, VerifyReport};

use super::{Checkpoint, CheckpointStorageSettings, ManifestError};
use error::StoreFault;
use floodmark_state::stream::CheckpointId;
use reader::StoreReader;
use write::Marker;

/// A stored checkpoint's id and manifest; or the reason why the manifest cannot be read.
pub type Listed = (CheckpointId, Result<Checkpoint, ManifestError>);

/// The version of the tables and their content. A store with another version is refused.
const FORMAT: u64 = 1;

/// The checkpoints of one job.
///
/// Invariants, after every call and after every crash:
///
/// - A checkpoint is stored as a whole (its manifest, all chunks and all plugins that it names) or not at all.
/// - A chunk's reference count is the number of times that stored checkpoints name it, and no chunk has a count of 0.
/// - Ids of checkpoints are never reused; the highest one ever written is stored.
pub struct CheckpointStore {
    reader: Arc<StoreReader>,
    settings: CheckpointStorageSettings,
    /// `None` for a store without a file name, which cannot be replaced by a new file.
    marker: Option<Marker>,
    /// Whether redb may write to it.
    health: Health,
}

/// The known condition of the pages of an open store.
#[derive(Debug)]
enum Health {
    /// They must be checked before the next write: a commit may have failed on a damaged page.
    Suspicious,
    /// No damage is known.
    Sound,
    /// They do not match their checksums, and there is no new file to continue in.
    Damaged(String),
}

/// The last write that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedWrite {
    /// The checkpoint that was being written.
    pub checkpoint: CheckpointId,
    /// Whether it was stored in spite of the error.
    pub fate: Fate,
}

/// Whether a checkpoint whose write failed was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The file was not read again yet.
    Unknown,
    /// It is stored, whole and durable, though its write returned an error.
    Durable,
    /// It is not stored.
    Absent,
}

impl CheckpointStore {
    /// Opens the store at `path`, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// See [`StoreError`]. Checkpoints in the file are untouched in each case.
    pub fn open(
        path: impl Into<PathBuf>,
        settings: CheckpointStorageSettings,
    ) -> Result<Self, StoreError> {
        Self::open_by(path.into(), settings, file::open_or_create)
    }

    /// Opens the store at `path`; does not create one.
    ///
    /// # Errors
    ///
    /// As for [`CheckpointStore::open`], and [`StoreError::Absent`].
    pub fn open_existing(
        path: impl Into<PathBuf>,
        settings: CheckpointStorageSettings,
    ) -> Result<Self, StoreError> {
        Self::open_by(path.into(), settings, file::open)
    }

    fn open_by(
        path: PathBuf,
        settings: CheckpointStorageSettings,
        open: fn(&Path) -> Result<file::OpenedStore, StoreFault>,
    ) -> Result<Self, StoreError> {
        let opened = open(&path).map_err(|fault| fault.of(&path))?;
        let marker = Marker::of(&path);
        let health = if marker.is_set() {
            Health::Suspicious
        } else {
            Health::Sound
        };
        Ok(Self {
            reader: Arc::new(StoreReader::new(path, opened)),
            settings,
            marker: Some(marker),
            health,
        })
    }

    /// Opens a store on the caller's backend, and creates one there if it is empty. It has no folder: after damage was
    /// found nothing can be written from then on, and everything is checked before the first write.
    ///
    /// # Errors
    ///
    /// As for [`CheckpointStore::open`].
    pub fn open_on(
        backend: impl StorageBackend,
        settings: CheckpointStorageSettings,
    ) -> Result<Self, StoreError> {
        let path = PathBuf::from("(no file)");
        let opened = file::open_on(backend).map_err(|fault| fault.of(&path))?;
        Ok(Self {
            reader: Arc::new(StoreReader::new(path, opened)),
            settings,
            marker: None,
            health: Health::Suspicious,
        })
    }

    /// A store in memory, which is lost with the process.
    ///
    /// # Errors
    ///
    /// As for [`CheckpointStore::open`].
    pub fn in_memory(settings: CheckpointStorageSettings) -> Result<Self, StoreError> {
        Self::open_on(InMemoryBackend::new(), settings)
    }

    /// The last write that failed, and whether it was stored.
    #[must_use]
    pub fn last_failed(&self) -> Option<FailedWrite> {
        self.reader.alone(|slot| slot.failed)
    }

    /// Finds out whether the last failed write was stored, opening the file again if needed.
    ///
    /// # Errors
    ///
    /// When the file still cannot be opened: the fate stays unknown.
    pub fn settle(&mut self) -> Result<Option<FailedWrite>, StoreError> {
        self.reader.settle()
    }

    fn path(&self) -> PathBuf {
        self.reader.path().to_owned()
    }
}

impl std::fmt::Debug for CheckpointStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointStore")
            .field("path", &self.reader.path())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
