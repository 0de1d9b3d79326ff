//! Decompresses the members of a gzip file, one after the other.
//!
//! What follows the last member is looked at here, and not left to the decoder: zeros are ignored, as gzip(1) does, since
//! tapes and disks are padded with them. The decoder would take any other bytes for the start of another member, and
//! would say of them that a file is cut off or damaged which is neither.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::compressed::{FileBytes, GZIP_MAGIC};

/// The content of all members of a file.
pub(super) struct GzipMembers {
    member: GzDecoder<BufReader<FileBytes>>,
    is_over: bool,
    /// The number of bytes behind the last member, from the first one that is not zero.
    following: Option<u64>,
}

impl GzipMembers {
    pub(super) fn new(bytes: BufReader<FileBytes>) -> Self {
        Self {
            member: GzDecoder::new(bytes),
            is_over: false,
            following: None,
        }
    }

    pub(super) fn compressed(&self) -> &FileBytes {
        self.member.get_ref().get_ref()
    }

    /// The number of bytes that follow the last member, if reading has failed because of them.
    pub(super) fn following(&self) -> Option<u64> {
        self.following
    }

    /// Looks at what follows a member; returns `false` if that was the last one.
    fn begin_next(&mut self) -> io::Result<bool> {
        let reader = self.member.get_mut();
        let mut is_padded = false;
        loop {
            let rest = reader.fill_buf()?;
            let len = rest.len();
            if len == 0 {
                return Ok(false);
            }
            // At the border of two reads there may be fewer; the decoder looks at all of them.
            let known = len.min(GZIP_MAGIC.len());
            if !is_padded && rest[..known] == GZIP_MAGIC[..known] {
                break;
            }
            let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
            if zeros < len {
                let unread = reader.get_ref().unread()?;
                self.following = Some((len - zeros) as u64 + unread);
                return Err(ErrorKind::InvalidData.into());
            }
            reader.consume(len);
            is_padded = true;
        }
        // The decoder starts over with its own reader.
        let file = Arc::clone(reader.get_ref().file());
        let spare = BufReader::with_capacity(0, FileBytes::new(file, 0));
        let reader = self.member.reset(spare);
        self.member.reset(reader);
        Ok(true)
    }
}

impl Read for GzipMembers {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while !self.is_over && !room.is_empty() {
            let read = self.member.read(room)?;
            if read > 0 {
                return Ok(read);
            }
            self.is_over = !self.begin_next()?;
        }
        Ok(0)
    }
}
