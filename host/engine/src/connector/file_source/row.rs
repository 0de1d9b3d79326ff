//! Reads records that are CSV rows, converted to JSON objects with the columns in order.
//!
//! Rows have any length and may contain newlines in quotes, so a file is one split and is parsed from its header on.
//! The position between rows is enough to resume: a new parser starts there. Empty lines are skipped.
//!
//! A row that is refused ends where the parser has found its end. If a quote is missing, that is the end of the file, or a
//! quote of a later row: then only the first line of the row is refused, and reading continues with the next line. If the
//! header is refused, so is the whole file.

use std::fs::File;
use std::sync::Arc;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::place::LineEnd;
use super::quotes::QuoteCheck;
use super::refused::{ReadStop, RefusedBytes, RefusedPlace};
use super::row_header::{RowHeader, names_of, refuse_output};
use super::split::{At, FileSplit};
use super::window::{CursorLine, RECORD_BYTES_MAX, Window};
use super::{ColumnNames, RecordFields};
use crate::connector::read_ahead::ReadAhead;
use crate::connector::record_format::BYTE_ORDER_MARK;
use crate::connector::{BadContent, ConnectorError, ReadLimits};
use floodmark_state::stream::Batch;

/// Why a row is refused whose last quote is missing.
const NEVER_ENDS: &str = "the row starts a quoted field that never ends; add the missing quote";

/// Why a row is refused in which a quoted field does not end at its closing quote.
const STRAY: &str = "a quoted field of the row has text behind its closing quote; correct the row, and write a quote within such a field twice";

/// Reads the rows of one file.
///
/// - Without a header, only the start of the file was read.
pub(super) struct RowReader {
    window: Window,
    parser: Reader,
    quotes: QuoteCheck,
    row: SourceRow,
    header: Option<RowHeader>,
    json: Vec<u8>,
    /// Why the row at the cursor does not end, if it was found not to.
    endless: Option<&'static str>,
}

/// The fields of a row, end to end.
#[derive(Default)]
pub(super) struct SourceRow {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    bytes_len: usize,
    ends_len: usize,
}

enum Parsed {
    Row,
    /// There are no more rows.
    End,
    /// There are no more whole rows, in a file that may grow.
    Unfinished,
    /// The row does not end where it should. The parser must not be used again.
    Endless(&'static str),
}

impl RowReader {
    /// Parses from the cursor on, without a header.
    fn at(window: Window, fields: &RecordFields) -> Self {
        Self {
            window,
            parser: parser(fields),
            quotes: QuoteCheck::new(fields.layout, true),
            row: SourceRow::default(),
            header: None,
            json: Vec::new(),
            endless: None,
        }
    }

    /// Opens a file and reads its header, if it has one. The header may be incomplete in a file that grows.
    pub(super) fn open(
        fields: &RecordFields,
        file: &Arc<File>,
        split: &mut FileSplit,
        limit: u64,
        takes_tail: bool,
        ahead: Option<&Arc<dyn ReadAhead>>,
    ) -> Result<Self, ReadStop> {
        let mut reader = Self::at(Window::open(file, split, 0, limit, ahead)?, fields);
        let header = match &fields.columns {
            ColumnNames::Listed(names) => RowHeader::new(fields, names),
            ColumnNames::FirstRow | ColumnNames::StatedFirstRow => {
                match reader.parse(takes_tail)? {
                    Parsed::Row => {
                        let names = names_of(&reader.row);
                        refuse_output(fields, split, names.as_deref().unwrap_or_default())
                            .and(names)
                            .and_then(|names| RowHeader::new(fields, &names))
                    }
                    Parsed::Endless(reason) => Err(reason.to_owned()),
                    Parsed::End | Parsed::Unfinished => return Ok(reader),
                }
            }
        };
        match header {
            Ok(header) => reader.header = Some(header),
            Err(reason) => return Err(reader.refused_header(0, reason)?),
        }
        if split.position == 0 {
            split.position = reader.window.position();
        } else {
            reader.window = Window::resume(file, split, limit, ahead)?;
            reader.begin_between_rows(fields);
        }
        Ok(reader)
    }

    /// Reads rows that come as a stream. Without names of columns, the first row has them.
    pub(super) fn of_stream(
        window: Window,
        fields: &RecordFields,
        names: Option<Vec<String>>,
    ) -> Result<Self, ReadStop> {
        let mut reader = Self::at(window, fields);
        let names = match &fields.columns {
            ColumnNames::Listed(names) => Some(names.clone()),
            ColumnNames::FirstRow | ColumnNames::StatedFirstRow => names,
        };
        if let Some(names) = names {
            match RowHeader::new(fields, &names) {
                Ok(header) => reader.header = Some(header),
                Err(reason) => {
                    let position = reader.window.position();
                    return Err(reader.refused_header(position, reason)?);
                }
            }
        }
        Ok(reader)
    }

    /// Reads the names of columns from a stream, if they are not known; returns them.
    pub(super) fn read_names(
        &mut self,
        fields: &RecordFields,
        split: &mut FileSplit,
        takes_tail: bool,
    ) -> Result<Option<Vec<String>>, ReadStop> {
        if self.header.is_some() {
            return Ok(None);
        }
        let read = match self.parse(takes_tail)? {
            Parsed::Row => {
                names_of(&self.row).and_then(|names| Ok((RowHeader::new(fields, &names)?, names)))
            }
            Parsed::Endless(reason) => Err(reason.to_owned()),
            Parsed::End | Parsed::Unfinished => return Ok(None),
        };
        let start = std::mem::replace(&mut split.position, self.window.position());
        match read {
            Ok((header, names)) => {
                self.header = Some(header);
                Ok(Some(names))
            }
            Err(reason) => Err(self.refused_header(start, reason)?),
        }
    }

    /// Parses again from the start of a row, of which there may be more now.
    pub(super) fn go_back(&mut self, fields: &RecordFields, position: u64, is_start: bool) {
        self.window.go_to(position);
        match is_start {
            true => {
                self.parser = parser(fields);
                self.quotes = QuoteCheck::new(fields.layout, true);
            }
            false => self.begin_between_rows(fields),
        }
    }

    /// Parses from the cursor on, which is not at the start of the input.
    fn begin_between_rows(&mut self, fields: &RecordFields) {
        self.parser = parser_of_rows(fields);
        self.quotes = QuoteCheck::new(fields.layout, false);
    }

    /// As [`Window::catch_up`].
    pub(super) fn catch_up(&mut self) -> Result<bool, ConnectorError> {
        self.window.catch_up()
    }

    /// Adds rows until the batch is full; returns `true` if there are no more for now. The position is not valid after a
    /// failure; after a refused row it is behind that.
    pub(super) fn read(
        &mut self,
        fields: &RecordFields,
        split: &mut FileSplit,
        takes_tail: bool,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<bool, ReadStop> {
        let Some(header) = self.header.take() else {
            return Ok(true);
        };
        let read = self.read_rows((fields, &header), split, takes_tail, limits, batch);
        self.header = Some(header);
        if takes_tail {
            split.at = match self.window.taken().last() {
                None | Some(b'\n' | b'\r') => At::Record,
                // The last row had no newline, and was read before it may have been complete.
                Some(_) => At::Unfinished,
            };
        }
        read
    }

    fn read_rows(
        &mut self,
        (fields, header): (&RecordFields, &RowHeader),
        split: &mut FileSplit,
        takes_tail: bool,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<bool, ReadStop> {
        if let Some(reason) = self.endless.take() {
            return Err(self.refused_line(header, split, reason)?);
        }
        loop {
            match self.parse(takes_tail)? {
                Parsed::Row => {}
                // The start of a row is read again when there is more.
                Parsed::Unfinished => return Ok(true),
                Parsed::End => {
                    split.position = self.window.position();
                    return Ok(true);
                }
                Parsed::Endless(reason) => {
                    return self.return_to_row((fields, header), split, reason);
                }
            }
            let start = std::mem::replace(&mut split.position, self.window.position());
            if let Err(reason) = header.add(&self.row, &mut self.json, batch) {
                return Err(self.refused((start, split.position), &header.names, reason)?);
            }
            if limits.are_reached(batch) {
                return Ok(false);
            }
        }
    }

    /// Refuses the row between these positions.
    #[cold]
    fn refused(
        &self,
        (from, to): (u64, u64),
        columns: &[String],
        reason: String,
    ) -> Result<ReadStop, ConnectorError> {
        let (start, bytes) = self.window.row_bytes((from, to))?;
        let mut row = bytes.as_slice();
        // What is cut off does not end with the row.
        let is_whole = bytes.len() as u64 == to - start;
        if is_whole {
            row = row.strip_suffix(b"\n").unwrap_or(row);
            row = row.strip_suffix(b"\r").unwrap_or(row);
        }
        row = self.without_mark(start, row);
        let len = match is_whole {
            true => row.len() as u64,
            false => to - start,
        };
        let content = BadContent::of(row, len, columns.to_vec());
        Ok(self.stop((start, to), reason, content))
    }

    /// Refuses the whole file, of which the header was read from this position on.
    #[cold]
    fn refused_header(&self, from: u64, reason: String) -> Result<ReadStop, ConnectorError> {
        let stop = self.refused((from, self.window.position()), &[], reason)?;
        Ok(match stop {
            ReadStop::Refused(mut refused) => {
                refused.content.is_file = true;
                ReadStop::Refused(refused)
            }
            failed @ ReadStop::Failed(_) => failed,
        })
    }

    /// Returns to the start of a row that does not end, of which only the first line is refused: by the next call, since
    /// content must be skipped first. What is not kept of a stream is refused with the row.
    #[cold]
    fn return_to_row(
        &mut self,
        (fields, header): (&RecordFields, &RowHeader),
        split: &mut FileSplit,
        reason: &'static str,
    ) -> Result<bool, ReadStop> {
        let end = self.window.position();
        self.begin_between_rows(fields);
        if self.window.go_back(split)? {
            self.endless = Some(reason);
            return Ok(false);
        }
        let start = std::mem::replace(&mut split.position, end);
        Err(self.refused((start, end), &header.names, reason.to_owned())?)
    }

    /// Refuses the first line of the row at the cursor, and continues behind it.
    #[cold]
    fn refused_line(
        &mut self,
        header: &RowHeader,
        split: &mut FileSplit,
        reason: &str,
    ) -> Result<ReadStop, ConnectorError> {
        self.window.pass_line_ends()?;
        let start = self.window.position();
        let mut is_whole = true;
        let line = match self.window.line()? {
            CursorLine::Whole(line) => self.window.bytes(line).to_vec(),
            CursorLine::Tail(line) => {
                let bytes = self.window.bytes(line).to_vec();
                self.window.pass(bytes.len());
                bytes
            }
            CursorLine::TooLong => {
                let kept = self.window.rest().len().min(BadContent::BYTES_MAX);
                let bytes = self.window.rest()[..kept].to_vec();
                self.window.skip_line()?;
                is_whole = false;
                bytes
            }
            CursorLine::End => Vec::new(),
        };
        split.position = self.window.position();
        let row = line.strip_suffix(b"\r").unwrap_or(&line);
        let row = self.without_mark(start, row);
        let len = match is_whole {
            true => row.len() as u64,
            false => split.position - start,
        };
        let content = BadContent::of(row, len, header.names.clone());
        Ok(self.stop((start, split.position), reason.to_owned(), content))
    }

    /// The bytes of a row that starts at this position, without a byte order mark at the start of the input.
    fn without_mark<'a>(&self, start: u64, row: &'a [u8]) -> &'a [u8] {
        match self.window.starts_at(start) {
            true => row.strip_prefix(BYTE_ORDER_MARK).unwrap_or(row),
            false => row,
        }
    }

    fn stop(&self, span: (u64, u64), reason: String, content: BadContent) -> ReadStop {
        ReadStop::Refused(Box::new(RefusedBytes {
            place: RefusedPlace::Line(self.window.counted(LineEnd::NewlineOrReturn)),
            span,
            reason,
            content,
            letter: None,
        }))
    }

    /// The window of its file.
    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    fn parse(&mut self, takes_tail: bool) -> Result<Parsed, ConnectorError> {
        let start = self.window.position();
        let mut is_stray = false;
        self.row.clear();
        self.quotes.begin_row();
        loop {
            if self.window.rest().is_empty() && !self.window.fill_row(start)? {
                return Ok(self.parse_end(takes_tail));
            }
            let (position, rest) = (self.window.position(), self.window.rest());
            let (result, passed) = self.row.extend(&mut self.parser, rest);
            let is_row = result == ReadRecordResult::Record;
            is_stray |= !self.quotes.accepts(rest, position, passed, is_row);
            self.window.pass(passed);
            // Of input that grows, the first line may not be whole yet.
            if is_stray && (is_row || takes_tail) {
                return Ok(Parsed::Endless(STRAY));
            }
            match result {
                ReadRecordResult::Record => return Ok(Parsed::Row),
                _ if self.window.position() - start > RECORD_BYTES_MAX as u64 => {
                    let reason = "the row is longer than 1 GiB; is a quote missing?";
                    return Ok(Parsed::Endless(reason));
                }
                _ => {}
            }
        }
    }

    /// A last row may lack its newline, but not its closing quote.
    fn parse_end(&mut self, takes_tail: bool) -> Parsed {
        if !takes_tail {
            return Parsed::Unfinished;
        }
        let is_row = |(result, _)| result == ReadRecordResult::Record;
        if is_row(self.row.extend(&mut self.parser, b"\n")) {
            return Parsed::Row;
        }
        // Between rows, this would be a row; within quotes, it is text. The byte is neither a delimiter nor a quote.
        if is_row(self.row.extend(&mut self.parser, b"\xff\n")) {
            return Parsed::End;
        }
        Parsed::Endless(NEVER_ENDS)
    }
}

impl SourceRow {
    fn clear(&mut self) {
        self.bytes_len = 0;
        self.ends_len = 0;
    }

    /// Continues parsing; returns the number of bytes consumed. Grows the buffers as needed.
    fn extend(&mut self, parser: &mut Reader, input: &[u8]) -> (ReadRecordResult, usize) {
        let mut passed = 0;
        loop {
            let (result, taken, bytes, ends) = parser.read_record(
                &input[passed..],
                &mut self.bytes[self.bytes_len..],
                &mut self.ends[self.ends_len..],
            );
            passed += taken;
            self.bytes_len += bytes;
            self.ends_len += ends;
            match result {
                ReadRecordResult::OutputFull => {
                    self.bytes.resize((self.bytes.len() * 2).max(1024), 0)
                }
                ReadRecordResult::OutputEndsFull => {
                    self.ends.resize((self.ends.len() * 2).max(32), 0);
                }
                _ => return (result, passed),
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ends_len
    }

    pub(super) fn field(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }
}

fn parser(fields: &RecordFields) -> Reader {
    ReaderBuilder::new()
        .delimiter(fields.layout.delimiter)
        .quote(fields.layout.quote)
        .build()
}

/// A parser for rows that are not at the start of a file: it would remove a byte order mark there, but here that is data.
fn parser_of_rows(fields: &RecordFields) -> Reader {
    let mut parser = parser(fields);
    parser.read_record(b"\n", &mut [0], &mut [0]);
    parser
}

/// Adds the row in a dead letter, which has these bytes and columns.
///
/// # Errors
/// When there is not exactly one row; nothing was added.
pub(super) fn add_row(
    fields: &RecordFields,
    columns: &[String],
    bytes: &[u8],
    batch: &mut Batch,
) -> Result<(), String> {
    let names: &[String] = match &fields.columns {
        ColumnNames::Listed(names) => names,
        ColumnNames::FirstRow | ColumnNames::StatedFirstRow => columns,
    };
    if names.is_empty() {
        return Err("the letter does not name the columns of the row".to_owned());
    }
    let header = RowHeader::new(fields, names)?;
    if !QuoteCheck::new(fields.layout, false).accepts(bytes, 0, bytes.len(), false) {
        return Err(STRAY.to_owned());
    }
    let (mut parser, mut row) = (parser_of_rows(fields), SourceRow::default());
    let (result, passed) = row.extend(&mut parser, bytes);
    if result != ReadRecordResult::Record {
        let (end, _) = row.extend(&mut parser, b"\n");
        if end != ReadRecordResult::Record {
            return Err(NEVER_ENDS.to_owned());
        }
    } else if bytes[passed..].iter().any(|byte| !b"\r\n".contains(byte)) {
        return Err("the letter has more than one row; is a quote too many?".to_owned());
    }
    header.add(&row, &mut Vec::new(), batch)
}
