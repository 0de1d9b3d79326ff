//! What the tasks of a region do for checkpoints: their snapshot at a barrier, what operators hear of it afterwards, and
//! when one needs a checkpoint early.

use std::sync::Arc;

use super::plan::{NodeIndex, RegionIndex, WorkerIndex};
use super::task::{OperatorTask, Task, kept};
use crate::connector::ConnectorError;
use crate::guest::GuestError;
use floodmark_checkpoint::{Split, Staged};
use floodmark_state::stream::{CheckpointId, KeyGroupRange};
use floodmark_state::{Chunk, ChunkRef, HeldStates, Sealed, StateError};

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

    /// Adds a task's snapshot.
    ///
    /// # Errors
    /// When a sink cannot end its part, or state cannot be sealed. The task must not be used then.
    pub(super) fn add(&mut self, node: NodeIndex, task: &mut Task) -> Result<(), SnapshotError> {
        match task {
            Task::Source(source) => {
                self.sources
                    .push((node, source.reader.splits(), source.records));
            }
            Task::Operator(operator) => {
                let sealed = operator
                    .seal(self.checkpoint)
                    .map_err(SnapshotError::State)?;
                let lens = sealed.chunks.iter().map(|chunk| u64::from(chunk.len));
                let state = SealedState {
                    bytes: lens.sum(),
                    parts: sealed.parts,
                    collided: sealed.collided,
                    held: sealed.held,
                };
                self.operators.push((node, state));
                self.fresh.extend(sealed.fresh);
            }
            Task::Sink(sink) => {
                let staged = sink.writer.stage(self.checkpoint);
                let staged = staged.map_err(SnapshotError::Sink)?;
                self.sinks.push((node, staged, sink.records));
            }
        }
        Ok(())
    }
}

impl OperatorTask {
    /// Seals the state for a checkpoint.
    ///
    /// # Errors
    /// When the state cannot be kept. The task must not be used then.
    pub fn seal(&mut self, checkpoint: CheckpointId) -> Result<Sealed, StateError> {
        let sealed = self.store_mut().seal()?;
        self.has_told_dirty = false;
        self.seals.note(checkpoint, sealed.epoch);
        Ok(sealed)
    }

    /// Notes that a checkpoint is durable: older versions of the state need not be kept any more.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let store = &mut kept(&mut self.kept).store_mut().store;
        self.seals.durable(Some(checkpoint), store);
    }

    /// Notes whether a checkpoint is durable, and notifies the plugin as [`OperatorTask::notify`].
    ///
    /// # Errors
    /// When no fresh instance can be opened.
    pub fn hear(
        &mut self,
        checkpoint: CheckpointId,
        is_durable: bool,
    ) -> Result<Option<GuestError>, GuestError> {
        if is_durable {
            self.completed(checkpoint);
        }
        self.notify(checkpoint, is_durable)
    }

    /// Whether its state needs a checkpoint to stay within its memory. Returns `true` once until the next checkpoint.
    pub fn is_newly_dirty(&mut self) -> bool {
        if self.has_told_dirty || !self.store_mut().is_dirty() {
            return false;
        }
        self.has_told_dirty = true;
        true
    }
}
