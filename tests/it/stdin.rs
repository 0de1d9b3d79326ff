//! Catches standard input that is lost or read twice, by a failure, by a second run or at the border of two writes, and a
//! pipeline that is not told what it cannot have.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::job::{Job, Outcome, Running, command};
use crate::plugins::plugin;

/// A job that copies standard input to the folder `out`.
fn copy(source: &str) -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            "[job]\nname = \"words\"\n[source.text]\nconnector = \"stdin\"\n{source}\n\
             [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"out\"\n"
        ),
    );
    job
}

fn start(job: &Job, arguments: &[&str], input: Stdio) -> Running {
    let mut command = command();
    command.args(["run", "pipeline.toml"]).args(arguments);
    job.spawn_with(command, input)
}

/// Runs the job with this input, to its end.
fn run(job: &Job, arguments: &[&str], input: &str) -> Outcome {
    job.write("input", input);
    let input = File::open(job.path("input")).unwrap();
    start(job, arguments, input.into()).wait()
}

const OFTEN: [&str; 2] = ["--set", "checkpoint.interval=50ms"];

#[test]
fn input_is_read_to_its_end() {
    for (source, input, expected) in [
        ("", "", ""),
        ("", "\u{feff}one\r\ntwo\nrest", "one\ntwo\nrest\n"),
        (
            "format = \"jsonl\"\nkey = \"a\"",
            "{\"a\":1}",
            "{\"a\":1}\n",
        ),
        (
            "format = \"csv\"",
            "a,b\r\n1,\"x\ny\"",
            "{\"a\":\"1\",\"b\":\"x\\ny\"}\n",
        ),
        (
            "format = \"csv\"\nheader = false\ncolumns = [\"a\"]",
            "1\n2\n",
            "{\"a\":\"1\"}\n{\"a\":\"2\"}\n",
        ),
    ] {
        let job = copy(source);
        let outcome = run(&job, &["--parallelism", "2"], input).succeeded();
        assert_eq!(job.written("out"), expected, "{source}");
        outcome.says("source `text` reads standard input: if the process dies");
    }
    let long: String = (0..500_000).map(|number| format!("{number}\n")).collect();
    let job = copy("");
    run(&job, &["--parallelism", "1"], &long).succeeded();
    assert!(job.written("out") == long);
}

#[test]
fn input_is_read_as_it_comes() {
    let job = copy("");
    let mut run = start(&job, &OFTEN, Stdio::piped());
    let mut input = run.input();
    input.write_all(b"one\nt").unwrap();
    run.wait_for_output(&job, "one\n");
    input.write_all(b"wo\nrest").unwrap();
    run.wait_for_output(&job, "one\ntwo\n");
    drop(input);
    run.wait().succeeded();
    assert_eq!(job.written("out"), "one\ntwo\nrest\n");

    let job = copy("format = \"csv\"");
    let mut run = start(&job, &OFTEN, Stdio::piped());
    let mut input = run.input();
    let mut expected = String::new();
    // The header, a row and a quoted field are cut.
    for (part, row) in [
        ("a,", ""),
        ("b\n1,", ""),
        ("2\n3,\"x\n", "{\"a\":\"1\",\"b\":\"2\"}\n"),
        ("y\"\n\n", "{\"a\":\"3\",\"b\":\"x\\ny\"}\n"),
    ] {
        input.write_all(part.as_bytes()).unwrap();
        expected += row;
        run.wait_for_output(&job, &expected);
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(input);
    run.wait().succeeded();
    assert_eq!(job.written("out"), expected);
}

#[test]
fn another_run_takes_other_input() {
    let job = copy("format = \"csv\"\nkey = \"a\"");
    run(&job, &[], "a\n1\n").succeeded();
    // Each run has a header of its own, which may have other columns.
    run(&job, &[], "\u{feff}b,a\n2,3\n")
        .succeeded()
        .says("source `text` resumes with what standard input gives now");
    assert_eq!(
        job.written("out"),
        "{\"a\":\"1\"}\n{\"b\":\"2\",\"a\":\"3\"}\n"
    );
    let data_dir = job.data_dir();
    let shown = [
        "checkpoint",
        "show",
        "--data-dir",
        data_dir.to_str().unwrap(),
    ];
    let shown = job.command(&shown).succeeded();
    let position = "a\n1\n\u{feff}b,a\n2,3\n".len();
    let words = format!("standard input at byte {position}");
    assert!(shown.stdout.contains(&words), "{}", shown.stdout);

    let job = copy("");
    let mut killed = start(&job, &OFTEN, Stdio::piped());
    let mut input = killed.input();
    input.write_all(b"one\n").unwrap();
    killed.wait_for_output(&job, "one\n");
    input.write_all(b"lost without its newline").unwrap();
    killed.kill();
    run(&job, &[], "two\n").succeeded();
    assert_eq!(job.written("out"), "one\ntwo\n");
}

/// Catches a stop that loses input without a word, and one that warns of nothing.
#[test]
fn a_stop_says_how_much_input_is_lost() {
    for (input, whole, lost) in [
        ("one\n", "one\n", None),
        (
            "one\ntwo",
            "one\n",
            Some(
                "source `text`: 3 bytes of standard input, which the job had read ahead of its last checkpoint",
            ),
        ),
    ] {
        let job = copy("");
        let mut run = start(&job, &OFTEN, Stdio::piped());
        let mut pipe = run.input();
        pipe.write_all(input.as_bytes()).unwrap();
        run.wait_for_output(&job, whole);
        job.command(&["stop", "."]).succeeded();
        let outcome = run.wait().succeeded();
        match lost {
            Some(words) => drop(outcome.says(words)),
            None => assert!(!outcome.stderr.contains("read ahead"), "{}", outcome.stderr),
        }
    }
}

/// A job whose plugin crashes once it has had 3500 words: a fresh instance has not.
fn crashing(settings: &str) -> (Job, String) {
    let job = Job::new();
    let plugin = plugin("misbehaves");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.text = {{ connector = "stdin", key-separator = " ", {settings} }}
operator.count = {{ plugin = {plugin:?}, from = "text", config.panic-after = 3500 }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
"#
        ),
    );
    let line = |number| format!("{:08} {:>50}\n", number % 10, number);
    (job, (0..5000).map(line).collect())
}

#[test]
fn a_failure_of_a_plugin_loses_nothing() {
    let (job, input) = crashing("format = \"lines\"");
    for arguments in [&OFTEN[..], &["--fresh", "--set", "checkpoint.interval=off"]] {
        let arguments = [&["--parallelism", "1"][..], arguments].concat();
        run(&job, &arguments, &input)
            .succeeded()
            .says("crashed in `process`: ")
            .says("finished: 5,000 records in, ");
        let seen = job.output();
        assert_eq!(seen.records(), 5000);
        seen.is_exactly(&seen.counts());
    }
}

#[test]
fn what_is_not_kept_is_not_left_out() {
    let (job, _) = crashing("");
    let once = [
        "--set",
        "operator.count.config.panic-at=bad",
        "--parallelism",
        "1",
        "--set",
        "checkpoint.interval=off",
        "--set",
        "restart.strategy=fixed-delay",
        "--set",
        "restart.attempts=2",
        "--set",
        "restart.delay=1ms",
    ];
    // More than is read at once: a part is kept as a whole, or not at all.
    let input = "good 1\n".repeat(30_000) + "bad 2\n";
    let input = input.as_str();
    let kept = run(&job, &once, input);
    assert_eq!(kept.code, Some(1), "{kept:?}");
    kept.says("cannot stand this word");
    // The failures of the run before count, too.
    let settings = ["source.text.replay-bytes=1", "restart.attempts=9"];
    let settings = settings.map(|setting| ["--set", setting]);
    let not_kept = [&once[..], settings.as_flattened()].concat();
    let outcome = run(&job, &not_kept, input);
    assert!(outcome.code.is_some_and(|code| code > 0), "{outcome:?}");
    outcome.says("the job would resume standard input at byte 0, but only what follows byte ");
    assert_eq!(job.output().records(), 0);
}

#[test]
fn what_cannot_be_is_refused() {
    let job = copy("[source.more]\nconnector = \"stdin\"");
    let outcome = job.command(&["check", "pipeline.toml"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    outcome.says("reads standard input, as source `more` does");

    let job = copy("format = \"jsonl\"");
    let outcome = run(&job, &["--set", "restart.strategy=none"], "1\n\nno\n");
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    outcome.says("`standard input`, line 3, byte 3: ");
    let outcome = run(&job, &["--set", "source.text.path=in.txt"], "");
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    let outcome = job.command(&["crash-test", "pipeline.toml"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    outcome.says("save the input to a file");
    let checked = job.command(&["check", "pipeline.toml"]).succeeded();
    let words = "what it had read after its last checkpoint is lost";
    assert!(checked.stdout.contains(words), "{}", checked.stdout);

    let job = Job::new();
    let made = Command::new("mkfifo").arg(job.path("in.txt")).status();
    assert!(made.unwrap().success());
    let outcome = job.run(&[]);
    assert!(outcome.code.is_some_and(|code| code > 0), "{outcome:?}");
    outcome.says("read it as standard input, with `connector = \"stdin\"`");
}
