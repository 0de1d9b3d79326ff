//! Runs a job on real threads: one per worker, one for the writer, and the caller's for the conductor.
//!
//! Nothing is decided here. Workers step until they are idle and then wait to be woken; reports go to the conductor over
//! one channel; its actions go to the workers and the writer.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Clock;
use crate::checkpoint::CheckpointStorage;
use crate::checkpoint::coordinator::{CheckpointSettings, Ending};
use crate::checkpoint::store::Recovery;
use crate::connector::Recovered;
use crate::runtime::JobError;
use crate::runtime::build::{Built, build};
use crate::runtime::chunks::CheckpointChunks;
use crate::runtime::conductor::{Action, Conductor, EarlierRuns, Notice};
use crate::runtime::exchange::Wake;
use crate::runtime::plan::Plan;
use crate::runtime::report::{Report, WriteOutcome};
use crate::runtime::worker::{Control, Counters, Progress, Worker};
use crate::runtime::writer::{WriteRequest, Writer};

/// How often whoever watches is shown the counters.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What a job runs with.
#[derive(Debug, Clone, Copy)]
pub struct DriveSettings {
    /// When checkpoints are taken.
    pub checkpoints: CheckpointSettings,
    /// How many are kept.
    pub retained: std::num::NonZeroU32,
    /// Whether output of earlier runs is removed.
    pub fresh: bool,
}

/// Whoever watches a job.
pub trait Watcher {
    /// Output of earlier runs was brought in order; records may flow.
    fn begun(&mut self, recovered: &[(String, Recovered)]);
    /// Something worth telling.
    fn notice(&mut self, now: Duration, notice: Notice);
    /// Some time has passed.
    fn watch(&mut self, now: Duration, counters: &[Arc<Counters>]);
}

/// A job that ended as it should.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// What sinks have to say.
    pub summaries: Vec<(String, String)>,
}

/// Where reports from outside go: a handle for signal handlers.
pub type Reports = mpsc::Sender<Report>;

/// Runs a job to its end on this thread and others. `reports` is a channel that the caller may report to, too.
///
/// # Errors
/// When the job cannot begin or go on. Its last checkpoint is as it was.
pub fn drive(
    plan: &Plan,
    store: Box<dyn CheckpointStorage>,
    recovery: Recovery,
    settings: DriveSettings,
    clock: Clock,
    (reports, inbox): (Reports, mpsc::Receiver<Report>),
    watcher: &mut dyn Watcher,
) -> Result<Ended, JobError> {
    let restored = recovery.restored;
    let chunks = CheckpointChunks(store.reader());
    let (writer, recovered) = Writer::begin(
        plan,
        store,
        settings.retained,
        restored.as_ref(),
        settings.fresh,
    )?;
    let wakes: Vec<_> = (0..plan.parallelism)
        .map(|_| Arc::new(Bell::default()))
        .collect();
    let as_wakes: Vec<_> = wakes
        .iter()
        .map(|bell| Arc::clone(bell) as Arc<dyn Wake>)
        .collect();
    let counters: Vec<_> = wakes
        .iter()
        .map(|_| Arc::new(Counters::default()))
        .collect();
    let built = build(
        plan,
        restored.as_ref(),
        &chunks,
        recovery.next_chunk,
        &as_wakes,
        &counters,
        &reports,
    )?;
    let Built {
        workers,
        controls,
        schemas,
    } = built;
    let earlier = restored.as_ref().map(|restored| EarlierRuns {
        checkpoint: Some(restored.checkpoint.id),
        records_in: restored.checkpoint.records_in,
        records_out: restored.checkpoint.records_out,
    });
    drop(restored);
    let next = recovery.next_id;
    let mut conductor = Conductor::new(
        plan,
        schemas,
        settings.checkpoints,
        next,
        earlier.unwrap_or_default(),
    );
    watcher.begun(&recovered);
    let mut threads = Threads::start(workers, wakes, controls, writer, clock, &reports);
    drop(reports);
    let ended = conduct(
        &mut conductor,
        &mut threads,
        clock,
        &inbox,
        &counters,
        watcher,
    );
    let writer = threads.stop()?;
    watcher.watch(clock.now(), &counters);
    Ok(Ended {
        ending: ended?,
        summaries: writer.summaries(),
    })
}

fn conduct(
    conductor: &mut Conductor,
    threads: &mut Threads,
    clock: Clock,
    inbox: &mpsc::Receiver<Report>,
    counters: &[Arc<Counters>],
    watcher: &mut dyn Watcher,
) -> Result<Ending, JobError> {
    let mut watch_at = Duration::ZERO;
    loop {
        let now = clock.now();
        if now >= watch_at {
            watcher.watch(now, counters);
            watch_at = now + WATCH_INTERVAL;
        }
        let until = conductor.wakes_at().map_or(watch_at, |at| at.min(watch_at));
        let report = match inbox.recv_timeout(until.saturating_sub(now)) {
            Ok(report) => report,
            Err(RecvTimeoutError::Timeout) => Report::Tick,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(JobError::Defect {
                    what: "all workers",
                });
            }
        };
        for action in conductor.handle(clock.now(), clock.wall_ms(), report) {
            match action {
                Action::Tell(control) => threads.tell(control),
                Action::Write(request) => threads.write(*request),
                Action::Notify(notice) => watcher.notice(clock.now(), notice),
                Action::Finish(ending) => return Ok(ending),
                Action::Fail(error) => return Err(error),
            }
        }
    }
}

/// Wakes a thread that waits; a ring is kept until somebody waits.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }
}

impl Bell {
    /// Waits for a ring, for at most this long.
    fn wait(&self, at_most: Option<Duration>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rung = match at_most {
            None => self
                .heard
                .wait_while(rung, |rung| !*rung)
                .unwrap_or_else(PoisonError::into_inner),
            Some(at_most) => {
                let waited = self.heard.wait_timeout_while(rung, at_most, |rung| !*rung);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        *rung = false;
    }
}

/// The threads of a job.
struct Threads {
    workers: Vec<JoinHandle<()>>,
    bells: Vec<Arc<Bell>>,
    controls: Vec<mpsc::Sender<Control>>,
    writer: JoinHandle<Writer>,
    requests: Option<mpsc::Sender<WriteRequest>>,
}

impl Threads {
    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    fn start(
        workers: Vec<Worker>,
        bells: Vec<Arc<Bell>>,
        controls: Vec<mpsc::Sender<Control>>,
        mut writer: Writer,
        clock: Clock,
        reports: &Reports,
    ) -> Self {
        let (requests, inbox) = mpsc::channel::<WriteRequest>();
        let outcomes = reports.clone();
        let writer = std::thread::spawn(move || {
            let guard = Guard::new(&outcomes, "the checkpoint writer");
            for request in inbox {
                let outcome: WriteOutcome = writer.write(request);
                // Nobody listens only when the job has failed meanwhile.
                let _ = outcomes.send(Report::Written(outcome));
            }
            guard.disarm();
            writer
        });
        let threads = workers.into_iter().zip(&bells).map(|(worker, bell)| {
            let (bell, reports) = (Arc::clone(bell), reports.clone());
            std::thread::spawn(move || work(worker, &bell, clock, &reports))
        });
        Self {
            workers: threads.collect(),
            bells,
            controls,
            writer,
            requests: Some(requests),
        }
    }

    fn tell(&self, control: Control) {
        for (sender, bell) in self.controls.iter().zip(&self.bells) {
            // A worker that is gone has reported why.
            let _ = sender.send(control);
            bell.wake();
        }
    }

    fn write(&self, request: WriteRequest) {
        if let Some(requests) = &self.requests {
            // A writer that is gone has reported why.
            let _ = requests.send(request);
        }
    }

    /// Waits for all threads, after what they have begun.
    fn stop(mut self) -> Result<Writer, JobError> {
        self.tell(Control::Shutdown);
        self.requests = None;
        for worker in self.workers {
            worker
                .join()
                .map_err(|_| JobError::Defect { what: "a worker" })?;
        }
        self.writer.join().map_err(|_| JobError::Defect {
            what: "the checkpoint writer",
        })
    }
}

fn work(mut worker: Worker, bell: &Bell, clock: Clock, reports: &Reports) {
    let guard = Guard::new(reports, "a worker");
    loop {
        let now = clock.now();
        match worker.step(now) {
            Ok(Progress::Moved { snapshot: false }) => {}
            Ok(Progress::Moved { snapshot: true }) => {
                let _ = reports.send(Report::Stalled(clock.now().saturating_sub(now)));
            }
            Ok(Progress::Idle { until }) => {
                bell.wait(until.map(|until| until.saturating_sub(clock.now())))
            }
            Ok(Progress::Over) => break,
            Err(error) => {
                let _ = reports.send(Report::Failed(error));
                break;
            }
        }
    }
    guard.disarm();
}

/// Reports a thread that ends by a panic: nobody would hear of it else until the end of the job.
struct Guard<'a> {
    reports: &'a Reports,
    what: &'static str,
    armed: bool,
}

impl<'a> Guard<'a> {
    fn new(reports: &'a Reports, what: &'static str) -> Self {
        Self {
            reports,
            what,
            armed: true,
        }
    }

    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.armed {
            let _ = self
                .reports
                .send(Report::Failed(JobError::Defect { what: self.what }));
        }
    }
}
