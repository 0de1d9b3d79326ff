//! Carries out rollbacks that clients of a running job request: reads the checkpoint and loads its plugins, notes the
//! rollback in the data folder, and waits until the job runs from there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::drive::{Inputs, ask};
use super::rolled_back::RolledBackNote;
use crate::job::{Request, RollbackRequest, RolledBack};
use crate::runtime::plan::Operator;
use floodmark_state::stream::CheckpointId;

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
pub type PrepareRollback =
    Arc<dyn Fn(CheckpointId) -> Result<PreparedRollback, String> + Send + Sync>;

/// Why a job was not rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RollbackRefusal {
    /// It cannot return to that checkpoint, or is being rolled back already. Nothing has changed.
    Conflict(String),
    /// The note cannot be written. Nothing has changed.
    Folder(String),
    /// The answer of the job.
    Job(String),
    /// The job has ended.
    Ended,
}

/// Rolls back one running job, for clients on any thread.
pub struct Rollbacks {
    inputs: Inputs,
    folder: PathBuf,
    prepare: PrepareRollback,
    /// Held from preparing to the answer: the note in the data folder must be that of the rollback which is carried out.
    one_at_a_time: Mutex<()>,
}

impl Rollbacks {
    /// Rollbacks of the job that takes these inputs and has this data folder.
    #[must_use]
    pub fn new(inputs: Inputs, folder: PathBuf, prepare: PrepareRollback) -> Self {
        Self {
            inputs,
            folder,
            prepare,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Returns the job permanently to a checkpoint. Returns when it has resumed and its next checkpoint is durable, with
    /// lines for the user.
    ///
    /// # Errors
    /// When it cannot be done, see [`RollbackRefusal`].
    pub fn roll_back(
        &self,
        to: CheckpointId,
    ) -> Result<(RolledBack, Vec<String>), RollbackRefusal> {
        let Ok(_alone) = self.one_at_a_time.try_lock() else {
            let reason = "the job is being rolled back already; ask again once it is done";
            return Err(RollbackRefusal::Conflict(reason.to_owned()));
        };
        let prepared = (self.prepare)(to).map_err(RollbackRefusal::Conflict)?;
        // If the process dies after the rollback and before the next checkpoint, it restarts with the plugins as of `to`.
        prepared.note.write(&self.folder).map_err(|error| {
            let folder = self.folder.display();
            RollbackRefusal::Folder(format!(
                "cannot write into `{folder}`: {error}; nothing has changed"
            ))
        })?;
        let operators = prepared.operators;
        let answer = ask(&self.inputs, |caller| {
            Request::Rollback(Box::new(RollbackRequest {
                to,
                operators,
                caller,
            }))
        });
        match answer {
            Some(Ok(back)) => Ok((back, prepared.says)),
            Some(Err(reason)) => Err(RollbackRefusal::Job(reason)),
            None => Err(RollbackRefusal::Ended),
        }
    }
}
