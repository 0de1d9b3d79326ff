//! The next checkpoint, as far as its snapshots have arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use super::schedule::UnderWay;
use crate::runtime::plan::{NodeIndex, Operator, Plan, Role};
use crate::runtime::snapshot::{RegionSnapshot, SealedState};
use crate::runtime::writer::WriteRequest;
use floodmark_checkpoint::store::RestoredCheckpoint;
use floodmark_checkpoint::{
    Checkpoint, OperatorSnapshot, Scale, SourceSnapshot, Split, Staged, TaskSnapshot, Trigger,
};
use floodmark_state::stream::{CheckpointId, MaxParallelism, TaskIndex};
use floodmark_state::{Chunk, ChunkId, HeldStates, StateSchema};

/// Where a job's counts stand when it begins or resumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EarlierRuns {
    /// The checkpoint that it resumes from.
    pub checkpoint: Option<CheckpointId>,
    /// Records read by earlier runs.
    pub records_in: u64,
    /// Records written by earlier runs.
    pub records_out: u64,
}

impl EarlierRuns {
    /// Those of a checkpoint; all zero without one.
    #[must_use]
    pub fn of(restored: Option<&RestoredCheckpoint>) -> Self {
        let earlier = restored.map(|restored| Self {
            checkpoint: Some(restored.checkpoint.id),
            records_in: restored.checkpoint.records_in,
            records_out: restored.checkpoint.records_out,
        });
        earlier.unwrap_or_default()
    }
}

/// An operator as a checkpoint has it, without its tasks.
#[derive(Clone)]
pub(super) struct OperatorDraft {
    pub(super) node: NodeIndex,
    pub(super) snapshot: OperatorSnapshot,
    component: Arc<[u8]>,
}

/// What has arrived for the checkpoint under way: consumed by writing it.
#[derive(Default)]
pub(super) struct Collected {
    /// When the newest snapshot arrived.
    pub(super) at: Duration,
    /// Longest pause of a worker at the barrier.
    pub(super) stall: Duration,
    pub(super) state_bytes_new: u64,
    pub(super) state_bytes: u64,
    pub(super) records_in: u64,
    records_out: u64,
    splits: BTreeMap<NodeIndex, Vec<Split>>,
    states: BTreeMap<(NodeIndex, TaskIndex), SealedState>,
    held: BTreeMap<NodeIndex, HeldStates>,
    /// The operators that it names, if it is that of a swap: those after its barrier.
    replaced: Option<Vec<OperatorDraft>>,
}

/// What the checkpoints of a job are made of.
pub(super) struct Draft {
    /// What all checkpoints have in common.
    template: Checkpoint,
    sources: Vec<NodeIndex>,
    sinks: Vec<NodeIndex>,
    /// How many nodes there are, of any kind.
    nodes: usize,
    pub(super) operators: Vec<OperatorDraft>,
    pub(super) collected: Collected,
    /// Chunks that no durable checkpoint has.
    unwritten: BTreeMap<ChunkId, Arc<Chunk>>,
    staged: BTreeMap<NodeIndex, Vec<Staged>>,
    pub(super) last_durable: Option<CheckpointId>,
    /// By node: states of which the last durable checkpoint may have entries. All, if nothing is known.
    held: BTreeMap<NodeIndex, HeldStates>,
}

impl Draft {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut sources = Vec::new();
        let mut sinks = Vec::new();
        for (index, node) in plan.indexed_nodes() {
            match &node.role {
                Role::Source(_) => sources.push(index),
                Role::Sink(_) => sinks.push(index),
                Role::Operator(_) => {}
            }
        }
        let named = |index: &NodeIndex| SourceSnapshot {
            name: plan.node(*index).name.clone(),
            splits: Vec::new(),
        };
        let template = Checkpoint {
            id: CheckpointId(0),
            created_ms: 0,
            trigger: Trigger::Periodic,
            job: plan.job.clone(),
            data_folder: plan.data_folder.clone(),
            identity: plan.identity.clone(),
            scale: Scale {
                parallelism: plan.parallelism,
                configured_parallelism: plan.configured_parallelism,
                max_parallelism: plan.max_parallelism,
            },
            records_in: 0,
            records_out: 0,
            sources: sources.iter().map(named).collect(),
            operators: Vec::new(),
            sinks: Vec::new(),
        };
        Self {
            template,
            sources,
            sinks,
            nodes: plan.nodes.len(),
            operators: Vec::new(),
            collected: Collected::default(),
            unwritten: BTreeMap::new(),
            staged: BTreeMap::new(),
            last_durable: None,
            held: BTreeMap::new(),
        }
    }

    pub(super) fn parallelism(&self) -> u16 {
        self.template.scale.parallelism
    }

    pub(super) fn max_parallelism(&self) -> MaxParallelism {
        self.template.scale.max_parallelism
    }

    /// Workers run from a checkpoint on. What was collected is dropped, since its records are replayed.
    pub(super) fn start(&mut self, plan: &Plan, schemas: Vec<Vec<StateSchema>>, from: EarlierRuns) {
        self.operators = operators(plan, schemas);
        self.template.scale.parallelism = plan.parallelism;
        self.template.records_in = from.records_in;
        self.template.records_out = from.records_out;
        self.last_durable = from.checkpoint;
        self.collected = Collected::default();
        self.unwritten.clear();
        self.staged.clear();
        self.held.clear();
    }

    /// A checkpoint begins.
    pub(super) fn begin(&mut self, now: Moment) {
        self.collected = Collected {
            at: now.clock,
            records_in: self.template.records_in,
            records_out: self.template.records_out,
            ..Collected::default()
        };
    }

    /// The checkpoint that has begun names the operators of another plan. States of a node are those in `changed`, or as
    /// they are.
    pub(super) fn replace_operators(
        &mut self,
        plan: &Plan,
        changed: &BTreeMap<NodeIndex, Vec<StateSchema>>,
    ) {
        self.collected.replaced = Some(self.operators_of(plan, changed));
    }

    /// Adds the snapshot of a region; `is_due` if it is of the checkpoint under way. Its chunks and staged parts are kept
    /// even if that checkpoint fails: the next one needs them.
    pub(super) fn collect(&mut self, now: Moment, snapshot: RegionSnapshot, is_due: bool) {
        let fresh = snapshot.fresh.into_iter();
        let mut bytes_new = 0;
        self.unwritten.extend(fresh.map(|chunk| {
            bytes_new += chunk.bytes.len() as u64;
            (chunk.id, chunk)
        }));
        let collected = &mut self.collected;
        for (node, staged, records) in snapshot.sinks {
            self.staged.entry(node).or_default().extend(staged);
            if is_due {
                collected.records_out += records;
            }
        }
        if !is_due {
            return;
        }
        for (node, splits, records) in snapshot.sources {
            collected.splits.entry(node).or_default().extend(splits);
            collected.records_in += records;
        }
        for (node, state) in snapshot.operators {
            let held = collected.held.entry(node).or_default();
            *held = held.with(state.held);
            let task = (node, snapshot.part.worker.task());
            collected.states.insert(task, state);
        }
        collected.state_bytes_new += bytes_new;
        collected.at = now.clock;
    }

    /// The checkpoint that was collected is durable. Returns the one before it.
    pub(super) fn completed(&mut self, id: CheckpointId) -> Option<CheckpointId> {
        self.unwritten.clear();
        self.held = std::mem::take(&mut self.collected.held);
        self.last_durable.replace(id)
    }

    /// All that was collected, as a checkpoint.
    pub(super) fn request(&mut self, under_way: &UnderWay) -> WriteRequest {
        let collected = &mut self.collected;
        let replaced = collected.replaced.take();
        let operators = replaced.unwrap_or_else(|| self.operators.clone());
        let mut checkpoint = Checkpoint {
            id: under_way.checkpoint,
            created_ms: under_way.begun.wall_ms,
            trigger: under_way.trigger,
            records_in: collected.records_in,
            records_out: collected.records_out,
            ..self.template.clone()
        };
        for (source, node) in checkpoint.sources.iter_mut().zip(&self.sources) {
            source.splits = collected.splits.remove(node).unwrap_or_default();
        }
        let scale = checkpoint.scale;
        let mut chunks = Vec::new();
        let mut plugins = Vec::new();
        for operator in operators {
            let OperatorDraft {
                node,
                snapshot: mut operator,
                component,
            } = operator;
            plugins.push((operator.plugin, component));
            // Nothing of an earlier version that is gone holds a later swap back.
            operator.states = needed(&operator.states, collected.held.get(&node).copied());
            for task in (0..scale.parallelism).map(TaskIndex) {
                let sealed = collected.states.remove(&(node, task));
                let mut state = sealed.unwrap_or_default();
                if state.parts.is_empty() {
                    state.parts.push((scale.key_groups(task), Vec::new()));
                }
                for (key_groups, named) in state.parts {
                    let unwritten = named
                        .iter()
                        .filter_map(|chunk| self.unwritten.get(&chunk.id));
                    chunks.extend(unwritten.cloned());
                    operator.tasks.push(TaskSnapshot {
                        key_groups,
                        chunks: named,
                        collided: state.collided.clone(),
                    });
                }
            }
            checkpoint.operators.push(operator);
        }
        collected.state_bytes = checkpoint.state_bytes();
        // A chunk may be in several parts of a task.
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        chunks.dedup_by_key(|chunk| chunk.id);
        plugins.sort_unstable_by_key(|(digest, _)| *digest);
        plugins.dedup_by_key(|(digest, _)| *digest);
        let sinks = self.sinks.iter();
        let staged = sinks.map(|sink| self.staged.remove(sink).unwrap_or_default());
        WriteRequest {
            staged: staged.collect(),
            checkpoint,
            plugins,
            chunks,
        }
    }

    /// The operators of another plan. States of a node are those in `changed`, or as they are.
    pub(super) fn operators_of(
        &self,
        plan: &Plan,
        changed: &BTreeMap<NodeIndex, Vec<StateSchema>>,
    ) -> Vec<OperatorDraft> {
        let mut schemas = vec![Vec::new(); self.nodes];
        for OperatorDraft { node, snapshot, .. } in &self.operators {
            let states = changed.get(node).unwrap_or(&snapshot.states);
            schemas[node.0].clone_from(states);
        }
        operators(plan, schemas)
    }

    /// By node: the states of its operator of which there may be entries, or which are the newest of their name.
    pub(super) fn schemas(&self) -> Vec<Vec<StateSchema>> {
        let mut schemas = vec![Vec::new(); self.nodes];
        for operator in &self.operators {
            let held = self.held.get(&operator.node).copied();
            schemas[operator.node.0] = needed(&operator.snapshot.states, held);
        }
        schemas
    }
}

/// The states of an operator of which there may be entries, or which are the newest of their name. All may have some if it
/// is not known which do.
fn needed(states: &[StateSchema], held: Option<HeldStates>) -> Vec<StateSchema> {
    let is_newest = |state: &StateSchema| {
        let mut same = states.iter().filter(|other| other.name == state.name);
        !state.name.is_empty() && same.all(|other| other.id <= state.id)
    };
    let is_needed =
        |state: &&StateSchema| held.is_none_or(|held| held.may_have(state.id)) || is_newest(state);
    states.iter().filter(is_needed).cloned().collect()
}

/// What a checkpoint says of each operator, without its tasks.
fn operators(plan: &Plan, schemas: Vec<Vec<StateSchema>>) -> Vec<OperatorDraft> {
    let mut operators = Vec::new();
    for ((index, node), states) in plan.indexed_nodes().zip(schemas) {
        if let Role::Operator(Operator {
            plugin,
            config,
            replaces,
            ..
        }) = &node.role
        {
            let snapshot = OperatorSnapshot {
                name: node.name.clone(),
                plugin: plugin.digest(),
                config: config.clone(),
                replaces: replaces.clone(),
                states,
                tasks: Vec::new(),
            };
            operators.push(OperatorDraft {
                node: index,
                snapshot,
                component: Arc::clone(plugin.component()),
            });
        }
    }
    operators
}
