//! Catches a job that loses or repeats something when it is rescaled, comes back after a crash with tasks or state of both
//! sides, or forgets how many tasks it had.

use crate::job::{self, Job, Running};
use crate::plugins::plugin;

const RECORDS: usize = 40_000;

/// A count of made up words, over about two seconds.
fn job() -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.interval = "100ms"
source.numbers = {{ connector = "generator", keys = 500, rate = 20000, records = {RECORDS} }}
operator.count = {{ plugin = {:?}, from = "numbers" }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
"#,
            plugin("word-count")
        ),
    );
    job
}

#[track_caller]
fn is_whole(job: &Job) {
    let seen = job.output();
    assert_eq!(seen.records(), RECORDS);
    seen.is_exactly(&seen.counts());
}

#[test]
fn a_job_is_rescaled_while_it_runs() {
    let job = job();
    let mut run = job.start(&[]);
    run.wait_for("checkpoint 1 completed");
    for (from, to) in [(1, 3), (3, 2)] {
        let said = job.command(&["rescale", ".", &to.to_string()]).succeeded();
        let expected = format!("rescaled from parallelism {from} to {to}; records paused for ");
        assert!(said.stdout.starts_with(&expected), "{}", said.stdout);
        run.wait_for(&format!("rescaled from parallelism {from} to {to}"));
    }
    for (wrong, code, why) in [
        ("2", 4, "the job runs with a parallelism of 2 already"),
        ("0", 2, "0 is not between 1 and 128"),
        ("129", 2, "129 is not between 1 and 128"),
    ] {
        let refused = job.command(&["rescale", ".", wrong]);
        assert_eq!(refused.code, Some(code));
        refused.says(why);
    }
    // What was asked for stays while the pipeline says the same.
    run.signal("TERM");
    run.wait().succeeded();
    assert_eq!(job.checkpoint(&["show"])["parallelism"], 2);
    job.run(&[])
        .succeeded()
        .says("parallelism is 2, since the job was rescaled; the pipeline still says 1")
        .says("finished: ");
    is_whole(&job);
    job.run(&["--parallelism", "4"])
        .succeeded()
        .says("parallelism was 2, now is 4");
    let not_running = job.command(&["rescale", ".", "3"]);
    assert_eq!(not_running.code, Some(4));
}

#[test]
fn a_job_that_was_rescaled_shows_its_tasks_and_has_room_for_more_when_it_is_started_again() {
    let job = job();
    let run = std::fs::read_to_string(job.path("pipeline.toml")).unwrap();
    job.write(
        "pipeline.toml",
        run.replace(&RECORDS.to_string(), "4000000"),
    );
    let mut run = job.start(&[]);
    run.wait_for("checkpoint 1 completed");
    job.command(&["rescale", ".", "3"]).succeeded();
    run.signal("TERM");
    run.wait().succeeded();
    let mut run = job.start(&[]);
    run.wait_for("completed");
    let status = job.command(&["status", ".", "--json"]).succeeded().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["vertices"][1]["parallelism"], 3, "{status}");
    job.command(&["rescale", ".", "30"]).succeeded();
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn a_sink_may_read_before_and_behind_an_exchange() {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.numbers = {{ connector = "generator", keys = 50, value-bytes = 8, records = 1000 }}
operator.count = {{ plugin = {:?}, from = "numbers" }}
sink.counts = {{ connector = "file", from = ["count", "numbers"], path = "out", format = "csv" }}
"#,
            plugin("word-count")
        ),
    );
    let mut run = job.start(&["--parallelism", "2"]);
    run.wait_for("finished: 1,000 records in, 2,000 records out");
    run.wait().succeeded();
    let parts = std::fs::read_dir(job.path("out")).unwrap();
    let parts = parts.map(|part| part.unwrap().path());
    let written = parts.filter(|part| part.is_file());
    let lines = written.map(|part| std::fs::read_to_string(part).unwrap().lines().count());
    assert_eq!(lines.sum::<usize>(), 2000);
}

/// Starts the job so that it dies at a point.
fn armed(job: &Job, point: &str) -> Running {
    let mut command = job::command();
    command
        .args(["run", "pipeline.toml"])
        .env("FLOODMARK_CRASH_AT", format!("{point}:1"));
    job.spawn(command)
}

#[test]
fn a_crash_on_the_way_costs_nothing() {
    for (point, tasks) in [
        ("rescale-asked", 1),
        ("rescale-durable", 1),
        ("rescale-joined", 1),
        ("rescale-begun", 1),
    ] {
        let job = job();
        let mut run = armed(&job, point);
        run.wait_for("checkpoint 1 completed");
        let asked = job.command(&["rescale", ".", "2"]);
        assert_eq!(asked.code, Some(4), "{point}: {}", asked.stderr);
        let died = run.wait();
        assert_eq!(died.code, None, "{point}: {}", died.stderr);
        assert_eq!(job.checkpoint(&["show"])["parallelism"], tasks, "{point}");
        job.run(&[]).succeeded().says("finished: ");
        is_whole(&job);
    }
}
