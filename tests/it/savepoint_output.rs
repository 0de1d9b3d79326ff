//! Catches a job that starts from a savepoint and continues without output that the savepoint counts, since that was taken
//! back or moved away, and a total that includes files which are somewhere else.

use std::fs;

use crate::job::{Job, Outcome};

/// Runs a job up to this number of records, one checkpoint a run.
fn run(job: &Job, records: u64, more: &[&str]) -> Outcome {
    let records = format!("source.numbers.records={records}");
    job.run(&[&["--set", records.as_str()], more].concat())
}

/// A job with a savepoint of its checkpoint 2.
fn saved() -> Job {
    let job = Job::endless("checkpoint.interval = \"off\"\ncheckpoint.retained = 10");
    run(&job, 1000, &[]).succeeded();
    run(&job, 2000, &[]).succeeded();
    job.command(&["savepoint", "create", ".", "--to", "two"])
        .succeeded();
    job
}

#[test]
fn a_savepoint_whose_output_was_taken_back_is_refused() {
    let job = saved();
    job.command(&["rollback", ".", "--to", "1"]).succeeded();
    run(&job, 2500, &[]).succeeded();
    let before = job.output();
    let from = ["--from", "two", "--data-dir", "other"];
    let refused = run(&job, 3000, &from);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    let words = "lacks output that checkpoint 2 counts: the job returned to checkpoint 1 since, and took it back (`part-00000002-000.csv`)";
    refused.says(words);
    assert!(before == job.output(), "nothing was touched");
    assert!(!job.path("other/checkpoints.redb").exists());
    run(&job, 3000, &from).says(words);
    // The ways on that the message names. The job itself continues where it is.
    run(&job, 2600, &[]).succeeded();
    assert_eq!(job.output().records(), 2600);
    let fresh = [&from[..], &["--fresh"]].concat();
    run(&job, 3000, &fresh)
        .succeeded()
        .says(" in 3 parts of all runs, 1 of them in `");
    assert_eq!(job.output().records(), 1000);
}

#[test]
fn parts_that_were_moved_away_are_a_warning() {
    let job = saved();
    fs::rename(job.path("out/part-00000001-000.csv"), job.path("aside")).unwrap();
    run(&job, 2500, &[]).succeeded().says(
        "warning: sink `counts`: of 2 parts that the checkpoint counts, 1 is not in its folder",
    );
    fs::rename(job.path("aside"), job.path("out/part-00000001-000.csv")).unwrap();
    let outcome = run(&job, 3000, &[]).succeeded();
    assert!(
        !outcome.stderr.contains("warning: sink"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_total_says_which_parts_are_in_another_folder() {
    let job = saved();
    let more = [
        "--from",
        "two",
        "--data-dir",
        "other",
        "--set",
        "sink.counts.path=new",
    ];
    let outcome = run(&job, 2500, &more)
        .succeeded()
        .says("2500 records, ")
        .says(" in 3 parts of all runs, 1 of them in `");
    assert!(
        !outcome.stderr.contains("warning: sink"),
        "{}",
        outcome.stderr
    );
}
