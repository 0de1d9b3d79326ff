//! The splits of a file source: ranges of files, positions in them, and how files are cut. Does not access the disk.
//!
//! A split carries what its file is recognised by: its key in the file system, and a fingerprint of the bytes before the
//! position. If the file is compressed, these are bytes of its content, and there is one of its own first bytes, too.
//! Splits of version 1 have a name only. [`encoded`] is how a checkpoint stores them.
//!
//! ```text
//! file     aaaa\nbbbb\ncccc\ndd
//! ranges   [0      )[7      )[14         the last has no end: it includes what the file grows by
//! records  aaaa bbbb    cccc    dd
//! ```

mod encoded;

use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::identity::{FileFacts, FileKey, Fingerprint};
use super::member_end::MemberEnd;
use super::{SourceFormat, bytes_of};

/// What one split reads: a range of a file, or a share of the files that are yet to appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileSourceSplit {
    File(FileSplit),
    Watch(Watch),
}

/// A range of a file and the position in it.
///
/// - `start <= position`, and `start < end` if there is an end.
/// - It is read when the position has reached the end, or `len` if there is no end.
/// - Of the ranges of one file only the last has no end, and all have the same `len`, so that all agree on where the
///   last line ends, even when the file grows while they read.
/// - The fingerprint is of the bytes before the position. There is none if nothing of the range has been read, or if the
///   bytes are compressed and are no longer in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileSplit {
    pub(super) path: PathBuf,
    pub(super) format: SourceFormat,
    /// The position of the first byte of the range.
    pub(super) start: u64,
    /// The position after the range; `None` for the rest of the file.
    pub(super) end: Option<u64>,
    /// The position of the next byte to read.
    pub(super) position: u64,
    /// The kind of content at the position.
    pub(super) at: At,
    /// Length of the file when the splits were created.
    pub(super) len: u64,
    /// `Some` if the file is compressed: positions are those of its content, it is one range, and `len` is not their limit.
    /// Also if it is set aside: then it does not matter what it is.
    pub(super) compressed: Option<CompressedPart>,
    /// `None` if an earlier version saved the split.
    pub(super) key: Option<FileKey>,
    pub(super) print: Option<Fingerprint>,
    /// Where the reader of a compressed file that has grown continues. A checkpoint does not have it.
    pub(super) member_end: Option<Arc<MemberEnd>>,
}

/// How much of a compressed file was read, or of a file that is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CompressedPart {
    /// The length that the file had when its content was read to the end; 0 if it was not yet.
    pub(super) read_len: u64,
    /// Whether more of it may come, so that an end in the middle is no damage.
    pub(super) may_grow: bool,
    /// Whether nothing more of it is read, since it cannot be.
    pub(super) is_set_aside: bool,
    /// Of the first bytes of the file itself; `None` if it was not opened yet.
    pub(super) head: Option<Fingerprint>,
}

/// The kind of content at a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum At {
    /// Any byte: the first record starts after the next newline, searched from the byte before.
    Anywhere,
    /// The start of a record.
    Record,
    /// The continuation of a last line that had no newline, and was already read as a record.
    Unfinished,
}

/// Responsible for new files whose keys hash to its bucket. A renamed file keeps its key, so it stays with its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) bucket: u8,
}

impl FileSourceSplit {
    /// Refuses what no job writes.
    fn check(&self) -> Result<(), &'static str> {
        let file = match self {
            Self::File(file) => file,
            Self::Watch(watch) if watch.bucket < Watch::COUNT => return Ok(()),
            Self::Watch(_) => return Err("there is no such watch"),
        };
        let FileSplit {
            start,
            end,
            position,
            len,
            ..
        } = *file;
        if position < start || end.is_some_and(|end| end <= start) {
            return Err("its position is not in its range");
        }
        let has_print = |print: Option<Fingerprint>, before| {
            print.is_none_or(|print| print.is_possible_at(before))
        };
        match file.compressed {
            None if start > len || position > len => {
                return Err("its position is not in its file");
            }
            None if file.at == At::Anywhere && position == 0 => {
                return Err("there is no byte before its position");
            }
            Some(part) if (file.at == At::Anywhere && position == 0) || part.read_len > len => {
                return Err("there is no such part of a compressed file");
            }
            Some(part) if !has_print(part.head, len) => {
                return Err("its fingerprint is longer than its file");
            }
            None | Some(_) => {}
        }
        match has_print(file.print, position) {
            true => Ok(()),
            false => Err("its fingerprint is longer than its file"),
        }
    }
}

impl FileSplit {
    /// A whole file.
    pub(super) fn whole(path: PathBuf, format: SourceFormat, len: u64) -> Self {
        Self {
            path,
            format,
            start: 0,
            end: None,
            position: 0,
            at: At::Record,
            len,
            compressed: None,
            key: None,
            print: None,
            member_end: None,
        }
    }

    /// A whole file that was seen.
    pub(super) fn of(path: PathBuf, format: SourceFormat, facts: &FileFacts) -> Self {
        Self {
            key: Some(facts.key),
            ..Self::whole(path, format, facts.len)
        }
    }

    /// Returns to the beginning of the file.
    pub(super) fn rewind(&mut self) {
        self.start = 0;
        self.position = 0;
        self.at = At::Record;
        self.compressed = None;
        self.print = None;
        self.member_end = None;
    }

    /// Forgets the bytes that its content was compressed to, and how much of them was read. The content alone can then tell
    /// whether a file is the one that was read.
    pub(super) fn forget_form(&mut self) {
        if let Some(part) = &mut self.compressed {
            part.read_len = 0;
            part.head = None;
        }
        self.member_end = None;
    }

    /// Whether there is something by which its file can be told from others.
    pub(super) fn has_proof(&self) -> bool {
        let head = self.compressed.and_then(|part| part.head);
        self.print.is_some() || head.is_some()
    }

    /// The length that its file has if it still has what was read.
    pub(super) fn least_len(&self) -> u64 {
        self.compressed.map_or(self.position, |part| part.read_len)
    }

    /// Whether it is a compressed file that was read to the end that it has now.
    pub(super) fn is_whole(&self) -> bool {
        self.compressed
            .is_some_and(|part| part.read_len > 0 && part.read_len == self.len)
    }

    /// Whether it is a file that is set aside as a whole.
    pub(super) fn is_set_aside(&self) -> bool {
        self.compressed.is_some_and(|part| part.is_set_aside)
    }

    /// Whether all that the file had when its length was last seen is read.
    pub(super) fn is_complete(&self) -> bool {
        match self.compressed {
            None => self.is_read() || self.position >= self.len,
            Some(_) => self.is_whole(),
        }
    }

    /// Whether something of it was read, rather than skipped since it is of the range before.
    pub(super) fn is_begun(&self) -> bool {
        self.position > self.start && self.at != At::Anywhere
    }

    /// Whether no record starts in the rest of the range.
    pub(super) fn is_read(&self) -> bool {
        self.end.is_some_and(|end| self.position >= end)
    }

    /// Counts the rest of the range as read, also what the file grows by.
    pub(super) fn set_aside(&mut self) {
        // A file that was not cut can be replaced by another one, also by one that is shorter or compressed.
        if self.start == 0 && self.end.is_none() {
            self.compressed.get_or_insert_default().is_set_aside = true;
            return;
        }
        let end = self.position.max(self.last());
        if self.position < end {
            self.position = end;
            self.print = None;
        }
        self.at = At::Record;
        let end = end.max(self.start.saturating_add(1));
        self.end = Some(self.end.map_or(end, |before| before.min(end)));
    }

    /// Makes a file that was set aside one that is read.
    pub(super) fn readmit(&mut self) {
        if let Some(part) = &mut self.compressed {
            part.is_set_aside = false;
        }
    }

    /// Number of bytes of the range that are read.
    pub(super) fn done(&self) -> u64 {
        self.position.min(self.last()) - self.start
    }

    /// Number of bytes in the range.
    pub(super) fn total(&self) -> u64 {
        self.last() - self.start
    }

    fn last(&self) -> u64 {
        if self.compressed.is_some() {
            return self.position;
        }
        let end = self.end.unwrap_or(self.len).min(self.len);
        end.max(self.start)
    }
}

impl fmt::Display for FileSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            start, position, ..
        } = self;
        write!(f, "`{}` at byte {position}", self.path.display())?;
        match self.end {
            _ if self.is_set_aside() => f.write_str(", set aside"),
            _ if self.compressed.is_some() => f.write_str(" of its content"),
            Some(end) => write!(f, " of {start} to {end}"),
            None => write!(f, " of {start} to its end"),
        }
    }
}

impl Watch {
    /// Number of watches, and so of tasks that can share the new files of a source.
    pub(super) const COUNT: u8 = 16;

    /// All watches of a source.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(|bucket| Self { bucket })
    }

    /// Whether it is responsible for a file.
    pub(super) fn answers_for(self, key: FileKey) -> bool {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&key.device.to_le_bytes());
        bytes[8..].copy_from_slice(&key.inode.to_le_bytes());
        xxh3_64(&bytes) % u64::from(Self::COUNT) == u64::from(self.bucket)
    }
}

/// A path as splits store it: without the base, so that a project can be moved as a whole.
pub(super) fn name_of(path: &Path, base: &Path) -> Vec<u8> {
    bytes_of(path.strip_prefix(base).unwrap_or(path)).to_vec()
}

/// Prepares the ranges of one file of this length to be read: those that were restored, or one of a new file. Growth is
/// cut into ranges of its own.
pub(super) fn plan(
    mut ranges: Vec<FileSplit>,
    len: u64,
    split_bytes: Option<NonZeroU64>,
    planned: &mut Vec<FileSplit>,
) {
    ranges.sort_by_key(|range| range.start);
    for range in &mut ranges {
        range.len = len;
    }
    hand_over_unfinished(&mut ranges);
    if let Some(last) = ranges.pop() {
        planned.append(&mut ranges);
        cut(last, split_bytes, planned);
    }
}

/// The ranges of a file as one: where the reading of compressed content would continue. `None` if there are gaps in what was
/// read.
pub(super) fn join(ranges: &[FileSplit]) -> Option<FileSplit> {
    let mut sorted: Vec<&FileSplit> = ranges.iter().collect();
    sorted.sort_by_key(|range| range.start);
    let first = sorted.iter().position(|range| !range.is_read())?;
    if sorted[first + 1..].iter().any(|range| range.is_begun()) {
        return None;
    }
    let last = match sorted[..=first] {
        [.., read, unread] if !unread.is_begun() => read,
        [.., last] => last,
        [] => return None,
    };
    (last.at != At::Anywhere).then(|| FileSplit {
        start: 0,
        end: None,
        ..last.clone()
    })
}

/// A last line without a newline may have started in any range. The last range reads the growth of the file, so it
/// takes over the position after the part of that line that was read.
fn hand_over_unfinished(ranges: &mut [FileSplit]) {
    let Some((last, others)) = ranges.split_last_mut() else {
        return;
    };
    // A range that is not read to its end reads the rest of the line itself.
    let handed_over = |other: &&mut FileSplit| other.at == At::Unfinished && other.is_read();
    for other in others.iter_mut().filter(handed_over) {
        other.at = At::Record;
        if last.position <= other.position {
            last.position = other.position;
            last.print = other.print;
            last.at = At::Unfinished;
        }
    }
}

/// Cuts a range without an end. The position stays in the first part, which is never empty: it may be within a line.
fn cut(mut range: FileSplit, split_bytes: Option<NonZeroU64>, planned: &mut Vec<FileSplit>) {
    if let (Some(split_bytes), None, None) = (split_bytes, range.end, range.compressed) {
        while range.len.saturating_sub(range.position) > split_bytes.get() {
            let end = range.position + split_bytes.get();
            let rest = FileSplit {
                start: end,
                position: end,
                at: At::Anywhere,
                print: None,
                ..range.clone()
            };
            range.end = Some(end);
            planned.push(std::mem::replace(&mut range, rest));
        }
    }
    planned.push(range);
}
