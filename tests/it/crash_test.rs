//! `floodmark crash-test`: does this pipeline keep its promise, wherever it dies?
//!
//! Catches a test that kills nothing and says that all is well, one that touches what is the user's, and one that takes a
//! pipeline whose output cannot be told for a sound one. The comparison of lines has its own tests.
//!
//! By default a few points are walked with little input; `FLOODMARK_HEAVY=1` takes all, with several workers and objects, too.

use std::fs;

use crate::job::{self, Job, Outcome};
use crate::plugins::plugin;
use crate::text::text;

fn crash_test(job: &Job, arguments: &[&str]) -> Outcome {
    fs::create_dir_all(job.path("tmp")).unwrap();
    let mut command = job::command();
    command
        .args(["crash-test", "pipeline.toml"])
        .args(arguments);
    command.env("TMPDIR", job.path("tmp"));
    job.spawn(command).wait()
}

fn is_heavy() -> bool {
    std::env::var_os("FLOODMARK_HEAVY").is_some_and(|heavy| heavy == "1")
}

/// The row of a point: kills there, kills on the way back, the verdict.
#[track_caller]
fn row(outcome: &Outcome, point: &str) -> (u32, u32, String) {
    let mut lines = outcome.stdout.lines();
    let line = lines.find(|line| line.starts_with(point));
    let line = line.unwrap_or_else(|| panic!("{point} is not in\n{}", outcome.stdout));
    let mut words = line.split_whitespace().skip(1);
    let mut number = || words.next().unwrap().parse().unwrap();
    let numbers = (number(), number());
    (numbers.0, numbers.1, words.collect::<Vec<_>>().join(" "))
}

/// What a test has kept.
fn left_behind(job: &Job) -> Vec<String> {
    let entries = fs::read_dir(job.path("tmp")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("floodmark-crash-test-"))
        .collect()
}

#[test]
fn the_word_count_is_exactly_once_wherever_it_dies() {
    let job = Job::with_input(text(if is_heavy() { 3_000_000 } else { 300_000 }, 5));
    let points = ["barrier-passed", "store-filled", "sink-committed"];
    let named: Vec<_> = points.iter().flat_map(|point| ["--point", point]).collect();
    let tested = crash_test(&job, &[&["--kills", "2"], &named[..]].concat()).succeeded();
    for point in points {
        let (kills, recovering, verdict) = row(&tested, point);
        assert!(kills >= 1 && recovering >= 1, "{}", tested.stdout);
        assert_eq!(verdict, "exactly once");
    }
    assert!(
        tested
            .stdout
            .contains("exactly once at 3 of 3 points, after "),
        "{}",
        tested.stdout
    );
    // Neither output nor checkpoints of the job itself.
    assert!(!job.path("out").exists());
    assert!(!job.data_dir().join("checkpoints.redb").exists());

    if is_heavy() {
        crash_test(&job, &[]).succeeded();
        let url = format!(
            "checkpoint.storage=file://{}",
            job.path("objects").display()
        );
        crash_test(&job, &["--parallelism", "3", "--set", &url]).succeeded();
        assert!(!job.path("objects").exists());
    }
    assert_eq!(left_behind(&job), [""; 0]);
}

#[test]
fn what_no_run_comes_to_is_not_called_sound() {
    let job = Job::with_input("rain sun\n");
    let set = "sink.counts.connector=stdout";
    let pipeline = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    let without_path: String = pipeline
        .lines()
        .filter(|line| !line.starts_with("path = \"out\""))
        .map(|line| format!("{line}\n"))
        .collect();
    job.write("pipeline.toml", without_path);
    let tested = crash_test(
        &job,
        &["--set", set, "--kills", "1", "--point", "objects-stored"],
    )
    .succeeded()
    .says("sink `counts` writes to files during the test: what was printed cannot be taken back");
    let (kills, _, verdict) = row(&tested, "objects-stored");
    assert_eq!((kills, verdict.as_str()), (0, "not reached, so not tested"));
}

#[test]
fn a_pipeline_that_cannot_be_tested_is_refused() {
    let job = Job::with_input("a\n");
    let checks: [(&[&str], i32, &str); 4] = [
        (
            &["--set", "source.text.follow=true"],
            2,
            "source `text` follows its files and never ends",
        ),
        (
            &["--set", "checkpoint.mode=at-least-once"],
            2,
            "the pipeline does not promise exactly-once output",
        ),
        (
            &["--point", "nowhere"],
            2,
            "there is no crash point `nowhere`",
        ),
        (
            &["--set", "source.text.path=none.txt"],
            1,
            "the pipeline does not run to its end, so there is nothing to compare: it ended with exit status: 5: error:",
        ),
    ];
    for (arguments, code, says) in checks {
        let refused = crash_test(&job, arguments);
        assert_eq!(
            refused.code,
            Some(code),
            "{arguments:?}: {}",
            refused.stderr
        );
        refused.says(says);
    }
    let listed = crash_test(&job, &["--point", "list"]).succeeded();
    assert!(listed.stdout.contains("store-filled"), "{}", listed.stdout);
}

#[test]
fn a_plugin_that_keeps_something_beside_its_state_is_found() {
    let job = Job::new();
    // Slow enough for checkpoints in between, on every machine.
    let pipeline = format!(
        "[job]\nname = \"made\"\n[source.made]\nconnector = \"generator\"\nrecords = 2000\nkeys = 10\nrate = 2000\n\
         [operator.count]\nplugin = {:?}\nfrom = \"made\"\n\
         [sink.counts]\nconnector = \"file\"\nfrom = \"count\"\npath = \"out\"\nformat = \"csv\"\n",
        plugin("forgetful")
    );
    job.write("pipeline.toml", pipeline);
    let point = ["--point", "checkpoint-durable", "--kills", "2"];
    let found = crash_test(&job, &point);
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    let (_, _, verdict) = row(&found, "checkpoint-durable");
    assert_eq!(verdict, "DIFFERS", "{}", found.stdout);
    for shown in ["\n  sink `counts`: ", "\n    missing: ", "\n    extra: "] {
        assert!(found.stdout.contains(shown), "{}", found.stdout);
    }
    // The runs can be looked into.
    let kept = left_behind(&job);
    assert_eq!(kept.len(), 1);
    let run = job.path("tmp").join(&kept[0]).join("checkpoint-durable");
    assert!(run.join("out/counts").is_dir());
    found.says(run.parent().unwrap().to_str().unwrap());
}
