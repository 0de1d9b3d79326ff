//! `floodmark run`: runs a pipeline, from its newest checkpoint if there is one.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use clap::Args;

use super::assemble::{Assembled, assemble, read};
use super::failure::EXIT_DATA;
use super::number::{date, span, things};
use super::progress::Progress;
use super::terminal::Terminal;
use super::{Failure, PipelineArguments};
use crate::checkpoint::Checkpoint;
use crate::checkpoint::coordinator::{CheckpointSettings, Ending};
use crate::checkpoint::store::{self, CheckpointStore, Recovery};
use crate::checkpoint::{CheckpointStorage, Depth, StoreSettings};
use crate::connector::Guarantee;
use crate::edge::clock::Clock;
use crate::edge::data_dir::DataDir;
use crate::edge::drive::{DriveSettings, Ended, Reports, drive};
use crate::edge::signals::report_stop;
use crate::guest::GuestEngine;
use crate::pipeline::difference;
use crate::runtime::JobError;
use crate::runtime::plan::{Plan, Role};

/// Runs a pipeline; goes on from its newest checkpoint, if there is one
///
/// Plugins that are given as folders are built first. Ctrl-C, SIGTERM and SIGHUP stop the job with a checkpoint, and the same
/// command goes on from there; so it does after a crash, from the last checkpoint that was completed. Output of the file
/// sink appears when a checkpoint completes.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The folder that keeps the job's checkpoints [default: `.floodmark/NAME` beside the pipeline file, NAME being the job's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Forgets this job's checkpoints and removes the output that it has committed, then starts from the beginning
    #[arg(long)]
    fresh: bool,
}

/// Carries the command out.
///
/// # Errors
/// When the job cannot begin or go on. Its last checkpoint is as it was.
pub fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let terminal = Terminal::new();
    let done = run_on(arguments, &terminal);
    terminal.clear();
    let Some((ended, progress)) = done? else {
        terminal.say("stopped: nobody reads the output any more; the last checkpoint is kept");
        return Ok(());
    };
    let totals = progress.totals();
    let (how, next) = match ended.ending {
        Ending::Complete => ("finished", ""),
        Ending::Stopped | Ending::WithoutLastCheckpoint | Ending::TooManyFailures => {
            ("stopped", "; the same command goes on from there")
        }
    };
    if ended.ending == Ending::Complete && totals.records_in == 0 {
        terminal.say("finished: there was nothing new to read");
        return Ok(());
    }
    terminal.say(&format!(
        "{how}: {} in, {} out in {}{}{next}",
        things(totals.records_in, "record"),
        things(totals.records_out, "record"),
        span(totals.elapsed),
        totals
            .last_checkpoint
            .map(|id| format!("; checkpoint {id}"))
            .unwrap_or_default(),
    ));
    for (sink, summary) in ended.summaries {
        terminal.say(&format!("sink `{sink}`: {summary}"));
    }
    Ok(())
}

/// How the job ended; `None` if whoever read its output has gone.
fn run_on(
    arguments: &RunArguments,
    terminal: &Terminal,
) -> Result<Option<(Ended, Progress)>, Failure> {
    let pipeline = read(&arguments.pipeline)?;
    let default = || DataDir::default_path(&pipeline.folder, &pipeline.spec.name);
    let path = arguments.data_dir.clone().unwrap_or_else(default);
    let in_data_dir =
        |error: crate::edge::data_dir::DataDirError| Failure::new(EXIT_DATA, error.to_string());
    let data_dir = DataDir::open(&path).map_err(in_data_dir)?;
    let engine = GuestEngine::new(Some(data_dir.compiled()))?;
    let data = data_dir.id().map_err(in_data_dir)?;
    let assembled = assemble(pipeline, &engine, &data, &mut |line| terminal.say(line))?;
    let clock = Clock::start();
    let channel = mpsc::channel();
    listen(channel.0.clone(), terminal);
    if arguments.fresh {
        check_inputs(&assembled.plan)?;
        store::remove(&data_dir.checkpoints())?;
    }
    let mut store = CheckpointStore::open(data_dir.checkpoints(), StoreSettings::default())?;
    let recovery = store.recover(Depth::Thorough, None)?;
    tell_recovery(&recovery, &assembled, &data_dir, clock, terminal)?;
    tell_sinks(&assembled.plan, terminal);
    let checkpoint = &assembled.graph.spec.checkpoint;
    let settings = DriveSettings {
        checkpoints: CheckpointSettings {
            interval: checkpoint.interval,
            timeout: checkpoint.timeout,
            min_pause: checkpoint.min_pause,
            tolerable_failures: checkpoint.tolerable_failures,
        },
        retained: NonZeroU32::new(checkpoint.retained.into()).unwrap_or(NonZeroU32::MIN),
        fresh: arguments.fresh,
    };
    let mut progress = Progress::new(terminal.clone(), arguments.fresh);
    let ended = drive(
        &assembled.plan,
        Box::new(store),
        recovery,
        settings,
        clock,
        channel,
        &mut progress,
    );
    match ended {
        Ok(ended) => Ok(Some((ended, progress))),
        Err(JobError::Connector { reason, .. }) if reason.is_closed_pipe() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// From here on a signal stops the job with a checkpoint, also one that comes before its first record.
fn listen(reports: Reports, terminal: &Terminal) {
    let teller = terminal.clone();
    let told = move |number| match number {
        1 => teller.say("stopping with a checkpoint; once more to end at once, without one"),
        _ => teller.say("ended at once; the same command goes on from the last checkpoint"),
    };
    if let Err(error) = report_stop(reports, told) {
        terminal.say(&format!(
            "warning: cannot listen for Ctrl-C ({error}): it ends the job without a checkpoint"
        ));
    }
}

/// Nothing is forgotten for a job that cannot begin, such as one with a typo in the path of its input.
fn check_inputs(plan: &Plan) -> Result<(), Failure> {
    for node in &plan.nodes {
        if let Role::Source(source) = &node.role {
            source
                .splits(None)
                .map_err(|error| Failure::from((node.name.as_str(), error)))?;
        }
    }
    Ok(())
}

/// Says where the job starts; refuses checkpoints of another pipeline.
fn tell_recovery(
    recovery: &Recovery,
    assembled: &Assembled,
    data_dir: &DataDir,
    clock: Clock,
    terminal: &Terminal,
) -> Result<(), Failure> {
    for (id, reason) in &recovery.damaged {
        terminal.say(&format!(
            "warning: checkpoint {id} is damaged and passed over: {reason}"
        ));
    }
    if let Some(aside) = &recovery.set_aside {
        terminal.say(&format!(
            "warning: the checkpoint store was damaged ({}); the job goes on in a new one, and the damaged one is kept as `{}`: delete it when nobody needs it",
            aside.reason,
            aside.path.display()
        ));
    }
    let Some(restored) = &recovery.restored else {
        let job = &assembled.plan.job;
        terminal.say(&format!(
            "job `{job}` starts from the beginning; checkpoints go to {}",
            data_dir.path().display()
        ));
        return Ok(());
    };
    let checkpoint = &restored.checkpoint;
    if let Some(difference) = difference(&checkpoint.identity, &assembled.plan.identity) {
        return Err(Failure::new(
            EXIT_DATA,
            format!(
                "the data folder `{}` holds checkpoints of another pipeline: {difference}; use another `--data-dir`, or `--fresh` to forget these checkpoints and start over",
                data_dir.path().display()
            ),
        ));
    }
    let age = Duration::from_millis(clock.wall_ms().saturating_sub(checkpoint.created_ms));
    terminal.say(&format!(
        "job `{}` goes on from checkpoint {}, taken at {} ({} ago): {} in, {} out so far",
        checkpoint.job,
        checkpoint.id,
        date(checkpoint.created_ms),
        span(age),
        things(checkpoint.records_in, "record"),
        things(checkpoint.records_out, "record"),
    ));
    tell_changes(checkpoint, &assembled.plan, terminal);
    Ok(())
}

/// Says what runs otherwise than when the checkpoint was taken.
fn tell_changes(checkpoint: &Checkpoint, plan: &Plan, terminal: &Terminal) {
    if checkpoint.parallelism != plan.parallelism {
        terminal.say(&format!(
            "parallelism was {}, now is {}",
            checkpoint.parallelism, plan.parallelism
        ));
    }
    for node in &plan.nodes {
        let saved = checkpoint
            .operators
            .iter()
            .find(|operator| operator.name == node.name);
        if let (Role::Operator { plugin, .. }, Some(saved)) = (&node.role, saved)
            && plugin.digest() != saved.plugin
        {
            terminal.say(&format!(
                "operator `{}`: the plugin is another than before",
                node.name
            ));
        }
    }
}

fn tell_sinks(plan: &Plan, terminal: &Terminal) {
    for node in &plan.nodes {
        if let Role::Sink(sink) = &node.role
            && sink.guarantee() == Guarantee::AtLeastOnce
        {
            terminal.say(&format!(
                "sink `{}` writes at least once: after a failure, records since the last checkpoint are written again",
                node.name
            ));
        }
    }
}
