//! A live guest: one instance of a plugin, with memory of its own.
//!
//! An instance serves one task. After a trap it must not be used again; dropping it frees all its resources. The limits
//! are set again for each call: see [`super::limits`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::{CallHook, PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};

use super::access::Lent;
use super::bindings::exports::floodmark::engine::input_columns::UnreadColumns as WitUnread;
use super::bindings::exports::floodmark::engine::operator::Description as WitDescription;
use super::bindings::exports::floodmark::engine::operator_packed as packed;
use super::bindings::floodmark::engine::types as wit;
use super::compiler::Tier;
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

/// A part of wasmtime's message when a guest passes more than its hostcall fuel.
const HANDED_TOO_MUCH: &str = "fuel allocated for hostcalls";

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
    ) -> Result<Self, GuestError> {
        let kinds = description.states.iter().map(|state| state.kind).collect();
        let code = start.tiers.newest();
        let (store, exports, alive) = instantiate(operator, start, &code, kinds)?;
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
        let (mut store, exports, _alive) = instantiate(operator, start, &code, Vec::new())?;
        arm(&mut store);
        let described = exports.operator.call_describe(&mut store);
        let described =
            described.map_err(|error| trapped(operator, "describe", &error, store.data()))?;
        let Some(columns) = &exports.input_columns else {
            return Ok((described, Vec::new()));
        };
        arm(&mut store);
        let unread = columns.call_unread(&mut store);
        let unread = unread.map_err(|error| trapped(operator, "unread", &error, store.data()))?;
        Ok((described, unread))
    }

    pub(super) fn open(&mut self, config: &[(String, String)]) -> Result<(), GuestError> {
        let config: Vec<_> = config
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        arm(&mut self.store);
        let opened = self.exports.operator.call_open(&mut self.store, &config);
        match opened {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(GuestError::Open {
                operator: self.operator.clone(),
                reason: shortened(&reason),
            }),
            Err(error) => Err(self.crashed("open", &error)),
        }
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

    /// Whether a call of an instance of its operator was interrupted, since the job was asked to stop.
    #[must_use]
    pub fn was_interrupted(&self) -> bool {
        self.store.data().share.was_interrupted()
    }

    /// The error of a call of another instance of its operator that was interrupted.
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
        let output = match returned {
            Ok(Ok(output)) => output.map_err(|reason| self.bad_output(reason))?,
            Ok(Err(reason)) => {
                return Err(GuestError::Failed {
                    operator: self.operator.clone(),
                    reason: shortened(&reason),
                });
            }
            Err(error) => return Err(self.crashed("process", &error)),
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
    ) -> wasmtime::Result<Result<Result<Returned, BadOutput>, String>> {
        arm(&mut self.store);
        let unread = self.unread.get(usize::from(input));
        let unread = unread.copied().unwrap_or_default();
        let store = &mut self.store;
        match &self.exports.process {
            Process::Plain => {
                let records = columns(batch, UnreadColumns::default());
                let states: Vec<_> = states.iter().copied().map(optional_column).collect();
                let operator = &self.exports.operator;
                let answer = operator.call_process(store, input, records, &states)?;
                Ok(answer.map(|output| Ok(output.into())))
            }
            Process::Compact(compact) => {
                let records = columns(batch, unread);
                let states: Vec<_> = states.iter().copied().map(optional_column).collect();
                let answer = compact.call_process(store, input, records, &states)?;
                Ok(answer.map(|output| Ok(output.into())))
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
                Ok(answer.map(Returned::unpack))
            }
        }
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

    pub(super) fn crashed(&self, call: &'static str, error: &wasmtime::Error) -> GuestError {
        trapped(&self.operator, call, error, self.store.data())
    }
}

fn instantiate(
    operator: &str,
    start: &InstanceTemplate,
    code: &Linked,
    kinds: Vec<StateKind>,
) -> Result<(Store<GuestState>, Exports, Alive), GuestError> {
    let share = start.shares.of(operator);
    let alive = share
        .enter(&start.limits)
        .map_err(|exceeded| GuestError::Limit {
            operator: operator.to_owned(),
            call: "instantiate",
            exceeded,
        })?;
    let state = GuestState::new(kinds, start, share);
    let mut store = Store::new(code.pre.engine(), state);
    store.limiter(|state| &mut state.bounds);
    store.set_hostcall_fuel(start.limits.handed_bytes());
    watch(&mut store, operator, start);
    arm(&mut store);
    let instance = code.pre.instantiate(&mut store).map_err(|error| {
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

/// Sets the limits of the next call.
pub(super) fn arm(store: &mut Store<GuestState>) {
    let state = store.data_mut();
    state.bounds.refused = None;
    let (limits, has_fuel) = (state.bounds.limits, state.has_fuel);
    state.deadline.begin(state.share.now(), &limits);
    // The guest then looks at its deadline, and again once a tick.
    store.set_epoch_deadline(1);
    if has_fuel {
        let fuel = limits.fuel_per_call.unwrap_or(u64::MAX);
        store
            .set_fuel(fuel)
            .expect("the engine was made to count fuel");
    }
}

fn trapped(
    operator: &str,
    call: &'static str,
    error: &wasmtime::Error,
    state: &GuestState,
) -> GuestError {
    if state.deadline.is_interrupted() {
        state.share.note_interruption();
        return interrupted(operator, call, state);
    }
    let operator = operator.to_owned();
    let reason = error.root_cause().to_string();
    if let Some(exceeded) = exceeded(error, &reason, state) {
        return GuestError::Limit {
            operator,
            call,
            exceeded,
        };
    }
    GuestError::Trapped {
        operator,
        call,
        reason,
        stderr: last_words(&state.stderr),
    }
}

fn interrupted(operator: &str, call: &'static str, state: &GuestState) -> GuestError {
    GuestError::Interrupted {
        operator: operator.to_owned(),
        call,
        after: state.bounds.limits.stop_grace,
    }
}

/// The end of a guest's standard error, without control characters and without the hints that Rust adds to a panic: a
/// guest has no environment, so a user cannot follow them.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().filter(|line| !is_hint(line)).collect();
    let mut text = lines.join("\n");
    text.retain(|char| char == '\n' || !char.is_control());
    text
}

/// Whether a line only says how to get a backtrace.
fn is_hint(line: &str) -> bool {
    line.trim_start().starts_with("note: ") && line.contains("`RUST_BACKTRACE=")
}

/// The limit that ended a call, if any. A guest that is refused memory usually traps by itself afterwards.
fn exceeded(error: &wasmtime::Error, reason: &str, state: &GuestState) -> Option<Exceeded> {
    let limits = &state.bounds.limits;
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Some(Exceeded::Time {
            allowed: limits.time_per_call,
        }),
        Some(Trap::OutOfFuel) => Some(Exceeded::Fuel {
            allowed: limits.fuel_per_call.unwrap_or(u64::MAX),
        }),
        None if reason.contains(HANDED_TOO_MUCH) => Some(Exceeded::Output {
            bytes: None,
            allowed: limits.handed_bytes() as u64,
        }),
        _ => state.bounds.refused,
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

#[cfg(test)]
mod tests {
    //! Catches last words of a guest that tell a user to do what cannot be done, or that lack what the guest said.

    use super::*;

    #[track_caller]
    fn check(stderr: &str, expected: &str) {
        assert_eq!(last_words(stderr.as_bytes()), expected);
    }

    #[test]
    fn hints_of_rust_are_left_out() {
        check("", "");
        check(
            "\nthread 'main' panicked at src/lib.rs:1:2:\nno\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
            "\nthread 'main' panicked at src/lib.rs:1:2:\nno",
        );
        check(
            "one\nnote: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\r\ntwo\n",
            "one\ntwo",
        );
        check("note: this is the plugin's\n", "note: this is the plugin's");
        check("set `RUST_BACKTRACE=1`", "set `RUST_BACKTRACE=1`");
    }

    #[test]
    fn control_characters_are_left_out() {
        check("a\u{1b}[31m\tb\u{9b}\nc", "a[31mb\nc");
    }
}
