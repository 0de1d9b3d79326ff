//! Notes in the data folder how a job has failed at its end, for `floodmark status`, until the job runs again.
//!
//! ```text
//! failed    {"at-ms":1790000000000,"failures":11,"reason":"…"}
//! ```
//!
//! The note is for people only. A process that is killed leaves none. What the restart strategy counts is in `failures`.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{private, regular_file};

/// The name of the file in a data folder.
const FILE_NAME: &str = "failed";
/// Longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 16 << 10;
/// Largest note that is read, in bytes. Escapes make a reason six times as long at most.
const FILE_BYTES_MAX: u64 = 128 << 10;

/// The end of a job that failed and was not restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FailedEnd {
    /// Time of day, in milliseconds since 1970.
    pub at_ms: u64,
    /// Number of failures since the job last ended well that its restart strategy counted; 0 if this one is of a kind after
    /// which a job is not restarted, and there were none before.
    pub failures: u64,
    /// What failed.
    pub reason: String,
}

impl FailedEnd {
    /// Writes the note to a data folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(mut self, folder: &Path) -> io::Result<()> {
        let end = self.reason.floor_char_boundary(REASON_BYTES_MAX);
        self.reason.truncate(end);
        private::write(folder, FILE_NAME, &serde_json::to_vec(&self)?)
    }

    /// Reads the note of a data folder that need not be held; `None` if there is none, or it cannot be read.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        let text = regular_file::read_own_text(&folder.join(FILE_NAME), FILE_BYTES_MAX);
        serde_json::from_str(&text.ok()?).ok()
    }

    /// Removes the note: the job runs again. One that stays is about an earlier end, and the next end replaces it.
    pub fn forget(folder: &Path) {
        let _ = fs::remove_file(folder.join(FILE_NAME));
    }
}

#[cfg(test)]
mod tests {
    //! Catches a note that is not read as it was written, grows without bound, or outlives the next start.

    use super::*;

    #[test]
    fn a_note_is_read_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(FailedEnd::read(folder.path()), None);
        for (reason, kept) in [
            ("two\nlines".to_owned(), 9),
            (format!("\u{1}{}", "ä".repeat(10_000)), REASON_BYTES_MAX - 1),
        ] {
            let end = FailedEnd {
                at_ms: 7,
                failures: 2,
                reason: reason.clone(),
            };
            end.write(folder.path()).unwrap();
            let read = FailedEnd::read(folder.path()).unwrap();
            assert_eq!((read.at_ms, read.failures), (7, 2));
            assert_eq!(read.reason, reason[..kept]);
        }
        FailedEnd::forget(folder.path());
        assert_eq!(FailedEnd::read(folder.path()), None);
        FailedEnd::forget(folder.path());
    }

    #[test]
    fn a_damaged_note_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "{\"at-ms\":7}").unwrap();
        assert_eq!(FailedEnd::read(folder.path()), None);
    }
}
