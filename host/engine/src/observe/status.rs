//! A job's status as JSON: fields have the names of Flink's `/jobs/:jobid` if they mean the same, and follow its naming
//! style otherwise. Times are in milliseconds, summed over all tasks of a node; "accumulated" values are since the
//! process began.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::checkpoints::ms;
use super::job::{Facts, Kind, NodeFacts, Observer};
use super::numbers::{Counter, Gauge};
use super::rates::Lately;
use super::task::{TaskMetrics, Unmigrated};

/// The longest lag of a watermark that is told. Event times that are further away are not times of day, such as those of
/// the generator, which begin in 1970, or they are of a past that the job does not try to catch up with.
const LAG_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;

pub(super) fn json(observer: &Observer, facts: &Facts, lately: &[Lately], now_ms: u64) -> Value {
    let vertices = facts.nodes.iter().zip(lately).enumerate();
    let vertices: Vec<_> = vertices
        .map(|(index, (node, lately))| vertex(facts, index, node, lately, now_ms))
        .collect();
    let failure = facts
        .failure
        .as_ref()
        .map(|failure| json!({ "message": failure.message, "timestamp": failure.at_ms }));
    let delay = facts.delay.map(|delay| {
        json!({
            "attempt": delay.attempt,
            "attempts-max": delay.attempts_max,
            "until": delay.until_ms,
        })
    });
    let pauses = observer.swap_pauses.get();
    let micros = |duration: std::time::Duration| duration.as_micros() as f64 / 1000.0;
    json!({
        "name": facts.name,
        "state": facts.state.name(),
        "start-time": facts.start_ms,
        "now": now_ms,
        "duration": now_ms.saturating_sub(facts.start_ms),
        "parallelism": facts.parallelism,
        "maxParallelism": facts.max_parallelism,
        "vertices": vertices,
        "checkpoints": facts.checkpoints.summary(),
        "failures": { "count": observer.failures.get(), "latest": failure },
        "waiting": delay,
        "restarts": observer.restarts.get(),
        "rescales": observer.rescales.get(),
        "swaps": {
            "count": pauses.count,
            "undone": observer.swaps_undone.get(),
            "on-trial": observer.on_trial.get() != 0,
            "last-pause": micros(pauses.last),
            "longest-pause": micros(pauses.longest),
        },
    })
}

fn vertex(facts: &Facts, index: usize, node: &NodeFacts, lately: &Lately, now_ms: u64) -> Value {
    let kind = match node.kind {
        Kind::Source => "source",
        Kind::Operator(_) => "operator",
        Kind::Sink => "sink",
    };
    let mut value = json!({
        "id": node.name,
        "name": node.name,
        "kind": kind,
        "parallelism": facts.parallelism,
        "status": facts.state.name(),
        "metrics": metrics(facts, index, lately, now_ms),
        "bad-records": bad_records(facts, index),
        "stage-times": stage_times(facts, index, node),
    });
    if let Kind::Operator(plugin) = &node.kind {
        let sum = |read: fn(&TaskMetrics) -> &Gauge| {
            live(facts, index).map(|task| read(task).get()).sum::<u64>()
        };
        value["plugin"] = json!({
            "name": plugin.name,
            "version": plugin.version,
            "digest": plugin.digest,
            "code": match sum(|task| &task.instances.quick_code) {
                0 => "optimised",
                _ => "quick",
            },
            "optimising": sum(|task| &task.instances.optimising) > 0,
        });
        value["calls"] = calls(facts, index);
        value["plugin-metrics"] = reported(facts, index);
        value["state"] = json!({
            "bytes": sum(|task| &task.state.bytes),
            "entries": sum(|task| &task.state.entries),
            "size-bytes": sum(|task| &task.state.size),
            "limit-bytes": Some(sum(|task| &task.state.limit)).filter(|limit| *limit > 0),
            "shared": shared_state(facts, index),
            "not-migrated": unmigrated(facts, index),
        });
    }
    value
}

/// A node's tasks of all workers so far.
fn all(facts: &Facts, node: usize) -> impl Iterator<Item = &TaskMetrics> {
    facts
        .workers
        .iter()
        .filter_map(move |worker| worker.task(node))
}

/// A node's current tasks.
fn live(facts: &Facts, node: usize) -> impl Iterator<Item = &TaskMetrics> {
    facts
        .live_workers()
        .filter_map(move |worker| worker.task(node))
}

/// Size and limit of the state of all operators that share a limit; null if this one does not.
fn shared_state(facts: &Facts, node: usize) -> Value {
    let limits = live(facts, node).map(|task| task.state.shared_limit.get());
    let limit = limits.max().unwrap_or(0);
    if limit == 0 {
        return Value::Null;
    }
    let tasks = (0..facts.nodes.len()).flat_map(|node| live(facts, node));
    let sharing = tasks.filter(|task| task.state.shared_limit.get() > 0);
    let size: u64 = sharing.map(|task| task.state.size.get()).sum();
    json!({ "size-bytes": size, "limit-bytes": limit })
}

/// Entries of earlier versions that the plugin could not migrate, by state, over all tasks of a node.
fn unmigrated(facts: &Facts, node: usize) -> Vec<Value> {
    let mut by_state = BTreeMap::<String, (u64, String)>::new();
    for Unmigrated {
        state,
        count,
        reason,
    } in live(facts, node).flat_map(|task| task.state.unmigrated.get())
    {
        by_state.entry(state).or_insert((0, reason)).0 += count;
    }
    let rows = by_state.into_iter().map(
        |(state, (count, reason))| json!({ "state": state, "count": count, "first-reason": reason }),
    );
    rows.collect()
}

/// By operator: how far its sweep is, and what it could not migrate.
pub(super) fn sweeps(facts: &Facts) -> Value {
    let nodes = facts.nodes.iter().enumerate();
    let operators = nodes.filter(|(_, node)| matches!(node.kind, Kind::Operator(_)));
    let sweeps = operators.map(|(index, node)| {
        let steps = live(facts, index).map(|task| task.state.sweep.steps.get());
        let mut left = BTreeMap::<String, u64>::new();
        for (state, bytes) in live(facts, index).flat_map(|task| task.state.sweep.left()) {
            *left.entry(state).or_default() += bytes;
        }
        let sweep = json!({
            "steps": steps.sum::<u64>(),
            "left-bytes": left,
            "not-migrated": unmigrated(facts, index),
        });
        (node.name.clone(), sweep)
    });
    Value::Object(sweeps.collect())
}

fn metrics(facts: &Facts, node: usize, lately: &Lately, now_ms: u64) -> Value {
    let sum = |read: fn(&TaskMetrics) -> &Counter| {
        all(facts, node).map(|task| read(task).get()).sum::<u64>()
    };
    let per_second = |rate: f64| (rate * 10.0).round() / 10.0;
    let share = |share: f64| (share * 1000.0).round() / 1000.0;
    // A task without a watermark holds the others back.
    let watermarks: Option<Vec<_>> = live(facts, node).map(|task| task.watermark.get()).collect();
    let watermark = watermarks.and_then(|times| times.into_iter().min());
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let lag = watermark.map(|time| now.saturating_sub(time));
    json!({
        "read-records": sum(|task| &task.input.records),
        "read-bytes": sum(|task| &task.input.bytes),
        "write-records": sum(|task| &task.output.records),
        "write-bytes": sum(|task| &task.output.bytes),
        "read-records-per-second": per_second(lately.records_in_per_second),
        "write-records-per-second": per_second(lately.records_out_per_second),
        "accumulated-busy-time": sum(|task| &task.times.busy) / 1_000_000,
        "accumulated-idle-time": sum(|task| &task.times.idle) / 1_000_000,
        "accumulated-backpressured-time": sum(|task| &task.times.back_pressured) / 1_000_000,
        "busy-share": share(lately.busy),
        "idle-share": share(lately.idle),
        "backpressured-share": share(lately.back_pressured),
        "watermark": watermark,
        "watermark-lag": lag.filter(|lag| lag.unsigned_abs() <= LAG_MS_MAX),
    })
}

/// Times by stage in fractional milliseconds: a worker may be in a stage for less than one.
fn stage_times(facts: &Facts, index: usize, node: &NodeFacts) -> Value {
    let stages = node.kind.stages().iter().map(|&stage| {
        let nanos = all(facts, index).map(|task| task.stages.of(stage).get());
        let micros = nanos.sum::<u64>() / 1000;
        (stage.name().to_owned(), json!(micros as f64 / 1000.0))
    });
    Value::Object(stages.collect())
}

/// Records that a node could not handle, and that did not fail the job.
fn bad_records(facts: &Facts, node: usize) -> Value {
    let sum = |read: fn(&TaskMetrics) -> &Counter| {
        all(facts, node).map(|task| read(task).get()).sum::<u64>()
    };
    json!({
        "skipped": sum(|task| &task.faults.skipped),
        "dead-letters": sum(|task| &task.faults.dead_letters),
    })
}

fn calls(facts: &Facts, node: usize) -> Value {
    let sum = |read: fn(&TaskMetrics) -> &Counter| {
        all(facts, node).map(|task| read(task).get()).sum::<u64>()
    };
    let time = |nanos: u64| ms(std::time::Duration::from_nanos(nanos));
    json!({
        "count": sum(|task| &task.calls.count),
        "guest-time": time(sum(|task| &task.calls.guest)),
        "copy-time": time(sum(|task| &task.calls.copy)),
        "host-time": time(sum(|task| &task.calls.host)),
        "traps": sum(|task| &task.faults.traps),
        "retries": sum(|task| &task.faults.retries),
        "rejections": sum(|task| &task.faults.rejections),
        "skipped": sum(|task| &task.faults.skipped),
        "dead-letters": sum(|task| &task.faults.dead_letters),
        "instances": live(facts, node).map(|task| task.instances.live.get()).sum::<u64>(),
    })
}

/// Metrics that the plugin reports, over all tasks of a node: sums, and for gauges also the minimum and the maximum.
fn reported(facts: &Facts, node: usize) -> Value {
    let mut counters = BTreeMap::<String, u64>::new();
    let mut histograms = BTreeMap::<String, (u64, f64)>::new();
    for task in all(facts, node) {
        let numbers = task.reported.get();
        for (name, sum) in numbers.counters {
            let all = counters.entry(name).or_default();
            *all = all.saturating_add(sum);
        }
        for (name, distribution) in numbers.histograms {
            let (count, sum) = histograms.entry(name).or_default();
            *count += distribution.within().1;
            *sum = finite(*sum + distribution.sum());
        }
    }
    let mut gauges = BTreeMap::<String, Vec<f64>>::new();
    for task in live(facts, node) {
        for (name, value) in task.reported.get().gauges {
            gauges.entry(name).or_default().push(value);
        }
    }
    let gauges = gauges.into_iter().map(|(name, values)| {
        let level = json!({
            "min": values.iter().copied().fold(f64::INFINITY, f64::min),
            "max": values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "sum": finite(values.iter().sum()),
        });
        (name, level)
    });
    let histograms = histograms
        .into_iter()
        .map(|(name, (count, sum))| (name, json!({ "count": count, "sum": sum })));
    json!({
        "counters": counters,
        "gauges": gauges.collect::<serde_json::Map<_, _>>(),
        "histograms": histograms.collect::<serde_json::Map<_, _>>(),
    })
}

/// JSON has no infinity.
fn finite(number: f64) -> f64 {
    number.clamp(f64::MIN, f64::MAX)
}
