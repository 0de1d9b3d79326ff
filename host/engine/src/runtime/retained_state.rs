//! Keeps the state of stopped tasks in memory after a failure, and returns it to a checkpoint without reading it again.
//!
//! The job returns to the checkpoint in memory as a whole or not at all, so that every task is at the same checkpoint.
//! A store whose calls have failed must not be used. If one task has such a store, the driver gets no workers back, and
//! all tasks read their state again.

use std::collections::BTreeMap;

use super::plan::NodeIndex;
use super::snapshot::Seals;
use super::worker::Worker;
use floodmark_state::stream::{CheckpointId, TaskIndex};
use floodmark_state::{RollbackOutcome, StateError, StateStore};

/// The state of one task, and the seals to which it can return.
#[derive(Debug)]
pub struct RetainedState {
    pub(super) store: StateStore,
    pub(super) seals: Seals,
}

/// The state of all tasks of a stopped job.
///
/// - Either it has the state of every task of each operator, or it is empty.
#[derive(Debug, Default)]
pub struct RetainedStates(BTreeMap<(NodeIndex, TaskIndex), RetainedState>);

impl RetainedStates {
    /// Takes the state out of all workers of a job. Workers whose state has failed must not be passed.
    #[must_use]
    pub fn of(workers: Vec<Worker>) -> Self {
        let mut states = BTreeMap::new();
        for worker in workers {
            let task = worker.index.task();
            let left = worker.into_states();
            states.extend(left.map(|(node, state)| ((node, task), state)));
        }
        Self(states)
    }

    /// Returns all states to a durable checkpoint. If one of them cannot return, all are dropped.
    #[must_use]
    pub fn back_to(mut self, checkpoint: Option<CheckpointId>) -> Self {
        let go_back = |state: &mut RetainedState| -> Result<bool, StateError> {
            let RetainedState { store, seals } = state;
            Ok(seals.durable(checkpoint, store) && store.rollback()? == RollbackOutcome::Done)
        };
        // The reason is dropped: if the cause persists, reading the state again fails with it.
        let is_back = |state: &mut RetainedState| matches!(go_back(state), Ok(true));
        match self.0.values_mut().all(is_back) {
            true => {
                let seals = self.0.values_mut().map(|state| &mut state.seals);
                seals.for_each(Seals::undo_later);
                self
            }
            false => Self::default(),
        }
    }

    /// Whether there is no state.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, node: NodeIndex, task: TaskIndex) -> Option<RetainedState> {
        self.0.remove(&(node, task))
    }
}
