//! Runs a job on real threads: carries out what [`Job`] says, with the storage of its checkpoints, its threads and its
//! clock. Nothing is decided here.
//!
//! ```text
//!   workers, writer ──▶ inbox ──▶ Job::step ──▶ outputs: threads, storage, watcher, clients
//!   clients, signals ──▶ ┘  ▲                      │
//!                           └───── what was done ◀─┘
//! ```

mod resources;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use self::resources::Resources;
use super::clock::Clock;
use super::failures::FailureLog;
use super::later_output::LaterOutput;
use crate::connector::Recovered;
use crate::guest::Haste;
use crate::job::{
    Answer, Caller, Ending, Input, Job, JobSettings, Moment, Notice, Output, Refusal, Reply,
    Request,
};
use crate::observe::WorkerMetrics;
use crate::runtime::JobError;
use crate::runtime::plan::{Plan, WorkerIndex};
use crate::runtime::worker::Counters;
use floodmark_checkpoint::CheckpointStorage;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_checkpoint::store::Recovery;

/// How often the [`Watcher`] is shown the counters.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What a job runs with.
#[derive(Debug, Clone, Copy)]
pub struct DriveSettings {
    /// When checkpoints are taken, and what follows a failure.
    pub job: JobSettings,
    /// How many checkpoints are kept.
    pub retained: NonZeroU32,
}

/// What a job keeps between runs.
pub struct Kept {
    /// The storage of its checkpoints.
    pub store: Box<dyn CheckpointStorage>,
    /// The checkpoint that the job resumes from, if there is one.
    pub recovery: Recovery,
    /// The failures so far, which the restart strategy counts.
    pub failures: FailureLog,
    /// The note of output whose checkpoints are deleted.
    pub later_output: LaterOutput,
}

/// Observes a job while it runs.
pub trait Watcher {
    /// The output of earlier runs was brought in order; records may flow. Called again when the job has gone back.
    fn begun(&mut self, recovered: &[(String, Recovered)]);
    /// Something worth telling.
    fn notice(&mut self, now: Duration, notice: Notice);
    /// Some time has passed.
    fn watch(&mut self, now: Duration, counters: &[Arc<Counters>]);
    /// From now on the job runs this; a failure may take it back while it is on trial.
    fn planned(&mut self, plan: &Plan, is_on_trial: bool);
    /// Where this worker writes what observers see.
    fn observed(&self, worker: WorkerIndex) -> Arc<WorkerMetrics>;
}

/// A job that ended as it should.
#[derive(Debug)]
pub struct Ended {
    /// How the job ended.
    pub ending: Ending,
    /// By sink: its summary, for people.
    pub summaries: Vec<(String, String)>,
}

/// Takes inputs to a job, from any thread. Clones reach the same job.
#[derive(Debug, Clone)]
pub struct Inputs {
    sender: mpsc::Sender<Input>,
    haste: Haste,
}

impl Inputs {
    /// The inputs of a job, and the inbox where they arrive.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Input>) {
        let (sender, inbox) = mpsc::channel();
        let haste = Haste::default();
        (Self { sender, haste }, inbox)
    }

    /// Begins when the job is asked to stop. Guests have to hear of that also while the job waits for them.
    #[must_use]
    pub fn haste(&self) -> &Haste {
        &self.haste
    }

    /// A job that is over drops its inputs.
    fn send(&self, input: Input) {
        let _ = self.sender.send(input);
    }
}

/// Sends a request to a job. One that is over drops it, and with it the caller.
pub fn request(inputs: &Inputs, request: Request) {
    let stops = matches!(request, Request::Stop { .. });
    inputs.send(Input::Request(request));
    // Later, so that the job hears of the stop before it hears of a guest that was interrupted.
    if stops {
        inputs.haste.begin();
    }
}

/// Sends a request to a job and waits for the answer.
///
/// # Errors
/// When the job refuses or cannot do it; [`Refusal::Ended`] if it has ended without an answer.
pub fn ask<T>(inputs: &Inputs, of: impl FnOnce(Caller<T>) -> Request) -> Answer<T> {
    let (caller, answer) = Caller::new();
    request(inputs, of(caller));
    // A job that has ended drops the caller.
    answer.recv().unwrap_or(Err(Refusal::Ended))
}

/// Runs a job to its end on this thread and others. `inputs` is a channel to which clients may send requests, too.
///
/// # Errors
/// When the job cannot begin or resume. Its last checkpoint is as it was.
pub fn drive(
    plan: Arc<Plan>,
    kept: Kept,
    settings: DriveSettings,
    clock: Clock,
    (inputs, inbox): (Inputs, mpsc::Receiver<Input>),
    watcher: &mut dyn Watcher,
) -> Result<Ended, JobError> {
    let Kept {
        store,
        recovery,
        mut failures,
        later_output,
    } = kept;
    if settings.job.fresh {
        // The failures kept of a job that starts over are only for inspection.
        let _ = failures.end(clock.wall_ms());
    }
    let job = Job::new(plan, settings.job, failures.counting());
    let (resources, found) = Resources::new(store, recovery, settings.retained, clock, inputs);
    let mut driver = Driver {
        job,
        resources,
        failures,
        later_output,
        clock,
        inbox,
        queue: VecDeque::from([Input::Recovered(Ok(found))]),
        watcher,
        watch_at: Duration::ZERO,
    };
    let ending = driver.run()?;
    // As with a job that starts over.
    let _ = driver.failures.end(clock.wall_ms());
    driver.watch();
    Ok(Ended {
        ending,
        summaries: driver.resources.summaries,
    })
}

/// A job with all that it needs to run.
struct Driver<'a> {
    job: Job,
    resources: Resources,
    failures: FailureLog,
    later_output: LaterOutput,
    clock: Clock,
    inbox: mpsc::Receiver<Input>,
    /// Inputs that come before those of the inbox.
    queue: VecDeque<Input>,
    watcher: &'a mut dyn Watcher,
    watch_at: Duration,
}

impl Driver<'_> {
    fn run(&mut self) -> Result<Ending, JobError> {
        let mut outputs = Vec::new();
        loop {
            let input = self.next_input();
            let now = Moment {
                clock: self.clock.now(),
                wall_ms: self.clock.wall_ms(),
            };
            self.job.step(now, input, &mut outputs);
            for output in outputs.drain(..) {
                if let Output::Finish(result) = output {
                    return result;
                }
                let next = perform(
                    output,
                    &mut self.resources,
                    (&mut self.failures, &self.later_output),
                    self.watcher,
                    now,
                );
                if next.as_ref().is_some_and(is_after_inbox) {
                    self.queue.extend(self.inbox.try_iter());
                }
                self.queue.extend(next);
            }
        }
    }

    /// Waits for the next input, and shows the counters meanwhile.
    fn next_input(&mut self) -> Input {
        if let Some(input) = self.queue.pop_front() {
            return input;
        }
        loop {
            let now = self.clock.now();
            if now >= self.watch_at {
                self.watch();
                self.watch_at = now + WATCH_INTERVAL;
            }
            let wakes_at = self.job.wakes_at();
            let until = wakes_at.map_or(self.watch_at, |at| at.min(self.watch_at));
            match self.inbox.recv_timeout(until.saturating_sub(now)) {
                Ok(input) => return input,
                Err(RecvTimeoutError::Timeout) if wakes_at == Some(until) => return Input::Tick,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the resources hold a sender")
                }
            }
        }
    }

    fn watch(&mut self) {
        let counters = self.resources.counters();
        self.watcher.watch(self.clock.now(), counters);
    }
}

/// Whether an input comes after what the threads have reported and what was requested meanwhile: that of a start that a stop
/// has interrupted comes after the stop.
fn is_after_inbox(input: &Input) -> bool {
    match input {
        Input::Stopped(_) => true,
        Input::Started(Err(error)) => error.is_interruption(),
        _ => false,
    }
}

/// Carries out an output. Returns the input that answers it, if one does.
fn perform(
    output: Output,
    resources: &mut Resources,
    (failures, later_output): (&mut FailureLog, &LaterOutput),
    watcher: &mut dyn Watcher,
    now: Moment,
) -> Option<Input> {
    match output {
        Output::Tell(control) => {
            if let Some(threads) = &resources.threads {
                threads.tell(control);
            }
        }
        Output::Write(request) => {
            if let Some(threads) = &resources.threads {
                threads.write(*request);
            }
        }
        Output::StopWorkers => return Some(Input::Stopped(resources.stop_workers())),
        Output::Recover(what) => return Some(Input::Recovered(resources.recover(what))),
        Output::DeleteAfter(at) => {
            let noted = later_output.note(at);
            let deleted = noted.and_then(|()| resources.delete_after(at));
            return Some(Input::Deleted(deleted));
        }
        Output::Start(start) => {
            let started = resources.start(&start, watcher);
            if started.is_ok() {
                later_output.forget();
            }
            return Some(Input::Started(started));
        }
        Output::CloseOutput(start) => {
            let closed = resources.close_output(&start, watcher);
            if closed.is_ok() {
                later_output.forget();
            }
            return Some(Input::Closed(closed));
        }
        Output::RetainAll(retains) => resources.retain_all(retains),
        Output::KeepFailure(kept) => {
            // It counts in this process at least; a disk that takes nothing shows in the checkpoints.
            let _ = failures.add(kept.failure, kept.checkpoint, &kept.reason);
        }
        Output::ForgetFailures => {
            // As with a job that starts over.
            let _ = failures.end(now.wall_ms);
        }
        Output::Plan(plan, is_on_trial) => watcher.planned(&plan, is_on_trial),
        Output::Notify(notice) => watcher.notice(now.clock, notice),
        Output::Answer(reply) => {
            let has_swapped = matches!(&reply, Reply::Swap(_, Ok(_)));
            reply.send();
            if has_swapped {
                crash::point(Point::SwapAnswered);
            }
        }
        Output::Finish(_) => {}
    }
    None
}
