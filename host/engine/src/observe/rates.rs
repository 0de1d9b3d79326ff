//! Rates of nodes over the last few seconds: records per second, and the share of time in which they were busy.
//!
//! Samples of the last few seconds are kept, half a second apart.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::task::WorkerMetrics;

/// Interval of samples.
const INTERVAL: Duration = Duration::from_millis(500);
/// The time that rates are computed over.
const WINDOW: Duration = Duration::from_secs(5);

/// The counters of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NodeTotals {
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) busy: u64,
    pub(super) idle: u64,
    pub(super) back_pressured: u64,
}

impl NodeTotals {
    pub(super) fn of(workers: &[Arc<WorkerMetrics>], node: usize) -> Self {
        let mut totals = Self::default();
        for task in workers.iter().filter_map(|worker| worker.task(node)) {
            totals.records_in += task.input.records.get();
            totals.records_out += task.output.records.get();
            totals.busy += task.times.busy.get();
            totals.idle += task.times.idle.get();
            totals.back_pressured += task.times.back_pressured.get();
        }
        totals
    }
}

/// The recent rates of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Lately {
    pub(super) records_in_per_second: f64,
    pub(super) records_out_per_second: f64,
    /// Shares of the time, which add up to one if known.
    pub(super) busy: f64,
    pub(super) idle: f64,
    pub(super) back_pressured: f64,
}

#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The samples, oldest first.
    samples: VecDeque<(Duration, Vec<NodeTotals>)>,
}

impl Rates {
    pub(super) fn wants(&self, now: Duration) -> bool {
        let last = self.samples.back();
        last.is_none_or(|(at, _)| now >= *at + INTERVAL)
    }

    pub(super) fn note(&mut self, now: Duration, totals: Vec<NodeTotals>) {
        // One sample as old as the window or older is kept for comparison.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| *at + WINDOW <= now)
        {
            self.samples.pop_front();
        }
        self.samples.push_back((now, totals));
    }

    /// The rates of each node over the last [`WINDOW`].
    pub(super) fn lately(&self, now: Duration, totals: &[NodeTotals]) -> Vec<Lately> {
        let Some((at, then)) = self.samples.front() else {
            return vec![Lately::default(); totals.len()];
        };
        let seconds = now.saturating_sub(*at).as_secs_f64().max(1e-3);
        let nodes = totals.iter().zip(then);
        nodes
            .map(|(now, then)| Lately::of(then, now, seconds))
            .collect()
    }
}

impl Lately {
    fn of(then: &NodeTotals, now: &NodeTotals, seconds: f64) -> Self {
        let since = |now: u64, then: u64| now.saturating_sub(then) as f64;
        let busy = since(now.busy, then.busy);
        let idle = since(now.idle, then.idle);
        let back_pressured = since(now.back_pressured, then.back_pressured);
        let all = (busy + idle + back_pressured).max(1.0);
        Self {
            records_in_per_second: since(now.records_in, then.records_in) / seconds,
            records_out_per_second: since(now.records_out, then.records_out) / seconds,
            busy: busy / all,
            idle: idle / all,
            back_pressured: back_pressured / all,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches rates over the whole life of a job instead of recent ones, and samples that accumulate.

    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rates = Rates::default();
        // A million records in the first second, then ten per second.
        for tick in 0..200_u64 {
            let now = Duration::from_millis(100 * tick);
            let totals = NodeTotals {
                records_in: 1_000_000 + tick,
                busy: 3 * tick,
                idle: tick,
                ..NodeTotals::default()
            };
            if rates.wants(now) {
                rates.note(now, vec![totals]);
            }
            assert!(rates.samples.len() <= 12);
            if tick == 199 {
                let lately = rates.lately(now, &[totals]);
                assert!(
                    (lately[0].records_in_per_second - 10.0).abs() < 0.1,
                    "{lately:?}"
                );
                assert!((lately[0].busy - 0.75).abs() < 0.01, "{lately:?}");
            }
        }
        let none = Rates::default().lately(Duration::ZERO, &[NodeTotals::default()]);
        assert_eq!(none, [Lately::default()]);
    }
}
