//! The plan that counts, and the plans before it, from which a job resumes when later checkpoints are damaged.

use std::sync::Arc;

use super::trial::Amended;
use crate::runtime::plan::Plan;
use floodmark_state::stream::CheckpointId;

/// Earlier plans that are kept.
const EARLIER_MAX: usize = 1000;

/// The plans of a job.
///
/// - `earlier` is in the order of checkpoints.
pub(super) struct Plans {
    current: Arc<Plan>,
    /// Each with the first checkpoint after it: that may be damaged.
    earlier: Vec<(CheckpointId, Arc<Plan>)>,
    /// How the checkpoint of a swap that has failed its trial reads as if the swap had not been.
    amended: Option<Arc<Amended>>,
    /// Grows whenever plan or states change.
    pub(super) generation: u64,
}

impl Plans {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            current: plan,
            earlier: Vec::new(),
            amended: None,
            generation: 0,
        }
    }

    pub(super) fn current(&self) -> &Arc<Plan> {
        &self.current
    }

    pub(super) fn amended(&self) -> Option<Arc<Amended>> {
        self.amended.clone()
    }

    pub(super) fn amend(&mut self, amended: Amended) {
        self.amended = Some(Arc::new(amended));
    }

    /// From a checkpoint on, which is durable, another plan counts.
    pub(super) fn replace(&mut self, plan: Arc<Plan>, from: CheckpointId) {
        debug_assert!(
            self.earlier.last().is_none_or(|(last, _)| *last < from),
            "plans are replaced in the order of checkpoints"
        );
        let before = std::mem::replace(&mut self.current, plan);
        self.earlier.push((from, before));
        let excess = self.earlier.len().saturating_sub(EARLIER_MAX);
        self.earlier.drain(..excess);
    }

    /// Another plan counts, whatever the checkpoint.
    pub(super) fn set(&mut self, plan: Arc<Plan>) {
        self.current = plan;
    }

    /// The job resumes from `checkpoint`: the plan as of that checkpoint counts again. Returns whether that is another.
    pub(super) fn go_back_to(&mut self, checkpoint: Option<CheckpointId>) -> bool {
        let mut is_other = false;
        let is_later = |(from, _): &mut (CheckpointId, _)| checkpoint.is_none_or(|id| id < *from);
        while let Some((_, before)) = self.earlier.pop_if(is_later) {
            let parallelism = self.current.parallelism;
            self.current = match before.parallelism == parallelism {
                true => before,
                // The job was rescaled since.
                false => Arc::new(Plan {
                    parallelism,
                    ..Plan::clone(&before)
                }),
            };
            is_other = true;
        }
        is_other
    }
}
