//! Facts and metrics of a running job, which clients read without pausing it.
//!
//! Workers update metrics once per batch ([`task`]); rare events (checkpoints, failures, swaps) are recorded under a
//! lock. Clients get both as JSON (`status`) or as text for Prometheus (`prometheus`). This module uses no clock:
//! callers pass times in. It is independent of workers and how they run.

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
pub use job::{DelayFacts, JobState, Kind, NodeFacts, Observer, PluginFacts};
pub use profile::{Profile, SampledStacks};
pub use reported::PluginNumbers;
pub use task::{Stage, StageTimes, Standing, TaskMetrics, Unmigrated, WorkerMetrics};
