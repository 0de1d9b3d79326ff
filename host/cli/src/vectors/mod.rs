//! Test vectors: a file of records and the expected results of an operator, for operators in any language.
//!
//! ```text
//! file ── format ──▶ Vectors ── run ──▶ each variation: an operator alone, call by call ──▶ Report
//! ```
//!
//! A file is run as written, and in variations that a plugin which follows the contract does not notice: record by
//! record, with a fresh instance for each call, killed and restored after each step, and called through the interface
//! `operator` if the host would use another one. The first difference ends the run. The plugin runs as in a job, with
//! its limits and its state in chunks; there is no pipeline, and nothing is written.

pub mod find;

mod bytes;
mod difference;
mod format;
mod json;
mod run;
mod show;

use std::time::Duration;

use self::bytes::Record;
pub use self::difference::Difference;
pub use self::run::run;
use floodmark_engine::guest::Limits;
use floodmark_engine::pipeline::toml_file::TomlFile;
use floodmark_state::stream::Timestamp;

/// A file of vectors.
#[derive(Debug, Clone)]
pub struct Vectors {
    /// The name of the file in messages.
    pub name: String,
    file: TomlFile,
    config: Vec<(String, String)>,
    limits: Limits,
    expects: Expects,
}

#[derive(Debug, Clone)]
enum Expects {
    /// The plugin does not open, and its message contains this.
    Refusal(String),
    Steps(Vec<Step>),
}

#[derive(Debug, Clone)]
struct Step {
    line: usize,
    action: Action,
}

#[derive(Debug, Clone)]
enum Action {
    Call(Call),
    DropInstance,
    Checkpoint,
    Kill,
    Restart,
    Pass(Duration),
    State(Vec<ExpectedState>),
}

#[derive(Debug, Clone)]
struct Call {
    /// The first port if absent.
    input: Option<String>,
    records: Vec<Record>,
    expected: Expected,
}

#[derive(Debug, Clone)]
enum Expected {
    Output {
        emits: Emits,
        /// Rejected records by position, each with a part of the reason.
        rejects: Vec<(usize, String)>,
    },
    Failure {
        says: String,
        /// The expected kinds of failure; empty for any.
        by: Vec<FailsBy>,
    },
}

#[derive(Debug, Clone)]
enum Emits {
    ByFirst(Vec<Record>),
    ByPort(Vec<(String, Vec<Record>)>),
}

/// The kind of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FailsBy {
    /// The plugin reports an error.
    Error,
    /// It crashes.
    Trap,
    /// It takes too long.
    Time,
    /// It exceeds its memory limit.
    Memory,
    /// It exceeds its output limit.
    Output,
}

/// The complete content of a state, by key.
#[derive(Debug, Clone)]
struct ExpectedState {
    state: String,
    keys: Vec<(Vec<u8>, serde_json::Value)>,
}

impl Vectors {
    /// Whether the engine must count fuel.
    #[must_use]
    pub fn need_fuel(&self) -> bool {
        self.limits.fuel_per_call.is_some()
    }
}

/// A way of running a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variation {
    AsWritten,
    RecordByRecord,
    FreshInstances,
    Killed,
    /// Only for a plugin that the host calls through another interface.
    ThroughOperator,
}

impl Variation {
    fn name(self) -> &'static str {
        match self {
            Self::AsWritten => "as written",
            Self::RecordByRecord => "record by record",
            Self::FreshInstances => "a fresh instance for each call",
            Self::Killed => "killed and restored after each step",
            Self::ThroughOperator => "called through `operator`",
        }
    }
}

/// The result of a file of vectors.
#[derive(Debug, Clone)]
pub struct VectorReport {
    /// The file.
    pub name: String,
    /// Number of its steps; 0 if it is about a configuration that is refused.
    pub steps: usize,
    /// Number of variations that were run, to the end or to the difference.
    pub variations: usize,
    /// Number of its records.
    pub records: usize,
    /// The first difference; `None` if the plugin passes.
    pub difference: Option<Difference>,
}

impl VectorReport {
    /// Whether the plugin passes.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.difference.is_none()
    }
}

impl std::fmt::Display for VectorReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        match &self.difference {
            None if self.steps == 0 => {
                write!(f, "ok  {}: the configuration is refused", self.name)
            }
            None => write!(
                f,
                "ok  {}: {}, {}, {}",
                self.name,
                count(self.steps, "step"),
                count(self.variations, "variation"),
                count(self.records, "record")
            ),
            Some(difference) => write!(f, "FAILED  {}{difference}", self.name),
        }
    }
}
