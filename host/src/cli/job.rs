//! Which job a command is about: by its pipeline, or by its data folder.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::Failure;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use crate::edge::control::{self, AskError, Request};
use crate::edge::data_dir::DataDir;
use crate::edge::pipeline_file::{self, PipelineFileError};
use crate::pipeline::settings::StorageSetting;
use crate::stream::CheckpointId;

/// A job, running or not.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct JobArguments {
    /// The pipeline file of the job, or the folder of a `pipeline.toml`
    #[arg(value_name = "PIPELINE")]
    pub(super) pipeline: Option<PathBuf>,
    /// The data folder of the job: needed if `run` was given one, or if its pipeline is not at hand
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Where a job has its things.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) data_dir: PathBuf,
    /// Where its checkpoints are, as far as its pipeline says.
    pub(super) storage: StorageSetting,
}

impl JobArguments {
    /// Finds the data folder.
    ///
    /// # Errors
    /// When the pipeline cannot be read, or there is no data folder.
    pub(super) fn place(&self) -> Result<Place, Failure> {
        let (default, storage) = match &self.pipeline {
            // Whoever names the data folder itself means it.
            Some(path) if is_data_folder(path) => (Some(path.clone()), StorageSetting::Redb),
            Some(path) => {
                let file = pipeline_file::load(path, &[]).map_err(|error| match error {
                    PipelineFileError::Invalid(problems) => problems.into(),
                    other => Failure::new(EXIT_USAGE, other.to_string()),
                })?;
                let data_dir = DataDir::default_path(&file.folder, &file.spec.name);
                (Some(data_dir), file.spec.checkpoint.storage)
            }
            None => (None, StorageSetting::Redb),
        };
        let data_dir = self.data_dir.clone().or(default).unwrap_or_default();
        if !data_dir.is_dir() {
            let hint = match self.data_dir {
                Some(_) => "give the one of a job that has run",
                None => "if the job was run with `--data-dir`, give it here, too",
            };
            let message = format!("there is no data folder `{}`; {hint}", data_dir.display());
            return Err(Failure::new(EXIT_DATA, message));
        }
        // What the last run has noted is where the checkpoints are, whatever the file says by now.
        let storage = super::storage::noted(&data_dir)?.unwrap_or(storage);
        Ok(Place { data_dir, storage })
    }
}

fn is_data_folder(path: &Path) -> bool {
    path.join("lock").is_file() && !path.join(pipeline_file::FILE_NAME).exists()
}

impl Place {
    /// Asks the running job.
    pub(super) fn ask(&self, request: &Request) -> Result<CheckpointId, AskError> {
        control::ask(&self.data_dir, request)
    }

    /// Asks the running job for a change.
    pub(super) fn change(&self, request: &Request) -> Result<Value, AskError> {
        control::change(&self.data_dir, request)
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let hint = match error {
            AskError::NotRunning { .. } => "; there is nothing to ask",
            _ => "",
        };
        Self::new(EXIT_DATA, format!("{error}{hint}"))
    }
}

/// A path that means the same to another process.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("cannot tell where `{}` is: {error}", path.display());
        Failure::new(EXIT_USAGE, message)
    })
}
