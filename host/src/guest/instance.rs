//! A live guest: one instance of a plugin, with memory of its own.
//!
//! An instance serves one task. After a trap it is not to be used again; dropping it frees all that it had.

use wasmtime::Store;

use super::access::Lent;
use super::beside::{GuestState, LOG_LINE_CHARS_MAX};
use super::bindings::exports::floodmark::engine::operator::{
    Description as WitDescription, Output as WitOutput,
};
use super::bindings::floodmark::engine::types as wit;
use super::bindings::{Plugin as Bindings, PluginPre};
use super::engine::MEMORY_BYTES_MAX;
use super::output::{CallOutput, Declared, check_output};
use super::{Description, GuestError, LogLine, StateAccess};
use crate::state::StateKind;
use crate::stream::{Batch, Column, OptionalColumn};

/// A live guest.
pub struct Instance {
    pub(super) operator: String,
    pub(super) store: Store<GuestState>,
    pub(super) bindings: Bindings,
    outputs: usize,
}

impl Instance {
    pub(super) fn start(
        operator: &str,
        pre: &PluginPre<GuestState>,
        description: &Description,
    ) -> Result<Self, GuestError> {
        let kinds = description.states.iter().map(|state| state.kind).collect();
        let (store, bindings) = instantiate(operator, pre, kinds)?;
        Ok(Self {
            operator: operator.to_owned(),
            store,
            bindings,
            outputs: description.outputs.len(),
        })
    }

    /// What a plugin says of itself, from an instance that is then dropped.
    pub(super) fn describe(
        operator: &str,
        pre: &PluginPre<GuestState>,
    ) -> Result<WitDescription, GuestError> {
        let (mut store, bindings) = instantiate(operator, pre, Vec::new())?;
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

    pub(super) fn crashed(&self, call: &'static str, error: &wasmtime::Error) -> GuestError {
        trapped(&self.operator, call, error, self.store.data())
    }
}

fn instantiate(
    operator: &str,
    pre: &PluginPre<GuestState>,
    kinds: Vec<StateKind>,
) -> Result<(Store<GuestState>, Bindings), GuestError> {
    let mut store = Store::new(pre.engine(), GuestState::new(kinds));
    store.limiter(|state| state);
    // What one call may hand over is bounded by the guest's memory already.
    store.set_hostcall_fuel(MEMORY_BYTES_MAX);
    let bindings = pre.instantiate(&mut store);
    let bindings =
        bindings.map_err(|error| trapped(operator, "instantiate", &error, store.data()))?;
    Ok((store, bindings))
}

fn trapped(
    operator: &str,
    call: &'static str,
    error: &wasmtime::Error,
    state: &GuestState,
) -> GuestError {
    let mut reason = error.root_cause().to_string();
    if state.refused_memory {
        reason = format!(
            "it asked for more than its {} MiB of memory ({reason})",
            MEMORY_BYTES_MAX >> 20
        );
    }
    let stderr = String::from_utf8_lossy(&state.stderr);
    GuestError::Trapped {
        operator: operator.to_owned(),
        call,
        reason,
        stderr: stderr
            .chars()
            .filter(|char| *char == '\n' || !char.is_control())
            .collect(),
    }
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
