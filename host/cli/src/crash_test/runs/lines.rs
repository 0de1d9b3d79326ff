//! Reads the output of a run and compares it with the expected output.
//!
//! Each line is kept as a hash of 64 bits, so that large output fits into memory; the text of a line that differs is
//! read from the files when it is shown. Lines are compared as multisets: each as often as expected, in any order. The
//! order of lines by part is compared separately.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use floodmark_engine::connector::file_sink;

/// Lines of each kind that are shown, and bytes of each.
const SHOWN_MAX: usize = 5;
const SHOWN_BYTES_MAX: usize = 200;

/// The output of a run, by sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutput(BTreeMap<String, SinkLines>);

/// The lines of one sink.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SinkLines {
    /// A hash of each line, ascending, so that two runs can be compared in one pass.
    hashes: Vec<u64>,
    /// A hash over the lines in the order of their parts.
    order: u64,
}

/// The difference between a sink's output and the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputDifference {
    /// The name of the sink.
    pub sink: String,
    /// Number of missing lines.
    pub missing: u64,
    /// Number of lines that were not expected, or appear too often.
    pub extra: u64,
    /// Some of these lines, for people.
    pub shown: Vec<String>,
}

/// The folder of a sink's output in a run.
#[must_use]
pub fn folder_of(run: &Path, sink: &str) -> PathBuf {
    run.join("out").join(sink)
}

impl RunOutput {
    /// Reads the visible output of a run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(run: &Path, sinks: &[String]) -> io::Result<Self> {
        let mut output = BTreeMap::new();
        for sink in sinks {
            let mut lines = SinkLines::default();
            each_line(&folder_of(run, sink), |line| {
                let hash = xxh3_64(line);
                lines.hashes.push(hash);
                lines.order = xxh3_64_with_seed(&hash.to_le_bytes(), lines.order);
            })?;
            lines.hashes.sort_unstable();
            output.insert(sink.clone(), lines);
        }
        Ok(Self(output))
    }

    /// Number of lines of all sinks together.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.0.values().map(|lines| lines.hashes.len() as u64).sum()
    }

    /// Whether the lines are in the same order by part.
    #[must_use]
    pub fn is_in_order_of(&self, other: &Self) -> bool {
        self.0.iter().all(|(sink, lines)| {
            other
                .0
                .get(sink)
                .is_some_and(|other| other.order == lines.order)
        })
    }

    /// The differences of another run's output from this one; empty if it has the same lines. Lines to show are read
    /// from the runs' folders.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn differences(
        &self,
        found: &Self,
        (run, found_run): (&Path, &Path),
    ) -> io::Result<Vec<OutputDifference>> {
        let mut differences = Vec::new();
        let none = SinkLines::default();
        for (sink, expected) in &self.0 {
            let found = found.0.get(sink).unwrap_or(&none);
            let missing = beside(&expected.hashes, &found.hashes);
            let extra = beside(&found.hashes, &expected.hashes);
            if missing.is_empty() && extra.is_empty() {
                continue;
            }
            let mut shown = texts(&folder_of(run, sink), &missing, "missing: ")?;
            shown.extend(texts(&folder_of(found_run, sink), &extra, "extra: ")?);
            differences.push(OutputDifference {
                sink: sink.clone(),
                missing: missing.len() as u64,
                extra: extra.len() as u64,
                shown,
            });
        }
        Ok(differences)
    }
}

/// The elements that are in one ascending list more often than in another.
fn beside(hashes: &[u64], others: &[u64]) -> Vec<u64> {
    let mut others = others.iter().peekable();
    let mut beside = Vec::new();
    for hash in hashes {
        while others.next_if(|other| *other < hash).is_some() {}
        if others.next_if_eq(&hash).is_none() {
            beside.push(*hash);
        }
    }
    beside
}

/// Some of the lines with these hashes.
fn texts(folder: &Path, hashes: &[u64], what: &str) -> io::Result<Vec<String>> {
    let mut wanted: BTreeSet<u64> = hashes.iter().copied().collect();
    let mut texts = Vec::new();
    if wanted.is_empty() {
        return Ok(texts);
    }
    each_line(folder, |line| {
        if texts.len() < SHOWN_MAX && wanted.remove(&xxh3_64(line)) {
            let cut = &line[..line.len().min(SHOWN_BYTES_MAX)];
            texts.push(format!(
                "{what}{}",
                String::from_utf8_lossy(cut).escape_debug()
            ));
        }
    })?;
    Ok(texts)
}

/// Calls `each` with each line of each visible part below a folder, in the order of the parts' paths. A missing folder
/// has no lines.
fn each_line(folder: &Path, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut parts = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let kind = entry.file_type()?;
            if !is_hidden && kind.is_file() {
                parts.push(entry.path());
            } else if !is_hidden && kind.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    parts.sort();
    let mut line = Vec::new();
    for part in parts {
        let mut text = file_sink::read_part(&part)?;
        loop {
            line.clear();
            if text.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            each(line.strip_suffix(b"\n").unwrap_or(&line));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Catches a comparison that misses a lost line, a doubled one, or one that was visible too early, and one that
    //! reports another order or other parts as a difference.

    use super::*;

    /// Compares two runs of one sink, each with these parts.
    fn check(expected: &[&str], found: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let runs = [("a", expected), ("b", found)].map(|(name, parts)| {
            let run = folder.path().join(name);
            let out = folder_of(&run, "s");
            fs::create_dir_all(out.join(".staged")).unwrap();
            fs::write(out.join(".floodmark-sink"), "x\n").unwrap();
            for (number, part) in parts.iter().enumerate() {
                fs::write(out.join(format!("part-{number:08}-000.txt")), part).unwrap();
            }
            run
        });
        let sinks = ["s".to_owned()];
        let [a, b] = [&runs[0], &runs[1]].map(|run| RunOutput::read(run, &sinks).unwrap());
        let mut told = Vec::new();
        for difference in a.differences(&b, (&runs[0], &runs[1])).unwrap() {
            told.push(format!("{}-{}+", difference.missing, difference.extra));
            told.extend(difference.shown);
        }
        if told.is_empty() && !b.is_in_order_of(&a) {
            told.push("another order".to_owned());
        }
        told.join("; ")
    }

    #[test]
    fn lines_count_as_often_as_they_are_there() {
        assert_eq!(check(&["x\ny\nx\n"], &["x\ny\n", "x\n"]), "");
        assert_eq!(check(&["x\ny\nx\n"], &["x\n", "x\ny\n"]), "another order");
        assert_eq!(check(&["x\ny\nx\n"], &["x\ny\n"]), "1-0+; missing: x");
        assert_eq!(check(&["x\ny\n"], &["x\ny\n", "y\n"]), "0-1+; extra: y");
        assert_eq!(
            check(&["x\ny\n", "z\n"], &["x\nq\"\n"]),
            "2-1+; missing: y; missing: z; extra: q\\\""
        );
        assert_eq!(check(&[], &[]), "");
        assert_eq!(check(&[], &["\n"]), "0-1+; extra: ");
    }

    #[test]
    fn only_some_lines_are_shown() {
        let many: String = (0..100).map(|number| format!("{number}\n")).collect();
        let told = check(&[&many], &[]);
        assert!(
            told.starts_with("100-0+; missing: 0; missing: 1; "),
            "{told}"
        );
        assert_eq!(told.matches("missing").count(), SHOWN_MAX);
    }
}
