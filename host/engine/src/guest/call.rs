//! One call of an export: its limits, its end, and the error of one that has crashed.
//!
//! Every call goes through here, instantiation included, so that each is under the limits and counts against the grace of
//! its task. What exports take and return is not known here.

use wasmtime::{Store, Trap};

use super::GuestError;
use super::guest_state::GuestState;
use super::limits::Exceeded;

/// A part of wasmtime's message when a guest passes more than its hostcall fuel.
const HANDED_TOO_MUCH: &str = "fuel allocated for hostcalls";

/// Calls an export of a guest.
///
/// # Errors
/// When the guest traps or exceeds a limit; after either it must not be used again. When its task has used up its grace
/// after a stop of the job: then the guest was not called.
pub(super) fn call<T>(
    store: &mut Store<GuestState>,
    operator: &str,
    export: &'static str,
    made: impl FnOnce(&mut Store<GuestState>) -> wasmtime::Result<T>,
) -> Result<T, GuestError> {
    begin(store, operator, export)?;
    let answer = made(&mut *store);
    store.data_mut().end_call();
    answer.map_err(|error| trapped(operator, export, &error, store.data()))
}

/// Begins a call, which [`GuestState::end_call`] ends: sets its limits.
///
/// # Errors
/// When its task has used up its grace. The call has not begun then.
pub(super) fn begin(
    store: &mut Store<GuestState>,
    operator: &str,
    export: &'static str,
) -> Result<(), GuestError> {
    let state = store.data_mut();
    if state.has_no_grace() {
        return Err(interrupted(operator, export, state));
    }
    state.begin_call();
    let (limits, has_fuel) = (state.bounds.limits, state.has_fuel);
    // The guest then looks at its deadline, and again once a tick.
    store.set_epoch_deadline(1);
    if has_fuel {
        let fuel = limits.fuel_per_call.unwrap_or(u64::MAX);
        store
            .set_fuel(fuel)
            .expect("the engine was made to count fuel");
    }
    Ok(())
}

pub(super) fn trapped(
    operator: &str,
    call: &'static str,
    error: &wasmtime::Error,
    state: &GuestState,
) -> GuestError {
    if state.deadline.is_interrupted() {
        return interrupted(operator, call, state);
    }
    let operator = operator.to_owned();
    let reason = error.root_cause().to_string();
    if let Some(exceeded) = exceeded(error, &reason, state) {
        return GuestError::Limit {
            operator,
            call,
            exceeded,
        };
    }
    GuestError::Trapped {
        operator,
        call,
        reason,
        stderr: last_words(&state.stderr),
    }
}

/// The error of a call that its task has no grace for, or no more.
pub(super) fn interrupted(operator: &str, call: &'static str, state: &GuestState) -> GuestError {
    GuestError::Interrupted {
        operator: operator.to_owned(),
        call,
        after: state.bounds.limits.stop_grace,
    }
}

/// The end of a guest's standard error, without control characters and without the hints that Rust adds to a panic: a
/// guest has no environment, so a user cannot follow them.
fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<_> = text.lines().filter(|line| !is_hint(line)).collect();
    let mut text = lines.join("\n");
    text.retain(|char| char == '\n' || !char.is_control());
    text
}

/// Whether a line only says how to get a backtrace.
fn is_hint(line: &str) -> bool {
    line.trim_start().starts_with("note: ") && line.contains("`RUST_BACKTRACE=")
}

/// The limit that ended a call, if any. A guest that is refused memory usually traps by itself afterwards.
fn exceeded(error: &wasmtime::Error, reason: &str, state: &GuestState) -> Option<Exceeded> {
    let limits = &state.bounds.limits;
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => Some(Exceeded::Time {
            allowed: limits.time_per_call,
        }),
        Some(Trap::OutOfFuel) => Some(Exceeded::Fuel {
            allowed: limits.fuel_per_call.unwrap_or(u64::MAX),
        }),
        None if reason.contains(HANDED_TOO_MUCH) => Some(Exceeded::Output {
            bytes: None,
            allowed: limits.handed_bytes() as u64,
        }),
        _ => state.bounds.refused,
    }
}

#[cfg(test)]
mod tests {
    //! Catches last words of a guest that tell a user to do what cannot be done, or that lack what the guest said.

    use super::*;

    #[track_caller]
    fn check(stderr: &str, expected: &str) {
        assert_eq!(last_words(stderr.as_bytes()), expected);
    }

    #[test]
    fn hints_of_rust_are_left_out() {
        check("", "");
        check(
            "\nthread 'main' panicked at src/lib.rs:1:2:\nno\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
            "\nthread 'main' panicked at src/lib.rs:1:2:\nno",
        );
        check(
            "one\nnote: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.\r\ntwo\n",
            "one\ntwo",
        );
        check("note: this is the plugin's\n", "note: this is the plugin's");
        check("set `RUST_BACKTRACE=1`", "set `RUST_BACKTRACE=1`");
    }

    #[test]
    fn control_characters_are_left_out() {
        check("a\u{1b}[31m\tb\u{9b}\nc", "a[31mb\nc");
    }
}
