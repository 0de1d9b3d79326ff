//! The reasons why a swap was refused or failed, one variant each.

use std::io;

use super::SHADOW_MAX;
use super::compare::{StateRow, losses};
use super::desk::SwapStep;
use crate::guest::GuestError;
use crate::job::Refusal;
use crate::runtime::JobError;
use crate::runtime::swap::SwapError;
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;
use floodmark_state::{StateError, TreeError};

/// The reason why plugins were not swapped. The job continues as before, unless the message says that it reverted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapRefusal {
    /// The request names no operator.
    #[error("name at least one operator whose plugin to replace")]
    NoOperator,
    /// The request names an operator twice.
    #[error("operator `{operator}` is named twice")]
    OperatorTwice {
        /// The operator.
        operator: String,
    },
    /// The job has no operator of this name.
    #[error("there is no operator `{operator}` in the job{hint}")]
    UnknownOperator {
        /// The requested name.
        operator: String,
        /// A name that was probably meant, or those that there are, as the end of the sentence.
        hint: String,
    },
    /// The request leaves a field out that the configuration does not have.
    #[error("operator `{operator}` has no field `{field}` in its configuration{hint}")]
    UnknownField {
        /// The operator.
        operator: String,
        /// The requested field.
        field: String,
        /// The same about fields.
        hint: String,
    },
    /// The trial is too long.
    #[error("a trial takes at most a day")]
    TrialTooLong,
    /// The shadow run is too long.
    #[error("a shadow run has at most {SHADOW_MAX} records")]
    ShadowTooLong,
    /// The new plugin cannot be loaded or opened, or fails when it is tried.
    #[error(transparent)]
    Guest(GuestError),
    /// The job has no such operator, or the new plugin does not fit the graph.
    #[error(transparent)]
    Graph(SwapError),
    /// The new plugin would lose state.
    #[error(
        "operator `{operator}`: the new plugin cannot replace the old one: {}",
        losses(lost)
    )]
    States {
        /// The operator.
        operator: String,
        /// The states that it would lose.
        lost: Vec<StateRow>,
    },
    /// A replay on the state of a checkpoint failed.
    #[error(transparent)]
    Replay(JobError),
    /// The new plugin does not migrate a saved value.
    #[error("operator `{operator}` {reason}")]
    NotMigrated {
        /// The operator.
        operator: String,
        /// The failure, as the end of a sentence that begins with the operator.
        reason: String,
    },
    /// Another swap is under way, or its checks.
    #[error("another swap is under way for {seconds} s: {step}; try again once it is done")]
    UnderWay {
        /// What it does.
        step: SwapStep,
        /// Since when.
        seconds: u64,
    },
    /// The swap was cancelled before the job had it.
    #[error("the swap was cancelled, and nothing has changed")]
    Cancelled,
    /// Each checkpoint on which the plugin was to be tried was retired before it was read.
    #[error(
        "the job retires its checkpoints before the plugin can be tried on one; raise `checkpoint.retained` or `checkpoint.interval`"
    )]
    Retired,
    /// The checkpoints cannot be read: the job has ended.
    #[error("no checkpoint can be read to try the plugin on: the job is over")]
    JobOver,
    /// The checkpoints cannot be listed.
    #[error("no checkpoint can be read to try the plugin on: {source}")]
    Unlistable {
        /// The error of the storage.
        source: StoreError,
    },
    /// All checkpoints are damaged.
    #[error("no checkpoint can be read to try the plugin on: none is sound")]
    NoneSound,
    /// No file can be created for the state that a rehearsal reads.
    #[error("cannot make a file for the rehearsal: {source}")]
    Scratch {
        /// The system's error.
        source: io::Error,
    },
    /// The state on which the plugin is tried cannot be read.
    #[error("operator `{operator}`: its state in checkpoint {checkpoint} cannot be read: {source}")]
    StateUnreadable {
        /// The operator.
        operator: String,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The error of the state.
        source: StateError,
    },
    /// A list or map on which the plugin is tried cannot be read.
    #[error("operator `{operator}`: its state in checkpoint {checkpoint} cannot be read: {source}")]
    TreeUnreadable {
        /// The operator.
        operator: String,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The error of the state.
        source: TreeError,
    },
    /// The job refused the swap, or the swap failed.
    #[error(transparent)]
    Job(#[from] Refusal),
}

impl SwapRefusal {
    /// Whether the plugin does not fit. Otherwise the request, the job, its state or its graph does not allow the swap.
    #[must_use]
    pub fn is_of_plugin(&self) -> bool {
        match self {
            Self::Guest(error) => !error.is_interruption(),
            Self::States { .. } | Self::NotMigrated { .. } => true,
            Self::Graph(error) => matches!(
                error,
                SwapError::OtherPorts { .. } | SwapError::OtherRouting { .. }
            ),
            _ => false,
        }
    }

    /// Whether the request is wrong, whatever the job does.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        matches!(
            self,
            Self::NoOperator
                | Self::OperatorTwice { .. }
                | Self::UnknownOperator { .. }
                | Self::UnknownField { .. }
                | Self::TrialTooLong
                | Self::ShadowTooLong
                | Self::Graph(SwapError::NoOperator { .. })
        )
    }

    /// Whether the client has cancelled the swap.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled | Self::Job(Refusal::Withdrawn))
    }

    /// Whether the plugin is not tried on another checkpoint: the client has cancelled the swap, or the job ends.
    pub(super) fn ends_attempts(&self) -> bool {
        match self {
            Self::Guest(error) => error.is_interruption(),
            other => matches!(other, Self::Cancelled | Self::Job(_)),
        }
    }
}

impl From<GuestError> for SwapRefusal {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

impl From<JobError> for SwapRefusal {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Guest(error) => Self::Guest(error),
            error => Self::Replay(error),
        }
    }
}

impl From<SwapError> for SwapRefusal {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Job(error) => error.into(),
            error => Self::Graph(error),
        }
    }
}
