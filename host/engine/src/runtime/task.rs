//! One parallel copy of a node: a source, an operator or a sink.

use std::sync::{Arc, Mutex, PoisonError};

use super::bad_records::BadRecordHandler;
use super::blame::FailedCall;
use super::collections::Collections;
use super::faults::{FaultHandler, Faults, Guilty, Handling};
use super::keyed::KeyedBatch;
use super::keyed_state::KeyedState;
use super::leaving::leaving;
use super::migration::{NotMigrated, OwnInstance, migrated};
use super::schema::DeclaredState;
use super::sizes::CALL_RECORDS_MAX;
use super::snapshot::Seals;
use super::source_task::SourceTask;
use super::stages::CallLaps;
use super::state_room::StateRoom;
use super::sweep::Sweep;
use super::trees::Trees;
use crate::connector::SinkWriter;
use crate::guest::{
    CallOutput, CallTimes, GuestError, Instance, LogLevel, LogLine, Rejection, StateAccess,
};
use floodmark_state::stream::{Batch, CheckpointId, InputPort, OptionalColumn, OutputPort};
use floodmark_state::{Keys, Lookup, StateError, StateKind, TreeError};

/// One parallel copy of a node.
pub enum Task {
    /// Reads records.
    Source(SourceTask),
    /// Calls a plugin.
    Operator(Box<OperatorTask>),
    /// Writes records.
    Sink(SinkTask),
}

/// A plugin in its place in a task: an instance, and the states that it declares.
pub(super) struct OpenedPlugin {
    pub(super) instance: Instance,
    /// Makes another instance.
    open: InstanceFactory,
    /// By position in the description.
    pub(super) states: Vec<DeclaredState>,
    /// Results of lookups, by the same position. Lists and maps are not looked up, so theirs stay empty.
    lookups: Vec<Current>,
    /// Migrates what no record asks for.
    pub(super) sweep: Sweep,
    /// Whether the guest reads state during calls.
    has_collections: bool,
    /// Whether there may be lists or maps of earlier versions.
    has_earlier_collections: bool,
}

impl OpenedPlugin {
    pub(super) fn new(
        open: InstanceFactory,
        states: Vec<DeclaredState>,
    ) -> Result<Self, GuestError> {
        Ok(Self {
            instance: open()?,
            open,
            lookups: states.iter().map(|_| Current::default()).collect(),
            sweep: Sweep::new(&states),
            has_collections: states.iter().any(|state| state.kind != StateKind::Value),
            has_earlier_collections: states
                .iter()
                .any(|state| state.kind != StateKind::Value && !state.earlier.is_empty()),
            states,
        })
    }
}

/// Calls one instance of a plugin, and keeps its state in `S`: in a job, in our own store.
///
/// - `kept` is shared only while a guest that reads state is being called.
pub struct OperatorTask<S: KeyedState = Trees<OwnInstance>> {
    pub(super) plugin: OpenedPlugin,
    /// Whether its instance has not been called yet.
    pub(super) is_fresh: bool,
    pub(super) kept: Arc<Mutex<Collections<S>>>,
    /// The seals of our own store.
    pub(super) seals: Seals,
    /// Largest number of records in the next call.
    pub(super) call_records_max: usize,
    /// Whether it was already reported that our own store needs a checkpoint.
    pub(super) has_told_dirty: bool,
    pub(super) desk: FaultHandler,
    pub(super) room: StateRoom,
    /// Measures the stages of the current batch.
    pub(super) laps: CallLaps,
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

/// What a guest returned.
struct GuestAnswer {
    output: Result<CallOutput, GuestError>,
    /// Why a list or map that the guest read could not be migrated, which has ended the call.
    not_migrated: Option<String>,
}

/// Opens an instance of a task's plugin.
pub type InstanceFactory = Arc<dyn Fn() -> Result<Instance, GuestError> + Send + Sync>;

/// The reason why a batch could not be processed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError<E = TreeError> {
    /// The plugin failed.
    #[error(transparent)]
    Guest(GuestError),
    /// State cannot be read or kept.
    #[error("the state of the operator cannot be used: {0}")]
    State(E),
    /// The plugin cannot handle a record, which fails the job.
    #[error("the operator {reason}; the record: {position}")]
    Record {
        /// The failure of the plugin, as the end of a sentence that begins with the operator.
        reason: String,
        /// The position of the record in its source.
        position: String,
    },
}

impl From<TreeError> for TaskError {
    fn from(error: TreeError) -> Self {
        Self::State(error)
    }
}

impl From<StateError> for TaskError {
    fn from(error: StateError) -> Self {
        Self::State(error.into())
    }
}

impl<E> From<GuestError> for TaskError<E> {
    fn from(error: GuestError) -> Self {
        Self::Guest(error)
    }
}

impl<S: KeyedState> OperatorTask<S> {
    /// A task for a plugin with these states, in its order, and its state.
    ///
    /// # Errors
    /// When no instance can be opened.
    pub(crate) fn with_state(
        open: InstanceFactory,
        states: Vec<DeclaredState>,
        state: S,
        handling: Handling,
    ) -> Result<Self, GuestError> {
        let kept = Collections::new(state, states.iter().map(|state| state.id).collect());
        Ok(Self {
            plugin: OpenedPlugin::new(open, states)?,
            kept: Arc::new(Mutex::new(kept)),
            seals: Seals::begin(None),
            call_records_max: CALL_RECORDS_MAX,
            has_told_dirty: false,
            room: handling.room(),
            desk: FaultHandler::new(handling),
            laps: CallLaps::default(),
            is_fresh: true,
        })
    }

    /// The state.
    pub(crate) fn state_mut(&mut self) -> &mut S {
        kept(&mut self.kept).store_mut()
    }

    /// The state, without the task; `None` after a panic while a guest was reading it.
    pub(crate) fn into_kept(self) -> Option<S> {
        let kept = Arc::into_inner(self.kept)?.into_inner().ok()?;
        Some(kept.into_store())
    }

    /// Notifies the plugin of a completed or failed checkpoint. If it crashes in that call, a fresh instance replaces
    /// it; the returned reason is for a warning ([`listener_warning`]), and nothing else has happened. A stop does not depend
    /// on this call: it is no failure that the stop interrupts it, or that the task has no grace for it.
    ///
    /// # Errors
    /// When no fresh instance can be opened.
    pub(crate) fn notify(
        &mut self,
        checkpoint: CheckpointId,
        is_durable: bool,
    ) -> Result<Option<GuestError>, GuestError> {
        let heard = match is_durable {
            true => self.plugin.instance.completed(checkpoint.0),
            false => self.plugin.instance.aborted(checkpoint.0),
        };
        let Err(error) = heard else {
            return Ok(None);
        };
        match self.renew() {
            Ok(()) => Ok(Some(error)),
            // No call of the task begins any more, so the old instance is not used again.
            Err(later) if later.is_interruption() => Ok(Some(error)),
            Err(later) => Err(later),
        }
    }

    /// Largest number of records in a call: few at first, while many keys are looked up in the storage.
    #[must_use]
    pub fn call_records_max(&self) -> usize {
        self.call_records_max
    }

    /// Replaces the instance with a fresh one.
    ///
    /// # Errors
    /// When a fresh instance cannot be opened; the old one stays.
    pub(crate) fn renew(&mut self) -> Result<(), GuestError> {
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
    pub(crate) fn states(&self) -> &[DeclaredState] {
        &self.plugin.states
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
    ) -> Result<Vec<(OutputPort, Batch)>, TaskError<S::Error>> {
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
    ) -> Result<Result<CallOutput, FailedCall>, TaskError<S::Error>> {
        let KeyedBatch { batch, hashes } = keyed;
        let keys = Keys {
            keys: &batch.keys,
            hashes,
        };
        self.laps.look_up(&self.plugin.instance);
        let looked_up = self.look_up(keys, wall_ms)?;
        let was_fresh = std::mem::take(&mut self.is_fresh);
        if let Err(failed) = looked_up {
            return Ok(Err(failed.call(was_fresh)));
        }
        let failed = |error, not_migrated| FailedCall {
            error,
            was_fresh,
            not_migrated,
        };
        let answer = self.call(input, batch, hashes, wall_ms)?;
        let (output, not_migrated) = (answer.output, answer.not_migrated);
        self.laps.called(self.plugin.instance.last_call());
        let output = match output {
            Ok(output) => output,
            Err(error) if not_migrated.is_some() => return Ok(Err(failed(error, not_migrated))),
            Err(error @ GuestError::StateUnreadable { .. }) => return Err(error.into()),
            Err(error) => return Ok(Err(failed(error, None))),
        };
        if self.plugin.has_earlier_collections
            && let Some(what) = kept(&mut self.kept)
                .migrate(&output.lists, &output.maps)
                .map_err(TaskError::State)?
        {
            // Its records come again, and so does what it has reported of them.
            drop(self.plugin.instance.take_reported());
            let error = GuestError::Values {
                operator: self.desk.operator().to_owned(),
                call: "migrate",
                reason: what.clone(),
            };
            return Ok(Err(failed(error, Some(what))));
        }
        self.check_rejections(input, &output, batch, wall_ms)?;
        if let Err(error) = self.check_state(&output) {
            return Ok(Err(failed(error, None)));
        }
        let plugin = &mut self.plugin;
        if let Some(reported) = plugin.instance.take_reported() {
            self.desk.keep_reported(reported);
        }
        self.write(&output, keys, wall_ms)?;
        if !self.plugin.sweep.is_over() && !self.plugin.instance.is_job_stopping() {
            self.sweep(wall_ms)?;
        }
        self.settle(wall_ms)?;
        self.laps.applied(&self.plugin.instance);
        Ok(Ok(output))
    }

    /// Applies what a call wrote.
    ///
    /// # Errors
    /// When the state cannot be used any more.
    #[inline]
    fn write(
        &mut self,
        output: &CallOutput,
        keys: Keys<'_>,
        wall_ms: u64,
    ) -> Result<(), TaskError<S::Error>> {
        let kept = kept(&mut self.kept);
        kept.write(&output.lists, &output.maps)
            .map_err(TaskError::State)?;
        let place = kept.store_mut();
        for write in &output.values {
            let state = &self.plugin.states[usize::from(write.state)];
            let lookup = &self.plugin.lookups[usize::from(write.state)].lookup;
            place
                .write(state, keys, wall_ms, lookup, &write.slots, &write.values)
                .map_err(TaskError::State)?;
        }
        Ok(())
    }

    /// Lets the state do its upkeep, after all writes of a call.
    ///
    /// # Errors
    /// When the state cannot be used any more.
    #[inline]
    pub(super) fn settle(&mut self, wall_ms: u64) -> Result<(), TaskError<S::Error>> {
        let place = kept(&mut self.kept).store_mut();
        place.settle(wall_ms).map_err(TaskError::State)
    }

    /// Looks up the values of all keys of a call, and migrates those of earlier versions. Nothing is written.
    ///
    /// # Errors
    /// When state cannot be read. The inner error is of the plugin.
    fn look_up(
        &mut self,
        keys: Keys<'_>,
        wall_ms: u64,
    ) -> Result<Result<(), NotMigrated>, TaskError<S::Error>> {
        let place = kept(&mut self.kept).store_mut();
        let plugin = &mut self.plugin;
        let states = plugin.states.iter().zip(&mut plugin.lookups).zip(0..);
        for ((state, current), index) in states {
            if state.kind == StateKind::Value {
                place
                    .read(state, keys, wall_ms, &mut current.lookup)
                    .map_err(TaskError::State)?;
                let found = current.lookup.values().len();
                let expected = keys.hashes.len();
                assert_eq!(found, expected, "a lookup has an item for each key");
                match migrated(&mut plugin.instance, index, state, &current.lookup) {
                    Ok(values) => current.migrated = values,
                    Err(failed) => return Ok(Err(failed)),
                }
            }
        }
        Ok(Ok(()))
    }

    /// Calls the guest; it shares the state if it reads state during calls.
    fn call(
        &mut self,
        input: InputPort,
        batch: &Batch,
        hashes: &[u64],
        wall_ms: u64,
    ) -> Result<GuestAnswer, TaskError<S::Error>> {
        let plugin = &mut self.plugin;
        let values: Vec<_> = plugin.lookups.iter().map(Current::values).collect();
        if !plugin.has_collections {
            return Ok(GuestAnswer {
                output: plugin.instance.process(input.0, batch, &values, None),
                not_migrated: None,
            });
        }
        kept(&mut self.kept).begin(&batch.keys, hashes, wall_ms);
        let shared: Arc<Mutex<dyn StateAccess>> = Arc::<Mutex<Collections<S>>>::clone(&self.kept);
        let output = plugin
            .instance
            .process(input.0, batch, &values, Some(shared));
        let kept = kept(&mut self.kept);
        match kept.take_failure() {
            Some(failure) => Err(TaskError::State(failure)),
            None => Ok(GuestAnswer {
                output,
                not_migrated: kept.take_not_migrated(),
            }),
        }
    }

    /// Fails the job if rejections must fail it. Nothing of the call is applied yet.
    ///
    /// # Errors
    /// The first of the rejections.
    fn check_rejections(
        &mut self,
        input: InputPort,
        output: &CallOutput,
        batch: &Batch,
        wall_ms: u64,
    ) -> Result<(), TaskError<S::Error>> {
        match output.rejections.first() {
            Some(first) if self.desk.fails_job() => {
                let guilty = rejected(first, batch);
                let letters = &mut Batch::default();
                self.desk.judge(guilty, input, wall_ms, letters)
            }
            _ => Ok(()),
        }
    }

    /// Checks that the state has room for what a call wrote. Nothing of the call is applied yet. Keys are not counted, so
    /// the state may exceed its limit by what one call may return. A call that only removes always passes.
    fn check_state(&mut self, output: &CallOutput) -> Result<(), GuestError> {
        let written = output.state_bytes();
        if written == 0 {
            return Ok(());
        }
        let bytes = kept(&mut self.kept).store_mut().size_bytes() + written;
        self.room
            .check(bytes)
            .map_err(|exceeded| GuestError::Limit {
                operator: self.desk.operator().to_owned(),
                call: "process",
                exceeded,
            })
    }

    /// Publishes the size of its state, against which other tasks are checked.
    pub(super) fn publish_size(&mut self) {
        let bytes = kept(&mut self.kept).store_mut().size_bytes();
        self.room.publish(bytes);
    }

    /// The emitted records of a successful call, including dead letters for rejected records.
    #[inline]
    pub(super) fn finish(
        &mut self,
        input: InputPort,
        output: CallOutput,
        batch: Batch,
        wall_ms: u64,
    ) -> Result<Vec<(OutputPort, Batch)>, TaskError<S::Error>> {
        self.desk.caution.succeeded(batch.len());
        if output.rejections.is_empty() {
            return Ok(leaving(output.emissions, batch));
        }
        let mut letters = Batch::default();
        for rejection in &output.rejections {
            self.desk.faults.rejections += 1;
            let guilty = rejected(rejection, &batch);
            self.desk
                .judge::<S::Error>(guilty, input, wall_ms, &mut letters)?;
        }
        let mut leaving = leaving(output.emissions, batch);
        self.desk.send(letters, &mut leaving);
        Ok(leaving)
    }
}

/// The warning for a plugin that has failed when it was notified of a checkpoint.
pub(crate) fn listener_warning(error: &GuestError) -> LogLine {
    let next = match error.is_interruption() {
        true => "the stop does not depend on that call",
        false => "the task continues with a fresh instance",
    };
    LogLine {
        level: LogLevel::Warn,
        message: format!("{error}; {next}"),
    }
}

/// The state of a task between the calls of its guest.
pub(super) fn kept<S: KeyedState>(kept: &mut Arc<Mutex<Collections<S>>>) -> &mut Collections<S> {
    let kept = Arc::get_mut(kept).expect("an instance drops the state at the end of its call");
    kept.get_mut().unwrap_or_else(PoisonError::into_inner)
}

fn rejected<'a>(rejection: &Rejection, batch: &'a Batch) -> Guilty<'a> {
    Guilty {
        batch,
        record: rejection.record as usize,
        reason: format!("rejected the record: {}", rejection.reason),
    }
}

/// Writes one task's share of a sink.
pub struct SinkTask {
    /// The connector's writer.
    pub writer: Box<dyn SinkWriter>,
    /// Records written by this process.
    pub records: u64,
    /// The handling of what it cannot write.
    pub bad_records: BadRecordHandler,
}
