//! The pipeline as typed: the file with the `--set` arguments applied, checked as far as possible without loading a
//! plugin.
//!
//! Plain data; [`super::parse`] builds it. [`super::plan`] interprets it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::config;
use super::from::{From, Reference};
use super::limits::LimitSettings;
use super::problem::{Document, Problem};
use super::restart::RestartSettings;
use super::settings::{CheckpointSection, OnErrorSetting, StateSection, Ttl};
use crate::connector::{SinkSettings, SourceSettings};
use floodmark_state::stream::MaxParallelism;

/// Largest number of nodes in a pipeline.
pub const NODES_MAX: usize = 1000;
/// Longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// A pipeline as typed.
///
/// Only [`super::parse`] creates it, so:
/// - every name is valid, and unique over all kinds of nodes;
/// - every reference names a source or operator, or the dead letters of a sink, and every source and operator is referred to;
/// - the graph has a source and a sink, no cycle, and at most [`NODES_MAX`] nodes;
/// - `1 <= parallelism <= max_parallelism`;
/// - all paths are absolute.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The folder of the pipeline file: absolute, and without symbolic links.
    pub folder: PathBuf,
    /// The job's name; by default that of the file's folder.
    pub name: String,
    /// Tasks per operator; 1 by default, so that the order of output is the same on every machine.
    pub parallelism: u16,
    /// Number of key groups; fixed for the life of the state.
    pub max_parallelism: MaxParallelism,
    /// When checkpoints are taken, and where and how many are kept.
    pub checkpoint: CheckpointSection,
    /// The place for state while the job runs.
    pub state: StateSection,
    /// Limits of plugins, unless their operator sets others.
    pub limits: LimitSettings,
    /// The handling of failures.
    pub restart: RestartSettings,
    /// The sources, by name.
    pub sources: BTreeMap<String, SourceSpec>,
    /// The operators, by name.
    pub operators: BTreeMap<String, OperatorSpec>,
    /// The sinks, by name.
    pub sinks: BTreeMap<String, SinkSpec>,
    pub(super) document: Document,
}

impl Spec {
    /// Whether the input of all sources ends.
    #[must_use]
    pub fn has_end(&self) -> bool {
        let mut sources = self.sources.values();
        sources.all(|source| source.settings.endless().is_none())
    }

    /// A problem of a field that was found later, such as when its plugin was loaded. `path` is for example
    /// `["operator", "count", "config"]`; a field that is not in the file is reported at the table around it.
    #[must_use]
    pub fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        self.document.problem(path, message)
    }

    /// The field `on-error` of a node; `None` if there is no such node.
    #[must_use]
    pub fn on_error_of(&self, node: &str) -> Option<OnErrorSetting> {
        let of_source = self.sources.get(node).map(|source| source.on_error);
        let of_operator = self.operators.get(node).map(|operator| operator.on_error);
        let of_sink = self.sinks.get(node).map(|sink| sink.on_error);
        of_source.or(of_operator).or(of_sink)
    }

    /// The limits of an operator's plugin, as far as they were typed.
    #[must_use]
    pub fn limits_of(&self, operator: &str) -> LimitSettings {
        match self.operators.get(operator) {
            Some(operator) => operator.limits.over(self.limits),
            None => self.limits,
        }
    }
}

/// A table `[source.NAME]`.
#[derive(Debug, Clone)]
pub struct SourceSpec {
    /// The name of its connector.
    pub connector: String,
    /// The handling of what is not a record in its format.
    pub on_error: OnErrorSetting,
    /// The other fields.
    pub settings: Arc<dyn SourceSettings>,
}

/// A table `[operator.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OperatorSpec {
    /// A `.wasm` file, or a folder to build.
    pub plugin: PathBuf,
    /// The outputs that its input ports read.
    pub from: From,
    /// The configuration of the plugin.
    #[serde(default, deserialize_with = "config::deserialize")]
    pub config: BTreeMap<String, String>,
    /// Time to live of entries by state, in place of the plugin's.
    #[serde(default)]
    pub ttl: BTreeMap<String, Ttl>,
    /// Limits of its plugin, in place of the section `[limits]`.
    #[serde(default)]
    pub limits: LimitSettings,
    /// The handling of a record that the plugin cannot handle.
    #[serde(default)]
    pub on_error: OnErrorSetting,
}

/// A table `[sink.NAME]`.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// The outputs that it reads.
    pub from: Vec<Reference>,
    /// The name of its connector.
    pub connector: String,
    /// The handling of a record that it cannot write.
    pub on_error: OnErrorSetting,
    /// The other fields.
    pub settings: Arc<dyn SinkSettings>,
}
