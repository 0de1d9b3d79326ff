//! `floodmark checkpoint`: lists, shows, verifies, compares, deletes and compacts checkpoints and savepoints.
//!
//! Reading changes nothing and works while the job runs. Deleting and compacting lock the data folder, as a job does.

mod change;
mod diff;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::CommandError;
use super::escape::one_line;
use super::failure::EXIT_DATA;
use super::job::JobArguments;
use super::place::PlaceOrSavepoint;
use super::print::{print, print_json};
use super::table::table;
use floodmark_checkpoint::store::VerifyReport;
use floodmark_checkpoint::{Checkpoint, OperatorSnapshot, SourceSnapshot, Split};
use floodmark_engine::connector::{file_source, generator};
use floodmark_engine::pipeline::duration;
use floodmark_engine::pipeline::identity::field;
use floodmark_engine::session::number::{bytes, count, date, things};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkRef, StateKind, StateSchema};

#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the names say it, and the help texts are on the arguments"
)]
pub enum CheckpointCommand {
    /// Lists the checkpoints, newest first
    List(CheckpointArguments),
    /// Shows the contents of a checkpoint: positions, state, output and plugins
    #[command(mut_arg("id", |id| id.help("The number of the checkpoint [default: the newest one]")))]
    Show(Chosen),
    /// Verifies the checksums of one checkpoint or of all, and the storage's own tables
    #[command(mut_arg("id", |id| id.help("The number of the checkpoint [default: all of them]")))]
    Verify(Chosen),
    /// Takes a checkpoint of a running job now
    Trigger(JobArguments),
    /// Shows the differences between two checkpoints: records, positions, plugins, and the keys of each state
    Diff(diff::Diff),
    /// Deletes checkpoints of a job that does not run
    Delete(change::Delete),
    /// Shrinks the storage file: returns the space of deleted checkpoints to the file system; the job must not run
    Compact(change::Compact),
}

/// Selects the checkpoints, and the output format.
#[derive(Debug, Args)]
pub struct CheckpointArguments {
    #[command(flatten)]
    place: PlaceOrSavepoint,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Selects one checkpoint.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The number of the checkpoint
    #[arg(value_name = "ID", value_parser = super::typed::checkpoint_id)]
    id: Option<u64>,
    #[command(flatten)]
    listing: CheckpointArguments,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoints cannot be read, or `verify` has found damage.
pub fn checkpoint(command: &CheckpointCommand) -> Result<(), CommandError> {
    match command {
        CheckpointCommand::List(listing) => list(listing),
        CheckpointCommand::Show(chosen) => show(chosen),
        CheckpointCommand::Verify(chosen) => verify(chosen),
        CheckpointCommand::Trigger(job) => trigger(job),
        CheckpointCommand::Diff(arguments) => diff::diff(arguments),
        CheckpointCommand::Delete(arguments) => change::delete(arguments),
        CheckpointCommand::Compact(arguments) => change::compact(arguments),
    }
}

fn trigger(job: &JobArguments) -> Result<(), CommandError> {
    let id = job.place()?.take_checkpoint(None)?;
    print(&format!("checkpoint {id} completed\n"))
}

fn list(listing: &CheckpointArguments) -> Result<(), CommandError> {
    let listed = listing.place.open()?.reader.list()?;
    if listing.json {
        let all = listed.iter().map(|(id, found)| match found {
            Ok(checkpoint) => summary(checkpoint),
            Err(damage) => json!({ "id": id.0, "damage": damage.to_string() }),
        });
        return print_json(&all.collect());
    }
    if listed.is_empty() {
        return print("no checkpoints\n");
    }
    let head = [
        "id",
        "taken",
        "why",
        "records in",
        "records out",
        "state",
        "tasks",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut damage = String::new();
    for (id, found) in &listed {
        match found {
            Err(error) => {
                let reason = error.to_string();
                damage += &format!("checkpoint {id} is damaged: {}\n", one_line(&reason));
            }
            Ok(checkpoint) => rows.push(vec![
                id.to_string(),
                date(checkpoint.created_ms),
                checkpoint.trigger.word().to_owned(),
                count(checkpoint.records_in),
                count(checkpoint.records_out),
                bytes(checkpoint.state_bytes()),
                checkpoint.scale.parallelism.to_string(),
            ]),
        }
    }
    print(&(table(&rows) + &damage))
}

/// The kind, version and expiry of a state, in words.
pub(super) fn describe_state(state: &StateSchema) -> String {
    let kind = match state.kind {
        StateKind::Value => "one value per key",
        StateKind::List => "one list per key",
        StateKind::Map => "one map per key",
    };
    let lives = match state.ttl_ms {
        Some(ttl) => format!(
            ", each kept for {} after it was written",
            duration::format(std::time::Duration::from_millis(ttl))
        ),
        None => String::new(),
    };
    format!("{kind}, version {}{lives}", state.version)
}

pub(super) fn state_facts(state: &StateSchema) -> Value {
    let kind = match state.kind {
        StateKind::Value => "value",
        StateKind::List => "list",
        StateKind::Map => "map",
    };
    json!({ "name": state.name, "kind": kind, "version": state.version, "ttl-ms": state.ttl_ms })
}

fn chunks(operator: &OperatorSnapshot) -> BTreeSet<(u64, u32)> {
    let all = operator.tasks.iter().flat_map(|task| &task.chunks);
    all.map(|ChunkRef { id, len }| (id.0, *len)).collect()
}

pub(super) fn summary(checkpoint: &Checkpoint) -> Value {
    json!({
        "id": checkpoint.id.0,
        "created-ms": checkpoint.created_ms,
        "created": date(checkpoint.created_ms),
        "trigger": checkpoint.trigger.word(),
        "job": checkpoint.job,
        "parallelism": checkpoint.scale.parallelism,
        "max-parallelism": checkpoint.scale.max_parallelism.get(),
        "records-in": checkpoint.records_in,
        "records-out": checkpoint.records_out,
        "state-bytes": checkpoint.state_bytes(),
    })
}

fn show(chosen: &Chosen) -> Result<(), CommandError> {
    let checkpoint = chosen.listing.place.open()?.checkpoint(chosen.id)?;
    if chosen.listing.json {
        print_json(&detail(&checkpoint))
    } else {
        print(&page(&checkpoint))
    }
}

/// A split and its position. The job's identity names the connector that the split belongs to.
fn describe_split(checkpoint: &Checkpoint, source: &str, split: &Split) -> String {
    let connector = field(&checkpoint.identity, &format!("source.{source}.connector"));
    match connector.as_deref() {
        Some("file") => file_source::describe(split),
        Some("generator") => generator::describe(split),
        Some("stdin") => file_source::stdin::describe(split),
        // The engine adds such sources to replay dead letters.
        None if source.contains('.') => file_source::describe(split),
        _ => things(split.0.len() as u64, "byte"),
    }
}

/// The positions of a source. One that the engine has added for dead letters is left out while none were replayed.
fn page_of_source(checkpoint: &Checkpoint, source: &SourceSnapshot) -> String {
    let describe = |split| describe_split(checkpoint, &source.name, split);
    let mut splits: Vec<_> = source.splits.iter().map(describe).collect();
    let is_idle = splits.iter().all(|split| split == file_source::WATCHES);
    if is_idle && source.name.contains('.') {
        return String::new();
    }
    // All watches read the same.
    let mut seen = BTreeSet::new();
    splits.retain(|split| split != file_source::WATCHES || seen.insert(split.clone()));
    let mut text = format!("source `{}`\n", one_line(&source.name));
    for split in splits {
        text += &format!("  {}\n", one_line(&split));
    }
    text
}

fn page(checkpoint: &Checkpoint) -> String {
    let mut text = format!(
        "checkpoint {} of job `{}`\n  taken        {} ({})\n  records      {} in, {} out\n  parallelism  {} of at most {}\n",
        checkpoint.id,
        one_line(&checkpoint.job),
        date(checkpoint.created_ms),
        checkpoint.trigger.word(),
        count(checkpoint.records_in),
        count(checkpoint.records_out),
        checkpoint.scale.parallelism,
        checkpoint.scale.max_parallelism.get(),
    );
    for source in &checkpoint.sources {
        text += &page_of_source(checkpoint, source);
    }
    for operator in &checkpoint.operators {
        let chunks = chunks(operator).len() as u64;
        text += &format!(
            "operator `{}`\n  plugin  sha256 {}\n",
            one_line(&operator.name),
            operator.plugin
        );
        for state in &operator.states {
            let name = one_line(&state.name);
            text += &format!("  state   `{name}`: {}\n", describe_state(state));
        }
        if !operator.states.is_empty() {
            text += &format!(
                "  size    {} in {}\n",
                bytes(operator.state_bytes()),
                things(chunks, "chunk")
            );
        }
    }
    for sink in &checkpoint.sinks {
        text += &format!(
            "sink `{}`\n  {} handed over\n",
            one_line(&sink.name),
            things(sink.staged.len() as u64, "part")
        );
    }
    text
}

fn detail(checkpoint: &Checkpoint) -> Value {
    let sources = checkpoint.sources.iter().map(|source| {
        let describe = |split| describe_split(checkpoint, &source.name, split);
        let splits: Vec<_> = source.splits.iter().map(describe).collect();
        json!({ "name": source.name, "splits": splits })
    });
    let operators = checkpoint.operators.iter().map(|operator| {
        let states = operator.states.iter().map(state_facts);
        let tasks = operator.tasks.iter().map(|task| {
            let chunks: Vec<_> = task.chunks.iter().map(|chunk| json!({ "id": chunk.id.0, "len": chunk.len })).collect();
            json!({ "key-groups": [task.key_groups.0.start, task.key_groups.0.end], "chunks": chunks })
        });
        json!({
            "name": operator.name,
            "plugin": operator.plugin.to_string(),
            "states": states.collect::<Value>(),
            "state-bytes": operator.state_bytes(),
            "tasks": tasks.collect::<Value>(),
        })
    });
    let sinks = checkpoint
        .sinks
        .iter()
        .map(|sink| json!({ "name": sink.name, "parts": sink.staged.len() }));
    let mut detail = summary(checkpoint);
    detail["sources"] = sources.collect();
    detail["operators"] = operators.collect();
    detail["sinks"] = sinks.collect();
    detail
}

fn verify(chosen: &Chosen) -> Result<(), CommandError> {
    let opened = chosen.listing.place.open()?;
    let report = opened.reader.verify(chosen.id.map(CheckpointId))?;
    if chosen.listing.json {
        let checkpoints = report.checkpoints.iter().map(|checkpoint| {
            json!({ "id": checkpoint.id.0, "sound": checkpoint.problems.is_empty(), "problems": checkpoint.problems })
        });
        print_json(&json!({
            "sound": report.is_sound(),
            "checkpoints": checkpoints.collect::<Value>(),
            "problems": report.problems,
            "chunks": report.chunks,
            "chunk-bytes": report.chunk_bytes,
        }))?;
    } else {
        print(&findings(&report))?;
    }
    if report.is_sound() {
        return Ok(());
    }
    let next = match opened.is_foreign {
        true => "copy the savepoint again from where it was made",
        false => "`floodmark run` resumes from the newest checkpoint that is sound",
    };
    Err(CommandError::new(
        EXIT_DATA,
        format!("damage was found; {next}"),
    ))
}

fn findings(report: &VerifyReport) -> String {
    let mut text = String::new();
    for checkpoint in &report.checkpoints {
        match checkpoint.problems.as_slice() {
            [] => text += &format!("checkpoint {} is sound\n", checkpoint.id),
            problems => {
                text += &format!(
                    "checkpoint {} is damaged: {}\n",
                    checkpoint.id,
                    one_line(&problems.join("; "))
                )
            }
        }
    }
    for problem in &report.problems {
        text += &format!("the store: {}\n", one_line(problem));
    }
    text + &format!(
        "{} read, {}\n",
        things(report.chunks as u64, "chunk"),
        bytes(report.chunk_bytes)
    )
}
