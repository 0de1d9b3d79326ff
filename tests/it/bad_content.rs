//! Catches bad records that are lost, told of at a wrong place or end a job where input is not a plain file or output is in
//! folders: in compressed files, on standard input, and in a sink that sorts. And a damaged file that keeps others from being read.

use std::fs::{self, File};
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bad_input::{copy, fails, listed, only_letter, pipeline, replayed};
use crate::job::{Job, Outcome, command};

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// A job whose source is standard input.
fn stdin(source: &str) -> Job {
    let job = Job::new();
    let text = pipeline("", source, "");
    let text = text.replace("connector = \"file\"\npath = \"\"", "connector = \"stdin\"");
    job.write("pipeline.toml", text);
    job
}

fn run(job: &Job, arguments: &[&str], input: &str) -> Outcome {
    job.write("input", input);
    let mut command = command();
    command.args(["run", "pipeline.toml"]).args(arguments);
    let input = File::open(job.path("input")).unwrap();
    job.spawn_with(command, input.into()).wait()
}

#[test]
fn a_damaged_file_is_set_aside_and_the_others_are_read() {
    let content: String = (0..100_000).map(|number| format!("b{number}\n")).collect();
    let whole = gzip(content.as_bytes());
    let job = |on_error: &str| {
        let job = Job::new();
        let source = format!("on-error = \"{on_error}\"");
        job.write("pipeline.toml", pipeline("in", &source, ""));
        job.write("in/a.gz", gzip(b"a\n"));
        job.write("in/b.gz", &whole[..whole.len() * 2 / 3]);
        job.write("in/c.txt", "c\n");
        job.write("in/d.gz", "this is not compressed\n");
        job
    };
    let once = ["--parallelism", "1"];
    let words = ["of its content: the file ends before its content does"];
    fails(job("fail").run(&once), &words);

    let skips = job("skip");
    let outcome = skips.run(&once).succeeded();
    outcome.says("bad records: 2 skipped, 0 to dead letters");

    let sets_aside = job("dead-letter");
    sets_aside.run(&once).succeeded();
    for job in [&skips, &sets_aside] {
        let good = job.lines("out");
        let mut start: Vec<_> = content.lines().take(good.len() - 2).collect();
        start.extend(["a", "c"]);
        start.sort_unstable();
        assert!(good.len() > 1000 && good == start);
    }
    let letters = listed(&sets_aside);
    let [(cut, false), (named, false)] = &letters[..] else {
        panic!("{letters:?}");
    };
    assert!(
        cut.position.starts_with("source `text`: `in/b.gz`, byte "),
        "{cut:?}"
    );
    assert_eq!(
        named.position,
        "source `text`: `in/d.gz`, byte 0 of its content"
    );
    assert!(named.reason.contains("is not compressed with gzip"));
    assert_eq!((&*cut.input, &*named.input), ("file", "file"));
    assert!(replayed(&sets_aside).starts_with("2 dead letters are about whole files: "));

    // Both stay set aside, also if they change or are gone; one that is added is read.
    sets_aside.write("in/b.gz", &whole);
    fs::remove_file(sets_aside.path("in/d.gz")).unwrap();
    let again = sets_aside.run(&once).succeeded();
    again.says("there was nothing new to read");
    sets_aside.write("in/e.gz", gzip(b"e\n"));
    sets_aside.run(&once).succeeded();
    assert!(sets_aside.lines("out").contains(&"e".to_owned()));
    assert_eq!(listed(&sets_aside).len(), 2);
}

#[test]
fn a_file_that_is_set_aside_is_known_by_what_it_is() {
    let content: String = (0..100_000).map(|number| format!("b{number}\n")).collect();
    let whole = gzip(content.as_bytes());
    let job = Job::new();
    let source = "on-error = \"dead-letter\"";
    job.write("pipeline.toml", pipeline("in", source, ""));
    job.write("in/b.gz", &whole[..whole.len() * 2 / 3]);
    let once = ["--parallelism", "1"];
    job.run(&once).succeeded();
    let read = job.lines("out").len();
    assert!((1000..100_000).contains(&read), "{read}");
    fs::rename(job.path("in/b.gz"), job.path("in/c.gz")).unwrap();
    job.run(&once).says("there was nothing new to read");
    // The whole file takes its place: it is read on from the damage.
    job.write("whole", &whole);
    fs::rename(job.path("whole"), job.path("in/c.gz")).unwrap();
    job.run(&once).succeeded();
    let mut expected: Vec<_> = content.lines().collect();
    expected.sort_unstable();
    assert!(job.lines("out") == expected);
    assert_eq!(listed(&job).len(), 1);
}

#[test]
fn rows_of_compressed_files_are_refused_one_by_one() {
    let rows = b"a,b\n1,2\n3\n4,5\n\"6,7\n8,9\n";
    for bytes in [gzip(rows), zstd(rows)] {
        let job = copy("format = \"csv\"\non-error = \"dead-letter\"", "", &bytes);
        job.run(&["--parallelism", "1"]).succeeded();
        let good = ["1", "4", "8"].map(|a: &str| {
            let b = a.parse::<u32>().unwrap() + 1;
            format!("{{\"a\":\"{a}\",\"b\":\"{b}\"}}")
        });
        assert_eq!(job.lines("out"), good);
        let letters = listed(&job);
        let found: Vec<_> = letters
            .iter()
            .map(|(letter, _)| (letter.position.as_str(), letter.value.as_slice()))
            .collect();
        let expected: [(&str, &[u8]); 2] = [
            ("source `text`: `in.txt`, line 3, byte 8", b"3"),
            ("source `text`: `in.txt`, line 5, byte 14", b"\"6,7"),
        ];
        assert_eq!(found, expected);
        assert_eq!(letters[0].0.columns, ["a", "b"]);
    }
}

#[test]
fn standard_input_has_bad_records_too() {
    let bad = "1\nno\n3\n";
    let place = "`standard input`, line 2, byte 2";
    let job = |on_error: &str| stdin(&format!("format = \"jsonl\"\non-error = \"{on_error}\""));
    let failed = format!("error: `text`: {place}: the line is not valid JSON");
    fails(run(&job("fail"), &[], bad), &[&failed]);

    let skips = job("skip");
    let outcome = run(&skips, &[], bad).succeeded();
    outcome.says("bad records: 1 skipped, 0 to dead letters");
    assert_eq!(skips.lines("out"), ["1", "3"]);

    let sets_aside = job("dead-letter");
    run(&sets_aside, &[], bad).succeeded();
    assert_eq!(sets_aside.lines("out"), ["1", "3"]);
    let letter = only_letter(&sets_aside);
    assert_eq!(letter.position, format!("source `text`: {place}"));
    assert_eq!(letter.value, b"no");

    // Of input with a wrong header nothing is read. The next run has other input.
    let header = stdin("format = \"csv\"\non-error = \"dead-letter\"");
    let outcome = run(&header, &[], "a,a\n1,2\n3,4\n").succeeded();
    outcome.says("bad records: 0 skipped, 1 to dead letters");
    let letter = only_letter(&header);
    assert_eq!((&*letter.input, &letter.value[..]), ("file", &b"a,a"[..]));
    run(&header, &[], "a\n5\n").succeeded();
    assert_eq!(header.lines("out"), ["{\"a\":\"5\"}"]);
}

#[test]
fn letters_of_standard_input_are_parsed_once_more() {
    let source = "format = \"csv\"\ntimestamp = \"t\"\non-error = \"dead-letter\"";
    let job = stdin(source);
    let rows = "t,u\n1,a\n1770000000,\"b\nc\"\n\"2,d\n3,e\n";
    run(&job, &[], rows).succeeded();
    let good = ["{\"t\":\"1\",\"u\":\"a\"}", "{\"t\":\"3\",\"u\":\"e\"}"];
    assert_eq!(job.lines("out"), good);
    let letters = listed(&job);
    let found: Vec<_> = letters
        .iter()
        .map(|(letter, _)| (letter.position.as_str(), letter.value.as_slice()))
        .collect();
    let expected: [(&str, &[u8]); 2] = [
        (
            "source `text`: `standard input`, line 3, byte 8",
            b"1770000000,\"b\nc\"",
        ),
        ("source `text`: `standard input`, line 5, byte 25", b"\"2,d"),
    ];
    assert_eq!(found, expected);
    assert!(replayed(&job).starts_with("2 dead letters of source `text`, replayed: "));
    run(&job, &["--set", "source.text.timestamp-unit=s"], "").succeeded();
    let mended = "{\"t\":\"1770000000\",\"u\":\"b\\nc\"}";
    assert_eq!(job.lines("out"), [good[0], mended, good[1]]);
    // The quote is still missing.
    assert_eq!(listed(&job).len(), 3);
}

#[test]
fn a_sink_with_folders_sets_aside_what_has_no_folder() {
    let sink = "format = \"jsonl\"\nfolders = \"k={field:k}\"\non-error = \"dead-letter\"";
    let job = copy("", sink, b"{\"k\":1}\n{\"x\":2}\nno\n{\"k\":3}\n");
    job.run(&["--parallelism", "1"]).succeeded();
    assert_eq!(job.lines("out/k=1"), ["{\"k\":1}"]);
    assert_eq!(job.lines("out/k=3"), ["{\"k\":3}"]);
    let letters = listed(&job);
    let [(missing, _), (other, _)] = &letters[..] else {
        panic!("{letters:?}");
    };
    let words = "the record cannot be written as jsonl: `folders` finds no value in it: there is no field `k`";
    assert!(missing.reason.starts_with(words), "{missing:?}");
    assert_eq!((&*missing.operator, &*missing.input), ("out", "in"));
    assert_eq!(other.value, b"no");

    // A folder is not made for a record that is not in it.
    let sink = "format = \"jsonl\"\nfolders = \"k={key}\"\non-error = \"skip\"";
    let job = copy("key-separator = \" \"", sink, b"a 1\nb no\na 2\n");
    let outcome = job.run(&["--parallelism", "1"]).succeeded();
    outcome.says("bad records: 1 skipped, 0 to dead letters");
    assert_eq!(job.lines("out/k=a"), ["1", "2"]);
    assert!(!job.path("out/k=b").exists());
}
