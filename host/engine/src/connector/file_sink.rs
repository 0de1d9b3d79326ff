//! The file sink: a folder of parts, each visible once its checkpoint is durable.
//!
//! ```text
//! out/.staged/owner              identifies the owner of the folder
//! out/.staged/open-001           the file that task 1 is writing
//! out/.staged/part-00000007-001.csv   staged for checkpoint 7, durable once prepared
//! out/part-00000006-001.csv      committed, by one rename
//! ```
//!
//! Only files with these names are ever touched. Readers of the output may move committed parts away: a part of the
//! restored checkpoint that is neither staged nor visible counts as moved away, as long as the marker `owner` shows
//! that the staging folder is still the same. If the marker is also missing, the folder was removed, and the job does
//! not resume. If a user removes a single staged part, this is not detected. When the job returns to an older
//! checkpoint, parts that were moved away since cannot be taken back.

mod committer;
mod look;
mod writer;

use std::fs;
use std::io::ErrorKind;
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
use writer::{FileWriter, PartName};

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
}

impl FileSinkSettings {
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
    layout: RecordLayout,
    has_header: bool,
    owner: Owner,
}

/// The committed parts in a folder, in the order of their commits; none if the folder does not exist.
///
/// # Errors
/// When the folder cannot be read.
pub fn committed(folder: &Path) -> Result<Vec<PathBuf>, ConnectorError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(ConnectorError::io("read", folder))?,
    };
    let mut parts = Vec::new();
    for entry in entries {
        let entry = entry.map_err(ConnectorError::io("read", folder))?;
        let name = entry.file_name().into_string().ok();
        parts.extend(name.and_then(|name| PartName::parse(&name)));
    }
    parts.sort_unstable();
    let path = |part: &PartName| folder.join(part.file_name());
    Ok(parts.iter().map(path).collect())
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
            layout: settings.layout(),
            has_header: settings.has_header(),
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
            staging(&self.folder),
            self.layout,
            self.has_header,
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
