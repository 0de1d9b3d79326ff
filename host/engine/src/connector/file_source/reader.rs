//! One task's share of a file source that reads what is there, and ends.
//!
//! Files are read one after the other, each up to the length that it had when the job was planned. Bytes that are not a
//! record end a call, and the next call continues behind them. A file that cannot be read at all is given up as a whole.
//! Files that may grow are read by [`super::follow`].

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::content;
use super::listing::{self, facts_of};
use super::place::LineCounter;
use super::refused::{ReadStop, whole_file};
use super::row::RowReader;
use super::split::{self, FileSourceSplit, FileSplit};
use super::window::Window;
use super::{RecordFields, SourceFormat, line};
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{ConnectorError, ReadLimits, ReadOutcome, SourceProgress, SourceReader};
use floodmark_checkpoint::Split;
use floodmark_state::stream::{Batch, Unit};

/// Files that are opened in one call: a folder with very many empty files must not block the worker.
pub(super) const FILES_PER_READ: usize = 64;

pub(super) struct FileReader {
    base: PathBuf,
    fields: Arc<RecordFields>,
    files: Vec<FileSplit>,
    /// The index of the file that is read next.
    current: usize,
    open: Option<OpenFile>,
    names: FileNames,
    /// `Some` if parts of files are read ahead.
    ahead: Option<Arc<dyn ReadAhead>>,
}

/// Names places for messages.
#[derive(Default)]
struct FileNames {
    /// The name of the open file, or of the one before.
    label: Arc<str>,
    lines: LineCounter,
}

/// A file that is being read.
pub(super) enum OpenFile {
    Lines(Box<Window>),
    Rows(Box<RowReader>),
}

impl OpenFile {
    /// Begins to read a split of a file, up to the split's length.
    pub(super) fn begin(
        file: &Arc<File>,
        split: &mut FileSplit,
        fields: &RecordFields,
        takes_tail: bool,
        ahead: Option<&Arc<dyn ReadAhead>>,
    ) -> Result<Self, ReadStop> {
        let len = split.len;
        if let Some(part) = &mut split.compressed {
            part.head = Some(content::head_of(file, &split.path, len)?);
        }
        Ok(match fields.format {
            SourceFormat::Lines | SourceFormat::Jsonl | SourceFormat::DeadLetters => {
                Self::Lines(Box::new(line::open(file, split, len, ahead)?))
            }
            SourceFormat::Csv => Self::Rows(Box::new(RowReader::open(
                fields, file, split, len, takes_tail, ahead,
            )?)),
        })
    }

    /// Adds records until the batch is full; returns `true` if there are no more for now.
    pub(super) fn read(
        &mut self,
        split: &mut FileSplit,
        fields: &RecordFields,
        takes_tail: bool,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<bool, ReadStop> {
        let has_caught_up = match self {
            Self::Lines(window) => window.catch_up()?,
            Self::Rows(rows) => rows.catch_up()?,
        };
        if !has_caught_up {
            return Ok(false);
        }
        let ended = match self {
            Self::Lines(window) => line::read(fields, window, split, takes_tail, limits, batch)?,
            Self::Rows(rows) => rows.read(fields, split, takes_tail, limits, batch)?,
        };
        if ended
            && let Some((len, end)) = self.window().ended()
            && split.position == end
            && let Some(part) = &mut split.compressed
        {
            part.read_len = len;
            split.len = len;
        }
        if ended {
            split.member_end = self.window().member_end(split.position)?;
        }
        Ok(ended)
    }

    pub(super) fn window(&self) -> &Window {
        match self {
            Self::Lines(window) => window,
            Self::Rows(rows) => rows.window(),
        }
    }
}

/// The name of a split's file, for messages.
pub(super) fn label_of(split: &FileSplit, base: &Path) -> Arc<str> {
    let name = split::name_of(&split.path, base);
    format!("`{}`", String::from_utf8_lossy(&name)).into()
}

impl FileReader {
    pub(super) fn new(base: PathBuf, fields: Arc<RecordFields>, files: Vec<FileSplit>) -> Self {
        Self {
            base,
            fields,
            files,
            current: 0,
            open: None,
            names: FileNames::default(),
            ahead: None,
        }
    }

    /// The service that reads parts of files ahead.
    pub(super) fn ahead(&self) -> Option<&Arc<dyn ReadAhead>> {
        self.ahead.as_ref()
    }

    /// Opens the current file, if it has something to read.
    fn open_current(&mut self) -> Result<bool, ReadStop> {
        let split = &mut self.files[self.current];
        if split.is_read() || split.is_set_aside() || split.is_whole() {
            return Ok(false);
        }
        let path = &split.path;
        let file = listing::open_listed(path)?;
        let found = file.metadata().map_err(ConnectorError::io("read", path))?;
        if split.key.is_some_and(|key| key != facts_of(&found).key) {
            let replaced = ConnectorError::InputReplaced {
                path: split.path.clone(),
                position: split.position,
            };
            return Err(replaced.into());
        }
        self.names.label = label_of(split, &self.base);
        let ahead = self.ahead.as_ref();
        let open = OpenFile::begin(&Arc::new(file), split, &self.fields, true, ahead)?;
        self.open = Some(open);
        Ok(true)
    }

    /// Tells of what cannot be read, behind which the next call continues.
    ///
    /// # Errors
    /// When it is not the input that is wrong.
    #[cold]
    fn stopped(&mut self, stop: ReadStop) -> Result<ReadOutcome, ConnectorError> {
        let split = &mut self.files[self.current];
        let refused = match stop {
            ReadStop::Refused(refused) => *refused,
            ReadStop::Failed(error) => {
                // It may not be open yet.
                self.names.label = label_of(split, &self.base);
                match whole_file(split, error)? {
                    Some(refused) => refused,
                    None => {
                        self.open = None;
                        self.current += 1;
                        return Ok(ReadOutcome::More);
                    }
                }
            }
        };
        if refused.content.is_file {
            if let Some(open) = self.open.take() {
                split.print = open.window().print(split);
            }
            split.set_aside();
            self.current += 1;
        }
        let FileNames { label, lines } = &mut self.names;
        let bad = refused.into_bad_record(label, lines);
        Ok(ReadOutcome::Bad(Box::new(bad)))
    }
}

impl SourceReader for FileReader {
    fn read(
        &mut self,
        _: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        for _ in 0..FILES_PER_READ {
            if self.current == self.files.len() {
                return Ok(ReadOutcome::Finished);
            }
            if self.open.is_none() {
                match self.open_current() {
                    Ok(true) => {}
                    Ok(false) => {
                        self.current += 1;
                        continue;
                    }
                    Err(stop) => return self.stopped(stop),
                }
            }
            let split = &mut self.files[self.current];
            let (from, len) = (split.position, batch.len());
            let open = self.open.as_mut().expect("it has just been opened");
            let read = open.read(split, &self.fields, true, limits, batch);
            if batch.len() > len {
                let records = batch.len() - len;
                let span = (from, split.position);
                let label = &self.names.label;
                batch.origin.read(label, Unit::Bytes, span, records);
            }
            match read {
                Ok(true) => {}
                Ok(false) => return Ok(ReadOutcome::More),
                Err(stop) => return self.stopped(stop),
            }
            split.print = open.window().print(split);
            self.open = None;
            self.current += 1;
        }
        Ok(ReadOutcome::More)
    }

    fn read_ahead_by(&mut self, service: &Arc<dyn ReadAhead>) {
        self.ahead = Some(Arc::clone(service));
    }

    fn splits(&self) -> Vec<Split> {
        let files = self.files.iter().cloned().enumerate();
        let current = |(index, mut split): (usize, FileSplit)| {
            if let (Some(open), true) = (&self.open, index == self.current) {
                split.print = open.window().print(&split);
            }
            FileSourceSplit::File(split).encode(&self.base)
        };
        files.map(current).collect()
    }

    fn progress(&self) -> SourceProgress {
        // How long the content of a compressed file is shows at its end.
        let is_open = |split: &FileSplit| {
            split.compressed.is_some() && !split.is_whole() && !split.is_set_aside()
        };
        let is_known = !self.files.iter().any(is_open);
        SourceProgress {
            done: self.files.iter().map(FileSplit::done).sum(),
            total: is_known.then(|| self.files.iter().map(FileSplit::total).sum()),
        }
    }
}
