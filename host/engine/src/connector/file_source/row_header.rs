//! The columns of CSV: their names, and how the fields of a row become a record.
//!
//! Names are checked once, so a row only has to have as many fields. Messages list few of many names.

use super::event_time::TimeField;
use super::row::SourceRow;
use super::split::FileSplit;
use super::{ColumnNames, RecordFields};
use crate::connector::bad_record::quoted;
use crate::connector::field::FieldPath;
use crate::connector::file_sink;
use crate::connector::record_format::CSV_COLUMNS;
use floodmark_state::stream::{Batch, NO_TIMESTAMP};

/// Bytes of names in a message.
const LISTED_BYTES_MAX: usize = 200;

/// The columns of a file, and what of them forms the record.
pub(super) struct RowHeader {
    /// The names of the columns.
    pub(super) names: Vec<String>,
    /// For each column the text before its value: `{"first":` or `,"other":`.
    labels: Vec<Vec<u8>>,
    /// The columns that form the key.
    key: Vec<usize>,
    /// The column with the event time, and how to read it.
    timestamp: Option<(usize, TimeField)>,
}

/// The names in a header.
pub(super) fn names_of(row: &SourceRow) -> Result<Vec<String>, String> {
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
            let name = quoted(name);
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
pub(super) fn refuse_output(
    fields: &RecordFields,
    split: &FileSplit,
    names: &[String],
) -> Result<(), String> {
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
    pub(super) fn new(fields: &RecordFields, names: &[String]) -> Result<Self, String> {
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
            names: names.to_vec(),
        })
    }

    /// Adds the record of a row.
    ///
    /// # Errors
    /// When it is not one; nothing was added.
    pub(super) fn add(
        &self,
        row: &SourceRow,
        json: &mut Vec<u8>,
        batch: &mut Batch,
    ) -> Result<(), String> {
        if row.len() != self.labels.len() {
            let columns = match self.labels.len() {
                1 => "there is 1 column".to_owned(),
                columns => format!("there are {columns} columns"),
            };
            let fields = match row.len() {
                1 => "1 field".to_owned(),
                fields => format!("{fields} fields"),
            };
            return Err(format!(
                "the row has {fields}, but {columns}; correct it, or quote what has a delimiter in it"
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
