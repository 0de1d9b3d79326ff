//! A swap: requested, then a checkpoint at whose barrier plugins are replaced, then either durable or undone. After
//! that it may be on trial: a failure within that time returns the job to the checkpoint of the swap, with the operators
//! from before it.
//!
//! ```text
//!   requested ──▶ parcels and barrier sent ──▶ durable: the new plan counts ──▶ on trial ──▶ passed
//!       │                     │                                                    └──▶ failed: as if it had not been
//!       │                     └──▶ not durable: the job goes back, and the old plan counts
//!       └──▶ the job ends or goes back first: nothing has happened
//! ```
//!
//! A trial ends when its time is over, when the job goes back to before the swap for another reason, or with the process:
//! after a crash, the job restarts with the new plugin. Until a trial ends, no checkpoint is retired.
//!
//! The plans before swaps are kept, since the job may have to resume from a checkpoint of one of them.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{self, Fault};
use super::operation::Operation;
use super::phase::{Phase, Purpose, Return, StopCause};
use super::refusal::{EndCause, Refusal, ReturnCause};
use super::rollback::Rollback;
use super::{Caller, Job, Moment, Notice, Output, Reply, SwapRequest, Swapped};
use crate::runtime::JobError;
use crate::runtime::plan::{NodeIndex, Operator, Plan, Role};
use crate::runtime::report::CheckpointFailure;
use crate::runtime::snapshot::RegionId;
use crate::runtime::swap::{Replacement, plugin_at};
use crate::runtime::worker::Control;
use floodmark_checkpoint::Checkpoint;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::StateSchema;
use floodmark_state::stream::CheckpointId;

/// Earlier plans that are kept.
const EARLIER_MAX: usize = 1000;

/// A swap that was requested, or is under way.
pub(super) struct Swap {
    request: Box<SwapRequest>,
    requested: Duration,
    /// The checkpoint at whose barrier it happens, once that has begun.
    checkpoint: Option<CheckpointId>,
    pauses: Vec<(RegionId, Duration)>,
    /// The first failure of a new plugin to migrate something, before the trial has begun.
    not_migrated: Option<JobError>,
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
            not_migrated: None,
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

    /// Its checkpoint begins, and will name the new plugins. Workers get what they need before the barrier.
    pub(super) fn begin_swap(&mut self, checkpoint: CheckpointId, outputs: &mut Vec<Output>) {
        if let Some(Operation::Swap(swap)) = &mut self.operation {
            swap.checkpoint = Some(checkpoint);
            let prepared = &swap.request.prepared;
            self.draft
                .replace_operators(prepared.plan(), prepared.schemas());
            outputs.push(Output::Tell(Control::Replace(Replacement {
                checkpoint,
                handover: prepared.hold(),
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
        if let Some(error) = swap.not_migrated
            && matches!(self.phase, Phase::Running)
        {
            self.stop_workers(StopCause::Failed(error), outputs);
        }
    }

    /// A plugin cannot migrate something that an earlier version wrote. On trial that is a failure; else its records are
    /// handled as the pipeline says, and the rest stays as it is.
    pub(super) fn not_migrated(
        &mut self,
        operator: String,
        reason: String,
        outputs: &mut Vec<Output>,
    ) {
        let is_on_trial = self
            .trial
            .as_ref()
            .is_some_and(|trial| trial.names().contains(&operator));
        let error = JobError::NotMigrated { operator, reason };
        if is_on_trial {
            return self.stop_workers(StopCause::Failed(error), outputs);
        }
        if let Some(Operation::Swap(swap)) = &mut self.operation
            && swap.checkpoint.is_some()
            && swap.request.trial.is_some()
        {
            swap.not_migrated.get_or_insert(error);
        }
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

    /// The job is over, and with it a swap that has not been settled.
    pub(super) fn end_swap(&mut self, cause: &EndCause, outputs: &mut Vec<Output>) {
        if let Some(swap) = self.take_swap_if(|_| true) {
            let cause = cause.clone();
            let reply = Reply::Swap(swap.request.caller, Err(Refusal::Over { cause }));
            outputs.push(Output::Answer(reply));
        }
    }

    /// The client no longer wants its swap, which can be undone as long as no worker knows of it.
    pub(super) fn withdraw_swap(&mut self, caller: Caller<bool>, outputs: &mut Vec<Output>) {
        let swap = self.take_swap_if(|swap| swap.checkpoint.is_none());
        let is_withdrawn = swap.is_some();
        if let Some(swap) = swap {
            let reply = Reply::Swap(swap.request.caller, Err(Refusal::Withdrawn));
            outputs.push(Output::Answer(reply));
        }
        outputs.push(Output::Answer(Reply::Withdrawn(caller, is_withdrawn)));
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

/// A swap that may be undone.
pub(super) struct Trial {
    /// The time of the job's clock up to which a failure reverts the swap.
    pub(super) until: Duration,
    /// What ran before.
    operators: Vec<Before>,
    /// The checkpoint of the swap.
    checkpoint: CheckpointId,
}

/// An operator as it was before a swap.
#[derive(Clone)]
struct Before {
    /// Its node in the plan.
    node: NodeIndex,
    name: String,
    /// What ran.
    operator: Operator,
    /// Its states, as the checkpoint of the swap would have them without it.
    schemas: Vec<StateSchema>,
}

/// A checkpoint of a swap, read as if the swap had not been: no state has to be migrated back, since at its barrier all was
/// as the earlier plugin had left it.
pub struct Amended {
    checkpoint: CheckpointId,
    operators: Vec<Before>,
}

impl std::fmt::Debug for Amended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Amended({})", self.checkpoint)
    }
}

impl Amended {
    /// Changes what was read, if it is that checkpoint.
    pub fn apply(&self, checkpoint: &mut Checkpoint) {
        if checkpoint.id != self.checkpoint {
            return;
        }
        for before in &self.operators {
            let mut saved = checkpoint.operators.iter_mut();
            if let Some(saved) = saved.find(|saved| saved.name == before.name) {
                saved.plugin = before.operator.plugin.digest();
                saved.config.clone_from(&before.operator.config);
                saved.replaces.clone_from(&before.operator.replaces);
                saved.states.clone_from(&before.schemas);
            }
        }
    }
}

impl Trial {
    fn names(&self) -> Vec<String> {
        let names = self.operators.iter().map(|before| before.name.clone());
        names.collect()
    }
}

impl Job {
    /// What runs from the checkpoint of a swap on is on trial; `before` has by node the states that it would have without
    /// the swap. To be called before the plan is replaced.
    fn begin_trial(
        &mut self,
        until: Duration,
        checkpoint: CheckpointId,
        before: Vec<(NodeIndex, Vec<StateSchema>)>,
        outputs: &mut Vec<Output>,
    ) {
        let plan = self.plans.current();
        let operators = before.into_iter().filter_map(|(node, schemas)| {
            let Role::Operator(operator) = &plan.node(node).role else {
                return None;
            };
            Some(Before {
                node,
                name: plan.node(node).name.clone(),
                operator: operator.clone(),
                schemas,
            })
        });
        self.trial = Some(Trial {
            until,
            operators: operators.collect(),
            checkpoint,
        });
        let retains = !fault::is_armed(Fault::TrialRetires);
        outputs.push(Output::RetainAll(retains));
    }

    /// Why there is no other swap while one is on trial: it would not be clear which of them caused a failure.
    fn trial_refusal(&self, now: Moment) -> Option<Refusal> {
        let trial = self.trial.as_ref()?;
        let left = trial.until.saturating_sub(now.clock);
        Some(Refusal::OnTrial {
            operators: trial.names(),
            seconds_left: left.as_secs() + 1,
        })
    }

    /// Ends a trial whose time is over.
    pub(super) fn look_at_trial(&mut self, now: Moment, outputs: &mut Vec<Output>) {
        let is_over = |trial: &mut Trial| now.clock >= trial.until;
        if let Some(trial) = self.trial.take_if(is_over) {
            outputs.push(Output::RetainAll(false));
            let operators = trial.names();
            outputs.push(Output::Notify(Notice::TrialPassed { operators }));
        }
    }

    /// The job resumes from `checkpoint`: a trial whose swap came later is over.
    pub(super) fn forget_later_trial(
        &mut self,
        checkpoint: Option<CheckpointId>,
        outputs: &mut Vec<Output>,
    ) {
        let is_later = |trial: &mut Trial| checkpoint.is_none_or(|id| id < trial.checkpoint);
        if self.trial.take_if(is_later).is_some() {
            outputs.push(Output::RetainAll(false));
        }
    }

    /// Forgets a trial: the plan is set by other means.
    pub(super) fn forget_trial(&mut self, outputs: &mut Vec<Output>) {
        if self.trial.take().is_some() {
            outputs.push(Output::RetainAll(false));
        }
    }

    /// The trial that has failed with this, if one has.
    pub(super) fn take_failed_trial(&mut self, now: Moment, error: &JobError) -> Option<Trial> {
        // A failure that may pass counts, too, since the swap may have caused it.
        // A sink may fail at what the new plugin emits.
        let is_of_new = matches!(error, JobError::Guest(_) | JobError::BadRecord { .. });
        let counts = error.may_pass() || is_of_new;
        self.trial
            .take_if(|trial| counts && now.clock < trial.until)
    }

    /// Goes back to before a swap, after `error`. The workers have ended.
    pub(super) fn undo_swap(&mut self, trial: Trial, error: &JobError, outputs: &mut Vec<Output>) {
        crash::point(Point::SwapReverting);
        let mut plan = Plan::clone(self.plans.current());
        let plugin = |before: &Before| (before.name.clone(), Arc::clone(&before.operator.plugin));
        outputs.push(Output::RetainAll(false));
        outputs.push(Output::Notify(Notice::TrialFailed {
            plugins: trial.operators.iter().map(plugin).collect(),
            operators: trial.names(),
            reason: error.to_string(),
            to: trial.checkpoint,
        }));
        for before in &trial.operators {
            plan.nodes[before.node.0].role = Role::Operator(before.operator.clone());
        }
        self.plans.amend(Amended {
            checkpoint: trial.checkpoint,
            operators: trial.operators,
        });
        let back = Return::to(Purpose::UndoSwap(trial.checkpoint)).with(plan.into());
        self.recover(back, Some(trial.checkpoint), false, outputs);
    }
}

/// The plan that counts, and the plans before it, from which the job resumes when later checkpoints are damaged.
///
/// - `earlier` is in the order of checkpoints.
pub(super) struct Plans {
    current: Arc<Plan>,
    /// Each with the first checkpoint after it: that may be damaged.
    earlier: Vec<(CheckpointId, Arc<Plan>)>,
    /// How the checkpoint of a swap that has failed its trial reads as if the swap had not been.
    amended: Option<Arc<Amended>>,
    /// Grows whenever plan or states change.
    pub(super) generation: u64,
}

impl Plans {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            current: plan,
            earlier: Vec::new(),
            amended: None,
            generation: 0,
        }
    }

    pub(super) fn current(&self) -> &Arc<Plan> {
        &self.current
    }

    pub(super) fn amended(&self) -> Option<Arc<Amended>> {
        self.amended.clone()
    }

    fn amend(&mut self, amended: Amended) {
        self.amended = Some(Arc::new(amended));
    }

    /// From a checkpoint on, which is durable, another plan counts.
    fn replace(&mut self, plan: Arc<Plan>, from: CheckpointId) {
        debug_assert!(
            self.earlier.last().is_none_or(|(last, _)| *last < from),
            "plans are replaced in the order of checkpoints"
        );
        let before = std::mem::replace(&mut self.current, plan);
        self.earlier.push((from, before));
        let excess = self.earlier.len().saturating_sub(EARLIER_MAX);
        self.earlier.drain(..excess);
    }

    /// Another plan counts, whatever the checkpoint.
    pub(super) fn set(&mut self, plan: Arc<Plan>) {
        self.current = plan;
    }

    /// The job resumes from `checkpoint`: the plan as of that checkpoint counts again. Returns whether that is another.
    pub(super) fn go_back_to(&mut self, checkpoint: Option<CheckpointId>) -> bool {
        let mut is_other = false;
        let is_later = |(from, _): &mut (CheckpointId, _)| checkpoint.is_none_or(|id| id < *from);
        while let Some((_, before)) = self.earlier.pop_if(is_later) {
            let parallelism = self.current.parallelism;
            self.current = match before.parallelism == parallelism {
                true => before,
                // The job was rescaled since.
                false => Arc::new(Plan {
                    parallelism,
                    ..Plan::clone(&before)
                }),
            };
            is_other = true;
        }
        is_other
    }
}

#[cfg(test)]
mod tests {
    //! Catches a failure on trial that is laid to another plugin, and a checkpoint of a swap that is read with the states of
    //! the plugin that failed.

    use floodmark_testing::from_hex;

    use super::*;
    use floodmark_checkpoint::manifest;

    #[test]
    fn only_the_checkpoint_of_the_swap_is_amended() {
        let text = include_str!("../../../../tests/fixtures/manifest-v1.hex");
        let bytes = from_hex(text);
        let Ok(checkpoint) = manifest::decode(&bytes) else {
            panic!("the fixture cannot be read");
        };
        let amended = Amended {
            checkpoint: checkpoint.id.next(),
            operators: Vec::new(),
        };
        let mut same = checkpoint.clone();
        amended.apply(&mut same);
        assert_eq!(same, checkpoint);
    }
}
