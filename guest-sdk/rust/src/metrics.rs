//! Numbers of an operator's own among the metrics of its job: counters, gauges and histograms.
//!
//! They are collected within a call and handed over once at its end, by one call of the host for each name, so they
//! cost little even for each record. Numbers of a call that fails are dropped. They are for people who watch the job,
//! and best effort: what must be exact belongs in a state.
//!
//! ```
//! use floodmark_sdk::metrics;
//!
//! metrics::counter("late-records").add(1);
//! metrics::gauge("open-sessions").set(17.0);
//! metrics::histogram("order-value").observe(99.5);
//! ```
//!
//! A name is 1 to 64 characters of `a-z`, `0-9`, `-` and `_`, and an operator has at most 256 of them. The host drops
//! further and invalid names, and logs that; natively, an invalid name panics, so that a test finds it. In Prometheus,
//! `late-records` is `floodmark_plugin_late_records_total`, with the labels `job`, `operator` and `task`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::mem;

/// The counter of this name: a number that only grows.
#[inline]
#[must_use]
pub fn counter(name: &str) -> Counter<'_> {
    Counter(name)
}

/// The gauge of this name: a number that is what it was last set to.
#[inline]
#[must_use]
pub fn gauge(name: &str) -> Gauge<'_> {
    Gauge(name)
}

/// The histogram of this name: the distribution of values by size.
#[inline]
#[must_use]
pub fn histogram(name: &str) -> Histogram<'_> {
    Histogram(name)
}

/// A number that only grows.
#[derive(Debug, Clone, Copy)]
pub struct Counter<'a>(&'a str);

impl Counter<'_> {
    /// Adds `delta` to the counter.
    pub fn add(self, delta: u64) {
        collect(self.0, |collected, name| {
            let sum = slot(&mut collected.counters, name);
            *sum = sum.saturating_add(delta);
        });
    }
}

/// A number that is what it was last set to.
#[derive(Debug, Clone, Copy)]
pub struct Gauge<'a>(&'a str);

impl Gauge<'_> {
    /// Sets it. A value that is not finite is dropped.
    pub fn set(self, value: f64) {
        if value.is_finite() {
            collect(self.0, |collected, name| {
                *slot(&mut collected.gauges, name) = Some(value);
            });
        }
    }
}

/// The distribution of values by size.
#[derive(Debug, Clone, Copy)]
pub struct Histogram<'a>(&'a str);

impl Histogram<'_> {
    /// Adds a value. A value that is not finite is dropped.
    pub fn observe(self, value: f64) {
        if value.is_finite() {
            collect(self.0, |collected, name| {
                slot(&mut collected.histograms, name).push(value);
            });
        }
    }
}

/// What the current call has reported. Names stay from call to call, so that only their first use allocates.
#[derive(Debug, Default)]
struct Collected {
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, Option<f64>>,
    histograms: BTreeMap<String, Vec<f64>>,
}

thread_local! {
    static COLLECTED: RefCell<Collected> = RefCell::default();
    /// What is to be done at the end of a call, if something was reported in it. A plugin that reports nothing never
    /// names it, so its component does not even import the interface.
    static AT_END: Cell<Option<fn(End)>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Success,
    Failure,
}

fn collect(name: &str, note: impl FnOnce(&mut Collected, &str)) {
    #[cfg(not(target_family = "wasm"))]
    native::check(name);
    COLLECTED.with_borrow_mut(|collected| note(collected, name));
    // The compiler must not find out that there is only one thing to do, or it names it where it is only asked for.
    AT_END.set(Some(black_box(hand_over)));
}

fn slot<'a, T: Default>(numbers: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    if !numbers.contains_key(name) {
        numbers.insert(name.to_owned(), T::default());
    }
    numbers.get_mut(name).expect("it was just put there")
}

/// A call begins: nothing was reported in it.
pub(crate) fn begin() {
    if let Some(at_end) = AT_END.take() {
        at_end(End::Failure);
    }
}

/// A call has succeeded: the host gets what was reported in it.
pub(crate) fn succeeded() {
    if let Some(at_end) = AT_END.take() {
        at_end(End::Success);
    }
}

fn hand_over(end: End) {
    #[cfg(not(target_family = "wasm"))]
    use native as host;

    #[cfg(target_family = "wasm")]
    use crate::bindings::floodmark::engine::metrics as host;

    COLLECTED.with_borrow_mut(|collected| {
        let is_told = end == End::Success;
        for (name, sum) in &mut collected.counters {
            let sum = mem::take(sum);
            if is_told && sum > 0 {
                host::add(name, sum);
            }
        }
        for (name, value) in &mut collected.gauges {
            if let Some(value) = value.take().filter(|_| is_told) {
                host::set(name, value);
            }
        }
        for (name, values) in &mut collected.histograms {
            if is_told && !values.is_empty() {
                host::observe(name, values);
            }
            values.clear();
        }
    });
}

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native {
    //! Where numbers wait when there is no host.

    use std::cell::RefCell;

    use crate::testing::Metrics;

    thread_local! {
        static METRICS: RefCell<Metrics> = RefCell::default();
    }

    #[track_caller]
    pub(super) fn check(name: &str) {
        let is_right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        assert!(
            (1..=64).contains(&name.len())
                && name
                    .bytes()
                    .all(|byte| is_right(byte) || b"-_".contains(&byte)),
            "the name of a metric, `{name}`, is not 1 to 64 characters of `a-z`, `0-9`, `-` and `_`"
        );
    }

    pub(super) fn add(name: &str, delta: u64) {
        METRICS.with_borrow_mut(|metrics| {
            let sum = metrics.counters.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(delta);
        });
    }

    pub(super) fn set(name: &str, value: f64) {
        METRICS.with_borrow_mut(|metrics| metrics.gauges.insert(name.to_owned(), value));
    }

    pub(super) fn observe(name: &str, values: &[f64]) {
        METRICS.with_borrow_mut(|metrics| {
            let observed = metrics.histograms.entry(name.to_owned()).or_default();
            observed.extend_from_slice(values);
        });
    }

    pub(crate) fn take() -> Metrics {
        METRICS.take()
    }
}

#[cfg(test)]
mod tests {
    //! Catches numbers of a call that failed, numbers that are told twice, and an invalid name that is not reported.

    use super::*;
    use crate::testing::Task;
    use crate::{Config, Error, Operator, Output, Record, Result, States};

    /// Reports each value; fails at one that is not a number, after it has counted it.
    #[derive(Debug, States)]
    struct Reports;

    impl Operator for Reports {
        fn open(_: &Config) -> Result<Self> {
            Ok(Self)
        }

        fn process(&mut self, record: Record<'_>, _: &mut Output<'_>) -> Result {
            counter("records").add(1);
            counter("nothing").add(0);
            let value: f64 = record.text()?.parse().map_err(Error::from)?;
            gauge("last").set(value);
            histogram("values").observe(value);
            Ok(())
        }
    }

    #[test]
    fn a_call_reports_once_what_its_records_add_up_to() -> Result {
        let mut task = Task::new::<Reports>();
        task.run([("k", "1.5"), ("k", "inf"), ("k", "NaN"), ("k", "-2")])?;
        task.run([("k", "3")])?;
        let metrics = task.take_metrics();
        assert_eq!(metrics.counters, [("records".to_owned(), 5)].into());
        assert_eq!(metrics.gauges, [("last".to_owned(), 3.0)].into());
        let values = vec![1.5, -2.0, 3.0];
        assert_eq!(metrics.histograms, [("values".to_owned(), values)].into());
        assert_eq!(task.take_metrics(), crate::testing::Metrics::default());
        Ok(())
    }

    #[test]
    fn a_call_that_fails_reports_nothing() -> Result {
        let mut task = Task::new::<Reports>();
        assert!(task.run([("k", "1"), ("k", "x")]).is_err());
        assert_eq!(task.take_metrics(), crate::testing::Metrics::default());
        task.run([("k", "2")])?;
        assert_eq!(task.take_metrics().counters["records"], 1);
        Ok(())
    }

    #[test]
    #[should_panic(expected = "the name of a metric, `Late records`, is not")]
    fn a_wrong_name_is_found_in_a_test() {
        counter("Late records").add(1);
    }
}
