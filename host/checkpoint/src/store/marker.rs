//! Marks a running commit: an empty file beside the store that exists from before each transaction until after it.
//!
//! A commit of redb on a damaged page can end the process, and would do so again at each start. A process that opens a
//! store and finds the marker checks all pages first; without the marker it skips that check. The marker is never
//! synced: it must survive the process, not the machine, since redb itself survives a crash of the machine. A marker
//! that remains although the file is sound (after a kill, or a disk failure) costs a slower start.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::file;

/// The marker of one store.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
}

impl Marker {
    pub(super) fn of(store: &Path) -> Self {
        Self {
            path: file::writing_name(store),
        }
    }

    /// Whether a commit did not return. `true` if this cannot be determined.
    pub(super) fn is_set(&self) -> bool {
        self.path.try_exists().unwrap_or(true)
    }

    /// Creates the marker; returns whether it exists.
    pub(super) fn set(&self) -> bool {
        File::create(&self.path).is_ok()
    }

    pub(super) fn clear(&self) {
        // If it stays, the next start is slower.
        let _ = std::fs::remove_file(&self.path);
    }
}
