//! Catches dead letters that are lost or count twice when they are handed back: by two calls, over crashes, restarts,
//! other parallelism, older checkpoints and savepoints; and answers of `dead-letters replay` that are not true.

use std::collections::BTreeMap;
use std::time::Duration;

use floodmark_engine::connector::letter::Letter;

use crate::job::{Job, Outcome};
use crate::plugins::plugin;

const MENDED: [&str; 2] = ["--set", "operator.count.config.mended=true"];

/// Counts words of `in.txt` by a plugin that rejects or fails at some; dead letters go to `letters`.
fn job() -> Job {
    let job = Job::new();
    let plugin = plugin("faulty");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
checkpoint.retained = 20
source.text = {{ connector = "file", path = "in.txt", key-separator = " " }}
operator.count = {{ plugin = {plugin:?}, from = "text", on-error = "dead-letter" }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
sink.letters = {{ connector = "file", from = "count.dead-letters", path = "letters", format = "jsonl" }}
"#
        ),
    );
    job
}

fn replay(job: &Job, arguments: &[&str]) -> Outcome {
    let command = ["dead-letters", "replay", "pipeline.toml"];
    job.command(&[&command, arguments].concat())
}

/// What `replay` prints; asserts that it succeeds.
#[track_caller]
fn replayed(job: &Job, arguments: &[&str]) -> String {
    replay(job, arguments).succeeded().stdout
}

fn listed(job: &Job) -> Vec<(Letter, bool)> {
    let listed = job.command(&["dead-letters", "list", "pipeline.toml", "--json"]);
    let letter = |line: &str| {
        let fields: serde_json::Value = serde_json::from_str(line).unwrap();
        let letter = Letter::from_json(line).unwrap();
        (letter, fields["replayed"].as_bool().unwrap())
    };
    listed.succeeded().stdout.lines().map(letter).collect()
}

/// Keys and values that were counted, sorted, and the highest count of each key. The order of records that were handed
/// back is another, and with it their numbers.
fn counted(job: &Job) -> (Vec<(String, String)>, BTreeMap<String, u64>) {
    let (mut records, mut counts) = (Vec::new(), BTreeMap::new());
    for line in job.lines("out") {
        let (key, rest) = line.split_once(',').unwrap();
        let (count, value) = rest.split_once(' ').unwrap();
        let highest: &mut u64 = counts.entry(key.to_owned()).or_default();
        *highest = (*highest).max(count.parse().unwrap());
        records.push((key.to_owned(), value.to_owned()));
    }
    records.sort();
    (records, counts)
}

/// The output of a job whose plugin never failed.
fn expected(text: &str) -> (Vec<(String, String)>, BTreeMap<String, u64>) {
    let (mut records, mut counts) = (Vec::new(), BTreeMap::<String, u64>::new());
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap();
        *counts.entry(key.to_owned()).or_default() += 1;
        records.push((key.to_owned(), value.to_owned()));
    }
    records.sort();
    (records, counts)
}

/// Records of which each `bad_in`th is rejected, or fails in some other way.
fn input(records: u64, bad_in: u64) -> String {
    let line = |number: u64| {
        let word = match (number.is_multiple_of(bad_in), number / bad_in % 50) {
            (false, _) => "good",
            (true, 7) => "panic",
            (true, 8) => "fail",
            (true, _) => "reject",
        };
        format!("k{} {word}-{number}\n", number % 97)
    };
    (0..records).map(line).collect()
}

#[test]
fn replayed_letters_make_up_for_what_failed() {
    let job = job();
    let text = input(3000, 10);
    job.write("in.txt", &text);
    assert_eq!(
        replayed_before_the_first_run(&job),
        (Some(4), "if the job was run with `--data-dir`".to_owned())
    );
    job.run(&[]).succeeded();
    assert_eq!(listed(&job).len(), 300);
    let would = replayed(&job, &["--dry-run"]);
    assert_eq!(
        would,
        "300 dead letters of operator `count`, input `in`, would be replayed\n"
    );
    let some = replayed(&job, &["--where", "crashed in", "--where", "in.txt"]);
    assert_eq!(
        some,
        "6 dead letters of operator `count`, input `in`, replayed: the next run processes them\n"
    );
    assert!(replayed(&job, &["--operator", "count"]).starts_with("294 dead letters"));
    for _ in 0..2 {
        let nothing = replayed(&job, &[]);
        assert_eq!(
            nothing,
            "nothing to replay: all 300 dead letters were already replayed\n"
        );
        job.run(&MENDED).succeeded();
        assert_eq!(counted(&job), expected(&text));
    }
    // Nothing is left to do.
    job.run(&MENDED).says("there was nothing new to read");
    let letters = listed(&job);
    assert_eq!(letters.len(), 300);
    assert!(letters.iter().all(|(_, was_replayed)| *was_replayed));
    let table = job.command(&["dead-letters", "list", "pipeline.toml"]);
    let table = table.succeeded().stdout;
    assert!(
        table.lines().skip(1).all(|line| line.ends_with("yes")),
        "{table}"
    );
}

fn replayed_before_the_first_run(job: &Job) -> (Option<i32>, String) {
    let elsewhere = job.path("elsewhere");
    let refused = replay(job, &["--data-dir", elsewhere.to_str().unwrap()]);
    let hint = refused.stderr.split("; ").nth(1).unwrap_or_default();
    let hint = hint.split(',').next().unwrap_or_default();
    (refused.code, hint.to_owned())
}

#[test]
fn letters_are_replayed_once_whenever_the_process_dies() {
    let job = job();
    let text = input(20_000, 2)
        .replace("panic", "reject")
        .replace("fail", "reject");
    job.write("in.txt", &text);
    job.run(&["--set", "checkpoint.interval=50ms"]).succeeded();
    assert!(replayed(&job, &[]).starts_with("10,000 dead letters"));
    for kill in 0..5_u64 {
        let tasks = (1 + kill % 3).to_string();
        let more = ["--set", "checkpoint.interval=10ms", "--parallelism", &tasks];
        let mut running = job.start(&[&MENDED[..], &more].concat());
        running.wait_for("resumes from checkpoint");
        std::thread::sleep(Duration::from_millis(10 + 25 * kill));
        running.kill();
        assert!(replayed(&job, &[]).starts_with("nothing to replay"));
    }
    job.run(&[&MENDED[..], &["--parallelism", "2"]].concat())
        .succeeded();
    assert_eq!(counted(&job), expected(&text));
}

#[test]
fn letters_that_fail_again_are_new_letters() {
    let job = job();
    job.write("in.txt", "a reject-1\na good-2\n");
    job.run(&[]).succeeded();
    assert!(replayed(&job, &[]).starts_with("1 dead letter of"));
    job.run(&[]).succeeded();
    let letters = listed(&job);
    let [(first, true), (second, false)] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(
        first.position,
        "source `text`: `in.txt`, bytes 0 to 20, record 1 of these"
    );
    let file = "source `count.in.replay`: `000001-00000001.jsonl`, bytes 0 to ";
    assert!(second.position.starts_with(file), "{}", second.position);
    assert_eq!((&first.key, &first.value), (&second.key, &second.value));
    assert!(replayed(&job, &["--where", "count.in.replay"]).starts_with("1 dead letter of"));
    job.run(&MENDED).succeeded();
    assert_eq!(job.lines("out"), ["a,1 good-2", "a,2 reject-1"]);
}

#[test]
fn settings_that_a_run_refuses_are_refused() {
    let job = job();
    job.write("in.txt", input(10, 5));
    job.run(&[]).succeeded();
    let set = ["--set", "source.text.read-from=end"];
    let run = job.run(&set).says("`read-from`");
    let refused = replay(&job, &set);
    assert_eq!((refused.code, refused.stderr), (Some(2), run.stderr));
    assert!(!job.data_dir().join("replay").exists());
}

#[test]
fn going_back_replays_what_was_replayed_since_and_nothing_that_comes_by_itself() {
    let job = job();
    let run = |arguments: &[&str]| job.run(arguments).succeeded();
    job.write("in.txt", "a good-1\nb reject-2\n");
    run(&[]);
    replayed(&job, &[]);
    run(&MENDED);
    job.write("in.txt", "a good-1\nb reject-2\nc reject-3\n");
    run(&[]);
    // What comes in between is handed back in one file with the letter before.
    job.write("in.txt", "a good-1\nb reject-2\nc reject-3\nd reject-4\n");
    run(&[]);
    assert!(replayed(&job, &[]).starts_with("2 dead letters"));
    run(&MENDED);
    let all = ["a,1 good-1", "b,1 reject-2", "c,1 reject-3", "d,1 reject-4"];
    assert_eq!(job.lines("out"), all);
    let newest = job.checkpoint_ids()[0];
    // Before: all letters there and replayed (5), the fourth is not a letter yet (3), none but the first is one (2),
    // which is not replayed yet (1).
    for (id, at) in [(newest, 5), (4, 4), (3, 3), (2, 2), (1, 1)] {
        let savepoint = format!("{at}.savepoint");
        let from = ["--from-checkpoint", &id.to_string(), "--to", &savepoint];
        let create = [&["savepoint", "create", "pipeline.toml"], &from[..]].concat();
        job.command(&create).succeeded();
        run(&[&MENDED[..], &["--from", &id.to_string()]].concat());
        assert_eq!(job.lines("out"), all, "back to checkpoint {id}");
        // And once more from there: what was left out stays so.
        run(&MENDED);
        assert_eq!(job.lines("out"), all, "back to checkpoint {id}, and on");
    }
    // Elsewhere there are no letters: what a savepoint knows of them is not an error.
    let elsewhere = ["--data-dir", "elsewhere", "--set", "sink.counts.path=out2"];
    let letters = [
        "--set",
        "sink.letters.path=letters2",
        "--from",
        "5.savepoint",
    ];
    run(&[&MENDED[..], &elsewhere, &letters].concat());
    assert!(!job.path("out2").join("part-00000005-000.csv").exists());
    run(&[&MENDED[..], &["--fresh"]].concat());
    assert_eq!(job.lines("out"), all);
    assert_eq!(
        replayed(&job, &[]),
        "nothing to replay: there are no such dead letters\n"
    );
    assert!(!job.data_dir().join("replay").exists());
}

#[test]
fn a_running_job_that_follows_its_input_processes_letters_at_once() {
    let job = job();
    job.write("in.txt", "a reject-1\na good-2\n");
    let follow = [
        "--set",
        "source.text.follow=true",
        "--set",
        "checkpoint.interval=20ms",
    ];
    let set_follow = &follow[..2];
    job.run(&[]).succeeded();
    let running = job.start(&[&MENDED[..], &follow].concat());
    wait_until(|| job.data_dir().join("replay/count/in").is_dir());
    let said = replayed(&job, set_follow);
    assert!(
        said.ends_with("replayed: the running job processes them now\n"),
        "{said}"
    );
    wait_until(|| job.lines("out").len() == 2);
    assert!(replayed(&job, set_follow).starts_with("nothing to replay"));
    running.signal("TERM");
    running.wait().succeeded();
    // A job that no longer sets records aside still knows what it has read.
    for on_error in ["skip", "dead-letter"] {
        let set = format!("operator.count.on-error={on_error}");
        job.run(&["--set", &set]).succeeded();
        assert_eq!(job.lines("out"), ["a,1 good-2", "a,2 reject-1"]);
    }
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..2000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited too long");
}

#[test]
fn an_operator_with_two_inputs_gets_letters_by_the_one_that_they_came_by() {
    let job = Job::new();
    let plugin = plugin("pair");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
job.parallelism = 2
source.l = {{ connector = "file", path = "l.txt" }}
source.r = {{ connector = "file", path = "r.txt" }}
operator.pair = {{ plugin = {plugin:?}, from = {{ left = "l", right = "r" }}, on-error = "dead-letter" }}
sink.out = {{ connector = "file", from = "pair", path = "out" }}
sink.letters = {{ connector = "file", from = "pair.dead-letters", path = "letters" }}
"#
        ),
    );
    job.write("l.txt", "1\nreject-2\n");
    job.write("r.txt", "reject-3\n4\nreject-5\n");
    job.run(&[]).succeeded();
    assert_eq!(job.lines("out"), ["left 1", "right 4"]);
    let refused = replay(&job, &["--operator", "pear"]);
    assert_eq!(refused.code, Some(2));
    refused.says("the pipeline has no operator, source or sink `pear`; there are `pair`, ");
    assert!(replayed(&job, &["--where", "of nothing"]).starts_with("nothing to replay"));
    let said = replayed(&job, &["--input", "right"]);
    assert!(
        said.starts_with("2 dead letters of operator `pair`, input `right`, "),
        "{said}"
    );
    let mended = ["--set", "operator.pair.config.mended=true"];
    job.run(&mended).succeeded();
    let right = ["left 1", "right 4", "right reject-3", "right reject-5"];
    assert_eq!(job.lines("out"), right);
    assert!(replayed(&job, &[]).starts_with("1 dead letter of operator `pair`, input `left`, "));
    job.run(&mended).succeeded();
    let both = [
        "left 1",
        "left reject-2",
        "right 4",
        "right reject-3",
        "right reject-5",
    ];
    assert_eq!(job.lines("out"), both);
}

#[test]
fn a_record_that_is_too_slow_had_all_the_time_of_a_call() {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.text = {{ connector = "file", path = "in.txt", key-separator = " " }}
operator.slow = {{ plugin = {:?}, from = "text", on-error = "dead-letter", limits.time-per-call = "400ms" }}
sink.good = {{ connector = "file", from = "slow", path = "out", format = "csv" }}
sink.letters = {{ connector = "file", from = "slow.dead-letters", path = "letters", format = "jsonl" }}
"#,
            plugin("misbehaves")
        ),
    );
    let good = (0..40).map(|number| format!("k{number} fine\n"));
    job.write("in.txt", good.collect::<String>() + "bad loop\nlast fine\n");
    job.run(&[]).succeeded();
    let [letter] = job.lines("letters").try_into().unwrap();
    let letter = Letter::from_json(&letter).unwrap();
    assert_eq!(letter.key, b"bad");
    assert!(letter.reason.contains("its 400 ms"), "{}", letter.reason);
    assert_eq!(job.lines("out").len(), 41);
}
