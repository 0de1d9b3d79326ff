//! Catches a job that does not stop when asked, loses or repeats something by it, or cannot be ended at all.

use std::time::Duration;

use crate::job::Job;
use crate::output::counted_by_tools;
use crate::plugins::plugin;
use crate::text::text;

const TEXT_BYTES: usize = 20_000_000;

/// Stops a job in the middle, and resumes it with the same command.
fn check(signal: &str, interval: &str, parallelism: &str) {
    let text = text(TEXT_BYTES, 3);
    let job = Job::with_input(&text);
    let interval = format!("checkpoint.interval={interval}");
    let arguments = ["--parallelism", parallelism, "--set", &interval];
    let mut run = job.start(&arguments);
    run.wait_for("starts from the beginning");
    std::thread::sleep(Duration::from_millis(60));
    run.signal(signal);
    run.wait()
        .succeeded()
        .says("stopping with a checkpoint; interrupt again to end at once, without one")
        .says("stopped: ")
        .says("; the same command resumes from there");
    let newest = job.checkpoint_ids()[0];
    assert_eq!(job.checkpoint(&["show"])["trigger"], "stop");
    let stopped = job.output();
    let expected = counted_by_tools(&text);
    let all: usize = expected.values().sum();
    assert!(stopped.records() < all, "it was over already");

    job.run(&arguments)
        .succeeded()
        .says(&format!("resumes from checkpoint {newest}, "))
        .says("finished: ");
    job.output().is_exactly(&expected);
}

#[test]
fn sigterm_stops_with_a_checkpoint() {
    // Long enough that no other checkpoint is under way, which the stop would wait for, while the input ends.
    check("TERM", "10s", "2");
    check("TERM", "off", "1");
}

#[test]
fn sigint_stops_with_a_checkpoint() {
    check("INT", "off", "2");
}

#[test]
fn an_endless_job_stops_when_asked() {
    let job = Job::new();
    job.write("pipeline.toml", endless("config.panic-at = 'never'"));
    let mut run = job.start(&["--set", "checkpoint.interval=50ms"]);
    run.wait_for("checkpoint 1 completed");
    run.signal("INT");
    run.wait().succeeded().says("stopped: ");
    job.run(&["--set", "source.numbers.records=20000"])
        .succeeded()
        .says("resumes from checkpoint ")
        .says("finished: ");
    let seen = job.output();
    assert_eq!(seen.records(), 20_000);
    seen.is_exactly(&seen.counts());
}

#[test]
fn told_twice_it_ends_at_once() {
    let job = Job::new();
    // An operator that never returns keeps the checkpoint from being completed.
    job.write(
        "pipeline.toml",
        endless("config.hang-at = '00000007'\nlimits.stop-grace = '1min'"),
    );
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    std::thread::sleep(Duration::from_millis(300));
    run.signal("INT");
    run.wait_for("stopping with a checkpoint");
    // Signals that come faster are taken for one.
    std::thread::sleep(Duration::from_millis(400));
    assert!(!run.has_ended(), "{}", run.stderr());
    run.signal("INT");
    let outcome = run.wait();
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    outcome.says("ended at once; the same command resumes from the last checkpoint");
    assert!(job.checkpoint_ids().is_empty());
    assert_eq!(job.output().records(), 0);
}

fn endless(count: &str) -> String {
    format!(
        r#"
[job]
name = "words"

[source.numbers]
connector = "generator"
keys = 10
rate = 20000

[operator.count]
plugin = {:?}
from = "numbers"
{count}

[sink.counts]
connector = "file"
from = "count"
path = "out"
format = "csv"
"#,
        plugin("misbehaves")
    )
}

#[test]
fn a_data_folder_that_is_removed_is_told() {
    let job = Job::new();
    job.write("pipeline.toml", endless("config.panic-at = 'never'"));
    let mut run = job.start(&["--set", "checkpoint.interval=50ms"]);
    run.wait_for("checkpoint 1 completed");
    std::fs::remove_dir_all(job.data_dir()).unwrap();
    run.wait_for("was removed while the job was running");
    run.signal("TERM");
    let outcome = run.wait();
    assert_eq!(outcome.code, Some(4), "{}", outcome.stderr);
    outcome.says("the last checkpoint could not be taken");
}
