//! Where records come from and go to: one connector per file, behind two pairs of traits.
//!
//! A source is split into parts that can be read independently; a split carries its own position, so a checkpoint keeps
//! splits as bytes that only their connector reads. A sink is a writer per task, which stages, and one committer per
//! node, which makes staged output durable before a checkpoint and visible after it. Nothing here knows of workers,
//! barriers or the checkpoint store.

#[cfg_attr(doc, doc(hidden))]
pub mod file_source;
#[cfg_attr(doc, doc(hidden))]
pub mod generator;

#[cfg_attr(doc, doc(hidden))]
pub mod letter;

#[cfg_attr(doc, doc(hidden))]
pub mod discard;
#[cfg_attr(doc, doc(hidden))]
pub mod file_sink;
#[cfg_attr(doc, doc(hidden))]
pub mod stdout;

#[cfg_attr(doc, doc(hidden))]
pub mod folder_events;
#[cfg_attr(doc, doc(hidden))]
pub mod read_ahead;

mod bad_record;
mod csv_layout;
mod encoding;
mod error;
mod field;
mod record_format;
pub(crate) mod regular_file;
mod rfc3339;
mod settings;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[cfg_attr(doc, doc(hidden))]
pub use discard::{DiscardSink, DiscardSinkSettings};
#[cfg_attr(doc, doc(hidden))]
pub use file_sink::{FileSink, FileSinkSettings, OutputTakenBack};
#[cfg_attr(doc, doc(hidden))]
pub use file_source::stdin::{StdinSettings, StdinSource};
#[cfg_attr(doc, doc(hidden))]
pub use file_source::{FileSource, FileSourceSettings, ReplayedLetters, SourceFormat};
#[cfg_attr(doc, doc(hidden))]
pub use generator::{GeneratorSettings, GeneratorSource};
#[cfg_attr(doc, doc(hidden))]
pub use stdout::{StdoutSink, StdoutSinkSettings};

// Items of the crates below that connectors of third parties need.
pub use bad_record::{BadContent, BadRecord, UnwritableRecord};
pub use csv_layout::CsvCharacter;
pub use error::ConnectorError;
pub use floodmark_checkpoint::{CommitPermit, Split, Staged};
pub use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};
pub use record_format::SinkFormat;
pub use settings::{Endless, NodeContext, SinkSettings, SourceSettings};

use folder_events::FolderEvents;
use read_ahead::ReadAhead;

/// A source node before it runs.
pub trait Source: Send + Sync {
    /// All splits to read: those of the checkpoint (if any) with their positions, and those found since. `from` is the
    /// checkpoint that the job resumes from, also when it does not know this source.
    ///
    /// # Errors
    /// When the input cannot be read, or lacks what a restored position has read already.
    fn splits(
        &self,
        from: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError>;

    /// Looks whether a reader could begin at the positions of a checkpoint now: later checkpoints are deleted after this. The
    /// readers that run keep what they have.
    ///
    /// # Errors
    /// When [`Source::splits`] would fail with these positions. Nothing has changed.
    fn can_resume(&self, splits: &[Split]) -> Result<(), ConnectorError>;

    /// Whether its records come beside the input, such as a second time: their event times say nothing of how far the
    /// input is.
    fn is_beside_input(&self) -> bool;

    /// A reader of these splits, for one task.
    ///
    /// # Errors
    /// When a split is not of this source, or cannot be opened.
    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError>;

    /// A source of the records in dead letters of this one, read once more with the settings of now. The letters are in
    /// the files of `folder`, which may not exist; with `follow` it waits for new ones. `None` if all of its records can
    /// be read.
    fn letters(&self, _folder: &Path, _follow: bool) -> Option<Arc<dyn Source>> {
        None
    }

    /// Number of bytes that this process has taken from an input which gives them only once, and that are behind these
    /// positions: the next process does not get them. `None` if there is no checkpoint. 0 for input that can be read again.
    fn bytes_lost_behind(&self, _splits: Option<&[Split]>) -> u64 {
        0
    }
}

/// One task's share of a source. Never blocks for long: a worker reads other inputs between two calls.
pub trait SourceReader: Send {
    /// Adds records to `batch` until a limit is reached, no record is at hand, or the next one is bad. `now` is the time
    /// since the job began.
    ///
    /// # Errors
    /// When the input cannot be read. What has been added to the batch is not to be used.
    fn read(
        &mut self,
        now: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError>;

    /// Gives it a service that reads files beside the worker, before its first read. What it reads stays the same. One that
    /// reads no files has no use for it.
    fn read_ahead_by(&mut self, _service: &Arc<dyn ReadAhead>) {}

    /// Gives it a service that says when files have changed, before its first read. One that waits for no files has no use
    /// for it.
    fn notify_by(&mut self, _service: &Arc<dyn FolderEvents>) {}

    /// Whether there may be something before the time that [`ReadOutcome::Idle`] named: its service said so.
    fn has_news(&self) -> bool {
        false
    }

    /// What its user should know once, such as why it is slower than it could be. Asked after a read without records.
    fn take_warning(&mut self) -> Option<String> {
        None
    }

    /// The splits with the position after the last record that was read.
    fn splits(&self) -> Vec<Split>;

    /// How much of the splits is done.
    fn progress(&self) -> SourceProgress;
}

/// Where [`SourceReader::read`] stops. At least one record is read, however long it is.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Largest number of records in the batch.
    pub records_max: usize,
    /// Bytes of keys and values in the batch after which no further record is added.
    pub bytes_max: usize,
}

impl ReadLimits {
    /// Whether no further record is to be added.
    #[must_use]
    #[inline]
    pub fn are_reached(self, batch: &Batch) -> bool {
        batch.len() >= self.records_max || batch.bytes_len() >= self.bytes_max
    }
}

/// What may come after a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// There may be more at once.
    More,
    /// There is nothing before this time since the job began.
    Idle {
        /// When to try again.
        until: Duration,
    },
    /// There will never be more.
    Finished,
    /// After the records in the batch comes something that is not a record. The position is behind it, and there may be
    /// more at once.
    Bad(Box<BadRecord>),
}

/// How much of a source is done. Units are the source's own, such as bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceProgress {
    /// Done, what an earlier run did included.
    pub done: u64,
    /// All there is, if that is known.
    pub total: Option<u64>,
}

/// A sink node before it runs.
pub trait Sink: Send + Sync {
    /// What a reader of the output sees after a failure.
    fn guarantee(&self) -> Guarantee;

    /// Looks whether the output can be written, as far as that shows without changing anything. Called before the plugins of
    /// a pipeline are built; a sink that cannot know leaves it out.
    ///
    /// # Errors
    /// When the output cannot be opened.
    fn look(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// The writer of one task.
    ///
    /// # Errors
    /// When the output cannot be opened.
    fn writer(&self, task: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError>;

    /// The one committer of this node.
    ///
    /// # Errors
    /// When the output cannot be opened.
    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError>;
}

/// What a sink promises across a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Each record is visible once.
    ExactlyOnce,
    /// Each record is visible; those since the last checkpoint may be so again.
    AtLeastOnce,
}

/// One task's share of a sink.
pub trait SinkWriter: Send {
    /// Takes records, invisibly where the sink is exactly once. Returns those that its format cannot express, in order:
    /// nothing of them is written, and all others are.
    ///
    /// # Errors
    /// When they cannot be written: how many of them were is unknown.
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError>;

    /// Ends what was written since the last call as the part of this checkpoint; `None` if that is nothing. Hands all
    /// bytes to the operating system, and leaves making them durable to the committer.
    ///
    /// # Errors
    /// When they cannot be written: the part is not to be used.
    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError>;
}

/// Makes staged parts durable, then visible. Lives on the thread that writes checkpoints.
pub trait SinkCommitter: Send {
    /// Makes parts durable. Returns what the committer has to know again after a restart, as it will stand once these
    /// parts are committed. Called once for each part; a part stays prepared when the checkpoint fails.
    ///
    /// # Errors
    /// When a part may not be durable: the checkpoint must fail. After [`ConnectorError::Unsynced`] the job goes back to its
    /// last checkpoint and writes the output again. After any other error the parts come again with the next checkpoint.
    fn prepare(&mut self, staged: &[Staged]) -> Result<Vec<u8>, ConnectorError>;

    /// Makes prepared parts visible. Doing so again changes nothing.
    ///
    /// # Errors
    /// When some may not be visible: they are committed again with the next checkpoint, or at the next start.
    fn commit(&mut self, permit: &CommitPermit, staged: &[Staged]) -> Result<(), ConnectorError>;

    /// Called once before any other, at the start of a job: commits the parts of the restored checkpoint and removes
    /// all that was staged, or committed, after it. With `None` there is no checkpoint.
    ///
    /// # Errors
    /// When the output is not, and cannot be made, what the checkpoint says; or when there is no checkpoint, but output
    /// of a run whose checkpoints are gone.
    fn recover(&mut self, restored: Option<RestoredSink<'_>>) -> Result<Recovered, ConnectorError>;

    /// Removes all that earlier runs of this job have left, committed or not, so that the job can start over.
    ///
    /// # Errors
    /// When something may still be there.
    fn clear(&mut self) -> Result<Recovered, ConnectorError>;

    /// What has been committed so far, in one line for the end of the job; `None` if there is nothing to say.
    fn summary(&self) -> Option<String>;
}

/// What a checkpoint knows of a sink.
#[derive(Debug, Clone, Copy)]
pub struct RestoredSink<'a> {
    /// Shows that the checkpoint is durable.
    pub permit: &'a CommitPermit,
    /// The id of the data folder in which it was taken: another one than that of the job now if it was carried here as a
    /// savepoint. Empty in checkpoints of old versions, which were not carried.
    pub data_folder: &'a str,
    /// Its parts, committed or not.
    pub staged: &'a [Staged],
    /// What [`SinkCommitter::prepare`] returned.
    pub state: &'a [u8],
}

/// What a committer did to earlier output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Parts made visible.
    pub committed: usize,
    /// Staged parts removed.
    pub aborted: usize,
    /// Visible parts removed, because the job resumes from a checkpoint before them or starts fresh.
    pub retracted: usize,
    /// Number of parts that the checkpoint counts.
    pub counted: u64,
    /// Those of them that are not there, such as parts that a reader has moved away.
    pub absent: u64,
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilePlace {
    /// The number of its line, from 1; `None` if there is too much before it to count lines.
    pub line: Option<u64>,
    /// The number of bytes before it.
    pub byte: u64,
}

impl fmt::Display for FilePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        write!(f, "byte {}", self.byte)
    }
}
