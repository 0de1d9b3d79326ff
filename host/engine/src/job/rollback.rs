//! Permanent return to an earlier checkpoint, at a client's request: later checkpoints are deleted, their output is taken
//! back, and the job resumes with the plugins as of that checkpoint. The thread that handles the request reads the
//! checkpoint and loads these plugins before the job learns of it.

use super::operation::{Done, Operation};
use super::phase::{Phase, Purpose, Return, StopCause};
use super::refusal::Refusal;
use super::swap::Swap;
use super::{Found, Job, Output, Reply, RollbackRequest};
use crate::runtime::JobError;
use crate::runtime::plan::Plan;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;

/// A rollback under way.
pub(super) struct Rollback {
    pub(super) request: Box<RollbackRequest>,
    /// The swap whose place it has taken; how that ended is known once the storage is looked through.
    pub(super) interrupted: Option<Swap>,
    deleted: Vec<CheckpointId>,
    /// Whether later checkpoints are gone.
    has_gone_back: bool,
}

impl Job {
    /// Takes a request in the place of any other operation but another rollback.
    pub(super) fn request_rollback(
        &mut self,
        request: Box<RollbackRequest>,
        outputs: &mut Vec<Output>,
    ) {
        let refusal = match (&self.phase, &self.operation) {
            (_, Some(rollback @ Operation::Rollback(_))) => Some(rollback.refusal()),
            (Phase::Running | Phase::Waiting { .. } | Phase::Stopping(_), _) => None,
            _ => Some(Refusal::Restarting),
        };
        if let Some(refusal) = refusal {
            let reply = Reply::Rollback(request.caller, Err(refusal));
            outputs.push(Output::Answer(reply));
            return;
        }
        crash::point(Point::RollbackAsked);
        self.give_up_rescale(outputs);
        let interrupted = match self.operation.take() {
            Some(Operation::Swap(swap)) => Some(swap),
            _ => None,
        };
        self.operation = Some(Operation::Rollback(Rollback {
            request,
            interrupted,
            deleted: Vec::new(),
            has_gone_back: false,
        }));
        match self.phase {
            Phase::Running | Phase::Stopping(StopCause::Rescale) => {
                self.stop_workers(StopCause::Rollback, outputs);
            }
            Phase::Waiting { .. } => self.roll_back(outputs),
            // It follows when the workers have ended, unless the job is over then.
            _ => {}
        }
    }

    /// Whether a rollback was requested and the job has not begun to go back.
    pub(super) fn wishes_rollback(&self) -> bool {
        matches!(self.operation, Some(Operation::Rollback(_)))
    }

    /// The workers have ended: the job goes back.
    pub(super) fn roll_back(&mut self, outputs: &mut Vec<Output>) {
        crash::point(Point::RollbackJoined);
        let Some(Operation::Rollback(rollback)) = &self.operation else {
            return;
        };
        let to = rollback.request.to;
        if let Err(reason) = (rollback.request.can_resume)() {
            let refusal = Refusal::SourceUnfit {
                checkpoint: to,
                reason,
            };
            return self.resume_instead(|_| refusal, outputs);
        }
        let mut plan = Plan::clone(self.plans.current());
        for (name, operator) in &rollback.request.operators {
            plan = plan.with_operator(name, operator.clone());
        }
        let back = Return::to(Purpose::Rollback(to)).with(plan.into());
        self.recover(back, Some(to), false, outputs);
    }

    /// The checkpoint cannot be read: the job resumes as it was.
    pub(super) fn refuse_rollback(&mut self, error: StoreError, outputs: &mut Vec<Output>) {
        let refusal = |checkpoint| match error {
            StoreError::NoSuchCheckpoint { .. } => Refusal::CheckpointGone { checkpoint },
            source => Refusal::CheckpointUnreadable { checkpoint, source },
        };
        self.resume_instead(refusal, outputs);
    }

    /// Refuses to go back, when the workers have ended: the job resumes as it was.
    fn resume_instead(
        &mut self,
        refusal: impl FnOnce(CheckpointId) -> Refusal,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(Operation::Rollback(rollback)) = self.operation.take() {
            let refusal = refusal(rollback.request.to);
            let caller = rollback.request.caller;
            outputs.push(Output::Answer(Reply::Rollback(caller, Err(refusal))));
            self.operation = rollback.interrupted.map(Operation::Swap);
        }
        self.recover(Return::to(Purpose::Resume), None, true, outputs);
    }

    pub(super) fn note_deleted(&mut self, deleted: Vec<CheckpointId>) {
        crash::point(Point::RollbackDeleted);
        if let Some(Operation::Rollback(rollback)) = &mut self.operation {
            rollback.deleted = deleted;
            rollback.has_gone_back = true;
        }
    }

    /// The job runs from the checkpoint.
    pub(super) fn rolled_back(&mut self, found: &Found) {
        crash::point(Point::RollbackBegun);
        if let Some(Operation::Rollback(mut rollback)) = self.operation.take() {
            let deleted = std::mem::take(&mut rollback.deleted);
            let records_in = found.earlier.records_in;
            self.settle(Done::Rollback {
                rollback,
                deleted,
                records_in,
            });
        }
    }

    /// The job has failed. If it has gone back before, the client learns both.
    pub(super) fn rollback_has_failed(&mut self, error: &JobError, outputs: &mut Vec<Output>) {
        let has_gone = |operation: &mut Operation| matches!(operation, Operation::Rollback(rollback) if rollback.has_gone_back);
        if let Some(Operation::Rollback(rollback)) = self.operation.take_if(has_gone) {
            let refusal = Refusal::NotResumed {
                to: rollback.request.to,
                failure: error.to_string(),
            };
            let caller = rollback.request.caller;
            outputs.push(Output::Answer(Reply::Rollback(caller, Err(refusal))));
        }
    }
}
