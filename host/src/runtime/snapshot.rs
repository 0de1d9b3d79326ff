//! What a region hands over at a barrier.

use std::sync::Arc;

use super::task::Task;
use crate::checkpoint::coordinator::Part;
use crate::checkpoint::{Split, Staged};
use crate::connector::ConnectorError;
use crate::state::{Chunk, ChunkRef};
use crate::stream::CheckpointId;

/// A region's share of a checkpoint.
#[derive(Debug)]
pub struct RegionSnapshot {
    /// Of this checkpoint.
    pub checkpoint: CheckpointId,
    /// Whose it is.
    pub part: Part,
    /// By node: the splits with their positions, and the records read by this process.
    pub sources: Vec<(usize, Vec<Split>, u64)>,
    /// By node: all chunks of the task's state.
    pub operators: Vec<(usize, Vec<ChunkRef>)>,
    /// Chunks that no earlier snapshot has handed over.
    pub fresh: Vec<Arc<Chunk>>,
    /// By node: the part that ends here, and the records written by this process.
    pub sinks: Vec<(usize, Option<Staged>, u64)>,
}

impl RegionSnapshot {
    /// Without any task yet.
    #[must_use]
    pub fn new(checkpoint: CheckpointId, part: Part) -> Self {
        Self {
            checkpoint,
            part,
            sources: Vec::new(),
            operators: Vec::new(),
            fresh: Vec::new(),
            sinks: Vec::new(),
        }
    }
}

/// Adds a task's share.
///
/// # Errors
/// When a sink cannot end its part.
pub(super) fn snapshot_task(
    node: usize,
    task: &mut Task,
    snapshot: &mut RegionSnapshot,
) -> Result<(), ConnectorError> {
    match task {
        Task::Source(source) => {
            snapshot
                .sources
                .push((node, source.reader.splits(), source.records))
        }
        Task::Operator(operator) => {
            let sealed = operator.store_mut().seal();
            snapshot.operators.push((node, sealed.chunks));
            snapshot.fresh.extend(sealed.fresh);
        }
        Task::Sink(sink) => {
            let staged = sink.writer.stage(snapshot.checkpoint)?;
            snapshot.sinks.push((node, staged, sink.records));
        }
    }
    Ok(())
}
