//! Keeps the failures of a job in its data folder, so that a restarted process continues to count.
//!
//! ```text
//! failures    {"at-ms":1790000000000,"delay-ms":100,"records-in":500,"checkpoint":7,"reason":"…"}   a line each, oldest first
//!             {"ended-ms":1790000001000}     the job ended well, or a user said `retry`: those above do not count
//! ```
//!
//! The file is for people and for counting, not for recovery. It is written as a whole, under another name first, and a
//! line that cannot be read is skipped. If it cannot be written, the job counts in memory. `job::restart` decides what
//! to do after a failure.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{private, regular_file};
use crate::job::restart::{FAILURES_MAX, Failure};
use floodmark_state::stream::CheckpointId;

/// The name of the file in a data folder.
pub const FILE_NAME: &str = "failures";
/// Number of failures that are kept.
const LINES_MAX: usize = FAILURES_MAX;
/// Longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 500;
/// Largest file that is read, in bytes. Files written by this module are smaller.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A line of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Failed(FailureEntry),
    Ended(EndEntry),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct FailureEntry {
    at_ms: u64,
    delay_ms: u64,
    records_in: u64,
    checkpoint: Option<u64>,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct EndEntry {
    ended_ms: u64,
}

/// The failures of a job.
#[derive(Debug, Default)]
pub struct FailureLog {
    /// `None` for a job that keeps nothing.
    folder: Option<PathBuf>,
    lines: Vec<Line>,
}

impl FailureLog {
    /// Reads the failures in a data folder that this process holds. An unreadable file counts as empty.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        let text = read(&folder.join(FILE_NAME)).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut log = Self {
            folder: Some(folder.to_path_buf()),
            lines: lines.collect(),
        };
        log.shorten();
        log
    }

    /// The failures that count, oldest first.
    #[must_use]
    pub fn counting(&self) -> Vec<Failure> {
        let ended = |line: &Line| matches!(line, Line::Ended(_));
        let from = self.lines.iter().rposition(ended).map_or(0, |at| at + 1);
        let failures = self.lines[from..].iter().filter_map(|line| match line {
            Line::Failed(failed) => Some(Failure {
                at_ms: failed.at_ms,
                delay_ms: failed.delay_ms,
                records_in: failed.records_in,
            }),
            Line::Ended(_) => None,
        });
        failures.collect()
    }

    /// Adds a failure, after which the job resumes from `checkpoint`, or gives up.
    ///
    /// # Errors
    /// When the file cannot be written. The failure still counts in this process.
    pub fn add(
        &mut self,
        failure: Failure,
        checkpoint: Option<CheckpointId>,
        reason: &str,
    ) -> io::Result<()> {
        let end = reason.floor_char_boundary(REASON_BYTES_MAX);
        self.lines.push(Line::Failed(FailureEntry {
            at_ms: failure.at_ms,
            delay_ms: failure.delay_ms,
            records_in: failure.records_in,
            checkpoint: checkpoint.map(|id| id.0),
            reason: reason[..end].to_owned(),
        }));
        self.shorten();
        self.write()
    }

    /// Records that the job ended well, starts fresh or retries on request: earlier failures no longer count.
    ///
    /// # Errors
    /// When the file cannot be written. The failures then count for the next process.
    pub fn end(&mut self, ended_ms: u64) -> io::Result<()> {
        if matches!(self.lines.last(), None | Some(Line::Ended(_))) {
            return Ok(());
        }
        self.lines.push(Line::Ended(EndEntry { ended_ms }));
        self.shorten();
        self.write()
    }

    fn shorten(&mut self) {
        let over = self.lines.len().saturating_sub(LINES_MAX);
        self.lines.drain(..over);
    }

    fn write(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut text = String::new();
        for line in &self.lines {
            text += &serde_json::to_string(line)?;
            text.push('\n');
        }
        private::write(folder, FILE_NAME, text.as_bytes())
    }
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read;

    let mut bytes = Vec::new();
    regular_file::open_own(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    //! Catches failures that are forgotten with the process, or counted after the job has ended well, and a file that
    //! grows without bound or is trusted when it is damaged.

    use std::fs;

    use super::*;

    fn failure(at_ms: u64) -> Failure {
        Failure {
            at_ms,
            delay_ms: 5,
            records_in: 9,
        }
    }

    #[test]
    fn failures_outlive_the_process_until_the_job_ends_well() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = FailureLog::of(folder.path());
        assert_eq!(log.counting(), []);
        log.end(1).unwrap();
        assert!(!folder.path().join(FILE_NAME).exists());
        log.add(failure(2), None, "a").unwrap();
        log.add(failure(3), Some(CheckpointId(7)), "b\n").unwrap();
        let mut log = FailureLog::of(folder.path());
        assert_eq!(log.counting(), [failure(2), failure(3)]);
        log.end(4).unwrap();
        assert_eq!(log.counting(), []);
        log.add(failure(5), None, "c").unwrap();
        assert_eq!(FailureLog::of(folder.path()).counting(), [failure(5)]);
        let text = fs::read_to_string(folder.path().join(FILE_NAME)).unwrap();
        let expected = r#"{"at-ms":2,"delay-ms":5,"records-in":9,"checkpoint":null,"reason":"a"}
{"at-ms":3,"delay-ms":5,"records-in":9,"checkpoint":7,"reason":"b\n"}
{"ended-ms":4}
{"at-ms":5,"delay-ms":5,"records-in":9,"checkpoint":null,"reason":"c"}
"#;
        assert_eq!(text, expected);
    }

    #[test]
    fn a_pipe_in_its_place_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let mut log = FailureLog::of(folder.path());
        assert_eq!(log.counting(), []);
        log.add(failure(1), None, "").unwrap();
        assert_eq!(FailureLog::of(folder.path()).counting(), [failure(1)]);
    }

    #[test]
    fn it_is_bounded_and_bears_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        let mut log = FailureLog::of(folder.path());
        for at_ms in 0..300 {
            log.add(failure(at_ms), None, &"ä".repeat(1000)).unwrap();
        }
        assert_eq!(log.counting().len(), LINES_MAX);
        assert_eq!(log.counting()[LINES_MAX - 1], failure(299));
        assert!(fs::metadata(&path).unwrap().len() < FILE_BYTES_MAX / 10);
        let text = fs::read_to_string(&path).unwrap();
        let damaged = text.replacen("at-ms", "xx-ms", 1).replacen('}', "", 2);
        fs::write(&path, [b"\xff\n{}\n", damaged.as_bytes()].concat()).unwrap();
        assert_eq!(
            FailureLog::of(folder.path()).counting().len(),
            LINES_MAX - 2
        );
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let mut log = FailureLog::of(folder.path());
        assert!(log.add(failure(1), None, "").is_err());
        assert_eq!(log.counting(), [failure(1)]);
    }
}
