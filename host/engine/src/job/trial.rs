//! Automatic revert: a failure within the trial period of a swap returns the job to the checkpoint of the swap, with the
//! operators from before the swap.
//!
//! A trial ends when its time is over, when the job goes back to before the swap for another reason, or with the process:
//! after a crash, the job restarts with the new plugin. Until a trial ends, no checkpoint is retired.

use std::sync::Arc;
use std::time::Duration;

use super::fault::{self, Fault};
use super::phase::{Purpose, Return};
use super::refusal::Refusal;
use super::{Job, Moment, Notice, Output};
use crate::runtime::JobError;
use crate::runtime::plan::{NodeIndex, Operator, Plan, Role};
use floodmark_checkpoint::Checkpoint;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::StateSchema;
use floodmark_state::stream::CheckpointId;

/// A swap that may be undone.
pub(super) struct Trial {
    /// The time of the job's clock up to which a failure reverts the swap.
    pub(super) until: Duration,
    /// What ran before.
    operators: Vec<Before>,
    /// The checkpoint of the swap.
    checkpoint: CheckpointId,
}

/// An operator as it was before a swap.
#[derive(Clone)]
struct Before {
    /// Its node in the plan.
    node: NodeIndex,
    name: String,
    /// What ran.
    operator: Operator,
    /// Its states, as the checkpoint of the swap would have them without it.
    schemas: Vec<StateSchema>,
}

/// A checkpoint of a swap, read as if the swap had not been: no state has to be migrated back, since at its barrier all was
/// as the earlier plugin had left it.
pub struct Amended {
    checkpoint: CheckpointId,
    operators: Vec<Before>,
}

impl std::fmt::Debug for Amended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Amended({})", self.checkpoint)
    }
}

impl Amended {
    /// Changes what was read, if it is that checkpoint.
    pub fn apply(&self, checkpoint: &mut Checkpoint) {
        if checkpoint.id != self.checkpoint {
            return;
        }
        for before in &self.operators {
            let mut saved = checkpoint.operators.iter_mut();
            if let Some(saved) = saved.find(|saved| saved.name == before.name) {
                saved.plugin = before.operator.plugin.digest();
                saved.config.clone_from(&before.operator.config);
                saved.replaces.clone_from(&before.operator.replaces);
                saved.states.clone_from(&before.schemas);
            }
        }
    }
}

impl Trial {
    fn names(&self) -> Vec<String> {
        let names = self.operators.iter().map(|before| before.name.clone());
        names.collect()
    }
}

impl Job {
    /// What runs from the checkpoint of a swap on is on trial; `before` has by node the states that it would have without
    /// the swap. To be called before the plan is replaced.
    pub(super) fn begin_trial(
        &mut self,
        until: Duration,
        checkpoint: CheckpointId,
        before: Vec<(NodeIndex, Vec<StateSchema>)>,
        outputs: &mut Vec<Output>,
    ) {
        let plan = self.plans.current();
        let operators = before.into_iter().filter_map(|(node, schemas)| {
            let Role::Operator(operator) = &plan.node(node).role else {
                return None;
            };
            Some(Before {
                node,
                name: plan.node(node).name.clone(),
                operator: operator.clone(),
                schemas,
            })
        });
        self.trial = Some(Trial {
            until,
            operators: operators.collect(),
            checkpoint,
        });
        let retains = !fault::is_armed(Fault::TrialRetires);
        outputs.push(Output::RetainAll(retains));
    }

    /// Why there is no other swap while one is on trial: it would not be clear which of them caused a failure.
    pub(super) fn trial_refusal(&self, now: Moment) -> Option<Refusal> {
        let trial = self.trial.as_ref()?;
        let left = trial.until.saturating_sub(now.clock);
        Some(Refusal::OnTrial {
            operators: trial.names(),
            seconds_left: left.as_secs() + 1,
        })
    }

    /// Ends a trial whose time is over.
    pub(super) fn look_at_trial(&mut self, now: Moment, outputs: &mut Vec<Output>) {
        let is_over = |trial: &mut Trial| now.clock >= trial.until;
        if let Some(trial) = self.trial.take_if(is_over) {
            outputs.push(Output::RetainAll(false));
            let operators = trial.names();
            outputs.push(Output::Notify(Notice::TrialPassed { operators }));
        }
    }

    /// The job resumes from `checkpoint`: a trial whose swap came later is over.
    pub(super) fn forget_later_trial(
        &mut self,
        checkpoint: Option<CheckpointId>,
        outputs: &mut Vec<Output>,
    ) {
        let is_later = |trial: &mut Trial| checkpoint.is_none_or(|id| id < trial.checkpoint);
        if self.trial.take_if(is_later).is_some() {
            outputs.push(Output::RetainAll(false));
        }
    }

    /// Forgets a trial: the plan is set by other means.
    pub(super) fn forget_trial(&mut self, outputs: &mut Vec<Output>) {
        if self.trial.take().is_some() {
            outputs.push(Output::RetainAll(false));
        }
    }

    /// The trial that has failed with this, if one has.
    pub(super) fn take_failed_trial(&mut self, now: Moment, error: &JobError) -> Option<Trial> {
        // A failure that may pass counts, too, since the swap may have caused it.
        let counts = error.may_pass() || matches!(error, JobError::Guest(_));
        self.trial
            .take_if(|trial| counts && now.clock < trial.until)
    }

    /// Goes back to before a swap, after `error`. The workers have ended.
    pub(super) fn undo_swap(&mut self, trial: Trial, error: &JobError, outputs: &mut Vec<Output>) {
        crash::point(Point::SwapReverting);
        let mut plan = Plan::clone(self.plans.current());
        let plugin = |before: &Before| (before.name.clone(), Arc::clone(&before.operator.plugin));
        outputs.push(Output::RetainAll(false));
        outputs.push(Output::Notify(Notice::TrialFailed {
            plugins: trial.operators.iter().map(plugin).collect(),
            operators: trial.names(),
            reason: error.to_string(),
            to: trial.checkpoint,
        }));
        for before in &trial.operators {
            plan.nodes[before.node.0].role = Role::Operator(before.operator.clone());
        }
        self.plans.amend(Amended {
            checkpoint: trial.checkpoint,
            operators: trial.operators,
        });
        let back = Return::to(Purpose::UndoSwap(trial.checkpoint)).with(plan.into());
        self.recover(back, Some(trial.checkpoint), false, outputs);
    }
}

#[cfg(test)]
mod tests {
    //! Catches a failure on trial that is laid to another plugin, and a checkpoint of a swap that is read with the states of
    //! the plugin that failed.

    use floodmark_testing::from_hex;

    use super::*;
    use floodmark_checkpoint::manifest;

    #[test]
    fn only_the_checkpoint_of_the_swap_is_amended() {
        let text = include_str!("../../../../tests/fixtures/manifest-v1.hex");
        let bytes = from_hex(text);
        let Ok(checkpoint) = manifest::decode(&bytes) else {
            panic!("the fixture cannot be read");
        };
        let amended = Amended {
            checkpoint: checkpoint.id.next(),
            operators: Vec::new(),
        };
        let mut same = checkpoint.clone();
        amended.apply(&mut same);
        assert_eq!(same, checkpoint);
    }
}
