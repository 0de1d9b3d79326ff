//! Prepares and requests a swap of plugins in a running job, on the thread that handles the request, while the job
//! keeps running.
//!
//! ```text
//!   load ─▶ compare ports and states ─▶ rehearse on saved state ─▶ shadow ─▶ open one instance per task ─▶ the job
//! ```
//!
//! Until the last step the job is not touched, and a refusal changes nothing. `runtime::swap` does the swap at the
//! barrier. If the job changes while a swap is prepared, the job refuses the swap.

mod compare;
mod desk;
mod end;
mod refusal;
mod rehearse;
mod shadow;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::compare::{StateCompatibility, StateRow, compare, refuse_states};
use self::desk::SwapToken;
pub use self::desk::{SwapDesk, SwapStep};
pub use self::refusal::SwapRefusal;
pub use self::rehearse::{Rehearsal, RehearsalExtent, Rehearsed, count_held_back};
pub use self::shadow::Shadow;
use super::clock::Clock;
use super::drive::{Inputs, ask, request};
use crate::guest::{GuestEngine, Plugin};
use crate::job::{Caller, Refusal, Request, SwapRequest};
use crate::pipeline::suggestions;
use crate::runtime::plan::{Node, NodeIndex, Operator, Plan, Role, Scratch};
use crate::runtime::swap::{PreparedSwap, Running, Stopwatch};
use floodmark_checkpoint::{Checkpoint, CheckpointReader, PluginChoice};
use floodmark_state::StateSchema;

/// A checkpoint, and a reader of its storage.
type Readable = (Arc<dyn CheckpointReader>, Checkpoint);

/// Largest number of checkpoints to try, if the job retires them meanwhile.
const PROVE_ATTEMPTS_MAX: u32 = 10;
/// Longest trial.
const TRIAL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Largest number of records in a shadow run.
const SHADOW_MAX: u64 = 10_000_000;

/// Swaps plugins of one running job.
#[derive(Clone)]
pub struct Swapper {
    /// Compiles the new plugins.
    pub engine: GuestEngine,
    /// Sends requests to the job.
    pub inputs: Inputs,
    /// Opens the job's checkpoints; `None` once the job has ended.
    pub reader: Arc<dyn Fn() -> Option<Arc<dyn CheckpointReader>> + Send + Sync>,
    /// Creates files for state that is read for rehearsals.
    pub scratch: Scratch,
    /// Measures durations.
    pub clock: Clock,
    /// Notes the swap that is under way. Clones of a swapper share it.
    pub desk: SwapDesk,
}

/// A new plugin for an operator.
#[derive(Debug, Clone)]
pub struct NewPlugin {
    /// The operator's name in the pipeline.
    pub operator: String,
    /// The component; empty to keep the plugin and change its configuration.
    pub component: Vec<u8>,
    /// Fields of the configuration that change.
    pub config: Vec<(String, String)>,
    /// Fields of the configuration that are left out.
    pub without: Vec<String>,
}

/// A request to swap plugins.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The plugins, all swapped at one barrier.
    pub plugins: Vec<NewPlugin>,
    /// Number of records that both plugins process side by side first; 0 for none.
    pub shadow: u64,
    /// Whether to stop before anything changes.
    pub dry_run: bool,
    /// The trial period, in which a failure reverts the swap; `None` for no trial.
    pub trial: Option<Duration>,
    /// Whether to drop state that a new plugin no longer declares.
    pub allow_dropped_state: bool,
    /// How much of the saved state is tried.
    pub rehearse: RehearsalExtent,
    /// The client, if [`Swapper::cancel_of`] may cancel the swap: a number that no other swap of the job has.
    pub client: Option<u64>,
}

/// The findings and the result of a swap.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Findings {
    /// The findings by operator.
    pub operators: Vec<OperatorComparison>,
    /// The shadow runs by operator, if requested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<Shadow>,
    /// The result; `None` in a dry run, and if nothing had to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<CompletedSwap>,
}

/// The findings about one operator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OperatorComparison {
    /// The operator's name in the pipeline.
    pub operator: String,
    /// The old plugin, by the SHA-256 of its component.
    pub before: String,
    /// The new plugin, by the SHA-256 of its component.
    pub plugin: String,
    /// The name and version that the new plugin declares.
    pub name: String,
    /// Whether plugin and configuration are the same as before.
    pub is_same: bool,
    /// Microseconds to compile it, or to load compiled code.
    pub compiled_us: u64,
    /// The effect of the swap on each state.
    pub states: Vec<StateRow>,
    /// The rehearsal on saved state, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsed>,
}

/// A completed swap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CompletedSwap {
    /// The checkpoint at whose barrier the plugins were swapped.
    pub checkpoint: u64,
    /// The checkpoint before it, which belongs to the old plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The longest pause of a worker for the swap, in microseconds.
    pub pause_us: u64,
    /// The pause of each worker, in microseconds.
    pub pauses_us: Vec<u64>,
    /// Time from the request until the swap was durable, in microseconds.
    pub total_us: u64,
    /// The trial period, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial_ms: Option<u64>,
}

/// The operator with another plugin and configuration; it keeps a note of what the pipeline file names.
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

/// The choice that a new one replaces: the one in the pipeline file; `None` if the new one is the same.
#[must_use]
pub fn replaced_by(
    old: PluginChoice,
    old_replaces: Option<PluginChoice>,
    new: &PluginChoice,
) -> Option<PluginChoice> {
    Some(old_replaces.unwrap_or(old)).filter(|of_file| of_file != new)
}

/// A configuration with some fields changed, and others left out.
#[must_use]
pub fn configured(
    config: &[(String, String)],
    changes: &[(String, String)],
    without: &[String],
) -> Vec<(String, String)> {
    let kept = config.iter().filter(|(key, _)| !without.contains(key));
    let all = kept.chain(changes).cloned();
    let fields: std::collections::BTreeMap<_, _> = all.collect();
    fields.into_iter().collect()
}

/// Refuses to leave fields out that a configuration does not have.
///
/// # Errors
/// [`SwapRefusal::UnknownField`] for the first of them, with those that are there.
pub fn refuse_unknown(
    operator: &str,
    config: &[(String, String)],
    without: &[String],
) -> Result<(), SwapRefusal> {
    let is_there = |field: &str| config.iter().any(|(name, _)| name == field);
    let Some(field) = without.iter().find(|field| !is_there(field)) else {
        return Ok(());
    };
    let names: Vec<String> = config.iter().map(|(name, _)| format!("`{name}`")).collect();
    Err(SwapRefusal::UnknownField {
        operator: operator.to_owned(),
        field: field.clone(),
        hint: match names.is_empty() {
            true => ", which is empty".to_owned(),
            false => format!("; there are {}", names.join(", ")),
        },
    })
}

impl Swapper {
    /// Checks that the plugins fit, and swaps them.
    ///
    /// # Errors
    /// When they do not fit or the swap cannot be done. The job then has its old plugins and state.
    pub fn swap(&self, wish: &Wish) -> Result<Findings, SwapRefusal> {
        check(wish)?;
        let token = self
            .desk
            .begin(self.clock.now(), self.inputs.haste(), wish.client)?;
        let prepared = self.prepare(&token, wish);
        // A compiler or a read that was ended has an error of its own.
        let (mut findings, prepared) = prepared.map_err(|refusal| token.end.cause_of(refusal))?;
        let Some(prepared) = prepared else {
            return Ok(findings);
        };
        // The old plugins are freed here and not by a worker.
        let held = prepared.hold();
        let clock = self.clock;
        let stopwatch: Stopwatch = Arc::new(move || clock.now());
        let (caller, answer) = Caller::new();
        let asked = Request::Swap(Box::new(SwapRequest {
            prepared,
            trial: wish.trial,
            stopwatch,
            caller,
        }));
        token.hand_over(SwapStep::Requested, || request(&self.inputs, asked))?;
        // A job that has ended drops the caller.
        let swapped = answer.recv().unwrap_or(Err(Refusal::Ended))?;
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

    /// Does all that the job need not take part in. Returns no swap for a dry run, and if nothing has to change.
    fn prepare(
        &self,
        token: &SwapToken,
        wish: &Wish,
    ) -> Result<(Findings, Option<PreparedSwap>), SwapRefusal> {
        let mut running = self.ask(Request::Describe)?;
        let mut findings = Findings::default();
        let mut operators = Vec::new();
        for new in &wish.plugins {
            token.enter(SwapStep::Compares {
                operator: new.operator.clone(),
            })?;
            let (found, operator) = self.look_at((token, wish), new, &running)?;
            if !found.is_same {
                operators.push((new.operator.clone(), operator));
            }
            findings.operators.push(found);
        }
        if operators.is_empty() {
            return Ok((findings, None));
        }
        if running.newest.is_none() {
            token.enter(SwapStep::TakesCheckpoint)?;
            running.newest = Some(self.ask(Request::Checkpoint)?);
        }
        self.prove(token, wish, &running, &operators, &mut findings)?;
        token.enter(SwapStep::Opens)?;
        let prepared = PreparedSwap::new(&running, operators, wish.allow_dropped_state)?;
        Ok((findings, (!wish.dry_run).then_some(prepared)))
    }

    /// Cancels the swap under way: at once while it is prepared, and as long as the job has not begun its checkpoint.
    /// Returns what it does, and whether it was cancelled; `None` if there is none.
    ///
    /// # Errors
    /// When the job has ended.
    pub fn cancel(&self) -> Result<Option<(SwapStep, bool)>, SwapRefusal> {
        self.cancel_if(|_| true)
    }

    /// As [`Swapper::cancel`], if the swap under way is of this client.
    ///
    /// # Errors
    /// As [`Swapper::cancel`].
    pub fn cancel_of(&self, client: u64) -> Result<Option<(SwapStep, bool)>, SwapRefusal> {
        self.cancel_if(|of| of == Some(client))
    }

    fn cancel_if(
        &self,
        is_meant: impl FnOnce(Option<u64>) -> bool,
    ) -> Result<Option<(SwapStep, bool)>, SwapRefusal> {
        let (caller, answer) = Caller::new();
        let withdraw = || request(&self.inputs, Request::WithdrawSwap(caller));
        let Some(step) = self.desk.cancel(is_meant, withdraw) else {
            return Ok(None);
        };
        let is_withdrawn = match step {
            // A job that has ended drops the caller.
            SwapStep::Requested => answer.recv().unwrap_or(Err(Refusal::Ended))?,
            _ => true,
        };
        Ok(Some((step, is_withdrawn)))
    }

    fn look_at(
        &self,
        (token, wish): (&SwapToken, &Wish),
        new: &NewPlugin,
        running: &Running,
    ) -> Result<(OperatorComparison, Operator), SwapRefusal> {
        let (node, old) = operator_of(&running.plan, &new.operator)?;
        let begun = self.clock.now();
        let plugin = match new.component.is_empty() {
            true => Arc::clone(&old.plugin),
            false => {
                let engine = self.engine.cancelled_by(&token.end.cancellation);
                let limits = old.plugin.limits();
                Arc::new(engine.load_within(&new.operator, &new.component, limits)?)
            }
        };
        let compiled = self.clock.now().saturating_sub(begun);
        refuse_unknown(&new.operator, &old.config, &new.without)?;
        let config = configured(&old.config, &new.config, &new.without);
        let operator = succeed(old, plugin, config);
        let mut states = compare(&new.operator, &operator.plugin, &running.schemas[node.0])?;
        self.count_held_back(token, &new.operator, &mut states);
        refuse_states(&new.operator, &states, wish.allow_dropped_state)?;
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

    /// Counts the keys of versions that hold a swap back. Without a checkpoint that can be read they are not counted.
    fn count_held_back(&self, token: &SwapToken, operator: &str, states: &mut [StateRow]) {
        let is_held_back = states.iter().any(|row| row.held_back_by().is_some());
        if is_held_back && let Ok((reader, checkpoint)) = self.newest(token) {
            count_held_back((&reader, &checkpoint), operator, states, &self.scratch);
        }
    }

    /// Tries the plugins on a checkpoint. If the job retires it meanwhile, the next one is tried.
    fn prove(
        &self,
        token: &SwapToken,
        wish: &Wish,
        running: &Running,
        operators: &[(String, Operator)],
        findings: &mut Findings,
    ) -> Result<(), SwapRefusal> {
        for _ in 0..PROVE_ATTEMPTS_MAX {
            let (reader, checkpoint) = self.newest(token)?;
            findings.shadows.clear();
            let on = (&reader, &checkpoint);
            let proven = self.prove_on((token, wish), running, operators, on, findings);
            let is_over = proven.as_ref().is_err_and(SwapRefusal::ends_attempts);
            if is_over || proven.is_ok() || reader.read(checkpoint.id).is_ok() {
                return proven;
            }
        }
        Err(SwapRefusal::Retired)
    }

    fn prove_on(
        &self,
        (token, wish): (&SwapToken, &Wish),
        running: &Running,
        operators: &[(String, Operator)],
        (reader, checkpoint): (&Arc<dyn CheckpointReader>, &Checkpoint),
        findings: &mut Findings,
    ) -> Result<(), SwapRefusal> {
        for (name, operator) in operators {
            let begun = self.clock.now();
            let rehearsal = Rehearsal {
                reader,
                checkpoint,
                name,
                operator,
                extent: wish.rehearse,
                scratch: &self.scratch,
            };
            let mut rehearsed = rehearsal.run(&mut |values| {
                token.enter(SwapStep::Rehearses {
                    operator: name.clone(),
                    values,
                })
            })?;
            rehearsed.took_us = micros(self.clock.now().saturating_sub(begun));
            let mut found = findings.operators.iter_mut();
            if let Some(found) = found.find(|found| found.operator == *name) {
                found.rehearsed = Some(rehearsed);
            }
        }
        if wish.shadow > 0 {
            for (name, operator) in operators {
                token.enter(SwapStep::Shadows {
                    operator: name.clone(),
                })?;
                let other = (name.as_str(), operator);
                let shadow =
                    shadow::shadow((token, wish), &running.plan, reader, checkpoint, other)?;
                findings.shadows.push(shadow);
            }
        }
        Ok(())
    }

    /// The newest checkpoint at this moment. No chunk is read once the swap must end.
    fn newest(&self, token: &SwapToken) -> Result<Readable, SwapRefusal> {
        let reader = (self.reader)().ok_or(SwapRefusal::JobOver)?;
        let listed = reader.list();
        let listed = listed.map_err(|source| SwapRefusal::Unlistable { source })?;
        let checkpoint = listed.into_iter().find_map(|(_, manifest)| manifest.ok());
        let checkpoint = checkpoint.ok_or(SwapRefusal::NoneSound)?;
        Ok((token.end.reader(reader), checkpoint))
    }

    fn ask<T>(&self, wish: impl FnOnce(Caller<T>) -> Request) -> Result<T, SwapRefusal> {
        Ok(ask(&self.inputs, wish)?)
    }
}

fn check(wish: &Wish) -> Result<(), SwapRefusal> {
    if wish.plugins.is_empty() {
        return Err(SwapRefusal::NoOperator);
    }
    for (at, new) in wish.plugins.iter().enumerate() {
        let mut before = wish.plugins[..at].iter();
        if before.any(|other| other.operator == new.operator) {
            return Err(SwapRefusal::OperatorTwice {
                operator: new.operator.clone(),
            });
        }
    }
    if wish.trial.is_some_and(|trial| trial > TRIAL_MAX) {
        return Err(SwapRefusal::TrialTooLong);
    }
    if wish.shadow > SHADOW_MAX {
        return Err(SwapRefusal::ShadowTooLong);
    }
    Ok(())
}

fn operator_of<'a>(plan: &'a Plan, name: &str) -> Result<(NodeIndex, &'a Operator), SwapRefusal> {
    let mut nodes = plan.indexed_nodes();
    let found = nodes.find_map(|(index, node)| match &node.role {
        Role::Operator(operator) if node.name == name => Some((index, operator)),
        _ => None,
    });
    found.ok_or_else(|| {
        let is_operator = |node: &&Node| matches!(node.role, Role::Operator(_));
        let operators = plan.nodes.iter().filter(is_operator);
        let names: Vec<&str> = operators.map(|node| node.name.as_str()).collect();
        SwapRefusal::UnknownOperator {
            operator: name.to_owned(),
            hint: suggestions::hint(name, names),
        }
    })
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The saved states of a plugin, newest version first, without those that were dropped, which have no name.
fn named(schemas: &[StateSchema]) -> impl Iterator<Item = &StateSchema> {
    schemas.iter().filter(|schema| !schema.name.is_empty())
}
