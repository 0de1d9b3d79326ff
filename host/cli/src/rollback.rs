//! `floodmark rollback`: returns a job permanently to an earlier checkpoint, code and state together.
//!
//! A running job does this itself. For a stopped job, this command deletes the later checkpoints and takes back
//! their output. Plugins of the checkpoint are loaded before anything changes.

use std::num::NonZeroU32;

use clap::Args;
use serde_json::{Value, json};

use super::escape::one_line;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use super::job::JobArguments;
use super::pipeline::read;
use super::print::{print, print_json};
use super::progress::gone;
use super::terminal::Terminal;
use super::typed::checkpoint_id;
use super::{CommandError, PipelineArguments};
use floodmark_checkpoint::crash::{self, Point};
use floodmark_checkpoint::{Depth, delete_after};
use floodmark_control::AskError;
use floodmark_engine::edge::data_dir::DataDir;
use floodmark_engine::edge::later_output::LaterOutput;
use floodmark_engine::pipeline::Spec;
use floodmark_engine::pipeline::settings::CheckpointSection;
use floodmark_engine::runtime::writer::Writer;
use floodmark_engine::session::assemble::assemble;
use floodmark_engine::session::limits::Ticking;
use floodmark_engine::session::number::things;
use floodmark_engine::session::storage;
use floodmark_engine::session::what_runs::{PluginLoader, for_rollback};
use floodmark_state::stream::CheckpointId;

/// Returns a job to an earlier checkpoint and the plugins it ran then; deletes everything after it
///
/// Later checkpoints are deleted, and output written since then is taken back. A running job resumes from the
/// checkpoint at once; a stopped one resumes from it with the next `run`. The plugins and configurations of the
/// checkpoint are used until those in the pipeline file change.
#[derive(Debug, Args)]
pub struct RollbackArguments {
    #[command(flatten)]
    job: JobArguments,
    /// The number of the checkpoint; `floodmark checkpoint list` shows them
    #[arg(long, value_name = "CHECKPOINT", value_parser = checkpoint_id)]
    to: u64,
    /// The `--set` options that `run` is given, if the job does not run
    #[arg(long = "set", value_name = "path.to.field=value")]
    sets: Vec<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint does not exist or is damaged, or its plugins cannot run: nothing has changed then.
pub fn rollback(arguments: &RollbackArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    let done = match place.call("/v1/rollback", &json!({ "to": arguments.to })) {
        Ok(done) => done,
        Err(AskError::NotRunning { .. }) => at_rest(arguments)?,
        Err(error) => return Err(error.into()),
    };
    if arguments.json {
        return print_json(&done);
    }
    let deleted = done["deleted"].as_array().into_iter().flatten();
    let deleted: Vec<_> = deleted
        .filter_map(Value::as_u64)
        .map(CheckpointId)
        .collect();
    let next = match done["checkpoint"].as_u64() {
        Some(id) => format!("the job runs from there; checkpoint {id}"),
        None => "the next run resumes from there".to_owned(),
    };
    let mut text = format!(
        "rolled back to checkpoint {}, {} in; {}; {next}\n",
        done["to"],
        things(done["records-in"].as_u64().unwrap_or_default(), "record"),
        gone(&deleted),
    );
    for line in done["says"].as_array().into_iter().flatten() {
        text += &one_line(line.as_str().unwrap_or_default());
        text.push('\n');
    }
    print(&text)
}

/// Rolls back a job that does not run.
fn at_rest(arguments: &RollbackArguments) -> Result<Value, CommandError> {
    let place = arguments.job.place()?;
    let Some(pipeline) = arguments.job.pipeline() else {
        let message = "the job is not running, so the plugins that its pipeline names must be known; give its pipeline file too";
        return Err(CommandError::new(EXIT_USAGE, message));
    };
    let pipeline = read(&PipelineArguments {
        pipeline,
        sets: arguments.sets.clone(),
        parallelism: None,
    })?;
    let of_data = |reason: String| CommandError::new(EXIT_DATA, reason);
    let held =
        DataDir::open_existing(&place.data_dir).map_err(|error| of_data(error.to_string()))?;
    let guests = Ticking::for_job(
        &pipeline.spec,
        Some(held.compiled()),
        &Terminal::new().saying(),
    )?;
    let data = held.id().map_err(|error| of_data(error.to_string()))?;
    let assembled = assemble(pipeline, &guests.engine, &data, &mut |_| ())?;
    let settings = CheckpointSection {
        storage: place.storage,
        ..assembled.graph.spec.checkpoint.clone()
    };
    let mut store = storage::open_existing(&settings, &held)?;
    let to = CheckpointId(arguments.to);
    let loading = PluginLoader {
        reader: &*store.reader(),
        engine: &guests.engine,
    };
    let prepared = for_rollback(&assembled.plan, to, &loading);
    let prepared = prepared.map_err(|unfit| of_data(unfit.to_string()))?;
    let recovery = store.recover(Depth::Thorough, Some(to))?;
    let written = prepared.note.write(held.path());
    written.map_err(|error| {
        of_data(format!(
            "cannot write into `{}`: {error}; nothing has changed",
            held.path().display()
        ))
    })?;
    let later_output = LaterOutput::of(held.path());
    later_output.note(to)?;
    crash::point(Point::RollbackJoined);
    let later = delete_after(&mut *store, to)?;
    crash::point(Point::RollbackDeleted);
    // Now and not at the next start: a swap may write a checkpoint before, which would take later output for its own.
    let restored = recovery.restored.as_ref();
    Writer::begin(&assembled.plan, store, NonZeroU32::MIN, restored, false)
        .map_err(|failed| failed.error)?;
    later_output.forget();
    let records_in = recovery
        .restored
        .map(|restored| restored.checkpoint.records_in);
    let deleted: Vec<_> = later.iter().map(|id| id.0).collect();
    let mut says = prepared.says;
    says.extend(not_read_again(&assembled.graph.spec, to));
    Ok(json!({
        "to": to.0,
        "deleted": deleted,
        "records-in": records_in.unwrap_or_default(),
        "checkpoint": null,
        "says": says,
    }))
}

/// A line for each source whose input after the checkpoint is gone.
fn not_read_again(spec: &Spec, to: CheckpointId) -> impl Iterator<Item = String> {
    let sources = spec.sources.iter();
    let sources = sources.filter(|(_, source)| source.settings.reads_standard_input());
    sources.map(move |(name, _)| {
        format!(
            "source `{name}` reads standard input: what it had read after checkpoint {to} is not read again"
        )
    })
}
