//! The parts of a file sink: their names, and their entry in a checkpoint.
//!
//! A name follows from the checkpoint, the task and a number, so a checkpoint cannot refer to other files. The number
//! counts the parts that a task has begun since the last barrier, over all folders, so names differ although all staged
//! parts lie in one folder. A task that cannot have several parts writes no number. One that can numbers the first one, too:
//! without a number it would be behind the others in the order of names, since `-` comes before `.`. The folder in which a part will be visible stands in the entry alone: a job may resume with
//! other `folders`, and its earlier output stays where it is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compression::OutputCompression;
use super::folder::is_safe;
use crate::connector::{ConnectorError, SinkFormat, encoding};
use floodmark_checkpoint::Staged;
use floodmark_state::stream::{CheckpointId, TaskIndex};

/// The version of an entry of all parts of a task.
const PARTS_VERSION: u8 = 3;
/// The same, but the name of the part with the number 1 has no number.
const FIRST_UNNUMBERED_VERSION: u8 = 2;
/// The version of an entry of one part, without a number, a folder and compression.
const ONE_PART_VERSION: u8 = 1;

const WHAT: &str = "the parts of a file sink";

/// Number of parts that a task may write for one checkpoint: numbers of more digits would not be in the order of names.
pub(super) const PARTS_MAX: u32 = 9_999;
/// The highest number in an entry: earlier builds wrote one part more.
const NUMBER_MAX: u32 = 10_000;

/// A part of one task for one checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartName {
    pub(super) checkpoint: CheckpointId,
    pub(super) task: TaskIndex,
    /// From 1; 0 for the only part of a task, whose name has no number.
    pub(super) number: u32,
    pub(super) ending: PartEnding,
}

/// The end of the names of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartEnding {
    extension: &'static str,
    pub(super) compression: OutputCompression,
}

/// A part: its name, the folder below that of the sink where it is made visible, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: PartName,
    /// Empty for the folder of the sink itself.
    pub(super) folder: String,
    pub(super) size: Size,
}

/// The size of a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Size {
    pub(super) records: u64,
    /// Bytes in the file.
    pub(super) bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct EncodedPart {
    checkpoint: u64,
    task: u16,
    extension: String,
    size: Size,
}

#[derive(Serialize, Deserialize)]
struct EncodedParts {
    checkpoint: u64,
    task: u16,
    /// What all names end in, such as `csv.gz`.
    ending: String,
    parts: Vec<NumberedPart>,
}

#[derive(Serialize, Deserialize)]
struct NumberedPart {
    number: u32,
    folder: String,
    size: Size,
}

impl PartEnding {
    pub(super) fn new(format: SinkFormat, compression: OutputCompression) -> Self {
        Self {
            extension: format.extension(),
            compression,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let formats = [SinkFormat::Lines, SinkFormat::Jsonl, SinkFormat::Csv];
        let mut all = formats.into_iter().flat_map(|format| {
            OutputCompression::ALL.map(|compression| Self::new(format, compression))
        });
        all.find(|ending| ending.text() == text)
    }

    fn text(self) -> String {
        format!("{}{}", self.extension, self.compression.ending())
    }
}

impl PartName {
    pub(super) fn file_name(&self) -> String {
        let (checkpoint, task) = (self.checkpoint.0, self.task.0);
        let number = match self.number {
            0 => String::new(),
            number => format!("-{number:04}"),
        };
        let ending = self.ending.text();
        format!("part-{checkpoint:08}-{task:03}{number}.{ending}")
    }

    /// The part with this file name; `None` if it is not exactly one that this sink uses.
    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let (stem, ending) = file_name.strip_prefix("part-")?.split_once('.')?;
        let (checkpoint, rest) = stem.split_once('-')?;
        let (task, number) = match rest.split_once('-') {
            Some((task, number)) => (task, number.parse().ok()?),
            None => (rest, 0),
        };
        let name = Self {
            checkpoint: CheckpointId(checkpoint.parse().ok()?),
            task: TaskIndex(task.parse().ok()?),
            number,
            ending: PartEnding::parse(ending)?,
        };
        (name.file_name() == file_name).then_some(name)
    }
}

/// The name of a file until it becomes a part.
pub(super) fn open_name(task: TaskIndex, number: u32) -> String {
    match number {
        1 => format!("open-{:03}", task.0),
        number => format!("open-{:03}-{number:04}", task.0),
    }
}

/// Whether a file in the staging folder is one that a writer has not finished.
pub(super) fn is_open_name(name: &str) -> bool {
    let parsed = name.strip_prefix("open-").and_then(|rest| {
        let (task, number) = match rest.split_once('-') {
            Some((task, number)) => (task, number.parse().ok()?),
            None => (rest, 1),
        };
        Some((TaskIndex(task.parse().ok()?), number))
    });
    parsed.is_some_and(|(task, number)| number > 0 && open_name(task, number) == name)
}

impl Part {
    /// Where the part is once it is visible.
    pub(super) fn visible(&self, folder: &Path) -> PathBuf {
        match self.folder.as_str() {
            "" => folder.join(self.name.file_name()),
            inner => folder.join(inner).join(self.name.file_name()),
        }
    }

    /// The entry of all parts of a task for a checkpoint; `None` if there are none.
    pub(super) fn encode_all(parts: &[Self]) -> Option<Staged> {
        let first = parts.first()?.name;
        let encoded = EncodedParts {
            checkpoint: first.checkpoint.0,
            task: first.task.0,
            ending: first.ending.text(),
            parts: parts
                .iter()
                .map(|part| NumberedPart {
                    number: part.name.number,
                    folder: part.folder.clone(),
                    size: part.size,
                })
                .collect(),
        };
        Some(Staged(encoding::encode(PARTS_VERSION, &encoded)))
    }

    /// The parts of an entry. Folders are checked: a savepoint may be from somewhere else.
    pub(super) fn decode(staged: &Staged) -> Result<Vec<Self>, ConnectorError> {
        let version = staged.0.first().copied();
        let encoded = match version {
            Some(ONE_PART_VERSION) => {
                let part: EncodedPart = encoding::decode(WHAT, ONE_PART_VERSION, &staged.0)?;
                EncodedParts {
                    checkpoint: part.checkpoint,
                    task: part.task,
                    ending: part.extension,
                    parts: vec![NumberedPart {
                        number: 0,
                        folder: String::new(),
                        size: part.size,
                    }],
                }
            }
            Some(FIRST_UNNUMBERED_VERSION) => {
                encoding::decode(WHAT, FIRST_UNNUMBERED_VERSION, &staged.0)?
            }
            _ => encoding::decode(WHAT, PARTS_VERSION, &staged.0)?,
        };
        let undecodable = |reason: &str| ConnectorError::Undecodable {
            what: WHAT,
            reason: reason.to_owned(),
        };
        let ending = PartEnding::parse(&encoded.ending)
            .ok_or_else(|| undecodable("their format is unknown"))?;
        let part = |part: NumberedPart| {
            let number = match (version, part.number) {
                (Some(FIRST_UNNUMBERED_VERSION), 0) => None,
                (Some(FIRST_UNNUMBERED_VERSION), 1) => Some(0),
                (_, number) => Some(number),
            };
            let Some(number) = number.filter(|&number| number <= NUMBER_MAX) else {
                return Err(undecodable("a part has an impossible number"));
            };
            if !part.folder.is_empty() && !is_safe(&part.folder) {
                return Err(undecodable(
                    "a part is in a folder that no sink has such a name for",
                ));
            }
            Ok(Self {
                name: PartName {
                    checkpoint: CheckpointId(encoded.checkpoint),
                    task: TaskIndex(encoded.task),
                    number,
                    ending,
                },
                folder: part.folder,
                size: part.size,
            })
        };
        encoded.parts.into_iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    //! Catches a name that stands for two parts, an entry of an earlier version that is no longer read, and one that
    //! leads out of the folder.

    use super::*;

    fn part(number: u32, folder: &str) -> Part {
        Part {
            name: PartName {
                checkpoint: CheckpointId(7),
                task: TaskIndex(1),
                number,
                ending: PartEnding::new(SinkFormat::Csv, OutputCompression::Zstd),
            },
            folder: folder.to_owned(),
            size: Size {
                records: 3,
                bytes: 400,
            },
        }
    }

    #[test]
    fn names_are_read_back() {
        for (number, expected) in [
            (0, "part-00000007-001.csv.zst"),
            (1, "part-00000007-001-0001.csv.zst"),
            (2, "part-00000007-001-0002.csv.zst"),
            (12_345, "part-00000007-001-12345.csv.zst"),
        ] {
            let name = part(number, "").name;
            assert_eq!(name.file_name(), expected);
            assert_eq!(PartName::parse(expected), Some(name));
            let open = open_name(name.task, number.max(1));
            assert!(is_open_name(&open), "{open}");
        }
        for wrong in [
            "part-00000007-001-0000.csv",
            "part-00000007-001-2.csv",
            "part-00000007-001-0002-0002.csv",
            "part-00000007-001.csv.bz2",
            "part-00000007-001.gz",
            "part-00000007-001.",
        ] {
            assert_eq!(PartName::parse(wrong), None, "{wrong}");
        }
        for wrong in ["open-1", "open-001-0001", "open-001-2", "open-"] {
            assert!(!is_open_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn entries_are_read_back_and_old_ones_too() {
        let parts = [
            part(0, ""),
            part(1, ""),
            part(2, "k=a/b"),
            part(10_000, "x"),
        ];
        let staged = Part::encode_all(&parts).unwrap();
        assert_eq!(Part::decode(&staged).unwrap(), parts);
        assert_eq!(Part::encode_all(&[]), None);
        let old = EncodedPart {
            checkpoint: 7,
            task: 1,
            extension: "csv".to_owned(),
            size: part(1, "").size,
        };
        let decoded = Part::decode(&Staged(encoding::encode(ONE_PART_VERSION, &old))).unwrap();
        assert_eq!(decoded[0].name.file_name(), "part-00000007-001.csv");
        assert_eq!((decoded[0].size, decoded.len()), (old.size, 1));
    }

    /// The first part of such an entry is staged, or visible, under a name without a number.
    #[test]
    fn the_first_part_of_an_entry_of_version_2_has_no_number() {
        let staged = |numbers: &[u32]| {
            let parts: Vec<Part> = numbers.iter().map(|&number| part(number, "")).collect();
            let mut staged = Part::encode_all(&parts).unwrap();
            staged.0[0] = FIRST_UNNUMBERED_VERSION;
            staged
        };
        let decoded = Part::decode(&staged(&[1, 2])).unwrap();
        let names: Vec<String> = decoded.iter().map(|part| part.name.file_name()).collect();
        let expected = [
            "part-00000007-001.csv.zst",
            "part-00000007-001-0002.csv.zst",
        ];
        assert_eq!(names, expected);
        assert!(Part::decode(&staged(&[0])).is_err());
    }

    #[test]
    fn names_are_in_the_order_of_their_numbers() {
        let names =
            [1, 2, 10, 999, 1000, PARTS_MAX].map(|number| part(number, "").name.file_name());
        assert!(names.is_sorted(), "{names:?}");
    }

    #[test]
    fn entries_that_no_sink_has_made_are_refused() {
        for folder in [
            "..", "a/../b", "/a", "a/", "a//b", ".staged", "a\0b", "a\nb",
        ] {
            let staged = Part::encode_all(&[part(1, folder)]).unwrap();
            assert!(Part::decode(&staged).is_err(), "{folder:?}");
        }
        let staged = Part::encode_all(&[part(NUMBER_MAX + 1, "")]).unwrap();
        assert!(Part::decode(&staged).is_err());
    }
}
