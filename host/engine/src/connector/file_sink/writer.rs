//! One task's share of a file sink: writes a file in the staging folder, and renames it to its part's name at a
//! barrier. Here are also the names of files, and the entry of a part in a checkpoint.
//!
//! Nothing is synced here: the committer does that, off the stream's path. After an error the writer must not be used
//! again; recovery removes its files.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::connector::record_format::RecordLayout;
use crate::connector::{ConnectorError, SinkFormat, SinkWriter, encoding};
use floodmark_checkpoint::Staged;
use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};

/// The version of a part's entry.
const PART_VERSION: u8 = 1;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

pub(super) struct FileWriter {
    staging: PathBuf,
    path: PathBuf,
    layout: RecordLayout,
    /// Whether each part begins with the names of its columns.
    has_header: bool,
    task: TaskIndex,
    buffer: Vec<u8>,
    file: Option<File>,
    size: Size,
}

impl FileWriter {
    pub(super) fn new(
        staging: PathBuf,
        layout: RecordLayout,
        has_header: bool,
        task: TaskIndex,
    ) -> Self {
        Self {
            path: staging.join(open_name(task)),
            staging,
            layout,
            has_header,
            task,
            buffer: Vec::new(),
            file: None,
            size: Size::default(),
        }
    }

    fn flush(&mut self) -> Result<(), ConnectorError> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let made = File::create(&self.path);
                let made = made.map_err(ConnectorError::io("create", &self.path))?;
                self.file.insert(made)
            }
        };
        file.write_all(&self.buffer)
            .map_err(ConnectorError::io("write", &self.path))?;
        self.size.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        // One long record must not keep its memory permanently.
        self.buffer.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }
}

/// The name of a task's file until it becomes a part.
fn open_name(task: TaskIndex) -> String {
    format!("open-{:03}", task.0)
}

/// Whether a file in the staging folder is one that a writer has not finished.
pub(super) fn is_open_name(name: &str) -> bool {
    let task = name.strip_prefix("open-").and_then(|it| it.parse().ok());
    task.is_some_and(|task| open_name(TaskIndex(task)) == name)
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), ConnectorError> {
        if self.has_header && self.size.records == 0 && !batch.is_empty() {
            self.layout.write_header(&mut self.buffer);
        }
        for (key, value, _) in batch.iter() {
            self.layout.write_record(key, value, &mut self.buffer)?;
            self.size.records += 1;
            if self.buffer.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        if self.size.records == 0 {
            return Ok(None);
        }
        self.flush()?;
        self.file = None;
        let name = PartName::new(checkpoint, self.task, self.layout.format);
        let staged = self.staging.join(name.file_name());
        fs::rename(&self.path, &staged).map_err(ConnectorError::io("rename", &self.path))?;
        let size = std::mem::take(&mut self.size);
        Ok(Some(Part { name, size }.encode()))
    }
}

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
        Staged(encoding::encode(PART_VERSION, &encoded))
    }

    pub(super) fn decode(staged: &Staged) -> Result<Self, ConnectorError> {
        let what = "a part of a file sink";
        let part: EncodedPart = encoding::decode(what, PART_VERSION, &staged.0)?;
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
