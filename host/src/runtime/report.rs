//! What reaches the conductor of a job.

use std::time::Duration;

use super::JobError;
use super::snapshot::RegionSnapshot;
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
    /// A worker cannot go on.
    Failed(JobError),
    /// The writer is done with a checkpoint.
    Written(WriteOutcome),
    /// Somebody asks the job to stop.
    StopAsked,
    /// Time has passed.
    Tick,
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
