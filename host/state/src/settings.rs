//! The settings of a store: its key groups, the place for its bytes, and the expiry of states.

use std::fs::File;

use super::{ChunkIds, StateId};
use crate::stream::{KeyGroupRange, MaxParallelism};

/// The settings of a store.
#[derive(Debug)]
pub struct StoreSettings {
    /// Number of key groups of the job.
    pub max_parallelism: MaxParallelism,
    /// The key groups of this task.
    pub key_groups: KeyGroupRange,
    /// The ids of its new chunks.
    pub ids: ChunkIds,
    /// The place for sealed chunks.
    pub backend: Backend,
    /// Settings of states; entries of all others never expire.
    pub states: Vec<StateSettings>,
    /// Whether the store keeps data for [`super::StateStore::rollback`]. If so, the owner of the store must call
    /// [`super::StateStore::durable`], so that unneeded data is dropped.
    pub keeps_rollback: bool,
}

impl StoreSettings {
    /// All in memory, no expiry, no rollback.
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

/// The place for sealed chunks.
#[derive(Debug)]
pub enum Backend {
    /// In memory.
    Memory,
    /// In memory up to a budget, the rest in a file of the task's own.
    Disk {
        /// An empty file that no other store uses. It is not durable, and need not have a name.
        scratch: File,
        /// Limit on the bytes of chunks and rollback data. The unsealed tail counts, but only sealed chunks leave
        /// memory.
        budget_bytes: usize,
    },
}

/// The settings of a state.
#[derive(Debug, Clone)]
pub struct StateSettings {
    /// The id of the state.
    pub id: StateId,
    /// Time to live after the last write in milliseconds; `None` is without expiry.
    pub ttl_ms: Option<u64>,
    /// Ids of its earlier versions, newest first. Their entries count while this version has none for a key.
    pub aliases: Vec<StateId>,
}

impl StateSettings {
    /// A state without expiry and earlier versions.
    #[must_use]
    pub fn plain(id: StateId) -> Self {
        Self {
            id,
            ttl_ms: None,
            aliases: Vec::new(),
        }
    }
}
