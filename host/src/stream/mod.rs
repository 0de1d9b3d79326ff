//! What flows: records in batches, and the marks between them. Plain data, without I/O.
//!
//! Everything else in the host knows these types, and they know nothing of it.

pub mod batch;
pub mod column;
pub mod key_group;
pub mod mark;
pub mod origin;
pub mod short;

pub use batch::{Batch, NO_TIMESTAMP, Timestamp};
pub use column::{Column, MalformedColumn, OptionalColumn};
pub use key_group::{KeyGroup, KeyGroupRange, MaxParallelism, hash_key};
pub use mark::{CheckpointId, TaskIndex};
pub use origin::{Origin, Unit};

/// The output port that every operator has beside those of its plugin: records that the plugin could not handle leave by it.
pub const DEAD_LETTERS: &str = "dead-letters";
