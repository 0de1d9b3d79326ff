//! Rows: the value of one key in a state, as a line of JSON. `dump` prints them and `load` reads them.
//!
//! ```text
//! {"operator":"count","state":"count","key":"rain","value":3}
//! {"operator":"last","state":"seen","key":"rain","list":[1,2,3]}
//! {"operator":"top","state":"by-city","key":"rain","map":[["Bergen",7],["Cork",5]]}
//! {"operator":"count","state":"count","key":{"hex":"ff00"},"value":"\u0003","version":1,"raw":true}
//! {"operator":"count","state":"count","key":"sun","value":9,"expired":true}
//! {"operator":"last","state":"seen","key":"fog","list":[1,2],"written-ms":[1795945146581,1795945146999]}
//! ```
//!
//! Keys are bytes: text if they are UTF-8, `{"hex": …}` otherwise. Values and sub-keys are JSON from the plugin or, in
//! a row with `raw`, bytes like keys. Only the version of the state that wrote raw values can read them, so such a row names it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use floodmark_engine::runtime::saved::Saved;

/// Bytes as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a key is a text, or {\"hex\":\"…\"} with hexadecimal digits"
)]
pub(crate) enum Bytes {
    /// Valid UTF-8.
    Text(String),
    /// Any other bytes.
    Hex {
        /// Two digits per byte.
        hex: String,
    },
}

impl Bytes {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Hex {
                hex: bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            },
        }
    }

    pub(super) fn into_bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_bytes()),
            Self::Hex { hex } => from_hex(&hex),
        }
    }
}

/// Parses hexadecimal digits.
pub(super) fn from_hex(hex: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| format!("`{hex}` is not an even number of hexadecimal digits"))
}

/// Any JSON text, kept as typed.
pub(super) type JsonText = Box<RawValue>;

/// A row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) operator: String,
    pub(super) state: String,
    pub(super) key: Bytes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<JsonText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) list: Option<Vec<JsonText>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) map: Option<Vec<(JsonText, JsonText)>>,
    /// The version of the state that wrote the values, if they are raw. Rows of earlier builds have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) raw: bool,
    /// Whether it, or something in it, had expired: such rows are not loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) expired: bool,
    /// When each value was written, in milliseconds since 1970, if values of the state expire: `load` keeps that.
    #[serde(rename = "written-ms", default, skip_serializing_if = "Vec::is_empty")]
    pub(super) written_ms: Vec<Option<u64>>,
}

/// The value of a key, each part as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shown {
    Value(String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
}

impl Row {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is not a row: why, and what a row is.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let wrong = |reason: &str| {
            format!(
                "{reason}; a row is a JSON object with `operator`, `state`, `key` and one of `value`, `list` and `map`, as `floodmark state dump` prints it"
            )
        };
        serde_json::from_str(line).map_err(|error| {
            if error.is_syntax() || error.is_eof() {
                return wrong(&format!("not JSON from column {} on", error.column()));
            }
            if !line.trim_start().starts_with('{') {
                return wrong("not a JSON object");
            }
            let text = error.to_string();
            let reason = text
                .rsplit_once(" at line ")
                .map_or(text.as_str(), |(reason, _)| reason);
            wrong(reason)
        })
    }
}

impl Shown {
    /// Takes the next texts, one for each value and sub-key of `saved`.
    pub(super) fn of(
        saved: &Saved,
        values: &mut impl Iterator<Item = String>,
        sub_keys: &mut impl Iterator<Item = String>,
    ) -> Self {
        match saved {
            Saved::Value(_) => Self::Value(values.next().unwrap_or_default()),
            Saved::List(items) => Self::List(values.take(items.len()).collect()),
            Saved::Map(entries) => Self::Map(sub_keys.zip(values).take(entries.len()).collect()),
        }
    }

    /// The row of this key; with `raw_version`, raw values of that version.
    pub(super) fn row(
        self,
        operator: &str,
        state: &str,
        key: &[u8],
        raw_version: Option<u32>,
    ) -> Row {
        let text = |text: String| {
            RawValue::from_string(text).expect("what is shown was checked to be JSON")
        };
        let mut row = Row {
            operator: operator.to_owned(),
            state: state.to_owned(),
            key: Bytes::of(key),
            value: None,
            list: None,
            map: None,
            version: raw_version,
            raw: raw_version.is_some(),
            expired: false,
            written_ms: Vec::new(),
        };
        match self {
            Self::Value(value) => row.value = Some(text(value)),
            Self::List(values) => row.list = Some(values.into_iter().map(text).collect()),
            Self::Map(entries) => {
                let entry = |(key, value): (String, String)| (text(key), text(value));
                row.map = Some(entries.into_iter().map(entry).collect());
            }
        }
        row
    }

    /// The value for people: on one line, or one line for each item or entry.
    pub(super) fn page(&self) -> String {
        match self {
            Self::Value(value) => format!("{value}\n"),
            Self::List(values) => values
                .iter()
                .enumerate()
                .map(|(at, value)| format!("{at}: {value}\n"))
                .collect(),
            Self::Map(entries) => entries
                .iter()
                .map(|(key, value)| format!("{key}: {value}\n"))
                .collect(),
        }
    }
}

/// Bytes for people: text, or hexadecimal digits after `0x`. Text that begins with `0x` is printed in digits, too, so that
/// the two are told apart.
pub(crate) fn readable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) && !text.starts_with("0x") => {
            text.to_owned()
        }
        _ => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}")
        }
    }
}

/// Bytes as JSON text.
pub(crate) fn json_of(bytes: &[u8]) -> String {
    let value = match Bytes::of(bytes) {
        Bytes::Text(text) => Value::String(text),
        Bytes::Hex { hex } => serde_json::json!({ "hex": hex }),
    };
    value.to_string()
}

#[cfg(test)]
mod tests {
    //! Catches bytes that do not survive a round trip, and rows that cannot be read as they were printed.

    use super::*;

    #[test]
    fn bytes_come_back() {
        for bytes in [&b""[..], b"rain", b"\xff\x00", "\u{1}\n\"å".as_bytes()] {
            let text = json_of(bytes);
            let read: Bytes = serde_json::from_str(&text).unwrap();
            assert_eq!(read.into_bytes().unwrap(), bytes, "{text}");
        }
        for wrong in ["f", "fg", "zz"] {
            assert!(from_hex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_and_digits_are_told_apart() {
        for (bytes, expected) in [
            (&b"rain"[..], "rain"),
            (&b"\xff"[..], "0xff"),
            (&b"0xff"[..], "0x30786666"),
            (&b"0x"[..], "0x3078"),
            (&b"10x"[..], "10x"),
        ] {
            assert_eq!(readable(bytes), expected);
        }
    }

    #[test]
    fn rows_read_as_they_print() {
        let shown = [
            Shown::Value("3".to_owned()),
            Shown::List(vec!["1".to_owned(), "\"two\"".to_owned()]),
            Shown::Map(vec![(
                "{\"hex\":\"ff\"}".to_owned(),
                "{\"a\":null}".to_owned(),
            )]),
        ];
        for (shown, version) in shown.into_iter().zip([None, Some(2), None]) {
            let printed = serde_json::to_string(&shown.row("o", "s", b"k", version)).unwrap();
            let read = Row::parse(&printed).unwrap();
            assert_eq!(read.version, version);
            assert_eq!(serde_json::to_string(&read).unwrap(), printed);
        }
    }

    #[test]
    fn what_is_no_row_is_refused_in_words() {
        for (line, expected) in [
            ("nope", "not JSON from column 2 on; a row is a JSON object"),
            ("{\"operator\":\"o\"", "not JSON from column 15 on; "),
            ("[1,2]", "not a JSON object; a row is"),
            ("{\"operator\":\"o\"}", "missing field `state`; a row is"),
            (
                "{\"operator\":\"o\",\"state\":\"s\",\"key\":3,\"value\":1}",
                "a key is a text, or {\"hex\":\"…\"} with hexadecimal digits; a row is",
            ),
        ] {
            let error = Row::parse(line).unwrap_err();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }
}
