//! Notifications of changes in folders: the interface.
//!
//! Connectors start no threads. `edge` provides a [`FolderEvents`] to the readers of a job; without one, they look for
//! themselves. Notifications may be lost, and some file systems have none: so they only say when to look, never what is
//! there.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Notifies readers of changes in folders.
pub trait FolderEvents: Send + Sync {
    /// The time since some start, to measure how long a look at files takes. Never goes back.
    fn now(&self) -> Duration;

    /// A listener for one reader, whose worker is woken at each change.
    fn listen(&self) -> Box<dyn FolderListener>;
}

/// Collects what has changed in some folders.
pub trait FolderListener: Send {
    /// Watches a folder from now on. One that is watched already, or does not exist, makes no difference.
    ///
    /// # Errors
    /// When the system cannot watch it: nothing is heard of it.
    fn watch(&mut self, folder: &Path) -> io::Result<()>;

    /// Whether something has changed.
    fn has_news(&self) -> bool;

    /// What has changed since the last call.
    fn take(&mut self) -> FolderNews;
}

/// What has changed in folders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderNews {
    /// Paths of which the content or the name has changed.
    pub paths: BTreeSet<PathBuf>,
    /// Whether names were added, moved or removed, or notifications were lost.
    pub names_changed: bool,
}
