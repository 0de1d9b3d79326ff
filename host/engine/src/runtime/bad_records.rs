//! Handles records that a source cannot read or a sink cannot write: they fail the job, are skipped, or become dead letters.
//!
//! Like `faults`, which does so for operators. A letter leaves at once, behind the records before it and ahead of the next
//! barrier, and the position of the source is already behind the bad record: so letters are exactly once. A job that
//! fails here is not restarted, since the same bytes would fail again.

use std::time::Duration;

use super::JobError;
use super::plan::{Node, NodeIndex, OnError, RegionIndex, Role};
use super::task::Task;
use super::throttled_log::ThrottledLog;
use super::worker::Worker;
use crate::connector::letter::{INPUT_OF_FILES, INPUT_OF_SINKS, INPUT_OF_SOURCES, Letter};
use crate::connector::{BadRecord, UnwritableRecord};
use floodmark_state::stream::{Batch, NO_TIMESTAMP, Origin, OutputPort, Unit};

/// The port of a source for dead letters: the one behind its records.
const LETTERS_OF_SOURCES: OutputPort = OutputPort(1);
/// The only port of a sink.
const LETTERS_OF_SINKS: OutputPort = OutputPort(0);

/// Decides about bad records of a task of a source or sink.
pub struct BadRecordHandler {
    on_error: OnError,
    /// The source or sink in the pipeline file.
    node: String,
    /// The other ways to handle such records, for the message of a job that fails.
    ways: String,
    log: ThrottledLog,
}

impl BadRecordHandler {
    /// The handling that the plan sets for a node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let section = match node.role {
            Role::Sink(_) => "sink",
            Role::Source(_) | Role::Operator(_) => "source",
        };
        // A node that reads letters which are replayed is in no pipeline file. It has the name of theirs, a dot and more.
        let (name, is_typed) = match node.name.split_once('.') {
            Some((name, _)) => (name, false),
            None => (node.name.as_str(), true),
        };
        let ways = match is_typed {
            true => format!(
                "\n  skip such records with `{section}.{name}.on-error = \"skip\"`, or set them aside with `\"dead-letter\"`"
            ),
            false => String::new(),
        };
        Self {
            on_error: node.bad_records,
            node: name.to_owned(),
            ways,
            log: ThrottledLog::default(),
        }
    }

    /// Decides about one record; returns the letter about it, which `letter` makes, unless it is skipped.
    ///
    /// # Errors
    /// When the record must fail the job.
    fn judge(
        &mut self,
        wall_ms: u64,
        (place, reason): (&str, &str),
        letter: impl FnOnce() -> Letter,
    ) -> Result<Option<Letter>, JobError> {
        let (done, letter) = match self.on_error {
            OnError::Fail => {
                return Err(JobError::BadRecord {
                    node: self.node.clone(),
                    place: place.to_owned(),
                    reason: reason.to_owned(),
                    ways: self.ways.clone(),
                });
            }
            OnError::Skip => ("skipped", None),
            OnError::DeadLetter => {
                let letter = Letter {
                    operator: self.node.clone(),
                    reason: reason.to_owned(),
                    ..letter()
                };
                ("set aside as a dead letter", Some(letter))
            }
        };
        self.log.warn(wall_ms, || {
            format!("a bad record is {done}: {place}: {reason}")
        });
        Ok(letter)
    }
}

impl Worker {
    /// Handles what a source could not read. The records before it have been passed on.
    ///
    /// # Errors
    /// When it must fail the job.
    #[cold]
    pub(super) fn refuse_input(
        &mut self,
        at: RegionIndex,
        node: NodeIndex,
        bad: BadRecord,
        now: Duration,
    ) -> Result<(), JobError> {
        let Some(Task::Source(source)) = &mut self.tasks[node.0] else {
            unreachable!("only sources read")
        };
        let BadRecord {
            split,
            span,
            place,
            reason,
            content,
        } = bad;
        let handler = &mut source.bad_records;
        let position = format!("source `{}`: {place}", source.name);
        let letter = || Letter {
            operator: String::new(),
            plugin: String::new(),
            reason: String::new(),
            position,
            input: match content.is_file {
                true => INPUT_OF_FILES,
                false => INPUT_OF_SOURCES,
            }
            .to_owned(),
            key: Vec::new(),
            value: content.bytes,
            timestamp: NO_TIMESTAMP,
            columns: content.columns,
            bytes_in_all: content.bytes_in_all,
        };
        let letter = handler.judge(self.wall_ms, (&place, &reason), letter)?;
        let lines = handler.log.take();
        let mut letters = Batch::default();
        if let Some(letter) = letter {
            let mut origin = Origin::default();
            origin.read(&split, Unit::Bytes, span, 1);
            origin.of_source(&source.name);
            letters.origin = origin;
            letters.push(b"", letter.to_json().as_bytes(), NO_TIMESTAMP);
        }
        self.report_log(node, lines);
        self.meters.note_bad(node, 1 - letters.len(), letters.len());
        if !letters.is_empty() {
            self.emit(node, LETTERS_OF_SOURCES, letters)?;
            self.note_held(at, now);
        }
        Ok(())
    }

    /// Handles the records of a batch that a sink could not write. All others were.
    ///
    /// # Errors
    /// When one must fail the job.
    #[cold]
    pub(super) fn refuse_output(
        &mut self,
        node: NodeIndex,
        batch: &Batch,
        unwritable: Vec<UnwritableRecord>,
    ) -> Result<(), JobError> {
        let Some(Task::Sink(sink)) = &mut self.tasks[node.0] else {
            unreachable!("only sinks write")
        };
        let handler = &mut sink.bad_records;
        let (mut letters, mut skipped) = (Batch::default(), 0);
        for UnwritableRecord { record, reason } in unwritable {
            let key = batch.keys.get(batch.slots[record] as usize);
            let timestamp = batch.timestamps[record];
            let position = batch.origin.describe(record);
            let reason = format!("the record {reason}");
            let letter = || Letter {
                operator: String::new(),
                plugin: String::new(),
                reason: String::new(),
                position: position.clone(),
                input: INPUT_OF_SINKS.to_owned(),
                key: key.to_vec(),
                value: batch.values.get(record).to_vec(),
                timestamp,
                columns: Vec::new(),
                bytes_in_all: None,
            };
            match handler.judge(self.wall_ms, (&position, &reason), letter)? {
                None => skipped += 1,
                Some(letter) => {
                    letters.push(key, letter.to_json().as_bytes(), timestamp);
                }
            }
        }
        letters.origin = batch.origin.inherited();
        let lines = handler.log.take();
        self.report_log(node, lines);
        self.meters.note_bad(node, skipped, letters.len());
        if !letters.is_empty() {
            self.emit(node, LETTERS_OF_SINKS, letters)?;
        }
        Ok(())
    }
}
