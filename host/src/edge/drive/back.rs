//! The return of a running job to a checkpoint: its threads are joined, the storage says what is durable, and workers are
//! made anew from there. State in memory is kept and reverted if all of it can be.
//!
//! After a failure the restart strategy decides (`runtime::restart`). Its delay is waited for here; a request to stop, drain
//! or roll back the job ends the delay. A rescale, a rollback and the undoing of a swap take the same way, without a delay.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::super::threads::Threads;
use super::stage::NotBegun;
use super::{Job, Next, Turn, WATCH_INTERVAL, counters, earlier_runs};
use crate::checkpoint::coordinator::Ending;
use crate::checkpoint::store::{Recovery, StoreError};
use crate::checkpoint::{CheckpointStorage, Depth};
use crate::crash::{self, Point};
use crate::runtime::JobError;
use crate::runtime::conductor::{EarlierRuns, Notice, WentBack};
use crate::runtime::left::LeftStates;
use crate::runtime::plan::Plan;
use crate::runtime::report::Report;
use crate::runtime::restart::{Decision, Failure};
use crate::runtime::worker::Worker;
use crate::runtime::writer::Writer;
use crate::stream::CheckpointId;

/// A job whose threads are joined.
pub(super) struct Resting {
    pub(super) store: Box<dyn CheckpointStorage>,
    /// Those whose state can be used, if that of all can.
    pub(super) workers: Option<Vec<Worker>>,
}

/// The checkpoint from which a job resumes, and the plan that it then runs.
pub(super) struct Target {
    /// The checkpoint, whose later ones are deleted; none for the newest.
    pub(super) at: Option<CheckpointId>,
    pub(super) depth: Depth,
    pub(super) plan: Arc<Plan>,
    /// Reached when later checkpoints are deleted.
    pub(super) deleted: Point,
}

/// A job that has gone to its target.
pub(super) struct Went {
    pub(super) next: Next,
    /// Checkpoints that are gone.
    pub(super) deleted: Vec<CheckpointId>,
    /// What it went on from.
    pub(super) earlier: EarlierRuns,
}

/// What ends a delay.
#[derive(PartialEq, Eq)]
enum Waited {
    ToTheEnd,
    Stopped,
}

impl Job<'_> {
    /// Joins the threads. What a write under way has become, and who has asked for something, still counts: the turn that it
    /// leads to, if any.
    pub(super) fn rest(&mut self, threads: Threads) -> Result<(Resting, Option<Turn>), JobError> {
        let (writer, workers) = threads.stop()?;
        let mut turn = None;
        while let Ok(report) = self.inbox.try_recv() {
            if report.is_of_workers() {
                continue;
            }
            match self.handle(report, None) {
                Ok(next) => turn = turn.or(next),
                // The job is about to go back anyway.
                Err(JobError::NotSwapped { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.conductor.rest();
        self.summaries = writer.summaries();
        let store = writer.into_store();
        Ok((Resting { store, workers }, turn))
    }

    /// Goes back to the last checkpoint after a failure, as often as the strategy says.
    pub(super) fn go_back(&mut self, resting: Resting, error: JobError) -> Result<Next, JobError> {
        let clock = self.stage.clock;
        let Resting { store, workers } = resting;
        let (mut store, mut workers, mut error) = (store, workers, error);
        loop {
            let depth = match error.is_of_stored_bytes() {
                true => Depth::Thorough,
                false => Depth::Quick,
            };
            let mut recovery = store.recover(depth, None)?;
            let earlier = earlier_runs(recovery.restored.as_ref());
            let was_swapping = self.conductor.is_swapping();
            self.settle_swap(earlier, &error.to_string())?;
            let left = match (depth, workers.take()) {
                (Depth::Quick, Some(workers)) => {
                    LeftStates::of(workers).back_to(earlier.checkpoint)
                }
                _ => LeftStates::default(),
            };
            if self.conductor.is_to_stop() {
                return self.stop_at_rest(store, recovery);
            }
            let decision = match was_swapping {
                // What was tried is undone, so there is nothing to wait for.
                true => Decision::GoBack {
                    delay: Duration::ZERO,
                    attempt: 1,
                    attempts_max: None,
                },
                false => self.decide(&error, earlier),
            };
            let (delay, attempt, attempts_max) = match decision {
                Decision::GoBack {
                    delay,
                    attempt,
                    attempts_max,
                } => (delay, attempt, attempts_max),
                Decision::GiveUp(limit) => {
                    let kept = earlier.checkpoint;
                    let notice = Notice::GaveUp { limit, kept };
                    self.watcher.notice(clock.now(), notice);
                    return Err(error);
                }
            };
            let notice = Notice::WentBack(WentBack {
                reason: error.to_string(),
                to: earlier.checkpoint,
                attempt,
                attempts_max,
                delay,
                in_memory: !left.is_empty(),
                passed_over: std::mem::take(&mut recovery.damaged),
            });
            self.watcher.notice(clock.now(), notice);
            if self.wait(delay)? == Waited::Stopped {
                return self.stop_at_rest(store, recovery);
            }
            if let Some(order) = self.rollback.take() {
                let workers = None;
                return self.roll_back(Resting { store, workers }, *order);
            }
            match self.begin(store, recovery, left) {
                Ok(threads) => return Ok(Next::Run(threads)),
                Err(NotBegun {
                    error: next,
                    store: Some(kept),
                }) if next.may_pass() => {
                    store = kept;
                    error = next;
                }
                Err(failed) => return Err(failed.error),
            }
        }
    }

    /// Settles a swap that was under way, now that the checkpoint from which the job resumes is known, and restores the plan
    /// that was in effect at that checkpoint.
    fn settle_swap(&mut self, earlier: EarlierRuns, reason: &str) -> Result<(), JobError> {
        let now = self.stage.clock.now();
        for action in self.conductor.settle_swap(now, earlier.checkpoint, reason) {
            self.carry_out(action, None)?;
        }
        self.stage.go_back_to(earlier.checkpoint);
        Ok(())
    }

    /// Notes a failure and decides on it.
    pub(super) fn decide(&mut self, error: &JobError, earlier: EarlierRuns) -> Decision {
        let at_ms = self.stage.clock.wall_ms();
        let counting = self.failures.counting();
        let records_in = earlier.records_in;
        let strategy = &self.settings.restart;
        let decision = strategy.decide(&counting, at_ms, records_in, self.settings.seed);
        let delay = match decision {
            Decision::GoBack { delay, .. } => delay,
            Decision::GiveUp(_) => Duration::ZERO,
        };
        let failure = Failure {
            at_ms,
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            records_in,
        };
        // It counts in this process at least; a disk that takes nothing shows in the checkpoints.
        let _ = self
            .failures
            .add(failure, earlier.checkpoint, &error.to_string());
        decision
    }

    /// Goes to a checkpoint at once. When workers cannot be made there for a reason that may pass, the strategy decides.
    pub(super) fn go_to(&mut self, resting: Resting, target: Target) -> Result<Went, JobError> {
        let Resting { mut store, workers } = resting;
        let recovery = store.recover(target.depth, target.at)?;
        let deleted = match target.at {
            Some(at) => forget_later(&mut *store, at)?,
            None => Vec::new(),
        };
        crash::point(target.deleted);
        let earlier = earlier_runs(recovery.restored.as_ref());
        self.settle_swap(earlier, "it was made anew")?;
        let left = match workers {
            Some(workers) if self.is_as_it_was(&target) => {
                LeftStates::of(workers).back_to(earlier.checkpoint)
            }
            _ => LeftStates::default(),
        };
        if self.stage.plan.parallelism != target.plan.parallelism {
            self.stage.counters = counters(target.plan.parallelism, &*self.watcher);
        }
        self.stage.plan = target.plan;
        self.watcher.planned(&self.stage.plan, false);
        let next = match self.begin(store, recovery, left) {
            Ok(threads) => Next::Run(threads),
            Err(NotBegun {
                error,
                store: Some(store),
            }) if error.may_pass() => {
                let workers = None;
                self.go_back(Resting { store, workers }, error)?
            }
            Err(failed) => {
                self.unbegun = failed.store;
                return Err(failed.error);
            }
        };
        Ok(Went {
            next,
            deleted,
            earlier,
        })
    }

    /// Whether state in memory can be used where the job goes: by the same tasks of the same plugins.
    fn is_as_it_was(&self, target: &Target) -> bool {
        target.depth == Depth::Quick && Arc::ptr_eq(&self.stage.plan, &target.plan)
    }

    /// Makes workers and has them run.
    pub(super) fn begin(
        &mut self,
        store: Box<dyn CheckpointStorage>,
        recovery: Recovery,
        left: LeftStates,
    ) -> Result<Threads, NotBegun> {
        let clock = self.stage.clock;
        self.count_from(earlier_runs(recovery.restored.as_ref()));
        // At the start also if a savepoint takes the place of what is forgotten; later it is what this job has written.
        let fresh = self.settings.fresh && (!self.has_begun || recovery.restored.is_none());
        let life = self.stage.live(store, recovery, fresh, left)?;
        if let Some(found) = life.found {
            self.count_from(life.earlier);
            self.watcher.notice(clock.now(), Notice::WentBack(found));
        }
        self.conductor.begin_again(
            clock.now(),
            &self.stage.plan,
            life.schemas,
            life.next_id,
            life.earlier,
        );
        self.has_begun = true;
        self.watcher.begun(&life.recovered);
        Ok(life.threads)
    }

    /// Waits, and handles requests meanwhile. A request to stop, drain or roll back the job ends the wait early.
    fn wait(&mut self, delay: Duration) -> Result<Waited, JobError> {
        let clock = self.stage.clock;
        let until = clock.now() + delay;
        loop {
            let now = clock.now();
            if now >= until || self.rollback.is_some() {
                return Ok(Waited::ToTheEnd);
            }
            let rest = (until - now).min(WATCH_INTERVAL);
            let report = match self.inbox.recv_timeout(rest) {
                Ok(report) => report,
                Err(RecvTimeoutError::Timeout) => {
                    self.watcher.watch(clock.now(), &self.stage.counters);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("the stage can report"),
            };
            let drains = matches!(report, Report::StopAsked { drain: true, .. });
            self.handle(report, None)?;
            if self.conductor.is_to_stop() {
                return Ok(Waited::Stopped);
            }
            if drains {
                return Ok(Waited::ToTheEnd);
            }
        }
    }

    /// Ends the job where its last checkpoint is: a last one would be no further.
    fn stop_at_rest(
        &mut self,
        store: Box<dyn CheckpointStorage>,
        recovery: Recovery,
    ) -> Result<Next, JobError> {
        let restored = recovery.restored.as_ref();
        let at = earlier_runs(restored).checkpoint;
        let fresh = self.settings.fresh && restored.is_none();
        self.count_from(earlier_runs(restored));
        let (plan, retained) = (&self.stage.plan, self.stage.retained);
        // What was staged since is removed, and what is durable is made visible.
        let begun = Writer::begin(plan, store, retained, restored, fresh);
        let (writer, recovered) = begun.map_err(|failed| failed.error)?;
        self.summaries = writer.summaries();
        let now = self.stage.clock.now();
        self.watcher.begun(&recovered);
        self.watcher.notice(now, Notice::StoppedAtRest { at });
        for action in self.conductor.stop_at_rest(at) {
            self.carry_out(action, None)?;
        }
        Ok(Next::Over(Ending::Stopped))
    }

    /// Sets the counters to what this process had read and written at that checkpoint, so that replayed records are not
    /// counted twice.
    fn count_from(&mut self, earlier: EarlierRuns) {
        let before = &mut self.before;
        // A rollback may lead to before this process.
        before.records_in = before.records_in.min(earlier.records_in);
        before.records_out = before.records_out.min(earlier.records_out);
        let mut read = earlier.records_in - before.records_in;
        let mut written = earlier.records_out - before.records_out;
        for counters in &self.stage.counters {
            let (take_in, take_out) = (std::mem::take(&mut read), std::mem::take(&mut written));
            counters.records_in.store(take_in, Ordering::Relaxed);
            counters.records_out.store(take_out, Ordering::Relaxed);
        }
    }
}

/// Deletes the checkpoints after one. Their output is taken back after that, so that no checkpoint is ever there without its
/// output.
fn forget_later(
    store: &mut dyn CheckpointStorage,
    at: CheckpointId,
) -> Result<Vec<CheckpointId>, StoreError> {
    let listed = store.reader().list()?;
    let mut later: Vec<_> = listed.into_iter().map(|(id, _)| id).collect();
    later.retain(|id| *id > at);
    if !later.is_empty() {
        store.delete(&later)?;
    }
    later.sort_unstable();
    Ok(later)
}
