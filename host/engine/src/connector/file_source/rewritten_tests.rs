//! Catches lines of a followed file that come twice or never when its bytes are replaced in place, above all those of a
//! compressed file, or when it is copied and truncated while it is read; a file that is taken for the one before; and a growing
//! one that is decompressed from its start each time.

use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::split::{FileSourceSplit, FileSplit};
use super::tests::{limits, source};
use super::*;
use crate::connector::ReadOutcome;
use floodmark_state::stream::Batch;

/// For so long a file is looked at after each change: longer than it may be unclear what has happened to it.
const LOOKED: Duration = Duration::from_secs(10);

/// Gives content a compressed form.
type Compress = fn(&str) -> Vec<u8>;

/// File names, and what makes their bytes.
const FORMS: [(&str, Compress); 3] = [("f.gz", best), ("f.zst", zstd), ("f", best)];

/// A file that is followed.
struct Following {
    folder: TempDir,
    name: &'static str,
    source: FileSource,
    reader: Box<dyn SourceReader>,
    now: Duration,
    /// The number of changes.
    changes: u64,
}

impl Following {
    /// Writes a file, and begins to follow it.
    fn new(name: &'static str, bytes: &[u8]) -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        let source = source(&folder, &format!("path = '{name}'\nfollow = true"));
        let reader = source.reader(source.splits(None, None).unwrap()).unwrap();
        Self {
            folder,
            name,
            source,
            reader,
            now: Duration::ZERO,
            changes: 0,
        }
    }

    /// Writes other bytes to the same file, at another time.
    fn write(&mut self, bytes: &[u8]) {
        let mut file = File::create(self.folder.path().join(self.name)).unwrap();
        file.write_all(bytes).unwrap();
        self.changes += 1;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.changes);
        file.set_modified(time).unwrap();
    }

    /// What is read until nothing more comes.
    fn read(&mut self) -> Result<Vec<String>, ConnectorError> {
        read_for(LOOKED, &mut *self.reader, &mut self.now)
    }

    /// Begins again, with splits that were changed.
    fn restart(&mut self, change: impl Fn(&mut FileSplit)) {
        let base = self.folder.path();
        let splits = self.reader.splits().into_iter().map(|split| {
            let mut piece = FileSourceSplit::decode(&split, base).unwrap();
            if let FileSourceSplit::File(file) = &mut piece {
                change(file);
            }
            piece.encode(base)
        });
        let splits = self.source.splits(None, Some(splits.collect())).unwrap();
        self.reader = self.source.reader(splits).unwrap();
    }

    /// What is read after these bytes were written to the file.
    #[track_caller]
    fn check(&mut self, bytes: &[u8], expected: &[&str]) {
        self.write(bytes);
        assert_eq!(self.read().unwrap(), expected);
    }
}

/// All lines that a reader gives in this time, from `now` on.
fn read_for(
    time: Duration,
    reader: &mut dyn SourceReader,
    now: &mut Duration,
) -> Result<Vec<String>, ConnectorError> {
    let mut lines = Vec::new();
    let end = *now + time;
    while *now < end {
        let mut batch = Batch::default();
        match reader.read(*now, limits(9), &mut batch)? {
            ReadOutcome::Idle { until } => *now = until,
            outcome => assert_eq!(outcome, ReadOutcome::More),
        }
        lines.extend(lines_of(&batch));
    }
    Ok(lines)
}

fn lines_of(batch: &Batch) -> Vec<String> {
    let lines = batch.values.iter();
    lines
        .map(|line| String::from_utf8(line.to_vec()).unwrap())
        .collect()
}

fn gzip(content: &str, level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(content.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn best(content: &str) -> Vec<u8> {
    gzip(content, Compression::best())
}

fn zstd(content: &str) -> Vec<u8> {
    zstd::encode_all(content.as_bytes(), 1).unwrap()
}

/// 20,000 lines that have little in common.
fn noise() -> String {
    let numbers = (0..20_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    numbers.map(|number| format!("{number}\n")).collect()
}

#[test]
fn what_is_compressed_anew_continues_and_other_content_is_another_file() {
    for (name, compress) in FORMS {
        let mut file = Following::new(name, &compress("one\ntwo\n"));
        assert_eq!(file.read().unwrap(), ["one", "two"]);
        file.check(&compress("one\ntwo\nthree\n"), &["three"]);
        // Without more of it, too, and as several members.
        let members = [compress("one\n"), compress("two\nthree\n")].concat();
        file.check(&members, &[]);
        file.check(&compress("other\nfour\n"), &["other", "four"]);
        file.check(&compress("other\nfour\nfive\n"), &["five"]);
    }
    // A name that promises nothing: a plain file may become a compressed one, and the reverse.
    let mut file = Following::new("f", b"one\ntwo\n");
    assert_eq!(file.read().unwrap(), ["one", "two"]);
    file.check(&best("one\ntwo\nthree\n"), &["three"]);
    file.check(b"one\ntwo\nthree\nfour\n", &["four"]);
}

#[test]
fn a_file_of_the_same_length_that_begins_in_the_same_way_may_be_another_one() {
    let start = "x".repeat(6000);
    // Without compression, only the end differs.
    let stored = |line: &str| gzip(&format!("{start}\n{line}\n"), Compression::none());
    let mut file = Following::new("f.gz", &stored("one"));
    assert_eq!(file.read().unwrap(), [start.as_str(), "one"]);
    file.check(&stored("one"), &[]);
    file.check(&stored("two"), &[&start, "two"]);
}

#[test]
fn a_compressed_file_may_grow_slowly_when_it_is_written_anew() {
    let text = noise();
    let mut file = Following::new("f.gz", &best(&text));
    assert_eq!(file.read().unwrap().len(), 20_000);
    // One look sees a part of it, which is longer than the file was.
    let anew = gzip(&(text + "more\n"), Compression::none());
    file.write(&anew[..anew.len() - 1000]);
    file.reader
        .read(file.now, limits(9), &mut Batch::default())
        .unwrap();
    file.check(&anew, &["more"]);
}

#[test]
fn a_compressed_file_that_nothing_tells_apart_is_an_error() {
    let mut file = Following::new("f.gz", &best("one\ntwo\n"));
    assert_eq!(file.read().unwrap(), ["one", "two"]);
    file.restart(|split| split.print = None);
    assert_eq!(file.read().unwrap(), [] as [&str; 0]);
    file.write(&best("one\ntwo\nthree\n"));
    let error = file.read().unwrap_err().to_string();
    for words in [
        "f.gz` is not what was read up to byte 8",
        "restore the file, or start over with `--fresh`",
    ] {
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_file_that_grows_again_is_read_from_its_last_member_on() {
    for (name, compress) in FORMS {
        let mut bytes = compress(&noise());
        assert!(bytes.len() > 60_000);
        let mut file = Following::new(name, &bytes);
        assert_eq!(file.read().unwrap().len(), 20_000);
        bytes.extend(compress("two\n"));
        file.check(&bytes, &["two"]);
        // Where nothing is read any more, damage does not matter.
        bytes[30_000..31_000].fill(0);
        bytes.extend(compress("three\nfo"));
        file.check(&bytes, &["three"]);
        // A line begins in one member and ends in the next.
        bytes.extend(compress("ur\nfive\n"));
        file.check(&bytes, &["four", "five"]);
    }
}

#[test]
fn a_copy_that_is_made_while_its_original_is_read_waits_for_that() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let lines: Vec<String> = (0..100).map(|line| format!("line {line}")).collect();
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    let source = source(&folder, "path = 'log*'\nfollow = true");
    let (files, watches): (Vec<_>, Vec<_>) = source
        .splits(None, None)
        .unwrap()
        .into_iter()
        .partition(|split| describe(split) != WATCHES);
    let mut reading = source.reader(files).unwrap();
    let mut watching = source.reader(watches).unwrap();
    let (mut now, mut watched) = (Duration::ZERO, Duration::ZERO);

    let mut batch = Batch::default();
    let outcome = reading.read(now, limits(9), &mut batch).unwrap();
    assert_eq!((outcome, batch.len()), (ReadOutcome::More, 9));
    let mut found = lines_of(&batch);
    fs::copy(&log, folder.path().join("log.1")).unwrap();
    File::create(&log).unwrap();
    // The other task sees the copy before this one knows what has happened to the original.
    let more = read_for(Duration::from_secs(2), &mut *watching, &mut watched);
    assert_eq!(more.unwrap(), [] as [&str; 0]);
    found.extend(read_for(LOOKED, &mut *reading, &mut now).unwrap());
    assert_eq!(found, lines);
    let more = read_for(LOOKED, &mut *watching, &mut watched);
    assert_eq!(more.unwrap(), [] as [&str; 0]);
}
