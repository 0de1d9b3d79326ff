//! Replaces plugins of a running job, after it was proven that they fit: on the thread that handles the request, while the
//! job keeps running.
//!
//! ```text
//!   load ─▶ compare ports and states ─▶ rehearse on saved state ─▶ shadow ─▶ open an instance a task ─▶ the job
//! ```
//!
//! Up to the last step nothing of the job is touched, and a refusal leaves it as it is. What happens at the barrier is in
//! `runtime::swap`. The job may change while a swap is prepared; then the job refuses it.

mod compare;
mod rehearse;
mod shadow;

use std::sync::{Arc, mpsc};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::compare::{StateCompatibility, StateRow, compare, refuse_states};
pub use self::rehearse::Rehearsed;
pub use self::shadow::Shadow;
use super::clock::Clock;
use super::drive::{Inputs, request};
use crate::checkpoint::{Checkpoint, CheckpointReader, PluginChoice};
use crate::guest::{GuestEngine, GuestError, Plugin};
use crate::job::{Caller, Request, SwapRequest};
use crate::runtime::JobError;
use crate::runtime::plan::{Operator, Plan, Role, Scratch};
use crate::runtime::swap::{PreparedSwap, Running, Stopwatch, SwapError};
use crate::state::StateSchema;

/// A checkpoint, and what reads it.
type Readable = (Arc<dyn CheckpointReader>, Checkpoint);

/// How often a plugin is tried on a checkpoint, if the job retires them meanwhile.
const PROVE_ATTEMPTS_MAX: u32 = 10;
/// How long a trial may be.
const TRIAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// How many records a shadow run may have.
const SHADOW_MAX: u64 = 10_000_000;

/// What it takes to swap plugins of one running job.
#[derive(Clone)]
pub struct Swapper {
    /// Compiles.
    pub engine: GuestEngine,
    /// Where the job hears what is asked.
    pub inputs: Inputs,
    /// Looks at its checkpoints, as long as it runs.
    pub reader: Arc<dyn Fn() -> Option<Arc<dyn CheckpointReader>> + Send + Sync>,
    /// Makes files for state that is read again.
    pub scratch: Scratch,
    /// Measures.
    pub clock: Clock,
}

/// A plugin for an operator.
#[derive(Debug, Clone)]
pub struct NewPlugin {
    /// The operator.
    pub operator: String,
    /// The component; none for the same one with another configuration.
    pub component: Vec<u8>,
    /// Fields of the configuration that change.
    pub config: Vec<(String, String)>,
}

/// How plugins are to be swapped.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Which, all at one barrier.
    pub plugins: Vec<NewPlugin>,
    /// How many records both are to handle before, side by side.
    pub shadow: u64,
    /// Whether it ends before anything changes.
    pub dry_run: bool,
    /// How long a failure brings the old ones back.
    pub trial: Option<Duration>,
    /// Whether state that a plugin does not declare any more is left behind.
    pub allow_dropped_state: bool,
}

/// Why plugins were not swapped. The job continues as before, unless the message says that it went back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapRefusal {
    /// The plugin is not fit.
    Plugin(String),
    /// The job, its state or its graph does not allow it.
    Job(String),
}

impl From<GuestError> for SwapRefusal {
    fn from(error: GuestError) -> Self {
        Self::Plugin(error.to_string())
    }
}

impl From<JobError> for SwapRefusal {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Guest(error) => error.into(),
            other => Self::Job(other.to_string()),
        }
    }
}

impl From<SwapError> for SwapRefusal {
    fn from(error: SwapError) -> Self {
        match error {
            SwapError::Job(error) => error.into(),
            SwapError::OtherPorts { .. } | SwapError::OtherRouting { .. } => {
                Self::Plugin(error.to_string())
            }
            other => Self::Job(other.to_string()),
        }
    }
}

/// What was found out, and done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Findings {
    /// By operator.
    pub operators: Vec<OperatorComparison>,
    /// By operator, if records were handled side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<Shadow>,
    /// What was done; nothing in a dry run, and when all is as it is wished already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<CompletedSwap>,
}

/// What was found out about one operator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OperatorComparison {
    /// Its name.
    pub operator: String,
    /// The plugin that ran, by the SHA-256 of its component.
    pub before: String,
    /// The new one.
    pub plugin: String,
    /// Its name and version, as it says.
    pub name: String,
    /// Whether plugin and configuration are what runs already.
    pub is_same: bool,
    /// How long it took to compile, or to load compiled code.
    pub compiled_us: u64,
    /// How the swap handles its states.
    pub states: Vec<StateRow>,
    /// What was tried on saved state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsed>,
}

/// A swap that is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CompletedSwap {
    /// The checkpoint at whose barrier it was.
    pub checkpoint: u64,
    /// The one before it, to which the old plugins belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The longest time that a worker stood still for it.
    pub pause_us: u64,
    /// The same by worker.
    pub pauses_us: Vec<u64>,
    /// From the request to the job until it was durable.
    pub total_us: u64,
    /// For how long a failure undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ms: Option<u64>,
}

/// Another plugin and configuration in the place of what an operator has; what the pipeline file names is kept in mind.
#[must_use]
pub fn succeed(old: &Operator, plugin: Arc<Plugin>, config: Vec<(String, String)>) -> Operator {
    let mut new = Operator {
        plugin,
        config,
        ..old.clone()
    };
    new.replaces = replaced_by(old.choice(), old.replaces.clone(), &new.choice());
    new
}

/// What a new choice replaces: what the pipeline file names, unless it is that itself.
#[must_use]
pub fn replaced_by(
    old: PluginChoice,
    old_replaces: Option<PluginChoice>,
    new: &PluginChoice,
) -> Option<PluginChoice> {
    Some(old_replaces.unwrap_or(old)).filter(|of_file| of_file != new)
}

/// A configuration with some fields changed.
#[must_use]
pub fn configured(
    config: &[(String, String)],
    changes: &[(String, String)],
) -> Vec<(String, String)> {
    let all = config.iter().chain(changes).cloned();
    let fields: std::collections::BTreeMap<_, _> = all.collect();
    fields.into_iter().collect()
}

impl Swapper {
    /// Proves that plugins fit, and has them take the place of others.
    ///
    /// # Errors
    /// When they do not fit or the swap cannot be done. The job has its old plugins and state then.
    pub fn swap(&self, wish: &Wish) -> Result<Findings, SwapRefusal> {
        check(wish)?;
        let running = self.ask(Request::Describe)?;
        let mut findings = Findings::default();
        let mut operators = Vec::new();
        for new in &wish.plugins {
            let (found, operator) = self.look_at(new, &running, wish.allow_dropped_state)?;
            if !found.is_same {
                operators.push((new.operator.clone(), operator));
            }
            findings.operators.push(found);
        }
        if operators.is_empty() {
            return Ok(findings);
        }
        self.prove(wish, &running, &operators, &mut findings)?;
        let prepared = PreparedSwap::new(&running, operators, wish.allow_dropped_state)?;
        if wish.dry_run {
            return Ok(findings);
        }
        // What is replaced is freed here, and not by a worker.
        let held = prepared.hold();
        let clock = self.clock;
        let stopwatch: Stopwatch = Arc::new(move || clock.now());
        let swapped = self.ask(|caller| {
            Request::Swap(Box::new(SwapRequest {
                prepared,
                trial: wish.trial,
                stopwatch,
                caller,
            }))
        })?;
        drop(held);
        findings.swapped = Some(CompletedSwap {
            checkpoint: swapped.checkpoint.0,
            before: swapped.before.map(|id| id.0),
            pause_us: micros(swapped.pause()),
            pauses_us: swapped.pauses.iter().copied().map(micros).collect(),
            total_us: micros(swapped.total),
            trial_ms: wish.trial.map(|trial| micros(trial) / 1000),
        });
        Ok(findings)
    }

    fn look_at(
        &self,
        new: &NewPlugin,
        running: &Running,
        allow_dropped: bool,
    ) -> Result<(OperatorComparison, Operator), SwapRefusal> {
        let (node, old) = operator_of(&running.plan, &new.operator)?;
        let begun = self.clock.now();
        let plugin = match new.component.is_empty() {
            true => Arc::clone(&old.plugin),
            false => Arc::new(self.engine.load_within(
                &new.operator,
                &new.component,
                old.plugin.limits(),
            )?),
        };
        let compiled = self.clock.now().saturating_sub(begun);
        let operator = succeed(old, plugin, configured(&old.config, &new.config));
        let states = compare(&new.operator, &operator.plugin, &running.schemas[node])?;
        refuse_states(&new.operator, &states, allow_dropped)?;
        let description = operator.plugin.description();
        let found = OperatorComparison {
            operator: new.operator.clone(),
            before: old.plugin.digest().to_string(),
            plugin: operator.plugin.digest().to_string(),
            name: format!("{} {}", description.name, description.version),
            is_same: operator.choice() == old.choice(),
            compiled_us: micros(compiled),
            states,
            rehearsed: None,
        };
        Ok((found, operator))
    }

    /// Tries the plugins on what checkpoints hold. The job may retire a checkpoint meanwhile; then the next one is taken.
    fn prove(
        &self,
        wish: &Wish,
        running: &Running,
        operators: &[(String, Operator)],
        findings: &mut Findings,
    ) -> Result<(), SwapRefusal> {
        if running.newest.is_none() {
            if wish.shadow > 0 {
                return Err(SwapRefusal::Job(
                    "there is no checkpoint yet from which both could handle records; take one with `floodmark checkpoint trigger`, and ask again".to_owned(),
                ));
            }
            return Ok(());
        }
        for _ in 0..PROVE_ATTEMPTS_MAX {
            let (reader, checkpoint) = self.newest()?;
            findings.shadows.clear();
            let on = (&reader, &checkpoint);
            let proven = self.prove_on(wish, running, operators, on, findings);
            if proven.is_ok() || reader.read(checkpoint.id).is_ok() {
                return proven;
            }
        }
        Err(SwapRefusal::Job(
            "the job retires its checkpoints before the plugin can be tried on one; raise `checkpoint.retained` or `checkpoint.interval`".to_owned(),
        ))
    }

    fn prove_on(
        &self,
        wish: &Wish,
        running: &Running,
        operators: &[(String, Operator)],
        (reader, checkpoint): (&Arc<dyn CheckpointReader>, &Checkpoint),
        findings: &mut Findings,
    ) -> Result<(), SwapRefusal> {
        for (name, operator) in operators {
            let begun = self.clock.now();
            let mut rehearsed = self.rehearse(reader, checkpoint, name, operator)?;
            rehearsed.took_us = micros(self.clock.now().saturating_sub(begun));
            let mut found = findings.operators.iter_mut();
            if let Some(found) = found.find(|found| found.operator == *name) {
                found.rehearsed = Some(rehearsed);
            }
        }
        if wish.shadow > 0 {
            for (name, operator) in operators {
                let other = (name.as_str(), operator);
                let shadow = shadow::shadow(&running.plan, reader, checkpoint, other, wish)?;
                findings.shadows.push(shadow);
            }
        }
        Ok(())
    }

    /// The newest checkpoint that is there by now.
    fn newest(&self) -> Result<Readable, SwapRefusal> {
        let unreadable = |reason: String| {
            SwapRefusal::Job(format!(
                "no checkpoint can be read to try the plugin on: {reason}"
            ))
        };
        let reader = (self.reader)().ok_or_else(|| unreadable("the job is over".to_owned()))?;
        let listed = reader.list();
        let listed = listed.map_err(|error| unreadable(error.to_string()))?;
        let checkpoint = listed.into_iter().find_map(|(_, manifest)| manifest.ok());
        let checkpoint = checkpoint.ok_or_else(|| unreadable("none is sound".to_owned()))?;
        Ok((reader, checkpoint))
    }

    fn ask<T>(&self, wish: impl FnOnce(Caller<T>) -> Request) -> Result<T, SwapRefusal> {
        let (caller, answer): (_, mpsc::Receiver<_>) = Caller::new();
        // A job that is over drops the caller, which ends the wait below.
        request(&self.inputs, wish(caller));
        match answer.recv() {
            Ok(answer) => answer.map_err(SwapRefusal::Job),
            Err(_) => Err(SwapRefusal::Job(
                "the job ended before it could do that; its last checkpoint is kept".to_owned(),
            )),
        }
    }
}

fn check(wish: &Wish) -> Result<(), SwapRefusal> {
    let refuse = |reason: String| Err(SwapRefusal::Job(reason));
    if wish.plugins.is_empty() {
        return refuse("no operator is named whose plugin is to be replaced".to_owned());
    }
    for (at, new) in wish.plugins.iter().enumerate() {
        let mut before = wish.plugins[..at].iter();
        if before.any(|other| other.operator == new.operator) {
            return refuse(format!("operator `{}` is named twice", new.operator));
        }
    }
    if wish.trial.is_some_and(|trial| trial > TRIAL_MAX) {
        return refuse("a trial takes at most a day".to_owned());
    }
    if wish.shadow > SHADOW_MAX {
        return refuse(format!("a shadow run has at most {SHADOW_MAX} records"));
    }
    Ok(())
}

fn operator_of<'a>(plan: &'a Plan, name: &str) -> Result<(usize, &'a Operator), SwapRefusal> {
    let mut nodes = plan.nodes.iter().enumerate();
    let found = nodes.find_map(|(index, node)| match &node.role {
        Role::Operator(operator) if node.name == name => Some((index, operator)),
        _ => None,
    });
    found.ok_or_else(|| {
        SwapError::NoOperator {
            operator: name.to_owned(),
        }
        .into()
    })
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The saved states of a plugin that count, newest version first; those that were left behind have no name.
fn named(schemas: &[StateSchema]) -> impl Iterator<Item = &StateSchema> {
    schemas.iter().filter(|schema| !schema.name.is_empty())
}
