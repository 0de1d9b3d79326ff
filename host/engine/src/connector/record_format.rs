//! Formats records as text, for all sinks that write text.
//!
//! Bytes are written unchanged, and event times are not written. `lines` writes a value that contains newlines as
//! several lines; a user whose readers must separate records chooses `csv` or `jsonl`.

use memchr::{memchr2, memchr3};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::bad_record::json_reason;
use super::csv_layout::CsvLayout;

/// Names the encoding at the start of a file; not a part of its first record.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The names of the two columns of written CSV, for its header.
pub(super) const CSV_COLUMNS: [&str; 2] = ["key", "value"];

/// The format of written records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SinkFormat {
    /// The value and a newline.
    #[default]
    Lines,
    /// The value, which must be JSON, on one line.
    Jsonl,
    /// Key and value as two fields, quoted after RFC 4180 where needed.
    Csv,
}

impl SinkFormat {
    /// Its name in a pipeline file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// The extension of file names.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Lines => "txt",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

/// How records are written: their format, and the layout of CSV.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordLayout {
    pub(super) format: SinkFormat,
    pub(super) csv: CsvLayout,
}

impl From<SinkFormat> for RecordLayout {
    fn from(format: SinkFormat) -> Self {
        let csv = CsvLayout::default();
        Self { format, csv }
    }
}

impl RecordLayout {
    /// Adds the row that names the columns of CSV to `out`.
    pub(super) fn write_header(self, out: &mut Vec<u8>) {
        let [key, value] = CSV_COLUMNS;
        self.write_row(key.as_bytes(), value.as_bytes(), out);
        out.push(b'\n');
    }

    /// Adds one record to `out`.
    ///
    /// # Errors
    /// When the value does not fit the format; nothing was added. The reason is the end of a sentence that begins with
    /// the record.
    pub(super) fn write_record(
        self,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        match self.format {
            SinkFormat::Lines => out.extend_from_slice(value),
            SinkFormat::Jsonl => write_json(value, out)?,
            SinkFormat::Csv => self.write_row(key, value, out),
        }
        out.push(b'\n');
        Ok(())
    }

    fn write_row(self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        write_field(key, self.csv, out);
        out.push(self.csv.delimiter);
        write_field(value, self.csv, out);
    }
}

fn write_json(value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let unwritable = |reason: String| {
        format!(
            "cannot be written as jsonl: its value is not JSON ({reason}); emit JSON, or set `format = \"lines\"` (for files, start over with `--fresh`)"
        )
    };
    let text = std::str::from_utf8(value).map_err(|error| unwritable(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| unwritable(json_reason(&error)))?;
    // Inside a JSON string a line break is escaped, so these are only layout.
    if memchr2(b'\n', b'\r', value).is_none() {
        out.extend_from_slice(value);
    } else {
        out.extend(value.iter().filter(|&&byte| byte != b'\n' && byte != b'\r'));
    }
    Ok(())
}

fn write_field(field: &[u8], csv: CsvLayout, out: &mut Vec<u8>) {
    let CsvLayout { delimiter, quote } = csv;
    let plain = memchr3(delimiter, quote, b'\n', field).is_none()
        && !field.contains(&b'\r')
        // At the start of a file, a reader would take it for a mark of the encoding.
        && !field.starts_with(BYTE_ORDER_MARK);
    if plain {
        out.extend_from_slice(field);
        return;
    }
    out.push(quote);
    for &byte in field {
        if byte == quote {
            out.push(quote);
        }
        out.push(byte);
    }
    out.push(quote);
}

#[cfg(test)]
mod tests {
    //! Catches output that a reader of the format reads as other records than were written.

    use super::*;

    fn check(format: SinkFormat, key: &str, value: &str) -> Option<String> {
        let mut out = Vec::new();
        let layout = RecordLayout::from(format);
        let written = layout.write_record(key.as_bytes(), value.as_bytes(), &mut out);
        if written.is_err() {
            assert!(out.is_empty());
        }
        written.ok().map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn records_look_as_promised() {
        use SinkFormat::{Csv, Jsonl, Lines};
        let same = |format, key, value, expected: &str| {
            assert_eq!(check(format, key, value).as_deref(), Some(expected));
        };
        same(Lines, "k", "a value", "a value\n");
        same(Lines, "", "", "\n");
        same(Csv, "word", "3", "word,3\n");
        same(Csv, "", "", ",\n");
        same(Csv, "a,b", "say \"hi\"", "\"a,b\",\"say \"\"hi\"\"\"\n");
        same(Csv, "a\rb", "c\nd", "\"a\rb\",\"c\nd\"\n");
        same(Csv, " a ", "'", " a ,'\n");
        same(Jsonl, "k", "{\"a\":1}", "{\"a\":1}\n");
        same(Jsonl, "k", "{\r\n \"a\":\n1}", "{ \"a\":1}\n");
        assert_eq!(check(Jsonl, "k", ""), None);
        assert_eq!(check(Jsonl, "k", "1 2"), None);
        assert_eq!(check(Jsonl, "k", "word"), None);
    }

    #[test]
    fn a_csv_reader_gets_back_any_bytes() {
        let fields: [&[u8]; 8] = [
            b"",
            b"\"",
            b"\r",
            b"a\n\"b,",
            b"\xff,\xfe",
            b"\"\"",
            b"'it''s;\t",
            b"\xef\xbb\xbfx",
        ];
        for (delimiter, quote) in [(b',', b'"'), (b';', b'\''), (b'\t', b'"'), (b'k', b'v')] {
            let layout = RecordLayout {
                format: SinkFormat::Csv,
                csv: CsvLayout { delimiter, quote },
            };
            let check = |written: &[u8], key: &[u8], value: &[u8]| {
                let (mut data, mut ends) = ([0; 64], [0; 4]);
                let mut reader = csv_core::ReaderBuilder::new();
                let mut reader = reader.delimiter(delimiter).quote(quote).build();
                let (result, _, _, count) = reader.read_record(written, &mut data, &mut ends);
                assert_eq!(result, csv_core::ReadRecordResult::Record);
                assert_eq!(count, 2);
                assert_eq!((&data[..ends[0]], &data[ends[0]..ends[1]]), (key, value));
            };
            let mut header = Vec::new();
            layout.write_header(&mut header);
            check(&header, b"key", b"value");
            for key in fields {
                for value in fields {
                    let mut out = Vec::new();
                    layout.write_record(key, value, &mut out).unwrap();
                    check(&out, key, value);
                }
            }
        }
    }
}
