//! Records that a source cannot read or a sink cannot write, with what a user needs to find and correct them.
//!
//! A connector only describes such a record and stands behind it: whether it fails the job, is skipped or becomes a dead
//! letter is the pipeline's decision. Texts about a record quote little of it, since a record may be long; its bytes go
//! into the letter, up to a limit.

use std::sync::Arc;

/// Longest quotation from the input in a message, in bytes.
const QUOTED_BYTES_MAX: usize = 200;

/// A part of the input that is not a record in the configured format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The part of the source, such as the name of a file, as in the origin of records.
    pub split: Arc<str>,
    /// The positions from its start to its end.
    pub span: (u64, u64),
    /// The place for people: the file, the line and the byte.
    pub place: String,
    /// What is wrong and what to do.
    pub reason: String,
    /// What there is of it for a dead letter.
    pub content: BadContent,
}

/// The bytes of a bad record, and what is needed to parse them again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BadContent {
    /// Its bytes: all of them, or the first [`BadContent::BYTES_MAX`].
    pub bytes: Vec<u8>,
    /// The number of its bytes, if `bytes` has only the first.
    pub bytes_in_all: Option<u64>,
    /// The names of its columns, if the bytes do not say them.
    pub columns: Vec<String>,
    /// Whether it is not one record, but the rest of a file.
    pub is_file: bool,
}

impl BadContent {
    /// Bytes of a record that a dead letter keeps.
    pub const BYTES_MAX: usize = 16 << 20;

    /// The content of a record of `len` bytes, given all of them or at least those to keep.
    #[must_use]
    pub fn of(bytes: &[u8], len: u64, columns: Vec<String>) -> Self {
        let bytes = &bytes[..bytes.len().min(Self::BYTES_MAX)];
        Self {
            bytes: bytes.to_vec(),
            bytes_in_all: (len > bytes.len() as u64).then_some(len),
            columns,
            is_file: false,
        }
    }
}

/// A record of a batch that a sink cannot write in its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnwritableRecord {
    /// Its index in the batch.
    pub record: usize,
    /// Why, and what to do, as the end of a sentence that begins with the record.
    pub reason: String,
}

/// The beginning of a text from the input, for a message.
pub(super) fn quoted(text: &str) -> String {
    if text.len() <= QUOTED_BYTES_MAX {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(QUOTED_BYTES_MAX);
    format!("{}…", &text[..end])
}

/// What is wrong with a JSON text. In its first line only the column is named: the text may be a later line of a file.
pub(super) fn json_reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line 1 column {}", error.column());
    match text.strip_suffix(&place) {
        Some(reason) => format!("{reason} at column {}", error.column()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    //! Catches messages as long as the record that they are about, a place in a line that looks like one in the file,
    //! letters that lose bytes without saying so, and failures that are tried again in vain.

    use std::path::{Path, PathBuf};

    use super::*;
    use crate::connector::ConnectorError;

    #[test]
    fn quotations_are_short_and_whole_characters() {
        assert_eq!(quoted("short"), "short");
        let long = quoted(&"é".repeat(5000));
        assert_eq!(long.len(), QUOTED_BYTES_MAX + "…".len());
        let odd = quoted(&format!("a{}", "é".repeat(5000)));
        assert_eq!(odd.len(), QUOTED_BYTES_MAX - 1 + "…".len());
    }

    #[test]
    fn json_is_wrong_at_a_column() {
        let error = serde_json::from_str::<serde_json::Value>("{\"a\":}").unwrap_err();
        assert_eq!(json_reason(&error), "expected value at column 6");
        let later = serde_json::from_str::<serde_json::Value>("[\n1,}").unwrap_err();
        assert_eq!(json_reason(&later), "expected value at line 2 column 3");
    }

    #[test]
    fn only_what_the_system_refuses_is_tried_again() {
        let io = |kind: std::io::ErrorKind| {
            ConnectorError::io("read", Path::new("f"))(kind.into()).passes_by_retrying()
        };
        assert!(io(std::io::ErrorKind::TimedOut));
        assert!(!io(std::io::ErrorKind::BrokenPipe));
        let path = PathBuf::from("f");
        let shrank = ConnectorError::InputShrank {
            path,
            len: 1,
            position: 2,
        };
        assert!(!shrank.passes_by_retrying());
    }

    #[test]
    fn what_is_cut_off_is_told() {
        let whole = BadContent::of(b"abc", 3, Vec::new());
        assert_eq!((&whole.bytes[..], whole.bytes_in_all), (&b"abc"[..], None));
        let cut = BadContent::of(b"abc", 4, Vec::new());
        assert_eq!(cut.bytes_in_all, Some(4));
        let long = BadContent::of(&vec![7; BadContent::BYTES_MAX + 1], 1 << 40, Vec::new());
        assert_eq!(long.bytes.len(), BadContent::BYTES_MAX);
        assert_eq!(long.bytes_in_all, Some(1 << 40));
    }
}
