//! The swap that is under way on a running job: what it does and since when, for other clients, and its cancellation.
//!
//! There is one at a time, checks included. Until the job has it, a cancelled swap ends at its next step, and nothing has
//! changed. Later only the job can withdraw it (`job::Request::WithdrawSwap`), before the barrier.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SwapRefusal;

/// What a swap does at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwapStep {
    /// It begins.
    Begun,
    /// A plugin is compiled and compared.
    Compares {
        /// The operator.
        operator: String,
    },
    /// The job takes the checkpoint on which plugins are tried.
    TakesCheckpoint,
    /// A plugin is tried on saved state.
    Rehearses {
        /// The operator.
        operator: String,
        /// The number of values so far.
        values: u64,
    },
    /// Two plugins process the same records.
    Shadows {
        /// The operator.
        operator: String,
    },
    /// Instances are opened.
    Opens,
    /// The job has the request, and waits for the barrier of its checkpoint, or for the checkpoint.
    Requested,
}

impl fmt::Display for SwapStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun => f.write_str("it begins"),
            Self::Compares { operator } => write!(f, "it compiles the plugin of `{operator}`"),
            Self::TakesCheckpoint => f.write_str("it waits for a checkpoint to try the plugin on"),
            Self::Rehearses { operator, values } => {
                write!(f, "it rehearses `{operator}`, {values} values so far")
            }
            Self::Shadows { operator } => write!(f, "it runs both plugins of `{operator}`"),
            Self::Opens => f.write_str("it opens instances"),
            Self::Requested => f.write_str("it waits for its checkpoint"),
        }
    }
}

/// The place where the swap of a job is noted.
#[derive(Clone, Default)]
pub struct SwapDesk(Arc<Mutex<Option<NotedSwap>>>);

#[derive(Debug, Clone)]
struct NotedSwap {
    step: SwapStep,
    since: Duration,
    is_cancelled: bool,
}

/// The right to swap, until it is dropped.
pub(super) struct SwapToken(SwapDesk);

impl SwapDesk {
    /// Begins a swap at this time of the job's clock.
    ///
    /// # Errors
    /// When another is under way.
    pub(super) fn begin(&self, now: Duration) -> Result<SwapToken, SwapRefusal> {
        let mut noted = self.lock();
        if let Some(other) = &*noted {
            return Err(SwapRefusal::UnderWay {
                step: other.step.clone(),
                seconds: now.saturating_sub(other.since).as_secs(),
            });
        }
        *noted = Some(NotedSwap {
            step: SwapStep::Begun,
            since: now,
            is_cancelled: false,
        });
        Ok(SwapToken(self.clone()))
    }

    /// What the swap under way does, and for how long it has been.
    #[must_use]
    pub fn look(&self, now: Duration) -> Option<(SwapStep, Duration)> {
        let noted = self.lock();
        let noted = noted.as_ref()?;
        Some((noted.step.clone(), now.saturating_sub(noted.since)))
    }

    /// Cancels the swap under way, unless the job has it. Returns what it does; `None` if there is none.
    pub(super) fn cancel(&self) -> Option<SwapStep> {
        let mut noted = self.lock();
        let noted = noted.as_mut()?;
        noted.is_cancelled = true;
        Some(noted.step.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<NotedSwap>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SwapToken {
    /// The next step begins.
    ///
    /// # Errors
    /// When the swap was cancelled.
    pub(super) fn enter(&self, step: SwapStep) -> Result<(), SwapRefusal> {
        self.hand_over(step, || ())
    }

    /// The next step begins, with this, unless the swap was cancelled before. It cannot be cancelled in between.
    ///
    /// # Errors
    /// When the swap was cancelled.
    pub(super) fn hand_over<T>(
        &self,
        step: SwapStep,
        with: impl FnOnce() -> T,
    ) -> Result<T, SwapRefusal> {
        let mut noted = self.0.lock();
        if let Some(noted) = noted.as_mut() {
            if noted.is_cancelled {
                return Err(SwapRefusal::Cancelled);
            }
            noted.step = step;
        }
        Ok(with())
    }
}

impl Drop for SwapToken {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    //! Catches two swaps at once, and a swap that continues after it was cancelled.

    use super::*;

    #[test]
    fn one_swap_is_under_way_until_it_is_dropped() {
        let desk = SwapDesk::default();
        assert_eq!(desk.look(Duration::ZERO), None);
        let Ok(token) = desk.begin(Duration::from_secs(1)) else {
            panic!("there is no other");
        };
        assert!(token.enter(SwapStep::Opens).is_ok());
        let message = match desk.begin(Duration::from_secs(5)) {
            Err(refusal) => refusal.to_string(),
            Ok(_) => panic!("there is another"),
        };
        let expected = "another swap is under way for 4 s: it opens instances";
        assert!(message.starts_with(expected), "{message}");
        drop(token);
        assert!(desk.begin(Duration::from_secs(6)).is_ok());
    }

    #[test]
    fn a_cancelled_swap_takes_no_further_step() {
        let desk = SwapDesk::default();
        assert_eq!(desk.cancel(), None);
        let Ok(token) = desk.begin(Duration::ZERO) else {
            panic!("there is no other");
        };
        assert_eq!(desk.cancel(), Some(SwapStep::Begun));
        let mut is_handed_over = false;
        let refused = token.hand_over(SwapStep::Requested, || is_handed_over = true);
        assert!(matches!(refused, Err(SwapRefusal::Cancelled)));
        assert!(!is_handed_over);
        drop(token);
        assert!(
            matches!(desk.begin(Duration::ZERO), Ok(token) if token.enter(SwapStep::Opens).is_ok())
        );
    }
}
