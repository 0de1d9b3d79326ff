//! The limits on what a guest may use, as plain data, and the messages when it exceeds one.
//!
//! Every call of every export is under these limits, including instantiation and `describe`. They bound the work of the
//! guest itself; `instance` enforces them. Time is counted in ticks of the engine, which its owner must provide:
//! without a ticker there is no time limit, as tests and simulations require. The limits on compiling hold only if
//! another process compiles: see `elsewhere`.

use std::fmt;
use std::time::Duration;

use super::CompileLimits;

/// Smallest memory limit: one page.
pub const MEMORY_BYTES_MIN: u64 = 64 << 10;
/// Largest memory limit: what 32 bits can address, and what the pool reserves for each memory.
pub const MEMORY_BYTES_MAX: u64 = 1 << 32;
/// The interval of an engine's ticks.
pub const TICK: Duration = Duration::from_millis(10);
/// Ticks per second.
pub(super) const TICKS_PER_SECOND: u64 = 100;
/// Largest number of elements of one table.
pub(super) const TABLE_ELEMENTS_MAX: usize = 1 << 16;
/// Bytes that a guest may always pass at once: log lines and reads of state are not output.
const HANDED_BYTES_MIN: u64 = 1 << 20;
/// Bytes of the output limit for each change of a list or map that a call may make. The state takes some microseconds
/// for a change, so by default all changes of a call take below a second.
const BYTES_PER_CHANGE: u64 = 1 << 10;
/// Changes that a call may always make: one for each record.
const CHANGES_MIN: u64 = 1 << 12;

/// Limits on one operator's plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of linear memory of an instance, over all its memories: [`MEMORY_BYTES_MIN`] to [`MEMORY_BYTES_MAX`].
    pub memory_bytes: u64,
    /// Time of one call, including its reads of state. Rounded up to ticks.
    pub time_per_call: Duration,
    /// Time that all calls of a task together may take once the job was asked to stop.
    pub stop_grace: Duration,
    /// Largest output of one call, in bytes.
    pub output_bytes_per_call: u64,
    /// Bytes that the state of one task may take, with what is not compacted yet; `u64::MAX` without a limit. `None` for
    /// the default: in a job whose state is in memory, all operators without a size share a part of the machine's memory.
    pub state_bytes: Option<u64>,
    /// Log lines of an operator per second, over all its instances.
    pub log_lines_per_second: u32,
    /// Live instances of an operator beyond two for each task (the working one, and its replacement in a swap): spares
    /// for retries and rehearsals.
    pub instances: u32,
    /// Units of deterministic fuel for one call; `None` without a limit. The engine must count fuel.
    pub fuel_per_call: Option<u64>,
    /// Time for compiling the plugin: by the clock, and of the processor over all threads.
    pub compile_time: Duration,
    /// Bytes of memory for compiling the plugin.
    pub compile_memory_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 256 << 20,
            time_per_call: Duration::from_secs(10),
            stop_grace: Duration::from_secs(1),
            output_bytes_per_call: 64 << 20,
            state_bytes: None,
            log_lines_per_second: 100,
            instances: 16,
            fuel_per_call: None,
            compile_time: Duration::from_secs(600),
            compile_memory_bytes: 4 << 30,
        }
    }
}

impl Limits {
    /// Bytes that may be lifted out of the guest at once.
    pub(super) fn handed_bytes(&self) -> usize {
        let bytes = self.output_bytes_per_call.max(HANDED_BYTES_MIN);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// What compiling the plugin may take.
    pub(super) fn compile(&self) -> CompileLimits {
        CompileLimits {
            time: self.compile_time,
            memory_bytes: self.compile_memory_bytes,
        }
    }

    /// Largest number of changes of lists and maps in a call.
    pub(super) fn changes_per_call(&self) -> u64 {
        (self.output_bytes_per_call / BYTES_PER_CHANGE).max(CHANGES_MIN)
    }
}

/// Number of ticks after which a call with this time limit is over: one more than fit, since the first may come at
/// once.
pub(super) fn ticks(time: Duration) -> u64 {
    let ticks = time.as_nanos().div_ceil(TICK.as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX / 2).max(1) + 1
}

/// A limit that a guest exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exceeded {
    /// More memory than `limits.memory`.
    Memory {
        /// The requested size in bytes.
        asked: u64,
        /// The limit in bytes.
        allowed: u64,
    },
    /// A longer call than `limits.time-per-call`.
    Time {
        /// The limit.
        allowed: Duration,
    },
    /// More output than `limits.output-per-call`.
    Output {
        /// The returned bytes and all that is made of them, if they were counted.
        bytes: Option<u64>,
        /// The limit in bytes.
        allowed: u64,
    },
    /// Emissions of one call. No setting raises them.
    Emissions {
        /// The returned number.
        emissions: u64,
        /// The limit.
        allowed: u64,
    },
    /// Changes of lists and maps in one call: one for each KiB of `output-per-call`.
    Changes {
        /// The returned number.
        changes: u64,
        /// The limit.
        allowed: u64,
    },
    /// More state of a task than `limits.state`.
    State {
        /// The size that the state would have, in bytes.
        bytes: u64,
        /// The limit in bytes.
        allowed: u64,
    },
    /// More state of all operators without `limits.state` than the job may have.
    StateOfJob {
        /// The size that the state of the task would have, in bytes.
        bytes: u64,
        /// The size that all state under this limit would have, in bytes.
        all: u64,
        /// The limit in bytes.
        allowed: u64,
    },
    /// `fuel-per-call`
    Fuel {
        /// The limit, which was used up.
        allowed: u64,
    },
    /// More time for compiling than `limits.compile-time`.
    CompileTime {
        /// The limit.
        allowed: Duration,
    },
    /// More memory for compiling than `limits.compile-memory`.
    CompileMemory {
        /// The limit in bytes.
        allowed: u64,
    },
    /// More live instances than `limits.instances` allows.
    Instances {
        /// The limit.
        allowed: u32,
    },
    /// Elements of a table. No setting raises them.
    Table {
        /// The requested number.
        asked: u64,
        /// The limit.
        allowed: u64,
    },
    /// Instances, memories or tables of all plugins of the process.
    Pool {
        /// Number of instances that fit.
        allowed: u32,
    },
}

impl Exceeded {
    /// The setting that raises the limit, if there is one.
    #[must_use]
    pub fn setting(&self) -> Option<&'static str> {
        Some(match self {
            Self::Memory { .. } => "limits.memory",
            Self::Time { .. } => "limits.time-per-call",
            Self::Output { .. } | Self::Changes { .. } => "limits.output-per-call",
            Self::State { .. } => "limits.state",
            Self::StateOfJob { .. } => "state.memory",
            Self::Fuel { .. } => "limits.fuel-per-call",
            Self::CompileTime { .. } => "limits.compile-time",
            Self::CompileMemory { .. } => "limits.compile-memory",
            Self::Instances { .. } => "limits.instances",
            Self::Emissions { .. } | Self::Table { .. } | Self::Pool { .. } => return None,
        })
    }

    /// A sentence about operator and call.
    pub(super) fn said_of(&self, operator: &str, call: &str) -> String {
        let what = self.what(call);
        let raise = format!("raise `{}`", self.setting().unwrap_or_default());
        let next = match self {
            Self::Memory { .. }
            | Self::Time { .. }
            | Self::Output { .. }
            | Self::Changes { .. }
            | Self::Fuel { .. }
                if call == "process" =>
            {
                format!("{raise} or send smaller batches")
            }
            Self::Memory { .. }
            | Self::Time { .. }
            | Self::Output { .. }
            | Self::Changes { .. }
            | Self::Fuel { .. }
            | Self::Instances { .. } => raise,
            Self::CompileTime { .. } | Self::CompileMemory { .. } => {
                format!("{raise}, or make the plugin smaller")
            }
            Self::StateOfJob { .. } => {
                format!("{raise}, give the state a time to live, or use the backend `disk`")
            }
            Self::State { .. } => format!("{raise}, or give the state a time to live"),
            Self::Emissions { .. } => {
                "put more records into one emission, or send smaller batches".to_owned()
            }
            Self::Table { .. } => "correct the plugin".to_owned(),
            Self::Pool { .. } => "lower `parallelism`, or split the pipeline in two".to_owned(),
        };
        format!("operator `{operator}` {what}; {next}")
    }

    /// What an operator did, as a part of a sentence.
    fn what(&self, call: &str) -> String {
        match *self {
            Self::Memory { asked, allowed } => format!(
                "asked for {} of memory in `{call}`, but at most {} are allowed",
                ByteCount(asked).in_unit_of(allowed),
                ByteCount(allowed)
            ),
            Self::Time { allowed } => format!(
                "ran for more than its {} ms in `{call}`",
                allowed.as_millis()
            ),
            Self::Output {
                bytes: Some(bytes),
                allowed,
            } => format!(
                "returned {} from `{call}`, but at most {} are allowed",
                ByteCount(bytes),
                ByteCount(allowed)
            ),
            Self::Output {
                bytes: None,
                allowed,
            } => format!("handed over more than {} in `{call}`", ByteCount(allowed)),
            Self::Emissions { emissions, allowed } => format!(
                "returned {emissions} emissions from `{call}`, but at most {allowed} are allowed"
            ),
            Self::Changes { changes, allowed } => format!(
                "changed {changes} items of lists and maps in `{call}`, but at most {allowed} are allowed, one for each KiB of output"
            ),
            Self::State { bytes, allowed } => format!(
                "would have {} of state in one task after `{call}`, but at most {} are allowed",
                ByteCount(bytes).in_unit_of(allowed),
                ByteCount(allowed)
            ),
            Self::StateOfJob {
                bytes,
                all,
                allowed,
            } => format!(
                "would have {} of state in one task after `{call}`, and all operators without `limits.state` {} together, but at most {} are allowed",
                ByteCount(bytes).in_unit_of(allowed),
                ByteCount(all).in_unit_of(allowed),
                ByteCount(allowed)
            ),
            Self::Fuel { allowed } => format!("used its {allowed} units of fuel in `{call}`"),
            Self::CompileTime { allowed } => format!(
                "has a plugin that takes more than {} s to compile",
                allowed.as_secs()
            ),
            Self::CompileMemory { allowed } => format!(
                "has a plugin that takes more than {} of memory to compile",
                ByteCount(allowed)
            ),
            Self::Instances { allowed } => {
                format!("already has {allowed} live instances, the most allowed")
            }
            Self::Table { asked, allowed } => {
                format!(
                    "asked for a table of {asked} elements in `{call}`, but at most {allowed} are allowed"
                )
            }
            Self::Pool { allowed } => format!(
                "cannot get another instance: the process has room for {allowed} instances of all plugins, with 4 memories and 8 tables each"
            ),
        }
    }
}

/// A number of bytes, for messages.
struct ByteCount(u64);

impl ByteCount {
    /// The number in the largest unit in which it is whole.
    fn unit(&self) -> (u64, &'static str) {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let whole = |(unit, _): &(u64, _)| self.0 >= *unit && self.0.is_multiple_of(*unit);
        units.into_iter().find(whole).unwrap_or((1, "bytes"))
    }

    /// In the unit of another number, which it exceeds: rounded up, so that it is not equal.
    fn in_unit_of(&self, other: u64) -> String {
        let (unit, name) = ByteCount(other).unit();
        let tenths = (u128::from(self.0) * 10).div_ceil(u128::from(unit));
        match tenths % 10 {
            0 => format!("{} {name}", tenths / 10),
            tenth => format!("{}.{tenth} {name}", tenths / 10),
        }
    }
}

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = self.unit();
        write!(f, "{} {name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    //! Catches two numbers in one message that are hard to compare.

    use super::*;

    #[test]
    fn what_was_asked_is_told_in_the_unit_of_what_is_allowed() {
        let check = |asked, allowed| ByteCount(asked).in_unit_of(allowed);
        assert_eq!(check(98_816 << 10, 96 << 20), "96.5 MiB");
        assert_eq!(check((96 << 20) + 1, 96 << 20), "96.1 MiB");
        assert_eq!(check(1 << 30, 96 << 20), "1024 MiB");
        assert_eq!(check(65, 64), "65 bytes");
        assert_eq!(ByteCount(96 << 20).to_string(), "96 MiB");
    }
}
