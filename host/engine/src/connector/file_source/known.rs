//! The files that the tasks of one source know, in one table for all of them.
//!
//! - A file is in the table from when one task picks it up until that task gives it up: so no other one does.
//! - What a file begins with is kept once something of it has been read: a new file that begins in the same way may be a
//!   copy that is about to replace it (`copytruncate`), and is not read at once.
//! - A file may vanish while a job starts, before what it begins with is known. Until it is given up, each new file may be its
//!   copy.
//! - A copy is taken over by the task that finds its original truncated, unless a task has begun to read it. So one task
//!   changes both positions, and no checkpoint has only one of them. In a checkpoint the copy may still be a file of its
//!   earlier task, too, with nothing read: the further position counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::identity::{FileKey, Fingerprint};
use super::listing;
use super::split::FileSplit;
use crate::connector::ConnectorError;

/// Bytes at the start of a file by which a copy is suspected.
const HEAD_BYTES: usize = 1 << 10;

/// What the tasks of a source know of its files.
#[derive(Debug, Default)]
pub(super) struct KnownFiles {
    table: Mutex<KnownTable>,
    /// Whether one of the tasks has told why it is not notified of changes.
    has_warned: AtomicBool,
}

#[derive(Debug, Default)]
struct KnownTable {
    files: BTreeMap<FileKey, KnownFile>,
    /// Files that vanished, each with an unread one that may turn out to be its copy.
    awaited: BTreeMap<FileKey, FileKey>,
    /// How many of the files begin so, by length and digest.
    heads: BTreeMap<FileHead, u32>,
    /// Files that have been read, and vanished before it was known what they begin with.
    headless: BTreeSet<FileKey>,
}

/// The length and the fingerprint of the first bytes of a file.
type FileHead = (usize, Fingerprint);

#[derive(Debug, Default)]
struct KnownFile {
    has_begun: bool,
    head: Option<FileHead>,
    /// Whether it may be a copy: it came while the job, or an earlier run of it, was reading.
    may_be_copy: bool,
    /// Whether another task than the one that picked it up reads it.
    is_taken_over: bool,
}

impl KnownFiles {
    fn lock(&self) -> MutexGuard<'_, KnownTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a task is the first one to tell why it is not notified of changes.
    pub(super) fn warns_first(&self) -> bool {
        !self.has_warned.swap(true, Ordering::Relaxed)
    }

    /// Forgets all, and knows the files of these splits. Unread ones may be copies if an earlier run has read others.
    pub(super) fn reset(
        &self,
        splits: &[FileSplit],
        has_earlier_run: bool,
    ) -> Result<(), ConnectorError> {
        let mut table = KnownTable::default();
        for split in splits {
            let Some(key) = split.key else { continue };
            let known = KnownFile {
                may_be_copy: has_earlier_run && split.position == 0,
                ..KnownFile::default()
            };
            table.files.insert(key, known);
            if split.position > 0 || split.is_whole() {
                let file = listing::open_if_allowed(&split.path)?;
                let len = Self::head_len(split);
                let head = match file.filter(|file| listing::is_file_of(file, key)) {
                    Some(file) => listing::bytes_at(&file, &split.path, 0, len)?,
                    None => Vec::new(),
                };
                if head.is_empty() && len > 0 {
                    table.headless.insert(key);
                }
                table.note_begun(key, &head);
            }
        }
        *self.lock() = table;
        Ok(())
    }

    /// Adds a file that no task knows; returns whether it was added.
    pub(super) fn claim(&self, key: FileKey) -> bool {
        let mut table = self.lock();
        if table.files.contains_key(&key) {
            return false;
        }
        let known = KnownFile {
            may_be_copy: true,
            ..KnownFile::default()
        };
        table.files.insert(key, known);
        true
    }

    /// Whether no task has read anything of the file.
    pub(super) fn is_unread(&self, key: FileKey) -> bool {
        self.lock().files.get(&key).is_none_or(|it| !it.has_begun)
    }

    /// Whether the first bytes of this file have to be read, for [`Self::begun`].
    pub(super) fn wants_head(&self, key: FileKey) -> bool {
        let table = self.lock();
        table.files.get(&key).is_some_and(|it| it.head.is_none())
    }

    /// The number of bytes that are wanted of a file that was read so far. One that is compressed is not copied to be
    /// truncated.
    pub(super) fn head_len(split: &FileSplit) -> usize {
        match split.compressed {
            None => split.position.min(HEAD_BYTES as u64) as usize,
            Some(_) => 0,
        }
    }

    /// Something of the file was read; it begins with `head`.
    pub(super) fn begun(&self, key: FileKey, head: &[u8]) {
        self.lock().note_begun(key, head);
    }

    /// The file was truncated: nothing of what is there now was read.
    pub(super) fn rewound(&self, key: FileKey) {
        let mut table = self.lock();
        table.drop_head(key);
        table.files.insert(key, KnownFile::default());
    }

    /// The file is gone, or is another task's matter.
    pub(super) fn forget(&self, key: FileKey) {
        let mut table = self.lock();
        table.drop_head(key);
        table.files.remove(&key);
        table.awaited.remove(&key);
    }

    /// Until the vanished file is forgotten, no task begins to read what may be its copy.
    pub(super) fn await_copy(&self, vanished: FileKey, copy: FileKey) {
        self.lock().awaited.insert(vanished, copy);
    }

    /// Whether a file may be the copy of one that vanished.
    pub(super) fn is_awaited(&self, key: FileKey) -> bool {
        self.lock().awaited.values().any(|copy| *copy == key)
    }

    /// Whether the first bytes of a new file have to be read, for [`Self::may_be_copy`].
    pub(super) fn wants_start(&self, key: FileKey) -> bool {
        let table = self.lock();
        table.files.get(&key).is_some_and(|it| it.may_be_copy)
    }

    /// Takes a copy over, unless a task has begun to read it; returns whether it was taken.
    pub(super) fn take_over(&self, key: FileKey) -> bool {
        let mut table = self.lock();
        let known = table.files.entry(key).or_default();
        if known.has_begun {
            return false;
        }
        known.has_begun = true;
        known.is_taken_over = true;
        true
    }

    /// Whether another task reads a file of which this task has read nothing.
    pub(super) fn is_taken_over(&self, key: FileKey) -> bool {
        self.lock()
            .files
            .get(&key)
            .is_some_and(|it| it.is_taken_over)
    }

    /// A task begins to read a file from its beginning; returns `false` if another one has taken it over.
    pub(super) fn begin(&self, key: FileKey) -> bool {
        let mut table = self.lock();
        let Some(file) = table.files.get_mut(&key) else {
            return true;
        };
        file.has_begun = true;
        !file.is_taken_over
    }

    /// Whether a file with this start may be a copy of another one. Asked once of each file, when it first has bytes.
    pub(super) fn may_be_copy(&self, key: FileKey, start: &[u8]) -> bool {
        let mut table = self.lock();
        let asked = table.files.get_mut(&key);
        if !asked.is_some_and(|it| std::mem::take(&mut it.may_be_copy)) {
            return false;
        }
        if !table.headless.is_empty() {
            return true;
        }
        let mut lens: Vec<usize> = table.heads.keys().map(|(len, _)| *len).collect();
        lens.dedup();
        let mut heads = lens.into_iter().filter_map(|len| {
            let head = start.get(..len)?;
            Some((len, Fingerprint::of(head)))
        });
        heads.any(|head| table.heads.contains_key(&head))
    }

    /// The number of bytes of a file that tell whether it may be a copy.
    pub(super) fn start_len() -> usize {
        HEAD_BYTES
    }
}

impl KnownTable {
    fn note_begun(&mut self, key: FileKey, head: &[u8]) {
        let Some(file) = self.files.get_mut(&key) else {
            return;
        };
        file.has_begun = true;
        file.may_be_copy = false;
        if file.head.is_none() && !head.is_empty() {
            let head = (head.len(), Fingerprint::of(head));
            file.head = Some(head);
            self.headless.remove(&key);
            *self.heads.entry(head).or_default() += 1;
        }
    }

    fn drop_head(&mut self, key: FileKey) {
        self.headless.remove(&key);
        let Some(head) = self.files.get_mut(&key).and_then(|it| it.head.take()) else {
            return;
        };
        if let Some(count) = self.heads.get_mut(&head) {
            *count -= 1;
            if *count == 0 {
                self.heads.remove(&head);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches a file that two tasks pick up, and a copy that is not suspected, or an independent file that is.

    use super::*;
    use crate::connector::file_source::SourceFormat;

    fn key(inode: u64) -> FileKey {
        FileKey {
            inode,
            ..FileKey::default()
        }
    }

    #[test]
    fn a_file_has_one_task_until_it_is_forgotten() {
        let known = KnownFiles::default();
        assert!(known.claim(key(1)));
        assert!(!known.claim(key(1)));
        assert!(known.is_unread(key(1)));
        assert!(known.begin(key(1)));
        assert!(!known.is_unread(key(1)));
        // It is too late now.
        assert!(!known.take_over(key(1)));
        for inode in [2, 3] {
            assert!(inode == 3 || known.claim(key(inode)));
            assert!(known.take_over(key(inode)) && !known.take_over(key(inode)));
            assert!(known.is_taken_over(key(inode)) && !known.begin(key(inode)));
            assert!(!known.claim(key(inode)));
        }
        known.rewound(key(1));
        assert!(known.is_unread(key(1)) && !known.claim(key(1)));
        known.forget(key(1));
        assert!(known.claim(key(1)));
    }

    #[test]
    fn no_task_begins_with_a_file_that_may_be_the_copy_of_a_vanished_one() {
        let known = KnownFiles::default();
        known.await_copy(key(1), key(3));
        known.await_copy(key(2), key(3));
        known.forget(key(1));
        assert!(known.is_awaited(key(3)) && !known.is_awaited(key(1)));
        known.forget(key(2));
        assert!(!known.is_awaited(key(3)));
    }

    #[test]
    fn while_it_is_not_known_how_a_vanished_file_began_any_may_be_its_copy() {
        let gone = FileSplit {
            key: Some(key(1)),
            position: 4,
            ..FileSplit::whole("/none/log".into(), SourceFormat::Lines, 4)
        };
        let known = KnownFiles::default();
        known.reset(&[gone], true).unwrap();
        for inode in [2, 3] {
            known.claim(key(inode));
        }
        assert!(known.may_be_copy(key(2), b"one\n"));
        known.forget(key(1));
        assert!(!known.may_be_copy(key(3), b"one\n"));
    }

    #[test]
    fn what_begins_like_a_known_file_may_be_its_copy() {
        let known = KnownFiles::default();
        for inode in 1..9 {
            known.claim(key(inode));
        }
        known.begun(key(1), b"one\n");
        assert!(known.wants_start(key(2)));
        assert!(known.may_be_copy(key(2), b"one\ntwo\n"));
        // It was asked already.
        assert!(!known.wants_start(key(2)));
        assert!(!known.may_be_copy(key(2), b"one\ntwo\n"));
        assert!(!known.may_be_copy(key(3), b"one"));
        assert!(!known.may_be_copy(key(4), b"two\none\n"));
        known.begun(key(5), b"one\ntwo\n");
        assert!(known.may_be_copy(key(6), b"one\nmore\n"));
        known.forget(key(1));
        assert!(!known.may_be_copy(key(7), b"one\nmore\n"));
        assert!(known.may_be_copy(key(8), b"one\ntwo\n"));
    }
}
