//! One parallel copy of a node: a source, an operator or a sink.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::blame::FailedCall;
use super::collections::Collections;
use super::faults::{FaultHandler, Faults, Handling};
use super::keyed::KeyedBatch;
use super::migration::{OwnInstance, migrate_some, migrated};
use super::retained_state::{RetainedState, Seals};
use super::schema::{DeclaredState, States};
use super::sizes::{BATCH_LIMITS, CALL_RECORDS_MAX};
use super::stages::CallLaps;
use super::trees::Trees;
use crate::connector::{ConnectorError, ReadOutcome, SinkWriter, SourceReader};
use crate::guest::{
    CallOutput, CallTimes, Emission, EmittedKeys, GuestError, Instance, LogLine, StateAccess,
};
use floodmark_state::stream::batch::Room;
use floodmark_state::stream::{
    Batch, CheckpointId, InputPort, NO_TIMESTAMP, OptionalColumn, OutputPort, Timestamp,
};
use floodmark_state::{
    Keys, Lookup, Sealed, StateError, StateId, StateKind, StateSettings, StateStore, TreeError,
};

/// Records in the first call of an operator whose state is not all in memory yet.
const CALL_RECORDS_FIRST: usize = 16;

/// One parallel copy of a node.
pub enum Task {
    /// Reads records.
    Source(SourceTask),
    /// Calls a plugin.
    Operator(Box<OperatorTask>),
    /// Writes records.
    Sink(SinkTask),
}

/// Reads one task's splits of a source.
pub struct SourceTask {
    /// The connector's reader.
    pub reader: Box<dyn SourceReader>,
    /// The name of its node.
    pub name: Arc<str>,
    /// Whether its event times do not count for the watermark of the input.
    pub is_beside_input: bool,
    /// Whether no task reads the values of its records, which are then left empty.
    pub skips_values: bool,
    /// Whether the input has ended.
    pub finished: bool,
    /// Nothing can be read before this time.
    pub idle_until: Duration,
    /// Records read by this process.
    pub records: u64,
    /// The size of the last batch, reserved at once for the next one.
    pub room: Room,
    /// The latest event time so far.
    pub newest: Timestamp,
}

impl SourceTask {
    /// A task before its first record.
    #[must_use]
    pub fn new(name: Arc<str>, reader: Box<dyn SourceReader>) -> Self {
        Self {
            reader,
            name,
            is_beside_input: false,
            skips_values: false,
            finished: false,
            idle_until: Duration::ZERO,
            records: 0,
            room: Room::default(),
            newest: NO_TIMESTAMP,
        }
    }

    /// Whether it may have records now.
    #[must_use]
    pub fn is_ready(&self, now: Duration) -> bool {
        !self.finished && self.idle_until <= now
    }

    /// Reads a batch, which may be empty.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn read(&mut self, now: Duration) -> Result<Batch, ConnectorError> {
        let mut batch = Batch::with_room(self.room);
        batch.skips_values = self.skips_values;
        match self.reader.read(now, BATCH_LIMITS, &mut batch)? {
            ReadOutcome::More => {}
            ReadOutcome::Idle { until } => self.idle_until = until,
            ReadOutcome::Finished => self.finished = true,
        }
        batch.origin.of_source(&self.name);
        self.room = batch.room();
        self.records += batch.len() as u64;
        self.newest = self.newest.max(
            batch
                .timestamps
                .iter()
                .copied()
                .max()
                .unwrap_or(NO_TIMESTAMP),
        );
        Ok(batch)
    }
}

/// A plugin in its place in a task: an instance, and the states that it declares.
pub(super) struct OpenedPlugin {
    pub(super) instance: Instance,
    /// Makes another instance.
    open: InstanceFactory,
    /// By position in the description.
    states: Vec<DeclaredState>,
    /// Results of lookups, by the same position. Lists and maps are not looked up, so theirs stay empty.
    lookups: Vec<Current>,
    /// Whether values of earlier versions may exist.
    is_migrating: bool,
    /// Whether the guest reads state during calls.
    has_collections: bool,
}

impl OpenedPlugin {
    fn new(open: InstanceFactory, states: Vec<DeclaredState>) -> Result<Self, GuestError> {
        Ok(Self {
            instance: open()?,
            open,
            lookups: states.iter().map(|_| Current::default()).collect(),
            is_migrating: states.iter().any(|state| !state.earlier.is_empty()),
            has_collections: states.iter().any(|state| state.kind != StateKind::Value),
            states,
        })
    }
}

/// Calls one instance of a plugin, and keeps its state.
///
/// - `kept` is away only while the guest is being called.
pub struct OperatorTask {
    pub(super) plugin: OpenedPlugin,
    /// Whether its instance has not been called yet.
    is_fresh: bool,
    kept: Option<Box<TaskCollections>>,
    seals: Seals,
    /// Largest number of records in the next call.
    call_records_max: usize,
    /// Whether it was already reported that the state needs a checkpoint.
    has_told_dirty: bool,
    pub(super) desk: FaultHandler,
    /// Measures the stages of the current batch.
    pub(super) laps: CallLaps,
}

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

/// What a state has for the keys of a call.
#[derive(Default)]
struct Current {
    lookup: Lookup,
    /// Replaces the values of the lookup, if some were of an earlier version.
    migrated: Option<OptionalColumn>,
}

impl Current {
    fn values(&self) -> &OptionalColumn {
        let looked_up = self.lookup.values();
        self.migrated.as_ref().unwrap_or(looked_up)
    }
}

/// Opens an instance of a task's plugin.
pub type InstanceFactory = Arc<dyn Fn() -> Result<Instance, GuestError> + Send + Sync>;

type TaskCollections = Collections<Trees<OwnInstance>>;

/// The reason why a batch could not be processed. Nothing of it is applied.
#[derive(Debug)]
pub enum TaskError {
    /// The plugin failed.
    Guest(GuestError),
    /// State cannot be read or kept.
    State(StateError),
    /// A list or map is damaged, or cannot be migrated.
    Tree(TreeError),
    /// The plugin cannot handle a record, which fails the job.
    Record {
        /// The failure of the plugin, as the end of a sentence that begins with the operator.
        reason: String,
        /// The position of the record in its source.
        position: String,
    },
}

impl From<TreeError> for TaskError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::State(error) => Self::State(error),
            error => Self::Tree(error),
        }
    }
}

impl From<GuestError> for TaskError {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

impl From<StateError> for TaskError {
    fn from(error: StateError) -> Self {
        Self::State(error)
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
        let kept = Collections::new(trees, states.iter().map(|state| state.id).collect());
        Ok(Self {
            plugin: OpenedPlugin::new(open, states)?,
            kept: Some(Box::new(kept)),
            seals: Seals::begin(None),
            call_records_max,
            has_told_dirty: false,
            desk: FaultHandler::new(handling),
            laps: CallLaps::default(),
            is_fresh: true,
        })
    }

    /// A task whose store has been sealed or restored, with these seals.
    #[must_use]
    pub fn with_seals(self, seals: Seals) -> Self {
        Self { seals, ..self }
    }

    /// Swaps in `ready` between two records. The old plugin is left in `ready`, so the caller that requested the swap drops
    /// it, not the worker.
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
        let store = self.kept?.into_store().store;
        let seals = self.seals;
        Some(RetainedState { store, seals })
    }

    /// The store of its state.
    pub fn store_mut(&mut self) -> &mut StateStore {
        &mut kept(&mut self.kept).store_mut().store
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

    /// Notes that a checkpoint is durable: older versions of the state are no longer needed.
    fn completed(&mut self, checkpoint: CheckpointId) {
        let store = &mut kept(&mut self.kept).store_mut().store;
        self.seals.durable(Some(checkpoint), store);
    }

    /// Notifies the plugin of a completed or failed checkpoint. If it crashes in that call, a fresh instance replaces
    /// it; the returned reason is for a warning, and nothing else has happened.
    ///
    /// # Errors
    /// When no fresh instance can be opened.
    pub fn hear(
        &mut self,
        checkpoint: CheckpointId,
        is_durable: bool,
    ) -> Result<Option<GuestError>, GuestError> {
        let heard = match is_durable {
            true => {
                self.completed(checkpoint);
                self.plugin.instance.completed(checkpoint.0)
            }
            false => self.plugin.instance.aborted(checkpoint.0),
        };
        if let Err(error) = heard {
            self.renew()?;
            return Ok(Some(error));
        }
        Ok(None)
    }

    /// Largest number of records in a call: few at first, while many keys are looked up in the storage.
    #[must_use]
    pub fn call_records_max(&self) -> usize {
        self.call_records_max
    }

    /// Whether its state needs a checkpoint to stay within its memory. Returns `true` once until the next checkpoint.
    pub fn is_newly_dirty(&mut self) -> bool {
        if self.has_told_dirty || !self.store_mut().is_dirty() {
            return false;
        }
        self.has_told_dirty = true;
        true
    }

    /// Replaces the instance with a fresh one.
    ///
    /// # Errors
    /// When a fresh instance cannot be opened; the old one stays.
    pub(super) fn renew(&mut self) -> Result<(), GuestError> {
        let lines = self.plugin.instance.take_log();
        self.desk.keep_lines(lines);
        let fresh = (self.plugin.open)()?;
        self.desk.keep_times(self.plugin.instance.times());
        self.plugin.instance = fresh;
        self.is_fresh = true;
        Ok(())
    }

    /// Takes the lines for the job's log.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        let mut lines = self.desk.take_lines();
        lines.extend(self.plugin.instance.take_log());
        lines
    }

    /// The times of its calls so far, those of earlier instances included.
    pub(super) fn times(&self) -> CallTimes {
        self.desk.all_times(self.plugin.instance.times())
    }

    /// The counters of what went wrong in its calls.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.desk.faults
    }

    /// Its states, by position in the plugin's description.
    pub(super) fn states(&self) -> &[DeclaredState] {
        &self.plugin.states
    }

    /// The lists and maps in its state.
    pub(super) fn trees_mut(&mut self) -> &mut Trees<OwnInstance> {
        kept(&mut self.kept).store_mut()
    }

    /// The instance, for its log.
    pub fn instance_mut(&mut self) -> &mut Instance {
        &mut self.plugin.instance
    }

    /// Processes a batch as one transaction; returns the emitted batches, each with its port. The batch of an operator
    /// with state has a dictionary. `wall_ms` is wall-clock time in milliseconds since 1970.
    ///
    /// # Errors
    /// When the plugin does not open, or fails at a record and this fails the job; the records before it may be
    /// applied, so the state must return to a checkpoint. When state cannot be read or kept: the task must not be used
    /// then.
    pub fn process(
        &mut self,
        input: InputPort,
        keyed: KeyedBatch,
        wall_ms: u64,
    ) -> Result<Vec<(OutputPort, Batch)>, TaskError> {
        self.improve();
        self.call_records_max = CALL_RECORDS_MAX.min(2 * self.call_records_max);
        if keyed.batch.len() > self.desk.caution.records_max() {
            return self.process_in_pieces(input, &keyed, None, wall_ms);
        }
        match self.attempt(input, &keyed, wall_ms)? {
            Ok(output) => self.finish(input, output, keyed.batch, wall_ms),
            Err(failed) => self.process_in_pieces(input, &keyed, Some(failed), wall_ms),
        }
    }

    /// Calls the plugin with a batch, and applies what it wrote.
    ///
    /// # Errors
    /// When no record is to blame. The inner error is a call that failed: nothing of it is applied.
    pub(super) fn attempt(
        &mut self,
        input: InputPort,
        keyed: &KeyedBatch,
        wall_ms: u64,
    ) -> Result<Result<CallOutput, FailedCall>, TaskError> {
        let KeyedBatch { batch, hashes } = keyed;
        let keys = Keys {
            keys: &batch.keys,
            hashes,
        };
        self.laps.look_up(&self.plugin.instance);
        let store = &mut kept(&mut self.kept).store_mut().store;
        let plugin = &mut self.plugin;
        let states = plugin.states.iter().zip(&mut plugin.lookups).zip(0..);
        for ((state, current), index) in states {
            if state.kind == StateKind::Value {
                store.read(state.id, keys, wall_ms, &mut current.lookup)?;
                current.migrated = migrated(&mut plugin.instance, index, state, &current.lookup)?;
            }
        }
        let was_fresh = std::mem::take(&mut self.is_fresh);
        let output = self.call(input, batch, hashes, wall_ms)?;
        self.laps.called(self.plugin.instance.last_call());
        let output = match output {
            Ok(output) => output,
            Err(error @ GuestError::StateUnreadable { .. }) => return Err(error.into()),
            Err(error) => return Ok(Err(FailedCall { error, was_fresh })),
        };
        self.check_rejections(input, &output, batch, wall_ms)?;
        let plugin = &mut self.plugin;
        if let Some(reported) = plugin.instance.take_reported() {
            self.desk.keep_reported(reported);
        }
        let kept = kept(&mut self.kept);
        kept.write(&output.lists, &output.maps)?;
        let trees = kept.store_mut();
        let store = &mut trees.store;
        for write in &output.values {
            let state = usize::from(write.state);
            let (id, lookup) = (plugin.states[state].id, &plugin.lookups[state].lookup);
            store.write(id, keys, wall_ms, lookup, &write.slots, &write.values);
        }
        if plugin.is_migrating {
            plugin.is_migrating =
                migrate_some(&mut plugin.instance, &plugin.states, trees, wall_ms)?;
        }
        trees.store.compact(wall_ms)?;
        self.laps.applied(&plugin.instance);
        Ok(Ok(output))
    }

    /// Calls the guest; it borrows the state if it reads state during calls.
    fn call(
        &mut self,
        input: InputPort,
        batch: &Batch,
        hashes: &[u64],
        wall_ms: u64,
    ) -> Result<Result<CallOutput, GuestError>, TaskError> {
        let plugin = &mut self.plugin;
        let values: Vec<_> = plugin.lookups.iter().map(Current::values).collect();
        if !plugin.has_collections {
            return Ok(plugin.instance.process(input.0, batch, &values, &mut None));
        }
        kept(&mut self.kept).begin(&batch.keys, hashes, wall_ms);
        let mut lent = self.kept.take().map(|kept| kept as Box<dyn StateAccess>);
        let output = plugin.instance.process(input.0, batch, &values, &mut lent);
        self.kept = lent.and_then(|lent| (lent as Box<dyn Any>).downcast().ok());
        if let Some(failure) = kept(&mut self.kept).take_failure() {
            return Err(failure.into());
        }
        Ok(output)
    }
}

fn kept(kept: &mut Option<Box<TaskCollections>>) -> &mut TaskCollections {
    let kept = kept.as_deref_mut();
    kept.expect("the state is away only while the guest is being called")
}

/// The emitted batches, each with its port.
pub(super) fn leaving(emissions: Vec<Emission>, mut batch: Batch) -> Vec<(OutputPort, Batch)> {
    let mut leaving = Vec::with_capacity(emissions.len());
    let last = emissions.len().saturating_sub(1);
    let origin = batch.origin.inherited();
    for (index, emission) in emissions.into_iter().enumerate() {
        let keys = match emission.keys {
            EmittedKeys::Fresh(keys) => keys,
            EmittedKeys::Input if index == last => std::mem::take(&mut batch.keys),
            EmittedKeys::Input => batch.keys.clone(),
        };
        let emitted = Batch {
            keys,
            slots: emission.slots,
            values: emission.values,
            timestamps: emission.timestamps,
            origin: origin.clone(),
            skips_values: false,
        };
        if !emitted.is_empty() {
            leaving.push((OutputPort(emission.output), emitted));
        }
    }
    leaving
}

/// Writes one task's share of a sink.
pub struct SinkTask {
    /// The connector's writer.
    pub writer: Box<dyn SinkWriter>,
    /// Records written by this process.
    pub records: u64,
}
