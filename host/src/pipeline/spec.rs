//! What the user typed: the pipeline file with the `--set` arguments laid over it, as far as it can be checked without
//! loading a plugin.
//!
//! Plain data; [`super::parse`] makes it. What it means is [`super::plan`].

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
use crate::stream::MaxParallelism;

/// Nodes in a pipeline.
pub const NODES_MAX: usize = 1000;
/// Characters in a name.
pub const NAME_CHARS_MAX: usize = 64;

/// A pipeline as typed.
///
/// Made by [`super::parse`] only, so:
/// - every name is one, and unique over all kinds of nodes;
/// - every reference names a source or operator, and every source and operator is referred to;
/// - the graph has a source and a sink, no cycle, and at most [`NODES_MAX`] nodes;
/// - `1 <= parallelism <= max_parallelism`;
/// - all paths are absolute.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The folder of the pipeline file: absolute, and free of links.
    pub folder: PathBuf,
    /// The job's name; the folder of the file unless typed.
    pub name: String,
    /// Tasks per operator; 1 unless typed, so that the order of output is the same on every machine.
    pub parallelism: u16,
    /// Key groups; fixed for the life of the state.
    pub max_parallelism: MaxParallelism,
    /// When checkpoints are taken, and where and how many are kept.
    pub checkpoint: CheckpointSection,
    /// Where state is while the job runs.
    pub state: StateSection,
    /// What plugins may use, unless their operator says otherwise.
    pub limits: LimitSettings,
    /// What happens after a failure.
    pub restart: RestartSettings,
    /// By name.
    pub sources: BTreeMap<String, SourceSpec>,
    /// By name.
    pub operators: BTreeMap<String, OperatorSpec>,
    /// By name.
    pub sinks: BTreeMap<String, SinkSpec>,
    pub(super) document: Document,
}

impl Spec {
    /// Whether all sources come to an end by themselves.
    #[must_use]
    pub fn has_end(&self) -> bool {
        let mut sources = self.sources.values();
        sources.all(|source| source.settings.endless().is_none())
    }

    /// A problem of a field that showed later, such as when its plugin was loaded. `path` is for example
    /// `["operator", "count", "config"]`; a field that was not typed is reported at the table around it.
    #[must_use]
    pub fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        self.document.problem(path, message)
    }

    /// What the plugin of an operator may use, as far as it was typed.
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
    /// The other fields.
    pub settings: Arc<dyn SourceSettings>,
}

/// A table `[operator.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OperatorSpec {
    /// A `.wasm` file, or a folder to build.
    pub plugin: PathBuf,
    /// What it reads.
    pub from: From,
    /// Handed to the plugin.
    #[serde(default, deserialize_with = "config::deserialize")]
    pub config: BTreeMap<String, String>,
    /// By state of the plugin: how long an entry lives, instead of what the plugin declares.
    #[serde(default)]
    pub ttl: BTreeMap<String, Ttl>,
    /// What its plugin may use, instead of what the section `[limits]` says.
    #[serde(default)]
    pub limits: LimitSettings,
    /// What happens to a record that the plugin cannot handle.
    #[serde(default)]
    pub on_error: OnErrorSetting,
}

/// A table `[sink.NAME]`.
#[derive(Debug, Clone)]
pub struct SinkSpec {
    /// What it reads.
    pub from: Vec<Reference>,
    /// The name of its connector.
    pub connector: String,
    /// The other fields.
    pub settings: Arc<dyn SinkSettings>,
}
