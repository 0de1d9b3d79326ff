//! Reading files beside the worker that needs them: what a connector asks for, and what it gets back.
//!
//! Connectors start no threads. `edge` hands a [`ReadAhead`] to the readers of a job; without one, they read everything
//! themselves. A part that comes back unread, or shorter than asked for, is no error and no end of the file: the connector
//! reads there itself, and what the system says then is what counts. So nothing that a reader does or reports depends on
//! whether, or when, parts were read for it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// Reads parts of files while the caller does something else.
pub trait ReadAhead: Send + Sync {
    /// How many bytes a part is worth asking for. A caller has room for at most three such parts at a time.
    fn part_bytes(&self) -> usize;

    /// Begins to read a part; returns at once. Dropping the return value gives the part up.
    fn begin(&self, part: ReadPart) -> Box<dyn PendingRead>;
}

/// A part that was asked for.
pub trait PendingRead: Send {
    /// Returns the part, unread if its turn has not come. Waits only while it is being read. `None` if it is lost.
    fn take(self: Box<Self>) -> Option<ReadPart>;
}

/// A part of a file, and the buffer for it.
#[derive(Debug)]
pub struct ReadPart {
    /// The file.
    pub file: Arc<File>,
    /// Its first byte that is wanted.
    pub offset: u64,
    /// Where the bytes go.
    pub buffer: Vec<u8>,
    /// Which bytes of the buffer they go to.
    pub room: Range<usize>,
    /// How many were read; 0 before that, and if it failed.
    pub len: usize,
}

impl ReadPart {
    /// Reads once: as many bytes as the system gives, none at the end of the file.
    ///
    /// # Errors
    /// What the system says; the part is unread then.
    pub fn read(&mut self) -> io::Result<()> {
        let room = &mut self.buffer[self.room.clone()];
        self.len = read_at(&self.file, room, self.offset)?;
        Ok(())
    }
}

/// Reads once, and again if a signal came in between.
pub(super) fn read_at(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(room, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}
