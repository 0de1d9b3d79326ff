//! Reads records that are lines: `lines`, `jsonl` and `dead-letters`.
//!
//! A line of `lines` is copied from the window to the batch. A line of `jsonl` is checked as a whole and passed on
//! unchanged; only its key and event time are extracted.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;
use serde::de::IgnoredAny;

use super::split::{At, FileSplit};
use super::window::{CursorLine, Window};
use super::{RecordFields, SourceFormat};
use crate::connector::letter::Letter;
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{ConnectorError, ReadLimits, field};
use floodmark_state::stream::{Batch, NO_TIMESTAMP};

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
    split.position = window.position();
    if split.is_read() || split.at == At::Anywhere {
        return Ok(true);
    }
    if split.position == 0 {
        // The first line starts at the mark: so it belongs to this range, however short that is.
        window.pass_mark()?;
    }
    loop {
        let (line, is_whole) = match window.line()? {
            CursorLine::Whole(line) => (without_return(window, line), true),
            CursorLine::Tail(line) if takes_tail => {
                window.pass(line.len());
                (line, false)
            }
            CursorLine::Tail(_) => return Ok(true),
            CursorLine::End => {
                split.position = window.position();
                return Ok(true);
            }
        };
        let ends_unfinished = split.at == At::Unfinished && is_whole && line.is_empty();
        split.at = if is_whole { At::Record } else { At::Unfinished };
        if !ends_unfinished {
            add(fields, window, line, split.position, batch)?;
        }
        split.position = window.position();
        if limits.are_reached(batch) {
            return Ok(false);
        }
        if split.is_read() {
            return Ok(true);
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
        SourceFormat::Jsonl => return add_json(fields, line, batch).map_err(malformed),
        SourceFormat::DeadLetters => return add_letter(line, batch).map_err(malformed),
        SourceFormat::Lines | SourceFormat::Csv => {}
    }
    let timestamp = match &fields.line_time {
        None => NO_TIMESTAMP,
        Some(format) => format.find(line).map_err(malformed)?,
    };
    let Some(separator) = &fields.key_separator else {
        batch.push(b"", line, timestamp);
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
    batch.push(&line[..at], &line[at + separator.len()..], timestamp);
    Ok(())
}

fn add_json(fields: &RecordFields, line: &[u8], batch: &mut Batch) -> Result<(), String> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let text = std::str::from_utf8(line).map_err(|error| field::not_json(&error))?;
    if fields.key.is_empty() && fields.timestamp.is_none() {
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| field::not_json(&error))?;
    }
    let timestamp = match &fields.timestamp {
        None => NO_TIMESTAMP,
        Some(time) => time.parse(time.field.value(text)?.as_bytes())?,
    };
    let key = field::key(&fields.key, text)?;
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
