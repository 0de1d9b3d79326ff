//! Runs one operator's task outside of a job, call by call, for tools that test a plugin.
//!
//! The task is built as in a job, and its checkpoints are chunks in memory from which it is rebuilt as at a start.
//! Nothing is written to disk. The caller sets the time. Unlike in a job, a failed call is not repeated in pieces;
//! otherwise a call is the same as in a job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::JobError;
use super::aligner::Mode;
use super::build::{WorkerOrigin, build};
use super::collections::CollectionPlace;
use super::keyed::{Dictionary, KeyedBatch};
use super::leaving::leaving;
use super::plan::{Node, OnError, Operator, Plan, Role, StateBackend};
use super::replay::{Emitted, emitted};
use super::report::Reports;
use super::retained_state::RetainedStates;
use super::saved::{Saved, list_of, map_of};
use super::task::{OperatorTask, Task, TaskError};
use super::worker::Counters;
use crate::guest::{GuestError, LogLine, Rejection};
use floodmark_checkpoint::{Checkpoint, OperatorSnapshot, Scale, TaskSnapshot, Trigger};
use floodmark_state::stream::{Batch, CheckpointId, Column, InputPort, MaxParallelism, hash_key};
use floodmark_state::{
    ChunkId, ChunkReader, ChunkRef, ChunkUnreadable, Keys, Lookup, StateError, StateKind,
    StateSchema, StateStore, TreeError,
};

/// One operator, its state, and its checkpoints.
pub struct SingleOperator {
    name: String,
    plan: Plan,
    task: Box<OperatorTask>,
    schemas: Vec<StateSchema>,
    outputs: Vec<String>,
    dictionary: Dictionary,
    chunks: Arc<Chunks>,
    /// The last checkpoint, if there is one.
    checkpoint: Option<Checkpoint>,
    /// Wall-clock time in milliseconds since 1970.
    pub wall_ms: u64,
}

/// The result of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Called {
    /// The emitted records, by port and in order.
    pub emitted: Vec<Emitted>,
    /// The rejected records.
    pub rejected: Vec<Rejection>,
}

/// Bytes of chunks, by id.
#[derive(Default)]
struct Chunks(Mutex<BTreeMap<ChunkId, Vec<u8>>>);

impl ChunkReader for Chunks {
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
        let chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.get(&chunk.id).cloned().ok_or(ChunkUnreadable {
            chunk: chunk.id,
            reason: "it is not there".to_owned(),
            is_damaged: true,
        })
    }

    fn chunk_index(&self, _: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
        // Without an index, the chunk itself is read.
        Ok(None)
    }
}

impl SingleOperator {
    /// Creates a task without state. The pipeline's handling of records that its plugin cannot handle is ignored here.
    ///
    /// # Errors
    /// When the plugin does not open.
    pub fn new(name: &str, operator: &Operator, wall_ms: u64) -> Result<Self, JobError> {
        let operator = Operator {
            // With this setting, a call that rejects a record succeeds.
            on_error: OnError::DeadLetter,
            ..operator.clone()
        };
        let outputs = operator.plugin.description().outputs.clone();
        let plan = Plan {
            job: name.to_owned(),
            data_folder: String::new(),
            identity: String::new(),
            parallelism: 1,
            configured_parallelism: 1,
            max_parallelism: MaxParallelism::DEFAULT,
            mode: Mode::ExactlyOnce,
            allow_dropped_state: false,
            backend: StateBackend::Memory,
            nodes: vec![Node::new(name, Role::Operator(operator))],
            edges: Vec::new(),
        };
        let chunks = Arc::default();
        let (task, schemas) = built(&plan, None, &chunks)?;
        Ok(Self {
            name: name.to_owned(),
            plan,
            task,
            schemas,
            outputs,
            dictionary: Dictionary::default(),
            chunks,
            checkpoint: None,
            wall_ms,
        })
    }

    /// Calls the plugin with records of an input port. If the call fails, nothing of it is applied, and an unusable
    /// instance is replaced.
    ///
    /// # Errors
    /// When the state cannot be used, or there is no fresh instance: the task cannot continue.
    pub fn call(
        &mut self,
        input: InputPort,
        records: Batch,
    ) -> Result<Result<Called, GuestError>, JobError> {
        let keyed = match self.schemas.is_empty() {
            false => self.dictionary.keyed(records),
            true => KeyedBatch {
                batch: records,
                hashes: Vec::new(),
            },
        };
        let called = self.task.attempt(input, &keyed, self.wall_ms);
        match called.map_err(|error| JobError::of_task(&self.name, error))? {
            Ok(output) => {
                let leaving = leaving(output.emissions, keyed.batch);
                Ok(Ok(Called {
                    emitted: emitted(&self.outputs, &leaving),
                    rejected: output.rejections,
                }))
            }
            Err(failed) => {
                if failed.error.spoils_instance() {
                    self.renew()?;
                }
                Ok(Err(failed.error))
            }
        }
    }

    /// Replaces the instance with a fresh one.
    ///
    /// # Errors
    /// When a fresh instance cannot be opened; the old one stays.
    pub fn renew(&mut self) -> Result<(), JobError> {
        Ok(self.task.renew()?)
    }

    /// Takes the lines that the plugin has logged since the last call of this.
    pub fn take_log(&mut self) -> Vec<LogLine> {
        self.task.take_log()
    }

    /// Takes a checkpoint, and notifies the plugin. The inner error is a failure of the plugin in that call; the
    /// instance was then replaced.
    ///
    /// # Errors
    /// When the state cannot be used, or there is no fresh instance.
    pub fn take_checkpoint(&mut self) -> Result<Option<GuestError>, JobError> {
        let last = self.checkpoint.as_ref().map_or(0, |last| last.id.0);
        let id = CheckpointId(last + 1);
        let sealed = self.task.seal(id);
        let sealed = sealed.map_err(|error| JobError::chunks(&self.name, error))?;
        let mut chunks = self.chunks.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in sealed.fresh {
            chunks.insert(chunk.id, chunk.bytes.clone());
        }
        drop(chunks);
        let snapshot = |(key_groups, chunks)| TaskSnapshot {
            key_groups,
            chunks,
            collided: sealed.collided.clone(),
        };
        let tasks = sealed.parts.into_iter().map(snapshot).collect();
        self.checkpoint = Some(self.checkpoint_of(id, tasks));
        Ok(self.task.hear(id, true)?)
    }

    fn checkpoint_of(&self, id: CheckpointId, tasks: Vec<TaskSnapshot>) -> Checkpoint {
        let operators = self.plan.nodes.iter().filter_map(|node| match &node.role {
            Role::Operator(operator) => Some(OperatorSnapshot {
                name: node.name.clone(),
                plugin: operator.plugin.digest(),
                config: operator.config.clone(),
                replaces: None,
                states: self.schemas.clone(),
                tasks: tasks.clone(),
            }),
            Role::Source(_) | Role::Sink(_) => None,
        });
        Checkpoint {
            id,
            created_ms: self.wall_ms,
            trigger: Trigger::Periodic,
            job: self.plan.job.clone(),
            data_folder: String::new(),
            identity: String::new(),
            scale: Scale::configured(1, self.plan.max_parallelism),
            records_in: 0,
            records_out: 0,
            sources: Vec::new(),
            operators: operators.collect(),
            sinks: Vec::new(),
        }
    }

    /// Drops the task and builds a new one from the last checkpoint, or without state if there is none. The time is
    /// kept.
    ///
    /// # Errors
    /// When the plugin does not open, or the state cannot be read.
    pub fn restore(&mut self) -> Result<(), JobError> {
        let (task, schemas) = built(&self.plan, self.checkpoint.as_ref(), &self.chunks)?;
        self.task = task;
        self.schemas = schemas;
        Ok(())
    }

    /// The value of each key in a state, given by the position of the state in the plugin's description. Keys without a
    /// value are left out.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub fn state(&mut self, state: u16) -> Result<BTreeMap<Vec<u8>, Saved>, JobError> {
        let found = self.read_state(state);
        found.map_err(|error| JobError::of_task(&self.name, TaskError::from(error)))
    }

    fn read_state(&mut self, state: u16) -> Result<BTreeMap<Vec<u8>, Saved>, TreeError> {
        let mut found = BTreeMap::new();
        let Some(declared) = self.task.states().get(usize::from(state)) else {
            return Ok(found);
        };
        let (id, kind) = (declared.id, declared.kind);
        let now_ms = self.wall_ms;
        let trees = self.task.trees_mut();
        for key in trees.store.keys_of(id)? {
            let place = CollectionPlace {
                state: id,
                key: &key,
                hash: hash_key(&key),
                now_ms,
            };
            let saved = match kind {
                StateKind::Value => value_of(&mut trees.store, place)?,
                StateKind::List => list_of(trees, place)?,
                StateKind::Map => map_of(trees, place)?,
            };
            found.extend(saved.map(|saved| (key, saved)));
        }
        Ok(found)
    }
}

fn value_of(
    store: &mut StateStore,
    place: CollectionPlace<'_>,
) -> Result<Option<Saved>, StateError> {
    let keys: Column = [place.key].into_iter().collect();
    let keys = Keys {
        keys: &keys,
        hashes: &[place.hash],
    };
    let mut lookup = Lookup::default();
    store.read(place.state, keys, place.now_ms, &mut lookup)?;
    let value = lookup.values().get(0);
    Ok(value.map(|value| Saved::Value(value.to_vec())))
}

/// The task of a plan's only operator, and its states.
fn built(
    plan: &Plan,
    restored: Option<&Checkpoint>,
    chunks: &Arc<Chunks>,
) -> Result<(Box<OperatorTask>, Vec<StateSchema>), JobError> {
    let last = {
        let chunks = chunks.0.lock().unwrap_or_else(PoisonError::into_inner);
        chunks.keys().next_back().map_or(0, |id| id.0 + 1)
    };
    let reader: Arc<dyn ChunkReader> = Arc::<Chunks>::clone(chunks);
    let origin = WorkerOrigin {
        plan,
        restored,
        chunks: &reader,
        next_chunk: ChunkId(last),
        left: RetainedStates::default(),
    };
    let counters: Arc<Counters> = Arc::default();
    let reports: Reports = Arc::new(|_| ());
    let built = build(origin, &[], &[counters], &reports)?;
    let mut tasks = built.workers.into_iter().flat_map(|worker| worker.tasks);
    let Some(Some(Task::Operator(task))) = tasks.next() else {
        unreachable!("the plan has one node, and that is an operator")
    };
    let schemas = built.schemas.into_iter().next().unwrap_or_default();
    Ok((task, schemas))
}
