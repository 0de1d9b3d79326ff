//! What a pipeline says of its sources and sinks, each a type of its own that serde reads from a table of the pipeline file.

use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{ConnectorError, Sink, SinkFormat, Source};

/// The node of a pipeline for which a connector is made.
#[derive(Debug, Clone, Copy)]
pub struct NodeContext<'a> {
    /// The name of the job.
    pub job: &'a str,
    /// The name of the node.
    pub node: &'a str,
    /// The folder of the pipeline file, absolute.
    pub folder: &'a Path,
    /// The id of the data folder.
    pub data_folder: &'a str,
}

/// The settings of a source: a table `[source.NAME]` without its `connector`.
pub trait SourceSettings: Debug + Send + Sync {
    /// What gives saved positions their meaning, as fields and values: a job resumes only if they are the same. Paths are
    /// relative to `folder`, so that a job may move with its folder.
    fn identity(&self, folder: &Path) -> Vec<(String, String)>;

    /// Why the source never ends, if it does not.
    fn endless(&self) -> Option<Endless>;

    /// The path or pattern of the files that it reads, if it reads files.
    fn reads(&self) -> Option<&Path>;

    /// Makes the source.
    ///
    /// # Errors
    /// When settings contradict each other. No input has been opened.
    fn open(&self, context: &NodeContext<'_>) -> Result<Arc<dyn Source>, ConnectorError>;
}

/// Why a source never ends, and the setting that makes it end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endless {
    /// Continues "source `NAME` …".
    pub reason: &'static str,
    /// A field of the source.
    pub field: &'static str,
    /// A value of it with which the source ends.
    pub value: &'static str,
}

/// The settings of a sink: a table `[sink.NAME]` without its `connector` and `from`.
pub trait SinkSettings: Debug + Send + Sync {
    /// What gives staged output its meaning, like [`SourceSettings::identity`].
    fn identity(&self, folder: &Path) -> Vec<(String, String)>;

    /// The folder that it writes files into, if it does.
    fn writes(&self) -> Option<&Path>;

    /// How it writes records, if it has a choice.
    fn format(&self) -> Option<SinkFormat>;

    /// Makes the sink.
    ///
    /// # Errors
    /// When settings contradict each other. No output has been opened.
    fn open(&self, context: &NodeContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError>;
}

/// A fact of an identity.
pub(super) fn fact(field: &str, value: impl ToString) -> (String, String) {
    (field.to_owned(), value.to_string())
}

/// A path as it is written in a file of `folder`. One that shares nothing with the folder stays absolute.
pub(super) fn seen_from(folder: &Path, path: &Path) -> PathBuf {
    let shared = folder.components().zip(path.components());
    let shared = shared.take_while(|(left, right)| left == right).count();
    if shared < 2 {
        return path.to_path_buf();
    }
    let up = folder
        .components()
        .skip(shared)
        .map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}
