//! Catches parts that change what is read: parts that are late, short, unread, out of place, missing, or from before
//! the file grew or became shorter. The model is a reader that reads everything itself, called alternately with the
//! other.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use floodmark_testing::Random;
use tempfile::TempDir;

use super::tests::{limits, model, source};
use super::*;
use crate::connector::ReadOutcome;
use crate::connector::read_ahead::{PendingRead, ReadAhead, ReadPart};
use floodmark_state::stream::Batch;

/// Answers in every way that a service may, at random.
struct Odd {
    random: Mutex<Random>,
    part_bytes: usize,
    /// Number of parts that were returned with bytes, and without.
    read: AtomicUsize,
    unread: AtomicUsize,
}

struct OddPart {
    part: Option<ReadPart>,
    reads_late: bool,
}

impl Odd {
    fn new(seed: u64, part_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            random: Mutex::new(Random(seed)),
            part_bytes,
            read: AtomicUsize::new(0),
            unread: AtomicUsize::new(0),
        })
    }
}

impl ReadAhead for Odd {
    fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    fn begin(&self, mut part: ReadPart) -> Box<dyn PendingRead> {
        assert_eq!(part.room.len(), self.part_bytes);
        let mut random = self.random.lock().unwrap();
        let mut reads_late = false;
        let kind = random.index(8);
        match kind {
            0 => reads_late = true,
            1 => {}
            2 => {
                self.unread.fetch_add(1, Ordering::Relaxed);
                return Box::new(OddPart {
                    part: None,
                    reads_late,
                });
            }
            3 => {
                let room = part.room.clone();
                part.room.end = room.start + random.index(room.len());
                part.read().unwrap();
                part.room = room;
            }
            _ => part.read().unwrap(),
        }
        let count = if kind == 1 { &self.unread } else { &self.read };
        count.fetch_add(1, Ordering::Relaxed);
        Box::new(OddPart {
            part: Some(part),
            reads_late,
        })
    }
}

impl PendingRead for OddPart {
    fn take(mut self: Box<Self>) -> Option<ReadPart> {
        let mut part = self.part.take()?;
        if self.reads_late {
            part.read().unwrap();
        }
        Some(part)
    }
}

/// A file of a format, with records of lengths around that of a part and of the room before it.
fn content(format: &str, part_bytes: usize, random: &mut Random) -> Vec<u8> {
    let mut content = Vec::new();
    if format == "csv" {
        content.extend_from_slice(b"a,b\n");
    }
    for _ in 0..random.index(60) {
        let len_max = [3, part_bytes / 4, part_bytes * 4][random.index(3)];
        let text = random.bytes(b"abc ", len_max);
        let (before, after): (&[u8], &[u8]) = match format {
            "jsonl" => (b"{\"k\":\"", b"\"}\n"),
            "csv" => (b"\"x\n\"\"", b"\",y\n"),
            _ => (b"", [b"\n".as_slice(), b"\r\n"][random.index(2)]),
        };
        content.extend_from_slice(before);
        content.extend_from_slice(&text);
        content.extend_from_slice(after);
    }
    content
}

/// The next length of a growing file: often whole lines.
fn grown(content: &[u8], from: usize, random: &mut Random) -> usize {
    let to = from + random.index(content.len() - from + 1);
    match content[to..].iter().position(|&byte| byte == b'\n') {
        Some(at) if random.index(4) > 0 => to + at + 1,
        _ => to,
    }
}

/// One call, as data.
fn call(reader: &mut dyn SourceReader, now: Duration, records_max: usize) -> String {
    let mut batch = Batch::default();
    let outcome = reader.read(now, limits(records_max), &mut batch);
    let records: Vec<_> = batch.iter().collect();
    match outcome {
        Ok(outcome) => {
            let (splits, progress) = (reader.splits(), reader.progress());
            format!("{outcome:?} {records:?} {splits:?} {progress:?}")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn whatever_comes_of_parts_the_records_are_the_same() {
    let (mut read, mut unread) = (0, 0);
    for seed in 0..300 {
        let mut random = Random(seed);
        let part_bytes = 8 + random.index(60);
        let format = ["lines", "jsonl", "csv"][random.index(3)];
        let content = content(format, part_bytes, &mut random);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        let (follow, split_bytes) = (random.index(2) == 0, 20 + random.index(2000));
        let source = source(
            &folder,
            &format!(
                "path = 'f'\nformat = '{format}'\nfollow = {follow}\nsplit-bytes = {split_bytes}"
            ),
        );
        let odd = Odd::new(seed, part_bytes);
        let service: Arc<dyn ReadAhead> = Arc::clone(&odd) as _;
        let mut there = grown(&content, 0, &mut random);
        fs::write(&path, &content[..there]).unwrap();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        let (mut now, mut restored) = (Duration::ZERO, None);
        'seed: for _ in 0..6 {
            let Ok(splits) = source.splits(None, restored) else {
                break;
            };
            let mut plain = source.reader(splits.clone()).unwrap();
            let mut ahead = source.reader(splits).unwrap();
            ahead.read_ahead_by(&service);
            for _ in 0..random.index(60) {
                if random.index(8) == 0 {
                    let to = grown(&content, there, &mut random);
                    file.write_all(&content[there..to]).unwrap();
                    there = to;
                }
                now += Duration::from_millis(100);
                let records_max = 1 + random.index(9);
                let expected = call(&mut *plain, now, records_max);
                let found = call(&mut *ahead, now, records_max);
                assert_eq!(found, expected, "seed {seed}");
                if expected.starts_with('`') {
                    break 'seed;
                }
            }
            restored = Some(plain.splits());
        }
        read += odd.read.load(Ordering::Relaxed);
        unread += odd.unread.load(Ordering::Relaxed);
    }
    assert!(read > 1000 && unread > 300, "{read} {unread}");
}

#[test]
fn a_file_that_shrinks_is_an_error_behind_what_was_read() {
    let mut errors = 0;
    for seed in 0..200 {
        let mut random = Random(seed);
        let part_bytes = 8 + random.index(60);
        let content = content("lines", part_bytes, &mut random);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, &content).unwrap();
        let source = source(&folder, "path = 'f'");
        let splits = source.splits(None, None).unwrap();
        let mut reader = source.reader(splits).unwrap();
        let service: Arc<dyn ReadAhead> = Odd::new(seed, part_bytes);
        reader.read_ahead_by(&service);
        let shrinks_at = random.index(30);
        let mut values: Vec<Vec<u8>> = Vec::new();
        for step in 0.. {
            if step == shrinks_at {
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len(random.index(content.len() + 1) as u64)
                    .unwrap();
            }
            let mut batch = Batch::default();
            let outcome = reader.read(Duration::ZERO, limits(1), &mut batch);
            if let Err(error) = &outcome {
                let error = error.to_string();
                assert!(
                    error.contains("it became shorter while it was being read"),
                    "{error}"
                );
                errors += 1;
                break;
            }
            values.extend(batch.values.iter().map(<[u8]>::to_vec));
            if outcome.unwrap() == ReadOutcome::Finished {
                assert_eq!(values, model(&content), "seed {seed}");
                break;
            }
        }
        assert!(model(&content).starts_with(&values), "seed {seed}");
    }
    assert!(errors > 30, "{errors}");
}

#[test]
fn short_files_and_the_end_of_a_range_ask_for_nothing() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("f"), "line\n".repeat(99)).unwrap();
    for (toml, expected) in [
        // The worker reads the first 100 bytes itself; the last 95 are not worth a request.
        ("path = 'f'", 3),
        ("path = 'f'\nsplit-bytes = 250", 2),
        ("path = 'f'\nsplit-bytes = 198", 0),
    ] {
        let source = source(&folder, toml);
        let mut reader = source.reader(source.splits(None, None).unwrap()).unwrap();
        let odd = Odd::new(0, 100);
        let service: Arc<dyn ReadAhead> = Arc::clone(&odd) as _;
        reader.read_ahead_by(&service);
        while call(&mut *reader, Duration::ZERO, 1).starts_with("More") {}
        let asked = odd.read.load(Ordering::Relaxed) + odd.unread.load(Ordering::Relaxed);
        assert!(
            asked >= expected && (expected > 0 || asked == 0),
            "{toml}: {asked}"
        );
    }
}
