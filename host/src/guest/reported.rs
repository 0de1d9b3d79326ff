//! The numbers that a guest reports: counters, gauges and histograms of its own, within bounds.

use std::collections::BTreeMap;

use super::beside::GuestState;
use super::bindings::floodmark::engine::metrics::Host as MetricsHost;

/// Numbers that a plugin reported since they were last taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reported {
    /// What was added, by counter.
    pub counters: BTreeMap<String, u64>,
    /// What was set last, by gauge.
    pub gauges: BTreeMap<String, f64>,
    /// What was observed, by histogram.
    pub histograms: BTreeMap<String, Vec<f64>>,
}

impl MetricsHost for GuestState {
    fn add(&mut self, counter: String, delta: u64) {
        let sum = self.reported.counters.entry(counter).or_default();
        *sum = sum.saturating_add(delta);
    }

    fn set(&mut self, gauge: String, value: f64) {
        self.reported.gauges.insert(gauge, value);
    }

    fn observe(&mut self, histogram: String, values: Vec<f64>) {
        let kept = self.reported.histograms.entry(histogram).or_default();
        kept.extend(values);
    }
}
