//! Catches a plugin that forges a series of the host or of another plugin, and numbers under the wrong name.

use super::super::tests::{nodes, parsed, plugin};
use crate::observe::Observer;

fn observer() -> Observer {
    Observer::new("words", 2, 128, nodes(plugin()), 1_000)
}

fn named<T>(name: &str, value: T) -> [(String, T); 1] {
    [(name.to_owned(), value)]
}

#[test]
fn numbers_arrive_under_their_names() {
    let observer = observer();
    for index in 0..2 {
        let worker = observer.worker(index);
        let reported = &worker.task(1).unwrap().reported;
        reported.add(named("late", 3 + index as u64));
        reported.add(named("late", 1));
        reported.set(named("open", 1.0));
        reported.set(named("open", -2.5));
        reported.observe(named("size", vec![3.0, 700.0, 2e9]));
    }
    let samples = parsed(&observer.prometheus(1_000));
    let of = |name: &str, task: u8, more: &str| {
        let series = format!(
            "floodmark_plugin_{name}{{job=\"words\",operator=\"count\",task=\"{task}\"{more}}}"
        );
        samples.get(&series).copied()
    };
    assert_eq!(of("late_total", 0, ""), Some(4.0));
    assert_eq!(of("late_total", 1, ""), Some(5.0));
    assert_eq!(of("open", 1, ""), Some(-2.5));
    assert_eq!(of("size_bucket", 1, ",le=\"2.5\""), Some(0.0));
    assert_eq!(of("size_bucket", 1, ",le=\"5\""), Some(1.0));
    assert_eq!(of("size_bucket", 1, ",le=\"1000000000\""), Some(2.0));
    assert_eq!(of("size_bucket", 1, ",le=\"+Inf\""), Some(3.0));
    assert_eq!(of("size_count", 0, ""), Some(3.0));
    assert_eq!(of("size_sum", 0, ""), Some(2_000_000_703.0));
    let status = observer.status(std::time::Duration::ZERO, 5_000);
    let expected = serde_json::json!({
        "counters": { "late": 9 },
        "gauges": { "open": { "min": -2.5, "max": -2.5, "sum": -5.0 } },
        "histograms": { "size": { "count": 6, "sum": 4_000_001_406.0 } },
    });
    assert_eq!(status["vertices"][1]["plugin-metrics"], expected);
    assert!(status["vertices"][0]["plugin-metrics"].is_null());
    // A task that has ended keeps its counters, and has no gauges.
    observer.runs(1, nodes(plugin()), false);
    let samples = parsed(&observer.prometheus(1_000));
    let is_there = |part: &str| {
        samples
            .keys()
            .any(|series| series.starts_with(part) && series.contains("task=\"1\""))
    };
    assert!(is_there("floodmark_plugin_late_total"));
    assert!(is_there("floodmark_plugin_size_count"));
    assert!(!is_there("floodmark_plugin_open"));
}

#[test]
fn no_two_numbers_meet_under_one_name() {
    let mut names = vec!["x".to_owned()];
    let endings = ["total", "bucket", "sum", "count", "gauge", "histogram"];
    for first in endings {
        names.push(format!("x_{first}"));
        names.push(first.to_owned());
        names.extend(endings.map(|second| format!("x_{first}_{second}")));
    }
    let observer = observer();
    let worker = observer.worker(0);
    let reported = &worker.task(1).unwrap().reported;
    for name in &names {
        reported.add(named(name, 1));
        reported.set(named(name, 2.0));
        reported.observe(named(name, vec![3.0]));
    }
    // The parser refuses duplicate families and series, and series outside of their family.
    let samples = parsed(&observer.prometheus(1_000));
    let of_plugins = samples
        .keys()
        .filter(|series| series.starts_with("floodmark_plugin_"));
    assert_eq!(of_plugins.count(), names.len() * (1 + 1 + 33));
    for (kind, value) in [("_total{", 1.0), ("_gauge{", 2.0)] {
        for (series, found) in &samples {
            if series.starts_with("floodmark_plugin_") && series.contains(kind) {
                assert_eq!(*found, value, "{series}");
            }
        }
    }
}
