//! The commands that look into checkpoints and state, and those that make state.
//!
//! Catches values that are shown otherwise than the plugin means them, keys that a dump leaves out or a load changes, a diff
//! that misses a key, a command that changes a checkpoint or disturbs a job, and a deletion that takes too much.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::job::{Job, Outcome};

/// A job that has counted three words, twice.
fn counted() -> Job {
    let job = Job::with_input("rain sun rain\n");
    job.run(&[]).succeeded();
    job.write("in.txt", "rain sun rain\nrain wind\n");
    job.run(&[]).succeeded();
    job
}

fn rows(dump: &Outcome) -> Vec<Value> {
    let lines = dump.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn row(key: &str, value: u64) -> Value {
    json!({ "operator": "count", "state": "count", "key": key, "value": value })
}

fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn state_is_shown_as_its_plugin_means_it() {
    let job = counted();
    let before = bytes_of(&job.data_dir());
    let got = job
        .command(&["state", "get", "count", "count", "rain"])
        .succeeded();
    assert_eq!(got.stdout, "3\n");
    let got = job.command(&[
        "state",
        "get",
        "count",
        "count",
        "rain",
        "--checkpoint",
        "1",
        "--json",
    ]);
    assert_eq!(rows(&got.succeeded()), [row("rain", 2)]);
    let hex = job.command(&[
        "state", "get", "count", "count", "7261696e", "--hex", "--raw",
    ]);
    assert_eq!(hex.succeeded().stdout, "\"\\u0003\"\n");

    let dump = job.command(&["state", "dump"]).succeeded();
    assert_eq!(rows(&dump), [row("rain", 3), row("sun", 1), row("wind", 1)]);
    let csv = job.command(&["state", "dump", "count", "count", "--format", "csv"]);
    assert_eq!(
        csv.succeeded().stdout,
        "operator,state,key,sub-key,value\ncount,count,rain,,3\ncount,count,sun,,1\ncount,count,wind,,1\n"
    );
    let list = job
        .command(&["state", "list", "--count", "--json"])
        .succeeded();
    let list: Value = serde_json::from_str(&list.stdout).unwrap();
    assert_eq!(list["states"][0]["keys"], 3);
    assert_eq!(list["states"][0]["kind"], "value");

    for (arguments, code, says) in [
        (
            ["coun", "count", "rain"],
            2,
            "checkpoint 2 has no operator `coun`; did you mean `count`?",
        ),
        (
            ["count", "cont", "rain"],
            2,
            "operator `count` has no state `cont`; did you mean `count`?",
        ),
        (
            ["count", "count", "snow"],
            6,
            "key `snow` has no value in state `count` of operator `count` as of checkpoint 2",
        ),
    ] {
        let refused = job.command(&[&["state", "get"][..], &arguments].concat());
        assert_eq!(refused.code, Some(code), "{}", refused.stderr);
        refused.says(says);
    }
    let absent = job.command(&["state", "get", "count", "count", "snow", "--json"]);
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(6), "null\n"));
    assert_eq!(
        bytes_of(&job.data_dir()),
        before,
        "looking has changed something"
    );
}

#[test]
fn a_difference_names_each_key() {
    let job = counted();
    let diff = job
        .command(&["checkpoint", "diff", "1", "2", "--keys", "--json"])
        .succeeded();
    let diff: Value = serde_json::from_str(&diff.stdout).unwrap();
    assert_eq!(diff["records-in"], 1);
    let counts = diff["operators"].as_array().unwrap().iter();
    let count = counts
        .filter(|operator| operator["name"] == "count")
        .collect::<Vec<_>>();
    let state = &count[0]["states"][0];
    assert_eq!(
        (
            &state["new"],
            &state["gone"],
            &state["changed"],
            &state["same"]
        ),
        (&json!(1), &json!(0), &json!(1), &json!(1))
    );
    assert_eq!(state["keys"], json!([["~", "rain"], ["+", "wind"]]));
    let text = job
        .command(&["checkpoint", "diff", "2", "1", "--keys"])
        .succeeded();
    assert!(
        text.stdout
            .contains("0 new, 1 gone, 1 changed, 1 unchanged"),
        "{}",
        text.stdout
    );
    assert!(text.stdout.contains("- wind"), "{}", text.stdout);
}

#[test]
fn rows_become_a_savepoint() {
    let job = counted();
    job.command(&["savepoint", "create", ".", "--to", "base"])
        .succeeded();
    let dump = job
        .command(&["state", "dump", "--savepoint", "base"])
        .succeeded();
    job.write(
        "rows",
        dump.stdout.replace(
            "\"key\":\"rain\",\"value\":3",
            "\"key\":\"rain\",\"value\":100",
        ),
    );
    job.command(&[
        "state", "load", ".", "rows", "--to", "mended", "--base", "base",
    ])
    .succeeded();
    job.command(&["checkpoint", "verify", "--savepoint", "mended"])
        .succeeded();
    job.write("in.txt", "rain sun rain\nrain wind\nrain\n");
    let elsewhere = [
        "--from",
        "mended",
        "--data-dir",
        "other",
        "--set",
        "sink.counts.path=there",
    ];
    job.run(&elsewhere).succeeded();
    let got = job.command(&[
        "state",
        "get",
        "count",
        "count",
        "rain",
        "--data-dir",
        "other",
    ]);
    assert_eq!(got.succeeded().stdout, "101\n");

    // Without a base the input is read from its beginning.
    job.command(&["state", "load", ".", "rows", "--to", "fresh"])
        .succeeded()
        .says("reads its sources from the beginning");
    let elsewhere = [
        "--from",
        "fresh",
        "--data-dir",
        "third",
        "--set",
        "sink.counts.path=third-out",
    ];
    job.run(&elsewhere).succeeded();
    let got = job.command(&[
        "state",
        "get",
        "count",
        "count",
        "rain",
        "--data-dir",
        "third",
    ]);
    assert_eq!(got.succeeded().stdout, "104\n");

    for (rows, says) in [
        (
            "{\"operator\":\"count\"}\n",
            "rows:1: missing field `state`",
        ),
        (
            "\n{\"operator\":\"count\",\"state\":\"count\",\"key\":\"a\",\"value\":\"x\"}\n",
            "rows:2: ",
        ),
        (
            "{\"operator\":\"count\",\"state\":\"count\",\"key\":\"a\",\"list\":[1]}\n",
            "so the row needs the field `value`",
        ),
    ] {
        job.write("rows", rows);
        let refused = job.command(&["state", "load", ".", "rows", "--to", "never"]);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        refused.says(says);
        assert!(!job.path("never").exists());
    }
}

#[test]
fn deleting_and_compacting_take_what_is_named() {
    let job = counted();
    let newest = job.command(&["checkpoint", "delete", "2"]);
    assert_eq!(newest.code, Some(2));
    newest.says("pass `--newest` to delete it anyway");
    job.command(&["checkpoint", "delete", "9"])
        .says("none was deleted");
    job.command(&["checkpoint", "delete", "1"]).succeeded();
    assert_eq!(job.checkpoint_ids(), [2]);
    job.command(&["checkpoint", "compact"]).succeeded();
    job.command(&["checkpoint", "verify"]).succeeded();
    job.run(&[]).succeeded();
    job.command(&["checkpoint", "delete", "2", "3", "--newest"]);
    let left = job.checkpoint_ids();
    assert!(left.is_empty() || left == [3], "{left:?}");
    assert_eq!(job.output().records(), 5);
}

#[test]
fn checkpoints_in_a_folder_are_found_by_the_data_folder() {
    let job = Job::with_input("rain sun\n");
    let storage = format!(
        "checkpoint.storage=file://{}",
        job.path("kept")
            .canonicalize()
            .unwrap_or(job.path("kept"))
            .display()
    );
    job.run(&["--set", &storage]).succeeded();
    assert!(!job.data_dir().join("checkpoints.redb").exists());
    let got = job.command(&[
        "state",
        "get",
        "count",
        "count",
        "rain",
        "--data-dir",
        ".floodmark/words",
    ]);
    assert_eq!(got.succeeded().stdout, "1\n");
    job.write("in.txt", "rain sun\nrain\n");
    job.run(&["--set", &storage])
        .succeeded()
        .says("resumes from checkpoint");
    job.command(&["checkpoint", "verify"]).succeeded();
    // From there to a file of its own, and on in redb.
    job.command(&[
        "savepoint",
        "create",
        "--data-dir",
        ".floodmark/words",
        "--to",
        "carried",
    ]);
    assert!(job.path("carried").exists());
    // It does not start over elsewhere, nor does another job take its checkpoints for its own.
    let elsewhere = job.run(&[]);
    assert_eq!(elsewhere.code, Some(4), "{}", elsewhere.stderr);
    elsewhere.says("and `checkpoint.storage` says redb");
    let other = Job::with_input("snow\n");
    let taken = other.run(&[
        "--set",
        &storage,
        "--set",
        "job.name=other",
        "--data-dir",
        "there",
    ]);
    assert_eq!(taken.code, Some(4), "{}", taken.stderr);
    taken.says("belong to job `words`, but this is job `other`");

    let memory = Job::with_input("rain sun\n");
    memory
        .run(&["--set", "checkpoint.storage=memory"])
        .succeeded();
    let refused = memory.command(&["checkpoint", "list"]);
    assert_eq!(refused.code, Some(4));
    refused.says("keeps its checkpoints in memory");
}
