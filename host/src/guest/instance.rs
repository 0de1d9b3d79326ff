//! A live guest: one instance of a plugin, with memory of its own.
//!
//! An instance serves one task. After a trap it is not to be used again; dropping it frees all that it had. Each call begins
//! with its limits set anew: see [`super::limits`].

use std::time::Duration;

use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use super::access::Lent;
use super::beside::{GuestState, LOG_LINE_CHARS_MAX};
use super::bindings::Plugin as Bindings;
use super::bindings::exports::floodmark::engine::operator::{
    self, Description as WitDescription, EmittedKeys, Output as WitOutput,
};
use super::bindings::floodmark::engine::types as wit;
use super::limits::{Exceeded, ticks};
use super::output::{CallOutput, Declared, check_output};
use super::plugin::Start;
use super::share::Alive;
use super::{CallTimes, Description, GuestError, LogLine, Reported, StateAccess};
use crate::state::StateKind;
use crate::stream::{Batch, Column, OptionalColumn};

/// What wasmtime says when a guest hands over more than its hostcall fuel.
const HANDED_TOO_MUCH: &str = "fuel allocated for hostcalls";

/// A live guest.
pub struct Instance {
    pub(super) operator: String,
    pub(super) store: Store<GuestState>,
    pub(super) bindings: Bindings,
    outputs: usize,
    /// Counts it among the live ones until its memory is free.
    _alive: Alive,
}

impl Instance {
    pub(super) fn start(
        operator: &str,
        start: &Start,
        description: &Description,
    ) -> Result<Self, GuestError> {
        let kinds = description.states.iter().map(|state| state.kind).collect();
        let (store, bindings, alive) = instantiate(operator, start, kinds)?;
        Ok(Self {
            operator: operator.to_owned(),
            store,
            bindings,
            outputs: description.outputs.len(),
            _alive: alive,
        })
    }

    /// What a plugin says of itself, from an instance that is then dropped.
    pub(super) fn describe(operator: &str, start: &Start) -> Result<WitDescription, GuestError> {
        let (mut store, bindings, _alive) = instantiate(operator, start, Vec::new())?;
        arm(&mut store);
        let described = bindings
            .floodmark_engine_operator()
            .call_describe(&mut store);
        described.map_err(|error| trapped(operator, "describe", &error, store.data()))
    }

    pub(super) fn open(&mut self, config: &[(String, String)]) -> Result<(), GuestError> {
        let config: Vec<_> = config
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        arm(&mut self.store);
        let opened = self
            .bindings
            .floodmark_engine_operator()
            .call_open(&mut self.store, &config);
        match opened {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(GuestError::Open {
                operator: self.operator.clone(),
                reason: shortened(&reason),
            }),
            Err(error) => Err(self.crashed("open", &error)),
        }
    }

    /// Gives each later call this much time, instead of what the limits say: for whoever looks for the record that makes a
    /// call too long.
    pub fn set_time_per_call(&mut self, time: Duration) {
        self.store.data_mut().limits.time_per_call = time;
    }

    /// Handles a batch: `states` has an item for each declared state, the values of all keys of the batch for a `value`
    /// state and nothing for others. Those are read from `lent`, which is gone during the call and back when this returns,
    /// whatever happened; a plugin without lists and maps needs none.
    ///
    /// # Errors
    /// When the plugin fails, crashes, or returns what the contract forbids, or when the state cannot be read. Nothing of the
    /// call is to be applied; after a crash and a failed read the instance is not to be used again.
    pub fn process(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
        lent: &mut Option<Box<dyn StateAccess>>,
    ) -> Result<CallOutput, GuestError> {
        let keys = batch.keys.len();
        self.store.data_mut().lent = lent.take().map(|access| Lent {
            access,
            keys,
            failure: None,
        });
        self.store.data_mut().timer.begin();
        let output = self.transact(input, batch, states, lent);
        let state = self.store.data_mut();
        state.timer.end();
        if output.is_err() {
            state.reporting.forget();
        }
        output
    }

    /// Where the time of its calls of [`Instance::process`] went; only the calls are counted unless the engine has a clock.
    #[must_use]
    pub fn times(&self) -> CallTimes {
        self.store.data().timer.times()
    }

    fn transact(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
        lent: &mut Option<Box<dyn StateAccess>>,
    ) -> Result<CallOutput, GuestError> {
        let keys = batch.keys.len();
        let returned = self.call_process(input, batch, states);
        let mut failure = None;
        if let Some(returned) = self.store.data_mut().lent.take() {
            failure = returned.failure;
            *lent = Some(returned.access);
        }
        if let Some(reason) = failure {
            return Err(GuestError::StateUnreadable {
                operator: self.operator.clone(),
                reason,
            });
        }
        let output = match returned {
            Ok(Ok(output)) => output,
            Ok(Err(reason)) => {
                return Err(GuestError::Failed {
                    operator: self.operator.clone(),
                    reason: shortened(&reason),
                });
            }
            Err(error) => return Err(self.crashed("process", &error)),
        };
        let bytes = returned_bytes(&output);
        self.check_returned("process", bytes)?;
        let declared = Declared {
            keys,
            records: batch.len(),
            outputs: self.outputs,
            states: &self.store.data().kinds,
        };
        check_output(output, declared).map_err(|reason| GuestError::BadOutput {
            operator: self.operator.clone(),
            reason,
        })
    }

    fn call_process(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
    ) -> wasmtime::Result<Result<WitOutput, String>> {
        let states: Vec<_> = states
            .iter()
            .map(|values| optional_column(values))
            .collect();
        let records = wit::Batch {
            keys: column(&batch.keys),
            slots: &batch.slots,
            values: column(&batch.values),
            timestamps: &batch.timestamps,
        };
        arm(&mut self.store);
        let operator = self.bindings.floodmark_engine_operator();
        operator.call_process(&mut self.store, input, records, &states)
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

    /// Takes the numbers that calls have reported since the last time, those that failed left out.
    pub fn take_reported(&mut self) -> Option<Reported> {
        self.store.data_mut().reporting.take()
    }

    /// Whether a call returned as much as it may.
    pub(super) fn check_returned(&self, call: &'static str, bytes: u64) -> Result<(), GuestError> {
        let allowed = self.store.data().limits.output_bytes_per_call;
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
    start: &Start,
    kinds: Vec<StateKind>,
) -> Result<(Store<GuestState>, Bindings, Alive), GuestError> {
    let share = start.shares.of(operator);
    let alive = share
        .enter(&start.limits)
        .map_err(|exceeded| GuestError::Limit {
            operator: operator.to_owned(),
            call: "instantiate",
            exceeded,
        })?;
    let state = GuestState::new(kinds, start, share);
    let mut store = Store::new(start.pre.engine(), state);
    store.limiter(|state| state);
    store.set_hostcall_fuel(start.limits.handed_bytes());
    if start.clock.is_some() {
        store.call_hook(|mut store, crossing| {
            store.data_mut().timer.cross(crossing);
            Ok(())
        });
    }
    arm(&mut store);
    let instance = start.pre.instantiate(&mut store).map_err(|error| {
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
    // Types of exports are compared here and no earlier.
    let bindings = start.exports.load(&mut store, &instance);
    let bindings = bindings.map_err(|error| GuestError::OtherTypes {
        operator: operator.to_owned(),
        reason: format!("{error:#}"),
    })?;
    Ok((store, bindings, alive))
}

/// Sets the limits of the next call.
pub(super) fn arm(store: &mut Store<GuestState>) {
    let state = store.data_mut();
    state.refused = None;
    let (limits, has_fuel) = (state.limits, state.has_fuel);
    store.set_epoch_deadline(ticks(limits.time_per_call));
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
    let operator = operator.to_owned();
    let reason = error.root_cause().to_string();
    if let Some(exceeded) = exceeded(error, &reason, state) {
        return GuestError::Limit {
            operator,
            call,
            exceeded,
        };
    }
    let stderr = String::from_utf8_lossy(&state.stderr);
    GuestError::Trapped {
        operator,
        call,
        reason,
        stderr: stderr
            .chars()
            .filter(|char| *char == '\n' || !char.is_control())
            .collect(),
    }
}

/// The limit that ended a call, if it was one. A guest that was refused memory usually gives up by a trap of its own.
fn exceeded(error: &wasmtime::Error, reason: &str, state: &GuestState) -> Option<Exceeded> {
    let limits = &state.limits;
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
        _ => state.refused,
    }
}

/// What one call returned, in bytes of the host.
fn returned_bytes(output: &WitOutput) -> u64 {
    let column = |column: &operator::Column| 4 * column.ends.len() + column.bytes.len();
    let optional = |column: &operator::OptionalColumn| {
        column.present.len() + 4 * column.ends.len() + column.bytes.len()
    };
    let emissions = output.emissions.iter().map(|emission| {
        let keys = match &emission.keys {
            EmittedKeys::Input => 0,
            EmittedKeys::Fresh(fresh) => column(fresh),
        };
        let rows = 4 * emission.slots.len() + 8 * emission.timestamps.len();
        size_of_val(emission) + keys + rows + column(&emission.values)
    });
    let values = output
        .values
        .iter()
        .map(|write| size_of_val(write) + 4 * write.slots.len() + optional(&write.values));
    let lists = output.lists.iter().map(|write| {
        let slots = 4 * (write.cleared.len() + write.slots.len());
        size_of_val(write) + slots + column(&write.values)
    });
    let maps = output.maps.iter().map(|write| {
        let slots = 4 * (write.cleared.len() + write.slots.len());
        size_of_val(write) + slots + column(&write.sub_keys) + optional(&write.values)
    });
    emissions
        .chain(values)
        .chain(lists)
        .chain(maps)
        .sum::<usize>() as u64
}

/// A guest's own words, for a message.
pub(super) fn shortened(reason: &str) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    reason
        .chars()
        .take(LOG_LINE_CHARS_MAX)
        .map(printable)
        .collect()
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
