//! Starts the workers of a job, at its beginning and each time that it begins again: the output is brought in order, tasks are
//! made from the checkpoint, threads are started. When to begin again is decided elsewhere.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::clock::{self, Clock};
use super::super::threads::{Bell, Threads};
use super::trial::Amended;
use super::{Reports, earlier_runs};
use crate::checkpoint::store::Recovery;
use crate::checkpoint::{CheckpointStorage, Depth};
use crate::connector::Recovered;
use crate::runtime::JobError;
use crate::runtime::build::{Built, Origin, build};
use crate::runtime::chunks::CheckpointChunks;
use crate::runtime::conductor::{EarlierRuns, WentBack};
use crate::runtime::exchange::Wake;
use crate::runtime::left::LeftStates;
use crate::runtime::plan::Plan;
use crate::runtime::worker::{Counters, Worker};
use crate::runtime::writer::{self, Writer};
use crate::state::{ChunkReader, StateSchema};
use crate::stream::CheckpointId;

/// Plans of which it is remembered from which checkpoint on they counted.
const EARLIER_PLANS_MAX: usize = 1000;

/// What workers are started with, each time.
pub(super) struct Stage {
    pub(super) plan: Arc<Plan>,
    /// Those before it, and the first checkpoint after each: it may be damaged.
    pub(super) earlier_plans: Vec<(CheckpointId, Arc<Plan>)>,
    pub(super) retained: NonZeroU32,
    pub(super) clock: Clock,
    pub(super) reports: Reports,
    pub(super) counters: Vec<Arc<Counters>>,
    /// Whether the job may still go back to the checkpoint of a swap: nothing is retired then.
    pub(super) is_on_trial: Arc<AtomicBool>,
    /// Of the checkpoint that it names: what it would say if a swap had not been.
    pub(super) amended: Option<Amended>,
}

/// A job that could not begin.
pub(super) struct NotBegun {
    pub(super) error: JobError,
    /// The store, unless it is lost.
    pub(super) store: Option<Box<dyn CheckpointStorage>>,
}

impl From<writer::NotBegun> for NotBegun {
    fn from(failed: writer::NotBegun) -> Self {
        Self {
            error: failed.error,
            store: Some(failed.store),
        }
    }
}

/// Threads that run, and by node the states of its operator.
type Started = (Threads, Vec<Vec<StateSchema>>);

/// A job that has begun, or begun again.
pub(super) struct Life {
    pub(super) threads: Threads,
    pub(super) schemas: Vec<Vec<StateSchema>>,
    pub(super) next_id: CheckpointId,
    pub(super) earlier: EarlierRuns,
    pub(super) recovered: Vec<(String, Recovered)>,
    /// Damage that showed on the way, and what the job began from instead.
    pub(super) found: Option<WentBack>,
}

impl Stage {
    /// From a checkpoint on, which is durable, another plan counts.
    pub(super) fn replace_plan(&mut self, plan: Arc<Plan>, from: CheckpointId) {
        let before = std::mem::replace(&mut self.plan, plan);
        self.earlier_plans.push((from, before));
        let excess = self.earlier_plans.len().saturating_sub(EARLIER_PLANS_MAX);
        self.earlier_plans.drain(..excess);
    }

    /// The job resumes from `checkpoint`: the plan that was in effect there takes effect again.
    pub(super) fn go_back_to(&mut self, checkpoint: Option<CheckpointId>) {
        while let Some((_, before)) = self
            .earlier_plans
            .pop_if(|(from, _)| checkpoint.is_none_or(|id| id < *from))
        {
            let parallelism = self.plan.parallelism;
            self.plan = match before.parallelism == parallelism {
                true => before,
                // The job was rescaled since.
                false => Arc::new(Plan {
                    parallelism,
                    ..Plan::clone(&before)
                }),
            };
        }
    }

    /// Begins from what was recovered; if that proves to be damaged, from what is sound.
    pub(super) fn live(
        &mut self,
        store: Box<dyn CheckpointStorage>,
        recovery: Recovery,
        fresh: bool,
        left: LeftStates,
    ) -> Result<Life, NotBegun> {
        let (error, mut store) = match self.attempt(store, recovery, fresh, left) {
            Ok(life) => return Ok(life),
            Err(NotBegun {
                error,
                store: Some(store),
            }) if error.is_of_stored_bytes() => (error, store),
            Err(failed) => return Err(failed),
        };
        let mut recovery = match store.recover(Depth::Thorough, None) {
            Ok(recovery) => recovery,
            Err(error) => {
                let (error, store) = (error.into(), Some(store));
                return Err(NotBegun { error, store });
            }
        };
        let found = WentBack {
            reason: error.to_string(),
            to: earlier_runs(recovery.restored.as_ref()).checkpoint,
            attempt: 1,
            attempts_max: Some(1),
            delay: Duration::ZERO,
            in_memory: false,
            passed_over: std::mem::take(&mut recovery.damaged),
        };
        self.go_back_to(found.to);
        let life = self.attempt(store, recovery, false, LeftStates::default())?;
        Ok(Life {
            found: Some(found),
            ..life
        })
    }

    /// Begins from what was recovered. The store comes back if only the workers could not be made.
    fn attempt(
        &self,
        store: Box<dyn CheckpointStorage>,
        mut recovery: Recovery,
        fresh: bool,
        left: LeftStates,
    ) -> Result<Life, NotBegun> {
        if let (Some(amended), Some(restored)) = (&self.amended, &mut recovery.restored) {
            amended.apply(&mut restored.checkpoint);
        }
        let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(store.reader()));
        let restored = recovery.restored.as_ref();
        let begun = Writer::begin(&self.plan, store, self.retained, restored, fresh);
        let (writer, recovered) = begun?;
        let writer = writer.holding(Arc::clone(&self.is_on_trial));
        let origin = Origin {
            plan: &self.plan,
            restored: restored.map(|restored| &restored.checkpoint),
            chunks: &chunks,
            next_chunk: recovery.next_chunk,
            left,
        };
        match self.begin(writer, origin, Arc::clone(&chunks)) {
            Ok((threads, schemas)) => Ok(Life {
                threads,
                schemas,
                next_id: recovery.next_id,
                earlier: earlier_runs(restored),
                recovered,
                found: None,
            }),
            Err(failed) => {
                let (error, writer) = *failed;
                let store = Some(writer.into_store());
                Err(NotBegun { error, store })
            }
        }
    }

    fn begin(
        &self,
        writer: Writer,
        origin: Origin<'_>,
        chunks: Arc<dyn ChunkReader>,
    ) -> Result<Started, Box<(JobError, Writer)>> {
        let bells: Vec<_> = self
            .counters
            .iter()
            .map(|_| Arc::new(Bell::default()))
            .collect();
        let wakes: Vec<_> = bells
            .iter()
            .map(|bell| Arc::clone(bell) as Arc<dyn Wake>)
            .collect();
        let Built {
            workers,
            controls,
            schemas,
        } = match build(origin, &wakes, &self.counters, &self.reports) {
            Ok(built) => built,
            Err(error) => return Err(Box::new((error, writer))),
        };
        let measured = |worker: Worker| worker.measured_by(clock::nanos());
        let threads = Threads::start(
            workers.into_iter().map(measured).collect(),
            bells,
            controls,
            writer,
            chunks,
            self.clock,
            &self.reports,
        );
        Ok((threads, schemas))
    }
}
