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
mod field;
mod record_format;
mod rfc3339;
mod settings;

use std::fmt;
use std::path::{Path, PathBuf};
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

/// Why a source or sink cannot continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectorError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// No file matches.
    #[error("`{}` matches no file; create one there, or point `path` elsewhere", path.display())]
    NoInput {
        /// The configured path.
        path: PathBuf,
    },
    /// A setting is invalid.
    #[error("invalid `{setting}`: {reason}")]
    Setting {
        /// The name of the field.
        setting: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// A compressed file is not what its name or an earlier run says, or cannot be decompressed.
    #[error("`{}`, byte {byte} of its content: {reason}", path.display())]
    Compressed {
        /// The file.
        path: PathBuf,
        /// The number of decompressed bytes before the place.
        byte: u64,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file is shorter than the part that was read before the restored checkpoint.
    #[error(
        "`{}` ends at byte {len}, but it was read up to byte {position} before the checkpoint; restore the file, or start over with `--fresh`, which reads again what is there",
        path.display()
    )]
    InputShrank {
        /// The file.
        path: PathBuf,
        /// Its length now.
        len: u64,
        /// The restored position, in bytes.
        position: u64,
    },
    /// What was read from standard input is needed again, and is not in memory any more.
    #[error(
        "the job would resume standard input at byte {position}, but only what follows byte {kept_from} is kept in memory; set a larger `replay-bytes`, or run the job again to resume with what standard input gives then"
    )]
    StandardInputGone {
        /// The restored position, in bytes.
        position: u64,
        /// The position of the first byte that is kept.
        kept_from: u64,
    },
    /// A file that a restored position names no longer exists, and was not read to its end.
    #[error(
        "`{}` no longer exists, but it was read only up to byte {position}, which is not its end; restore the file, or start over with `--fresh`, which reads the files that are there from their beginning and loses the rest of this one",
        path.display()
    )]
    InputGone {
        /// The file.
        path: PathBuf,
        /// The restored position, in bytes.
        position: u64,
    },
    /// A file is not the one that was read, or was rewritten.
    #[error(
        "`{}` is not what was read up to byte {position}: the bytes before that one are others now; restore the file, or start over with `--fresh`, which reads what is there from its beginning and loses the unread rest of the earlier file",
        path.display()
    )]
    InputReplaced {
        /// The file.
        path: PathBuf,
        /// The position, in bytes.
        position: u64,
    },
    /// The last line of a file was read as a record, and was continued afterwards.
    #[error(
        "`{}` had a last line without a newline, which was read as a record up to byte {position}, and has been continued since: it was read before it was complete; insert a newline at byte {position} to make the rest a record of its own, or start over with `--fresh`, which reads all lines again",
        path.display()
    )]
    InputContinued {
        /// The file.
        path: PathBuf,
        /// The position after the part that was read.
        position: u64,
    },
    /// A checkpoint names a file that the source cannot read.
    #[error(
        "the checkpoint names `{}` as input, which `path` does not match; it is damaged, or was made to read other files: take another checkpoint, or start over with `--fresh`",
        path.display()
    )]
    ForeignInput {
        /// The file, which was not opened.
        path: PathBuf,
    },
    /// A setting that positions depend on has changed.
    #[error(
        "`{setting}` was {before} when the checkpoint was taken, and is now {now}; set it back, or start over with `--fresh`"
    )]
    SettingChanged {
        /// The name of the field.
        setting: &'static str,
        /// Its value in the checkpoint.
        before: String,
        /// Its value in the pipeline.
        now: String,
    },
    /// A task would write more files for one checkpoint than it may.
    #[error(
        "a task would write more than {parts_max} files to `{}` for one checkpoint; use `folders` with fewer values, a larger `roll-bytes`, `roll-records` or `open-files`, or a shorter `checkpoint.interval`",
        path.display()
    )]
    TooManyParts {
        /// The folder of the sink.
        path: PathBuf,
        /// How many it may write.
        parts_max: u32,
    },
    /// Output of a run whose checkpoints no longer exist.
    #[error(
        "`{}` holds output of this job (parts: {parts}) that belongs to no checkpoint of this data folder; to keep state and output, use the data folder that the job had with `--data-dir`, or start from a savepoint of it with `--from`; else point `path` elsewhere, or run with `--fresh` to remove the output and start over",
        path.display()
    )]
    ForeignOutput {
        /// The folder of the sink.
        path: PathBuf,
        /// Number of parts.
        parts: usize,
    },
    /// The folder is another sink's.
    #[error(
        "`{}` is the output of sink `{sink}` of job `{job}`; give each sink a folder of its own",
        path.display()
    )]
    OutputTaken {
        /// The folder of the sink.
        path: PathBuf,
        /// The job that the folder belongs to.
        job: String,
        /// The sink of that job.
        sink: String,
    },
    /// Something that the sink has not written is where a part is to become visible.
    #[error("`{}` is named like output of this sink, which has not written it; move it away, or point `path` elsewhere", path.display())]
    ForeignPart {
        /// The file.
        path: PathBuf,
    },
    /// A folder of `folders` is a symbolic link.
    #[error("`{}` is a symbolic link, and the sink writes to real folders only; put a folder in its place, or point `path` elsewhere", path.display())]
    LinkedFolder {
        /// The link.
        path: PathBuf,
    },
    /// Another sink or process writes into the folder at this moment.
    #[error(
        "`{}` is being written by another sink or another run; stop that, or point `path` elsewhere",
        path.display()
    )]
    OutputInUse {
        /// The folder of the sink.
        path: PathBuf,
    },
    /// Output of the same sink, but of a run with another data folder.
    #[error(
        "`{}` holds the output of a run of this job with another data folder; to keep state and output, use that folder with `--data-dir`, or start from a savepoint of it with `--from`; else point `path` elsewhere, or run with `--fresh` to remove that output and start over",
        path.display()
    )]
    OtherRun {
        /// The folder of the sink.
        path: PathBuf,
    },
    /// Files with names of parts, in a folder that no sink has marked as its own.
    #[error(
        "`{}` holds files that are named like output ({parts}), but no sink has marked the folder as its own; move them away, or point `path` elsewhere",
        path.display()
    )]
    UnmarkedOutput {
        /// The folder of the sink.
        path: PathBuf,
        /// Number of parts.
        parts: usize,
    },
    /// A staged part is not what was staged.
    #[error(
        "part `{}` has {len} bytes, but the checkpoint says {expected}; restore the file, go back to an older checkpoint with `--from ID`, or start over with `--fresh`",
        path.display()
    )]
    PartDamaged {
        /// The file.
        path: PathBuf,
        /// Its length now.
        len: u64,
        /// Its length when it was staged.
        expected: u64,
    },
    /// A part that the checkpoint names is missing.
    #[error("part `{}` of the restored checkpoint is missing; if the output was moved, move it back with its folder `.staged`; else go back to an older checkpoint with `--from ID`, start from a savepoint with `--from FILE` and another `path`, or start over with `--fresh`", path.display())]
    PartGone {
        /// Where the part should be.
        path: PathBuf,
    },
    /// Parts that the checkpoint counts were taken back since.
    #[error(transparent)]
    OutputTakenBack(OutputTakenBack),
    /// A file or folder may not be durable: another sync could succeed without writing what this one has lost.
    #[error("cannot sync `{}`: {source}; what the disk holds of it is unknown", path.display())]
    Unsynced {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A split, part or state in an encoding that this version does not read.
    #[error("{what} in the checkpoint cannot be read by this version of floodmark: {reason}")]
    Undecodable {
        /// The kind of data, such as a split.
        what: &'static str,
        /// Why it cannot be decoded.
        reason: String,
    },
}

impl ConnectorError {
    /// Whether the reader of the output has closed it: a clean end for a command that writes to a pipe.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Whether what was staged is unknown now, so that it must be written again.
    #[must_use]
    pub fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Unsynced { .. })
    }

    /// Whether the same may succeed when it is tried again, although no person has changed anything. All else would only
    /// delay the message.
    #[must_use]
    pub fn passes_by_retrying(&self) -> bool {
        match self {
            Self::Io { .. } => !self.is_closed_pipe(),
            // What was lost is written again from the last checkpoint.
            Self::OutputInUse { .. } | Self::Unsynced { .. } => true,
            Self::NoInput { .. }
            | Self::Setting { .. }
            | Self::Compressed { .. }
            | Self::InputShrank { .. }
            | Self::StandardInputGone { .. }
            | Self::InputGone { .. }
            | Self::InputReplaced { .. }
            | Self::InputContinued { .. }
            | Self::ForeignInput { .. }
            | Self::SettingChanged { .. }
            | Self::TooManyParts { .. }
            | Self::ForeignOutput { .. }
            | Self::OutputTaken { .. }
            | Self::ForeignPart { .. }
            | Self::LinkedFolder { .. }
            | Self::OtherRun { .. }
            | Self::UnmarkedOutput { .. }
            | Self::PartDamaged { .. }
            | Self::PartGone { .. }
            | Self::OutputTakenBack(_)
            | Self::Undecodable { .. } => false,
        }
    }

    /// For `map_err`: what could not be synced.
    fn unsynced(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Unsynced {
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err`: what was tried, on what.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
