//! `floodmark status`: prints the status of a job.
//!
//! A running job answers itself, and `--json` prints its answer unchanged: nothing is computed here. For a stopped job,
//! the newest checkpoint is shown.

use clap::Args;
use serde_json::{Value, json};

use super::CommandError;
use super::checkpoint::summary;
use super::escape::{joined, one_line};
use super::job::{JobArguments, JobLocation};
use super::print::{print, print_json};
use super::table::table;
use floodmark_checkpoint::Checkpoint;
use floodmark_checkpoint::store::StoreError;
use floodmark_control::AskError;
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::failed_end::FailedEnd;
use floodmark_engine::observe::Stage;
use floodmark_engine::session::number::{bytes, count, date, rate, span, things};
use floodmark_engine::session::storage;

/// Shows what a job is doing: its state, the speed of each node, its plugins and its checkpoints
#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Prints JSON, the same as `GET /v1/status` returns
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the job does not answer, or its checkpoints cannot be read.
pub fn status(arguments: &StatusArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    match place.look("/v1/status") {
        Ok(status) if arguments.json => print_json(&status),
        Ok(status) => print(&page(&status)),
        Err(AskError::NotRunning { .. }) => at_rest(&place, arguments.json),
        Err(error) => Err(error.into()),
    }
}

/// Prints the status of a job that does not run.
fn at_rest(place: &JobLocation, wants_json: bool) -> Result<(), CommandError> {
    let newest = newest(place)?;
    let failed = FailedEnd::read(&place.data_dir);
    if wants_json {
        let checkpoint = newest.as_ref().map(summary);
        let mut status = json!({ "state": "NOT_RUNNING", "checkpoint": checkpoint });
        if let Some(failed) = failed {
            let latest = json!({ "timestamp": failed.at_ms, "message": failed.reason });
            status["state"] = json!("FAILED");
            status["failures"] = json!({ "count": failed.failures, "latest": latest });
        }
        return print_json(&status);
    }
    let now_ms = Clock::start().wall_ms();
    let ago = |ms: u64| format!("{} ({} ago)", date(ms), millis(now_ms.saturating_sub(ms)));
    let folder = place.data_dir.display().to_string();
    let mut text = match &newest {
        None => format!(
            "no job runs on the data folder `{}`, and it has no checkpoint\n",
            one_line(&folder)
        ),
        Some(checkpoint) => format!(
            "job `{}` is not running\n  newest checkpoint  {}, taken at {}: {} in, {} out, {} of state\n",
            one_line(&checkpoint.job),
            checkpoint.id,
            ago(checkpoint.created_ms),
            things(checkpoint.records_in, "record"),
            things(checkpoint.records_out, "record"),
            bytes(checkpoint.state_bytes()),
        ),
    };
    if let Some(failed) = failed {
        let after = match failed.failures {
            0 => String::new(),
            failures => format!(", after {}", things(failures, "failure")),
        };
        let then = match &newest {
            None => "starts over".to_owned(),
            Some(checkpoint) => format!("resumes from checkpoint {}", checkpoint.id),
        };
        text += &format!(
            "  failed             {}{after}: {}\n  next               remove the cause; the same `floodmark run` then {then}\n",
            ago(failed.at_ms),
            joined(&failed.reason),
        );
    }
    print(&text)
}

/// The newest checkpoint that can be read, if there is one.
fn newest(place: &JobLocation) -> Result<Option<Checkpoint>, CommandError> {
    let reader = match storage::reader(&place.storage, &place.data_dir) {
        Ok(reader) => reader,
        Err(StoreError::Absent { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut listed = reader.list()?.into_iter();
    Ok(listed.find_map(|(_, found)| found.ok()))
}

fn page(status: &Value) -> String {
    let mut text = format!(
        "job `{}` is {}, since {} ({}), with {} per node\n",
        text_of(&status["name"]),
        text_of(&status["state"]).to_lowercase(),
        date(number(&status["start-time"])),
        millis(number(&status["duration"])),
        things(number(&status["parallelism"]), "task"),
    );
    text += &checkpoints(&status["checkpoints"], number(&status["now"]));
    let failures = &status["failures"];
    if number(&failures["count"]) > 0 {
        let ago = number(&status["now"]).saturating_sub(number(&failures["latest"]["timestamp"]));
        text += &format!(
            "  failures     {}, restarted {}; the last one {} ago: {}\n",
            number(&failures["count"]),
            times(number(&status["restarts"])),
            millis(ago),
            joined_text(&failures["latest"]["message"]),
        );
    }
    text += &waiting(&status["waiting"], number(&status["now"]));
    let swaps = &status["swaps"];
    if number(&swaps["count"]) > 0 {
        let trial = match swaps["on-trial"] == true {
            true => "; on trial",
            false => "",
        };
        text += &format!(
            "  swaps        {}, {} reverted, pause {} (longest {}){trial}\n",
            number(&swaps["count"]),
            number(&swaps["undone"]),
            fine(&swaps["last-pause"]),
            fine(&swaps["longest-pause"]),
        );
    }
    let vertices = status["vertices"].as_array().into_iter().flatten();
    let vertices: Vec<&Value> = vertices
        .filter(|vertex| !is_idle_addition(vertex))
        .collect();
    text.push('\n');
    text += &nodes(&vertices);
    text += &stages(&vertices);
    let bad = vertices.iter().filter_map(|vertex| bad_records(vertex));
    text += &bad.collect::<String>();
    let operators = vertices
        .iter()
        .filter(|vertex| vertex["kind"] == "operator");
    text + &operators.map(|vertex| operator(vertex)).collect::<String>()
}

/// A delay after a failure, if the job waits.
fn waiting(delay: &Value, now_ms: u64) -> String {
    if !delay.is_object() {
        return String::new();
    }
    let of = match delay["attempts-max"].as_u64() {
        Some(attempts_max) => format!(" of {attempts_max}"),
        None => String::new(),
    };
    let attempt = number(&delay["attempt"]);
    match number(&delay["until"]).saturating_sub(now_ms) {
        0 => format!("  restarting   attempt {attempt}{of}\n"),
        left => format!(
            "  waiting      attempt {attempt}{of} in {}; `floodmark retry` tries now\n",
            millis(left)
        ),
    }
}

/// What a source could not read or a sink could not write, if there is such a record.
fn bad_records(vertex: &Value) -> Option<String> {
    let bad = &vertex["bad-records"];
    let (skipped, letters) = (number(&bad["skipped"]), number(&bad["dead-letters"]));
    if vertex["kind"] == "operator" || skipped + letters == 0 {
        return None;
    }
    Some(format!(
        "\n{}: bad records: {} skipped, {} to dead letters\n",
        name(vertex),
        count(skipped),
        count(letters),
    ))
}

fn checkpoints(known: &Value, now_ms: u64) -> String {
    let counts = &known["counts"];
    let how_many = format!(
        "{} completed, {} failed",
        number(&counts["completed"]),
        number(&counts["failed"])
    );
    let last = &known["latest"]["completed"];
    let last = match last.is_object() {
        true => format!(
            "{} ({}), {} ago: {}, {} of state ({} new); ",
            number(&last["id"]),
            text_of(&last["trigger"]),
            millis(now_ms.saturating_sub(number(&last["trigger_timestamp"]))),
            millis(number(&last["end_to_end_duration"])),
            bytes(number(&last["state_size"])),
            bytes(number(&last["checkpointed_size"])),
        ),
        false => "none since the start; ".to_owned(),
    };
    let restored = &known["latest"]["restored"];
    let restored = match restored.is_object() {
        true => format!("  resumed from {}\n", number(&restored["id"])),
        false => String::new(),
    };
    let failed = &known["latest"]["failed"];
    let failed = match failed.is_object() {
        true => format!(
            "  last failed  {}: {}\n",
            number(&failed["id"]),
            text_of(&failed["failure_message"])
        ),
        false => String::new(),
    };
    format!("  checkpoint   {last}{how_many}\n{failed}{restored}")
}

/// Whether it is a source that the engine has added for dead letters that are replayed, and none were. Names in a pipeline file
/// have no dots.
fn is_idle_addition(vertex: &Value) -> bool {
    let is_added = vertex["name"]
        .as_str()
        .is_some_and(|name| name.contains('.'));
    is_added
        && vertex["kind"] == "source"
        && number(&vertex["metrics"]["read-records"]) == 0
        && bad_records(vertex).is_none()
}

fn nodes(vertices: &[&Value]) -> String {
    let head = [
        "node",
        "in",
        "in per second",
        "out",
        "out per second",
        "busy",
        "idle",
        "backpressured",
        "state",
        "watermark lag",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for &vertex in vertices {
        let metrics = &vertex["metrics"];
        let share = |field: &str| {
            let share = metrics[field].as_f64().unwrap_or_default();
            format!("{:.0} %", 100.0 * share)
        };
        let per_second = |field: &str| rate(metrics[field].as_f64().unwrap_or_default());
        let lag = match metrics["watermark-lag"].as_i64() {
            Some(lag) => millis(u64::try_from(lag).unwrap_or(0)),
            None => "-".to_owned(),
        };
        let state = match &vertex["state"]["bytes"] {
            Value::Null => "-".to_owned(),
            size => bytes(number(size)),
        };
        rows.push(vec![
            name(vertex),
            count(number(&metrics["read-records"])),
            per_second("read-records-per-second"),
            count(number(&metrics["write-records"])),
            per_second("write-records-per-second"),
            share("busy-share"),
            share("idle-share"),
            share("backpressured-share"),
            state,
            lag,
        ]);
    }
    table(&rows)
}

/// Time by stage: one row per node, one column per stage, with the stage's share of the time of all nodes.
fn stages(vertices: &[&Value]) -> String {
    let time = |vertex: &Value, stage: &str| vertex["stage-times"][stage].as_f64();
    let times = |vertex| Stage::ALL.map(|stage| time(vertex, stage.name()));
    let all: f64 = vertices.iter().copied().flat_map(times).flatten().sum();
    if all <= 0.0 {
        return String::new();
    }
    let stages = Stage::ALL.map(|stage| stage.name().to_owned());
    let head = ["time by stage".to_owned()].into_iter().chain(stages);
    let mut rows = vec![head.collect::<Vec<_>>()];
    for &vertex in vertices {
        let cells = times(vertex).map(|time| match time {
            Some(time) => format!("{} ({:.0} %)", millis(time as u64), 100.0 * time / all),
            None => "-".to_owned(),
        });
        rows.push([name(vertex)].into_iter().chain(cells).collect());
    }
    format!("\n{}", table(&rows))
}

/// The kind and the name of a node.
fn name(vertex: &Value) -> String {
    format!(
        "{} `{}`",
        text_of(&vertex["kind"]),
        text_of(&vertex["name"])
    )
}

fn operator(vertex: &Value) -> String {
    let (plugin, calls) = (&vertex["plugin"], &vertex["calls"]);
    let digest = text_of(&plugin["digest"]);
    let of = |field: &str| number(&calls[field]);
    format!(
        "\noperator `{}`: plugin `{}` {}, sha256 {}\n  code   {}\n  calls  {}: {} in the plugin, {} copying, {} in the host\n  faults {}, {}; {} rejected, {} skipped, {} to dead letters\n{}",
        text_of(&vertex["name"]),
        text_of(&plugin["name"]),
        text_of(&plugin["version"]),
        digest.get(..16).unwrap_or(&digest),
        code(plugin),
        count(of("count")),
        millis(of("guest-time")),
        millis(of("copy-time")),
        millis(of("host-time")),
        things(of("traps"), "trap"),
        match of("retries") {
            1 => "1 retry".to_owned(),
            retries => format!("{} retries", count(retries)),
        },
        count(of("rejections")),
        count(of("skipped")),
        count(of("dead-letters")),
        state(&vertex["state"]),
    ) + &not_migrated(&vertex["state"]["not-migrated"])
}

/// The size of the state and its limit, or the one that it shares; nothing without a limit.
fn state(state: &Value) -> String {
    let of = |field: &Value| bytes(number(field));
    let size = of(&state["size-bytes"]);
    let shared = &state["shared"];
    match (state["limit-bytes"].is_null(), shared.is_null()) {
        (false, _) => format!(
            "  state  {size} of {} that its tasks may have together\n",
            of(&state["limit-bytes"])
        ),
        (true, false) => format!(
            "  state  {size}; all operators without `limits.state` have {} of {}\n",
            of(&shared["size-bytes"]),
            of(&shared["limit-bytes"])
        ),
        (true, true) => String::new(),
    }
}

/// One line for each state with entries that the plugin could not migrate.
fn not_migrated(states: &Value) -> String {
    let line = |state: &Value| {
        let count = number(&state["count"]);
        let (stays, them) = match count {
            1 => ("stays as it is", "it"),
            _ => ("stay as they are", "them"),
        };
        format!(
            "  state  `{}`: {} of an earlier version {stays}, since the plugin cannot migrate {them}; the first: it {}\n",
            text_of(&state["state"]),
            things(count, "value"),
            joined_text(&state["first-reason"]),
        )
    };
    states.as_array().into_iter().flatten().map(line).collect()
}

/// The kind of code that a plugin runs.
fn code(plugin: &Value) -> &'static str {
    match (plugin["code"] == "quick", plugin["optimising"] == true) {
        (false, _) => "optimised",
        (true, true) => "quick, optimising",
        (true, false) => "quick",
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// Text of a JSON value, on one line: a plugin chooses its own name and version.
fn text_of(value: &Value) -> String {
    one_line(value.as_str().unwrap_or_default()).into_owned()
}

/// The lines of a text, such as a plugin's output, in one line; all of it is in the JSON.
fn joined_text(value: &Value) -> String {
    joined(value.as_str().unwrap_or_default())
}

fn millis(ms: u64) -> String {
    span(std::time::Duration::from_millis(ms))
}

/// Milliseconds with decimals.
fn fine(ms: &Value) -> String {
    format!("{:.1} ms", ms.as_f64().unwrap_or_default())
}

fn times(number: u64) -> String {
    match number {
        1 => "once".to_owned(),
        number => format!("{number} times"),
    }
}

#[cfg(test)]
mod tests {
    //! Catches missing figures, and plugin names that write to the terminal.

    use super::*;

    #[test]
    fn a_limit_is_that_of_the_operator_or_of_all() {
        let check = |limits: Value, expected: &str| assert_eq!(state(&limits), expected);
        let shared = json!({ "size-bytes": 7168, "limit-bytes": 1 << 30 });
        check(json!({ "size-bytes": 6144 }), "");
        check(
            json!({ "size-bytes": 6144, "limit-bytes": null, "shared": shared }),
            "  state  6.0 KiB; all operators without `limits.state` have 7.0 KiB of 1.0 GiB\n",
        );
    }

    #[test]
    fn a_screen_has_what_matters() {
        let status = json!({
            "name": "words", "state": "RUNNING", "start-time": 1_000, "now": 62_000, "duration": 61_000,
            "parallelism": 2,
            "checkpoints": {
                "counts": { "completed": 3, "failed": 1 },
                "latest": {
                    "completed": {
                        "id": 7, "trigger": "interval", "trigger_timestamp": 60_000,
                        "end_to_end_duration": 15, "state_size": 2048, "checkpointed_size": 1024,
                    },
                    "failed": { "id": 6, "failure_message": "the disk is full" },
                    "restored": { "id": 3 },
                },
            },
            "failures": { "count": 2, "latest": { "message": "a trap", "timestamp": 60_000 } },
            "waiting": { "attempt": 8, "attempts-max": 10, "until": 88_000 },
            "restarts": 1,
            "swaps": { "count": 1, "undone": 0, "on-trial": true, "last-pause": 0.75, "longest-pause": 0.75 },
            "vertices": [{
                "name": "count", "kind": "operator",
                "plugin": {
                    "name": "a\u{1b}[2Jb", "version": "1", "digest": "0123456789abcdef01",
                    "code": "quick", "optimising": true,
                },
                "state": {
                    "bytes": 4096, "size-bytes": 6144, "limit-bytes": 1 << 30,
                    "not-migrated": [{ "state": "seen", "count": 12, "first-reason": "cannot migrate it\nat all" }],
                },
                "metrics": { "read-records": 12_345, "read-records-per-second": 1000.0, "busy-share": 0.5 },
                "calls": { "count": 9, "traps": 1, "retries": 2, "guest-time": 12_000 },
                "stage-times": { "exchange": 0.25, "lookup": 3_000.0, "guest": 15_000.0, "apply": 1_999.75 },
            }, {
                "name": "count.in.replay", "kind": "source", "metrics": { "read-records": 0 },
                "stage-times": { "source": 0.5 },
            }, {
                "name": "text", "kind": "source", "bad-records": { "skipped": 1200 },
                "metrics": { "read-records": 7, "read-records-per-second": 0.0, "busy-share": 0.0 },
            }],
        });
        let page = page(&status);
        for words in [
            "job `words` is running, since 1970-01-01T00:00:01Z (1 min 1 s), with 2 tasks per node\n",
            "  checkpoint   7 (interval), 2.0 s ago: 15 ms, 2.0 KiB of state (1.0 KiB new); 3 completed, 1 failed\n",
            "  last failed  6: the disk is full\n",
            "  resumed from 3\n",
            "  failures     2, restarted once; the last one 2.0 s ago: a trap\n",
            "  waiting      attempt 8 of 10 in 26 s; `floodmark retry` tries now\n",
            "  swaps        1, 0 reverted, pause 0.8 ms (longest 0.8 ms); on trial\n",
            "operator `count`  12,345          1 k/s",
            "\ntime by stage     source    exchange        lookup        guest         apply  sink\noperator `count`       -  0 ms (0 %)  3.0 s (15 %)  15 s (75 %)  2.0 s (10 %)     -\n",
            "operator `count`: plugin `a\\u{1b}[2Jb` 1, sha256 0123456789abcdef\n",
            "  code   quick, optimising\n",
            "  calls  9: 12 s in the plugin, 0 ms copying, 0 ms in the host\n",
            "  faults 1 trap, 2 retries; 0 rejected, 0 skipped, 0 to dead letters\n",
            "  state  6.0 KiB of 1.0 GiB that its tasks may have together\n",
            "  state  `seen`: 12 values of an earlier version stay as they are, since the plugin cannot migrate them; the first: it cannot migrate it at all\n",
            "\nsource `text`: bad records: 1,200 skipped, 0 to dead letters\n",
        ] {
            assert!(page.contains(words), "not there: {words}\n{page}");
        }
        assert!(!page.contains('\u{1b}'));
        assert!(!page.contains("replay"), "{page}");
    }
}
