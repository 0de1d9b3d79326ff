//! Finds the line of a record that cannot be read.
//!
//! A position in a file is a number of bytes: counting lines while reading would cost every record something, and a
//! range in the middle of a file would not know its first line. So lines are counted when there is something to report,
//! by reading the file from its start. Of very long files they are not counted: the worker would be busy for too long.

use std::fs::File;

use memchr::memchr_iter;

use crate::connector::FilePlace;
use crate::connector::read_ahead::read_at;

/// Bytes before a place in which lines are counted: reading them takes a few seconds.
const COUNTED_BYTES_MAX: u64 = 4 << 30;
/// Bytes that are read at once.
const READ_BYTES: u64 = 256 << 10;

/// The place of the line that starts at this byte.
pub(super) fn of_line(file: &File, byte: u64) -> FilePlace {
    FilePlace {
        line: line_at(file, byte),
        byte,
    }
}

/// The place of the row that a parser reads from this byte on: line ends before a row are not a part of it.
pub(super) fn of_row(file: &File, byte: u64) -> FilePlace {
    of_line(file, row_start(file, byte))
}

/// `None` if there is too much to count, or the file cannot be read: the error to report is another one.
fn line_at(file: &File, byte: u64) -> Option<u64> {
    if byte > COUNTED_BYTES_MAX {
        return None;
    }
    let mut buffer = vec![0; byte.min(READ_BYTES) as usize];
    let (mut at, mut line) = (0, 1);
    while at < byte {
        let wanted = (byte - at).min(READ_BYTES) as usize;
        let read = read_at(file, &mut buffer[..wanted], at).ok()?;
        if read == 0 {
            return None;
        }
        line += memchr_iter(b'\n', &buffer[..read]).count() as u64;
        at += read as u64;
    }
    Some(line)
}

fn row_start(file: &File, byte: u64) -> u64 {
    let mut buffer = [0; 4096];
    let mut at = byte;
    loop {
        let read = read_at(file, &mut buffer, at).unwrap_or(0);
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

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn lines_are_counted_from_the_start() {
        let check = |bytes: &[u8], byte: u64, expected: &str| {
            assert_eq!(of_line(&file(bytes), byte).to_string(), expected);
        };
        check(b"", 0, "line 1, byte 0");
        check(b"a\nb\n", 2, "line 2, byte 2");
        check(b"\n\n", 1, "line 2, byte 1");
        check(b"short", 7, "byte 7");
        check(&b"a\n".repeat(300_000), 599_998, "line 300000, byte 599998");
        assert_eq!(line_at(&file(b""), COUNTED_BYTES_MAX + 1), None);
    }

    #[test]
    fn a_row_starts_after_the_ends_before_it() {
        let check = |bytes: &[u8], byte: u64, expected: &str| {
            assert_eq!(of_row(&file(bytes), byte).to_string(), expected);
        };
        check(b"a\r\nb", 2, "line 2, byte 3");
        check(b"a\n\r\n\nb", 2, "line 4, byte 5");
        check(b"a\n", 1, "line 1, byte 1");
        let long = [b"a".as_slice(), &b"\n".repeat(10_000), b"b"].concat();
        check(&long, 1, "line 10001, byte 10001");
    }
}
