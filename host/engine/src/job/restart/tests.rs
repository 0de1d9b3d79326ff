//! Catches a strategy that goes back once too often or too seldom, waits for another time than it says, or forgets or
//! remembers failures that it should not.

use super::*;

const S: Duration = Duration::from_secs(1);

/// Runs a script: each step is the time of a failure in seconds, and the records at the last checkpoint. Prints what is
/// decided: the delay in milliseconds and the number of the attempt, or why the job gives up.
fn check(strategy: Strategy, script: &[(u64, u64)], expected: &[&str]) {
    let mut failures: Vec<Failure> = Vec::new();
    let mut decided = Vec::new();
    for (at_s, records_in) in script {
        let at_ms = at_s * 1000;
        let decision = strategy.decide(&failures, at_ms, *records_in, 7);
        let delay_ms = match decision {
            Decision::GoBack { delay, .. } => delay.as_millis() as u64,
            Decision::GiveUp(_) => 0,
        };
        failures.push(Failure {
            at_ms,
            delay_ms,
            records_in: *records_in,
        });
        decided.push(match decision {
            Decision::GoBack {
                attempt,
                attempts_max,
                ..
            } => match attempts_max {
                Some(max) => format!("{delay_ms} {attempt}/{max}"),
                None => format!("{delay_ms} {attempt}"),
            },
            Decision::GiveUp(limit) => limit.to_string(),
        });
    }
    assert_eq!(decided, expected);
}

/// Without jitter.
fn backoff() -> Backoff {
    Backoff {
        jitter_factor: 0.0,
        ..Backoff::default()
    }
}

#[test]
fn without_a_strategy_the_first_failure_is_the_last() {
    check(Strategy::None, &[(1, 0)], &["`restart.strategy` is `none`"]);
}

#[test]
fn a_fixed_delay_counts_until_there_are_more_records() {
    let strategy = Strategy::FixedDelay {
        attempts: Some(2),
        delay: S,
    };
    check(
        strategy,
        // However long it takes: a checkpoint without more records is not progress. One with fewer is none, either.
        &[
            (1, 5),
            (90_000, 5),
            (90_001, 6),
            (90_002, 6),
            (90_003, 3),
            (90_004, 4),
        ],
        &[
            "1000 1/2",
            "1000 2/2",
            "1000 1/2",
            "1000 2/2",
            "this was failure 3 in a row, and `restart.attempts` is 2",
            "1000 1/2",
        ],
    );
    let endless = Strategy::FixedDelay {
        attempts: None,
        delay: S,
    };
    check(
        endless,
        &[(1, 0), (2, 0), (3, 0)],
        &["1000 1", "1000 2", "1000 3"],
    );
}

#[test]
fn a_rate_counts_what_is_within_its_time() {
    let strategy = Strategy::FailureRate {
        failures_max: 2,
        interval: 10 * S,
        delay: 2 * S,
    };
    check(
        strategy,
        &[(1, 0), (6, 0), (12, 0), (16, 0), (22, 0), (23, 0)],
        &[
            "2000 1/2",
            "2000 2/2",
            "2000 2/2",
            "this was failure 3 within 10s, and `restart.max-failures` is 2",
            "this was failure 3 within 10s, and `restart.max-failures` is 2",
            "this was failure 3 within 10s, and `restart.max-failures` is 2",
        ],
    );
}

#[test]
fn delays_grow_up_to_the_longest_and_begin_anew_after_a_quiet_time() {
    let strategy = Strategy::ExponentialDelay(Backoff {
        max: Duration::from_millis(500),
        reset_threshold: 10 * S,
        attempts: Some(5),
        ..backoff()
    });
    check(
        strategy,
        // Records do not matter. The delay is not part of the quiet time: 29.5 s after the one of 14 s it is not over.
        &[
            (1, 0),
            (2, 9),
            (3, 99),
            (4, 999),
            (14, 999),
            (24, 999),
            (35, 999),
        ],
        &[
            "100 1/5",
            "200 2/5",
            "400 3/5",
            "500 4/5",
            "500 5/5",
            "this was failure 6 in a row, and `restart.attempts` is 5",
            "100 1/5",
        ],
    );
}

#[test]
fn the_defaults_are_those_of_the_readme() {
    let Strategy::ExponentialDelay(defaults) = Strategy::default() else {
        panic!("another strategy");
    };
    let expected = Backoff {
        initial: Duration::from_millis(100),
        max: 60 * S,
        multiplier: 2.0,
        jitter_factor: 0.1,
        reset_threshold: 600 * S,
        attempts: Some(10),
    };
    assert_eq!(defaults, expected);
}

#[test]
fn jitter_stays_within_its_factor_and_depends_on_the_seed() {
    let backoff = Backoff {
        initial: S,
        jitter_factor: 0.25,
        ..Backoff::default()
    };
    let delays: Vec<_> = (0..1000)
        .map(|seed| backoff.delay(1, seed).as_millis())
        .collect();
    assert!(delays.iter().all(|delay| (750..=1250).contains(delay)));
    assert!(*delays.iter().min().unwrap() < 800 && *delays.iter().max().unwrap() > 1200);
    assert_eq!(backoff.delay(3, 9), backoff.delay(3, 9));
    let longest = Backoff { max: S, ..backoff };
    assert!((0..100).all(|seed| longest.delay(9, seed) <= S));
}

#[test]
fn absurd_numbers_are_borne() {
    let strategy = Strategy::ExponentialDelay(Backoff {
        multiplier: 1e300,
        attempts: None,
        ..backoff()
    });
    // A clock that was set back, and one that is broken.
    check(
        strategy,
        &[(u64::MAX / 1000, u64::MAX), (5, 0), (0, 0)],
        &["100 1", "60000 2", "60000 3"],
    );
    let standing = Strategy::ExponentialDelay(Backoff {
        multiplier: 1.0,
        attempts: None,
        ..backoff()
    });
    let many = vec![
        Failure {
            at_ms: 0,
            delay_ms: u64::MAX,
            records_in: 0
        };
        100
    ];
    let Decision::GoBack { delay, attempt, .. } = standing.decide(&many, 1, 0, 0) else {
        panic!("it gave up");
    };
    assert_eq!((delay.as_millis(), attempt), (100, 101));
}
