//! The file source: one file, all files below a folder, or those that match a pattern.
//!
//! A large file of lines is cut into byte ranges that are read in parallel; a record belongs to the range that contains
//! its first byte. The cuts depend only on lengths, never on the parallelism. With `follow`, files may grow and new
//! ones may be added: each of a fixed number of watches is responsible for the new files whose keys hash to it, so
//! exactly one task picks up each file. A file is known by its inode and by the bytes before the position, not by its
//! name: logs may be rotated. What was read must not be changed in place.

mod settings;

mod compressed;
mod content;
mod event_time;
mod file_bytes;
mod follow;
mod gzip_members;
mod identity;
mod known;
mod line;
mod listing;
mod member_end;
mod notified;
mod pace;
mod pattern;
mod place;
mod planning;
mod quotes;
mod reader;
mod refused;
mod replayed;
mod row;
mod row_header;
mod split;
mod standard_input;
mod time_pattern;
mod window;
mod zstd_frames;

pub mod stdin;

use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::csv_layout::CsvLayout;
use super::field::FieldPath;
use super::{ConnectorError, Source, SourceReader};
use event_time::TimeField;
use floodmark_checkpoint::Split;
use floodmark_state::stream::CheckpointId;
use follow::{FollowReader, FollowedSource};
use known::KnownFiles;
use listing::Listing;
use reader::FileReader;
use split::FileSourceSplit;

pub use event_time::{TimestampFormat, TimestampUnit};
pub use replayed::ReplayedLetters;
pub use settings::{CsvSettings, FileSourceSettings, KeyFields, ReadFrom, TimestampSettings};
pub use time_pattern::TimePattern;

/// Interval of checking files that may grow.
const POLL: Duration = Duration::from_millis(200);

/// The format of an input file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// A record is a line of any bytes, without its ending (`\n` or `\r\n`).
    #[default]
    Lines,
    /// A record is a line with one JSON text. Empty lines are skipped.
    Jsonl,
    /// A record is a row by RFC 4180, converted to a JSON object. The first row names the columns.
    Csv,
    /// A record is the one that a dead letter, a line of JSON, is about: with its key, value and event time.
    DeadLetters,
}

impl SourceFormat {
    /// Its name in a pipeline file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::DeadLetters => "dead-letters",
        }
    }
}

/// A source of one file, of the files in a folder, or of those that match a pattern.
#[derive(Debug)]
pub struct FileSource {
    base: PathBuf,
    listing: Arc<Listing>,
    known: Arc<KnownFiles>,
    fields: Arc<RecordFields>,
    follow: bool,
    read_from: ReadFrom,
    /// `None` if files are not cut.
    split_bytes: Option<NonZeroU64>,
    /// Interval of checking files that may grow.
    poll: Duration,
}

/// How to get the parts of a record from its bytes.
#[derive(Debug)]
struct RecordFields {
    format: SourceFormat,
    key: Vec<FieldPath>,
    key_separator: Option<Vec<u8>>,
    timestamp: Option<TimeField>,
    /// The form of the event time in a line of `lines`.
    line_time: Option<TimestampFormat>,
    layout: CsvLayout,
    columns: ColumnNames,
    /// In dead letters of a source: how that gets the parts of a record.
    of_letters: Option<Arc<RecordFields>>,
}

/// Where the names of columns stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum ColumnNames {
    /// In the first row, as the default has it.
    #[default]
    FirstRow,
    /// In the first row, as the settings say.
    StatedFirstRow,
    /// In the settings.
    Listed(Vec<String>),
}

impl RecordFields {
    /// Values of this format, without keys and event times of their own.
    fn only(format: SourceFormat) -> Self {
        Self {
            format,
            key: Vec::new(),
            key_separator: None,
            timestamp: None,
            line_time: None,
            layout: CsvLayout::default(),
            columns: ColumnNames::default(),
            of_letters: None,
        }
    }

    fn new(settings: &FileSourceSettings) -> Result<Self, ConnectorError> {
        let path = |setting, text: &str| match settings.format {
            SourceFormat::Jsonl => {
                FieldPath::parse(text).map_err(|reason| ConnectorError::Setting { setting, reason })
            }
            _ => Ok(FieldPath::column(text)),
        };
        let names = settings.key.iter().flat_map(KeyFields::names);
        let key = names.map(|name| path("key", name));
        let times = &settings.timestamp;
        let timestamp = match &times.field {
            None => None,
            Some(name) => Some(TimeField {
                field: path("timestamp", name)?,
                unit: times.unit,
                format: times.format.clone(),
            }),
        };
        let line_time = match settings.format {
            SourceFormat::Lines => times.format.clone(),
            SourceFormat::Jsonl | SourceFormat::Csv | SourceFormat::DeadLetters => None,
        };
        let separator = settings.key_separator.clone();
        Ok(Self {
            format: settings.format,
            key: key.collect::<Result<_, ConnectorError>>()?,
            key_separator: separator.map(String::into_bytes),
            timestamp,
            line_time,
            layout: settings.csv.layout(),
            columns: match (&settings.csv.columns, settings.csv.header) {
                (Some(names), _) => ColumnNames::Listed(names.clone()),
                (None, Some(_)) => ColumnNames::StatedFirstRow,
                (None, None) => ColumnNames::FirstRow,
            },
            of_letters: None,
        })
    }
}

impl FileSource {
    /// A source of the files that `settings` name; relative paths start at `base`, the pipeline file's folder.
    ///
    /// # Errors
    /// When settings contradict each other. No file was accessed.
    pub fn new(settings: FileSourceSettings, base: &Path) -> Result<Self, ConnectorError> {
        settings::check(&settings)?;
        let cuts = !settings.follow && settings.format != SourceFormat::Csv;
        Ok(Self {
            base: base.to_owned(),
            fields: Arc::new(RecordFields::new(&settings)?),
            listing: Arc::new(Listing::new(base, &settings.path)),
            known: Arc::default(),
            follow: settings.follow,
            read_from: settings.read_from,
            split_bytes: cuts.then_some(settings.split_bytes),
            poll: POLL,
        })
    }

    /// Decodes a split of this source. Its file is one that `path` may name; it has not been opened.
    fn decode(&self, split: &Split) -> Result<FileSourceSplit, ConnectorError> {
        let mut piece = FileSourceSplit::decode(split, &self.base)?;
        if let FileSourceSplit::File(file) = &mut piece {
            if file.format != self.fields.format {
                return Err(ConnectorError::SettingChanged {
                    setting: "format",
                    before: format!("`{}`", file.format.word()),
                    now: format!("`{}`", self.fields.format.word()),
                });
            }
            file.path = file.path.components().collect();
            if !self.listing.may_name(&file.path) {
                let path = std::mem::take(&mut file.path);
                return Err(ConnectorError::ForeignInput { path });
            }
        }
        Ok(piece)
    }
}

impl Source for FileSource {
    fn can_resume(&self, splits: &[Split]) -> Result<(), ConnectorError> {
        let apart = Self {
            base: self.base.clone(),
            listing: Arc::clone(&self.listing),
            // What tasks know of their files stays as it is.
            known: Arc::default(),
            fields: Arc::clone(&self.fields),
            ..*self
        };
        apart.plan(Some(splits.to_vec())).map(drop)
    }

    fn is_beside_input(&self) -> bool {
        false
    }

    fn splits(
        &self,
        _: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        let pieces = self.plan(restored)?;
        Ok(pieces
            .iter()
            .map(|piece| piece.encode(&self.base))
            .collect())
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let mut files = Vec::new();
        let mut watches = Vec::new();
        for split in &splits {
            match self.decode(split)? {
                FileSourceSplit::File(file) => files.push(file),
                FileSourceSplit::Watch(watch) => watches.push(watch),
            }
        }
        let fields = Arc::clone(&self.fields);
        if !self.follow {
            return Ok(Box::new(FileReader::new(self.base.clone(), fields, files)));
        }
        let source = FollowedSource {
            base: self.base.clone(),
            fields,
            listing: Arc::clone(&self.listing),
            known: Arc::clone(&self.known),
        };
        // `plan` gives each file a key.
        let reader = FollowReader::new(source, files, watches, self.poll);
        Ok(Box::new(reader))
    }

    fn letters(&self, folder: &Path, follow: bool) -> Option<Arc<dyn Source>> {
        let letters = ReplayedLetters::of_source(folder, follow, Arc::clone(&self.fields));
        Some(Arc::new(letters))
    }
}

/// What [`describe`] says of a split that is no file. A source has several, whose differences matter to no user.
pub const WATCHES: &str = "watches for new files";

/// A split and its position for people, on one line; its file has the name that the pipeline file uses.
#[must_use]
pub fn describe(split: &Split) -> String {
    match FileSourceSplit::decode(split, Path::new("")) {
        Ok(FileSourceSplit::File(file)) => file.to_string(),
        Ok(FileSourceSplit::Watch(_)) => WATCHES.to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The bytes of a path on this system.
fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

#[cfg(test)]
#[path = "file_source/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "file_source/ahead_tests.rs"]
mod ahead_tests;

#[cfg(test)]
#[path = "file_source/format_tests.rs"]
mod format_tests;

#[cfg(test)]
#[path = "file_source/restore_tests.rs"]
mod restore_tests;

#[cfg(test)]
#[path = "file_source/rewritten_tests.rs"]
mod rewritten_tests;
