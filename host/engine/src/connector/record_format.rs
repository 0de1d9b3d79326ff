//! Formats records as text, for all sinks that write text.
//!
//! Bytes are written unchanged, and event times are not written. `lines` writes a value that contains newlines as
//! several lines; a user whose readers must separate records chooses `csv` or `jsonl`.

use memchr::{memchr2, memchr3};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ConnectorError;

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

    /// Adds one record to `out`.
    ///
    /// # Errors
    /// When the value does not fit the format; nothing was added.
    pub(super) fn write_record(
        self,
        key: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ConnectorError> {
        match self {
            Self::Lines => out.extend_from_slice(value),
            Self::Jsonl => write_json(value, out)?,
            Self::Csv => {
                write_field(key, out);
                out.push(b',');
                write_field(value, out);
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

fn write_json(value: &[u8], out: &mut Vec<u8>) -> Result<(), ConnectorError> {
    let unwritable = |reason: String| ConnectorError::Unwritable {
        format: "jsonl",
        reason: format!("its value is not JSON ({reason}); emit JSON, or set `format = \"lines\"`"),
    };
    let text = std::str::from_utf8(value).map_err(|error| unwritable(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| unwritable(error.to_string()))?;
    // Inside a JSON string a line break is escaped, so these are only layout.
    if memchr2(b'\n', b'\r', value).is_none() {
        out.extend_from_slice(value);
    } else {
        out.extend(value.iter().filter(|&&byte| byte != b'\n' && byte != b'\r'));
    }
    Ok(())
}

fn write_field(field: &[u8], out: &mut Vec<u8>) {
    let plain = memchr3(b',', b'"', b'\n', field).is_none() && !field.contains(&b'\r');
    if plain {
        out.extend_from_slice(field);
        return;
    }
    out.push(b'"');
    for &byte in field {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    //! Catches output that a reader of the format reads as other records than were written.

    use super::*;

    fn check(format: SinkFormat, key: &str, value: &str) -> Option<String> {
        let mut out = Vec::new();
        let written = format.write_record(key.as_bytes(), value.as_bytes(), &mut out);
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
        let fields: [&[u8]; 6] = [b"", b"\"", b"\r", b"a\n\"b,", b"\xff,\xfe", b"\"\""];
        for key in fields {
            for value in fields {
                let mut out = Vec::new();
                SinkFormat::Csv.write_record(key, value, &mut out).unwrap();
                let (mut data, mut ends) = ([0; 64], [0; 4]);
                let (result, _, _, count) =
                    csv_core::Reader::new().read_record(&out, &mut data, &mut ends);
                assert_eq!(result, csv_core::ReadRecordResult::Record);
                assert_eq!(count, 2);
                assert_eq!((&data[..ends[0]], &data[ends[0]..ends[1]]), (key, value));
            }
        }
    }
}
