//! `floodmark run`: runs a pipeline, from its newest checkpoint if there is one.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::answering::{Answering, ListenArguments};
use super::check::forgetful;
use super::failure::EXIT_USAGE;
use super::pipeline::read;
use super::profile::Profiled;
use super::progress::ProgressDisplay;
use super::terminal::Terminal;
use super::{CommandError, PipelineArguments};
use crate::hooks::{Hook, Hooks};
use floodmark_engine::StartFrom;
use floodmark_engine::edge::data_dir::DataDir;
use floodmark_engine::edge::drive::{Ended, Inputs};
use floodmark_engine::edge::signals::{SignalEffect, StartStage, report_stop};
use floodmark_engine::job::Ending;
use floodmark_engine::observe::JobState;
use floodmark_engine::pipeline::Spec;
use floodmark_engine::session::OpenedJob;
use floodmark_engine::session::assemble::{Assembled, assemble};
use floodmark_engine::session::limits::Ticking;
use floodmark_engine::session::number::{count, span, things};
use floodmark_engine::session::preflight;
use floodmark_engine::session::watched::Watched;
use floodmark_engine::session::what_runs::Preparing;

/// Runs a pipeline; resumes from its newest checkpoint, if there is one
///
/// Plugins that are given as folders are built first. Ctrl-C, SIGTERM and SIGHUP stop the job with a checkpoint, and
/// the same command resumes from there. After a crash, the job resumes from the last completed checkpoint. The file
/// sink makes output visible when a checkpoint completes.
///
/// Large plugins start with quickly compiled code and are optimised while the job runs. Compiled code is kept in
/// `~/.cache/floodmark`, or in the folder that the environment variable `FLOODMARK_CACHE_DIR` names.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The folder for the job's checkpoints [default: `.floodmark/NAME` beside the pipeline file, NAME being the job's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Deletes this job's checkpoints and the output that it has committed, then starts from the beginning
    #[arg(long)]
    fresh: bool,
    /// Starts from a savepoint file, in a data folder without checkpoints; or, given the number of a checkpoint,
    /// returns to it and deletes all later ones
    #[arg(long, value_name = "FILE|ID")]
    from: Option<String>,
    /// Runs the plugins and configurations of the savepoint where the pipeline names others. They are code of the author of
    /// the savepoint, and run in the sandbox. Without this, such a savepoint is refused
    #[arg(long, requires = "from")]
    take_plugins: bool,
    /// Runs even if the pipeline has no place for some of the saved state, and drops it: state of an operator that was
    /// removed, or state that its plugin no longer declares
    #[arg(long)]
    allow_dropped_state: bool,
    /// Writes a profile when the job ends: `.svg` is a flame graph, `.folded` collapsed stacks, `.json` for browsers
    /// and editors; `perf` names functions for `perf`
    ///
    /// The file has the measured time of each operator by stage (source, exchange, lookup, guest, apply, sink), and the
    /// time of plugins by function, sampled every millisecond. Sampling costs a few per cent of speed. The file is
    /// written also when the job is stopped or fails. Function names are those in the component: in Python and
    /// TypeScript, those of the interpreter.
    ///
    /// `perf` writes `/tmp/perf-PID.map`, so that `perf record -g -p PID` can name functions of plugins. This takes a
    /// moment at the start and costs nothing later.
    #[arg(long, value_name = "FILE|perf")]
    profile: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArguments,
}

/// Runs the command.
///
/// # Errors
/// When the job cannot begin or resume. Its last checkpoint is as it was.
pub fn run(arguments: &RunArguments) -> Result<(), CommandError> {
    let terminal = Terminal::new();
    let stage = StartStage::default();
    let done = run_on(arguments, &stage, &terminal);
    if done.is_err() {
        stage.wait_if_told();
    }
    terminal.clear();
    let Some(FinishedRun {
        ended,
        progress,
        deleted,
    }) = done?
    else {
        terminal.say("stopped: the output was closed by its reader; the last checkpoint is kept");
        return Ok(());
    };
    let totals = progress.totals();
    let (how, next) = match ended.ending {
        Ending::Complete => ("finished", ""),
        Ending::Stopped if deleted => (
            "stopped",
            "; its checkpoints are deleted, as `checkpoint.on-cancel` says, so the next run starts over, with `--fresh`",
        ),
        Ending::Stopped if totals.last_checkpoint.is_none() => (
            "stopped",
            "; there is no checkpoint yet, so the same command starts over",
        ),
        Ending::Stopped => ("stopped", "; the same command resumes from there"),
    };
    let bad = totals.skipped + totals.dead_letters;
    if ended.ending == Ending::Complete && totals.records_in + bad == 0 {
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
    if bad > 0 {
        terminal.say(&format!(
            "bad records: {} skipped, {} to dead letters",
            count(totals.skipped),
            count(totals.dead_letters),
        ));
    }
    for (sink, summary) in ended.summaries {
        terminal.say(&format!("sink `{sink}`: {summary}"));
    }
    Ok(())
}

/// A job that ended as it should.
struct FinishedRun {
    ended: Ended,
    progress: ProgressDisplay,
    /// Whether its checkpoints were deleted then.
    deleted: bool,
}

/// How the job ended; `None` if its output was closed by its reader.
fn run_on(
    arguments: &RunArguments,
    stage: &StartStage,
    terminal: &Terminal,
) -> Result<Option<FinishedRun>, CommandError> {
    let channel = Inputs::channel();
    listen(channel.0.clone(), stage, terminal);
    let profiled = Profiled::of(arguments.profile.as_deref())?;
    let doors = arguments.listen.door(terminal)?;
    let from = arguments.start_from()?;
    let (data_dir, guests, assembled) = arguments.prepare(&from, &profiled, terminal)?;
    stage.prepared();
    let say = terminal.saying();
    let dropped = arguments.allow_dropped_state;
    let opened = OpenedJob::open(assembled, guests, data_dir, &from, dropped, &say)?;
    opened.hasten_with(&channel.0);
    let watched = Watched::new(&opened.named, opened.clock);
    let preparing = Preparing {
        named: Arc::new(opened.named.clone()),
        engine: opened.guests.engine.clone(),
    };
    let answering = Answering::begin(
        doors,
        opened.data_dir.path(),
        opened.reader(),
        (channel.0.clone(), preparing),
        &watched,
        terminal,
    );
    let ready = opened.recover()?;
    watched.planned(&ready.plan, false);
    let restored = ready.restored.map(|id| id.0);
    watched.observer.restored(restored, ready.clock.wall_ms());
    profiled.tell(terminal);
    let spec = &ready.graph.spec;
    if let Some(warning) = forgetful(&spec.checkpoint.storage) {
        terminal.say(&format!("warning: {warning}"));
    }
    let mut progress = ProgressDisplay::new(terminal.clone(), from.forgets(), watched)
        .telling(hooks(spec, terminal), &spec.name)
        .marking(stage);
    let clock = ready.clock;
    let over = ready.drive(channel, &mut progress);
    let state = match &over.ended {
        Ok(ended) if ended.ending == Ending::Complete => JobState::Finished,
        Ok(_) => JobState::Suspended,
        Err(error) => {
            let reason = error.to_string();
            answering.observer.failed(&reason, clock.wall_ms());
            JobState::Failed
        }
    };
    profiled.finish(&answering.observer, &over.guests.engine, terminal);
    let has_savepoint = answering.finish(state);
    let deleted = over.delete_on_cancel(has_savepoint)?;
    match over.ended {
        Ok(ended) => Ok(Some(FinishedRun {
            ended,
            progress,
            deleted,
        })),
        Err(error) if error.is_closed_pipe() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl RunArguments {
    /// Holds the data folder, and builds and loads the plugins, after all that takes no time was checked.
    fn prepare(
        &self,
        from: &StartFrom,
        profiled: &Profiled,
        terminal: &Terminal,
    ) -> Result<(DataDir, Ticking, Assembled), CommandError> {
        let pipeline = read(&self.pipeline)?;
        let default = || DataDir::default_path(&pipeline.folder, &pipeline.spec.name);
        let path = self.data_dir.clone().unwrap_or_else(default);
        let data_dir = DataDir::open(path)?;
        let data = data_dir.id()?;
        let starts_over = preflight::starts_over(from, data_dir.path());
        preflight::check(&pipeline, &data, starts_over)?;
        let say = terminal.saying();
        let (compiled, profiling) = (Some(data_dir.compiled()), profiled.profiling());
        let guests = Ticking::for_profiled_job(&pipeline.spec, compiled, profiling, &say)?;
        let guests = guests.optimising(&say);
        let mut telling = |line: &str| terminal.say(line);
        let assembled = assemble(pipeline, &guests.engine, &data, &mut telling)?;
        Ok((data_dir, guests, assembled))
    }

    /// A number after `--from` is a checkpoint, anything else is a file.
    fn start_from(&self) -> Result<StartFrom, CommandError> {
        let fresh = self.fresh;
        match self.from.as_deref().map(|from| (from, from.parse())) {
            None if fresh => Ok(StartFrom::Beginning),
            None => Ok(StartFrom::Newest),
            Some((_, Ok(_))) if fresh => Err(CommandError::new(
                EXIT_USAGE,
                "`--fresh` forgets the checkpoint that `--from` names; leave one of them out",
            )),
            Some((_, Ok(_))) if self.take_plugins => Err(CommandError::new(
                EXIT_USAGE,
                "`--take-plugins` is for savepoint files, and `--from` names a checkpoint of the job's own; leave it out, or go back to the plugins of that checkpoint with `floodmark rollback`",
            )),
            Some((_, Ok(id))) => Ok(StartFrom::Checkpoint(id)),
            Some((path, Err(_))) => Ok(StartFrom::Savepoint {
                path: path.into(),
                fresh,
                take_plugins: self.take_plugins,
            }),
        }
    }
}

/// The hooks: commands and addresses that are told of each checkpoint.
fn hooks(spec: &Spec, terminal: &Terminal) -> Hooks {
    let hooks = spec.checkpoint.on_checkpoint.iter();
    let teller = terminal.clone();
    Hooks::start(
        hooks.map(|text| Hook::parse(text)).collect(),
        spec.folder.clone(),
        move |line| teller.say(&line),
    )
}

/// From here on a signal stops the job with a checkpoint, also one that comes before its first record; or it ends the process.
fn listen(inputs: Inputs, stage: &StartStage, terminal: &Terminal) {
    let teller = terminal.clone();
    let told = move |effect| {
        teller.say(match effect {
            SignalEffect::Stops => {
                "stopping with a checkpoint; interrupt again to end at once, without one"
            }
            SignalEffect::EndsBefore => {
                "ended at once, before the job ran; the same command starts it"
            }
            SignalEffect::Ends => {
                "ended at once; the same command resumes from the last checkpoint"
            }
        });
    };
    if let Err(error) = report_stop(inputs, stage, told) {
        terminal.say(&format!(
            "warning: cannot listen for Ctrl-C ({error}): it ends the job without a checkpoint"
        ));
    }
}
