//! Permanent return to an earlier checkpoint, at a client's request: later checkpoints are deleted, their output is taken
//! back, and the job resumes with the plugins as of that checkpoint. The thread that handles the request reads the
//! checkpoint and loads these plugins before the job hears of it.

use super::back::{Resting, Target};
use super::{Job, Next, Settling};
use crate::checkpoint::Depth;
use crate::checkpoint::store::StoreError;
use crate::crash::{self, Point};
use crate::runtime::JobError;
use crate::runtime::plan::Plan;
use crate::runtime::report::RollbackOrder;

impl Job<'_> {
    /// Goes back for good. A checkpoint that is gone by now leaves the job as it is.
    pub(super) fn roll_back(
        &mut self,
        resting: Resting,
        order: RollbackOrder,
    ) -> Result<Next, JobError> {
        crash::point(Point::RollbackJoined);
        let to = order.to;
        let found = resting.store.reader().read(to);
        if let Err(error) = found {
            let reason = match error {
                StoreError::NoSuchCheckpoint { .. } => {
                    format!("checkpoint {to} is not there any more; nothing has changed")
                }
                other => format!("checkpoint {to} cannot be read: {other}; nothing has changed"),
            };
            order.asker.answer(Err(reason));
            let target = Target {
                at: None,
                depth: Depth::Quick,
                plan: std::sync::Arc::clone(&self.stage.plan),
                deleted: Point::RollbackJoined,
            };
            return Ok(self.go_to(resting, target)?.next);
        }
        let mut plan = Plan::clone(&self.stage.plan);
        for (name, operator) in &order.operators {
            plan = plan.with_operator(name, operator.clone());
        }
        self.forget_trial();
        let target = Target {
            at: Some(to),
            depth: Depth::Quick,
            plan: plan.into(),
            deleted: Point::RollbackDeleted,
        };
        let went = match self.go_to(resting, target) {
            Ok(went) => went,
            Err(error) => {
                let reason = format!(
                    "the job went back to checkpoint {to}, and cannot go on there: {error}"
                );
                order.asker.answer(Err(reason));
                return Err(error);
            }
        };
        crash::point(Point::RollbackBegun);
        self.settle(Settling::Rollback {
            order,
            deleted: went.deleted,
            records_in: went.earlier.records_in,
        });
        Ok(went.next)
    }
}
