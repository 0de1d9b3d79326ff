//! Runs a job on real threads, with the caller's for the conductor. `stage` starts workers, `back` goes back.
//!
//! Nothing is decided here but one thing: a job whose worker fails in a way that may pass goes back to its last checkpoint
//! without ending the process, a few times in a row at most. Its threads are joined, the storage says what is durable, and
//! workers, sources and sinks are made anew from there, as at the start of the process. So whatever a start cures, this
//! does, too.

mod back;
mod stage;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use self::stage::Stage;
use super::clock::Clock;
use super::threads::Threads;
use crate::checkpoint::CheckpointStorage;
use crate::checkpoint::coordinator::{CheckpointSettings, Ending};
use crate::checkpoint::store::{Recovery, RestoredCheckpoint};
use crate::connector::Recovered;
use crate::observe::WorkerMetrics;
use crate::runtime::JobError;
use crate::runtime::conductor::{Action, Conductor, EarlierRuns, Notice};
use crate::runtime::left::LeftStates;
use crate::runtime::plan::Plan;
use crate::runtime::report::Report;
use crate::runtime::worker::Counters;

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
    /// Where the worker of this index writes what observers see.
    fn observed(&self, worker: usize) -> Arc<WorkerMetrics>;
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
    plan: Arc<Plan>,
    store: Box<dyn CheckpointStorage>,
    recovery: Recovery,
    settings: DriveSettings,
    clock: Clock,
    (reports, inbox): (Reports, mpsc::Receiver<Report>),
    watcher: &mut dyn Watcher,
) -> Result<Ended, JobError> {
    let counted = |worker| Counters {
        observed: watcher.observed(usize::from(worker)),
        ..Counters::default()
    };
    let counters = (0..plan.parallelism).map(|worker| Arc::new(counted(worker)));
    let counters = counters.collect();
    let stage = Stage {
        plan: Arc::clone(&plan),
        retained: settings.retained,
        clock,
        reports,
        counters,
    };
    let records_in_before = earlier_runs(recovery.restored.as_ref()).records_in;
    let life = stage.live(store, recovery, settings.fresh, LeftStates::default())?;
    let mut job = Job {
        conductor: Conductor::new(
            &plan,
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

/// A job that runs.
struct Job<'a> {
    conductor: Conductor,
    stage: Stage,
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
}
