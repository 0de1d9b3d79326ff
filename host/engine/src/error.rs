//! Errors of the engine: one message for people, and a cause.

use crate::connector::ConnectorError;
use crate::edge::data_dir::DataDirError;
use crate::edge::pipeline_file::PipelineFileError;
use crate::edge::rollback::RollbackRefusal;
use crate::edge::swap::SwapRefusal;
use crate::guest::GuestError;
use crate::job::Refusal;
use crate::pipeline::Problems;
use crate::runtime::JobError;
use floodmark_checkpoint::store::StoreError;

/// The cause of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The pipeline, a setting or an argument is invalid.
    Usage,
    /// A plugin cannot be built, loaded or started.
    Plugin,
    /// The data folder, the storage of checkpoints or the saved state cannot be used.
    Data,
    /// A source or sink cannot be used.
    Connector,
    /// The job has failed, or refused a request.
    Failed,
    /// The job was stopped as asked, but without a last checkpoint: a plugin did not return in time.
    Interrupted,
}

/// The reason why the engine failed. Displays what happened, why, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    cause: Cause,
    message: String,
    /// Whether the reader of the job's output closed it, which ends the job without an error.
    is_closed_pipe: bool,
}

impl EngineError {
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            is_closed_pipe: false,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Cause::Usage, message)
    }

    pub(crate) fn plugin(message: impl Into<String>) -> Self {
        Self::new(Cause::Plugin, message)
    }

    pub(crate) fn data(message: impl Into<String>) -> Self {
        Self::new(Cause::Data, message)
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Cause::Failed, message)
    }

    /// For a request to a job that has ended.
    pub(crate) fn over() -> Self {
        Self::failed("the job is over; `stop` or `wait` tells how it ended")
    }

    /// The kind of failure, which decides the exit code of the command.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// Whether the reader of the job's output, such as `head`, closed it: the last checkpoint is kept.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        self.is_closed_pipe
    }
}

impl From<Problems> for EngineError {
    fn from(problems: Problems) -> Self {
        Self::usage(problems.to_string())
    }
}

impl From<PipelineFileError> for EngineError {
    fn from(error: PipelineFileError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<DataDirError> for EngineError {
    fn from(error: DataDirError) -> Self {
        Self::data(error.to_string())
    }
}

impl From<GuestError> for EngineError {
    fn from(error: GuestError) -> Self {
        let cause = match &error {
            error if error.is_interruption() => Cause::Interrupted,
            error if error.is_of_a_call() => Cause::Failed,
            _ => Cause::Plugin,
        };
        Self::new(cause, error.to_string())
    }
}

impl From<Refusal> for EngineError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ended | Refusal::Over { .. } => Self::over(),
            refusal => Self::failed(refusal.to_string()),
        }
    }
}

impl From<SwapRefusal> for EngineError {
    fn from(refusal: SwapRefusal) -> Self {
        let cause = match &refusal {
            refusal if refusal.is_of_plugin() => Cause::Plugin,
            refusal if refusal.is_of_request() => Cause::Usage,
            _ => Cause::Failed,
        };
        Self::new(cause, refusal.to_string())
    }
}

impl From<RollbackRefusal> for EngineError {
    fn from(refusal: RollbackRefusal) -> Self {
        match refusal {
            RollbackRefusal::Job(refusal) => refusal.into(),
            RollbackRefusal::Folder { .. } => Self::data(refusal.to_string()),
            RollbackRefusal::UnderWay | RollbackRefusal::Checkpoint(_) => {
                Self::failed(refusal.to_string())
            }
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::data(error.to_string())
    }
}

impl From<(&str, ConnectorError)> for EngineError {
    fn from((node, error): (&str, ConnectorError)) -> Self {
        Self::new(Cause::Connector, format!("`{node}`: {error}"))
    }
}

impl From<JobError> for EngineError {
    fn from(error: JobError) -> Self {
        let cause = match &error {
            error if error.is_interruption() => Cause::Interrupted,
            JobError::Guest(error) if error.is_of_a_call() => Cause::Failed,
            JobError::Guest(_) => Cause::Plugin,
            JobError::Connector { .. }
            | JobError::BadRecord { .. }
            | JobError::NotVisible { .. }
            | JobError::Unsynced { .. } => Cause::Connector,
            JobError::Store(_)
            | JobError::State { .. }
            | JobError::Scratch { .. }
            | JobError::Chunks { .. }
            | JobError::Tree { .. }
            | JobError::MaxParallelism { .. }
            | JobError::LastCheckpoint { .. }
            | JobError::TooManyFailures { .. } => Cause::Data,
            JobError::NoSuchOperator { .. } => Cause::Usage,
            JobError::Interrupted { .. } => Cause::Interrupted,
            JobError::NotSwapped { .. }
            | JobError::NotMigrated { .. }
            | JobError::Record { .. }
            | JobError::Defect { .. } => Cause::Failed,
        };
        Self {
            cause,
            message: error.to_string(),
            is_closed_pipe: error.is_closed_pipe(),
        }
    }
}
