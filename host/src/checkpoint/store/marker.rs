//! The mark of a commit that is under way: an empty file beside the store, there from before each transaction until it is over.
//!
//! redb's commit on a damaged page can end the process, and would do so at each start again. Whoever opens a store and finds
//! the mark checks all its pages first; whoever does not is spared that. It is never synced: it has to outlive the
//! process, not the machine, whose sudden end redb survives by itself. One that stays although all is well (a kill, a
//! disk that failed) costs a slower start.

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
