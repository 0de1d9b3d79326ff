//! Bytes of a file that are not a record, and how a reader tells of them.
//!
//! A parser only says why it refuses bytes, and where they start and end. The line is counted when the message is made, so
//! that records which can be read cost nothing.

use std::io::ErrorKind;
use std::sync::Arc;

use super::place::{CountedInput, LineCounter};
use super::split::FileSplit;
use crate::connector::letter::Letter;
use crate::connector::{BadContent, BadRecord, ConnectorError};

/// Stands in the position of a letter between the place of now and the first one.
const FIRST_PLACE: &str = "; originally ";

/// Why a reader stopped before its limit.
pub(super) enum ReadStop {
    /// It stands behind bytes that are not a record.
    Refused(Box<RefusedBytes>),
    /// It cannot read.
    Failed(ConnectorError),
}

impl From<ConnectorError> for ReadStop {
    fn from(error: ConnectorError) -> Self {
        Self::Failed(error)
    }
}

/// Bytes that are not a record.
pub(super) struct RefusedBytes {
    pub(super) place: RefusedPlace,
    /// The positions of their start and end.
    pub(super) span: (u64, u64),
    pub(super) reason: String,
    pub(super) content: BadContent,
    /// The position in the letter that they come from, if they come from one.
    pub(super) letter: Option<String>,
}

/// What a message says of the place of refused bytes, behind the name of the file.
pub(super) enum RefusedPlace {
    /// The line at their start.
    Line(CountedInput),
    /// A byte in the content of a compressed file.
    Content(u64),
    /// Nothing: it is the file as a whole.
    File,
}

/// Why some bytes are not a record.
pub(super) enum RecordRefusal {
    /// The reason, for the user.
    Bytes(String),
    /// They are a letter, and the record in it cannot be read for this reason.
    Letter(Box<Letter>, String),
}

impl From<String> for RecordRefusal {
    fn from(reason: String) -> Self {
        Self::Bytes(reason)
    }
}

impl RecordRefusal {
    /// The reason alone.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Bytes(reason) | Self::Letter(_, reason) => reason,
        }
    }

    /// The refusal of a line with these bytes.
    #[cold]
    pub(super) fn of_line(self, input: CountedInput, span: (u64, u64), line: &[u8]) -> ReadStop {
        let (reason, content, letter) = match self {
            Self::Bytes(reason) => {
                let content = BadContent::of(line, line.len() as u64, Vec::new());
                (reason, content, None)
            }
            // The new letter has the record, not the old letter.
            Self::Letter(letter, reason) => {
                let content = BadContent {
                    bytes: letter.value,
                    bytes_in_all: letter.bytes_in_all,
                    columns: letter.columns,
                    is_file: false,
                };
                (reason, content, Some(letter.position))
            }
        };
        ReadStop::Refused(Box::new(RefusedBytes {
            place: RefusedPlace::Line(input),
            span,
            reason,
            content,
            letter,
        }))
    }
}

impl RefusedBytes {
    /// The refusal of the rest of a file, between these positions.
    pub(super) fn of_file(place: RefusedPlace, span: (u64, u64), reason: String) -> Self {
        Self {
            place,
            span,
            reason,
            content: BadContent {
                is_file: true,
                ..BadContent::default()
            },
            letter: None,
        }
    }

    /// The bad record for the rest of the engine, in the file with this label.
    pub(super) fn into_bad_record(self, label: &Arc<str>, lines: &mut LineCounter) -> BadRecord {
        let mut place = label.to_string();
        match &self.place {
            RefusedPlace::Line(input) => {
                place += &format!(", {}", lines.of_line(input, self.span.0));
            }
            RefusedPlace::Content(byte) => place += &format!(", byte {byte} of its content"),
            RefusedPlace::File => {}
        }
        if let Some(letter) = self.letter {
            let first = letter.rsplit(FIRST_PLACE).next().unwrap_or_default();
            place += FIRST_PLACE;
            place += first;
        }
        BadRecord {
            split: Arc::clone(label),
            span: self.span,
            place,
            reason: self.reason,
            content: self.content,
        }
    }
}

/// The refusal of a file as a whole: it is damaged, or this user may not read it. `None` if nothing in it would be missing.
///
/// # Errors
/// When it is not the file that is wrong. Input that is missing or was changed is the whole job's matter.
pub(super) fn whole_file(
    split: &FileSplit,
    error: ConnectorError,
) -> Result<Option<RefusedBytes>, ConnectorError> {
    let from = split.position;
    let (place, to, reason) = match error {
        ConnectorError::Compressed { path, byte, reason } if path == split.path => {
            (RefusedPlace::Content(byte), from.max(byte), reason)
        }
        ConnectorError::Io { path, source, .. }
            if path == split.path && source.kind() == ErrorKind::PermissionDenied =>
        {
            let has_more = match split.compressed {
                Some(_) => split.len > 0 && !split.is_whole(),
                None => from < split.len,
            };
            if !has_more {
                return Ok(None);
            }
            let reason = format!(
                "it cannot be opened ({source}); allow this user to read it, or leave it out of `path`"
            );
            (RefusedPlace::File, from.max(split.len), reason)
        }
        error => return Err(error),
    };
    Ok(Some(RefusedBytes::of_file(place, (from, to), reason)))
}
