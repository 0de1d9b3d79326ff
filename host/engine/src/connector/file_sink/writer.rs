//! One task's share of a file sink: writes files in the staging folder, and renames them to their parts' names at a
//! barrier.
//!
//! A task has one part at a time for each folder. At a limit it ends the part, and the next record begins another. Of
//! many folders, few files are open: records wait in buffers, the fullest of which is written if all of them are too
//! large, and the file that was used least recently is closed for another. It is opened again later, so a folder does not
//! get more files than it would with all files open; a compressed part cannot be continued, so it ends there.
//!
//! Nothing is synced here: the committer does that, off the stream's path. After an error the writer must not be used
//! again; recovery removes its files.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::compression::OutputCompression;
use super::folder::{FolderTemplate, FolderText};
use super::open_part::{OpenPart, WRITE_BYTES};
use super::part::{PARTS_MAX, Part, PartEnding, PartName, Size, open_name};
use crate::connector::record_format::RecordLayout;
use crate::connector::{ConnectorError, SinkWriter, UnwritableRecord};
use floodmark_checkpoint::Staged;
use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};

/// Bytes in all buffers of a task, beyond which the fullest is written.
const BUFFERED_BYTES_MAX: usize = 16 << 20;

/// What all writers of a sink have in common.
#[derive(Debug)]
pub(super) struct WriterSettings {
    pub(super) layout: RecordLayout,
    /// Whether each part begins with the names of its columns.
    pub(super) has_header: bool,
    pub(super) compression: OutputCompression,
    pub(super) folders: Option<FolderTemplate>,
    pub(super) limits: PartLimits,
    /// Whether a task may write several parts for a checkpoint, so that each has its number in its name.
    pub(super) numbers_parts: bool,
    /// Number of files that a task has open at a time, at least one.
    pub(super) open_files_max: usize,
}

/// A part that reaches one of these is ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartLimits {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

/// - `parts` has the part of each folder in `by_folder`. Without a template it has one part, in the sink's own folder.
/// - `open` is the number of parts whose file is open, `buffered` the number of bytes in all their buffers.
pub(super) struct FileWriter {
    /// The folder of the sink, for messages.
    folder: PathBuf,
    staging: PathBuf,
    settings: Arc<WriterSettings>,
    task: TaskIndex,
    parts: Vec<OpenPart>,
    by_folder: BTreeMap<String, usize>,
    found: FolderText,
    ended: Vec<EndedPart>,
    /// Number of parts since the last barrier.
    begun: u32,
    open: usize,
    buffered: usize,
    uses: u64,
}

/// A part of the next checkpoint that is written as a whole.
struct EndedPart {
    number: u32,
    folder: String,
    size: Size,
}

impl FileWriter {
    pub(super) fn new(
        folder: PathBuf,
        staging: PathBuf,
        settings: Arc<WriterSettings>,
        task: TaskIndex,
    ) -> Self {
        let mut writer = Self {
            folder,
            staging,
            settings,
            task,
            parts: Vec::new(),
            by_folder: BTreeMap::new(),
            found: FolderText::default(),
            ended: Vec::new(),
            begun: 0,
            open: 0,
            buffered: 0,
            uses: 0,
        };
        if writer.settings.folders.is_none() {
            writer.parts.push(OpenPart::new(String::new()));
        }
        writer
    }

    /// The index of the part for the folder in `found`.
    fn part_of_folder(&mut self) -> Result<usize, ConnectorError> {
        if let Some(&at) = self.by_folder.get(self.found.text.as_str()) {
            return Ok(at);
        }
        let at = self.parts.len();
        if at >= PARTS_MAX as usize {
            return Err(self.too_many());
        }
        self.parts.push(OpenPart::new(self.found.text.clone()));
        self.by_folder.insert(self.found.text.clone(), at);
        Ok(at)
    }

    /// Writes a record to a part; returns the reason if its format cannot express the record. Then nothing was written.
    #[inline]
    fn write_record(
        &mut self,
        at: usize,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<String>, ConnectorError> {
        let part = &mut self.parts[at];
        let before = part.buffered();
        let pushed = part.push((self.settings.layout, self.settings.has_header), key, value);
        if let Err(reason) = pushed {
            self.leave_out(at);
            return Ok(Some(reason));
        }
        let buffered = part.buffered();
        self.buffered += buffered - before;
        if part.number == 0 {
            self.number(at)?;
        }
        if buffered >= WRITE_BYTES {
            self.flush(at)?;
        } else if self.buffered > BUFFERED_BYTES_MAX {
            self.flush_fullest()?;
        }
        let PartLimits { records, bytes } = self.settings.limits;
        let part = &self.parts[at];
        let is_full = part.records() >= records || part.bytes(self.settings.compression) >= bytes;
        // If no further part may begin, this one takes the rest.
        if is_full && self.begun < PARTS_MAX {
            self.end(at)?;
        }
        Ok(None)
    }

    /// Removes a part that was added for a record which cannot be written: such records must not use up the parts.
    #[cold]
    fn leave_out(&mut self, at: usize) {
        let is_new = at + 1 == self.parts.len() && self.parts[at].records() == 0;
        if is_new && self.settings.folders.is_some() {
            self.parts.pop();
            self.by_folder.remove(self.found.text.as_str());
        }
    }

    /// Gives a part that begins its number.
    fn number(&mut self, at: usize) -> Result<(), ConnectorError> {
        if self.begun >= PARTS_MAX {
            return Err(self.too_many());
        }
        self.begun += 1;
        self.parts[at].number = self.begun;
        Ok(())
    }

    fn too_many(&self) -> ConnectorError {
        ConnectorError::TooManyParts {
            path: self.folder.clone(),
            parts_max: PARTS_MAX,
        }
    }

    fn flush_fullest(&mut self) -> Result<(), ConnectorError> {
        let parts = self.parts.iter().enumerate();
        match parts.max_by_key(|(_, part)| part.buffered()) {
            Some((at, _)) => self.flush(at),
            None => Ok(()),
        }
    }

    /// Writes the buffer of a part that has records to its file.
    fn flush(&mut self, at: usize) -> Result<(), ConnectorError> {
        let path = self.path(self.parts[at].number);
        if !self.parts[at].is_open() {
            self.make_room()?;
            self.parts[at].open(&path, self.settings.compression)?;
            self.open += 1;
        }
        self.uses += 1;
        let part = &mut self.parts[at];
        part.used = self.uses;
        let before = part.buffered();
        part.write(&path)?;
        self.buffered -= before;
        Ok(())
    }

    /// Closes the file that was used least recently, if no further one may be open.
    fn make_room(&mut self) -> Result<(), ConnectorError> {
        if self.open < self.settings.open_files_max {
            return Ok(());
        }
        let open = self.parts.iter().enumerate();
        let open = open.filter(|(_, part)| part.is_open());
        let Some((at, _)) = open.min_by_key(|(_, part)| part.used) else {
            return Ok(());
        };
        match self.settings.compression {
            OutputCompression::None => {
                self.parts[at].close();
                self.open -= 1;
                Ok(())
            }
            OutputCompression::Gzip | OutputCompression::Zstd => self.end(at),
        }
    }

    /// Ends the part of a folder, if it has records.
    fn end(&mut self, at: usize) -> Result<(), ConnectorError> {
        if self.parts[at].records() == 0 {
            return Ok(());
        }
        if !self.parts[at].is_written() {
            self.flush(at)?;
        }
        let path = self.path(self.parts[at].number);
        let part = &mut self.parts[at];
        let (number, is_open) = (part.number, part.is_open());
        let size = part.end(&path)?;
        self.open -= usize::from(is_open);
        self.ended.push(EndedPart {
            number,
            folder: part.folder.clone(),
            size,
        });
        Ok(())
    }

    /// The file of a part until the barrier.
    fn path(&self, number: u32) -> PathBuf {
        self.staging.join(open_name(self.task, number))
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError> {
        let settings = Arc::clone(&self.settings);
        let mut unwritable = Vec::new();
        for (record, (key, value, time)) in batch.iter().enumerate() {
            let at = match &settings.folders {
                None => 0,
                Some(template) => {
                    let found = (key, value, time);
                    let found = template.find(found, settings.layout.format, &mut self.found);
                    if let Err(reason) = found {
                        unwritable.push(UnwritableRecord { record, reason });
                        continue;
                    }
                    self.part_of_folder()?
                }
            };
            if let Some(reason) = self.write_record(at, key, value)? {
                unwritable.push(UnwritableRecord { record, reason });
            }
        }
        Ok(unwritable)
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        for at in 0..self.parts.len() {
            self.end(at)?;
        }
        if self.settings.folders.is_some() {
            self.parts.clear();
            self.by_folder.clear();
        }
        self.begun = 0;
        let ending = PartEnding::new(self.settings.layout.format, self.settings.compression);
        let mut parts = Vec::with_capacity(self.ended.len());
        for EndedPart {
            number,
            folder,
            size,
        } in std::mem::take(&mut self.ended)
        {
            let name = PartName {
                checkpoint,
                task: self.task,
                number: if self.settings.numbers_parts {
                    number
                } else {
                    0
                },
                ending,
            };
            let path = self.path(number);
            let staged = self.staging.join(name.file_name());
            fs::rename(&path, &staged).map_err(ConnectorError::io("rename", &path))?;
            parts.push(Part { name, folder, size });
        }
        Ok(Part::encode_all(&parts))
    }
}
