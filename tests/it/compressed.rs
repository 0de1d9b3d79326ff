//! Catches compressed input that is read as if it were text, records that are lost or doubled at the border of two members or
//! when a job resumes in the middle, damage that is taken for the end of a file, and memory that grows with the content.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::job::{Job, Outcome};

/// Gives bytes a compressed form.
type Compress = fn(&[u8]) -> Vec<u8>;

/// A file name and what makes its bytes.
const BOTH: [(&str, Compress); 2] = [("in.gz", gzip), ("in.zst", zstd)];

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// A job that copies what `path` matches to the folder `out`.
fn copy(path: &str, source: &str) -> Job {
    let job = Job::new();
    job.write(
        "pipeline.toml",
        format!(
            "[job]\nname = \"words\"\n[source.text]\nconnector = \"file\"\npath = \"{path}\"\n{source}\n\
             [sink.out]\nconnector = \"file\"\nfrom = \"text\"\npath = \"out\"\n"
        ),
    );
    job
}

#[track_caller]
fn refused(name: &str, source: &str, bytes: &[u8], words: &[&str]) {
    let job = copy(name, source);
    job.write(name, bytes);
    let mut outcome: Outcome = job.run(&["--set", "restart.strategy=none"]);
    assert!(outcome.code.is_some_and(|code| code > 0), "{outcome:?}");
    for word in words {
        outcome = outcome.says(word);
    }
}

#[test]
fn every_format_is_read() {
    let letter = r#"{"operator":"o","plugin":"","reason":"r","position":"p","input":"in","key":"k","value":"v","timestamp":null}"#;
    for (source, input, expected) in [
        ("", "one\r\ntwo\nrest", "one\ntwo\nrest\n"),
        ("", "\u{feff}one\n", "one\n"),
        (
            "format = \"jsonl\"\nkey = \"a\"",
            "{\"a\":1}\n\n{\"a\":2}",
            "{\"a\":1}\n{\"a\":2}\n",
        ),
        (
            "format = \"csv\"",
            "a,b\n1,\"x\ny\"\n",
            "{\"a\":\"1\",\"b\":\"x\\ny\"}\n",
        ),
        ("format = \"dead-letters\"", letter, "v\n"),
    ] {
        let (head, tail) = input.split_at(4);
        for (name, compress) in BOTH {
            let job = copy(name, source);
            // The border of two members is within a record.
            let members = [compress(head.as_bytes()), compress(tail.as_bytes())].concat();
            job.write(name, &members);
            job.run(&[]).succeeded();
            assert_eq!(job.written("out"), expected, "{name} {source}");
        }
    }
}

#[test]
fn compressed_and_plain_files_stand_side_by_side() {
    let job = copy("logs/*", "split-bytes = 4");
    job.write("logs/a.log", "plain 1\nplain 2\n");
    job.write("logs/b.log.gz", gzip(b"gzip 1\ngzip 2\n"));
    job.write("logs/c.log.zst", zstd(b"zstd 1\nzstd 2\n"));
    // The bytes decide, not the name.
    job.write("logs/d.log", gzip(b"renamed\n"));
    job.run(&["--parallelism", "2"]).succeeded();
    let expected = [
        "gzip 1", "gzip 2", "plain 1", "plain 2", "renamed", "zstd 1", "zstd 2",
    ];
    assert_eq!(job.lines("out"), expected);
    // What was read is not read again; what was added is.
    let more = [gzip(b"gzip 1\ngzip 2\n"), gzip(b"gzip 3\n")].concat();
    job.write("logs/b.log.gz", more);
    job.run(&["--parallelism", "1"]).succeeded();
    let mut expected = expected.to_vec();
    expected.insert(2, "gzip 3");
    assert_eq!(job.lines("out"), expected);
}

#[test]
fn damage_is_not_the_end() {
    let content: String = (0..100_000).map(|number| format!("{number}\n")).collect();
    for (name, compress) in BOTH {
        let bytes = compress(content.as_bytes());
        let file = format!("{name}`, byte ");
        let cut = &bytes[..bytes.len() * 2 / 3];
        let words = "of its content: the file ends before its content does";
        refused(name, "", cut, &[&file, words]);
        refused(name, "format = \"csv\"", cut, &[&file, words]);
        let more = [&bytes[..], b"this is not compressed at all"].concat();
        let place = format!("{name}`, byte {} of its content: ", content.len());
        let words = match name.ends_with("gz") {
            true => "29 bytes follow the end of the gzip data",
            false => "it cannot be decompressed (",
        };
        refused(name, "", &more, &[&place, words]);
        let (_, end) = name.split_once('.').unwrap();
        let words = format!("its name ends in `.{end}`, but it is not compressed with");
        refused(name, "", b"plain text\n", &[&words]);
        refused(name, "", b"", &["it ends within the start of "]);
    }
    let mut bytes = gzip(content.as_bytes());
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    refused("in.gz", "", &bytes, &["it cannot be decompressed ("]);
    // A frame with a window of 256 MiB, and one empty block.
    let wide = b"\x28\xb5\x2f\xfd\x00\x90\x01\x00\x00";
    refused(
        "in.zst",
        "",
        wide,
        &["it needs a window of more than 128 MiB"],
    );
}

#[test]
fn places_are_those_of_the_content() {
    let bad = gzip(b"{}\n{}\nno\n");
    let words = ["in.gz`, line 3, byte 6: "];
    refused("in.gz", "format = \"jsonl\"", &bad, &words);
    let bad = zstd(b"a,b\r1,2\r3\r");
    let words = ["in.zst`, line 3, byte 8: "];
    refused("in.zst", "format = \"csv\"", &bad, &words);
}

#[test]
fn a_job_resumes_in_the_middle() {
    let content: String = (0..3_000_000).map(|number| format!("{number}\n")).collect();
    for (name, compress) in BOTH {
        let job = copy(name, "");
        job.write(name, compress(content.as_bytes()));
        let arguments = ["--parallelism", "1", "--set", "checkpoint.interval=20ms"];
        let mut killed = 0;
        for _ in 0..4 {
            let mut run = job.start(&arguments);
            while !run.has_ended() && !run.stderr().contains(" completed: ") {
                std::thread::sleep(Duration::from_millis(2));
            }
            killed += u32::from(!run.has_ended());
            run.kill();
        }
        assert!(killed > 0, "it was over before it could be killed");
        job.run(&arguments)
            .succeeded()
            .says("resumes from checkpoint ");
        assert!(job.written("out") == content, "{name}");
    }
}

/// A file of gzip that is written bit by bit.
struct Growing {
    encoder: GzEncoder<Vec<u8>>,
    written: usize,
}

impl Growing {
    /// Adds text so that it can be decompressed at once.
    fn add(&mut self, job: &Job, text: &str) {
        self.encoder.write_all(text.as_bytes()).unwrap();
        self.encoder.flush().unwrap();
        let bytes = self.encoder.get_ref();
        append(job, &bytes[self.written..]);
        self.written = bytes.len();
    }

    fn finish(self, job: &Job) {
        let bytes = self.encoder.finish().unwrap();
        append(job, &bytes[self.written..]);
    }
}

fn append(job: &Job, bytes: &[u8]) {
    let file = OpenOptions::new().append(true).open(job.path("in.gz"));
    file.unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_file_that_is_still_written_is_followed() {
    let mut file = Growing {
        encoder: GzEncoder::new(Vec::new(), Compression::fast()),
        written: 0,
    };
    let job = copy("in.gz", "");
    job.write("in.gz", b"");
    let run = job.start(&[
        "--set",
        "source.text.follow=true",
        "--set",
        "checkpoint.interval=50ms",
    ]);
    file.add(&job, "one\nt");
    run.wait_for_output(&job, "one\n");
    file.add(&job, "wo\nthree\n");
    run.wait_for_output(&job, "one\ntwo\nthree\n");
    run.signal("TERM");
    run.wait().succeeded();
    file.add(&job, "four\n");
    // The end of the member is missing: an error only where nothing waits for it.
    let once = ["--set", "restart.strategy=none"];
    let outcome = job.run(&once);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    outcome.says("the file ends before its content does");
    file.finish(&job);
    job.run(&once).succeeded();
    assert_eq!(job.written("out"), "one\ntwo\nthree\nfour\n");
}

#[test]
fn memory_does_not_grow_with_the_content() {
    let mut line = vec![b'0'; 64 << 10];
    line.push(b'\n');
    for (name, compress) in BOTH {
        let job = copy(name, "");
        let pipeline = fs::read_to_string(job.path("pipeline.toml")).unwrap();
        let (source, _) = pipeline.split_once("[sink.out]").unwrap();
        let discard = "sink.out = { connector = \"discard\", from = \"text\" }\n";
        job.write("pipeline.toml", format!("{discard}{source}"));
        // One member for each 16 MiB, so that the test itself does not need much.
        let member = compress(&line.repeat(256));
        job.write(name, member.repeat(24));
        let mut run = job.start(&["--parallelism", "1"]);
        let mut peak = 0;
        while !run.has_ended() {
            peak = peak.max(run.memory_peak_bytes().unwrap_or(0));
            std::thread::sleep(Duration::from_millis(5));
        }
        run.wait().succeeded().says("6144 records");
        assert!(peak > 0 && peak < 256 << 20, "{peak}");
    }
}
