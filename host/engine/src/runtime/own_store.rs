//! What only a task of a job does with its state, since only our own store can: seal it for a checkpoint, return to
//! one, and say when it needs a checkpoint.

use std::sync::Arc;

use super::faults::Handling;
use super::migration::OwnInstance;
use super::retained_state::{RetainedState, Seals};
use super::schema::DeclaredState;
use super::sizes::CALL_RECORDS_MAX;
use super::task::{InstanceFactory, OperatorTask, kept};
use super::trees::Trees;
use crate::guest::GuestError;
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Sealed, StateError, StateStore};

/// Records in the first call of an operator whose state is not all in memory yet.
const CALL_RECORDS_FIRST: usize = 16;

impl OperatorTask {
    /// A task for a plugin with these states, in its order, and a store as at the start of a job.
    ///
    /// # Errors
    /// When no instance can be opened.
    pub fn new(
        open: InstanceFactory,
        states: Vec<DeclaredState>,
        store: StateStore,
        handling: Handling,
    ) -> Result<Self, GuestError> {
        let call_records_max = match store.missing().is_empty() {
            true => CALL_RECORDS_MAX,
            false => CALL_RECORDS_FIRST,
        };
        let trees = Trees {
            store,
            migrate: OwnInstance::new(Arc::clone(&open), states.clone()),
        };
        let mut task = Self::with_state(open, states, trees, handling)?;
        task.call_records_max = call_records_max;
        Ok(task)
    }

    /// A task whose store has been sealed or restored, with these seals.
    #[must_use]
    pub fn with_seals(self, seals: Seals) -> Self {
        Self { seals, ..self }
    }

    /// The state that is left when the task is dropped, if it can be used.
    pub(super) fn into_state(self) -> Option<RetainedState> {
        let seals = self.seals.clone();
        let store = self.into_kept()?.store;
        Some(RetainedState { store, seals })
    }

    /// The state.
    pub fn store_mut(&mut self) -> &mut StateStore {
        &mut self.state_mut().store
    }

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

    /// The lists and maps in its state.
    pub(super) fn trees_mut(&mut self) -> &mut Trees<OwnInstance> {
        self.state_mut()
    }
}
