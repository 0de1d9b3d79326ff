//! Reads records that are lines: `lines`, `jsonl` and `dead-letters`.
//!
//! A line of `lines` is copied from the window to the batch. A line of `jsonl` is checked as a whole and passed on
//! unchanged; only its key and event time are extracted.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::split::{At, FileSplit};
use super::window::{CursorLine, Window};
use super::{RecordFields, SourceFormat};
use crate::connector::letter::Letter;
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{ConnectorError, ReadLimits, rfc3339};
use floodmark_state::stream::{Batch, NO_TIMESTAMP, Timestamp};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Opens the window where the records of a split begin.
pub(super) fn open(
    split: &mut FileSplit,
    limit: u64,
    ahead: Option<&Arc<dyn ReadAhead>>,
) -> Result<Window, ConnectorError> {
    if split.at != At::Anywhere {
        return Window::open(split, split.position, limit, ahead);
    }
    // A record starts here if the byte before is a newline.
    let mut window = Window::open(split, split.position - 1, limit, ahead)?;
    if window.skip_line()? {
        split.at = At::Record;
    }
    split.position = window.position();
    Ok(window)
}

/// Adds lines until the batch is full; returns `true` if there are no more in the range for now. The position is valid
/// only after success.
pub(super) fn read(
    fields: &RecordFields,
    window: &mut Window,
    split: &mut FileSplit,
    takes_tail: bool,
    limits: ReadLimits,
    batch: &mut Batch,
) -> Result<bool, ConnectorError> {
    loop {
        split.position = window.position();
        if split.is_read() || split.at == At::Anywhere {
            return Ok(true);
        }
        let (line, is_whole) = match window.line()? {
            CursorLine::Whole(line) => (without_return(window, line), true),
            CursorLine::Tail(line) if takes_tail => {
                window.pass(line.len());
                (line, false)
            }
            CursorLine::Tail(_) | CursorLine::End => return Ok(true),
        };
        let ends_unfinished = split.at == At::Unfinished && is_whole && line.is_empty();
        split.at = if is_whole { At::Record } else { At::Unfinished };
        if !ends_unfinished {
            add(fields, window, line, split.position, batch)?;
        }
        if limits.are_reached(batch) {
            split.position = window.position();
            return Ok(false);
        }
    }
}

fn without_return(window: &Window, line: Range<usize>) -> Range<usize> {
    let has_return = window.bytes(line.clone()).ends_with(b"\r");
    line.start..line.end - usize::from(has_return)
}

#[inline]
fn add(
    fields: &RecordFields,
    window: &Window,
    line: Range<usize>,
    offset: u64,
    batch: &mut Batch,
) -> Result<(), ConnectorError> {
    let line = window.bytes(line);
    let malformed = |reason| window.malformed(offset, reason);
    match fields.format {
        SourceFormat::Jsonl => return add_json(fields, line, offset, batch).map_err(malformed),
        SourceFormat::DeadLetters => return add_letter(line, batch).map_err(malformed),
        SourceFormat::Lines | SourceFormat::Csv => {}
    }
    let Some(separator) = &fields.key_separator else {
        batch.push(b"", line, NO_TIMESTAMP);
        return Ok(());
    };
    let found = match separator[..] {
        [byte] => memchr::memchr(byte, line),
        _ => memmem::find(line, separator),
    };
    let Some(at) = found else {
        return Err(window.malformed(
            offset,
            format!(
                "the line has no `{}`; correct it, or leave out `key-separator`",
                separator.escape_ascii()
            ),
        ));
    };
    batch.push(&line[..at], &line[at + separator.len()..], NO_TIMESTAMP);
    Ok(())
}

fn add_json(
    fields: &RecordFields,
    line: &[u8],
    offset: u64,
    batch: &mut Batch,
) -> Result<(), String> {
    let line = match offset {
        0 => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
        _ => line,
    };
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let refuse = |error: &dyn fmt::Display| {
        format!("the line is not valid JSON ({error}); correct it, or set `format = \"lines\"`")
    };
    let text = std::str::from_utf8(line).map_err(|error| refuse(&error))?;
    if fields.key.is_none() && fields.timestamp.is_none() {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| refuse(&error))?;
    }
    let scalar = |path: &Option<String>| match path {
        None => Ok(None),
        Some(path) => match field(text, path).map_err(|error| refuse(&error))? {
            Some(value) => scalar_of(value, path).map(Some),
            None => Err(format!("there is no field `{path}`")),
        },
    };
    let timestamp = match scalar(&fields.timestamp)? {
        None => NO_TIMESTAMP,
        Some(time) => timestamp_of(time.as_bytes())?,
    };
    let key = scalar(&fields.key)?.unwrap_or_default();
    batch.push(key.as_bytes(), line, timestamp);
    Ok(())
}

/// Adds the record that a dead letter is about.
fn add_letter(line: &[u8], batch: &mut Batch) -> Result<(), String> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let refuse = |error: &dyn fmt::Display| {
        format!("{error}; correct or remove the line, or set another `format`")
    };
    let text = std::str::from_utf8(line).map_err(|error| refuse(&error))?;
    let letter = Letter::from_json(text).map_err(|error| refuse(&error))?;
    batch.push(&letter.key, &letter.value, letter.timestamp);
    Ok(())
}

/// The event time in the text of a field.
pub(super) fn timestamp_of(text: &[u8]) -> Result<Timestamp, String> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|&time| time != NO_TIMESTAMP);
    number.or_else(|| rfc3339::parse(text)).ok_or_else(|| {
        format!(
            "`{}` is not an event time; write milliseconds since 1970 as an integer, or RFC 3339",
            text[..text.len().min(64)].escape_ascii()
        )
    })
}

fn scalar_of<'a>(value: &'a str, path: &str) -> Result<Cow<'a, str>, String> {
    match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Name>(value)
            .map(|text| text.0)
            .map_err(|error| format!("field `{path}` cannot be read: {error}")),
        Some(b'{' | b'[') => Err(format!(
            "field `{path}` is an object or an array; name a text, a number, or a field inside"
        )),
        _ => Ok(Cow::Borrowed(value)),
    }
}

/// The JSON text of the field that a path such as `user.id` names. If a name appears several times, the last one
/// counts. Checks the whole text.
fn field<'a>(text: &'a str, path: &str) -> Result<Option<&'a str>, serde_json::Error> {
    let mut inner: &RawValue = serde_json::from_str(text)?;
    for name in path.split('.') {
        if !inner.get().starts_with('{') {
            return Ok(None);
        }
        let mut object = serde_json::Deserializer::from_str(inner.get());
        match object.deserialize_map(Member { name })? {
            Some(found) => inner = found,
            None => return Ok(None),
        }
    }
    Ok(Some(inner.get()))
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Picks one member of an object.
struct Member<'a> {
    name: &'a str,
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Name>()? {
            if name.0 == self.name {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
