//! Finds text behind the closing quote of a field in rows of CSV, such as `"a"x`.
//!
//! The parser takes such text for a part of the field. But it is what a stray quote looks like: of two of them, the second
//! closes what the first has opened, and the rows between them would be a part of that field without a word. A row that
//! has no quote costs one comparison, since quotes are looked for once for all bytes in memory. What a field contains is
//! left to the parser.

use memchr::memchr;

use crate::connector::csv_layout::CsvLayout;
use crate::connector::record_format::BYTE_ORDER_MARK;

/// Checks the quotes of one row after the other.
pub(super) struct QuoteCheck {
    layout: CsvLayout,
    /// No quote is between the bytes that were looked at last and this position.
    clear_to: u64,
    state: QuoteState,
    /// Whether the parser would remove a byte order mark from the next bytes.
    may_begin_with_mark: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum QuoteState {
    /// At the start of a field, or between rows.
    Start,
    /// In a field without quotes, in which a quote is a character like any other.
    Plain,
    /// Behind a quote that opened a field.
    Quoted,
    /// Behind another quote, which closes the field unless one more follows.
    Closed,
}

impl QuoteCheck {
    /// For a parser that begins between rows; at the start of the input it removes a byte order mark.
    pub(super) fn new(layout: CsvLayout, is_start: bool) -> Self {
        Self {
            layout,
            clear_to: 0,
            state: QuoteState::Start,
            may_begin_with_mark: is_start,
        }
    }

    /// A row begins.
    #[inline]
    pub(super) fn begin_row(&mut self) {
        self.state = QuoteState::Start;
    }

    /// Takes the next bytes of the row: the first `passed` of `rest`, which is at this position; `is_end` if the row ends
    /// with them. Returns `false` if there is text behind a closing quote.
    #[inline]
    pub(super) fn accepts(
        &mut self,
        rest: &[u8],
        position: u64,
        passed: usize,
        is_end: bool,
    ) -> bool {
        let may_begin_with_mark = std::mem::take(&mut self.may_begin_with_mark);
        let is_row = is_end && self.state == QuoteState::Start;
        if is_row && !self.has_quote(rest, position, passed) {
            return true;
        }
        let bytes = &rest[..passed];
        self.scan(match may_begin_with_mark {
            true => bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes),
            false => bytes,
        })
    }

    #[inline]
    fn has_quote(&mut self, rest: &[u8], position: u64, passed: usize) -> bool {
        let end = position + passed as u64;
        if end <= self.clear_to {
            return false;
        }
        let from = self.clear_to.max(position);
        let unknown = &rest[(from - position) as usize..];
        let clear = memchr(self.layout.quote, unknown).unwrap_or(unknown.len());
        self.clear_to = from + clear as u64;
        self.clear_to < end
    }

    fn scan(&mut self, bytes: &[u8]) -> bool {
        let CsvLayout { delimiter, quote } = self.layout;
        let mut index = 0;
        while let Some(&byte) = bytes.get(index) {
            let ends_field = byte == delimiter || matches!(byte, b'\n' | b'\r');
            self.state = match self.state {
                QuoteState::Quoted => {
                    let Some(text) = memchr(quote, &bytes[index..]) else {
                        return true;
                    };
                    index += text;
                    QuoteState::Closed
                }
                QuoteState::Start | QuoteState::Closed if byte == quote => QuoteState::Quoted,
                _ if ends_field => QuoteState::Start,
                QuoteState::Start | QuoteState::Plain => QuoteState::Plain,
                QuoteState::Closed => return false,
            };
            index += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    //! Catches stray quotes that are accepted, and rows with sound quotes that are refused, wherever the row is cut.

    use super::*;

    /// Checks rows one after the other, each cut in two at every place. A row ends where the text says `|`.
    fn check(rows: &str, expected: bool) {
        let rows: Vec<_> = rows.split('|').map(str::as_bytes).collect();
        let text = rows.concat();
        for cut in 0..=text.len() {
            let mut quotes = QuoteCheck::new(CsvLayout::default(), true);
            let (mut start, mut is_sound) = (0, true);
            for row in &rows {
                let end = start + row.len();
                quotes.begin_row();
                let middle = cut.clamp(start, end);
                if middle > start && middle < end {
                    let (rest, passed) = (&text[start..middle], middle - start);
                    is_sound &= quotes.accepts(rest, start as u64, passed, false);
                }
                let from = if middle < end { middle } else { start };
                is_sound &= quotes.accepts(&text[from..], from as u64, end - from, true);
                start = end;
            }
            assert_eq!(is_sound, expected, "{rows:?} cut at {cut}");
        }
    }

    #[test]
    fn text_behind_a_closing_quote_is_found() {
        for sound in [
            "a,b\n|c,d\n",
            "a,\"b\"\n|\"c\",d\r\n",
            "a,\"b\"\"c\"\n|\"\",\"\"\"\"\n|x\n",
            "5\",a\"b\"c\n|a\n",
            "\n\r\n\"a\n,b\",c\r|\n\"d\",e",
            "a\n|b,\"never closed\n",
        ] {
            check(sound, true);
        }
        for stray in [
            "a\n|3,\"a\"x,4\n",
            "\"a\" ,b\n",
            "1,\"a\n2,b\n3,\"c\n|4,d\n",
            "\"a\"\"\"\"b\"c\"\n",
        ] {
            check(stray, false);
        }
    }

    #[test]
    fn a_mark_is_not_text() {
        let text = "\u{feff}\"a\",b\n".as_bytes();
        for (is_start, bytes) in [(true, text), (false, &text[3..])] {
            let mut quotes = QuoteCheck::new(CsvLayout::default(), is_start);
            assert!(quotes.accepts(bytes, 0, bytes.len(), true));
            quotes.begin_row();
            let stray = b"\"a\"b\n";
            assert!(!quotes.accepts(stray, bytes.len() as u64, stray.len(), true));
        }
        let mut quotes = QuoteCheck::new(CsvLayout::default(), true);
        let stray = "\u{feff}\"a\"b\n".as_bytes();
        assert!(!quotes.accepts(stray, 0, stray.len(), true));
    }
}
