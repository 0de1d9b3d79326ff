//! Facts and numbers of a running job, which clients read without pausing it.
//!
//! Workers write numbers once a batch ([`task`]); rare events (checkpoints, failures, swaps) go through a lock. Clients get
//! both as JSON (`status`) or as text for Prometheus (`prometheus`). There is no clock here: callers pass times in. The
//! module is independent of workers and how they run.

pub mod job;

pub mod numbers;
pub mod task;

pub mod reported;

pub mod checkpoints;
mod rates;

pub mod profile;
mod prometheus;
mod status;

pub use checkpoints::CheckpointFacts;
pub use job::{JobState, Kind, NodeFacts, Observer, PluginFacts};
pub use profile::{Profile, SampledStacks};
pub use reported::PluginNumbers;
pub use task::{Stage, StageTimes, Standing, TaskMetrics, WorkerMetrics};
