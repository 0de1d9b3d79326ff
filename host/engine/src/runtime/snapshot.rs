//! What the tasks of a region do for checkpoints: their snapshot at a barrier, what operators hear of it afterwards, and
//! when one needs a checkpoint early.

use std::sync::Arc;

use super::JobError;
use super::plan::{NodeIndex, RegionIndex, WorkerIndex};
use super::task::{OperatorTask, Task, kept, listener_warning};
use super::worker::Worker;
use crate::connector::ConnectorError;
use crate::guest::GuestError;
use floodmark_checkpoint::{Split, Staged};
use floodmark_state::stream::{CheckpointId, KeyGroupRange};
use floodmark_state::{Chunk, ChunkRef, HeldStates, Sealed, StateError, StateStore};

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

/// The seals of a store, each with its checkpoint; `None` is the start of the job without a checkpoint.
///
/// - The first is the newest that is known to be durable.
/// - They are in the order of checkpoints.
#[derive(Debug, Clone)]
pub struct Seals(Vec<(Option<CheckpointId>, u64)>);

impl Seals {
    /// The seals of a store that starts as the checkpoint has it.
    #[must_use]
    pub fn begin(restored: Option<CheckpointId>) -> Self {
        Self(vec![(restored, 0)])
    }

    pub(super) fn note(&mut self, checkpoint: CheckpointId, epoch: u64) {
        let newest = self.0.last().map(|(id, epoch)| (*id, *epoch));
        assert!(
            newest < Some((Some(checkpoint), epoch)),
            "seals are noted in the order of checkpoints"
        );
        self.0.push((Some(checkpoint), epoch));
    }

    /// Tells a store that a checkpoint is durable. Returns whether the store has a seal of it.
    pub(super) fn durable(
        &mut self,
        checkpoint: Option<CheckpointId>,
        store: &mut StateStore,
    ) -> bool {
        let Some(at) = self.0.iter().position(|(id, _)| *id == checkpoint) else {
            return false;
        };
        self.0.drain(..at);
        store.durable(self.0[0].1);
        true
    }

    /// All seals but the first are undone.
    pub(super) fn undo_later(&mut self) {
        self.0.truncate(1);
    }
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
                let state = SealedState {
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

impl Worker {
    /// Notifies all plugins of a completed or failed checkpoint, best effort. After a completed one, state that has expired is
    /// dropped, so that it also goes from a job without records.
    pub(super) fn hear(
        &mut self,
        checkpoint: CheckpointId,
        is_durable: bool,
    ) -> Result<(), JobError> {
        for node in (0..self.tasks.len()).map(NodeIndex) {
            let Some(Task::Operator(operator)) = &mut self.tasks[node.0] else {
                continue;
            };
            let failed = operator.hear(checkpoint, is_durable)?;
            if is_durable {
                let expired = operator.store_mut().expire(self.wall_ms);
                expired.map_err(|reason| JobError::chunks(&self.names[node.0], reason))?;
                operator.publish_size();
            }
            let mut lines = operator.take_log();
            lines.extend(failed.as_ref().map(listener_warning));
            self.report_log(node, lines);
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
    /// As [`OperatorTask::notify`].
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
