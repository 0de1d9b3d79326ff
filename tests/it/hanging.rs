//! A stop of a job whose plugin does not return, or not soon: its calls are interrupted after their grace, and nothing else
//! follows from it.
//! A swap that is being prepared does not keep the stop waiting either.
//!
//! Catches a stop that waits for the time limit of a call, for many queued batches or for the search for bad records, a
//! record that is blamed or set aside because of a stop, a call that is interrupted though its own time limit was over, a
//! stop that fails because of a call that it does not need, a stop without a last checkpoint that looks like one with it, and
//! output that is lost or repeated by it.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use floodmark_control::swap::PATH;

use crate::hostile::{assembled, part};
use crate::job::{Job, Outcome, Running};
use crate::output::counted_by_tools;
use crate::plugins::plugin;
use crate::swap_careful::wait_until;

/// What no stop takes here. Calls could take [`TIME_PER_CALL`].
const STOP_MAX: Duration = Duration::from_secs(8);
const TIME_PER_CALL: &str = "10min";
/// The exit code of a job that was stopped without a last checkpoint.
const WITHOUT: Option<i32> = Some(7);
/// A plugin that does not return from an export.
const LOOP: &str = "(loop $again (br $again))";
/// A plugin whose calls take some hundredths of a second at least.
const SLOW: &str = "(local $at i32)
    (local.set $at (i32.const 100000000))
    (loop $again
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (br_if $again (local.get $at)))";
/// The end of a job whose calls have used up their grace, between two of them perhaps.
const OUT_OF_GRACE: &str = ", since its calls took more than 1s in all while the job stops";

/// Counts the words of a file that may grow, and does not return from the word `stuck`.
fn counting() -> Job {
    let job = Job::with_input("one two one\n");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.interval = "off"
limits.time-per-call = "{TIME_PER_CALL}"
source.text = {{ connector = "file", path = "in.txt", follow = true }}
operator.split = {{ plugin = {:?}, from = "text" }}
operator.count = {{ plugin = {:?}, from = "split", on-error = "skip", config.hang-at = "stuck" }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
"#,
            plugin("word-split"),
            plugin("misbehaves"),
        ),
    );
    job
}

/// Runs [`counting`] with these arguments to its first checkpoint, and lets it hang. Returns the job's process, and a command
/// that waits for another checkpoint.
fn stuck(job: &Job, arguments: &[&str]) -> (Running, Running) {
    let mut run = job.start(arguments);
    run.wait_for("starts from the beginning");
    until_visible(job, 3);
    let mut input = fs::OpenOptions::new()
        .append(true)
        .open(job.path("in.txt"))
        .unwrap();
    input.write_all(b"three stuck one\n").unwrap();
    loop {
        let mut trigger = job.start_command(&["checkpoint", "trigger", "."]);
        std::thread::sleep(Duration::from_secs(1));
        if !trigger.has_ended() {
            return (run, trigger);
        }
    }
}

/// Takes checkpoints until this many records are visible.
#[track_caller]
fn until_visible(job: &Job, records: usize) {
    let since = Instant::now();
    while job.output().records() < records {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        assert!(since.elapsed() < Duration::from_secs(240), "no records");
    }
}

/// Waits for a checkpoint. The job does not log one without news.
#[track_caller]
fn until_checkpoint(job: &Job, id: u64) {
    let since = Instant::now();
    while !job.checkpoint_ids().iter().any(|known| *known >= id) {
        assert!(since.elapsed() < Duration::from_secs(240), "no checkpoint");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the end of a job that was told to stop.
#[track_caller]
fn ends_soon(run: Running) -> Outcome {
    let since = Instant::now();
    let outcome = run.wait();
    let took = since.elapsed();
    assert!(took < STOP_MAX, "{took:?}\n{}", outcome.stderr);
    outcome
}

/// The job ended with this line, and no record was to blame.
#[track_caller]
fn was_interrupted(outcome: Outcome, says: &str) {
    assert_eq!(outcome.code, WITHOUT, "{}", outcome.stderr);
    let line = format!("error: stopped without a last checkpoint: {says}");
    let outcome = outcome.says(&line);
    for word in ["a record is", "skipped", "blame", "fresh instance"] {
        assert!(!outcome.stderr.contains(word), "{}", outcome.stderr);
    }
}

/// The same job, whose plugin returns now, has all output once.
#[track_caller]
fn resumes(job: &Job, checkpoint: u64) {
    let mut run = job.start(&["--set", "operator.count.config.hang-at=never"]);
    run.wait_for(&format!("resumes from checkpoint {checkpoint}, "));
    until_visible(job, 6);
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded();
    let input = fs::read(job.path("in.txt")).unwrap();
    job.output().is_exactly(&counted_by_tools(&input));
}

#[test]
fn a_signal_interrupts_a_call_of_process() {
    let job = counting();
    let (run, trigger) = stuck(&job, &[]);
    let newest = job.checkpoint_ids()[0];
    run.signal("TERM");
    let expected = format!(
        "operator `count` was interrupted in `process`, since its calls took more than 1s in all while the job stops; checkpoint {newest} is kept, and the same command resumes from it; `limits.stop-grace` gives them more time"
    );
    was_interrupted(ends_soon(run), &expected);
    // Another client, which waits for a checkpoint, learns the same.
    let told = trigger.wait();
    assert_eq!(told.code, Some(4), "{}", told.stderr);
    told.says(&expected);
    assert_eq!(job.checkpoint_ids()[0], newest);
    resumes(&job, newest);
}

#[test]
fn a_stop_by_command_is_refused_with_the_reason() {
    let job = counting();
    let (run, _trigger) = stuck(&job, &["--set", "operator.count.limits.stop-grace=2s"]);
    let newest = job.checkpoint_ids()[0];
    let file = job.path("copy.savepoint");
    let stop = ["stop", ".", "--savepoint", file.to_str().unwrap()];
    let refused = job.command(&stop);
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    let expected = format!(
        "operator `count` was interrupted in `process`, since its calls took more than 2s in all while the job stops; checkpoint {newest} is kept"
    );
    refused
        .says("stopped without a last checkpoint: ")
        .says(&expected);
    assert!(!file.exists());
    was_interrupted(ends_soon(run), &expected);
    resumes(&job, newest);
}

#[test]
fn a_record_that_exceeds_its_own_time_is_judged_within_the_grace() {
    let job = counting();
    let arguments = [
        "--set",
        "operator.count.limits.time-per-call=2s",
        "--set",
        "operator.count.limits.stop-grace=1min",
    ];
    let (run, _trigger) = stuck(&job, &arguments);
    run.signal("TERM");
    let outcome = run.wait().succeeded();
    outcome.says("a record is skipped").says("stopped: ");
    assert_eq!(job.output().records(), 5);
    assert_eq!(job.checkpoint(&["show"])["trigger"], "stop");
}

#[test]
fn a_search_for_bad_records_is_interrupted() {
    // Each call takes a while before it fails, and without a stop there is one for each record at least.
    let slow = format!("{SLOW} unreachable");
    let job = hostile(&assembled(&part("process", &slow)), "off");
    reads(&job, "records = 4000");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    std::thread::sleep(Duration::from_secs(2));
    run.signal("TERM");
    let outcome = ends_soon(run);
    assert_eq!(outcome.code, WITHOUT, "{}", outcome.stderr);
    outcome
        .says(OUT_OF_GRACE)
        .says("; there is no checkpoint yet");
}

/// Stops a job with many queued batches, each of which takes a part of a second, and returns how it ended.
fn stopped_with_queues(grace: &str) -> Outcome {
    let job = hostile(&assembled(&part("process", SLOW)), "off");
    // Batches wait between workers.
    reads(&job, "value-bytes = 8");
    let grace = format!("operator.bad.limits.stop-grace={grace}");
    let mut run = job.start(&["--parallelism", "2", "--set", &grace]);
    run.wait_for("starts from the beginning");
    std::thread::sleep(Duration::from_secs(2));
    run.signal("TERM");
    run.wait()
}

#[test]
fn queued_batches_share_the_grace() {
    let outcome = stopped_with_queues("300ms");
    assert_eq!(outcome.code, WITHOUT, "{}", outcome.stderr);
    outcome
        .says("operator `bad` was interrupted in `process`, since its calls took more than 300ms")
        .says("in all while the job stops; there is no checkpoint yet");
    // With time for all of them, all are processed.
    stopped_with_queues("10min").succeeded().says("stopped: ");
}

/// Replaces the rate of the source of [`hostile`].
fn reads(job: &Job, settings: &str) {
    let text = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    job.write("pipeline.toml", text.replace("rate = 1000", settings));
}

/// A job without an end that runs this component.
fn hostile(component: &[u8], interval: &str) -> Job {
    let job = Job::new();
    job.write("bad.wasm", component);
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.interval = "{interval}"
limits.time-per-call = "{TIME_PER_CALL}"
source.numbers = {{ connector = "generator", keys = 10, rate = 1000 }}
operator.bad = {{ plugin = "bad.wasm", from = "numbers", on-error = "skip" }}
sink.nothing = {{ connector = "discard", from = "bad" }}
"#
        ),
    );
    job
}

#[test]
fn a_listener_that_is_interrupted_does_not_end_the_stop() {
    let job = hostile(&assembled(&part("completed", LOOP)), "off");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    std::thread::sleep(Duration::from_millis(300));
    run.signal("TERM");
    let expected = "operator `bad` was interrupted in `completed`, since its calls took more than 1s in all while the job stops; `limits.stop-grace` gives them more time; the stop does not depend on that call";
    ends_soon(run).succeeded().says(expected).says("stopped: ");
    assert_eq!(job.checkpoint(&["show"])["trigger"], "stop");
    // With a good plugin in its place the job is as it was.
    job.write("bad.wasm", assembled(&[]));
    let mut run = job.start(&[]);
    run.wait_for("resumes from checkpoint 2");
    job.command(&["stop", "."]).succeeded();
    run.wait().succeeded().says("stopped: ");
}

#[test]
fn a_listener_after_the_last_checkpoint_takes_nothing_back() {
    let job = hostile(&assembled(&part("completed", LOOP)), "off");
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    std::thread::sleep(Duration::from_millis(300));
    run.signal("TERM");
    ends_soon(run).succeeded().says("stopped: ");
    assert_eq!(job.checkpoint(&["show"])["trigger"], "stop");
}

/// A plugin whose state `v` is of this version. It writes a byte to that of the first key of each call, and does not return
/// from a migration of anything.
pub fn of_version(version: u32) -> Vec<u8> {
    migrating(version, &format!("(if (local.get 3) (then {LOOP}))"))
}

/// An instruction that writes a number to the memory of the guest.
fn poke(at: u32, value: u32) -> String {
    format!("(call $poke (i32.const {at}) (i32.const {value}))\n")
}

/// As [`of_version`], with these instructions in `migrate`. Their parameter 3 is the number of values.
fn migrating(version: u32, migrate: &str) -> Vec<u8> {
    // The write has slot 0 at 5000, a bit at 5100 and an end at 5200.
    let write = [
        (5100, 1),
        (5200, 1),
        (1036, 4096),
        (1040, 1),
        (4100, 5000),
        (4104, 1),
        (4108, 5100),
        (4112, 1),
        (4116, 5200),
        (4120, 1),
        (4124, 5300),
        (4128, 1),
    ];
    let write: String = write.iter().map(|&(at, value)| poke(at, value)).collect();
    let parts = [
        part("describe", &poke(524, version)),
        part("process", &write),
        part("migrate", migrate),
    ];
    assembled(&parts.concat())
}

#[test]
fn a_migration_is_interrupted() {
    let job = hostile(&of_version(1), "50ms");
    let mut run = job.start(&[]);
    run.wait_for("checkpoint 1 completed");
    until_checkpoint(&job, 3);
    run.signal("TERM");
    run.wait().succeeded();
    let newest = job.checkpoint_ids()[0];
    job.write("bad.wasm", of_version(2));
    let mut run = job.start(&["--set", "checkpoint.interval=off"]);
    run.wait_for("resumes from checkpoint");
    std::thread::sleep(Duration::from_millis(500));
    run.signal("TERM");
    let expected = format!(
        "operator `bad` was interrupted in `migrate`, since its calls took more than 1s in all while the job stops; checkpoint {newest} is kept"
    );
    was_interrupted(ends_soon(run), &expected);
    assert_eq!(job.checkpoint_ids()[0], newest);
}

#[test]
fn a_rehearsal_is_interrupted_and_takes_no_checkpoint_away() {
    let job = hostile(&of_version(1), "50ms");
    let mut run = job.start(&[]);
    run.wait_for("checkpoint 1 completed");
    until_checkpoint(&job, 3);
    job.write("new.wasm", of_version(2));
    let mut swap = job.start_command(&["swap", ".", "bad", "new.wasm"]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(!swap.has_ended(), "{}", swap.stderr());
    run.signal("TERM");
    ends_soon(run).succeeded().says("stopped: ");
    let refused = ends_soon(swap);
    assert!(
        refused.code.is_some_and(|code| code != 0),
        "{}",
        refused.stderr
    );
    assert_eq!(job.checkpoint(&["show"])["trigger"], "stop");
}

#[test]
fn a_stop_does_not_wait_for_a_rehearsal() {
    // Values cannot be migrated together, and one alone takes a while, so the rehearsal tries one after the other.
    let answer: String = [(1028, 5400), (1032, 1), (5400, 1), (1036, 5300), (1040, 1)]
        .iter()
        .map(|&(at, value)| poke(at, value))
        .collect();
    let slow = format!(
        "(local $at i32)
        (if (i32.gt_u (local.get 3) (i32.const 1)) (then unreachable))
        (if (local.get 3) (then
          (local.set $at (i32.const 200000000))
          (loop $again
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (br_if $again (local.get $at)))
          {answer}))"
    );
    let job = hostile(&of_version(1), "50ms");
    let text = fs::read_to_string(job.path("pipeline.toml")).unwrap();
    job.write(
        "pipeline.toml",
        text.replace("keys = 10,", "keys = 1000000,"),
    );
    let mut run = job.start(&["--set", "checkpoint.retained=1000"]);
    run.wait_for("checkpoint 1 completed");
    // Each call adds a key.
    std::thread::sleep(Duration::from_secs(3));
    job.write("new.wasm", migrating(2, &slow));
    let mut swap = job.start_command(&["swap", ".", "bad", "new.wasm"]);
    wait_until("the rehearsal", || {
        let found = floodmark_control::ask(&job.data_dir(), PATH, None).unwrap();
        let step = found["step"].as_str().unwrap_or_default();
        step.starts_with("it rehearses")
    });
    std::thread::sleep(Duration::from_secs(1));
    assert!(!swap.has_ended(), "{}", swap.stderr());
    run.signal("TERM");
    ends_soon(run).succeeded().says("stopped: ");
    let refused = swap.wait();
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    refused.says("nothing was replaced: the job ends");
    assert_eq!(job.checkpoint(&["show"])["trigger"], "stop");
}
