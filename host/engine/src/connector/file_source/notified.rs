//! What a reader that follows files hears of changes.
//!
//! All folders that can have files are watched, and those of files that symbolic links lead to. Where the system cannot
//! watch one of them, the reader has to look for itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::listing;
use crate::connector::folder_events::{FolderEvents, FolderListener, FolderNews};

/// The service that says what has changed, for one reader.
pub(super) struct Notified {
    events: Arc<dyn FolderEvents>,
    listener: Box<dyn FolderListener>,
    folders: BTreeSet<PathBuf>,
    is_whole: bool,
}

impl Notified {
    pub(super) fn new(events: &Arc<dyn FolderEvents>) -> Self {
        Self {
            events: Arc::clone(events),
            listener: events.listen(),
            folders: BTreeSet::new(),
            is_whole: false,
        }
    }

    /// The time, to measure how long a look takes.
    pub(super) fn now(&self) -> Duration {
        self.events.now()
    }

    /// Whether all folders are watched.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Watches the folders that can have files; returns whether some were not watched before.
    pub(super) fn watch(&mut self, folders: BTreeSet<PathBuf>) -> bool {
        self.is_whole = true;
        for folder in &folders {
            // One that was removed and made again has to be watched again.
            self.is_whole &= self.listener.watch(folder);
        }
        let has_new = !folders.is_subset(&self.folders);
        self.folders = folders;
        has_new && self.is_whole
    }

    /// Watches the folder of the file that a symbolic link leads to; does nothing for other paths.
    pub(super) fn watch_target(&mut self, link: &Path) {
        if let Some(folder) = listing::target_folder(link) {
            self.is_whole &= self.listener.watch(&folder);
        }
    }

    pub(super) fn has_news(&self) -> bool {
        self.listener.has_news()
    }

    /// What has changed since the last call, if anything has.
    pub(super) fn news(&mut self) -> Option<FolderNews> {
        self.has_news().then(|| self.listener.take())
    }
}
