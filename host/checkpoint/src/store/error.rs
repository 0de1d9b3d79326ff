//! The errors of the store: `StoreError` for its callers, `StoreFault` inside of it.
//!
//! redb's own error types are not exposed: callers match on what they can do about an error.

use std::io;
use std::path::{Path, PathBuf};

use crate::{ManifestError, PluginDigest};
use floodmark_state::ChunkId;
use floodmark_state::stream::CheckpointId;

/// The reason why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the store open. Nothing was touched.
    #[error("checkpoint store `{}` is in use by another process; stop that job, or use another data folder", path.display())]
    InUse {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
    },
    /// The file does not exist. Nothing was touched.
    #[error("there is no checkpoint store at `{}`; run the job first, or check `--data-dir`", path.display())]
    Absent {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
    },
    /// The file was removed after it was opened. Nothing was written.
    #[error("checkpoint store `{}` was removed while the job was running, so it cannot be written; put it back, or stop the job and start it again with `--fresh`", path.display())]
    Removed {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
    },
    /// The file is not a store. Nothing was touched.
    #[error("`{}` is not a checkpoint store: {reason}; restore it from a copy, move it away, or use another data folder", path.display())]
    NotAStore {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// Another version of Floodmark wrote it. Nothing was touched.
    #[error("checkpoint store `{}` has format {found}, and this floodmark reads format {expected}; use the floodmark that wrote it, or another data folder", path.display())]
    OtherFormat {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// The format of the file.
        found: u64,
        /// The format that this build reads and writes.
        expected: u64,
    },
    /// Bytes in the store differ from those that were written. The rest may be sound: `recover` looks for it.
    #[error("checkpoint store `{}` is damaged: {reason}; restore the file from a copy, or start over with `--fresh`, which loses the state", path.display())]
    Damaged {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// A description of the damage.
        reason: String,
    },
    /// There are checkpoints, and none can be restored. Nothing was changed.
    #[error("no checkpoint in `{}` can be restored: {}; restore the file from a copy, or start over with `--fresh`, which loses the state", path.display(), reasons(damaged))]
    AllDamaged {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// The checkpoints with the reasons, newest first.
        damaged: Vec<(CheckpointId, String)>,
    },
    /// The requested checkpoint cannot be restored. Nothing was changed.
    #[error("checkpoint {id} in `{}` is damaged: {reason}; choose another one, or leave it out to start from the newest sound one", path.display())]
    ChosenDamaged {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// The id of the checkpoint.
        id: CheckpointId,
        /// The reason.
        reason: String,
    },
    /// Another process writes so often that no read could finish. No damage is known.
    #[error("checkpoint store `{}` changes faster than it can be read; try again, or stop its job first", path.display())]
    Busy {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
    },
    /// The path of a new savepoint exists already. It was not touched.
    #[error("`{}` already exists; give the savepoint another name, or delete that file first", path.display())]
    Exists {
        /// The path of the savepoint.
        path: PathBuf,
    },
    /// The path of a new savepoint cannot be written.
    #[error("savepoint `{}` cannot be written: {source}; give it another path", path.display())]
    SavepointTarget {
        /// The path of the savepoint.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The savepoint is damaged, missing, of another format, or something else. Nothing was touched.
    #[error("savepoint `{}` cannot be used: {reason}", path.display())]
    UnusableSavepoint {
        /// The path of the savepoint.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
    /// The file has no checkpoint or several, and none was chosen.
    #[error("`{}` holds {count} checkpoints, but a savepoint has exactly one; choose a checkpoint", path.display())]
    NotOne {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// Number of checkpoints.
        count: usize,
    },
    /// The store is damaged, and its sound checkpoints could not be copied to a new file. Nothing was changed.
    #[error("checkpoint store `{}` is damaged, and its sound checkpoints could not be copied to a new file: {}; fix that (the copy needs as much space as the store) and start again: nothing is lost", path.display(), of_copy(source))]
    NotReplaced {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// The error of the new file.
        source: Box<StoreError>,
    },
    /// The disk failed. After a `write`, all earlier checkpoints are still stored; whether the new one is, is unknown
    /// until [`CheckpointStore::settle`](super::CheckpointStore::settle) or the next write has read the file again.
    #[error("checkpoint store `{}` could not be read or written: {source}; check free space and permissions", path.display())]
    Io {
        /// The file of the store, or the address of the object storage.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Another process has started to write there. The checkpoint that was being written does not exist; nothing else
    /// was touched.
    #[error("checkpoint storage `{}` was taken over by another process, so this one can no longer write there; stop one of them, or give each a prefix of its own", path.display())]
    TakenOver {
        /// The address of the storage.
        path: PathBuf,
    },
    /// The address is invalid, or there are no credentials for it. Nothing was touched.
    #[error("checkpoint storage `{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// The address of the storage.
        path: PathBuf,
        /// The reason, and what to do.
        reason: String,
    },
    /// There is no checkpoint with this id.
    #[error("there is no checkpoint {id}; `floodmark checkpoint list` shows those that are there")]
    NoSuchCheckpoint {
        /// The requested id.
        id: CheckpointId,
    },
    /// The caller broke the store's contract. Nothing was written.
    #[error("checkpoint {id} cannot be written: {reason}")]
    Refused {
        /// The id of the checkpoint.
        id: CheckpointId,
        /// The broken rule.
        reason: CheckpointRefusal,
    },
}

impl StoreError {
    /// Whether the cause may be temporary, such as a disk that is full or a process with too many open files.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Busy { .. })
    }
}

/// The reason why a checkpoint and its data do not fit the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointRefusal {
    /// Its id is not higher than all that were ever written.
    #[error("its id is not above {highest}, the highest ever written")]
    IdNotNew {
        /// The highest id that was ever written.
        highest: CheckpointId,
    },
    /// It names a chunk that is neither stored nor included.
    #[error("its chunk {} is neither stored nor supplied", chunk.0)]
    ChunkMissing {
        /// The chunk.
        chunk: ChunkId,
    },
    /// It names a chunk with another length than the chunk has.
    #[error("it names chunk {} with a different length than the chunk has", chunk.0)]
    ChunkLength {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A chunk with the same id and other bytes is stored.
    #[error("a different chunk {} is already stored: chunk ids must never be reused", chunk.0)]
    ChunkReused {
        /// The chunk.
        chunk: ChunkId,
    },
    /// It names a plugin that is neither stored nor included.
    #[error("its plugin {plugin} is neither stored nor supplied")]
    PluginMissing {
        /// The digest of the missing plugin.
        plugin: PluginDigest,
    },
}

/// A description of the error of the new file, without its path: that file no longer exists.
fn of_copy(error: &StoreError) -> String {
    match error {
        StoreError::Io { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

fn reasons(damaged: &[(CheckpointId, String)]) -> String {
    let each = damaged
        .iter()
        .map(|(id, reason)| format!("checkpoint {id}: {reason}"));
    each.collect::<Vec<_>>().join("; ")
}

/// An error inside the store, before the path is added.
#[derive(Debug)]
pub(super) enum StoreFault {
    /// redb returned an error.
    Redb(redb::Error),
    /// redb panicked: its handle must not be used again.
    Panicked(String),
    /// A check of this module found damage; redb works.
    Damaged(String),
    /// The file is sound, but not a store.
    NotAStore(String),
    /// The file has another format.
    OtherFormat(u64),
    /// Another process wrote to the file while it was read.
    Disturbed,
    /// The caller made a mistake; the file is fine.
    Asked(StoreError),
}

impl StoreFault {
    /// Whether redb's handle must be dropped (STYLE 20): its view of the file may differ from the disk.
    pub(super) fn spoils_handle(&self) -> bool {
        matches!(self, Self::Redb(_) | Self::Panicked(_))
    }

    pub(super) fn of(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        let damaged = |path, reason| StoreError::Damaged { path, reason };
        match self {
            Self::Asked(error) => error,
            Self::Disturbed => StoreError::Busy { path },
            Self::Damaged(reason) => damaged(path, reason),
            Self::Panicked(reason) => {
                damaged(path, format!("its pages contradict each other ({reason})"))
            }
            Self::NotAStore(reason) => StoreError::NotAStore { path, reason },
            Self::OtherFormat(found) => StoreError::OtherFormat {
                path,
                found,
                expected: super::FORMAT,
            },
            Self::Redb(redb::Error::DatabaseAlreadyOpen) => StoreError::InUse { path },
            Self::Redb(redb::Error::UpgradeRequired(_)) => StoreError::NotAStore {
                path,
                reason: "it is in an older redb format".to_owned(),
            },
            Self::Redb(redb::Error::Io(source)) => match source.kind() {
                io::ErrorKind::NotFound => StoreError::Absent { path },
                io::ErrorKind::InvalidData => StoreError::NotAStore {
                    path,
                    reason: source.to_string(),
                },
                io::ErrorKind::UnexpectedEof => damaged(path, "it ends too early".to_owned()),
                _ => StoreError::Io { path, source },
            },
            Self::Redb(error) => damaged(path, error.to_string()),
        }
    }
}

impl From<redb::Error> for StoreFault {
    fn from(error: redb::Error) -> Self {
        Self::Redb(error)
    }
}

macro_rules! from_redb {
    ($($error:ident)*) => {$(
        impl From<redb::$error> for StoreFault {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

from_redb!(StorageError TableError TransactionError CommitError DatabaseError CompactionError);

impl From<ManifestError> for StoreFault {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::OtherVersion { found } => Self::OtherFormat(found.into()),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<StoreError> for StoreFault {
    fn from(error: StoreError) -> Self {
        Self::Asked(error)
    }
}

#[cfg(test)]
mod tests {
    //! Catches an error that may pass and is taken for damage: the job would give up sound checkpoints.

    use super::*;

    #[test]
    fn too_many_open_files_are_not_damage() {
        // `ENFILE` and `EMFILE` of Linux.
        for code in [23, 24] {
            let fault = StoreFault::from(io::Error::from_raw_os_error(code));
            let error = fault.of(Path::new("checkpoints.redb"));
            assert!(error.may_pass(), "{error}");
        }
    }
}
