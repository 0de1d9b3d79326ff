//! Decompresses the frames of a zstd file, one after the other.
//!
//! The decoder of the library goes from one frame to the next without saying so. This one knows where each of them ends.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::file_bytes::{FileBytes, position_of};

/// The content of all frames of a file.
pub(super) struct ZstdFrames {
    decoder: Decoder<'static>,
    bytes: BufReader<FileBytes>,
    /// Whether the next byte is the first one of a frame.
    is_between: bool,
    /// Where the last frame ends in the file whose content has been taken.
    frame_end: u64,
}

impl ZstdFrames {
    /// Frames from the cursor of these bytes on. A window with more than this base-2 logarithm is refused.
    pub(super) fn new(bytes: BufReader<FileBytes>, window_log_max: u32) -> io::Result<Self> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(window_log_max))?;
        Ok(Self {
            decoder,
            frame_end: position_of(&bytes),
            bytes,
            is_between: true,
        })
    }

    pub(super) fn compressed(&self) -> &FileBytes {
        self.bytes.get_ref()
    }

    /// The position in the file up to which frames are whole. What the latest call of `read` gave is behind it.
    pub(super) fn frame_end(&self) -> u64 {
        self.frame_end
    }
}

impl Read for ZstdFrames {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if room.is_empty() {
            return Ok(0);
        }
        // Within a frame, the decoder may have content that did not fit into the room before.
        let mut needs_bytes = self.is_between;
        loop {
            if self.is_between {
                self.frame_end = position_of(&self.bytes);
            }
            let bytes: &[u8] = match needs_bytes {
                true => self.bytes.fill_buf()?,
                false => &[],
            };
            if needs_bytes && bytes.is_empty() {
                return match self.is_between {
                    true => Ok(0),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
            if self.is_between {
                self.decoder.reinit()?;
                self.is_between = false;
            }
            needs_bytes = true;
            let mut input = InBuffer::around(bytes);
            let mut output = OutBuffer::around(room);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (taken, given) = (input.pos(), output.pos());
            self.bytes.consume(taken);
            self.is_between = hint == 0;
            if given > 0 {
                return Ok(given);
            }
        }
    }
}
