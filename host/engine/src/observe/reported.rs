//! The metrics that a plugin reports, by name, as sums of one task.
//!
//! Names were already checked and limited. A lock is taken once for a call that has reported something, and never for
//! one that has not.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The metrics that a task's plugin has reported.
#[derive(Debug, Default)]
pub struct PluginNumbers(Mutex<Numbers>);

#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    pub(super) counters: BTreeMap<String, u64>,
    pub(super) gauges: BTreeMap<String, f64>,
    pub(super) histograms: BTreeMap<String, Distribution>,
}

impl PluginNumbers {
    /// Adds to counters, by name; a new name starts at 0.
    pub fn add(&self, counters: impl IntoIterator<Item = (String, u64)>) {
        let mut numbers = self.lock();
        for (name, delta) in counters {
            let sum = numbers.counters.entry(name).or_default();
            *sum = sum.saturating_add(delta);
        }
    }

    /// Replaces gauges, by name.
    pub fn set(&self, gauges: impl IntoIterator<Item = (String, f64)>) {
        self.lock().gauges.extend(gauges);
    }

    /// Adds values to histograms.
    pub fn observe(&self, histograms: impl IntoIterator<Item = (String, Vec<f64>)>) {
        let mut numbers = self.lock();
        for (name, values) in histograms {
            let distribution = numbers.histograms.entry(name).or_default();
            values
                .into_iter()
                .for_each(|value| distribution.note(value));
        }
    }

    /// The current metrics.
    pub(super) fn get(&self) -> Numbers {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts of values by upper bound.
///
/// - `buckets` has one more than `BOUNDS`: the last one has no bound.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distribution {
    buckets: [u64; Self::BOUNDS.len() + 1],
    sum: f64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            buckets: [0; Self::BOUNDS.len() + 1],
            sum: 0.0,
        }
    }
}

impl Distribution {
    /// The same bounds for all histograms, since a plugin does not say what it will observe: fine from a millisecond in
    /// seconds to a thousand of anything, coarse up to gigabytes. Values that are not above zero have a bucket of their
    /// own.
    pub(super) const BOUNDS: [f64; 30] = [
        0.0, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
        50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 1e6, 1e7, 1e8, 1e9,
    ];

    fn note(&mut self, value: f64) {
        let bucket = Self::BOUNDS.partition_point(|&bound| bound < value);
        self.buckets[bucket] += 1;
        self.sum = (self.sum + value).clamp(f64::MIN, f64::MAX);
    }

    /// For each bound the number of values up to it, and the number of all values.
    pub(super) fn within(&self) -> ([u64; Self::BOUNDS.len()], u64) {
        let mut count = 0;
        let mut within = [0; Self::BOUNDS.len()];
        for (within, bucket) in within.iter_mut().zip(self.buckets) {
            count += bucket;
            *within = count;
        }
        (within, count + self.buckets[Self::BOUNDS.len()])
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    //! Catches a value in the wrong bucket, and a sum that stops being a number.

    use super::*;

    #[test]
    fn a_value_is_within_all_bounds_that_it_keeps() {
        let mut distribution = Distribution::default();
        for value in [-3.0, 0.0, 0.001, 0.0011, 1e9, 1.1e9] {
            distribution.note(value);
        }
        let (within, count) = distribution.within();
        assert_eq!(within[..3], [2, 3, 4]);
        assert_eq!((within[29], count), (5, 6));
        assert!(Distribution::BOUNDS.is_sorted());
        distribution.note(f64::MAX);
        distribution.note(f64::MAX);
        distribution.note(f64::MIN);
        assert_eq!(distribution.sum(), 0.0);
    }
}
