//! When a call must end: at its time limit, or earlier once the job was asked to stop.
//!
//! After the stop all calls of a task together have one grace, over all its instances. So neither many queued batches, nor
//! the search for a bad record, nor a restart makes a stop wait for longer. Only time inside of calls counts: a slow sink
//! takes nothing from the grace of a plugin. A running guest looks at its deadline once a tick, so a grace is exceeded by
//! one tick at most; short calls are measured by the engine's clock, so that they add up without an error. The time limit
//! is counted in ticks, and without a ticker there is none. This module does not end calls: `call` and `instance` do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Instance;
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

/// The time that calls of one task have taken since the stop, over all its instances. All times are since the stop, and
/// zero before it.
///
/// - A moment in which two of its calls run counts once: lists and maps are migrated inside of a call of `process`.
#[derive(Debug, Default)]
pub(super) struct TaskGrace(Mutex<GraceUsed>);

#[derive(Debug, Default)]
struct GraceUsed {
    /// The time of calls that have ended.
    ended: Duration,
    /// Number of calls that are running.
    running: u32,
    /// When the first of these began.
    since: Duration,
}

impl TaskGrace {
    fn enter(&self, now: Duration) {
        let mut used = self.lock();
        if used.running == 0 {
            used.since = now;
        }
        used.running += 1;
    }

    fn leave(&self, now: Duration) {
        let mut used = self.lock();
        used.running -= 1;
        if used.running == 0 {
            let since = used.since;
            used.ended += now.saturating_sub(since);
        }
    }

    fn used(&self, now: Duration) -> Duration {
        let used = self.lock();
        match used.running {
            0 => used.ended,
            _ => used.ended + now.saturating_sub(used.since),
        }
    }

    fn lock(&self) -> MutexGuard<'_, GraceUsed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deadline of one call.
///
/// - A call that reaches its time limit within the grace has failed as at any other time: a longer grace would not help it.
#[derive(Debug)]
pub(super) struct CallDeadline {
    /// The tick at which the time limit is reached.
    ends_at: u64,
    grace: Arc<TaskGrace>,
    is_interrupted: bool,
}

impl CallDeadline {
    /// The deadline of an instance that has made no call, of a task with this grace.
    pub(super) fn of(grace: Arc<TaskGrace>) -> Self {
        Self {
            ends_at: u64::MAX,
            grace,
            is_interrupted: false,
        }
    }

    /// Begins a call at this tick.
    pub(super) fn begin(&mut self, now: u64, since_stop: Option<Duration>, limits: &Limits) {
        self.ends_at = now.saturating_add(ticks(limits.time_per_call));
        self.is_interrupted = false;
        self.grace.enter(since_stop.unwrap_or_default());
    }

    /// Ends the call.
    pub(super) fn end(&self, since_stop: Option<Duration>) {
        self.grace.leave(since_stop.unwrap_or_default());
    }

    /// Whether the call must end now. `since_stop` is the time since the stop, if the job was asked to stop.
    pub(super) fn is_over(
        &mut self,
        now: u64,
        since_stop: Option<Duration>,
        stop_grace: Duration,
    ) -> bool {
        self.is_interrupted = self.is_grace_over(since_stop, stop_grace);
        self.is_interrupted || now >= self.ends_at
    }

    /// Whether the calls of the task have used up its grace.
    pub(super) fn is_grace_over(&self, since_stop: Option<Duration>, stop_grace: Duration) -> bool {
        since_stop.is_some_and(|now| self.grace.used(now) >= stop_grace)
    }

    /// Whether the call had to end because of the stop.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted
    }
}

/// Calls that together may take as long as one of them.
#[derive(Debug)]
pub(crate) struct CallSeries {
    /// The tick at which no further one is to be made.
    ends_at: u64,
}

impl CallSeries {
    fn of(now: u64, time: Duration) -> Self {
        Self {
            ends_at: now.saturating_add(ticks(time)),
        }
    }

    fn is_over(&self, now: u64) -> bool {
        now >= self.ends_at
    }
}

impl Instance {
    /// Begins a series of calls, of which each may take this time.
    pub(crate) fn begin_series(&self, time: Duration) -> CallSeries {
        CallSeries::of(self.store.data().share.now(), time)
    }

    /// Whether no further call of a series is to be made. Without a ticker there is no time.
    pub(crate) fn has_ended(&self, series: &CallSeries) -> bool {
        series.is_over(self.store.data().share.now())
    }
}

#[cfg(test)]
mod tests {
    //! Catches a stop that shortens no call, that ends a call before its grace, or that outlives the call; a call that is
    //! interrupted at its own time limit; calls that have a grace each; time between calls that counts; short calls that do
    //! not add up; and a series of calls that outlives its time.

    use super::*;
    use crate::guest::TICK;

    const STOP_GRACE: Duration = Duration::from_millis(100);

    fn limits(time_ms: u64) -> Limits {
        Limits {
            time_per_call: Duration::from_millis(time_ms),
            ..Limits::default()
        }
    }

    fn ms(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    /// The tick at which a call ends that began at tick 100, and whether the stop is the cause.
    #[track_caller]
    fn check(time_ms: u64, grace_ms: u64, stop_at: u64, expected: (u64, bool)) {
        let since_stop = |now: u64| Some(TICK * u32::try_from(now.checked_sub(stop_at)?).unwrap());
        let mut deadline = CallDeadline::of(Arc::default());
        deadline.begin(100, since_stop(100), &limits(time_ms));
        let stop_grace = Duration::from_millis(grace_ms);
        let end = (100..).find(|&now| deadline.is_over(now, since_stop(now), stop_grace));
        let end = end.expect("each call has an end");
        assert_eq!((end, deadline.is_interrupted()), expected);
    }

    #[test]
    fn a_stop_leaves_a_call_its_grace() {
        // One tick more than fits, since the first may come at once.
        check(1000, 100, u64::MAX, (201, false));
        check(1000, 100, 0, (110, true));
        check(1000, 100, 150, (160, true));
        check(1000, 10_000, 150, (201, false));
        check(1000, 10_000, 202, (201, false));
        check(1000, 1010, 0, (201, true));
    }

    #[test]
    fn a_stop_is_heard_by_all_clones() {
        let haste = Haste::default();
        let shared = haste.clone();
        assert!(!shared.has_begun());
        haste.begin();
        assert!(shared.has_begun());
    }

    #[test]
    fn calls_of_all_instances_of_a_task_share_its_grace() {
        let grace = Arc::default();
        let mut first = CallDeadline::of(Arc::clone(&grace));
        let mut fresh = CallDeadline::of(grace);
        // Of this call, 40 ms are after the stop.
        first.begin(0, None, &limits(1000));
        first.end(ms(40));
        // What is between two calls does not count.
        assert!(!fresh.is_grace_over(ms(5000), STOP_GRACE));
        fresh.begin(500, ms(5000), &limits(1000));
        assert!(!fresh.is_over(505, ms(5059), STOP_GRACE));
        assert!(fresh.is_over(506, ms(5060), STOP_GRACE) && fresh.is_interrupted());
        fresh.end(ms(5060));
        assert!(first.is_grace_over(ms(9000), STOP_GRACE));
        assert!(!first.is_grace_over(None, STOP_GRACE));
        let other = CallDeadline::of(Arc::default());
        assert!(!other.is_grace_over(ms(9000), STOP_GRACE));
    }

    #[test]
    fn a_call_within_a_call_counts_once() {
        let grace = Arc::default();
        let mut process = CallDeadline::of(Arc::clone(&grace));
        let mut migrate = CallDeadline::of(grace);
        process.begin(0, ms(0), &limits(1000));
        migrate.begin(1, ms(10), &limits(1000));
        assert!(!migrate.is_over(5, ms(50), STOP_GRACE));
        migrate.end(ms(50));
        assert!(!process.is_over(9, ms(99), STOP_GRACE));
        process.end(ms(99));
        assert!(!process.is_grace_over(ms(200), STOP_GRACE));
        assert!(process.is_grace_over(ms(200), Duration::from_millis(99)));
    }

    #[test]
    fn calls_shorter_than_a_tick_add_up() {
        let call = TICK * 9 / 10;
        let mut deadline = CallDeadline::of(Arc::default());
        let mut now = Duration::ZERO;
        let mut calls = 0;
        while !deadline.is_grace_over(Some(now), Duration::from_secs(90)) {
            deadline.begin(0, Some(now), &limits(1000));
            now += call;
            deadline.end(Some(now));
            // Each next one begins right after a tick.
            now += TICK - call;
            calls += 1;
        }
        assert_eq!(calls, 10_000);
    }

    #[test]
    fn a_series_of_calls_has_the_time_of_one_call() {
        let series = CallSeries::of(100, Duration::from_secs(1));
        // A call that begins with the series and reaches its limit ends it.
        assert!(!series.is_over(200) && series.is_over(201));
    }
}
