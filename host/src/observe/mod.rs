//! What can be seen of a running job, by whoever asks, without the job standing still for it.
//!
//! Workers write numbers once a batch ([`task`]); what happens rarely (checkpoints, failures, swaps) goes through a lock.
//! Whoever asks gets both as JSON (`status`) or as text for Prometheus (`prometheus`). There is no clock here: times come
//! in. It knows nothing of workers and how they run.

pub mod job;

pub mod numbers;
pub mod task;

pub mod reported;

pub mod checkpoints;
mod rates;

pub mod profile;
mod prometheus;
mod status;

pub use checkpoints::Outcome;
pub use job::{JobState, Kind, NodeFacts, Observer, PluginFacts};
pub use profile::{Profile, SampledStacks};
pub use reported::PluginNumbers;
pub use task::{Stage, StageTimes, Standing, TaskMetrics, WorkerMetrics};
