//! Notes in the data folder that checkpoints are deleted whose output is still visible, until that output is taken back.
//!
//! ```text
//! later-output    7      checkpoints after 7 are deleted, and output that they made visible may be there
//! ```
//!
//! The note is written before checkpoints are deleted, and removed once the sinks have recovered. In between, the next start
//! takes the output back, since the checkpoint that it resumes from does not name it. A swap of a stopped job cannot do that: its
//! checkpoint has a higher id, and would take the output for its own. Ids alone do not show that something was deleted, since
//! object storages use them up for other reasons, too. This module deletes no checkpoint and takes back nothing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::{private, regular_file};
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;

/// The name of the file in a data folder.
const FILE_NAME: &str = "later-output";
/// Longest note that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64;

/// The note of a data folder that this process holds.
#[derive(Debug, Default)]
pub struct LaterOutput {
    /// `None` for a job that keeps nothing.
    folder: Option<PathBuf>,
}

impl LaterOutput {
    /// The note of this data folder, whether it is there or not.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: Some(folder.to_path_buf()),
        }
    }

    /// Notes that checkpoints after `newest` will be deleted. The note is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written. Do not delete anything then.
    pub fn note(&self, newest: CheckpointId) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let written = private::write(folder, FILE_NAME, format!("{newest}\n").as_bytes());
        written.map_err(|source| failed(folder, source))
    }

    /// Whether output of deleted checkpoints may be visible, given the newest checkpoint that is there. A note of checkpoints that
    /// were not deleted in the end does not count.
    ///
    /// # Errors
    /// When the note cannot be read.
    pub fn may_be_visible(&self, newest: CheckpointId) -> Result<bool, StoreError> {
        let Some(folder) = &self.folder else {
            return Ok(false);
        };
        match regular_file::read_own_text(&folder.join(FILE_NAME), FILE_BYTES_MAX) {
            // A note that a person has changed is taken seriously: a start removes it.
            Ok(text) => Ok(newest.0 <= text.trim_end().parse().unwrap_or(u64::MAX)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed(folder, source)),
        }
    }

    /// Removes the note: the sinks have recovered. A note that cannot be removed only delays swaps of the stopped job.
    pub fn forget(&self) {
        if let Some(folder) = &self.folder {
            let _ = fs::remove_file(folder.join(FILE_NAME));
        }
    }
}

fn failed(folder: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: folder.join(FILE_NAME),
        source,
    }
}

#[cfg(test)]
mod tests {
    //! Catches output of deleted checkpoints that is forgotten, and a note about checkpoints that are still there.

    use super::*;

    #[test]
    fn a_note_counts_until_it_is_forgotten_or_a_later_checkpoint_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let output = LaterOutput::of(folder.path());
        let seen = |newest| output.may_be_visible(CheckpointId(newest)).unwrap();
        assert!(!seen(7));
        output.note(CheckpointId(7)).unwrap();
        assert!(seen(7));
        assert!(seen(6), "7 is damaged, or was deleted since");
        assert!(!seen(8), "8 was not deleted in the end");
        fs::write(folder.path().join(FILE_NAME), "seven").unwrap();
        assert!(seen(8));
        output.forget();
        assert!(!seen(7));
        output.forget();
    }

    #[test]
    fn a_job_that_keeps_nothing_notes_nothing() {
        let output = LaterOutput::default();
        output.note(CheckpointId(7)).unwrap();
        assert!(!output.may_be_visible(CheckpointId(7)).unwrap());
        output.forget();
    }
}
