//! Catches a job that goes back more or less often than its strategy says, forgets failures with its process or remembers them
//! after it has ended well, cannot be stopped while it waits, or gives up without saying why.

use std::fs;

use crate::job::{Job, Outcome, Running};
use crate::output::counted_by_tools;
use crate::plugins::plugin;

const GOOD: &str = "all is well\n";
const MORE: &str = "one two bad three\n";

/// A job that has a checkpoint, and reads a word next that its plugin cannot stand.
fn job() -> Job {
    let job = Job::with_input(GOOD);
    job.run(&[]).succeeded();
    job.write("in.txt", [GOOD, MORE].concat());
    job
}

fn start(job: &Job, settings: &[&str]) -> Running {
    let plugin = format!("operator.count.plugin={}", plugin("misbehaves").display());
    let mut arguments = vec![
        "--set",
        &plugin,
        "--set",
        "operator.count.config.panic-at=bad",
    ];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    job.start(&arguments)
}

#[track_caller]
fn gives_up(job: &Job, settings: &[&str], tries: usize, says: &str) -> Outcome {
    let outcome = start(job, settings).wait();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    let tried = outcome.stderr.matches("resumes from checkpoint 1 ").count();
    assert_eq!(tried, tries, "{}", outcome.stderr);
    assert_eq!(job.checkpoint_ids(), [1]);
    outcome
        .says(&format!(
            "the job gives up: {says}; checkpoint 1 is kept, and the same command resumes from it"
        ))
        .says("error: operator `count` crashed in `process`: ")
}

#[test]
fn each_strategy_goes_back_as_often_as_it_says() {
    let job = job();
    gives_up(
        &job,
        &["restart.strategy=none"],
        0,
        "`restart.strategy` is `none`",
    );
    // Failures under one strategy count under the next one, too.
    let fixed = [
        "restart.strategy=fixed-delay",
        "restart.attempts=3",
        "restart.delay=1ms",
    ];
    gives_up(
        &job,
        &fixed,
        2,
        "this was failure 4 in a row, and `restart.attempts` is 3",
    )
    .says("(attempt 2 of 3, after 1 ms)");
    let rate = [
        "restart.strategy=failure-rate",
        "restart.max-failures=6",
        "restart.interval=1h",
        "restart.delay=1ms",
    ];
    gives_up(
        &job,
        &rate,
        2,
        "this was failure 7 within 3600s, and `restart.max-failures` is 6",
    );
    let exponential = [
        "restart.initial-backoff=1ms",
        "restart.max-backoff=2ms",
        "restart.attempts=9",
    ];
    gives_up(
        &job,
        &exponential,
        2,
        "this was failure 10 in a row, and `restart.attempts` is 9",
    );
    gives_up(
        &job,
        &exponential,
        0,
        "this was failure 11 in a row, and `restart.attempts` is 9",
    );
    // A job that ends well starts to count from zero.
    let log = fs::read_to_string(job.data_dir().join("failures")).unwrap();
    assert_eq!(log.lines().count(), 11, "{log}");
    job.run(&[]).succeeded();
    let expected = counted_by_tools([GOOD, MORE].concat().as_bytes());
    job.output().is_exactly(&expected);
    let log = fs::read_to_string(job.data_dir().join("failures")).unwrap();
    assert!(
        log.lines().last().unwrap().starts_with("{\"ended-ms\":"),
        "{log}"
    );
    job.write("in.txt", [GOOD, MORE, "bad\n"].concat());
    let again = start(&job, &fixed).wait();
    assert_eq!(
        again.stderr.matches("resumes from checkpoint 2 ").count(),
        3,
        "{}",
        again.stderr
    );
}

/// Catches a status that does not say how a job ended, or says it about another run.
#[test]
fn the_status_of_a_job_that_gave_up_says_why_until_it_runs_again() {
    let job = job();
    let status = || job.command(&["status", "."]).succeeded().stdout;
    let json = || -> serde_json::Value {
        let status = job.command(&["status", ".", "--json"]).succeeded();
        serde_json::from_str(&status.stdout).unwrap()
    };
    assert!(!status().contains("failed"), "{}", status());
    let settings = [
        "restart.strategy=fixed-delay",
        "restart.attempts=2",
        "restart.delay=1ms",
    ];
    start(&job, &settings).wait();
    let said = status();
    for words in [
        "job `words` is not running\n  newest checkpoint  1, taken at ",
        " ago), after 3 failures: operator `count` crashed in `process`: ",
        "\n  next               remove the cause; the same `floodmark run` then resumes from checkpoint 1\n",
    ] {
        assert!(said.contains(words), "not there: {words}\n{said}");
    }
    let failed = json();
    assert_eq!(failed["state"], "FAILED");
    assert_eq!(failed["checkpoint"]["id"], 1);
    assert_eq!(failed["failures"]["count"], 3);
    let message = failed["failures"]["latest"]["message"].as_str().unwrap();
    assert!(message.starts_with("operator `count` crashed"), "{message}");
    // A process that is killed says nothing, and takes the note of the one before with it.
    let patient = [
        "restart.strategy=fixed-delay",
        "restart.attempts=100",
        "restart.delay=1h",
    ];
    let mut run = start(&job, &patient);
    run.wait_for("resumes from checkpoint 1 ");
    run.kill();
    assert_eq!(json()["state"], "NOT_RUNNING");
    assert!(!status().contains("\n  failed"), "{}", status());
    job.run(&[]).succeeded();
    assert_eq!(json()["state"], "NOT_RUNNING");
}

#[test]
fn a_job_that_waits_can_be_stopped() {
    let job = job();
    let patient = ["restart.strategy=fixed-delay", "restart.delay=1h"];
    for ask in ["signal", "command"] {
        let mut run = start(&job, &patient);
        run.wait_for("resumes from checkpoint 1 ");
        match ask {
            "signal" => run.signal("TERM"),
            _ => {
                let asked = job.command(&["stop", "."]).succeeded();
                asked.says("stopped with checkpoint 1");
            }
        }
        run.wait()
            .succeeded()
            .says("the job stops while it waits after a failure: its last checkpoint is 1")
            .says("stopped: ");
        assert_eq!(job.checkpoint_ids(), [1]);
    }
    job.run(&[]).succeeded();
    let expected = counted_by_tools([GOOD, MORE].concat().as_bytes());
    job.output().is_exactly(&expected);
}

#[test]
fn a_check_says_what_happens_after_a_failure() {
    let job = Job::with_input(GOOD);
    for (settings, expected) in [
        (
            &[][..],
            "after a failure the job goes back to its last checkpoint after 100ms to 1min, 10 times in a row",
        ),
        (
            &["--set", "restart.strategy=none"],
            "after a failure the job ends",
        ),
    ] {
        let checked = job
            .command(&[&["check", "."], settings].concat())
            .succeeded();
        assert!(checked.stdout.contains(expected), "{}", checked.stdout);
    }
}
