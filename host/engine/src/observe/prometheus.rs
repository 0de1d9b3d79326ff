//! Formats all metrics as text for Prometheus, version 0.0.4 of its format: base units, `_total` for counters.

mod plugins;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::job::{Facts, JobState, Kind, Observer};
use super::numbers::{Counter, Durations, Gauge, Histogram};
use super::task::{TaskMetrics, Times, WorkerMetrics};

/// The text, built family by family.
struct MetricsText {
    text: String,
    job: String,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl MetricsText {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        let _ = write!(self.text, "{name}{{job=\"{}\"", self.job);
        for (label, text) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escaped(text));
        }
        let _ = writeln!(self.text, "}} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, held: &Durations) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, within) in Histogram::BOUNDS_MICROS.iter().zip(held.within) {
            let bound = seconds(Duration::from_micros(*bound)).to_string();
            self.sample(&bucket, &[("le", &bound)], within);
        }
        self.sample(&bucket, &[("le", "+Inf")], held.count);
        self.sample(&format!("{name}_sum"), &[], seconds(held.sum));
        self.sample(&format!("{name}_count"), &[], held.count);
    }
}

pub(super) fn text(observer: &Observer, facts: &Facts, now_ms: u64) -> String {
    let mut text = MetricsText {
        text: String::new(),
        job: escaped(&facts.name),
    };
    job(&mut text, observer, facts, now_ms);
    checkpoints(&mut text, observer, facts, now_ms);
    workers(&mut text, facts);
    tasks(&mut text, facts, now_ms);
    plugins::plugins(&mut text, facts);
    text.text
}

fn job(text: &mut MetricsText, observer: &Observer, facts: &Facts, now_ms: u64) {
    let name = "floodmark_job_state";
    text.family(
        name,
        "gauge",
        "The state of the job: 1 for the current one, 0 for the others.",
    );
    for state in JobState::ALL {
        let label = state.name().to_lowercase();
        text.sample(name, &[("state", &label)], u8::from(facts.state == state));
    }
    let up = now_ms.saturating_sub(facts.start_ms) as f64 / 1e3;
    text.one(
        "floodmark_uptime_seconds",
        "gauge",
        "Time since the job's process began.",
        up,
    );
    text.one(
        "floodmark_job_parallelism",
        "gauge",
        "Tasks per node.",
        facts.parallelism,
    );
    let failures = observer.failures.get();
    text.one(
        "floodmark_failures_total",
        "counter",
        "Failures of the job.",
        failures,
    );
    let restarts = observer.restarts.get();
    let help = "How often the job resumed from a checkpoint in the same process.";
    text.one("floodmark_restarts_total", "counter", help, restarts);
    let rescales = observer.rescales.get();
    let help = "How often the parallelism was changed while the job ran.";
    text.one("floodmark_rescales_total", "counter", help, rescales);
    let undone = observer.swaps_undone.get();
    let help = "Swaps of plugins that were reverted.";
    text.one("floodmark_swaps_undone_total", "counter", help, undone);
    let on_trial = observer.on_trial.get();
    let help = "Whether a failure would revert a swap now.";
    text.one("floodmark_swap_on_trial", "gauge", help, on_trial);
    let pauses = observer.swap_pauses.get();
    let help = "Longest pause of a worker for a swap of plugins, by swap.";
    text.histogram("floodmark_swap_pause_seconds", help, &pauses);
    let help = "The same for the last swap.";
    text.one(
        "floodmark_last_swap_pause_seconds",
        "gauge",
        help,
        seconds(pauses.last),
    );
}

fn checkpoints(text: &mut MetricsText, observer: &Observer, facts: &Facts, now_ms: u64) {
    let known = &facts.checkpoints;
    let help = "Checkpoints that are durable.";
    text.one(
        "floodmark_checkpoints_completed_total",
        "counter",
        help,
        known.completed_count(),
    );
    let help = "Checkpoints that were given up.";
    text.one(
        "floodmark_checkpoints_failed_total",
        "counter",
        help,
        known.failed_count(),
    );
    let help = "Checkpoints under way.";
    let under_way = u8::from(known.is_under_way());
    text.one(
        "floodmark_checkpoints_in_progress",
        "gauge",
        help,
        under_way,
    );
    let help = "From the trigger of a checkpoint until it was durable and its output visible.";
    let durations = observer.checkpoint_durations.get();
    text.histogram("floodmark_checkpoint_duration_seconds", help, &durations);
    let Some(last) = known.latest_completed() else {
        return;
    };
    let mut gauge = |name: &str, help: &str, value: f64| text.one(name, "gauge", help, value);
    gauge(
        "floodmark_last_checkpoint_id",
        "The last durable checkpoint.",
        last.id as f64,
    );
    gauge(
        "floodmark_last_checkpoint_duration_seconds",
        "From its trigger until it was durable.",
        seconds(last.total),
    );
    gauge(
        "floodmark_last_checkpoint_stall_seconds",
        "Longest pause of a worker at its barrier.",
        seconds(last.stall),
    );
    gauge(
        "floodmark_last_checkpoint_size_bytes",
        "State that it added.",
        last.state_bytes_new as f64,
    );
    gauge(
        "floodmark_last_checkpoint_full_size_bytes",
        "State that it holds.",
        last.state_bytes as f64,
    );
    gauge(
        "floodmark_last_checkpoint_timestamp_seconds",
        "When it was triggered, since 1970.",
        last.created_ms as f64 / 1e3,
    );
    gauge(
        "floodmark_last_checkpoint_age_seconds",
        "Time since it was triggered.",
        now_ms.saturating_sub(last.created_ms) as f64 / 1e3,
    );
}

/// A standing, and the counter of its time.
type Stood = (&'static str, &'static str, fn(&Times) -> &Counter);

const STOOD: [Stood; 3] = [
    ("busy", "with work to do", |times| &times.busy),
    ("idle", "with no work to do", |times| &times.idle),
    (
        "back_pressured",
        "with output that could not be passed on",
        |times| &times.back_pressured,
    ),
];

fn workers(text: &mut MetricsText, facts: &Facts) {
    for (stood, what, read) in STOOD {
        let name = format!("floodmark_worker_{stood}_seconds_total");
        text.family(&name, "counter", &format!("Time of a worker {what}."));
        for (index, worker) in facts.workers.iter().enumerate() {
            let time = Duration::from_nanos(read(&worker.times).get());
            text.sample(&name, &[("worker", &index.to_string())], seconds(time));
        }
    }
}

/// The kinds of nodes that have a metric.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    Operators,
}

/// A counter of a task.
type Counted = (&'static str, &'static str, Of, fn(&TaskMetrics) -> &Counter);

const COUNTED: [Counted; 10] = [
    (
        "records_in",
        "Records that a task received; for a source, records that it read.",
        Of::All,
        |task| &task.input.records,
    ),
    (
        "bytes_in",
        "Bytes of their keys and values.",
        Of::All,
        |task| &task.input.bytes,
    ),
    (
        "records_out",
        "Records that a task emitted; for a sink, records that it wrote.",
        Of::All,
        |task| &task.output.records,
    ),
    (
        "bytes_out",
        "Bytes of their keys and values.",
        Of::All,
        |task| &task.output.bytes,
    ),
    ("calls", "Calls of the plugin.", Of::Operators, |task| {
        &task.calls.count
    }),
    (
        "traps",
        "Calls that ended in a trap or at a limit.",
        Of::Operators,
        |task| &task.faults.traps,
    ),
    (
        "retries",
        "Calls that were repeated with fewer records.",
        Of::Operators,
        |task| &task.faults.retries,
    ),
    (
        "rejected_records",
        "Records that the plugin rejected.",
        Of::Operators,
        |task| &task.faults.rejections,
    ),
    (
        "skipped_records",
        "Records that were skipped.",
        Of::All,
        |task| &task.faults.skipped,
    ),
    (
        "dead_letters",
        "Records that went to the dead letters.",
        Of::All,
        |task| &task.faults.dead_letters,
    ),
];

/// Times of a task, which only grow.
const TIMED: [Counted; 6] = [
    (
        "busy",
        "Time of a task with work to do, including while its worker was running other tasks.",
        Of::All,
        |task| &task.times.busy,
    ),
    (
        "idle",
        "Time of a task with no work to do.",
        Of::All,
        |task| &task.times.idle,
    ),
    (
        "back_pressured",
        "Time of a task with output that could not be passed on.",
        Of::All,
        |task| &task.times.back_pressured,
    ),
    ("guest", "Time in the plugin.", Of::Operators, |task| {
        &task.calls.guest
    }),
    (
        "copy",
        "Time of copying to and from the plugin.",
        Of::Operators,
        |task| &task.calls.copy,
    ),
    (
        "host",
        "Time of the host in calls of the plugin.",
        Of::Operators,
        |task| &task.calls.host,
    ),
];

/// A gauge of a task.
type Level = (&'static str, &'static str, fn(&TaskMetrics) -> &Gauge);

const LEVELS: [Level; 7] = [
    ("state_bytes", "The state's newest entries.", |task| {
        &task.state.bytes
    }),
    (
        "state_size_bytes",
        "All entries of the state, with those that are not compacted yet.",
        |task| &task.state.size,
    ),
    (
        "state_limit_bytes",
        "The limit on the size of the state, 0 without one of its own.",
        |task| &task.state.limit,
    ),
    (
        "state_shared_limit_bytes",
        "The limit on the size of all state that shares it, 0 without one.",
        |task| &task.state.shared_limit,
    ),
    (
        "state_entries",
        "Entries of the state, at its last snapshot.",
        |task| &task.state.entries,
    ),
    ("instances", "Live instances of the plugin.", |task| {
        &task.instances.live
    }),
    (
        "quick_instances",
        "Live instances that run code of the quick compiler.",
        |task| &task.instances.quick_code,
    ),
];

fn tasks(text: &mut MetricsText, facts: &Facts, now_ms: u64) {
    for (name, help, of, read) in COUNTED {
        let name = format!("floodmark_task_{name}_total");
        text.family(&name, "counter", help);
        each(text, facts, &facts.workers, of, &name, |task| {
            Some(read(task).get() as f64)
        });
    }
    for (name, help, of, read) in TIMED {
        let name = format!("floodmark_task_{name}_seconds_total");
        text.family(&name, "counter", help);
        each(text, facts, &facts.workers, of, &name, |task| {
            Some(seconds(Duration::from_nanos(read(task).get())))
        });
    }
    stages(text, facts);
    let live = &facts.workers[..facts.workers.len().min(usize::from(facts.parallelism))];
    for (name, help, read) in LEVELS {
        let name = format!("floodmark_task_{name}");
        text.family(&name, "gauge", help);
        each(text, facts, live, Of::Operators, &name, |task| {
            Some(read(task).get() as f64)
        });
    }
    let name = "floodmark_task_watermark_timestamp_seconds";
    text.family(
        name,
        "gauge",
        "The watermark: no earlier record will follow.",
    );
    each(text, facts, live, Of::All, name, |task| {
        Some(task.watermark.get()? as f64 / 1e3)
    });
    let name = "floodmark_task_watermark_lag_seconds";
    text.family(
        name,
        "gauge",
        "How far the watermark is behind the current time.",
    );
    let now = now_ms as f64;
    each(text, facts, live, Of::All, name, |task| {
        Some((now - task.watermark.get()? as f64) / 1e3)
    });
    let name = "floodmark_operator_info";
    text.family(name, "gauge", "The plugin of an operator; always 1.");
    for node in &facts.nodes {
        if let Kind::Operator(plugin) = &node.kind {
            let labels: Labels<'_> = &[
                ("operator", &node.name),
                ("plugin", &plugin.name),
                ("version", &plugin.version),
                ("digest", &plugin.digest),
            ];
            text.sample(name, labels, 1);
        }
    }
}

fn stages(text: &mut MetricsText, facts: &Facts) {
    let name = "floodmark_task_stage_seconds_total";
    let help = "Time of a task's worker by stage: reading input, passing records on, reading state, calling the plugin, writing state, writing output.";
    text.family(name, "counter", help);
    for (index, node) in facts.nodes.iter().enumerate() {
        for (number, worker) in facts.workers.iter().enumerate() {
            let Some(task) = worker.task(index) else {
                continue;
            };
            let number = number.to_string();
            for &stage in node.kind.stages() {
                let labels: Labels<'_> = &[
                    ("operator", &node.name),
                    ("task", &number),
                    ("stage", stage.name()),
                ];
                let time = Duration::from_nanos(task.stages.of(stage).get());
                text.sample(name, labels, seconds(time));
            }
        }
    }
}

/// Adds one sample for each task that has the metric.
fn each(
    text: &mut MetricsText,
    facts: &Facts,
    workers: &[Arc<WorkerMetrics>],
    of: Of,
    name: &str,
    read: impl Fn(&TaskMetrics) -> Option<f64>,
) {
    for (index, node) in facts.nodes.iter().enumerate() {
        if of == Of::Operators && !matches!(node.kind, Kind::Operator(_)) {
            continue;
        }
        for (task, worker) in workers.iter().enumerate() {
            if let Some(value) = worker.task(index).and_then(&read) {
                let task = task.to_string();
                text.sample(name, &[("operator", &node.name), ("task", &task)], value);
            }
        }
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The value of a label, escaped for use between quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
#[path = "prometheus/tests.rs"]
mod tests;
