//! The data of a checkpoint, the permit to commit its output, and its storage.
//!
//! This file has the plain data and the permit. `retention` decides which checkpoints to retire, `manifest` encodes
//! them, `store` keeps them in redb, and `object` keeps them in object stores.

pub mod crash;

pub mod manifest;
pub mod object;
pub mod retention;
pub mod storage;
pub mod store;

pub use manifest::ManifestError;
pub use storage::{
    CheckpointReader, CheckpointStorage, CheckpointStorageSettings, Compression, Depth,
    NewCheckpoint, delete_after,
};

use floodmark_state::stream::{CheckpointId, KeyGroupRange, MaxParallelism, TaskIndex};
use floodmark_state::{ChunkRef, StateSchema};

/// Everything that a job needs to resume: positions, state, staged output, and the plugins by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Above the ids of all checkpoints that its storage has ever held.
    pub id: CheckpointId,
    /// Wall-clock time of the trigger, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: u64,
    /// The reason for taking it.
    pub trigger: Trigger,
    /// The name of the job that took it.
    pub job: String,
    /// The id of the data folder in which it was taken: sinks mark their output with it.
    pub data_folder: String,
    /// Identifies the job across runs; the pipeline module writes it.
    pub identity: String,
    /// In how many tasks it ran.
    pub scale: Scale,
    /// Records read from sources, over all runs of the job.
    pub records_in: u64,
    /// Records handed to sinks, over all runs of the job.
    pub records_out: u64,
    /// The sources, by node name.
    pub sources: Vec<SourceSnapshot>,
    /// The operators, by node name.
    pub operators: Vec<OperatorSnapshot>,
    /// The sinks, by node name.
    pub sinks: Vec<SinkSnapshot>,
}

impl Checkpoint {
    /// Bytes of all chunks that it names, each counted once.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.operators
            .iter()
            .map(OperatorSnapshot::state_bytes)
            .sum()
    }
}

/// In how many tasks a job ran, and could have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// Tasks per operator.
    pub parallelism: u16,
    /// Tasks per operator as the pipeline said: another number if the job was rescaled while it ran.
    pub configured_parallelism: u16,
    /// Key groups.
    pub max_parallelism: MaxParallelism,
}

impl Scale {
    /// So many tasks per operator, as the pipeline says.
    #[must_use]
    pub fn configured(parallelism: u16, max_parallelism: MaxParallelism) -> Self {
        Self {
            parallelism,
            configured_parallelism: parallelism,
            max_parallelism,
        }
    }

    /// The key groups that the task with index `task` owns.
    #[must_use]
    pub fn key_groups(&self, task: TaskIndex) -> KeyGroupRange {
        self.max_parallelism.range(task, self.parallelism)
    }
}

/// Why a checkpoint was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The interval has passed.
    Periodic,
    /// A caller requested one.
    Asked,
    /// The job was asked to stop.
    Stop,
    /// All input was read, so the job ends.
    Final,
    /// A plugin is replaced.
    Swap,
    /// The number of tasks changes.
    Rescale,
}

impl Trigger {
    /// Its name in lists and events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Periodic => "interval",
            Self::Asked => "asked for",
            Self::Stop => "stop",
            Self::Final => "end of input",
            Self::Swap => "swap",
            Self::Rescale => "rescale",
        }
    }
}

/// The positions of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// The node's name in the pipeline, by which a restore finds it.
    pub name: String,
    /// The splits of all its tasks.
    pub splits: Vec<Split>,
}

/// The plugin and the state of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorSnapshot {
    /// The node's name in the pipeline, by which a restore finds it.
    pub name: String,
    /// The plugin that runs after this checkpoint: in the checkpoint of a swap, the new one.
    pub plugin: PluginDigest,
    /// The configuration that the plugin is opened with.
    pub config: Vec<(String, String)>,
    /// The pipeline's choice that this plugin replaced; `None` if the plugin is the pipeline's own.
    pub replaces: Option<PluginChoice>,
    /// Its states; chunks name them by id.
    pub states: Vec<StateSchema>,
    /// The tasks, in order of key groups.
    pub tasks: Vec<TaskSnapshot>,
}

impl OperatorSnapshot {
    /// The plugin that runs after this checkpoint, and its configuration.
    #[must_use]
    pub fn choice(&self) -> PluginChoice {
        PluginChoice {
            plugin: self.plugin,
            config: self.config.clone(),
        }
    }

    /// Its chunks, each once: several tasks name the same one after a rescale.
    #[must_use]
    pub fn chunks(&self) -> Vec<ChunkRef> {
        let all = self.tasks.iter().flat_map(|task| &task.chunks);
        let mut chunks: Vec<_> = all.copied().collect();
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        chunks.dedup_by_key(|chunk| chunk.id);
        chunks
    }

    /// Bytes of its chunks.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        let chunks = self.chunks().into_iter();
        chunks.map(|chunk| u64::from(chunk.len)).sum()
    }
}

/// A plugin and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginChoice {
    /// The digest of its component.
    pub plugin: PluginDigest,
    /// Fields and values, as the plugin gets them in `open`.
    pub config: Vec<(String, String)>,
}

/// One task's state in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSnapshot {
    /// The key groups that the task owned.
    pub key_groups: KeyGroupRange,
    /// All chunks of the task's log, oldest first.
    pub chunks: Vec<ChunkRef>,
    /// Hashes shared by two entries of different identity (`state::chunk_index`); nearly always empty.
    pub collided: Vec<u64>,
}

/// The staged output of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkSnapshot {
    /// The node's name in the pipeline, by which a restore finds it.
    pub name: String,
    /// Parts to commit once the checkpoint is durable: its own, and those of earlier ones that may not be visible yet.
    pub staged: Vec<Staged>,
    /// State of the connector's committer, in its own encoding.
    pub state: Vec<u8>,
}

/// A part of a source and the position in it, in its connector's own versioned encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split(pub Vec<u8>);

/// A staged part of a sink's output, in its connector's own versioned encoding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged(pub Vec<u8>);

/// SHA-256 of a plugin's component.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginDigest(pub [u8; 32]);

impl std::fmt::Display for PluginDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for PluginDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PluginDigest({self})")
    }
}

/// Proves that a checkpoint is durable: only the store creates a permit, and only after its transaction.
#[derive(Debug)]
pub struct CommitPermit {
    checkpoint: CheckpointId,
}

impl CommitPermit {
    /// The durable checkpoint, whose output may be committed.
    #[must_use]
    pub fn checkpoint(&self) -> CheckpointId {
        self.checkpoint
    }

    /// A permit without a store, for tests of sinks.
    #[cfg(feature = "permits-for-tests")]
    #[must_use]
    pub fn for_test(id: u64) -> Self {
        Self {
            checkpoint: CheckpointId(id),
        }
    }
}

/// All chunks that a checkpoint names, in its order.
fn chunks_of(checkpoint: &Checkpoint) -> impl Iterator<Item = ChunkRef> {
    let tasks = checkpoint
        .operators
        .iter()
        .flat_map(|operator| &operator.tasks);
    tasks.flat_map(|task| &task.chunks).copied()
}

/// All plugins that a checkpoint names.
fn plugins_of(checkpoint: &Checkpoint) -> impl Iterator<Item = PluginDigest> {
    checkpoint.operators.iter().map(|operator| operator.plugin)
}

#[cfg(test)]
mod tests {
    //! Catches state that is counted once for each task that shares it.

    use super::*;
    use floodmark_state::ChunkId;

    #[test]
    fn chunks_that_tasks_share_count_once() {
        let chunk = |id| ChunkRef {
            id: ChunkId(id),
            len: 100,
        };
        let task = |groups, chunks| TaskSnapshot {
            key_groups: KeyGroupRange(groups),
            chunks,
            collided: Vec::new(),
        };
        let operator = OperatorSnapshot {
            name: "count".to_owned(),
            plugin: PluginDigest([0; 32]),
            config: Vec::new(),
            replaces: None,
            states: Vec::new(),
            tasks: vec![
                task(0..64, vec![chunk(1), chunk(2)]),
                task(64..128, vec![chunk(1), chunk(3)]),
            ],
        };
        assert_eq!(operator.chunks(), [chunk(1), chunk(2), chunk(3)]);
        assert_eq!(operator.state_bytes(), 300);
    }
}
