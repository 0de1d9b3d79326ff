//! Version 1 of a manifest, which is only read: it has values as its only kind of state, no data folder, no times to live,
//! and no colliding hashes. These structs are what was released, and never change.

use serde::Deserialize;

use super::ManifestError;
use crate::checkpoint::{
    Checkpoint, OperatorSnapshot, PluginDigest, SinkSnapshot, SourceSnapshot, Split, Staged,
    TaskSnapshot, Trigger,
};
use crate::state::{ChunkId, ChunkRef, StateId, StateKind, StateSchema};
use crate::stream::{CheckpointId, KeyGroupRange, MaxParallelism};

#[derive(Deserialize)]
pub(super) struct ManifestV1<'a> {
    id: u64,
    created_ms: u64,
    trigger: TriggerV1,
    job: &'a str,
    identity: &'a str,
    parallelism: u16,
    max_parallelism: u16,
    records_in: u64,
    records_out: u64,
    #[serde(borrow)]
    sources: Vec<SourceV1<'a>>,
    #[serde(borrow)]
    operators: Vec<OperatorV1<'a>>,
    #[serde(borrow)]
    sinks: Vec<SinkV1<'a>>,
}

#[derive(Deserialize)]
enum TriggerV1 {
    Periodic,
    Stop,
    Final,
}

#[derive(Deserialize)]
struct SourceV1<'a> {
    name: &'a str,
    #[serde(borrow)]
    splits: Vec<&'a [u8]>,
}

#[derive(Deserialize)]
struct OperatorV1<'a> {
    name: &'a str,
    plugin: [u8; 32],
    #[serde(borrow)]
    states: Vec<StateV1<'a>>,
    tasks: Vec<TaskV1>,
}

#[derive(Deserialize)]
struct StateV1<'a> {
    id: u16,
    name: &'a str,
    kind: StateKindV1,
    version: u32,
}

#[derive(Deserialize)]
enum StateKindV1 {
    Value,
}

#[derive(Deserialize)]
struct TaskV1 {
    first_group: u16,
    end_group: u16,
    chunks: Vec<ChunkV1>,
}

#[derive(Deserialize)]
struct ChunkV1 {
    id: u64,
    len: u32,
}

#[derive(Deserialize)]
struct SinkV1<'a> {
    name: &'a str,
    #[serde(borrow)]
    staged: Vec<&'a [u8]>,
    state: &'a [u8],
}

impl ManifestV1<'_> {
    pub(super) fn into_checkpoint(self) -> Result<Checkpoint, ManifestError> {
        let max_parallelism = MaxParallelism::new(self.max_parallelism).ok_or(
            ManifestError::Malformed("its number of key groups is out of range"),
        )?;
        let operator = |operator: OperatorV1<'_>| operator.into_snapshot(max_parallelism);
        Ok(Checkpoint {
            id: CheckpointId(self.id),
            created_ms: self.created_ms,
            trigger: match self.trigger {
                TriggerV1::Periodic => Trigger::Periodic,
                TriggerV1::Stop => Trigger::Stop,
                TriggerV1::Final => Trigger::Final,
            },
            job: self.job.to_owned(),
            data_folder: String::new(),
            identity: self.identity.to_owned(),
            parallelism: self.parallelism,
            configured_parallelism: self.parallelism,
            max_parallelism,
            records_in: self.records_in,
            records_out: self.records_out,
            sources: self
                .sources
                .into_iter()
                .map(SourceV1::into_snapshot)
                .collect(),
            operators: self
                .operators
                .into_iter()
                .map(operator)
                .collect::<Result<_, _>>()?,
            sinks: self.sinks.into_iter().map(SinkV1::into_snapshot).collect(),
        })
    }
}

impl SourceV1<'_> {
    fn into_snapshot(self) -> SourceSnapshot {
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

impl OperatorV1<'_> {
    fn into_snapshot(self, max: MaxParallelism) -> Result<OperatorSnapshot, ManifestError> {
        let task = |task: TaskV1| task.into_snapshot(max);
        Ok(OperatorSnapshot {
            name: self.name.to_owned(),
            plugin: PluginDigest(self.plugin),
            config: Vec::new(),
            replaces: None,
            states: self.states.into_iter().map(StateV1::into_schema).collect(),
            tasks: self.tasks.into_iter().map(task).collect::<Result<_, _>>()?,
        })
    }
}

impl StateV1<'_> {
    fn into_schema(self) -> StateSchema {
        StateSchema {
            id: StateId(self.id),
            name: self.name.to_owned(),
            kind: match self.kind {
                StateKindV1::Value => StateKind::Value,
            },
            version: self.version,
            ttl_ms: None,
        }
    }
}

impl TaskV1 {
    fn into_snapshot(self, max: MaxParallelism) -> Result<TaskSnapshot, ManifestError> {
        if self.first_group > self.end_group || self.end_group > max.get() {
            return Err(ManifestError::Malformed(
                "a task's key groups are out of range",
            ));
        }
        let chunk = |chunk: ChunkV1| ChunkRef {
            id: ChunkId(chunk.id),
            len: chunk.len,
        };
        Ok(TaskSnapshot {
            key_groups: KeyGroupRange(self.first_group..self.end_group),
            chunks: self.chunks.into_iter().map(chunk).collect(),
            collided: Vec::new(),
        })
    }
}

impl SinkV1<'_> {
    fn into_snapshot(self) -> SinkSnapshot {
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
