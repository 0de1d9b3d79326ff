//! Catches input that is lost because a source is asked too late, and input that is read as something that it is not: a
//! rollback behind which standard input cannot be read again, quotes within fields of CSV, letters that have only the start
//! of a record, and bytes behind the end of compressed data.

use std::fs::{self, File};
use std::io::Write;
use std::process::{ChildStdin, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bad_input;
use crate::job::{Job, Running, command};

/// What no wait of a test takes.
const DEADLINE: Duration = Duration::from_secs(120);

/// A job that copies standard input, with what each line of `settings` says of its source, and takes checkpoints when it is
/// told to.
fn stdin(settings: &str) -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            "[job]\nname = \"words\"\n[checkpoint]\ninterval = \"off\"\nretained = 1000\n\
             [source.text]\nconnector = \"stdin\"\n{settings}\n\
             [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"out\"\n"
        ),
    );
    job
}

fn start(job: &Job, input: Stdio) -> Running {
    let mut command = command();
    command.args(["run", "pipeline.toml"]);
    job.spawn_with(command, input)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// All lines of the output, sorted.
fn output(job: &Job) -> Vec<String> {
    let mut lines = Vec::new();
    for part in fs::read_dir(job.path("out")).into_iter().flatten() {
        let part = part.unwrap().path();
        if part.is_file() {
            let text = fs::read_to_string(part).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Writes a line, and waits until a checkpoint has all lines. Returns its id.
#[track_caller]
fn saved(job: &Job, input: &mut ChildStdin, line: &str, all: &[&str]) -> String {
    input.write_all(line.as_bytes()).unwrap();
    let since = Instant::now();
    loop {
        job.command(&["checkpoint", "trigger", "."]).succeeded();
        let there = output(job);
        if there == all {
            return job.checkpoint_ids()[0].to_string();
        }
        assert!(since.elapsed() < DEADLINE, "{there:?}");
    }
}

#[test]
fn a_rollback_that_standard_input_cannot_follow_deletes_nothing() {
    let job = stdin("replay-bytes = 1");
    let mut run = start(&job, Stdio::piped());
    let mut input = run.input();
    run.wait_for("starts from the beginning");
    let first = saved(&job, &mut input, "1\n", &["1"]);
    let second = saved(&job, &mut input, "2\n", &["1", "2"]);
    saved(&job, &mut input, "3\n", &["1", "2", "3"]);
    let before = job.checkpoint_ids();
    let refused = job.command(&["rollback", ".", "--to", &first]);
    assert!(refused.code.is_some_and(|code| code > 0), "{refused:?}");
    refused
        .says("source `text`: ")
        .says("but only what follows byte 4 is kept in memory");
    assert_eq!(job.checkpoint_ids(), before);
    assert_eq!(output(&job), ["1", "2", "3"]);
    // What follows is in memory.
    job.command(&["rollback", ".", "--to", &second]).succeeded();
    drop(input);
    run.wait().succeeded();
    assert_eq!(output(&job), ["1", "2", "3"]);

    // A job that does not run takes what standard input gives next.
    let back = job.command(&["rollback", ".", "--to", &first]).succeeded();
    let words = format!("what it had read after checkpoint {first} is not read again");
    assert!(back.stdout.contains(&words), "{}", back.stdout);
    let mut run = start(&job, Stdio::piped());
    run.input().write_all(b"4\n").unwrap();
    run.wait().succeeded();
    assert_eq!(output(&job), ["1", "4"]);
}

/// A letter of the source `text` whose record is `value`.
fn letter(input: &str, more: &str) -> String {
    format!(
        "{{\"operator\":\"text\",\"plugin\":\"\",\"reason\":\"\",\"position\":\"\",\"input\":\"{input}\",\"key\":\"\",\
         \"value\":\"value\",\"timestamp\":null{more}}}\n"
    )
}

#[test]
fn a_letter_without_a_whole_record_is_not_a_record() {
    let letters = [
        letter("out", ""),
        letter("out", ",\"bytes-in-all\":99"),
        letter("file", ""),
        // An operator may have an input of this name.
        letter("file", "").replace("\"plugin\":\"\"", "\"plugin\":\"00\""),
    ];
    let source = "format = \"dead-letters\"\non-error = \"dead-letter\"";
    let job = bad_input::copy(source, "", letters.concat().as_bytes());
    job.run(&[]).succeeded();
    assert_eq!(output(&job), ["value", "value"]);
    let found = bad_input::listed(&job);
    let reasons: Vec<_> = found.iter().map(|(letter, _)| &letter.reason).collect();
    assert!(
        reasons.len() == 2
            && reasons[0].contains("the letter has only the first 5 of its 99 bytes")
            && reasons[1].contains("the letter is about a whole file"),
        "{reasons:?}"
    );
}

#[test]
fn a_letter_that_cannot_be_replayed_does_not_count_as_replayed() {
    let source = "format = \"jsonl\"\non-error = \"dead-letter\"";
    let job = bad_input::copy(source, "", b"no\n");
    job.run(&[]).succeeded();
    let parts = fs::read_dir(job.path("letters")).unwrap();
    let mut parts = parts.map(|part| part.unwrap().path());
    let part = parts.find(|path| path.is_file() && path.extension().is_some());
    let part = part.unwrap();
    let whole = fs::read_to_string(&part).unwrap();
    let cut = whole.trim_end().strip_suffix('}').unwrap().to_owned();
    fs::write(&part, format!("{whole}{cut},\"bytes-in-all\":99}}\n")).unwrap();
    let said = bad_input::replayed(&job);
    assert!(
        said.starts_with("1 dead letter of source `text`, replayed: ")
            && said.contains("\n1 dead letter has only the first bytes of its record, "),
        "{said}"
    );
    let was_replayed = bad_input::listed(&job).into_iter().map(|(_, it)| it);
    assert_eq!(was_replayed.collect::<Vec<_>>(), [true, false]);
    assert!(bad_input::replayed(&job).starts_with("1 dead letter has only"));
}

#[test]
fn two_stray_quotes_merge_no_rows() {
    let rows = "a,b\n1,\"a\n2,b\n3,\"c\n4,d\n5,\"e\nf\"\n6,\"g\"h\n7,i\n";
    let file = bad_input::copy("format = \"csv\"\non-error = \"skip\"", "", rows.as_bytes());
    let compressed = bad_input::copy(
        "format = \"csv\"\non-error = \"skip\"",
        "",
        &gzip(rows.as_bytes()),
    );
    let once = ["--parallelism", "1"];
    let outcomes = [file.run(&once), compressed.run(&once)];
    let piped = stdin("format = \"csv\"\non-error = \"skip\"");
    let mut run = start(&piped, Stdio::piped());
    run.input().write_all(rows.as_bytes()).unwrap();
    let outcomes = outcomes.into_iter().chain([run.wait()]);
    for (job, outcome) in [&file, &compressed, &piped].into_iter().zip(outcomes) {
        outcome
            .succeeded()
            .says("bad records: 3 skipped, 0 to dead letters")
            .says("text behind its closing quote");
        let good = [("2", "b"), ("4", "d"), ("5", "e\\nf"), ("7", "i")];
        let good = good.map(|(a, b)| format!("{{\"a\":\"{a}\",\"b\":\"{b}\"}}"));
        assert_eq!(output(job), good);
    }
}

#[test]
fn zeros_may_follow_gzip_data_and_nothing_else() {
    let content: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    let member = gzip(content.as_bytes());
    let once = ["--parallelism", "1", "--set", "restart.strategy=none"];
    // More than is read at once.
    let padded = [&member[..], &gzip(b"more\n")[..], &[0; 100_000][..]].concat();
    let job = bad_input::copy("", "", &padded);
    job.run(&once).succeeded();
    assert_eq!(output(&job).len(), 50_001);
    for (following, words) in [
        (&b"x"[..], "1 byte follows the end of the gzip data"),
        (&b"\0\0text"[..], "4 bytes follow the end of the gzip data"),
        (
            &[7; 100_000][..],
            "100000 bytes follow the end of the gzip data",
        ),
        (&b"\x1f\x8b"[..], "the file ends before its content does"),
    ] {
        let job = bad_input::copy("", "", &[&member[..], following].concat());
        let place = format!("byte {} of its content: {words}", content.len());
        let outcome = job.run(&once);
        assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
        outcome.says(&place);
    }
}

#[test]
fn compressed_standard_input_and_a_folder_are_refused_at_once() {
    let job = stdin("");
    job.write("in.gz", gzip(b"a\n"));
    let folder = File::open(job.path("")).unwrap();
    let compressed = File::open(job.path("in.gz")).unwrap();
    for (input, words) in [
        (compressed, "as in `zcat FILE | floodmark run "),
        (folder, "cannot read `standard input`: Is a directory"),
    ] {
        let outcome = start(&job, input.into()).wait();
        assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("attempt"), "{}", outcome.stderr);
        outcome.says(words);
    }
}

#[test]
fn a_followed_file_that_is_written_anew_is_read_on() {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        "job.name = \"copy\"\ncheckpoint.interval = \"50ms\"\n\
         source.text = { connector = \"file\", path = \"in.txt\", follow = true }\n\
         sink.out = { connector = \"file\", from = \"text\", path = \"out\" }\n",
    );
    job.write("in.txt", "1\n2\n");
    let run = job.start(&[]);
    run.wait_for_output(&job, "1\n2\n");
    // A program that writes the whole file again has truncated it for a moment.
    File::create(job.path("in.txt")).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    job.write("in.txt", "1\n2\n3\n");
    run.wait_for_output(&job, "1\n2\n3\n");
    run.signal("TERM");
    run.wait().succeeded();
}
