//! The file source: one file, all files below a folder, or those that match a pattern.
//!
//! A large file of lines is cut into byte ranges that are read in parallel; a record belongs to the range that contains
//! its first byte. The cuts depend only on lengths, never on the parallelism. With `follow`, files may grow and new
//! ones may be added: each of a fixed number of watches is responsible for the new names that hash to it, so exactly
//! one task picks up each file. Files must only be appended to: a file that is rewritten in place or renamed is not
//! noticed unless it becomes shorter or disappears.

mod line;
mod listing;
mod reader;
mod replayed;
mod row;
mod split;
mod window;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::{fact, seen_from};
use super::{ConnectorError, Endless, NodeContext, Source, SourceReader, SourceSettings};
use floodmark_checkpoint::Split;
use floodmark_state::stream::CheckpointId;
use listing::Listing;
use reader::FileReader;
use split::{FileSourceSplit, FileSplit, Watch};

pub use replayed::ReplayedLetters;

/// Interval of checking files that may grow.
const POLL: Duration = Duration::from_millis(200);

/// The fields of a source with `connector = "file"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileSourceSettings {
    /// A file, a folder (all files below it except hidden ones), or a pattern with `*`, `**`, `?` and `[…]`.
    pub path: PathBuf,
    /// The format of the files.
    #[serde(default)]
    pub format: SourceFormat,
    /// The key: a field such as `user.id` in `jsonl`, a column in `csv`. Without it, keys are empty.
    #[serde(default)]
    pub key: Option<String>,
    /// In `lines`: separates the key from the value. Without it, keys are empty.
    #[serde(default)]
    pub key_separator: Option<String>,
    /// The event time, given like `key`: milliseconds since 1970 or RFC 3339. Without it, records have no event time.
    #[serde(default)]
    pub timestamp: Option<String>,
    /// Whether files may grow and new ones may be added.
    #[serde(default)]
    pub follow: bool,
    /// Length of the ranges that are read in parallel, in bytes.
    #[serde(default = "FileSourceSettings::default_split_bytes")]
    pub split_bytes: NonZeroU64,
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

impl FileSourceSettings {
    fn default_split_bytes() -> NonZeroU64 {
        const { NonZeroU64::new(16 << 20).expect("not 0") }
    }
}

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
    fields: Arc<RecordFields>,
    follow: bool,
    /// `None` if files are not cut.
    split_bytes: Option<NonZeroU64>,
    /// Interval of checking files that may grow.
    poll: Duration,
}

/// How to get the parts of a record from its bytes.
#[derive(Debug)]
struct RecordFields {
    format: SourceFormat,
    key: Option<String>,
    key_separator: Option<Vec<u8>>,
    timestamp: Option<String>,
}

impl FileSource {
    /// A source of the files that `settings` name; relative paths start at `base`, the pipeline file's folder.
    ///
    /// # Errors
    /// When settings contradict each other. No file was accessed.
    pub fn new(settings: FileSourceSettings, base: &Path) -> Result<Self, ConnectorError> {
        check(&settings)?;
        let cuts = !settings.follow && settings.format != SourceFormat::Csv;
        Ok(Self {
            base: base.to_owned(),
            listing: Arc::new(Listing::new(base, settings.path)),
            fields: Arc::new(RecordFields {
                format: settings.format,
                key: settings.key,
                key_separator: settings.key_separator.map(String::into_bytes),
                timestamp: settings.timestamp,
            }),
            follow: settings.follow,
            split_bytes: cuts.then_some(settings.split_bytes),
            poll: POLL,
        })
    }

    fn decode(&self, split: &Split) -> Result<FileSourceSplit, ConnectorError> {
        let piece = FileSourceSplit::decode(split, &self.base)?;
        if let FileSourceSplit::File(file) = &piece
            && file.format != self.fields.format
        {
            return Err(ConnectorError::SettingChanged {
                setting: "format",
                before: format!("`{}`", file.format.word()),
                now: format!("`{}`", self.fields.format.word()),
            });
        }
        Ok(piece)
    }

    /// The lengths of all files: those in the listing, and restored ones, which must still contain what was read.
    fn lengths(&self, restored: &[FileSplit]) -> Result<BTreeMap<OsString, u64>, ConnectorError> {
        let mut lengths = match self.listing.list() {
            // Restored files are checked one by one, and missing ones have an error of their own.
            Err(ConnectorError::NoInput { .. }) if !restored.is_empty() => BTreeMap::new(),
            // A folder or pattern may match no file at first, but a single file must exist.
            Err(ConnectorError::NoInput { .. }) if self.follow && self.listing.is_open() => {
                BTreeMap::new()
            }
            listed => listed?,
        };
        for split in restored {
            let len = listing::length_of(&split.path).map_err(|error| match error {
                ConnectorError::NoInput { path } => ConnectorError::InputGone {
                    path,
                    position: split.position,
                },
                other => other,
            })?;
            if len < split.position {
                return Err(ConnectorError::InputShrank {
                    path: split.path.clone(),
                    len,
                    position: split.position,
                });
            }
            lengths
                .entry(split.path.clone().into_os_string())
                .or_insert(len);
        }
        Ok(lengths)
    }
}

impl Source for FileSource {
    fn is_beside_input(&self) -> bool {
        false
    }

    fn splits(
        &self,
        _: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        let mut files = Vec::new();
        for split in restored.iter().flatten() {
            // Watches are rebuilt from the files that are known now.
            if let FileSourceSplit::File(file) = self.decode(split)? {
                files.push(file);
            }
        }
        let lengths = self.lengths(&files)?;
        let planned = split::plan(&lengths, files, self.fields.format, self.split_bytes);
        let mut pieces = Vec::new();
        if self.follow && self.listing.is_open() {
            let names: Vec<_> = lengths
                .keys()
                .map(|path| split::name_of(Path::new(path), &self.base))
                .collect();
            pieces.extend(Watch::all(&names).into_iter().map(FileSourceSplit::Watch));
        }
        pieces.extend(planned.into_iter().map(FileSourceSplit::File));
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
        Ok(Box::new(FileReader::new(
            self.base.clone(),
            Arc::clone(&self.fields),
            self.follow.then(|| Arc::clone(&self.listing)),
            files,
            watches,
            self.poll,
        )))
    }
}

/// A split and its position for people, on one line; its file has the name that the pipeline file uses.
#[must_use]
pub fn describe(split: &Split) -> String {
    match FileSourceSplit::decode(split, Path::new("")) {
        Ok(FileSourceSplit::File(file)) => file.to_string(),
        Ok(FileSourceSplit::Watch(watch)) => {
            format!("watch {} of {} for new files", watch.bucket, Watch::COUNT)
        }
        Err(error) => error.to_string(),
    }
}

fn check(settings: &FileSourceSettings) -> Result<(), ConnectorError> {
    let wrong = |setting, reason| Err(ConnectorError::Setting { setting, reason });
    let is_lines = settings.format == SourceFormat::Lines;
    if settings.format == SourceFormat::DeadLetters {
        let reason = "dead letters contain the fields of their records; leave it out";
        let given = [
            ("key", settings.key.is_some()),
            ("key-separator", settings.key_separator.is_some()),
            ("timestamp", settings.timestamp.is_some()),
        ];
        return match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((setting, _)) => wrong(setting, reason),
            None => Ok(()),
        };
    }
    if is_lines && settings.key.is_some() {
        return wrong("key", "a line has no fields; set `key-separator` instead");
    }
    if is_lines && settings.timestamp.is_some() {
        return wrong(
            "timestamp",
            "a line has no fields; set `format` to `jsonl` or `csv`",
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
