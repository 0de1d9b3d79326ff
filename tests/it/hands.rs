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

/// A job whose plugin is a folder that takes a minute to build: its build script waits. The process of that is in a file.
fn slow_to_build() -> Job {
    let job = Job::with_input(GOOD);
    job.write(
        "slow/Cargo.toml",
        "[package]\nname = \"slow-to-build\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\ncrate-type = [\"cdylib\"]\n[workspace]\n",
    );
    job.write("slow/lib.rs", "");
    let begun = job.path("begun");
    job.write(
        "slow/build.rs",
        format!(
            "fn main() {{ std::fs::write({begun:?}, std::process::id().to_string()).unwrap(); std::thread::sleep(std::time::Duration::from_secs(60)); }}"
        ),
    );
    job
}

const SLOW: [&str; 2] = ["--set", "operator.count.plugin=slow"];

#[test]
fn what_takes_no_time_is_checked_before_anything_is_built() {
    let job = slow_to_build();
    job.write("file", "");
    let taken = job.path("taken/.staged");
    fs::create_dir_all(&taken).unwrap();
    let owner = "{\"job\":\"words\",\"sink\":\"other\",\"data\":\"1\"}\n";
    fs::write(taken.join("owner"), owner).unwrap();
    for (set, code, says) in [
        ("source.text.path=gone.txt", 5, "gone.txt` matches no file"),
        (
            "sink.counts.path=file",
            5,
            "`counts`: cannot create folder `",
        ),
        (
            "sink.counts.path=taken",
            5,
            "is the output of sink `other` of job `words`",
        ),
        ("operator.split.plugin=gone.wasm", 3, "gone.wasm"),
        ("sink.counts.from=cuont", 2, "there is no node `cuont`"),
    ] {
        for command in [&["run"][..], &["check"], &["check", "--no-build"]] {
            let arguments = [command, &["pipeline.toml"], &SLOW, &["--set", set]].concat();
            let outcome = job.command(&arguments);
            assert_eq!(outcome.code, Some(code), "{arguments:?} {}", outcome.stderr);
            outcome.says(says);
        }
    }
    let checked = job.command(&[&["check", "pipeline.toml", "--no-build"], &SLOW[..]].concat());
    let stdout = checked.succeeded().stdout;
    for words in [
        "operator `count`\n  plugin  ",
        "not checked, since nothing was built or compiled: whether the plugins of `count`, `split` are valid",
    ] {
        assert!(stdout.contains(words), "{stdout}");
    }
    assert!(!job.path("begun").exists(), "it was built");
}

/// Whether a process is there and is not only waited for.
fn lives(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

#[test]
fn a_signal_while_a_plugin_is_built_ends_the_job_and_the_build() {
    for signal in ["TERM", "INT"] {
        let job = slow_to_build();
        let mut run = job.start(&SLOW);
        let begun = job.path("begun");
        let process = loop {
            let text = fs::read_to_string(&begun).unwrap_or_default();
            if !text.is_empty() {
                break text;
            }
            assert!(!run.has_ended(), "{}", run.stderr());
            std::thread::sleep(Duration::from_millis(10));
        };
        run.signal(signal);
        let outcome = run.wait();
        assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
        let outcome = outcome.says("ended at once, before the job ran; the same command starts it");
        let blames_build = outcome.stderr.contains("building the plugin");
        assert!(!blames_build, "{}", outcome.stderr);
        let ends = std::time::Instant::now() + Duration::from_secs(30);
        while lives(&process) {
            assert!(std::time::Instant::now() < ends, "the build still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!job.data_dir().join("checkpoints.redb").exists());
    }
}

#[test]
fn a_second_signal_counts_from_the_first_one() {
    let job = Job::new();
    let plugin = plugin("misbehaves");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.numbers = {{ connector = "generator", keys = 10, rate = 20000 }}
operator.count = {{ plugin = {plugin:?}, from = "numbers", config.hang-at = "00000007", limits.stop-grace = "1min" }}
sink.counts = {{ connector = "discard", from = "count" }}
"#
        ),
    );
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    std::thread::sleep(Duration::from_millis(500));
    // As a key that is held down: each signal comes soon after the last one.
    let begun = std::time::Instant::now();
    while !run.has_ended() {
        run.signal("INT");
        std::thread::sleep(Duration::from_millis(50));
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{}",
            run.stderr()
        );
    }
    let outcome = run.wait();
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    outcome.says("ended at once; the same command resumes from the last checkpoint");
}

/// A job that follows a folder and sets records aside, and so has all that the engine adds to a pipeline.
fn following() -> Job {
    let job = Job::new();
    job.write("in/one.txt", GOOD);
    let plugin = plugin("word-count");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.interval = "50ms"
source.text = {{ connector = "file", path = "in", follow = true }}
operator.count = {{ plugin = {plugin:?}, from = "text", on-error = "dead-letter" }}
sink.counts = {{ connector = "discard", from = "count" }}
sink.letters = {{ connector = "file", from = "count.dead-letters", path = "letters", format = "jsonl" }}
"#
        ),
    );
    job
}

#[test]
fn a_checkpoint_without_news_is_not_a_line() {
    let job = following();
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    let completed = || status(&job)["checkpoints"]["counts"]["completed"].as_u64();
    while completed() < Some(80) {
        assert!(!run.has_ended(), "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(50));
    }
    // One of the first may come before the record.
    let lines = run.stderr().matches(" completed: ").count();
    assert!((1..=2).contains(&lines), "{}", run.stderr());
    job.write("in/two.txt", GOOD);
    run.wait_for(" completed: 2 records in");
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn what_only_the_engine_knows_is_not_shown() {
    let job = following();
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    let told = status(&job);
    let vertices = told["vertices"].as_array().unwrap();
    let added = vertices
        .iter()
        .find(|vertex| vertex["name"] == "count.in.replay");
    assert!(added.is_some(), "{told}");
    let screen = job.command(&["status", "."]).succeeded().stdout;
    assert!(!screen.contains("replay"), "{screen}");
    let shown = job.command(&["checkpoint", "show"]).succeeded().stdout;
    assert!(!shown.contains("replay"), "{shown}");
    assert_eq!(shown.matches("watches for new files").count(), 1, "{shown}");
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn times_that_are_not_times_of_day_have_no_lag() {
    let job = Job::endless("");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    let metrics = loop {
        let metrics = status(&job)["vertices"][0]["metrics"].clone();
        if metrics["watermark"].is_number() {
            break metrics;
        }
        assert!(!run.has_ended(), "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(metrics["watermark-lag"].is_null(), "{metrics}");
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn an_output_folder_of_another_data_folder_names_the_way_that_keeps_the_state() {
    let job = Job::with_input(GOOD);
    job.run(&[]).succeeded();
    let refused = job.run(&["--data-dir", "new"]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    refused
        .says("to keep state and output, use that folder with `--data-dir`, or start from a savepoint of it with `--from`")
        .says("run with `--fresh`");
}

#[test]
fn a_number_that_is_not_one_is_refused_with_what_was_expected() {
    let job = Job::with_input(GOOD);
    for (arguments, says) in [
        (
            &["rollback", ".", "--to", "x"][..],
            "a checkpoint has a number",
        ),
        (&["checkpoint", "show", "x"], "a checkpoint has a number"),
        (
            &["checkpoint", "diff", "1", "-"],
            "a checkpoint has a number",
        ),
        (
            &["rescale", ".", "x"],
            "a whole number of tasks is expected",
        ),
        (
            &["run", ".", "--parallelism", "70000"],
            "a whole number of tasks is expected",
        ),
        (
            &["replay", ".", "--records", "1.5"],
            "a whole number of records is expected",
        ),
    ] {
        let refused = job.command(arguments);
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(
            !refused.stderr.contains("invalid digit"),
            "{}",
            refused.stderr
        );
        refused.says(says);
    }
}

#[test]
fn a_line_feed_in_a_name_begins_no_line() {
    const NAME: &str = "x\nforged: all is well";
    let job = Job::with_input(GOOD);
    fs::create_dir(job.path(NAME)).unwrap();
    let set = format!("source.text.path={NAME}.txt");
    let unknown = format!("sink.counts.{NAME}=1");
    let gone = format!("{NAME}/gone");
    let mut named = 0;
    for arguments in [
        &["status", ".", "--data-dir", NAME][..],
        &["status", ".", "--data-dir", &gone],
        &["stop", ".", "--data-dir", NAME],
        &["checkpoint", "list", "--data-dir", NAME],
        &["checkpoint", "show", NAME],
        &["state", "list", "--savepoint", NAME],
        &["run", ".", "--set", &set],
        &["check", ".", "--set", &unknown],
        &["check", NAME],
        &["test", NAME],
        &["build", NAME],
        &["savepoint", "create", ".", "--to", &gone],
        &["dead-letters", "list", ".", "--operator", NAME],
    ] {
        let outcome = job.command(arguments);
        let said = outcome.stdout + &outcome.stderr;
        named += usize::from(said.contains("forged"));
        let forged = said.lines().any(|line| line.starts_with("forged"));
        assert!(!forged, "{arguments:?} {said}");
    }
    assert!(named > 8, "{named} of the messages have the name");
}

#[test]
fn every_command_that_looks_takes_json_and_the_data_folder() {
    let job = Job::with_input(GOOD);
    job.run(&["--data-dir", "data"]).succeeded();
    for arguments in [
        &["check", "."][..],
        &["check", ".", "--no-build"],
        &["status", "."],
        &["checkpoint", "list"],
        &["checkpoint", "show"],
        &["checkpoint", "verify"],
        &["checkpoint", "diff", "1", "1"],
        &["state", "list"],
        &["state", "get", "count", "count", "is"],
        &["state", "dump", "count", "count"],
    ] {
        let arguments = [arguments, &["--json", "--data-dir", "data"]].concat();
        let told = job.command(&arguments).succeeded().stdout;
        let values = serde_json::Deserializer::from_str(&told).into_iter::<Value>();
        for value in values {
            assert!(value.is_ok(), "{arguments:?} {told}");
        }
    }
    let checked = job.command(&["check", ".", "--json"]).succeeded().stdout;
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!(checked["operators"][0]["plugin"]["states"][0], "count");
}
