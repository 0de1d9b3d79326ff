//! Formats the metrics that plugins report, as families of their own.
//!
//! A counter `late` is `floodmark_plugin_late_total`, a gauge `floodmark_plugin_late`, a histogram has `_bucket`,
//! `_sum` and `_count`. All operators that report a name share its family. Plugins choose the names, so these rules
//! ensure that no two families or series of one text ever have the same name:
//!
//! - Every name begins with `floodmark_plugin_`, and no metric of the host does.
//! - Only counters end in `_total`, and only series of histograms in `_bucket`, `_sum` and `_count`: any other metric
//!   whose name ends so, or in a kind, has its kind appended, so `late_total` as a gauge is `late_total_gauge`.
//! - A gauge with the name of a histogram has `_gauge` appended as well.

use std::collections::BTreeSet;

use super::super::job::{Facts, Kind};
use super::super::reported::{Distribution, Numbers};
use super::MetricsText;

const PREFIX: &str = "floodmark_plugin_";
/// Endings with a meaning.
const ENDINGS: [&str; 6] = [
    "_total",
    "_bucket",
    "_sum",
    "_count",
    "_gauge",
    "_histogram",
];

/// The reports of one task.
struct OfTask<'a> {
    operator: &'a str,
    task: String,
    is_live: bool,
    numbers: Numbers,
}

/// Adds all metrics of all plugins.
pub(super) fn plugins(text: &mut MetricsText, facts: &Facts) {
    let tasks = tasks(facts);
    let histograms = names(&tasks, |numbers| numbers.histograms.keys());
    let families: BTreeSet<_> = histograms
        .iter()
        .map(|name| family(name, "histogram"))
        .collect();
    for name in names(&tasks, |numbers| numbers.counters.keys()) {
        let family = format!("{PREFIX}{name}_total");
        text.family(&family, "counter", "Reported by the plugin.");
        for of in &tasks {
            if let Some(sum) = of.numbers.counters.get(name) {
                text.sample(&family, &of.labels(), sum);
            }
        }
    }
    for name in names(&tasks, |numbers| numbers.gauges.keys()) {
        // A task that has ended has no gauges.
        let mut live = tasks.iter().filter(|of| of.is_live).peekable();
        let mut family = family(name, "gauge");
        if families.contains(&family) {
            family += "_gauge";
        }
        if live.peek().is_some() {
            text.family(&family, "gauge", "Reported by the plugin.");
        }
        for of in live {
            if let Some(value) = of.numbers.gauges.get(name) {
                text.sample(&family, &of.labels(), value);
            }
        }
    }
    for name in histograms {
        let family = family(name, "histogram");
        text.family(&family, "histogram", "Reported by the plugin.");
        for of in &tasks {
            if let Some(distribution) = of.numbers.histograms.get(name) {
                of.distribution(text, &family, distribution);
            }
        }
    }
}

fn tasks(facts: &Facts) -> Vec<OfTask<'_>> {
    let mut tasks = Vec::new();
    for (index, node) in facts.nodes.iter().enumerate() {
        if !matches!(node.kind, Kind::Operator(_)) {
            continue;
        }
        for (task, worker) in facts.workers.iter().enumerate() {
            if let Some(metrics) = worker.task(index) {
                tasks.push(OfTask {
                    operator: &node.name,
                    task: task.to_string(),
                    is_live: task < usize::from(facts.parallelism),
                    numbers: metrics.reported.get(),
                });
            }
        }
    }
    tasks
}

/// The names of one kind of metric, each once.
fn names<'a, N: Iterator<Item = &'a String>>(
    tasks: &'a [OfTask<'_>],
    of: fn(&'a Numbers) -> N,
) -> BTreeSet<&'a str> {
    let names = tasks.iter().flat_map(|task| of(&task.numbers));
    names.map(String::as_str).collect()
}

/// The family of a gauge or histogram.
fn family(name: &str, kind: &str) -> String {
    let family = format!("{PREFIX}{name}");
    match ENDINGS.iter().any(|ending| family.ends_with(ending)) {
        true => format!("{family}_{kind}"),
        false => family,
    }
}

impl OfTask<'_> {
    fn labels(&self) -> [(&str, &str); 2] {
        [("operator", self.operator), ("task", &self.task)]
    }

    fn distribution(&self, text: &mut MetricsText, family: &str, distribution: &Distribution) {
        let [operator, task] = self.labels();
        let bucket = format!("{family}_bucket");
        let (within, count) = distribution.within();
        for (bound, within) in Distribution::BOUNDS.iter().zip(within) {
            let bound = bound.to_string();
            text.sample(&bucket, &[operator, task, ("le", &bound)], within);
        }
        text.sample(&bucket, &[operator, task, ("le", "+Inf")], count);
        text.sample(
            &format!("{family}_sum"),
            &[operator, task],
            distribution.sum(),
        );
        text.sample(&format!("{family}_count"), &[operator, task], count);
    }
}

#[cfg(test)]
#[path = "plugins/tests.rs"]
mod tests;
