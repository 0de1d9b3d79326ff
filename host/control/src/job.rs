//! The routes of every job: status, checkpoints and stop.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserialize;
use serde_json::{Value, json};

use super::routes::{HandlerPace, HttpRefusal, HttpReply, HttpRequest, Method, Route, Routes};
use floodmark_checkpoint::store::{StoreError, savepoint};
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::drive::{Inputs, ask};
use floodmark_engine::job::{Caller, Refusal, Request};
use floodmark_engine::observe::Observer;
use floodmark_state::stream::CheckpointId;

/// The folder in a data folder for savepoints that are given by name instead of path.
pub const SAVEPOINTS: &str = "savepoints";
/// Longest name of a savepoint, in characters.
const NAME_MAX: usize = 128;

/// Copies a checkpoint to a file.
pub type Savepoints = Arc<dyn Fn(CheckpointId, &Path) -> Result<(), SavepointError> + Send + Sync>;

/// The reason why a checkpoint was not copied to a savepoint. The checkpoint itself is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavepointError {
    /// The job has ended, so its checkpoints are closed.
    #[error("the job is over")]
    JobOver,
    /// The checkpoint cannot be read, or the file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A handle to a running job.
#[derive(Clone)]
pub struct JobSide {
    /// Sends requests to the job.
    pub inputs: Inputs,
    /// The job's status and metrics.
    pub observer: Arc<Observer>,
    /// The job's clock.
    pub clock: Clock,
    /// Copies its checkpoints to files.
    pub savepoints: Savepoints,
    /// Its data folder.
    pub folder: PathBuf,
    /// Whether a stop request was answered with a savepoint.
    pub stopped_with_savepoint: Arc<AtomicBool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointWish {
    #[serde(default)]
    savepoint: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StopWish {
    #[serde(default)]
    drain: bool,
    #[serde(default)]
    savepoint: Option<String>,
}

/// The routes for status, metrics, checkpoints and stop.
#[must_use]
pub fn routes(side: &JobSide) -> Routes {
    let (status, checkpoints, metrics) = (side.clone(), side.clone(), side.clone());
    let (checkpoint, stop) = (side.clone(), side.clone());
    let metrics = Route {
        method: Method::Get,
        path: "/metrics",
        about: "all numbers, as text for Prometheus",
        pace: HandlerPace::AtOnce,
        gone: None,
        handler: Arc::new(move |_| {
            let text = metrics.observer.prometheus(metrics.clock.wall_ms());
            Ok(HttpReply::Metrics(text))
        }),
    };
    Routes::default()
        .with_json(
            (Method::Get, "/v1/status"),
            "the job, its nodes and their numbers",
            HandlerPace::AtOnce,
            move |_| {
                let clock = status.clock;
                Ok(status.observer.status(clock.now(), clock.wall_ms()))
            },
        )
        .with_json(
            (Method::Get, "/v1/checkpoints"),
            "the history of checkpoints since the process began",
            HandlerPace::AtOnce,
            move |_| Ok(checkpoints.observer.checkpoints()),
        )
        .with_json(
            (Method::Post, "/v1/checkpoints"),
            "takes a checkpoint now; `savepoint` is where to copy it",
            HandlerPace::Waits,
            move |call| checkpoint.take_checkpoint(call),
        )
        .with_json(
            (Method::Post, "/v1/stop"),
            "stops the job with a checkpoint; `drain` ends its input first, `savepoint` is where to copy the checkpoint",
            HandlerPace::WaitsAlways,
            move |call| stop.stop(call),
        )
        .with(metrics)
}

impl From<Refusal> for HttpRefusal {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Ended | Refusal::Over { .. } => Self::new(409, "job-ended", message),
            Refusal::NotWaiting => Self::conflict(message),
            Refusal::ParallelismOutOfRange { .. } => Self::bad_request(message),
            _ => Self::failed(message),
        }
    }
}

/// Refuses a path that cannot be written, before a checkpoint is taken for it or the job stops.
fn check_target(path: &Path) -> Result<(), HttpRefusal> {
    savepoint::check_target(path).map_err(|error| HttpRefusal::conflict(error.to_string()))
}

impl JobSide {
    fn take_checkpoint(&self, call: &HttpRequest) -> Result<Value, HttpRefusal> {
        let wish: CheckpointWish = call.json()?;
        let to = self.savepoint_path(call, wish.savepoint)?;
        let id = self.ask(Request::Checkpoint)?;
        self.copy(id, to.as_deref())?;
        Ok(json!({ "id": id.0, "status": "COMPLETED", "savepoint": to }))
    }

    fn stop(&self, call: &HttpRequest) -> Result<Value, HttpRefusal> {
        let StopWish { drain, savepoint } = call.json()?;
        let to = self.savepoint_path(call, savepoint)?;
        let id = self.ask(|caller| Request::Stop {
            drain,
            caller: Some(caller),
        })?;
        self.copy(id, to.as_deref())?;
        if to.is_some() {
            self.stopped_with_savepoint.store(true, Ordering::Relaxed);
        }
        Ok(json!({ "id": id.0, "status": "COMPLETED", "drained": drain, "savepoint": to }))
    }

    /// Sends a request to the job and waits for its answer.
    ///
    /// # Errors
    /// When the job refuses, or ends before it has answered.
    pub fn ask<T>(&self, wish: impl FnOnce(Caller<T>) -> Request) -> Result<T, HttpRefusal> {
        Ok(ask(&self.inputs, wish)?)
    }

    fn copy(&self, id: CheckpointId, to: Option<&Path>) -> Result<(), HttpRefusal> {
        let Some(to) = to else {
            return Ok(());
        };
        (self.savepoints)(id, to).map_err(|error| {
            let message =
                format!("checkpoint {id} was taken, but the savepoint was not written: {error}");
            HttpRefusal::new(500, "savepoint-failed", message)
        })?;
        self.observer.savepoint(id.0, &to.display().to_string());
        Ok(())
    }

    /// The path of a savepoint. Clients of the socket may give any path: they can already write to this machine as the
    /// job's user. Clients of TCP give a name, and the job chooses the folder.
    fn savepoint_path(
        &self,
        call: &HttpRequest,
        wish: Option<String>,
    ) -> Result<Option<PathBuf>, HttpRefusal> {
        let Some(wish) = wish else {
            return Ok(None);
        };
        let path = Path::new(&wish);
        if path.is_absolute() && call.is_local {
            check_target(path)?;
            return Ok(Some(path.to_path_buf()));
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=NAME_MAX).contains(&wish.len())
            && wish.bytes().all(is_plain)
            && !wish.starts_with('.');
        if !is_name {
            let message = match call.is_local {
                true => {
                    "a savepoint is an absolute path, or a name of letters, digits, `.`, `_` and `-`"
                }
                false => {
                    "over TCP a savepoint is a name of letters, digits, `.`, `_` and `-`, not a path: it goes to `savepoints` in the data folder"
                }
            };
            return Err(HttpRefusal::new(400, "bad-savepoint", message));
        }
        let folder = self.folder.join(SAVEPOINTS);
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(|error| {
            HttpRefusal::failed(format!("cannot make `{}`: {error}", folder.display()))
        })?;
        let path = folder.join(wish);
        check_target(&path)?;
        Ok(Some(path))
    }
}
