//! Catches records that are lost or changed between a sink that writes a format and a source that reads it, a setting of a
//! format that a job forgets or ignores, and refusals that do not name the place or what to write.

use std::collections::BTreeMap;
use std::fs;

use crate::job::{Job, Outcome};

/// A job that copies `in.txt` to the sink `out`: lines of the two tables, without their connectors.
fn copy(source: &str, sink: &str, input: &[u8]) -> Job {
    let job = Job::with_input(input);
    job.write("pipeline.toml", pipeline("in.txt", source, "out", sink));
    job
}

fn pipeline(path: &str, source: &str, out: &str, sink: &str) -> String {
    format!(
        "[job]\nname = \"words\"\n[source.text]\nconnector = \"file\"\npath = \"{path}\"\n{source}\n\
         [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"{out}\"\n{sink}\n"
    )
}

/// All output in a folder: its parts in the order of their names.
fn output(job: &Job, folder: &str) -> String {
    let entries = fs::read_dir(job.path(folder)).unwrap();
    let files = entries.filter_map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        Some((name, fs::read_to_string(entry.path()).ok()?))
    });
    let files: BTreeMap<String, String> = files.collect();
    files.into_values().collect()
}

#[track_caller]
fn copied(source: &str, sink: &str, input: &[u8], expected: &str) {
    let job = copy(source, sink, input);
    job.run(&[]).succeeded();
    assert_eq!(output(&job, "out"), expected);
}

#[track_caller]
fn refused(source: &str, sink: &str, input: &[u8], code: i32, words: &[&str]) {
    let outcome = copy(source, sink, input).run(&["--set", "restart.strategy=none"]);
    says_all(outcome, code, words);
}

#[track_caller]
fn says_all(mut outcome: Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    for word in words {
        outcome = outcome.says(word);
    }
}

#[test]
fn what_a_sink_writes_a_source_reads() {
    let rows = b"k;a;'x;\ny'\n;;\n";
    let csv = "format = \"csv\"\nheader = false\ncolumns = [\"a\", \"b\", \"c\"]\ndelimiter = \";\"\nquote = \"'\"\nkey = [\"a\", \"b\"]";
    let expected = "{\"key\":\"[\\\"k\\\",\\\"a\\\"]\",\"value\":\"{\\\"a\\\":\\\"k\\\",\\\"b\\\":\\\"a\\\",\\\"c\\\":\\\"x;\\\\ny\\\"}\"}\n\
        {\"key\":\"[\\\"\\\",\\\"\\\"]\",\"value\":\"{\\\"a\\\":\\\"\\\",\\\"b\\\":\\\"\\\",\\\"c\\\":\\\"\\\"}\"}\n";
    for (sink, source) in [
        ("header = true", ""),
        ("header = true\ndelimiter = \"\\t\"", "delimiter = \"\\t\""),
        (
            "quote = \"'\"",
            "quote = \"'\"\nheader = false\ncolumns = [\"key\", \"value\"]",
        ),
    ] {
        let job = copy(csv, &format!("format = \"csv\"\n{sink}"), rows);
        job.run(&[]).succeeded();
        let back = format!("format = \"csv\"\n{source}");
        let back = pipeline("out/*.csv", &back, "back", "format = \"jsonl\"");
        job.write("back.toml", back.replace("\"words\"", "\"back\""));
        job.command(&["run", "back.toml"]).succeeded();
        assert_eq!(output(&job, "back"), expected, "{sink}");
    }
}

#[test]
fn output_without_a_header_is_not_read_as_if_it_had_one() {
    let job = copy("", "format = \"csv\"", b"one\ntwo\n");
    job.run(&[]).succeeded();
    assert_eq!(output(&job, "out"), ",one\n,two\n");
    let back = pipeline("out", "format = \"csv\"", "back", "format = \"jsonl\"");
    job.write("back.toml", back.replace("\"words\"", "\"back\""));
    let outcome = job.command(&["run", "back.toml", "--set", "restart.strategy=none"]);
    let words = [
        ".csv`, line 1, byte 0: the file is named like output of a file sink",
        "set `header = false` and `columns = [\"key\", \"value\"]`, or `header = true`",
    ];
    says_all(outcome, 5, &words);
}

#[test]
fn a_mark_of_the_encoding_is_not_data() {
    let mark = "\u{feff}";
    copied(
        "",
        "",
        format!("{mark}a\n{mark}b\n").as_bytes(),
        &format!("a\n{mark}b\n"),
    );
    let jsonl = "format = \"jsonl\"";
    copied(jsonl, jsonl, format!("{mark}1\n2\n").as_bytes(), "1\n2\n");
    let csv = "format = \"csv\"\nkey = \"a\"";
    copied(
        csv,
        "",
        format!("{mark}a\n1\n").as_bytes(),
        "{\"a\":\"1\"}\n",
    );
}

#[test]
fn keys_are_made_of_fields() {
    let csv = "format = \"csv\"\ndelimiter = \"|\"";
    let input = b"{\"a.b\":{\"c\":[1,\"x\"]},\"d\":true}\n";
    for (key, expected) in [
        ("'\"a.b\".c.1'", "x"),
        ("['\"a.b\".c.0', 'd']", "\"[\"\"1\"\",\"\"true\"\"]\""),
    ] {
        let source = format!("format = \"jsonl\"\nkey = {key}");
        let value = "\"{\"\"a.b\"\":{\"\"c\"\":[1,\"\"x\"\"]},\"\"d\"\":true}\"";
        copied(&source, csv, input, &format!("{expected}|{value}\n"));
    }
    let source = "format = \"jsonl\"\nkey = \"a\"";
    let words = ["in.txt`, line 2, byte 8: field `a` is null, which counts as missing"];
    refused(source, "", b"{\"a\":1}\n{\"a\":null}\n", 5, &words);
}

#[test]
fn a_unit_that_was_forgotten_is_asked_for() {
    let source = "format = \"jsonl\"\ntimestamp = \"t\"";
    let input = b"{\"t\":1770000000}\n";
    let job = copy(source, "", input);
    let words = [
        "in.txt`, line 1, byte 0: the event time 1770000000 looks like seconds",
        "set `timestamp-unit = \"s\"`, or `timestamp-unit = \"ms\"`",
    ];
    says_all(job.run(&["--set", "restart.strategy=none"]), 5, &words);
    // The unit is not a part of the identity: the same job resumes with it.
    job.run(&["--set", "source.text.timestamp-unit=s"])
        .succeeded();
    assert_eq!(output(&job, "out"), "{\"t\":1770000000}\n");
    let strict = format!("{source}\ntimestamp-format = \"rfc3339\"");
    refused(&strict, "", input, 5, &["is not an event time in RFC 3339"]);
    copied(
        &strict,
        "",
        b"{\"t\":\"2026-02-03T04:05:06Z\"}",
        "{\"t\":\"2026-02-03T04:05:06Z\"}\n",
    );
}

#[test]
fn a_line_without_its_event_time_is_refused() {
    let source = "timestamp-format = \"%F %T\"";
    let line = "2026-11-30 02:22:02 a\n";
    copied(source, "", line.as_bytes(), line);
    let input = format!("{line}no time\n");
    let words = ["in.txt`, line 2, byte 22: the line has no event time of the form `%F %T`"];
    refused(source, "", input.as_bytes(), 5, &words);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let csv = "format = \"csv\"\n";
    let sink = |more: &str| format!("{csv}{more}");
    let word = |text: &str, words: &str| refused("", &sink(text), b"a\n", 2, &[words]);
    word(
        "delimiter = \";;\"",
        "sink.out.delimiter: must be one ASCII character",
    );
    word(
        "quote = \"a\"",
        "sink.out.quote: must be one ASCII character",
    );
    word(
        "header = \"yes\"",
        "sink.out.header: must be `true` or `false`",
    );
    let names = |text: &str, words: &str| refused(&sink(text), "", b"a\n", 2, &[words]);
    names("columns = \"a\"", "source.text.columns: must be a list");
    names(
        "timestamp-unit = \"m\"",
        "source.text.timestamp-unit: unknown value `m`",
    );
    names(
        "timestamp-format = \"%H:%M\"",
        "source.text.timestamp-format: does not tell a day",
    );
    names(
        "key = 7",
        "source.text.key: must be the name of a field in quotes, or a list of names",
    );
}

#[test]
fn a_job_does_not_resume_with_another_layout() {
    let job = copy("", "format = \"csv\"", b"a\n");
    job.run(&[]).succeeded();
    let outcome = job.run(&["--set", "sink.out.delimiter=;"]);
    says_all(
        outcome,
        4,
        &["holds checkpoints of another pipeline: `sink.out.delimiter` was not set, now is `;`"],
    );
    // What the default says already changes nothing.
    job.run(&[
        "--set",
        "sink.out.delimiter=,",
        "--set",
        "sink.out.header=false",
    ])
    .succeeded();
}
