//! A job whose workers do not run: they end, the storage says what is durable, a failure is waited for, and workers are
//! remade. A rescale, a rollback and the undoing of a swap take the same way as a failure, without a delay.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fault::{self, Fault};
use super::operation::Operation;
use super::phase::{Phase, Purpose, Return, StopCause};
use super::refusal::{EndCause, Interruption, Refusal, ReturnCause};
use super::request::{Caller, Callers, Retried};
use super::restart::{Decision, FAILURES_MAX, Failure};
use super::{
    DeletedLater, EarlierRuns, Ending, Found, Job, KeptFailure, Moment, Notice, Output, Recover,
    Reply, Start, WentBack,
};
use crate::runtime::JobError;
use crate::runtime::plan::{Plan, RegionIndex, WorkerIndex};
use crate::runtime::snapshot::RegionId;
use floodmark_checkpoint::Depth;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_checkpoint::store::StoreError;
use floodmark_state::StateSchema;
use floodmark_state::stream::CheckpointId;

impl Job {
    /// The workers have ended, for the cause that the phase says.
    pub(super) fn stopped(
        &mut self,
        now: Moment,
        result: Result<(), JobError>,
        outputs: &mut Vec<Output>,
    ) {
        let cause = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Stopping(cause) => cause,
            other => {
                debug_assert!(false, "workers end only when they were told to");
                self.phase = other;
                return;
            }
        };
        if let Err(defect) = result {
            return self.finish(Err(defect), outputs);
        }
        match cause {
            StopCause::Ended(ending) => self.finish(Ok(ending), outputs),
            StopCause::Rescale => self.rescale(outputs),
            StopCause::Rollback => self.roll_back(outputs),
            StopCause::Failed(error) if error.is_interruption() => {
                let error = error.ending_at(self.draft.last_durable);
                self.finish(Err(error), outputs);
            }
            StopCause::Failed(error) if self.wishes_rollback() && error.may_pass() => {
                let reason = error.to_string();
                outputs.push(Output::Notify(Notice::Failed { reason }));
                self.roll_back(outputs);
            }
            StopCause::Failed(error) => match self.take_failed_trial(now, &error) {
                Some(trial) => self.undo_swap(trial, &error, outputs),
                None if error.may_pass() => {
                    let back = Return::to(Purpose::Resume).after(error);
                    let in_memory = back.depth == Depth::Quick;
                    self.recover(back, None, in_memory, outputs);
                }
                None => self.finish(Err(error), outputs),
            },
        }
    }

    /// Has the storage looked through, for a checkpoint or the newest.
    pub(super) fn recover(
        &mut self,
        back: Return,
        at: Option<CheckpointId>,
        in_memory: bool,
        outputs: &mut Vec<Output>,
    ) {
        outputs.push(Output::Recover(Recover {
            at,
            depth: back.depth,
            in_memory,
        }));
        self.phase = Phase::Recovering(back);
    }

    pub(super) fn recovered(
        &mut self,
        now: Moment,
        result: Result<Found, StoreError>,
        outputs: &mut Vec<Output>,
    ) {
        let back = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Recovering(back) => back,
            other => {
                debug_assert!(false, "the storage is looked through only on request");
                self.phase = other;
                return;
            }
        };
        match (result, back.purpose) {
            (Err(error), Purpose::Rollback(_)) if back.failure.is_none() => {
                self.refuse_rollback(error, outputs);
            }
            (Err(error), _)
                if back.failure.is_some() && error.may_pass() && !self.schedule.is_to_stop() =>
            {
                self.look_again_later(now, error.into(), back, outputs);
            }
            (Err(error), _) => self.finish(Err(error.into()), outputs),
            (Ok(found), Purpose::Rollback(at) | Purpose::UndoSwap(at))
                if back.failure.is_none() && !fault::is_armed(Fault::RollbackKeepsLater) =>
            {
                self.phase = Phase::Deleting(back, found);
                outputs.push(Output::DeleteAfter(at));
            }
            (Ok(found), _) => self.arrived(now, back, found, outputs),
        }
    }

    /// The checkpoints after the one to which the job goes are gone. Their output is taken back after that, so that no
    /// checkpoint is ever there without its output.
    pub(super) fn deleted(
        &mut self,
        now: Moment,
        result: Result<DeletedLater, StoreError>,
        outputs: &mut Vec<Output>,
    ) {
        let Phase::Deleting(back, mut found) = std::mem::replace(&mut self.phase, Phase::Over)
        else {
            debug_assert!(false, "checkpoints are deleted only on request");
            return;
        };
        match result {
            Err(error) => self.finish(Err(error.into()), outputs),
            Ok(deleted) => {
                found.next_id = deleted.next_id;
                match back.purpose {
                    Purpose::Rollback(_) => self.note_deleted(deleted.ids),
                    _ => crash::point(Point::SwapReverted),
                }
                self.arrived(now, back, found, outputs);
            }
        }
    }

    /// The checkpoint from which the job resumes is known: the plan that counts there, and the delay before workers run.
    fn arrived(&mut self, now: Moment, back: Return, found: Found, outputs: &mut Vec<Output>) {
        let mut back = back;
        let resumes_from = found.earlier.checkpoint;
        let was_swapping = self.is_swapping();
        let cause = match (&back.failure, back.purpose) {
            (Some(error), _) => ReturnCause::Failed {
                failure: error.to_string(),
            },
            (None, Purpose::Rollback(_)) => ReturnCause::RolledBack,
            (None, _) => ReturnCause::Remade,
        };
        self.settle_swap(now, resumes_from, cause, outputs);
        let is_other = self.plans.go_back_to(resumes_from);
        match back.plan.take() {
            Some(plan) => {
                if let Purpose::Rollback(_) = back.purpose {
                    self.forget_trial(outputs);
                }
                self.plans.set(plan.clone());
                outputs.push(Output::Plan(plan, self.trial.is_some()));
            }
            None => {
                self.forget_later_trial(resumes_from, outputs);
                if is_other {
                    let is_on_trial = self.trial.is_some();
                    let plan = self.plans.current().clone();
                    outputs.push(Output::Plan(plan, is_on_trial));
                }
            }
        }
        match &back.failure {
            None => self.start(back, found, outputs),
            Some(error) if self.schedule.is_to_stop() && !back.is_damage => {
                let reason = error.to_string();
                outputs.push(Output::Notify(Notice::Failed { reason }));
                self.close(&found, outputs);
            }
            Some(_) => self.wait(now, was_swapping, (back, found), outputs),
        }
    }

    /// Decides on the failure, and waits as long as the restart strategy says.
    fn wait(
        &mut self,
        now: Moment,
        was_swapping: bool,
        (mut back, found): (Return, Found),
        outputs: &mut Vec<Output>,
    ) {
        let Some(error) = back.failure.take() else {
            return self.start(back, found, outputs);
        };
        let decision = match (back.is_damage, was_swapping) {
            (true, _) => Decision::at_once(Some(1)),
            // What was tried is undone, so there is nothing to wait for.
            (false, true) => Decision::at_once(None),
            (false, false) => self.decide(now, &error, found.earlier, outputs),
        };
        let to = found.earlier.checkpoint;
        match tell(decision, &error, to, Some(&found), outputs) {
            None => self.finish(Err(error), outputs),
            Some(delay) => {
                back.failure = Some(error);
                self.phase = Phase::Waiting {
                    until: match fault::is_armed(Fault::RestartAtOnce) {
                        true => now.clock,
                        false => now.clock + delay,
                    },
                    to: back,
                    found: Some(found),
                };
            }
        }
    }

    /// The storage cannot be read at this time, for example since the process has too many files open. That is another
    /// failure, after which the job waits; then it looks again, for what it was on its way to.
    fn look_again_later(
        &mut self,
        now: Moment,
        error: JobError,
        back: Return,
        outputs: &mut Vec<Output>,
    ) {
        let last = self.failures.last();
        let known = EarlierRuns {
            checkpoint: self.draft.last_durable,
            records_in: last.map_or(0, |failure| failure.records_in),
            ..EarlierRuns::default()
        };
        let decision = self.decide(now, &error, known, outputs);
        match tell(decision, &error, known.checkpoint, None, outputs) {
            None => self.finish(Err(error), outputs),
            Some(delay) => {
                self.phase = Phase::Waiting {
                    until: now.clock + delay,
                    to: back,
                    found: None,
                };
            }
        }
    }

    /// Notes a failure and decides on it.
    fn decide(
        &mut self,
        now: Moment,
        error: &JobError,
        earlier: EarlierRuns,
        outputs: &mut Vec<Output>,
    ) -> Decision {
        let (at_ms, records_in) = (now.wall_ms, earlier.records_in);
        let strategy = &self.settings.restart;
        let decision = strategy.decide(&self.failures, at_ms, records_in, self.settings.seed);
        let delay_ms = match decision {
            Decision::GoBack { delay, .. } => u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            Decision::GiveUp(_) => 0,
        };
        let failure = Failure {
            at_ms,
            delay_ms,
            records_in,
        };
        self.failures.push(failure);
        let excess = self.failures.len().saturating_sub(FAILURES_MAX);
        self.failures.drain(..excess);
        outputs.push(Output::KeepFailure(KeptFailure {
            failure,
            checkpoint: earlier.checkpoint,
            reason: error.to_string(),
        }));
        decision
    }

    /// A stop or drain was requested: a delay ends.
    pub(super) fn end_wait(&mut self, now: Moment, drain: bool, outputs: &mut Vec<Output>) {
        let Phase::Waiting { until, found, .. } = &mut self.phase else {
            return;
        };
        if drain {
            *until = now.clock;
            return;
        }
        match found.clone() {
            Some(found) => self.close(&found, outputs),
            // Where the output belongs is not known yet.
            None => self.end_of_wait(outputs),
        }
    }

    /// A client has removed the cause of a failure: the delay ends, and the next failure counts as the first.
    pub(super) fn retry(
        &mut self,
        now: Moment,
        caller: Caller<Retried>,
        outputs: &mut Vec<Output>,
    ) {
        let Phase::Waiting { until, to, found } = &mut self.phase else {
            let answer = Err(Refusal::NotWaiting);
            return outputs.push(Output::Answer(Reply::Retry(caller, answer)));
        };
        *until = now.clock;
        let failure = to.failure.as_ref();
        let found = found.as_ref();
        let retried = Retried {
            from: found.map_or(self.draft.last_durable, |found| found.earlier.checkpoint),
            reason: failure.map(ToString::to_string).unwrap_or_default(),
        };
        self.failures.clear();
        outputs.push(Output::ForgetFailures);
        outputs.push(Output::Notify(Notice::Retried));
        outputs.push(Output::Answer(Reply::Retry(caller, Ok(retried))));
    }

    /// The delay is over.
    pub(super) fn end_of_wait(&mut self, outputs: &mut Vec<Output>) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Waiting {
                to,
                found: Some(found),
                ..
            } => self.start(to, found, outputs),
            Phase::Waiting {
                to, found: None, ..
            } => self.recover(to, None, false, outputs),
            other => self.phase = other,
        }
    }

    fn start(&mut self, back: Return, found: Found, outputs: &mut Vec<Output>) {
        // At the start also if a savepoint takes the place of what is forgotten; later it is what this job has written.
        let is_new = !self.has_begun || found.earlier.checkpoint.is_none();
        outputs.push(Output::Start(self.start_of(is_new)));
        self.phase = Phase::Starting(back, found);
    }

    fn start_of(&self, is_new: bool) -> Start {
        Start {
            plan: self.plans.current().clone(),
            amended: self.plans.amended(),
            fresh: self.settings.fresh && is_new,
        }
    }

    pub(super) fn started(
        &mut self,
        now: Moment,
        result: Result<Vec<Vec<StateSchema>>, JobError>,
        outputs: &mut Vec<Output>,
    ) {
        let Phase::Starting(back, found) = std::mem::replace(&mut self.phase, Phase::Over) else {
            debug_assert!(false, "workers are made only on request");
            return;
        };
        let schemas = match result {
            Ok(schemas) => schemas,
            Err(error) => return self.not_started(now, error, (back, found), outputs),
        };
        self.phase = Phase::Running;
        self.has_begun = true;
        let plan = self.plans.current();
        self.draft.start(plan, schemas, found.earlier);
        self.schedule.start(now.clock, parts(plan), found.next_id);
        self.plans.generation += 1;
        let current = std::mem::take(&mut self.callers.current);
        self.callers.next.extend(current);
        if let Some(Operation::Settling(settling)) = &mut self.operation {
            settling.checkpoint = None;
        }
        match back.purpose {
            Purpose::Begin | Purpose::Resume => self.defer_rescale(),
            Purpose::Rescale => self.rescaled(now),
            Purpose::UndoRescale => self.rescale_is_undone(outputs),
            Purpose::Rollback(checkpoint) => {
                outputs.push(Output::Notify(Notice::BackAt { checkpoint }));
                self.rolled_back(&found);
            }
            Purpose::UndoSwap(_) => {
                self.defer_rescale();
                self.callers.is_wanted = true;
            }
        }
    }

    /// Workers could not be made: damage that showed on the way is looked into, what may pass is tried again.
    fn not_started(
        &mut self,
        now: Moment,
        error: JobError,
        (back, found): (Return, Found),
        outputs: &mut Vec<Output>,
    ) {
        if error.is_interruption() {
            let error = error.ending_at(found.earlier.checkpoint);
            return self.finish(Err(error), outputs);
        }
        let is_first = !self.has_begun && back.purpose == Purpose::Begin;
        if error.is_of_stored_bytes() && back.depth == Depth::Quick {
            let mut back = back.after(error);
            back.is_damage = true;
            return self.recover(back, None, false, outputs);
        }
        if is_first {
            // The user who starts the job sees the error at once, but a process that is restarted in a loop has to count it.
            if error.may_pass() {
                self.decide(now, &error, found.earlier, outputs);
            }
            return self.finish(Err(error), outputs);
        }
        match back.purpose {
            _ if error.may_pass() => {
                let back = back.after(error);
                self.recover(back, None, false, outputs);
            }
            Purpose::Rescale => self.undo_rescale(&error, outputs),
            _ => self.finish(Err(error), outputs),
        }
    }

    /// The job stops while its workers do not run, so it has no other last checkpoint than the one that was found: what was
    /// staged since is removed, and what is durable is made visible.
    fn close(&mut self, found: &Found, outputs: &mut Vec<Output>) {
        let at = found.earlier.checkpoint;
        outputs.push(Output::CloseOutput(self.start_of(at.is_none())));
        self.phase = Phase::Closing(at);
    }

    pub(super) fn closed(&mut self, result: Result<(), JobError>, outputs: &mut Vec<Output>) {
        let Phase::Closing(at) = self.phase else {
            debug_assert!(false, "output is closed only on request");
            return;
        };
        if let Err(error) = result {
            return self.finish(Err(error), outputs);
        }
        outputs.push(Output::Notify(Notice::StoppedAtRest { at }));
        self.refuse_operation(Interruption::JobOver, outputs);
        self.refuse_swap(outputs);
        let callers = &mut self.callers;
        let waiting = callers.current.drain(..).chain(callers.next.drain(..));
        outputs.extend(waiting.map(|caller| {
            let answer = Err(Refusal::StoppedBefore);
            Output::Answer(Reply::Checkpoint(caller, answer))
        }));
        outputs.extend(callers.last.drain(..).map(|caller| {
            let answer = at.ok_or(Refusal::StoppedWithout);
            Output::Answer(Reply::Checkpoint(caller, answer))
        }));
        self.finish(Ok(Ending::Stopped), outputs);
    }

    /// The job is over, and callers that still wait learn why.
    fn finish(&mut self, result: Result<Ending, JobError>, outputs: &mut Vec<Output>) {
        self.phase = Phase::Over;
        if let Err(error) = &result {
            self.rollback_has_failed(error, outputs);
            let failure = error.to_string();
            self.refuse_operation(Interruption::JobFailed { failure }, outputs);
        }
        let interruption = result
            .as_ref()
            .err()
            .filter(|error| error.is_interruption());
        let interruption = interruption.map(ToString::to_string);
        let cause = EndCause::of(&result);
        self.end_swap(&cause, outputs);
        self.operation = None;
        let Callers {
            next,
            current,
            last,
            ..
        } = std::mem::take(&mut self.callers);
        outputs.extend(next.into_iter().chain(current).chain(last).map(|caller| {
            let refusal = match interruption.clone() {
                Some(failure) => Refusal::Interrupted { failure },
                None => Refusal::Over {
                    cause: cause.clone(),
                },
            };
            Output::Answer(Reply::Checkpoint(caller, Err(refusal)))
        }));
        outputs.push(Output::Finish(result));
    }
}

/// Tells what follows a failure. Returns the delay before the job resumes, or `None` if it gives up.
fn tell(
    decision: Decision,
    error: &JobError,
    to: Option<CheckpointId>,
    found: Option<&Found>,
    outputs: &mut Vec<Output>,
) -> Option<Duration> {
    match decision {
        Decision::GiveUp(limit) => {
            outputs.push(Output::Notify(Notice::GaveUp { limit, kept: to }));
            None
        }
        Decision::GoBack {
            delay,
            attempt,
            attempts_max,
        } => {
            outputs.push(Output::Notify(Notice::WentBack(WentBack {
                reason: error.to_string(),
                to,
                attempt,
                attempts_max,
                delay,
                in_memory: found.is_some_and(|found| found.in_memory),
                passed_over: found.map_or_else(Vec::new, |found| found.damaged.clone()),
            })));
            Some(delay)
        }
    }
}

/// What takes snapshots of its own.
fn parts(plan: &Plan) -> BTreeSet<RegionId> {
    let last = plan.regions().into_iter().max();
    let count = last.map_or(0, |last| last.0 + 1);
    let mut parts = BTreeSet::new();
    for worker in (0..plan.parallelism).map(WorkerIndex) {
        let regions = (0..count).map(RegionIndex);
        parts.extend(regions.map(|region| RegionId { worker, region }));
    }
    parts
}
