//! The phases of a job's life.

use std::sync::Arc;
use std::time::Duration;

use super::{Ending, Found};
use crate::runtime::JobError;
use crate::runtime::plan::Plan;
use floodmark_checkpoint::Depth;
use floodmark_state::stream::CheckpointId;

/// Where a job is in its life.
pub(super) enum Phase {
    /// Workers run.
    Running,
    /// Workers end. What they report no longer counts, but a checkpoint that is being written does.
    Stopping(StopCause),
    /// The storage is looked through.
    Recovering(Return),
    /// Checkpoints after the one to which the job goes are being deleted.
    Deleting(Return, Found),
    /// The delay after a failure.
    Waiting {
        /// When it ends.
        until: Duration,
        /// What follows.
        to: Return,
        /// From what; `None` if the storage could not be read, so that it is looked through again.
        found: Option<Found>,
    },
    /// Workers are being made.
    Starting(Return, Found),
    /// The output is brought to where this checkpoint says, and then the job is over.
    Closing(Option<CheckpointId>),
    /// The job is over.
    Over,
}

/// Why workers end.
pub(super) enum StopCause {
    /// The job is over.
    Ended(Ending),
    /// Something has failed.
    Failed(JobError),
    /// The operation under way is a rescale, whose checkpoint is durable.
    Rescale,
    /// The operation under way is a rollback.
    Rollback,
}

/// A job on its way to running.
pub(super) struct Return {
    pub(super) purpose: Purpose,
    /// The plan that counts from there on, if it is another.
    pub(super) plan: Option<Arc<Plan>>,
    /// The last failure on the way, if there was one.
    pub(super) failure: Option<JobError>,
    /// How closely the storage is looked through.
    pub(super) depth: Depth,
    /// Whether the failure is damage that showed when workers were made: there is nothing to wait for.
    pub(super) is_damage: bool,
}

/// What follows once the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The process has begun.
    Begin,
    /// The job resumes, and nothing follows.
    Resume,
    /// The operation under way is a rescale.
    Rescale,
    /// The operation under way is a rescale whose workers could not be made: the earlier ones are remade.
    UndoRescale,
    /// The operation under way is a rollback to this checkpoint.
    Rollback(CheckpointId),
    /// A swap to this checkpoint has failed its trial.
    UndoSwap(CheckpointId),
}

impl Return {
    pub(super) fn to(purpose: Purpose) -> Self {
        Self {
            purpose,
            plan: None,
            failure: None,
            depth: Depth::Quick,
            is_damage: false,
        }
    }

    pub(super) fn with(self, plan: Arc<Plan>) -> Self {
        Self {
            plan: Some(plan),
            ..self
        }
    }

    /// The same way again, after a failure.
    pub(super) fn after(self, error: JobError) -> Self {
        Self {
            depth: match error.is_of_stored_bytes() {
                true => Depth::Thorough,
                false => Depth::Quick,
            },
            failure: Some(error),
            is_damage: false,
            ..self
        }
    }
}
