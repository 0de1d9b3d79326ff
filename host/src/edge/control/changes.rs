//! Changes of a running job that a client asks for and waits for: another number of tasks, and a permanent rollback.
//!
//! ```text
//! rescale   {"from":1,"to":3,"checkpoint":7,"pause-us":5210}
//! rollback  {"to":3,"deleted":[4,5],"records-in":1000,"checkpoint":6,"says":["…"]}
//! ```
//!
//! Slow work, such as reading a checkpoint and compiling its plugins, is done here, on the thread that handles the request,
//! before the job hears of it.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::rolled_back::RolledBackNote;
use super::job::JobSide;
use super::routes::{HandlerPace, HttpRefusal, HttpRequest, Method, Routes};
use crate::crash::{self, Point};
use crate::job::{Request, RollbackRequest};
use crate::runtime::plan::Operator;
use crate::stream::CheckpointId;

/// A rollback that can be done.
pub struct PreparedRollback {
    /// What runs from there, by node.
    pub operators: Vec<(String, Operator)>,
    /// For the data folder.
    pub note: RolledBackNote,
    /// What is to be told of it.
    pub says: Vec<String>,
}

/// Reads a checkpoint whole and loads what it names, or says why the job cannot go back to it.
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

/// Adds what is here to what a job can be asked.
#[must_use]
pub fn with(routes: Routes, side: &JobSide, rollbacks: Rollbacks) -> Routes {
    let (rescaled, rolled_back) = (side.clone(), side.clone());
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
            move |call| roll_back(&rolled_back, &rollbacks, call),
        )
}

/// Tells the job to continue with another number of tasks per node; returns when a checkpoint with that number is durable.
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

/// Tells the job to go back permanently to a checkpoint; returns when it runs from there and its next checkpoint is durable.
fn roll_back(
    side: &JobSide,
    rollbacks: &Rollbacks,
    call: &HttpRequest,
) -> Result<Value, HttpRefusal> {
    let RollbackWish { to } = call.json()?;
    let to = CheckpointId(to);
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
