//! Reports where a job resumes, and refuses checkpoints of another pipeline.

use std::time::Duration;

use super::number::{date, span, things};
use super::{EngineError, Say, storage};
use crate::connector::Guarantee;
use crate::edge::clock::Clock;
use crate::edge::data_dir::DataDir;
use crate::pipeline::{Spec, difference, takeover};
use crate::runtime::plan::{Operator, Plan, Role};
use floodmark_checkpoint::Checkpoint;
use floodmark_checkpoint::store::{Recovery, StoreError};

/// Reports where the job starts; refuses checkpoints of another pipeline.
pub fn tell_recovery(
    recovery: &Recovery,
    is_carried: bool,
    plan: &Plan,
    data_dir: &DataDir,
    clock: Clock,
    say: &Say,
) -> Result<(), EngineError> {
    for (id, reason) in &recovery.damaged {
        say(&format!(
            "warning: checkpoint {id} is damaged and skipped: {reason}"
        ));
    }
    if let Some(aside) = &recovery.set_aside {
        say(&format!(
            "warning: the checkpoint store was damaged ({}); the job continues in a new one, and the damaged one is kept as `{}`: delete it once you no longer need it",
            aside.reason,
            aside.path.display()
        ));
    }
    let Some(restored) = &recovery.restored else {
        let job = &plan.job;
        say(&format!(
            "job `{job}` starts from the beginning; checkpoints are written to {}",
            data_dir.path().display()
        ));
        return Ok(());
    };
    let checkpoint = &restored.checkpoint;
    let changes = check(checkpoint, is_carried, plan, data_dir)?;
    let age = Duration::from_millis(clock.wall_ms().saturating_sub(checkpoint.created_ms));
    say(&format!(
        "job `{}` resumes from checkpoint {}, taken at {} ({} ago): {} in, {} out so far",
        checkpoint.job,
        checkpoint.id,
        date(checkpoint.created_ms),
        span(age),
        things(checkpoint.records_in, "record"),
        things(checkpoint.records_out, "record"),
    ));
    for change in changes {
        say(&change);
    }
    tell_changes(checkpoint, plan, say);
    Ok(())
}

/// Checks that the checkpoint belongs to this pipeline. Returns the differences that are allowed, for the user.
pub fn check(
    checkpoint: &Checkpoint,
    is_carried: bool,
    plan: &Plan,
    data_dir: &DataDir,
) -> Result<Vec<String>, EngineError> {
    let refuse = |message: String| EngineError::data(message);
    let id = checkpoint.id;
    if !is_carried && checkpoint.job != plan.job {
        return Err(refuse(format!(
            "the checkpoints there belong to job `{}`, but this is job `{}`; give each job its own place with `checkpoint.storage` or `--data-dir`, or forget them with `--fresh`",
            checkpoint.job, plan.job
        )));
    }
    // A carried checkpoint is from a run that continued elsewhere, or from another graph. The same holds for one that
    // was imported by a run that died before its first own checkpoint.
    let is_carried = is_carried
        || (!checkpoint.data_folder.is_empty() && checkpoint.data_folder != plan.data_folder);
    let mut changes = Vec::new();
    if is_carried || plan.allow_dropped_state {
        changes = takeover(&checkpoint.identity, &plan.identity).map_err(|reason| {
            refuse(format!(
                "checkpoint {id} cannot be taken over by this pipeline: {reason}"
            ))
        })?;
    } else if let Some(difference) = difference(&checkpoint.identity, &plan.identity) {
        return Err(refuse(format!(
            "the data folder `{}` holds checkpoints of another pipeline: {difference}; use another `--data-dir`, or `--fresh` to forget these checkpoints and start over",
            data_dir.path().display()
        )));
    }
    let dropped = dropped(checkpoint, plan);
    if !dropped.is_empty() && !plan.allow_dropped_state {
        return Err(refuse(format!(
            "checkpoint {id} has state that this pipeline does not declare: {}; restore the operator or state, or leave it behind with `--allow-dropped-state`",
            dropped.join(", ")
        )));
    }
    changes.extend(
        dropped
            .iter()
            .map(|state| format!("warning: {state} is left behind")),
    );
    Ok(changes)
}

/// The saved states that no operator of the pipeline declares.
pub(super) fn dropped(checkpoint: &Checkpoint, plan: &Plan) -> Vec<String> {
    let mut dropped = Vec::new();
    for saved in &checkpoint.operators {
        let plugin = plan.nodes.iter().find_map(|node| match &node.role {
            Role::Operator(Operator { plugin, .. }) if node.name == saved.name => Some(plugin),
            _ => None,
        });
        let declared = plugin.map_or(&[][..], |plugin| &plugin.description().states);
        // States without a name were left behind before.
        let states = saved.states.iter().filter(|state| !state.name.is_empty());
        let gone = states.filter(|state| declared.iter().all(|now| now.name != state.name));
        dropped.extend(
            gone.map(|state| format!("state `{}` of operator `{}`", state.name, saved.name)),
        );
    }
    dropped
}

/// Reports the plugins and configurations that differ from those of the checkpoint.
fn tell_changes(checkpoint: &Checkpoint, plan: &Plan, say: &Say) {
    if checkpoint.scale.parallelism != plan.parallelism {
        say(&format!(
            "parallelism was {}, now is {}",
            checkpoint.scale.parallelism, plan.parallelism
        ));
    }
    for node in &plan.nodes {
        let saved = checkpoint
            .operators
            .iter()
            .find(|operator| operator.name == node.name);
        if let (Role::Operator(Operator { plugin, .. }), Some(saved)) = (&node.role, saved)
            && plugin.digest() != saved.plugin
            // Replaced plugins are reported elsewhere.
            && saved.replaces.is_none()
        {
            say(&format!("operator `{}`: the plugin has changed", node.name));
        }
    }
}

/// Names the source of standard input, whose earlier input is lost with its process.
pub fn tell_sources(spec: &Spec, has_resumed: bool, say: &Say) {
    for (name, source) in &spec.sources {
        if !source.settings.reads_standard_input() {
            continue;
        }
        say(&match has_resumed {
            true => format!(
                "source `{name}` resumes with what standard input gives now: what an earlier run had read after its last checkpoint is not read again"
            ),
            false => format!(
                "source `{name}` reads standard input: if the process dies, what it had read after its last checkpoint is lost"
            ),
        });
    }
}

/// Names the sources of which the job has taken input that its last checkpoint does not have, and the next run does not get.
pub fn tell_lost_input(plan: &Plan, spec: &Spec, data_dir: &DataDir, say: &Say) {
    let mut sources = spec.sources.values();
    if !sources.any(|source| source.settings.reads_standard_input()) {
        return;
    }
    let reader = storage::reader(&spec.checkpoint.storage, data_dir.path());
    let newest = match reader.and_then(|reader| reader.list()) {
        Ok(listed) => listed.into_iter().find_map(|(_, found)| found.ok()),
        Err(StoreError::Absent { .. }) => None,
        // How much it is cannot be said then.
        Err(_) => return,
    };
    for node in &plan.nodes {
        let Role::Source(source) = &node.role else {
            continue;
        };
        let saved = newest.as_ref().and_then(|checkpoint| {
            let mut saved = checkpoint.sources.iter();
            saved.find(|saved| saved.name == node.name)
        });
        let bytes = source.bytes_lost_behind(saved.map(|saved| &saved.splits[..]));
        if bytes > 0 {
            say(&format!(
                "warning: source `{}`: {} of standard input, which the job had read ahead of its last checkpoint, will not be in the next run",
                node.name,
                things(bytes, "byte"),
            ));
        }
    }
}

/// Names the sinks that may write records twice after a failure.
pub fn tell_sinks(plan: &Plan, say: &Say) {
    for node in &plan.nodes {
        if let Role::Sink(sink) = &node.role
            && sink.guarantee() == Guarantee::AtLeastOnce
        {
            say(&format!(
                "sink `{}` writes at least once: after a failure, records since the last checkpoint are written again",
                node.name
            ));
        }
    }
}
