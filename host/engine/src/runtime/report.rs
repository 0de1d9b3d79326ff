//! The reports of workers and of the checkpoint writer to their job.

use std::sync::Arc;
use std::time::Duration;

use super::JobError;
use super::snapshot::{RegionId, RegionSnapshot};
use crate::connector::ConnectorError;
use crate::guest::LogLine;
use floodmark_checkpoint::store::StoreError;
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
        /// The operator's name in the pipeline.
        operator: String,
        /// The task of the operator that logged.
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
        /// The region that replaced them.
        part: RegionId,
        /// Time from the barrier until the region was ready for the next record.
        pause: Duration,
    },
    /// A plugin cannot migrate something that an earlier version wrote. Told once by each task; the worker continues.
    NotMigrated {
        /// The operator's name in the pipeline.
        operator: String,
        /// The first failure, as the end of a sentence that begins with the operator.
        reason: String,
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
    /// The id of the checkpoint.
    pub checkpoint: CheckpointId,
    /// Whether it is durable; otherwise the reason.
    pub durable: Result<(), CheckpointFailure>,
    /// Sinks whose output is durable but not visible yet; the next checkpoint tries again.
    pub not_visible: Vec<SinkFailure>,
}

/// The reason why a checkpoint was not completed. Cloneable, since one failure is reported to several callers and observers.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFailure {
    /// Tasks did not hand over their snapshots in time. Nothing was written.
    #[error("not all tasks reached its barrier within `checkpoint.timeout`")]
    Timeout,
    /// A sink could not make its staged parts durable. The checkpoint does not exist.
    #[error(transparent)]
    Sink(#[from] SinkFailure),
    /// The storage failed: whether the checkpoint exists may be unknown.
    #[error(transparent)]
    Store(Arc<StoreError>),
}

impl CheckpointFailure {
    /// Whether what a sink has staged is unknown now: another try of the checkpoint could succeed without it.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Sink(failure) if failure.source.is_failed_sync())
    }
}

impl From<StoreError> for CheckpointFailure {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// The reason why a sink could not prepare or commit its staged output.
#[derive(Debug, Clone, thiserror::Error)]
#[error("sink `{sink}`: {source}")]
pub struct SinkFailure {
    /// The sink's name in the pipeline.
    pub sink: String,
    /// The connector's error.
    pub source: Arc<ConnectorError>,
}
