//! Metrics that one thread writes and any other reads, without locks.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows while the process runs.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more` to the count.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Adds a time, in nanoseconds.
    #[inline]
    pub fn add_time(&self, more: Duration) {
        self.add(nanos(more));
    }

    /// The current number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that can be set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the number.
    #[inline]
    pub fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    /// The current number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The time of an event, if there was one.
#[derive(Debug)]
pub struct EventTime(AtomicI64);

impl Default for EventTime {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl EventTime {
    /// Sets it, in milliseconds since 1970.
    #[inline]
    pub fn set(&self, time: i64) {
        self.0.store(time, Ordering::Relaxed);
    }

    /// The current time, in milliseconds since 1970; `None` before the first event.
    #[must_use]
    pub fn get(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|&time| time != i64::MIN)
    }
}

/// Counts of durations by upper bound.
///
/// - `buckets` has one more than `BOUNDS_MICROS`: the last one has no bound.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; Self::BOUNDS_MICROS.len() + 1],
    nanos: Counter,
    last: Gauge,
    longest: AtomicU64,
}

/// The content of a histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durations {
    /// Cumulative counts: the k-th is the number of durations up to the k-th bound.
    pub within: [u64; Histogram::BOUNDS_MICROS.len()],
    /// Number of durations.
    pub count: u64,
    /// Sum of all durations.
    pub sum: Duration,
    /// The last duration.
    pub last: Duration,
    /// The longest duration.
    pub longest: Duration,
}

impl Histogram {
    /// The bounds: from the pause of a swap to a checkpoint of a large state on a slow disk.
    pub const BOUNDS_MICROS: [u64; 16] = [
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        5_000_000,
        15_000_000,
        60_000_000,
        300_000_000,
    ];

    /// Counts a duration in its bucket.
    pub fn note(&self, duration: Duration) {
        let micros = duration.as_nanos().div_ceil(1000);
        let bucket = Self::BOUNDS_MICROS.partition_point(|&bound| u128::from(bound) < micros);
        self.buckets[bucket].add(1);
        self.nanos.add_time(duration);
        self.last.set(nanos(duration));
        self.longest.fetch_max(nanos(duration), Ordering::Relaxed);
    }

    /// The current content.
    #[must_use]
    pub fn get(&self) -> Durations {
        let mut count = 0;
        let mut within = [0; Self::BOUNDS_MICROS.len()];
        for (within, bucket) in within.iter_mut().zip(&self.buckets) {
            count += bucket.get();
            *within = count;
        }
        Durations {
            within,
            count: count + self.buckets[Self::BOUNDS_MICROS.len()].get(),
            sum: Duration::from_nanos(self.nanos.get()),
            last: Duration::from_nanos(self.last.get()),
            longest: Duration::from_nanos(self.longest.load(Ordering::Relaxed)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Catches a duration in the wrong bucket, and buckets that are not cumulative.

    use super::*;

    #[test]
    fn a_duration_is_within_all_bounds_that_it_keeps() {
        let histogram = Histogram::default();
        for micros in [0, 250, 251, 1_000, 300_000_000, 300_000_001] {
            histogram.note(Duration::from_micros(micros));
        }
        histogram.note(Duration::from_nanos(250_001));
        let held = histogram.get();
        assert_eq!(held.within[..4], [2, 4, 5, 5]);
        assert_eq!((held.within[15], held.count), (6, 7));
        assert_eq!(held.last, Duration::from_nanos(250_001));
        assert_eq!(held.longest, Duration::from_micros(300_000_001));
        assert_eq!(held.sum, Duration::from_nanos(600_001_502_000 + 250_001));
    }

    #[test]
    fn no_event_time_is_none() {
        let time = EventTime::default();
        assert_eq!(time.get(), None);
        time.set(-1);
        assert_eq!(time.get(), Some(-1));
    }
}
