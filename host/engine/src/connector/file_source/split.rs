//! The splits of a file source: ranges of files, positions in them, and how files are cut. Does not access the disk.
//!
//! ```text
//! file     aaaa\nbbbb\ncccc\ndd
//! ranges   [0      )[7      )[14         the last has no end: it includes what the file grows by
//! records  aaaa bbbb    cccc    dd
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{SourceFormat, bytes_of};
use crate::connector::{ConnectorError, encoding};
use floodmark_checkpoint::Split;

const VERSION: u8 = 1;
const WHAT: &str = "a split of a file source";

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

/// Responsible for new files whose names hash to its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) bucket: u8,
    /// Names in the bucket that have splits.
    pub(super) known: BTreeSet<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
enum EncodedPiece {
    File {
        name: Vec<u8>,
        format: SourceFormat,
        start: u64,
        end: Option<u64>,
        position: u64,
        at: At,
        len: u64,
    },
    Watch {
        bucket: u8,
        known: BTreeSet<Vec<u8>>,
    },
    Compressed {
        name: Vec<u8>,
        format: SourceFormat,
        position: u64,
        at: At,
        len: u64,
        read_len: u64,
    },
    SetAside {
        name: Vec<u8>,
        format: SourceFormat,
        position: u64,
        len: u64,
    },
}

impl FileSourceSplit {
    pub(super) fn encode(&self, base: &Path) -> Split {
        let encoded = match self {
            Self::File(file) if file.is_set_aside() => EncodedPiece::SetAside {
                name: name_of(&file.path, base),
                format: file.format,
                position: file.position,
                len: file.len,
            },
            Self::File(
                file @ FileSplit {
                    compressed: Some(part),
                    ..
                },
            ) => EncodedPiece::Compressed {
                name: name_of(&file.path, base),
                format: file.format,
                position: file.position,
                at: file.at,
                len: file.len,
                read_len: part.read_len,
            },
            Self::File(file) => EncodedPiece::File {
                name: name_of(&file.path, base),
                format: file.format,
                start: file.start,
                end: file.end,
                position: file.position,
                at: file.at,
                len: file.len,
            },
            Self::Watch(watch) => EncodedPiece::Watch {
                bucket: watch.bucket,
                known: watch.known.clone(),
            },
        };
        Split(encoding::encode(VERSION, &encoded))
    }

    pub(super) fn decode(split: &Split, base: &Path) -> Result<Self, ConnectorError> {
        let wrong = |reason: &str| ConnectorError::Undecodable {
            what: WHAT,
            reason: reason.to_owned(),
        };
        let path = |name: &[u8]| base.join(OsStr::from_bytes(name));
        match encoding::decode(WHAT, VERSION, &split.0)? {
            EncodedPiece::File {
                name,
                format,
                start,
                end,
                position,
                at,
                len,
            } => {
                let file = FileSplit {
                    path: path(&name),
                    format,
                    start,
                    end,
                    position,
                    at,
                    len,
                    compressed: None,
                };
                file.check().map_err(wrong)?;
                Ok(Self::File(file))
            }
            EncodedPiece::Compressed {
                name,
                format,
                position,
                at,
                len,
                read_len,
            } => {
                if (at == At::Anywhere && position == 0) || read_len > len {
                    return Err(wrong("there is no such part of a compressed file"));
                }
                let file = FileSplit::whole(path(&name), format, len);
                let part = CompressedPart::read_to(read_len);
                Ok(Self::File(file.resumed(position, at, part)))
            }
            EncodedPiece::SetAside {
                name,
                format,
                position,
                len,
            } => {
                let file = FileSplit::whole(path(&name), format, len);
                let part = CompressedPart::aside();
                Ok(Self::File(file.resumed(position, At::Record, part)))
            }
            EncodedPiece::Watch { bucket, known } => {
                if bucket >= Watch::COUNT {
                    return Err(wrong("there is no such watch"));
                }
                Ok(Self::Watch(Watch { bucket, known }))
            }
        }
    }
}

impl CompressedPart {
    /// A file that had this length at the end of its content, or 0.
    fn read_to(read_len: u64) -> Self {
        Self {
            read_len,
            ..Self::default()
        }
    }

    /// A file that is set aside.
    fn aside() -> Self {
        Self {
            is_set_aside: true,
            ..Self::default()
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
        }
    }

    /// A whole file of which this part was read.
    fn resumed(self, position: u64, at: At, part: CompressedPart) -> Self {
        Self {
            position,
            at,
            compressed: Some(part),
            ..self
        }
    }

    /// Refuses a range that cannot be, with the reason.
    fn check(&self) -> Result<(), &'static str> {
        let (start, position) = (self.start, self.position);
        if position < start || self.end.is_some_and(|end| end <= start) {
            return Err("its position is not in its range");
        }
        if start > self.len || position > self.len {
            return Err("its position is not in its file");
        }
        if self.at == At::Anywhere && position == 0 {
            return Err("there is no byte before its position");
        }
        Ok(())
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
        self.position = self.position.max(self.last());
        self.at = At::Record;
        let end = self.position.max(self.start.saturating_add(1));
        self.end = Some(self.end.map_or(end, |before| before.min(end)));
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

    /// All watches of a source that knows these files.
    pub(super) fn all(names: &[Vec<u8>]) -> Vec<Self> {
        let mut watches: Vec<_> = (0..Self::COUNT)
            .map(|bucket| Self {
                bucket,
                known: BTreeSet::new(),
            })
            .collect();
        for name in names {
            watches[usize::from(Self::bucket_of(name))]
                .known
                .insert(name.clone());
        }
        watches
    }

    /// The watch that is responsible for a name.
    pub(super) fn bucket_of(name: &[u8]) -> u8 {
        (xxh3_64(name) % u64::from(Self::COUNT)) as u8
    }
}

/// A path as splits store it: without the base, so that a project can be moved as a whole.
pub(super) fn name_of(path: &Path, base: &Path) -> Vec<u8> {
    bytes_of(path.strip_prefix(base).unwrap_or(path)).to_vec()
}

/// All ranges to read, file by file: restored ones continue from their positions, and new ones are added for new files
/// and for the growth of files. `lengths` has every file of `restored`.
pub(super) fn plan(
    lengths: &BTreeMap<OsString, u64>,
    restored: Vec<FileSplit>,
    format: SourceFormat,
    split_bytes: Option<NonZeroU64>,
) -> Vec<FileSplit> {
    let mut by_path: BTreeMap<OsString, Vec<FileSplit>> = BTreeMap::new();
    for split in restored {
        let path = split.path.clone().into_os_string();
        by_path.entry(path).or_default().push(split);
    }
    let mut planned = Vec::new();
    for (path, &len) in lengths {
        let mut ranges = by_path
            .remove(path)
            .unwrap_or_else(|| vec![FileSplit::whole(path.into(), format, len)]);
        ranges.sort_by_key(|range| range.start);
        for range in &mut ranges {
            range.len = len;
        }
        hand_over_unfinished(&mut ranges);
        let last = ranges.pop().expect("a file has at least one range");
        planned.append(&mut ranges);
        cut(last, split_bytes, &mut planned);
    }
    planned
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
                ..range.clone()
            };
            range.end = Some(end);
            planned.push(std::mem::replace(&mut range, rest));
        }
    }
    planned.push(range);
}
