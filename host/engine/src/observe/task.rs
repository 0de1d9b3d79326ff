//! Metrics of a worker and its tasks: a few atomics that are updated once per batch.
//!
//! A worker that is not observed has none; its updates are dropped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::numbers::{Counter, EventTime, Gauge};
use super::reported::PluginNumbers;

/// Time by standing: busy, idle or back-pressured.
#[derive(Debug, Default)]
pub struct Times {
    /// With work to do, also while its worker was processing other tasks. Nanoseconds.
    pub busy: Counter,
    /// Without work. Nanoseconds.
    pub idle: Counter,
    /// With output that cannot be passed on. Nanoseconds.
    pub back_pressured: Counter,
}

/// The standing of a task or worker in a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// It had work.
    Busy,
    /// It had nothing to do.
    #[default]
    Idle,
    /// It has output that cannot be passed on.
    BackPressured,
}

impl Times {
    /// Adds time in a standing.
    pub fn note(&self, standing: Standing, took: Duration) {
        match standing {
            Standing::Busy => self.busy.add_time(took),
            Standing::Idle => self.idle.add_time(took),
            Standing::BackPressured => self.back_pressured.add_time(took),
        }
    }
}

/// A stage of a worker's time for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading input and splitting it into records.
    Source,
    /// Sending and receiving records: dictionary, partitioner, channels.
    Exchange,
    /// Reading state.
    Lookup,
    /// Calling the plugin, including copying.
    Guest,
    /// Writing state, and compacting it.
    Apply,
    /// Writing output.
    Sink,
}

impl Stage {
    /// All stages, in the order in which a record passes them.
    pub const ALL: [Self; 6] = [
        Self::Source,
        Self::Exchange,
        Self::Lookup,
        Self::Guest,
        Self::Apply,
        Self::Sink,
    ];

    /// Its name in JSON, in metrics and in profiles.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Exchange => "exchange",
            Self::Lookup => "lookup",
            Self::Guest => "guest",
            Self::Apply => "apply",
            Self::Sink => "sink",
        }
    }
}

/// Time of a worker in each stage of a task, in nanoseconds.
#[derive(Debug, Default)]
pub struct StageTimes([Counter; Stage::ALL.len()]);

impl StageTimes {
    /// The time in a stage.
    #[inline]
    #[must_use]
    pub fn of(&self, stage: Stage) -> &Counter {
        &self.0[stage as usize]
    }
}

/// Records that went one way, into a task or out of it.
#[derive(Debug, Default)]
pub struct Traffic {
    /// How many.
    pub records: Counter,
    /// Bytes of their keys and values.
    pub bytes: Counter,
}

impl Traffic {
    /// A batch went this way.
    #[inline]
    pub fn add(&self, records: usize, bytes: usize) {
        self.records.add(records as u64);
        self.bytes.add(bytes as u64);
    }
}

/// Calls of the guest, and where their time went.
#[derive(Debug, Default)]
pub struct CallTotals {
    /// How many.
    pub count: Counter,
    /// Time in the guest. Nanoseconds.
    pub guest: Counter,
    /// Time of copying to and from the guest. Nanoseconds.
    pub copy: Counter,
    /// Time of the host in calls. Nanoseconds.
    pub host: Counter,
}

/// Failures in calls of the guest, and how the records were handled.
#[derive(Debug, Default)]
pub struct FaultTotals {
    /// Calls that ended in a trap or at a limit.
    pub traps: Counter,
    /// Calls that were repeated with fewer records.
    pub retries: Counter,
    /// Records that the plugin rejected.
    pub rejections: Counter,
    /// Records that were skipped.
    pub skipped: Counter,
    /// Records that became dead letters.
    pub dead_letters: Counter,
}

/// How much state a task has.
#[derive(Debug, Default)]
pub struct StateVolume {
    /// Bytes of the newest entries.
    pub bytes: Gauge,
    /// Bytes of all entries, with those that are not compacted yet.
    pub size: Gauge,
    /// The limit on that size in bytes; 0 without one of its own.
    pub limit: Gauge,
    /// The limit in bytes on the sum of that size over all tasks that share this limit; 0 if it shares none.
    pub shared_limit: Gauge,
    /// Entries, at the last snapshot.
    pub entries: Gauge,
    /// Entries of earlier versions that the plugin could not migrate.
    pub unmigrated: UnmigratedNumbers,
    /// What is left of earlier versions. Only maintained while a client hurries the sweep.
    pub sweep: SweepNumbers,
}

/// How far a sweep is that a client hurries.
#[derive(Debug, Default)]
pub struct SweepNumbers {
    /// Steps that have found something to migrate or to drop.
    pub steps: Counter,
    /// By state: bytes of state in which entries of earlier versions may be. The lock is taken once a step.
    left_bytes: Mutex<Vec<(String, u64)>>,
}

impl SweepNumbers {
    /// Replaces the bytes of all states.
    pub fn set_left(&self, left_bytes: Vec<(String, u64)>) {
        *self
            .left_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = left_bytes;
    }

    /// The bytes of all states with earlier versions.
    pub(super) fn left(&self) -> Vec<(String, u64)> {
        let left = self.left_bytes.lock();
        left.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Entries of a state that the plugin could not migrate from an earlier version, so that they stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmigrated {
    /// The state.
    pub state: String,
    /// How many.
    pub count: u64,
    /// Why the first of them could not be migrated.
    pub reason: String,
}

/// What a task could not migrate, by state. The lock is taken only when that changes.
#[derive(Debug, Default)]
pub struct UnmigratedNumbers(Mutex<Vec<Unmigrated>>);

impl UnmigratedNumbers {
    /// Replaces all of it.
    pub fn set(&self, all: Vec<Unmigrated>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// All of it.
    pub(super) fn get(&self) -> Vec<Unmigrated> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.clone()
    }
}

/// Instances of a plugin, and the code that they run.
#[derive(Debug, Default)]
pub struct InstanceGauges {
    /// How many.
    pub live: Gauge,
    /// How many of them run code of the quick compiler, as of the last batch.
    pub quick_code: Gauge,
    /// Number of those that are being optimised.
    pub optimising: Gauge,
}

/// One task of a node.
#[derive(Debug, Default)]
pub struct TaskMetrics {
    /// What it got; of a source, what it has read.
    pub input: Traffic,
    /// What it has handed on; of a sink, what it has written.
    pub output: Traffic,
    /// How it stood.
    pub times: Times,
    /// Where the time went that its worker had for it.
    pub stages: StageTimes,
    /// No record before this time will follow.
    pub watermark: EventTime,
    /// Its calls of the guest.
    pub calls: CallTotals,
    /// What went wrong in them.
    pub faults: FaultTotals,
    /// Its state.
    pub state: StateVolume,
    /// Its instances of the plugin.
    pub instances: InstanceGauges,
    /// What the plugin reports of its own.
    pub reported: PluginNumbers,
}

/// Metrics of one worker, and of its task of every node.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Time by standing: busy if any of its tasks was, otherwise back-pressured if any was.
    pub times: Times,
    /// Metrics of its tasks, by node.
    tasks: Vec<TaskMetrics>,
}

impl WorkerMetrics {
    /// Metrics for tasks of this many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            times: Times::default(),
            tasks: (0..nodes).map(|_| TaskMetrics::default()).collect(),
        }
    }

    /// The metrics of its task of a node, if observed.
    #[inline]
    #[must_use]
    pub fn task(&self, node: usize) -> Option<&TaskMetrics> {
        self.tasks.get(node)
    }
}
