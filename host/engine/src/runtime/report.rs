//! The reports of workers and of the checkpoint writer to their job.

use std::sync::Arc;
use std::time::Duration;

use super::JobError;
use super::snapshot::{RegionId, RegionSnapshot};
use crate::guest::LogLine;
use floodmark_state::stream::{CheckpointId, TaskIndex};

/// Sends a report to the job, without waiting.
pub type Reports = Arc<dyn Fn(Report) + Send + Sync>;

/// An event in a worker or the writer.
#[derive(Debug)]
pub enum Report {
    /// A region's share of a checkpoint.
    Snapshot(RegionSnapshot),
    /// A region has processed its last record.
    Ended(RegionId),
    /// A plugin has logged a line.
    Log {
        /// The node.
        operator: String,
        /// Its task.
        task: TaskIndex,
        /// The line.
        line: LogLine,
    },
    /// A worker paused for this long at a barrier.
    Stalled(Duration),
    /// A region has resumed with other plugins, after this pause.
    PluginsReplaced {
        /// The checkpoint at whose barrier it happened.
        checkpoint: CheckpointId,
        /// The region.
        part: RegionId,
        /// Time from the barrier until the region was ready for the next record.
        pause: Duration,
    },
    /// A worker cannot continue.
    Failed(JobError),
    /// The writer has finished a checkpoint.
    Written(WriteOutcome),
    /// The state of a region that is not in a checkpoint yet exceeds its share of memory.
    StateDirty(RegionId),
}

/// The result of writing a checkpoint.
#[derive(Debug)]
pub struct WriteOutcome {
    /// Its id.
    pub checkpoint: CheckpointId,
    /// Whether it is durable; otherwise the reason.
    pub durable: Result<(), String>,
    /// Sinks whose output is durable but not visible yet; the next checkpoint tries again.
    pub not_visible: Vec<String>,
}
