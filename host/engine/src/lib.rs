//! The engine as a library: start a job from a pipeline, take checkpoints, replace its plugins, and stop it.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use floodmark_engine::{DataDir, Drain, Engine, Pipeline, StartFrom, SwapOptions};
//!
//! let engine = Engine::builder().build();
//! let pipeline = Pipeline::from_file("pipeline.toml")?;
//! let job = engine.start(pipeline, DataDir::open("data")?, StartFrom::Newest)?;
//! job.checkpoint()?;
//! let component = std::fs::read("count-2.wasm")?;
//! job.swap("count", component, SwapOptions::trial(Duration::from_secs(30)))?;
//! let summary = job.stop(Drain::No)?;
//! println!("{} records", summary.records_in);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program may add sources and sinks of its own: a settings type that implements [`SourceSettings`] or
//! [`SinkSettings`] and serde's `Deserialize` is registered under a name, which pipelines then use as `connector`.
//! `examples/embed.rs` is a complete program with both.
//!
//! A program that itself keeps state, takes checkpoints and moves records runs single operators by [`operator`].
//!
//! These belong to the command and not to the engine: HTTP, the socket in the data folder, hooks
//! (`checkpoint.on-checkpoint`), signals, and output to the terminal.

mod error;
mod running;

pub mod operator;

pub mod connector;

// Not part of the public API: for the command and the tests of this repository. May change with any version.
#[cfg_attr(doc, doc(hidden))]
pub mod edge;
#[cfg_attr(doc, doc(hidden))]
pub mod guest;
#[cfg_attr(doc, doc(hidden))]
pub mod job;
#[cfg_attr(doc, doc(hidden))]
pub mod observe;
#[cfg_attr(doc, doc(hidden))]
pub mod pipeline;
#[cfg_attr(doc, doc(hidden))]
pub mod runtime;
#[cfg_attr(doc, doc(hidden))]
pub mod session;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;

pub use self::error::{Cause, EngineError};
pub use self::running::{Drain, JobSummary, RunningJob, SwapOptions, SwapSummary};
use self::session::{OpenedJob, assemble, limits};
pub use crate::connector::{SinkSettings, SourceSettings};
pub use crate::edge::data_dir::DataDir;
use crate::edge::pipeline_file;
use crate::guest::Profiling;
use crate::pipeline::Connectors;

/// Receives lines for the user, on any thread. They may quote plugins, files and records: escape them before a terminal
/// shows them.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// Names the `floodmark` command of this version that compiles plugins in processes of their own, for all engines that
/// this process makes from now on. The limits on compiling hold only then; otherwise plugins are compiled in this process.
/// Only the first call counts. A relative path is taken from the current folder.
pub fn compile_with(program: impl Into<PathBuf>) {
    edge::compile_program::use_program(program.into());
}

/// A pipeline file, and settings that override it.
#[derive(Debug, Clone)]
pub struct Pipeline {
    path: PathBuf,
    sets: Vec<String>,
}

impl Pipeline {
    /// The pipeline at `path`: a file, or a folder with a `pipeline.toml`. The content is read when a job is started.
    ///
    /// # Errors
    /// When there is no such file or folder.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let path = path.as_ref().to_path_buf();
        let there = path.metadata();
        there.map_err(|error| {
            EngineError::usage(format!(
                "cannot read the pipeline `{}`: {error}",
                path.display()
            ))
        })?;
        Ok(Self {
            path,
            sets: Vec::new(),
        })
    }

    /// Overrides a setting of the file, such as `job.parallelism=2`.
    #[must_use]
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.sets.push(setting.into());
        self
    }
}

/// Where a job starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFrom {
    /// Resumes from the newest sound checkpoint of its data folder, or starts fresh if there is none.
    Newest,
    /// Starts fresh: deletes its checkpoints, and removes the output that they had committed.
    Beginning,
    /// Returns to this checkpoint: later ones are deleted, and their output is taken back.
    Checkpoint(u64),
    /// Resumes from the checkpoint in this savepoint, in a data folder without checkpoints or, with `fresh`, one whose
    /// checkpoints are deleted.
    Savepoint {
        /// The file of the savepoint.
        path: PathBuf,
        /// Whether checkpoints of the data folder are deleted.
        fresh: bool,
        /// Whether its plugins and configurations run where the pipeline names others. Without this, such a savepoint is
        /// refused: its plugins may be from another author.
        take_plugins: bool,
    },
}

impl StartFrom {
    /// Whether checkpoints of the data folder are deleted first.
    #[doc(hidden)]
    #[must_use]
    pub fn forgets(&self) -> bool {
        matches!(self, Self::Beginning | Self::Savepoint { fresh: true, .. })
    }
}

/// Starts jobs. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    connectors: Connectors,
    say: Say,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.connectors).finish()
    }
}

/// Builds an [`Engine`].
#[derive(Debug, Clone)]
pub struct EngineBuilder(Engine);

impl EngineBuilder {
    /// Adds a source: `connector = "NAME"` in a table `[source.…]`, whose other fields are those of `S`.
    #[must_use]
    pub fn source<S: SourceSettings + DeserializeOwned + 'static>(mut self, name: &str) -> Self {
        self.0.connectors = self.0.connectors.with_source::<S>(name);
        self
    }

    /// Adds a sink: `connector = "NAME"` in a table `[sink.…]`, whose other fields are those of `S`, besides `from`.
    #[must_use]
    pub fn sink<S: SinkSettings + DeserializeOwned + 'static>(mut self, name: &str) -> Self {
        self.0.connectors = self.0.connectors.with_sink::<S>(name);
        self
    }

    /// Sets a receiver of lines for the user: where a job resumes, warnings, plugins that are compiled.
    #[must_use]
    pub fn say(mut self, say: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.0.say = Arc::new(say);
        self
    }

    /// Builds the engine.
    #[must_use]
    pub fn build(self) -> Engine {
        self.0
    }
}

impl Engine {
    /// A builder with the connectors `file`, `generator`, `stdout` and `discard`, and without a receiver of lines.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder(Self {
            connectors: Connectors::built_in(),
            say: Arc::new(|_| ()),
        })
    }

    /// Builds and loads the plugins of a pipeline, and runs it on threads of its own. The data folder is locked until
    /// the job has ended.
    ///
    /// # Errors
    /// When the pipeline is invalid, a plugin cannot be built or loaded, the data folder has checkpoints of another
    /// pipeline, or the job cannot start. Nothing has changed then, unless checkpoints were to be deleted.
    pub fn start(
        &self,
        pipeline: Pipeline,
        data_dir: DataDir,
        from: StartFrom,
    ) -> Result<RunningJob, EngineError> {
        let file = pipeline_file::load(&pipeline.path, &pipeline.sets, &self.connectors)?;
        let pipeline = assemble::LoadedPipeline {
            spec: file.spec,
            folder: file.folder,
        };
        let compiled = Some(data_dir.compiled());
        let guests =
            limits::Ticking::for_profiled_job(&pipeline.spec, compiled, Profiling::Off, &self.say)?
                .optimising(&self.say);
        let data = data_dir.id()?;
        let mut say = |line: &str| (self.say)(line);
        let assembled = assemble::assemble(pipeline, &guests.engine, &data, &mut say)?;
        let opened = OpenedJob::open(assembled, guests, data_dir, &from, false, &self.say)?;
        RunningJob::start(opened)
    }
}
