//! The part of a file that is in memory: large reads at a position, with lines found in place.
//!
//! - `first <= cursor <= filled <= buffer.len()`.
//! - `buffer[filled]` would be byte `next` of the file; nothing at or after `limit` is read.
//! - `buffer[first..cursor]` are bytes that were taken. A few are kept, since positions are proved by the bytes before
//!   them: what is digested is what was read, whatever has happened to the file since.
//!
//! Parts that were read ahead replace the buffer; the bytes before them that are still needed, the start of a record,
//! are copied to the room in front of the part. The start of a longer record is kept in the old buffer, and the part is
//! copied behind it.
//!
//! Of a compressed file, positions are those of its content, which a decoder gives from its start on, or from the end of a
//! member. What was read before is decompressed again and skipped, a slice at a time. Content and standard input cannot be
//! read back, so the row that is parsed stays in the buffer, unless it is too long for a dead letter.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use memchr::memchr;

use super::compressed::FileContent;
use super::identity::{Fingerprint, PRINT_BYTES};
use super::listing;
use super::member_end::MemberEnd;
use super::place::{self, CountedInput, LineEnd};
use super::split::{At, FileSplit};
use super::standard_input::StandardInput;
use super::stdin;
use crate::connector::read_ahead::{Ahead, ReadAhead, ReadPart, read_at};
use crate::connector::record_format::BYTE_ORDER_MARK;
use crate::connector::{BadContent, ConnectorError};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes of content that are skipped at once.
const SKIPPED_BYTES: u64 = 16 << 20;
/// Longest record, in bytes.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 30;

pub(super) struct Window {
    path: PathBuf,
    file: Arc<File>,
    buffer: Vec<u8>,
    first: usize,
    cursor: usize,
    filled: usize,
    next: u64,
    limit: u64,
    ahead: Option<Ahead>,
    /// `Some` if bytes are not read from the file by position.
    content: Option<WindowContent>,
    /// Bytes before the cursor that stay in the buffer.
    held: usize,
    /// Where the last bytes without a newline start, and how many of them were looked at. A long line may come in many reads.
    searched: Option<(u64, usize)>,
}

/// Where bytes come from that are not read from a file by position.
enum WindowContent {
    /// From a decoder.
    Compressed(Box<FileContent>),
    /// From standard input.
    Stream(Arc<StandardInput>),
}

/// The content at the cursor. Ranges are those of [`Window::bytes`].
pub(super) enum CursorLine {
    /// A line, without its newline.
    Whole(Range<usize>),
    /// The bytes before the limit, which have no newline. The cursor is not moved past them.
    Tail(Range<usize>),
    /// The cursor has reached the limit.
    End,
    /// A line that is longer than a record may be. The cursor is at its start.
    TooLong,
}

impl Window {
    /// A window of the file of a split, which the caller has opened, at `position`. With a service, parts of the split
    /// are read ahead.
    pub(super) fn open(
        file: &Arc<File>,
        split: &FileSplit,
        position: u64,
        limit: u64,
        service: Option<&Arc<dyn ReadAhead>>,
    ) -> Result<Self, ConnectorError> {
        let path = split.path.clone();
        let file = Arc::clone(file);
        if split.compressed.is_some() {
            let content = FileContent::open(&file, split, position)?;
            let begun = content.begun();
            let buffer = begun.map_or(Vec::new(), |end| end.before.clone());
            return Ok(Self {
                path,
                file,
                first: 0,
                cursor: buffer.len(),
                filled: buffer.len(),
                next: begun.map_or(0, |end| end.content),
                buffer,
                limit: u64::MAX,
                ahead: None,
                content: Some(WindowContent::Compressed(Box::new(content))),
                held: 0,
                searched: None,
            });
        }
        // Another reader reads the bytes after the end of the split, except for the rest of a record that crosses the
        // end.
        let end = split.end.map_or(limit, |end| end.min(limit));
        let ahead = service.map(|service| Ahead::new(Arc::clone(service), Arc::clone(&file), end));
        Ok(Self {
            path,
            file,
            buffer: Vec::new(),
            first: 0,
            cursor: 0,
            filled: 0,
            next: position,
            limit,
            ahead,
            content: None,
            held: 0,
            searched: None,
        })
    }

    /// A window at the position of a split. Looks whether the bytes before it are still those that were read, and does
    /// so after reading those behind it: they are of the same file then.
    ///
    /// # Errors
    /// [`ConnectorError::InputReplaced`] if they are not; nothing was taken.
    pub(super) fn resume(
        file: &Arc<File>,
        split: &FileSplit,
        limit: u64,
        service: Option<&Arc<dyn ReadAhead>>,
    ) -> Result<Self, ConnectorError> {
        let Some(print) = split.print.filter(|_| split.compressed.is_none()) else {
            // Of compressed content, the bytes before the position come by when it is skipped.
            return Self::open(file, split, split.position, limit, service);
        };
        let before = print.bytes_len();
        let start = split.position.saturating_sub(before as u64);
        let mut window = Self::open(file, split, start, limit, service)?;
        while window.rest().len() < before && window.fill()? {}
        let is_same = window.rest().get(..before).is_some_and(|it| print.fits(it));
        if !is_same {
            return Err(ConnectorError::InputReplaced {
                path: window.path,
                position: split.position,
            });
        }
        window.pass(before);
        Ok(window)
    }

    /// The last bytes before the cursor that are in memory.
    pub(super) fn taken(&self) -> &[u8] {
        let first = self.first.max(self.cursor.saturating_sub(PRINT_BYTES));
        &self.buffer[first..self.cursor]
    }

    /// The fingerprint of the bytes before the position of a split; `None` if nothing of its range was read.
    pub(super) fn print(&self, split: &FileSplit) -> Option<Fingerprint> {
        if split.at == At::Anywhere || split.position <= split.start {
            return None;
        }
        // The start of a row that is not whole is behind the position.
        let Some(behind) = self.position().checked_sub(split.position) else {
            // The content before it is still skipped.
            return split.print;
        };
        let end = self.cursor.checked_sub(usize::try_from(behind).ok()?);
        let len = split.position.min(PRINT_BYTES as u64) as usize;
        if let Some(end) = end.filter(|&end| end >= self.first + len) {
            return Some(Fingerprint::of(&self.buffer[end - len..end]));
        }
        if self.content.is_some() {
            return None;
        }
        // They are no longer in memory.
        let from = split.position - len as u64;
        let bytes = listing::bytes_at(&self.file, &self.path, from, len).ok()?;
        (bytes.len() == len).then(|| Fingerprint::of(&bytes))
    }

    /// Opens standard input, whose descriptor is `file`.
    pub(super) fn of_stream(input: Arc<StandardInput>, file: Arc<File>, position: u64) -> Self {
        Self {
            path: PathBuf::from(stdin::NAME),
            file,
            buffer: Vec::new(),
            first: 0,
            cursor: 0,
            filled: 0,
            next: position,
            limit: u64::MAX,
            ahead: None,
            content: Some(WindowContent::Stream(input)),
            held: 0,
            searched: None,
        }
    }

    /// Continues at another position of a stream.
    pub(super) fn go_to(&mut self, position: u64) {
        self.first = 0;
        self.cursor = 0;
        self.filled = 0;
        self.next = position;
    }

    /// Continues at the position of a split, which was read before; returns `false` if its bytes are gone. Content is skipped
    /// up to there by [`Window::catch_up`].
    #[cold]
    pub(super) fn go_back(&mut self, split: &mut FileSplit) -> Result<bool, ConnectorError> {
        let position = split.position;
        if self.step_back(position) {
            return Ok(true);
        }
        if let Some(WindowContent::Stream(input)) = &self.content {
            if input.check_kept(position).is_err() {
                return Ok(false);
            }
            self.go_to(position);
            return Ok(true);
        }
        // It must be of this position until the content before it is skipped.
        split.print = self.print(split);
        let file = Arc::clone(&self.file);
        // What was read ahead is behind this position.
        *self = Self::open(&file, split, position, split.len, None)?;
        Ok(true)
    }

    /// Moves the cursor back to a position, if that is in the buffer with the bytes that prove it.
    fn step_back(&mut self, position: u64) -> bool {
        let back = self.position().saturating_sub(position);
        let proof = position.min(PRINT_BYTES as u64);
        let is_there = (self.cursor - self.first) as u64 >= back + proof;
        if is_there {
            self.cursor -= back as usize;
        }
        is_there
    }

    /// Whether bytes come from elsewhere than a position in a file: then a line may end later than what is at hand.
    pub(super) fn has_content(&self) -> bool {
        self.content.is_some()
    }

    /// Whether input starts at a position: a byte order mark there is not data.
    pub(super) fn starts_at(&self, position: u64) -> bool {
        match &self.content {
            Some(WindowContent::Stream(input)) => position == input.start(),
            Some(WindowContent::Compressed(_)) | None => position == 0,
        }
    }

    /// The input, to count its lines.
    pub(super) fn counted(&self, ends: LineEnd) -> CountedInput {
        match &self.content {
            Some(WindowContent::Stream(input)) => CountedInput::Stream(Arc::clone(input)),
            _ => CountedInput::File {
                file: Arc::clone(&self.file),
                compression: self.compressed().map(FileContent::kind),
                ends,
            },
        }
    }

    fn compressed(&self) -> Option<&FileContent> {
        match &self.content {
            Some(WindowContent::Compressed(content)) => Some(content),
            Some(WindowContent::Stream(_)) | None => None,
        }
    }

    /// Skips content that was read before; returns `false` if there is more of it. Without compression, there is none.
    ///
    /// # Errors
    /// [`ConnectorError::InputShrank`] or [`ConnectorError::InputReplaced`] if it is not what was read.
    pub(super) fn catch_up(&mut self) -> Result<bool, ConnectorError> {
        let content = self.compressed();
        let Some((from, print)) = content.map(|content| (content.start(), content.print())) else {
            return Ok(true);
        };
        let until = self.position().saturating_add(SKIPPED_BYTES);
        while self.position() < from {
            if self.position() >= until {
                return Ok(false);
            }
            if self.rest().is_empty() && !self.fill()? {
                return Err(ConnectorError::InputShrank {
                    path: self.path.clone(),
                    len: self.position(),
                    position: from,
                });
            }
            let left = from - self.position();
            self.pass(left.min(self.rest().len() as u64) as usize);
        }
        if self.position() > from {
            return Ok(true);
        }
        let is_same = print.is_none_or(|print| {
            let taken = self.taken();
            let before = taken.len().checked_sub(print.bytes_len());
            before.is_some_and(|before| print.fits(&taken[before..]))
        });
        if !is_same {
            return Err(ConnectorError::InputReplaced {
                path: self.path.clone(),
                position: from,
            });
        }
        Ok(true)
    }

    /// The length of the compressed file whose content was read to its end, and that end; `None` if it is not compressed, or
    /// there is more of it.
    pub(super) fn ended(&self) -> Option<(u64, u64)> {
        let len = self.compressed()?.ended()?;
        Some((len, self.next))
    }

    /// The last end of a member before a position in compressed content, if more members may come.
    pub(super) fn member_end(&self, at: u64) -> Result<Option<Arc<MemberEnd>>, ConnectorError> {
        let end = self.compressed().and_then(|it| it.member_end(at));
        let proved = end.map(|end| end.proved(&self.file, &self.path));
        Ok(proved.transpose()?.map(Arc::new))
    }

    /// The position of the cursor in the file.
    pub(super) fn position(&self) -> u64 {
        self.next - (self.filled - self.cursor) as u64
    }

    /// The bytes of a [`CursorLine`].
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// The bytes in memory from the cursor on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.cursor..self.filled]
    }

    /// Moves the cursor.
    pub(super) fn pass(&mut self, bytes: usize) {
        assert!(bytes <= self.filled - self.cursor);
        self.cursor += bytes;
    }

    /// Finds the line at the cursor and moves past it, if it is whole.
    #[inline]
    pub(super) fn line(&mut self) -> Result<CursorLine, ConnectorError> {
        let mut searched = match self.searched.take() {
            Some((at, len)) if at == self.position() => len.min(self.rest().len()),
            _ => 0,
        };
        loop {
            let from = self.cursor + searched;
            if let Some(at) = memchr(b'\n', &self.buffer[from..self.filled]) {
                let line = self.cursor..from + at;
                self.cursor = from + at + 1;
                return Ok(CursorLine::Whole(line));
            }
            searched = self.filled - self.cursor;
            if searched > RECORD_BYTES_MAX {
                return Ok(CursorLine::TooLong);
            }
            if !self.fill()? {
                if searched == 0 {
                    return Ok(CursorLine::End);
                }
                self.searched = Some((self.position(), searched));
                return Ok(CursorLine::Tail(self.cursor..self.filled));
            }
        }
    }

    /// Moves past the next newline; returns `false` if the limit comes first.
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

    /// Moves past all line ends at the cursor.
    pub(super) fn pass_line_ends(&mut self) -> Result<(), ConnectorError> {
        loop {
            let is_end = |byte: &&u8| matches!(byte, b'\n' | b'\r');
            let ends = self.rest().iter().take_while(is_end).count();
            self.pass(ends);
            if !self.rest().is_empty() || !self.fill()? {
                return Ok(());
            }
        }
    }

    /// Reads more bytes; returns `false` at the limit.
    pub(super) fn fill(&mut self) -> Result<bool, ConnectorError> {
        if self.next >= self.limit {
            return Ok(false);
        }
        if self.content.is_some() {
            return self.fill_with_content();
        }
        let next = self.next;
        let read = match self.ahead.as_mut().and_then(|ahead| ahead.take(next)) {
            Some(part) => self.fill_with(part),
            None => self.fill_now(),
        };
        let read = read.map_err(ConnectorError::io("read", &self.path))?;
        if read == 0 {
            let reason = io::Error::new(
                ErrorKind::UnexpectedEof,
                "it became shorter while it was being read; files may only be appended to",
            );
            return Err(ConnectorError::io("read", &self.path)(reason));
        }
        self.next += read as u64;
        if let Some(ahead) = &mut self.ahead {
            ahead.ask(self.next);
        }
        Ok(true)
    }

    /// As [`Window::fill`], for a row that starts at this position, at or before the cursor.
    pub(super) fn fill_row(&mut self, start: u64) -> Result<bool, ConnectorError> {
        if self.content.is_some() {
            let before = (self.position() - start) as usize;
            if before <= BadContent::BYTES_MAX {
                self.held = before.min(self.cursor - self.first);
            }
        }
        let filled = self.fill();
        self.held = 0;
        filled
    }

    /// Reads more content; returns `false` at its end, and if there is none at hand.
    fn fill_with_content(&mut self) -> Result<bool, ConnectorError> {
        self.make_room(0);
        let taken = self.position();
        let room = &mut self.buffer[self.filled..];
        let read = match &mut self.content {
            None => 0,
            Some(WindowContent::Stream(input)) => input.read(self.next, room)?,
            Some(WindowContent::Compressed(content)) => {
                let read = content.read(room, &self.path, self.next)?;
                let before = &self.buffer[self.first..self.filled];
                content.note_member_end(before, taken, self.next);
                if read == 0 {
                    self.limit = self.next;
                }
                read
            }
        };
        self.filled += read;
        self.next += read as u64;
        Ok(read > 0)
    }

    /// Reads more bytes into the buffer; returns their number.
    fn fill_now(&mut self) -> io::Result<usize> {
        // With parts that are read ahead, this only bridges the gap to the first.
        let parts = self.ahead.as_ref().map_or(usize::MAX, Ahead::part_bytes);
        self.make_room(0);
        let room = self.buffer.len() - self.filled;
        let wanted = (self.limit - self.next).min(room.min(parts) as u64) as usize;
        let room = &mut self.buffer[self.filled..][..wanted];
        let read = read_at(&self.file, room, self.next)?;
        self.filled += read;
        Ok(read)
    }

    /// Continues with a part that was read ahead; returns the number of its bytes.
    fn fill_with(&mut self, mut part: ReadPart) -> io::Result<usize> {
        if part.len == 0 {
            part.read()?;
        }
        let (head, len) = (part.room.start, part.len);
        let rest = self.filled - self.cursor;
        let unused = if rest <= head {
            let kept = self.taken().len().min(head - rest);
            let from = self.cursor - kept;
            part.buffer[head - rest - kept..head].copy_from_slice(&self.buffer[from..self.filled]);
            self.cursor = head - rest;
            self.first = self.cursor - kept;
            self.filled = head + len;
            std::mem::replace(&mut self.buffer, part.buffer)
        } else {
            self.make_room(len);
            let read = &part.buffer[head..head + len];
            self.buffer[self.filled..][..len].copy_from_slice(read);
            self.filled += len;
            part.buffer
        };
        if let Some(ahead) = &mut self.ahead {
            ahead.recycle(unused);
        }
        Ok(len)
    }

    /// Moves past a byte order mark at the cursor, which is at the start of the file.
    pub(super) fn pass_mark(&mut self) -> Result<(), ConnectorError> {
        while self.rest().len() < BYTE_ORDER_MARK.len() && self.fill()? {}
        if self.rest().starts_with(BYTE_ORDER_MARK) {
            self.pass(BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// The row that a parser has read from one position to another, and where it starts: line ends before it are not a part
    /// of it. Of a long row there are only the first bytes, or none.
    #[cold]
    pub(super) fn row_bytes(
        &self,
        (from, to): (u64, u64),
    ) -> Result<(u64, Vec<u8>), ConnectorError> {
        if self.content.is_some() {
            return Ok(self.held_row((from, to)));
        }
        let start = place::row_start(&self.file, from).min(to);
        Ok((start, self.read_back((start, to))?))
    }

    /// A row that is in the buffer.
    fn held_row(&self, (from, to): (u64, u64)) -> (u64, Vec<u8>) {
        let buffered = self.next - (self.filled - self.first) as u64;
        if from < buffered {
            return (from, Vec::new());
        }
        let index = |position: u64| self.first + (position - buffered) as usize;
        let bytes = &self.buffer[index(from)..index(to)];
        let is_end = |byte: &&u8| matches!(byte, b'\n' | b'\r');
        let ends = bytes.iter().take_while(is_end).count();
        let row = &bytes[ends..];
        let kept = row.len().min(BadContent::BYTES_MAX);
        (from + ends as u64, row[..kept].to_vec())
    }

    /// Reads bytes from one position to another once more, for a dead letter: at most as many as that keeps.
    fn read_back(&self, (from, to): (u64, u64)) -> Result<Vec<u8>, ConnectorError> {
        let len = (to - from).min(BadContent::BYTES_MAX as u64) as usize;
        listing::bytes_at(&self.file, &self.path, from, len)
    }

    /// Drops bytes before the cursor, but for the last few and those that are held, and grows the buffer if a record takes
    /// more than half of it, or more room is needed.
    fn make_room(&mut self, needed: usize) {
        let kept = self.taken().len().max(self.held);
        let dropped = self.cursor - kept;
        if dropped > 0 {
            self.buffer.copy_within(dropped..self.filled, 0);
            self.filled -= dropped;
        }
        self.cursor = kept;
        self.first = 0;
        if self.filled >= self.buffer.len() / 2 {
            // A short file gets a short buffer: there may be many of them.
            let left = usize::try_from(self.limit - self.position()).unwrap_or(usize::MAX);
            let len = (self.buffer.len() * 2).max(READ_BYTES);
            let len = len.min(left.saturating_add(kept));
            self.buffer.resize(len.max(self.filled), 0);
        }
        if self.buffer.len() < self.filled + needed {
            self.buffer.resize(self.filled + needed, 0);
        }
    }
}
