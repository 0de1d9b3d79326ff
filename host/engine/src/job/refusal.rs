//! The reasons why a job refuses a client's request, or could not carry it out, one variant each.
//!
//! The layers above decide by the variant, never by the text. A failure of the job itself is here only as a message: the
//! job ends or goes back with the error, which has one owner.

use super::Ending;
use super::request::UnfitSource;
use crate::runtime::JobError;
use crate::runtime::report::CheckpointFailure;
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;

/// The reason why a client's request was not carried out. Unless the message says otherwise, nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The job has ended without an answer. Its last checkpoint shows whether it carried out the request.
    #[error("the job ended before it could do that; its last checkpoint is kept")]
    Ended,
    /// The job ends, or has ended.
    #[error("the job ended before it could do that ({cause}); its last checkpoint is kept")]
    Over {
        /// Why it ends.
        cause: EndCause,
    },
    /// Another operation is under way.
    #[error("{}", operation.refuses_another())]
    UnderWay {
        /// The other operation.
        operation: OperationKind,
    },
    /// A rollback was requested while the workers were being started.
    #[error("the job is being restarted; try again")]
    Restarting,
    /// A swap was requested while an earlier one was on trial.
    #[error(
        "operator `{}` is on trial for {seconds_left} s more; try again after that",
        operators.join("`, `")
    )]
    OnTrial {
        /// The operators of the earlier swap.
        operators: Vec<String>,
        /// Time until the trial ends, rounded up.
        seconds_left: u64,
    },
    /// A swap was requested while no workers ran, because of a failure.
    #[error(
        "the job waits after a failure, so no plugin runs; try again once it runs, or stop it and then swap"
    )]
    NotRunning,
    /// A retry was requested of a job that does not wait after a failure.
    #[error("the job does not wait after a failure, so there is nothing to retry")]
    NotWaiting,
    /// The plan, the states or the number of workers changed after the swap was prepared.
    #[error("the job has changed while the swap was prepared; try again")]
    Changed,
    /// The job ended before the checkpoint of the swap began.
    #[error(
        "nothing was replaced: the job ends; swap while it is stopped, and the next run uses the new plugin"
    )]
    SwapAtEnd,
    /// The client withdrew its swap before the checkpoint of the swap began.
    #[error("the swap was cancelled, and nothing has changed")]
    Withdrawn,
    /// The job went back before the checkpoint of the swap began.
    #[error(
        "nothing was replaced: the job has gone back to {} before the swap ({cause}); try again",
        place(*.to)
    )]
    SwapNotBegun {
        /// The checkpoint that the job went back to; `None` for the beginning.
        to: Option<CheckpointId>,
        /// Why it went back.
        cause: ReturnCause,
    },
    /// The job went back after the checkpoint of the swap had begun, and the old plugins run again.
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
    /// There are fewer key groups than requested tasks, or none were requested.
    #[error("{parallelism} is not between 1 and {max}, the `max-parallelism` of this job")]
    ParallelismOutOfRange {
        /// The requested number of tasks per node.
        parallelism: u16,
        /// The largest number.
        max: u16,
    },
    /// The job already has that number of tasks per node.
    #[error("the job runs with a parallelism of {parallelism} already")]
    SameParallelism {
        /// The number of tasks per node.
        parallelism: u16,
    },
    /// The job was not rescaled.
    #[error("the job was not rescaled: {reason}")]
    NotRescaled {
        /// What kept the rescale from happening.
        reason: Interruption,
    },
    /// The new tasks of a rescale could not be started, so the earlier tasks run again.
    #[error("the job was not rescaled, and continues with a parallelism of {from}: {failure}")]
    RescaleUndone {
        /// The number of tasks per node, which is unchanged.
        from: u16,
        /// Why the new tasks could not be started, as a message.
        failure: String,
    },
    /// The new tasks of a rescale run, but no checkpoint records that.
    #[error(
        "the job runs with a parallelism of {to}, but the checkpoint that records it failed ({reason}): if the job dies before the next one, it restarts with {from}"
    )]
    RescaleNotDurable {
        /// The number of tasks per node before.
        from: u16,
        /// The number of tasks per node now.
        to: u16,
        /// Why no checkpoint records it.
        reason: Interruption,
    },
    /// The checkpoint of a rollback was retired or deleted after it was requested.
    #[error("checkpoint {checkpoint} no longer exists; nothing has changed")]
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
    /// A source cannot resume at the positions of the checkpoint of a rollback.
    #[error("the job cannot go back to checkpoint {checkpoint}: {reason}; nothing has changed")]
    SourceUnfit {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The source, and why it cannot.
        reason: UnfitSource,
    },
    /// The job went back permanently, then failed, and is over.
    #[error("the job went back to checkpoint {to}, but cannot resume there: {failure}")]
    NotResumed {
        /// The checkpoint that it went back to. Later ones are gone.
        to: CheckpointId,
        /// The failure, as a message.
        failure: String,
    },
    /// The job runs from the checkpoint of a rollback, but no later checkpoint records that.
    #[error(
        "the job went back to checkpoint {to}, but the checkpoint after that failed ({reason})"
    )]
    RollbackNotDurable {
        /// The checkpoint that it went back to. Later ones are gone.
        to: CheckpointId,
        /// Why no later checkpoint records it.
        reason: Interruption,
    },
    /// A requested checkpoint failed. The job continues.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFailure),
    /// The job was stopped, but without the checkpoint: a plugin did not return in time.
    #[error("{failure}")]
    Interrupted {
        /// Which plugin, as a message, and from where the next run resumes.
        failure: String,
    },
    /// The job was stopped while it waited after a failure, so a requested checkpoint was not taken.
    #[error("the job was stopped while it waited after a failure, before it took the checkpoint")]
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
    /// The message for a client that requests another operation while this one is under way.
    pub(crate) fn refuses_another(self) -> &'static str {
        match self {
            Self::Swap => "another swap is under way; try again once that is done",
            Self::Rescale => "the job is already being rescaled; try again once that is done",
            Self::Rollback => "the job is already being rolled back; try again once that is done",
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
    /// Its tasks were remade, as for a rescale.
    #[error("its tasks were remade")]
    Remade,
}

/// The reason why a job ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndCause {
    /// All input was processed.
    #[error("its input has ended")]
    Complete,
    /// A client or a signal has stopped it.
    #[error("it was stopped")]
    Stopped,
    /// It has failed, and is not restarted.
    #[error("it has failed: {failure}")]
    Failed {
        /// The failure, as a message.
        failure: String,
    },
}

impl EndCause {
    /// The cause of an end.
    pub(super) fn of(result: &Result<Ending, JobError>) -> Self {
        match result {
            Ok(Ending::Complete) => Self::Complete,
            Ok(Ending::Stopped) => Self::Stopped,
            Err(error) => Self::Failed {
                failure: error.to_string(),
            },
        }
    }
}

/// The reason why no checkpoint records a rescale or rollback.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Interruption {
    /// The checkpoint that was to record it failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointFailure),
    /// A rollback was requested instead.
    #[error("another operation was requested before a checkpoint recorded it")]
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
