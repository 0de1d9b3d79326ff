//! Automatic revert: a failure within the trial period of a swap returns the job to the checkpoint of the swap, with the
//! operators from before the swap.
//!
//! A trial ends when its time is over, when the job goes back to before the swap for another reason, or with the process:
//! after a crash, the job restarts with the new plugin. Until a trial ends, no checkpoint is retired. This module neither
//! swaps nor decides when a trial begins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::back::{Resting, Target};
use super::{Job, Next};
use crate::checkpoint::{Checkpoint, Depth};
use crate::crash::{self, Point};
use crate::runtime::JobError;
use crate::runtime::conductor::Notice;
use crate::runtime::plan::{Operator, Plan, Role};
use crate::runtime::report::Report;
use crate::state::StateSchema;
use crate::stream::CheckpointId;

/// A swap that may be undone.
pub(super) struct Trial {
    /// Until when, as the job's clock says.
    pub(super) until: Duration,
    /// What ran before.
    pub(super) operators: Vec<Before>,
    /// The checkpoint of the swap.
    pub(super) checkpoint: CheckpointId,
}

/// An operator as it was before a swap.
pub(super) struct Before {
    /// Its node in the plan.
    pub(super) node: usize,
    /// What ran.
    pub(super) operator: Operator,
    /// Its states, as the checkpoint of the swap would have them without it.
    pub(super) schemas: Vec<StateSchema>,
}

/// A checkpoint of a swap, read as if the swap had not been: no state has to be migrated back, since at its barrier all was
/// as the earlier plugin had left it.
pub(super) struct Amended {
    checkpoint: CheckpointId,
    operators: Vec<(String, Operator, Vec<StateSchema>)>,
}

impl Amended {
    fn of(trial: &Trial, plan: &Plan) -> Self {
        let operator = |before: &Before| {
            let name = plan.nodes[before.node].name.clone();
            (name, before.operator.clone(), before.schemas.clone())
        };
        Self {
            checkpoint: trial.checkpoint,
            operators: trial.operators.iter().map(operator).collect(),
        }
    }

    /// Changes what was read, if it is that checkpoint.
    pub(super) fn apply(&self, checkpoint: &mut Checkpoint) {
        if checkpoint.id != self.checkpoint {
            return;
        }
        for (name, operator, schemas) in &self.operators {
            let mut saved = checkpoint.operators.iter_mut();
            if let Some(saved) = saved.find(|saved| saved.name == *name) {
                saved.plugin = operator.plugin.digest();
                saved.config.clone_from(&operator.config);
                saved.replaces.clone_from(&operator.replaces);
                saved.states.clone_from(schemas);
            }
        }
    }
}

impl Trial {
    fn names(&self, plan: &Plan) -> Vec<String> {
        let name = |before: &Before| plan.nodes[before.node].name.clone();
        self.operators.iter().map(name).collect()
    }
}

impl Job<'_> {
    /// What runs from the checkpoint of a swap on is on trial for this long; `before` has by node the states that it would have
    /// without the swap. To be called before the plan is replaced.
    pub(super) fn begin_trial_of(
        &mut self,
        checkpoint: CheckpointId,
        before: Vec<(usize, Vec<StateSchema>)>,
        time: Duration,
    ) {
        let plan = &self.stage.plan;
        let operators = before.into_iter().filter_map(|(node, schemas)| {
            let Role::Operator(operator) = &plan.nodes[node].role else {
                return None;
            };
            let operator = operator.clone();
            Some(Before {
                node,
                operator,
                schemas,
            })
        });
        let trial = Trial {
            until: self.stage.clock.now() + time,
            operators: operators.collect(),
            checkpoint,
        };
        self.begin_trial(trial);
    }

    /// While one swap is on trial, there is no other: what a failure is laid to would not be clear.
    pub(super) fn refuse_on_trial(&self, report: Report) -> Option<Report> {
        match (report, &self.trial) {
            (Report::SwapAsked(request), Some(trial)) => {
                let names = trial.names(&self.stage.plan).join("`, `");
                let left = trial.until.saturating_sub(self.stage.clock.now());
                request.asker.answer(Err(format!(
                    "operator `{names}` is on trial for {} s more; ask again after that",
                    left.as_secs() + 1
                )));
                None
            }
            (report, _) => Some(report),
        }
    }

    /// Puts the plugins of a swap on trial. An earlier trial is replaced.
    fn begin_trial(&mut self, trial: Trial) {
        self.stage.is_on_trial.store(true, Ordering::Relaxed);
        self.trial = Some(trial);
    }

    /// Ends a trial whose time is over.
    pub(super) fn look_at_trial(&mut self, now: Duration) {
        let Some(trial) = self.trial.take_if(|trial| now >= trial.until) else {
            return;
        };
        self.stage.is_on_trial.store(false, Ordering::Relaxed);
        let operators = trial.names(&self.stage.plan);
        self.watcher.notice(now, Notice::TrialPassed { operators });
    }

    /// Forgets a trial: the job goes back to before it.
    pub(super) fn forget_trial(&mut self) {
        self.stage.is_on_trial.store(false, Ordering::Relaxed);
        self.trial = None;
    }

    /// The trial that has failed with this, if one has.
    pub(super) fn failed_trial(&mut self, error: &JobError) -> Option<Trial> {
        let now = self.stage.clock.now();
        // A failure that may pass counts, too, since the swap may have caused it.
        let counts = error.may_pass() || matches!(error, JobError::Guest(_));
        self.trial.take_if(|trial| counts && now < trial.until)
    }

    /// Goes back to before a swap, after `error`.
    pub(super) fn undo_swap(
        &mut self,
        resting: Resting,
        trial: Trial,
        error: &JobError,
    ) -> Result<Next, JobError> {
        crash::point(Point::SwapReverting);
        let mut plan = Plan::clone(&self.stage.plan);
        let amended = Amended::of(&trial, &plan);
        let operators = trial.names(&plan);
        let plugin = |before: &Before| Arc::clone(&before.operator.plugin);
        let plugins = trial.operators.iter().map(plugin);
        let plugins = operators.iter().cloned().zip(plugins).collect();
        for before in trial.operators {
            if let Role::Operator(operator) = &mut plan.nodes[before.node].role {
                *operator = before.operator;
            }
        }
        self.stage.amended = Some(amended);
        self.forget_trial();
        let notice = Notice::TrialFailed {
            plugins,
            operators,
            reason: error.to_string(),
            to: trial.checkpoint,
        };
        self.watcher.notice(self.stage.clock.now(), notice);
        let went = self.go_to(
            resting,
            Target {
                at: Some(trial.checkpoint),
                depth: Depth::Quick,
                plan: plan.into(),
                deleted: Point::SwapReverted,
            },
        )?;
        self.ask_for_checkpoint();
        Ok(went.next)
    }
}

#[cfg(test)]
mod tests {
    //! Catches a failure on trial that is laid to another plugin, and a checkpoint of a swap that is read with the states of
    //! the plugin that failed.

    use super::*;
    use crate::checkpoint::manifest;

    #[test]
    fn only_the_checkpoint_of_the_swap_is_amended() {
        let text = include_str!("../../../../tests/fixtures/manifest-v1.hex");
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(text, 16).unwrap()
        };
        let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
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
