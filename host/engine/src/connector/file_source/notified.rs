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
    /// Why it is not, until this is told.
    problem: Option<String>,
}

impl Notified {
    pub(super) fn new(events: &Arc<dyn FolderEvents>) -> Self {
        Self {
            events: Arc::clone(events),
            listener: events.listen(),
            folders: BTreeSet::new(),
            is_whole: false,
            problem: None,
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
            self.watch_one(folder);
        }
        let has_new = !folders.is_subset(&self.folders);
        self.folders = folders;
        has_new && self.is_whole
    }

    /// Watches the folder of the file that a symbolic link leads to; does nothing for other paths.
    pub(super) fn watch_target(&mut self, link: &Path) {
        if let Some(folder) = listing::target_folder(link) {
            self.watch_one(&folder);
        }
    }

    fn watch_one(&mut self, folder: &Path) {
        let Err(error) = self.listener.watch(folder) else {
            return;
        };
        self.is_whole = false;
        self.problem.get_or_insert_with(|| {
            let folder = folder.display().to_string();
            format!(
                "the system cannot notify of changes in `{}` ({error}), so all files are looked at, up to every second; if it has reached a limit, raise `fs.inotify.max_user_watches` or `fs.inotify.max_user_instances`",
                folder.escape_debug()
            )
        });
    }

    /// Why a folder is not watched, if one is not and this was not told.
    pub(super) fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    pub(super) fn has_news(&self) -> bool {
        self.listener.has_news()
    }

    /// What has changed since the last call, if anything has.
    pub(super) fn news(&mut self) -> Option<FolderNews> {
        self.has_news().then(|| self.listener.take())
    }
}

#[cfg(test)]
mod tests {
    //! Catches a reader that waits for notifications of a folder which the system cannot watch, or does not say that it
    //! cannot.

    use std::io::{Error, ErrorKind, Result};

    use super::*;

    /// A system that can watch one folder.
    struct OneFolder;

    impl FolderEvents for OneFolder {
        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn listen(&self) -> Box<dyn FolderListener> {
            Box::new(Self)
        }
    }

    impl FolderListener for OneFolder {
        fn watch(&mut self, folder: &Path) -> Result<()> {
            match folder == Path::new("one") {
                true => Ok(()),
                false => Err(Error::from(ErrorKind::StorageFull)),
            }
        }

        fn has_news(&self) -> bool {
            false
        }

        fn take(&mut self) -> FolderNews {
            FolderNews::default()
        }
    }

    #[test]
    fn what_is_not_watched_is_told_once() {
        let events: Arc<dyn FolderEvents> = Arc::new(OneFolder);
        let mut notified = Notified::new(&events);
        let folders = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        assert!(notified.watch(folders(&["one"])) && notified.is_whole());
        assert_eq!(notified.take_problem(), None);
        assert!(!notified.watch(folders(&["a\nb", "one"])) && !notified.is_whole());
        let problem = notified.take_problem().unwrap();
        assert!(problem.contains("changes in `a\\nb` ("), "{problem}");
        assert_eq!(notified.take_problem(), None);
    }
}
