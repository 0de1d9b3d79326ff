//! Keyed state: a log of entries in chunks, and an index into it.
//!
//! A task writes all its state into one append-only log. A barrier seals the tail of the log, which copies nothing; sealed
//! chunks never change again, so the checkpoint writer reads them while the task goes on.

pub mod store;

pub mod chunk;
mod compaction;
mod index;
pub mod layout;
mod log;
mod prefetch;
mod restore;

#[cfg(test)]
mod model_tests;

pub use chunk::{Chunk, ChunkId, ChunkIds, ChunkRef};
pub use log::{CHUNK_BYTES, Sealed};
pub use restore::Restore;
pub use store::{Keys, Lookup, StateStore};

/// A state of an operator, as checkpoints know it: chunks name it by id, so that a new version of a plugin may declare
/// its states in another order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateSchema {
    /// Which entries are its.
    pub id: StateId,
    /// The name that the plugin declares.
    pub name: String,
    /// What it holds a key.
    pub kind: StateKind,
    /// The version of the encoding of its values.
    pub version: u32,
}

/// A state within the log of one operator's tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(pub u16);

/// What a state holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateKind {
    /// One value.
    Value,
}
