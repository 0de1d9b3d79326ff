//! How a command ends that could not do what it was asked: one message, and an exit code by cause.

use std::io::Write;
use std::process::ExitCode;

use crate::checkpoint::store::StoreError;
use crate::connector::ConnectorError;
use crate::guest::GuestError;
use crate::pipeline::Problems;
use crate::runtime::JobError;

pub(super) const EXIT_FAILED: u8 = 1;
pub(super) const EXIT_USAGE: u8 = 2;
pub(super) const EXIT_PLUGIN: u8 = 3;
pub(super) const EXIT_DATA: u8 = 4;
pub(super) const EXIT_CONNECTOR: u8 = 5;

/// Why a command did not do what it was asked, for people.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(super) fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
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
        // A closed standard error is ignored: there is no other place to report to.
        let _ = writeln!(std::io::stderr(), "error: {}", self.message);
        ExitCode::from(self.code)
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::new(EXIT_USAGE, problems.to_string())
    }
}

impl From<GuestError> for Failure {
    fn from(error: GuestError) -> Self {
        let code = match &error {
            error if error.is_of_a_call() => EXIT_FAILED,
            _ => EXIT_PLUGIN,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(EXIT_DATA, error.to_string())
    }
}

impl From<(&str, ConnectorError)> for Failure {
    fn from((node, error): (&str, ConnectorError)) -> Self {
        Self::new(EXIT_CONNECTOR, format!("`{node}`: {error}"))
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let code = match error {
            JobError::Guest(error) => return error.into(),
            JobError::Store(error) => return error.into(),
            JobError::Connector { .. } => EXIT_CONNECTOR,
            JobError::State { .. }
            | JobError::Scratch { .. }
            | JobError::Chunks { .. }
            | JobError::Tree { .. }
            | JobError::MaxParallelism { .. }
            | JobError::LastCheckpoint { .. }
            | JobError::TooManyFailures { .. } => EXIT_DATA,
            JobError::NoSuchOperator { .. } => EXIT_USAGE,
            JobError::NotSwapped { .. } | JobError::Record { .. } | JobError::Defect { .. } => {
                EXIT_FAILED
            }
        };
        Self::new(code, error.to_string())
    }
}
