//! The failure of a command: one message and an exit code by cause.

use std::process::ExitCode;

use super::terminal::warn;
use floodmark_checkpoint::store::StoreError;
use floodmark_engine::connector::ConnectorError;
use floodmark_engine::edge::data_dir::DataDirError;
use floodmark_engine::edge::pipeline_file::PipelineFileError;
use floodmark_engine::edge::replay_folder::ReplayFolderError;
use floodmark_engine::edge::swap::SwapRefusal;
use floodmark_engine::guest::GuestError;
use floodmark_engine::pipeline::Problems;
use floodmark_engine::runtime::JobError;
use floodmark_engine::{Cause, EngineError};

pub(super) const EXIT_FAILED: u8 = 1;
pub(super) const EXIT_USAGE: u8 = 2;
pub(super) const EXIT_PLUGIN: u8 = 3;
pub(super) const EXIT_DATA: u8 = 4;
pub(super) const EXIT_CONNECTOR: u8 = 5;
/// The user has ended the command before it was done.
pub(super) const EXIT_INTERRUPTED: u8 = 130;
/// `state get` has found no value, which is an answer and not a failure.
pub(super) const EXIT_NO_VALUE: u8 = 6;
/// The job was stopped as asked, but without a last checkpoint.
pub(super) const EXIT_NO_LAST_CHECKPOINT: u8 = 7;
/// `state migrate` has migrated what the plugin can migrate, and something is left.
pub(super) const EXIT_NOT_MIGRATED: u8 = 8;

/// A message for the user, and the exit code.
#[derive(Debug)]
pub struct CommandError {
    code: u8,
    message: String,
}

impl CommandError {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The same failure with another message.
    pub(super) fn reworded(mut self, reword: impl FnOnce(&str) -> String) -> Self {
        self.message = reword(&self.message);
        self
    }

    /// A closed pipe is not an error.
    pub(super) fn of_output(error: &std::io::Error) -> Result<(), Self> {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(Self::new(
                EXIT_FAILED,
                format!("cannot write the result: {error}"),
            )),
        }
    }

    pub(super) fn report(&self) -> ExitCode {
        warn(&format!("error: {}", self.message));
        ExitCode::from(self.code)
    }
}

impl From<EngineError> for CommandError {
    fn from(error: EngineError) -> Self {
        let code = match error.cause() {
            Cause::Failed => EXIT_FAILED,
            Cause::Usage => EXIT_USAGE,
            Cause::Plugin => EXIT_PLUGIN,
            Cause::Data => EXIT_DATA,
            Cause::Connector => EXIT_CONNECTOR,
            Cause::Interrupted => EXIT_NO_LAST_CHECKPOINT,
        };
        Self::new(code, error.to_string())
    }
}

/// Errors of the engine's parts have the cause that the engine gives them.
macro_rules! as_the_engine {
    ($($error:ty),+) => {
        $(impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                EngineError::from(error).into()
            }
        })+
    };
}

as_the_engine!(
    Problems,
    PipelineFileError,
    DataDirError,
    ReplayFolderError,
    GuestError,
    SwapRefusal,
    StoreError,
    (&str, ConnectorError),
    JobError
);
