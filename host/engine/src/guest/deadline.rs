//! When a call must end: at its time limit, or earlier once the job was asked to stop.
//!
//! A running guest looks at its deadline once a tick. Time is counted in ticks of the engine, so it is known to within one
//! tick, and without a ticker there is no deadline. This module does not end calls: `instance` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::limits::{Limits, ticks};

/// Whether a job was asked to stop: from then on calls of its guests have a grace, [`Limits::stop_grace`]. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Haste(Arc<AtomicBool>);

impl Haste {
    /// The job was asked to stop.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the job was asked to stop.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The deadline of one call.
///
/// - The grace begins with the call, or with the stop if that comes later.
/// - A call that ends at its time limit after the stop is interrupted as well: to blame a record for it, the same call would
///   have to be repeated while the stop waits.
#[derive(Debug)]
pub(super) struct CallDeadline {
    /// The tick at which the time limit is reached.
    ends_at: u64,
    /// Ticks of the grace.
    grace: u64,
    /// The tick at which the grace is over, once the stop was noticed.
    grace_ends_at: Option<u64>,
    is_interrupted: bool,
}

impl CallDeadline {
    /// The deadline of an instance that has made no call.
    pub(super) fn none() -> Self {
        Self {
            ends_at: u64::MAX,
            grace: u64::MAX,
            grace_ends_at: None,
            is_interrupted: false,
        }
    }

    /// Begins a call at this tick.
    pub(super) fn begin(&mut self, now: u64, limits: &Limits) {
        *self = Self {
            ends_at: now.saturating_add(ticks(limits.time_per_call)),
            grace: ticks(limits.stop_grace),
            ..Self::none()
        };
    }

    /// Whether the call must end now.
    pub(super) fn is_over(&mut self, now: u64, is_hasty: bool) -> bool {
        let is_out_of_time = now >= self.ends_at;
        if !is_hasty {
            return is_out_of_time;
        }
        let grace_ends_at = now.saturating_add(self.grace);
        let grace_ends_at = *self.grace_ends_at.get_or_insert(grace_ends_at);
        self.is_interrupted = is_out_of_time || now >= grace_ends_at;
        self.is_interrupted
    }

    /// Whether the call had to end because of the stop.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }
}

#[cfg(test)]
mod tests {
    //! Catches a stop that shortens no call, that ends a call before its grace, or that outlives the call.

    use std::time::Duration;

    use super::*;

    fn deadline(time_ms: u64, grace_ms: u64) -> CallDeadline {
        let mut deadline = CallDeadline::none();
        let limits = Limits {
            time_per_call: Duration::from_millis(time_ms),
            stop_grace: Duration::from_millis(grace_ms),
            ..Limits::default()
        };
        deadline.begin(100, &limits);
        deadline
    }

    /// The tick at which a call ends that began at tick 100, and whether the stop is the cause.
    #[track_caller]
    fn check(time_ms: u64, grace_ms: u64, stop_at: u64, expected: (u64, bool)) {
        let mut deadline = deadline(time_ms, grace_ms);
        let end = (100..).find(|&now| deadline.is_over(now, now >= stop_at));
        let end = end.expect("each call has an end");
        assert_eq!((end, deadline.is_interrupted()), expected);
    }

    #[test]
    fn a_stop_leaves_a_call_its_grace() {
        // One tick more than fits, since the first may come at once.
        check(1000, 100, u64::MAX, (201, false));
        check(1000, 100, 0, (111, true));
        check(1000, 100, 150, (161, true));
        check(1000, 10_000, 150, (201, true));
        check(1000, 10_000, 202, (201, false));
    }

    #[test]
    fn each_call_begins_anew() {
        let mut deadline = deadline(1000, 100);
        assert!(!deadline.is_over(100, true));
        assert!(deadline.is_over(111, true) && deadline.is_interrupted());
        deadline.begin(111, &Limits::default());
        assert!(!deadline.is_interrupted() && !deadline.is_over(112, true));
        let haste = Haste::default();
        let shared = haste.clone();
        assert!(!shared.has_begun());
        haste.begin();
        assert!(shared.has_begun());
    }
}
