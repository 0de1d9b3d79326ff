//! Standard input with a memory: its last bytes can be read again, by position.
//!
//! Positions count on from the checkpoint that the process resumed from. All readers of a source share one of these, one
//! after the other, so a reader that is remade after a failure finds what the one before it had read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memchr::memchr_iter;

use super::compressed::{self, InputCompression};
use super::stdin::NAME;
use crate::connector::{ConnectorError, FilePlace};

pub(super) struct StandardInput {
    kept_max: usize,
    kept: Mutex<KeptInput>,
}

/// - `bytes` are those from position `from` on.
#[derive(Default)]
struct KeptInput {
    /// Once the first reader has begun.
    file: Option<Arc<File>>,
    /// The position at which the input of this process starts.
    start: u64,
    from: u64,
    bytes: VecDeque<u8>,
    /// Newlines before `from`, in the input of this process.
    lines_before: u64,
    /// The last place that was asked for, and the newlines before it.
    counted: (u64, u64),
    has_ended: bool,
    /// The position from which on the rest of the input is set aside.
    aside_from: Option<u64>,
    /// The names of columns in the first row.
    names: Option<Vec<String>>,
}

impl StandardInput {
    pub(super) fn new(kept_max: NonZeroUsize) -> Self {
        Self {
            kept_max: kept_max.get(),
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, KeptInput> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a position that no reader can begin at any more.
    pub(super) fn check_kept(&self, position: u64) -> Result<(), ConnectorError> {
        let kept = self.kept();
        if kept.file.is_none() || (kept.from..=kept.end()).contains(&position) {
            return Ok(());
        }
        Err(ConnectorError::StandardInputGone {
            position,
            kept_from: kept.from,
        })
    }

    /// Begins at a position: with the input of this process, if none was read yet. Returns the open descriptor.
    pub(super) fn begin(&self, position: u64) -> Result<Arc<File>, ConnectorError> {
        self.check_kept(position)?;
        let mut kept = self.kept();
        if let Some(file) = &kept.file {
            return Ok(Arc::clone(file));
        }
        // The buffer of the standard library would hide what has come already.
        let descriptor = io::stdin().as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(ConnectorError::io("open", Path::new(NAME)))?;
        let file = Arc::new(File::from(descriptor));
        kept.file = Some(Arc::clone(&file));
        kept.start = position;
        kept.from = position;
        Ok(file)
    }

    /// The position at which the input of this process starts.
    pub(super) fn start(&self) -> u64 {
        self.kept().start
    }

    /// Number of bytes that were read behind a position, or in all; what is set aside there does not count.
    pub(super) fn taken_behind(&self, position: Option<u64>) -> u64 {
        let kept = self.kept();
        let position = position.unwrap_or(kept.start);
        match kept.aside_from.is_some_and(|from| from <= position) {
            true => 0,
            false => kept.end().saturating_sub(position),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.kept().has_ended
    }

    /// Sets the rest of the input of this process aside, from a position on.
    pub(super) fn set_aside(&self, position: u64) {
        self.kept().aside_from = Some(position);
    }

    /// Whether what follows a position is set aside. A reader that returns to an earlier one comes to that decision again.
    pub(super) fn is_set_aside(&self, position: u64) -> bool {
        self.kept().aside_from.is_some_and(|from| from <= position)
    }

    pub(super) fn names(&self) -> Option<Vec<String>> {
        self.kept().names.clone()
    }

    pub(super) fn set_names(&self, names: Vec<String>) {
        self.kept().names = Some(names);
    }

    /// Reads bytes from a position on, kept ones or new ones; 0 if there are none now, or no more.
    pub(super) fn read(&self, at: u64, room: &mut [u8]) -> Result<usize, ConnectorError> {
        self.check_kept(at)?;
        let mut kept = self.kept();
        if at < kept.end() {
            return Ok(kept.copy((at - kept.from) as usize, room));
        }
        let Some(file) = kept.file.clone().filter(|_| !kept.has_ended) else {
            return Ok(0);
        };
        let read = read_now(&file, room).map_err(ConnectorError::io("read", Path::new(NAME)))?;
        match read {
            None => Ok(0),
            Some(0) => {
                kept.has_ended = true;
                Ok(0)
            }
            Some(read) => {
                if kept.end() == kept.start {
                    refuse_compressed(&room[..read])?;
                }
                kept.keep(&room[..read], self.kept_max);
                Ok(read)
            }
        }
    }

    /// The place of a byte. The line is the one in the input of this process, counted from the last place if that is kept.
    pub(super) fn place(&self, byte: u64) -> FilePlace {
        let mut kept = self.kept();
        if byte < kept.from {
            return FilePlace { line: None, byte };
        }
        let (mut from, mut lines) = kept.counted;
        if from < kept.from || from > byte {
            (from, lines) = (kept.from, kept.lines_before);
        }
        let index = |position: u64| ((position - kept.from) as usize).min(kept.bytes.len());
        let between = kept.bytes.range(index(from)..index(byte));
        lines += between.filter(|&&byte| byte == b'\n').count() as u64;
        if byte <= kept.end() {
            kept.counted = (byte, lines);
        }
        FilePlace {
            line: Some(lines + 1),
            byte,
        }
    }
}

impl KeptInput {
    fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    /// Copies kept bytes; there is at least one.
    fn copy(&self, from: usize, room: &mut [u8]) -> usize {
        let (first, second) = self.bytes.as_slices();
        let rest = match first.get(from..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &second[from - first.len()..],
        };
        let len = rest.len().min(room.len());
        room[..len].copy_from_slice(&rest[..len]);
        len
    }

    /// Keeps bytes, and forgets the oldest beyond the bound. What was just read is always kept.
    fn keep(&mut self, read: &[u8], kept_max: usize) {
        let excess = (self.bytes.len() + read.len()).saturating_sub(kept_max);
        let dropped = excess.min(self.bytes.len());
        let (first, second) = self.bytes.as_slices();
        let of_first = dropped.min(first.len());
        self.lines_before += memchr_iter(b'\n', &first[..of_first]).count() as u64;
        self.lines_before += memchr_iter(b'\n', &second[..dropped - of_first]).count() as u64;
        self.bytes.drain(..dropped);
        self.from += dropped as u64;
        self.bytes.extend(read);
    }
}

/// Refuses input that begins as a compressed file does: its bytes would become records.
fn refuse_compressed(start: &[u8]) -> Result<(), ConnectorError> {
    match InputCompression::of_bytes(start, None) {
        None => Ok(()),
        Some(found) => Err(compressed::refused(
            Path::new(NAME),
            format!(
                "it is compressed; decompress it first, as in `{} FILE | floodmark run …`",
                found.command()
            ),
        )),
    }
}

/// Reads what is there; `None` if that is nothing now.
fn read_now(file: &File, room: &mut [u8]) -> io::Result<Option<usize>> {
    if !is_readable(file)? {
        return Ok(None);
    }
    let mut file = file;
    match file.read(room) {
        Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// Whether a read would return at once: with bytes, the end, or an error.
fn is_readable(file: &File) -> io::Result<bool> {
    let mut asked = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    #[expect(
        unsafe_code,
        reason = "the standard library does not tell whether a read would wait"
    )]
    // SAFETY: the pointer is to one live value of the type that the call reads and fills.
    let found = unsafe { libc::poll(&mut asked, 1, 0) };
    match found {
        0 => Ok(false),
        1.. => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => Ok(false),
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    //! Catches bytes that are kept at other positions than they were read at, and lines that are counted wrongly once the
    //! oldest bytes are gone, or from an earlier place on.

    use super::*;

    #[test]
    fn the_last_bytes_can_be_read_again() {
        let input = StandardInput::new(const { NonZeroUsize::new(5).expect("not 0") });
        {
            let mut kept = input.kept();
            kept.file = Some(Arc::new(tempfile::tempfile().unwrap()));
            (kept.start, kept.from) = (10, 10);
            kept.has_ended = true;
            for part in ["ab\n", "cd\n", "e"] {
                kept.keep(part.as_bytes(), 5);
            }
        }
        let read = |at: u64| {
            let mut all = Vec::new();
            let mut room = [0; 2];
            loop {
                match input.read(at + all.len() as u64, &mut room) {
                    Ok(0) => return Ok(String::from_utf8(all).unwrap()),
                    Ok(read) => all.extend_from_slice(&room[..read]),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        assert_eq!(read(12), Ok("\ncd\ne".to_owned()));
        assert_eq!(input.taken_behind(Some(16)), 1);
        assert_eq!(input.taken_behind(Some(17)), 0);
        assert_eq!(input.taken_behind(None), 7);
        assert_eq!(read(16), Ok("e".to_owned()));
        assert_eq!(read(17), Ok(String::new()));
        assert!(read(11).unwrap_err().contains("byte 11"));
        assert!(read(18).unwrap_err().contains("byte 18"));
        assert_eq!(input.place(13).to_string(), "line 2, byte 13");
        assert_eq!(input.place(16).to_string(), "line 3, byte 16");
        assert_eq!(input.place(16).to_string(), "line 3, byte 16");
        assert_eq!(input.place(13).to_string(), "line 2, byte 13");
        assert_eq!(input.place(11).to_string(), "byte 11");
        // A part that is longer than the bound is kept as a whole.
        input.kept().keep(b"12345678", 5);
        assert_eq!(read(17), Ok("12345678".to_owned()));
    }
}
