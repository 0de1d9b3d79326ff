//! The interface for reading files in the background: the requests of a connector, and the results.
//!
//! Connectors start no threads. `edge` provides a [`ReadAhead`] to the readers of a job; without one, they read
//! everything themselves. A part that is returned unread, or shorter than requested, is not an error and not the end of
//! the file: the connector then reads it itself, and that result counts. So the records and errors of a reader never
//! depend on whether, or when, parts were read in the background.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

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
