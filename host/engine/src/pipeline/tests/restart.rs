//! Catches a restart strategy that is misread, has other defaults than documented, or accepts a field of another one
//! without a message; and Flink's names without an answer.

use std::time::Duration;

use super::super::restart::{ExponentialDelay, FailureRate, FixedDelay, RestartSettings};
use super::{COPY, plan, unindented};

fn restart(fields: &str) -> Result<RestartSettings, String> {
    let plan = plan(&format!("{COPY}[restart]\n{fields}\n"), &[]);
    let plan = plan.map_err(|problems| unindented(&problems.to_string()))?;
    Ok(plan.spec.restart)
}

#[test]
fn defaults_are_those_of_the_readme() {
    let exponential = ExponentialDelay {
        initial_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(60),
        backoff_multiplier: 2.0,
        jitter_factor: 0.1,
        reset_backoff_threshold: Duration::from_secs(600),
        attempts: Some(10),
    };
    let exponential = RestartSettings::ExponentialDelay(exponential);
    assert_eq!(plan(COPY, &[]).unwrap().spec.restart, exponential);
    assert_eq!(restart(""), Ok(exponential));
    assert_eq!(restart("strategy = 'exponential-delay'"), Ok(exponential));
    let fixed = FixedDelay {
        attempts: Some(3),
        delay: Duration::from_secs(1),
    };
    let fixed = RestartSettings::FixedDelay(fixed);
    assert_eq!(restart("strategy = 'fixed-delay'"), Ok(fixed));
    let rate = FailureRate {
        max_failures: 3,
        interval: Duration::from_secs(300),
        delay: Duration::from_secs(1),
    };
    let rate = RestartSettings::FailureRate(rate);
    assert_eq!(restart("strategy = 'failure-rate'"), Ok(rate));
    assert_eq!(restart("strategy = 'none'"), Ok(RestartSettings::None));
}

#[test]
fn each_setting_is_read() {
    let settings = restart(
        "initial-backoff = '1s'\nmax-backoff = '5s'\nbackoff-multiplier = 1.5\njitter-factor = 0
         reset-backoff-threshold = '1h'\nattempts = 'unlimited'",
    );
    let expected = ExponentialDelay {
        initial_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(5),
        backoff_multiplier: 1.5,
        jitter_factor: 0.0,
        reset_backoff_threshold: Duration::from_secs(3600),
        attempts: None,
    };
    assert_eq!(settings, Ok(RestartSettings::ExponentialDelay(expected)));
    let settings = restart("strategy = 'fixed-delay'\nattempts = 0\ndelay = '0s'");
    let expected = FixedDelay {
        attempts: Some(0),
        delay: Duration::ZERO,
    };
    assert_eq!(settings, Ok(RestartSettings::FixedDelay(expected)));
    let sets = [
        "restart.strategy=failure-rate",
        "restart.max-failures=9",
        "restart.interval=1min",
        "restart.delay=5ms",
    ];
    let expected = FailureRate {
        max_failures: 9,
        interval: Duration::from_secs(60),
        delay: Duration::from_millis(5),
    };
    let sets = sets.map(str::to_owned);
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let spec = plan(COPY, &sets).unwrap().spec;
    assert_eq!(spec.restart, RestartSettings::FailureRate(expected));
}

#[test]
fn what_cannot_be_is_refused() {
    for (lines, expected) in [
        (
            "strategy = 'fixeddelay'",
            "restart.strategy: unknown value `fixeddelay`; it is called `fixed-delay` here",
        ),
        (
            "strategy = 'off'",
            "restart.strategy: unknown value `off`; it is called `none` here",
        ),
        (
            "strategy = 'failur-rate'",
            "restart.strategy: unknown value `failur-rate`; did you mean `failure-rate`?",
        ),
        (
            "delay = '1s'",
            "restart.delay: belongs to the strategy `fixed-delay`, but the strategy is `exponential-delay`; leave it out, or write `strategy = \"fixed-delay\"`",
        ),
        (
            "strategy = 'none'\nattempts = 3",
            "restart.attempts: belongs to the strategy `exponential-delay`, but the strategy is `none`; leave it out, or write `strategy = \"exponential-delay\"`",
        ),
        (
            "max-bakoff = '1s'",
            "restart.max-bakoff: unknown field; did you mean `max-backoff`?",
        ),
        (
            "backoff-multiplier = 0.5",
            "restart.backoff-multiplier: 0.5 is not between 1 and 1000",
        ),
        (
            "backoff-multiplier = nan",
            "restart.backoff-multiplier: NaN is not between 1 and 1000",
        ),
        (
            "jitter-factor = 2",
            "restart.jitter-factor: 2 is not between 0 and 1",
        ),
        (
            "max-backoff = '10ms'",
            "restart.max-backoff: is shorter than `initial-backoff`, which is 100ms",
        ),
        (
            "strategy = 'failure-rate'\nmax-failures = 0",
            "restart.max-failures: is 0; write 1 or more, or `strategy = \"none\"`",
        ),
        (
            "attempts = -1",
            "restart.attempts: must be a whole number, 0 or more, or `unlimited`, not the number -1",
        ),
    ] {
        let said = restart(lines).unwrap_err();
        let (_, message) = said.lines().next().unwrap().split_once(": ").unwrap();
        assert_eq!(message, expected, "{lines}");
    }
}

#[test]
fn settings_of_flink_are_answered() {
    for (line, expected) in [
        (
            "restart-strategy.fixed-delay.attempts = 3",
            "restart-strategy.fixed-delay.attempts: is a setting of Apache Flink; write `restart.attempts`",
        ),
        (
            "restart-strategy.type = 'none'",
            "restart-strategy.type: is a setting of Apache Flink; write `restart.strategy`",
        ),
        (
            "restart-strategy = 'none'",
            "restart-strategy: is a setting of Apache Flink; write `restart.strategy`",
        ),
    ] {
        let said = plan(&format!("{COPY}{line}"), &[]).unwrap_err().to_string();
        let said = unindented(&said);
        assert_eq!(said, format!("pipeline.toml:3: {expected}\n3 | {line}"));
    }
}
