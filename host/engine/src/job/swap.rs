//! A swap: requested, then a checkpoint at whose barrier plugins are replaced, then either durable or undone.
//!
//! ```text
//!   requested ──▶ parcels and barrier sent ──▶ durable: the new plan counts
//!       │                     └──▶ not durable: the job goes back, and the old plan counts
//!       └──▶ the job ends or goes back first: nothing has happened
//! ```

use std::time::Duration;

use super::draft::OperatorDraft;
use super::operation::Operation;
use super::phase::Phase;
use super::refusal::{Refusal, ReturnCause};
use super::rollback::Rollback;
use super::{Job, Moment, Notice, Output, Reply, SwapRequest, Swapped};
use crate::runtime::JobError;
use crate::runtime::report::CheckpointFailure;
use crate::runtime::snapshot::RegionId;
use crate::runtime::swap::{Replacement, plugin_at};
use crate::runtime::worker::Control;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::stream::CheckpointId;

/// A swap that was requested, or is under way.
pub(super) struct Swap {
    request: Box<SwapRequest>,
    requested: Duration,
    /// The checkpoint at whose barrier it happens, once that has begun.
    checkpoint: Option<CheckpointId>,
    pauses: Vec<(RegionId, Duration)>,
}

impl Job {
    /// Takes a request, or refuses it.
    pub(super) fn request_swap(
        &mut self,
        now: Moment,
        request: Box<SwapRequest>,
        outputs: &mut Vec<Output>,
    ) {
        let prepared = &request.prepared;
        let has_changed = prepared.generation() != self.plans.generation
            || prepared.workers() != usize::from(self.draft.parallelism());
        let is_running = matches!(self.phase, Phase::Running);
        let refusal = self.trial_refusal(now);
        let refusal = match refusal.or_else(|| self.operation_refusal()) {
            None if !is_running => Some(Refusal::NotRunning),
            None if has_changed => Some(Refusal::Changed),
            refusal => refusal,
        };
        if let Some(refusal) = refusal {
            outputs.push(Output::Answer(Reply::Swap(request.caller, Err(refusal))));
            return;
        }
        crash::point(Point::SwapAsked);
        self.operation = Some(Operation::Swap(Swap {
            request,
            requested: now.clock,
            checkpoint: None,
            pauses: Vec::new(),
        }));
    }

    /// Whether a swap waits for its checkpoint to begin.
    pub(super) fn wishes_swap(&self) -> bool {
        matches!(&self.operation, Some(Operation::Swap(swap)) if swap.checkpoint.is_none())
    }

    /// Whether tasks may have plugins that no checkpoint names.
    pub(super) fn is_swapping(&self) -> bool {
        self.swap().is_some_and(|swap| swap.checkpoint.is_some())
    }

    /// Its checkpoint begins: workers get what they need before the barrier.
    pub(super) fn begin_swap(&mut self, checkpoint: CheckpointId, outputs: &mut Vec<Output>) {
        if let Some(Operation::Swap(swap)) = &mut self.operation {
            swap.checkpoint = Some(checkpoint);
            outputs.push(Output::Tell(Control::Replace(Replacement {
                checkpoint,
                handover: swap.request.prepared.hold(),
                stopwatch: swap.request.stopwatch.clone(),
            })));
        }
    }

    pub(super) fn note_pause(&mut self, at: CheckpointId, part: RegionId, pause: Duration) {
        if let Some(Operation::Swap(swap)) = &mut self.operation
            && swap.checkpoint == Some(at)
        {
            swap.pauses.push((part, pause));
        }
    }

    /// The operators as a checkpoint names them: that of a swap names the new plugins.
    pub(super) fn operators_at(&self, checkpoint: CheckpointId) -> Vec<OperatorDraft> {
        match self.swap() {
            Some(swap) if swap.checkpoint == Some(checkpoint) => {
                crash::point(Point::SwapCollected);
                let prepared = &swap.request.prepared;
                self.draft.operators_of(prepared.plan(), prepared.schemas())
            }
            _ => self.draft.operators.clone(),
        }
    }

    /// A checkpoint is durable. If it is that of the swap, the new plan counts.
    pub(super) fn swap_is_durable(
        &mut self,
        now: Moment,
        checkpoint: CheckpointId,
        before: Option<CheckpointId>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(swap) = self.take_swap_if(|swap| swap.checkpoint == Some(checkpoint)) else {
            return;
        };
        crash::point(Point::SwapDurable);
        let SwapRequest {
            prepared,
            trial,
            caller,
            ..
        } = *swap.request;
        let changed = prepared.schemas();
        let old = self.draft.operators.iter();
        let old = old.filter(|operator| changed.contains_key(&operator.node));
        let old: Vec<_> = old
            .map(|operator| (operator.node, operator.snapshot.states.clone()))
            .collect();
        let plugins = old
            .iter()
            .filter_map(|(node, _)| plugin_at(prepared.plan(), *node));
        let plugins = plugins.collect();
        self.draft.operators = self.draft.operators_of(prepared.plan(), changed);
        if let Some(time) = trial {
            self.begin_trial(now.clock + time, checkpoint, old, outputs);
        }
        self.plans.generation += 1;
        self.plans.replace(prepared.plan().clone(), checkpoint);
        outputs.push(Output::Plan(prepared.plan().clone(), trial.is_some()));
        // A worker pauses for all of its regions.
        let mut pauses = vec![Duration::ZERO; usize::from(self.draft.parallelism())];
        for (part, pause) in swap.pauses {
            pauses[usize::from(part.worker.0)] += pause;
        }
        let swapped = Swapped {
            plugins,
            is_on_trial: trial.is_some(),
            checkpoint,
            before,
            pauses,
            total: now.clock.saturating_sub(swap.requested),
        };
        outputs.push(Output::Notify(Notice::Swapped(swapped.clone())));
        outputs.push(Output::Answer(Reply::Swap(caller, Ok(swapped))));
    }

    /// A checkpoint will not be durable. If it is that of the swap, tasks have plugins that no checkpoint names, and the job
    /// has to go back.
    pub(super) fn failure_of_swap(
        &self,
        checkpoint: CheckpointId,
        reason: CheckpointFailure,
    ) -> Option<JobError> {
        let is_meant = self.swap()?.checkpoint == Some(checkpoint);
        is_meant.then_some(JobError::NotSwapped { checkpoint, reason })
    }

    /// Settles and answers the swap, now that the checkpoint from which the job resumes is known: it may be durable although
    /// the writer has not reported it. Workers do not run.
    pub(super) fn settle_swap(
        &mut self,
        now: Moment,
        restored: Option<CheckpointId>,
        cause: ReturnCause,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(restored) = restored {
            self.swap_is_durable(now, restored, self.draft.last_durable, outputs);
        }
        if let Some(swap) = self.take_swap_if(|_| true) {
            let to = restored;
            let refusal = match swap.checkpoint {
                Some(_) => Refusal::SwapUndone { to, cause },
                None => Refusal::SwapNotBegun { to, cause },
            };
            let reply = Reply::Swap(swap.request.caller, Err(refusal));
            outputs.push(Output::Answer(reply));
        }
    }

    /// The job ends: a swap whose checkpoint has not begun does not happen.
    pub(super) fn refuse_swap(&mut self, outputs: &mut Vec<Output>) {
        if let Some(swap) = self.take_swap_if(|swap| swap.checkpoint.is_none()) {
            let reply = Reply::Swap(swap.request.caller, Err(Refusal::SwapAtEnd));
            outputs.push(Output::Answer(reply));
        }
    }

    /// The swap under way, also if a rollback has taken its place.
    fn swap(&self) -> Option<&Swap> {
        match &self.operation {
            Some(Operation::Swap(swap)) => Some(swap),
            Some(Operation::Rollback(Rollback { interrupted, .. })) => interrupted.as_ref(),
            _ => None,
        }
    }

    fn take_swap_if(&mut self, is_meant: impl FnOnce(&Swap) -> bool) -> Option<Swap> {
        if !is_meant(self.swap()?) {
            return None;
        }
        match &mut self.operation {
            Some(Operation::Rollback(rollback)) => rollback.interrupted.take(),
            operation => match operation.take() {
                Some(Operation::Swap(swap)) => Some(swap),
                _ => None,
            },
        }
    }
}
