//! Catches text that Prometheus would refuse or misread: a sample without its family, a family twice, an invalid name,
//! label or number, a counter with the name of another kind, and histograms that do not add up.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::observe::{CheckpointFacts, NodeFacts, PluginFacts, Stage};

/// Parses the text as strictly as the format requires. Returns all samples: name and labels as written, with their
/// value.
pub(super) fn parsed(text: &str) -> BTreeMap<String, f64> {
    assert!(text.ends_with('\n'));
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let mut family = (String::new(), String::new());
    let mut helped = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help has a text");
            assert!(families.insert(name.to_owned()), "{name} comes twice");
            assert!(!help.is_empty());
            helped = name.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type has a kind");
            assert_eq!(name, helped);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let is_count = name.ends_with("_total");
            assert_eq!(is_count, kind == "counter", "{name} is a {kind}");
            assert!(name.starts_with("floodmark_"));
            family = (name.to_owned(), kind.to_owned());
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a sample has a value");
        let (name, labels) = series.split_once('{').expect("each has a job");
        check_name(name);
        let suffixes: &[&str] = match family.1.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        let is_of_family = suffixes
            .iter()
            .any(|end| name == format!("{}{end}", family.0));
        assert!(is_of_family, "{line} is not of {}", family.0);
        check_labels(labels.strip_suffix('}').expect("labels end"));
        let value: f64 = value.parse().expect("a value is a number");
        assert!(
            samples.insert(series.to_owned(), value).is_none(),
            "{series} comes twice"
        );
    }
    samples
}

fn check_name(name: &str) {
    let is_right = |char: char| char.is_ascii_alphanumeric() || char == '_';
    assert!(name.chars().all(is_right), "{name}");
    assert!(
        !name.starts_with(|char: char| char.is_ascii_digit()),
        "{name}"
    );
}

fn check_labels(mut labels: &str) {
    let mut names = BTreeSet::new();
    while !labels.is_empty() {
        let (name, rest) = labels.split_once("=\"").expect("a label has a value");
        check_name(name);
        assert!(names.insert(name), "{name} comes twice");
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().expect("a value ends") {
                (at, '"') => break at,
                (_, '\\') => {
                    let (_, next) = chars.next().expect("something is escaped");
                    assert!(['\\', '"', 'n'].contains(&next));
                }
                _ => {}
            }
        };
        labels = &rest[end + 1..];
        labels = labels.strip_prefix(',').unwrap_or(labels);
    }
}

pub(super) fn nodes(plugin: PluginFacts) -> Vec<NodeFacts> {
    let node = |name: &str, kind| NodeFacts {
        name: name.to_owned(),
        kind,
    };
    vec![
        node("text", Kind::Source),
        node("count", Kind::Operator(plugin)),
        node("out", Kind::Sink),
    ]
}

pub(super) fn plugin() -> PluginFacts {
    PluginFacts {
        // A plugin chooses its own name and version.
        name: "a \"b\"\\\n}{,".to_owned(),
        version: "1 2".to_owned(),
        digest: "00ff".to_owned(),
    }
}

fn observer() -> Observer {
    Observer::new("words", 2, 128, nodes(plugin()), 1_000)
}

#[test]
fn a_job_before_its_first_record_can_be_read() {
    let samples = parsed(&observer().prometheus(1_000));
    assert_eq!(
        samples["floodmark_job_state{job=\"words\",state=\"initializing\"}"],
        1.0
    );
    assert_eq!(
        samples["floodmark_checkpoints_completed_total{job=\"words\"}"],
        0.0
    );
    assert!(
        !samples
            .keys()
            .any(|series| series.contains("last_checkpoint"))
    );
}

#[test]
fn numbers_arrive_under_their_names() {
    let observer = observer();
    observer.is_now(JobState::Running);
    for index in 0..2 {
        let worker = observer.worker(index);
        worker.times.busy.add_time(Duration::from_millis(1_500));
        let task = worker.task(1).unwrap();
        task.input.records.add(7 + index as u64);
        task.calls.guest.add_time(Duration::from_micros(250));
        let lookup = task.stages.of(Stage::Lookup);
        lookup.add_time(Duration::from_micros(125));
        task.state.bytes.set(1 << 40);
        task.watermark.set(2_000);
    }
    observer.checkpoint_begun(3, "interval", 2_000);
    observer.checkpoint_ended(CheckpointFacts {
        id: 3,
        created_ms: 2_000,
        total: Duration::from_millis(30),
        state_bytes: 12,
        ..CheckpointFacts::default()
    });
    let plugin = PluginFacts {
        name: "count".to_owned(),
        version: "2".to_owned(),
        digest: "01".to_owned(),
    };
    observer.runs(2, nodes(plugin), true);
    observer.swapped(Duration::from_micros(700));
    let samples = parsed(&observer.prometheus(5_000));
    for (series, value) in [
        ("floodmark_job_state{job=\"words\",state=\"running\"}", 1.0),
        ("floodmark_uptime_seconds{job=\"words\"}", 4.0),
        (
            "floodmark_worker_busy_seconds_total{job=\"words\",worker=\"1\"}",
            1.5,
        ),
        (
            "floodmark_task_records_in_total{job=\"words\",operator=\"count\",task=\"1\"}",
            8.0,
        ),
        (
            "floodmark_task_guest_seconds_total{job=\"words\",operator=\"count\",task=\"0\"}",
            0.000_25,
        ),
        (
            "floodmark_task_stage_seconds_total{job=\"words\",operator=\"count\",task=\"1\",stage=\"lookup\"}",
            0.000_125,
        ),
        (
            "floodmark_task_stage_seconds_total{job=\"words\",operator=\"out\",task=\"0\",stage=\"sink\"}",
            0.0,
        ),
        (
            "floodmark_task_state_bytes{job=\"words\",operator=\"count\",task=\"0\"}",
            (1_u64 << 40) as f64,
        ),
        (
            "floodmark_task_watermark_lag_seconds{job=\"words\",operator=\"count\",task=\"0\"}",
            3.0,
        ),
        ("floodmark_last_checkpoint_age_seconds{job=\"words\"}", 3.0),
        (
            "floodmark_last_checkpoint_full_size_bytes{job=\"words\"}",
            12.0,
        ),
        (
            "floodmark_checkpoint_duration_seconds_bucket{job=\"words\",le=\"0.025\"}",
            0.0,
        ),
        (
            "floodmark_checkpoint_duration_seconds_bucket{job=\"words\",le=\"0.05\"}",
            1.0,
        ),
        (
            "floodmark_checkpoint_duration_seconds_bucket{job=\"words\",le=\"+Inf\"}",
            1.0,
        ),
        ("floodmark_swap_pause_seconds_count{job=\"words\"}", 1.0),
        ("floodmark_swap_pause_seconds_sum{job=\"words\"}", 0.000_7),
        (
            "floodmark_operator_info{job=\"words\",operator=\"count\",plugin=\"count\",version=\"2\",digest=\"01\"}",
            1.0,
        ),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    let of_sources = samples.keys().filter(|series| {
        series.starts_with("floodmark_task_stage") && series.contains("operator=\"text\"")
    });
    assert_eq!(of_sources.count(), 4, "two stages of two tasks");
    let status = observer.status(Duration::ZERO, 5_000);
    assert_eq!(
        status["vertices"][1]["stage-times"],
        serde_json::json!({ "exchange": 0.0, "lookup": 0.25, "guest": 0.0, "apply": 0.0 })
    );
}

#[test]
fn a_job_that_was_rescaled_down_keeps_its_counters_and_drops_its_levels() {
    let observer = observer();
    for index in 0..2 {
        let worker = observer.worker(index);
        worker.task(1).unwrap().input.records.add(5);
        worker.task(1).unwrap().state.bytes.set(100);
    }
    observer.runs(1, nodes(plugin()), false);
    let samples = parsed(&observer.prometheus(5_000));
    let of = |name: &str, task: u8| {
        let series = format!("{name}{{job=\"words\",operator=\"count\",task=\"{task}\"}}");
        samples.get(&series).copied()
    };
    assert_eq!(of("floodmark_task_records_in_total", 1), Some(5.0));
    assert_eq!(of("floodmark_task_state_bytes", 0), Some(100.0));
    assert_eq!(of("floodmark_task_state_bytes", 1), None);
    let status = observer.status(Duration::ZERO, 5_000);
    assert_eq!(status["vertices"][1]["metrics"]["read-records"], 10);
    assert_eq!(status["vertices"][1]["state"]["bytes"], 100);
}
