//! Processes the records of a job: workers that step, exchanges between them, and the writer of checkpoints.
//!
//! A [`worker::Worker`] has one task of every node and advances by `step(now)`: it uses no clock, no thread and no
//! sleep. `build` creates workers from a [`plan::Plan`] and a checkpoint; the [`writer`] makes checkpoints durable and
//! output visible. `job` decides when they do so, and `edge` starts the threads.

pub mod plan;

pub mod build;
pub mod chunks;
pub mod worker;

pub mod aligner;
pub mod bad_records;
mod blame;
mod delivery;
pub mod exchange;
pub mod faults;
mod improve;
pub mod keyed;
pub mod keyed_state;
mod leaving;
mod observed;
mod own_store;
pub mod replay;
pub mod report;
pub mod retained_state;
pub mod saved;
pub mod schema;
pub mod single_operator;
pub(crate) mod sizes;
pub mod snapshot;
pub mod source_task;
mod stages;
mod state_room;
pub mod swap;
pub mod task;
mod throttled_log;
pub mod writer;

pub mod collections;
pub(crate) mod migration;
mod sweep;
pub mod trees;

use std::time::Duration;

use self::report::{CheckpointFailure, SinkFailure};
use self::schema::StateMisfit;
use self::task::TaskError;
use crate::connector::ConnectorError;
use crate::guest::GuestError;
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkUnreadable, StateError, TreeError};

/// The reason why a job cannot start or continue. Its last checkpoint is unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// An error of a plugin.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A plugin cannot handle a record.
    #[error(
        "operator `{operator}` {reason}\n  the record: {position}\n  correct the plugin, skip such records with `operator.{operator}.on-error = \"skip\"`, or set them aside with `\"dead-letter\"`"
    )]
    Record {
        /// The operator's name in the pipeline.
        operator: String,
        /// The position of the record in its source.
        position: String,
        /// The failure of the plugin, as the end of a sentence that begins with the operator.
        reason: String,
    },
    /// A plugin on trial cannot migrate something that its predecessor wrote.
    #[error("operator `{operator}` {reason}")]
    NotMigrated {
        /// The operator's name in the pipeline.
        operator: String,
        /// The failure, as the end of a sentence that begins with the operator.
        reason: String,
    },
    /// A source cannot read a record, or a sink cannot write one.
    #[error("`{node}`: {place}: {reason}{ways}")]
    BadRecord {
        /// The name of the source or sink.
        node: String,
        /// The place in the input where the record was read.
        place: String,
        /// What is wrong and what to do.
        reason: String,
        /// Other ways to handle such records, on a line of their own; empty if there are none.
        ways: String,
    },
    /// An error of a source or sink.
    #[error("`{node}`: {reason}")]
    Connector {
        /// The name of the source or sink.
        node: String,
        /// The connector's error.
        reason: ConnectorError,
    },
    /// The plugin does not declare saved state as it was.
    #[error(
        "operator `{operator}`: {reason}; run the plugin that wrote checkpoint {checkpoint}, or start over with `--fresh`"
    )]
    State {
        /// The operator's name in the pipeline.
        operator: String,
        /// The difference.
        reason: StateMisfit,
        /// The checkpoint that has the state.
        checkpoint: CheckpointId,
    },
    /// State cannot be read or kept.
    #[error(
        "operator `{operator}`: its state cannot be used: {reason}; run the same command again to resume from the last sound checkpoint"
    )]
    Chunks {
        /// The operator's name in the pipeline.
        operator: String,
        /// The error of its values.
        reason: StateError,
    },
    /// A list or map is damaged, or cannot be migrated by the plugin.
    #[error(
        "operator `{operator}`: its state cannot be used: {reason}; run the same command again to resume from the last sound checkpoint"
    )]
    Tree {
        /// The operator's name in the pipeline.
        operator: String,
        /// The error of its lists and maps.
        reason: TreeError,
    },
    /// No file can be created for state that does not fit into memory.
    #[error(
        "operator `{operator}`: cannot make a file for its state beside the checkpoints: {source}; check the data folder, or use `state.backend = \"memory\"`"
    )]
    Scratch {
        /// The operator's name in the pipeline.
        operator: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The number of key groups differs from that of the saved state.
    #[error(
        "`job.max-parallelism` is {now}, and checkpoint {checkpoint} was taken with {before}, which is fixed for the life of the state; set it to {before}, or start over with `--fresh`"
    )]
    MaxParallelism {
        /// The number in the pipeline.
        now: u16,
        /// The number in the checkpoint.
        before: u16,
        /// The checkpoint that has the state.
        checkpoint: CheckpointId,
    },
    /// The last checkpoint of a job could not be taken.
    #[error(
        "the last checkpoint could not be taken ({reason}), so output since {} is not visible; remove the cause and run the same command again to resume from there",
        since(*.restart)
    )]
    LastCheckpoint {
        /// The reason.
        reason: CheckpointFailure,
        /// The checkpoint that the next run resumes from; `None` for the beginning.
        restart: Option<CheckpointId>,
    },
    /// The last checkpoint of a job is durable, but its sinks could not make all output visible.
    #[error(
        "the output of checkpoint {checkpoint}, the last one, is durable but not all visible ({}); remove the cause and run the same command again, which makes it visible",
        listed(.failures)
    )]
    NotVisible {
        /// The checkpoint, from which the next run resumes.
        checkpoint: CheckpointId,
        /// The sinks, at least one, and why.
        failures: Vec<SinkFailure>,
    },
    /// More checkpoints failed in a row than are tolerated.
    #[error(
        "{failures} checkpoints in a row have failed (the last one: {reason}), and `checkpoint.tolerable-failures` is {}; remove the cause and run the same command again to resume from {}",
        failures - 1,
        since(*.restart)
    )]
    TooManyFailures {
        /// The number of failures, at least one.
        failures: u32,
        /// The reason of the last failure.
        reason: CheckpointFailure,
        /// The checkpoint that the next run resumes from; `None` for the beginning.
        restart: Option<CheckpointId>,
    },
    /// A sink could not sync its output, so its content is unknown.
    #[error("{reason}; the output since {} has to be written again", since(*.restart))]
    Unsynced {
        /// The reason.
        reason: CheckpointFailure,
        /// The checkpoint that the job resumes from; `None` for the beginning.
        restart: Option<CheckpointId>,
    },
    /// Plugins could not be replaced; the old ones resume from the last checkpoint.
    #[error(
        "the plugins could not be replaced, since checkpoint {checkpoint} could not be taken: {reason}"
    )]
    NotSwapped {
        /// The checkpoint at whose barrier they were replaced.
        checkpoint: CheckpointId,
        /// The reason why it could not be taken.
        reason: CheckpointFailure,
    },
    /// The pipeline has no operator of that name.
    #[error("there is no operator `{operator}` in the pipeline")]
    NoSuchOperator {
        /// The requested name.
        operator: String,
    },
    /// The job was asked to stop, but the calls of a task of an operator took too long.
    #[error(
        "stopped without a last checkpoint: operator `{operator}` was interrupted in `{call}`, since its calls took more than {after:?} in all while the job stops; {}; `limits.stop-grace` gives them more time",
        resumed_from(*.restart)
    )]
    Interrupted {
        /// The operator's name in the pipeline.
        operator: String,
        /// The exported function.
        call: &'static str,
        /// The time that all calls had.
        after: Duration,
        /// The checkpoint that the next run resumes from; `None` for the beginning.
        restart: Option<CheckpointId>,
    },
    /// An error of the checkpoint storage.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of the host has died.
    #[error(
        "{what} stopped unexpectedly: this is a bug in floodmark; the last checkpoint is kept, and the same command resumes from it"
    )]
    Defect {
        /// The thread that stopped, for the message.
        what: &'static str,
    },
}

impl JobError {
    /// Whether returning to the last checkpoint may help, because the cause may be temporary.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Record { .. } | Self::NotMigrated { .. } | Self::Unsynced { .. } => true,
            Self::Guest(error) => error.is_of_a_call(),
            Self::Connector { reason, .. } => reason.passes_by_retrying(),
            Self::Chunks { .. } | Self::Tree { .. } | Self::NotSwapped { .. } => true,
            _ => false,
        }
    }

    /// Whether the stored data must be checked again, byte by byte.
    #[must_use]
    pub fn is_of_stored_bytes(&self) -> bool {
        matches!(
            self,
            Self::Chunks {
                reason: StateError::Damaged { .. }
                    | StateError::Unreadable(ChunkUnreadable {
                        is_damaged: true,
                        ..
                    }),
                ..
            }
        )
    }

    /// Whether the state of a task is unknown now, so that it must be restored.
    #[must_use]
    pub fn spoils_state(&self) -> bool {
        matches!(self, Self::Chunks { .. } | Self::Tree { .. })
    }

    /// Whether the reader of the output has closed it, which is not a failure.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Connector { reason, .. } if reason.is_closed_pipe())
    }

    /// Whether a stop of the job has ended a call of a plugin, so that the job ends without a last checkpoint.
    #[must_use]
    pub fn is_interruption(&self) -> bool {
        match self {
            Self::Guest(error) => error.is_interruption(),
            Self::Interrupted { .. } => true,
            _ => false,
        }
    }

    /// The error with which a job ends that has this checkpoint: another one if a plugin was interrupted.
    #[must_use]
    pub fn ending_at(self, restart: Option<CheckpointId>) -> Self {
        match self {
            Self::Guest(GuestError::Interrupted {
                operator,
                call,
                after,
            }) => Self::Interrupted {
                operator,
                call,
                after,
                restart,
            },
            other => other,
        }
    }

    /// The job's error for an error of an operator's task.
    fn of_task(operator: &str, error: TaskError) -> Self {
        let operator = operator.to_owned();
        match error {
            TaskError::Guest(error) => Self::Guest(error),
            TaskError::Record { reason, position } => Self::Record {
                operator,
                position,
                reason,
            },
            TaskError::State(TreeError::State(reason)) => Self::Chunks { operator, reason },
            TaskError::State(reason) => Self::Tree { operator, reason },
        }
    }

    fn chunks(operator: &str, reason: StateError) -> Self {
        Self::Chunks {
            operator: operator.to_owned(),
            reason,
        }
    }

    fn connector(node: &str, reason: ConnectorError) -> Self {
        Self::Connector {
            node: node.to_owned(),
            reason,
        }
    }
}

fn resumed_from(restart: Option<CheckpointId>) -> String {
    match restart {
        Some(id) => format!("checkpoint {id} is kept, and the same command resumes from it"),
        None => {
            "there is no checkpoint yet, so the same command starts from the beginning".to_owned()
        }
    }
}

fn listed(failures: &[SinkFailure]) -> String {
    let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
    failures.join("; ")
}

fn since(restart: Option<CheckpointId>) -> String {
    match restart {
        Some(id) => format!("checkpoint {id}"),
        None => "the beginning".to_owned(),
    }
}

#[cfg(test)]
mod contract_tests;
