//! Changes of a running job that somebody asks for and waits for: another number of tasks, and to go back for good.
//!
//! ```text
//! rescale   {"from":1,"to":3,"checkpoint":7,"pause-us":5210}
//! rollback  {"to":3,"deleted":[4,5],"records-in":1000,"checkpoint":6,"says":["…"]}
//! ```
//!
//! What takes long, such as reading a checkpoint and compiling its plugins, happens here, on the thread of whoever asks, before
//! the job hears anything.

use std::path::Path;
use std::sync::{Arc, mpsc};

use serde_json::{Value, json};

use super::super::drive::Reports;
use super::super::rolled_back::RolledBackNote;
use crate::crash::{self, Point};
use crate::runtime::plan::Operator;
use crate::runtime::report::{Answer, Asker, Report, RollbackOrder};
use crate::stream::CheckpointId;

/// A rollback that can be done.
pub struct Prepared {
    /// What runs from there, by node.
    pub operators: Vec<(String, Operator)>,
    /// For the data folder.
    pub note: RolledBackNote,
    /// What is to be told of it.
    pub says: Vec<String>,
}

/// Reads a checkpoint whole and loads what it names, or says why the job cannot go back to it.
pub type Rollbacks = Arc<dyn Fn(CheckpointId) -> Result<Prepared, String> + Send + Sync>;

/// Has the job go on with another number of tasks per node; returns when a checkpoint says so.
///
/// # Errors
/// When the job did not, or could not make that durable: the message says which.
pub fn rescale(reports: &Reports, parallelism: u16) -> Result<Value, String> {
    crash::point(Point::RescaleAsked);
    let rescaled = ask(reports, |asker| Report::RescaleAsked { parallelism, asker })?;
    Ok(json!({
        "from": rescaled.from,
        "to": rescaled.to,
        "checkpoint": rescaled.checkpoint.0,
        "pause-us": u64::try_from(rescaled.pause.as_micros()).unwrap_or(u64::MAX),
    }))
}

/// Has the job go back to a checkpoint for good; returns when it runs from there and a checkpoint says so.
///
/// # Errors
/// When the job did not: nothing has changed unless the message says so.
pub fn roll_back(
    reports: &Reports,
    rollbacks: &Rollbacks,
    folder: &Path,
    to: CheckpointId,
) -> Result<Value, String> {
    let prepared = rollbacks(to)?;
    // Whoever dies between here and the next checkpoint comes back with the plugins of that time.
    prepared.note.write(folder).map_err(|error| {
        format!(
            "cannot write into `{}`: {error}; nothing has changed",
            folder.display()
        )
    })?;
    let operators = prepared.operators;
    let back = ask(reports, |asker| {
        Report::RollbackAsked(Box::new(RollbackOrder {
            to,
            operators,
            asker,
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

/// Reports a wish to the job, and waits for what becomes of it.
fn ask<T>(reports: &Reports, wish: impl FnOnce(Asker<T>) -> Report) -> Result<T, String> {
    let (asker, answer): (_, mpsc::Receiver<Answer<T>>) = Asker::new();
    // A job that is over takes no report, and drops whoever asks.
    let _ = reports.send(wish(asker));
    answer.recv().unwrap_or_else(|_| {
        Err("the job ended before it could do that; its last checkpoint is kept".to_owned())
    })
}
