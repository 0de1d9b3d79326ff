//! Per-instance host state (the `T` of `Store<T>`): the log, the end of standard error, random numbers, limits, and
//! during a call the state that the guest may read.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::access::Lent;
use super::bindings::floodmark::engine::log::{Host as LogHost, Level};
use super::bindings::floodmark::engine::types as wit;
use super::limits::{Exceeded, Limits, TABLE_ELEMENTS_MAX, TICKS_PER_SECOND};
use super::plugin::InstanceTemplate;
use super::reported::Reporting;
use super::share::Share;
use super::times::Timer;
use crate::state::StateKind;

/// Longest log line in characters.
pub(super) const LOG_LINE_CHARS_MAX: usize = 2048;
/// Largest number of log lines of one call.
const LOG_LINES_MAX: usize = 100;
/// Bytes of standard error that are kept, from its end.
const STDERR_BYTES_MAX: usize = 4096;
/// The seed of the random numbers of plugins.
const RANDOM_SEED: u64 = 0x666c_6f6f_646d_6172;

/// The severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For developers of the plugin, in detail.
    Trace,
    /// For developers of the plugin.
    Debug,
    /// For users who watch the job.
    Info,
    /// For problems that do not stop the operator.
    Warn,
    /// For failures.
    Error,
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The severity.
    pub level: LogLevel,
    /// One line, without control characters.
    pub message: String,
}

/// Per-instance host state.
pub(super) struct GuestState {
    log: Vec<LogLine>,
    log_lines_cut: u64,
    /// Metrics that the plugin reports.
    pub(super) reporting: Reporting,
    /// The tick at which the last warning about dropped lines was logged.
    cut_said: Option<u64>,
    pub(super) limits: Limits,
    pub(super) share: Arc<Share>,
    /// Whether the engine counts fuel.
    pub(super) has_fuel: bool,
    /// Bytes of all linear memories.
    memory_bytes: u64,
    /// Bytes that the last growth added.
    memory_grown: u64,
    /// The limit that this call exceeded.
    pub(super) refused: Option<Exceeded>,
    pub(super) timer: Timer,
    /// Whether the stack is sampled; the sampler then also enforces the time limit.
    pub(super) is_sampled: bool,
    /// The tick at which the time of a sampled call is over.
    pub(super) ends_at_tick: u64,
    pub(super) stderr: Vec<u8>,
    random: u64,
    /// The kinds of the states that the plugin declares.
    pub(super) kinds: Vec<StateKind>,
    /// The state that may be read during `process`.
    pub(super) lent: Option<Lent>,
}

impl GuestState {
    pub(super) fn new(kinds: Vec<StateKind>, start: &InstanceTemplate, share: Arc<Share>) -> Self {
        Self {
            log: Vec::new(),
            log_lines_cut: 0,
            cut_said: None,
            reporting: Reporting::default(),
            limits: start.limits,
            share,
            memory_bytes: 0,
            memory_grown: 0,
            refused: None,
            has_fuel: start.has_fuel,
            timer: Timer::new(start.clock.clone()),
            is_sampled: false,
            ends_at_tick: u64::MAX,
            stderr: Vec::new(),
            random: RANDOM_SEED,
            kinds,
            lent: None,
        }
    }

    /// Whether the time of this call is over.
    pub(super) fn is_out_of_time(&self) -> bool {
        self.share.now() >= self.ends_at_tick
    }

    /// Takes the lines that were logged since the last call of this. A line reports how many were dropped: once per
    /// second, or after each call if the engine has no ticker.
    pub(super) fn take_log(&mut self) -> Vec<LogLine> {
        let mut lines = std::mem::take(&mut self.log);
        let now = self.share.now();
        let said_lately = |said: u64| now != 0 && now.saturating_sub(said) < TICKS_PER_SECOND;
        if self.log_lines_cut > 0 && !self.cut_said.is_some_and(said_lately) {
            let cut = std::mem::take(&mut self.log_lines_cut);
            self.cut_said = Some(now);
            lines.push(LogLine {
                level: LogLevel::Warn,
                message: format!(
                    "{cut} more lines were left out; see `limits.log-lines-per-second`"
                ),
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
        let is_full = self.log.len() >= LOG_LINES_MAX;
        if is_full || !self.share.may_log(self.limits.log_lines_per_second) {
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
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current) as u64;
        let asked = self.memory_bytes.saturating_add(more);
        let allowed = self.limits.memory_bytes;
        if asked > allowed {
            self.refused = Some(Exceeded::Memory { asked, allowed });
            self.memory_grown = 0;
            return Ok(false);
        }
        (self.memory_bytes, self.memory_grown) = (asked, more);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= std::mem::take(&mut self.memory_grown);
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX {
            self.refused = Some(Exceeded::Table {
                asked: desired as u64,
                allowed: TABLE_ELEMENTS_MAX as u64,
            });
            return Ok(false);
        }
        Ok(true)
    }
}
