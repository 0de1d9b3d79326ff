//! Catches rows of raw values that another version of the plugin takes for its own, and messages about rows that do not say
//! where they are and what is missing.

use std::fs::File;

use crate::job::{self, Job};
use crate::plugins::plugin;

fn counted() -> Job {
    let job = Job::with_input("a a b\n");
    job.run(&[]).succeeded();
    job
}

#[test]
fn raw_rows_name_their_version_and_fit_no_other() {
    let job = counted();
    let decoded = job.command(&["state", "dump"]).succeeded().stdout;
    assert!(!decoded.contains("version"), "{decoded}");
    let rows = job.command(&["state", "dump", "--raw"]).succeeded().stdout;
    let ends = |row: &str| row.ends_with(",\"version\":1,\"raw\":true}");
    assert!(
        rows.lines().count() == 2 && rows.lines().all(ends),
        "{rows}"
    );
    job.write("rows", &rows);
    let load = ["state", "load", ".", "rows", "--to"];
    let v2 = format!("operator.count.plugin={}", plugin("upgrade-v2").display());
    let refused = job.command(&[&load[..], &["two", "--set", &v2]].concat());
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    refused.says(
        "rows:1: the row has values of version 1 of state `count`, and the plugin of operator `count` has version 2",
    );
    assert!(!job.path("two").exists());
    job.command(&[&load[..], &["one"]].concat()).succeeded();
    let loaded = job.command(&["state", "dump", "--savepoint", "one"]);
    assert_eq!(loaded.succeeded().stdout, decoded);
}

#[test]
fn a_wrong_row_is_named_in_words() {
    let job = counted();
    let good = r#"{"operator":"count","state":"count","key":"a","value":3}"#;
    job.write("rows", format!("{good}\n[1]\n"));
    let mut command = job::command();
    command.args(["state", "load", ".", "-", "--to", "never"]);
    let rows = File::open(job.path("rows")).unwrap();
    let refused = job.spawn_with(command, rows.into()).wait();
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    refused.says("error: standard input, line 2: not a JSON object; a row is a JSON object with `operator`, `state`, `key` and one of `value`, `list` and `map`");
}
