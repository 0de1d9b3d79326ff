//! What clients request of a running job, and the answers.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use super::refusal::Refusal;
use crate::connector::ConnectorError;
use crate::guest::Plugin;
use crate::runtime::plan::Operator;
use crate::runtime::swap::{PreparedSwap, Running, Stopwatch};
use floodmark_state::stream::CheckpointId;

/// A request of a client.
#[derive(Debug)]
pub enum Request {
    /// Take a checkpoint. The answer is its id, once it is durable.
    Checkpoint(Caller<CheckpointId>),
    /// Stop with a last checkpoint.
    Stop {
        /// Whether as if the input had ended.
        drain: bool,
        /// Gets the id of the last checkpoint, once it is durable.
        caller: Option<Caller<CheckpointId>>,
    },
    /// Tell what runs.
    Describe(Caller<Running>),
    /// Migrate what is left of earlier versions of state, and drop the rest of them, also between records: for a few seconds,
    /// so that a client that is gone hurries nothing. The answer is what runs; it does not wait.
    Hurry {
        /// The only operator that hurries, by name; `None` for all.
        operator: Option<String>,
        /// Gets the answer.
        caller: Caller<Running>,
    },
    /// Replace plugins.
    Swap(Box<SwapRequest>),
    /// Do not replace plugins, if the checkpoint of the swap has not begun. The answer says whether that was so.
    WithdrawSwap(Caller<bool>),
    /// Run another number of tasks per node.
    Rescale {
        /// How many.
        parallelism: u16,
        /// Gets the answer.
        caller: Caller<Rescaled>,
    },
    /// Go back permanently to a checkpoint, and to the plugins as of that checkpoint.
    Rollback(Box<RollbackRequest>),
    /// End the delay after a failure, whose cause the user has removed: earlier failures no longer count.
    Retry(Caller<Retried>),
}

impl Request {
    /// The refusal as an answer, if the client waits for an answer that can be one.
    pub(super) fn refused(self, refusal: Refusal) -> Option<Reply> {
        match self {
            Self::Checkpoint(caller)
            | Self::Stop {
                caller: Some(caller),
                ..
            } => Some(Reply::Checkpoint(caller, Err(refusal))),
            Self::Swap(request) => Some(Reply::Swap(request.caller, Err(refusal))),
            Self::WithdrawSwap(caller) => Some(Reply::Withdrawn(caller, false)),
            Self::Rescale { caller, .. } => Some(Reply::Rescale(caller, Err(refusal))),
            Self::Rollback(request) => Some(Reply::Rollback(request.caller, Err(refusal))),
            Self::Retry(caller) => Some(Reply::Retry(caller, Err(refusal))),
            Self::Stop { caller: None, .. } | Self::Describe(_) | Self::Hurry { .. } => None,
        }
    }
}

/// The result of a request, or why it was not done.
pub type Answer<T> = Result<T, Refusal>;

/// A client that waits for an answer. Dropping it without one tells the client that the job is over.
#[derive(Debug, Clone)]
pub struct Caller<T>(mpsc::Sender<Answer<T>>);

impl<T> Caller<T> {
    /// With the other end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Answer<T>>) {
        let (sender, receiver) = mpsc::channel();
        (Self(sender), receiver)
    }

    /// Sends the answer; a client that has stopped waiting does not get it.
    pub fn answer(&self, answer: Answer<T>) {
        // A client that has stopped waiting needs no answer.
        let _ = self.0.send(answer);
    }
}

/// An answer on its way to a client.
#[derive(Debug)]
pub enum Reply {
    /// The answer to [`Request::Checkpoint`] or [`Request::Stop`].
    Checkpoint(Caller<CheckpointId>, Answer<CheckpointId>),
    /// The answer to [`Request::Describe`] or [`Request::Hurry`].
    Described(Caller<Running>, Running),
    /// The answer to [`Request::Swap`].
    Swap(Caller<Swapped>, Answer<Swapped>),
    /// The answer to [`Request::WithdrawSwap`].
    Withdrawn(Caller<bool>, bool),
    /// The answer to [`Request::Rescale`].
    Rescale(Caller<Rescaled>, Answer<Rescaled>),
    /// The answer to [`Request::Rollback`].
    Rollback(Caller<RolledBack>, Answer<RolledBack>),
    /// The answer to [`Request::Retry`].
    Retry(Caller<Retried>, Answer<Retried>),
}

impl Reply {
    /// Hands the answer to the client.
    pub fn send(self) {
        match self {
            Self::Checkpoint(caller, answer) => caller.answer(answer),
            Self::Described(caller, running) => caller.answer(Ok(running)),
            Self::Swap(caller, answer) => caller.answer(answer),
            Self::Withdrawn(caller, is_withdrawn) => caller.answer(Ok(is_withdrawn)),
            Self::Rescale(caller, answer) => caller.answer(answer),
            Self::Rollback(caller, answer) => caller.answer(answer),
            Self::Retry(caller, answer) => caller.answer(answer),
        }
    }
}

/// Clients that wait for checkpoints.
#[derive(Default)]
pub(super) struct Callers {
    /// Clients that wait for the next checkpoint that begins.
    pub(super) next: Vec<Caller<CheckpointId>>,
    /// Clients that wait for the checkpoint under way.
    pub(super) current: Vec<Caller<CheckpointId>>,
    /// Clients that wait for the last checkpoint of the job.
    pub(super) last: Vec<Caller<CheckpointId>>,
    /// Whether the job itself wants one as soon as possible.
    pub(super) is_wanted: bool,
}

/// A request to replace plugins.
pub struct SwapRequest {
    /// The new plugins, with an instance for each task.
    pub prepared: PreparedSwap,
    /// How long a failure of the job undoes it, from when it is durable.
    pub trial: Option<Duration>,
    /// Measures the pause.
    pub stopwatch: Stopwatch,
    /// Gets the answer.
    pub caller: Caller<Swapped>,
}

impl std::fmt::Debug for SwapRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SwapRequest")
            .field("prepared", &self.prepared)
            .finish_non_exhaustive()
    }
}

/// Plugins that have taken the place of others, and durably so.
#[derive(Debug, Clone)]
pub struct Swapped {
    /// The new plugins, by the name of their operator.
    pub plugins: Vec<(String, Arc<Plugin>)>,
    /// Whether a failure undoes it.
    pub is_on_trial: bool,
    /// The checkpoint at whose barrier they did.
    pub checkpoint: CheckpointId,
    /// The durable one before it, to which the old plugins belong.
    pub before: Option<CheckpointId>,
    /// How long each worker paused for it, snapshots included.
    pub pauses: Vec<Duration>,
    /// From the request until it was durable.
    pub total: Duration,
}

impl Swapped {
    /// The names of the operators whose plugins were replaced.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.plugins.iter().map(|(name, _)| name.clone()).collect()
    }

    /// How the old plugins come back, for people.
    #[must_use]
    pub fn way_back(&self) -> String {
        match self.before {
            Some(before) => format!(
                "`floodmark rollback PIPELINE --to {before}` goes back to the old plugin and its state"
            ),
            None => "there is no checkpoint with the old plugin to go back to".to_owned(),
        }
    }

    /// The longest pause of a worker.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.pauses.iter().copied().max().unwrap_or_default()
    }
}

/// A job that runs with another number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescaled {
    /// Tasks per node before.
    pub from: u16,
    /// Tasks per node now.
    pub to: u16,
    /// The first checkpoint with so many.
    pub checkpoint: CheckpointId,
    /// From the barrier until the new tasks ran.
    pub pause: Duration,
}

/// Looks whether all sources can resume at the positions of a checkpoint now. Changes nothing.
pub type CanResume = Arc<dyn Fn() -> Result<(), UnfitSource> + Send + Sync>;

/// A source that cannot resume at the positions of a checkpoint.
#[derive(Debug, thiserror::Error)]
#[error("source `{name}`: {reason}")]
pub struct UnfitSource {
    /// The source.
    pub name: String,
    /// Why it cannot.
    pub reason: Box<ConnectorError>,
}

/// A request to go back permanently to a checkpoint.
pub struct RollbackRequest {
    /// The checkpoint, which is sound.
    pub to: CheckpointId,
    /// What runs from there, by node; the others stay as they are.
    pub operators: Vec<(String, Operator)>,
    /// Called when the workers have ended, before anything is deleted: they have read on since the request was made.
    pub can_resume: CanResume,
    /// Gets the answer.
    pub caller: Caller<RolledBack>,
}

impl std::fmt::Debug for RollbackRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RollbackRequest({})", self.to)
    }
}

/// A job that has gone back permanently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The checkpoint that it went back to.
    pub to: CheckpointId,
    /// Later ones, which are gone, and their output with them.
    pub deleted: Vec<CheckpointId>,
    /// Records that had been read there.
    pub records_in: u64,
    /// The first checkpoint since.
    pub checkpoint: CheckpointId,
}

/// A job whose delay after a failure has ended on request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retried {
    /// The checkpoint that the job resumes from; `None` if it starts over.
    pub from: Option<CheckpointId>,
    /// The failure after which it waited, as a message.
    pub reason: String,
}
