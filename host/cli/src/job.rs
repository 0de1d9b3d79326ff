//! The arguments that select a job (by pipeline or data folder), and calls to it while it runs.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::CommandError;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use floodmark_control::AskError;
use floodmark_control::routes::BAD_REQUEST;
use floodmark_engine::edge::data_dir::{DataDir, DataDirError, is_of_a_job};
use floodmark_engine::edge::pipeline_file;
use floodmark_engine::pipeline::Connectors;
use floodmark_engine::pipeline::settings::StorageSetting;

/// Selects a job, running or not.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct JobArguments {
    /// The pipeline file of the job, or a folder with a `pipeline.toml`
    #[arg(value_name = "PIPELINE")]
    pipeline: Option<PathBuf>,
    /// Same as PIPELINE: the form that `checkpoint` and `state` commands use
    #[arg(
        long = "pipeline",
        value_name = "PIPELINE",
        conflicts_with = "pipeline"
    )]
    pipeline_flag: Option<PathBuf>,
    /// The data folder of the job: needed if `run` was given one, or if the pipeline file is not available
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The folder and checkpoint storage of a job.
#[derive(Debug)]
pub(super) struct JobLocation {
    pub(super) data_dir: PathBuf,
    /// The checkpoint storage, as the pipeline file or the last run says.
    pub(super) storage: StorageSetting,
}

impl JobArguments {
    /// The pipeline file or folder, if one was given.
    pub(super) fn pipeline(&self) -> Option<PathBuf> {
        let named = self.pipeline.as_ref().or(self.pipeline_flag.as_ref());
        named.filter(|path| !is_data_folder(path)).cloned()
    }

    /// Builds the arguments as if the user had typed these paths.
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
                let file = pipeline_file::load(path, &[], &Connectors::built_in())?;
                let data_dir = DataDir::default_path(&file.folder, &file.spec.name);
                (Some(data_dir), file.spec.checkpoint.storage)
            }
            None => (None, StorageSetting::Redb),
        };
        let data_dir = self.data_dir.clone().or(default).unwrap_or_default();
        if !data_dir.is_dir() {
            let hint = match self.data_dir {
                Some(_) => "give the data folder of a job that has run",
                None => "if the job was run with `--data-dir`, pass it here too",
            };
            let message = format!("there is no data folder `{}`; {hint}", data_dir.display());
            return Err(CommandError::new(EXIT_DATA, message));
        }
        // The default folder of a pipeline whose job has never run may be empty.
        if self.data_dir.is_some() && !is_of_a_job(&data_dir) {
            return Err(DataDirError::NotOne { path: data_dir }.into());
        }
        // The checkpoints are in the storage that the last run noted, even if the pipeline file names another by now.
        let storage = floodmark_engine::session::storage::noted(&data_dir)?.unwrap_or(storage);
        Ok(JobLocation { data_dir, storage })
    }
}

fn is_data_folder(path: &Path) -> bool {
    path.join("lock").is_file() && !path.join(pipeline_file::FILE_NAME).exists()
}

impl JobLocation {
    /// Queries the running job.
    pub(super) fn look(&self, path: &str) -> Result<Value, AskError> {
        floodmark_control::ask(&self.data_dir, path, None)
    }

    /// Sends an operation to the running job and waits for its result.
    pub(super) fn call(&self, path: &str, wish: &Value) -> Result<Value, AskError> {
        floodmark_control::ask(&self.data_dir, path, Some(wish))
    }

    /// As [`JobLocation::call`], and calls `waiting` about once a second until the result is there.
    pub(super) fn call_while(
        &self,
        path: &str,
        wish: &Value,
        waiting: &mut dyn FnMut(),
    ) -> Result<Value, AskError> {
        floodmark_control::ask_while(&self.data_dir, path, wish, waiting)
    }

    /// Takes a checkpoint of the running job; with `to`, also copies it to that file.
    pub(super) fn take_checkpoint(&self, to: Option<&str>) -> Result<u64, AskError> {
        let done = self.call("/v1/checkpoints", &json!({ "savepoint": to }))?;
        Ok(id_of(&done))
    }
}

/// The checkpoint id in an answer.
pub(super) fn id_of(answer: &Value) -> u64 {
    answer["id"].as_u64().unwrap_or_default()
}

/// The path as text, for a request.
pub(super) fn as_text(path: &Path) -> Result<&str, CommandError> {
    path.to_str().ok_or_else(|| {
        let message = format!(
            "`{}` is not UTF-8, so it cannot be sent to the job; give another path",
            path.display()
        );
        CommandError::new(EXIT_USAGE, message)
    })
}

impl From<AskError> for CommandError {
    fn from(error: AskError) -> Self {
        let hint = match error {
            AskError::NotRunning { .. } => "; `floodmark run` starts it",
            _ => "",
        };
        let code = match &error {
            AskError::Refused { code, .. } if code == BAD_REQUEST => EXIT_USAGE,
            _ => EXIT_DATA,
        };
        Self::new(code, format!("{error}{hint}"))
    }
}

/// The path as another process can use it, with any working directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    std::path::absolute(path).map_err(|error| {
        let message = format!(
            "cannot make the path `{}` absolute: {error}",
            path.display()
        );
        CommandError::new(EXIT_USAGE, message)
    })
}
