//! Catches a job that leaves its user alone: one that waits without saying so, cannot be hurried, stopped or found, or says what
//! only its authors understand.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::job::{Job, Running};
use crate::plugins::plugin;

const GOOD: &str = "all is well\n";

/// Starts a job that fails at its first record after a checkpoint, and then waits for an hour.
fn waiting() -> (Job, Running) {
    let job = Job::with_input(GOOD);
    job.run(&[]).succeeded();
    job.write("in.txt", [GOOD, "one bad\n"].concat());
    let plugin = format!("operator.count.plugin={}", plugin("misbehaves").display());
    let settings = [
        plugin.as_str(),
        "operator.count.config.panic-at=bad",
        "restart.strategy=fixed-delay",
        "restart.delay=1h",
        "restart.attempts=2",
    ];
    let settings: Vec<_> = settings
        .iter()
        .flat_map(|setting| ["--set", *setting])
        .collect();
    let mut run = job.start(&settings);
    run.wait_for("(attempt 1 of 2, after 1 h 0 min)");
    (job, run)
}

fn status(job: &Job) -> Value {
    let told = job.command(&["status", ".", "--json"]).succeeded();
    serde_json::from_str(&told.stdout).unwrap()
}

#[test]
fn a_job_that_waits_says_so_and_can_be_told_to_retry() {
    let (job, mut run) = waiting();
    run.wait_for("waiting after a failure: attempt 1 of 2 in ");
    let told = status(&job);
    assert_eq!(told["state"], "RESTARTING");
    assert_eq!(told["waiting"]["attempt"], 1);
    assert_eq!(told["waiting"]["attempts-max"], 2);
    // It counts a restart when it happens.
    assert_eq!(told["restarts"], 0);
    let screen = job.command(&["status", "."]).succeeded().stdout;
    assert!(
        screen.contains("  waiting      attempt 1 of 2 in "),
        "{screen}"
    );

    let asked = job.command(&["retry", "."]).succeeded();
    assert!(
        asked.stdout.starts_with(
            "the job restarts now, from checkpoint 1; it had failed: operator `count` crashed"
        ),
        "{}",
        asked.stdout
    );
    run.wait_for("restarting now, as requested; attempts count from 1 again");
    // The cause is still there. Without the retry this would be attempt 2.
    let again = "(attempt 1 of 2, after 1 h 0 min)";
    while run.stderr().matches(again).count() < 2 {
        assert!(!run.has_ended(), "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status(&job)["restarts"], 1);
    run.signal("TERM");
    run.wait().succeeded();
    let log = fs::read_to_string(job.data_dir().join("failures")).unwrap();
    let ends = log.lines().filter(|line| line.contains("ended-ms")).count();
    assert_eq!(ends, 2, "{log}");
}

#[test]
fn a_job_that_does_not_wait_refuses_to_retry() {
    let job = Job::endless("");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    // It may not have begun yet, which is refused likewise.
    let refused = job.command(&["retry", ".", "--json"]);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused.says("the job does not wait after a failure, so there is nothing to retry");
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
}

#[test]
fn a_job_whose_socket_was_removed_is_named_and_makes_it_again() {
    let job = Job::endless("");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    status(&job);
    let id = fs::read_to_string(job.data_dir().join("lock")).unwrap();
    let named = format!("process {} uses the data folder `", id.trim());
    let hint = format!("end it with `kill {}`, which stops", id.trim());
    // A process that stands still cannot make it again in between.
    run.signal("STOP");
    fs::remove_file(job.data_dir().join("control.sock")).unwrap();
    for command in ["status", "stop", "retry"] {
        let refused = job.command(&[command, "."]);
        assert_eq!(refused.code, Some(4), "{}", refused.stderr);
        refused.says(&named).says(&hint);
    }
    run.signal("CONT");
    while !job.data_dir().join("control.sock").exists() {
        assert!(!run.has_ended(), "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(status(&job)["state"], "RUNNING");
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    assert!(!job.data_dir().join("control.sock").exists());
}
