//! What a store is told when it begins: whose keys it has, where their bytes may be, and how long states remember.

use std::fs::File;

use super::{ChunkIds, StateId};
use crate::stream::{KeyGroupRange, MaxParallelism};

/// What a store is made from.
#[derive(Debug)]
pub struct StoreSettings {
    /// Key groups of the job.
    pub max_parallelism: MaxParallelism,
    /// Those of this task.
    pub key_groups: KeyGroupRange,
    /// Names of its new chunks.
    pub ids: ChunkIds,
    /// Where sealed chunks may be.
    pub backend: Backend,
    /// Rules of states that have any; entries of the others never expire.
    pub states: Vec<StateSettings>,
    /// Whether the store keeps what [`super::StateStore::rollback`] needs. If so, the owner of the store says
    /// by [`super::StateStore::durable`] what is no longer needed.
    pub keeps_rollback: bool,
}

impl StoreSettings {
    /// All in memory, no rules, no rollback.
    #[must_use]
    pub fn in_memory(
        max_parallelism: MaxParallelism,
        key_groups: KeyGroupRange,
        ids: ChunkIds,
    ) -> Self {
        Self {
            max_parallelism,
            key_groups,
            ids,
            backend: Backend::Memory,
            states: Vec::new(),
            keeps_rollback: false,
        }
    }
}

/// Where sealed chunks may be.
#[derive(Debug)]
pub enum Backend {
    /// In memory.
    Memory,
    /// In memory up to a budget, beyond it in a file of the task's own.
    Disk {
        /// An empty file that no other store uses. It is not durable, and need not have a name.
        scratch: File,
        /// Bytes of chunks and of what a rollback needs. The unsealed tail counts, but only sealed chunks leave memory.
        budget_bytes: usize,
    },
}

/// Rules of a state.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// Which state.
    pub id: StateId,
    /// How long an entry lives after its last write; `None` without expiry.
    pub ttl_ms: Option<u64>,
    /// Ids of its earlier versions, newest first. What they have counts as long as this one has nothing of a key.
    pub aliases: Vec<StateId>,
}

impl StateSettings {
    /// A state without rules.
    #[must_use]
    pub fn plain(id: StateId) -> Self {
        Self {
            id,
            ttl_ms: None,
            aliases: Vec::new(),
        }
    }
}
