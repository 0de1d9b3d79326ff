//! Runs a job on real threads, with the caller's for the conductor.
//!
//! Nothing is decided here but one thing: a job whose worker fails in a way that may pass goes back to its last checkpoint
//! without ending the process, a few times in a row at most. Its threads are joined, the storage says what is durable, and
//! workers, sources and sinks are made anew from there, as at the start of the process. So whatever a start cures, this
//! does, too.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::clock::Clock;
use super::threads::{Bell, Threads};
use crate::checkpoint::coordinator::{CheckpointSettings, Ending};
use crate::checkpoint::store::{Recovery, RestoredCheckpoint};
use crate::checkpoint::{CheckpointStorage, Depth};
use crate::connector::Recovered;
use crate::runtime::JobError;
use crate::runtime::build::{Built, Origin, build};
use crate::runtime::chunks::CheckpointChunks;
use crate::runtime::conductor::{Action, Conductor, EarlierRuns, Notice, WentBack};
use crate::runtime::exchange::Wake;
use crate::runtime::left::LeftStates;
use crate::runtime::plan::Plan;
use crate::runtime::report::Report;
use crate::runtime::worker::Counters;
use crate::runtime::writer::Writer;
use crate::state::{ChunkReader, StateSchema};
use crate::stream::CheckpointId;

/// How often whoever watches is shown the counters.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);
/// How often in a row, without a checkpoint in between, a job goes back before it fails.
const GOING_BACK_MAX: u32 = 3;

/// What a job runs with.
#[derive(Debug, Clone, Copy)]
pub struct DriveSettings {
    /// When checkpoints are taken.
    pub checkpoints: CheckpointSettings,
    /// How many are kept.
    pub retained: NonZeroU32,
    /// Whether output of earlier runs is removed.
    pub fresh: bool,
}

/// Whoever watches a job.
pub trait Watcher {
    /// Output of earlier runs was brought in order; records may flow. Comes again when the job has gone back.
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
    let counters = (0..plan.parallelism).map(|_| Arc::default()).collect();
    let stage = Stage {
        plan,
        retained: settings.retained,
        clock,
        reports,
        counters,
    };
    let records_in_before = earlier_runs(recovery.restored.as_ref()).records_in;
    let life = stage.live(store, recovery, settings.fresh, LeftStates::default())?;
    let mut job = Job {
        conductor: Conductor::new(
            plan,
            life.schemas,
            settings.checkpoints,
            life.next_id,
            life.earlier,
        ),
        stage,
        settings,
        inbox,
        watcher,
        records_in_before,
        gone_back: 0,
    };
    if let Some(found) = life.found {
        job.watcher.notice(clock.now(), Notice::WentBack(found));
    }
    job.watcher.begun(&life.recovered);
    let mut threads = life.threads;
    let ended = loop {
        match job.conduct(&threads) {
            Err(error) if error.may_pass() && job.gone_back < GOING_BACK_MAX => {
                threads = job.go_back(threads, &error)?;
            }
            ended => break ended,
        }
    };
    let (writer, _) = threads.stop()?;
    job.watcher.watch(clock.now(), &job.stage.counters);
    Ok(Ended {
        ending: ended?,
        summaries: writer.summaries(),
    })
}

fn earlier_runs(restored: Option<&RestoredCheckpoint>) -> EarlierRuns {
    let earlier = restored.map(|restored| EarlierRuns {
        checkpoint: Some(restored.checkpoint.id),
        records_in: restored.checkpoint.records_in,
        records_out: restored.checkpoint.records_out,
    });
    earlier.unwrap_or_default()
}

/// What workers are started with, each time.
struct Stage<'a> {
    plan: &'a Plan,
    retained: NonZeroU32,
    clock: Clock,
    reports: Reports,
    counters: Vec<Arc<Counters>>,
}

/// Threads that run, and by node the states of its operator.
type Started = (Threads, Vec<Vec<StateSchema>>);

/// A job that has begun, or begun again.
struct Life {
    threads: Threads,
    schemas: Vec<Vec<StateSchema>>,
    next_id: CheckpointId,
    earlier: EarlierRuns,
    recovered: Vec<(String, Recovered)>,
    /// Damage that showed on the way, and what the job began from instead.
    found: Option<WentBack>,
}

impl Stage<'_> {
    /// Begins from what was recovered; if that proves to be damaged, from what is sound.
    fn live(
        &self,
        store: Box<dyn CheckpointStorage>,
        recovery: Recovery,
        fresh: bool,
        left: LeftStates,
    ) -> Result<Life, JobError> {
        let (error, mut store) = match self.attempt(store, recovery, fresh, left) {
            Ok(life) => return Ok(life),
            Err((error, Some(store))) if error.is_of_stored_bytes() => (error, store),
            Err((error, _)) => return Err(error),
        };
        let mut recovery = store.recover(Depth::Thorough, None)?;
        let found = WentBack {
            reason: error.to_string(),
            to: earlier_runs(recovery.restored.as_ref()).checkpoint,
            attempt: 1,
            attempts_max: 1,
            in_memory: false,
            passed_over: std::mem::take(&mut recovery.damaged),
        };
        let life = self.attempt(store, recovery, false, LeftStates::default());
        let life = life.map_err(|(error, _)| error)?;
        Ok(Life {
            found: Some(found),
            ..life
        })
    }

    /// Begins from what was recovered. The store comes back if only the workers could not be made.
    fn attempt(
        &self,
        store: Box<dyn CheckpointStorage>,
        recovery: Recovery,
        fresh: bool,
        left: LeftStates,
    ) -> Result<Life, (JobError, Option<Box<dyn CheckpointStorage>>)> {
        let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(store.reader()));
        let restored = recovery.restored.as_ref();
        let begun = Writer::begin(self.plan, store, self.retained, restored, fresh);
        let (writer, recovered) = begun.map_err(|error| (error, None))?;
        let origin = Origin {
            plan: self.plan,
            restored: restored.map(|restored| &restored.checkpoint),
            chunks: &chunks,
            next_chunk: recovery.next_chunk,
            left,
        };
        match self.begin(writer, origin, Arc::clone(&chunks)) {
            Ok((threads, schemas)) => Ok(Life {
                threads,
                schemas,
                next_id: recovery.next_id,
                earlier: earlier_runs(restored),
                recovered,
                found: None,
            }),
            Err(failed) => {
                let (error, writer) = *failed;
                Err((error, Some(writer.into_store())))
            }
        }
    }

    fn begin(
        &self,
        writer: Writer,
        origin: Origin<'_>,
        chunks: Arc<dyn ChunkReader>,
    ) -> Result<Started, Box<(JobError, Writer)>> {
        let bells: Vec<_> = self
            .counters
            .iter()
            .map(|_| Arc::new(Bell::default()))
            .collect();
        let wakes: Vec<_> = bells
            .iter()
            .map(|bell| Arc::clone(bell) as Arc<dyn Wake>)
            .collect();
        let Built {
            workers,
            controls,
            schemas,
        } = match build(origin, &wakes, &self.counters, &self.reports) {
            Ok(built) => built,
            Err(error) => return Err(Box::new((error, writer))),
        };
        let threads = Threads::start(
            workers,
            bells,
            controls,
            writer,
            chunks,
            self.clock,
            &self.reports,
        );
        Ok((threads, schemas))
    }
}

/// A job that runs.
struct Job<'a> {
    conductor: Conductor,
    stage: Stage<'a>,
    settings: DriveSettings,
    inbox: mpsc::Receiver<Report>,
    watcher: &'a mut dyn Watcher,
    records_in_before: u64,
    gone_back: u32,
}

impl Job<'_> {
    /// Does what the conductor says, until the job is over or has failed.
    fn conduct(&mut self, threads: &Threads) -> Result<Ending, JobError> {
        let clock = self.stage.clock;
        let mut watch_at = Duration::ZERO;
        loop {
            let now = clock.now();
            if now >= watch_at {
                self.watcher.watch(now, &self.stage.counters);
                watch_at = now + WATCH_INTERVAL;
            }
            let wakes_at = self.conductor.wakes_at();
            let until = wakes_at.map_or(watch_at, |at| at.min(watch_at));
            let report = match self.inbox.recv_timeout(until.saturating_sub(now)) {
                Ok(report) => report,
                Err(RecvTimeoutError::Timeout) => Report::Tick,
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the stage can report")
                }
            };
            if let Some(ending) = self.handle(report, Some(threads))? {
                return Ok(ending);
            }
        }
    }

    /// Carries out what follows from a report; without threads, what can be.
    fn handle(
        &mut self,
        report: Report,
        threads: Option<&Threads>,
    ) -> Result<Option<Ending>, JobError> {
        let clock = self.stage.clock;
        for action in self.conductor.handle(clock.now(), clock.wall_ms(), report) {
            match action {
                Action::Tell(control) => {
                    if let Some(threads) = threads {
                        threads.tell(control);
                    }
                }
                Action::Write(request) => {
                    if let Some(threads) = threads {
                        threads.write(*request);
                    }
                }
                Action::Notify(notice) => {
                    if matches!(notice, Notice::Completed(_)) {
                        self.gone_back = 0;
                    }
                    self.watcher.notice(clock.now(), notice);
                }
                Action::Answer(asker, answer) => asker.answer(answer),
                Action::Finish(ending) => return Ok(Some(ending)),
                Action::Fail(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Goes back to the last checkpoint, after `error`.
    fn go_back(&mut self, threads: Threads, error: &JobError) -> Result<Threads, JobError> {
        let (writer, workers) = threads.stop()?;
        // What a write under way has become, and who has asked for something, still counts.
        while let Ok(report) = self.inbox.try_recv() {
            if report.is_of_workers() {
                continue;
            }
            self.handle(report, None)?;
        }
        // Not before: a checkpoint may have been completed meanwhile.
        self.gone_back += 1;
        let mut store = writer.into_store();
        let depth = match error.is_of_stored_bytes() {
            true => Depth::Thorough,
            false => Depth::Quick,
        };
        let mut recovery = store.recover(depth, None)?;
        let earlier = earlier_runs(recovery.restored.as_ref());
        let left = match (depth, workers) {
            (Depth::Quick, Some(workers)) => LeftStates::of(workers).back_to(earlier.checkpoint),
            _ => LeftStates::default(),
        };
        let notice = Notice::WentBack(WentBack {
            reason: error.to_string(),
            to: earlier.checkpoint,
            attempt: self.gone_back,
            attempts_max: GOING_BACK_MAX,
            in_memory: !left.is_empty(),
            passed_over: std::mem::take(&mut recovery.damaged),
        });
        let clock = self.stage.clock;
        self.watcher.notice(clock.now(), notice);
        self.count_from(earlier.records_in);
        let fresh = self.settings.fresh && recovery.restored.is_none();
        let life = self.stage.live(store, recovery, fresh, left)?;
        if let Some(found) = life.found {
            self.count_from(life.earlier.records_in);
            self.watcher.notice(clock.now(), Notice::WentBack(found));
        }
        self.conductor
            .begin_again(clock.now(), life.schemas, life.next_id, life.earlier);
        self.watcher.begun(&life.recovered);
        Ok(life.threads)
    }

    /// Has the counters say what this process has read, without what is read again.
    fn count_from(&self, records_in: u64) {
        let mut read = records_in.saturating_sub(self.records_in_before);
        for counters in &self.stage.counters {
            counters
                .records_in
                .store(std::mem::take(&mut read), Ordering::Relaxed);
            counters.records_out.store(0, Ordering::Relaxed);
        }
    }
}
