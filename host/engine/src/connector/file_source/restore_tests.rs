//! Catches positions that are taken up in the wrong file or in mid-line, files of other folders that a checkpoint makes the
//! source read, bad records and files that are told of twice, and a worker that waits for a pipe.

use std::fs;
use std::io::Write;

use floodmark_testing::Random;
use tempfile::TempDir;

use super::tests::{limits, message, run, source};
use super::*;
use crate::connector::ReadOutcome;
use floodmark_state::stream::Batch;

#[test]
fn a_last_line_that_was_read_too_early_is_never_two_records() {
    for (format, before, continued, ended) in [
        ("lines", "one\ntw", "one\ntwo\n", "one\ntw\nthree\n"),
        ("jsonl", "1\n2", "1\n23\n", "1\n2\r\n3\n"),
        ("csv", "a,b\n1,2", "a,b\n1,23\n", "a,b\n1,2\n3,4\n"),
    ] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, before).unwrap();
        let source = source(&folder, &format!("path = 'f'\nformat = '{format}'"));
        let read = run(&source, None, &mut Random(1), false, &mut Vec::new());
        fs::write(&path, continued).unwrap();
        let found = message(source.splits(None, Some(read.clone())));
        let expected = format!("read as a record up to byte {}, and", before.len());
        assert!(found.contains(&expected), "{found}");
        fs::write(&path, ended).unwrap();
        let mut records = Vec::new();
        run(&source, Some(read), &mut Random(1), false, &mut records);
        assert_eq!(records.len(), 1, "{format}");
    }
}

#[test]
fn a_checkpoint_names_no_file_that_the_path_does_not_match() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("in/deep")).unwrap();
    for name in ["secret", "in/a.log", "in/a.old", "in/deep/b.log"] {
        fs::write(folder.path().join(name), "line\n").unwrap();
    }
    let splits_of = |path: &str| {
        let other = source(&folder, &format!("path = '{path}'"));
        other.splits(None, None).unwrap()
    };
    for (path, named, is_foreign) in [
        ("in/*.log", "in/a.log", false),
        // What a log may be called after a rotation.
        ("in/*.log", "in/a.old", false),
        ("in/*.log", "in/deep/b.log", true),
        ("in/*.log", "secret", true),
        ("in", "secret", true),
        ("in", "in/deep/b.log", false),
        ("in/a.log", "in/a.old", false),
        ("in/a.log", "secret", true),
        ("in/a.log", "in/../secret", true),
        ("in", "in/../secret", true),
    ] {
        let source = source(&folder, &format!("path = '{path}'"));
        let restored = splits_of(named);
        let planned = source.splits(None, Some(restored.clone()));
        let opened = source.reader(restored).map(drop);
        for result in [planned.map(drop), opened] {
            let foreign = matches!(result, Err(ConnectorError::ForeignInput { .. }));
            assert_eq!(foreign, is_foreign, "{path} {named}");
        }
    }
}

#[test]
fn splits_of_names_alone_are_still_read() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), "one\ntwo\n").unwrap();
    // Version 1, case 0: the name `f`, lines, from 0 without end, at 4, a record, length 8.
    let split = Split(vec![1, 0, 1, b'f', 0, 0, 0, 4, 1, 8]);
    let watch = Split(vec![1, 1, 3, 1, 1, b'g']);
    assert_eq!(describe(&watch), WATCHES);
    for toml in ["path = 'f'", "path = 'f'\nfollow = true"] {
        let source = source(&folder, toml);
        let splits = source.splits(None, Some(vec![split.clone(), watch.clone()]));
        let mut reader = source.reader(splits.unwrap()).unwrap();
        let mut batch = Batch::default();
        while reader.read(Duration::ZERO, limits(9), &mut batch).unwrap() == ReadOutcome::More {}
        assert_eq!(batch.values.iter().collect::<Vec<_>>(), [b"two"]);
    }
}

#[test]
fn reading_from_the_end_begins_after_the_last_whole_line() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let long = "x".repeat(9000);
    write("f", &format!("one\n{long}"));
    let source = source(&folder, "path = '.'\nfollow = true\nread-from = 'end'");
    let mut reader = source.reader(source.splits(None, None).unwrap()).unwrap();
    write("f", &format!("one\n{long}\ntwo\n"));
    write("g", "three\n");
    let (mut now, mut lens) = (Duration::ZERO, Vec::new());
    for _ in 0..4 {
        let mut batch = Batch::default();
        match reader.read(now, limits(9), &mut batch).unwrap() {
            ReadOutcome::Idle { until } => now = until,
            outcome => assert_eq!(outcome, ReadOutcome::More),
        }
        lens.extend(batch.values.iter().map(<[u8]>::len));
    }
    lens.sort_unstable();
    assert_eq!(lens, [3, 5, 9000]);
}

/// Reads with one task, until there is nothing more for now; returns the lines, and where they end.
fn read_on(source: &FileSource, restored: Option<Vec<Split>>) -> (Vec<String>, Vec<Split>) {
    let splits = source.splits(None, restored).unwrap();
    let mut reader = source.reader(splits).unwrap();
    let lines = read_some(&mut *reader, Duration::ZERO);
    (lines, reader.splits())
}

fn read_some(reader: &mut dyn SourceReader, now: Duration) -> Vec<String> {
    let (lines, bad) = read_telling(reader, now);
    assert!(bad.is_empty(), "{bad:?}");
    lines
}

/// As [`read_some`]; returns the places of bad records, too.
fn read_telling(reader: &mut dyn SourceReader, mut now: Duration) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut bad) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let mut batch = Batch::default();
        match reader.read(now, limits(5000), &mut batch).unwrap() {
            ReadOutcome::Idle { until } => now = until,
            ReadOutcome::Bad(record) => bad.push(record.place),
            ReadOutcome::More | ReadOutcome::Finished => {}
        }
        let values = batch.values.iter();
        lines.extend(values.map(|it| String::from_utf8(it.to_vec()).unwrap()));
    }
    lines.sort();
    bad.sort();
    (lines, bad)
}

#[test]
fn bad_records_and_files_are_told_of_once_whatever_they_are_called() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let source = source(&folder, "path = '*'\nformat = 'jsonl'\nfollow = true");
    fs::write(path("a"), "1\nno\n2\n").unwrap();
    fs::write(path("b.gz"), "not compressed\n").unwrap();
    let mut reader = source.reader(source.splits(None, None).unwrap()).unwrap();
    let (lines, bad) = read_telling(&mut *reader, Duration::ZERO);
    assert_eq!(lines, ["1", "2"]);
    assert_eq!(
        bad,
        ["`a`, line 2, byte 2", "`b.gz`, byte 0 of its content"]
    );
    // Both are rotated while the job runs.
    fs::rename(path("a"), path("c")).unwrap();
    fs::rename(path("b.gz"), path("d.gz")).unwrap();
    fs::write(path("a"), "3\n").unwrap();
    let lines = read_some(&mut *reader, Duration::from_secs(30));
    assert_eq!(lines, ["3"]);
    // And while it does not.
    let splits = reader.splits();
    fs::rename(path("c"), path("e")).unwrap();
    fs::rename(path("d.gz"), path("f.gz")).unwrap();
    let (lines, splits) = read_on(&source, Some(splits));
    assert!(lines.is_empty(), "{lines:?}");
    // Another file in its place is read.
    fs::write(path(".new"), gzip("4\n")).unwrap();
    fs::rename(path(".new"), path("f.gz")).unwrap();
    let (lines, _) = read_on(&source, Some(splits));
    assert_eq!(lines, ["4"]);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_file_that_was_compressed_meanwhile_is_read_on() {
    for toml in ["split-bytes = 7", "split-bytes = 1000", "follow = true"] {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let source = source(&folder, &format!("path = '*'\n{toml}"));
        fs::write(path("a"), "one\ntwo\nthree\n").unwrap();
        let (lines, splits) = read_on(&source, None);
        assert_eq!(lines, ["one", "three", "two"], "{toml}");
        // It had grown, and a new file has its name. Another compressed file is not taken for it.
        fs::write(path("0.gz"), gzip("one\ntwo\nother\n")).unwrap();
        fs::write(path("a.1.gz"), gzip("one\ntwo\nthree\nfour\n")).unwrap();
        fs::write(path(".new"), "five\n").unwrap();
        fs::rename(path(".new"), path("a")).unwrap();
        let (lines, splits) = read_on(&source, Some(splits));
        let expected = ["five", "four", "one", "other", "two"];
        assert_eq!(lines, expected, "{toml}");
        // It gets another name, and is decompressed at last.
        fs::rename(path("a.1.gz"), path("b.gz")).unwrap();
        let (lines, splits) = read_on(&source, Some(splits));
        assert!(lines.is_empty(), "{toml} {lines:?}");
        fs::write(path("b"), "one\ntwo\nthree\nfour\nsix\n").unwrap();
        fs::remove_file(path("b.gz")).unwrap();
        let (lines, splits) = read_on(&source, Some(splits));
        assert_eq!(lines, ["six"], "{toml}");
        // What was read to its end may go.
        fs::remove_file(path("0.gz")).unwrap();
        let (lines, _) = read_on(&source, Some(splits));
        assert!(lines.is_empty(), "{toml} {lines:?}");
    }
}

#[test]
fn a_file_that_vanished_waits_for_one_that_is_still_being_compressed() {
    let folder = TempDir::new().unwrap();
    let source = source(&folder, "path = '*'\nfollow = true");
    // Little enough in common that half of the compressed file ends long before the position.
    let numbers = (0..3000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let content: String = numbers.map(|number| format!("{number:x}\n")).collect();
    let (log, compressed) = (folder.path().join("a"), folder.path().join("b.gz"));
    fs::write(&log, &content).unwrap();
    let (lines, splits) = read_on(&source, None);
    assert_eq!(lines.len(), 3000);
    let bytes = gzip(&format!("{content}more\n"));
    fs::write(&compressed, &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_file(&log).unwrap();
    let planned = source.splits(None, Some(splits)).unwrap();
    let mut reader = source.reader(planned).unwrap();
    let lines = read_some(&mut *reader, Duration::ZERO);
    assert!(lines.is_empty(), "{lines:?}");
    let splits = reader.splits();
    fs::write(&compressed, &bytes).unwrap();
    let lines = read_some(&mut *reader, Duration::from_secs(30));
    assert_eq!(lines, ["more"]);
    // A restart while it waits makes no difference.
    let (lines, _) = read_on(&source, Some(splits));
    assert_eq!(lines, ["more"]);
}

#[test]
fn a_pipe_in_the_place_of_a_listed_file_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "line\n").unwrap();
    let source = source(&folder, "path = 'a'");
    let planned = source.splits(None, None).unwrap();
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let mut reader = source.reader(planned).unwrap();
    let refused = message(reader.read(Duration::ZERO, limits(10), &mut Batch::default()));
    assert!(refused.contains("it is a pipe"), "{refused}");
    let opened = message(listing::open(&path));
    assert!(opened.contains("it is a pipe"), "{opened}");
}
