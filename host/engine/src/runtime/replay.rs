//! Replays records after a checkpoint through one operator, one at a time, for debugging and for the shadow run of a
//! swap.
//!
//! ```text
//! source ─▶ ancestors ─▶ in the operator's place: a sink that keeps      (a worker, as in a job)
//!                                      │ one record
//!                                      ▼
//!                              the operator with its state               (called here)
//! ```
//!
//! The plan is cut down to the operator and its ancestors, at parallelism 1, and built from the checkpoint like a
//! job's. Sources read one record at a time and the operator gets one per call, so that each output belongs to its
//! record. Nothing is written: there is no committer and no storage, only a reader. The clock is fixed at the time of
//! the checkpoint, so the same checkpoint, input and plugin give the same bytes each time.
//!
//! The result may differ from what the job did: a job with several tasks mixes their records, and calls have many
//! records. For a plugin that follows the contract, both give the same per key.

mod cut;
mod states;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::cut::{Captured, cut};
pub use self::states::{Change, ITEMS_MAX};
use super::JobError;
use super::build::{WorkerOrigin, build};
use super::chunks::CheckpointChunks;
use super::keyed::Dictionary;
use super::plan::{NodeIndex, Plan, Role};
use super::report::Reports;
use super::retained_state::RetainedStates;
use super::task::{Task, TaskError};
use super::worker::{Counters, Progress, Worker};
use crate::guest::LogLine;
use floodmark_checkpoint::{Checkpoint, CheckpointReader};
use floodmark_state::stream::{Batch, DEAD_LETTERS, InputPort, OutputPort, Timestamp};
use floodmark_state::{ChunkId, ChunkReader};

/// Number of idle steps in a row after which sources count as read: a source that follows files never ends.
const IDLE_MAX: u32 = 16;

/// The settings of a replay.
#[derive(Clone)]
pub struct ReplayOf<'a> {
    /// The plan, with the plugin to test in the operator's place ([`Plan::with_operator`]).
    pub plan: &'a Plan,
    /// The operator's name.
    pub operator: &'a str,
    /// The checkpoint to start from; `None` starts at the beginning of the input, without state.
    pub checkpoint: Option<&'a Checkpoint>,
    /// Reads its chunks.
    pub reader: Arc<dyn CheckpointReader>,
    /// Whether to read the state of each record's key before and after it, which costs some reads per record.
    pub with_states: bool,
}

/// A replayed record, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedRecord {
    /// The input port at which it arrived.
    pub input: InputPort,
    /// The key, as bytes.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its event time, or [`floodmark_state::stream::NO_TIMESTAMP`].
    pub timestamp: Timestamp,
    /// The position where it was read, in words; or a description of the records it was made from.
    pub position: String,
    /// The effects of processing it.
    pub outcome: ReplayOutcome,
}

/// The effects of one record on an operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplayOutcome {
    /// The emitted records, in order.
    pub emitted: Vec<Emitted>,
    /// The changes in the state of the record's key; empty unless requested.
    pub changes: Vec<Change>,
    /// The lines that the plugin logged.
    pub log: Vec<LogLine>,
    /// The reason why the plugin could not handle the record, or rejected it. Then nothing was emitted or changed, and
    /// the next record got a fresh instance. The pipeline's setting for such records (`on-error`) is ignored here.
    pub failure: Option<String>,
}

/// An emitted record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The output port, by the plugin's name for it.
    pub port: String,
    /// The key, as bytes.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its event time.
    pub timestamp: Timestamp,
}

/// The operator that is called with one record at a time.
struct ReplayedOperator {
    name: String,
    /// Its node in the worker, which no edge leads to.
    node: NodeIndex,
    /// Its output ports, as the plugin calls them.
    outputs: Vec<String>,
}

/// Replays records through one operator.
pub struct Replay {
    operator: ReplayedOperator,
    worker: Worker,
    captured: Captured,
    waiting: VecDeque<(InputPort, Batch)>,
    counters: Arc<Counters>,
    dictionary: Dictionary,
    now: Duration,
    wall_ms: u64,
    idle: u32,
    is_over: bool,
    with_states: bool,
}

impl Replay {
    /// Builds sources, ancestors and the operator with its state, which is migrated if its plugin has another version.
    /// The time is that of the checkpoint.
    ///
    /// # Errors
    /// When the plan has no such operator, its plugin does not accept the state or cannot be opened, or the input
    /// cannot be read. Nothing has changed.
    pub fn new(of: ReplayOf<'_>) -> Result<Self, JobError> {
        let captured = Captured::default();
        let unknown = || JobError::NoSuchOperator {
            operator: of.operator.to_owned(),
        };
        let (plan, node) = cut(of.plan, of.operator, &captured).ok_or_else(unknown)?;
        let outputs = match &plan.node(node).role {
            Role::Operator(operator) => operator.plugin.description().outputs.clone(),
            _ => return Err(unknown()),
        };
        let counters: Arc<Counters> = Arc::default();
        let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(of.reader));
        let origin = WorkerOrigin {
            plan: &plan,
            restored: of.checkpoint,
            chunks: &chunks,
            // Higher than all ids in use; these chunks are never written.
            next_chunk: ChunkId(u64::MAX / 2),
            left: RetainedStates::default(),
        };
        let reports: Reports = Arc::new(|_| ());
        let built = build(origin, &[], &[Arc::clone(&counters)], &reports)?;
        let mut workers = built.workers.into_iter();
        Ok(Self {
            operator: ReplayedOperator {
                name: of.operator.to_owned(),
                node,
                outputs,
            },
            worker: workers.next().expect("there is a worker a counter"),
            captured,
            waiting: VecDeque::new(),
            counters,
            dictionary: Dictionary::default(),
            now: Duration::ZERO,
            wall_ms: of.checkpoint.map_or(0, |checkpoint| checkpoint.created_ms),
            idle: 0,
            is_over: false,
            with_states: of.with_states,
        })
    }

    /// Processes the next record that reaches the operator; `None` when the sources have no more.
    ///
    /// # Errors
    /// When a source, an ancestor or the state fails: the replay cannot continue. Failures of the operator itself are
    /// in the [`ReplayOutcome`].
    pub fn advance(&mut self) -> Result<Option<ReplayedRecord>, JobError> {
        loop {
            if let Some((input, record)) = self.waiting.pop_front() {
                return self.call(input, record).map(Some);
            }
            if self.is_over {
                return Ok(None);
            }
            self.read()?;
        }
    }

    /// Steps the worker, and splits what reached the operator into records.
    fn read(&mut self) -> Result<(), JobError> {
        let before = self.counters.records_in.load(Ordering::Relaxed);
        let progress = self.worker.step(self.now, self.wall_ms)?;
        let has_read = self.counters.records_in.load(Ordering::Relaxed) > before;
        self.idle = if has_read { 0 } else { self.idle };
        match progress {
            Progress::Moved { .. } => {}
            Progress::Idle { until: Some(until) } if self.idle < IDLE_MAX => {
                self.idle += 1;
                self.now = self.now.max(until);
            }
            Progress::Idle { .. } | Progress::Over => self.is_over = true,
        }
        for (input, batch) in self.captured.take() {
            for (key, value, timestamp) in batch.iter() {
                let mut record = Batch {
                    // Sources read one record at a time, so this origin is about this record alone.
                    origin: batch.origin.inherited(),
                    ..Batch::default()
                };
                record.push(key, value, timestamp);
                self.waiting.push_back((input, record));
            }
        }
        Ok(())
    }

    fn call(&mut self, input: InputPort, record: Batch) -> Result<ReplayedRecord, JobError> {
        let (key, value, timestamp) = {
            let mut records = record.iter();
            let (key, value, timestamp) = records.next().expect("it is one record");
            (key.to_vec(), value.to_vec(), timestamp)
        };
        let position = record.origin.describe(0);
        let outcome = self.outcome(input, &key, record);
        let outcome = outcome.map_err(|error| JobError::of_task(&self.operator.name, error))?;
        Ok(ReplayedRecord {
            input,
            key,
            value,
            timestamp,
            position,
            outcome,
        })
    }

    fn outcome(
        &mut self,
        input: InputPort,
        key: &[u8],
        record: Batch,
    ) -> Result<ReplayOutcome, TaskError> {
        let wall_ms = self.wall_ms;
        let Some(Some(Task::Operator(task))) = self.worker.tasks.get_mut(self.operator.node.0)
        else {
            unreachable!("the operator's task is one of an operator")
        };
        let before = match self.with_states {
            true => states::of_key(task, key, wall_ms)?,
            false => Vec::new(),
        };
        let keyed = self.dictionary.keyed(record);
        let mut outcome = ReplayOutcome::default();
        match task.process(input, keyed, wall_ms) {
            Ok(leaving) => outcome.emitted = emitted(&self.operator.outputs, &leaving),
            Err(TaskError::Record { reason, .. }) => {
                outcome.failure = Some(format!("operator `{}` {reason}", self.operator.name));
            }
            Err(error) => return Err(error),
        }
        outcome.log = task.take_log();
        if outcome.failure.is_some() {
            task.renew()?;
            return Ok(outcome);
        }
        if self.with_states {
            let after = states::of_key(task, key, wall_ms)?;
            outcome.changes = states::changes(before, after);
        }
        Ok(outcome)
    }
}

/// The emitted records of each port, one by one.
pub(super) fn emitted(outputs: &[String], leaving: &[(OutputPort, Batch)]) -> Vec<Emitted> {
    let records = leaving.iter().flat_map(|(port, batch)| {
        let port = outputs.get(usize::from(port.0)).cloned();
        let port = port.unwrap_or_else(|| DEAD_LETTERS.to_owned());
        batch.iter().map(move |(key, value, timestamp)| Emitted {
            port: port.clone(),
            key: key.to_vec(),
            value: value.to_vec(),
            timestamp,
        })
    });
    records.collect()
}
