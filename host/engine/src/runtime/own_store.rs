//! A task of a job, whose state is in our own store: how it is made, and what is left of it. `snapshot` has what such a
//! task does for checkpoints.

use std::sync::Arc;

use super::faults::Handling;
use super::migration::OwnInstance;
use super::retained_state::RetainedState;
use super::schema::DeclaredState;
use super::sizes::CALL_RECORDS_MAX;
use super::snapshot::Seals;
use super::task::{InstanceFactory, OperatorTask};
use super::trees::Trees;
use crate::guest::GuestError;
use floodmark_state::StateStore;

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

    /// The lists and maps in its state.
    pub(super) fn trees_mut(&mut self) -> &mut Trees<OwnInstance> {
        self.state_mut()
    }
}
