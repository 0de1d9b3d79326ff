//! A swap as the conductor sees it: a wish, then a checkpoint at whose barrier plugins were replaced, then either the truth or
//! undone. There is one at a time.
//!
//! ```text
//!   asked ──▶ parcels and barrier sent off ──▶ durable: the new plan counts
//!     │                     └──▶ not durable: the job goes back, and the old plan counts
//!     └──▶ the job ends or goes back first: nothing has happened
//! ```

use std::time::Duration;

use super::again::{Operated, operators};
use super::{Action, Conductor};
use crate::checkpoint::coordinator::{Event, Part};
use crate::crash::{self, Point};
use crate::runtime::JobError;
use crate::runtime::report::Asker;
use crate::runtime::swap::{Prepared, Replacement, Running, SwapRequest, Swapped, plugin_at};
use crate::runtime::worker::Control;
use crate::state::StateSchema;
use crate::stream::CheckpointId;

/// A swap that is wished for, or under way.
pub(super) struct Swap {
    request: Box<SwapRequest>,
    asked: Duration,
    /// The checkpoint at whose barrier it happens, once that has begun.
    checkpoint: Option<CheckpointId>,
    pauses: Vec<(Part, Duration)>,
}

impl Conductor {
    /// Takes a wish, or refuses it.
    pub(super) fn ask_for_swap(
        &mut self,
        now: Duration,
        request: Box<SwapRequest>,
        actions: &mut Vec<Action>,
    ) -> Option<Event> {
        let refusal = if self.swap.is_some() {
            Some("another swap is under way; ask again when it is done")
        } else if request.prepared.generation != self.generation
            || request.prepared.handover.workers() != usize::from(self.parallelism)
        {
            Some("the job has changed while the swap was prepared; ask again")
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let refused = Err(refusal.to_owned());
            actions.push(Action::AnswerSwap(request.asker, refused));
            return None;
        }
        crash::point(Point::SwapAsked);
        self.swap = Some(Swap {
            request,
            asked: now,
            checkpoint: None,
            pauses: Vec::new(),
        });
        Some(Event::SwapAsked)
    }

    /// Its checkpoint begins: workers get what they need before the barrier.
    pub(super) fn begin_swap(&mut self, checkpoint: CheckpointId, actions: &mut Vec<Action>) {
        if let Some(swap) = &mut self.swap {
            swap.checkpoint = Some(checkpoint);
            actions.push(Action::Tell(Control::Replace(Replacement {
                checkpoint,
                handover: swap.request.prepared.handover.clone(),
                stopwatch: swap.request.stopwatch.clone(),
            })));
        }
    }

    pub(super) fn note_pause(&mut self, of: CheckpointId, part: Part, pause: Duration) {
        let swap = self.swap.as_mut();
        if let Some(swap) = swap.filter(|swap| swap.checkpoint == Some(of)) {
            swap.pauses.push((part, pause));
        }
    }

    /// The operators as a checkpoint that is being written names them: for the checkpoint of a swap, with the new plugins.
    pub(super) fn operators_at(&self, checkpoint: CheckpointId) -> Vec<Operated> {
        let swap = self.swap.as_ref();
        match swap.filter(|swap| swap.checkpoint == Some(checkpoint)) {
            Some(swap) => {
                crash::point(Point::SwapCollected);
                self.operators_after(&swap.request.prepared)
            }
            None => self.operators.clone(),
        }
    }

    fn operators_after(&self, prepared: &Prepared) -> Vec<Operated> {
        let mut schemas = vec![Vec::new(); self.nodes];
        for Operated { node, snapshot, .. } in &self.operators {
            let changed = prepared.schemas.get(node);
            schemas[*node].clone_from(changed.unwrap_or(&snapshot.states));
        }
        operators(&prepared.plan, schemas)
    }

    /// A checkpoint is durable. If it is that of the swap, the new plan counts.
    pub(super) fn swap_is_durable(
        &mut self,
        now: Duration,
        checkpoint: CheckpointId,
        durable_before: Option<CheckpointId>,
        actions: &mut Vec<Action>,
    ) {
        let is_meant = |swap: &mut Swap| swap.checkpoint == Some(checkpoint);
        let Some(swap) = self.swap.take_if(is_meant) else {
            return;
        };
        let prepared = &swap.request.prepared;
        let mut plugins = Vec::new();
        let mut before = Vec::new();
        for Operated { node, snapshot, .. } in &self.operators {
            if prepared.schemas.contains_key(node) {
                plugins.extend(plugin_at(&prepared.plan, *node));
                before.push((*node, snapshot.states.clone()));
            }
        }
        self.operators = self.operators_after(prepared);
        self.generation += 1;
        actions.push(Action::PlanReplaced {
            plan: prepared.plan.clone(),
            from: checkpoint,
            before,
            trial: swap.request.trial,
        });
        // A worker stands still for all of its regions.
        let mut pauses = vec![Duration::ZERO; usize::from(self.parallelism)];
        for (part, pause) in swap.pauses {
            pauses[part.worker] += pause;
        }
        actions.push(Action::AnswerSwap(
            swap.request.asker,
            Ok(Swapped {
                plugins,
                is_on_trial: swap.request.trial.is_some(),
                checkpoint,
                before: durable_before,
                pauses,
                total: now.saturating_sub(swap.asked),
            }),
        ));
    }

    /// A checkpoint will not be durable. If it is that of the swap, tasks have plugins that no checkpoint names: the job has
    /// to go back.
    pub(super) fn swap_is_lost(
        &self,
        checkpoint: CheckpointId,
        reason: &str,
        actions: &mut Vec<Action>,
    ) {
        let of = self.swap.as_ref().and_then(|swap| swap.checkpoint);
        if of == Some(checkpoint) {
            actions.push(Action::Fail(JobError::NotSwapped {
                checkpoint,
                reason: reason.to_owned(),
            }));
        }
    }

    /// Whether tasks may have plugins that no checkpoint names.
    #[must_use]
    pub fn is_swapping(&self) -> bool {
        let of = self.swap.as_ref().and_then(|swap| swap.checkpoint);
        of.is_some()
    }

    /// Settles and answers the swap after the job has gone back to a checkpoint because of `reason`, while it does not run.
    /// To be called before tasks are made again: the swap may be durable although the writer has not reported it.
    pub fn settle_swap(
        &mut self,
        now: Duration,
        restored: Option<CheckpointId>,
        reason: &str,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(restored) = restored {
            self.swap_is_durable(now, restored, self.last_durable, &mut actions);
        }
        if let Some(swap) = self.swap.take() {
            let place = match restored {
                Some(id) => format!("checkpoint {id}"),
                None => "the beginning".to_owned(),
            };
            let answer = match swap.checkpoint {
                Some(_) => format!(
                    "the job has gone back to {place} with the old plugin and the old state: {reason}"
                ),
                None => format!(
                    "nothing was replaced: the job has gone back to {place} before it could be ({reason}); ask again"
                ),
            };
            actions.push(Action::AnswerSwap(swap.request.asker, Err(answer)));
        }
        actions
    }

    /// The job ends: what was only wished for does not happen.
    pub(super) fn refuse_swap(&mut self, actions: &mut Vec<Action>) {
        if let Some(swap) = self.swap.take_if(|swap| swap.checkpoint.is_none()) {
            let reason = "nothing was replaced: the job ends; swap while it is stopped, and the next run uses the new plugin";
            actions.push(Action::AnswerSwap(
                swap.request.asker,
                Err(reason.to_owned()),
            ));
        }
    }

    /// Answers a request for what runs; the driver, which carries this action out, adds the plan.
    pub(super) fn describe(&self, asker: Asker<Running>) -> Action {
        let mut schemas = vec![Vec::new(); self.nodes];
        for operated in &self.operators {
            let states = &operated.snapshot.states;
            let held = self.held.get(&operated.node).copied();
            let newest = |state: &StateSchema| {
                let mut later = states.iter().filter(|other| other.name == state.name);
                later.all(|other| other.id <= state.id)
            };
            let is_needed = |state: &&StateSchema| {
                let may_be_there = held.is_none_or(|held| held.may_have(state.id));
                may_be_there || (!state.name.is_empty() && newest(state))
            };
            schemas[operated.node] = states.iter().filter(is_needed).cloned().collect();
        }
        Action::Describe {
            asker,
            schemas,
            generation: self.generation,
            newest: self.last_durable,
        }
    }
}
