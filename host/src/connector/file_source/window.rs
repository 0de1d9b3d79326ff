//! The part of a file that is in memory: large reads at an offset, and lines found in place.
//!
//! - `cursor <= filled <= buffer.len()`.
//! - `buffer[0]` is byte `offset` of the file; nothing at or after `limit` is read.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use memchr::memchr;

use crate::connector::ConnectorError;

/// How much is read at once.
const READ_BYTES: usize = 64 << 10;
/// The longest record.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 30;

pub(super) struct Window {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    cursor: usize,
    filled: usize,
    offset: u64,
    limit: u64,
}

/// What stands at the cursor. Ranges are those of [`Window::bytes`].
pub(super) enum Line {
    /// A line, without its newline.
    Whole(Range<usize>),
    /// The bytes before the limit, which have no newline. They are not passed.
    Tail(Range<usize>),
    /// The limit.
    End,
}

impl Window {
    /// Opens a file at `position`.
    pub(super) fn open(path: PathBuf, position: u64, limit: u64) -> Result<Self, ConnectorError> {
        let file = File::open(&path).map_err(ConnectorError::io("open", &path))?;
        Ok(Self {
            path,
            file,
            buffer: Vec::new(),
            cursor: 0,
            filled: 0,
            offset: position,
            limit,
        })
    }

    /// Where the cursor is in the file.
    pub(super) fn position(&self) -> u64 {
        self.offset + self.cursor as u64
    }

    /// What a [`Line`] names.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// What is in memory from the cursor on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.cursor..self.filled]
    }

    /// Moves the cursor.
    pub(super) fn pass(&mut self, bytes: usize) {
        assert!(bytes <= self.filled - self.cursor);
        self.cursor += bytes;
    }

    /// Finds the line at the cursor and passes it, if it is whole.
    #[inline]
    pub(super) fn line(&mut self) -> Result<Line, ConnectorError> {
        let mut searched = 0;
        loop {
            let from = self.cursor + searched;
            if let Some(at) = memchr(b'\n', &self.buffer[from..self.filled]) {
                let line = self.cursor..from + at;
                self.cursor = from + at + 1;
                return Ok(Line::Whole(line));
            }
            searched = self.filled - self.cursor;
            if searched > RECORD_BYTES_MAX {
                return Err(self.malformed(
                    self.position(),
                    "the line is longer than 1 GiB; break it into several".to_owned(),
                ));
            }
            if !self.fill()? {
                return Ok(match searched {
                    0 => Line::End,
                    _ => Line::Tail(self.cursor..self.filled),
                });
            }
        }
    }

    /// Passes all up to the next newline, and that; `false` if the limit comes first.
    pub(super) fn skip_line(&mut self) -> Result<bool, ConnectorError> {
        loop {
            if let Some(at) = memchr(b'\n', self.rest()) {
                self.pass(at + 1);
                return Ok(true);
            }
            self.cursor = self.filled;
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Reads on behind what is in memory; `false` at the limit.
    pub(super) fn fill(&mut self) -> Result<bool, ConnectorError> {
        let next = self.offset + self.filled as u64;
        if next >= self.limit {
            return Ok(false);
        }
        self.make_room();
        let wanted = (self.limit - next).min((self.buffer.len() - self.filled) as u64) as usize;
        let room = &mut self.buffer[self.filled..][..wanted];
        let read = loop {
            match self.file.read_at(room, next) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read.map_err(ConnectorError::io("read", &self.path))?,
            }
        };
        if read == 0 {
            let reason = io::Error::new(
                ErrorKind::UnexpectedEof,
                "it became shorter while it was read; files may only be appended to",
            );
            return Err(ConnectorError::io("read", &self.path)(reason));
        }
        self.filled += read;
        Ok(true)
    }

    /// A record of this file that is not in the format.
    pub(super) fn malformed(&self, offset: u64, reason: String) -> ConnectorError {
        ConnectorError::Malformed {
            path: self.path.clone(),
            offset,
            reason,
        }
    }

    /// Drops what is passed, and grows when a record takes more than half of the buffer.
    fn make_room(&mut self) {
        self.buffer.copy_within(self.cursor..self.filled, 0);
        self.offset += self.cursor as u64;
        self.filled -= self.cursor;
        self.cursor = 0;
        if self.filled >= self.buffer.len() / 2 {
            // A short file gets a short buffer: there may be many of them.
            let left = usize::try_from(self.limit - self.offset).unwrap_or(usize::MAX);
            let len = (self.buffer.len() * 2).max(READ_BYTES).min(left);
            self.buffer.resize(len.max(self.filled), 0);
        }
    }
}
