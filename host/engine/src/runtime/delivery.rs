//! Passes records to the tasks of a worker, and their output to the next tasks.
//!
//! A task whose state is not all in memory yet takes few records at a time at first, so that output does not wait for
//! all of the state. The other records wait in the task's region and are processed piece by piece, one per step; later
//! records for that task wait behind them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::JobError;
use super::keyed::KeyedBatch;
use super::plan::{NodeIndex, RegionIndex};
use super::report::Report;
use super::retained_state::RetainedState;
use super::sizes::{CALL_RECORDS_MAX, call_sized, cuts, is_call_sized};
use super::task::Task;
use super::worker::{Outlet, Worker};
use crate::guest::LogLine;
use crate::observe::Stage;
use floodmark_state::stream::{Batch, InputPort, OutputPort};
use floodmark_state::{Chunk, ChunkRef};

/// Records that a task processes later.
pub(super) struct WaitingBatch {
    node: NodeIndex,
    input: InputPort,
    batch: Batch,
}

impl Worker {
    /// Passes on records of an output port.
    pub(super) fn emit(
        &mut self,
        node: NodeIndex,
        port: OutputPort,
        batch: Batch,
    ) -> Result<(), JobError> {
        let count = self.outlets[node.0][usize::from(port.0)].len();
        let mut batch = Some(batch);
        for outlet in 0..count {
            let is_last = outlet + 1 == count;
            let batch = if is_last { batch.take() } else { batch.clone() };
            let batch = batch.expect("only the last outlet takes the batch");
            match self.outlets[node.0][usize::from(port.0)][outlet] {
                Outlet::Exchange(exchange) => {
                    self.meters.stages.enter(node, Stage::Exchange);
                    self.exchanges[exchange.0].push(&batch);
                }
                Outlet::Local { to, input, keyed } => {
                    self.hand(node, (to, input), keyed, batch)?;
                }
            }
        }
        Ok(())
    }

    /// Passes a batch to a task of this worker, in calls of the usual size, with a dictionary if the task needs one.
    fn hand(
        &mut self,
        from: NodeIndex,
        (to, input): (NodeIndex, InputPort),
        is_keyed: bool,
        batch: Batch,
    ) -> Result<(), JobError> {
        self.meters.stages.enter(from, Stage::Exchange);
        if is_call_sized(&batch, CALL_RECORDS_MAX) {
            let whole = match is_keyed {
                true => self.dictionary.keyed(batch),
                false => KeyedBatch::without_dictionary(batch),
            };
            return self.give(to, input, whole);
        }
        for records in cuts(&batch, CALL_RECORDS_MAX) {
            self.meters.stages.enter(from, Stage::Exchange);
            let piece = match is_keyed {
                true => self.dictionary.keyed_part(&batch, records),
                false => KeyedBatch::without_dictionary(batch.cut(records)),
            };
            self.give(to, input, piece)?;
        }
        Ok(())
    }

    /// Passes records to a task, or keeps them for the next steps if it takes few at a time.
    pub(super) fn give(
        &mut self,
        node: NodeIndex,
        input: InputPort,
        keyed: KeyedBatch,
    ) -> Result<(), JobError> {
        let records_max = match &self.tasks[node.0] {
            Some(Task::Operator(operator)) => operator.call_records_max(),
            _ => usize::MAX,
        };
        let region = &mut self.regions[self.region_of[node.0].0];
        let mut waiting = region.waiting.iter();
        let is_next = waiting.all(|waiting| waiting.node != node);
        if is_next && keyed.batch.len() <= records_max {
            return self.process(node, input, keyed);
        }
        let pieces = call_sized(keyed.batch, records_max.min(CALL_RECORDS_MAX));
        let pieces = pieces
            .into_iter()
            .map(|batch| WaitingBatch { node, input, batch });
        region.waiting.extend(pieces);
        Ok(())
    }

    /// Processes the first waiting records of a region. Returns whether there were any.
    pub(super) fn take_up(&mut self, at: RegionIndex) -> Result<bool, JobError> {
        let waiting = self.regions[at.0].waiting.pop_front();
        let Some(WaitingBatch { node, input, batch }) = waiting else {
            return Ok(false);
        };
        let keyed = self.dictionary.keyed(batch);
        self.process(node, input, keyed)?;
        Ok(true)
    }

    /// Passes records to a task, and its output to the next ones.
    fn process(
        &mut self,
        node: NodeIndex,
        input: InputPort,
        keyed: KeyedBatch,
    ) -> Result<(), JobError> {
        self.meters.note_in(node, &keyed.batch);
        let leaving = match self.tasks[node.0].as_mut().expect("every node has a task") {
            Task::Source(_) => unreachable!("no edge leads to a source"),
            Task::Sink(sink) => {
                self.meters.stages.enter(node, Stage::Sink);
                let unwritable = sink
                    .writer
                    .write(&keyed.batch)
                    .map_err(|reason| JobError::connector(&self.names[node.0], reason))?;
                let written = (keyed.batch.len() - unwritable.len()) as u64;
                sink.records += written;
                self.meters
                    .counters
                    .records_out
                    .fetch_add(written, Ordering::Relaxed);
                self.meters.note_out(node, &keyed.batch);
                if unwritable.is_empty() {
                    return Ok(());
                }
                return self.refuse_output(node, &keyed.batch, unwritable);
            }
            Task::Operator(operator) => {
                operator.laps = self.meters.stages.lend();
                let leaving = operator.process(input, keyed, self.wall_ms);
                self.meters.stages.take_back(node, &operator.laps);
                let lines = operator.take_log();
                let is_dirty = leaving.is_ok() && operator.is_newly_dirty();
                self.meters.note_call(node, operator);
                self.report_log(node, lines);
                self.report_refusal(node);
                if is_dirty {
                    self.link
                        .report(Report::StateDirty(self.part(self.region_of[node.0])));
                }
                leaving.map_err(|error| JobError::of_task(&self.names[node.0], error))?
            }
        };
        for (port, batch) in leaving {
            self.meters.note_out(node, &batch);
            self.emit(node, port, batch)?;
        }
        Ok(())
    }

    pub(super) fn report_log(&self, node: NodeIndex, lines: Vec<LogLine>) {
        for line in lines {
            self.link.report(Report::Log {
                operator: self.names[node.0].clone(),
                task: self.index.task(),
                line,
            });
        }
    }

    /// The chunks that this worker's operators do not have in memory, by node.
    pub fn missing(&mut self) -> Vec<(NodeIndex, ChunkRef)> {
        let mut missing = Vec::new();
        for (node, task) in (0..).map(NodeIndex).zip(&mut self.tasks) {
            if let Some(Task::Operator(operator)) = task {
                let chunks = operator.store_mut().missing().into_iter();
                missing.extend(chunks.map(|chunk| (node, chunk)));
            }
        }
        missing
    }

    /// Gives an operator a chunk that it may lack.
    ///
    /// # Errors
    /// When the chunk is damaged, or cannot be kept. The worker must not be used again.
    pub fn supply(&mut self, node: NodeIndex, chunk: Arc<Chunk>) -> Result<(), JobError> {
        let Some(Some(Task::Operator(operator))) = self.tasks.get_mut(node.0) else {
            return Ok(());
        };
        let supplied = operator.store_mut().supply(chunk);
        supplied.map_err(|reason| JobError::chunks(&self.names[node.0], reason))
    }

    /// The names of all nodes.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    /// The state of its operators, by node.
    pub(super) fn into_states(self) -> impl Iterator<Item = (NodeIndex, RetainedState)> {
        let tasks = (0..).map(NodeIndex).zip(self.tasks);
        tasks.filter_map(|(node, task)| match task {
            Some(Task::Operator(operator)) => Some((node, operator.into_state()?)),
            _ => None,
        })
    }
}
