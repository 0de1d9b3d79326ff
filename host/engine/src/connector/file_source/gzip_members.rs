//! Decompresses the members of a gzip file, one after the other.
//!
//! What follows the last member is looked at here, and not left to the decoder: zeros are ignored, as gzip(1) does, since
//! tapes and disks are padded with them. The decoder would take any other bytes for the start of another member, and
//! would say of them that a file is cut off or damaged which is neither.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::compressed::GZIP_MAGIC;
use super::file_bytes::{FileBytes, position_of};

/// The content of all members of a file.
pub(super) struct GzipMembers {
    member: GzDecoder<BufReader<FileBytes>>,
    is_over: bool,
    /// Whether the next byte is the first one behind a member, or of the file.
    is_between: bool,
    /// Where the last member ends in the file whose content has been taken.
    member_end: u64,
    /// The number of bytes behind the last member, from the first one that is not zero.
    following: Option<u64>,
}

impl GzipMembers {
    /// Members from the cursor of these bytes on, which may also be at the end of one.
    pub(super) fn new(bytes: BufReader<FileBytes>) -> Self {
        let member_end = position_of(&bytes);
        // A decoder takes the head of a member as soon as it is made, and there may be none.
        let mut member = GzDecoder::new(spare_of(&bytes));
        member.reset(bytes);
        Self {
            member,
            is_over: false,
            is_between: true,
            member_end,
            following: None,
        }
    }

    pub(super) fn compressed(&self) -> &FileBytes {
        self.member.get_ref().get_ref()
    }

    /// The position in the file up to which members are whole. What the latest call of `read` gave is behind it.
    pub(super) fn member_end(&self) -> u64 {
        self.member_end
    }

    /// The number of bytes that follow the last member, if reading has failed because of them.
    pub(super) fn following(&self) -> Option<u64> {
        self.following
    }

    /// Looks at what follows a member, or begins the file; returns `false` if there is none.
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
        let spare = spare_of(reader);
        let reader = self.member.reset(spare);
        self.member.reset(reader);
        Ok(true)
    }
}

impl Read for GzipMembers {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while !self.is_over && !room.is_empty() {
            if self.is_between {
                self.member_end = position_of(self.member.get_ref());
                self.is_over = !self.begin_next()?;
                self.is_between = false;
                continue;
            }
            let read = self.member.read(room)?;
            if read > 0 {
                return Ok(read);
            }
            self.is_between = true;
        }
        Ok(0)
    }
}

/// A reader that stands in for another one of the same file.
fn spare_of(bytes: &BufReader<FileBytes>) -> BufReader<FileBytes> {
    let file = Arc::clone(bytes.get_ref().file());
    BufReader::with_capacity(0, FileBytes::new(file, 0))
}
