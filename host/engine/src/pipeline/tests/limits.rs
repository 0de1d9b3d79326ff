//! Catches a limit that is misread or applied to the wrong operator, and a limit that has no effect or stops everything
//! but is accepted.

use std::time::Duration;

use super::super::limits::{Fuel, LimitSettings, StateLimit};
use super::{WORDS, plan, unindented};

fn limits(general: &str, own: &str) -> Result<[LimitSettings; 2], String> {
    let text = format!("{WORDS}[limits]\n{general}\n[operator.count.limits]\n{own}\n");
    let plan = plan(&text, &[]).map_err(|problems| unindented(&problems.to_string()))?;
    Ok(["split", "count"].map(|operator| plan.spec.limits_of(operator)))
}

#[test]
fn each_limit_is_read_and_an_operators_own_goes_first() {
    let nothing = LimitSettings::default();
    assert_eq!(limits("", ""), Ok([nothing, nothing]));
    let general = LimitSettings {
        memory: Some(64 << 20),
        time_per_call: Some(Duration::from_secs(2)),
        stop_grace: Some(Duration::from_secs(5)),
        output_per_call: Some(1 << 20),
        state: Some(StateLimit(Some(8 << 30))),
        log_lines_per_second: Some(7),
        instances: Some(3),
        fuel_per_call: Some(Fuel(Some(5_000_000))),
        compile_time: Some(Duration::from_secs(60)),
        compile_memory: Some(1 << 30),
    };
    let text = "memory = '64MiB'\ntime-per-call = '2s'\nstop-grace = '5s'\noutput-per-call = '1MiB'\nstate = '8GiB'\nlog-lines-per-second = 7\ninstances = 3
        fuel-per-call = 5000000\ncompile-time = '1min'\ncompile-memory = '1GiB'";
    assert_eq!(limits(text, ""), Ok([general, general]));
    assert_eq!(limits("", text), Ok([nothing, general]));
    let own = LimitSettings {
        memory: Some(1 << 30),
        state: Some(StateLimit(None)),
        fuel_per_call: Some(Fuel(None)),
        ..general
    };
    let said = limits(
        text,
        "memory = '1GiB'\nstate = 'off'\nfuel-per-call = 'off'",
    );
    assert_eq!(said, Ok([general, own]));
}

#[test]
fn absurd_limits_are_refused() {
    for (line, expected) in [
        (
            "memory = '63KiB'",
            "limits.memory: `63KiB` is not between 64KiB and 4GiB",
        ),
        (
            "memory = '5GiB'",
            "limits.memory: `5GiB` is not between 64KiB and 4GiB",
        ),
        (
            "memory = 5",
            "limits.memory: `5` has no unit; write `5B` for bytes or `5MiB` for mebibytes",
        ),
        (
            "time-per-call = '0s'",
            "limits.time-per-call: `0s` is not between 10ms and 365d",
        ),
        (
            "stop-grace = '0s'",
            "limits.stop-grace: `0s` is not between 10ms and 365d",
        ),
        (
            "time-per-call = '9ms'",
            "limits.time-per-call: is shorter than 10ms, the resolution of the measurement",
        ),
        (
            "output-per-call = '3GiB'",
            "limits.output-per-call: `3GiB` is not between 1KiB and 2GiB",
        ),
        (
            "state = '1KiB'",
            "limits.state: `1KiB` is not between 64KiB and 1024TiB",
        ),
        (
            "state = '0B'",
            "limits.state: `0B` is not between 64KiB and 1024TiB",
        ),
        (
            "compile-time = '0s'",
            "limits.compile-time: `0s` is not between 1s and 365d",
        ),
        (
            "state = 5",
            "limits.state: `5` has no unit; write `5B` for bytes or `5MiB` for mebibytes",
        ),
        (
            "instances = 0",
            "limits.instances: 0 is not between 1 and 1024; one spare is needed after a plugin has crashed",
        ),
        (
            "fuel-per-call = 0",
            "limits.fuel-per-call: must be a whole number, 1 or more, or `off`, not the number 0",
        ),
        (
            "fuel-per-call = 'on'",
            "limits.fuel-per-call: must be a whole number, 1 or more, or `off`, not the text \"on\"",
        ),
        (
            "compile-time = '500ms'",
            "limits.compile-time: is shorter than 1s, the resolution of the measurement",
        ),
        (
            "compile-memory = '1MiB'",
            "limits.compile-memory: `1MiB` is not between 128MiB and 1024TiB",
        ),
        ("time = '1s'", "limits.time: unknown field"),
    ] {
        for (general, own, prefix) in [(line, "", ""), ("", line, "operator.count.")] {
            let said = limits(general, own).unwrap_err();
            let expected = format!("{prefix}{expected}");
            assert!(said.contains(&expected), "{line}: {said}");
        }
    }
}
