//! How a running job is talked with: HTTP/1.1 with JSON, on a socket in its data folder and, if `run` is told to, on TCP.
//!
//! ```text
//! GET  /v1                                     what there is
//! GET  /v1/status                              the job, its nodes and their numbers
//! GET  /v1/checkpoints                         what became of checkpoints
//! POST /v1/checkpoints  {"savepoint": path}    takes one now
//! POST /v1/stop         {"drain": bool, "savepoint": path}
//! POST /v1/rescale      {"parallelism": 3}      another number of tasks per node
//! POST /v1/rollback     {"to": 3}               goes back to a checkpoint permanently
//! GET  /metrics                                for Prometheus
//! ```
//!
//! Answers are JSON; a refusal is `{"error":{"code","message"}}` with a matching status. [`routes`] defines routes, [`job`]
//! has those of every job, and `client` is the calling side. The socket is only for users who may write into the folder;
//! `address` and `guard` say who may use TCP. A socket's path may have about a hundred bytes, and a data folder's may be
//! longer, so long ones are reached through the folder's descriptor. Nothing is decided here: requests to a job are `job::Request`s.

pub mod routes;

pub mod changes;
pub mod job;
pub mod swap;

pub mod address;
mod connection;
mod guard;
mod serve;

pub mod client;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

pub use client::{AskError, ask};
pub use serve::{Doors, Serving};

/// The name of the socket in a data folder.
pub const FILE_NAME: &str = "control.sock";
/// Bytes of a path that a socket surely takes.
const PATH_BYTES_MAX: usize = 100;

/// Calls with a path of a file in the folder that is short enough for a socket.
fn reach<T>(folder: &Path, name: &str, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = folder.join(name);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return call(&path);
    }
    let opened = File::open(folder)?;
    let short = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
    call(Path::new(&short))
}

#[cfg(test)]
mod tests;
