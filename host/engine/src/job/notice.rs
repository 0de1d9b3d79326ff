//! Notices of a job to its observers. Plain data: how they are shown and counted is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use super::restart::Limit;
use super::{Rescaled, RolledBack, Swapped};
use crate::guest::{LogLine, Plugin};
use crate::runtime::report::{CheckpointFailure, SinkFailure};
use floodmark_checkpoint::Trigger;
use floodmark_state::stream::{CheckpointId, TaskIndex};

/// An event that the observers of a job are told of.
#[derive(Debug, Clone)]
pub enum Notice {
    /// A checkpoint is under way.
    Begun {
        /// The id of the checkpoint.
        checkpoint: CheckpointId,
        /// Why it was begun.
        trigger: Trigger,
        /// Time of day of its trigger, in milliseconds since 1970.
        created_ms: u64,
    },
    /// A checkpoint is durable.
    Completed(CompletedCheckpoint),
    /// A checkpoint was not completed; the job continues.
    NotCompleted {
        /// The id of the checkpoint.
        checkpoint: CheckpointId,
        /// Why it was begun.
        trigger: Trigger,
        /// Time of day of its trigger, in milliseconds since 1970.
        created_ms: u64,
        /// From the trigger until it was given up.
        total: Duration,
        /// Why it is not.
        reason: CheckpointFailure,
    },
    /// Output is durable, but not visible: it will be with the next checkpoint.
    NotVisible {
        /// Which sink, and why.
        reason: SinkFailure,
    },
    /// Plugins have taken the place of others.
    Swapped(Swapped),
    /// A worker has failed while the job stops or is rolled back, so nothing else follows from it.
    Failed {
        /// What has failed.
        reason: String,
    },
    /// A worker has failed, and the job resumes from a checkpoint.
    WentBack(WentBack),
    /// A worker has failed, and the job does not resume again. The failure itself is how the job ends.
    GaveUp {
        /// What has been reached.
        limit: Limit,
        /// The last durable checkpoint, which is kept; `None` if there is none.
        kept: Option<CheckpointId>,
    },
    /// The job runs from this checkpoint, because of a rollback that no later checkpoint records yet. Later ones are gone.
    BackAt {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The delay after a failure was ended on request, and earlier failures no longer count.
    Retried,
    /// The job was told to stop while it did not run: it ends with this checkpoint.
    StoppedAtRest {
        /// `None` if there is none yet.
        at: Option<CheckpointId>,
    },
    /// The job has another number of tasks.
    Rescaled(Rescaled),
    /// The job was rolled back on request.
    RolledBack(RolledBack),
    /// New plugins have failed on trial, and the plugins before them run again.
    TrialFailed {
        /// By operator: what runs again.
        plugins: Vec<(String, Arc<Plugin>)>,
        /// The names of the operators that were swapped.
        operators: Vec<String>,
        /// What has failed.
        reason: String,
        /// The checkpoint that the job resumes from.
        to: CheckpointId,
    },
    /// New plugins have passed their trial.
    TrialPassed {
        /// The names of the operators that were swapped.
        operators: Vec<String>,
    },
    /// A plugin has logged.
    Log {
        /// The operator's name in the pipeline.
        operator: String,
        /// The task of the operator that logged.
        task: TaskIndex,
        /// The line.
        line: LogLine,
    },
}

/// How a job went on after a failure, without the process ending.
#[derive(Debug, Clone)]
pub struct WentBack {
    /// What has failed.
    pub reason: String,
    /// The checkpoint; `None` if the job started over.
    pub to: Option<CheckpointId>,
    /// The number of the failure, from 1, as the restart strategy counts.
    pub attempt: u32,
    /// The number of attempts up to which the job resumes; `None` for any number.
    pub attempts_max: Option<u32>,
    /// How long it waits before.
    pub delay: Duration,
    /// Whether the state that was in memory has gone back; else it is read again.
    pub in_memory: bool,
    /// Damaged checkpoints that were skipped, and what is wrong with them.
    pub passed_over: Vec<(CheckpointId, String)>,
}

/// A checkpoint that is durable, in numbers.
#[derive(Debug, Clone, Copy)]
pub struct CompletedCheckpoint {
    /// Its id.
    pub id: CheckpointId,
    /// Why it was taken.
    pub trigger: Trigger,
    /// Time of day of its trigger, in milliseconds since 1970.
    pub created_ms: u64,
    /// From the trigger until all had handed over their snapshots.
    pub collecting: Duration,
    /// From the trigger until it was durable and its output visible.
    pub total: Duration,
    /// Longest pause of a worker at its barrier.
    pub stall: Duration,
    /// Bytes of state that it added.
    pub state_bytes_new: u64,
    /// Bytes of state that it holds.
    pub state_bytes: u64,
    /// Records read, over all runs of the job.
    pub records_in: u64,
}
