//! A checked component: all its imports are available, its exports match, and its description is valid.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::bindings::exports::floodmark::engine::input_columns::UnreadColumns as WitUnread;
use super::bindings::exports::floodmark::engine::operator::StateKind as WitStateKind;
use super::compiler::Compiler;
use super::exports::ExportIndices;
use super::samples::Samples;
use super::share::Shares;
use super::tiers::{Code, Linked, Tiers};
use super::{GuestClock, GuestEngine, GuestError, Instance, Limits, closed_wasi, imports};
use floodmark_checkpoint::PluginDigest;
use floodmark_state::StateKind;
use floodmark_state::stream::DEAD_LETTERS;

/// The interface that a plugin must export.
const CONTRACT: &str = "floodmark:engine/operator@0.1.0";
/// Its name without the version.
const CONTRACT_NAME: &str = "floodmark:engine/operator@";

const NAME_CHARS_MAX: usize = 64;
const NAMES_MAX: usize = 256;
/// Longest time to live in milliseconds: 100 years.
const TTL_MS_MAX: u64 = 36_525 * 24 * 3600 * 1000;

/// A plugin's description of itself, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name: 1 to 64 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Its version: at most 64 characters, for people.
    pub version: String,
    /// Its states; calls refer to them by position.
    pub states: Vec<StateDeclaration>,
    /// Its input ports, at least one.
    pub inputs: Vec<String>,
    /// Its output ports, at least one.
    pub outputs: Vec<String>,
    /// By input port: the columns that it does not read and that calls leave out.
    pub unread: Vec<UnreadColumns>,
}

/// Columns of an input port that a plugin does not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnreadColumns {
    /// Whether it does not read values.
    pub values: bool,
    /// Whether it does not read event times.
    pub timestamps: bool,
}

/// A state that a plugin declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDeclaration {
    /// The name, which identifies the state across versions.
    pub name: String,
    /// The kind of its content for each key.
    pub kind: StateKind,
    /// The version of the encoding of its values.
    pub version: u32,
    /// Time to live after the last write in milliseconds, 1 ms to 100 years; `None` is without expiry.
    pub ttl_ms: Option<u64>,
}

/// The reason why a plugin's description of itself is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionFault {
    /// `input-columns` names an input that it does not have.
    #[error("its `input-columns` names input {input}, but it has {inputs} inputs")]
    UnreadInput {
        /// The input port.
        input: usize,
        /// Number of input ports.
        inputs: usize,
    },
    /// `input-columns` names an input twice.
    #[error("its `input-columns` names input {input} twice")]
    UnreadTwice {
        /// The input port.
        input: usize,
    },
    /// Its name is invalid.
    #[error("its name, `{name}`, is not 1 to {NAME_CHARS_MAX} characters of `a-z`, `0-9` and `-`")]
    Name {
        /// The name, escaped.
        name: String,
    },
    /// Its version is too long, or cannot be displayed.
    #[error("its version has more than {NAME_CHARS_MAX} characters, or control characters")]
    Version,
    /// A time to live is too short or too long.
    #[error(
        "its state `{state}` has a time to live of {ttl_ms} ms, but 1 ms to 100 years are allowed"
    )]
    TimeToLive {
        /// The state, escaped.
        state: String,
        /// The time to live in milliseconds.
        ttl_ms: u64,
    },
    /// It has too few or too many parts of a kind.
    #[error("it has {count} {kind}s, but {needed} to {NAMES_MAX} are allowed")]
    Count {
        /// `state`, `input` or `output`.
        kind: &'static str,
        /// Number of them.
        count: usize,
        /// Least number of them.
        needed: usize,
    },
    /// The name of a part is invalid.
    #[error(
        "the name of an {kind}, `{name}`, is not 1 to {NAME_CHARS_MAX} characters of `a-z`, `0-9` and `-`"
    )]
    PartName {
        /// `state`, `input` or `output`.
        kind: &'static str,
        /// The name, escaped.
        name: String,
    },
    /// Two parts of a kind have the same name.
    #[error("it has two {kind}s called `{name}`")]
    PartTwice {
        /// `state`, `input` or `output`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// An output has the name of the port for dead letters.
    #[error(
        "it has an output called `{DEAD_LETTERS}`, a name reserved for the port of records that a plugin cannot handle"
    )]
    DeadLetters,
}

/// A checked component that can be started.
#[derive(Clone)]
pub struct Plugin {
    digest: PluginDigest,
    component: Arc<[u8]>,
    imports: Vec<String>,
    description: Description,
    start: InstanceTemplate,
}

/// Everything that is needed to start an instance.
#[derive(Clone)]
pub(super) struct InstanceTemplate {
    pub(super) tiers: Arc<Tiers>,
    /// Whether calls use `operator` even if the component exports other interfaces.
    pub(super) is_plain: bool,
    pub(super) limits: Limits,
    pub(super) shares: Arc<Shares>,
    /// Whether each instance has a grace of its own, as it is of no task of the job.
    pub(super) is_apart: bool,
    pub(super) has_fuel: bool,
    /// Largest number of instances in the whole process.
    pub(super) instances_max: u32,
    /// Measures calls, if the engine has a clock.
    pub(super) clock: Option<GuestClock>,
    /// Collects samples of its stack, if the job is profiled.
    pub(super) samples: Option<Arc<Samples>>,
}

impl InstanceTemplate {
    /// Whether calls use `operator`.
    fn calls_operator(&self) -> bool {
        self.is_plain || self.tiers.newest().exports.is_plain()
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("digest", &self.digest)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// The SHA-256 of a component.
    #[must_use]
    pub fn digest_of(component: &[u8]) -> PluginDigest {
        PluginDigest(Sha256::digest(component).into())
    }

    pub(super) fn check(
        guest_engine: &GuestEngine,
        operator: &str,
        (digest, component): (PluginDigest, &[u8]),
        (compiler, compiled): (&Compiler, &Component),
        limits: Limits,
    ) -> Result<Self, GuestError> {
        let engine = compiler.wasmtime();
        check_exports(engine, operator, compiled)?;
        imports::check(engine, operator, compiled)?;
        let start = InstanceTemplate {
            tiers: Arc::new(Tiers::new(link(compiler, operator, compiled)?)),
            is_plain: false,
            limits,
            shares: Arc::clone(guest_engine.shares()),
            is_apart: false,
            has_fuel: guest_engine.has_fuel(),
            instances_max: guest_engine.instances_max(),
            clock: guest_engine.clock(),
            samples: guest_engine.samples().cloned(),
        };
        let shape = compiled.component_type();
        let imports = shape
            .imports(engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        let description = describe(operator, &start)?;
        Ok(Self {
            digest,
            component: component.into(),
            imports,
            description,
            start,
        })
    }

    /// The kind of code that its new instances run.
    #[must_use]
    pub fn code(&self) -> Code {
        self.start.tiers.code()
    }

    pub(super) fn tiers(&self) -> Weak<Tiers> {
        Arc::downgrade(&self.start.tiers)
    }

    /// The SHA-256 of the component, by which checkpoints name the plugin.
    #[must_use]
    pub fn digest(&self) -> PluginDigest {
        self.digest
    }

    /// The component as it was loaded.
    #[must_use]
    pub fn component(&self) -> &Arc<[u8]> {
        &self.component
    }

    /// The names of its imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.imports
    }

    /// The limits of its instances.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.start.limits
    }

    /// The same plugin with other limits for its instances.
    ///
    /// # Errors
    /// When fuel is limited and the engine does not count it.
    pub fn within(&self, operator: &str, limits: Limits) -> Result<Self, GuestError> {
        check_fuel(operator, limits, self.start.has_fuel)?;
        let start = InstanceTemplate {
            limits,
            ..self.start.clone()
        };
        Ok(Self {
            start,
            ..self.clone()
        })
    }

    /// The same plugin for tasks beside those of the job, from whose graces they take nothing.
    #[must_use]
    pub fn apart(&self) -> Self {
        let mut apart = self.clone();
        apart.start.is_apart = true;
        apart
    }

    /// The same plugin, called through the interface `operator`; `None` if it is called that way already.
    #[must_use]
    pub fn called_plainly(&self) -> Option<Self> {
        if self.start.calls_operator() {
            return None;
        }
        let mut plain = self.clone();
        plain.start.is_plain = true;
        plain.description.unread.fill(UnreadColumns::default());
        Some(plain)
    }

    /// Its description of itself.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Starts an instance without a configuration, only for [`Instance::migrate`], [`Instance::to_json`] and
    /// [`Instance::from_json`]. It must not process records.
    ///
    /// # Errors
    /// When it crashes during its start.
    pub fn unopened(&self, operator: &str) -> Result<Instance, GuestError> {
        Instance::start(operator, &self.start, &self.description, Arc::default())
    }

    /// Starts an instance without opening it, for callers that convert values of its states.
    ///
    /// # Errors
    /// When it crashes during its start.
    pub fn start(&self, operator: &str) -> Result<Instance, GuestError> {
        Instance::start(operator, &self.start, &self.description, Arc::default())
    }

    /// Starts an instance and opens it. It is of no task: after a stop of the job it has a grace of its own.
    ///
    /// # Errors
    /// When the plugin refuses its configuration, or crashes in `open`.
    pub fn open(
        &self,
        operator: &str,
        config: &[(String, String)],
    ) -> Result<Instance, GuestError> {
        let mut instance = self.start(operator)?;
        instance.open(config)?;
        Ok(instance)
    }

    /// As [`Plugin::open`], for a task of the operator: all instances that are opened for it share its grace after a stop,
    /// also those of other plugins and of a restarted job.
    ///
    /// # Errors
    /// As [`Plugin::open`]; and when the task has used up its grace.
    pub fn open_for(
        &self,
        task: u16,
        operator: &str,
        config: &[(String, String)],
    ) -> Result<Instance, GuestError> {
        let grace = match self.start.is_apart {
            true => Arc::default(),
            false => self.start.shares.of(operator).grace_of(task),
        };
        let mut instance = Instance::start(operator, &self.start, &self.description, grace)?;
        instance.open(config)?;
        Ok(instance)
    }
}

/// Links the imports of compiled code to the host's functions.
///
/// # Errors
/// When an import or export has another type than the contract.
pub(super) fn link(
    compiler: &Compiler,
    operator: &str,
    compiled: &Component,
) -> Result<Linked, GuestError> {
    let engine = compiler.wasmtime();
    let other_types = |error: wasmtime::Error| GuestError::OtherTypes {
        operator: operator.to_owned(),
        reason: format!("{error:#}"),
    };
    let mut linker = Linker::new(engine);
    super::bindings::AnyPlugin::add_to_linker::<_, wasmtime::component::HasSelf<_>>(
        &mut linker,
        |state| state,
    )
    .map_err(other_types)?;
    closed_wasi::add_to_linker(engine, &mut linker, compiled).map_err(other_types)?;
    let pre = linker.instantiate_pre(compiled).map_err(other_types)?;
    Ok(Linked {
        exports: ExportIndices::find(&pre).map_err(other_types)?,
        pre,
        tier: compiler.tier(),
    })
}

/// Refuses a limit on fuel for an engine that does not count it.
pub(super) fn check_fuel(operator: &str, limits: Limits, has_fuel: bool) -> Result<(), GuestError> {
    if limits.fuel_per_call.is_none() || has_fuel {
        return Ok(());
    }
    Err(GuestError::NoFuel {
        operator: operator.to_owned(),
    })
}

fn check_exports(engine: &Engine, operator: &str, compiled: &Component) -> Result<(), GuestError> {
    let ty = compiled.component_type();
    let mut other = None;
    for (name, _) in ty.exports(engine) {
        if name == CONTRACT {
            return Ok(());
        }
        if name.starts_with(CONTRACT_NAME) {
            other = Some(name.to_owned());
        }
    }
    let operator = operator.to_owned();
    Err(match other {
        Some(found) => GuestError::OtherContract {
            operator,
            does: "exports",
            found,
            wanted: CONTRACT.to_owned(),
        },
        None => GuestError::NoContract {
            operator,
            wanted: CONTRACT,
        },
    })
}

fn describe(operator: &str, start: &InstanceTemplate) -> Result<Description, GuestError> {
    let (found, unread) = Instance::describe(operator, start)?;
    let bad_description = |reason| GuestError::BadDescription {
        operator: operator.to_owned(),
        reason,
    };
    let unread = match start.calls_operator() {
        // Calls of `operator` have all columns.
        true => vec![UnreadColumns::default(); found.inputs.len()],
        false => check_unread(&unread, found.inputs.len()).map_err(bad_description)?,
    };
    let description = Description {
        name: found.name,
        version: found.version,
        states: found
            .states
            .into_iter()
            .map(|state| StateDeclaration {
                name: state.name,
                kind: match state.kind {
                    WitStateKind::Value => StateKind::Value,
                    WitStateKind::List => StateKind::List,
                    WitStateKind::Map => StateKind::Map,
                },
                version: state.version,
                ttl_ms: state.ttl_ms,
            })
            .collect(),
        inputs: found.inputs,
        outputs: found.outputs,
        unread,
    };
    check_description(&description).map_err(bad_description)?;
    Ok(description)
}

/// By input port: the columns that a plugin does not read.
fn check_unread(
    unread: &[WitUnread],
    inputs: usize,
) -> Result<Vec<UnreadColumns>, DescriptionFault> {
    let mut by_input = vec![None; inputs];
    for columns in unread {
        let input = usize::from(columns.input);
        let Some(known) = by_input.get_mut(input) else {
            return Err(DescriptionFault::UnreadInput { input, inputs });
        };
        let unread = UnreadColumns {
            values: columns.values,
            timestamps: columns.timestamps,
        };
        if known.replace(unread).is_some() {
            return Err(DescriptionFault::UnreadTwice { input });
        }
    }
    Ok(by_input
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect())
}

fn check_description(description: &Description) -> Result<(), DescriptionFault> {
    if !is_name(&description.name) {
        let name = escaped(&description.name);
        return Err(DescriptionFault::Name { name });
    }
    let version = &description.version;
    if version.chars().count() > NAME_CHARS_MAX || version.chars().any(char::is_control) {
        return Err(DescriptionFault::Version);
    }
    for StateDeclaration { name, ttl_ms, .. } in &description.states {
        if let Some(ttl_ms) = ttl_ms.filter(|ttl_ms| !(1..=TTL_MS_MAX).contains(ttl_ms)) {
            let state = escaped(name);
            return Err(DescriptionFault::TimeToLive { state, ttl_ms });
        }
    }
    let states: Vec<_> = description
        .states
        .iter()
        .map(|state| state.name.as_str())
        .collect();
    let inputs: Vec<_> = description.inputs.iter().map(String::as_str).collect();
    let outputs: Vec<_> = description.outputs.iter().map(String::as_str).collect();
    for (kind, names, needed) in [
        ("state", states, 0),
        ("input", inputs, 1),
        ("output", outputs, 1),
    ] {
        if names.len() < needed || names.len() > NAMES_MAX {
            let count = names.len();
            return Err(DescriptionFault::Count {
                kind,
                count,
                needed,
            });
        }
        let mut seen = BTreeSet::new();
        for name in names {
            if !is_name(name) {
                let name = escaped(name);
                return Err(DescriptionFault::PartName { kind, name });
            }
            if !seen.insert(name) {
                let name = name.to_owned();
                return Err(DescriptionFault::PartTwice { kind, name });
            }
            if kind == "output" && name == DEAD_LETTERS {
                return Err(DescriptionFault::DeadLetters);
            }
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let allowed = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(allowed)
}

/// An arbitrary name, escaped for a message.
fn escaped(name: &str) -> String {
    let chars = name.chars().take(NAME_CHARS_MAX);
    chars.flat_map(char::escape_default).collect()
}
