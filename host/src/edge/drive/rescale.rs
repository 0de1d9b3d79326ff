//! Another number of tasks, without another process: at a durable checkpoint after which sources read nothing, workers are
//! joined and made anew. If the new ones cannot be made, the job continues with as many as before.

use std::sync::Arc;

use super::back::{Resting, Target};
use super::{Job, Next, Settling};
use crate::checkpoint::Depth;
use crate::crash::{self, Point};
use crate::runtime::JobError;
use crate::runtime::conductor::RescaleOrder;
use crate::runtime::plan::Plan;
use crate::stream::CheckpointId;

impl Job<'_> {
    /// Resumes with another number of tasks.
    pub(super) fn rescale(
        &mut self,
        resting: Resting,
        order: RescaleOrder,
    ) -> Result<Next, JobError> {
        crash::point(Point::RescaleJoined);
        let before = Arc::clone(&self.stage.plan);
        let target = |plan| Target {
            at: None,
            depth: Depth::Quick,
            plan,
            deleted: Point::RescaleJoined,
        };
        let plan = Plan {
            parallelism: order.parallelism,
            ..Plan::clone(&before)
        };
        let store = resting.store;
        // State is dealt out anew: what is in memory is of the tasks that were.
        let resting = Resting {
            store,
            workers: None,
        };
        let error = match self.go_to(resting, target(Arc::new(plan))) {
            Ok(went) => {
                crash::point(Point::RescaleBegun);
                let pause = self.stage.clock.now().saturating_sub(order.since);
                let from = before.parallelism;
                let settling = Settling::Rescale { order, from, pause };
                self.settle(settling);
                return Ok(went.next);
            }
            Err(error) => error,
        };
        let Some(store) = self.unbegun.take() else {
            return Err(error);
        };
        let reason = format!(
            "the job was not rescaled, and continues with a parallelism of {}: {error}",
            before.parallelism
        );
        let workers = None;
        let went = self.go_to(Resting { store, workers }, target(before))?;
        order.asker.answer(Err(reason));
        Ok(went.next)
    }
}

/// The answer to the client when the first checkpoint after a rescale failed.
pub(super) fn unsettled(parallelism: u16, from: u16, reason: &str) -> String {
    format!(
        "the job runs with a parallelism of {parallelism}, but the checkpoint that says so failed ({reason}): if it dies before the next one, it comes back with {from}"
    )
}

/// The same for a rollback.
pub(super) fn unsettled_rollback(to: CheckpointId, reason: &str) -> String {
    format!("the job went back to checkpoint {to}, but the checkpoint after that failed ({reason})")
}
