//! The swap that is under way on a running job: what it does and since when, for other clients, and its cancellation.
//!
//! There is one at a time, checks included. Until the job has it, a cancelled swap ends soon (`end`), and nothing has
//! changed; so does that of a job that ends. Later only the job can withdraw it (`job::Request::WithdrawSwap`), before the
//! barrier.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SwapRefusal;
use super::end::SwapEnd;
use crate::guest::{Cancellation, Haste};

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
    cancellation: Cancellation,
    client: Option<u64>,
}

/// The right to swap, until it is dropped.
pub(super) struct SwapToken {
    desk: SwapDesk,
    pub(super) end: SwapEnd,
}

impl SwapDesk {
    /// Begins a swap of a client at this time of the job's clock. `haste` begins when the job ends.
    ///
    /// # Errors
    /// When another is under way.
    pub(super) fn begin(
        &self,
        now: Duration,
        haste: &Haste,
        client: Option<u64>,
    ) -> Result<SwapToken, SwapRefusal> {
        let mut noted = self.lock();
        if let Some(other) = &*noted {
            return Err(SwapRefusal::UnderWay {
                step: other.step.clone(),
                seconds: now.saturating_sub(other.since).as_secs(),
            });
        }
        let cancellation = Cancellation::default();
        *noted = Some(NotedSwap {
            step: SwapStep::Begun,
            since: now,
            cancellation: cancellation.clone(),
            client,
        });
        Ok(SwapToken {
            desk: self.clone(),
            end: SwapEnd {
                cancellation,
                haste: haste.clone(),
            },
        })
    }

    /// What the swap under way does, and for how long it has been.
    #[must_use]
    pub fn look(&self, now: Duration) -> Option<(SwapStep, Duration)> {
        let noted = self.lock();
        let noted = noted.as_ref()?;
        Some((noted.step.clone(), now.saturating_sub(noted.since)))
    }

    /// Cancels the swap under way if its client is meant; one that the job has is left to `withdraw`. No other swap begins
    /// before that has returned. Returns what the swap does; `None` if none is meant.
    pub(super) fn cancel(
        &self,
        is_meant: impl FnOnce(Option<u64>) -> bool,
        withdraw: impl FnOnce(),
    ) -> Option<SwapStep> {
        let noted = self.lock();
        let swap = noted.as_ref().filter(|swap| is_meant(swap.client))?;
        // The job may take the plugin in any case, and then it must still be optimised.
        match swap.step {
            SwapStep::Requested => withdraw(),
            _ => swap.cancellation.cancel(),
        }
        Some(swap.step.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<NotedSwap>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SwapToken {
    /// The next step begins.
    ///
    /// # Errors
    /// When the swap was cancelled, or the job ends.
    pub(super) fn enter(&self, step: SwapStep) -> Result<(), SwapRefusal> {
        self.hand_over(step, || ())
    }

    /// The next step begins, with this, unless the swap was cancelled before. It cannot be cancelled in between.
    ///
    /// # Errors
    /// When the swap was cancelled, or the job ends.
    pub(super) fn hand_over<T>(
        &self,
        step: SwapStep,
        with: impl FnOnce() -> T,
    ) -> Result<T, SwapRefusal> {
        let mut noted = self.desk.lock();
        self.end.check()?;
        if let Some(noted) = noted.as_mut() {
            noted.step = step;
        }
        Ok(with())
    }
}

impl Drop for SwapToken {
    fn drop(&mut self) {
        *self.desk.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    //! Catches two swaps at once, a swap that continues after it was cancelled or while its job ends, and one that a client
    //! of another cancels.

    use super::*;
    use crate::job::Refusal;

    fn begin(desk: &SwapDesk, seconds: u64) -> Result<SwapToken, SwapRefusal> {
        desk.begin(Duration::from_secs(seconds), &Haste::default(), None)
    }

    /// Cancels a swap of any client, which the job must not have.
    fn cancel(desk: &SwapDesk) -> Option<SwapStep> {
        desk.cancel(|_| true, || panic!("the job does not have it"))
    }

    #[test]
    fn one_swap_is_under_way_until_it_is_dropped() {
        let desk = SwapDesk::default();
        assert_eq!(desk.look(Duration::ZERO), None);
        let Ok(token) = begin(&desk, 1) else {
            panic!("there is no other");
        };
        assert!(token.enter(SwapStep::Opens).is_ok());
        let message = match begin(&desk, 5) {
            Err(refusal) => refusal.to_string(),
            Ok(_) => panic!("there is another"),
        };
        let expected = "another swap is under way for 4 s: it opens instances";
        assert!(message.starts_with(expected), "{message}");
        drop(token);
        assert!(begin(&desk, 6).is_ok());
    }

    #[test]
    fn a_cancelled_swap_takes_no_further_step() {
        let desk = SwapDesk::default();
        assert_eq!(cancel(&desk), None);
        let Ok(token) = begin(&desk, 0) else {
            panic!("there is no other");
        };
        assert_eq!(cancel(&desk), Some(SwapStep::Begun));
        let mut is_handed_over = false;
        let refused = token.hand_over(SwapStep::Requested, || is_handed_over = true);
        assert!(matches!(refused, Err(SwapRefusal::Cancelled)));
        assert!(!is_handed_over);
        drop(token);
        assert!(matches!(begin(&desk, 0), Ok(token) if token.enter(SwapStep::Opens).is_ok()));
    }

    #[test]
    fn a_swap_that_the_job_has_is_not_cancelled_here() {
        let desk = SwapDesk::default();
        let Ok(token) = begin(&desk, 0) else {
            panic!("there is no other");
        };
        assert!(token.enter(SwapStep::Requested).is_ok());
        let mut is_withdrawn = false;
        let step = desk.cancel(|_| true, || is_withdrawn = true);
        assert_eq!(step, Some(SwapStep::Requested));
        assert!(is_withdrawn && token.end.check().is_ok());
    }

    fn never() {
        panic!("the swap is of another client");
    }

    #[test]
    fn a_client_that_goes_cancels_no_swap_of_another() {
        let (desk, haste) = (SwapDesk::default(), Haste::default());
        let gone =
            |client, withdraw: &mut dyn FnMut()| desk.cancel(|of| of == Some(client), withdraw);
        let Ok(token) = desk.begin(Duration::ZERO, &haste, Some(7)) else {
            panic!("there is no other");
        };
        assert_eq!(gone(6, &mut never), None);
        assert!(token.enter(SwapStep::Requested).is_ok());
        assert_eq!(gone(6, &mut never), None);
        let mut is_withdrawn = false;
        let step = gone(7, &mut || is_withdrawn = true);
        assert_eq!((step, is_withdrawn), (Some(SwapStep::Requested), true));
        drop(token);
        // Nor one that names no client.
        let Ok(token) = begin(&desk, 1) else {
            panic!("there is no other");
        };
        assert_eq!(gone(7, &mut never), None);
        assert!(token.enter(SwapStep::Opens).is_ok());
    }

    #[test]
    fn a_swap_ends_with_its_job() {
        let (desk, haste) = (SwapDesk::default(), Haste::default());
        let Ok(token) = desk.begin(Duration::ZERO, &haste, None) else {
            panic!("there is no other");
        };
        assert!(token.enter(SwapStep::Opens).is_ok());
        haste.begin();
        let refused = token.enter(SwapStep::Requested);
        assert!(matches!(refused, Err(SwapRefusal::Job(Refusal::SwapAtEnd))));
        let other = token.end.cause_of(SwapRefusal::NoneSound);
        assert!(matches!(other, SwapRefusal::Job(Refusal::SwapAtEnd)));
    }
}
