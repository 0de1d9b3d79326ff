//! Reading files in the background: the interface, and the parts of one file that its reader has requested.
//!
//! Connectors start no threads. `edge` provides a [`ReadAhead`] to the readers of a job; without one, they read
//! everything themselves. A part that is returned unread, or shorter than requested, is not an error and not the end of
//! the file: the connector then reads it itself, and that result counts. So the records and errors of a reader never
//! depend on whether, or when, parts were read in the background.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Largest number of requested parts: one may be read while the one before it waits for the worker.
const PARTS_MAX: usize = 2;
/// A buffer has room in front of its part for the start of a record that continues in it: the length of a part, divided
/// by this.
const HEAD_SHARE: usize = 8;

/// Reads parts of files in the background.
pub trait ReadAhead: Send + Sync {
    /// The size of a part that is worth a request, in bytes. A caller has memory for at most three such parts at a
    /// time.
    fn part_bytes(&self) -> usize;

    /// Requests a part; returns at once. Dropping the return value cancels the request.
    fn begin(&self, part: ReadPart) -> Box<dyn PendingRead>;
}

/// A requested part.
pub trait PendingRead: Send {
    /// Returns the part, unread if reading has not started. Waits only while it is being read. `None` if it is lost.
    fn take(self: Box<Self>) -> Option<ReadPart>;
}

/// A part of a file, and the buffer for it.
#[derive(Debug)]
pub struct ReadPart {
    /// The file.
    pub file: Arc<File>,
    /// The position of its first byte.
    pub offset: u64,
    /// The buffer for the bytes.
    pub buffer: Vec<u8>,
    /// The range of the buffer to fill.
    pub room: Range<usize>,
    /// Number of bytes read; 0 before that, and after a failure.
    pub len: usize,
}

impl ReadPart {
    /// Reads once: as many bytes as the system returns, 0 at the end of the file.
    ///
    /// # Errors
    /// The system's error; the part is unread then.
    pub fn read(&mut self) -> io::Result<()> {
        let room = &mut self.buffer[self.room.clone()];
        self.len = read_at(&self.file, room, self.offset)?;
        Ok(())
    }
}

/// Reads once, and retries after a signal.
pub(super) fn read_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(room, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Parts of one file that are read ahead of its reader: at most two consecutive ones, in reused buffers.
///
/// - Parts follow each other without a gap; none extends beyond `end`.
/// - Short files, and the ends of long ones, are not worth a request, and are not read ahead.
pub(super) struct Ahead {
    service: Arc<dyn ReadAhead>,
    file: Arc<File>,
    /// No part begins at or after this position.
    end: u64,
    asked: VecDeque<RequestedRange>,
    spare: Vec<Vec<u8>>,
}

struct RequestedRange {
    from: u64,
    to: u64,
    pending: Box<dyn PendingRead>,
}

impl Ahead {
    pub(super) fn new(service: Arc<dyn ReadAhead>, file: Arc<File>, end: u64) -> Self {
        Self {
            service,
            file,
            end,
            asked: VecDeque::with_capacity(PARTS_MAX),
            spare: Vec::new(),
        }
    }

    /// The size of a part, in bytes.
    pub(super) fn part_bytes(&self) -> usize {
        self.service.part_bytes()
    }

    /// The part that begins at `next`, read or not; `None` if it was not requested.
    pub(super) fn take(&mut self, next: u64) -> Option<ReadPart> {
        match self.asked.front() {
            Some(asked) if asked.from == next => self.asked.pop_front()?.pending.take(),
            _ => {
                // The part before them was shorter than requested.
                self.asked.clear();
                None
            }
        }
    }

    /// Requests the parts after `next`, the position after the bytes in memory.
    pub(super) fn ask(&mut self, next: u64) {
        let part_bytes = self.service.part_bytes();
        if self.asked.front().is_some_and(|asked| asked.from != next) {
            self.asked.clear();
        }
        while self.asked.len() < PARTS_MAX {
            let from = self.asked.back().map_or(next, |asked| asked.to);
            let left = self.end.saturating_sub(from);
            if left < part_bytes as u64 {
                return;
            }
            let head = part_bytes / HEAD_SHARE;
            let buffer = self.spare.pop();
            let part = ReadPart {
                file: Arc::clone(&self.file),
                offset: from,
                buffer: buffer.unwrap_or_else(|| vec![0; head + part_bytes]),
                room: head..head + part_bytes,
                len: 0,
            };
            self.asked.push_back(RequestedRange {
                from,
                to: from + part_bytes as u64,
                pending: self.service.begin(part),
            });
        }
    }

    /// Takes back a buffer for reuse.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        let part_bytes = self.part_bytes();
        let is_one = buffer.len() == part_bytes / HEAD_SHARE + part_bytes;
        if is_one && self.spare.is_empty() {
            self.spare.push(buffer);
        }
    }
}
