//! Finds the line of a record that cannot be read.
//!
//! A position in a file is a number of bytes: counting lines while reading would cost every record something, and a
//! range in the middle of a file would not know its first line. So lines are counted when there is something to report,
//! by reading the file from its start, or from the last place that was reported: a file with many bad records is read
//! once more, not once for each. Of very long files lines are not counted: the worker would be busy for too long.
//!
//! Compressed content is decompressed a second time for that, by a decoder that waits at the last place. Lines of standard
//! input are counted in what is kept of it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use memchr::{memchr_iter, memchr2_iter};

use super::compressed::{ContentDecoder, InputCompression};
use super::file_bytes::FileBytes;
use super::standard_input::StandardInput;
use crate::connector::FilePlace;
use crate::connector::read_ahead::read_at;

/// Bytes before a place in which lines are counted: reading them takes a few seconds.
const COUNTED_BYTES_MAX: u64 = 4 << 30;
/// The same for compressed content.
const COUNTED_CONTENT_MAX: u64 = 1 << 30;
/// Bytes that are read at once.
const READ_BYTES: u64 = 256 << 10;

/// Which bytes end a line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum LineEnd {
    #[default]
    Newline,
    /// A newline, a carriage return, or both together: as the parser of CSV has it.
    NewlineOrReturn,
}

/// The input whose lines are counted.
pub(super) enum CountedInput {
    File {
        file: Arc<File>,
        /// `Some` if positions are those of its decompressed content.
        compression: Option<InputCompression>,
        ends: LineEnd,
    },
    Stream(Arc<StandardInput>),
}

/// Counts lines up to one place after the other.
///
/// - `lines` is the number of line ends in the first `byte` bytes of `file`.
/// - `content` has given as many bytes.
#[derive(Default)]
pub(super) struct LineCounter {
    file: Option<CountedLines>,
    byte: u64,
    lines: u64,
    /// Whether the byte before is a carriage return.
    after_return: bool,
    /// `Some` if the file is compressed, and lines of it were counted.
    content: Option<ContentDecoder>,
}

/// What a count is about.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CountedLines {
    device: u64,
    inode: u64,
    compression: Option<InputCompression>,
    ends: LineEnd,
}

impl LineCounter {
    /// The place of the line or row that starts at this byte.
    pub(super) fn of_line(&mut self, input: &CountedInput, byte: u64) -> FilePlace {
        match input {
            CountedInput::Stream(input) => input.place(byte),
            CountedInput::File {
                file,
                compression,
                ends,
            } => FilePlace {
                line: self.line_at(file, (*compression, *ends), byte),
                byte,
            },
        }
    }

    /// `None` if there is too much to count, or the file cannot be read: the error to report is another one.
    fn line_at(
        &mut self,
        file: &Arc<File>,
        (compression, ends): (Option<InputCompression>, LineEnd),
        byte: u64,
    ) -> Option<u64> {
        let counted_max = match compression {
            None => COUNTED_BYTES_MAX,
            Some(_) => COUNTED_CONTENT_MAX,
        };
        if byte > counted_max {
            return None;
        }
        let metadata = file.metadata().ok()?;
        let counted = CountedLines {
            device: metadata.dev(),
            inode: metadata.ino(),
            compression,
            ends,
        };
        if self.file != Some(counted) || byte < self.byte {
            *self = Self {
                file: Some(counted),
                ..Self::default()
            };
        }
        let line = self.count_to(file, counted, byte);
        if line.is_none() {
            *self = Self::default();
        }
        line
    }

    fn count_to(&mut self, file: &Arc<File>, counted: CountedLines, byte: u64) -> Option<u64> {
        if let (Some(kind), None) = (counted.compression, &self.content) {
            self.content = Some(ContentDecoder::new(kind, file).ok()?);
        }
        let mut plain = FileBytes::new(Arc::clone(file), self.byte);
        let bytes: &mut dyn Read = match &mut self.content {
            Some(content) => content,
            None => &mut plain,
        };
        let mut buffer = vec![0; (byte - self.byte).min(READ_BYTES) as usize];
        while self.byte < byte {
            let wanted = (byte - self.byte).min(READ_BYTES) as usize;
            let read = bytes.read(&mut buffer[..wanted]).ok()?;
            if read == 0 {
                return None;
            }
            self.lines += counted.ends.count(&buffer[..read], &mut self.after_return);
            self.byte += read as u64;
        }
        Some(self.lines + 1)
    }
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

/// The start of the row that a parser reads from this byte of a file on: line ends before a row are not a part of it.
pub(super) fn row_start(file: &File, byte: u64) -> u64 {
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
    //! Catches a line that is off by one, and a count that ends early in a long file or continues in another one.

    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Arc::new(file)
    }

    fn counted(file: &Arc<File>, ends: LineEnd) -> CountedInput {
        CountedInput::File {
            file: Arc::clone(file),
            compression: None,
            ends,
        }
    }

    #[test]
    fn lines_are_counted_from_the_start() {
        let check = |bytes: &[u8], byte: u64, expected: &str| {
            let input = counted(&file(bytes), LineEnd::Newline);
            let place = LineCounter::default().of_line(&input, byte);
            assert_eq!(place.to_string(), expected);
        };
        check(b"", 0, "line 1, byte 0");
        check(b"a\nb\n", 2, "line 2, byte 2");
        check(b"\n\n", 1, "line 2, byte 1");
        check(b"short", 7, "byte 7");
        check(&b"a\n".repeat(300_000), 599_998, "line 300000, byte 599998");
        check(b"", COUNTED_BYTES_MAX + 1, "byte 4294967297");
    }

    #[test]
    fn a_count_continues_in_the_same_file_and_starts_over_elsewhere() {
        let (one, other) = (file(b"a\nb\nc\nd\n"), file(b"aaaa\nb\n"));
        let content = zstd::encode_all(&b"a\nb\nc\nd\n"[..], 1).unwrap();
        let compressed = CountedInput::File {
            file: file(&content),
            compression: Some(InputCompression::Zstd),
            ends: LineEnd::Newline,
        };
        let one = counted(&one, LineEnd::Newline);
        let other = counted(&other, LineEnd::Newline);
        let mut lines = LineCounter::default();
        for (input, byte, line) in [
            (&one, 2, Some(2)),
            (&one, 6, Some(4)),
            (&one, 6, Some(4)),
            (&one, 4, Some(3)),
            (&other, 5, Some(2)),
            (&one, 6, Some(4)),
            (&compressed, 2, Some(2)),
            (&compressed, 6, Some(4)),
            (&compressed, 4, Some(3)),
            (&compressed, 99, None),
            (&compressed, 8, Some(5)),
        ] {
            assert_eq!(lines.of_line(input, byte).line, line, "{byte}");
        }
    }

    #[test]
    fn a_row_starts_after_the_ends_before_it() {
        let check = |bytes: &[u8], byte: u64, expected: &str| {
            let file = file(bytes);
            let start = row_start(&file, byte);
            let input = counted(&file, LineEnd::NewlineOrReturn);
            let place = LineCounter::default().of_line(&input, start);
            assert_eq!(place.to_string(), expected);
        };
        check(b"a\r\nb", 2, "line 2, byte 3");
        check(b"a\n\r\n\nb", 2, "line 4, byte 5");
        check(b"a\n", 1, "line 1, byte 1");
        check(b"a\rb\rc", 4, "line 3, byte 4");
        check(b"a\r\rb", 2, "line 3, byte 3");
        let long = [b"a".as_slice(), &b"\n".repeat(10_000), b"b"].concat();
        check(&long, 1, "line 10001, byte 10001");
    }

    #[test]
    fn a_line_end_of_two_bytes_is_one_end_also_between_two_counts() {
        let input = counted(&file(b"a\r\nb\r\nc"), LineEnd::NewlineOrReturn);
        let mut lines = LineCounter::default();
        for (byte, line) in [(2, 2), (3, 2), (6, 3)] {
            assert_eq!(lines.of_line(&input, byte).line, Some(line), "{byte}");
        }
    }
}
