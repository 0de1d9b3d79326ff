//! The interface to a running job: HTTP/1.1 with JSON, on a socket in its data folder and, with `run --listen`, on TCP.
//!
//! ```text
//! GET  /v1                                     lists the routes
//! GET  /v1/status                              the job, its nodes and their metrics
//! GET  /v1/checkpoints                         recent checkpoints and their results
//! POST /v1/checkpoints  {"savepoint": path}    takes a checkpoint now
//! POST /v1/stop         {"drain": bool, "savepoint": path}
//! POST /v1/rescale      {"parallelism": 3}      changes the number of tasks per node
//! POST /v1/rollback     {"to": 3}               returns to a checkpoint permanently
//! POST /v1/retry                               ends the delay after a failure
//! POST /v1/swap         {"operators": [..]}     replaces plugins; GET shows what it does, /v1/swap/cancel cancels it
//! POST /v1/state/migrate {"operator": "count"}  migrates at full speed for seconds
//! GET  /metrics                                metrics for Prometheus
//! ```
//!
//! Answers are JSON; a refusal is `{"error":{"code","message"}}` with a matching status. [`routes`] defines the table
//! of routes, [`job`] has the routes of every job, and `client` is the calling side. Only users who may write to the
//! folder can use the socket; `address` and `guard` decide who may use TCP. A socket's path is limited to about a
//! hundred bytes. A data folder's path may be longer, so such sockets are opened through the folder's descriptor.
//! Requests to a job are `job::Request`s, and the job decides on them.

pub mod routes;

pub mod changes;
pub mod job;
pub mod migrate;
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

pub use client::{AskError, ask, ask_while};
pub use serve::{Doors, Serving};

/// The name of the socket in a data folder.
pub const FILE_NAME: &str = "control.sock";
/// Longest path in bytes that every system accepts for a socket.
const PATH_BYTES_MAX: usize = 100;

/// Calls `call` with a path of a file in the folder that is short enough for a socket.
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
