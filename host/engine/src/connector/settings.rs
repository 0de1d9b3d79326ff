//! The settings of sources and sinks: types that serde reads from a table of the pipeline file.

use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{ConnectorError, Sink, SinkFormat, Source};

/// The node of a pipeline that a connector is created for.
#[derive(Debug, Clone, Copy)]
pub struct NodeContext<'a> {
    /// The name of the job.
    pub job: &'a str,
    /// The name of the node.
    pub node: &'a str,
    /// The folder of the pipeline file, absolute.
    pub folder: &'a Path,
    /// The id of the data folder, with which sinks mark their output.
    pub data_folder: &'a str,
}

/// The settings of a source: a table `[source.NAME]` without its `connector`.
pub trait SourceSettings: Debug + Send + Sync {
    /// Fields and values that give saved positions their meaning: a job resumes only if they are the same. Paths are
    /// relative to `folder`, so that a job may move with its folder.
    fn identity(&self, folder: &Path) -> Vec<(String, String)>;

    /// The reason why the source never ends; `None` if it ends.
    fn endless(&self) -> Option<Endless>;

    /// The path or pattern of the files that it reads; `None` if it reads no files.
    fn reads(&self) -> Option<&Path>;

    /// Whether it reads standard input: such input cannot be read a second time, nor by two sources.
    fn reads_standard_input(&self) -> bool {
        false
    }

    /// Creates the source.
    ///
    /// # Errors
    /// When settings contradict each other. No input was opened.
    fn open(&self, context: &NodeContext<'_>) -> Result<Arc<dyn Source>, ConnectorError>;
}

/// The reason why a source never ends, and a setting that makes it end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endless {
    /// Continues "source `NAME` …".
    pub reason: &'static str,
    /// The name of a field of the source.
    pub field: &'static str,
    /// A value of the field with which the source ends.
    pub value: &'static str,
}

/// The settings of a sink: a table `[sink.NAME]` without its `connector` and `from`.
pub trait SinkSettings: Debug + Send + Sync {
    /// Fields and values that give staged output its meaning, like [`SourceSettings::identity`].
    fn identity(&self, folder: &Path) -> Vec<(String, String)>;

    /// The folder that it writes files to; `None` if it writes no files.
    fn writes(&self) -> Option<&Path>;

    /// The format of records; `None` if there is no choice.
    fn format(&self) -> Option<SinkFormat>;

    /// Creates the sink.
    ///
    /// # Errors
    /// When settings contradict each other. No output was opened.
    fn open(&self, context: &NodeContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError>;
}

/// A field of an identity.
pub(super) fn fact(field: &str, value: impl ToString) -> (String, String) {
    (field.to_owned(), value.to_string())
}

/// A path relative to `folder`. A path that shares nothing with the folder stays absolute.
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
