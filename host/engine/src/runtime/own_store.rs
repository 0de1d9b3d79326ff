//! What only a task of a job does with its state, since only our own store can: seal it for a checkpoint, return to
//! one, hand it to another plugin at a swap, and say when it needs a checkpoint.

use std::sync::Arc;

use super::faults::Handling;
use super::migration::OwnInstance;
use super::retained_state::{RetainedState, Seals};
use super::schema::{DeclaredState, States};
use super::sizes::CALL_RECORDS_MAX;
use super::task::{InstanceFactory, OpenedPlugin, OperatorTask, kept};
use super::trees::Trees;
use crate::guest::GuestError;
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Sealed, StateError, StateId, StateSettings, StateStore};

/// Records in the first call of an operator whose state is not all in memory yet.
const CALL_RECORDS_FIRST: usize = 16;

/// Another plugin for a task, opened and complete, so that the exchange costs only a few moves.
pub struct ReadyPlugin {
    plugin: OpenedPlugin,
    ids: Vec<StateId>,
    rules: Vec<StateSettings>,
    migrate: OwnInstance,
    handling: Handling,
}

impl ReadyPlugin {
    /// Opens an instance.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(
        open: InstanceFactory,
        states: &States,
        handling: Handling,
    ) -> Result<Self, GuestError> {
        let declared = states.declared.clone();
        Ok(Self {
            ids: declared.iter().map(|state| state.id).collect(),
            rules: states.settings(),
            migrate: OwnInstance::new(Arc::clone(&open), declared.clone()),
            plugin: OpenedPlugin::new(open, declared)?,
            handling,
        })
    }
}

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

    /// Swaps in `ready` between two records. The old plugin is left in `ready`, so the caller that requested the swap
    /// drops it, not the worker.
    pub(super) fn exchange(&mut self, ready: &mut ReadyPlugin) {
        let kept = kept(&mut self.kept);
        kept.exchange_states(&mut ready.ids);
        let trees = kept.store_mut();
        std::mem::swap(&mut trees.migrate, &mut ready.migrate);
        ready.rules = trees.store.replace_rules(std::mem::take(&mut ready.rules));
        self.desk.exchange_handling(&mut ready.handling);
        self.is_fresh = true;
        self.desk.keep_times(self.plugin.instance.times());
        std::mem::swap(&mut self.plugin, &mut ready.plugin);
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
