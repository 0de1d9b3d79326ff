//! Opens the checkpoint storage that a pipeline names: the file in its data folder, memory, or an object store.
//!
//! All jobs and commands use this module, so that they look for checkpoints in the same place. This module does not read
//! checkpoints.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EngineError;
use crate::edge::data_dir::DataDir;
use crate::edge::private;
use crate::pipeline::Spec;
use crate::pipeline::settings::{self, CheckpointSection, StateBackendSetting, StorageSetting};
use floodmark_checkpoint::object::{self, ObjectSettings, ObjectStorage};
use floodmark_checkpoint::store::{self, CheckpointStore, ReadOnlyStore, StoreError};
use floodmark_checkpoint::{
    CheckpointReader, CheckpointStorage, CheckpointStorageSettings, Compression,
};
use floodmark_state::stream::CheckpointId;

/// Cache for writing large checkpoints when state is kept on disk, in bytes.
const CACHE_BYTES_MAX_DISK: usize = 64 << 20;

/// Store settings for new chunks.
pub fn settings(compression: settings::CompressionSetting) -> CheckpointStorageSettings {
    CheckpointStorageSettings {
        compression: match compression {
            settings::CompressionSetting::Lz4 => Compression::Lz4,
            settings::CompressionSetting::None => Compression::None,
        },
        ..CheckpointStorageSettings::default()
    }
}

fn object_settings(settings: CheckpointStorageSettings) -> ObjectSettings {
    ObjectSettings {
        compression: settings.compression,
        ..ObjectSettings::default()
    }
}

/// Opens the storage of a job. The caller holds its data folder.
pub fn open(
    checkpoint: &CheckpointSection,
    data_dir: &DataDir,
) -> Result<Box<dyn CheckpointStorage>, StoreError> {
    open_with(checkpoint, settings(checkpoint.compression), data_dir)
}

/// Like [`open`], for a job that will run and may have a limit on memory for state.
pub fn open_to_run(
    spec: &Spec,
    data_dir: &DataDir,
) -> Result<Box<dyn CheckpointStorage>, StoreError> {
    let mut settings = settings(spec.checkpoint.compression);
    if spec.state.backend == StateBackendSetting::Disk {
        settings.cache_bytes_max = CACHE_BYTES_MAX_DISK;
    }
    open_with(&spec.checkpoint, settings, data_dir)
}

fn open_with(
    checkpoint: &CheckpointSection,
    settings: CheckpointStorageSettings,
    data_dir: &DataDir,
) -> Result<Box<dyn CheckpointStorage>, StoreError> {
    check_folder(&checkpoint.storage)?;
    Ok(match &checkpoint.storage {
        StorageSetting::Redb => Box::new(CheckpointStore::open(data_dir.checkpoints(), settings)?),
        StorageSetting::Memory => Box::new(CheckpointStore::in_memory(settings)?),
        elsewhere @ (StorageSetting::Folder(_) | StorageSetting::S3(_)) => Box::new(
            ObjectStorage::open(&elsewhere.to_string(), object_settings(settings))?,
        ),
    })
}

/// Like [`open`], for a job that has checkpoints: a store that is missing is not created.
pub fn open_existing(
    checkpoint: &CheckpointSection,
    data_dir: &DataDir,
) -> Result<Box<dyn CheckpointStorage>, StoreError> {
    let path = data_dir.checkpoints();
    if checkpoint.storage == StorageSetting::Redb && !path.exists() {
        return Err(StoreError::Absent { path });
    }
    open(checkpoint, data_dir)
}

/// Refuses a storage in a folder that another user could have prepared, or could change.
fn check_folder(storage: &StorageSetting) -> Result<(), StoreError> {
    let StorageSetting::Folder(folder) = storage else {
        return Ok(());
    };
    let path = PathBuf::from(storage.to_string());
    match private::storage_fault(folder, &object::FOLDERS) {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(StoreError::Unusable { path, reason }),
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

/// Deletes the only checkpoint of a job that has not begun: a savepoint that was imported. The caller holds the data folder,
/// and may have readers of the storage.
pub fn forget_import(checkpoint: &CheckpointSection, data_dir: &DataDir) -> Result<(), StoreError> {
    match checkpoint.storage {
        StorageSetting::Redb => store::remove_own(&data_dir.checkpoints()),
        _ => forget(checkpoint, data_dir),
    }
}

/// Deletes all checkpoints of a stopped job. The caller holds its data folder.
pub fn forget(checkpoint: &CheckpointSection, data_dir: &DataDir) -> Result<(), StoreError> {
    if checkpoint.storage == StorageSetting::Redb {
        return store::remove(&data_dir.checkpoints());
    }
    let mut storage = open(checkpoint, data_dir)?;
    let ids = ids(&*storage.reader())?;
    match ids.is_empty() {
        true => Ok(()),
        false => storage.delete(&ids),
    }
}

/// Opens the storage for reading. The job may be running.
pub fn reader(
    storage: &StorageSetting,
    data_dir: &Path,
) -> Result<Arc<dyn CheckpointReader>, StoreError> {
    check_folder(storage)?;
    Ok(match storage {
        // A job with checkpoints in memory has none after it ended.
        StorageSetting::Redb | StorageSetting::Memory => {
            Arc::new(ReadOnlyStore::open(DataDir::checkpoints_in(data_dir))?)
        }
        elsewhere @ (StorageSetting::Folder(_) | StorageSetting::S3(_)) => {
            object::open_reader(&elsewhere.to_string(), ObjectSettings::default())?
        }
    })
}

/// All checkpoints, newest first, including damaged ones.
pub fn ids(reader: &dyn CheckpointReader) -> Result<Vec<CheckpointId>, StoreError> {
    Ok(reader.list()?.into_iter().map(|(id, _)| id).collect())
}

/// The storage that the last run of this data folder noted.
pub fn noted(data_dir: &Path) -> Result<Option<StorageSetting>, EngineError> {
    let unreadable = |reason: String| EngineError::data(reason);
    let text = DataDir::storage_of(data_dir).map_err(|error| unreadable(error.to_string()))?;
    let parsed = text.map(|text| {
        StorageSetting::parse(&text).map_err(|reason| {
            unreadable(format!(
                "the file `storage` in `{}` does not say where the checkpoints are: {reason}",
                data_dir.display()
            ))
        })
    });
    parsed.transpose()
}

/// Refuses to start fresh in another storage while this data folder's checkpoints are elsewhere.
pub fn check_noted(data_dir: &DataDir, now: &StorageSetting) -> Result<(), EngineError> {
    let before = match noted(data_dir.path())? {
        Some(before) if before != *now && before != StorageSetting::Memory => before,
        _ => return Ok(()),
    };
    if before == StorageSetting::Redb && !data_dir.checkpoints().exists() {
        return Ok(());
    }
    Err(EngineError::data(format!(
        "the checkpoints of the data folder `{}` are in {before}, and `checkpoint.storage` says {now}; to keep them, make a savepoint with `floodmark savepoint create --data-dir …` and start from it with `--from` in another data folder, or forget them with `--fresh`",
        data_dir.path().display()
    )))
}
