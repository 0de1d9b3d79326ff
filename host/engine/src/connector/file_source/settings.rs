//! The settings of a file source, and what is refused before a file is opened.
//!
//! Fields that belong together are one struct each, although they stand in one table of the pipeline file: so the table
//! is read by hand. How event times are read is not a part of the identity, like `timestamp` itself: it changes no
//! position, and a job that stopped at a number in another unit can resume once the unit is set.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::event_time::{TimestampFormat, TimestampUnit};
use super::{FileSource, SourceFormat};
use crate::connector::csv_layout::{CsvCharacter, CsvLayout, refuse_given};
use crate::connector::settings::{fact, seen_from};
use crate::connector::{ConnectorError, Endless, NodeContext, Source, SourceSettings};

/// Largest number of fields in a key.
const KEY_FIELDS_MAX: usize = 16;

/// The fields of a source with `connector = "file"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSourceSettings {
    /// A file, a folder (all files below it except hidden ones), or a pattern with `*`, `**`, `?` and `[…]`.
    pub path: PathBuf,
    /// The format of the files.
    pub format: SourceFormat,
    /// The key: fields such as `user.id` in `jsonl`, columns in `csv`. Without it, keys are empty.
    pub key: Option<KeyFields>,
    /// In `lines`: separates the key from the value. Without it, keys are empty.
    pub key_separator: Option<String>,
    /// The event time.
    pub timestamp: TimestampSettings,
    /// The form of CSV.
    pub csv: CsvSettings,
    /// Whether files may grow and new ones may be added.
    pub follow: bool,
    /// Where to begin with the files that are there when the job first starts.
    pub read_from: ReadFrom,
    /// Length of the ranges that are read in parallel, in bytes.
    pub split_bytes: NonZeroU64,
}

/// Where to begin with files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadFrom {
    /// At their beginning.
    #[default]
    Start,
    /// After their last whole line. Files that appear later are read from their beginning.
    End,
}

/// The settings of event times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimestampSettings {
    /// `timestamp`: the field or column. Without it, records have no event time.
    pub field: Option<String>,
    /// `timestamp-unit`: the unit of numbers. Without it, they are milliseconds, and what looks like another unit is
    /// refused.
    pub unit: Option<TimestampUnit>,
    /// `timestamp-format`: the only form that is accepted. Without it, numbers and RFC 3339 are. In `lines`, the first text of
    /// this form in a line is its event time.
    pub format: Option<TimestampFormat>,
}

/// The settings of CSV.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsvSettings {
    /// `delimiter`: between fields, by default a comma.
    pub delimiter: Option<CsvCharacter>,
    /// `quote`: around fields, by default `"`.
    pub quote: Option<CsvCharacter>,
    /// `header`: whether the first row names the columns. It does by default.
    pub header: Option<bool>,
    /// `columns`: the names of the columns of files without a header.
    pub columns: Option<Vec<String>>,
}

/// The fields that form the key: one, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFields(Vec<String>);

impl KeyFields {
    /// Their paths, or the names of columns.
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for KeyFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [name] => f.write_str(name),
            names => f.write_str(&list(names)),
        }
    }
}

impl CsvSettings {
    pub(super) fn layout(&self) -> CsvLayout {
        CsvLayout::new(self.delimiter, self.quote)
    }
}

impl SourceSettings for FileSourceSettings {
    fn identity(&self, folder: &Path) -> Vec<(String, String)> {
        let mut facts = vec![
            fact("path", seen_from(folder, &self.path).display()),
            fact("format", self.format.word()),
        ];
        facts.extend(self.key.as_ref().map(|key| fact("key", key)));
        let separator = self.key_separator.as_ref();
        facts.extend(separator.map(|text| fact("key-separator", text)));
        facts.extend(self.csv.layout().facts());
        // Only files without a header may have them.
        let columns = self.csv.columns.as_ref();
        facts.extend(columns.map(|names| fact("columns", list(names))));
        facts
    }

    fn endless(&self) -> Option<Endless> {
        self.follow.then_some(Endless {
            reason: "follows its files and never ends",
            field: "follow",
            value: "false",
        })
    }

    fn reads(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn open(&self, context: &NodeContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> {
        Ok(Arc::new(FileSource::new(self.clone(), context.folder)?))
    }
}

/// Names as one text that no other names have.
fn list(names: &[String]) -> String {
    serde_json::to_string(names).expect("texts always encode")
}

/// The fields of the table.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "kebab-case")]
enum SourceField {
    Path,
    Format,
    Key,
    KeySeparator,
    Timestamp,
    TimestampUnit,
    TimestampFormat,
    Delimiter,
    Quote,
    Header,
    Columns,
    Follow,
    ReadFrom,
    SplitBytes,
}

impl<'de> Deserialize<'de> for FileSourceSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TableVisitor;

        impl<'de> Visitor<'de> for TableVisitor {
            type Value = FileSourceSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<FileSourceSettings, A::Error> {
                let mut path: Option<PathBuf> = None;
                let mut settings = FileSourceSettings::of(PathBuf::new());
                let mut timestamp = TimestampSettings::default();
                let mut csv = CsvSettings::default();
                while let Some(field) = map.next_key::<SourceField>()? {
                    match field {
                        SourceField::Path => path = Some(map.next_value()?),
                        SourceField::Format => settings.format = map.next_value()?,
                        SourceField::Key => settings.key = map.next_value()?,
                        SourceField::KeySeparator => settings.key_separator = map.next_value()?,
                        SourceField::Timestamp => timestamp.field = map.next_value()?,
                        SourceField::TimestampUnit => timestamp.unit = map.next_value()?,
                        SourceField::TimestampFormat => timestamp.format = map.next_value()?,
                        SourceField::Delimiter => csv.delimiter = map.next_value()?,
                        SourceField::Quote => csv.quote = map.next_value()?,
                        SourceField::Header => csv.header = map.next_value()?,
                        SourceField::Columns => csv.columns = map.next_value()?,
                        SourceField::Follow => settings.follow = map.next_value()?,
                        SourceField::ReadFrom => settings.read_from = map.next_value()?,
                        SourceField::SplitBytes => settings.split_bytes = map.next_value()?,
                    }
                }
                let path = path.ok_or_else(|| A::Error::missing_field("path"))?;
                Ok(FileSourceSettings {
                    path,
                    timestamp,
                    csv,
                    ..settings
                })
            }
        }

        deserializer.deserialize_map(TableVisitor)
    }
}

impl FileSourceSettings {
    /// The defaults, for files of this path.
    pub(super) fn of(path: PathBuf) -> Self {
        Self {
            path,
            format: SourceFormat::default(),
            key: None,
            key_separator: None,
            timestamp: TimestampSettings::default(),
            csv: CsvSettings::default(),
            follow: false,
            read_from: ReadFrom::default(),
            split_bytes: const { NonZeroU64::new(16 << 20).expect("not 0") },
        }
    }
}

impl<'de> Deserialize<'de> for KeyFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = KeyFields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field in quotes, or a list of names")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<KeyFields, E> {
                Ok(KeyFields(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<KeyFields, A::Error> {
                let mut names: Vec<String> = Vec::new();
                while let Some(name) = items.next_element::<String>()? {
                    if names.contains(&name) {
                        return Err(A::Error::custom(format!("names `{name}` twice")));
                    }
                    names.push(name);
                    if names.len() > KEY_FIELDS_MAX {
                        return Err(A::Error::custom(format!(
                            "names more than {KEY_FIELDS_MAX} fields; name those that tell keys apart"
                        )));
                    }
                }
                match names.is_empty() {
                    false => Ok(KeyFields(names)),
                    true => Err(A::Error::custom("is empty; name a field, or leave it out")),
                }
            }
        }

        deserializer.deserialize_any(KeyVisitor)
    }
}

/// Refuses settings that contradict each other.
pub(super) fn check(settings: &FileSourceSettings) -> Result<(), ConnectorError> {
    if settings.read_from == ReadFrom::End && !settings.follow {
        return wrong(
            "read-from",
            "from the end on there is nothing to read without `follow = true`; set that, or leave it out",
        );
    }
    check_csv(settings)?;
    check_fields(settings)?;
    check_times(settings)
}

fn wrong(setting: &'static str, reason: &'static str) -> Result<(), ConnectorError> {
    Err(ConnectorError::Setting { setting, reason })
}

fn check_csv(settings: &FileSourceSettings) -> Result<(), ConnectorError> {
    let csv = &settings.csv;
    if settings.format != SourceFormat::Csv {
        return refuse_given(&[
            ("delimiter", csv.delimiter.is_some()),
            ("quote", csv.quote.is_some()),
            ("header", csv.header.is_some()),
            ("columns", csv.columns.is_some()),
        ]);
    }
    csv.layout().check()?;
    let columns = match (&csv.columns, csv.header) {
        (None, Some(false)) => {
            return wrong(
                "header",
                "without a header nothing names the columns; name them in `columns`",
            );
        }
        (None, _) => return Ok(()),
        (Some(columns), Some(false)) => columns,
        (Some(_), _) => {
            return wrong(
                "columns",
                "the header names the columns; set `header = false` if the files have none, or leave it out",
            );
        }
    };
    let different: BTreeSet<&String> = columns.iter().collect();
    if columns.is_empty() || different.len() < columns.len() {
        return wrong(
            "columns",
            "it is empty, or names a column twice; give each column a name of its own",
        );
    }
    if columns.iter().any(String::is_empty) {
        return wrong("columns", "a column has no name; give it one");
    }
    let keys = settings.key.iter().flat_map(KeyFields::names);
    for (setting, names) in [
        ("key", keys.collect::<Vec<_>>()),
        ("timestamp", settings.timestamp.field.iter().collect()),
    ] {
        if names.iter().any(|name| !columns.contains(name)) {
            return wrong(setting, "it is not one of `columns`; name one of these");
        }
    }
    Ok(())
}

fn check_fields(settings: &FileSourceSettings) -> Result<(), ConnectorError> {
    let is_lines = settings.format == SourceFormat::Lines;
    if settings.format == SourceFormat::DeadLetters {
        let reason = "dead letters contain the fields of their records; leave it out";
        let given = [
            ("key", settings.key.is_some()),
            ("key-separator", settings.key_separator.is_some()),
            ("timestamp", settings.timestamp.field.is_some()),
        ];
        return match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((setting, _)) => wrong(setting, reason),
            None => Ok(()),
        };
    }
    if is_lines && settings.key.is_some() {
        return wrong("key", "a line has no fields; set `key-separator` instead");
    }
    if is_lines && settings.timestamp.field.is_some() {
        return wrong(
            "timestamp",
            "a line has no fields; describe the times in it with `timestamp-format`, or set `format` to `jsonl` or `csv`",
        );
    }
    match &settings.key_separator {
        Some(_) if !is_lines => wrong(
            "key-separator",
            "it is for `format = \"lines\"`; set `key` instead",
        ),
        Some(separator) if separator.is_empty() => wrong(
            "key-separator",
            "it is empty; name what stands between key and value, or leave it out",
        ),
        _ => Ok(()),
    }
}

fn check_times(settings: &FileSourceSettings) -> Result<(), ConnectorError> {
    let times = &settings.timestamp;
    let without_field = "there is no `timestamp` that it is about; set that, or leave it out";
    match (&times.field, times.unit, &times.format) {
        (None, None, Some(_)) if settings.format == SourceFormat::Lines => Ok(()),
        (None, Some(_), _) => wrong("timestamp-unit", without_field),
        (None, None, Some(_)) => wrong("timestamp-format", without_field),
        (Some(_), Some(_), Some(_)) => wrong(
            "timestamp-unit",
            "times of `timestamp-format` have no unit; leave it out, or leave out `timestamp-format`",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    //! Catches an identity that changes although the settings are the default, one that does not change with what records
    //! mean, and settings that contradict each other.

    use super::*;

    fn settings(toml: &str) -> FileSourceSettings {
        toml::from_str(&format!("path = '/a/b/f'\n{toml}")).unwrap()
    }

    fn identity(toml: &str) -> String {
        let facts = settings(toml).identity(Path::new("/a/b"));
        let facts = facts
            .iter()
            .map(|(field, value)| format!("{field}={value}"));
        facts.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_identity_has_what_records_mean() {
        assert_eq!(identity(""), "path=f format=lines");
        let csv = "format = 'csv'\nkey = 'a'\n";
        let expected = "path=f format=csv key=a";
        for more in [
            "",
            "header = true",
            "delimiter = ','\nquote = '\"'",
            "timestamp = 't'\ntimestamp-unit = 's'",
        ] {
            assert_eq!(identity(&format!("{csv}{more}")), expected, "{more}");
        }
        assert_eq!(
            identity("format = 'csv'\ndelimiter = ';'\nheader = false\ncolumns = ['a', 'b']"),
            "path=f format=csv delimiter=; columns=[\"a\",\"b\"]"
        );
        assert_eq!(
            identity("format = 'jsonl'\nkey = ['a', 'b.c']"),
            "path=f format=jsonl key=[\"a\",\"b.c\"]"
        );
        assert_eq!(
            identity("format = 'jsonl'\nkey = ['a']"),
            "path=f format=jsonl key=a"
        );
    }

    #[test]
    fn contradictions_are_refused() {
        for (toml, expected) in [
            ("delimiter = ';'", "invalid `delimiter`: it is for `format"),
            ("format = 'jsonl'\nheader = true", "invalid `header`"),
            ("format = 'csv'\nquote = ','", "invalid `quote`: it is also"),
            ("format = 'csv'\nheader = false", "name them in `columns`"),
            ("format = 'csv'\ncolumns = ['a']", "set `header = false`"),
            (
                "format = 'csv'\nheader = false\ncolumns = ['a', 'a']",
                "names a column twice",
            ),
            (
                "format = 'csv'\nheader = false\ncolumns = ['a']\nkey = ['a', 'b']",
                "invalid `key`: it is not one of `columns`",
            ),
            ("read-from = 'end'", "nothing to read without `follow"),
            ("timestamp-unit = 's'", "invalid `timestamp-unit`"),
            (
                "format = 'jsonl'\ntimestamp-format = 'rfc3339'",
                "invalid `timestamp-format`",
            ),
            ("timestamp = 't'", "describe the times in it"),
            (
                "format = 'csv'\nheader = false\ncolumns = ['a', '']",
                "a column has no name",
            ),
            (
                "format = 'jsonl'\ntimestamp = 't'\ntimestamp-unit = 's'\ntimestamp-format = 'rfc3339'",
                "have no unit",
            ),
        ] {
            let error = check(&settings(toml)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for (toml, expected) in [
            ("key = []", "is empty; name a field"),
            ("key = ['a', 'a']", "names `a` twice"),
            ("key = 7", "the name of a field in quotes"),
            ("timestamp-unit = 'sec'", "sec"),
            ("timestamp-format = 'iso'", "`rfc3339`, or a form such as"),
            ("timestamp-format = '%H:%M'", "does not tell a day"),
            ("quote = 'a'", "one ASCII character"),
            ("header = 1", "boolean"),
        ] {
            let read = toml::from_str::<FileSourceSettings>(&format!("path = 'f'\n{toml}"));
            let error = read.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(toml::from_str::<FileSourceSettings>("follow = true").is_err());
    }
}
