//! How much state a task may have: a limit of its own, or what is left of one budget that all operators of the job share.
//!
//! One budget, and not equal shares of it: one large operator beside small ones may have almost all. Each task publishes
//! its size when it has changed, once a batch, and takes it back when it ends. So restarts, rollbacks and rescales leave
//! nothing behind. A check sees the latest size of its own task and what others have published: together they may exceed
//! the budget by what one batch of each task adds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::plan::Operator;
use crate::guest::Exceeded;

/// Bytes that the state of several operators may take together.
///
/// - `used` is the sum of what the living `StateRoom`s have published.
#[derive(Debug)]
pub struct StateBudget {
    bytes_max: u64,
    used: AtomicU64,
}

impl StateBudget {
    /// A budget of which nothing is used.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            used: AtomicU64::new(0),
        }
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A task has so many bytes instead of so many. Nothing else is ordered by this.
    fn replace(&self, before: u64, now: u64) {
        self.used
            .fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
    }
}

/// What bounds the state of an operator.
#[derive(Debug, Clone)]
pub(super) enum StateBound {
    /// Nothing.
    Unbounded,
    /// Bytes that each task may have.
    OfTask(u64),
    /// A budget that operators share.
    OfJob(Arc<StateBudget>),
}

impl StateBound {
    /// The bound that the plan sets for an operator: a limit of its own comes first.
    pub(super) fn of(operator: &Operator) -> Self {
        match (operator.limits.state_bytes, &operator.state_budget) {
            (Some(u64::MAX), _) | (None, None) => Self::Unbounded,
            (Some(bytes), _) => Self::OfTask(bytes),
            (None, Some(budget)) => Self::OfJob(Arc::clone(budget)),
        }
    }
}

/// The room for the state of one task.
pub(super) struct StateRoom {
    bound: StateBound,
    /// The size that it has published.
    published: u64,
}

impl StateRoom {
    /// The room of a task that has no state yet.
    pub(super) fn new(bound: StateBound) -> Self {
        Self {
            bound,
            published: 0,
        }
    }

    /// Checks that the task may have so much state.
    ///
    /// # Errors
    /// When that is too much.
    #[inline]
    pub(super) fn check(&self, bytes: u64) -> Result<(), Exceeded> {
        match &self.bound {
            StateBound::Unbounded => Ok(()),
            StateBound::OfTask(allowed) if bytes <= *allowed => Ok(()),
            StateBound::OfTask(allowed) => Err(Exceeded::State {
                bytes,
                allowed: *allowed,
            }),
            StateBound::OfJob(budget) => {
                let others = budget.used().saturating_sub(self.published);
                let all = others.saturating_add(bytes);
                if all <= budget.bytes_max {
                    return Ok(());
                }
                Err(Exceeded::StateOfJob {
                    bytes,
                    all,
                    allowed: budget.bytes_max,
                })
            }
        }
    }

    /// Publishes the size of its state. One that has not changed costs no atomic write.
    #[inline]
    pub(super) fn publish(&mut self, bytes: u64) {
        if bytes == self.published {
            return;
        }
        if let StateBound::OfJob(budget) = &self.bound {
            budget.replace(self.published, bytes);
        }
        self.published = bytes;
    }

    /// For observers: the limit of the task, and that of all operators that share one; 0 for none.
    pub(super) fn limits(&self) -> (u64, u64) {
        match &self.bound {
            StateBound::Unbounded => (0, 0),
            StateBound::OfTask(allowed) => (*allowed, 0),
            StateBound::OfJob(budget) => (0, budget.bytes_max),
        }
    }
}

impl Drop for StateRoom {
    fn drop(&mut self) {
        self.publish(0);
    }
}

#[cfg(test)]
mod tests {
    //! Catches a task that may have only its equal share, one whose own size counts twice or not at all, and a budget that
    //! loses something when tasks end.

    use super::*;

    fn room(budget: &Arc<StateBudget>) -> StateRoom {
        StateRoom::new(StateBound::OfJob(Arc::clone(budget)))
    }

    #[test]
    fn one_task_may_have_what_the_others_leave() {
        let budget = Arc::new(StateBudget::new(100));
        let (mut large, mut small) = (room(&budget), room(&budget));
        small.publish(10);
        large.publish(80);
        assert_eq!(large.check(90), Ok(()));
        let exceeded = Exceeded::StateOfJob {
            bytes: 91,
            all: 101,
            allowed: 100,
        };
        assert_eq!(large.check(91), Err(exceeded));
        assert_eq!(small.check(20), Ok(()));
        assert!(small.check(21).is_err());
        large.publish(30);
        assert_eq!(small.check(70), Ok(()));
    }

    #[test]
    fn what_ends_gives_all_back() {
        let budget = Arc::new(StateBudget::new(100));
        for round in 0..50 {
            let mut tasks: Vec<_> = (0..4).map(|_| room(&budget)).collect();
            let mut sizes = [0; 4];
            for step in 0..20_u64 {
                let at = (step as usize + round) % 4;
                sizes[at] = (step * 7 + round as u64) % 23;
                tasks[at].publish(sizes[at]);
                assert_eq!(budget.used(), sizes.iter().sum::<u64>());
            }
        }
        assert_eq!(budget.used(), 0);
        assert_eq!(room(&budget).check(100), Ok(()));
    }

    #[test]
    fn a_limit_of_its_own_is_for_the_task_alone() {
        let mut first = StateRoom::new(StateBound::OfTask(10));
        first.publish(10);
        let second = StateRoom::new(StateBound::OfTask(10));
        assert_eq!(second.check(10), Ok(()));
        let exceeded = Exceeded::State {
            bytes: 11,
            allowed: 10,
        };
        assert_eq!(second.check(11), Err(exceeded));
        assert_eq!(
            StateRoom::new(StateBound::Unbounded).check(u64::MAX),
            Ok(())
        );
        assert_eq!((first.limits(), second.limits()), ((10, 0), (10, 0)));
    }
}
