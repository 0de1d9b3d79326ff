//! What reaches the conductor of a job.

use std::sync::mpsc;
use std::time::Duration;

use super::JobError;
use super::plan::Operator;
use super::snapshot::RegionSnapshot;
use super::swap::{Running, SwapRequest};
use crate::checkpoint::coordinator::Part;
use crate::guest::LogLine;
use crate::stream::{CheckpointId, TaskIndex};

/// Something that happened.
#[derive(Debug)]
pub enum Report {
    /// A region's share of a checkpoint.
    Snapshot(RegionSnapshot),
    /// A region has seen the last of its records.
    Ended(Part),
    /// A plugin has logged.
    Log {
        /// The node.
        operator: String,
        /// Its task.
        task: TaskIndex,
        /// The line.
        line: LogLine,
    },
    /// A worker stood still this long for a barrier.
    Stalled(Duration),
    /// A region has gone on with other plugins, after standing still for this long.
    PluginsReplaced {
        /// At the barrier of this checkpoint.
        checkpoint: CheckpointId,
        /// Which region.
        part: Part,
        /// From the barrier until it was ready for the next record.
        pause: Duration,
    },
    /// A worker cannot go on.
    Failed(JobError),
    /// The writer is done with a checkpoint.
    Written(WriteOutcome),
    /// The state of a region that is not in a checkpoint yet exceeds its share of memory.
    StateDirty(Part),
    /// A checkpoint was requested.
    CheckpointAsked(Asker<CheckpointId>),
    /// The job was asked to stop.
    StopAsked {
        /// Whether as if its input had ended.
        drain: bool,
        /// Who wants to know the last checkpoint, once it is durable.
        asker: Option<Asker<CheckpointId>>,
    },
    /// A caller asks what runs.
    RunningAsked(Asker<Running>),
    /// A swap of plugins was requested.
    SwapAsked(Box<SwapRequest>),
    /// Another number of tasks per node was requested.
    RescaleAsked {
        /// How many.
        parallelism: u16,
        /// Who.
        asker: Asker<Rescaled>,
    },
    /// A rollback was requested: to a checkpoint, and to the plugins as of that checkpoint.
    RollbackAsked(Box<RollbackOrder>),
    /// Time has passed.
    Tick,
}

/// A job runs with another number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescaled {
    /// Tasks per node before.
    pub from: u16,
    /// Tasks per node now.
    pub to: u16,
    /// The first checkpoint with so many.
    pub checkpoint: CheckpointId,
    /// From the barrier until the new tasks ran.
    pub pause: Duration,
}

/// Has a job go back to a checkpoint for good.
pub struct RollbackOrder {
    /// The checkpoint, which is sound.
    pub to: CheckpointId,
    /// What runs from there, by node; the others stay as they are.
    pub operators: Vec<(String, Operator)>,
    /// Who asks.
    pub asker: Asker<RolledBack>,
}

impl std::fmt::Debug for RollbackOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RollbackOrder({})", self.to)
    }
}

/// A job has gone back for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The checkpoint that it went back to.
    pub to: CheckpointId,
    /// Later ones, which are gone, and their output with them.
    pub deleted: Vec<CheckpointId>,
    /// Records that had been read there.
    pub records_in: u64,
    /// The first checkpoint since.
    pub checkpoint: CheckpointId,
}

impl Report {
    /// Whether it says nothing any more once the workers that ran then are gone.
    #[must_use]
    pub fn is_of_workers(&self) -> bool {
        match self {
            Self::Snapshot(_)
            | Self::Ended(_)
            | Self::Stalled(_)
            | Self::StateDirty(_)
            | Self::PluginsReplaced { .. }
            | Self::Failed(_) => true,
            Self::Log { .. }
            | Self::Written(_)
            | Self::CheckpointAsked(_)
            | Self::StopAsked { .. }
            | Self::RunningAsked(_)
            | Self::SwapAsked(_)
            | Self::RescaleAsked { .. }
            | Self::RollbackAsked(_)
            | Self::Tick => false,
        }
    }
}

/// What became of a checkpoint.
#[derive(Debug)]
pub struct WriteOutcome {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Whether it is durable, and if not why.
    pub durable: Result<(), String>,
    /// Output that is durable, but not visible yet: it will be with the next checkpoint.
    pub not_visible: Vec<String>,
}

/// The result of a request, or why it failed.
pub type Answer<T> = Result<T, String>;

/// The caller that waits for an answer. Dropping it without one tells the caller that the job is over.
#[derive(Debug, Clone)]
pub struct Asker<T>(mpsc::Sender<Answer<T>>);

impl<T> Asker<T> {
    /// With the other end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Answer<T>>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Answers.
    pub fn answer(&self, answer: Answer<T>) {
        // A caller that has stopped waiting needs no answer.
        let _ = self.0.send(answer);
    }
}
