//! Text that a terminal would obey, or that hides what it says, on its way through the command.
//!
//! Catches a control character or a mark of direction that reaches a terminal from a plugin, a pipeline, the name of a file,
//! a record or a file of vectors, and a job whose own output is changed on the way.

use crate::hostile::assembled;
use crate::job::Job;
use crate::plugins::plugin;

/// What the plugin logs, and says when it refuses its configuration.
const SAID: &str = "a\u{1b}[31mb\u{9b}2J\u{202e}c\u{7f}";
/// The host has one line of it, without control characters.
const SHOWN: &str = "a [31mb 2J\\u{202e}c ";
const VERSION: &str = "1\u{202e}0";

const PLUGIN: &str = "bad\u{1b}\u{202e}.wasm";
const INPUT: &str = "in\u{1b}\u{202e}.txt";

/// A plugin that logs [`SAID`] in each call, or refuses its configuration with it.
fn component(refuses: bool) -> Vec<u8> {
    let bytes =
        |text: &str| -> String { text.bytes().map(|byte| format!("\\{byte:02x}")).collect() };
    let module = format!(
        "(data (i32.const 4096) \"{}\") (data (i32.const 4608) \"{}\")",
        bytes(VERSION),
        bytes(SAID)
    );
    let describe = format!(
        "(call $poke (i32.const 264) (i32.const 4096)) (call $poke (i32.const 268) (i32.const {}))",
        VERSION.len()
    );
    let process = format!(
        "(call $line (i32.const 2) (i32.const 4608) (i32.const {}))",
        SAID.len()
    );
    let open = format!(
        "(call $poke (i32.const 1024) (i32.const 1)) (call $poke (i32.const 1028) (i32.const 4608)) (call $poke (i32.const 1032) (i32.const {}))",
        SAID.len()
    );
    let open = if refuses { open } else { String::new() };
    let parts = [
        ("module", module),
        ("describe", describe),
        ("open", open),
        ("process", process),
    ];
    assembled(&parts.map(|(name, lines)| (name.to_owned(), lines)))
}

/// A job of this plugin, one that keeps lists of values, and one that rejects a record.
fn job() -> Job {
    let job = Job::new();
    let (history, faulty) = (plugin("history"), plugin("faulty"));
    job.write(PLUGIN, component(false));
    job.write("refuses.wasm", component(true));
    job.write(
        INPUT,
        "k\u{202e} v\u{1b}[2J\u{202e}\nr\u{9b} reject\u{1b}\u{202e}\n",
    );
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.text = {{ connector = "file", path = "in\u001b\u202e.txt", key-separator = " " }}
operator.bad = {{ plugin = "bad\u001b\u202e.wasm", from = "text" }}
operator.last = {{ plugin = {history:?}, from = "text" }}
operator.count = {{ plugin = {faulty:?}, from = "text", on-error = "dead-letter" }}
sink.lists = {{ connector = "stdout", from = "last" }}
sink.nothing = {{ connector = "discard", from = "bad" }}
sink.counts = {{ connector = "discard", from = "count" }}
sink.letters = {{ connector = "file", from = "count.dead-letters", path = "letters", format = "jsonl" }}
"#
        ),
    );
    job
}

/// Asserts that a terminal would only print this.
#[track_caller]
fn is_tame(text: &str) {
    let is_direction = |char: char| ('\u{202a}'..='\u{202e}').contains(&char);
    let is_obeyed = |char: char| char != '\n' && (char.is_control() || is_direction(char));
    assert!(!text.chars().any(is_obeyed), "{text:?}");
}

/// Asserts how a command ends, that what it prints is tame, and that it has these words.
#[track_caller]
fn check(job: &Job, arguments: &[&str], code: i32, words: &[&str]) {
    let outcome = job.command(arguments);
    assert_eq!(outcome.code, Some(code), "{arguments:?}: {outcome:?}");
    let printed = outcome.stdout + &outcome.stderr;
    is_tame(&printed);
    for words in words {
        assert!(printed.contains(words), "{words}, of {printed}");
    }
}

#[test]
fn what_a_job_says_is_escaped_and_what_it_writes_is_not() {
    let job = job();
    let run = job.run(&[]).succeeded();
    is_tame(&run.stderr);
    assert!(run.stdout.contains("v\u{1b}[2J\u{202e}\n"), "{run:?}");
    run.says(&format!("[bad/0] {SHOWN}\n"));
    let version = "hostile 1\\u{202e}0, ";
    let path = "bad\\u{1b}\\u{202e}.wasm\n";
    check(&job, &["check", "pipeline.toml"], 0, &[version, path]);
    check(&job, &["status", "pipeline.toml"], 0, &["job `words`"]);
    check(&job, &["checkpoint", "list"], 0, &[]);
    let path = "`in\\u{1b}\\u{202e}.txt`";
    check(&job, &["checkpoint", "show"], 0, &[path]);
    check(&job, &["state", "list", "--count"], 0, &["values"]);
    let get = ["state", "get", "last", "values", "k\u{202e}"];
    check(&job, &get, 0, &["0: \"v\\u001b[2J\\u{202e}\"\n"]);
    let letters = ["dead-letters", "list", "pipeline.toml"];
    check(&job, &letters, 0, &["r\\u{9b}  reject\\u{1b}\\u{202e}  "]);
    // Rows in a file or a pipe are data.
    let dump = job.command(&["state", "dump", "last", "--format", "csv"]);
    let row = "last,values,k\u{202e},0,v\u{1b}[2J\u{202e}\n";
    assert!(dump.stdout.contains(row), "{dump:?}");
    let dump = job.command(&["state", "dump", "last"]).succeeded();
    assert!(dump.stdout.contains("\\u001b[2J\u{202e}"), "{dump:?}");
}

#[test]
fn the_status_of_a_running_job_is_escaped() {
    let job = job();
    let mut run = job.start(&["--set", "source.text.follow=true"]);
    run.wait_for("[bad/0] ");
    let says = "operator `bad`: plugin `hostile` 1\\u{202e}0, ";
    check(&job, &["status", "pipeline.toml"], 0, &[says]);
    run.signal("TERM");
    run.wait().succeeded();
}

#[test]
fn what_fails_is_escaped() {
    let job = job();
    let refuses = "operator.bad.plugin=refuses.wasm";
    let refused = format!("the plugin refused its configuration: {SHOWN};");
    let run = ["run", "pipeline.toml", "--set", refuses];
    check(&job, &run, 3, &[&refused]);
    let gone = "operator.bad.plugin=gone\u{1b}\u{202e}.wasm";
    let run = ["run", "pipeline.toml", "--set", gone];
    check(&job, &run, 3, &["gone\\u{1b}\\u{202e}.wasm"]);
    job.write(
        "wrong.toml",
        "source.text = { connector = \"f\u{202e}\", path = 1 }\n",
    );
    check(&job, &["check", "wrong.toml"], 2, &["f\\u{202e}"]);
    let unknown = ["status", "pipeline.toml", "--no\u{1b}[2J\u{202e}"];
    check(&job, &unknown, 2, &["\\u{202e}"]);
    job.run(&[]).succeeded();
    let get = ["state", "get", "last", "values", "no\u{202e}"];
    check(&job, &get, 6, &["key `no\\u{202e}` has no value in "]);
}

#[test]
fn a_report_of_vectors_is_escaped() {
    let job = job();
    job.write(
        "v\u{202e}.toml",
        "[[step]]\nrecords = [[\"k\", \"v\"]]\nemits = [[\"k\", \"\\u202e\\u001b\"]]\n",
    );
    let test = ["test", PLUGIN, "--vectors", "v\u{202e}.toml"];
    check(&job, &test, 1, &["v\\u{202e}.toml", SHOWN]);
}
