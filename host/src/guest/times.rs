//! Where the time of calls goes: into the guest, into its questions to the host, or into copying to and fro.
//!
//! Read at each crossing of the boundary, a dozen times a call whatever the batch. The clock is handed in; without one nothing
//! is read and nothing is counted.

use std::sync::Arc;

use wasmtime::CallHook;

/// A clock in nanoseconds, from any start.
pub type GuestClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where the time of an instance's calls of `process` went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallTimes {
    /// Calls, counted without a clock too.
    pub calls: u64,
    /// In the guest.
    pub guest_ns: u64,
    /// Copying into the guest and out of it, and checking what came.
    pub copy_ns: u64,
    /// In functions of the host that the guest called, such as reads of state.
    pub host_ns: u64,
}

/// Counts the times of an instance.
///
/// - Between `begin` and `end` all time goes to exactly one of the three.
pub(super) struct Timer {
    clock: Option<GuestClock>,
    times: CallTimes,
    /// The last crossing, within a call.
    since: Option<u64>,
    /// Calls of the host that the guest waits for.
    host_calls: u32,
}

impl Timer {
    pub(super) fn new(clock: Option<GuestClock>) -> Self {
        Self {
            clock,
            times: CallTimes::default(),
            since: None,
            host_calls: 0,
        }
    }

    pub(super) fn times(&self) -> CallTimes {
        self.times
    }

    pub(super) fn begin(&mut self) {
        self.times.calls += 1;
        self.host_calls = 0;
        self.since = self.clock.as_ref().map(|clock| clock());
    }

    /// The time until here is that of the side that is left.
    pub(super) fn cross(&mut self, crossing: CallHook) {
        let Some(spent) = self.spent() else {
            return;
        };
        match crossing {
            CallHook::CallingWasm if self.host_calls == 0 => self.times.copy_ns += spent,
            CallHook::CallingWasm => self.times.host_ns += spent,
            CallHook::ReturningFromWasm => self.times.guest_ns += spent,
            CallHook::CallingHost => {
                self.host_calls += 1;
                self.times.guest_ns += spent;
            }
            CallHook::ReturningFromHost => {
                self.host_calls = self.host_calls.saturating_sub(1);
                self.times.host_ns += spent;
            }
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(spent) = self.spent() {
            self.times.copy_ns += spent;
        }
        self.since = None;
    }

    /// The time since the last crossing.
    fn spent(&mut self) -> Option<u64> {
        let since = self.since.as_mut()?;
        let now = self.clock.as_ref()?();
        Some(now.saturating_sub(std::mem::replace(since, now)))
    }
}

#[cfg(test)]
mod tests {
    //! Catches time that is counted twice, not at all, or for the wrong side.

    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn all_time_of_a_call_goes_somewhere() {
        // Each reading comes ten times as late as the one before.
        let now = AtomicU64::new(1);
        let clock: GuestClock = Arc::new(move || {
            let was = now.load(Ordering::Relaxed);
            now.swap(was * 10, Ordering::Relaxed)
        });
        let mut timer = Timer::new(Some(clock));
        timer.cross(CallHook::CallingWasm);
        assert_eq!(timer.times(), CallTimes::default(), "outside of a call");
        timer.begin();
        for crossing in [
            CallHook::CallingWasm,
            CallHook::CallingHost,
            CallHook::CallingWasm,
            CallHook::ReturningFromWasm,
            CallHook::ReturningFromHost,
            CallHook::ReturningFromWasm,
        ] {
            timer.cross(crossing);
        }
        timer.end();
        let expected = CallTimes {
            calls: 1,
            guest_ns: 90 + 9_000 + 900_000,
            copy_ns: 9 + 9_000_000,
            host_ns: 900 + 90_000,
        };
        assert_eq!(timer.times(), expected);
        let mut untimed = Timer::new(None);
        untimed.begin();
        untimed.cross(CallHook::CallingWasm);
        untimed.end();
        let calls = CallTimes {
            calls: 1,
            ..CallTimes::default()
        };
        assert_eq!(untimed.times(), calls);
    }
}
