//! Another number of tasks, without another process: at a durable checkpoint after which sources read nothing, workers end
//! and are remade. If the new ones cannot be made, the job continues with as many as before.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{self, Fault};
use super::operation::{Done, Operation};
use super::phase::{Phase, Purpose, Return};
use super::refusal::{Interruption, Refusal};
use super::{Caller, Job, Moment, Output, Reply, Rescaled};
use crate::runtime::JobError;
use crate::runtime::plan::Plan;
use floodmark_checkpoint::Depth;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::stream::CheckpointId;

/// A rescale that was requested, or is under way.
pub(super) struct Rescale {
    pub(super) parallelism: u16,
    pub(super) from: u16,
    pub(super) caller: Caller<Rescaled>,
    /// Its checkpoint and the time of that barrier, once that has begun.
    barrier: Option<(CheckpointId, Duration)>,
    /// The plan before, once tasks are remade.
    before: Option<Arc<Plan>>,
    /// Why the new tasks could not be made.
    failure: Option<String>,
}

impl Job {
    pub(super) fn request_rescale(
        &mut self,
        parallelism: u16,
        caller: Caller<Rescaled>,
        outputs: &mut Vec<Output>,
    ) {
        let max = self.draft.max_parallelism().get();
        let from = self.draft.parallelism();
        let refusal = match self.operation_refusal() {
            None if !(1..=max).contains(&parallelism) => {
                Some(Refusal::ParallelismOutOfRange { parallelism, max })
            }
            None if parallelism == from => Some(Refusal::SameParallelism { parallelism }),
            refusal => refusal,
        };
        if let Some(refusal) = refusal {
            outputs.push(Output::Answer(Reply::Rescale(caller, Err(refusal))));
            return;
        }
        self.operation = Some(Operation::Rescale(Rescale {
            parallelism,
            from,
            caller,
            barrier: None,
            before: None,
            failure: None,
        }));
    }

    /// Whether a rescale waits for its checkpoint to begin.
    pub(super) fn wishes_rescale(&self) -> bool {
        matches!(&self.operation, Some(Operation::Rescale(rescale)) if rescale.barrier.is_none())
    }

    /// Notes the checkpoint of the rescale, which begins now.
    pub(super) fn begin_rescale(&mut self, now: Moment, checkpoint: CheckpointId) {
        if let Some(Operation::Rescale(rescale)) = &mut self.operation {
            rescale.barrier = Some((checkpoint, now.clock));
        }
    }

    /// The job resumes before the rescale has happened: its checkpoint has to begin once more.
    pub(super) fn defer_rescale(&mut self) {
        if let Some(Operation::Rescale(rescale)) = &mut self.operation {
            rescale.barrier = None;
        }
    }

    /// The workers paused at its checkpoint and have ended: they are remade.
    pub(super) fn rescale(&mut self, outputs: &mut Vec<Output>) {
        crash::point(Point::RescaleJoined);
        let current = self.plans.current();
        let mut to = Return::to(Purpose::Rescale);
        if let Some(Operation::Rescale(rescale)) = &mut self.operation {
            to = to.with(Arc::new(Plan {
                parallelism: rescale.parallelism,
                ..Plan::clone(current)
            }));
            rescale.before = Some(current.clone());
        }
        // State is distributed again: what is in memory belongs to the earlier tasks.
        let in_memory = fault::is_armed(Fault::RescaleKeepsMemory);
        self.recover(to, None, in_memory, outputs);
    }

    /// The new tasks run.
    pub(super) fn rescaled(&mut self, now: Moment) {
        crash::point(Point::RescaleBegun);
        if let Some(Operation::Rescale(rescale)) = self.operation.take() {
            let (_, since) = rescale.barrier.unwrap_or((CheckpointId(0), now.clock));
            let pause = now.clock.saturating_sub(since);
            self.settle(Done::Rescale { rescale, pause });
        }
    }

    /// The new tasks cannot be made, so the earlier ones are remade.
    pub(super) fn undo_rescale(&mut self, error: &JobError, outputs: &mut Vec<Output>) {
        let mut to = Return::to(Purpose::UndoRescale);
        if let Some(Operation::Rescale(rescale)) = &mut self.operation {
            rescale.failure = Some(error.to_string());
            to.plan = rescale.before.take();
        }
        to.depth = Depth::Quick;
        self.recover(to, None, false, outputs);
    }

    /// The earlier tasks run again.
    pub(super) fn rescale_is_undone(&mut self, outputs: &mut Vec<Output>) {
        let is_meant = |operation: &mut Operation| matches!(operation, Operation::Rescale(rescale) if rescale.failure.is_some());
        if let Some(Operation::Rescale(rescale)) = self.operation.take_if(is_meant) {
            let refusal = Refusal::RescaleUndone {
                from: rescale.from,
                failure: rescale.failure.unwrap_or_default(),
            };
            outputs.push(Output::Answer(Reply::Rescale(rescale.caller, Err(refusal))));
        }
    }

    /// Refuses the rescale under way, since a rollback was requested.
    pub(super) fn give_up_rescale(&mut self, outputs: &mut Vec<Output>) {
        if let Some(Operation::Rescale(rescale)) = &mut self.operation
            && let Some(before) = rescale.before.take()
            && !matches!(self.phase, Phase::Running)
        {
            self.plans.set(before);
        }
        self.refuse_operation(Interruption::Superseded, outputs);
    }
}
