//! Keyed state: a log of entries in chunks, and an index into it.
//!
//! A task writes all its state into one append-only log. A barrier seals the tail of the log, which copies nothing; sealed
//! chunks never change again, so the checkpoint writer reads them while the task continues.

pub mod stream;

pub mod settings;
pub mod store;

pub mod collections;
pub mod tree;

mod nodes;
mod versions;
mod visit;

pub mod chunk;
pub mod chunk_index;
mod compaction;
mod history;
mod index;
pub mod layout;
mod log;
mod prefetch;
mod residency;
mod restore;
mod rollback;
mod scratch_file;

#[cfg(test)]
mod churn_tests;
#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod rescale_tests;
#[cfg(test)]
mod version_tests;

pub use chunk::{Chunk, ChunkId, ChunkIds, ChunkRef};
pub use collections::{CollectionSlot, Migrate, MigrationError, NoMigration, Pages, TreeError};
pub use log::{CHUNK_BYTES, HeldStates, Sealed};
pub use restore::Restore;
pub use rollback::RollbackOutcome;
pub use settings::{Backend, StateSettings, StoreSettings};
pub use store::{Keys, Lookup, StateStore};
pub use versions::{StaleEntry, StaleSweep};
pub use visit::KeySearch;

/// A state of an operator in checkpoints. Chunks refer to it by id, so that a new version of a plugin may declare its
/// states in another order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSchema {
    /// The id with which its entries are marked.
    pub id: StateId,
    /// The name that the plugin declares.
    pub name: String,
    /// The kind of its content for each key.
    pub kind: StateKind,
    /// The version of the encoding of its values.
    pub version: u32,
    /// Time to live after the last write in milliseconds; `None` is without expiry. For tools: a job applies its own
    /// setting.
    pub ttl_ms: Option<u64>,
}

/// The id of a state within the log of one operator's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u16);

/// The kind of a state's content for each key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// One value.
    Value,
    /// Values in append order.
    List,
    /// Values by sub-key, in the order of the sub-keys' bytes.
    Map,
}

/// Reads chunks of the checkpoint that a store was restored from, when they are needed. Chunks of checkpoints stay
/// readable as long as the restored store refers to them.
pub trait ChunkReader: Send + Sync {
    /// The bytes of a chunk, exactly as they were sealed.
    ///
    /// # Errors
    /// When they cannot be read now, or are damaged.
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable>;

    /// The index that was stored with a chunk; `None` if it has none.
    ///
    /// # Errors
    /// When it cannot be read now. A damaged index counts as none.
    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable>;
}

/// The reason why a chunk could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chunk {} cannot be read: {reason}", chunk.0)]
pub struct ChunkUnreadable {
    /// The id of the chunk.
    pub chunk: ChunkId,
    /// The reason, for people.
    pub reason: String,
    /// Whether its bytes are damaged; otherwise the cause may be temporary.
    pub is_damaged: bool,
}

/// The reason why a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A chunk of the checkpoint cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ChunkUnreadable),
    /// A chunk was read, but its content is wrong.
    #[error("chunk {} is damaged: {reason}", chunk.0)]
    Damaged {
        /// The id of the chunk.
        chunk: ChunkId,
        /// The damage.
        reason: ChunkDamage,
    },
    /// A page of a map or list does not fit the other pages.
    #[error(transparent)]
    Page(#[from] tree::MalformedTree),
    /// A store would have more chunks than it can address.
    #[error(
        "the checkpoint has more than {chunks_max} chunks of state for one task, which cannot use more; run the job with a higher `parallelism`"
    )]
    TooManyChunks {
        /// The most that a store can have.
        chunks_max: u32,
    },
    /// The scratch file cannot be used.
    #[error("the scratch file of the state cannot be used: {reason}; make room in the data folder")]
    Scratch {
        /// The reason, for people.
        reason: String,
    },
}

/// What is wrong with the content of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkDamage {
    /// Its bytes cannot be read as a sequence of entries.
    #[error("its bytes are not entries")]
    NoEntries,
    /// There is no entry where its index says.
    #[error(transparent)]
    NoEntry(#[from] layout::MalformedEntry),
    /// It has a different length than its checkpoint says.
    #[error("it has a different length than its checkpoint says")]
    Length,
    /// Its entries do not match the index from which the store was restored.
    #[error("its index and its entries do not match")]
    OtherIndex,
    /// Its copy in the scratch file is damaged.
    #[error("its copy in the scratch file is damaged")]
    ScratchCopy,
}

impl StateError {
    fn scratch(error: &std::io::Error) -> Self {
        Self::Scratch {
            reason: error.to_string(),
        }
    }

    /// The damaged chunk of the checkpoint, if it is the cause: another checkpoint may be sound.
    #[must_use]
    pub fn damaged_chunk(&self) -> Option<ChunkId> {
        match self {
            Self::Unreadable(unreadable) => unreadable.is_damaged.then_some(unreadable.chunk),
            Self::Damaged { chunk, .. } => Some(*chunk),
            Self::Page(_) | Self::TooManyChunks { .. } | Self::Scratch { .. } => None,
        }
    }
}
