//! What a worker says of itself and of its tasks: a few atomics a batch.
//!
//! A worker that is not observed has none of them; what it reports is dropped.

use std::time::Duration;

use super::numbers::{Counter, EventTime, Gauge};
use super::reported::PluginNumbers;

/// How long something was at work, had nothing to do, or could not hand on what it had.
#[derive(Debug, Default)]
pub struct Times {
    /// At work, or with work to do while its worker was at other tasks. Nanoseconds.
    pub busy: Counter,
    /// Without anything to do. Nanoseconds.
    pub idle: Counter,
    /// With output that cannot be passed on. Nanoseconds.
    pub back_pressured: Counter,
}

/// How something stood in a step of its worker.
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
    /// It has stood so for this long.
    pub fn note(&self, standing: Standing, took: Duration) {
        match standing {
            Standing::Busy => self.busy.add_time(took),
            Standing::Idle => self.idle.add_time(took),
            Standing::BackPressured => self.back_pressured.add_time(took),
        }
    }
}

/// What a worker does for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading input and cutting it into records.
    Source,
    /// Handing records on and taking them up: dictionary, partitioner, channels.
    Exchange,
    /// Reading state.
    Lookup,
    /// Calling the plugin, with copying to and fro.
    Guest,
    /// Writing state, and compacting it.
    Apply,
    /// Writing output.
    Sink,
}

impl Stage {
    /// All there are, as a record meets them.
    pub const ALL: [Self; 6] = [
        Self::Source,
        Self::Exchange,
        Self::Lookup,
        Self::Guest,
        Self::Apply,
        Self::Sink,
    ];

    /// Its name.
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

/// How long a worker was in each stage of a task. Nanoseconds.
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

/// One task of a node.
#[derive(Debug, Default)]
pub struct TaskMetrics {
    /// Records that it got; of a source, that it has read.
    pub records_in: Counter,
    /// Bytes of their keys and values.
    pub bytes_in: Counter,
    /// Records that it has handed on; of a sink, that it has written.
    pub records_out: Counter,
    /// Bytes of their keys and values.
    pub bytes_out: Counter,
    /// How it stood.
    pub times: Times,
    /// Where the time went that its worker had for it.
    pub stages: StageTimes,
    /// No record before this time will follow.
    pub watermark: EventTime,
    /// Calls of the guest.
    pub calls: Counter,
    /// Time in the guest. Nanoseconds.
    pub guest: Counter,
    /// Time of copying to and from the guest. Nanoseconds.
    pub copy: Counter,
    /// Time of the host in calls. Nanoseconds.
    pub host: Counter,
    /// Calls that ended in a trap or at a limit.
    pub traps: Counter,
    /// Calls that were made again, with fewer records.
    pub retries: Counter,
    /// Records that the plugin itself has rejected.
    pub rejections: Counter,
    /// Records that were left out.
    pub skipped: Counter,
    /// Records that went to the dead letters.
    pub dead_letters: Counter,
    /// Bytes of the state's newest entries.
    pub state_bytes: Gauge,
    /// Entries of the state, at its last snapshot.
    pub state_entries: Gauge,
    /// Instances of the plugin.
    pub instances: Gauge,
    /// How many of them run code of the quick compiler, as of the last batch.
    pub quick_code: Gauge,
    /// For how many of those optimised code is being made.
    pub optimising: Gauge,
    /// What the plugin reports of its own.
    pub reported: PluginNumbers,
}

/// One worker, and its task of every node.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// How it stood: busy if any of its tasks was, then back-pressured if any was.
    pub times: Times,
    /// By node.
    tasks: Vec<TaskMetrics>,
}

impl WorkerMetrics {
    /// With tasks of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            times: Times::default(),
            tasks: (0..nodes).map(|_| TaskMetrics::default()).collect(),
        }
    }

    /// Its task of a node, if that is observed.
    #[inline]
    #[must_use]
    pub fn task(&self, node: usize) -> Option<&TaskMetrics> {
        self.tasks.get(node)
    }
}
