//! The routes that change a running job and wait for the result: rescale, and permanent rollback.
//!
//! ```text
//! rescale   {"from":1,"to":3,"checkpoint":7,"pause-us":5210}
//! rollback  {"to":3,"deleted":[4,5],"records-in":1000,"checkpoint":6,"says":["…"]}
//! ```
//!
//! Slow work, such as reading a checkpoint and compiling its plugins, is done on the thread that handles the request,
//! before the job is notified.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::rolled_back::RolledBackNote;
use super::job::JobSide;
use super::routes::{HandlerPace, HttpRefusal, HttpRequest, Method, Routes};
use crate::crash::{self, Point};
use crate::job::{Request, RollbackRequest};
use crate::runtime::plan::Operator;
use crate::stream::CheckpointId;

/// A rollback that was checked and can be done.
pub struct PreparedRollback {
    /// The operators that run after it, by node.
    pub operators: Vec<(String, Operator)>,
    /// The note for the data folder.
    pub note: RolledBackNote,
    /// Lines about it for the user.
    pub says: Vec<String>,
}

/// Reads a whole checkpoint and loads its plugins; or returns the reason why the job cannot return to it.
pub type Rollbacks = Arc<dyn Fn(CheckpointId) -> Result<PreparedRollback, String> + Send + Sync>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RescaleWish {
    parallelism: u16,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackWish {
    to: u64,
}

/// Adds the routes of this module.
#[must_use]
pub fn with(routes: Routes, side: &JobSide, rollbacks: Rollbacks) -> Routes {
    let (rescaled, rolled_back) = (side.clone(), side.clone());
    let preparing = Mutex::new(());
    routes
        .with_json(
            (Method::Post, "/v1/rescale"),
            "continues with another `parallelism`, in the same process",
            HandlerPace::Waits,
            move |call| rescale(&rescaled, call),
        )
        .with_json(
            (Method::Post, "/v1/rollback"),
            "goes back permanently to the checkpoint `to`, with the plugins as of that checkpoint",
            HandlerPace::Waits,
            move |call| roll_back(&rolled_back, (&rollbacks, &preparing), call),
        )
}

/// Tells the job to change the number of tasks per node; returns when a checkpoint with that number is durable.
fn rescale(side: &JobSide, call: &HttpRequest) -> Result<Value, HttpRefusal> {
    let RescaleWish { parallelism } = call.json()?;
    crash::point(Point::RescaleAsked);
    let rescaled = side.ask(|caller| Request::Rescale {
        parallelism,
        caller,
    })?;
    Ok(json!({
        "from": rescaled.from,
        "to": rescaled.to,
        "checkpoint": rescaled.checkpoint.0,
        "pause-us": u64::try_from(rescaled.pause.as_micros()).unwrap_or(u64::MAX),
    }))
}

/// Tells the job to return permanently to a checkpoint; returns when it has resumed and its next checkpoint is durable.
fn roll_back(
    side: &JobSide,
    (rollbacks, preparing): (&Rollbacks, &Mutex<()>),
    call: &HttpRequest,
) -> Result<Value, HttpRefusal> {
    let RollbackWish { to } = call.json()?;
    let to = CheckpointId(to);
    // One at a time also while it is prepared: its note in the data folder must be that of the one which is carried out.
    let Ok(_alone) = preparing.try_lock() else {
        let reason = "the job is being rolled back already; ask again once it is done";
        return Err(HttpRefusal::conflict(reason.to_owned()));
    };
    let prepared = rollbacks(to).map_err(HttpRefusal::conflict)?;
    // If the process dies after the rollback and before the next checkpoint, it restarts with the plugins as of `to`.
    prepared.note.write(&side.folder).map_err(|error| {
        let folder = side.folder.display();
        HttpRefusal::failed(format!(
            "cannot write into `{folder}`: {error}; nothing has changed"
        ))
    })?;
    let operators = prepared.operators;
    let back = side.ask(|caller| {
        Request::Rollback(Box::new(RollbackRequest {
            to,
            operators,
            caller,
        }))
    })?;
    let deleted: Vec<_> = back.deleted.iter().map(|id| id.0).collect();
    Ok(json!({
        "to": back.to.0,
        "deleted": deleted,
        "records-in": back.records_in,
        "checkpoint": back.checkpoint.0,
        "says": prepared.says,
    }))
}
