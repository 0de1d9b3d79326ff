//! The bytes of a file as a stream, for decoders. Several may read one file, each with a cursor of its own.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use crate::connector::read_ahead::read_at;

/// The bytes of a file from a position on, with a cursor of its own.
pub(super) struct FileBytes {
    file: Arc<File>,
    at: u64,
    /// Whether bytes were asked for at the end of the file.
    pub(super) has_ended: bool,
    pub(super) has_failed: bool,
}

impl FileBytes {
    pub(super) fn new(file: Arc<File>, at: u64) -> Self {
        Self {
            file,
            at,
            has_ended: false,
            has_failed: false,
        }
    }

    /// The position of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// How many bytes of the file are left now.
    pub(super) fn unread(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(self.at))
    }
}

impl Read for FileBytes {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match read_at(&self.file, room, self.at) {
            Ok(read) => {
                self.at += read as u64;
                self.has_ended |= read == 0 && !room.is_empty();
                Ok(read)
            }
            Err(error) => {
                self.has_failed = true;
                Err(error)
            }
        }
    }
}

/// The position in a file of the byte that is taken next.
pub(super) fn position_of(bytes: &BufReader<FileBytes>) -> u64 {
    bytes.get_ref().at() - bytes.buffer().len() as u64
}
