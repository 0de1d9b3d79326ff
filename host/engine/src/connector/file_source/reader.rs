//! One task's share of a file source.
//!
//! Files are read one after the other, each to its end. With `follow` the reader continues in rounds: after each it is
//! idle for a moment, then checks for files that have grown and for new files in its watches. A file that is removed
//! while it is followed counts as read; one that becomes shorter is an error.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::compressed;
use super::listing::Listing;
use super::row::RowReader;
use super::split::{self, FileSourceSplit, FileSplit, Watch};
use super::window::Window;
use super::{RecordFields, SourceFormat, line};
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{ConnectorError, ReadLimits, ReadOutcome, SourceProgress, SourceReader};
use floodmark_checkpoint::Split;
use floodmark_state::stream::{Batch, Unit};

/// Files that are opened in one call: a folder with very many empty files must not block the worker.
const FILES_PER_READ: usize = 64;

pub(super) struct FileReader {
    base: PathBuf,
    fields: Arc<RecordFields>,
    /// `Some` if files may grow.
    follow: Option<Arc<Listing>>,
    files: Vec<FileSplit>,
    watches: Vec<Watch>,
    /// Interval of checking files that may grow.
    poll: Duration,
    /// The index of the file that is read next.
    current: usize,
    open: Option<OpenFile>,
    /// The name of the open file, for messages.
    label: Arc<str>,
    /// No file is checked before this time.
    idle_until: Duration,
    /// Whether all files were read once; afterwards only files that have grown are opened.
    has_read_round: bool,
    /// `Some` if parts of files are read ahead.
    ahead: Option<Arc<dyn ReadAhead>>,
}

enum OpenFile {
    Lines(Window),
    Rows(Box<RowReader>),
}

impl OpenFile {
    /// As [`Window::catch_up`].
    fn catch_up(&mut self) -> Result<bool, ConnectorError> {
        match self {
            Self::Lines(window) => window.catch_up(),
            Self::Rows(rows) => rows.catch_up(),
        }
    }

    /// As [`Window::ended`].
    fn ended(&self) -> Option<(u64, u64)> {
        match self {
            Self::Lines(window) => window.ended(),
            Self::Rows(rows) => rows.ended(),
        }
    }
}

impl FileReader {
    pub(super) fn new(
        base: PathBuf,
        fields: Arc<RecordFields>,
        follow: Option<Arc<Listing>>,
        files: Vec<FileSplit>,
        watches: Vec<Watch>,
        poll: Duration,
    ) -> Self {
        Self {
            base,
            fields,
            follow,
            files,
            watches,
            poll,
            current: 0,
            open: None,
            label: Arc::default(),
            idle_until: Duration::ZERO,
            has_read_round: false,
            ahead: None,
        }
    }

    /// Opens the current file, if it has something to read.
    fn open_current(&mut self) -> Result<bool, ConnectorError> {
        let takes_tail = self.follow.is_none();
        let ahead = self.ahead.as_ref();
        let split = &mut self.files[self.current];
        if split.is_read() || (!takes_tail && !look_again(split, self.has_read_round)?) {
            return Ok(false);
        }
        // Files that were there at the start were recognised when the splits were made.
        if !takes_tail && !compressed::recognise(split)? {
            return Ok(false);
        }
        if split.is_whole() {
            return Ok(false);
        }
        if let Some(part) = &mut split.compressed {
            part.may_grow = !takes_tail;
        }
        let len = split.len;
        let name = split::name_of(&split.path, &self.base);
        self.label = format!("`{}`", String::from_utf8_lossy(&name)).into();
        self.open = Some(match self.fields.format {
            SourceFormat::Lines | SourceFormat::Jsonl | SourceFormat::DeadLetters => {
                OpenFile::Lines(line::open(split, len, ahead)?)
            }
            SourceFormat::Csv => OpenFile::Rows(Box::new(RowReader::open(
                &self.fields,
                split,
                len,
                takes_tail,
                ahead,
            )?)),
        });
        Ok(true)
    }

    /// Adds new files that hash to this task's watches.
    fn pick_up_new(&mut self) -> Result<(), ConnectorError> {
        let Some(listing) = self.follow.as_ref().filter(|_| !self.watches.is_empty()) else {
            return Ok(());
        };
        let found = match listing.list() {
            Err(ConnectorError::NoInput { .. }) => return Ok(()),
            found => found?,
        };
        for (path, _) in found {
            let name = split::name_of(Path::new(&path), &self.base);
            let bucket = Watch::bucket_of(&name);
            let watch = self
                .watches
                .iter_mut()
                .find(|watch| watch.bucket == bucket && !watch.known.contains(&name));
            if let Some(watch) = watch {
                watch.known.insert(name);
                // With length 0 it counts as grown when its turn comes.
                self.files
                    .push(FileSplit::whole(path.into(), self.fields.format, 0));
            }
        }
        Ok(())
    }
}

/// Reads the file's length again; returns whether there is something unread.
fn look_again(split: &mut FileSplit, was_read: bool) -> Result<bool, ConnectorError> {
    let len = match std::fs::metadata(&split.path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        found => found
            .map_err(ConnectorError::io("read", &split.path))?
            .len(),
    };
    if let Some(part) = split.compressed {
        if len < part.read_len {
            return Err(ConnectorError::InputShrank {
                path: split.path.clone(),
                len,
                position: part.read_len,
            });
        }
        let has_changed = len != split.len || !was_read;
        split.len = len;
        return Ok(has_changed);
    }
    if len < split.position {
        return Err(ConnectorError::InputShrank {
            path: split.path.clone(),
            len,
            position: split.position,
        });
    }
    let has_grown = len > split.len || !was_read;
    split.len = len.max(split.start);
    Ok(has_grown && len > split.position)
}

impl SourceReader for FileReader {
    fn read(
        &mut self,
        now: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        if now < self.idle_until {
            let until = self.idle_until;
            return Ok(ReadOutcome::Idle { until });
        }
        let takes_tail = self.follow.is_none();
        for _ in 0..FILES_PER_READ {
            if self.current == self.files.len() {
                if self.follow.is_none() {
                    return Ok(ReadOutcome::Finished);
                }
                self.pick_up_new()?;
                self.current = 0;
                self.has_read_round = true;
                self.idle_until = now + self.poll;
                let until = self.idle_until;
                return Ok(ReadOutcome::Idle { until });
            }
            if self.open.is_none() && !self.open_current()? {
                self.current += 1;
                continue;
            }
            let open = self.open.as_mut().expect("it has just been opened");
            if !open.catch_up()? {
                return Ok(ReadOutcome::More);
            }
            let split = &mut self.files[self.current];
            let (from, len) = (split.position, batch.len());
            let ended = match open {
                OpenFile::Lines(window) => {
                    line::read(&self.fields, window, split, takes_tail, limits, batch)?
                }
                OpenFile::Rows(rows) => rows.read(split, takes_tail, limits, batch)?,
            };
            if batch.len() > len {
                let records = batch.len() - len;
                let span = (from, split.position);
                batch.origin.read(&self.label, Unit::Bytes, span, records);
            }
            if !ended {
                return Ok(ReadOutcome::More);
            }
            if let Some((len, end)) = open.ended()
                && split.position == end
                && let Some(part) = &mut split.compressed
            {
                part.read_len = len;
                split.len = len;
            }
            self.open = None;
            self.current += 1;
        }
        Ok(ReadOutcome::More)
    }

    fn read_ahead_by(&mut self, service: &Arc<dyn ReadAhead>) {
        self.ahead = Some(Arc::clone(service));
    }

    fn splits(&self) -> Vec<Split> {
        let files = self.files.iter().cloned().map(FileSourceSplit::File);
        let watches = self.watches.iter().cloned().map(FileSourceSplit::Watch);
        let pieces = watches.chain(files);
        pieces.map(|piece| piece.encode(&self.base)).collect()
    }

    fn progress(&self) -> SourceProgress {
        // How long the content of a compressed file is shows at its end.
        let is_open = |split: &FileSplit| split.compressed.is_some() && !split.is_whole();
        let is_known = self.follow.is_none() && !self.files.iter().any(is_open);
        SourceProgress {
            done: self.files.iter().map(FileSplit::done).sum(),
            total: is_known.then(|| self.files.iter().map(FileSplit::total).sum()),
        }
    }
}
