//! One task's share of a file sink: writes a file in the staging folder, and renames it to its part's name at a
//! barrier.
//!
//! Nothing is synced here: the committer does that, off the stream's path. After an error the writer must not be used
//! again; recovery removes its files.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use super::part::{Part, PartName, Size};
use crate::connector::{ConnectorError, SinkFormat, SinkWriter};
use floodmark_checkpoint::Staged;
use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};

/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 << 10;

pub(super) struct FileWriter {
    staging: PathBuf,
    path: PathBuf,
    format: SinkFormat,
    task: TaskIndex,
    buffer: Vec<u8>,
    file: Option<File>,
    size: Size,
}

impl FileWriter {
    pub(super) fn new(staging: PathBuf, format: SinkFormat, task: TaskIndex) -> Self {
        Self {
            path: staging.join(open_name(task)),
            staging,
            format,
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
        for (key, value, _) in batch.iter() {
            self.format.write_record(key, value, &mut self.buffer)?;
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
        let name = PartName::new(checkpoint, self.task, self.format);
        let staged = self.staging.join(name.file_name());
        fs::rename(&self.path, &staged).map_err(ConnectorError::io("rename", &self.path))?;
        let size = std::mem::take(&mut self.size);
        Ok(Some(Part { name, size }.encode()))
    }
}
