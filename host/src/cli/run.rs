//! `floodmark run`: runs a pipeline, from its newest checkpoint if there is one.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use clap::Args;

use super::answering::{Answering, ListenArguments, Watched};
use super::assemble::{assemble, read};
use super::check::forgetful;
use super::dead_letters;
use super::failure::EXIT_DATA;
use super::limits::Ticking;
use super::number::{span, things};
use super::profile::Profiled;
use super::progress::Progress;
use super::recovery::{tell_recovery, tell_sinks};
use super::restart::strategy;
use super::start::Start;
use super::storage;
use super::terminal::Terminal;
use super::what_runs::{Loading, Preparing};
use super::{Failure, PipelineArguments};
use crate::edge::clock::Clock;
use crate::edge::data_dir::DataDir;
use crate::edge::drive::{DriveSettings, Ended, Inputs, Kept, drive};
use crate::edge::failures::FailureLog;
use crate::edge::hooks::{Hook, Hooks};
use crate::edge::replay_folder::ReplayFolder;
use crate::edge::signals::report_stop;
use crate::edge::{allocator, scratch};
use crate::job::{CheckpointSettings, Ending, JobSettings};
use crate::observe::JobState;
use crate::pipeline::Spec;
use crate::pipeline::settings::{OnCancel, StateBackend, StateSettings};
use crate::runtime::JobError;
use crate::runtime::plan::{self, Plan, Role};

/// Runs a pipeline; resumes from its newest checkpoint, if there is one
///
/// Plugins that are given as folders are built first. Ctrl-C, SIGTERM and SIGHUP stop the job with a checkpoint, and the same
/// command resumes from there. After a crash it resumes from the last checkpoint that was completed. Output of the file
/// sink appears when a checkpoint completes.
///
/// A large plugin begins with quickly compiled code, and is optimised while the job runs. Compiled code is kept in
/// `~/.cache/floodmark`, or where the environment variable `FLOODMARK_CACHE_DIR` says.
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
    /// Starts from a savepoint, given its file, in a data folder without checkpoints; or goes back to an older checkpoint of
    /// this job, given its number, and deletes those after it
    #[arg(long, value_name = "FILE|ID")]
    from: Option<String>,
    /// Runs even if saved state has no place in the pipeline any more, and leaves it behind: state of an operator that is
    /// gone, or state that its plugin does not declare any more
    #[arg(long)]
    allow_dropped_state: bool,
    /// Shows where the time goes, when the job is over: `.svg` is a flame graph, `.folded` collapsed stacks, `.json` for browsers
    /// and editors; `perf` names functions for `perf`
    ///
    /// The file has the time of each operator by stage (source, exchange, lookup, guest, apply, sink), which is measured, and that
    /// of plugins by function, from a sample each millisecond; that costs a few per cent of speed. It is written also when the job
    /// is stopped or fails. Functions have the names that the component has: in Python and TypeScript those of the interpreter.
    /// `perf` writes `/tmp/perf-PID.map`, so that `perf record -g -p PID` knows functions of plugins; that costs a moment at the
    /// start and nothing later.
    #[arg(long, value_name = "FILE|perf")]
    profile: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArguments,
}

/// Carries the command out.
///
/// # Errors
/// When the job cannot begin or go on. Its last checkpoint is as it was.
pub fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let terminal = Terminal::new();
    let done = run_on(arguments, &terminal);
    terminal.clear();
    let Some(Done {
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
        Ending::Stopped => ("stopped", "; the same command resumes from there"),
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

/// A job that ended as it should.
struct Done {
    ended: Ended,
    progress: Progress,
    /// Whether its checkpoints were deleted then.
    deleted: bool,
}

/// How the job ended; `None` if its output was closed by its reader.
fn run_on(arguments: &RunArguments, terminal: &Terminal) -> Result<Option<Done>, Failure> {
    let profiled = Profiled::of(arguments.profile.as_deref())?;
    let doors = arguments.listen.door(terminal)?;
    let pipeline = read(&arguments.pipeline)?;
    let default = || DataDir::default_path(&pipeline.folder, &pipeline.spec.name);
    let path = arguments.data_dir.clone().unwrap_or_else(default);
    let in_data_dir =
        |error: crate::edge::data_dir::DataDirError| Failure::new(EXIT_DATA, error.to_string());
    let data_dir = DataDir::open(&path).map_err(in_data_dir)?;
    let compiled = Some(data_dir.compiled());
    let guests = Ticking::for_profiled_job(&pipeline.spec, compiled, profiled.profiling())?
        .optimising(terminal);
    let data = data_dir.id().map_err(in_data_dir)?;
    let mut assembled = assemble(pipeline, &guests.engine, &data, &mut |line| {
        terminal.say(line)
    })?;
    assembled.plan.allow_dropped_state = arguments.allow_dropped_state;
    assembled.plan.backend = backend(&assembled.graph.spec.state, &data_dir);
    let clock = Clock::start();
    let channel = mpsc::channel();
    listen(channel.0.clone(), terminal);
    let plan = &assembled.plan;
    let checkpoint = &assembled.graph.spec.checkpoint;
    let start = Start::open(arguments.from.as_deref(), arguments.fresh, plan, &data_dir)?;
    if arguments.fresh {
        check_inputs(plan)?;
        storage::forget(checkpoint, &data_dir)?;
        // Only then: letters without checkpoints are never read, and checkpoints without letters would not know what was.
        ReplayFolder::of(data_dir.path()).hold()?.clear()?;
    }
    let follows = !assembled.graph.spec.has_end();
    for line in dead_letters::add_sources(&mut assembled.plan, data_dir.path(), follows)? {
        terminal.say(&line);
    }
    let plan = &assembled.plan;
    if !arguments.fresh && arguments.from.is_none() {
        storage::check_noted(&data_dir, &checkpoint.storage)?;
    }
    let mut store = storage::open_to_run(&assembled.graph.spec, &data_dir)?;
    let watched = Watched::new(plan, clock);
    let (reader, inputs) = (store.reader(), channel.0.clone());
    let preparing = Preparing {
        named: Arc::new(plan.clone()),
        engine: guests.engine.clone(),
    };
    let answering = Answering::begin(
        doors,
        data_dir.path(),
        reader,
        (inputs, preparing),
        &watched,
        terminal,
    );
    let recovery = start.recover(&mut *store, &data_dir)?;
    // A reader keeps the store open, so this one is dropped at the end of the block.
    let runs = {
        let loading = Loading {
            reader: &*store.reader(),
            engine: &guests.engine,
        };
        start.what_runs(plan, &recovery, &data_dir, &loading)?
    };
    tell_recovery(
        &recovery,
        start.is_carried(),
        &runs.plan,
        &data_dir,
        clock,
        terminal,
    )?;
    for line in runs.says {
        terminal.say(&line);
    }
    start.forget_later(&mut *store, terminal)?;
    let restored = recovery.restored.as_ref();
    let restored = restored.map(|restored| restored.checkpoint.id.0);
    watched.planned(&runs.plan, false);
    watched.observer.restored(restored, clock.wall_ms());
    tell_sinks(&assembled.plan, terminal);
    profiled.tell(terminal);
    data_dir
        .note_storage(&checkpoint.storage.to_string())
        .map_err(in_data_dir)?;
    if let Some(warning) = forgetful(&checkpoint.storage) {
        terminal.say(&format!("warning: {warning}"));
    }
    let settings = DriveSettings {
        job: JobSettings {
            checkpoints: CheckpointSettings {
                interval: checkpoint.interval,
                timeout: checkpoint.timeout,
                min_pause: checkpoint.min_pause,
                tolerable_failures: checkpoint.tolerable_failures,
            },
            fresh: arguments.fresh,
            restart: strategy(&assembled.graph.spec.restart),
            seed: clock.wall_ms(),
        },
        retained: NonZeroU32::new(checkpoint.retained.into()).unwrap_or(NonZeroU32::MIN),
    };
    let mut progress = Progress::new(terminal.clone(), arguments.fresh, watched)
        .telling(hooks(&assembled.graph.spec, terminal), &assembled.plan.job);
    let ended = drive(
        Arc::new(runs.plan),
        Kept {
            store,
            recovery,
            failures: FailureLog::of(data_dir.path()),
        },
        settings,
        clock,
        channel,
        &mut progress,
    );
    let state = match &ended {
        Ok(ended) if ended.ending == Ending::Complete => JobState::Finished,
        Ok(_) => JobState::Suspended,
        Err(error) => {
            let reason = error.to_string();
            answering.observer.failed(&reason, clock.wall_ms());
            JobState::Failed
        }
    };
    profiled.finish(&answering.observer, &guests.engine, terminal);
    let has_savepoint = answering.finish(state);
    match ended {
        Ok(ended) => {
            let deleted = ended.ending == Ending::Stopped
                && checkpoint.on_cancel == OnCancel::Delete
                && !has_savepoint;
            if deleted {
                storage::forget(checkpoint, &data_dir)?;
            }
            Ok(Some(Done {
                ended,
                progress,
                deleted,
            }))
        }
        Err(JobError::Connector { reason, .. }) if reason.is_closed_pipe() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The commands and addresses that hear of checkpoints.
fn hooks(spec: &Spec, terminal: &Terminal) -> Hooks {
    let hooks = spec.checkpoint.on_checkpoint.iter();
    let teller = terminal.clone();
    Hooks::start(
        hooks.map(|text| Hook::parse(text)).collect(),
        spec.folder.clone(),
        move |line| teller.say(&line),
    )
}

/// Where the job has its state; files for it are in the data folder, and have no name there.
fn backend(settings: &StateSettings, data_dir: &DataDir) -> plan::StateBackend {
    match settings.backend {
        StateBackend::Memory => plan::StateBackend::Memory,
        StateBackend::Disk => {
            allocator::return_large_buffers();
            let folder = data_dir.path().to_path_buf();
            plan::StateBackend::Disk {
                memory_bytes: settings.memory,
                scratch: Arc::new(move || scratch::file_in(&folder)),
            }
        }
    }
}

/// From here on a signal stops the job with a checkpoint, also one that comes before its first record.
fn listen(inputs: Inputs, terminal: &Terminal) {
    let teller = terminal.clone();
    let told = move |number| match number {
        1 => teller.say("stopping with a checkpoint; once more to end at once, without one"),
        _ => teller.say("ended at once; the same command resumes from the last checkpoint"),
    };
    if let Err(error) = report_stop(inputs, told) {
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
                .splits(None, None)
                .map_err(|error| Failure::from((node.name.as_str(), error)))?;
        }
    }
    Ok(())
}
