//! Selects what a resuming job runs: the plugins, configurations and parallelism of its pipeline, or those of its
//! checkpoint.
//!
//! A plugin may have been swapped, and a job rescaled or rolled back, while the pipeline file stayed the same. A
//! checkpoint records what runs from it, and what the pipeline named when it was taken. While the pipeline still names
//! the same, the checkpoint's choice runs; once the pipeline names something else, the pipeline wins. Either is
//! reported. A savepoint is not the job's own: before it is imported, `foreign` refuses it, or notes in it that its plugins
//! replace those of the pipeline.

use std::sync::{Arc, Mutex, PoisonError};

use crate::edge::rollback::{PrepareRollback, PreparedRollback, UnfitCheckpoint, UnfitPlugin};
use crate::edge::rolled_back::RolledBackNote;
use crate::guest::{GuestEngine, Limits, Plugin};
use crate::job::{CanResume, UnfitSource};
use crate::pipeline::difference;
use crate::runtime::plan::{Operator, Plan, Role};
use floodmark_checkpoint::{Checkpoint, CheckpointReader, OperatorSnapshot, PluginChoice, Scale};
use floodmark_state::stream::CheckpointId;

/// The checkpoints of a job while it runs: clients that wait for a copy may outlive it.
pub type LookedAt = Arc<Mutex<Option<Arc<dyn CheckpointReader>>>>;

/// Loads the plugins of checkpoints.
pub struct PluginLoader<'a> {
    /// The checkpoints, which include the components of their plugins.
    pub reader: &'a dyn CheckpointReader,
    /// The engine that compiles the components.
    pub engine: &'a GuestEngine,
}

/// Prepares a rollback of a running job, on the thread of the client's call.
pub struct Preparing {
    /// The plan that the pipeline names.
    pub named: Arc<Plan>,
    /// The engine of the running job, whose instance pool and time limits the plugins share.
    pub engine: GuestEngine,
}

impl Preparing {
    /// A function that prepares one rollback for each call. It refuses once `reader` is empty: the job has ended.
    pub fn rollbacks(self, reader: &LookedAt) -> PrepareRollback {
        let reader = Arc::clone(reader);
        Arc::new(move |to| {
            let reader = reader
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let reader = reader.ok_or(UnfitCheckpoint::JobOver)?;
            let loading = PluginLoader {
                reader: &*reader,
                engine: &self.engine,
            };
            for_rollback(&self.named, to, &loading)
        })
    }
}

/// A plan that resumes from a checkpoint, and the lines to tell the user about it.
pub struct Runs {
    /// The plan of the pipeline, with the plugins and parallelism of the checkpoint where those take precedence.
    pub plan: Plan,
    /// One line for each plugin or parallelism in which pipeline and checkpoint differ, with the one that runs.
    pub says: Vec<String>,
}

/// The plan that resumes from a checkpoint; `plan` is what the pipeline names.
///
/// # Errors
/// When a plugin of the checkpoint cannot replace that of its operator in the pipeline.
pub fn from_checkpoint(
    plan: &Plan,
    checkpoint: &Checkpoint,
    note: Option<&RolledBackNote>,
    loading: &PluginLoader<'_>,
) -> Result<Runs, UnfitPlugin> {
    let mut runs = Runs {
        plan: plan.clone(),
        says: Vec::new(),
    };
    let note = note.filter(|note| note.checkpoint == checkpoint.id);
    for (name, named) in operators(plan) {
        let Some(saved) = saved_of(checkpoint, name) else {
            continue;
        };
        let noted = note.and_then(|note| note.named.get(name));
        let Some(replaced) = noted.or(saved.replaces.as_ref()) else {
            continue;
        };
        let choice = saved.choice();
        if named.choice() == choice {
            continue;
        }
        if named.choice() != *replaced {
            runs.says.push(format!(
                "operator `{name}`: the pipeline no longer names the plugin and configuration that {} replaced, so what the pipeline names is used",
                short(&choice)
            ));
            continue;
        }
        let operator = loading.operator(name, named, saved)?;
        runs.plan = runs.plan.with_operator(name, operator);
        runs.says.push(match choice.plugin == replaced.plugin {
            true => format!(
                "operator `{name}`: continues with the configuration of the checkpoint, in place of that of the pipeline: set another one there to change that"
            ),
            false => format!(
                "operator `{name}`: continues with {}, in place of {}, which the pipeline names: name another there to change that",
                short(&choice),
                short(replaced)
            ),
        });
    }
    let Scale {
        parallelism: was,
        configured_parallelism: configured,
        ..
    } = checkpoint.scale;
    if was != configured && configured == plan.parallelism {
        runs.plan.parallelism = was;
        runs.says.push(format!(
            "parallelism is {was}, since the job was rescaled; the pipeline still says {configured}"
        ));
    }
    Ok(runs)
}

/// Reads, loads and compiles everything that a rollback to the checkpoint runs, and looks whether its sources can resume
/// there; `plan` is what the pipeline names.
///
/// # Errors
/// When the job cannot return to this checkpoint. Nothing has changed then.
pub fn for_rollback(
    plan: &Plan,
    to: CheckpointId,
    loading: &PluginLoader<'_>,
) -> Result<PreparedRollback, UnfitCheckpoint> {
    let reader = loading.reader;
    let checkpoint = reader.read(to)?;
    if let Some(difference) = difference(&checkpoint.identity, &plan.identity) {
        return Err(UnfitCheckpoint::OtherPipeline {
            checkpoint: to,
            difference,
        });
    }
    let report = reader.verify(Some(to))?;
    let found = report.checkpoints.into_iter();
    if let Some(problem) = found.flat_map(|found| found.problems).next() {
        return Err(UnfitCheckpoint::Damaged {
            checkpoint: to,
            problem,
        });
    }
    let can_resume = can_resume(plan, &checkpoint);
    can_resume().map_err(|reason| UnfitCheckpoint::Source {
        checkpoint: to,
        reason,
    })?;
    let mut operators_then = Vec::new();
    let mut note = RolledBackNote {
        checkpoint: to,
        named: Default::default(),
    };
    for (name, named) in operators(plan) {
        note.named.insert(name.to_owned(), named.choice());
        let operator = match saved_of(&checkpoint, name) {
            Some(saved) => loading.operator(name, named, saved)?,
            None => named.clone(),
        };
        operators_then.push((name.to_owned(), operator));
    }
    Ok(PreparedRollback {
        says: replacements(&operators_then),
        operators: operators_then,
        note,
        can_resume,
    })
}

/// Looks, at each call, whether the sources of a plan can resume at the positions of a checkpoint.
fn can_resume(plan: &Plan, checkpoint: &Checkpoint) -> CanResume {
    let positions = plan.nodes.iter().filter_map(|node| match &node.role {
        Role::Source(source) => {
            let mut saved = checkpoint.sources.iter();
            let saved = saved.find(|saved| saved.name == node.name)?;
            Some((node.name.clone(), Arc::clone(source), saved.splits.clone()))
        }
        Role::Operator(_) | Role::Sink(_) => None,
    });
    let positions: Vec<_> = positions.collect();
    Arc::new(move || {
        for (name, source, splits) in &positions {
            source.can_resume(splits).map_err(|reason| UnfitSource {
                name: name.clone(),
                reason: Box::new(reason),
            })?;
        }
        Ok(())
    })
}

/// A line for the user about each operator that differs from what the pipeline names.
fn replacements(operators: &[(String, Operator)]) -> Vec<String> {
    let replaced = operators.iter().filter_map(|(name, operator)| {
        let replaced = operator.replaces.as_ref()?;
        let choice = operator.choice();
        Some(match choice.plugin == replaced.plugin {
            true => format!(
                "operator `{name}`: continues with another configuration than the pipeline names"
            ),
            false => format!(
                "operator `{name}`: continues with {} instead of {}, which the pipeline names",
                short(&choice),
                short(replaced)
            ),
        })
    });
    replaced.collect()
}

impl PluginLoader<'_> {
    /// The operator as the checkpoint has it, in place of the one that the pipeline names.
    fn operator(
        &self,
        name: &str,
        named: &Operator,
        saved: &OperatorSnapshot,
    ) -> Result<Operator, UnfitPlugin> {
        let choice = saved.choice();
        if named.choice() == choice {
            return Ok(named.clone());
        }
        let plugin = match named.plugin.digest() == saved.plugin {
            true => Arc::clone(&named.plugin),
            false => Arc::new(self.plugin(name, saved, named.limits)?),
        };
        if let Some(differing) = misfit(&plugin, &named.plugin) {
            return Err(UnfitPlugin::OtherInterface {
                operator: name.to_owned(),
                plugin: choice.plugin,
                differing,
            });
        }
        Ok(Operator {
            plugin,
            config: saved.config.clone(),
            replaces: Some(named.choice()),
            ..named.clone()
        })
    }

    fn plugin(
        &self,
        name: &str,
        saved: &OperatorSnapshot,
        limits: Limits,
    ) -> Result<Plugin, UnfitPlugin> {
        let component = self.reader.plugin(saved.plugin);
        let component = component.map_err(|source| UnfitPlugin::Unreadable {
            operator: name.to_owned(),
            source,
        })?;
        Ok(self.engine.load_within(name, &component, limits)?)
    }
}

/// A difference that keeps one plugin from taking the other's place in the graph.
fn misfit(one: &Plugin, other: &Plugin) -> Option<&'static str> {
    let (one, other) = (one.description(), other.description());
    if one.inputs != other.inputs || one.outputs != other.outputs {
        return Some("ports");
    }
    (one.states.is_empty() != other.states.is_empty()).then_some("needs of state")
}

/// The operators of a plan, with their names.
pub(super) fn operators(plan: &Plan) -> impl Iterator<Item = (&str, &Operator)> {
    plan.nodes.iter().filter_map(|node| match &node.role {
        Role::Operator(operator) => Some((node.name.as_str(), operator)),
        Role::Source(_) | Role::Sink(_) => None,
    })
}

/// An operator of a checkpoint by name.
pub(super) fn saved_of<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<&'a OperatorSnapshot> {
    let mut saved = checkpoint.operators.iter();
    saved.find(|operator| operator.name == name)
}

/// A short name that distinguishes a plugin from others.
pub(super) fn short(choice: &PluginChoice) -> String {
    format!("plugin {:.12}", choice.plugin.to_string())
}
