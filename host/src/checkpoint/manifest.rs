//! The bytes of a checkpoint: the only module that knows them.
//!
//! ```text
//! "FLMK-MAN" | version: u16, little-endian | postcard of ManifestV1 | XXH3-64 of all before, little-endian
//! ```
//!
//! The structs here mirror the domain's, so that a change there cannot change released bytes by accident: a new version
//! gets structs of its own, and the old ones stay to read what exists. The checksum finds damage, not malice; still,
//! no input makes `decode` panic, or take more memory than a small multiple of its length. This module neither reads
//! nor writes files, and does not judge whether chunks or plugins exist.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Checkpoint, OperatorSnapshot, PluginDigest, SinkSnapshot, SourceSnapshot, Split, Staged,
    TaskSnapshot, Trigger,
};
use crate::state::{ChunkId, ChunkRef, StateId, StateKind, StateSchema};
use crate::stream::{CheckpointId, KeyGroupRange, MaxParallelism};

const MAGIC: &[u8; 8] = b"FLMK-MAN";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 2;
const CHECKSUM_BYTES: usize = 8;

/// Why bytes are no checkpoint. Nothing is known of the checkpoint then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// They do not begin as a manifest does, or end too early.
    #[error("the bytes are no checkpoint manifest")]
    NotAManifest,
    /// Another version of Floodmark wrote them.
    #[error(
        "the manifest has version {found}, and this floodmark reads version {VERSION}; use the floodmark that wrote it"
    )]
    OtherVersion {
        /// Its version.
        found: u16,
    },
    /// They changed after they were written.
    #[error("the manifest's checksum does not match its bytes")]
    Checksum,
    /// The checksum is right, and the content is not.
    #[error("the manifest is malformed: {0}")]
    Malformed(&'static str),
}

/// The bytes of a checkpoint.
#[must_use]
pub fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let mut bytes = postcard::to_extend(&ManifestV1::from(checkpoint), bytes)
        .expect("a manifest has only what postcard can encode, and a vector takes any length");
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The checkpoint that [`encode`] made these bytes from.
///
/// # Errors
///
/// Says why the bytes are no such checkpoint.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, ManifestError> {
    let content = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .filter(|content| *content >= HEADER_BYTES && bytes.starts_with(MAGIC))
        .ok_or(ManifestError::NotAManifest)?;
    let (content, checksum) = bytes.split_at(content);
    // The checksum is looked at first: a damaged version is damage, not another version.
    if xxh3_64(content).to_le_bytes() != checksum {
        return Err(ManifestError::Checksum);
    }
    let found = u16::from_le_bytes([content[MAGIC.len()], content[MAGIC.len() + 1]]);
    if found != VERSION {
        return Err(ManifestError::OtherVersion { found });
    }
    let (manifest, rest) = postcard::take_from_bytes::<ManifestV1>(&content[HEADER_BYTES..])
        .map_err(|_| ManifestError::Malformed("its fields do not follow version 1"))?;
    if !rest.is_empty() {
        return Err(ManifestError::Malformed(
            "there are bytes after its last field",
        ));
    }
    manifest.into_checkpoint()
}

#[derive(Serialize, Deserialize)]
struct ManifestV1<'a> {
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

#[derive(Serialize, Deserialize)]
enum TriggerV1 {
    Periodic,
    Stop,
    Final,
}

#[derive(Serialize, Deserialize)]
struct SourceV1<'a> {
    name: &'a str,
    #[serde(borrow)]
    splits: Vec<&'a [u8]>,
}

#[derive(Serialize, Deserialize)]
struct OperatorV1<'a> {
    name: &'a str,
    plugin: [u8; 32],
    #[serde(borrow)]
    states: Vec<StateV1<'a>>,
    tasks: Vec<TaskV1>,
}

#[derive(Serialize, Deserialize)]
struct StateV1<'a> {
    id: u16,
    name: &'a str,
    kind: StateKindV1,
    version: u32,
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
                Trigger::Periodic | Trigger::Asked => TriggerV1::Periodic,
                Trigger::Stop => TriggerV1::Stop,
                Trigger::Final => TriggerV1::Final,
            },
            job: &checkpoint.job,
            identity: &checkpoint.identity,
            parallelism: checkpoint.parallelism,
            max_parallelism: checkpoint.max_parallelism.get(),
            records_in: checkpoint.records_in,
            records_out: checkpoint.records_out,
            sources: checkpoint.sources.iter().map(SourceV1::from).collect(),
            operators: checkpoint.operators.iter().map(OperatorV1::from).collect(),
            sinks: checkpoint.sinks.iter().map(SinkV1::from).collect(),
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

impl<'a> From<&'a OperatorSnapshot> for OperatorV1<'a> {
    fn from(operator: &'a OperatorSnapshot) -> Self {
        Self {
            name: &operator.name,
            plugin: operator.plugin.0,
            states: operator.states.iter().map(StateV1::from).collect(),
            tasks: operator.tasks.iter().map(TaskV1::from).collect(),
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

impl ManifestV1<'_> {
    fn into_checkpoint(self) -> Result<Checkpoint, ManifestError> {
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
                StateKindV1::List => StateKind::List,
                StateKindV1::Map => StateKind::Map,
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

#[cfg(test)]
mod tests;
