//! `floodmark replay`: what would this plugin have done with these records and this state?
//!
//! Catches a replay that changes the job that it looks at, that prints other bytes the second time, that begins with another
//! state than the checkpoint's, or that lets a record that fails spoil the next ones.

use serde_json::Value;

use crate::job::{Job, Outcome};
use crate::plugins::plugin;

/// A job that has counted three words, and has more to read.
fn counted() -> Job {
    let job = Job::with_input("rain sun rain\n");
    job.run(&[]).succeeded();
    job.write("in.txt", "rain sun rain\nrain wind\nsun\n");
    job
}

fn replay(job: &Job, arguments: &[&str]) -> Outcome {
    job.command(&[&["replay", "pipeline.toml"], arguments].concat())
}

/// Each line as `key value, changes of the state, or the failure`.
fn told(outcome: Outcome) -> Vec<String> {
    let outcome = outcome.succeeded();
    let lines = outcome.stdout.lines();
    let told = lines.map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(summary) = line.get("summary") {
            return summary.to_string();
        }
        let output = line["output"].as_array().unwrap().iter();
        let output: Vec<_> = output
            .map(|record| record["value"].as_str().unwrap())
            .collect();
        let states = line["states"].as_array().unwrap().iter();
        let states: Vec<_> = states
            .map(|state| {
                format!(
                    "{}: {} to {}",
                    state["state"], state["before"], state["after"]
                )
            })
            .collect();
        let failed = if line["failure"].is_null() {
            ""
        } else {
            " failed"
        };
        let (key, output, states) = (&line["key"], output.join(" "), states.join(" "));
        format!("{} [{output}] {states}{failed}", key.as_str().unwrap())
    });
    told.collect()
}

#[test]
fn records_after_a_checkpoint_meet_its_state_and_change_nothing() {
    let job = counted();
    let before = job.output();
    let files = job.checkpoint(&["list"]);
    let first = replay(&job, &["--operator", "count", "--from", "1", "--json"]);
    let again = replay(&job, &["--operator", "count", "--json"]);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(
        told(first),
        [
            "rain [3] \"count\": 2 to 3",
            "wind [1] \"count\": null to 1",
            "sun [2] \"count\": 1 to 2",
            "{\"failed\":0,\"output\":3,\"records\":3}",
        ]
    );
    let page = replay(&job, &["--operator", "count", "--records", "1"]).succeeded();
    assert!(
        page.stdout.ends_with(
            "#1  \"rain\" \"\"  (source `text`: `in.txt`, bytes 14 to 24)\n    output `out`: \"rain\" \"3\"\n    state `count`: 3, was 2\n1 record in, 1 record out, 0 failed\n"
        ),
        "{}",
        page.stdout
    );
    // An ancestor's records are one a line, and have no state.
    let split = told(replay(
        &job,
        &["--operator", "split", "--json", "--records", "1"],
    ));
    assert_eq!(split.len(), 2);
    assert!(split[1].contains("\"output\":2"), "{split:?}");
    assert!(job.output().is_same_as(&before));
    assert_eq!(job.checkpoint(&["list"]), files);
    // The job reads what was replayed, as if it were new.
    job.run(&[]).succeeded();
    let none = told(replay(&job, &["--operator", "count", "--json"]));
    assert_eq!(none, ["{\"failed\":0,\"output\":0,\"records\":0}"]);
}

#[test]
fn another_plugin_is_asked_in_its_place() {
    let job = counted();
    let with = |name: &str, more: &[&str]| {
        let path = plugin(name).display().to_string();
        let arguments = ["--operator", "count", "--json", "--plugin", &path];
        told(replay(&job, &[&arguments, more].concat()))
    };
    // A newer version, which takes the values over.
    let newer = with("upgrade-v2", &[]);
    assert!(newer[0].starts_with("rain [3 "), "{newer:?}");
    assert!(newer[1].starts_with("wind [1 "), "{newer:?}");
    // One that cannot stand a word. The others have the state as it was.
    let misbehaving = with("misbehaves", &["--config", "panic-at=wind"]);
    assert_eq!(
        misbehaving,
        [
            "rain [3] \"count\": 2 to 3",
            "wind []  failed",
            "sun [2] \"count\": 1 to 2",
            "{\"failed\":1,\"output\":2,\"records\":3}",
        ]
    );
}

#[test]
fn what_cannot_be_replayed_is_refused() {
    let job = counted();
    let dedupe = plugin("dedupe").display().to_string();
    let savepoint = job.path("carried").display().to_string();
    let checks: [(&[&str], i32, &str); 5] = [
        (
            &[],
            2,
            "which operator? There are `count`, `split`; name one with `--operator`",
        ),
        (
            &["--operator", "coun"],
            2,
            "the pipeline has no operator `coun`; did you mean `count`?",
        ),
        (
            &["--operator", "count", "--from", "9"],
            4,
            "no checkpoint 9",
        ),
        (&["--operator", "count", "--from", &savepoint], 4, "carried"),
        (
            &["--operator", "count", "--plugin", &dedupe],
            4,
            "it has saved state `count`, but the plugin declares no state of that name",
        ),
    ];
    for (arguments, code, says) in checks {
        let refused = replay(&job, arguments);
        assert_eq!(
            refused.code,
            Some(code),
            "{arguments:?}: {}",
            refused.stderr
        );
        refused.says(says);
    }
    job.command(&["savepoint", "create", ".", "--to", &savepoint])
        .succeeded();
    let carried = replay(
        &job,
        &["--operator", "count", "--from", &savepoint, "--json"],
    );
    assert_eq!(told(carried).len(), 4);
}
