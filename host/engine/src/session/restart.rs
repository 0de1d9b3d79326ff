//! Translates the section `[restart]` to a restart strategy, and describes it for `check`.

use crate::job::restart::{Backoff, Strategy};
use crate::pipeline::duration::format as span;
use crate::pipeline::restart::RestartSettings;

/// The restart strategy of these settings.
pub fn strategy(settings: &RestartSettings) -> Strategy {
    match settings {
        RestartSettings::None => Strategy::None,
        RestartSettings::FixedDelay(fixed) => Strategy::FixedDelay {
            attempts: fixed.attempts,
            delay: fixed.delay,
        },
        RestartSettings::FailureRate(rate) => Strategy::FailureRate {
            failures_max: rate.max_failures,
            interval: rate.interval,
            delay: rate.delay,
        },
        RestartSettings::ExponentialDelay(delay) => Strategy::ExponentialDelay(Backoff {
            initial: delay.initial_backoff,
            max: delay.max_backoff,
            multiplier: delay.backoff_multiplier,
            jitter_factor: delay.jitter_factor,
            reset_threshold: delay.reset_backoff_threshold,
            attempts: delay.attempts,
        }),
    }
}

/// The settings as one line for people.
pub fn describe(settings: &RestartSettings) -> String {
    let times = |attempts: Option<u32>| match attempts {
        Some(1) => "once".to_owned(),
        Some(attempts) => format!("{attempts} times"),
        None => "any number of times".to_owned(),
    };
    match settings {
        RestartSettings::None => "after a failure the job ends".to_owned(),
        RestartSettings::FixedDelay(fixed) => format!(
            "after a failure the job goes back to its last checkpoint after {}, {} in a row",
            span(fixed.delay),
            times(fixed.attempts)
        ),
        RestartSettings::FailureRate(rate) => format!(
            "after a failure the job goes back to its last checkpoint after {}, {} within {}",
            span(rate.delay),
            times(Some(rate.max_failures)),
            span(rate.interval)
        ),
        RestartSettings::ExponentialDelay(delay) => format!(
            "after a failure the job goes back to its last checkpoint after {} to {}, {} in a row",
            span(delay.initial_backoff),
            span(delay.max_backoff),
            times(delay.attempts)
        ),
    }
}
