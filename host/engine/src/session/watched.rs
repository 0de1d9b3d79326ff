//! Updates a job's observer from its notices and plans.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::what_runs::LookedAt;
use crate::edge::clock::Clock;
use crate::edge::drive::Inputs;
use crate::edge::scratch;
use crate::edge::swap::{SwapDesk, Swapper};
use crate::guest::{GuestEngine, Plugin};
use crate::job::{Notice, WentBack};
use crate::observe::{
    CheckpointFacts, DelayFacts, Kind, NodeFacts, Observer, PluginFacts, WorkerMetrics,
};
use crate::runtime::plan::{Plan, Role, WorkerIndex};

/// A job that is observed.
#[derive(Clone)]
pub struct Watched {
    /// Shared with the threads that answer clients.
    pub observer: Arc<Observer>,
    /// Gives the wall-clock times of failures and restarts.
    pub clock: Clock,
}

impl Watched {
    /// Observes a job that is about to start.
    pub fn new(plan: &Plan, clock: Clock) -> Self {
        let observer = Observer::new(
            &plan.job,
            plan.parallelism,
            plan.max_parallelism.get(),
            nodes(plan),
            clock.wall_ms(),
        );
        Self {
            observer: Arc::new(observer),
            clock,
        }
    }

    /// Sets the plan that the job runs from now on.
    pub fn planned(&self, plan: &Plan, is_on_trial: bool) {
        self.observer
            .runs(plan.parallelism, nodes(plan), is_on_trial);
    }

    /// The job processes records from now on.
    pub fn begun(&self) {
        self.observer.begun();
    }

    /// Takes a sample of the counters.
    pub fn watch(&self, now: Duration) {
        self.observer.sample(now);
    }

    /// The metrics that this worker updates while it runs.
    pub fn worker(&self, index: WorkerIndex) -> Arc<WorkerMetrics> {
        self.observer.worker(usize::from(index.0))
    }

    /// Updates the observer from a notice. Log lines, and notices that change nothing that clients see, are ignored.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Begun {
                checkpoint,
                trigger,
                created_ms,
            } => self
                .observer
                .checkpoint_begun(checkpoint.0, trigger.word(), *created_ms),
            Notice::Completed(checkpoint) => self.observer.checkpoint_ended(CheckpointFacts {
                id: checkpoint.id.0,
                trigger: checkpoint.trigger.word(),
                created_ms: checkpoint.created_ms,
                total: checkpoint.total,
                collecting: checkpoint.collecting,
                stall: checkpoint.stall,
                state_bytes_new: checkpoint.state_bytes_new,
                state_bytes: checkpoint.state_bytes,
                records_in: checkpoint.records_in,
                ..CheckpointFacts::default()
            }),
            Notice::NotCompleted {
                checkpoint,
                trigger,
                created_ms,
                total,
                reason,
            } => self.observer.checkpoint_ended(CheckpointFacts {
                id: checkpoint.0,
                trigger: trigger.word(),
                created_ms: *created_ms,
                total: *total,
                failure: Some(reason.to_string()),
                ..CheckpointFacts::default()
            }),
            Notice::Failed { reason } => self.observer.failed(reason, self.clock.wall_ms()),
            Notice::WentBack(went_back) => {
                let now_ms = self.clock.wall_ms();
                self.observer.failed(&went_back.reason, now_ms);
                self.observer.restarting(delay(went_back, now_ms));
                let to = went_back.to.map(|id| id.0);
                self.observer.restored(to, now_ms);
            }
            Notice::Retried => self.observer.retried(),
            Notice::Rescaled(_) => self.observer.rescaled(),
            Notice::Swapped(swapped) => self.observer.swapped(swapped.pause()),
            Notice::RolledBack(rolled_back) => {
                let now_ms = self.clock.wall_ms();
                self.observer.restored(Some(rolled_back.to.0), now_ms);
            }
            Notice::TrialFailed { reason, to, .. } => {
                let now_ms = self.clock.wall_ms();
                self.observer.failed(reason, now_ms);
                self.observer.restored(Some(to.0), now_ms);
                self.observer.swap_undone();
                self.observer.trial_is_over();
            }
            Notice::TrialPassed { .. } => self.observer.trial_is_over(),
            Notice::NotVisible { .. }
            | Notice::BackAt { .. }
            | Notice::GaveUp { .. }
            | Notice::StoppedAtRest { .. }
            | Notice::Log { .. } => {}
        }
    }
}

/// The delay after a failure, if there is one.
fn delay(went_back: &WentBack, now_ms: u64) -> Option<DelayFacts> {
    let delay_ms = u64::try_from(went_back.delay.as_millis()).unwrap_or(u64::MAX);
    (delay_ms > 0).then(|| DelayFacts {
        attempt: went_back.attempt,
        attempts_max: went_back.attempts_max,
        until_ms: now_ms.saturating_add(delay_ms),
    })
}

fn nodes(plan: &Plan) -> Vec<NodeFacts> {
    let nodes = plan.nodes.iter().map(|node| NodeFacts {
        name: node.name.clone(),
        kind: match &node.role {
            Role::Source(_) => Kind::Source,
            Role::Sink(_) => Kind::Sink,
            Role::Operator(operator) => Kind::Operator(plugin_facts(&operator.plugin)),
        },
    });
    nodes.collect()
}

/// The plugin's description of itself.
fn plugin_facts(plugin: &Plugin) -> PluginFacts {
    let description = plugin.description();
    PluginFacts {
        name: description.name.clone(),
        version: description.version.clone(),
        digest: plugin.digest().to_string(),
    }
}

/// Swaps plugins of a running job.
pub fn swapper(
    folder: &Path,
    reader: &LookedAt,
    inputs: &Inputs,
    engine: &GuestEngine,
    clock: Clock,
) -> Swapper {
    let (folder, reader) = (folder.to_path_buf(), Arc::clone(reader));
    let look = move || {
        let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.clone()
    };
    Swapper {
        engine: engine.clone(),
        inputs: inputs.clone(),
        reader: Arc::new(look),
        scratch: Arc::new(move || scratch::file_in(&folder)),
        clock,
        desk: SwapDesk::default(),
    }
}
