//! Per-instance host state (the `T` of `Store<T>`): the log, the end of standard error, random numbers, limits, and
//! during a call the state that the guest may read.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::ResourceLimiter;

use super::access::Lent;
use super::bindings::floodmark::engine::log::{Host as LogHost, Level};
use super::bindings::floodmark::engine::types as wit;
use super::deadline::{CallDeadline, TaskGrace};
use super::limits::{Exceeded, Limits, TABLE_ELEMENTS_MAX, TICK, TICKS_PER_SECOND};
use super::plugin::InstanceTemplate;
use super::reported::Reporting;
use super::share::Share;
use super::times::Timer;
use floodmark_state::StateKind;

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

/// The lines that a guest has logged since they were last taken.
#[derive(Default)]
struct GuestLog {
    lines: Vec<LogLine>,
    /// How many were left out since it was last said.
    cut: u64,
    /// When it was last said that lines were left out.
    cut_said: Option<u64>,
}

impl GuestLog {
    fn is_full(&self) -> bool {
        self.lines.len() >= LOG_LINES_MAX
    }

    /// Takes the lines. One says once a second how many were left out, or each time if the engine has no ticker.
    fn take(&mut self, now: u64) -> Vec<LogLine> {
        let mut lines = std::mem::take(&mut self.lines);
        let said_lately = |said: u64| now != 0 && now.saturating_sub(said) < TICKS_PER_SECOND;
        if self.cut > 0 && !self.cut_said.is_some_and(said_lately) {
            let cut = std::mem::take(&mut self.cut);
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
}

/// What a guest may take, and what it has.
pub(super) struct GuestBounds {
    pub(super) limits: Limits,
    /// Bytes of all memories.
    memory_bytes: u64,
    /// Bytes that the last growth added.
    memory_grown: u64,
    /// The limit that this call exceeded.
    pub(super) refused: Option<Exceeded>,
}

/// What the host keeps beside a guest.
pub(super) struct GuestState {
    log: GuestLog,
    /// What the plugin reports of its own.
    pub(super) reporting: Reporting,
    pub(super) bounds: GuestBounds,
    pub(super) share: Arc<Share>,
    /// Whether the engine counts fuel.
    pub(super) has_fuel: bool,
    pub(super) timer: Timer,
    pub(super) deadline: CallDeadline,
    pub(super) stderr: Vec<u8>,
    random: u64,
    /// The kinds of the states that the plugin declares.
    pub(super) kinds: Vec<StateKind>,
    /// The state that may be read during `process`.
    pub(super) lent: Option<Lent>,
}

impl GuestState {
    pub(super) fn new(
        kinds: Vec<StateKind>,
        start: &InstanceTemplate,
        (share, grace): (Arc<Share>, Arc<TaskGrace>),
    ) -> Self {
        Self {
            log: GuestLog::default(),
            reporting: Reporting::default(),
            bounds: GuestBounds {
                limits: start.limits,
                memory_bytes: 0,
                memory_grown: 0,
                refused: None,
            },
            share,
            has_fuel: start.has_fuel,
            timer: Timer::new(start.clock.clone()),
            deadline: CallDeadline::of(grace),
            stderr: Vec::new(),
            random: RANDOM_SEED,
            kinds,
            lent: None,
        }
    }

    /// The time since the job was asked to stop; `None` as long as it was not. By the engine's clock; in ticks without one.
    pub(super) fn since_stop(&self) -> Option<Duration> {
        let now = || match self.timer.now() {
            Some(nanos) => Duration::from_nanos(nanos),
            None => TICK.saturating_mul(u32::try_from(self.share.now()).unwrap_or(u32::MAX)),
        };
        self.share.since_stop(now)
    }

    /// Whether the grace of its task is used up, so that no call may begin.
    pub(super) fn has_no_grace(&self) -> bool {
        let since_stop = self.since_stop();
        self.deadline
            .is_grace_over(since_stop, self.bounds.limits.stop_grace)
    }

    /// Begins a call under its limits.
    pub(super) fn begin_call(&mut self) {
        self.bounds.refused = None;
        let (now, since_stop) = (self.share.now(), self.since_stop());
        self.deadline.begin(now, since_stop, &self.bounds.limits);
    }

    /// Ends the call: its time counts against the grace of its task.
    pub(super) fn end_call(&mut self) {
        let since_stop = self.since_stop();
        self.deadline.end(since_stop);
    }

    /// Whether the time of this call is over, or the grace of its task.
    pub(super) fn is_out_of_time(&mut self) -> bool {
        let (now, since_stop) = (self.share.now(), self.since_stop());
        let stop_grace = self.bounds.limits.stop_grace;
        self.deadline.is_over(now, since_stop, stop_grace)
    }

    /// Takes the lines that were logged since the last time.
    pub(super) fn take_log(&mut self) -> Vec<LogLine> {
        self.log.take(self.share.now())
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
        let per_second = self.bounds.limits.log_lines_per_second;
        if self.log.is_full() || !self.share.may_log(per_second) {
            self.log.cut += 1;
            return;
        }
        let printable = |char: char| if char.is_control() { ' ' } else { char };
        self.log.lines.push(LogLine {
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

impl ResourceLimiter for GuestBounds {
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
