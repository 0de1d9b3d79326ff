//! Reads records that are CSV rows, converted to JSON objects with the columns in order.
//!
//! Rows have any length and may contain newlines in quotes, so a file is one split and is parsed from its header on.
//! The position between rows is enough to resume: a new parser starts there. Empty lines are skipped.

use std::sync::Arc;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::event_time::TimeField;
use super::split::FileSplit;
use super::window::{RECORD_BYTES_MAX, Window};
use super::{ColumnNames, RecordFields};
use crate::connector::field::FieldPath;
use crate::connector::read_ahead::ReadAhead;
use crate::connector::record_format::CSV_COLUMNS;
use crate::connector::{ConnectorError, ReadLimits, file_sink};
use floodmark_state::stream::{Batch, NO_TIMESTAMP};

/// Bytes of names in a message.
const LISTED_BYTES_MAX: usize = 200;

/// Reads the rows of one file.
///
/// - Without a header, only the start of the file was read.
pub(super) struct RowReader {
    window: Window,
    parser: Reader,
    row: SourceRow,
    header: Option<RowHeader>,
    json: Vec<u8>,
}

/// The fields of a row, end to end.
#[derive(Default)]
struct SourceRow {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    bytes_len: usize,
    ends_len: usize,
}

struct RowHeader {
    /// For each column the text before its value: `{"first":` or `,"other":`.
    labels: Vec<Vec<u8>>,
    /// The columns that form the key.
    key: Vec<usize>,
    /// The column with the event time, and how to read it.
    timestamp: Option<(usize, TimeField)>,
}

enum Parsed {
    Row,
    /// There are no more rows.
    End,
    /// There are no more whole rows, in a file that may grow.
    Unfinished,
}

impl RowReader {
    /// Opens a file and reads its header, if it has one. The header may be incomplete in a file that grows.
    pub(super) fn open(
        fields: &RecordFields,
        split: &mut FileSplit,
        limit: u64,
        takes_tail: bool,
        ahead: Option<&Arc<dyn ReadAhead>>,
    ) -> Result<Self, ConnectorError> {
        let mut reader = Self {
            window: Window::open(split, 0, limit, ahead)?,
            parser: parser(fields),
            row: SourceRow::default(),
            header: None,
            json: Vec::new(),
        };
        let header = match &fields.columns {
            ColumnNames::Listed(names) => RowHeader::new(fields, names),
            ColumnNames::FirstRow | ColumnNames::StatedFirstRow => {
                if !matches!(reader.parse(takes_tail)?, Parsed::Row) {
                    return Ok(reader);
                }
                let names = names_of(&reader.row);
                refuse_output(fields, split, names.as_deref().unwrap_or_default())
                    .and(names)
                    .and_then(|names| RowHeader::new(fields, &names))
            }
        };
        reader.header = Some(header.map_err(|reason| reader.window.malformed_row(0, reason))?);
        split.position = split.position.max(reader.window.position());
        if split.position > reader.window.position() {
            reader.window = Window::open(split, split.position, limit, ahead)?;
            reader.parser = parser(fields);
            // The parser would remove a byte order mark here, where it is data: it only does so at the very
            // beginning.
            reader.parser.read_record(b"\n", &mut [0], &mut [0]);
        }
        Ok(reader)
    }

    /// Reads rows that come as a stream. Without names of columns, the first row has them.
    pub(super) fn of_stream(
        window: Window,
        fields: &RecordFields,
        names: Option<Vec<String>>,
    ) -> Result<Self, ConnectorError> {
        let mut reader = Self {
            window,
            parser: parser(fields),
            row: SourceRow::default(),
            header: None,
            json: Vec::new(),
        };
        let position = reader.window.position();
        let names = match &fields.columns {
            ColumnNames::Listed(names) => Some(names.clone()),
            ColumnNames::FirstRow | ColumnNames::StatedFirstRow => names,
        };
        if let Some(names) = names {
            let header = RowHeader::new(fields, &names);
            reader.header =
                Some(header.map_err(|reason| reader.window.malformed_row(position, reason))?);
        }
        Ok(reader)
    }

    /// Reads the names of columns from a stream, if they are not known; returns them.
    pub(super) fn read_names(
        &mut self,
        fields: &RecordFields,
        split: &mut FileSplit,
        takes_tail: bool,
    ) -> Result<Option<Vec<String>>, ConnectorError> {
        if self.header.is_some() || !matches!(self.parse(takes_tail)?, Parsed::Row) {
            return Ok(None);
        }
        let read = names_of(&self.row)
            .and_then(|names| Ok((RowHeader::new(fields, &names)?, names)))
            .map_err(|reason| self.window.malformed_row(split.position, reason));
        let (header, names) = read?;
        self.header = Some(header);
        split.position = self.window.position();
        Ok(Some(names))
    }

    /// Parses again from the start of a row, of which there may be more now.
    pub(super) fn go_back(&mut self, fields: &RecordFields, position: u64, is_start: bool) {
        self.window.go_to(position);
        self.parser = parser(fields);
        if !is_start {
            // As in `open`: there is no byte order mark here.
            self.parser.read_record(b"\n", &mut [0], &mut [0]);
        }
    }

    /// As [`Window::catch_up`].
    pub(super) fn catch_up(&mut self) -> Result<bool, ConnectorError> {
        self.window.catch_up()
    }

    /// As [`Window::ended`].
    pub(super) fn ended(&self) -> Option<(u64, u64)> {
        self.window.ended()
    }

    /// Adds rows until the batch is full; returns `true` if there are no more for now. The position is valid only after
    /// success.
    pub(super) fn read(
        &mut self,
        split: &mut FileSplit,
        takes_tail: bool,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<bool, ConnectorError> {
        let Some(header) = self.header.take() else {
            return Ok(true);
        };
        let ended = loop {
            match self.parse(takes_tail)? {
                Parsed::Row => {}
                // The start of a row is read again when there is more.
                Parsed::Unfinished => break true,
                Parsed::End => {
                    split.position = self.window.position();
                    break true;
                }
            }
            header
                .add(&self.row, &mut self.json, batch)
                .map_err(|reason| self.window.malformed_row(split.position, reason))?;
            split.position = self.window.position();
            if limits.are_reached(batch) {
                break false;
            }
        };
        self.header = Some(header);
        Ok(ended)
    }

    fn parse(&mut self, takes_tail: bool) -> Result<Parsed, ConnectorError> {
        let start = self.window.position();
        self.row.clear();
        loop {
            if self.window.rest().is_empty() && !self.window.fill()? {
                return self.parse_end(start, takes_tail);
            }
            let (result, passed) = self.row.extend(&mut self.parser, self.window.rest());
            self.window.pass(passed);
            match result {
                ReadRecordResult::Record => return Ok(Parsed::Row),
                _ if self.window.position() - start > RECORD_BYTES_MAX as u64 => {
                    let reason = "the row is longer than 1 GiB; is a quote missing?".to_owned();
                    return Err(self.window.malformed_row(start, reason));
                }
                _ => {}
            }
        }
    }

    /// A last row may lack its newline, but not its closing quote.
    fn parse_end(&mut self, start: u64, takes_tail: bool) -> Result<Parsed, ConnectorError> {
        if !takes_tail {
            return Ok(Parsed::Unfinished);
        }
        let is_row = |(result, _)| result == ReadRecordResult::Record;
        if is_row(self.row.extend(&mut self.parser, b"\n")) {
            return Ok(Parsed::Row);
        }
        // Between rows, this would be a row; within quotes, it is text. The byte is neither a delimiter nor a quote.
        if is_row(self.row.extend(&mut self.parser, b"\xff\n")) {
            return Ok(Parsed::End);
        }
        Err(self.window.malformed_row(
            start,
            "the row starts a quoted field that never ends; add the missing quote".to_owned(),
        ))
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

    fn len(&self) -> usize {
        self.ends_len
    }

    fn field(&self, index: usize) -> &[u8] {
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

/// The names in a header.
fn names_of(row: &SourceRow) -> Result<Vec<String>, String> {
    let mut names: Vec<String> = Vec::new();
    for index in 0..row.len() {
        let name = std::str::from_utf8(row.field(index))
            .map_err(|error| format!("the name of column {} is not UTF-8: {error}", index + 1))?;
        if name.is_empty() {
            return Err(format!(
                "column {} has no name; give it one in the file",
                index + 1
            ));
        }
        if names.iter().any(|known| known == name) {
            return Err(format!("two columns are called `{name}`; rename one"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// The names of columns for a message, which must not grow with the file.
fn listed(names: &[String]) -> String {
    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text += ", ";
        }
        let left = LISTED_BYTES_MAX.saturating_sub(text.len());
        if name.len() > left {
            text += &format!("`{}…`", &name[..name.floor_char_boundary(left)]);
            let more = names.len() - index - 1;
            if more > 0 {
                text += &format!(" and {more} more");
            }
            return text;
        }
        text += &format!("`{name}`");
    }
    text
}

/// Refuses to take the first record of a file sink for the names of columns, unless the settings say that there are
/// names: the record would be lost.
fn refuse_output(fields: &RecordFields, split: &FileSplit, names: &[String]) -> Result<(), String> {
    let name = split.path.file_name().map(|name| name.as_encoded_bytes());
    let endings: [&[u8]; 3] = [b".csv", b".csv.gz", b".csv.zst"];
    let is_csv = name.is_some_and(|name| endings.iter().any(|end| name.ends_with(end)));
    let is_output = is_csv && file_sink::checkpoint_of(&split.path).is_some();
    let is_default = fields.columns == ColumnNames::FirstRow && split.position == 0;
    if !is_output || !is_default || names == CSV_COLUMNS {
        return Ok(());
    }
    Err(
        "the file is named like output of a file sink, which has no header by default, so its first row may be a record; set `header = false` and `columns = [\"key\", \"value\"]`, or `header = true` if that row names the columns"
            .to_owned(),
    )
}

impl RowHeader {
    fn new(fields: &RecordFields, names: &[String]) -> Result<Self, String> {
        let find = |wanted: &FieldPath| {
            let wanted = wanted.text();
            let found = names.iter().position(|name| name == wanted);
            found.ok_or_else(|| {
                format!("there is no column `{wanted}`; there are {}", listed(names))
            })
        };
        let label = |(index, name): (usize, &String)| {
            let mut label = vec![if index == 0 { b'{' } else { b',' }];
            write_json_text(name, &mut label);
            label.push(b':');
            label
        };
        Ok(Self {
            key: fields
                .key
                .iter()
                .map(&find)
                .collect::<Result<_, String>>()?,
            timestamp: match &fields.timestamp {
                None => None,
                Some(time) => Some((find(&time.field)?, time.clone())),
            },
            labels: names.iter().enumerate().map(label).collect(),
        })
    }

    fn add(&self, row: &SourceRow, json: &mut Vec<u8>, batch: &mut Batch) -> Result<(), String> {
        if row.len() != self.labels.len() {
            return Err(format!(
                "the row has {}, but there {}; correct it, or quote what has a delimiter in it",
                match row.len() {
                    1 => "1 field".to_owned(),
                    fields => format!("{fields} fields"),
                },
                match self.labels.len() {
                    1 => "is 1 column".to_owned(),
                    columns => format!("are {columns} columns"),
                }
            ));
        }
        json.clear();
        for (index, label) in self.labels.iter().enumerate() {
            let text = std::str::from_utf8(row.field(index))
                .map_err(|error| format!("field {} is not UTF-8: {error}", index + 1))?;
            json.extend_from_slice(label);
            write_json_text(text, json);
        }
        json.push(b'}');
        let timestamp = match &self.timestamp {
            None => NO_TIMESTAMP,
            Some((column, time)) => time.parse(row.field(*column))?,
        };
        let value_len = json.len();
        let key = match self.key[..] {
            [] => b"".as_slice(),
            [column] => row.field(column),
            _ => {
                self.write_key(row, json)?;
                &json[value_len..]
            }
        };
        batch.push(key, &json[..value_len], timestamp);
        Ok(())
    }

    /// Adds a key of several columns: a JSON array of texts.
    fn write_key(&self, row: &SourceRow, out: &mut Vec<u8>) -> Result<(), String> {
        for (index, &column) in self.key.iter().enumerate() {
            let text = std::str::from_utf8(row.field(column))
                .map_err(|error| format!("field {} is not UTF-8: {error}", column + 1))?;
            out.push(if index == 0 { b'[' } else { b',' });
            write_json_text(text, out);
        }
        out.push(b']');
        Ok(())
    }
}

fn write_json_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text)
        .expect("a string always encodes, and a vector takes any length");
}
