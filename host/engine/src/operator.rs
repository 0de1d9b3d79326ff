//! The lower door of the library: a single operator, whose state the calling program keeps.
//!
//! A job keeps state, takes checkpoints and moves records. A program that does these things itself, such as another
//! stream engine or a test, needs only the operators: this module calls a plugin with a batch as a job would, reads its
//! state from a [`KeyedState`] of the program and writes it there, and finds the records that the plugin cannot handle.
//!
//! ```no_run
//! use floodmark_engine::operator::{Batch, EngineSettings, InputPort, KeyedState};
//! use floodmark_engine::operator::{Limits, OnError, OperatorSettings, Plugins};
//!
//! fn count<S: KeyedState>(words: &[&str], state: S) -> Result<S, Box<dyn std::error::Error>> {
//!     let plugins = Plugins::new(EngineSettings::default())?;
//!     let component = std::fs::read("word-count.wasm")?;
//!     let plugin = plugins.load("count", &component, Limits::default())?;
//!     let settings = OperatorSettings {
//!         on_error: OnError::DeadLetter,
//!         ..OperatorSettings::default()
//!     };
//!     let mut operator = plugin.open(settings, state)?;
//!     let mut batch = Batch::default();
//!     for word in words {
//!         batch.push(word.as_bytes(), b"", 0);
//!     }
//!     let now_ms = 1_767_225_600_000;
//!     for (port, counts) in operator.process(InputPort(0), batch, now_ms)? {
//!         println!("{} records leave by port {}", counts.len(), port.0);
//!     }
//!     for line in operator.take_log() {
//!         println!("{}", line.message);
//!     }
//!     Ok(operator.into_state())
//! }
//! ```
//!
//! What a program has to keep beside the content of the states: the list [`EmbeddedTask::schemas`], which is
//! [`OperatorSettings::written`] at the next start. It says which ids the versions of each state have.
//!
//! Checkpoints are the program's. After an error of [`EmbeddedTask::process`], a part of the batch may be applied, so
//! the state must return to a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::state::KeyedState;
use crate::EngineError;
use crate::guest::Plugin;
pub use crate::guest::{Description, EngineSettings, Limits, LogLevel, LogLine};
use crate::runtime::JobError;
use crate::runtime::build::opener;
pub use crate::runtime::faults::Faults;
use crate::runtime::faults::Handling;
use crate::runtime::keyed::{Dictionary, KeyedBatch};
pub use crate::runtime::plan::OnError;
use crate::runtime::plan::Operator;
use crate::runtime::schema::States;
use crate::runtime::sizes::call_sized;
pub use crate::runtime::task::TaskError;
use crate::runtime::task::{OperatorTask, listener_warning};
use crate::session::limits::Ticking;
pub use floodmark_state::stream::{Batch, InputPort, OutputPort};
use floodmark_state::stream::{CheckpointId, Column, TaskIndex};

pub mod state {
    //! What a program needs to keep the state of an operator: [`KeyedState`] and the types of its methods.

    pub use crate::guest::{ListPage, MapPage, PageLimits, SubKeyRange};
    pub use crate::runtime::collections::{CollectionPlace, KeyedCollections};
    pub use crate::runtime::keyed_state::{KeyedState, StaleValue};
    pub use crate::runtime::schema::DeclaredState;
    pub use floodmark_state::stream::{Column, OptionalColumn};
    pub use floodmark_state::{Keys, Lookup, StateId, StateKind, StateSchema};
}

/// Loads plugins, and ends calls that take too long by a thread of its own.
#[derive(Clone)]
pub struct Plugins {
    guests: Arc<Ticking>,
}

/// A checked plugin, under the name of an operator.
#[derive(Clone)]
pub struct LoadedPlugin {
    operator: String,
    plugin: Arc<Plugin>,
    guests: Arc<Ticking>,
}

/// The settings of one operator.
#[derive(Debug, Clone, Default)]
pub struct OperatorSettings {
    /// The configuration that the plugin is opened with.
    pub config: Vec<(String, String)>,
    /// Time to live of entries by state, in place of the plugin's; `None` is without expiry. The program applies it to
    /// values (see [`state::DeclaredState::ttl_ms`]), lists and maps.
    pub ttl_ms: BTreeMap<String, Option<u64>>,
    /// How a record that the plugin cannot handle is handled.
    pub on_error: OnError,
    /// The last [`EmbeddedTask::schemas`] of the task that wrote the state; empty if nothing was written.
    pub written: Vec<state::StateSchema>,
}

/// One task of an operator, whose state is in `S`.
///
/// - Time limits hold also after its [`Plugins`] are dropped.
pub struct EmbeddedTask<S: KeyedState> {
    task: OperatorTask<S>,
    schemas: Vec<state::StateSchema>,
    keys: Dictionary,
    inputs: usize,
    dead_letters: OutputPort,
    /// What was noticed outside of calls.
    lines: Vec<LogLine>,
    _guests: Arc<Ticking>,
}

impl Plugins {
    /// Starts an engine for WebAssembly. Its settings have room for so many tasks, and say whether plugins may have a
    /// limit of fuel.
    ///
    /// # Errors
    /// When the machine cannot run compiled WebAssembly, or lacks the address space.
    pub fn new(settings: EngineSettings) -> Result<Self, EngineError> {
        let guests = Arc::new(Ticking::new(settings)?);
        Ok(Self { guests })
    }

    /// Compiles a component and checks that it is a plugin. `operator` is its name in errors and dead letters; tasks of
    /// one name share the limits of log lines and instances.
    ///
    /// # Errors
    /// When the component is not a valid plugin, or has a limit of fuel that the engine does not count.
    pub fn load(
        &self,
        operator: &str,
        component: &[u8],
        limits: Limits,
    ) -> Result<LoadedPlugin, EngineError> {
        let plugin = self
            .guests
            .engine
            .load_within(operator, component, limits)?;
        Ok(LoadedPlugin {
            operator: operator.to_owned(),
            plugin: Arc::new(plugin),
            guests: Arc::clone(&self.guests),
        })
    }
}

impl LoadedPlugin {
    /// Its ports, and its states with their kinds and versions.
    #[must_use]
    pub fn description(&self) -> &Description {
        self.plugin.description()
    }

    /// Opens a task with this state, which is dropped after an error.
    ///
    /// # Errors
    /// When the plugin refuses its configuration, crashes, or does not take over the state that was written; or when
    /// `settings` name a state that it does not have.
    pub fn open<S: KeyedState>(
        &self,
        settings: OperatorSettings,
        state: S,
    ) -> Result<EmbeddedTask<S>, EngineError> {
        let OperatorSettings {
            config,
            ttl_ms,
            on_error,
            written,
        } = settings;
        let (name, description) = (&self.operator, self.plugin.description());
        let is_declared = |name: &str| description.states.iter().any(|state| state.name == name);
        if let Some(unknown) = ttl_ms.keys().find(|name| !is_declared(name)) {
            return Err(EngineError::usage(format!(
                "operator `{name}` has a time to live for state `{unknown}`, and its plugin declares none of that name"
            )));
        }
        let operator = Operator {
            ttl_ms,
            on_error,
            ..Operator::new(Arc::clone(&self.plugin), config)
        };
        let states = States::taken_over(name, &operator, CheckpointId(0), written, false);
        let states = states.map_err(|error| match error {
            JobError::State {
                operator, reason, ..
            } => EngineError::data(format!("operator `{operator}`: {reason}")),
            error => error.into(),
        })?;
        let open = opener(name, &operator, TaskIndex(0));
        let handling = Handling::of(name, &operator);
        Ok(EmbeddedTask {
            task: OperatorTask::with_state(open, states.declared, state, handling)?,
            schemas: states.schemas,
            keys: Dictionary::default(),
            inputs: description.inputs.len(),
            dead_letters: OutputPort(description.outputs.len() as u16),
            lines: Vec::new(),
            _guests: Arc::clone(&self.guests),
        })
    }
}

impl<S: KeyedState> EmbeddedTask<S> {
    /// Processes records of one input port, in calls of a few thousand, each a transaction, and returns what leaves by
    /// which port. `now_ms` is wall-clock time in milliseconds since 1970. A call that fails is repeated in pieces, as in
    /// a job, until the guilty record is found; [`OperatorSettings::on_error`] says how it is handled.
    ///
    /// # Errors
    /// When a record fails the task, no fresh instance can be opened, or the state fails. The records before it may be
    /// applied, and the state must return to a checkpoint.
    ///
    /// # Panics
    /// When the plugin has no such input port, a slot of the batch is not an index of its keys, or a lookup of the
    /// state does not have an item for each key, or one of an unknown version.
    pub fn process(
        &mut self,
        input: InputPort,
        batch: Batch,
        now_ms: u64,
    ) -> Result<Vec<(OutputPort, Batch)>, TaskError<S::Error>> {
        let has_port = usize::from(input.0) < self.inputs;
        assert!(has_port, "the plugin has input port {}", input.0);
        let mut leaving = Vec::new();
        let pieces = call_sized(batch, self.task.call_records_max());
        for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
            let keyed = match self.task.states().is_empty() {
                false => self.keys.keyed(piece),
                true => KeyedBatch::without_dictionary(piece),
            };
            leaving.extend(self.task.process(input, keyed, now_ms)?);
        }
        Ok(leaving)
    }

    /// The port by which dead letters leave: one after those of the plugin.
    #[must_use]
    pub fn dead_letters(&self) -> OutputPort {
        self.dead_letters
    }

    /// The plugin's states, by position in its description: the ids, and those of earlier versions.
    #[must_use]
    pub fn states(&self) -> &[state::DeclaredState] {
        self.task.states()
    }

    /// All ids that the content of the state may have. A program keeps them with the state.
    #[must_use]
    pub fn schemas(&self) -> &[state::StateSchema] {
        &self.schemas
    }

    /// The state.
    pub fn state_mut(&mut self) -> &mut S {
        self.task.state_mut()
    }

    /// Ends the task, and returns the state.
    ///
    /// # Panics
    /// When a call has panicked.
    #[must_use]
    pub fn into_state(self) -> S {
        let state = self.task.into_kept();
        state.expect("the state is shared only during a call")
    }

    /// Converts values of a state (items of a list, values of a map) from an earlier version, one for one. Values are
    /// migrated when they are read; lists and maps a program migrates by this, before the first call.
    ///
    /// # Errors
    /// When the plugin cannot migrate them. If it crashed, a fresh instance has replaced it, or could not be opened.
    pub fn migrate(
        &mut self,
        state: u16,
        from_version: u32,
        values: &Column,
    ) -> Result<Column, EngineError> {
        let migrated = self.task.instance_mut();
        let migrated = migrated.migrate(state, from_version, values);
        if migrated
            .as_ref()
            .is_err_and(|error| error.spoils_instance())
        {
            self.task.renew()?;
        }
        Ok(migrated?)
    }

    /// Tells the plugin that a checkpoint is durable. A crash in that call only becomes a line of the log, and a fresh
    /// instance replaces the plugin.
    ///
    /// # Errors
    /// When no fresh instance can be opened.
    pub fn completed(&mut self, checkpoint: u64) -> Result<(), EngineError> {
        self.notify(checkpoint, true)
    }

    /// Tells the plugin that a checkpoint was aborted.
    ///
    /// # Errors
    /// As [`EmbeddedTask::completed`].
    pub fn aborted(&mut self, checkpoint: u64) -> Result<(), EngineError> {
        self.notify(checkpoint, false)
    }

    fn notify(&mut self, checkpoint: u64, is_durable: bool) -> Result<(), EngineError> {
        let crashed = self.task.notify(CheckpointId(checkpoint), is_durable)?;
        self.lines.extend(crashed.as_ref().map(listener_warning));
        Ok(())
    }

    /// Takes the lines that the plugin has logged, and warnings about it.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        let mut lines = self.task.take_log();
        lines.append(&mut self.lines);
        lines
    }

    /// The counters of what went wrong in calls.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.task.faults()
    }
}
