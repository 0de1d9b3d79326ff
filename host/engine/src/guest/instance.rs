//! A live guest: one instance of a plugin, with memory of its own.
//!
//! An instance serves one task. After a trap it must not be used again; dropping it frees all its resources. Each call is
//! made by `call`, under limits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::{CallHook, PoolConcurrencyLimitError, Store, UpdateDeadline};

use super::access::Lent;
use super::bindings::exports::floodmark::engine::input_columns::UnreadColumns as WitUnread;
use super::bindings::exports::floodmark::engine::operator::Description as WitDescription;
use super::bindings::exports::floodmark::engine::operator_packed as packed;
use super::bindings::floodmark::engine::types as wit;
use super::call::{begin, call, interrupted, trapped};
use super::compiler::Tier;
use super::deadline::TaskGrace;
use super::exports::{Exports, Process};
use super::guest_state::{GuestState, LOG_LINE_CHARS_MAX};
use super::limits::Exceeded;
use super::output::{BadOutput, CallOutput, Declared, check_output};
use super::plugin::{InstanceTemplate, UnreadColumns};
use super::returned::{Returned, packed_i64s, packed_u32s};
use super::samples::{enter_guest, look};
use super::share::Alive;
use super::tiers::{Code, Linked, Tiers};
use super::{CallTimes, Description, GuestError, LogLine, Reported, StateAccess};
use floodmark_state::StateKind;
use floodmark_state::stream::{Batch, Column, OptionalColumn};

/// A live guest.
pub struct Instance {
    pub(super) operator: String,
    pub(super) store: Store<GuestState>,
    pub(super) exports: Exports,
    outputs: usize,
    /// By input port: the columns that calls leave out.
    unread: Vec<UnreadColumns>,
    tier: Tier,
    /// The code of its plugin, if better code than its own may become available.
    improving: Option<Arc<Tiers>>,
    /// Counts it as live until its memory is freed.
    _alive: Alive,
}

impl Instance {
    pub(super) fn start(
        operator: &str,
        start: &InstanceTemplate,
        description: &Description,
        grace: Arc<TaskGrace>,
    ) -> Result<Self, GuestError> {
        let kinds = description.states.iter().map(|state| state.kind).collect();
        let code = start.tiers.newest();
        let (store, exports, alive) = instantiate(operator, start, &code, (kinds, grace))?;
        Ok(Self {
            tier: code.tier,
            improving: (code.tier == Tier::Quick).then(|| Arc::clone(&start.tiers)),
            operator: operator.to_owned(),
            store,
            exports,
            outputs: description.outputs.len(),
            unread: description.unread.clone(),
            _alive: alive,
        })
    }

    /// The plugin's description of itself, and the columns that it does not read, from an instance that is then
    /// dropped.
    pub(super) fn describe(
        operator: &str,
        start: &InstanceTemplate,
    ) -> Result<(WitDescription, Vec<WitUnread>), GuestError> {
        let code = start.tiers.newest();
        let of_no_task = (Vec::new(), Arc::default());
        let (mut store, exports, _alive) = instantiate(operator, start, &code, of_no_task)?;
        let described = call(&mut store, operator, "describe", |store| {
            exports.operator.call_describe(store)
        })?;
        let Some(columns) = &exports.input_columns else {
            return Ok((described, Vec::new()));
        };
        let unread = call(&mut store, operator, "unread", |store| {
            columns.call_unread(store)
        })?;
        Ok((described, unread))
    }

    pub(super) fn open(&mut self, config: &[(String, String)]) -> Result<(), GuestError> {
        let config: Vec<_> = config
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let opened = call(&mut self.store, &self.operator, "open", |store| {
            self.exports.operator.call_open(store, &config)
        })?;
        opened.map_err(|reason| GuestError::Open {
            operator: self.operator.clone(),
            reason: shortened(&reason),
        })
    }

    /// Whether faster code than its own is available, so that replacing the instance is worth it.
    #[inline]
    #[must_use]
    pub fn has_better_code(&self) -> bool {
        let improving = self.improving.as_ref();
        improving.is_some_and(|tiers| tiers.code() == Code::Optimised)
    }

    /// Whether faster code than its own is being compiled, or is available.
    #[must_use]
    pub fn awaits_better_code(&self) -> bool {
        let improving = self.improving.as_ref();
        improving.is_some_and(|tiers| tiers.code() != Code::Quick)
    }

    /// Keeps its code for its lifetime: an instance of better code could not be opened.
    pub fn keep_code(&mut self) {
        self.improving = None;
    }

    /// Whether its code is from the quick compiler.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.tier == Tier::Quick
    }

    /// Whether the job was asked to stop.
    #[must_use]
    pub fn is_job_stopping(&self) -> bool {
        self.store.data().since_stop().is_some()
    }

    /// Whether the job was asked to stop, and the calls of its task have used up their grace: none is begun any more.
    #[must_use]
    pub fn has_no_grace(&self) -> bool {
        self.store.data().has_no_grace()
    }

    /// The error of a call that its task has no grace for.
    #[must_use]
    pub fn interruption(&self, call: &'static str) -> GuestError {
        interrupted(&self.operator, call, self.store.data())
    }

    /// Sets the time limit of later calls, so that the caller can find the record that makes a call too long.
    pub fn set_time_per_call(&mut self, time: Duration) {
        self.store.data_mut().bounds.limits.time_per_call = time;
    }

    /// Processes a batch. `states` has an item for each declared state: the values of all keys of the batch for a
    /// `value` state, nothing for others. Lists and maps are read from `access`, which is dropped before this returns, also
    /// after an error; a plugin without lists and maps needs none.
    ///
    /// # Errors
    /// When the plugin fails, crashes, or breaks the contract, or when the state cannot be read. Nothing of the call
    /// may be applied; after a crash or a failed read the instance must not be used again.
    pub fn process(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
        access: Option<Arc<Mutex<dyn StateAccess>>>,
    ) -> Result<CallOutput, GuestError> {
        let keys = batch.keys.len();
        self.store.data_mut().lent = access.map(|access| Lent {
            access,
            keys,
            failure: None,
        });
        self.store.data_mut().timer.begin(batch.len());
        let output = self.transact(input, batch, states);
        let state = self.store.data_mut();
        state.timer.end();
        if output.is_err() {
            state.reporting.forget();
        }
        output
    }

    /// The times of its calls of [`Instance::process`]; without a clock in the engine, only the number of calls.
    #[must_use]
    pub fn times(&self) -> CallTimes {
        self.store.data().timer.times()
    }

    /// The time by the engine's clock, for callers that measure around a call; `None` without a clock.
    #[must_use]
    pub fn now(&self) -> Option<u64> {
        self.store.data().timer.now()
    }

    /// The start and end of the latest call of [`Instance::process`].
    #[must_use]
    pub fn last_call(&self) -> Option<(u64, u64)> {
        self.store.data().timer.call()
    }

    fn transact(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
    ) -> Result<CallOutput, GuestError> {
        let returned = self.call_process(input, batch, states);
        let lent = self.store.data_mut().lent.take();
        if let Some(reason) = lent.and_then(|lent| lent.failure) {
            return Err(GuestError::StateUnreadable {
                operator: self.operator.clone(),
                reason,
            });
        }
        let output = match returned? {
            Ok(output) => output.map_err(|reason| self.bad_output(reason))?,
            Err(reason) => {
                return Err(GuestError::Failed {
                    operator: self.operator.clone(),
                    reason: shortened(&reason),
                });
            }
        };
        let cost = output.check_cost(batch, &self.store.data().bounds.limits);
        cost.map_err(|exceeded| GuestError::Limit {
            operator: self.operator.clone(),
            call: "process",
            exceeded,
        })?;
        let declared = Declared {
            batch,
            outputs: self.outputs,
            states: &self.store.data().kinds,
        };
        check_output(output, declared).map_err(|reason| self.bad_output(reason))
    }

    fn bad_output(&self, reason: BadOutput) -> GuestError {
        GuestError::BadOutput {
            operator: self.operator.clone(),
            reason,
        }
    }

    /// Calls the guest. The innermost error is output that cannot be unpacked to numbers.
    fn call_process(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
    ) -> Result<Result<Result<Returned, BadOutput>, String>, GuestError> {
        let unread = self.unread.get(usize::from(input));
        let unread = unread.copied().unwrap_or_default();
        let exports = &self.exports;
        call(&mut self.store, &self.operator, "process", |store| {
            Ok(match &exports.process {
                Process::Plain => {
                    let records = columns(batch, UnreadColumns::default());
                    let states: Vec<_> = states.iter().copied().map(optional_column).collect();
                    let operator = &exports.operator;
                    let answer = operator.call_process(store, input, records, &states)?;
                    answer.map(|output| Ok(output.into()))
                }
                Process::Compact(compact) => {
                    let records = columns(batch, unread);
                    let states: Vec<_> = states.iter().copied().map(optional_column).collect();
                    let answer = compact.call_process(store, input, records, &states)?;
                    answer.map(|output| Ok(output.into()))
                }
                Process::Packed(operator) => {
                    let records = PackedColumns::of(batch, unread);
                    let ends: Vec<_> = states
                        .iter()
                        .map(|values| packed_u32s(values.ends()))
                        .collect();
                    let states: Vec<_> = states
                        .iter()
                        .zip(&ends)
                        .map(|(values, ends)| packed::PackedOptionalColumnParam {
                            present: values.present(),
                            ends,
                            bytes: values.bytes(),
                        })
                        .collect();
                    let answer = operator.call_process(store, input, records.param(), &states)?;
                    answer.map(Returned::unpack)
                }
            })
        })
    }

    /// The kinds of the states that the plugin declares, by position.
    #[must_use]
    pub fn states(&self) -> &[StateKind] {
        &self.store.data().kinds
    }

    /// Takes the lines that the guest has logged since the last call.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.store.data_mut().take_log()
    }

    /// Takes the metrics that successful calls have reported since the last call of this.
    pub fn take_reported(&mut self) -> Option<Reported> {
        self.store.data_mut().reporting.take()
    }

    /// Checks that a call did not return too many bytes.
    pub(super) fn check_returned(&self, call: &'static str, bytes: u64) -> Result<(), GuestError> {
        let allowed = self.store.data().bounds.limits.output_bytes_per_call;
        if bytes <= allowed {
            return Ok(());
        }
        Err(GuestError::Limit {
            operator: self.operator.clone(),
            call,
            exceeded: Exceeded::Output {
                bytes: Some(bytes),
                allowed,
            },
        })
    }
}

fn instantiate(
    operator: &str,
    start: &InstanceTemplate,
    code: &Linked,
    (kinds, grace): (Vec<StateKind>, Arc<TaskGrace>),
) -> Result<(Store<GuestState>, Exports, Alive), GuestError> {
    let share = start.shares.of(operator);
    let alive = share
        .enter(&start.limits)
        .map_err(|exceeded| GuestError::Limit {
            operator: operator.to_owned(),
            call: "instantiate",
            exceeded,
        })?;
    let state = GuestState::new(kinds, start, (share, grace));
    let mut store = Store::new(code.pre.engine(), state);
    store.limiter(|state| &mut state.bounds);
    store.set_hostcall_fuel(start.limits.handed_bytes());
    watch(&mut store, operator, start);
    begin(&mut store, operator, "instantiate")?;
    let instance = code.pre.instantiate(&mut store);
    store.data_mut().end_call();
    let instance = instance.map_err(|error| {
        if error.is::<PoolConcurrencyLimitError>() {
            return GuestError::Limit {
                operator: operator.to_owned(),
                call: "instantiate",
                exceeded: Exceeded::Pool {
                    allowed: start.instances_max,
                },
            };
        }
        trapped(operator, "instantiate", &error, store.data())
    })?;
    // The types of exports are checked here and no earlier.
    let exports = match start.is_plain {
        true => code.exports.plain().load(&mut store, &instance),
        false => code.exports.load(&mut store, &instance),
    };
    let exports = exports.map_err(|error| GuestError::OtherTypes {
        operator: operator.to_owned(),
        reason: format!("{error:#}"),
    })?;
    Ok((store, exports, alive))
}

/// Lets the store end calls in time, measure them if there is a clock, and sample them if the job is profiled.
fn watch(store: &mut Store<GuestState>, operator: &str, start: &InstanceTemplate) {
    if let Some(samples) = start.samples.clone() {
        let operator = operator.to_owned();
        store.epoch_deadline_callback(move |mut store| Ok(look(&mut store, &operator, &samples)));
        store.call_hook(|mut store, crossing| {
            store.data_mut().timer.cross(crossing);
            if matches!(
                crossing,
                CallHook::CallingWasm | CallHook::ReturningFromHost
            ) {
                enter_guest(&mut store);
            }
            Ok(())
        });
        return;
    }
    store.epoch_deadline_callback(|mut store| {
        Ok(match store.data_mut().is_out_of_time() {
            true => UpdateDeadline::Interrupt,
            false => UpdateDeadline::Continue(1),
        })
    });
    if start.clock.is_some() {
        store.call_hook(|mut store, crossing| {
            store.data_mut().timer.cross(crossing);
            Ok(())
        });
    }
}

/// A message of a guest, shortened.
pub(super) fn shortened(reason: &str) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    reason
        .chars()
        .take(LOG_LINE_CHARS_MAX)
        .map(printable)
        .collect()
}

/// A batch for a call, without the columns that the guest does not read.
fn columns(batch: &Batch, unread: UnreadColumns) -> wit::Batch<'_> {
    wit::Batch {
        keys: column(&batch.keys),
        slots: &batch.slots,
        values: match unread.values {
            true => wit::ColumnParam {
                ends: &[],
                bytes: &[],
            },
            false => column(&batch.values),
        },
        timestamps: match unread.timestamps {
            true => &[],
            false => &batch.timestamps,
        },
    }
}

/// A batch for a packed call: its bytes, and its numbers as bytes.
struct PackedColumns<'a> {
    key_ends: Vec<u8>,
    key_bytes: &'a [u8],
    slots: Vec<u8>,
    value_ends: Vec<u8>,
    value_bytes: &'a [u8],
    timestamps: Vec<u8>,
}

impl<'a> PackedColumns<'a> {
    fn of(batch: &'a Batch, unread: UnreadColumns) -> Self {
        let columns = columns(batch, unread);
        Self {
            key_ends: packed_u32s(columns.keys.ends),
            key_bytes: columns.keys.bytes,
            slots: packed_u32s(columns.slots),
            value_ends: packed_u32s(columns.values.ends),
            value_bytes: columns.values.bytes,
            timestamps: packed_i64s(columns.timestamps),
        }
    }

    fn param(&self) -> packed::PackedBatch<'_> {
        packed::PackedBatch {
            keys: packed::PackedColumnParam {
                ends: &self.key_ends,
                bytes: self.key_bytes,
            },
            slots: &self.slots,
            values: packed::PackedColumnParam {
                ends: &self.value_ends,
                bytes: self.value_bytes,
            },
            timestamps: &self.timestamps,
        }
    }
}

fn column(column: &Column) -> wit::ColumnParam<'_> {
    wit::ColumnParam {
        ends: column.ends(),
        bytes: column.bytes(),
    }
}

fn optional_column(column: &OptionalColumn) -> wit::OptionalColumnParam<'_> {
    wit::OptionalColumnParam {
        present: column.present(),
        ends: column.ends(),
        bytes: column.bytes(),
    }
}
