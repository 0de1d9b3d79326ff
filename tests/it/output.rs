//! What is visible of a word count, and what should be: the same as `tr`, `sort` and `uniq -c` say.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};

use memchr::memchr;

/// How often each word comes.
pub type Counts = BTreeMap<Vec<u8>, usize>;

/// All records that were ever visible in a folder of parts.
#[derive(Default, PartialEq, Eq)]
pub struct Seen {
    /// By word: which of its counts, from 1, were there.
    words: BTreeMap<Vec<u8>, Vec<bool>>,
    /// Parts that were noticed.
    parts: BTreeSet<String>,
    /// Parts whose records are in `words`.
    read: BTreeSet<String>,
}

impl Seen {
    /// Takes down which parts are there. Panics when one that was visible has disappeared.
    #[track_caller]
    pub fn notice(&mut self, folder: &Path) {
        let names: BTreeSet<String> = match fs::read_dir(folder) {
            Ok(entries) => entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !name.starts_with('.'))
                .collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => panic!("{error}"),
        };
        let gone: Vec<_> = self.parts.difference(&names).collect();
        assert!(gone.is_empty(), "taken back: {gone:?}");
        self.parts = names;
    }

    /// Reads the parts that are new. Panics when a record is there twice, or a part that was visible has disappeared.
    #[track_caller]
    pub fn look(&mut self, folder: &Path) {
        self.notice(folder);
        let unread: Vec<String> = self.parts.difference(&self.read).cloned().collect();
        for name in unread {
            let bytes = fs::read(folder.join(&name)).unwrap();
            self.read_part(&bytes, &name);
            self.read.insert(name);
        }
    }

    #[track_caller]
    fn read_part(&mut self, mut csv: &[u8], part: &str) {
        while !csv.is_empty() {
            let (word, rest) = field(csv, b',');
            let (count, rest) = field(rest, b'\n');
            csv = rest;
            let shown = || String::from_utf8_lossy(&word).into_owned();
            let count: usize = str::from_utf8(&count).unwrap().parse().unwrap();
            assert!(
                (1..100_000_000).contains(&count),
                "{part}: `{}` {count}",
                shown()
            );
            if !self.words.contains_key(&*word) {
                self.words.insert(word.to_vec(), Vec::new());
            }
            let counts = self.words.get_mut(&*word).unwrap();
            if counts.len() < count {
                counts.resize(count, false);
            }
            let was_there = std::mem::replace(&mut counts[count - 1], true);
            assert!(!was_there, "{part}: `{}` {count} is there twice", shown());
        }
    }

    /// The highest count of each word.
    pub fn counts(&self) -> Counts {
        let highest = |(word, counts): (&Vec<u8>, &Vec<bool>)| (word.clone(), counts.len());
        self.words.iter().map(highest).collect()
    }

    /// How many records there are.
    pub fn records(&self) -> usize {
        let there = |counts: &Vec<bool>| counts.iter().filter(|is_there| **is_there).count();
        self.words.values().map(there).sum()
    }

    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Asserts that each word has each of its counts once.
    #[track_caller]
    pub fn is_exactly(&self, expected: &Counts) {
        for (word, counts) in &self.words {
            let shown = String::from_utf8_lossy(&word[..word.len().min(80)]);
            if let Some(missing) = counts.iter().position(|is_there| !is_there) {
                panic!("`{shown}` {} is missing", missing + 1);
            }
            let n = expected.get(word).copied().unwrap_or(0);
            assert_eq!(counts.len(), n, "`{shown}`");
        }
        let missing: Vec<_> = expected
            .keys()
            .filter(|word| !self.words.contains_key(*word))
            .map(|word| String::from_utf8_lossy(&word[..word.len().min(80)]))
            .take(10)
            .collect();
        assert!(missing.is_empty(), "missing words: {missing:?}");
    }

    /// Whether two outputs hold the same records.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

/// A field of RFC 4180 and what comes after its end.
fn field(csv: &[u8], end: u8) -> (Cow<'_, [u8]>, &[u8]) {
    let Some(mut rest) = csv.strip_prefix(b"\"") else {
        let len = memchr(end, csv).unwrap();
        let plain = csv[..len].strip_suffix(b"\r").unwrap_or(&csv[..len]);
        assert!(!plain.contains(&b'"'), "a quote without quotes");
        return (plain.into(), &csv[len + 1..]);
    };
    let mut field = Vec::new();
    loop {
        let quote = memchr(b'"', rest).unwrap();
        field.extend_from_slice(&rest[..quote]);
        rest = &rest[quote + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                field.push(b'"');
                rest = after;
            }
            None => {
                assert_eq!(rest[0], end, "something after a quoted field");
                return (field.into(), &rest[1..]);
            }
        }
    }
}

/// What the tools of the system count in a text.
pub fn counted_by_tools(text: &[u8]) -> Counts {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    fs::write(&input, text).unwrap();
    let output = Command::new("sh")
        .args(["-c", "tr -s '[:space:]' '\\n' | sort | uniq -c"])
        .env("LC_ALL", "C")
        .stdin(fs::File::open(&input).unwrap())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let mut counts = Counts::new();
    for line in output.stdout.split(|&byte| byte == b'\n') {
        let line = line.trim_ascii_start();
        let Some(digits) = line.iter().position(|&byte| byte == b' ') else {
            continue;
        };
        let count = str::from_utf8(&line[..digits]).unwrap().parse().unwrap();
        let word = &line[digits + 1..];
        // White space before the first word makes an empty line.
        if !word.is_empty() {
            counts.insert(word.to_vec(), count);
        }
    }
    counts
}
