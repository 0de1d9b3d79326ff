//! Version 2 of a manifest: lists and maps are kinds of state, a state may have a time to live, a task names hashes that
//! collided, and the data folder's id is noted. It is read, and no longer written; version 3 has the same sources, states,
//! tasks and sinks. These structs never change.

use serde::{Deserialize, Serialize};

use super::ManifestError;
use crate::checkpoint::{
    Checkpoint, OperatorSnapshot, PluginDigest, SinkSnapshot, SourceSnapshot, Split, Staged,
    TaskSnapshot, Trigger,
};
use crate::state::{ChunkId, ChunkRef, StateId, StateKind, StateSchema};
use crate::stream::{CheckpointId, KeyGroupRange, MaxParallelism};

#[derive(Deserialize)]
pub(super) struct ManifestV2<'a> {
    id: u64,
    created_ms: u64,
    trigger: TriggerV2,
    job: &'a str,
    data_folder: &'a str,
    identity: &'a str,
    parallelism: u16,
    max_parallelism: u16,
    records_in: u64,
    records_out: u64,
    #[serde(borrow)]
    sources: Vec<SourceV2<'a>>,
    #[serde(borrow)]
    operators: Vec<OperatorV2<'a>>,
    #[serde(borrow)]
    sinks: Vec<SinkV2<'a>>,
}

#[derive(Deserialize)]
enum TriggerV2 {
    Periodic,
    Stop,
    Final,
    Asked,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SourceV2<'a> {
    name: &'a str,
    #[serde(borrow)]
    splits: Vec<&'a [u8]>,
}

#[derive(Deserialize)]
struct OperatorV2<'a> {
    name: &'a str,
    plugin: [u8; 32],
    #[serde(borrow)]
    states: Vec<StateV2<'a>>,
    tasks: Vec<TaskV2>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct StateV2<'a> {
    id: u16,
    name: &'a str,
    kind: StateKindV2,
    version: u32,
    ttl_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
enum StateKindV2 {
    Value,
    List,
    Map,
}

#[derive(Serialize, Deserialize)]
pub(super) struct TaskV2 {
    first_group: u16,
    end_group: u16,
    chunks: Vec<ChunkV2>,
    collided: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct ChunkV2 {
    id: u64,
    len: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SinkV2<'a> {
    name: &'a str,
    #[serde(borrow)]
    staged: Vec<&'a [u8]>,
    state: &'a [u8],
}

impl<'a> From<&'a SourceSnapshot> for SourceV2<'a> {
    fn from(source: &'a SourceSnapshot) -> Self {
        Self {
            name: &source.name,
            splits: source.splits.iter().map(|split| &split.0[..]).collect(),
        }
    }
}

impl<'a> From<&'a StateSchema> for StateV2<'a> {
    fn from(state: &'a StateSchema) -> Self {
        Self {
            id: state.id.0,
            name: &state.name,
            kind: match state.kind {
                StateKind::Value => StateKindV2::Value,
                StateKind::List => StateKindV2::List,
                StateKind::Map => StateKindV2::Map,
            },
            version: state.version,
            ttl_ms: state.ttl_ms,
        }
    }
}

impl From<&TaskSnapshot> for TaskV2 {
    fn from(task: &TaskSnapshot) -> Self {
        let chunk = |chunk: &ChunkRef| ChunkV2 {
            id: chunk.id.0,
            len: chunk.len,
        };
        Self {
            first_group: task.key_groups.0.start,
            end_group: task.key_groups.0.end,
            chunks: task.chunks.iter().map(chunk).collect(),
            collided: task.collided.clone(),
        }
    }
}

impl<'a> From<&'a SinkSnapshot> for SinkV2<'a> {
    fn from(sink: &'a SinkSnapshot) -> Self {
        Self {
            name: &sink.name,
            staged: sink.staged.iter().map(|staged| &staged.0[..]).collect(),
            state: &sink.state,
        }
    }
}

impl ManifestV2<'_> {
    pub(super) fn into_checkpoint(self) -> Result<Checkpoint, ManifestError> {
        let max_parallelism = MaxParallelism::new(self.max_parallelism).ok_or(
            ManifestError::Malformed("its number of key groups is out of range"),
        )?;
        let operator = |operator: OperatorV2<'_>| operator.into_snapshot(max_parallelism);
        Ok(Checkpoint {
            id: CheckpointId(self.id),
            created_ms: self.created_ms,
            trigger: match self.trigger {
                TriggerV2::Periodic => Trigger::Periodic,
                TriggerV2::Stop => Trigger::Stop,
                TriggerV2::Final => Trigger::Final,
                TriggerV2::Asked => Trigger::Asked,
            },
            job: self.job.to_owned(),
            data_folder: self.data_folder.to_owned(),
            identity: self.identity.to_owned(),
            parallelism: self.parallelism,
            configured_parallelism: self.parallelism,
            max_parallelism,
            records_in: self.records_in,
            records_out: self.records_out,
            sources: self
                .sources
                .into_iter()
                .map(SourceV2::into_snapshot)
                .collect(),
            operators: self
                .operators
                .into_iter()
                .map(operator)
                .collect::<Result<_, _>>()?,
            sinks: self.sinks.into_iter().map(SinkV2::into_snapshot).collect(),
        })
    }
}

impl SourceV2<'_> {
    pub(super) fn into_snapshot(self) -> SourceSnapshot {
        SourceSnapshot {
            name: self.name.to_owned(),
            splits: self
                .splits
                .into_iter()
                .map(|split| Split(split.to_vec()))
                .collect(),
        }
    }
}

impl OperatorV2<'_> {
    fn into_snapshot(self, max: MaxParallelism) -> Result<OperatorSnapshot, ManifestError> {
        let task = |task: TaskV2| task.into_snapshot(max);
        Ok(OperatorSnapshot {
            name: self.name.to_owned(),
            plugin: PluginDigest(self.plugin),
            config: Vec::new(),
            replaces: None,
            states: self.states.into_iter().map(StateV2::into_schema).collect(),
            tasks: self.tasks.into_iter().map(task).collect::<Result<_, _>>()?,
        })
    }
}

impl StateV2<'_> {
    pub(super) fn into_schema(self) -> StateSchema {
        StateSchema {
            id: StateId(self.id),
            name: self.name.to_owned(),
            kind: match self.kind {
                StateKindV2::Value => StateKind::Value,
                StateKindV2::List => StateKind::List,
                StateKindV2::Map => StateKind::Map,
            },
            version: self.version,
            ttl_ms: self.ttl_ms,
        }
    }
}

impl TaskV2 {
    pub(super) fn into_snapshot(self, max: MaxParallelism) -> Result<TaskSnapshot, ManifestError> {
        if self.first_group > self.end_group || self.end_group > max.get() {
            return Err(ManifestError::Malformed(
                "a task's key groups are out of range",
            ));
        }
        let chunk = |chunk: ChunkV2| ChunkRef {
            id: ChunkId(chunk.id),
            len: chunk.len,
        };
        Ok(TaskSnapshot {
            key_groups: KeyGroupRange(self.first_group..self.end_group),
            chunks: self.chunks.into_iter().map(chunk).collect(),
            collided: self.collided,
        })
    }
}

impl SinkV2<'_> {
    pub(super) fn into_snapshot(self) -> SinkSnapshot {
        SinkSnapshot {
            name: self.name.to_owned(),
            staged: self
                .staged
                .into_iter()
                .map(|staged| Staged(staged.to_vec()))
                .collect(),
            state: self.state.to_vec(),
        }
    }
}
