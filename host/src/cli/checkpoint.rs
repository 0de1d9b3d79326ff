//! `floodmark checkpoint`: looks into the checkpoints of a job that is not running. Nothing here changes one.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Failure;
use super::failure::EXIT_DATA;
use super::job::JobArguments;
use super::number::{bytes, count, date, things};
use super::table::table;
use crate::checkpoint::store::{CheckpointStore, VerifyReport};
use crate::checkpoint::{
    Checkpoint, CheckpointReader, CheckpointStorage, OperatorSnapshot, Split, StoreSettings,
    Trigger,
};
use crate::connector::{file_source, generator};
use crate::edge::control::Request;
use crate::edge::data_dir::DataDir;
use crate::pipeline::identity::field;
use crate::state::ChunkRef;
use crate::stream::CheckpointId;

#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the names say it, and the help texts are on the arguments"
)]
pub enum CheckpointCommand {
    /// Lists the checkpoints, newest first
    List(Folder),
    /// Shows what a checkpoint holds: positions, state, output and plugins
    #[command(mut_arg("id", |id| id.help("The checkpoint; the newest one unless named")))]
    Show(Chosen),
    /// Has a running job take a checkpoint now, and waits for it
    Trigger(JobArguments),
    /// Compares every byte with its checksum: of one checkpoint, or of all, and then the store's books as well
    #[command(mut_arg("id", |id| id.help("The checkpoint; all of them unless named")))]
    Verify(Chosen),
}

/// Where the checkpoints are.
#[derive(Debug, Args)]
pub struct Folder {
    /// The data folder of the job: `.floodmark/NAME` beside the pipeline file, unless `run` was told otherwise. The job must
    /// not be running
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Which checkpoint.
#[derive(Debug, Args)]
pub struct Chosen {
    /// The checkpoint
    #[arg(value_name = "ID")]
    id: Option<u64>,
    #[command(flatten)]
    folder: Folder,
}

/// Carries the command out.
///
/// # Errors
/// When the data folder cannot be read, or `verify` has found damage.
pub fn checkpoint(command: &CheckpointCommand) -> Result<(), Failure> {
    match command {
        CheckpointCommand::List(folder) => list(folder),
        CheckpointCommand::Show(chosen) => show(chosen),
        CheckpointCommand::Trigger(job) => trigger(job),
        CheckpointCommand::Verify(chosen) => verify(chosen),
    }
}

fn trigger(job: &JobArguments) -> Result<(), Failure> {
    let id = job.place()?.ask(&Request::Checkpoint { savepoint: None })?;
    print(&format!("checkpoint {id} completed\n"))
}

fn open(data_dir: &Path) -> Result<(DataDir, Arc<dyn CheckpointReader>), Failure> {
    let dir = DataDir::open_existing(data_dir)
        .map_err(|error| Failure::new(EXIT_DATA, error.to_string()))?;
    let store = CheckpointStore::open_existing(dir.checkpoints(), StoreSettings::default())?;
    Ok((dir, store.reader()))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(|error| Failure::of_output(&error))
}

fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

fn list(folder: &Folder) -> Result<(), Failure> {
    let (_lock, store) = open(&folder.data_dir)?;
    let listed = store.list()?;
    if folder.json {
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
            Err(error) => damage += &format!("checkpoint {id} is damaged: {error}\n"),
            Ok(checkpoint) => rows.push(vec![
                id.to_string(),
                date(checkpoint.created_ms),
                why(checkpoint.trigger).to_owned(),
                count(checkpoint.records_in),
                count(checkpoint.records_out),
                bytes(state_bytes(checkpoint)),
                checkpoint.parallelism.to_string(),
            ]),
        }
    }
    print(&(table(&rows) + &damage))
}

pub(super) fn why(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Periodic => "interval",
        Trigger::Asked => "asked for",
        Trigger::Stop => "stop",
        Trigger::Final => "end of input",
    }
}

fn chunks(operator: &OperatorSnapshot) -> BTreeSet<(u64, u32)> {
    let all = operator.tasks.iter().flat_map(|task| &task.chunks);
    all.map(|ChunkRef { id, len }| (id.0, *len)).collect()
}

fn operator_bytes(operator: &OperatorSnapshot) -> u64 {
    chunks(operator)
        .iter()
        .map(|(_, len)| u64::from(*len))
        .sum()
}

fn state_bytes(checkpoint: &Checkpoint) -> u64 {
    checkpoint.operators.iter().map(operator_bytes).sum()
}

fn summary(checkpoint: &Checkpoint) -> Value {
    json!({
        "id": checkpoint.id.0,
        "created-ms": checkpoint.created_ms,
        "created": date(checkpoint.created_ms),
        "trigger": why(checkpoint.trigger),
        "job": checkpoint.job,
        "parallelism": checkpoint.parallelism,
        "max-parallelism": checkpoint.max_parallelism.get(),
        "records-in": checkpoint.records_in,
        "records-out": checkpoint.records_out,
        "state-bytes": state_bytes(checkpoint),
    })
}

fn show(chosen: &Chosen) -> Result<(), Failure> {
    let (_lock, store) = open(&chosen.folder.data_dir)?;
    let id = match chosen.id {
        Some(id) => CheckpointId(id),
        None => match store.list()?.first() {
            Some((newest, _)) => *newest,
            None => {
                return Err(Failure::new(
                    EXIT_DATA,
                    "there are no checkpoints yet; run the job first",
                ));
            }
        },
    };
    let checkpoint = store.read(id)?;
    if chosen.folder.json {
        print_json(&detail(&checkpoint))
    } else {
        print(&page(&checkpoint))
    }
}

/// A split and its position: which connector it is of, the job's identity tells.
fn describe_split(checkpoint: &Checkpoint, source: &str, split: &Split) -> String {
    let connector = field(&checkpoint.identity, &format!("source.{source}.connector"));
    match connector.as_deref() {
        Some("file") => file_source::describe(split),
        Some("generator") => generator::describe(split),
        _ => things(split.0.len() as u64, "byte"),
    }
}

fn page(checkpoint: &Checkpoint) -> String {
    let mut text = format!(
        "checkpoint {} of job `{}`\n  taken        {} ({})\n  records      {} in, {} out\n  parallelism  {} of at most {}\n",
        checkpoint.id,
        checkpoint.job,
        date(checkpoint.created_ms),
        why(checkpoint.trigger),
        count(checkpoint.records_in),
        count(checkpoint.records_out),
        checkpoint.parallelism,
        checkpoint.max_parallelism.get(),
    );
    for source in &checkpoint.sources {
        text += &format!("source `{}`\n", source.name);
        for split in &source.splits {
            text += &format!("  {}\n", describe_split(checkpoint, &source.name, split));
        }
    }
    for operator in &checkpoint.operators {
        let chunks = chunks(operator).len() as u64;
        text += &format!(
            "operator `{}`\n  plugin  sha256 {}\n",
            operator.name, operator.plugin
        );
        for state in &operator.states {
            text += &format!("  state   `{}`, version {}\n", state.name, state.version);
        }
        if !operator.states.is_empty() {
            text += &format!(
                "  size    {} in {}\n",
                bytes(operator_bytes(operator)),
                things(chunks, "chunk")
            );
        }
    }
    for sink in &checkpoint.sinks {
        text += &format!(
            "sink `{}`\n  {} handed over\n",
            sink.name,
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
        let states = operator.states.iter().map(|state| json!({ "name": state.name, "version": state.version }));
        let tasks = operator.tasks.iter().map(|task| {
            let chunks: Vec<_> = task.chunks.iter().map(|chunk| json!({ "id": chunk.id.0, "len": chunk.len })).collect();
            json!({ "key-groups": [task.key_groups.0.start, task.key_groups.0.end], "chunks": chunks })
        });
        json!({
            "name": operator.name,
            "plugin": operator.plugin.to_string(),
            "states": states.collect::<Value>(),
            "state-bytes": operator_bytes(operator),
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

fn verify(chosen: &Chosen) -> Result<(), Failure> {
    let (_lock, store) = open(&chosen.folder.data_dir)?;
    let report = store.verify(chosen.id.map(CheckpointId))?;
    if chosen.folder.json {
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
    Err(Failure::new(
        EXIT_DATA,
        "damage was found; `floodmark run` goes on from the newest checkpoint that is sound",
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
                    problems.join("; ")
                )
            }
        }
    }
    for problem in &report.problems {
        text += &format!("the store: {problem}\n");
    }
    text + &format!(
        "{} read, {}\n",
        things(report.chunks as u64, "chunk"),
        bytes(report.chunk_bytes)
    )
}
