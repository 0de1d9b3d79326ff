//! Measures the time of calls: in the guest, in host functions that it calls, and copying between both.
//!
//! Two clock readings measure a whole call. Measuring its parts takes a reading at each crossing of the boundary: one
//! or two dozen per call, even for small batches. So for calls with few records only some are measured in detail, and
//! the time of the others is divided in the same proportion. The clock is passed in; without one nothing is measured.

use std::sync::Arc;

use wasmtime::CallHook;

/// Calls with this many records or more are always measured in detail.
const RECORDS_MANY: usize = 64;
/// Of calls with fewer records, one in this many is measured in detail.
const LOOKED_INTO_EVERY: u64 = 16;

/// A clock in nanoseconds, from any start.
pub type GuestClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The times of an instance's calls of `process`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallTimes {
    /// Number of calls, also without a clock.
    pub calls: u64,
    /// Nanoseconds in the guest.
    pub guest_ns: u64,
    /// Nanoseconds for copying into the guest and out of it, and for checks.
    pub copy_ns: u64,
    /// Nanoseconds in host functions that the guest called, such as reads of state.
    pub host_ns: u64,
}

impl CallTimes {
    /// Time of all calls.
    fn all_ns(&self) -> u64 {
        self.guest_ns + self.copy_ns + self.host_ns
    }
}

/// Measures the times of an instance.
///
/// - Between `begin` and `end`, each moment counts for exactly one of the three parts.
pub(super) struct Timer {
    clock: Option<GuestClock>,
    times: CallTimes,
    /// Times of calls that were measured in detail; the latest count most.
    shown: CallTimes,
    /// The first and the last reading of the latest call.
    call: Option<(u64, u64)>,
    /// The last crossing of a call that is measured in detail, and the times before that call.
    since: Option<(u64, CallTimes)>,
    /// Number of host functions that the guest is currently inside of.
    host_calls: u32,
    is_in_call: bool,
}

impl Timer {
    pub(super) fn new(clock: Option<GuestClock>) -> Self {
        Self {
            clock,
            times: CallTimes::default(),
            shown: CallTimes::default(),
            call: None,
            since: None,
            host_calls: 0,
            is_in_call: false,
        }
    }

    pub(super) fn times(&self) -> CallTimes {
        self.times
    }

    /// The time by the clock.
    pub(super) fn now(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| clock())
    }

    /// The first and the last reading of the latest call.
    pub(super) fn call(&self) -> Option<(u64, u64)> {
        self.call
    }

    /// Whether `process` is running.
    pub(super) fn is_in_call(&self) -> bool {
        self.is_in_call
    }

    /// Starts a call with this many records.
    pub(super) fn begin(&mut self, records: usize) {
        let is_looked_into =
            records >= RECORDS_MANY || self.times.calls.is_multiple_of(LOOKED_INTO_EVERY);
        let now = self.now();
        self.call = now.map(|now| (now, now));
        self.since = now.filter(|_| is_looked_into).map(|now| (now, self.times));
        self.times.calls += 1;
        self.host_calls = 0;
        self.is_in_call = true;
    }

    /// Adds the time since the last crossing to the side that is left.
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
        self.is_in_call = false;
        let (Some((begun, _)), Some(now)) = (self.call, self.now()) else {
            return;
        };
        self.call = Some((begun, now));
        match self.since.take() {
            Some((since, before)) => {
                self.times.copy_ns += now.saturating_sub(since);
                self.show(before);
            }
            None => self.divide(now.saturating_sub(begun)),
        }
    }

    /// Notes how the time of a call was divided.
    fn show(&mut self, before: CallTimes) {
        let fade = |shown: u64, now: u64, before: u64| shown / 2 + now.saturating_sub(before);
        let (shown, times) = (self.shown, self.times);
        self.shown = CallTimes {
            calls: shown.calls + 1,
            guest_ns: fade(shown.guest_ns, times.guest_ns, before.guest_ns),
            copy_ns: fade(shown.copy_ns, times.copy_ns, before.copy_ns),
            host_ns: fade(shown.host_ns, times.host_ns, before.host_ns),
        };
    }

    /// Divides the time of a call that was not measured in detail.
    fn divide(&mut self, spent: u64) {
        let all = u128::from(self.shown.all_ns().max(1));
        let share = |part: u64| (u128::from(spent) * u128::from(part) / all) as u64;
        let (copy, host) = (share(self.shown.copy_ns), share(self.shown.host_ns));
        self.times.copy_ns += copy;
        self.times.host_ns += host;
        self.times.guest_ns += spent.saturating_sub(copy).saturating_sub(host);
    }

    /// The time since the last crossing.
    fn spent(&mut self) -> Option<u64> {
        let (since, _) = self.since.as_mut()?;
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
        timer.begin(1);
        assert!(timer.is_in_call());
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
        assert!(!timer.is_in_call());
        let expected = CallTimes {
            calls: 1,
            guest_ns: 90 + 9_000 + 900_000,
            copy_ns: 9 + 9_000_000,
            host_ns: 900 + 90_000,
        };
        assert_eq!(timer.times(), expected);
        assert_eq!(timer.call(), Some((1, 10_000_000)));
        let mut untimed = Timer::new(None);
        untimed.begin(1);
        untimed.cross(CallHook::CallingWasm);
        untimed.end();
        let calls = CallTimes {
            calls: 1,
            ..CallTimes::default()
        };
        assert_eq!((untimed.times(), untimed.call()), (calls, None));
    }

    #[test]
    fn small_calls_are_divided_as_those_that_were_looked_into() {
        // A reading every nanosecond, so readings are counted, too.
        let readings = Arc::new(AtomicU64::new(0));
        let read = Arc::clone(&readings);
        let mut timer = Timer::new(Some(Arc::new(move || read.fetch_add(1, Ordering::Relaxed))));
        let call = |timer: &mut Timer, records| {
            timer.begin(records);
            timer.cross(CallHook::CallingWasm);
            timer.cross(CallHook::ReturningFromWasm);
            readings.fetch_add(6, Ordering::Relaxed);
            timer.end();
        };
        call(&mut timer, 1);
        let parts = |timer: &Timer| {
            let times = timer.times();
            (times.guest_ns, times.copy_ns, times.host_ns)
        };
        assert_eq!(parts(&timer), (1, 8, 0));
        // The next fifteen take two readings each, and 7 ns, of which 8 in 9 count as copying.
        for calls in 1..16 {
            call(&mut timer, 1);
            assert_eq!(parts(&timer), (1 + calls, 8 + 6 * calls, 0));
        }
        // All time was counted.
        assert_eq!(timer.times().all_ns(), 9 + 15 * 7);
        // Large calls are always looked into.
        for calls in 1..4 {
            call(&mut timer, 64);
            assert_eq!(parts(&timer), (16 + calls, 98 + 8 * calls, 0));
        }
    }
}
