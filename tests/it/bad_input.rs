//! Catches one bad record that ends a job although it may be skipped or set aside, a good record that is lost with it, a
//! letter that is lost, doubled, or does not lead back to its bytes, and a failure that is tried again in vain.

use std::fs;
use std::time::Duration;

use floodmark_engine::connector::letter::Letter;

use crate::job::{Job, Outcome};
use crate::plugins::plugin;

/// A job that copies `in.txt` to `out`, with dead letters of both nodes in `letters`. `source` and `sink` are lines of their
/// tables.
pub fn copy(source: &str, sink: &str, input: &[u8]) -> Job {
    let job = Job::with_input(input);
    job.write("pipeline.toml", pipeline("in.txt", source, sink));
    job
}

pub fn pipeline(path: &str, source: &str, sink: &str) -> String {
    format!(
        r#"
[job]
name = "words"

[source.text]
connector = "file"
path = "{path}"
{source}

[sink.out]
connector = "file"
from = "text"
path = "out"
{sink}

[sink.letters]
connector = "file"
from = ["text.dead-letters", "out.dead-letters"]
path = "letters"
format = "jsonl"
"#
    )
}

/// All letters, with whether they were replayed.
pub fn listed(job: &Job) -> Vec<(Letter, bool)> {
    let listed = job.command(&["dead-letters", "list", "pipeline.toml", "--json"]);
    let letter = |line: &str| {
        let fields: serde_json::Value = serde_json::from_str(line).unwrap();
        let letter = Letter::from_json(line).unwrap();
        (letter, fields["replayed"].as_bool().unwrap())
    };
    listed.succeeded().stdout.lines().map(letter).collect()
}

#[track_caller]
pub fn only_letter(job: &Job) -> Letter {
    let letters = listed(job);
    let [(letter, _)] = &letters[..] else {
        panic!("{letters:?}");
    };
    letter.clone()
}

/// What `dead-letters replay` prints.
#[track_caller]
pub fn replayed(job: &Job) -> String {
    let replay = job.command(&["dead-letters", "replay", "pipeline.toml"]);
    replay.succeeded().stdout
}

/// Asserts that a run ended at a bad record at the first attempt.
#[track_caller]
pub fn fails(outcome: Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("attempt"), "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
}

/// One bad record among good ones.
struct Kind {
    source: &'static str,
    input: &'static [u8],
    /// The line and the byte of the bad record, its bytes, and words of the reason.
    place: &'static str,
    bytes: &'static [u8],
    reason: &'static str,
    good: [&'static str; 2],
}

const KINDS: [Kind; 11] = [
    Kind {
        source: "format = \"jsonl\"",
        input: b"1\n{\"a\":\n3\n",
        place: "line 2, byte 2",
        bytes: b"{\"a\":",
        reason: "the line is not valid JSON (EOF while parsing a value at column 5)",
        good: ["1", "3"],
    },
    Kind {
        source: "format = \"jsonl\"",
        input: b"1\n\xff\n3",
        place: "line 2, byte 2",
        bytes: b"\xff",
        reason: "the line is not valid JSON (invalid utf-8",
        good: ["1", "3"],
    },
    Kind {
        source: "format = \"jsonl\"\nkey = \"a\"",
        input: b"{\"a\":1}\n{\"b\":2}\r\n{\"a\":3}\n",
        place: "line 2, byte 8",
        bytes: b"{\"b\":2}",
        reason: "there is no field `a`",
        good: ["{\"a\":1}", "{\"a\":3}"],
    },
    Kind {
        source: "format = \"jsonl\"\ntimestamp = \"t\"",
        input: b"{\"t\":1}\n{\"t\":1770000000}\n{\"t\":3}\n",
        place: "line 2, byte 8",
        bytes: b"{\"t\":1770000000}",
        reason: "looks like seconds",
        good: ["{\"t\":1}", "{\"t\":3}"],
    },
    Kind {
        source: "key-separator = \" \"",
        input: b"a b\nbad\nc d\n",
        place: "line 2, byte 4",
        bytes: b"bad",
        reason: "the line has no ` `",
        good: ["b", "d"],
    },
    Kind {
        source: "format = \"csv\"",
        input: b"a,b\n1,2\n\n3\r\n4,5\n",
        place: "line 4, byte 9",
        bytes: b"3",
        reason: "the row has 1 field, but there are 2 columns",
        good: ["{\"a\":\"1\",\"b\":\"2\"}", "{\"a\":\"4\",\"b\":\"5\"}"],
    },
    Kind {
        source: "format = \"csv\"\nheader = false\ncolumns = [\"a\"]",
        input: b"1\n2,\"3\n4\"\n5\n",
        place: "line 2, byte 2",
        bytes: b"2,\"3\n4\"",
        reason: "the row has 2 fields, but there is 1 column",
        good: ["{\"a\":\"1\"}", "{\"a\":\"5\"}"],
    },
    Kind {
        source: "format = \"csv\"",
        input: b"a,b\n1,2\n\"3,4\n5,6\n",
        place: "line 3, byte 8",
        bytes: b"\"3,4",
        reason: "a quoted field that never ends",
        good: ["{\"a\":\"1\",\"b\":\"2\"}", "{\"a\":\"5\",\"b\":\"6\"}"],
    },
    Kind {
        source: "format = \"csv\"",
        input: b"a,b\n1,2\n3,\"x\"y\n5,6\n",
        place: "line 3, byte 8",
        bytes: b"3,\"x\"y",
        reason: "a quoted field of the row has text behind its closing quote",
        good: ["{\"a\":\"1\",\"b\":\"2\"}", "{\"a\":\"5\",\"b\":\"6\"}"],
    },
    Kind {
        source: "format = \"csv\"",
        input: b"a\n1\n\xff\n3\n",
        place: "line 3, byte 4",
        bytes: b"\xff",
        reason: "field 1 is not UTF-8",
        good: ["{\"a\":\"1\"}", "{\"a\":\"3\"}"],
    },
    Kind {
        source: "format = \"dead-letters\"",
        input: concat!(
            "{\"operator\":\"o\",\"plugin\":\"\",\"reason\":\"\",\"position\":\"\",\"input\":\"in\",\"key\":\"\",\"value\":\"v\",\"timestamp\":null}\n",
            "no letter\n",
            "{\"operator\":\"o\",\"plugin\":\"\",\"reason\":\"\",\"position\":\"\",\"input\":\"in\",\"key\":\"\",\"value\":\"w\",\"timestamp\":null}\n",
        )
        .as_bytes(),
        place: "line 2, byte ",
        bytes: b"no letter",
        reason: "not a dead letter: ",
        good: ["v", "w"],
    },
];

#[test]
fn a_source_handles_each_kind_in_three_ways() {
    for kind in KINDS {
        let job = |on_error: &str| {
            let source = format!("{}\non-error = \"{on_error}\"", kind.source);
            copy(&source, "", kind.input)
        };
        let place = format!("`in.txt`, {}", kind.place);
        let failed = format!("error: `text`: {place}");
        let ways = "skip such records with `source.text.on-error = \"skip\"`";
        fails(job("fail").run(&[]), &[&failed, kind.reason, ways]);

        let skips = job("skip");
        let outcome = skips.run(&[]).succeeded();
        let outcome = outcome.says("bad records: 1 skipped, 0 to dead letters");
        outcome.says(&format!("warning: a bad record is skipped: {place}"));
        assert_eq!(skips.lines("out"), kind.good);
        skips.run(&[]).says("there was nothing new to read");

        let sets_aside = job("dead-letter");
        let outcome = sets_aside.run(&[]).succeeded();
        outcome.says("bad records: 0 skipped, 1 to dead letters");
        assert_eq!(sets_aside.lines("out"), kind.good);
        let letter = only_letter(&sets_aside);
        let position = format!("source `text`: {place}");
        assert!(letter.position.starts_with(&position), "{letter:?}");
        assert!(letter.reason.contains(kind.reason), "{letter:?}");
        assert_eq!(letter.value, kind.bytes, "{letter:?}");
        assert_eq!((&*letter.operator, &*letter.input), ("text", "out"));
        assert_eq!(letter.columns.is_empty(), !kind.source.contains("csv"));
    }
}

#[test]
fn a_sink_handles_what_it_cannot_write_in_three_ways() {
    let job = |on_error: &str| {
        let sink = format!("format = \"jsonl\"\non-error = \"{on_error}\"");
        copy("key-separator = \"=\"", &sink, b"a=1\nb=x\nc=3\n")
    };
    let place = "source `text`: `in.txt`, bytes 0 to 12, record 2 of these";
    let failed = format!("error: `out`: {place}: the record cannot be written as jsonl");
    let words = [
        failed.as_str(),
        "its value is not JSON (expected value at column 1)",
        "`sink.out.on-error = \"skip\"`",
    ];
    fails(job("fail").run(&[]), &words);

    let skips = job("skip");
    let outcome = skips.run(&[]).succeeded();
    outcome
        .says("3 records in, 2 records out")
        .says("bad records: 1 skipped, 0 to dead letters");
    assert_eq!(skips.lines("out"), ["1", "3"]);

    let sets_aside = job("dead-letter");
    sets_aside.run(&[]).succeeded();
    assert_eq!(sets_aside.lines("out"), ["1", "3"]);
    let letter = only_letter(&sets_aside);
    assert_eq!((&*letter.operator, &*letter.input), ("out", "in"));
    assert_eq!((&letter.key[..], &letter.value[..]), (&b"b"[..], &b"x"[..]));
    assert_eq!(letter.position, place);
    let listed =
        sets_aside.command(&["dead-letters", "list", "pipeline.toml", "--operator", "out"]);
    assert_eq!(listed.succeeded().stdout.lines().count(), 2);

    let checked = sets_aside.command(&["check", "pipeline.toml"]).succeeded();
    let says = "  errors  a record that cannot be written is set aside as a dead letter\n";
    assert!(checked.stdout.contains(says), "{}", checked.stdout);
}

/// The line of this number: one in 89 has no separator, one in 97 has a value that is not JSON.
fn line(number: u64) -> String {
    match (number.is_multiple_of(89), number.is_multiple_of(97)) {
        (true, _) => format!("nothing-{number}"),
        (_, true) => format!("k{}=word-{number}", number % 7),
        _ => format!("k{}={number}", number % 7),
    }
}

#[test]
fn good_records_and_letters_are_exactly_once_whenever_the_process_dies() {
    let settings = "key-separator = \"=\"\nsplit-bytes = 200000\non-error = \"dead-letter\"";
    let sink = "format = \"jsonl\"\non-error = \"dead-letter\"";
    let (mut input, mut good, mut bad) = (String::new(), Vec::new(), Vec::new());
    for number in 0..400_000 {
        let line = line(number);
        let position = format!("line {}, byte {}", number + 1, input.len());
        match line.split_once('=') {
            None => bad.push((line.clone(), position)),
            Some((_, word)) if word.starts_with("word") => {
                bad.push((word.to_owned(), String::new()));
            }
            Some((_, value)) => good.push(value.to_owned()),
        }
        input += &line;
        input.push('\n');
    }
    let job = copy(settings, sink, input.as_bytes());
    let arguments = ["--parallelism", "2", "--set", "checkpoint.interval=20ms"];
    for kill in 0..6 {
        let mut running = job.start(&arguments);
        if !running.has_ended() {
            std::thread::sleep(Duration::from_millis(40 + 30 * kill));
        }
        running.kill();
    }
    job.run(&arguments).succeeded();
    good.sort();
    assert_eq!(job.lines("out"), good);
    let mut letters: Vec<_> = listed(&job)
        .into_iter()
        .map(|(letter, _)| {
            let place = match letter.operator.as_str() {
                "text" => letter.position.replace("source `text`: `in.txt`, ", ""),
                _ => String::new(),
            };
            (String::from_utf8(letter.value).unwrap(), place)
        })
        .collect();
    letters.sort();
    bad.sort();
    assert_eq!(letters, bad);
}

#[test]
fn letters_of_a_source_are_parsed_once_more_with_the_settings_of_now() {
    let rows = b"t,u\n1,a\n1770000000,\"b\nc\"\n2,d\n";
    let objects =
        b"{\"t\":1,\"u\":\"a\"}\n{\"t\":1770000000,\"u\":\"b\\nc\"}\n{\"t\":2,\"u\":\"d\"}\n";
    for (format, input, line, expected) in [
        (
            "csv",
            rows.as_slice(),
            3,
            "{\"t\":\"1770000000\",\"u\":\"b\\nc\"}",
        ),
        (
            "jsonl",
            objects.as_slice(),
            2,
            "{\"t\":1770000000,\"u\":\"b\\nc\"}",
        ),
    ] {
        let source = format!(
            "format = \"{format}\"\ntimestamp = \"t\"\nkey = \"u\"\non-error = \"dead-letter\""
        );
        let job = copy(&source, "", input);
        job.run(&[]).succeeded();
        assert_eq!(job.lines("out").len(), 2);
        let first = only_letter(&job);
        let one = "1 dead letter of source `text`, replayed: the next run processes them\n";
        assert_eq!(replayed(&job), one);
        // The settings are as before, so it is a letter again, which leads back to the same bytes.
        job.run(&[]).succeeded();
        let letters = listed(&job);
        let [(_, true), (again, false)] = &letters[..] else {
            panic!("{letters:?}");
        };
        assert_eq!(
            (&again.value, &again.columns),
            (&first.value, &first.columns)
        );
        let place = format!(
            "source `text.out.replay`: `000001-00000001.jsonl`, line 1, byte 0; originally source `text`: `in.txt`, line {line}, byte "
        );
        assert!(again.position.starts_with(&place), "{}", again.position);
        assert_eq!(again.operator, "text");

        assert_eq!(replayed(&job), one);
        let mended = ["--set", "source.text.timestamp-unit=s"];
        for _ in 0..2 {
            job.run(&mended).succeeded();
            let out = job.lines("out");
            assert_eq!(out.len(), 3, "{out:?}");
            assert_eq!(out.iter().filter(|line| *line == expected).count(), 1);
            assert!(replayed(&job).starts_with("nothing to replay: all 2 dead letters"));
        }
    }
}

#[test]
fn letters_of_a_sink_are_written_once_more() {
    let sink = "format = \"jsonl\"\non-error = \"dead-letter\"";
    let job = copy("", sink, b"1\nx\n3\n");
    job.run(&[]).succeeded();
    let one = "1 dead letter of sink `out`, replayed: the next run processes them\n";
    assert_eq!(replayed(&job), one);
    job.run(&[]).succeeded();
    let letters = listed(&job);
    let [(first, true), (again, false)] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert_eq!(
        (&first.value, &again.value),
        (&b"x".to_vec(), &b"x".to_vec())
    );
    // A user may correct the letter itself.
    for part in fs::read_dir(job.path("letters")).unwrap() {
        let part = part.unwrap().path();
        if part.is_file() {
            let text = fs::read_to_string(&part).unwrap();
            fs::write(&part, text.replace("\"value\":\"x\"", "\"value\":\"2\"")).unwrap();
        }
    }
    assert_eq!(replayed(&job), one);
    for _ in 0..2 {
        job.run(&[]).succeeded();
        assert_eq!(job.lines("out"), ["1", "2", "3"]);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_set_aside_as_a_whole() {
    let job = |on_error: &str| {
        let job = Job::new();
        let source = format!("format = \"csv\"\non-error = \"{on_error}\"");
        job.write("pipeline.toml", pipeline("in", &source, ""));
        job.write("in/a.csv", "x\n1\n");
        job.write("in/b.csv", "x,x\n2,3\n4,5\n");
        job.write("in/c.csv", "x\n6\n");
        job
    };
    let words =
        ["error: `text`: `in/b.csv`, line 1, byte 0: two columns are called `x`; rename one"];
    fails(job("fail").run(&[]), &words);

    let good = ["{\"x\":\"1\"}", "{\"x\":\"6\"}"];
    let skips = job("skip");
    let outcome = skips.run(&[]).succeeded();
    outcome.says("bad records: 1 skipped, 0 to dead letters");
    assert_eq!(skips.lines("out"), good);

    let sets_aside = job("dead-letter");
    sets_aside.run(&[]).succeeded();
    // What it grows by is not read, either.
    sets_aside.write("in/b.csv", "x,x\n2,3\n4,5\n7,8\n");
    sets_aside.run(&[]).says("there was nothing new to read");
    assert_eq!(sets_aside.lines("out"), good);
    let letter = only_letter(&sets_aside);
    assert_eq!(letter.position, "source `text`: `in/b.csv`, line 1, byte 0");
    assert_eq!((&*letter.input, &letter.value[..]), ("file", &b"x,x"[..]));
    assert_eq!(
        replayed(&sets_aside),
        "1 dead letter is about a whole file: correct the file and add it to the input under another name\n"
    );
}

#[test]
fn messages_quote_little_of_a_long_record() {
    let names: Vec<_> = (0..2000).map(|column| format!("column-{column}")).collect();
    let header = names.join(",") + "\n";
    let job = copy("format = \"csv\"\nkey = \"none\"", "", header.as_bytes());
    let outcome = job.run(&[]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.contains("there is no column `none`"));
    let line = line.unwrap_or_else(|| panic!("{}", outcome.stderr));
    assert!(line.len() < 400 && line.ends_with(" more"), "{line}");
}

#[test]
fn letters_have_a_reader_and_the_graph_no_cycle() {
    let check = |source: &str, sink: &str, more: &str, words: &[&str]| {
        let job = Job::with_input("a\n");
        let text = pipeline("in.txt", source, sink);
        let (text, _) = text.split_once("[sink.letters]").unwrap();
        job.write("pipeline.toml", format!("{text}\n{more}"));
        let outcome = job.run(&[]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        for word in words {
            assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
        }
    };
    let aside = "on-error = \"dead-letter\"";
    for (source, sink, node) in [(aside, "", "text"), ("", aside, "out")] {
        let unread =
            format!("nothing reads `{node}.dead-letters`, so its dead letters would vanish");
        let add = format!(
            "\n    [sink.{node}-letters]\n    connector = \"file\"\n    from = \"{node}.dead-letters\"\n"
        );
        check(source, sink, "", &[&unread, &add]);
    }
    let discard = |from: &str| format!("[sink.z]\nconnector = \"discard\"\nfrom = {from}\n");
    let text = ["`text` is a source and has one output; write `text`"];
    check("", "", &discard("\"text.other\""), &text);
    let plain = ["`out` is a sink, and a sink has no output but `out.dead-letters`"];
    check("", "", &discard("\"out\""), &plain);
    let looped = format!(
        "{}{aside}\n",
        discard("[\"out.dead-letters\", \"z.dead-letters\"]")
    );
    check(
        "",
        aside,
        &looped,
        &["sink.z.from: forms a cycle: `z` -> `z`"],
    );
    let word = ["source.text.on-error: unknown value `drop`"];
    check("on-error = \"drop\"", "", "", &word);
}

#[test]
fn one_sink_reads_letters_before_and_behind_an_exchange() {
    let job = Job::with_input("a good-1\nbad\nb reject-2\nc good-3\n");
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
source.text = {{ connector = "file", path = "in.txt", key-separator = " ", on-error = "dead-letter" }}
operator.count = {{ plugin = {:?}, from = "text", on-error = "dead-letter" }}
sink.out = {{ connector = "file", from = "count", path = "out", format = "csv", on-error = "dead-letter" }}
sink.letters = {{ connector = "file", from = ["text.dead-letters", "count.dead-letters", "out.dead-letters"], path = "letters", format = "jsonl" }}
"#,
            plugin("faulty")
        ),
    );
    for parallelism in ["2", "3", "1"] {
        job.run(&["--parallelism", parallelism]).succeeded();
        let mut values: Vec<_> = listed(&job)
            .into_iter()
            .map(|(letter, _)| String::from_utf8(letter.value).unwrap())
            .collect();
        values.sort();
        assert_eq!(values, ["bad", "reject-2"]);
    }
    let said = replayed(&job);
    assert!(
        said.contains("1 dead letter of source `text`, replayed"),
        "{said}"
    );
    assert!(
        said.contains("1 dead letter of operator `count`, input `in`, replayed"),
        "{said}"
    );
    job.run(&["--parallelism", "2"]).succeeded();
    assert_eq!(listed(&job).len(), 4);
}
