//! What a driver holds for its job: the storage of checkpoints, the threads, the counters, and the state that ended workers
//! leave in memory.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::clock::{self, Clock};
use super::super::threads::{Bell, Threads};
use super::{Inputs, Watcher};
use crate::connector::Recovered;
use crate::job::{DeletedLater, EarlierRuns, Found, Input, Recover, Start};
use crate::runtime::JobError;
use crate::runtime::build::{Built, WorkerOrigin, build};
use crate::runtime::chunks::CheckpointChunks;
use crate::runtime::exchange::Wake;
use crate::runtime::plan::WorkerIndex;
use crate::runtime::report::Reports;
use crate::runtime::retained_state::RetainedStates;
use crate::runtime::worker::{Counters, Worker};
use crate::runtime::writer::Writer;
use floodmark_checkpoint::store::{Recovery, RestoredCheckpoint, StoreError};
use floodmark_checkpoint::{CheckpointStorage, Depth, delete_after};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkReader, StateSchema};

/// What a job runs on.
///
/// - While threads run, they hold the storage.
pub(super) struct Resources {
    retained: NonZeroU32,
    clock: Clock,
    reports: Reports,
    /// While that is true, no checkpoint is retired.
    retains_all: Arc<AtomicBool>,
    counters: Vec<Arc<Counters>>,
    /// Where the counts stood when this process began.
    before: Option<EarlierRuns>,
    store: Option<Box<dyn CheckpointStorage>>,
    /// What workers are made from.
    recovery: Option<Recovery>,
    /// The workers and the writer, while they run.
    pub(super) threads: Option<Threads>,
    /// Workers that have ended, if the state of all can be used.
    ended: Option<Vec<Worker>>,
    /// State that has gone back to the checkpoint that was recovered.
    left: RetainedStates,
    /// What sinks have to say.
    pub(super) summaries: Vec<(String, String)>,
}

impl Resources {
    /// For a job whose storage was looked through.
    pub(super) fn new(
        store: Box<dyn CheckpointStorage>,
        recovery: Recovery,
        retained: NonZeroU32,
        clock: Clock,
        inputs: Inputs,
    ) -> (Self, Found) {
        let mut recovery = recovery;
        let found = Found::of(&mut recovery, false);
        let resources = Self {
            retained,
            clock,
            reports: Arc::new(move |report| {
                inputs.send(Input::Report(report));
            }),
            retains_all: Arc::default(),
            counters: Vec::new(),
            before: None,
            store: Some(store),
            recovery: Some(recovery),
            threads: None,
            ended: None,
            left: RetainedStates::default(),
            summaries: Vec::new(),
        };
        (resources, found)
    }

    pub(super) fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    pub(super) fn retain_all(&self, retains: bool) {
        self.retains_all.store(retains, Ordering::Relaxed);
    }

    /// Ends the threads, after what they have begun.
    pub(super) fn stop_workers(&mut self) -> Result<(), JobError> {
        if let Some(threads) = self.threads.take() {
            let (writer, workers) = threads.stop()?;
            self.summaries = writer.summaries();
            self.store = Some(writer.into_store());
            self.ended = workers;
        }
        Ok(())
    }

    /// Looks for a checkpoint, and takes the state in memory back to it if that is wanted and possible.
    pub(super) fn recover(&mut self, what: Recover) -> Result<Found, StoreError> {
        let ended = self.ended.take();
        self.left = RetainedStates::default();
        let store = store(&mut self.store);
        if let Some(at) = what.at {
            // Nothing has changed yet if it is not there.
            store.reader().read(at)?;
        }
        let mut recovery = store.recover(what.depth, what.at)?;
        if let (true, Some(workers)) = (what.in_memory, ended) {
            let at = EarlierRuns::of(recovery.restored.as_ref()).checkpoint;
            self.left = RetainedStates::of(workers).back_to(at);
        }
        let found = Found::of(&mut recovery, !self.left.is_empty());
        self.recovery = Some(recovery);
        Ok(found)
    }

    pub(super) fn delete_after(&mut self, at: CheckpointId) -> Result<DeletedLater, StoreError> {
        let store = store(&mut self.store);
        let later = delete_after(store, at)?;
        let recovery = store.recover(Depth::Quick, Some(at))?;
        let next_id = recovery.next_id;
        self.recovery = Some(recovery);
        Ok(DeletedLater {
            ids: later,
            next_id,
        })
    }

    /// Brings the output in order, makes workers and runs them. Returns the states of operators, by node.
    pub(super) fn start(
        &mut self,
        start: &Start,
        watcher: &mut dyn Watcher,
    ) -> Result<Vec<Vec<StateSchema>>, JobError> {
        if self.counters.len() != usize::from(start.plan.parallelism) {
            self.counters = counters(start.plan.parallelism, watcher);
        }
        let mut recovery = self
            .recovery
            .take()
            .expect("a job starts after it was recovered");
        if let (Some(amended), Some(restored)) = (&start.amended, &mut recovery.restored) {
            amended.apply(&mut restored.checkpoint);
        }
        let restored = recovery.restored.as_ref();
        self.count_from(EarlierRuns::of(restored));
        let (writer, recovered) = self.begin_output(start, restored)?;
        let writer = writer.holding(Arc::clone(&self.retains_all));
        let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(writer.reader()));
        let origin = WorkerOrigin {
            plan: &start.plan,
            restored: restored.map(|restored| &restored.checkpoint),
            chunks: &chunks,
            next_chunk: recovery.next_chunk,
            left: std::mem::take(&mut self.left),
        };
        match self.run(writer, origin, Arc::clone(&chunks)) {
            Ok(schemas) => {
                watcher.begun(&recovered);
                Ok(schemas)
            }
            Err(failed) => {
                let (error, writer) = *failed;
                self.store = Some(writer.into_store());
                Err(error)
            }
        }
    }

    /// Brings the output to where the checkpoint says that was recovered.
    pub(super) fn close_output(
        &mut self,
        start: &Start,
        watcher: &mut dyn Watcher,
    ) -> Result<(), JobError> {
        let recovery = self.recovery.take();
        let restored = recovery.as_ref().and_then(|found| found.restored.as_ref());
        self.count_from(EarlierRuns::of(restored));
        let begun = self.begin_output(start, restored);
        let (writer, recovered) = begun?;
        self.summaries = writer.summaries();
        watcher.begun(&recovered);
        Ok(())
    }

    fn begin_output(
        &mut self,
        start: &Start,
        restored: Option<&RestoredCheckpoint>,
    ) -> Result<(Writer, Vec<(String, Recovered)>), JobError> {
        let store = self.store.take().expect("no thread holds the storage");
        let begun = Writer::begin(&start.plan, store, self.retained, restored, start.fresh);
        begun.map_err(|failed| {
            self.store = Some(failed.store);
            failed.error
        })
    }

    fn run(
        &mut self,
        writer: Writer,
        origin: WorkerOrigin<'_>,
        chunks: Arc<dyn ChunkReader>,
    ) -> Result<Vec<Vec<StateSchema>>, Box<(JobError, Writer)>> {
        let counters = &self.counters;
        let bells: Vec<_> = counters.iter().map(|_| Arc::new(Bell::default())).collect();
        let wakes = bells.iter().map(|bell| Arc::clone(bell) as Arc<dyn Wake>);
        let wakes: Vec<_> = wakes.collect();
        let Built {
            workers,
            controls,
            schemas,
        } = match build(origin, &wakes, counters, &self.reports) {
            Ok(built) => built,
            Err(error) => return Err(Box::new((error, writer))),
        };
        let measured = |worker: Worker| worker.measured_by(clock::nanos());
        self.threads = Some(Threads::start(
            workers.into_iter().map(measured).collect(),
            bells,
            controls,
            writer,
            chunks,
            self.clock,
            &self.reports,
        ));
        Ok(schemas)
    }

    /// Sets the counters to what this process had read and written at that checkpoint, so that replayed records are not
    /// counted twice.
    fn count_from(&mut self, earlier: EarlierRuns) {
        let before = self.before.get_or_insert(earlier);
        // A rollback may lead to before this process.
        before.records_in = before.records_in.min(earlier.records_in);
        before.records_out = before.records_out.min(earlier.records_out);
        let mut read = earlier.records_in - before.records_in;
        let mut written = earlier.records_out - before.records_out;
        for counters in &self.counters {
            let (take_in, take_out) = (std::mem::take(&mut read), std::mem::take(&mut written));
            counters.records_in.store(take_in, Ordering::Relaxed);
            counters.records_out.store(take_out, Ordering::Relaxed);
        }
    }
}

/// The storage, while no threads run.
fn store(store: &mut Option<Box<dyn CheckpointStorage>>) -> &mut dyn CheckpointStorage {
    &mut **store.as_mut().expect("no thread holds the storage")
}

/// What each worker counts.
fn counters(parallelism: u16, watcher: &dyn Watcher) -> Vec<Arc<Counters>> {
    let counted = |worker| Counters {
        observed: watcher.observed(worker),
        ..Counters::default()
    };
    let workers = (0..parallelism).map(WorkerIndex);
    let all = workers.map(|worker| Arc::new(counted(worker)));
    all.collect()
}
