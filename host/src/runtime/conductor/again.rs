//! The conductor of a job whose tasks are made anew: after a failure, with another number of tasks, or with other plugins.
//! Requests of callers that wait stay. Snapshots that were collected are dropped, since their records are replayed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Action, Conductor, EarlierRuns, RescaleOrder};
use crate::checkpoint::OperatorSnapshot;
use crate::checkpoint::coordinator::Part;
use crate::runtime::plan::{Operator, Plan, Role};
use crate::runtime::report::{Asker, Rescaled};
use crate::state::StateSchema;
use crate::stream::CheckpointId;

impl Conductor {
    /// The job has gone back to a checkpoint, or to its beginning: its tasks are made anew, of `plan`. Wishes stay.
    pub fn begin_again(
        &mut self,
        now: Duration,
        plan: &Plan,
        schemas: Vec<Vec<StateSchema>>,
        next: CheckpointId,
        earlier: EarlierRuns,
    ) {
        if let Some(pending) = self.pending.take() {
            self.askers.extend(pending.askers);
        }
        self.operators = operators(plan, schemas);
        self.generation += 1;
        self.held.clear();
        self.parallelism = plan.parallelism;
        self.template.parallelism = plan.parallelism;
        self.template.records_in = earlier.records_in;
        self.template.records_out = earlier.records_out;
        self.last_durable = earlier.checkpoint;
        self.unwritten.clear();
        self.staged.clear();
        self.coordinator.remake(parts(plan), self.rescale.is_some());
        self.coordinator
            .begin_again(now, next, !self.askers.is_empty());
    }

    /// The tasks of the job are gone until it begins again; what is asked meanwhile waits for that.
    pub fn rest(&mut self) {
        self.coordinator.rest();
    }

    /// Whether the job was asked to stop where it stands.
    #[must_use]
    pub fn is_to_stop(&self) -> bool {
        self.coordinator.is_to_stop()
    }

    /// The job stops while its tasks do not run, so it has no other last checkpoint than `last`: what is to be answered.
    pub fn stop_at_rest(&mut self, last: Option<CheckpointId>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.refuse_rescale("the job is over", &mut actions);
        self.refuse_swap(&mut actions);
        if let Some(pending) = self.pending.take() {
            self.askers.extend(pending.askers);
        }
        let too_late = "the job was stopped while it waited after a failure, before it took one";
        let askers = self.askers.drain(..);
        actions.extend(askers.map(|asker| Action::Answer(asker, Err(too_late.to_owned()))));
        let none =
            "the job was stopped while it waited after a failure, and it has no checkpoint yet";
        let stopped = self.stop_askers.drain(..);
        actions.extend(
            stopped.map(|asker| Action::Answer(asker, last.ok_or_else(|| none.to_owned()))),
        );
        actions
    }

    /// Notes a request for another number of tasks; returns its asker with the reason if it must be refused.
    pub(super) fn note_rescale(
        &mut self,
        parallelism: u16,
        asker: Asker<Rescaled>,
    ) -> Result<(), (Asker<Rescaled>, String)> {
        let max = self.max_parallelism.get();
        if self.rescale.is_some() {
            let reason = "the job is being rescaled already; ask again once it is done";
            return Err((asker, reason.to_owned()));
        }
        if !(1..=max).contains(&parallelism) {
            let reason = format!(
                "{parallelism} is not between 1 and {max}, the `max-parallelism` of this job"
            );
            return Err((asker, reason));
        }
        if parallelism == self.parallelism {
            let reason = format!("the job runs with a parallelism of {parallelism} already");
            return Err((asker, reason));
        }
        self.rescale = Some(RescaleOrder {
            parallelism,
            asker,
            since: Duration::ZERO,
        });
        Ok(())
    }

    pub(super) fn refuse_rescale(&mut self, reason: &str, actions: &mut Vec<Action>) {
        if let Some(order) = self.rescale.take() {
            let reason = format!("the job was not rescaled: {reason}");
            actions.push(Action::AnswerRescale(order.asker, Err(reason)));
        }
    }
}

/// What takes snapshots of its own.
pub(super) fn parts(plan: &Plan) -> BTreeSet<Part> {
    let regions = plan.regions().into_iter().max().map_or(0, |last| last + 1);
    let workers = 0..usize::from(plan.parallelism);
    workers
        .flat_map(|worker| (0..regions).map(move |region| Part { worker, region }))
        .collect()
}

/// An operator as the next checkpoint has it, but for its tasks.
#[derive(Clone)]
pub(super) struct Operated {
    pub(super) node: usize,
    pub(super) snapshot: OperatorSnapshot,
    pub(super) component: Arc<[u8]>,
}

/// What a checkpoint says of each operator, but for its tasks.
pub(super) fn operators(plan: &Plan, schemas: Vec<Vec<StateSchema>>) -> Vec<Operated> {
    let mut operators = Vec::new();
    for (index, (node, states)) in plan.nodes.iter().zip(schemas).enumerate() {
        if let Role::Operator(Operator {
            plugin,
            config,
            replaces,
            ..
        }) = &node.role
        {
            let snapshot = OperatorSnapshot {
                name: node.name.clone(),
                plugin: plugin.digest(),
                config: config.clone(),
                replaces: replaces.clone(),
                states,
                tasks: Vec::new(),
            };
            operators.push(Operated {
                node: index,
                snapshot,
                component: Arc::clone(plugin.component()),
            });
        }
    }
    operators
}
