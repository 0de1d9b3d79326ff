//! The observer of one job: its shape, what happened to it, and the numbers of its workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::checkpoints::{CheckpointFacts, Checkpoints};
use super::numbers::{Counter, Gauge, Histogram};
use super::profile::{Profile, SampledStacks};
use super::rates::{NodeTotals, Rates};
use super::task::{Stage, WorkerMetrics};
use super::{prometheus, status};

/// What a job is at, in Flink's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobState {
    /// Its state is being restored, and its output brought in order.
    #[default]
    Initializing,
    /// Records may flow.
    Running,
    /// It has failed and goes back to a checkpoint.
    Restarting,
    /// Its input was read to the end.
    Finished,
    /// It was stopped with a checkpoint.
    Suspended,
    /// It has failed for good.
    Failed,
}

impl JobState {
    /// All there are.
    pub(super) const ALL: [Self; 6] = [
        Self::Initializing,
        Self::Running,
        Self::Restarting,
        Self::Finished,
        Self::Suspended,
        Self::Failed,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initializing => "INITIALIZING",
            Self::Running => "RUNNING",
            Self::Restarting => "RESTARTING",
            Self::Finished => "FINISHED",
            Self::Suspended => "SUSPENDED",
            Self::Failed => "FAILED",
        }
    }
}

/// A plugin that an operator runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginFacts {
    /// As it names itself.
    pub name: String,
    /// The version that it gives itself.
    pub version: String,
    /// SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// It reads records.
    Source,
    /// It calls a plugin.
    Operator(PluginFacts),
    /// It writes records.
    Sink,
}

impl Kind {
    /// The stages that a worker goes through for such a node.
    #[must_use]
    pub fn stages(&self) -> &'static [Stage] {
        match self {
            Self::Source => &[Stage::Source, Stage::Exchange],
            Self::Operator(_) => &[Stage::Exchange, Stage::Lookup, Stage::Guest, Stage::Apply],
            Self::Sink => &[Stage::Exchange, Stage::Sink],
        }
    }
}

/// A node of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// The last failure.
#[derive(Debug, Clone)]
pub(super) struct FailureFacts {
    pub(super) message: String,
    pub(super) at_ms: u64,
}

/// What changes rarely.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) start_ms: u64,
    pub(super) state: JobState,
    pub(super) parallelism: u16,
    pub(super) max_parallelism: u16,
    pub(super) nodes: Vec<NodeFacts>,
    /// Of each worker that there has been.
    pub(super) workers: Vec<Arc<WorkerMetrics>>,
    pub(super) checkpoints: Checkpoints,
    pub(super) failure: Option<FailureFacts>,
    rates: Rates,
}

/// Watches one job, for as long as its process lives.
#[derive(Debug)]
pub struct Observer {
    facts: Mutex<Facts>,
    /// How long checkpoints took that are durable.
    pub(super) checkpoint_durations: Histogram,
    /// Failures of a worker, the last one included.
    pub(super) failures: Counter,
    /// How often the job began again without the process ending.
    pub(super) restarts: Counter,
    /// How long workers stood still for swaps.
    pub(super) swap_pauses: Histogram,
    /// Swaps that were taken back.
    pub(super) swaps_undone: Counter,
    /// How often the parallelism was changed.
    pub(super) rescales: Counter,
    /// Whether a swap is on trial.
    pub(super) on_trial: Gauge,
}

impl Observer {
    /// For a job that begins. `start_ms` is the time of day, in milliseconds since 1970.
    #[must_use]
    pub fn new(
        name: &str,
        parallelism: u16,
        max_parallelism: u16,
        nodes: Vec<NodeFacts>,
        start_ms: u64,
    ) -> Self {
        let facts = Facts {
            name: name.to_owned(),
            start_ms,
            state: JobState::default(),
            parallelism,
            max_parallelism,
            nodes,
            workers: Vec::new(),
            checkpoints: Checkpoints::default(),
            failure: None,
            rates: Rates::default(),
        };
        Self {
            facts: Mutex::new(facts),
            checkpoint_durations: Histogram::default(),
            failures: Counter::default(),
            restarts: Counter::default(),
            swap_pauses: Histogram::default(),
            swaps_undone: Counter::default(),
            rescales: Counter::default(),
            on_trial: Gauge::default(),
        }
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a worker writes. The same for the worker of the same index that comes after it, so that nothing goes back.
    #[must_use]
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        let mut facts = self.facts();
        let nodes = facts.nodes.len();
        while facts.workers.len() <= index {
            facts.workers.push(Arc::new(WorkerMetrics::new(nodes)));
        }
        Arc::clone(&facts.workers[index])
    }

    /// The job is at something else.
    pub fn is_now(&self, state: JobState) {
        self.facts().state = state;
    }

    /// The job runs this from now on; the nodes are the same but for their plugins. `is_on_trial` while a failure takes a
    /// swap back.
    pub fn runs(&self, parallelism: u16, nodes: Vec<NodeFacts>, is_on_trial: bool) {
        let mut facts = self.facts();
        facts.parallelism = parallelism;
        facts.nodes = nodes;
        self.on_trial.set(is_on_trial.into());
    }

    /// The parallelism was changed while the job ran.
    pub fn rescaled(&self) {
        self.rescales.add(1);
    }

    /// Plugins were replaced; `pause` is the longest that a worker stood still for it.
    pub fn swapped(&self, pause: Duration) {
        self.swap_pauses.note(pause);
    }

    /// A swap was taken back.
    pub fn swap_undone(&self) {
        self.swaps_undone.add(1);
    }

    /// What was on trial has passed it, or failed.
    pub fn trial_is_over(&self) {
        self.on_trial.set(0);
    }

    /// A checkpoint is under way.
    pub fn checkpoint_begun(&self, id: u64, trigger: &'static str, created_ms: u64) {
        self.facts().checkpoints.begun(id, trigger, created_ms);
    }

    /// A checkpoint is durable, or is not.
    pub fn checkpoint_ended(&self, outcome: CheckpointFacts) {
        if outcome.failure.is_none() {
            self.checkpoint_durations.note(outcome.total);
        }
        self.facts().checkpoints.ended(outcome);
    }

    /// A checkpoint was copied to a file.
    pub fn savepoint(&self, id: u64, path: &str) {
        self.facts().checkpoints.copied(id, path);
    }

    /// The job resumes from this checkpoint, or from its beginning.
    pub fn restored(&self, checkpoint: Option<u64>, now_ms: u64) {
        self.facts().checkpoints.restored(checkpoint, now_ms);
    }

    /// The job has failed.
    pub fn failed(&self, reason: &str, now_ms: u64) {
        self.failures.add(1);
        self.facts().failure = Some(FailureFacts {
            message: reason.to_owned(),
            at_ms: now_ms,
        });
    }

    /// The job begins again, after a failure.
    pub fn restarting(&self) {
        self.restarts.add(1);
        self.is_now(JobState::Restarting);
    }

    /// Notes how far all is, for what is told by the second. To be called now and then.
    pub fn sample(&self, now: Duration) {
        let mut facts = self.facts();
        if facts.rates.wants(now) {
            let totals = facts.totals();
            facts.rates.note(now, totals);
        }
    }

    /// All that is known, as JSON. `now` is that of [`Observer::sample`], `now_ms` the time of day.
    #[must_use]
    pub fn status(&self, now: Duration, now_ms: u64) -> Value {
        let facts = self.facts();
        let totals = facts.totals();
        let lately = facts.rates.lately(now, &totals);
        status::json(self, &facts, &lately, now_ms)
    }

    /// What became of the checkpoints, as JSON.
    #[must_use]
    pub fn checkpoints(&self) -> Value {
        self.facts().checkpoints.json()
    }

    /// Where the time went until now, that in plugins divided as they were seen in samples.
    #[must_use]
    pub fn profile(&self, stacks: &SampledStacks) -> Profile {
        Profile::of(&self.facts(), stacks)
    }

    /// All numbers, as text for Prometheus.
    #[must_use]
    pub fn prometheus(&self, now_ms: u64) -> String {
        prometheus::text(self, &self.facts(), now_ms)
    }
}

impl Facts {
    /// How far each node is, over all its tasks.
    fn totals(&self) -> Vec<NodeTotals> {
        let nodes = 0..self.nodes.len();
        nodes
            .map(|node| NodeTotals::of(&self.workers, node))
            .collect()
    }

    /// The workers that there are now.
    pub(super) fn live_workers(&self) -> impl Iterator<Item = &Arc<WorkerMetrics>> {
        self.workers.iter().take(usize::from(self.parallelism))
    }
}
