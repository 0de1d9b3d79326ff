//! How other processes talk with a running job: a socket in its data folder, one line of JSON in, one line out.
//!
//! ```text
//! {"do":"checkpoint"}                          {"checkpoint":7}
//! {"do":"checkpoint","savepoint":"/a/b"}       {"error":"…"}
//! {"do":"stop","drain":true}
//! {"do":"rescale","parallelism":3}            {"done":{…}}, see `changes`
//! {"do":"rollback","to":3}
//! ```
//!
//! This file has what is said, and the side that asks; `serve` has the side that answers. A socket's path may have about a
//! hundred bytes, and a data folder's may be longer, so long ones are reached through the folder's descriptor. What is
//! asked is decided by the conductor; the socket is only for whoever may write into the folder.

pub mod changes;
mod serve;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use serve::{Listening, Savepoints, listen};

use crate::stream::CheckpointId;

/// The name of the socket in a data folder.
pub const FILE_NAME: &str = "control.sock";
/// Bytes of a path that a socket surely takes.
const PATH_BYTES_MAX: usize = 100;
/// Bytes of a line.
const LINE_BYTES_MAX: u64 = 16 << 10;
/// How long whoever asks may take to do so, and whoever listens to take the answer.
const TALK_MAX: Duration = Duration::from_secs(5);

/// What a running job can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Take a checkpoint now.
    Checkpoint {
        /// Where to copy it to: an absolute path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        savepoint: Option<PathBuf>,
    },
    /// Stop with a checkpoint.
    Stop {
        /// As if the input had ended.
        #[serde(default)]
        drain: bool,
        /// Where to copy the last checkpoint to: an absolute path.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        savepoint: Option<PathBuf>,
    },
    /// Go on with another number of tasks per node.
    Rescale {
        /// How many.
        parallelism: u16,
    },
    /// Go back to a checkpoint for good.
    Rollback {
        /// Which.
        to: u64,
    },
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// It is done, with this checkpoint.
    Checkpoint(u64),
    /// It is done, in this way.
    Done(serde_json::Value),
    /// It is not, or not wholly.
    Error(String),
}

/// Why an answer is not the one that was wished for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens.
    #[error("no job runs on the data folder `{}`", folder.display())]
    NotRunning {
        /// The folder.
        folder: PathBuf,
    },
    /// The system refused.
    #[error("cannot talk with the job on `{}`: {source}", folder.display())]
    Io {
        /// The folder.
        folder: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The job said no.
    #[error("{0}")]
    Refused(String),
    /// The job ended without an answer, or gave none that can be read.
    #[error(
        "the job on `{}` gave no answer, so whether it did what it was asked is unknown; look with `floodmark checkpoint list`",
        folder.display()
    )]
    Silent {
        /// The folder.
        folder: PathBuf,
    },
}

/// Asks the job that runs on a data folder for something that ends with a checkpoint, and waits for as long as it takes.
///
/// # Errors
/// See [`AskError`]. After [`AskError::NotRunning`] nothing was asked.
pub fn ask(folder: &Path, request: &Request) -> Result<CheckpointId, AskError> {
    match call(folder, request)? {
        Response::Checkpoint(id) => Ok(CheckpointId(id)),
        Response::Error(reason) => Err(AskError::Refused(reason)),
        Response::Done(_) => Err(AskError::Silent {
            folder: folder.to_path_buf(),
        }),
    }
}

/// Asks for a change.
///
/// # Errors
/// Those of [`ask`].
pub fn change(folder: &Path, request: &Request) -> Result<serde_json::Value, AskError> {
    match call(folder, request)? {
        Response::Done(value) => Ok(value),
        Response::Error(reason) => Err(AskError::Refused(reason)),
        Response::Checkpoint(_) => Err(AskError::Silent {
            folder: folder.to_path_buf(),
        }),
    }
}

fn call(folder: &Path, request: &Request) -> Result<Response, AskError> {
    let io = |source| AskError::Io {
        folder: folder.to_path_buf(),
        source,
    };
    let mut stream =
        reach(folder, |path| UnixStream::connect(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning {
                folder: folder.to_path_buf(),
            },
            _ => io(error),
        })?;
    stream.set_write_timeout(Some(TALK_MAX)).map_err(io)?;
    let mut line = serde_json::to_string(request).map_err(|error| io(error.into()))?;
    line.push('\n');
    stream.write_all(line.as_bytes()).map_err(io)?;
    let mut answer = String::new();
    let read = stream.take(LINE_BYTES_MAX).read_to_string(&mut answer);
    match read.map(|_| serde_json::from_str(&answer)) {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) | Err(_) => Err(AskError::Silent {
            folder: folder.to_path_buf(),
        }),
    }
}

/// Calls with a path of the socket that is short enough.
fn reach<T>(folder: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    reach_as(folder, FILE_NAME, call)
}

fn reach_as<T>(
    folder: &Path,
    name: &str,
    call: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let path = folder.join(name);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return call(&path);
    }
    let opened = File::open(folder)?;
    let short = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
    call(Path::new(&short))
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
