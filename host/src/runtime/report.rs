//! What workers and the writer of checkpoints report to their job.

use std::sync::Arc;
use std::time::Duration;

use super::JobError;
use super::snapshot::{RegionId, RegionSnapshot};
use crate::guest::LogLine;
use crate::stream::{CheckpointId, TaskIndex};

/// Takes reports to the job. It never waits.
pub type Reports = Arc<dyn Fn(Report) + Send + Sync>;

/// Something that happened.
#[derive(Debug)]
pub enum Report {
    /// A region's share of a checkpoint.
    Snapshot(RegionSnapshot),
    /// A region has seen the last of its records.
    Ended(RegionId),
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
        part: RegionId,
        /// From the barrier until it was ready for the next record.
        pause: Duration,
    },
    /// A worker cannot go on.
    Failed(JobError),
    /// The writer is done with a checkpoint.
    Written(WriteOutcome),
    /// The state of a region that is not in a checkpoint yet exceeds its share of memory.
    StateDirty(RegionId),
}

/// How the writing of a checkpoint ended.
#[derive(Debug)]
pub struct WriteOutcome {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Whether it is durable, and if not why.
    pub durable: Result<(), String>,
    /// Output that is durable, but not visible yet: it will be with the next checkpoint.
    pub not_visible: Vec<String>,
}
