//! How a reader that follows files finds out which have changed, and which are new.
//!
//! A look at all files walks the folders. It costs something for each file, so where the system notifies of changes, the
//! reader looks only at the paths that these name, and at all files now and then. What is done with a file that has changed
//! is decided by [`super`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FollowReader, FollowedFile, RETRY};
use crate::connector::ConnectorError;
use crate::connector::file_source::identity::{FileFacts, FileKey, Sighting};
use crate::connector::file_source::listing::{self, FilesByPath};
use crate::connector::file_source::notified::Notified;
use crate::connector::file_source::split::FileSplit;
use crate::connector::folder_events::FolderNews;

impl FollowReader {
    /// Looks at all files, and for new ones.
    pub(super) fn look_at_all(&mut self, now: Duration) -> Result<(), ConnectorError> {
        let begun = self.notified.as_ref().map(Notified::now);
        let walked = self.source.listing.walk()?;
        let notified = self.notified.as_mut();
        let has_new_folders = notified.is_some_and(|it| it.watch(walked.folders));
        let mut seen = Sighting::new(walked.files);
        self.look_beside(&mut seen)?;
        let known = &self.source.known;
        self.files
            .retain(|key, file| file.split.position > 0 || !known.is_taken_over(*key));
        let has_waiting = !self.waiting.is_empty();
        // By name, as without `follow`: later files of a series have later names.
        let mut keys: Vec<FileKey> = self.files.keys().copied().collect();
        keys.sort_by_key(|key| &self.files[key].split.path);
        for key in keys {
            self.look_at(key, &seen, now)?;
        }
        if !has_waiting {
            self.retry_at = now + RETRY;
        }
        for (path, facts) in seen.listed() {
            self.pick_up(path, facts);
        }
        let ended = self.notified.as_ref().map(Notified::now);
        let cost = ended
            .zip(begun)
            .map(|(end, begun)| end.saturating_sub(begun));
        let is_notified = self.notified.as_ref().is_some_and(Notified::is_whole);
        let has_changes = !self.ready.is_empty();
        self.pace
            .looked(now, cost.unwrap_or_default(), has_changes, is_notified);
        if has_new_folders {
            // Files may have been added to them before they were watched.
            self.pace.want_all();
        }
        Ok(())
    }

    /// Looks at what has changed.
    pub(super) fn look_at_news(&mut self, news: &FolderNews) {
        for path in &news.paths {
            // The next look at all files reports what is wrong with one, if it matters.
            let Ok(Some(facts)) = listing::facts_at(path) else {
                continue;
            };
            match self.files.get(&facts.key) {
                Some(file) if file.has_changed(&facts) => self.ready.push_back(facts.key),
                Some(_) => {}
                None if self.source.listing.matches(path) => self.pick_up(path, &facts),
                None => {}
            }
        }
        if news.names_changed {
            self.pace.want_all();
        }
    }

    /// Adds own files that have a name beside the listing, or beside the file that their link leads to now.
    fn look_beside(&self, seen: &mut Sighting) -> Result<(), ConnectorError> {
        let mut wanted: BTreeMap<PathBuf, BTreeSet<u64>> = BTreeMap::new();
        for (key, file) in &self.files {
            let path = &file.split.path;
            if seen.find(*key, path).is_some() {
                continue;
            }
            let folder = path.parent().map(Path::to_owned);
            for folder in folder.into_iter().chain(listing::target_folder(path)) {
                wanted.entry(folder).or_default().insert(key.inode);
            }
        }
        for (folder, inodes) in wanted {
            let mut beside = FilesByPath::new();
            listing::with_inodes(&folder, &|inode| inodes.contains(&inode), &mut beside)?;
            seen.add_beside(beside);
        }
        Ok(())
    }

    /// Looks at one of the files among those that are seen.
    fn look_at(
        &mut self,
        key: FileKey,
        seen: &Sighting,
        now: Duration,
    ) -> Result<(), ConnectorError> {
        let Some(file) = self.files.get_mut(&key) else {
            return Ok(());
        };
        let Some((path, facts)) = seen.find(key, &file.split.path) else {
            return self.miss(key, seen, now);
        };
        file.is_missed = false;
        if file.split.path != path {
            let before = std::mem::replace(&mut file.split.path, path.to_owned());
            file.link = match self.source.listing.may_name(path) {
                true => None,
                false => file.link.take().or(Some(before)),
            };
        }
        if file.has_changed(facts) {
            self.ready.push_back(key);
        }
        Ok(())
    }

    /// Adds a new file, if one of this task's watches is responsible for it.
    fn pick_up(&mut self, path: &Path, facts: &FileFacts) {
        let key = facts.key;
        let is_own = self.watches.iter().any(|watch| watch.answers_for(key));
        if is_own && self.source.known.claim(key) {
            let split = FileSplit::of(path.to_owned(), self.source.fields.format, facts);
            self.files.insert(key, FollowedFile::new(split));
            self.ready.push_back(key);
        }
    }
}
