//! Swaps and migrations in the hands of a user who errs, or whose plugin does.
//!
//! Catches a plugin that ends a running job because it cannot migrate one value, a value that is lost or counted from
//! one because of that, and a failure to migrate that is not told; a sample that is told as if it were all; and a swap
//! that cannot be cancelled, or happens although it was.

use std::fs;
use std::time::{Duration, Instant};

use floodmark_control::swap::PATH;
use serde_json::Value;

use crate::job::{Job, Outcome, Running};
use crate::migration::lines;
use crate::plugins::plugin;

/// What no step of a test takes.
const DEADLINE: Duration = Duration::from_secs(240);

/// Counts the words of a file that may grow. The word `bad` has a count that `picky` refuses.
pub fn job(more: &str) -> Job {
    let job = Job::with_input(input(1000));
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.interval = "off"
checkpoint.retained = 1000
source.text = {{ connector = "file", path = "in.txt", follow = true }}
operator.split = {{ plugin = {:?}, from = "text" }}
operator.count = {{ plugin = {:?}, from = "split", {more} }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
"#,
            plugin("word-split"),
            plugin("word-count"),
        ),
    );
    job
}

/// Words that occur once, and one that occurs seven times.
fn input(words: usize) -> String {
    let words: String = (0..words).map(|word| format!("w{word} ")).collect();
    format!("{words}{}\n", "bad ".repeat(7))
}

/// So many keys that a rehearsal takes a sample, in which the one that `picky` refuses is not: every other key, in order.
fn many() -> String {
    let words: String = (0..3000).map(|word| format!("k{word:04} ")).collect();
    format!("{words}{}\n", "k0001 ".repeat(6))
}

pub fn append(job: &Job, text: &str) {
    let before = fs::read_to_string(job.path("in.txt")).unwrap();
    job.write("in.txt", before + text);
}

#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Takes checkpoints until this many records are visible.
#[track_caller]
pub fn until_visible(job: &Job, records: usize) {
    wait_until("records", || {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        lines(job).len() >= records
    });
}

pub fn started(job: &Job, records: usize) -> Running {
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    until_visible(job, records);
    run
}

pub fn stop(job: &Job, run: Running) {
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
}

pub fn status(job: &Job) -> Value {
    let status = job.command(&["status", ".", "--json"]);
    serde_json::from_str(&status.succeeded().stdout).unwrap()
}

/// The part of the status for operator `count`.
fn count_of(status: &Value) -> &Value {
    let mut nodes = status["vertices"].as_array().unwrap().iter();
    nodes.find(|node| node["name"] == "count").unwrap()
}

/// The number of keys by version of the state, as of the newest checkpoint.
pub fn keys_by_version(job: &Job) -> Vec<(u64, u64)> {
    let states = job.command(&["state", "list", "--pipeline", ".", "--json", "--count"]);
    let states: Value = serde_json::from_str(&states.succeeded().stdout).unwrap();
    let states = states["states"].as_array().unwrap().iter();
    let mut keys: Vec<_> = states
        .map(|state| {
            let number = |field: &str| state[field].as_u64().unwrap();
            (number("version"), number("keys"))
        })
        .filter(|(_, keys)| *keys > 0)
        .collect();
    keys.sort_unstable();
    keys
}

pub fn path_of(name: &str) -> &'static str {
    plugin(name).to_str().unwrap()
}

/// The setting that runs another plugin for `count`, as a user who edits the pipeline does.
pub fn with_plugin(name: &str) -> String {
    format!("operator.count.plugin={}", path_of(name))
}

#[test]
fn a_value_that_cannot_be_migrated_stays_and_a_better_plugin_takes_it() {
    let job = job("on-error = \"skip\"");
    stop(&job, started(&job, 1007));
    let mut run = job.start(&["--set", &with_plugin("picky")]);
    run.wait_for("resumes from checkpoint");
    // No record asks for it: the sweep alone finds it, also in a job without input.
    let mut not_migrated = Value::Null;
    wait_until("the sweep", || {
        not_migrated = count_of(&status(&job))["state"]["not-migrated"][0].clone();
        not_migrated["count"] == 1
    });
    assert_eq!(not_migrated["state"], "count");
    let reason = not_migrated["first-reason"].as_str().unwrap();
    let expected = "cannot migrate the entry of key \"bad\" in state `count` from version 1 to version 2: it returned an error from `migrate`: item 0: 7 is a multiple of seven";
    assert_eq!(reason, expected);
    let page = job.command(&["status", "."]).succeeded().stdout;
    let expected = "state  `count`: 1 value of an earlier version stays as it is";
    assert!(page.contains(expected), "{page}");

    // A record of its key is skipped, and others are processed.
    append(&job, "bad w1 bad w2\n");
    run.wait_for("a record is skipped");
    run.wait_for("the plugin cannot migrate the entry of key \"bad\"");
    until_visible(&job, 1009);
    let seen = lines(&job);
    assert!(seen.iter().any(|line| line.starts_with("w1,2 ")));
    assert!(!seen.iter().any(|line| line.starts_with("bad,8")));
    assert_eq!(count_of(&status(&job))["calls"]["skipped"], 2);

    // What was refused is still there for a plugin that takes it.
    job.command(&["swap", ".", "count", path_of("upgrade-v2")])
        .succeeded();
    append(&job, "bad\n");
    until_visible(&job, 1010);
    let seen = lines(&job);
    assert!(
        seen.iter().any(|line| line.starts_with("bad,8 ")),
        "{seen:?}"
    );
    stop(&job, run);
    assert_eq!(keys_by_version(&job), [(2, 1001)]);
}

#[test]
fn a_value_that_cannot_be_migrated_fails_the_job_like_other_records() {
    let job = job("on-error = \"fail\"");
    stop(&job, started(&job, 1007));
    append(&job, "w1 bad\n");
    let once = ["--set", "restart.strategy=none"];
    let failed = job.run(&[&["--set", &with_plugin("picky")], &once[..]].concat());
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    failed
        .says("operator `count` cannot migrate the entry of key \"bad\" in state `count`")
        .says("7 is a multiple of seven")
        .says("the record:");
    assert_eq!(keys_by_version(&job), [(1, 1001)]);
}

#[test]
fn a_value_that_cannot_be_migrated_ends_a_trial() {
    let job = job("on-error = \"skip\"");
    job.write("in.txt", many());
    let mut run = started(&job, 3006);
    let picky = path_of("picky");
    job.command(&["swap", ".", "count", picky, "--trial", "10min"])
        .succeeded();
    run.wait_for("failed its trial");
    assert!(run.stderr().contains("7 is a multiple of seven"));
    append(&job, "k0001\n");
    until_visible(&job, 3007);
    let seen = lines(&job);
    assert!(seen.iter().any(|line| line == "k0001,8"), "{seen:?}");
    let status = status(&job);
    assert_eq!(count_of(&status)["plugin"]["name"], "word-count");
    stop(&job, run);
}

#[test]
fn a_second_version_waits_for_the_first_and_not_for_a_restart() {
    let job = job("on-error = \"skip\"");
    stop(&job, started(&job, 1007));
    let mut run = job.start(&["--set", &with_plugin("picky")]);
    run.wait_for("cannot migrate the entry of key \"bad\"");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    let third = ["swap", ".", "count", path_of("upgrade-v3")];
    let refused = job.command(&third);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    refused
        .says("state `count` is saved in version 1")
        .says("1 key is still of version 1")
        .says("`floodmark state migrate` does it now");

    job.command(&["swap", ".", "count", path_of("upgrade-v2")])
        .succeeded();
    // No record comes: the sweep and compaction alone bring it about.
    wait_until("the last value of version 1 to be gone", || {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        job.command(&third).code == Some(0)
    });
    append(&job, "bad\n");
    wait_until("the word", || {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        lines(&job).contains(&"bad,8".to_owned())
    });
    stop(&job, run);
}

/// No checkpoint is that of a swap, nor is the next one.
#[track_caller]
fn was_not_swapped(job: &Job) {
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    let listed = job.checkpoint(&["list"]);
    let mut listed = listed.as_array().unwrap().iter();
    assert!(listed.all(|checkpoint| checkpoint["trigger"] != "swap"));
}

/// A swap of `count`, by `picky`, that changes nothing.
fn rehearsal(job: &Job, more: &[&str]) -> Outcome {
    let swap = ["swap", ".", "count", path_of("picky"), "--dry-run"];
    job.command(&[&swap[..], more].concat())
}

#[test]
fn a_rehearsal_says_what_it_looked_at() {
    let job = job("on-error = \"skip\"");
    job.write("in.txt", many());
    let run = started(&job, 3006);
    let check = || {
        let sample = rehearsal(&job, &[]).succeeded().stdout;
        let expected = "`migrate` on 1,500 of 3,000 values, a sample; `--rehearse all` tries all";
        assert!(sample.contains(expected), "{sample}");
        let all = rehearsal(&job, &["--rehearse", "all"]);
        assert_eq!(all.code, Some(3), "{}", all.stderr);
        all.says("operator `count` cannot migrate the entry of key \"k0001\" in state `count`");
        let all = ["swap", ".", "count", path_of("upgrade-v2"), "--dry-run"];
        let all = job.command(&[&all[..], &["--rehearse", "all", "--json"]].concat());
        let all: Value = serde_json::from_str(&all.succeeded().stdout).unwrap();
        let rehearsed = &all["operators"][0]["rehearsed"];
        assert_eq!(rehearsed["values"], 3000);
        assert_eq!(rehearsed["migrated"], 3000);
        assert_eq!(rehearsed["is-sample"], false);
    };
    check();
    stop(&job, run);
    let before = job.checkpoint_ids();
    check();
    assert_eq!(job.checkpoint_ids(), before);
}

#[test]
fn a_swap_right_after_the_start_takes_the_checkpoint_that_it_needs() {
    let job = job("");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    let swap = ["swap", ".", "count", path_of("upgrade-v2"), "--json"];
    let found = job.command(&swap).succeeded().stdout;
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["swapped"]["before"], 1);
    assert_eq!(found["swapped"]["checkpoint"], 2);
    stop(&job, run);
}

/// A job whose `count` hangs for a while at the word `stuck`.
fn that_hangs() -> Job {
    let job = job(
        "on-error = \"skip\", limits.time-per-call = \"10s\", config = { hang-at = \"stuck\" }",
    );
    let text = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    job.write(
        "pipeline.toml",
        text.replace(path_of("word-count"), path_of("misbehaves")),
    );
    job
}

/// Lets the job hang. Returns a command that waits for a checkpoint meanwhile.
fn hang(job: &Job) -> Running {
    append(job, "stuck\n");
    loop {
        let mut trigger = job.start_command(&["checkpoint", "trigger", "."]);
        std::thread::sleep(Duration::from_secs(1));
        if !trigger.has_ended() {
            return trigger;
        }
    }
}

#[test]
fn ctrl_c_cancels_a_swap_until_its_checkpoint_begins() {
    let job = that_hangs();
    let run = started(&job, 1007);
    let trigger = hang(&job);
    let swap = ["swap", ".", "count", "same", "--config", "fail-at=never"];
    let first = job.start_command(&swap);
    wait_until("the swap", || {
        let found = floodmark_control::ask(&job.data_dir(), PATH, None).unwrap();
        found["step"] == "it waits for its checkpoint"
    });
    // Another client is told of it.
    let second = job.command(&swap);
    assert_eq!(second.code, Some(4), "{}", second.stderr);
    second
        .says("another swap is under way for")
        .says("it waits for its checkpoint");
    first.signal("INT");
    let cancelled = first.wait();
    assert_eq!(cancelled.code, Some(130), "{}", cancelled.stderr);
    cancelled.says("the swap was cancelled, and nothing has changed");
    trigger.wait().succeeded();
    was_not_swapped(&job);
    stop(&job, run);
}

#[test]
fn a_second_ctrl_c_ends_a_swap_of_a_job_that_does_not_answer() {
    let job = that_hangs();
    let run = started(&job, 1007);
    let trigger = hang(&job);
    let swap = ["swap", ".", "count", "same", "--config", "fail-at=never"];
    let mut swap = job.start_command(&swap);
    wait_until("the swap", || {
        let found = floodmark_control::ask(&job.data_dir(), PATH, None).unwrap();
        found["step"] == "it waits for its checkpoint"
    });
    run.signal("STOP");
    wait_until("the end of the command", || {
        if swap.has_ended() {
            return true;
        }
        swap.signal("INT");
        false
    });
    run.signal("CONT");
    let ended = swap.wait();
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    trigger.wait().succeeded();
    stop(&job, run);
}

#[test]
fn a_swap_whose_client_dies_is_cancelled() {
    let job = that_hangs();
    let run = started(&job, 1007);
    let trigger = hang(&job);
    let swap = ["swap", ".", "count", "same", "--config", "fail-at=never"];
    let swap = job.start_command(&swap);
    let under_way = || floodmark_control::ask(&job.data_dir(), PATH, None).unwrap();
    wait_until("the swap", || {
        under_way()["step"] == "it waits for its checkpoint"
    });
    swap.kill();
    wait_until("its end", || under_way().is_null());
    trigger.wait().succeeded();
    was_not_swapped(&job);
    stop(&job, run);
}

#[test]
fn a_configuration_loses_a_field() {
    let job = that_hangs();
    let run = started(&job, 1007);
    let without = [
        "swap",
        ".",
        "count",
        "same",
        "--without",
        "hang-at",
        "--config",
        "fail-at=never",
    ];
    job.command(&without).succeeded();
    let again = job.command(&without);
    assert_eq!(again.code, Some(2), "{}", again.stderr);
    let message = "operator `count` has no field `hang-at` in its configuration; there are ";
    again.says(message).says("`fail-at`");
    // The word has no meaning any more.
    append(&job, "stuck\n");
    until_visible(&job, 1008);
    stop(&job, run);
    job.command(&without).says(message);
    let both = [
        "swap",
        ".",
        "count",
        "same",
        "--without",
        "a",
        "--config",
        "a=b",
    ];
    let both = job.command(&both);
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    both.says("`--config` sets `a`");
}

#[test]
fn stop_does_not_wait_for_the_next_run() {
    let job = job("");
    let run = started(&job, 1007);
    let stopping = job.start_command(&["stop", "."]);
    run.wait().succeeded();
    let next = job.start(&[]);
    let stopped = stopping.wait().succeeded();
    assert!(stopped.stderr.contains("stopped with checkpoint"));
    stop(&job, next);
}
