//! A handle to a job that [`Engine::start`](super::Engine::start) has started.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::session::watched::{Watched, swapper};
use super::session::what_runs::{LookedAt, Preparing};
use super::session::{EndedJob, OpenedJob};
use super::{Cause, EngineError};
use crate::connector::Recovered;
use crate::edge::drive::{Inputs, Watcher, ask, request};
use crate::edge::rollback::Rollbacks;
use crate::edge::swap::{NewPlugin, Swapper, Wish};
use crate::job::{Caller, Ending, Notice, Request};
use crate::observe::{JobState, WorkerMetrics};
use crate::runtime::plan::{Plan, WorkerIndex};
use crate::runtime::worker::Counters;
use floodmark_state::stream::CheckpointId;

/// A job that runs on threads of its own.
///
/// Requests return when a checkpoint that includes their effect is durable. Dropping the value stops the job with a
/// last checkpoint and waits for it, like [`RunningJob::stop`], but without returning the result.
pub struct RunningJob {
    inputs: Inputs,
    watched: Watched,
    swapper: Swapper,
    rollbacks: Rollbacks,
    folder: PathBuf,
    /// `None` after waiting for it.
    thread: Option<JoinHandle<Result<JobSummary, EngineError>>>,
}

impl std::fmt::Debug for RunningJob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunningJob({})", self.folder.display())
    }
}

/// Whether a job that is stopped first emits what its operators hold back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    /// It stops at its current positions, and the next start resumes there.
    No,
    /// It ends as if its input had ended: operators emit what they hold back.
    Yes,
}

/// Options of a swap.
#[derive(Debug, Clone, Default)]
pub struct SwapOptions {
    /// Fields of the configuration to replace.
    pub config: Vec<(String, String)>,
    /// The time in which a failure of the job reverts to the old plugin; `None` for no trial.
    pub trial: Option<Duration>,
    /// Whether states that the new plugin does not declare may be dropped.
    pub allow_dropped_state: bool,
}

impl SwapOptions {
    /// Options with a trial of this length.
    #[must_use]
    pub fn trial(time: Duration) -> Self {
        Self {
            trial: Some(time),
            ..Self::default()
        }
    }
}

/// A durable swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwapSummary {
    /// The checkpoint at whose barrier the plugins were replaced; `None` if the job already ran that plugin.
    pub checkpoint: Option<u64>,
    /// The longest pause of a task for the swap.
    pub pause: Duration,
}

/// A job that has ended without a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSummary {
    /// Whether it has processed all its input; `false` if it was stopped before.
    pub is_complete: bool,
    /// Its last checkpoint, from which the next start resumes; `None` if it had none.
    pub checkpoint: Option<u64>,
    /// Records read since it was started.
    pub records_in: u64,
    /// Records passed to sinks since it was started.
    pub records_out: u64,
    /// A summary by each sink.
    pub sinks: Vec<(String, String)>,
}

impl RunningJob {
    /// Runs an opened job.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where its thread comes from"
    )]
    pub(super) fn start(opened: OpenedJob) -> Result<Self, EngineError> {
        let (inputs, inbox) = Inputs::channel();
        opened.hasten_with(&inputs);
        let watched = Watched::new(&opened.named, opened.clock);
        let reader: LookedAt = Arc::new(Mutex::new(Some(opened.reader())));
        let folder = opened.data_dir.path().to_path_buf();
        let engine = opened.guests.engine.clone();
        let swapper = swapper(&folder, &reader, &inputs, &engine, watched.clock);
        let preparing = Preparing {
            named: Arc::new(opened.named.clone()),
            engine,
        };
        let prepare = preparing.rollbacks(&reader);
        let rollbacks = Rollbacks::new(inputs.clone(), folder.clone(), prepare);
        let ready = opened.recover()?;
        let wall_ms = watched.clock.wall_ms();
        watched.planned(&ready.plan, false);
        watched
            .observer
            .restored(ready.restored.map(|id| id.0), wall_ms);
        let mut watching = Watching {
            watched: watched.clone(),
            last: ready.restored,
            counted: (0, 0),
        };
        let channel = (inputs.clone(), inbox);
        let thread = std::thread::spawn(move || {
            let over = ready.drive(channel, &mut watching);
            // The store is closed with its last reader.
            *reader.lock().unwrap_or_else(PoisonError::into_inner) = None;
            watching.end(over)
        });
        Ok(Self {
            inputs,
            watched,
            swapper,
            rollbacks,
            folder,
            thread: Some(thread),
        })
    }

    /// Takes a checkpoint. Returns its id.
    ///
    /// # Errors
    /// When it failed, or the job has ended.
    pub fn checkpoint(&self) -> Result<u64, EngineError> {
        Ok(self.ask(Request::Checkpoint)?.0)
    }

    /// Replaces the plugin of an operator by this component, at the barrier of a checkpoint, after checking that ports
    /// and saved state fit.
    ///
    /// # Errors
    /// When they do not fit, or the swap fails. The job continues with its old plugin and state.
    pub fn swap(
        &self,
        operator: &str,
        component: Vec<u8>,
        options: SwapOptions,
    ) -> Result<SwapSummary, EngineError> {
        let wish = Wish {
            plugins: vec![NewPlugin {
                operator: operator.to_owned(),
                component,
                config: options.config,
                without: Vec::new(),
            }],
            trial: options.trial,
            allow_dropped_state: options.allow_dropped_state,
            ..Wish::default()
        };
        let found = self.swapper.swap(&wish)?;
        Ok(SwapSummary {
            checkpoint: found.swapped.as_ref().map(|done| done.checkpoint),
            pause: Duration::from_micros(found.swapped.map_or(0, |done| done.pause_us)),
        })
    }

    /// Changes the number of tasks per node. Returns the first checkpoint with that number.
    ///
    /// # Errors
    /// When it is not between 1 and `job.max-parallelism`, or the new tasks cannot be created.
    pub fn rescale(&self, parallelism: u16) -> Result<u64, EngineError> {
        let rescaled = self.ask(|caller| Request::Rescale {
            parallelism,
            caller,
        })?;
        Ok(rescaled.checkpoint.0)
    }

    /// Returns permanently to a checkpoint: later ones are deleted, their output is taken back, and the plugins as of
    /// that checkpoint run again. Returns the first checkpoint since.
    ///
    /// # Errors
    /// When the checkpoint does not exist, is damaged, or is of another pipeline: the job continues unchanged.
    pub fn rollback(&self, to: u64) -> Result<u64, EngineError> {
        let (back, _) = self.rollbacks.roll_back(CheckpointId(to))?;
        Ok(back.checkpoint.0)
    }

    /// The state of the job, its nodes and their metrics: the JSON text of `GET /v1/status`.
    #[must_use]
    pub fn status(&self) -> String {
        let clock = self.watched.clock;
        let status = self.watched.observer.status(clock.now(), clock.wall_ms());
        status.to_string()
    }

    /// Stops the job with a last checkpoint, and waits for its end.
    ///
    /// # Errors
    /// When the last checkpoint failed, or the job has failed before. [`Cause::Interrupted`] if a plugin did not return within
    /// `limits.stop-grace`: the job has stopped without a last checkpoint.
    pub fn stop(mut self, drain: Drain) -> Result<JobSummary, EngineError> {
        self.request_stop(drain);
        self.join()
    }

    /// Waits until the job ends: its input ends, or it fails.
    ///
    /// # Errors
    /// When it fails. Its last checkpoint is unchanged.
    pub fn wait(mut self) -> Result<JobSummary, EngineError> {
        self.join()
    }

    fn request_stop(&self, drain: Drain) {
        let stop = Request::Stop {
            drain: drain == Drain::Yes,
            caller: None,
        };
        request(&self.inputs, stop);
    }

    fn join(&mut self) -> Result<JobSummary, EngineError> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(EngineError::new(
                Cause::Failed,
                "the thread of the job stopped unexpectedly: this is a bug in floodmark",
            )),
            None => Err(EngineError::over()),
        }
    }

    fn ask<T>(&self, of: impl FnOnce(Caller<T>) -> Request) -> Result<T, EngineError> {
        Ok(ask(&self.inputs, of)?)
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.request_stop(Drain::No);
            let _ = self.join();
        }
    }
}

/// Counts what a job does, for its summary and its status.
struct Watching {
    watched: Watched,
    last: Option<CheckpointId>,
    counted: (u64, u64),
}

impl Watcher for Watching {
    fn begun(&mut self, _: &[(String, Recovered)]) {
        self.watched.begun();
    }

    fn notice(&mut self, _: Duration, notice: Notice) {
        self.watched.notice(&notice);
        match notice {
            Notice::Completed(checkpoint) => self.last = Some(checkpoint.id),
            Notice::WentBack(went_back) => self.last = went_back.to,
            _ => {}
        }
    }

    fn watch(&mut self, now: Duration, counters: &[Arc<Counters>]) {
        use std::sync::atomic::Ordering::Relaxed;
        self.watched.watch(now);
        let read = counters.iter().map(|one| one.records_in.load(Relaxed));
        let written = counters.iter().map(|one| one.records_out.load(Relaxed));
        self.counted = (read.sum(), written.sum());
    }

    fn planned(&mut self, plan: &Plan, is_on_trial: bool) {
        self.watched.planned(plan, is_on_trial);
    }

    fn observed(&self, worker: WorkerIndex) -> Arc<WorkerMetrics> {
        self.watched.worker(worker)
    }
}

impl Watching {
    fn end(&self, over: EndedJob) -> Result<JobSummary, EngineError> {
        let observer = &self.watched.observer;
        let deleted = over.delete_on_cancel(false)?;
        let ended = match over.ended {
            Ok(ended) => ended,
            Err(error) => {
                observer.failed(&error.to_string(), self.watched.clock.wall_ms());
                observer.is_now(JobState::Failed);
                return Err(error.into());
            }
        };
        let is_complete = ended.ending == Ending::Complete;
        observer.is_now(match is_complete {
            true => JobState::Finished,
            false => JobState::Suspended,
        });
        let (records_in, records_out) = self.counted;
        Ok(JobSummary {
            is_complete,
            checkpoint: self.last.filter(|_| !deleted).map(|id| id.0),
            records_in,
            records_out,
            sinks: ended.summaries,
        })
    }
}
