//! Reads records that are lines: `lines`, `jsonl` and `dead-letters`.
//!
//! A line of `lines` is copied from the window to the batch. A line of `jsonl` is checked as a whole and passed on
//! unchanged; only its key and event time are extracted.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;
use serde::de::IgnoredAny;

use super::place::LineEnd;
use super::refused::{ReadStop, RecordRefusal, RefusedBytes, RefusedPlace};
use super::split::{At, FileSplit};
use super::window::{CursorLine, Window};
use super::{RecordFields, SourceFormat, row};
use crate::connector::bad_record::json_reason;
use crate::connector::letter::Letter;
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{BadContent, ConnectorError, ReadLimits, field};
use floodmark_state::stream::{Batch, NO_TIMESTAMP};

/// Opens the window where the records of a split begin, in its file.
pub(super) fn open(
    file: &Arc<File>,
    split: &mut FileSplit,
    limit: u64,
    ahead: Option<&Arc<dyn ReadAhead>>,
) -> Result<Window, ConnectorError> {
    if split.at != At::Anywhere || split.compressed.is_some() {
        return Window::resume(file, split, limit, ahead);
    }
    // A record starts here if the byte before is a newline.
    let mut window = Window::open(file, split, split.position - 1, limit, ahead)?;
    if window.skip_line()? {
        split.at = At::Record;
    }
    split.position = window.position();
    Ok(window)
}

/// Adds lines until the batch is full; returns `true` if there are no more in the range for now. The position is not valid
/// after a failure; after a refused line it is behind that.
pub(super) fn read(
    fields: &RecordFields,
    window: &mut Window,
    split: &mut FileSplit,
    takes_tail: bool,
    limits: ReadLimits,
    batch: &mut Batch,
) -> Result<bool, ReadStop> {
    split.position = window.position();
    if split.at == At::Anywhere && window.has_content() {
        // The rest of a line that was too long.
        let is_passed = window.skip_line()?;
        split.position = window.position();
        if is_passed {
            split.at = At::Record;
        }
    }
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
            CursorLine::TooLong => return Err(too_long(window, split)?),
        };
        let ends_unfinished = split.at == At::Unfinished && is_whole && line.is_empty();
        split.at = if is_whole { At::Record } else { At::Unfinished };
        let start = std::mem::replace(&mut split.position, window.position());
        if !ends_unfinished {
            let line = window.bytes(line);
            if let Err(refusal) = add(fields, line, batch) {
                let span = (start, split.position);
                return Err(refusal.of_line(window.counted(LineEnd::Newline), span, line));
            }
        }
        if limits.are_reached(batch) {
            return Ok(false);
        }
        if split.is_read() {
            return Ok(true);
        }
    }
}

/// Passes a line that is too long for a record, also if its end is still to come.
#[cold]
fn too_long(window: &mut Window, split: &mut FileSplit) -> Result<ReadStop, ConnectorError> {
    let start = split.position;
    let kept = window.rest().len().min(BadContent::BYTES_MAX);
    let bytes = window.rest()[..kept].to_vec();
    split.at = match window.skip_line()? {
        true => At::Record,
        false => At::Anywhere,
    };
    split.position = window.position();
    Ok(ReadStop::Refused(Box::new(RefusedBytes {
        place: RefusedPlace::Line(window.counted(LineEnd::Newline)),
        span: (start, split.position),
        reason: "the line is longer than 1 GiB; break it into several".to_owned(),
        content: BadContent::of(&bytes, split.position - start, Vec::new()),
        letter: None,
    })))
}

fn without_return(window: &Window, line: Range<usize>) -> Range<usize> {
    let has_return = window.bytes(line.clone()).ends_with(b"\r");
    line.start..line.end - usize::from(has_return)
}

/// Adds the record of a line.
///
/// # Errors
/// When there is none; nothing was added.
#[inline]
fn add(fields: &RecordFields, line: &[u8], batch: &mut Batch) -> Result<(), RecordRefusal> {
    match fields.format {
        SourceFormat::Jsonl => return add_json(fields, line, batch).map_err(RecordRefusal::Bytes),
        SourceFormat::DeadLetters => return add_letter(fields, line, batch),
        SourceFormat::Lines | SourceFormat::Csv => {}
    }
    let timestamp = match &fields.line_time {
        None => NO_TIMESTAMP,
        Some(format) => format.find(line)?,
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
        return Err(RecordRefusal::Bytes(format!(
            "the line has no `{}`; correct it, or leave out `key-separator`",
            separator.escape_ascii()
        )));
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
        let checked = serde_json::from_str::<IgnoredAny>(text);
        checked.map_err(|error| field::not_json(&json_reason(&error)))?;
    }
    let timestamp = match &fields.timestamp {
        None => NO_TIMESTAMP,
        Some(time) => time.parse(time.field.value(text)?.as_bytes())?,
    };
    let key = field::key(&fields.key, text)?;
    batch.push(key.as_bytes(), line, timestamp);
    Ok(())
}

/// Refuses a letter that has no record, or not all of it.
fn refuse_part(letter: &Letter) -> Result<(), String> {
    if letter.is_of_file() {
        return Err(
            "the letter is about a whole file, so there is no record in it; correct the file, and add it to the input under another name"
                .to_owned(),
        );
    }
    match letter.bytes_in_all {
        None => Ok(()),
        Some(all) => Err(format!(
            "the letter has only the first {} of its {all} bytes; correct the record in its file, and add the file to the input under another name",
            letter.value.len()
        )),
    }
}

/// Adds the record that a dead letter is about; one of a source is parsed once more.
fn add_letter(fields: &RecordFields, line: &[u8], batch: &mut Batch) -> Result<(), RecordRefusal> {
    if line.trim_ascii().is_empty() {
        return Ok(());
    }
    let refuse = |error: &dyn fmt::Display| {
        format!("{error}; correct or remove the line, or set another `format`")
    };
    let text = std::str::from_utf8(line).map_err(|error| refuse(&error))?;
    let letter = Letter::from_json(text).map_err(|error| refuse(&error))?;
    let Some(fields) = &fields.of_letters else {
        refuse_part(&letter)?;
        batch.push(&letter.key, &letter.value, letter.timestamp);
        return Ok(());
    };
    let added = refuse_part(&letter).and_then(|()| match fields.format {
        SourceFormat::Csv => row::add_row(fields, &letter.columns, &letter.value, batch),
        _ => add(fields, &letter.value, batch).map_err(RecordRefusal::into_reason),
    });
    added.map_err(|reason| RecordRefusal::Letter(Box::new(letter), reason))
}
