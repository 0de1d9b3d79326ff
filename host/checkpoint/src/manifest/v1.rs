//! Version 1 of a manifest. An operator has the configuration of its plugin, and the choice that the pipeline named if another
//! plugin has taken its place. Both the current parallelism and that of the pipeline are kept. Once version 1 is released,
//! these structs never change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ID_MAX, ManifestError, RECORDS_MAX, STATE_ID_MAX};
use crate::{
    Checkpoint, OperatorSnapshot, PluginChoice, PluginDigest, Scale, SinkSnapshot, SourceSnapshot,
    Split, Staged, TaskSnapshot, Trigger,
};
use floodmark_state::stream::{CheckpointId, KeyGroupRange, MaxParallelism};
use floodmark_state::{ChunkId, ChunkRef, StateId, StateKind, StateSchema};

/// Latest time of a checkpoint: after the year 10,000. Sums of times stay far from overflow.
const TIME_MS_MAX: u64 = 1 << 48;
/// Largest number of chunks of a task, which has a handle of 20 bits for each.
const CHUNKS_MAX: usize = (1 << 20) - 1;

#[derive(Serialize, Deserialize)]
pub(super) struct ManifestV1<'a> {
    id: u64,
    created_ms: u64,
    trigger: TriggerV1,
    job: &'a str,
    data_folder: &'a str,
    identity: &'a str,
    scale: ScaleV1,
    records_in: u64,
    records_out: u64,
    #[serde(borrow)]
    sources: Vec<SourceV1<'a>>,
    #[serde(borrow)]
    operators: Vec<OperatorV1<'a>>,
    #[serde(borrow)]
    sinks: Vec<SinkV1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct ScaleV1 {
    parallelism: u16,
    configured_parallelism: u16,
    max_parallelism: u16,
}

#[derive(Serialize, Deserialize)]
enum TriggerV1 {
    Periodic,
    Stop,
    Final,
    Asked,
    Swap,
    Rescale,
}

#[derive(Serialize, Deserialize)]
struct OperatorV1<'a> {
    name: &'a str,
    #[serde(borrow)]
    runs: ChoiceV1<'a>,
    #[serde(borrow)]
    replaces: Option<ChoiceV1<'a>>,
    #[serde(borrow)]
    states: Vec<StateV1<'a>>,
    tasks: Vec<TaskV1>,
}

#[derive(Serialize, Deserialize)]
struct ChoiceV1<'a> {
    plugin: [u8; 32],
    #[serde(borrow)]
    config: Vec<(&'a str, &'a str)>,
}

#[derive(Serialize, Deserialize)]
struct SourceV1<'a> {
    name: &'a str,
    #[serde(borrow)]
    splits: Vec<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct StateV1<'a> {
    id: u16,
    name: &'a str,
    kind: StateKindV1,
    version: u32,
    ttl_ms: Option<u64>,
}

#[derive(Serialize, Deserialize)]
enum StateKindV1 {
    Value,
    List,
    Map,
}

#[derive(Serialize, Deserialize)]
struct TaskV1 {
    first_group: u16,
    end_group: u16,
    chunks: Vec<ChunkV1>,
    collided: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct ChunkV1 {
    id: u64,
    len: u32,
}

#[derive(Serialize, Deserialize)]
struct SinkV1<'a> {
    name: &'a str,
    #[serde(borrow)]
    staged: Vec<&'a [u8]>,
    state: &'a [u8],
}

impl<'a> From<&'a Checkpoint> for ManifestV1<'a> {
    fn from(checkpoint: &'a Checkpoint) -> Self {
        Self {
            id: checkpoint.id.0,
            created_ms: checkpoint.created_ms,
            trigger: match checkpoint.trigger {
                Trigger::Periodic => TriggerV1::Periodic,
                Trigger::Stop => TriggerV1::Stop,
                Trigger::Final => TriggerV1::Final,
                Trigger::Asked => TriggerV1::Asked,
                Trigger::Swap => TriggerV1::Swap,
                Trigger::Rescale => TriggerV1::Rescale,
            },
            job: &checkpoint.job,
            data_folder: &checkpoint.data_folder,
            identity: &checkpoint.identity,
            scale: ScaleV1::from(checkpoint.scale),
            records_in: checkpoint.records_in,
            records_out: checkpoint.records_out,
            sources: checkpoint.sources.iter().map(SourceV1::from).collect(),
            operators: checkpoint.operators.iter().map(OperatorV1::from).collect(),
            sinks: checkpoint.sinks.iter().map(SinkV1::from).collect(),
        }
    }
}

impl From<Scale> for ScaleV1 {
    fn from(scale: Scale) -> Self {
        Self {
            parallelism: scale.parallelism,
            configured_parallelism: scale.configured_parallelism,
            max_parallelism: scale.max_parallelism.get(),
        }
    }
}

impl<'a> From<&'a OperatorSnapshot> for OperatorV1<'a> {
    fn from(operator: &'a OperatorSnapshot) -> Self {
        let replaced = |choice: &'a PluginChoice| ChoiceV1::of(choice.plugin, &choice.config);
        Self {
            name: &operator.name,
            runs: ChoiceV1::of(operator.plugin, &operator.config),
            replaces: operator.replaces.as_ref().map(replaced),
            states: operator.states.iter().map(StateV1::from).collect(),
            tasks: operator.tasks.iter().map(TaskV1::from).collect(),
        }
    }
}

impl<'a> From<&'a SourceSnapshot> for SourceV1<'a> {
    fn from(source: &'a SourceSnapshot) -> Self {
        Self {
            name: &source.name,
            splits: source.splits.iter().map(|split| &split.0[..]).collect(),
        }
    }
}

impl<'a> From<&'a StateSchema> for StateV1<'a> {
    fn from(state: &'a StateSchema) -> Self {
        Self {
            id: state.id.0,
            name: &state.name,
            kind: match state.kind {
                StateKind::Value => StateKindV1::Value,
                StateKind::List => StateKindV1::List,
                StateKind::Map => StateKindV1::Map,
            },
            version: state.version,
            ttl_ms: state.ttl_ms,
        }
    }
}

impl From<&TaskSnapshot> for TaskV1 {
    fn from(task: &TaskSnapshot) -> Self {
        let chunk = |chunk: &ChunkRef| ChunkV1 {
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

impl<'a> From<&'a SinkSnapshot> for SinkV1<'a> {
    fn from(sink: &'a SinkSnapshot) -> Self {
        Self {
            name: &sink.name,
            staged: sink.staged.iter().map(|staged| &staged.0[..]).collect(),
            state: &sink.state,
        }
    }
}

impl<'a> ChoiceV1<'a> {
    fn of(plugin: PluginDigest, config: &'a [(String, String)]) -> Self {
        let pair = |(key, value): &'a (String, String)| (key.as_str(), value.as_str());
        Self {
            plugin: plugin.0,
            config: config.iter().map(pair).collect(),
        }
    }

    fn into_choice(self) -> PluginChoice {
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        PluginChoice {
            plugin: PluginDigest(self.plugin),
            config: self.config.into_iter().map(pair).collect(),
        }
    }
}

/// Refuses what no job writes. A checksum does not: an author of forged bytes can compute it.
fn within(is_possible: bool, otherwise: &'static str) -> Result<(), ManifestError> {
    match is_possible {
        true => Ok(()),
        false => Err(ManifestError::Malformed(otherwise)),
    }
}

impl ManifestV1<'_> {
    pub(super) fn into_checkpoint(self) -> Result<Checkpoint, ManifestError> {
        within(self.id <= ID_MAX, "its id is out of range")?;
        within(self.created_ms <= TIME_MS_MAX, "its time is out of range")?;
        let records = self.records_in.max(self.records_out);
        within(
            records <= RECORDS_MAX,
            "a number of records is out of range",
        )?;
        let scale = self.scale.into_scale()?;
        let operators = self.operators.into_iter();
        let operators = operators.map(|operator| operator.into_snapshot(scale.max_parallelism));
        Ok(Checkpoint {
            id: CheckpointId(self.id),
            created_ms: self.created_ms,
            trigger: match self.trigger {
                TriggerV1::Periodic => Trigger::Periodic,
                TriggerV1::Stop => Trigger::Stop,
                TriggerV1::Final => Trigger::Final,
                TriggerV1::Asked => Trigger::Asked,
                TriggerV1::Swap => Trigger::Swap,
                TriggerV1::Rescale => Trigger::Rescale,
            },
            job: self.job.to_owned(),
            data_folder: self.data_folder.to_owned(),
            identity: self.identity.to_owned(),
            scale,
            records_in: self.records_in,
            records_out: self.records_out,
            sources: self
                .sources
                .into_iter()
                .map(SourceV1::into_snapshot)
                .collect(),
            operators: operators.collect::<Result<_, _>>()?,
            sinks: self.sinks.into_iter().map(SinkV1::into_snapshot).collect(),
        })
    }
}

impl ScaleV1 {
    fn into_scale(self) -> Result<Scale, ManifestError> {
        let max_parallelism = MaxParallelism::new(self.max_parallelism).ok_or(
            ManifestError::Malformed("its number of key groups is out of range"),
        )?;
        let possible = 1..=self.max_parallelism;
        let tasks = [self.parallelism, self.configured_parallelism];
        within(
            tasks.iter().all(|tasks| possible.contains(tasks)),
            "its parallelism is out of range",
        )?;
        Ok(Scale {
            parallelism: self.parallelism,
            configured_parallelism: self.configured_parallelism,
            max_parallelism,
        })
    }
}

impl OperatorV1<'_> {
    fn into_snapshot(self, max: MaxParallelism) -> Result<OperatorSnapshot, ManifestError> {
        let PluginChoice { plugin, config } = self.runs.into_choice();
        within(
            self.tasks.len() <= usize::from(max.get()),
            "an operator has more tasks than key groups",
        )?;
        let ids: BTreeSet<u16> = self.states.iter().map(|state| state.id).collect();
        within(
            ids.len() == self.states.len(),
            "two states of an operator have one id",
        )?;
        within(
            ids.last().is_none_or(|id| *id <= STATE_ID_MAX),
            "the id of a state is out of range",
        )?;
        let tasks = self.tasks.into_iter().map(|task| task.into_snapshot(max));
        Ok(OperatorSnapshot {
            name: self.name.to_owned(),
            plugin,
            config,
            replaces: self.replaces.map(ChoiceV1::into_choice),
            states: self.states.into_iter().map(StateV1::into_schema).collect(),
            tasks: tasks.collect::<Result<_, _>>()?,
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

impl StateV1<'_> {
    fn into_schema(self) -> StateSchema {
        StateSchema {
            id: StateId(self.id),
            name: self.name.to_owned(),
            kind: match self.kind {
                StateKindV1::Value => StateKind::Value,
                StateKindV1::List => StateKind::List,
                StateKindV1::Map => StateKind::Map,
            },
            version: self.version,
            ttl_ms: self.ttl_ms,
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
        within(
            self.chunks.len() <= CHUNKS_MAX,
            "a task has too many chunks",
        )?;
        within(
            self.chunks.iter().all(|chunk| chunk.id <= ID_MAX),
            "the id of a chunk is out of range",
        )?;
        let chunk = |chunk: ChunkV1| ChunkRef {
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
