//! Handling of a followed file that is no longer where it was, or no longer what it was.
//!
//! The reader looks for it among the files that are there: [`identity`] decides which one it is. The file may have another
//! name, be a copy of one that was truncated, or be compressed by now. Files that are only renamed need none of this, since
//! the reader knows them by their keys.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::{AwaitedCopy, FollowReader, FollowedFile, held};
use crate::connector::ConnectorError;
use crate::connector::file_source::content;
use crate::connector::file_source::identity::{
    self, FileFacts, FileKey, Fit, LOOKS_MAX, Remembered, Sighting, Whereabouts,
};
use crate::connector::file_source::listing::facts_of;
use crate::connector::file_source::split::FileSplit;

/// How long a file waits for a compressed one that is not complete and does not grow.
const AWAITED_TIME: Duration = Duration::from_secs(60);

impl FollowReader {
    /// Handles a file that has no name where it can be seen: it is deleted, or in another folder.
    pub(super) fn miss(
        &mut self,
        key: FileKey,
        seen: &Sighting,
        now: Duration,
    ) -> Result<(), ConnectorError> {
        if let (Some(held), Some(file)) = (held(&self.held, key), self.files.get_mut(&key))
            && !file.split.is_set_aside()
        {
            let path = &file.split.path;
            let found = held.metadata().map_err(ConnectorError::io("read", path))?;
            let facts = facts_of(&found);
            if file.read != Some(facts) {
                file.is_missed = false;
                self.ready.push_back(key);
                return Ok(());
            }
            if found.nlink() > 0 {
                return Ok(());
            }
            if file.split.position < facts.len && !file.is_deleted {
                file.is_missed = false;
                file.is_deleted = true;
                file.read = None;
                self.ready.push_back(key);
                return Ok(());
            }
        }
        // A folder is not read in one moment: a file may get another name, or be compressed, while this is done. So it is
        // missed once more before it is given up.
        if let Some(file) = self.files.get_mut(&key)
            && !std::mem::replace(&mut file.is_missed, true)
        {
            self.waiting.insert(key);
            return Ok(());
        }
        self.give_up(key, seen, now)
    }

    /// Handles a file that can no longer be read.
    fn give_up(
        &mut self,
        key: FileKey,
        seen: &Sighting,
        now: Duration,
    ) -> Result<(), ConnectorError> {
        let Some(file) = self.files.get(&key) else {
            return Ok(());
        };
        let mut split = file.split.clone();
        let is_aside = split.is_set_aside();
        // What has replaced it is read: on from the position if it has the same bytes before that.
        split.readmit();
        if let Some(awaited) = &file.awaited
            && seen.facts(&awaited.path).map(|facts| facts.len) == Some(awaited.len)
            && now < awaited.since + AWAITED_TIME
        {
            self.waiting.insert(key);
            return Ok(());
        }
        let Some(found) = self.find(&split, seen)? else {
            // The next look at all files sees where it is.
            self.waiting.insert(key);
            return Ok(());
        };
        let found = match found {
            _ if is_aside && !split.has_proof() => Whereabouts::Gone,
            Whereabouts::Unclear(path) if !is_aside && self.awaits(key, path, seen, now) => {
                return Ok(());
            }
            Whereabouts::Unclear(_) => seen.lost(&split.path),
            found => found,
        };
        match found {
            // Another file with the same beginning.
            Whereabouts::There(path) | Whereabouts::Truncated { path, .. } => {
                self.take_over(path, &split, seen)?;
            }
            // Of a file that came and went between two looks, nothing is half read.
            Whereabouts::Replaced | Whereabouts::Gone | Whereabouts::Unclear(_)
                if is_aside || split.is_complete() || split.position == 0 => {}
            Whereabouts::Replaced => {
                return Err(ConnectorError::InputReplaced {
                    path: split.path.clone(),
                    position: split.position,
                });
            }
            Whereabouts::Gone | Whereabouts::Unclear(_) => {
                return Err(ConnectorError::InputGone {
                    path: split.path.clone(),
                    position: split.position,
                });
            }
        }
        self.source.known.forget(key);
        self.files.remove(&key);
        self.held.retain(|(held, _)| *held != key);
        Ok(())
    }

    /// Lets a file wait until enough of a compressed one is there to tell whether that has its content. Returns `false` if
    /// it has waited for long enough.
    fn awaits(&mut self, key: FileKey, path: &Path, seen: &Sighting, now: Duration) -> bool {
        let (Some(facts), Some(file)) = (seen.facts(path), self.files.get_mut(&key)) else {
            return false;
        };
        let since = match &file.awaited {
            Some(awaited) if awaited.path == path && awaited.len == facts.len => awaited.since,
            _ => now,
        };
        if now >= since + AWAITED_TIME {
            return false;
        }
        file.awaited = Some(AwaitedCopy {
            path: path.to_owned(),
            len: facts.len,
            since,
        });
        self.source.known.await_copy(key, facts.key);
        self.waiting.insert(key);
        true
    }

    /// Continues a split in another file that has the bytes before its position.
    fn take_over(
        &mut self,
        path: &Path,
        split: &FileSplit,
        seen: &Sighting,
    ) -> Result<(), ConnectorError> {
        let Some(facts) = seen.facts(path) else {
            return Ok(());
        };
        if split.position == 0 || !self.source.known.take_over(facts.key) {
            return Ok(());
        }
        let mut copies = vec![FileSplit {
            path: path.to_owned(),
            key: Some(facts.key),
            member_end: None,
            ..split.clone()
        }];
        content::plan(path, facts.len, &mut copies, true)?;
        self.waiting.remove(&facts.key);
        for mut copy in copies {
            copy.len = facts.len;
            self.files.insert(facts.key, FollowedFile::new(copy));
            self.ready.push_back(facts.key);
        }
        Ok(())
    }

    /// Finds a file by the bytes before its position; `None` if what is seen is no longer so.
    fn find<'a>(
        &self,
        split: &FileSplit,
        seen: &'a Sighting,
    ) -> Result<Option<Whereabouts<'a>>, ConnectorError> {
        let file = Remembered {
            path: &split.path,
            key: split.key,
            position: split.position,
            least_len: split.least_len(),
            has_print: split.has_proof(),
        };
        let is_unread = |key: FileKey| self.source.known.is_unread(key);
        let mut has_moved = false;
        let mut fits = |path: &Path| {
            let fit = content::fit(std::slice::from_ref(split), path, seen)?;
            has_moved |= fit.is_none();
            Ok::<_, ConnectorError>(fit.unwrap_or(Fit::No))
        };
        let found = identity::find(&file, seen, &is_unread, &mut fits)?;
        Ok((!has_moved).then_some(found))
    }

    /// Handles a file whose bytes are no longer those that were read. If its content still is, since it was compressed or
    /// written anew, reading continues in that. Otherwise what is there now is read from its beginning; and if another file
    /// has the earlier content, this task reads that from where this one was.
    pub(super) fn truncated(&mut self, key: FileKey) -> Result<(), ConnectorError> {
        let Some(mut split) = self.files.get(&key).map(|file| file.split.clone()) else {
            return Ok(());
        };
        split.forget_form();
        if split.compressed.is_some() && split.position > 0 && !split.has_proof() {
            return Err(ConnectorError::InputReplaced {
                path: split.path,
                position: split.position,
            });
        }
        // The copy may get another name, or be compressed, while it is looked for.
        for look in 0..LOOKS_MAX {
            let seen = Sighting::new(self.source.listing.walk()?.files);
            match self.find(&split, &seen)? {
                Some(Whereabouts::There(path)) if split.position > 0 && split.has_proof() => {
                    if let Some(facts) = seen.facts(path).filter(|facts| facts.key == key) {
                        return self.continue_anew(split, *facts);
                    }
                }
                Some(Whereabouts::Truncated {
                    copy: Some(copy), ..
                }) => {
                    self.take_over(copy, &split, &seen)?;
                    break;
                }
                Some(_) if look > 0 => break,
                Some(_) | None => {}
            }
        }
        self.source.known.rewound(key);
        if let Some(file) = self.files.get_mut(&key) {
            file.split.rewind();
            file.split.len = 0;
            file.read = None;
        }
        self.ready.push_front(key);
        Ok(())
    }

    /// Continues a split in its own file, which has other bytes for the same content, or has what was missing for a moment.
    fn continue_anew(&mut self, split: FileSplit, facts: FileFacts) -> Result<(), ConnectorError> {
        let path = split.path.clone();
        let mut ranges = vec![split];
        content::plan(&path, facts.len, &mut ranges, true)?;
        if let (Some(file), Some(mut split)) = (self.files.get_mut(&facts.key), ranges.pop()) {
            split.len = facts.len.max(split.least_len());
            file.split = split;
            file.read = None;
        }
        self.ready.push_front(facts.key);
        Ok(())
    }
}
