//! The mark of a commit that is under way: an empty file beside the store, there from before each transaction until it is over.
//!
//! A commit of redb on a damaged page can end the process, and would do so again at each start. A process that opens a store
//! and finds the mark checks all pages first; without the mark it skips that check. The mark is never synced: it has to
//! outlive the process, not the machine, since redb survives a crash of the machine by itself. A mark that stays although
//! the file is sound (after a kill, or when the disk fails) costs a slower start.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::file;

/// The mark of one store.
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

    /// Whether a commit did not come back. What cannot be looked at is taken for one.
    pub(super) fn is_set(&self) -> bool {
        self.path.try_exists().unwrap_or(true)
    }

    /// Whether it is there now.
    pub(super) fn set(&self) -> bool {
        File::create(&self.path).is_ok()
    }

    pub(super) fn clear(&self) {
        // If it stays, the next start is a slower one.
        let _ = std::fs::remove_file(&self.path);
    }
}
