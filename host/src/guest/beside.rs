//! What the host keeps beside a guest: its log, the end of its standard error, its random numbers, its bounds, and for the
//! length of a call the state that it may read.

use wasmtime::ResourceLimiter;

use super::access::Lent;
use super::bindings::floodmark::engine::log::{Host as LogHost, Level};
use super::bindings::floodmark::engine::types as wit;
use super::engine::MEMORY_BYTES_MAX;
use crate::state::StateKind;

/// Characters of a log line.
pub(super) const LOG_LINE_CHARS_MAX: usize = 2048;
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
    pub(super) stderr: Vec<u8>,
    random: u64,
    pub(super) refused_memory: bool,
    /// The kinds of the states that the plugin declares.
    pub(super) kinds: Vec<StateKind>,
    /// What may be read, within `process`.
    pub(super) lent: Option<Lent>,
}

impl GuestState {
    pub(super) fn new(kinds: Vec<StateKind>) -> Self {
        Self {
            log: Vec::new(),
            log_lines_cut: 0,
            stderr: Vec::new(),
            random: RANDOM_SEED,
            refused_memory: false,
            kinds,
            lent: None,
        }
    }

    /// Takes the lines that were logged since the last time.
    pub(super) fn take_log(&mut self) -> Vec<LogLine> {
        let mut lines = std::mem::take(&mut self.log);
        let cut = std::mem::take(&mut self.log_lines_cut);
        if cut > 0 {
            lines.push(LogLine {
                level: LogLevel::Warn,
                message: format!("{cut} more lines in one call were left out"),
            });
        }
        lines
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
