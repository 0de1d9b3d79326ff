//! Which job a command is about: by its pipeline, or by its data folder.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::CommandError;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use crate::edge::control::{self, AskError};
use crate::edge::data_dir::DataDir;
use crate::edge::pipeline_file::{self, PipelineFileError};
use crate::pipeline::Connectors;
use crate::pipeline::settings::StorageSetting;

/// A job, running or not.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct JobArguments {
    /// The pipeline file of the job, or the folder of a `pipeline.toml`
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    /// The same, as the commands that look take it
    #[arg(
        long = "pipeline",
        value_name = "PIPELINE",
        conflicts_with = "pipeline"
    )]
    pipeline_flag: Option<PathBuf>,
    /// The data folder of the job: needed if `run` was given one, or if its pipeline is not at hand
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Where a job has its things.
#[derive(Debug)]
pub(super) struct JobLocation {
    pub(super) data_dir: PathBuf,
    /// Where its checkpoints are, as far as its pipeline says.
    pub(super) storage: StorageSetting,
}

impl JobArguments {
    /// The pipeline, if it was named: its file or folder.
    pub(super) fn pipeline(&self) -> Option<PathBuf> {
        let named = self.pipeline.as_ref().or(self.pipeline_flag.as_ref());
        named.filter(|path| !is_data_folder(path)).cloned()
    }

    /// As if it had been typed so.
    pub(super) fn of(pipeline: &Path, data_dir: Option<&Path>) -> Self {
        Self {
            pipeline: Some(pipeline.to_path_buf()),
            pipeline_flag: None,
            data_dir: data_dir.map(Path::to_path_buf),
        }
    }

    /// Finds the data folder.
    ///
    /// # Errors
    /// When the pipeline cannot be read, or there is no data folder.
    pub(super) fn place(&self) -> Result<JobLocation, CommandError> {
        let (default, storage) = match self.pipeline.as_ref().or(self.pipeline_flag.as_ref()) {
            // The user named the data folder itself.
            Some(path) if is_data_folder(path) => (Some(path.clone()), StorageSetting::Redb),
            Some(path) => {
                let file =
                    pipeline_file::load(path, &[], &Connectors::built_in()).map_err(|error| {
                        match error {
                            PipelineFileError::Invalid(problems) => problems.into(),
                            other => CommandError::new(EXIT_USAGE, other.to_string()),
                        }
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
            return Err(CommandError::new(EXIT_DATA, message));
        }
        // The checkpoints are in the storage that the last run noted, even if the pipeline file names another by now.
        let storage = crate::engine::storage::noted(&data_dir)?.unwrap_or(storage);
        Ok(JobLocation { data_dir, storage })
    }
}

fn is_data_folder(path: &Path) -> bool {
    path.join("lock").is_file() && !path.join(pipeline_file::FILE_NAME).exists()
}

impl JobLocation {
    /// Asks the running job something.
    pub(super) fn look(&self, path: &str) -> Result<Value, AskError> {
        control::ask(&self.data_dir, path, None)
    }

    /// Has the running job do something.
    pub(super) fn call(&self, path: &str, wish: &Value) -> Result<Value, AskError> {
        control::ask(&self.data_dir, path, Some(wish))
    }

    /// Has the running job take a checkpoint, and copy it if there is somewhere to.
    pub(super) fn take_checkpoint(&self, to: Option<&str>) -> Result<u64, AskError> {
        let done = self.call("/v1/checkpoints", &json!({ "savepoint": to }))?;
        Ok(id_of(&done))
    }
}

/// The checkpoint that an answer names.
pub(super) fn id_of(answer: &Value) -> u64 {
    answer["id"].as_u64().unwrap_or_default()
}

/// A path as it goes into a call.
pub(super) fn as_text(path: &Path) -> Result<&str, CommandError> {
    path.to_str().ok_or_else(|| {
        let message = format!(
            "`{}` is no UTF-8, which a job cannot be told; give another path",
            path.display()
        );
        CommandError::new(EXIT_USAGE, message)
    })
}

impl From<AskError> for CommandError {
    fn from(error: AskError) -> Self {
        let hint = match error {
            AskError::NotRunning { .. } => "; there is nothing to ask",
            _ => "",
        };
        Self::new(EXIT_DATA, format!("{error}{hint}"))
    }
}

/// A path that means the same to another process.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("cannot tell where `{}` is: {error}", path.display());
        CommandError::new(EXIT_USAGE, message)
    })
}
