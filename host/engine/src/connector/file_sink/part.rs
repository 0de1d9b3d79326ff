//! The file name of a part, and its entry in a checkpoint.

use serde::{Deserialize, Serialize};

use crate::connector::{ConnectorError, SinkFormat, encoding};
use floodmark_checkpoint::Staged;
use floodmark_state::stream::{CheckpointId, TaskIndex};

const VERSION: u8 = 1;

/// The output of one task for one checkpoint. It determines the file name, so a checkpoint cannot refer to other files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartName {
    pub(super) checkpoint: CheckpointId,
    pub(super) task: TaskIndex,
    extension: &'static str,
}

/// A part and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: PartName,
    pub(super) size: Size,
}

/// The size of a part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Size {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct EncodedPart {
    checkpoint: u64,
    task: u16,
    extension: String,
    size: Size,
}

impl PartName {
    pub(super) fn new(checkpoint: CheckpointId, task: TaskIndex, format: SinkFormat) -> Self {
        Self {
            checkpoint,
            task,
            extension: format.extension(),
        }
    }

    pub(super) fn file_name(&self) -> String {
        let (checkpoint, task) = (self.checkpoint.0, self.task.0);
        format!("part-{checkpoint:08}-{task:03}.{}", self.extension)
    }

    /// The part with this file name; `None` if it is not exactly one that this sink uses.
    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let (stem, extension) = file_name.strip_prefix("part-")?.split_once('.')?;
        let (checkpoint, task) = stem.split_once('-')?;
        let name = Self {
            checkpoint: CheckpointId(checkpoint.parse().ok()?),
            task: TaskIndex(task.parse().ok()?),
            extension: known_extension(extension)?,
        };
        (name.file_name() == file_name).then_some(name)
    }
}

impl Part {
    pub(super) fn encode(&self) -> Staged {
        let encoded = EncodedPart {
            checkpoint: self.name.checkpoint.0,
            task: self.name.task.0,
            extension: self.name.extension.to_owned(),
            size: self.size,
        };
        Staged(encoding::encode(VERSION, &encoded))
    }

    pub(super) fn decode(staged: &Staged) -> Result<Self, ConnectorError> {
        let what = "a part of a file sink";
        let part: EncodedPart = encoding::decode(what, VERSION, &staged.0)?;
        let extension =
            known_extension(&part.extension).ok_or_else(|| ConnectorError::Undecodable {
                what,
                reason: "its format is unknown".to_owned(),
            })?;
        Ok(Self {
            name: PartName {
                checkpoint: CheckpointId(part.checkpoint),
                task: TaskIndex(part.task),
                extension,
            },
            size: part.size,
        })
    }
}

fn known_extension(extension: &str) -> Option<&'static str> {
    [SinkFormat::Lines, SinkFormat::Jsonl, SinkFormat::Csv]
        .map(SinkFormat::extension)
        .into_iter()
        .find(|&known| known == extension)
}
