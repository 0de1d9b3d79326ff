//! The routes that change a running job and wait for the result: rescale, permanent rollback, and the end of a delay
//! after a failure.
//!
//! ```text
//! rescale   {"from":1,"to":3,"checkpoint":7,"pause-us":5210}
//! rollback  {"to":3,"deleted":[4,5],"records-in":1000,"checkpoint":6,"says":["…"]}
//! retry     {"checkpoint":7,"reason":"…"}
//! ```
//!
//! Slow work, such as reading a checkpoint and compiling its plugins, is done on the thread that handles the request,
//! before the job is notified.

use serde::Deserialize;
use serde_json::{Value, json};

use super::job::JobSide;
use super::routes::{HandlerPace, HttpRefusal, HttpRequest, Method, Routes};
use floodmark_checkpoint::crash::{self, Point};
use floodmark_engine::edge::rollback::{RollbackRefusal, Rollbacks};
use floodmark_engine::job::Request;
use floodmark_state::stream::CheckpointId;

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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryWish {}

/// Adds the routes of this module.
#[must_use]
pub fn with(routes: Routes, side: &JobSide, rollbacks: Rollbacks) -> Routes {
    let (rescaled, retried) = (side.clone(), side.clone());
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
            move |call| roll_back(&rollbacks, call),
        )
        .with_json(
            (Method::Post, "/v1/retry"),
            "ends the delay after a failure; earlier failures no longer count",
            HandlerPace::Waits,
            move |call| retry(&retried, call),
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

/// Tells a job that waits after a failure to restart now; returns at once.
fn retry(side: &JobSide, call: &HttpRequest) -> Result<Value, HttpRefusal> {
    let RetryWish {} = call.json()?;
    let retried = side.ask(Request::Retry)?;
    Ok(json!({
        "checkpoint": retried.from.map(|id| id.0),
        "reason": retried.reason,
    }))
}

impl From<RollbackRefusal> for HttpRefusal {
    fn from(refusal: RollbackRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            RollbackRefusal::UnderWay | RollbackRefusal::Checkpoint(_) => Self::conflict(message),
            RollbackRefusal::Job(refusal) => refusal.into(),
            _ => Self::failed(message),
        }
    }
}

/// Tells the job to return permanently to a checkpoint; returns when it has resumed and its next checkpoint is durable.
fn roll_back(rollbacks: &Rollbacks, call: &HttpRequest) -> Result<Value, HttpRefusal> {
    let RollbackWish { to } = call.json()?;
    let (back, says) = rollbacks.roll_back(CheckpointId(to))?;
    let deleted: Vec<_> = back.deleted.iter().map(|id| id.0).collect();
    Ok(json!({
        "to": back.to.0,
        "deleted": deleted,
        "records-in": back.records_in,
        "checkpoint": back.checkpoint.0,
        "says": says,
    }))
}
