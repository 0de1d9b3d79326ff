//! The snapshot of a region at a barrier.

use std::sync::Arc;

use super::plan::{NodeIndex, RegionIndex, WorkerIndex};
use super::task::Task;
use crate::connector::ConnectorError;
use floodmark_checkpoint::{Split, Staged};
use floodmark_state::stream::{CheckpointId, KeyGroupRange};
use floodmark_state::{Chunk, ChunkRef, HeldStates, StateError};

/// The part of a job that takes its own snapshot: a region of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionId {
    /// The index of the worker.
    pub worker: WorkerIndex,
    /// The index of the region among those of the plan.
    pub region: RegionIndex,
}

/// A region's share of a checkpoint.
#[derive(Debug)]
pub struct RegionSnapshot {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The region that took the snapshot.
    pub part: RegionId,
    /// By node: the splits with their positions, and the records read by this process.
    pub sources: Vec<(NodeIndex, Vec<Split>, u64)>,
    /// By node: the task's state.
    pub operators: Vec<(NodeIndex, SealedState)>,
    /// Chunks that are in no earlier snapshot.
    pub fresh: Vec<Arc<Chunk>>,
    /// By node: the staged part that ends here, and the records written by this process.
    pub sinks: Vec<(NodeIndex, Option<Staged>, u64)>,
}

/// A task's state in a checkpoint.
#[derive(Debug, Default)]
pub struct SealedState {
    /// Ranges of its key groups, each with all its chunks, oldest first.
    pub parts: Vec<(KeyGroupRange, Vec<ChunkRef>)>,
    /// Hashes that entries of different identity share.
    pub collided: Vec<u64>,
    /// Bytes of all its chunks.
    pub bytes: u64,
    /// States that the chunks may have entries of.
    pub held: HeldStates,
}

/// The reason why a task has no snapshot.
#[derive(Debug)]
pub(super) enum SnapshotError {
    /// A sink cannot end its part.
    Sink(ConnectorError),
    /// The state cannot be sealed.
    State(StateError),
}

impl RegionSnapshot {
    /// A snapshot without tasks.
    #[must_use]
    pub fn new(checkpoint: CheckpointId, part: RegionId) -> Self {
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

/// Adds a task's snapshot.
///
/// # Errors
/// When a sink cannot end its part, or state cannot be sealed. The task must not be used then.
pub(super) fn snapshot_task(
    node: NodeIndex,
    task: &mut Task,
    snapshot: &mut RegionSnapshot,
) -> Result<(), SnapshotError> {
    match task {
        Task::Source(source) => {
            snapshot
                .sources
                .push((node, source.reader.splits(), source.records))
        }
        Task::Operator(operator) => {
            let sealed = operator
                .seal(snapshot.checkpoint)
                .map_err(SnapshotError::State)?;
            let lens = sealed.chunks.iter().map(|chunk| u64::from(chunk.len));
            let state = SealedState {
                bytes: lens.sum(),
                parts: sealed.parts,
                collided: sealed.collided,
                held: sealed.held,
            };
            snapshot.operators.push((node, state));
            snapshot.fresh.extend(sealed.fresh);
        }
        Task::Sink(sink) => {
            let staged = sink.writer.stage(snapshot.checkpoint);
            let staged = staged.map_err(SnapshotError::Sink)?;
            snapshot.sinks.push((node, staged, sink.records));
        }
    }
    Ok(())
}
