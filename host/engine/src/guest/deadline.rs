//! When a call must end: at its time limit, or earlier once the job was asked to stop.
//!
//! A running guest looks at its deadline once a tick. Time is counted in ticks of the engine, so it is known to within one
//! tick, and without a ticker there is no deadline. Calls that repeat a failed one in pieces share a grace, so that a stop
//! waits no longer for them than for one call. This module does not end calls: `instance` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::limits::{Limits, ticks};
use super::{GuestError, Instance};

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

/// The tick from which a grace counts, unless the stop comes later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GraceStart(u64);

/// The deadline of one call.
///
/// - The grace begins with the call, or with the stop if that comes later.
/// - A call that reaches its time limit within the grace has failed as at any other time: a longer grace would not help it.
#[derive(Debug)]
pub(super) struct CallDeadline {
    /// The tick at which the time limit is reached.
    ends_at: u64,
    grace_start: GraceStart,
    /// Ticks of the grace.
    grace: u64,
    /// The start of the grace that several calls share.
    shared: Option<GraceStart>,
    is_interrupted: bool,
}

impl CallDeadline {
    /// The deadline of an instance that has made no call.
    pub(super) fn none() -> Self {
        Self {
            ends_at: u64::MAX,
            grace_start: GraceStart(0),
            grace: u64::MAX,
            shared: None,
            is_interrupted: false,
        }
    }

    /// Begins a call at this tick.
    pub(super) fn begin(&mut self, now: u64, limits: &Limits) {
        *self = Self {
            ends_at: now.saturating_add(ticks(limits.time_per_call)),
            grace_start: self.shared.unwrap_or(GraceStart(now)),
            grace: ticks(limits.stop_grace),
            shared: self.shared,
            is_interrupted: false,
        };
    }

    /// Whether the call must end now. `stopped_at` is the tick of the stop, if the job was asked to stop.
    pub(super) fn is_over(&mut self, now: u64, stopped_at: Option<u64>) -> bool {
        self.is_interrupted = self.is_grace_over(now, stopped_at);
        self.is_interrupted || now >= self.ends_at
    }

    fn is_grace_over(&self, now: u64, stopped_at: Option<u64>) -> bool {
        let GraceStart(start) = self.shared.unwrap_or(self.grace_start);
        stopped_at.is_some_and(|stop| now >= start.max(stop).saturating_add(self.grace))
    }

    /// Whether the call had to end because of the stop.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }
}

impl Instance {
    /// The start of the grace of its latest call.
    pub(crate) fn grace_of_call(&self) -> GraceStart {
        self.store.data().deadline.grace_start
    }

    /// The start of a grace that begins now.
    pub(crate) fn grace_from_now(&self) -> GraceStart {
        GraceStart(self.store.data().share.now())
    }

    /// Lets later calls share the grace that began then; with `None`, each has its own again.
    pub(crate) fn share_grace(&mut self, start: Option<GraceStart>) {
        self.store.data_mut().deadline.shared = start;
    }

    /// Checks that the grace which its calls share is not over: short calls do not look at their deadline.
    ///
    /// # Errors
    /// When it is over: as if the next call had been interrupted.
    pub(crate) fn check_grace(&self) -> Result<(), GuestError> {
        let state = self.store.data();
        let (now, stopped_at) = (state.share.now(), state.share.stopped_at());
        match state.deadline.is_grace_over(now, stopped_at) {
            true => Err(self.interruption("process")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches a stop that shortens no call, that ends a call before its grace, or that outlives the call; a call that is
    //! interrupted at its own time limit; and pieces of a call that have a grace each.

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
        let stopped_at = |now| (now >= stop_at).then_some(stop_at);
        let end = (100..).find(|&now| deadline.is_over(now, stopped_at(now)));
        let end = end.expect("each call has an end");
        assert_eq!((end, deadline.is_interrupted()), expected);
    }

    #[test]
    fn a_stop_leaves_a_call_its_grace() {
        // One tick more than fits, since the first may come at once.
        check(1000, 100, u64::MAX, (201, false));
        check(1000, 100, 0, (111, true));
        check(1000, 100, 150, (161, true));
        check(1000, 10_000, 150, (201, false));
        check(1000, 10_000, 202, (201, false));
        check(1000, 1000, 0, (201, true));
    }

    #[test]
    fn each_call_begins_anew() {
        let mut deadline = deadline(1000, 100);
        let stopped_at = Some(50);
        assert!(!deadline.is_over(100, stopped_at));
        assert!(deadline.is_over(111, stopped_at) && deadline.is_interrupted());
        deadline.begin(111, &Limits::default());
        assert!(!deadline.is_interrupted() && !deadline.is_over(112, stopped_at));
        let haste = Haste::default();
        let shared = haste.clone();
        assert!(!shared.has_begun());
        haste.begin();
        assert!(shared.has_begun());
    }

    #[test]
    fn calls_that_share_a_grace_end_with_it() {
        let limits = Limits {
            time_per_call: Duration::from_millis(1000),
            stop_grace: Duration::from_millis(100),
            ..Limits::default()
        };
        let stopped_at = Some(150);
        let mut deadline = deadline(1000, 100);
        deadline.shared = Some(deadline.grace_start);
        deadline.begin(155, &limits);
        assert!(!deadline.is_over(160, stopped_at));
        assert!(deadline.is_over(161, stopped_at) && deadline.is_interrupted());
        // A later call of them has no time left, and one of its own has its own grace.
        deadline.begin(170, &limits);
        assert!(deadline.is_grace_over(170, stopped_at));
        deadline.shared = None;
        deadline.begin(170, &limits);
        assert!(!deadline.is_over(180, stopped_at));
        assert!(!deadline.is_grace_over(180, None));
    }
}
