//! A dead letter: a record that a node could not handle, the reason, and where it was read, as one JSON object. The node is
//! an operator whose plugin failed, a source that could not read the record, or a sink that could not write it.
//!
//! Bytes are preserved exactly: those that are not text are encoded in base64. Reading a letter does not need the
//! plugin. A replayed letter is a line of a file of such letters, and the line says where it was found.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::bad_record::json_reason;
use floodmark_state::stream::{CheckpointId, NO_TIMESTAMP, Timestamp};

/// The input in letters of sinks: they have only one.
pub const INPUT_OF_SINKS: &str = "in";
/// The input in letters of sources: replayed, their records are emitted by it.
pub const INPUT_OF_SOURCES: &str = "out";
/// The input in letters of sources that are about a whole file. They cannot be replayed.
pub const INPUT_OF_FILES: &str = "file";

/// A record that an operator, a source or a sink could not handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The operator, source or sink that could not handle the record.
    pub operator: String,
    /// The digest of its plugin, in hexadecimal digits; empty for a source or sink.
    pub plugin: String,
    /// The reason why it could not handle the record.
    pub reason: String,
    /// The position where the record was read.
    pub position: String,
    /// The input port at which it arrived.
    pub input: String,
    /// The key of the record.
    pub key: Vec<u8>,
    /// The value of the record; for a source, the bytes that are not a record.
    pub value: Vec<u8>,
    /// Its event time, or [`NO_TIMESTAMP`].
    pub timestamp: Timestamp,
    /// For a row of CSV: the names of its columns.
    pub columns: Vec<String>,
    /// How many bytes it had, if `value` has only the first.
    pub bytes_in_all: Option<u64>,
}

/// A text that is not a letter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a dead letter: {reason}")]
pub struct NoLetter {
    reason: String,
}

impl Letter {
    /// Whether it is about a whole file. An input of an operator may have the same name as that of such letters.
    #[must_use]
    pub fn is_of_file(&self) -> bool {
        self.plugin.is_empty() && self.input == INPUT_OF_FILES
    }

    /// The letter as one JSON object on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    /// The letter with another field.
    #[must_use]
    pub fn to_json_with(&self, field: &str, value: impl Into<Value>) -> String {
        let mut letter = self.to_value();
        letter[field] = value.into();
        letter.to_string()
    }

    fn to_value(&self) -> Value {
        let mut letter = json!({
            "operator": self.operator,
            "plugin": self.plugin,
            "reason": self.reason,
            "position": self.position,
            "input": self.input,
            "key": bytes_to_json(&self.key),
            "value": bytes_to_json(&self.value),
            "timestamp": (self.timestamp != NO_TIMESTAMP).then_some(self.timestamp),
        });
        if !self.columns.is_empty() {
            letter["columns"] = json!(self.columns);
        }
        if let Some(bytes) = self.bytes_in_all {
            letter["bytes-in-all"] = bytes.into();
        }
        letter
    }

    /// Parses a letter.
    ///
    /// # Errors
    /// When the text is not a letter: the reason.
    pub fn from_json(text: &str) -> Result<Self, NoLetter> {
        let fields: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| wrong(json_reason(&error)))?;
        let field = |name: &str| {
            fields
                .get(name)
                .ok_or_else(|| wrong(format!("it has no `{name}`")))
        };
        let text = |name: &str| {
            let text = field(name)?.as_str().map(str::to_owned);
            text.ok_or_else(|| wrong(format!("its `{name}` is not a text")))
        };
        let bytes = |name: &str| {
            let bytes = json_to_bytes(field(name)?);
            bytes.ok_or_else(|| wrong(format!("its `{name}` is neither a text nor in base64")))
        };
        let timestamp = match field("timestamp")? {
            Value::Null => NO_TIMESTAMP,
            number => number
                .as_i64()
                .ok_or_else(|| wrong("its `timestamp` is not a number of milliseconds"))?,
        };
        // These two are missing in letters of operators.
        let columns = match fields.get("columns") {
            None => Vec::new(),
            Some(names) => Vec::deserialize(names)
                .map_err(|_| wrong("its `columns` are not a list of texts"))?,
        };
        let bytes_in_all = match fields.get("bytes-in-all") {
            None => None,
            Some(number) => Some(
                number
                    .as_u64()
                    .ok_or_else(|| wrong("its `bytes-in-all` is not a number of bytes"))?,
            ),
        };
        Ok(Self {
            operator: text("operator")?,
            plugin: text("plugin")?,
            reason: text("reason")?,
            position: text("position")?,
            input: text("input")?,
            key: bytes("key")?,
            value: bytes("value")?,
            timestamp,
            columns,
            bytes_in_all,
        })
    }
}

/// The place where a replayed letter was found, which identifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterPlace {
    /// The checkpoint that made it visible.
    pub checkpoint: CheckpointId,
    /// The sink that wrote it.
    pub sink: String,
    /// The name of the file.
    pub part: String,
    /// The number of the line, from 1.
    pub line: u64,
}

/// The field of a replayed letter that contains the place.
const REPLAYED: &str = "replayed";

#[derive(Deserialize)]
struct ReplayedLine {
    replayed: EncodedPlace,
}

#[derive(Deserialize)]
struct EncodedPlace {
    checkpoint: u64,
    sink: String,
    part: String,
    line: u64,
}

impl LetterPlace {
    /// The letter as a line of a file that its operator reads, without the newline.
    #[must_use]
    pub fn to_line(&self, letter: &Letter) -> String {
        let place = json!({
            "checkpoint": self.checkpoint.0,
            "sink": self.sink,
            "part": self.part,
            "line": self.line,
        });
        letter.to_json_with(REPLAYED, place)
    }

    /// The place in such a line; `None` if it has none.
    #[must_use]
    pub fn of_line(line: &str) -> Option<Self> {
        let ReplayedLine { replayed } = serde_json::from_str(line).ok()?;
        Some(Self {
            checkpoint: CheckpointId(replayed.checkpoint),
            sink: replayed.sink,
            part: replayed.part,
            line: replayed.line,
        })
    }

    /// The name of a file of such lines, given the newest checkpoint among them and a number that no other file has.
    #[must_use]
    pub fn file_name(newest: CheckpointId, number: u64) -> String {
        format!("{number:06}-{:08}.jsonl", newest.0)
    }

    /// The inverse of [`Self::file_name`]; `None` for other names.
    #[must_use]
    pub fn parse_file_name(name: &str) -> Option<(CheckpointId, u64)> {
        let (number, newest) = name.strip_suffix(".jsonl")?.split_once('-')?;
        let (newest, number) = (CheckpointId(newest.parse().ok()?), number.parse().ok()?);
        (Self::file_name(newest, number) == name).then_some((newest, number))
    }
}

fn wrong(reason: impl fmt::Display) -> NoLetter {
    NoLetter {
        reason: reason.to_string(),
    }
}

fn bytes_to_json(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": to_base64(bytes) }),
    }
}

fn json_to_bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        other => from_base64(other.get("base64")?.as_str()?),
    }
}

/// The alphabet of RFC 4648, section 4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index > three.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    text
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for four in digits.as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for digit in four {
            let value = ALPHABET.iter().position(|known| known == digit)?;
            bits = bits << 6 | value as u32;
        }
        bits <<= 6 * (4 - four.len());
        bytes.extend_from_slice(&bits.to_be_bytes()[1..four.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    //! Catches letters whose bytes change, and other texts that are accepted as letters.

    use super::*;

    fn letter(key: &[u8], value: &[u8], timestamp: Timestamp) -> Letter {
        Letter {
            operator: "count".to_owned(),
            plugin: "00ff".to_owned(),
            reason: "it said:\n \"no\"".to_owned(),
            position: "source `text`: bytes 0 to 3".to_owned(),
            input: "in".to_owned(),
            key: key.to_vec(),
            value: value.to_vec(),
            timestamp,
            columns: Vec::new(),
            bytes_in_all: None,
        }
    }

    #[test]
    fn a_letter_is_one_line_and_comes_back() {
        for len in 0..70_u8 {
            let bytes: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(37) ^ 0xa5).collect();
            let letter = letter(&bytes, &bytes[..usize::from(len / 2)], i64::from(len));
            let json = letter.to_json();
            assert!(!json.contains('\n'));
            assert_eq!(Letter::from_json(&json), Ok(letter));
        }
        let row = Letter {
            columns: vec!["a".to_owned(), "b,\"".to_owned()],
            bytes_in_all: Some(1 << 40),
            ..letter(b"", b"1,2", NO_TIMESTAMP)
        };
        assert_eq!(Letter::from_json(&row.to_json()), Ok(row));
        let text = letter(b"k", b"v\n", NO_TIMESTAMP).to_json();
        assert!(!text.contains("columns") && !text.contains("bytes-in-all"));
        assert!(text.contains(r#""value":"v\n""#) && text.contains(r#""timestamp":null"#));
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(to_base64(bytes.as_bytes()), text);
            assert_eq!(from_base64(text), Some(bytes.as_bytes().to_vec()));
        }
        for wrong in ["Z", "Zg", "Zg=", "Z===", "Zm 9", "Zm8=Zm8=", "===="] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn other_json_is_refused() {
        for text in ["", "1", "[]", "{}", r#"{"operator":1}"#] {
            assert!(Letter::from_json(text).is_err(), "{text}");
        }
    }
}
