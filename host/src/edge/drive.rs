//! Runs a job on real threads; the conductor runs on the caller's. `stage` starts workers, `back` returns the job to a
//! checkpoint, `rescale` and `rollback` carry out clients' requests, `trial` undoes a swap.
//!
//! Nothing is decided here: the conductor decides when a checkpoint is taken and how its outcome is handled, and the restart
//! strategy decides whether a job goes back after a failure. Workers are always remade in the same way as at the start of
//! the process: the old threads are joined, the storage says what is durable, and workers, sources and sinks are made from
//! there. So a fault that a restart of the process would cure is cured here, too.

mod back;
mod rescale;
mod rollback;
mod stage;
mod trial;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use self::rescale::{unsettled, unsettled_rollback};
use self::stage::Stage;
use self::trial::Trial;
use super::clock::Clock;
use super::failures::FailureLog;
use super::threads::Threads;
use crate::checkpoint::CheckpointStorage;
use crate::checkpoint::coordinator::{CheckpointSettings, Ending};
use crate::checkpoint::store::{Recovery, RestoredCheckpoint};
use crate::connector::Recovered;
use crate::crash::{self, Point};
use crate::observe::WorkerMetrics;
use crate::runtime::JobError;
use crate::runtime::conductor::{Action, Conductor, EarlierRuns, Notice, RescaleOrder};
use crate::runtime::left::LeftStates;
use crate::runtime::plan::Plan;
use crate::runtime::report::{Answer, Asker, Report, Rescaled, RollbackOrder, RolledBack};
use crate::runtime::restart::Strategy;
use crate::runtime::swap::Running;
use crate::runtime::worker::Counters;
use crate::stream::CheckpointId;

/// How often the [`Watcher`] is shown the counters.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// What a job runs with.
#[derive(Debug, Clone, Copy)]
pub struct DriveSettings {
    /// When checkpoints are taken.
    pub checkpoints: CheckpointSettings,
    /// How many are kept.
    pub retained: NonZeroU32,
    /// Whether output of earlier runs is removed.
    pub fresh: bool,
    /// What happens after a failure.
    pub restart: Strategy,
    /// What delays are scattered by: another one for each process.
    pub seed: u64,
}

/// What a job keeps between runs.
pub struct Kept {
    /// The storage of its checkpoints.
    pub store: Box<dyn CheckpointStorage>,
    /// Which one it begins with.
    pub recovery: Recovery,
    /// Its failures.
    pub failures: FailureLog,
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
    kept: Kept,
    settings: DriveSettings,
    clock: Clock,
    (reports, inbox): (Reports, mpsc::Receiver<Report>),
    watcher: &mut dyn Watcher,
) -> Result<Ended, JobError> {
    let Kept {
        store,
        recovery,
        mut failures,
    } = kept;
    if settings.fresh {
        // What is kept of a job that is begun anew is only for looking at.
        let _ = failures.end(clock.wall_ms());
    }
    let counters = counters(plan.parallelism, watcher);
    let stage = Stage {
        plan: Arc::clone(&plan),
        retained: settings.retained,
        clock,
        reports,
        counters,
        is_on_trial: Arc::default(),
        earlier_plans: Vec::new(),
        amended: None,
    };
    let before = earlier_runs(recovery.restored.as_ref());
    let mut job = Job {
        conductor: Conductor::new(
            &plan,
            Vec::new(),
            settings.checkpoints,
            recovery.next_id,
            before,
        ),
        stage,
        settings,
        failures,
        inbox,
        watcher,
        before,
        rollback: None,
        settling: None,
        trial: None,
        summaries: Vec::new(),
        has_begun: false,
        unbegun: None,
    };
    let threads = match job.begin(store, recovery, LeftStates::default()) {
        Ok(threads) => threads,
        Err(failed) => {
            // The user who starts the job sees the error at once, but a process that is restarted in a loop has to count it.
            if failed.error.may_pass() {
                job.decide(&failed.error, before);
            }
            return Err(failed.error);
        }
    };
    let ending = job.run(threads)?;
    // As with a job that is begun anew.
    let _ = job.failures.end(clock.wall_ms());
    job.watcher.watch(clock.now(), &job.stage.counters);
    Ok(Ended {
        ending,
        summaries: job.summaries,
    })
}

/// What each worker counts.
fn counters(parallelism: u16, watcher: &dyn Watcher) -> Vec<Arc<Counters>> {
    let counted = |worker| Counters {
        observed: watcher.observed(usize::from(worker)),
        ..Counters::default()
    };
    let all = (0..parallelism).map(|worker| Arc::new(counted(worker)));
    all.collect()
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
    failures: FailureLog,
    inbox: mpsc::Receiver<Report>,
    watcher: &'a mut dyn Watcher,
    /// Where the counts stood when this process began.
    before: EarlierRuns,
    /// A rollback that a client asked for.
    rollback: Option<Box<RollbackOrder>>,
    /// What is done, and is told when a checkpoint has it.
    settling: Option<(mpsc::Receiver<Answer<CheckpointId>>, Settling)>,
    trial: Option<Trial>,
    summaries: Vec<(String, String)>,
    /// Whether records have flowed.
    has_begun: bool,
    /// The store of workers that could not be made.
    unbegun: Option<Box<dyn CheckpointStorage>>,
}

/// What makes the threads of a job stop.
enum Turn {
    Ended(Ending),
    Rescale(RescaleOrder),
    RollBack(Box<RollbackOrder>),
}

/// What comes after.
enum Next {
    Run(Threads),
    Over(Ending),
}

/// What is done, but in no checkpoint yet.
enum Settling {
    Rescale {
        order: RescaleOrder,
        from: u16,
        pause: Duration,
    },
    Rollback {
        order: RollbackOrder,
        deleted: Vec<CheckpointId>,
        records_in: u64,
    },
}

impl Job<'_> {
    /// Runs the job to its end, however often its threads are made anew.
    fn run(&mut self, threads: Threads) -> Result<Ending, JobError> {
        let mut threads = threads;
        loop {
            let turn = self.conduct(&threads);
            let (resting, later) = self.rest(threads)?;
            let next = match (turn, later) {
                (Ok(Turn::Ended(ending)), _) | (_, Some(Turn::Ended(ending))) => Next::Over(ending),
                (Ok(Turn::Rescale(order)), _) | (Err(_), Some(Turn::Rescale(order))) => {
                    self.rescale(resting, order)?
                }
                (Ok(Turn::RollBack(order)), _) | (Err(_), Some(Turn::RollBack(order))) => {
                    self.roll_back(resting, *order)?
                }
                (Err(error), None) => match self.failed_trial(&error) {
                    Some(trial) => self.undo_swap(resting, trial, &error)?,
                    None if error.may_pass() => self.go_back(resting, error)?,
                    None => return Err(error),
                },
            };
            self.look_at_settling();
            match next {
                Next::Run(next) => threads = next,
                Next::Over(ending) => return Ok(ending),
            }
        }
    }

    /// Does what the conductor says, until the threads are to stop or one of them has failed.
    fn conduct(&mut self, threads: &Threads) -> Result<Turn, JobError> {
        let clock = self.stage.clock;
        let mut watch_at = Duration::ZERO;
        loop {
            if let Some(order) = self.rollback.take() {
                return Ok(Turn::RollBack(order));
            }
            let now = clock.now();
            if now >= watch_at {
                self.watcher.watch(now, &self.stage.counters);
                self.look_at_trial(now);
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
            let turn = self.handle(report, Some(threads))?;
            self.look_at_settling();
            if let Some(turn) = turn {
                return Ok(turn);
            }
        }
    }

    /// Carries out what follows from a report; without threads, what can be.
    fn handle(
        &mut self,
        report: Report,
        threads: Option<&Threads>,
    ) -> Result<Option<Turn>, JobError> {
        let clock = self.stage.clock;
        let Some(report) = self.refuse_on_trial(report) else {
            return Ok(None);
        };
        for action in self.conductor.handle(clock.now(), clock.wall_ms(), report) {
            if let Some(turn) = self.carry_out(action, threads)? {
                return Ok(Some(turn));
            }
        }
        Ok(None)
    }

    fn carry_out(
        &mut self,
        action: Action,
        threads: Option<&Threads>,
    ) -> Result<Option<Turn>, JobError> {
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
            Action::Notify(notice) => self.watcher.notice(self.stage.clock.now(), notice),
            Action::Answer(asker, answer) => asker.answer(answer),
            Action::AnswerRescale(asker, answer) => asker.answer(answer),
            Action::AnswerSwap(asker, answer) => {
                if let Ok(swapped) = &answer {
                    crash::point(Point::SwapDurable);
                    let notice = Notice::Swapped(swapped.clone());
                    self.watcher.notice(self.stage.clock.now(), notice);
                }
                asker.answer(answer);
                crash::point(Point::SwapAnswered);
            }
            Action::Describe {
                asker,
                schemas,
                generation,
                newest,
            } => asker.answer(Ok(Running {
                plan: Arc::clone(&self.stage.plan),
                schemas,
                generation,
                newest,
            })),
            Action::PlanReplaced {
                plan,
                from,
                before,
                trial,
            } => {
                if let Some(time) = trial {
                    self.begin_trial_of(from, before, time);
                }
                self.stage.replace_plan(plan, from);
                self.watcher.planned(&self.stage.plan, trial.is_some());
            }
            Action::Rescale(order) => {
                crash::point(Point::RescaleDurable);
                return Ok(Some(Turn::Rescale(order)));
            }
            Action::RollBack(order) => {
                crash::point(Point::RollbackAsked);
                match &self.rollback {
                    None => self.rollback = Some(order),
                    Some(_) => {
                        let reason = "the job is being rolled back already";
                        order.asker.answer(Err(reason.to_owned()));
                    }
                }
            }
            Action::Finish(ending) => return Ok(Some(Turn::Ended(ending))),
            Action::Fail(error) => return Err(error),
        }
        Ok(None)
    }

    /// Tells the conductor to take a checkpoint as soon as it can. The receiver gets its id, or the reason why it failed.
    fn ask_for_checkpoint(&self) -> mpsc::Receiver<Answer<CheckpointId>> {
        let (asker, answer) = Asker::new();
        // This side of the channel is ours.
        let _ = self.stage.reports.send(Report::CheckpointAsked(asker));
        answer
    }

    /// Asks for a checkpoint that contains a change. The client that asked for the change is answered once that checkpoint
    /// is durable or has failed.
    fn settle(&mut self, settling: Settling) {
        let answer = self.ask_for_checkpoint();
        if let Some((_, before)) = self.settling.replace((answer, settling)) {
            let reason = "something else was asked of the job before a checkpoint had it";
            self.settled(before, Err(reason.to_owned()));
        }
    }

    fn look_at_settling(&mut self) {
        let answer = |(answer, _): &mut (mpsc::Receiver<_>, _)| answer.try_recv().ok();
        let Some(answer) = self.settling.as_mut().and_then(answer) else {
            return;
        };
        if let Some((_, settling)) = self.settling.take() {
            self.settled(settling, answer);
        }
    }

    fn settled(&mut self, settling: Settling, checkpoint: Answer<CheckpointId>) {
        let now = self.stage.clock.now();
        match settling {
            Settling::Rescale { order, from, pause } => {
                let rescaled = |checkpoint| Rescaled {
                    from,
                    to: order.parallelism,
                    checkpoint,
                    pause,
                };
                let answer = checkpoint.map(rescaled);
                let answer = answer.map_err(|reason| unsettled(order.parallelism, from, &reason));
                if let Ok(rescaled) = answer {
                    self.watcher.notice(now, Notice::Rescaled(rescaled));
                }
                order.asker.answer(answer);
            }
            Settling::Rollback {
                order,
                deleted,
                records_in,
            } => {
                let to = order.to;
                let rolled_back = |checkpoint| RolledBack {
                    to,
                    deleted,
                    records_in,
                    checkpoint,
                };
                let answer = checkpoint.map(rolled_back);
                let answer = answer.map_err(|reason| unsettled_rollback(to, &reason));
                if let Ok(rolled_back) = &answer {
                    let notice = Notice::RolledBack(rolled_back.clone());
                    self.watcher.notice(now, notice);
                }
                order.asker.answer(answer);
            }
        }
    }
}
