//! Why a job refuses a request of a client, or could not do what was requested: one variant a reason.
//!
//! The layers above decide by the variant, never by the text. A failure of the job itself is here only as a message: the
//! error is the one with which the job ends or goes back, and it cannot be in two places.

use crate::runtime::report::CheckpointFailure;
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;

/// The reason why a request of a client was not done. Unless its message says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The job has ended without an answer. Whether it did what was requested, its last checkpoint says.
    #[error("the job ended before it could do that; its last checkpoint is kept")]
    Ended,
    /// Another operation is under way.
    #[error("{}", operation.refuses_another())]
    UnderWay {
        /// The other operation.
        operation: OperationKind,
    },
    /// A rollback was requested while workers are being made.
    #[error("the job is being restarted; ask again")]
    Restarting,
    /// A swap was requested while an earlier one is on trial.
    #[error(
        "operator `{}` is on trial for {seconds_left} s more; ask again after that",
        operators.join("`, `")
    )]
    OnTrial {
        /// The operators of the earlier swap.
        operators: Vec<String>,
        /// When the trial ends, rounded up.
        seconds_left: u64,
    },
    /// A swap was requested while no workers run, because of a failure.
    #[error(
        "the job waits after a failure, and no plugin runs; ask again once it runs, or stop it and swap then"
    )]
    NotRunning,
    /// The plan or the states are other ones than a swap was prepared for.
    #[error("the job has changed while the swap was prepared; ask again")]
    Changed,
    /// The job ends before the checkpoint of a swap has begun.
    #[error(
        "nothing was replaced: the job ends; swap while it is stopped, and the next run uses the new plugin"
    )]
    SwapAtEnd,
    /// The job has gone back before the checkpoint of a swap has begun.
    #[error(
        "nothing was replaced: the job has gone back to {} before it could be ({cause}); ask again",
        place(*.to)
    )]
    SwapNotBegun {
        /// The checkpoint that the job went back to; `None` for the beginning.
        to: Option<CheckpointId>,
        /// Why it went back.
        cause: ReturnCause,
    },
    /// The job has gone back after the checkpoint of a swap had begun, and the old plugins run again.
    #[error(
        "the job has gone back to {} with the old plugin and the old state: {cause}",
        place(*.to)
    )]
    SwapUndone {
        /// The checkpoint that the job went back to; `None` for the beginning.
        to: Option<CheckpointId>,
        /// Why it went back.
        cause: ReturnCause,
    },
    /// There are not so many key groups.
    #[error("{parallelism} is not between 1 and {max}, the `max-parallelism` of this job")]
    ParallelismOutOfRange {
        /// The requested number of tasks per node.
        parallelism: u16,
        /// The largest number.
        max: u16,
    },
    /// The job has as many tasks already.
    #[error("the job runs with a parallelism of {parallelism} already")]
    SameParallelism {
        /// The number of tasks per node.
        parallelism: u16,
    },
    /// A rescale has not happened.
    #[error("the job was not rescaled: {reason}")]
    NotRescaled {
        /// Why not.
        reason: Interruption,
    },
    /// The new tasks of a rescale could not be made, so those of before run again.
    #[error("the job was not rescaled, and continues with a parallelism of {from}: {failure}")]
    RescaleUndone {
        /// The number of tasks per node, as before.
        from: u16,
        /// Why the new tasks could not be made, as a message.
        failure: String,
    },
    /// The new tasks of a rescale run, but no checkpoint says so.
    #[error(
        "the job runs with a parallelism of {to}, but the checkpoint that says so failed ({reason}): if it dies before the next one, it comes back with {from}"
    )]
    RescaleNotDurable {
        /// The number of tasks per node before.
        from: u16,
        /// The number of tasks per node now.
        to: u16,
        /// Why no checkpoint says so.
        reason: Interruption,
    },
    /// The checkpoint of a rollback was retired or deleted meanwhile.
    #[error("checkpoint {checkpoint} is not there any more; nothing has changed")]
    CheckpointGone {
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// The checkpoint of a rollback cannot be read.
    #[error("checkpoint {checkpoint} cannot be read: {source}; nothing has changed")]
    CheckpointUnreadable {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The error of the storage.
        source: StoreError,
    },
    /// The job has gone back permanently, and then failed: it is over.
    #[error("the job went back to checkpoint {to}, and cannot resume there: {failure}")]
    NotResumed {
        /// The checkpoint that it went back to. Later ones are gone.
        to: CheckpointId,
        /// The failure, as a message.
        failure: String,
    },
    /// The job runs from the checkpoint of a rollback, but no later checkpoint says so.
    #[error(
        "the job went back to checkpoint {to}, but the checkpoint after that failed ({reason})"
    )]
    RollbackNotDurable {
        /// The checkpoint that it went back to. Later ones are gone.
        to: CheckpointId,
        /// Why no later checkpoint says so.
        reason: Interruption,
    },
    /// A checkpoint that was requested has failed. The job continues.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFailure),
    /// The job was stopped while it waited after a failure, so a checkpoint that was requested was not taken.
    #[error("the job was stopped while it waited after a failure, before it took one")]
    StoppedBefore,
    /// The job was stopped while it waited after a failure, before its first checkpoint.
    #[error("the job was stopped while it waited after a failure, and it has no checkpoint yet")]
    StoppedWithout,
}

/// An operation, as a reason why another cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperationKind {
    /// Plugins are replaced.
    Swap,
    /// The number of tasks changes.
    Rescale,
    /// The job goes back permanently.
    Rollback,
}

impl OperationKind {
    /// The message for a client that requests another operation meanwhile.
    pub(crate) fn refuses_another(self) -> &'static str {
        match self {
            Self::Swap => "another swap is under way; ask again when it is done",
            Self::Rescale => "the job is being rescaled already; ask again once it is done",
            Self::Rollback => "the job is being rolled back already; ask again once it is done",
        }
    }
}

/// The reason why a job went back to a checkpoint while a swap was requested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReturnCause {
    /// It has failed.
    #[error("{failure}")]
    Failed {
        /// The failure, as a message.
        failure: String,
    },
    /// It was rolled back.
    #[error("it was rolled back")]
    RolledBack,
    /// It has other tasks.
    #[error("its tasks were remade")]
    Remade,
}

/// The reason why a rescale or rollback is in no checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// The checkpoint that was to have it has failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFailure),
    /// A rollback has taken its place.
    #[error("something else was requested of the job before a checkpoint had it")]
    Superseded,
    /// The job has ended.
    #[error("the job is over")]
    JobOver,
    /// The job has failed.
    #[error("{failure}")]
    JobFailed {
        /// The failure, as a message.
        failure: String,
    },
}

/// Where a job went back to, for people.
fn place(to: Option<CheckpointId>) -> String {
    match to {
        Some(id) => format!("checkpoint {id}"),
        None => "the beginning".to_owned(),
    }
}
