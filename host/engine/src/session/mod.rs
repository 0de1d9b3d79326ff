//! Turns an assembled pipeline into a running job: opens its storage, finds its checkpoint, and drives it.

pub mod assemble;
mod begun;
pub mod foreign;
pub mod letters;
pub mod limits;
pub mod number;
pub mod preflight;
pub mod recovery;
pub mod restart;
pub mod start;
pub mod storage;
pub mod watched;
pub mod what_runs;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, mpsc};

use self::assemble::Assembled;
use self::begun::BeginWatcher;
use self::letters::add_sources;
use self::limits::Ticking;
use self::recovery::{tell_lost_input, tell_recovery, tell_sinks, tell_sources};
use self::restart::strategy;
use self::start::StartPoint;
use self::what_runs::PluginLoader;
use crate::edge::clock::Clock;
use crate::edge::data_dir::DataDir;
use crate::edge::drive::{DriveSettings, Ended, Inputs, Kept, Watcher, drive};
use crate::edge::failed_end::FailedEnd;
use crate::edge::failures::FailureLog;
use crate::edge::later_output::LaterOutput;
use crate::edge::replay_folder::ReplayFolder;
use crate::edge::{allocator, machine, scratch};
use crate::job::{CheckpointSettings, Ending, Input, JobSettings};
use crate::pipeline::settings::{OnCancel, StateBackendSetting, StateSection};
use crate::pipeline::{self, Spec};
use crate::runtime::JobError;
use crate::runtime::plan::{self, Plan, Role};
use crate::{EngineError, Say, StartFrom};
use floodmark_checkpoint::store::Recovery;
use floodmark_checkpoint::{CheckpointReader, CheckpointStorage};
use floodmark_state::stream::CheckpointId;

/// Percent of the machine's memory that state may take, if the pipeline does not say how much.
const STATE_PERCENT: u64 = 80;

/// A job whose plugins and storage are open, before its checkpoint is found.
pub struct OpenedJob {
    /// The engine that loaded the plugins of the pipeline, and loads those of its checkpoint.
    pub guests: Ticking,
    /// The data folder, locked until the job has ended.
    pub data_dir: DataDir,
    /// The graph that the pipeline file describes, with its settings.
    pub graph: pipeline::PipelineGraph,
    /// The plan that the pipeline names. [`OpenedJob::recover`] may replace its plugins and parallelism.
    pub named: Plan,
    /// Started when the storage was opened.
    pub clock: Clock,
    store: Box<dyn CheckpointStorage>,
    start: StartPoint,
    fresh: bool,
    /// Whether the storage has the savepoint that the job starts from.
    has_import: bool,
    say: Say,
}

/// A job that is ready to run.
pub struct ReadyJob {
    /// The engine that loaded the plugins of `plan`.
    pub guests: Ticking,
    /// The graph that the pipeline file describes, also if the checkpoint has other plugins.
    pub graph: pipeline::PipelineGraph,
    /// The same clock as [`OpenedJob::clock`].
    pub clock: Clock,
    /// The plan that runs.
    pub plan: Arc<Plan>,
    /// The checkpoint from which the job resumes; `None` if it starts from the beginning.
    pub restored: Option<CheckpointId>,
    data_dir: DataDir,
    kept: Kept,
    settings: DriveSettings,
    has_import: bool,
    say: Say,
}

/// A job that has ended.
pub struct EndedJob {
    /// The engine, which still has the samples of a profiled job.
    pub guests: Ticking,
    /// How the job ended; the error is the failure after which it does not resume.
    pub ended: Result<Ended, JobError>,
    graph: pipeline::PipelineGraph,
    data_dir: DataDir,
}

impl OpenedJob {
    /// Opens the storage of a job. With [`StartFrom::Beginning`] its checkpoints are deleted.
    pub fn open(
        assembled: Assembled,
        guests: Ticking,
        data_dir: DataDir,
        from: &StartFrom,
        allow_dropped_state: bool,
        say: &Say,
    ) -> Result<Self, EngineError> {
        let Assembled {
            graph, mut plan, ..
        } = assembled;
        plan.allow_dropped_state = allow_dropped_state;
        plan.backend = backend(&graph.spec.state, &data_dir);
        if matches!(plan.backend, plan::StateBackend::Memory) {
            let default = || machine::memory_bytes().map(part_for_state);
            if let Some(bytes) = graph.spec.state.memory.or_else(default) {
                plan.bound_state(bytes);
            }
        }
        let checkpoint = &graph.spec.checkpoint;
        let start = StartPoint::open(from, &plan, &data_dir, &guests.engine)?;
        let fresh = from.forgets();
        if fresh {
            check_inputs(&plan)?;
            storage::forget(checkpoint, &data_dir)?;
            // In this order: letters without checkpoints are never read, but checkpoints without letters would lack
            // files they refer to.
            ReplayFolder::of(data_dir.path()).hold()?.clear()?;
        }
        for line in add_sources(&mut plan, data_dir.path(), !graph.spec.has_end())? {
            say(&line);
        }
        if matches!(from, StartFrom::Newest) {
            storage::check_noted(&data_dir, &checkpoint.storage)?;
        }
        let store = storage::open_to_run(&graph.spec, &data_dir)?;
        Ok(Self {
            guests,
            data_dir,
            named: plan,
            clock: Clock::start(),
            store,
            start,
            fresh,
            has_import: false,
            say: Arc::clone(say),
            graph,
        })
    }

    /// A reader of the job's checkpoints, which also works while the job runs.
    pub fn reader(&self) -> Arc<dyn CheckpointReader> {
        self.store.reader()
    }

    /// Lets the calls of its plugins have only their grace, from when these inputs have a stop.
    pub fn hasten_with(&self, inputs: &Inputs) {
        self.guests.engine.hasten_with(inputs.haste());
    }

    /// Finds the checkpoint from which the job resumes, and the plugins that run from there. After an error, a savepoint that
    /// was imported is removed again.
    pub fn recover(mut self) -> Result<ReadyJob, EngineError> {
        let (recovery, plan) = match self.resume() {
            Ok(resumed) => resumed,
            Err(error) => {
                drop(self.store);
                if self.has_import {
                    forget_import(&self.graph.spec, &self.data_dir, &self.say);
                }
                return Err(error);
            }
        };
        let restored = recovery.restored.as_ref();
        Ok(ReadyJob {
            settings: settings(&self.graph.spec, self.fresh, self.clock),
            guests: self.guests,
            graph: self.graph,
            clock: self.clock,
            plan: Arc::new(plan),
            restored: restored.map(|restored| restored.checkpoint.id),
            kept: Kept {
                store: self.store,
                recovery,
                failures: FailureLog::of(self.data_dir.path()),
                later_output: LaterOutput::of(self.data_dir.path()),
            },
            data_dir: self.data_dir,
            has_import: self.has_import,
            say: self.say,
        })
    }

    /// The checkpoint from which the job resumes, and the plan that runs from there. Reports both.
    fn resume(&mut self) -> Result<(Recovery, Plan), EngineError> {
        self.has_import = self.start.import(&mut *self.store, &self.data_dir)?;
        let recovery = self.start.recover(&mut *self.store)?;
        // A reader keeps the store open, so this one is dropped at the end of the block.
        let runs = {
            let loading = PluginLoader {
                reader: &*self.store.reader(),
                engine: &self.guests.engine,
            };
            let (named, data_dir) = (&self.named, &self.data_dir);
            self.start.what_runs(named, &recovery, data_dir, &loading)?
        };
        tell_recovery(
            &recovery,
            self.start.is_carried(),
            &runs.plan,
            &self.data_dir,
            self.clock,
            &self.say,
        )?;
        for line in runs.says {
            (self.say)(&line);
        }
        let data_dir = &self.data_dir;
        self.start
            .forget_later(&mut *self.store, data_dir, &self.say)?;
        tell_sources(&self.graph.spec, recovery.restored.is_some(), &self.say);
        tell_sinks(&self.named, &self.say);
        let storage = &self.graph.spec.checkpoint.storage;
        self.data_dir.note_storage(&storage.to_string())?;
        Ok((recovery, runs.plan))
    }
}

impl ReadyJob {
    /// Runs the job to its end on this thread and others. If it fails before it has begun, a savepoint that was imported for it
    /// is removed again: the next run would resume from it without being told to.
    pub fn drive(
        self,
        channel: (Inputs, mpsc::Receiver<Input>),
        watcher: &mut dyn Watcher,
    ) -> EndedJob {
        let haste = channel.0.haste().clone();
        FailedEnd::forget(self.data_dir.path());
        let mut watching = BeginWatcher::of(watcher);
        let ended = drive(
            Arc::clone(&self.plan),
            self.kept,
            self.settings,
            self.clock,
            channel,
            &mut watching,
        );
        // A swap that is being prepared and the optimiser would hold the end up.
        haste.begin();
        self.guests.engine.stop_compiling();
        if self.has_import && ended.is_err() && !watching.has_begun {
            forget_import(&self.graph.spec, &self.data_dir, &self.say);
        }
        if !matches!(&ended, Ok(ended) if ended.ending == Ending::Complete) {
            tell_lost_input(&self.plan, &self.graph.spec, &self.data_dir, &self.say);
        }
        if let Err(error) = &ended {
            note_failure(error, self.data_dir.path(), self.clock);
        }
        EndedJob {
            guests: self.guests,
            ended,
            graph: self.graph,
            data_dir: self.data_dir,
        }
    }
}

impl EndedJob {
    /// Deletes the checkpoints of a stopped job, if its pipeline says so and no client has a copy of the last one.
    /// Returns whether they were deleted.
    pub fn delete_on_cancel(&self, has_savepoint: bool) -> Result<bool, EngineError> {
        let checkpoint = &self.graph.spec.checkpoint;
        let is_stopped = matches!(&self.ended, Ok(ended) if ended.ending == Ending::Stopped);
        let deletes = is_stopped && checkpoint.on_cancel == OnCancel::Delete && !has_savepoint;
        if deletes {
            storage::forget(checkpoint, &self.data_dir)?;
        }
        Ok(deletes)
    }
}

/// Notes how a job has failed, for its status. Without the note nothing is lost.
fn note_failure(error: &JobError, folder: &Path, clock: Clock) {
    if error.is_interruption() || error.is_closed_pipe() {
        return;
    }
    let end = FailedEnd {
        at_ms: clock.wall_ms(),
        failures: FailureLog::of(folder).counting().len() as u64,
        reason: error.to_string(),
    };
    let _ = end.write(folder);
}

fn settings(spec: &Spec, fresh: bool, clock: Clock) -> DriveSettings {
    let checkpoint = &spec.checkpoint;
    DriveSettings {
        job: JobSettings {
            checkpoints: CheckpointSettings {
                interval: checkpoint.interval,
                timeout: checkpoint.timeout,
                min_pause: checkpoint.min_pause,
                tolerable_failures: checkpoint.tolerable_failures,
            },
            fresh,
            restart: strategy(&spec.restart),
            seed: clock.wall_ms(),
        },
        retained: NonZeroU32::new(checkpoint.retained.into()).unwrap_or(NonZeroU32::MIN),
    }
}

/// Removes the only checkpoint of a storage: a savepoint from which the job could not begin.
fn forget_import(spec: &Spec, data_dir: &DataDir, say: &Say) {
    if let Err(error) = storage::forget_import(&spec.checkpoint, data_dir) {
        say(&format!(
            "warning: the savepoint was imported and cannot be removed again ({error}), so a run without `--from` starts from it; pass `--fresh` to forget it"
        ));
    }
}

/// The place for the job's state; on disk, it is in nameless files in the data folder.
fn backend(settings: &StateSection, data_dir: &DataDir) -> plan::StateBackend {
    match settings.backend {
        StateBackendSetting::Memory => plan::StateBackend::Memory,
        StateBackendSetting::Disk => {
            allocator::return_large_buffers();
            let folder = data_dir.path().to_path_buf();
            plan::StateBackend::Disk {
                memory_bytes: settings.memory_beside_disk(),
                scratch: Arc::new(move || scratch::file_in(&folder)),
            }
        }
    }
}

/// Bytes of this memory that the state of all operators may take, in whole MiB; the rest is for instances, batches and code.
fn part_for_state(memory_bytes: u64) -> u64 {
    let bytes = memory_bytes / 100 * STATE_PERCENT;
    (bytes >> 20).max(1) << 20
}

/// Checks the inputs before anything is deleted, so that a typo in the path of an input loses no checkpoints.
fn check_inputs(plan: &Plan) -> Result<(), EngineError> {
    for node in &plan.nodes {
        if let Role::Source(source) = &node.role {
            source
                .splits(None, None)
                .map_err(|error| EngineError::from((node.name.as_str(), error)))?;
        }
    }
    Ok(())
}
