//! The state that the tasks of a job leave when their workers are stopped after a failure, and how it goes back to a
//! checkpoint without being read again.
//!
//! The job goes back in memory as a whole or not at all: only then is every task where the checkpoint has it. A store whose
//! calls have failed must not be used. If one task has such a store, the driver gets no workers back, and all tasks read
//! their state again.

use std::collections::BTreeMap;

use super::worker::Worker;
use crate::state::{RollbackOutcome, StateError, StateStore};
use crate::stream::CheckpointId;

/// Which seals of a store are of which checkpoints; `None` is how the job begins without one.
///
/// - The first is the newest that is known to be durable.
#[derive(Debug, Clone)]
pub struct Seals(Vec<(Option<CheckpointId>, u64)>);

impl Seals {
    /// Those of a store that begins as a checkpoint has it.
    #[must_use]
    pub fn begin(restored: Option<CheckpointId>) -> Self {
        Self(vec![(restored, 0)])
    }

    pub(super) fn note(&mut self, checkpoint: CheckpointId, epoch: u64) {
        self.0.push((Some(checkpoint), epoch));
    }

    /// Has a store know that a checkpoint is durable. Whether it has a seal of it.
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
}

/// The state of one task, and the seals by which it can go back.
#[derive(Debug)]
pub struct LeftState {
    pub(super) store: StateStore,
    pub(super) seals: Seals,
}

/// The state of all tasks of a job that is not running.
///
/// - Either each operator has that of all its tasks, or there is nothing.
#[derive(Debug, Default)]
pub struct LeftStates(BTreeMap<(usize, usize), LeftState>);

impl LeftStates {
    /// Takes the state out of all workers of a job. Those whose state has failed must not be among them.
    #[must_use]
    pub fn of(workers: Vec<Worker>) -> Self {
        let mut states = BTreeMap::new();
        for worker in workers {
            let index = worker.index;
            let left = worker.into_states();
            states.extend(left.map(|(node, state)| ((node, index), state)));
        }
        Self(states)
    }

    /// Takes all states back to a checkpoint, which is durable. If one of them cannot go back, all are dropped.
    #[must_use]
    pub fn back_to(mut self, checkpoint: Option<CheckpointId>) -> Self {
        let go_back = |state: &mut LeftState| -> Result<bool, StateError> {
            let LeftState { store, seals } = state;
            Ok(seals.durable(checkpoint, store) && store.rollback()? == RollbackOutcome::Done)
        };
        // The reason is dropped: if the cause lasts, reading the state again fails with it.
        let is_back = |state: &mut LeftState| matches!(go_back(state), Ok(true));
        match self.0.values_mut().all(is_back) {
            true => {
                let seals = self.0.values_mut().map(|state| &mut state.seals);
                // All later seals are undone.
                seals.for_each(|seals| seals.0.truncate(1));
                self
            }
            false => Self::default(),
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, node: usize, task: u16) -> Option<LeftState> {
        self.0.remove(&(node, usize::from(task)))
    }
}
