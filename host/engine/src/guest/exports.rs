//! Finds the exports of a plugin: the required ones, and the fastest `process` that it offers.

use wasmtime::Store;
use wasmtime::component::{Instance as LiveInstance, InstancePre};

use super::bindings::exports::floodmark::engine::{
    checkpoint_listener, input_columns, operator, operator_compact, operator_packed, state_values,
};
use super::guest_state::GuestState;

const COMPACT: &str = "floodmark:engine/operator-compact@0.1.0";
const PACKED: &str = "floodmark:engine/operator-packed@0.1.0";
const INPUT_COLUMNS: &str = "floodmark:engine/input-columns@0.1.0";

/// The positions of a plugin's exports.
#[derive(Clone)]
pub(super) struct ExportIndices {
    operator: operator::GuestIndices,
    state_values: state_values::GuestIndices,
    listener: checkpoint_listener::GuestIndices,
    input_columns: Option<input_columns::GuestIndices>,
    process: ProcessIndices,
}

/// The position of the `process` that the host calls.
#[derive(Clone)]
enum ProcessIndices {
    Plain,
    Compact(operator_compact::GuestIndices),
    Packed(operator_packed::GuestIndices),
}

/// The exports of an instance.
pub(super) struct Exports {
    pub(super) operator: operator::Guest,
    pub(super) state_values: state_values::Guest,
    pub(super) listener: checkpoint_listener::Guest,
    pub(super) input_columns: Option<input_columns::Guest>,
    pub(super) process: Process,
}

/// The `process` that the host calls.
pub(super) enum Process {
    /// `process` of `operator`.
    Plain,
    /// `process` of `operator-compact`.
    Compact(operator_compact::Guest),
    /// `process` of `operator-packed`.
    Packed(operator_packed::Guest),
}

impl ExportIndices {
    /// Finds the exports of a component.
    ///
    /// # Errors
    /// When a required export is missing, or an export lacks functions of the contract.
    pub(super) fn find(pre: &InstancePre<GuestState>) -> wasmtime::Result<Self> {
        let has = |interface| {
            let component = pre.component();
            component.get_export_index(None, interface).is_some()
        };
        let process = if has(PACKED) {
            ProcessIndices::Packed(operator_packed::GuestIndices::new(pre)?)
        } else if has(COMPACT) {
            ProcessIndices::Compact(operator_compact::GuestIndices::new(pre)?)
        } else {
            ProcessIndices::Plain
        };
        let input_columns = match has(INPUT_COLUMNS) {
            true => Some(input_columns::GuestIndices::new(pre)?),
            false => None,
        };
        Ok(Self {
            operator: operator::GuestIndices::new(pre)?,
            state_values: state_values::GuestIndices::new(pre)?,
            listener: checkpoint_listener::GuestIndices::new(pre)?,
            input_columns,
            process,
        })
    }

    /// The same exports, but with the `process` of `operator`.
    pub(super) fn plain(&self) -> Self {
        Self {
            input_columns: None,
            process: ProcessIndices::Plain,
            ..self.clone()
        }
    }

    /// Whether the host calls the `process` of `operator`.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.process, ProcessIndices::Plain)
    }

    /// The exports of an instance of the component.
    ///
    /// # Errors
    /// When an export has other types than the contract.
    pub(super) fn load(
        &self,
        store: &mut Store<GuestState>,
        instance: &LiveInstance,
    ) -> wasmtime::Result<Exports> {
        let input_columns = match &self.input_columns {
            Some(columns) => Some(columns.load(&mut *store, instance)?),
            None => None,
        };
        let process = match &self.process {
            ProcessIndices::Plain => Process::Plain,
            ProcessIndices::Compact(compact) => {
                Process::Compact(compact.load(&mut *store, instance)?)
            }
            ProcessIndices::Packed(packed) => Process::Packed(packed.load(&mut *store, instance)?),
        };
        Ok(Exports {
            operator: self.operator.load(&mut *store, instance)?,
            state_values: self.state_values.load(&mut *store, instance)?,
            listener: self.listener.load(&mut *store, instance)?,
            input_columns,
            process,
        })
    }
}
