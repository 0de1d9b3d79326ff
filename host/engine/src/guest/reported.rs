//! The metrics that a guest reports: counters, gauges and histograms of its own, within limits.
//!
//! Reports of a call are buffered until they are taken after the call; if the call fails, they are dropped. A call that
//! reports nothing allocates nothing. Reports with an invalid name, with a new name beyond the operator's limit, and
//! observations beyond the limit of a call are dropped, and each of the three reasons is logged once per operator. The
//! sums of the numbers are kept elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::bindings::floodmark::engine::log::{Host as LogHost, Level};
use super::bindings::floodmark::engine::metrics::Host as MetricsHost;
use super::guest_state::GuestState;
use super::share::Share;

/// Largest number of metrics of an operator, over all its tasks and versions of its plugin.
const NAMES_MAX: usize = 256;
const NAME_CHARS_MAX: usize = 64;
/// Largest number of observations of a call, over all its histograms.
const OBSERVATIONS_MAX: usize = 1 << 16;
/// Characters of an invalid name that a message shows.
const SHOWN_CHARS_MAX: usize = 100;

/// Metrics that a plugin reported since they were last taken. In names, `-` is replaced by `_`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reported {
    /// Sums of increments, by counter.
    pub counters: BTreeMap<String, u64>,
    /// Latest values, by gauge; all finite.
    pub gauges: BTreeMap<String, f64>,
    /// Observations, by histogram; all finite.
    pub histograms: BTreeMap<String, Vec<f64>>,
}

impl Reported {
    /// Whether there are no reports.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counters.is_empty() && self.gauges.is_empty() && self.histograms.is_empty()
    }

    /// Adds later reports.
    pub fn merge(&mut self, later: Self) {
        for (name, delta) in later.counters {
            let sum = self.counters.entry(name).or_default();
            *sum = sum.saturating_add(delta);
        }
        self.gauges.extend(later.gauges);
        for (name, values) in later.histograms {
            self.histograms.entry(name).or_default().extend(values);
        }
    }
}

/// The reports of an instance, and the names that its operator is known to have.
#[derive(Debug, Default)]
pub(super) struct Reporting {
    reported: Reported,
    observations: usize,
    known: BTreeSet<String>,
}

impl Reporting {
    /// Takes the reports of successful calls.
    pub(super) fn take(&mut self) -> Option<Reported> {
        self.observations = 0;
        (!self.reported.is_empty()).then(|| std::mem::take(&mut self.reported))
    }

    /// Drops the reports of a failed call.
    pub(super) fn forget(&mut self) {
        drop(self.take());
    }

    /// Whether the operator may use the name.
    fn may_have(&mut self, name: &str, share: &Share) -> Result<(), LeftOut> {
        if self.known.contains(name) {
            return Ok(());
        }
        let is_right =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !(1..=NAME_CHARS_MAX).contains(&name.len()) || !name.bytes().all(is_right) {
            return Err(LeftOut::Name);
        }
        if !share.may_report(name, NAMES_MAX) {
            return Err(LeftOut::Names);
        }
        self.known.insert(name.to_owned());
        Ok(())
    }
}

/// The reason for dropping a report. Each is logged once per operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// The name of a metric is invalid.
    Name,
    /// There are too many names.
    Names,
    /// There are too many observations.
    Observations,
}

impl LeftOut {
    fn said(self, name: &str) -> String {
        let name: String = name
            .chars()
            .take(SHOWN_CHARS_MAX)
            .flat_map(char::escape_default)
            .collect();
        match self {
            Self::Name => format!(
                "the metric `{name}` is left out: a name is 1 to {NAME_CHARS_MAX} characters of `a-z`, `0-9`, `-` and `_`; correct the plugin"
            ),
            Self::Names => format!(
                "the metric `{name}` is left out: an operator has at most {NAMES_MAX} names of metrics; use fewer, and do not put data into names"
            ),
            Self::Observations => format!(
                "values of the metric `{name}` are left out: a call observes at most {OBSERVATIONS_MAX} values; observe fewer, or send smaller batches"
            ),
        }
    }
}

impl GuestState {
    /// The name in its reported form, if the report is accepted.
    fn admitted(&mut self, mut name: String) -> Option<String> {
        if name.len() <= NAME_CHARS_MAX && name.contains('-') {
            name = name.replace('-', "_");
        }
        match self.reporting.may_have(&name, &self.share) {
            Ok(()) => Some(name),
            Err(why) => {
                self.leave_out(why, &name);
                None
            }
        }
    }

    #[cold]
    fn leave_out(&mut self, why: LeftOut, name: &str) {
        if self.share.is_first(why) {
            LogHost::line(self, Level::Warn, why.said(name));
        }
    }
}

impl MetricsHost for GuestState {
    fn add(&mut self, counter: String, delta: u64) {
        if let Some(counter) = self.admitted(counter) {
            let sum = self.reporting.reported.counters.entry(counter).or_default();
            *sum = sum.saturating_add(delta);
        }
    }

    fn set(&mut self, gauge: String, value: f64) {
        if !value.is_finite() {
            return;
        }
        if let Some(gauge) = self.admitted(gauge) {
            self.reporting.reported.gauges.insert(gauge, value);
        }
    }

    fn observe(&mut self, histogram: String, values: Vec<f64>) {
        let room = OBSERVATIONS_MAX - self.reporting.observations;
        let counted = values.len().min(room);
        if counted < values.len() {
            self.leave_out(LeftOut::Observations, &histogram);
        }
        if counted == 0 {
            return;
        }
        if let Some(histogram) = self.admitted(histogram) {
            let Reporting {
                reported,
                observations,
                ..
            } = &mut self.reporting;
            *observations += counted;
            let kept = reported.histograms.entry(histogram).or_default();
            let finite = values.into_iter().take(counted);
            kept.extend(finite.filter(|value| value.is_finite()));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches names and numbers that exceed the limits, and reports of a failed call.

    use super::*;
    use crate::guest::share::Shares;

    fn share() -> std::sync::Arc<Share> {
        Shares::new(1).of("reports")
    }

    #[test]
    fn names_are_checked() {
        let (share, mut reporting) = (share(), Reporting::default());
        let long = "a".repeat(65);
        for (name, expected) in [
            ("late_1", Ok(())),
            (&long[1..], Ok(())),
            ("", Err(LeftOut::Name)),
            (&long, Err(LeftOut::Name)),
            ("Late", Err(LeftOut::Name)),
            ("late ", Err(LeftOut::Name)),
            ("a\"} 1\nb", Err(LeftOut::Name)),
            ("é", Err(LeftOut::Name)),
        ] {
            assert_eq!(reporting.may_have(name, &share), expected, "{name}");
        }
    }

    #[test]
    fn an_operator_has_so_many_names_over_all_its_instances() {
        let share = share();
        let mut instances = [Reporting::default(), Reporting::default()];
        for number in 0..NAMES_MAX {
            let reporting = &mut instances[number % 2];
            assert_eq!(reporting.may_have(&format!("n{number}"), &share), Ok(()));
        }
        for reporting in &mut instances {
            assert_eq!(reporting.may_have("one_more", &share), Err(LeftOut::Names));
            assert_eq!(reporting.may_have("n7", &share), Ok(()));
        }
        assert!(share.is_first(LeftOut::Names) && !share.is_first(LeftOut::Names));
        assert!(share.is_first(LeftOut::Name));
    }

    #[test]
    fn what_is_said_of_a_name_is_one_line() {
        let said = LeftOut::Name.said("a\n\u{7}\"");
        assert!(
            said.starts_with("the metric `a\\n\\u{7}\\\"` is left out: "),
            "{said}"
        );
        assert!(LeftOut::Names.said(&"é".repeat(9999)).len() < 1000);
    }

    #[test]
    fn what_is_taken_is_gone() {
        let mut reporting = Reporting::default();
        assert_eq!(reporting.take(), None);
        reporting.reported.counters.insert("a".to_owned(), 1);
        let mut taken = reporting.take().expect("something");
        reporting.reported.counters.insert("a".to_owned(), 5);
        reporting.forget();
        assert_eq!(reporting.take(), None);
        let mut later = Reported::default();
        later.counters.insert("a".to_owned(), u64::MAX);
        later.gauges.insert("g".to_owned(), 2.0);
        later.histograms.insert("h".to_owned(), vec![1.0]);
        taken.merge(later.clone());
        assert_eq!(taken, later);
        taken.merge(later);
        assert_eq!(taken.histograms["h"], [1.0, 1.0]);
    }
}
