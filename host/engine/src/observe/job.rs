//! The observer of one job: its nodes, its events, and the metrics of its workers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::checkpoints::{CheckpointFacts, Checkpoints};
use super::numbers::{Counter, Gauge, Histogram};
use super::profile::{Profile, SampledStacks};
use super::rates::{NodeTotals, Rates};
use super::task::{Stage, WorkerMetrics};
use super::{prometheus, status};

/// The state of a job, in Flink's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum JobState {
    /// State and output are being restored.
    #[default]
    Initializing,
    /// Records are processed.
    Running,
    /// It has failed and returns to a checkpoint.
    Restarting,
    /// Its input was read to the end.
    Finished,
    /// It was stopped with a checkpoint.
    Suspended,
    /// It has failed permanently.
    Failed,
}

impl JobState {
    /// All states.
    pub(super) const ALL: [Self; 6] = [
        Self::Initializing,
        Self::Running,
        Self::Restarting,
        Self::Finished,
        Self::Suspended,
        Self::Failed,
    ];

    /// Its name in JSON, in capitals; metrics have it in small letters.
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
    /// The name in the plugin's description.
    pub name: String,
    /// The version in the plugin's description.
    pub version: String,
    /// SHA-256 of the component, in hexadecimal digits.
    pub digest: String,
}

/// The kind of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Reads records.
    Source,
    /// Calls a plugin.
    Operator(PluginFacts),
    /// Writes records.
    Sink,
}

impl Kind {
    /// The stages of a worker's time for such a node.
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
    /// Its name in the pipeline.
    pub name: String,
    /// The kind of node.
    pub kind: Kind,
}

/// The last failure of the job.
#[derive(Debug, Clone)]
pub(super) struct FailureFacts {
    pub(super) message: String,
    pub(super) at_ms: u64,
}

/// A delay after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayFacts {
    /// The number of the failure, from 1, as the restart strategy counts.
    pub attempt: u32,
    /// The number of attempts up to which the job resumes; `None` for any number.
    pub attempts_max: Option<u32>,
    /// When it ends, in milliseconds since 1970.
    pub until_ms: u64,
}

/// Facts that change rarely.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) name: String,
    pub(super) start_ms: u64,
    pub(super) state: JobState,
    pub(super) parallelism: u16,
    pub(super) max_parallelism: u16,
    pub(super) nodes: Vec<NodeFacts>,
    /// The metrics of all workers so far.
    pub(super) workers: Vec<Arc<WorkerMetrics>>,
    pub(super) checkpoints: Checkpoints,
    pub(super) failure: Option<FailureFacts>,
    /// While the job waits after a failure.
    pub(super) delay: Option<DelayFacts>,
    rates: Rates,
}

/// Observes one job, for the life of its process.
#[derive(Debug)]
pub struct Observer {
    facts: Mutex<Facts>,
    /// Durations of completed checkpoints.
    pub(super) checkpoint_durations: Histogram,
    /// Failures of the job, including the last one.
    pub(super) failures: Counter,
    /// Restarts of the job within the process.
    pub(super) restarts: Counter,
    /// Pauses of workers for swaps.
    pub(super) swap_pauses: Histogram,
    /// Swaps that were reverted.
    pub(super) swaps_undone: Counter,
    /// Changes of the parallelism.
    pub(super) rescales: Counter,
    /// Whether a swap is on trial.
    pub(super) on_trial: Gauge,
}

impl Observer {
    /// An observer of a starting job. `start_ms` is wall-clock time in milliseconds since 1970.
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
            delay: None,
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

    /// The metrics that a worker writes. A later worker with the same index gets the same, so that counters never
    /// decrease.
    #[must_use]
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        let mut facts = self.facts();
        let nodes = facts.nodes.len();
        while facts.workers.len() <= index {
            facts.workers.push(Arc::new(WorkerMetrics::new(nodes)));
        }
        Arc::clone(&facts.workers[index])
    }

    /// Sets the state of the job.
    pub fn is_now(&self, state: JobState) {
        let mut facts = self.facts();
        facts.state = state;
        facts.delay = None;
    }

    /// Records flow from now on. After a failure, this is when the job has restarted.
    pub fn begun(&self) {
        if self.facts().state == JobState::Restarting {
            self.restarts.add(1);
        }
        self.is_now(JobState::Running);
    }

    /// Sets the parallelism and the nodes, which only differ in their plugins. `is_on_trial` while a failure would
    /// revert a swap.
    pub fn runs(&self, parallelism: u16, nodes: Vec<NodeFacts>, is_on_trial: bool) {
        let mut facts = self.facts();
        facts.parallelism = parallelism;
        facts.nodes = nodes;
        self.on_trial.set(is_on_trial.into());
    }

    /// Counts a change of the parallelism.
    pub fn rescaled(&self) {
        self.rescales.add(1);
    }

    /// Counts a swap; `pause` is the longest pause of a worker for it.
    pub fn swapped(&self, pause: Duration) {
        self.swap_pauses.note(pause);
    }

    /// Counts a reverted swap.
    pub fn swap_undone(&self) {
        self.swaps_undone.add(1);
    }

    /// The trial of a swap has ended.
    pub fn trial_is_over(&self) {
        self.on_trial.set(0);
    }

    /// A checkpoint was started.
    pub fn checkpoint_begun(&self, id: u64, trigger: &'static str, created_ms: u64) {
        self.facts().checkpoints.begun(id, trigger, created_ms);
    }

    /// A checkpoint was completed or failed.
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

    /// The job restarts after a failure, once the delay has passed, if there is one.
    pub fn restarting(&self, delay: Option<DelayFacts>) {
        let mut facts = self.facts();
        facts.state = JobState::Restarting;
        facts.delay = delay;
    }

    /// The delay after a failure has ended on request.
    pub fn retried(&self) {
        self.facts().delay = None;
    }

    /// Takes a sample of all counters, for rates. Call it regularly.
    pub fn sample(&self, now: Duration) {
        let mut facts = self.facts();
        if facts.rates.wants(now) {
            let totals = facts.totals();
            facts.rates.note(now, totals);
        }
    }

    /// The status as JSON. `now` is that of [`Observer::sample`], `now_ms` wall-clock time.
    #[must_use]
    pub fn status(&self, now: Duration, now_ms: u64) -> Value {
        let facts = self.facts();
        let totals = facts.totals();
        let lately = facts.rates.lately(now, &totals);
        status::json(self, &facts, &lately, now_ms)
    }

    /// By operator, as JSON: `steps` of its sweep so far, `left-bytes` of each state with earlier versions, as of the last time
    /// that a client hurried the sweep, and what was `not-migrated`.
    #[must_use]
    pub fn sweeps(&self) -> Value {
        status::sweeps(&self.facts())
    }

    /// The history of checkpoints, as JSON.
    #[must_use]
    pub fn checkpoints(&self) -> Value {
        self.facts().checkpoints.json()
    }

    /// The profile so far; time in plugins is divided by their samples.
    #[must_use]
    pub fn profile(&self, stacks: &SampledStacks) -> Profile {
        Profile::of(&self.facts(), stacks)
    }

    /// All metrics, as text for Prometheus.
    #[must_use]
    pub fn prometheus(&self, now_ms: u64) -> String {
        prometheus::text(self, &self.facts(), now_ms)
    }
}

impl Facts {
    /// The counters of each node, over all its tasks.
    fn totals(&self) -> Vec<NodeTotals> {
        let nodes = 0..self.nodes.len();
        nodes
            .map(|node| NodeTotals::of(&self.workers, node))
            .collect()
    }

    /// The current workers.
    pub(super) fn live_workers(&self) -> impl Iterator<Item = &Arc<WorkerMetrics>> {
        self.workers.iter().take(usize::from(self.parallelism))
    }
}
