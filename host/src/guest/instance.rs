//! A live guest: one instance of a plugin, with memory of its own.
//!
//! An instance serves one task. After a trap it is not to be used again; dropping it frees all that it had.

use wasmtime::{ResourceLimiter, Store};

use super::bindings::exports::floodmark::engine::operator::Description as WitDescription;
use super::bindings::floodmark::engine::log::{Host as LogHost, Level};
use super::bindings::floodmark::engine::types as wit;
use super::bindings::{Plugin as Bindings, PluginPre};
use super::engine::MEMORY_BYTES_MAX;
use super::output::{CallOutput, check_output};
use super::{Description, GuestError};
use crate::stream::{Batch, Column, OptionalColumn};

/// Characters of a log line.
const LOG_LINE_CHARS_MAX: usize = 2048;
/// Log lines of one call.
const LOG_LINES_MAX: usize = 100;
/// Bytes of standard error that are kept: the last ones.
const STDERR_BYTES_MAX: usize = 4096;
/// Elements of a table.
const TABLE_ELEMENTS_MAX: usize = 1 << 20;
/// Where random numbers of plugins start.
const RANDOM_SEED: u64 = 0x666c_6f6f_646d_6172;

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For whoever debugs the plugin, in detail.
    Trace,
    /// For whoever debugs the plugin.
    Debug,
    /// For whoever watches the job.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something went wrong.
    Error,
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important it is.
    pub level: LogLevel,
    /// One line, without control characters.
    pub message: String,
}

/// What the host keeps beside a guest.
pub(super) struct GuestState {
    log: Vec<LogLine>,
    log_lines_cut: u64,
    stderr: Vec<u8>,
    random: u64,
    refused_memory: bool,
}

impl GuestState {
    fn new() -> Self {
        Self {
            log: Vec::new(),
            log_lines_cut: 0,
            stderr: Vec::new(),
            random: RANDOM_SEED,
            refused_memory: false,
        }
    }

    pub(super) fn write_stderr(&mut self, bytes: impl Iterator<Item = u8>) {
        self.stderr.extend(bytes);
        let excess = self.stderr.len().saturating_sub(STDERR_BYTES_MAX);
        self.stderr.drain(..excess);
    }

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    pub(super) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl wit::Host for GuestState {}

impl LogHost for GuestState {
    fn line(&mut self, level: Level, message: String) {
        if self.log.len() >= LOG_LINES_MAX {
            self.log_lines_cut += 1;
            return;
        }
        let printable = |char: char| if char.is_control() { ' ' } else { char };
        self.log.push(LogLine {
            level: match level {
                Level::Trace => LogLevel::Trace,
                Level::Debug => LogLevel::Debug,
                Level::Info => LogLevel::Info,
                Level::Warn => LogLevel::Warn,
                Level::Error => LogLevel::Error,
            },
            message: message
                .chars()
                .take(LOG_LINE_CHARS_MAX)
                .map(printable)
                .collect(),
        });
    }
}

impl ResourceLimiter for GuestState {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = desired <= MEMORY_BYTES_MAX;
        self.refused_memory |= !allowed;
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }
}

/// A live guest.
pub struct Instance {
    operator: String,
    store: Store<GuestState>,
    bindings: Bindings,
    outputs: usize,
    states: usize,
}

impl Instance {
    pub(super) fn start(
        operator: &str,
        pre: &PluginPre<GuestState>,
        description: &Description,
    ) -> Result<Self, GuestError> {
        let (store, bindings) = instantiate(operator, pre)?;
        Ok(Self {
            operator: operator.to_owned(),
            store,
            bindings,
            outputs: description.outputs.len(),
            states: description.states.len(),
        })
    }

    /// What a plugin says of itself, from an instance that is then dropped.
    pub(super) fn describe(
        operator: &str,
        pre: &PluginPre<GuestState>,
    ) -> Result<WitDescription, GuestError> {
        let (mut store, bindings) = instantiate(operator, pre)?;
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
            Err(error) => Err(trapped(&self.operator, "open", &error, self.store.data())),
        }
    }

    /// Handles a batch: `states` has the values of each declared state, an item a key of the batch.
    ///
    /// # Errors
    /// When the plugin fails, crashes, or returns what the contract forbids. Nothing of the call is to be applied; after
    /// a crash the instance is not to be used again.
    pub fn process(
        &mut self,
        input: u16,
        batch: &Batch,
        states: &[&OptionalColumn],
    ) -> Result<CallOutput, GuestError> {
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
        let returned = self.bindings.floodmark_engine_operator().call_process(
            &mut self.store,
            input,
            records,
            &states,
        );
        let output = match returned {
            Ok(Ok(output)) => output,
            Ok(Err(reason)) => {
                return Err(GuestError::Failed {
                    operator: self.operator.clone(),
                    reason: shortened(&reason),
                });
            }
            Err(error) => {
                return Err(trapped(
                    &self.operator,
                    "process",
                    &error,
                    self.store.data(),
                ));
            }
        };
        check_output(output, batch.keys.len(), self.outputs, self.states).map_err(|reason| {
            GuestError::BadOutput {
                operator: self.operator.clone(),
                reason,
            }
        })
    }

    /// Takes the lines that the guest has logged since the last call.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        let state = self.store.data_mut();
        let mut lines = std::mem::take(&mut state.log);
        let cut = std::mem::take(&mut state.log_lines_cut);
        if cut > 0 {
            lines.push(LogLine {
                level: LogLevel::Warn,
                message: format!("{cut} more lines in one call were left out"),
            });
        }
        lines
    }
}

fn instantiate(
    operator: &str,
    pre: &PluginPre<GuestState>,
) -> Result<(Store<GuestState>, Bindings), GuestError> {
    let mut store = Store::new(pre.engine(), GuestState::new());
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
fn shortened(reason: &str) -> String {
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
