//! One parallel copy of a source: reads batches, and hands on what is not a record.
//!
//! A batch ends ahead of such a part of the input, so its records leave first. What is done about it is decided elsewhere
//! (`bad_records`).

use std::sync::Arc;
use std::time::Duration;

use super::bad_records::BadRecordHandler;
use super::sizes::BATCH_LIMITS;
use super::task::Task;
use super::worker::Worker;
use crate::connector::folder_events::FolderEvents;
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{BadRecord, ConnectorError, ReadOutcome, SourceReader};
use floodmark_state::stream::batch::Room;
use floodmark_state::stream::{Batch, NO_TIMESTAMP, Timestamp};

/// Reads one task's splits of a source.
pub struct SourceTask {
    /// The connector's reader.
    pub reader: Box<dyn SourceReader>,
    /// The name of its node.
    pub name: Arc<str>,
    /// Whether its event times do not count for the watermark of the input.
    pub is_beside_input: bool,
    /// Whether no task reads the values of its records, which are then left empty.
    pub skips_values: bool,
    /// Whether the input has ended.
    pub finished: bool,
    /// Nothing can be read before this time.
    pub idle_until: Duration,
    /// Records read by this process.
    pub records: u64,
    /// The size of the last batch, reserved at once for the next one.
    pub room: Room,
    /// The latest event time so far.
    pub newest: Timestamp,
    /// The handling of what it cannot read.
    pub bad_records: BadRecordHandler,
}

impl SourceTask {
    /// A task before its first record.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        reader: Box<dyn SourceReader>,
        bad_records: BadRecordHandler,
    ) -> Self {
        Self {
            reader,
            name,
            is_beside_input: false,
            skips_values: false,
            finished: false,
            idle_until: Duration::ZERO,
            records: 0,
            room: Room::default(),
            newest: NO_TIMESTAMP,
            bad_records,
        }
    }

    /// Whether it may have records now.
    #[must_use]
    pub fn is_ready(&self, now: Duration) -> bool {
        !self.finished && (self.idle_until <= now || self.reader.has_news())
    }

    /// Reads a batch, which may be empty, and returns what follows it if that is not a record.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn read(
        &mut self,
        now: Duration,
    ) -> Result<(Batch, Option<Box<BadRecord>>), ConnectorError> {
        let mut batch = Batch::with_room(self.room);
        batch.skips_values = self.skips_values;
        let mut bad = None;
        match self.reader.read(now, BATCH_LIMITS, &mut batch)? {
            ReadOutcome::More => {}
            ReadOutcome::Idle { until } => self.idle_until = until,
            ReadOutcome::Finished => self.finished = true,
            ReadOutcome::Bad(record) => bad = Some(record),
        }
        batch.origin.of_source(&self.name);
        self.room = batch.room();
        self.records += batch.len() as u64;
        self.newest = self.newest.max(
            batch
                .timestamps
                .iter()
                .copied()
                .max()
                .unwrap_or(NO_TIMESTAMP),
        );
        Ok((batch, bad))
    }
}

impl Worker {
    /// Gives its sources a service that reads files ahead. Call it before the first step.
    pub fn read_ahead_by(&mut self, service: &Arc<dyn ReadAhead>) {
        for source in self.sources() {
            source.reader.read_ahead_by(service);
        }
    }

    /// Gives its sources a service that says when files have changed. Call it before the first step.
    pub fn notify_by(&mut self, service: &Arc<dyn FolderEvents>) {
        for source in self.sources() {
            source.reader.notify_by(service);
        }
    }

    fn sources(&mut self) -> impl Iterator<Item = &mut SourceTask> {
        self.tasks
            .iter_mut()
            .flatten()
            .filter_map(|task| match task {
                Task::Source(source) => Some(source),
                Task::Operator(_) | Task::Sink(_) => None,
            })
    }
}
