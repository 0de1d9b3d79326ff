//! The operation that is under way on a running job: a swap, a rescale or a rollback. There is one at a time; another one is
//! refused. Only a rollback takes the place of the others, since it is the way out when they are stuck.
//!
//! A rescale or a rollback is done when a checkpoint has it: a process that dies before would come back without it.

use std::time::Duration;

use super::refusal::{Interruption, OperationKind, Refusal};
use super::rescale::Rescale;
use super::rollback::Rollback;
use super::swap::Swap;
use super::{Job, Notice, Output, Reply, Rescaled, RolledBack};
use crate::runtime::report::CheckpointFailure;
use floodmark_state::stream::CheckpointId;

/// What is under way.
pub(super) enum Operation {
    /// Plugins are replaced at the barrier of a checkpoint.
    Swap(Swap),
    /// Tasks are remade at a checkpoint.
    Rescale(Rescale),
    /// The job goes back.
    Rollback(Rollback),
    /// It is done, but in no checkpoint yet.
    Settling(Settling),
}

/// An operation that is done, but in no checkpoint yet.
pub(super) struct Settling {
    /// The checkpoint that will have it, once that has begun.
    pub(super) checkpoint: Option<CheckpointId>,
    pub(super) done: Done,
}

/// What is done.
pub(super) enum Done {
    Rescale {
        rescale: Rescale,
        pause: Duration,
    },
    Rollback {
        rollback: Rollback,
        deleted: Vec<CheckpointId>,
        records_in: u64,
    },
}

impl Operation {
    /// Why another cannot begin now.
    pub(super) fn refusal(&self) -> Refusal {
        let operation = match self {
            Self::Swap(_) => OperationKind::Swap,
            Self::Rescale(_)
            | Self::Settling(Settling {
                done: Done::Rescale { .. },
                ..
            }) => OperationKind::Rescale,
            Self::Rollback(_)
            | Self::Settling(Settling {
                done: Done::Rollback { .. },
                ..
            }) => OperationKind::Rollback,
        };
        Refusal::UnderWay { operation }
    }
}

impl Job {
    pub(super) fn is_settling(&self) -> bool {
        matches!(self.operation, Some(Operation::Settling(_)))
    }

    /// Whether a rescale is done, and in no checkpoint yet.
    pub(super) fn is_settling_rescale(&self) -> bool {
        let Some(Operation::Settling(settling)) = &self.operation else {
            return false;
        };
        matches!(settling.done, Done::Rescale { .. })
    }

    /// An operation is done; the next checkpoint has it.
    pub(super) fn settle(&mut self, done: Done) {
        self.operation = Some(Operation::Settling(Settling {
            checkpoint: None,
            done,
        }));
    }

    /// A checkpoint is durable or has failed. If it was to have an operation, the caller is answered.
    pub(super) fn settle_with(
        &mut self,
        checkpoint: CheckpointId,
        outcome: Result<(), &CheckpointFailure>,
        outputs: &mut Vec<Output>,
    ) {
        let is_meant = |operation: &mut Operation| matches!(operation, Operation::Settling(settling) if settling.checkpoint == Some(checkpoint));
        if let Some(Operation::Settling(settling)) = self.operation.take_if(is_meant) {
            let answer = match outcome {
                Ok(()) => Ok(checkpoint),
                Err(failure) => Err(failure.clone().into()),
            };
            settling.done.answer(answer, outputs);
        }
    }

    /// Ends a rescale that has not happened, and an operation that no checkpoint will have.
    pub(super) fn refuse_operation(&mut self, reason: Interruption, outputs: &mut Vec<Output>) {
        match self.operation.take() {
            Some(Operation::Rescale(rescale)) => {
                let refusal = Refusal::NotRescaled { reason };
                outputs.push(Output::Answer(Reply::Rescale(rescale.caller, Err(refusal))));
            }
            Some(Operation::Settling(settling)) => settling.done.answer(Err(reason), outputs),
            other => self.operation = other,
        }
    }

    /// Why an operation other than a rollback cannot begin now.
    pub(super) fn operation_refusal(&self) -> Option<Refusal> {
        self.operation.as_ref().map(Operation::refusal)
    }
}

impl Done {
    /// Answers the caller: the checkpoint that has the operation, or why none has it.
    pub(super) fn answer(
        self,
        checkpoint: Result<CheckpointId, Interruption>,
        outputs: &mut Vec<Output>,
    ) {
        match self {
            Self::Rescale { rescale, pause } => {
                let (from, to) = (rescale.from, rescale.parallelism);
                let rescaled = |checkpoint| Rescaled {
                    from,
                    to,
                    checkpoint,
                    pause,
                };
                let answer = checkpoint.map(rescaled);
                let answer =
                    answer.map_err(|reason| Refusal::RescaleNotDurable { from, to, reason });
                if let Ok(rescaled) = answer {
                    outputs.push(Output::Notify(Notice::Rescaled(rescaled)));
                }
                outputs.push(Output::Answer(Reply::Rescale(rescale.caller, answer)));
            }
            Self::Rollback {
                rollback,
                deleted,
                records_in,
            } => {
                let to = rollback.request.to;
                let rolled_back = |checkpoint| RolledBack {
                    to,
                    deleted,
                    records_in,
                    checkpoint,
                };
                let answer = checkpoint.map(rolled_back);
                let answer = answer.map_err(|reason| Refusal::RollbackNotDurable { to, reason });
                if let Ok(rolled_back) = &answer {
                    let notice = Notice::RolledBack(rolled_back.clone());
                    outputs.push(Output::Notify(notice));
                }
                let caller = rollback.request.caller;
                outputs.push(Output::Answer(Reply::Rollback(caller, answer)));
            }
        }
    }
}
