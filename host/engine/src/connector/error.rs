//! Why a source or sink cannot continue, and which of that may pass.
//!
//! Messages say what to do next. What concerns one record only is no error here: see `bad_record`.

use std::path::{Path, PathBuf};

use super::file_sink::OutputTakenBack;

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
            // A folder as standard input stays a folder.
            Self::Io { source, .. } => {
                !self.is_closed_pipe() && source.kind() != std::io::ErrorKind::IsADirectory
            }
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
    pub(super) fn unsynced(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Unsynced {
            path: path.to_owned(),
            source,
        }
    }

    /// For `map_err`: what was tried, on what.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
