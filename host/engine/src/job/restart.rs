//! Whether a job that has failed goes back to its last checkpoint, after what delay, or gives up. Pure: the failures so far and
//! the time come in, a decision comes out. Who waits, and where failures are kept, is elsewhere.
//!
//! Failures are told by the time of day, since they are kept over restarts of the process. A clock that was set back makes the
//! time between two failures zero: they count as a row rather than not.

use std::fmt;
use std::time::Duration;

/// Failures that are remembered: no strategy counts further back.
pub const FAILURES_MAX: usize = 200;

/// When a job goes back, and when it gives up. Numbers only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Strategy {
    /// Each failure ends the job.
    None,
    /// After a delay, so many times in a row: without a checkpoint in between that has more records.
    FixedDelay {
        /// How many times; `None` for any number.
        attempts: Option<u32>,
        /// How long to wait.
        delay: Duration,
    },
    /// After a delay, unless there are too many failures within a time.
    FailureRate {
        /// How many failures are borne.
        failures_max: u32,
        /// The time within which they are counted.
        interval: Duration,
        /// How long to wait.
        delay: Duration,
    },
    /// After delays that grow from one failure to the next.
    ExponentialDelay(Backoff),
}

/// Delays that grow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// The factor from one delay to the next, at least 1.
    pub multiplier: f64,
    /// How far a delay may be from that, as a part of it from 0 to 1: jobs that failed together do not come back together.
    pub jitter_factor: f64,
    /// After this long without a failure the next one counts as the first.
    pub reset_threshold: Duration,
    /// How many failures in a row are tolerated; `None` for any number.
    pub attempts: Option<u32>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter_factor: 0.1,
            reset_threshold: Duration::from_secs(600),
            attempts: Some(10),
        }
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self::ExponentialDelay(Backoff::default())
    }
}

/// A failure that was decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// How long the job waited before it resumed.
    pub delay_ms: u64,
    /// Records read at the checkpoint that the job had then.
    pub records_in: u64,
}

/// What is to be done after a failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decision {
    /// The job resumes from its last checkpoint.
    GoBack {
        /// The time to wait before that.
        delay: Duration,
        /// The number of this failure, from 1, as the strategy counts.
        attempt: u32,
        /// The number up to which the job resumes; `None` for any number.
        attempts_max: Option<u32>,
    },
    /// The job ends.
    GiveUp(Limit),
}

impl Decision {
    /// The job goes back without a delay, and without counting the failure.
    pub(super) fn at_once(attempts_max: Option<u32>) -> Self {
        Self::GoBack {
            delay: Duration::ZERO,
            attempt: 1,
            attempts_max,
        }
    }
}

/// What has been reached when a job gives up. Displays what it is, and which setting to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The strategy allows no restart.
    None,
    /// Too many failures in a row.
    Attempts {
        /// The number of this failure.
        failures: u32,
        /// The number that is allowed.
        attempts: u32,
    },
    /// Too many failures within a time.
    Rate {
        /// The number of this failure.
        failures: u32,
        /// The number that is allowed.
        failures_max: u32,
        /// The time within which they are counted.
        interval: Duration,
    },
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("`restart.strategy` is `none`"),
            Self::Attempts { failures, attempts } => write!(
                f,
                "this was failure {failures} in a row, and `restart.attempts` is {attempts}"
            ),
            Self::Rate {
                failures,
                failures_max,
                interval,
            } => write!(
                f,
                "this was failure {failures} within {interval:?}, and `restart.max-failures` is {failures_max}"
            ),
        }
    }
}

impl Strategy {
    /// Decides on a failure at `at_ms`, when the last checkpoint has `records_in`. `earlier` are the failures before it, oldest
    /// first; the same `seed` gives the same delay.
    #[must_use]
    pub fn decide(&self, earlier: &[Failure], at_ms: u64, records_in: u64, seed: u64) -> Decision {
        match *self {
            Self::None => Decision::GiveUp(Limit::None),
            Self::FixedDelay { attempts, delay } => {
                let mut next = records_in;
                let in_row = row(earlier, |failure| {
                    let has_moved = next > failure.records_in;
                    next = failure.records_in;
                    !has_moved
                });
                within(in_row, attempts, delay)
            }
            Self::FailureRate {
                failures_max,
                interval,
                delay,
            } => {
                let failures = row(earlier, |failure| {
                    u128::from(at_ms.saturating_sub(failure.at_ms)) <= interval.as_millis()
                });
                if failures > failures_max {
                    return Decision::GiveUp(Limit::Rate {
                        failures,
                        failures_max,
                        interval,
                    });
                }
                Decision::GoBack {
                    delay,
                    attempt: failures,
                    attempts_max: Some(failures_max),
                }
            }
            Self::ExponentialDelay(backoff) => {
                let mut next = at_ms;
                let failures = row(earlier, |failure| {
                    let ran_from = failure.at_ms.saturating_add(failure.delay_ms);
                    let ran = next.saturating_sub(ran_from);
                    next = failure.at_ms;
                    u128::from(ran) < backoff.reset_threshold.as_millis()
                });
                within(failures, backoff.attempts, backoff.delay(failures, seed))
            }
        }
    }
}

/// How many failures are in a row with the one of now, that one included. `follows` is asked from the newest to the oldest.
fn row(earlier: &[Failure], follows: impl FnMut(&Failure) -> bool) -> u32 {
    let mut follows = follows;
    let count = earlier.iter().rev().take_while(|failure| follows(failure));
    u32::try_from(count.count())
        .unwrap_or(u32::MAX)
        .saturating_add(1)
}

fn within(failures: u32, attempts: Option<u32>, delay: Duration) -> Decision {
    match attempts {
        Some(attempts) if failures > attempts => {
            Decision::GiveUp(Limit::Attempts { failures, attempts })
        }
        attempts_max => Decision::GoBack {
            delay,
            attempt: failures,
            attempts_max,
        },
    }
}

impl Backoff {
    /// The delay after the failure of this number in a row.
    fn delay(&self, failures: u32, seed: u64) -> Duration {
        let max = self.max.as_secs_f64();
        let mut delay = self.initial.as_secs_f64().min(max);
        for _ in 1..failures {
            if delay >= max || self.multiplier <= 1.0 {
                break;
            }
            delay = (delay * self.multiplier).min(max);
        }
        // From -1 to 1.
        let way =
            scattered(seed.wrapping_add(failures.into())) as f64 / u64::MAX as f64 * 2.0 - 1.0;
        let delay = (delay * (1.0 + self.jitter_factor * way)).clamp(0.0, max);
        Duration::from_secs_f64(delay)
    }
}

/// Bits of which each depends on all of `seed` (the finalizer of SplitMix64).
fn scattered(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
#[path = "restart/tests.rs"]
mod tests;
