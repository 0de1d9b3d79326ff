//! Finds the line of a record that cannot be read.
//!
//! A position in a file is a number of bytes: counting lines while reading would cost every record something, and a
//! range in the middle of a file would not know its first line. So lines are counted when there is something to report,
//! by reading the file from its start. Of very long files they are not counted: the worker would be busy for too long.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use memchr::{memchr_iter, memchr2_iter};

use super::compressed::{ContentDecoder, FileBytes, InputCompression};
use crate::connector::FilePlace;

/// Bytes before a place in which lines are counted: reading them takes a few seconds.
const COUNTED_BYTES_MAX: u64 = 4 << 30;
/// The same for compressed content.
const COUNTED_CONTENT_MAX: u64 = 1 << 30;
/// Bytes that are read at once.
const READ_BYTES: u64 = 256 << 10;

/// Which bytes end a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Newline,
    /// A newline, a carriage return, or both together: as the parser of CSV has it.
    NewlineOrReturn,
}

/// The place of the line that starts at this byte.
pub(super) fn of_line(file: &Arc<File>, kind: Option<InputCompression>, byte: u64) -> FilePlace {
    FilePlace {
        line: line_at(file, kind, byte, LineEnd::Newline),
        byte,
    }
}

/// The place of the row that a parser reads from this byte on: line ends before a row are not a part of it.
pub(super) fn of_row(file: &Arc<File>, kind: Option<InputCompression>, byte: u64) -> FilePlace {
    let byte = row_start(file, kind, byte);
    FilePlace {
        line: line_at(file, kind, byte, LineEnd::NewlineOrReturn),
        byte,
    }
}

/// The bytes from a position on; `None` if they cannot be read, or there is too much compressed content before them.
fn bytes_from(file: &Arc<File>, kind: Option<InputCompression>, at: u64) -> Option<Box<dyn Read>> {
    let Some(kind) = kind else {
        return Some(Box::new(FileBytes::new(Arc::clone(file), at)));
    };
    if at > COUNTED_CONTENT_MAX {
        return None;
    }
    let mut decoder = ContentDecoder::new(kind, file).ok()?;
    let passed = std::io::copy(&mut decoder.by_ref().take(at), &mut std::io::sink());
    (passed.ok()? == at).then(|| Box::new(decoder) as Box<dyn Read>)
}

/// `None` if there is too much to count, or the file cannot be read: the error to report is another one.
fn line_at(
    file: &Arc<File>,
    kind: Option<InputCompression>,
    byte: u64,
    ends: LineEnd,
) -> Option<u64> {
    let counted_max = match kind {
        None => COUNTED_BYTES_MAX,
        Some(_) => COUNTED_CONTENT_MAX,
    };
    if byte > counted_max {
        return None;
    }
    let mut bytes = bytes_from(file, kind, 0)?;
    let mut buffer = vec![0; byte.min(READ_BYTES) as usize];
    let (mut at, mut line) = (0, 1);
    let mut after_return = false;
    while at < byte {
        let wanted = (byte - at).min(READ_BYTES) as usize;
        let read = bytes.read(&mut buffer[..wanted]).ok()?;
        if read == 0 {
            return None;
        }
        line += ends.count(&buffer[..read], &mut after_return);
        at += read as u64;
    }
    Some(line)
}

impl LineEnd {
    /// The number of ends in these bytes. `after_return` tells whether the byte before them is a carriage return.
    fn count(self, bytes: &[u8], after_return: &mut bool) -> u64 {
        if self == Self::Newline {
            return memchr_iter(b'\n', bytes).count() as u64;
        }
        let is_second = |at: usize| match at.checked_sub(1) {
            None => *after_return,
            Some(before) => bytes[before] == b'\r',
        };
        let ends = memchr2_iter(b'\n', b'\r', bytes);
        let ends = ends.filter(|&at| bytes[at] == b'\r' || !is_second(at));
        let count = ends.count() as u64;
        *after_return = bytes.last() == Some(&b'\r');
        count
    }
}

fn row_start(file: &Arc<File>, kind: Option<InputCompression>, byte: u64) -> u64 {
    let Some(mut bytes) = bytes_from(file, kind, byte) else {
        return byte;
    };
    let mut buffer = [0; 4096];
    let mut at = byte;
    loop {
        let read = bytes.read(&mut buffer).unwrap_or(0);
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        match buffer[..read].iter().position(|byte| !is_end(byte)) {
            Some(ends) => return at + ends as u64,
            // There is no row: the place is the one that was asked for.
            None if read == 0 => return byte,
            None => at += read as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches a line that is off by one, and a count that ends early in a long file.

    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    #[test]
    fn lines_are_counted_from_the_start() {
        let check = |bytes: &[u8], byte: u64, expected: &str| {
            assert_eq!(of_line(&file(bytes), None, byte).to_string(), expected);
        };
        check(b"", 0, "line 1, byte 0");
        check(b"a\nb\n", 2, "line 2, byte 2");
        check(b"\n\n", 1, "line 2, byte 1");
        check(b"short", 7, "byte 7");
        check(&b"a\n".repeat(300_000), 599_998, "line 300000, byte 599998");
        let too_far = line_at(&file(b""), None, COUNTED_BYTES_MAX + 1, LineEnd::Newline);
        assert_eq!(too_far, None);
    }

    #[test]
    fn a_row_starts_after_the_ends_before_it() {
        let check = |bytes: &[u8], byte: u64, expected: &str| {
            assert_eq!(of_row(&file(bytes), None, byte).to_string(), expected);
        };
        check(b"a\r\nb", 2, "line 2, byte 3");
        check(b"a\n\r\n\nb", 2, "line 4, byte 5");
        check(b"a\n", 1, "line 1, byte 1");
        check(b"a\rb\rc", 4, "line 3, byte 4");
        check(b"a\r\rb", 2, "line 3, byte 3");
        let long = [b"a".as_slice(), &b"\n".repeat(10_000), b"b"].concat();
        check(&long, 1, "line 10001, byte 10001");
    }
}
