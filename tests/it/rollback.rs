//! Catches a job that goes back with its state but not its code, or the other way round, keeps output of what was undone, or
//! changes something although the job cannot go back to the checkpoint.

use std::collections::BTreeSet;
use std::fs;

use crate::job::{self, Job, Outcome};
use crate::plugins::plugin;

/// A job without an end that takes checkpoints when it is told to.
fn endless() -> Job {
    Job::endless("checkpoint.interval = \"off\"\ncheckpoint.retained = 10")
}

fn trigger(job: &Job) {
    job.command(&["checkpoint", "trigger", "."]).succeeded();
}

#[test]
fn a_running_job_goes_back_and_on() {
    let job = endless();
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    for _ in 0..3 {
        trigger(&job);
    }
    let refused = job.command(&["rollback", ".", "--to", "7"]);
    assert_eq!(refused.code, Some(4));
    refused.says("there is no checkpoint 7");
    assert_eq!(job.checkpoint_ids(), [3, 2, 1]);
    let said = job
        .command(&["rollback", ".", "--to", "1"])
        .succeeded()
        .stdout;
    assert!(said.starts_with("rolled back to checkpoint 1, "), "{said}");
    assert!(
        said.contains("later checkpoints are deleted, and their output is taken back: 2, 3; the job runs from there; checkpoint 4\n"),
        "{said}"
    );
    assert_eq!(job.checkpoint_ids(), [4, 1]);
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded().says("rolled back to checkpoint 1, ");
    let seen = job.output();
    let shown = job.checkpoint(&["show"]);
    assert_eq!(shown["records-out"], seen.records());
    seen.is_exactly(&seen.counts());
}

#[test]
fn a_crash_on_the_way_leaves_one_or_the_other() {
    for (point, newest) in [
        ("rollback-asked", 2),
        ("rollback-joined", 2),
        ("rollback-deleted", 1),
        ("rollback-begun", 1),
    ] {
        let job = endless();
        let mut command = job::command();
        command
            .args(["run", "pipeline.toml"])
            .env("FLOODMARK_CRASH_AT", format!("{point}:1"));
        let mut run = job.spawn(command);
        run.wait_for("starts from the beginning");
        trigger(&job);
        trigger(&job);
        let asked = job.command(&["rollback", ".", "--to", "1"]);
        assert_eq!(asked.code, Some(4), "{point}: {}", asked.stderr);
        assert_eq!(run.wait().code, None, "{point}");
        assert_eq!(job.checkpoint_ids()[0], newest, "{point}");
        let mut run = job.start(&[]);
        run.wait_for("resumes from checkpoint ");
        trigger(&job);
        job.command(&["stop", "."]).succeeded();
        run.wait().succeeded();
        let seen = job.output();
        seen.is_exactly(&seen.counts());
    }
}

/// The last three values of each key, or as many as the configuration says.
fn history(length: u32) -> String {
    format!(
        r#"
job.name = "words"
source.lines = {{ connector = "file", path = "in.txt", format = "lines", key-separator = "\t" }}
operator.last = {{ plugin = {:?}, from = "lines", config.length = {length} }}
sink.lists = {{ connector = "file", from = "last", path = "lists", format = "csv" }}
"#,
        plugin("history")
    )
}

fn lines(from: u32, to: u32) -> String {
    (from..to).map(|n| format!("k{}\tv{n}\n", n % 3)).collect()
}

/// Each line of the output.
fn lists(job: &Job) -> BTreeSet<String> {
    let mut lists = BTreeSet::new();
    for entry in fs::read_dir(job.path("lists")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = fs::read_to_string(path).unwrap();
            lists.extend(text.lines().map(str::to_owned));
        }
    }
    lists
}

#[test]
fn code_and_state_of_a_stopped_job_go_back_together() {
    let job = Job::new();
    let run = |length, to| {
        job.write("pipeline.toml", history(length));
        job.write("in.txt", lines(0, to));
        job.run(&[]).succeeded()
    };
    run(4, 20);
    run(2, 40);
    assert_eq!(job.checkpoint_ids(), [2, 1]);
    let later = lists(&job);
    let said = job
        .command(&["rollback", ".", "--to", "1"])
        .succeeded()
        .stdout;
    assert!(
        said.contains("their output is taken back: 2; the next run resumes from there\n"),
        "{said}"
    );
    assert!(
        said.contains(
            "operator `last`: continues with another configuration than the pipeline names"
        ),
        "{said}"
    );
    assert_eq!(job.checkpoint_ids(), [1]);
    run(2, 60).says(", in place of that of the pipeline");
    let shown = job.checkpoint(&["show"]);
    assert_eq!(shown["id"], 3);
    // As if the later part had not been.
    let undisturbed = Job::new();
    for to in [20, 60] {
        undisturbed.write("pipeline.toml", history(4));
        undisturbed.write("in.txt", lines(0, to));
        undisturbed.run(&[]).succeeded();
    }
    assert_eq!(lists(&job), lists(&undisturbed));
    assert_ne!(lists(&job), later);
    // The checkpoint says it now, and the note is no longer needed.
    fs::remove_file(job.data_dir().join("rollback")).unwrap();
    run(2, 61).says(", in place of that of the pipeline");
    // Once the pipeline names another, it wins.
    run(3, 62).says("so what the pipeline names is used");
    run(3, 63);
    let refused = job.command(&["rollback", ".", "--to", "2"]);
    assert_eq!(refused.code, Some(4));
    refused.says("there is no checkpoint 2");
}

/// A stopped job whose checkpoints have output of their own, and another plugin for it.
fn stopped(more: &str) -> Job {
    let job = Job::new();
    job.write("pipeline.toml", job::pipeline() + more);
    let mut component = fs::read(plugin("word-count")).unwrap();
    component.extend_from_slice(&[0, 2, 1, b'b']);
    job.write("other.wasm", component);
    let mut text = String::new();
    for more in ["a\n", "a b\n", "a b c\n"] {
        text += more;
        job.write("in.txt", &text);
        job.run(&[]).succeeded();
    }
    job
}

fn swap(job: &Job) -> Outcome {
    job.command(&["swap", ".", "count", "other.wasm"])
}

/// Runs the job, which has read all of its input then, and asserts that no count is visible twice.
#[track_caller]
fn shows_each_count_once(job: &Job) {
    job.run(&[]).succeeded();
    let seen = job.output();
    assert_eq!(seen.records(), 6);
    seen.is_exactly(&seen.counts());
}

/// Catches output of deleted checkpoints that a checkpoint written meanwhile takes for its own.
#[test]
fn a_swap_after_a_stopped_rollback_shows_nothing_twice() {
    let job = stopped("");
    let to = job.checkpoint_ids().last().unwrap().to_string();
    let said = job.command(&["rollback", ".", "--to", &to]).succeeded();
    assert!(said.stdout.contains("deleted"), "{}", said.stdout);
    swap(&job).succeeded();
    shows_each_count_once(&job);
}

/// The same, if the process dies before that output is taken back.
#[test]
fn a_swap_waits_for_a_start_after_a_rollback_that_was_killed() {
    let job = stopped("");
    let to = job.checkpoint_ids().last().unwrap().to_string();
    let mut command = job::command();
    command
        .args(["rollback", ".", "--to", &to])
        .env("FLOODMARK_CRASH_AT", "rollback-deleted");
    assert_eq!(job.spawn(command).wait().code, None);
    assert_eq!(job.checkpoint_ids().len(), 1);
    let refused = swap(&job).says("their output may still be visible; run the job once");
    assert_eq!(refused.code, Some(4));
    shows_each_count_once(&job);
    swap(&job).succeeded();
    shows_each_count_once(&job);
}

/// Catches output of a checkpoint that a user has deleted, where ids do not show that.
#[test]
fn a_swap_waits_for_a_start_after_the_newest_object_was_deleted() {
    let objects = tempfile::tempdir().unwrap();
    let job = stopped(&format!(
        "\n[checkpoint]\nstorage = \"file://{}\"\n",
        objects.path().join("objects").display()
    ));
    let newest = job.checkpoint_ids()[0].to_string();
    job.command(&[
        "checkpoint",
        "delete",
        &newest,
        "--newest",
        "--pipeline",
        ".",
    ])
    .succeeded();
    swap(&job).says("their output may still be visible; run the job once");
    shows_each_count_once(&job);
    swap(&job).succeeded();
    shows_each_count_once(&job);
}

/// Catches a rollback that uses up the id of the next checkpoint, with objects in a folder.
#[test]
fn a_running_job_goes_back_in_a_folder_of_objects() {
    let job = endless();
    let storage = format!(
        "checkpoint.storage=file://{}",
        job.path("objects").display()
    );
    let mut run = job.start(&["--set", &storage]);
    run.wait_for("starts from the beginning");
    for round in 0..2 {
        for _ in 0..3 {
            trigger(&job);
        }
        let to = job.checkpoint_ids()[2].to_string();
        let back = job.command(&["rollback", ".", "--to", &to]).succeeded();
        assert!(
            back.stdout.contains("the job runs from there"),
            "{round}: {}",
            back.stdout
        );
    }
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    let seen = job.output();
    seen.is_exactly(&seen.counts());
}

/// Catches two rollbacks that write each other's note in the data folder.
#[test]
fn rollbacks_at_the_same_time_are_carried_out_or_refused() {
    let job = endless();
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    trigger(&job);
    let asked = (0..6).map(|_| job.start_command(&["rollback", ".", "--to", "1"]));
    let asked: Vec<_> = asked.collect();
    let mut done = 0;
    for outcome in asked.into_iter().map(|run| run.wait()) {
        match outcome.code {
            Some(0) => done += 1,
            _ => drop(outcome.says("the job is already being rolled back")),
        }
    }
    assert!(done > 0);
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
}
