//! The life of a job as one machine: when checkpoints begin and complete, and how swap, rescale, rollback, stop, trial and
//! recovery after a failure proceed.
//!
//! [`Job::step`] takes the time and an [`Input`], and appends [`Output`]s, which its driver carries out in order. The machine
//! has no clock, thread or disk, so a driver on threads (`edge::drive`) and a simulator (`tests/sim`) run the same code.
//!
//! ```text
//!                                      ┌─ failure, rescale, rollback, end ─┐
//!   Recovered ─▶ Starting ─▶ Running ──┴─▶ Stopping ─▶ Recovering ─▶ (Deleting) ─▶ (Waiting) ─▶ Starting
//!                    │                        │                                        │
//!                    └─ cannot start ─▶ Recovering   └─ ended or not recoverable ─▶ Over ◀─ Closing ─┘ stop
//! ```
//!
//! Workers are always remade in the same way as at the start of the process: the old threads are joined, the storage says
//! what is durable, and workers, sources and sinks are made from there. So a fault that a restart of the process would cure
//! is cured here, too.

mod draft;
pub mod fault;
mod notice;
mod operation;
mod phase;
mod recovery;
pub mod refusal;
mod request;
mod rescale;
pub mod restart;
mod rollback;
mod running;
mod schedule;
mod swap;

use std::sync::Arc;
use std::time::Duration;

use self::draft::Draft;
pub use self::draft::EarlierRuns;
use self::fault::Fault;
pub use self::notice::{CompletedCheckpoint, Notice, WentBack};
use self::operation::Operation;
use self::phase::{Phase, Purpose, Return};
pub use self::refusal::{EndCause, OperationKind, Refusal};
use self::request::Callers;
pub use self::request::{
    Answer, Caller, CanResume, Reply, Request, Rescaled, Retried, RollbackRequest, RolledBack,
    SwapRequest, Swapped, UnfitSource,
};
use self::restart::{Failure, Strategy};
pub use self::schedule::CheckpointSettings;
use self::schedule::Schedule;
pub use self::swap::Amended;
use self::swap::{Plans, Trial};
use crate::runtime::JobError;
use crate::runtime::plan::Plan;
use crate::runtime::report::Report;
use crate::runtime::worker::Control;
use crate::runtime::writer::WriteRequest;
use floodmark_checkpoint::Depth;
use floodmark_checkpoint::store::{Recovery, StoreError};
use floodmark_state::StateSchema;
use floodmark_state::stream::CheckpointId;

/// The time of a step.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Since the process began; never goes back.
    pub clock: Duration,
    /// Time of day, in milliseconds since 1970.
    pub wall_ms: u64,
}

/// What reaches a job.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// From a worker, or from the writer of checkpoints.
    Report(Report),
    /// From a client.
    Request(Request),
    /// The workers and the writer are gone, after [`Output::StopWorkers`] and after all that they reported.
    Stopped(Result<(), JobError>),
    /// The storage was looked through, before the first start or after [`Output::Recover`].
    Recovered(Result<Found, StoreError>),
    /// Later checkpoints are gone, after [`Output::DeleteAfter`].
    Deleted(Result<DeletedLater, StoreError>),
    /// Workers run, after [`Output::Start`]: by node, the states of its operator.
    Started(Result<Vec<Vec<StateSchema>>, JobError>),
    /// The output is as the last checkpoint says, after [`Output::CloseOutput`].
    Closed(Result<(), JobError>),
}

/// What a driver has to do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Tell all workers.
    Tell(Control),
    /// Hand a checkpoint to the writer, which answers with [`Report::Written`].
    Write(Box<WriteRequest>),
    /// Have workers and writer end, and wait for them. Answer with [`Input::Stopped`].
    StopWorkers,
    /// Look for the newest sound checkpoint. Answer with [`Input::Recovered`].
    Recover(Recover),
    /// Delete the checkpoints after this one. Answer with [`Input::Deleted`].
    DeleteAfter(CheckpointId),
    /// Make workers from what was recovered last, and run them. Answer with [`Input::Started`].
    Start(Start),
    /// Bring the output to where the checkpoint says that was recovered last. Answer with [`Input::Closed`].
    CloseOutput(Start),
    /// Retire no checkpoint as long as this is true: the job may go back to an older one.
    RetainAll(bool),
    /// Keep a failure, so that the next process counts it, too.
    KeepFailure(KeptFailure),
    /// Note that the failures so far no longer count.
    ForgetFailures,
    /// Tell observers that this plan runs, and whether a part of it is on trial.
    Plan(Arc<Plan>, bool),
    /// Tell observers.
    Notify(Notice),
    /// Answer a client.
    Answer(Reply),
    /// The job is over. This is the last output.
    Finish(Result<Ending, JobError>),
}

/// What to look for in the storage.
#[derive(Debug, Clone, Copy)]
pub struct Recover {
    /// This checkpoint, which must be readable; `None` for the newest sound one.
    pub at: Option<CheckpointId>,
    /// How closely to look.
    pub depth: Depth,
    /// Whether the state in the memory of the workers that ran last may go back to it.
    pub in_memory: bool,
}

/// What was found in the storage.
#[derive(Debug, Clone)]
pub struct Found {
    /// The checkpoint from which the job resumes.
    pub earlier: EarlierRuns,
    /// The id of the next checkpoint.
    pub next_id: CheckpointId,
    /// Damaged checkpoints that were skipped, and what is wrong with them.
    pub damaged: Vec<(CheckpointId, String)>,
    /// Whether the state in memory has gone back to the checkpoint, so that it need not be read.
    pub in_memory: bool,
}

impl Found {
    /// What a look through the storage has found; takes the list of damaged checkpoints out of it.
    #[must_use]
    pub fn of(recovery: &mut Recovery, in_memory: bool) -> Self {
        Self {
            earlier: EarlierRuns::of(recovery.restored.as_ref()),
            next_id: recovery.next_id,
            damaged: std::mem::take(&mut recovery.damaged),
            in_memory,
        }
    }
}

/// The checkpoints after the one to which a job goes, which are gone.
#[derive(Debug, Clone)]
pub struct DeletedLater {
    /// Their ids, lowest first.
    pub ids: Vec<CheckpointId>,
    /// The id of the next checkpoint: deleting may use one up.
    pub next_id: CheckpointId,
}

/// What workers are made of, besides what was recovered.
#[derive(Debug)]
pub struct Start {
    /// What they run.
    pub plan: Arc<Plan>,
    /// How the checkpoint reads as if a swap had not been.
    pub amended: Option<Arc<Amended>>,
    /// Whether output of earlier runs is removed.
    pub fresh: bool,
}

/// A failure, for the log of failures.
#[derive(Debug)]
pub struct KeptFailure {
    /// When, and what followed.
    pub failure: Failure,
    /// The checkpoint that the job had.
    pub checkpoint: Option<CheckpointId>,
    /// What failed.
    pub reason: String,
}

/// How a job ends well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All input was handled, and all output is visible.
    Complete,
    /// It was stopped with a checkpoint; the next run resumes from it.
    Stopped,
}

/// The settings of a job's life.
#[derive(Debug, Clone, Copy)]
pub struct JobSettings {
    /// When checkpoints are taken.
    pub checkpoints: CheckpointSettings,
    /// Whether output of earlier runs is removed.
    pub fresh: bool,
    /// What happens after a failure.
    pub restart: Strategy,
    /// Scatters delays: another one for each process.
    pub seed: u64,
}

/// The life of one job. Its first input is [`Input::Recovered`].
///
/// - At most one checkpoint is under way, and ids of checkpoints only grow.
/// - At most one operation is under way.
/// - After [`Output::Finish`] there are no outputs but refusals.
pub struct Job {
    settings: JobSettings,
    phase: Phase,
    plans: Plans,
    schedule: Schedule,
    draft: Draft,
    operation: Option<Operation>,
    trial: Option<Trial>,
    callers: Callers,
    /// Those that count for the restart strategy, oldest first.
    failures: Vec<Failure>,
    /// Whether workers have run.
    has_begun: bool,
}

impl Job {
    /// A job that has not begun, with the failures of earlier processes, oldest first.
    #[must_use]
    pub fn new(plan: Arc<Plan>, settings: JobSettings, failures: Vec<Failure>) -> Self {
        let failures = match fault::is_armed(Fault::GiveUpForgets) {
            true => Vec::new(),
            false => failures,
        };
        Self {
            settings,
            phase: Phase::Recovering(Return::to(Purpose::Begin)),
            schedule: Schedule::new(settings.checkpoints),
            draft: Draft::new(&plan),
            plans: Plans::new(plan),
            operation: None,
            trial: None,
            callers: Callers::default(),
            failures,
            has_begun: false,
        }
    }

    /// The plan that counts.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        self.plans.current()
    }
}

#[cfg(test)]
mod tests;
