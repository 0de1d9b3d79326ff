//! Catches a savepoint that does not hold what the job had, cannot be carried, starts a job wrongly, or takes something with
//! it that is not its own; and a job that goes back to an older checkpoint with output of a later one.

use std::fs;

use crate::job::{Job, Outcome};
use crate::output::counted_by_tools;

const FIRST: &str = "one two two\n";
const MORE: &str = "two three\n";

#[track_caller]
fn refused(outcome: Outcome, code: i32, words: &str) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    outcome.says(words);
}

/// A job that has counted [`FIRST`], and a savepoint of it.
fn saved() -> (Job, String) {
    let job = Job::with_input(FIRST);
    job.run(&[]).succeeded();
    let file = job.path("saved").to_str().unwrap().to_owned();
    job.command(&["savepoint", "create", ".", "--to", &file])
        .succeeded()
        .says("checkpoint 1 is copied to `");
    (job, file)
}

#[test]
fn a_savepoint_starts_a_job_elsewhere() {
    let (old, file) = saved();
    let job = Job::with_input([FIRST, MORE].concat());
    fs::copy(&file, job.path("carried")).unwrap();
    job.run(&["--from", "carried", "--parallelism", "3"])
        .succeeded()
        .says("resumes from checkpoint 1, ")
        .says("finished: 1 record in, 2 records out");
    // What the old folder has and what the new one has is all, once.
    for part in fs::read_dir(old.path("out")).unwrap() {
        let part = part.unwrap();
        if part.file_type().unwrap().is_file() {
            fs::copy(part.path(), job.path("out").join(part.file_name())).unwrap();
        }
    }
    let all = [FIRST, MORE].concat();
    job.output().is_exactly(&counted_by_tools(all.as_bytes()));
    // From here on it is a job like others.
    job.run(&[])
        .succeeded()
        .says("there was nothing new to read");
    refused(
        job.run(&["--from", "carried"]),
        4,
        "has checkpoints already (the newest is 3), so the job cannot start from `carried`; use another `--data-dir`, `--fresh` to forget them",
    );
}

#[test]
fn a_savepoint_takes_the_output_over_and_takes_back_what_came_later() {
    let (job, file) = saved();
    job.write("in.txt", [FIRST, MORE].concat());
    job.run(&[]).succeeded();
    assert_eq!(job.output().parts(), 2);
    job.run(&["--from", &file, "--data-dir", "elsewhere"])
        .succeeded()
        .says("sink `counts`: 1 part of later checkpoints taken back")
        .says("finished: 1 record in, 2 records out");
    let all = [FIRST, MORE].concat();
    job.output().is_exactly(&counted_by_tools(all.as_bytes()));
    refused(
        job.run(&[]),
        5,
        "holds the output of a run of this job with another data folder",
    );
}

#[test]
fn a_fresh_start_from_a_savepoint_forgets_the_rest() {
    let (job, file) = saved();
    job.write("in.txt", [FIRST, MORE].concat());
    job.run(&[]).succeeded();
    job.run(&["--fresh", "--from", &file])
        .succeeded()
        .says("resumes from checkpoint 1, ")
        .says("sink `counts`: 2 parts of earlier runs removed");
    assert_eq!(job.output().records(), 2);
    assert_eq!(job.checkpoint_ids(), [2, 1]);
}

#[test]
fn a_job_goes_back_to_an_older_checkpoint() {
    let (job, _) = saved();
    let mut text = FIRST.to_owned();
    for _ in 0..2 {
        text += MORE;
        job.write("in.txt", &text);
        job.run(&[]).succeeded();
    }
    refused(
        job.run(&["--from", "9"]),
        4,
        "error: there is no checkpoint 9; there are 3, 2, 1",
    );
    refused(
        job.run(&["--from", "1", "--fresh"]),
        2,
        "`--fresh` forgets the checkpoint that `--from` names",
    );
    assert_eq!(job.checkpoint_ids(), [3, 2, 1]);
    job.run(&["--from", "1"])
        .succeeded()
        .says("checkpoints after 1 are deleted, and their output is taken back: 3, 2")
        .says("sink `counts`: 2 parts of later checkpoints taken back")
        .says("finished: 2 records in, 4 records out");
    job.output().is_exactly(&counted_by_tools(text.as_bytes()));
    assert_eq!(job.checkpoint_ids(), [4, 1]);
}

#[test]
fn a_running_job_makes_savepoints_whatever_its_storage() {
    for storage in ["redb", "memory"] {
        let job = Job::endless("");
        let set = format!("checkpoint.storage={storage}");
        let mut run = job.start(&["--set", &set, "--set", "checkpoint.on-cancel=delete"]);
        run.wait_for("starts from the beginning");
        job.command(&["savepoint", "create", "pipeline.toml", "--to", "one"])
            .succeeded()
            .says("checkpoint 1 is copied to `");
        refused(
            job.command(&["savepoint", "create", ".", "--to", "one"]),
            4,
            "exists; give the savepoint another name",
        );
        job.command(&["stop", ".", "--savepoint", "two"])
            .succeeded()
            .says("stopped with checkpoint 2, copied to `");
        let ended = run.wait().succeeded().says("stopped: ");
        let warned = ended
            .stderr
            .contains("warning: checkpoints are kept in memory only");
        assert_eq!(warned, storage == "memory");
        let stopped = job.output().records();
        // A run from savepoint `two` resumes where the job stopped, and keeps its output.
        let more = format!("source.numbers.records={}", stopped + 1000);
        job.run(&["--from", "two", "--data-dir", "new", "--set", &more])
            .succeeded()
            .says("resumes from checkpoint 2, ");
        let seen = job.output();
        assert_eq!(seen.records(), stopped + 1000);
        seen.is_exactly(&seen.counts());
    }
}

#[test]
fn a_job_runs_on_if_its_savepoint_cannot_be_written() {
    let job = Job::endless("");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    let message = "error: savepoint `/proc/x` cannot be written: ";
    refused(
        job.command(&["stop", ".", "--savepoint", "/proc/x"]),
        4,
        message,
    );
    let create = ["savepoint", "create", ".", "--to", "/proc/x"];
    refused(job.command(&create), 4, message);
    assert!(!run.has_ended());
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    // Without the job, the command writes the savepoint itself.
    refused(job.command(&create), 4, message);
}

#[test]
fn what_is_no_savepoint_is_refused_and_nothing_is_forgotten() {
    let (job, file) = saved();
    job.write("text", "this is none");
    for from in ["text", "nothing-there", "in.txt"] {
        let outcome = job.run(&["--fresh", "--from", from]);
        assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    }
    let groups = "job.max-parallelism=64";
    refused(
        job.run(&["--fresh", "--from", &file, "--set", groups]),
        4,
        "`job.max-parallelism` was `128`, now is `64`",
    );
    assert_eq!(job.checkpoint_ids(), [1]);
    assert_eq!(job.output().records(), 3);
}

#[test]
fn another_graph_takes_over_what_it_has_a_place_for() {
    let (job, file) = saved();
    // `split` has no state and may go; `count` is found by its name, behind another operator; `again` is new.
    let pipeline = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    let changed = pipeline
        .replace("[operator.split]", "[operator.cut]")
        .replace("from = \"split\"", "from = \"cut\"");
    let other = Job::with_input([FIRST, MORE].concat());
    other.write("pipeline.toml", changed);
    other
        .run(&["--from", &file])
        .succeeded()
        .says("operator `split` was removed")
        .says("operator `cut` is new: it starts without state")
        .says("operator `count` read from `split.out` by `in`, now reads from `cut.out`");
    assert_eq!(other.output().records(), 2);

    let renamed = pipeline
        .replace("[operator.count]", "[operator.tally]")
        .replace("from = \"count\"", "from = \"tally\"");
    let other = Job::with_input([FIRST, MORE].concat());
    other.write("pipeline.toml", renamed);
    refused(
        other.run(&["--from", &file]),
        4,
        "state `count` of operator `count`; restore the operator or state, or leave it behind with `--allow-dropped-state`",
    );
    other
        .run(&["--from", &file, "--allow-dropped-state"])
        .succeeded()
        .says("operator `tally` is new: it starts without state")
        .says("warning: state `count` of operator `count` is left behind");
    other
        .output()
        .is_exactly(&counted_by_tools(MORE.as_bytes()));
}
