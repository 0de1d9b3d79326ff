//! One task's share of a file source.
//!
//! Files are read one after the other, each to its end. With `follow` the reader continues in rounds: after each it is
//! idle for a moment, then checks for files that have grown and for new files in its watches. A file that is removed
//! while it is followed counts as read; one that becomes shorter is an error. Bytes that are not a record end a call, and
//! the next call continues behind them. A file that cannot be read at all is given up as a whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::compressed;
use super::listing::Listing;
use super::place::LineCounter;
use super::refused::{ReadStop, RefusedBytes, RefusedPlace};
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
    names: FileNames,
    /// No file is checked before this time.
    idle_until: Duration,
    /// Whether all files were read once; afterwards only files that have grown are opened.
    has_read_round: bool,
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
            names: FileNames::default(),
            idle_until: Duration::ZERO,
            has_read_round: false,
            ahead: None,
        }
    }

    /// Opens the current file, if it has something to read.
    fn open_current(&mut self) -> Result<bool, ReadStop> {
        let takes_tail = self.follow.is_none();
        let ahead = self.ahead.as_ref();
        let split = &mut self.files[self.current];
        if split.is_read() || split.is_set_aside() {
            return Ok(false);
        }
        if !takes_tail && !look_again(split, self.has_read_round)? {
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
        self.names.label = label_of(&split.path, &self.base);
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
                self.names.label = label_of(&split.path, &self.base);
                match whole_file(split, error)? {
                    Some(refused) => refused,
                    None => {
                        self.current += 1;
                        return Ok(ReadOutcome::More);
                    }
                }
            }
        };
        if refused.content.is_file {
            split.set_aside();
            self.open = None;
            self.current += 1;
        }
        let FileNames { label, lines } = &mut self.names;
        let bad = refused.into_bad_record(label, lines);
        Ok(ReadOutcome::Bad(Box::new(bad)))
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

/// The name of a file, for messages.
fn label_of(path: &Path, base: &Path) -> Arc<str> {
    let name = split::name_of(path, base);
    format!("`{}`", String::from_utf8_lossy(&name)).into()
}

/// The refusal of a file as a whole: it is damaged, or this user may not read it. `None` if nothing in it would be missing.
///
/// # Errors
/// When it is not the file that is wrong.
fn whole_file(
    split: &FileSplit,
    error: ConnectorError,
) -> Result<Option<RefusedBytes>, ConnectorError> {
    let from = split.position;
    let (place, to, reason) = match error {
        ConnectorError::Compressed { byte, reason, .. } => {
            (RefusedPlace::Content(byte), from.max(byte), reason)
        }
        ConnectorError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            let has_more = match split.compressed {
                Some(_) => split.len > 0 && !split.is_whole(),
                None => from < split.len,
            };
            if !has_more {
                return Ok(None);
            }
            let reason = format!(
                "it cannot be opened ({source}); allow this user to read it, or leave it out of `path`"
            );
            (RefusedPlace::File, from.max(split.len), reason)
        }
        error => return Err(error),
    };
    Ok(Some(RefusedBytes::of_file(place, (from, to), reason)))
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
            let open = self.open.as_mut().expect("it has just been opened");
            match open.catch_up() {
                Ok(true) => {}
                Ok(false) => return Ok(ReadOutcome::More),
                Err(error) => return self.stopped(error.into()),
            }
            let split = &mut self.files[self.current];
            let (from, len) = (split.position, batch.len());
            let read = match open {
                OpenFile::Lines(window) => {
                    line::read(&self.fields, window, split, takes_tail, limits, batch)
                }
                OpenFile::Rows(rows) => rows.read(&self.fields, split, takes_tail, limits, batch),
            };
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
        let is_open = |split: &FileSplit| {
            split.compressed.is_some() && !split.is_whole() && !split.is_set_aside()
        };
        let is_known = self.follow.is_none() && !self.files.iter().any(is_open);
        SourceProgress {
            done: self.files.iter().map(FileSplit::done).sum(),
            total: is_known.then(|| self.files.iter().map(FileSplit::total).sum()),
        }
    }
}
