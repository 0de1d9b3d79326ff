//! Runs the threads of a job: one per worker, one for the writer of checkpoints, and those of `loader`, `read_ahead`
//! and `folder_events`.
//!
//! Workers step until they are idle and then wait to be woken. A thread that panics is reported at once, since the job
//! would otherwise not learn of it before it ends. Decisions are made in `job`.

use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::Clock;
use super::folder_events::WatchingThread;
use super::loader::{Loaded, Loader};
use super::read_ahead::ReadingThread;
use crate::runtime::JobError;
use crate::runtime::exchange::Wake;
use crate::runtime::report::{Report, Reports, WriteOutcome};
use crate::runtime::worker::{Control, Progress, Worker};
use crate::runtime::writer::{WriteRequest, Writer};
use floodmark_state::ChunkReader;

/// Longest wait of a worker, so that its idle time is reported while it passes.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Wakes a waiting thread. If the thread does not wait yet, its next wait ends at once.
#[derive(Default)]
pub(super) struct Bell {
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
    fn wait(&self, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.heard.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// The threads of a job.
pub(super) struct Threads {
    workers: Vec<JoinHandle<Option<Worker>>>,
    bells: Vec<Arc<Bell>>,
    controls: Vec<mpsc::Sender<Control>>,
    writer: JoinHandle<Writer>,
    requests: Option<mpsc::Sender<WriteRequest>>,
    loader: Loader,
    reading: ReadingThread,
    watching: WatchingThread,
}

impl Threads {
    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    pub(super) fn start(
        mut workers: Vec<Worker>,
        bells: Vec<Arc<Bell>>,
        controls: Vec<mpsc::Sender<Control>>,
        mut writer: Writer,
        chunks: Arc<dyn ChunkReader>,
        clock: Clock,
        reports: &Reports,
    ) -> Self {
        let (loader, loaded) = Loader::start(&mut workers, &bells, chunks, writer.proof(), reports);
        let (requests, inbox) = mpsc::channel::<WriteRequest>();
        let outcomes = reports.clone();
        let writer = std::thread::spawn(move || {
            let guard = PanicGuard::new(&outcomes, "the checkpoint writer");
            for request in inbox {
                let outcome: WriteOutcome = writer.write(request);
                outcomes(Report::Written(outcome));
            }
            guard.disarm();
            writer
        });
        let reading = ReadingThread::new(workers.len());
        if let Some(service) = reading.service() {
            for worker in &mut workers {
                worker.read_ahead_by(&service);
            }
        }
        let watching = WatchingThread::new(clock);
        for (worker, bell) in workers.iter_mut().zip(&bells) {
            worker.notify_by(&watching.service(Arc::clone(bell) as Arc<dyn Wake>));
        }
        let workers = workers.into_iter().zip(loaded).zip(&bells);
        let threads = workers.map(|((worker, loaded), bell)| {
            let (bell, reports) = (Arc::clone(bell), reports.clone());
            std::thread::spawn(move || work(worker, &loaded, &bell, clock, &reports))
        });
        Self {
            workers: threads.collect(),
            bells,
            controls,
            writer,
            requests: Some(requests),
            loader,
            reading,
            watching,
        }
    }

    pub(super) fn tell(&self, control: Control) {
        for (sender, bell) in self.controls.iter().zip(&self.bells) {
            // A worker that has ended has reported why.
            let _ = sender.send(control.clone());
            bell.wake();
        }
    }

    pub(super) fn write(&self, request: WriteRequest) {
        if let Some(requests) = &self.requests {
            // A writer that has ended has reported why.
            let _ = requests.send(request);
        }
    }

    /// Waits until all threads finish their current work. Returns the workers if the state of all can be used.
    pub(super) fn stop(mut self) -> Result<(Writer, Option<Vec<Worker>>), JobError> {
        self.tell(Control::Shutdown);
        self.requests = None;
        let mut workers = Vec::with_capacity(self.workers.len());
        for worker in self.workers {
            let worker = worker.join();
            workers.push(worker.map_err(|_| JobError::Defect { what: "a worker" })?);
        }
        let writer = self.writer.join().map_err(|_| JobError::Defect {
            what: "the checkpoint writer",
        })?;
        self.loader.stop()?;
        self.reading.stop()?;
        self.watching.stop()?;
        Ok((writer, workers.into_iter().collect()))
    }
}

/// Steps a worker until it ends or fails, and returns it if its state can be used.
fn work(
    mut worker: Worker,
    loaded: &mpsc::Receiver<Loaded>,
    bell: &Bell,
    clock: Clock,
    reports: &Reports,
) -> Option<Worker> {
    let guard = PanicGuard::new(reports, "a worker");
    let mut is_sound = true;
    let mut noted = clock.now();
    loop {
        // Time since the end of the last step, including a wait.
        let begun = clock.now();
        worker.note_time(begun.saturating_sub(noted));
        noted = begun;
        let mut has_loaded = false;
        let mut step = |now| {
            // One per step, since each chunk is scanned.
            if let Ok((node, chunk)) = loaded.try_recv() {
                has_loaded = true;
                worker.supply(node, chunk)?;
            }
            worker.step(now, clock.wall_ms())
        };
        match step(begun) {
            Ok(Progress::Moved { snapshot: false }) => {}
            Ok(Progress::Moved { snapshot: true }) => {
                reports(Report::Stalled(clock.now().saturating_sub(begun)));
            }
            Ok(Progress::Idle { .. }) if has_loaded => {}
            Ok(Progress::Idle { until }) => {
                let left = until.map(|until| until.saturating_sub(clock.now()));
                bell.wait(left.map_or(WAIT_MAX, |left| left.min(WAIT_MAX)))
            }
            Ok(Progress::Over) => break,
            Err(error) => {
                is_sound = !error.spoils_state();
                reports(Report::Failed(error));
                break;
            }
        }
    }
    guard.disarm();
    is_sound.then_some(worker)
}

/// Reports a panic of a thread: the job would otherwise not learn of it before it ends.
struct PanicGuard<'a> {
    reports: &'a Reports,
    what: &'static str,
    armed: bool,
}

impl<'a> PanicGuard<'a> {
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

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            (self.reports)(Report::Failed(JobError::Defect { what: self.what }));
        }
    }
}
