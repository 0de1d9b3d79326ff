//! Catches a plugin that takes more with it than its own job: state, output, checkpoints, or the words that say what is
//! wrong.

use std::fs;

use crate::job::{Job, Outcome};
use crate::output::counted_by_tools;
use crate::plugins::plugin;

const GOOD: &str = "all is well\nand all is well\n";

/// A job that has counted [`GOOD`], then gets more to read, by the plugin that misbehaves.
fn job(more: &str) -> Job {
    let job = Job::with_input(GOOD);
    job.run(&[]).succeeded();
    job.write("in.txt", [GOOD, more].concat());
    job
}

fn misbehave(job: &Job, option: &str) -> Outcome {
    let plugin = format!("operator.count.plugin={}", plugin("misbehaves").display());
    let option = format!("operator.count.config.{option}");
    job.run(&[&["--set", &plugin, "--set", &option], &THRICE[..]].concat())
}

/// Goes back three times in a row, and quickly.
const THRICE: [&str; 4] = [
    "--set",
    "restart.strategy=fixed-delay",
    "--set",
    "restart.delay=1ms",
];

/// Asserts that the job fails without changing output and checkpoints, and that it resumes with the corrected plugin.
#[track_caller]
fn check(option: &str, code: i32, says: &[&str]) {
    let more = "one two bad three\n";
    let job = job(more);
    let seen = job.output();
    // The second run continues the first one's count of failures, so it has no tries left.
    for tries_max in [3, 0] {
        let mut outcome = misbehave(&job, option);
        assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
        for words in says {
            outcome = outcome.says(words);
        }
        // A plugin has no environment in which a user could set it.
        assert!(
            !outcome.stderr.contains("RUST_BACKTRACE"),
            "{}",
            outcome.stderr
        );
        let tries = outcome
            .stderr
            .matches("; the job resumes from checkpoint 1 ")
            .count();
        assert_eq!(
            tries,
            if code == 1 { tries_max } else { 0 },
            "{}",
            outcome.stderr
        );
        assert!(job.output() == seen);
        assert_eq!(job.checkpoint_ids(), [1]);
    }
    job.run(&[]).succeeded().says("resumes from checkpoint 1, ");
    let expected = counted_by_tools([GOOD, more].concat().as_bytes());
    job.output().is_exactly(&expected);
    // What was staged by the runs that failed is gone.
    let staged = fs::read_dir(job.path("out/.staged")).unwrap();
    let names: Vec<_> = staged.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["owner"]);
}

#[test]
fn a_panic_ends_the_job_and_nothing_else() {
    check(
        "panic-at=bad",
        1,
        &[
            "error: operator `count` crashed in `process`: ",
            "cannot stand this word",
        ],
    );
}

#[test]
fn an_error_ends_the_job_and_nothing_else() {
    check(
        "fail-at=bad",
        1,
        &[
            "error: operator `count` failed in `process`: a record with the key `bad`: this word is too much",
        ],
    );
}

#[test]
fn a_panic_in_open() {
    check(
        "panic-in-open=true",
        3,
        &[
            "error: operator `count` crashed in `open`: ",
            "not in the mood",
        ],
    );
}

#[test]
fn a_refused_configuration() {
    check(
        "panic-in-open=perhaps",
        3,
        &[
            "error: operator `count`: the plugin refused its configuration: option `panic-in-open` is `perhaps`",
            "; correct `operator.count.config`",
        ],
    );
    check(
        "panic-if=bad",
        3,
        &["unknown option `panic-if`; this operator knows "],
    );
}

#[test]
fn another_plugin_is_told() {
    let job = job("bad\n");
    misbehave(&job, "panic-at=never")
        .succeeded()
        .says("operator `count`: the plugin has changed");
    let expected = counted_by_tools([GOOD, "bad\n"].concat().as_bytes());
    job.output().is_exactly(&expected);
}

#[test]
fn a_panic_that_passes_costs_no_more_than_a_call() {
    let job = Job::new();
    // A fresh instance has not had its 3500 words yet.
    job.write("pipeline.toml", {
        let plugin = plugin("misbehaves");
        format!(
            r#"
job.name = "words"
source.numbers = {{ connector = "generator", keys = 10, rate = 5000, records = 5000 }}
operator.count = {{ plugin = {plugin:?}, from = "numbers", config.panic-after = 3500 }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
"#
        )
    });
    job.run(&["--set", "checkpoint.interval=50ms"])
        .succeeded()
        .says("crashed in `process`: ")
        .says("no record is to blame: all of them were processed in smaller calls of a fresh instance")
        .says("finished: 5,000 records in, ");
    let seen = job.output();
    assert_eq!(seen.records(), 5000);
    seen.is_exactly(&seen.counts());
}

#[test]
fn what_others_keep_does_not_notice() {
    let run = |panic_after: u32| {
        let job = Job::new();
        job.write("pipeline.toml", {
            let (history, misbehaves) = (plugin("history"), plugin("misbehaves"));
            format!(
                r#"
job.name = "words"
source.numbers = {{ connector = "generator", keys = 10, rate = 5000, records = 5000, value-bytes = 6 }}
operator.last = {{ plugin = {history:?}, from = "numbers", config.length = 7 }}
operator.count = {{ plugin = {misbehaves:?}, from = "numbers", config.panic-after = {panic_after} }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
sink.lists = {{ connector = "file", from = "last", path = "lists", format = "csv" }}
"#
            )
        });
        let ended = job.run(&["--set", "checkpoint.interval=50ms"]).succeeded();
        let went_through = "no record is to blame: all of them were processed in smaller calls";
        assert_eq!(
            ended.stderr.contains(went_through),
            panic_after < 5000,
            "{}",
            ended.stderr
        );
        (job.lines("lists"), job.lines("out"))
    };
    let undisturbed = run(1_000_000);
    assert_eq!(undisturbed.0.len(), 5000);
    assert!(run(3500) == undisturbed, "the output is another");
}
