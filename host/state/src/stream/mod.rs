//! The data of a stream: records in batches, and the marks between them. Plain data, without I/O.
//!
//! All other modules use these types; this module is independent of them.

pub mod batch;
pub mod column;
pub mod ids;
pub mod key_group;
pub mod origin;
pub mod short;

pub use batch::{Batch, NO_TIMESTAMP, Timestamp};
pub use column::{Column, MalformedColumn, OptionalColumn};
pub use ids::{CheckpointId, InputPort, OutputPort, TaskIndex};
pub use key_group::{KeyGroup, KeyGroupRange, MaxParallelism, hash_key};
pub use origin::{Origin, Unit};

/// The output port that every operator has beside those of its plugin, for records that the plugin could not handle.
pub const DEAD_LETTERS: &str = "dead-letters";
