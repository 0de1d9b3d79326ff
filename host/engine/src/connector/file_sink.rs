//! The file sink: a folder of parts, each visible once its checkpoint is durable.
//!
//! ```text
//! out/.staged/owner              identifies the owner of the folder
//! out/.staged/folders            the folders in it that the sink has made
//! out/.staged/taken-back         the parts that it has taken back
//! out/.staged/open-001           the first file that task 1 is writing
//! out/.staged/open-001-0002      the second one, if it writes several
//! out/.staged/part-00000007-001.csv   staged for checkpoint 7, durable once prepared
//! out/part-00000006-001.csv      committed, by one rename, which replaces nothing
//! out/k=a/part-00000006-001-0002.csv   committed in a folder, which the entry in the checkpoint names
//! ```
//!
//! Only files with these names are ever touched, in these folders. Readers of the output may move committed parts away:
//! a part of the restored checkpoint that is neither staged nor visible counts as moved away, as long as the marker
//! `owner` shows that the staging folder is still the same. If the marker is also missing, the folder was removed, and
//! the job does not resume. If a user removes a single staged part, this is not detected. When the job returns to an
//! older checkpoint, parts that were moved away since cannot be taken back. A savepoint that counts parts which were taken
//! back from this folder is refused.

mod compression;
mod folder;
mod part;

mod open_part;
mod writer;

mod committer;
mod look;
mod made_folders;
mod taken_back;

use std::fs::{self, File};
use std::io::{self, BufRead, ErrorKind};
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::csv_layout::{CsvCharacter, CsvLayout, refuse_given};
use super::record_format::RecordLayout;
use super::settings::{fact, seen_from};
use super::{
    ConnectorError, Guarantee, NodeContext, Sink, SinkCommitter, SinkFormat, SinkSettings,
    SinkWriter,
};
use committer::FileCommitter;
use floodmark_state::stream::{CheckpointId, TaskIndex};
use made_folders::MadeFolders;
use part::PartName;
use writer::{FileWriter, PartLimits, WriterSettings};

pub use compression::OutputCompression;
pub use folder::FolderTemplate;
pub use taken_back::OutputTakenBack;

/// Number of files that a task has open at a time, by default.
const OPEN_FILES_MAX: usize = 64;

/// The fields of a sink with `connector = "file"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileSinkSettings {
    /// The output folder, which is created if it is missing.
    pub path: PathBuf,
    /// The format of records.
    #[serde(default)]
    pub format: SinkFormat,
    /// In `csv`: the character between key and value, by default a comma.
    #[serde(default)]
    pub delimiter: Option<CsvCharacter>,
    /// In `csv`: the character around fields where needed, by default `"`.
    #[serde(default)]
    pub quote: Option<CsvCharacter>,
    /// In `csv`: whether each file begins with the row `key,value`. It does not by default.
    #[serde(default)]
    pub header: Option<bool>,
    /// How files are compressed. They are not by default.
    #[serde(default)]
    pub compression: OutputCompression,
    /// The folder of each record, below that of the sink; by default that of the sink itself.
    #[serde(default)]
    pub folders: Option<FolderTemplate>,
    /// Length of a file after which the next record begins another one.
    #[serde(default)]
    pub roll_bytes: Option<NonZeroU64>,
    /// Number of records in a file after which the next one begins another file.
    #[serde(default)]
    pub roll_records: Option<NonZeroU64>,
    /// With `folders`: number of files that a task has open at a time, by default 64.
    #[serde(default)]
    pub open_files: Option<NonZeroUsize>,
}

impl FileSinkSettings {
    fn writer(&self) -> WriterSettings {
        WriterSettings {
            layout: self.layout(),
            has_header: self.has_header(),
            compression: self.compression,
            folders: self.folders.clone(),
            numbers_parts: self.folders.is_some()
                || self.roll_records.is_some()
                || self.roll_bytes.is_some(),
            limits: PartLimits {
                records: self.roll_records.map_or(u64::MAX, NonZeroU64::get),
                bytes: self.roll_bytes.map_or(u64::MAX, NonZeroU64::get),
            },
            open_files_max: self.open_files.map_or(OPEN_FILES_MAX, NonZeroUsize::get),
        }
    }

    fn layout(&self) -> RecordLayout {
        RecordLayout {
            format: self.format,
            csv: CsvLayout::new(self.delimiter, self.quote),
        }
    }

    fn has_header(&self) -> bool {
        self.header == Some(true)
    }

    fn check(&self) -> Result<(), ConnectorError> {
        if self.open_files.is_some() && self.folders.is_none() {
            return Err(ConnectorError::Setting {
                setting: "open-files",
                reason: "a task without `folders` has one open file; leave it out, or set `folders`",
            });
        }
        if self.format == SinkFormat::Csv {
            return self.layout().csv.check();
        }
        refuse_given(&[
            ("delimiter", self.delimiter.is_some()),
            ("quote", self.quote.is_some()),
            ("header", self.header.is_some()),
        ])
    }
}

impl SinkSettings for FileSinkSettings {
    /// `folders`, `compression` and limits are not a part of it: each checkpoint says where its output is, so a job may
    /// resume with others.
    fn identity(&self, folder: &Path) -> Vec<(String, String)> {
        let mut facts = vec![
            fact("path", seen_from(folder, &self.path).display()),
            fact("format", self.format.word()),
        ];
        facts.extend(self.layout().csv.facts());
        facts.extend(self.has_header().then(|| fact("header", true)));
        facts
    }

    fn writes(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn format(&self) -> Option<SinkFormat> {
        Some(self.format)
    }

    fn open(&self, context: &NodeContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> {
        self.check()?;
        Ok(Arc::new(FileSink::new(
            self,
            context.folder,
            context.job,
            context.node,
            context.data_folder,
        )))
    }
}

/// Writes parts into a folder.
#[derive(Debug)]
pub struct FileSink {
    folder: PathBuf,
    settings: Arc<WriterSettings>,
    owner: Owner,
}

/// The committed parts in a folder, in the order of their commits; none if the folder does not exist.
///
/// # Errors
/// When the folder cannot be read.
pub fn committed(folder: &Path) -> Result<Vec<PathBuf>, ConnectorError> {
    let made = MadeFolders::read(folder, &staging(folder))?;
    let mut parts = visible(folder, &made)?;
    parts.sort_unstable();
    Ok(parts.into_iter().map(|(_, path)| path).collect())
}

/// The parts in the folder of a sink and in those that it has made, in no order.
fn visible(folder: &Path, made: &MadeFolders) -> Result<Vec<(PartName, PathBuf)>, ConnectorError> {
    let mut parts = Vec::new();
    for folder in [folder.to_owned()].into_iter().chain(made.paths()) {
        for name in names(&folder)? {
            parts.extend(PartName::parse(&name).map(|part| (part, folder.join(&name))));
        }
    }
    Ok(parts)
}

/// The names in a folder that are UTF-8, as all names of a sink are; none if the folder does not exist.
fn names(folder: &Path) -> Result<Vec<String>, ConnectorError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries.map_err(ConnectorError::io("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ConnectorError::io("read", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    Ok(names)
}

/// Opens a part to read what was written to it: without its compression, if its name says that it has one.
///
/// # Errors
/// When it cannot be opened.
pub fn read_part(part: &Path) -> io::Result<Box<dyn BufRead>> {
    let name = part.file_name().and_then(|name| name.to_str());
    let name = name.and_then(PartName::parse);
    let compression = name.map_or(OutputCompression::None, |name| name.ending.compression);
    compression.decode(File::open(part)?)
}

/// The checkpoint that made a part visible; `None` for a file that is not a part.
#[must_use]
pub fn checkpoint_of(part: &Path) -> Option<CheckpointId> {
    let name = part.file_name()?.to_str()?;
    Some(PartName::parse(name)?.checkpoint)
}

/// The job and sink that may write to a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    job: String,
    sink: String,
    /// The data folder with the checkpoints that the parts belong to.
    data: String,
}

impl FileSink {
    /// A sink of node `sink` of `job`, whose checkpoints are in the data folder with the id `data`. A relative path
    /// starts at `base`, the pipeline file's folder.
    #[must_use]
    pub fn new(
        settings: &FileSinkSettings,
        base: &Path,
        job: &str,
        sink: &str,
        data: &str,
    ) -> Self {
        Self {
            folder: base.join(&settings.path),
            settings: Arc::new(settings.writer()),
            owner: Owner {
                job: job.to_owned(),
                sink: sink.to_owned(),
                data: data.to_owned(),
            },
        }
    }
}

impl Sink for FileSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn look(&self) -> Result<(), ConnectorError> {
        look::look(&self.folder, &self.owner)
    }

    fn writer(&self, task: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(FileWriter::new(
            self.folder.clone(),
            staging(&self.folder),
            Arc::clone(&self.settings),
            task,
        )))
    }

    /// Only one committer exists at a time, over all processes: it holds a lock on the folder.
    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError> {
        let committer = FileCommitter::open(self.folder.clone(), self.owner.clone())?;
        Ok(Box::new(committer))
    }
}

fn staging(folder: &Path) -> PathBuf {
    folder.join(".staged")
}

#[cfg(test)]
#[path = "file_sink/tests.rs"]
mod tests;

#[cfg(test)]
#[path = "file_sink/many_parts_tests.rs"]
mod many_parts_tests;
