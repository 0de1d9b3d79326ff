//! Takes the inputs of a job, and handles those that arrive while its workers run: reports, requests, and the time, with
//! which checkpoints begin, complete and fail. `recovery` handles those that arrive while they do not run.

use std::time::Duration;

use super::operation::Operation;
use super::phase::{Phase, StopCause};
use super::refusal::{EndCause, Interruption, Refusal};
use super::schedule::{AfterFailure, Wishes};
use super::{
    Caller, CompletedCheckpoint, Ending, Input, Job, Moment, Notice, Output, Reply, Request,
};
use crate::runtime::JobError;
use crate::runtime::report::{CheckpointFailure, Report, SinkFailure, WriteOutcome};
use crate::runtime::snapshot::RegionSnapshot;
use crate::runtime::swap::Running;
use crate::runtime::worker::Control;
use floodmark_checkpoint::Trigger;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::stream::CheckpointId;

/// How long workers hurry after a request. Clients repeat it, several times in this time.
const HURRY_DURATION: Duration = Duration::from_secs(3);

impl Job {
    /// When to call [`Job::step`] with [`Input::Tick`], if nothing else happens before.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Running => {
                let trial = self.trial.as_ref().map(|trial| trial.until);
                [self.schedule.wakes_at(), trial]
                    .into_iter()
                    .flatten()
                    .min()
            }
            Phase::Waiting { until, .. } => Some(*until),
            _ => None,
        }
    }

    /// Takes an input; appends what is to be done.
    pub fn step(&mut self, now: Moment, input: Input, outputs: &mut Vec<Output>) {
        match input {
            Input::Tick => {}
            Input::Report(report) => self.report(now, report, outputs),
            Input::Request(request) => self.request(now, request, outputs),
            Input::Stopped(result) => self.stopped(now, result, outputs),
            Input::Recovered(result) => self.recovered(now, result, outputs),
            Input::Deleted(result) => self.deleted(now, result, outputs),
            Input::Started(result) => self.started(now, result, outputs),
            Input::Closed(result) => self.closed(result, outputs),
        }
        self.advance(now, outputs);
    }

    /// Does what is due, whatever the input was.
    fn advance(&mut self, now: Moment, outputs: &mut Vec<Output>) {
        if let Phase::Running = self.phase {
            self.look_at_trial(now, outputs);
            self.give_up_slow_checkpoint(now, outputs);
            self.begin_checkpoint(now, outputs);
        }
        if let Phase::Waiting { until, .. } = self.phase
            && now.clock >= until
        {
            self.end_of_wait(outputs);
        }
    }

    fn report(&mut self, now: Moment, report: Report, outputs: &mut Vec<Output>) {
        match report {
            Report::Log {
                operator,
                task,
                line,
            } => outputs.push(Output::Notify(Notice::Log {
                operator,
                task,
                line,
            })),
            Report::Written(outcome) => self.written(now, outcome, outputs),
            // Workers that end have nothing more to say.
            _ if !matches!(self.phase, Phase::Running) => {}
            Report::Snapshot(snapshot) => self.collect(now, snapshot, outputs),
            Report::Ended(part) => self.schedule.note_end(part),
            Report::StateDirty(part) => self.schedule.note_dirty(part),
            Report::Stalled(stall) => {
                let collected = &mut self.draft.collected;
                collected.stall = collected.stall.max(stall);
            }
            Report::PluginsReplaced {
                checkpoint,
                part,
                pause,
            } => self.note_pause(checkpoint, part, pause),
            Report::NotMigrated { operator, reason } => {
                self.not_migrated(operator, reason, outputs);
            }
            Report::Failed(error) => self.stop_workers(StopCause::Failed(error), outputs),
        }
    }

    fn request(&mut self, now: Moment, request: Request, outputs: &mut Vec<Output>) {
        let ending = match self.phase {
            Phase::Stopping(StopCause::Ended(ending)) => Some(ending),
            Phase::Closing(_) => Some(Ending::Stopped),
            // The caller learns that from the dropped request, and why from the status.
            Phase::Over => return,
            _ => None,
        };
        if let Some(ending) = ending {
            let cause = EndCause::of(&Ok(ending));
            outputs.extend(request.refused(Refusal::Over { cause }).map(Output::Answer));
            return;
        }
        match request {
            Request::Checkpoint(caller) => self.callers.next.push(caller),
            Request::Stop { drain, caller } => {
                self.callers.last.extend(caller);
                self.schedule.stop(drain);
                self.end_wait(now, drain, outputs);
            }
            Request::Describe(caller) => self.describe(caller, outputs),
            Request::Hurry { operator, caller } => {
                let until = now.clock + HURRY_DURATION;
                self.tell(Control::Hurry { until, operator }, outputs);
                self.describe(caller, outputs);
            }
            Request::Swap(request) => self.request_swap(now, request, outputs),
            Request::WithdrawSwap(caller) => self.withdraw_swap(caller, outputs),
            Request::Rescale {
                parallelism,
                caller,
            } => self.request_rescale(parallelism, caller, outputs),
            Request::Rollback(request) => self.request_rollback(request, outputs),
            Request::Retry(caller) => self.retry(now, caller, outputs),
        }
    }

    fn describe(&self, caller: Caller<Running>, outputs: &mut Vec<Output>) {
        let running = Running {
            plan: self.plans.current().clone(),
            schemas: self.draft.schemas(),
            generation: self.plans.generation,
            newest: self.draft.last_durable,
        };
        outputs.push(Output::Answer(Reply::Described(caller, running)));
    }

    /// Begins a checkpoint, if one is due or wished for.
    fn begin_checkpoint(&mut self, now: Moment, outputs: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if self.schedule.take_end_of_input() {
            outputs.push(Output::Tell(Control::EndInput));
        }
        let rescaled = self.is_settling_rescale();
        let wishes = Wishes {
            swap: self.wishes_swap(),
            rescale: self.wishes_rescale(),
            checkpoint: !self.callers.next.is_empty()
                || self.callers.is_wanted
                || (self.is_settling() && !rescaled),
            rescaled,
        };
        let Some(begun) = self.schedule.begin(now, wishes) else {
            return;
        };
        let (checkpoint, trigger) = (begun.checkpoint, begun.trigger);
        self.draft.begin(now);
        self.callers.is_wanted = false;
        self.callers.current = std::mem::take(&mut self.callers.next);
        if let Some(Operation::Settling(settling)) = &mut self.operation {
            settling.checkpoint = Some(checkpoint);
        }
        outputs.push(Output::Notify(Notice::Begun {
            checkpoint,
            trigger,
            created_ms: now.wall_ms,
        }));
        match trigger {
            Trigger::Swap => self.begin_swap(checkpoint, outputs),
            Trigger::Rescale => self.begin_rescale(now, checkpoint),
            Trigger::Stop | Trigger::Final => self.refuse_swap(outputs),
            Trigger::Periodic | Trigger::Asked => {}
        }
        // Records are read on after the one that only records a rescale.
        let pauses = matches!(self.operation, Some(Operation::Rescale(_)));
        let last = match trigger {
            Trigger::Stop | Trigger::Final => true,
            Trigger::Rescale => pauses,
            Trigger::Periodic | Trigger::Asked | Trigger::Swap => false,
        };
        outputs.push(Output::Tell(Control::Begin { checkpoint, last }));
    }

    fn collect(&mut self, now: Moment, snapshot: RegionSnapshot, outputs: &mut Vec<Output>) {
        let (checkpoint, part) = (snapshot.checkpoint, snapshot.part);
        let under_way = self.schedule.under_way();
        let is_due = under_way.is_some_and(|under_way| under_way.checkpoint == checkpoint);
        self.draft.collect(now, snapshot, is_due);
        if self.schedule.acknowledge(checkpoint, part)
            && let Some(under_way) = self.schedule.under_way()
        {
            if under_way.trigger == Trigger::Swap {
                crash::point(Point::SwapCollected);
            }
            let request = self.draft.request(under_way);
            outputs.push(Output::Write(Box::new(request)));
        }
    }

    fn give_up_slow_checkpoint(&mut self, now: Moment, outputs: &mut Vec<Output>) {
        if let Some(checkpoint) = self.schedule.is_too_slow(now.clock) {
            self.not_completed(now, checkpoint, CheckpointFailure::Timeout, outputs);
        }
    }

    /// The writer is done with a checkpoint. That counts also when the workers end or have failed meanwhile.
    fn written(&mut self, now: Moment, outcome: WriteOutcome, outputs: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping(_)) {
            return;
        }
        let WriteOutcome {
            checkpoint,
            durable,
            not_visible,
        } = outcome;
        let reasons = not_visible.iter().cloned();
        outputs.extend(reasons.map(|reason| Output::Notify(Notice::NotVisible { reason })));
        match durable {
            Ok(()) => self.completed(now, checkpoint, not_visible, outputs),
            Err(reason) => self.not_completed(now, checkpoint, reason, outputs),
        }
    }

    fn completed(
        &mut self,
        now: Moment,
        id: CheckpointId,
        not_visible: Vec<SinkFailure>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(under_way) = self.schedule.succeeded(now.clock, id) else {
            return;
        };
        let before = self.draft.completed(id);
        self.tell(Control::Completed(id), outputs);
        if under_way.trigger == Trigger::Swap {
            self.swap_is_durable(now, id, before, outputs);
        }
        let callers = self.callers.current.drain(..);
        outputs.extend(callers.map(|caller| Output::Answer(Reply::Checkpoint(caller, Ok(id)))));
        let collected = &self.draft.collected;
        let begun = under_way.begun;
        outputs.push(Output::Notify(Notice::Completed(CompletedCheckpoint {
            id,
            trigger: under_way.trigger,
            created_ms: begun.wall_ms,
            collecting: collected.at.saturating_sub(begun.clock),
            total: now.clock.saturating_sub(begun.clock),
            stall: collected.stall,
            state_bytes_new: collected.state_bytes_new,
            state_bytes: collected.state_bytes,
            records_in: collected.records_in,
        })));
        self.settle_with(id, Ok(()), outputs);
        match under_way.trigger {
            Trigger::Periodic | Trigger::Asked | Trigger::Swap => {}
            Trigger::Rescale => {
                if let Some(Operation::Rescale(_)) = self.operation {
                    crash::point(Point::RescaleDurable);
                    self.stop_workers(StopCause::Rescale, outputs);
                }
            }
            Trigger::Stop | Trigger::Final if !not_visible.is_empty() => {
                self.last_is_not_visible(now, id, not_visible, outputs);
            }
            Trigger::Stop => self.end(Ending::Stopped, outputs),
            Trigger::Final => self.end(Ending::Complete, outputs),
        }
    }

    /// The job would end now, but output is not visible: another last checkpoint tries again, a limited number of times.
    fn last_is_not_visible(
        &mut self,
        now: Moment,
        checkpoint: CheckpointId,
        failures: Vec<SinkFailure>,
        outputs: &mut Vec<Output>,
    ) {
        // Workers that end take no other checkpoint.
        let is_running = matches!(self.phase, Phase::Running);
        if is_running && self.schedule.tries_last_again(now.clock) {
            return;
        }
        let error = JobError::NotVisible {
            checkpoint,
            failures,
        };
        self.stop_workers(StopCause::Failed(error), outputs);
    }

    fn not_completed(
        &mut self,
        now: Moment,
        id: CheckpointId,
        reason: CheckpointFailure,
        outputs: &mut Vec<Output>,
    ) {
        let Some((under_way, after)) = self.schedule.failed(now.clock, id) else {
            return;
        };
        self.tell(Control::Aborted(id), outputs);
        let callers = self.callers.current.drain(..);
        outputs.extend(callers.map(|caller| {
            let refusal = Refusal::Checkpoint(reason.clone());
            Output::Answer(Reply::Checkpoint(caller, Err(refusal)))
        }));
        outputs.push(Output::Notify(Notice::NotCompleted {
            checkpoint: id,
            trigger: under_way.trigger,
            created_ms: under_way.begun.wall_ms,
            total: now.clock.saturating_sub(under_way.begun.clock),
            reason: reason.clone(),
        }));
        self.settle_with(id, Err(&reason), outputs);
        if under_way.trigger == Trigger::Rescale {
            self.tell(Control::Resume, outputs);
            self.refuse_operation(reason.clone().into(), outputs);
        }
        let restart = self.draft.last_durable;
        let error = match after {
            // The workers end already: the job goes back anyway.
            _ if reason.is_failed_sync() && !matches!(self.phase, Phase::Running) => return,
            // A failed swap goes back by itself.
            _ if reason.is_failed_sync() && under_way.trigger != Trigger::Swap => {
                JobError::Unsynced { reason, restart }
            }
            AfterFailure::Continue => match self.failure_of_swap(id, reason) {
                // The job goes back anyway if its workers end already.
                Some(error) if matches!(self.phase, Phase::Running) => error,
                _ => return,
            },
            AfterFailure::TooMany(failures) => JobError::TooManyFailures {
                failures,
                reason,
                restart,
            },
            AfterFailure::WithoutLast => JobError::LastCheckpoint { reason, restart },
        };
        self.stop_workers(StopCause::Failed(error), outputs);
    }

    /// Tells workers, if they run.
    fn tell(&self, control: Control, outputs: &mut Vec<Output>) {
        if let Phase::Running = self.phase {
            outputs.push(Output::Tell(control));
        }
    }

    /// Has the workers end, because of `cause`. While they end, a later cause may replace it.
    pub(super) fn stop_workers(&mut self, cause: StopCause, outputs: &mut Vec<Output>) {
        if let Phase::Running = self.phase {
            outputs.push(Output::StopWorkers);
        }
        self.phase = Phase::Stopping(cause);
    }

    /// The last checkpoint is durable: the job ends.
    fn end(&mut self, ending: Ending, outputs: &mut Vec<Output>) {
        self.refuse_operation(Interruption::JobOver, outputs);
        self.refuse_swap(outputs);
        if let Some(last) = self.draft.last_durable {
            let callers = self.callers.next.drain(..);
            let callers = callers.chain(self.callers.last.drain(..));
            outputs
                .extend(callers.map(|caller| Output::Answer(Reply::Checkpoint(caller, Ok(last)))));
        }
        self.stop_workers(StopCause::Ended(ending), outputs);
    }
}
