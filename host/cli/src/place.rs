//! The arguments that select checkpoints: those of a job, by pipeline or data folder, or a savepoint.
//!
//! Commands that only read open a reader, which cannot change anything and works while the job runs. Commands that
//! change something lock the data folder, as a job does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::CommandError;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use floodmark_checkpoint::store::{CheckpointStore, savepoint};
use floodmark_checkpoint::{
    Checkpoint, CheckpointReader, CheckpointStorage, CheckpointStorageSettings, PluginDigest,
};
use floodmark_engine::edge::data_dir::{DataDir, DataDirError};
use floodmark_engine::edge::{pipeline_file, scratch};
use floodmark_engine::pipeline::Connectors;
use floodmark_engine::pipeline::settings::{CheckpointSection, StorageSetting};
use floodmark_engine::session::storage;
use floodmark_state::stream::CheckpointId;

/// Selects the checkpoints of a job. Without arguments: those of the pipeline in the current folder.
#[derive(Debug, Clone, Args)]
pub struct PlaceArguments {
    /// The pipeline of the job: a file, or a folder with a `pipeline.toml`
    #[arg(long, value_name = "PIPELINE", conflicts_with = "data_dir")]
    pub pipeline: Option<PathBuf>,
    /// The data folder of the job [default: `.floodmark/NAME` beside the pipeline file]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Selects the checkpoints of a job, or a savepoint.
#[derive(Debug, Clone, Args)]
pub struct PlaceOrSavepoint {
    #[command(flatten)]
    pub place: PlaceArguments,
    /// A savepoint file, instead of the checkpoints of a job
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "pipeline"])]
    pub savepoint: Option<PathBuf>,
}

/// A reader of checkpoints, and where they came from.
pub(super) struct OpenedCheckpoints {
    pub(super) reader: Arc<dyn CheckpointReader>,
    /// The place of the checkpoints, for messages.
    pub(super) name: String,
    /// The folder of the job's compiled plugins.
    pub(super) compiled: Option<PathBuf>,
    /// Whether they are in a savepoint, which may be from another user: its plugins run only if the user says so.
    pub(super) is_foreign: bool,
}

impl PlaceArguments {
    /// The data folder that the arguments select.
    pub(super) fn data_dir(&self) -> Result<PathBuf, CommandError> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let here = Path::new(".");
        let pipeline = match &self.pipeline {
            Some(pipeline) => pipeline,
            None if here.join(pipeline_file::FILE_NAME).exists() => here,
            None => {
                return Err(CommandError::new(
                    EXIT_USAGE,
                    "which job? There is no `pipeline.toml` here; name its pipeline with `--pipeline PIPELINE`, or its data folder with `--data-dir DIR`",
                ));
            }
        };
        let file = pipeline_file::load(pipeline, &[], &Connectors::built_in())
            .map_err(|error| CommandError::new(EXIT_USAGE, error.to_string()))?;
        Ok(DataDir::default_path(&file.folder, &file.spec.name))
    }

    /// Opens the checkpoints of the job for reading. The job may be running.
    pub(super) fn open(&self) -> Result<OpenedCheckpoints, CommandError> {
        let folder = self.data_dir()?;
        let setting = storage_of(&folder)?;
        if setting == StorageSetting::Memory {
            return Err(CommandError::new(
                EXIT_DATA,
                format!(
                    "the job in `{}` keeps its checkpoints in memory, where other processes cannot read them; while it runs, `floodmark savepoint create` copies one to a file",
                    folder.display()
                ),
            ));
        }
        Ok(OpenedCheckpoints {
            reader: storage::reader(&setting, &folder)?,
            name: folder.display().to_string(),
            compiled: Some(DataDir::compiled_in(&folder)),
            is_foreign: false,
        })
    }

    /// Locks the data folder, so that no job runs in it, and opens its storage.
    pub(super) fn hold(&self) -> Result<(DataDir, Box<dyn CheckpointStorage>), CommandError> {
        let folder = self.data_dir()?;
        let held = DataDir::open_existing(&folder).map_err(|error| in_data_dir(&error))?;
        let settings = CheckpointSection {
            storage: storage_of(&folder)?,
            ..CheckpointSection::default()
        };
        let storage = storage::open_existing(&settings, &held)?;
        Ok((held, storage))
    }

    /// Like [`Place::hold`], for a storage that is a file: only files can be compacted.
    pub(super) fn hold_file(&self) -> Result<(DataDir, CheckpointStore), CommandError> {
        let folder = self.data_dir()?;
        let held = DataDir::open_existing(&folder).map_err(|error| in_data_dir(&error))?;
        match storage_of(&folder)? {
            StorageSetting::Redb => {}
            other => {
                return Err(CommandError::new(
                    EXIT_USAGE,
                    format!(
                        "only a storage in one file can be compacted, and the job keeps its checkpoints in {other}, which frees space by itself"
                    ),
                ));
            }
        }
        let store = CheckpointStore::open_existing(
            held.checkpoints(),
            CheckpointStorageSettings::default(),
        )?;
        Ok((held, store))
    }
}

/// Whether the job of the pipeline in the current folder, if there is one, has run this plugin. Only checkpoints in its data
/// folder are searched.
pub(super) fn has_run_here(plugin: PluginDigest) -> bool {
    let here = PlaceArguments {
        pipeline: None,
        data_dir: None,
    };
    let Ok(folder) = here.data_dir() else {
        return false;
    };
    if !matches!(storage_of(&folder), Ok(StorageSetting::Redb)) {
        return false;
    }
    let reader = storage::reader(&StorageSetting::Redb, &folder);
    let listed = reader.and_then(|reader| reader.list()).unwrap_or_default();
    let checkpoints = listed.into_iter().filter_map(|(_, found)| found.ok());
    let mut operators = checkpoints.flat_map(|checkpoint| checkpoint.operators);
    operators.any(|operator| operator.plugin == plugin)
}

fn storage_of(folder: &Path) -> Result<StorageSetting, CommandError> {
    Ok(storage::noted(folder)?.unwrap_or(StorageSetting::Redb))
}

impl PlaceOrSavepoint {
    pub(super) fn open(&self) -> Result<OpenedCheckpoints, CommandError> {
        match &self.savepoint {
            None => self.place.open(),
            Some(file) => Ok(OpenedCheckpoints {
                reader: Arc::new(savepoint::open(file, None)?.0),
                name: file.display().to_string(),
                compiled: None,
                is_foreign: true,
            }),
        }
    }
}

impl OpenedCheckpoints {
    /// The given checkpoint, or the newest one.
    pub(super) fn checkpoint(&self, id: Option<u64>) -> Result<Checkpoint, CommandError> {
        if let Some(id) = id {
            return Ok(self.reader.read(CheckpointId(id))?);
        }
        for (id, found) in self.reader.list()? {
            match found {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(damage) => super::terminal::warn(&format!(
                    "warning: checkpoint {id} is damaged and skipped: {damage}"
                )),
            }
        }
        Err(CommandError::new(
            EXIT_DATA,
            format!(
                "there are no checkpoints in `{}` yet; run the job first",
                self.name
            ),
        ))
    }
}

/// A temporary file for chunks of state that do not fit into memory.
pub(super) fn scratch_file() -> Result<File, CommandError> {
    scratch::file_in(&std::env::temp_dir()).map_err(|error| {
        CommandError::new(EXIT_DATA, format!("cannot make a temporary file: {error}"))
    })
}

fn in_data_dir(error: &DataDirError) -> CommandError {
    CommandError::new(EXIT_DATA, error.to_string())
}
