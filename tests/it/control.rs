//! Catches a running job that cannot be asked for a checkpoint or a stop, does something else than it was asked, or answers
//! before it is true; and settings of checkpoints that have no effect.

use std::fs;

use crate::job::{Job, Outcome, Running};
use crate::output::counted_by_tools;
use crate::plugins::plugin;

/// A job without an end that takes no checkpoint of its own.
fn endless() -> Job {
    Job::endless("checkpoint.interval = \"off\"")
}

/// Asks for a checkpoint until the job listens and has taken one.
#[track_caller]
fn triggered(job: &Job, run: &mut Running) -> String {
    run.wait_for("starts from the beginning");
    job.command(&["checkpoint", "trigger", "pipeline.toml"])
        .succeeded()
        .stdout
}

#[track_caller]
fn refused(outcome: Outcome, code: i32, words: &str) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    outcome.says(words);
}

#[test]
fn a_running_job_takes_a_checkpoint_when_asked() {
    let job = endless();
    let mut run = job.start(&[]);
    assert_eq!(triggered(&job, &mut run), "checkpoint 1 completed\n");
    run.wait_for("checkpoint 1 completed");
    let seen = job.output().records();
    let data_dir = job.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    // A folder of a pipeline, a data folder, and a data folder by its name are the same job.
    for (id, named) in [
        (2, vec!["."]),
        (3, vec![data_dir]),
        (4, vec!["--data-dir", data_dir]),
    ] {
        let outcome = job.command(&[&["checkpoint", "trigger"], &named[..]].concat());
        assert_eq!(
            outcome.succeeded().stdout,
            format!("checkpoint {id} completed\n")
        );
    }
    assert!(job.output().records() >= seen);
    job.command(&["stop", "pipeline.toml"])
        .succeeded()
        .says("stopped with checkpoint 5");
    run.wait().succeeded().says("stopped: ");
    let checkpoints = job.checkpoint(&["list"]);
    let triggers: Vec<_> = (0..3)
        .map(|at| checkpoints[at]["trigger"].clone())
        .collect();
    assert_eq!(triggers, ["stop", "asked for", "asked for"]);
    assert!(!job.data_dir().join("control.sock").exists());
    for command in [&["stop"][..], &["checkpoint", "trigger"]] {
        let not_running = job.command(&[command, &["pipeline.toml"]].concat());
        refused(not_running, 4, "error: no job runs on the data folder `");
    }
    let seen = job.output();
    seen.is_exactly(&seen.counts());
}

#[test]
fn a_drained_job_is_finished() {
    let job = endless();
    let mut run = job.start(&["--parallelism", "2"]);
    triggered(&job, &mut run);
    job.command(&["stop", "--drain", "."])
        .succeeded()
        .says("stopped with checkpoint 2");
    run.wait().succeeded().says("finished: ");
    assert_eq!(job.checkpoint(&["show"])["trigger"], "end of input");
    let seen = job.output();
    seen.is_exactly(&seen.counts());
    assert!(seen.records() > 0);
}

#[test]
fn a_job_that_is_stopped_for_good_leaves_no_checkpoints() {
    let job = endless();
    let mut run = job.start(&["--set", "checkpoint.on-cancel=delete"]);
    triggered(&job, &mut run);
    job.command(&["stop", "."]).succeeded();
    run.wait()
        .succeeded()
        .says("; its checkpoints are deleted, as `checkpoint.on-cancel` says");
    assert!(!job.data_dir().join("checkpoints.redb").exists());
    assert!(job.output().records() > 0);
}

#[test]
fn a_job_whose_end_is_that_of_its_input_keeps_its_checkpoints() {
    let job = Job::with_input("a b");
    job.run(&["--set", "checkpoint.on-cancel=delete"])
        .succeeded();
    assert_eq!(job.checkpoint_ids(), [1]);
}

#[test]
fn so_many_failures_are_too_many() {
    let job = endless();
    let run = job.start(&[
        "--set",
        "checkpoint.interval=50ms",
        "--set",
        "checkpoint.tolerable-failures=1",
    ]);
    let mut run = run;
    run.wait_for("checkpoint 1 completed");
    fs::remove_dir_all(job.data_dir()).unwrap();
    let outcome = run.wait();
    refused(
        outcome,
        4,
        "error: 2 checkpoints in a row have failed (the last one: ",
    );
}

#[test]
fn at_least_once_is_whole_where_nothing_fails() {
    let text = crate::text::text(1_000_000, 5);
    let job = Job::with_input(&text);
    job.run(&[
        "--parallelism",
        "3",
        "--set",
        "checkpoint.mode=at-least-once",
        "--set",
        "checkpoint.interval=10ms",
        "--set",
        "source.text.split-bytes=100000",
    ])
    .succeeded();
    job.output().is_exactly(&counted_by_tools(&text));
}

#[test]
fn state_is_not_left_behind_unasked() {
    let job = Job::with_input("a b a\n");
    job.run(&[]).succeeded();
    let other = format!("operator.count.plugin={}", plugin("word-split").display());
    let arguments = ["--set", &other];
    refused(
        job.run(&arguments),
        4,
        "error: checkpoint 1 has state that this pipeline does not declare: state `count` of operator `count`; restore the operator or state, or leave it behind with `--allow-dropped-state`",
    );
    assert_eq!(job.checkpoint_ids(), [1]);
    job.run(&[&arguments[..], &["--allow-dropped-state"]].concat())
        .succeeded()
        .says("warning: state `count` of operator `count` is left behind");
    // The state is gone: the next run needs no flag, and a later count starts at one.
    job.run(&arguments).succeeded();
    fs::remove_dir_all(job.path("out")).unwrap();
    job.write("in.txt", "a b a\na\n");
    job.run(&["--fresh"]).succeeded();
    job.output().is_exactly(&counted_by_tools(b"a b a a"));
}
