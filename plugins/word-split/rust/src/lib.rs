//! Splits values into words: each word becomes the key of a record without a value.
//!
//! A word is a longest run of bytes without ASCII white space, taken as it is: no case is folded, no encoding assumed.
//! White space is what it is for `tr -s '[:space:]'` in the C locale: space, tab, line feed, vertical tab, form feed
//! and carriage return.

use floodmark_sdk::{Config, Operator, Output, Record, Result, States};

/// Lines of this length and more are read twice, first to know how many words to make room for.
const LONG_LINE_BYTES: usize = 64 * 1024;

/// Makes words of lines.
#[derive(Debug, States)]
pub struct WordSplit;

#[floodmark_sdk::operator]
impl Operator for WordSplit {
    fn open(_: &Config) -> Result<Self> {
        Ok(Self)
    }

    fn process(&mut self, line: Record<'_>, out: &mut Output<'_>) -> Result {
        if line.value().len() >= LONG_LINE_BYTES {
            let (words, bytes) = extent(line.value());
            out.reserve_keyed(words, bytes);
        }
        for word in words(line.value()) {
            out.key(word).emit("");
        }
        Ok(())
    }
}

floodmark_sdk::export!(WordSplit);

/// The words of a line, in order.
fn words(line: &[u8]) -> Words<'_> {
    Words {
        line,
        start: 0,
        searched: 0,
        spaces: 0,
    }
}

/// Finds white space eight bytes at a time.
///
/// - White space is known up to `searched`, and `spaces` has what is not used up of the last eight bytes before it.
/// - The next word begins at `start` or later.
struct Words<'a> {
    line: &'a [u8],
    start: usize,
    searched: usize,
    spaces: u64,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            while self.spaces == 0 {
                let rest = self.line.get(self.searched..)?;
                self.spaces = spaces(eight_of(rest));
                self.searched += 8;
            }
            let end = self.searched - 8 + (self.spaces.trailing_zeros() / 8) as usize;
            let start = self.start;
            self.spaces &= self.spaces - 1;
            self.start = end + 1;
            if start < end {
                return Some(&self.line[start..end]);
            }
        }
    }
}

/// The first eight bytes, as if spaces followed the last one.
#[inline]
fn eight_of(rest: &[u8]) -> u64 {
    match rest.first_chunk() {
        Some(eight) => u64::from_le_bytes(*eight),
        None => {
            let mut padded = [b' '; 8];
            padded[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(padded)
        }
    }
}

/// The highest bit of each byte that parts words: space, and tab to carriage return, which are 9 to 13.
/// `u8::is_ascii_whitespace` leaves out the vertical tab.
///
/// The low seven bits of each byte are looked at by sums that stay within their byte: `b + 0x80 - n` has the highest
/// bit if `b` is `n` or more. A byte that has the highest bit itself is not white space.
#[inline]
const fn spaces(eight: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = EACH * 0x80;
    let low = eight & !HIGHEST;
    let is_other_than_space = (low ^ (EACH * b' ' as u64)) + EACH * 0x7f;
    let is_from_tab = low + EACH * (0x80 - b'\t' as u64);
    let is_behind_return = low + EACH * (0x80 - (b'\r' as u64 + 1));
    (!is_other_than_space | (is_from_tab & !is_behind_return)) & !eight & HIGHEST
}

/// How many words a line has, and how many bytes they have in all.
fn extent(line: &[u8]) -> (usize, usize) {
    words(line).fold((0, 0), |(words, bytes), word| {
        (words + 1, bytes + word.len())
    })
}

#[cfg(test)]
mod tests {
    //! Catches words that are cut or glued together at odd bytes, and lines whose length breaks something.

    use floodmark_sdk::columns::{Batch, Column, EmittedKeys, Plugin};
    use floodmark_sdk::testing::{Given, Task};
    use floodmark_sdk::{Port, RecordByRecord};

    use super::*;

    fn check(line: impl AsRef<[u8]>, expected: &[&[u8]]) {
        let mut task = Task::new::<WordSplit>();
        let emitted = task
            .run([Given::from(("", line)).at(3)])
            .expect("lines are split");
        let keys: Vec<&[u8]> = emitted.iter().map(|word| word.key.as_slice()).collect();
        assert_eq!(keys, expected);
        for word in &emitted {
            assert!(word.value.is_empty(), "{word:?}");
            assert_eq!(word.timestamp, Some(3));
        }
    }

    #[test]
    fn words_are_what_is_between_white_space() {
        check("", &[]);
        check(" \t\r\n\x0b\x0c", &[]);
        check("one", &[b"one"]);
        check("  to  be\tor\r\n", &[b"to", b"be", b"or"]);
        check("a\x0bb\x0cc\rd", &[b"a", b"b", b"c", b"d"]);
        check("To to tö", &[b"To", b"to", "tö".as_bytes()]);
    }

    #[test]
    fn other_bytes_belong_to_words() {
        // NEL and NO-BREAK SPACE in Latin-1, NUL, information separators, and bytes next to the white space.
        let word = b"\x85\xa0\x00\x1c\x1f\x08\x0e\x21\xff";
        check(word, &[word]);
    }

    #[test]
    fn every_byte_is_space_as_the_c_locale_says() {
        let spaces: Vec<u8> = (0..=u8::MAX)
            .filter(|&byte| words(&[byte]).next().is_none())
            .collect();
        assert_eq!(spaces, [9, 10, 11, 12, 13, 32]);
    }

    #[test]
    fn a_line_of_ten_megabytes_is_one_word_or_five_million() {
        const LINE_BYTES: usize = 10_000_000;
        check_keys(&vec![b'x'; LINE_BYTES], 1, LINE_BYTES);
        check_keys(&b"x ".repeat(LINE_BYTES / 2), 5_000_000, 5_000_000);
    }

    /// By columns, since five million records one by one take a test seconds.
    fn check_keys(line: &[u8], words: usize, bytes: usize) {
        let mut batch = Batch {
            keys: Column::new(),
            slots: vec![0],
            values: Column::new(),
            timestamps: vec![0],
        };
        batch.keys.push(b"");
        batch.values.push(line);
        let output = RecordByRecord::<WordSplit>::open(&Config::default())
            .and_then(|mut split| split.process(Port::FIRST, batch, Vec::new()))
            .expect("lines are split");
        let [emission] = output.emissions.as_slice() else {
            panic!("all words leave together");
        };
        let EmittedKeys::Fresh(keys) = &emission.keys else {
            panic!("words are keys of their own");
        };
        assert_eq!((keys.len(), keys.bytes.len()), (words, bytes));
        assert!(keys.iter().all(|key| key.len() == bytes / words));
        assert_eq!(extent(line), (words, bytes));
    }

    #[test]
    fn words_are_what_a_look_at_each_byte_finds() {
        let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
        // Each byte at each place of eight, before and behind a word, in lines of each length.
        for byte in 0..=u8::MAX {
            for at in 0..24 {
                for len in at + 1..25 {
                    let mut line = vec![b'a'; len];
                    line[at] = byte;
                    line[len / 2] = b' ';
                    let expected = line.split(is_space).filter(|word| !word.is_empty());
                    assert!(words(&line).eq(expected), "{}", line.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn lines_of_a_batch_stay_apart() {
        let mut task = Task::new::<WordSplit>();
        let lines = [("", "a b"), ("", ""), ("", "c")];
        assert_eq!(
            task.run(lines).expect("lines are split"),
            [("a", ""), ("b", ""), ("c", "")]
        );
    }
}
