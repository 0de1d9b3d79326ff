//! One process that runs a job, on one thread: it carries out what `Job` says, moves workers and the writer in a random
//! order, lets parts of the job fail, and requests operations.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use floodmark_checkpoint::store::{CheckpointStore, Recovery, StoreError};
use floodmark_checkpoint::{CheckpointStorage, CheckpointStorageSettings, Depth, delete_after};
use floodmark_engine::job::{
    DeletedLater, EarlierRuns, Ending, Found, Input, Job, Moment, Notice, Output, Recover, Reply,
    Request, Start,
};
use floodmark_engine::runtime::JobError;
use floodmark_engine::runtime::build::{Built, WorkerOrigin, build};
use floodmark_engine::runtime::chunks::CheckpointChunks;
use floodmark_engine::runtime::exchange::Wake;
use floodmark_engine::runtime::report::{CheckpointFailure, Report, Reports};
use floodmark_engine::runtime::retained_state::RetainedStates;
use floodmark_engine::runtime::worker::{Counters, Progress, Worker};
use floodmark_engine::runtime::writer::{WriteRequest, Writer};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Chunk, ChunkDamage, ChunkId, ChunkReader, StateError, StateSchema};

use crate::Scenario;
use crate::clients::Waiting;

struct Asleep;

impl Wake for Asleep {
    fn wake(&self) {}
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// By `kill -9`.
    Killed,
    /// The job failed.
    Failed,
    /// The job ended well.
    Ended(Ending),
}

/// Workers and writer, while the job runs.
pub struct Live {
    built: Built,
    pub writer: Writer,
    to_write: Option<WriteRequest>,
    chunks: Arc<dyn ChunkReader>,
}

/// A process.
pub struct Process<'a> {
    scenario: &'a mut Scenario,
    job: Job,
    now: Duration,
    /// What workers have reported and clients requested.
    pub inbox: Arc<Mutex<VecDeque<Input>>>,
    reports: Reports,
    /// The storage, while no workers run.
    pub store: Option<Box<dyn CheckpointStorage>>,
    recovery: Option<Recovery>,
    pub live: Option<Live>,
    ended: Vec<Worker>,
    left: RetainedStates,
    pub waiting: Vec<Waiting>,
    /// While that is true, no checkpoint is retired.
    retains_all: Arc<AtomicBool>,
    /// Before this no worker may be made.
    waits_until: Duration,
    /// Once the job is over.
    end: Option<Death>,
}

impl<'a> Process<'a> {
    /// A process that begins where the last one has left the disk.
    pub fn begin(scenario: &'a mut Scenario) -> Self {
        let plan = Arc::new(scenario.plan());
        let settings = scenario.settings();
        let disk = scenario.disk.clone();
        let mut store = CheckpointStore::open_on(disk, CheckpointStorageSettings::default())
            .expect("the store opens after a crash");
        let mut recovery = store.recover(Depth::Quick, None).expect("it is sound");
        let found = Found::of(&mut recovery, false);
        let inbox: Arc<Mutex<VecDeque<Input>>> = Arc::default();
        let reporting = Arc::clone(&inbox);
        let mut process = Self {
            job: Job::new(plan, settings, scenario.failures.clone()),
            now: Duration::ZERO,
            inbox,
            reports: Arc::new(move |report| push(&reporting, Input::Report(report))),
            store: Some(Box::new(store)),
            recovery: Some(recovery),
            live: None,
            ended: Vec::new(),
            left: RetainedStates::default(),
            waiting: Vec::new(),
            retains_all: Arc::default(),
            waits_until: Duration::ZERO,
            end: None,
            scenario,
        };
        process.scenario.model.resumed(&settings, found.earlier);
        process.step(Input::Recovered(Ok(found)));
        process
    }

    /// Runs until the job is over, or until the process is killed after at most `moves`.
    pub fn run(mut self, moves: u64) -> Death {
        for _ in 0..moves {
            if let Some(death) = self.end {
                return death;
            }
            let passes = self.below(2000);
            self.now += Duration::from_micros(passes);
            self.make_move();
            self.scenario.shelf.check_visible(self.scenario.mode);
        }
        Death::Killed
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.scenario.random.below(limit)
    }

    fn make_move(&mut self) {
        match self.below(4) {
            0 if self.below(10) == 0 => self.make_request(),
            0 => {
                let input = self
                    .inbox
                    .lock()
                    .expect("no test panics with it")
                    .pop_front();
                self.step(input.unwrap_or(Input::Tick));
            }
            1 if self.below(3) == 0 => self.write(),
            _ if self.fails() => self.fail_a_worker(),
            _ => self.move_a_worker(),
        }
    }

    fn fails(&mut self) -> bool {
        let is_next = self.below(self.scenario.moves_per_failure) == 0;
        is_next && self.scenario.has_faults
    }

    fn move_a_worker(&mut self) {
        let Some(live) = &mut self.live else {
            return self.step(Input::Tick);
        };
        let workers = &mut live.built.workers;
        let at = self.scenario.random.below(workers.len() as u64) as usize;
        if self.scenario.random.below(10) == 0 {
            supply(&mut workers[at], &*live.chunks);
        }
        let progress = workers[at]
            .step(self.now, 0)
            .expect("nothing fails in a worker unasked");
        assert_ne!(progress, Progress::Over, "a worker ended unasked");
    }

    fn fail_a_worker(&mut self) {
        if self.live.is_some() {
            self.scenario.counts.failures += 1;
            let error = JobError::Record {
                operator: "first".to_owned(),
                position: String::new(),
                reason: "fails".to_owned(),
            };
            push(&self.inbox, Input::Report(Report::Failed(error)));
        }
    }

    fn write(&mut self) {
        let Some(live) = &mut self.live else { return };
        if let Some(request) = live.to_write.take() {
            let random = &mut self.scenario.random;
            let operations = random.below(60);
            let is_full = random.below(8) == 0 && self.scenario.has_faults;
            self.scenario.disk.fail_after(operations, is_full);
            let outcome = live.writer.write(request);
            self.scenario.disk.fail_after(u64::MAX, false);
            push(&self.inbox, Input::Report(Report::Written(outcome)));
        }
    }

    /// Hands an input to the job, and carries out what follows.
    fn step(&mut self, input: Input) {
        if let Input::Request(Request::Stop { .. } | Request::Rollback(_)) = input {
            // Such a request ends a delay.
            self.waits_until = Duration::ZERO;
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.moment();
            let mut outputs = Vec::new();
            self.job.step(now, input, &mut outputs);
            for output in outputs {
                self.scenario.trace(&output);
                inputs.extend(self.perform(output));
                if self.end.is_some() {
                    return;
                }
            }
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            clock: self.now,
            wall_ms: self.scenario.begun_ms + self.now.as_millis() as u64,
        }
    }

    fn perform(&mut self, output: Output) -> Vec<Input> {
        match output {
            Output::Tell(control) => {
                let live = self.live.as_ref().expect("workers are told while they run");
                for worker in &live.built.controls {
                    worker.send(control.clone()).expect("the worker is there");
                }
            }
            Output::Write(request) => {
                let live = self.live.as_mut().expect("workers run");
                assert!(live.to_write.is_none(), "one checkpoint is under way");
                live.to_write = Some(*request);
            }
            Output::StopWorkers => return self.stop_workers(),
            Output::Recover(what) => {
                let found = self.recover(what);
                if let (Ok(found), None) = (&found, what.at) {
                    self.scenario.model.found(found.earlier);
                }
                return vec![Input::Recovered(found)];
            }
            Output::DeleteAfter(at) => return vec![Input::Deleted(Ok(self.delete_after(at)))],
            Output::Start(start) => return vec![Input::Started(self.start(&start))],
            Output::CloseOutput(start) => {
                let _ = self.begin_output(&start);
                return vec![Input::Closed(Ok(()))];
            }
            Output::KeepFailure(kept) => {
                self.scenario.failures.push(kept.failure);
                self.scenario.model.kept();
            }
            Output::ForgetFailures => self.scenario.failures.clear(),
            Output::Notify(notice) => self.note(notice),
            Output::Answer(reply) => {
                self.note_reply(&reply);
                reply.send();
            }
            Output::RetainAll(retains) => self.retains_all.store(retains, Ordering::Relaxed),
            Output::Plan(..) => {}
            Output::Finish(result) => {
                self.check_clients();
                self.end = Some(match result {
                    Ok(ending) => Death::Ended(ending),
                    Err(JobError::Store(error)) => panic!("the storage fails: {error}"),
                    Err(_) => Death::Failed,
                });
            }
        }
        Vec::new()
    }

    fn note(&mut self, notice: Notice) {
        let (counts, model) = (&mut self.scenario.counts, &mut self.scenario.model);
        match notice {
            Notice::NotCompleted { reason, .. } => {
                let is_of_disk = matches!(
                    &reason,
                    CheckpointFailure::Store(error) if matches!(**error, StoreError::Io { .. })
                );
                assert!(is_of_disk, "{reason}");
            }
            Notice::WentBack(went_back) => {
                counts.gone_back += 1;
                counts.in_memory += u64::from(went_back.in_memory);
                model.went_back(&went_back);
                self.waits_until = self.now + went_back.delay;
            }
            Notice::GaveUp { .. } => {
                counts.given_up += 1;
                model.gave_up();
            }
            Notice::Swapped(_) => counts.swapped += 1,
            Notice::TrialFailed { .. } => counts.trials_failed += 1,
            Notice::TrialPassed { .. } => counts.trials_passed += 1,
            Notice::Rescaled(rescaled) => {
                counts.rescaled += 1;
                assert_eq!(rescaled.to, self.job.plan().parallelism);
            }
            Notice::RolledBack(_) => counts.rolled_back += 1,
            _ => {}
        }
    }

    fn note_reply(&mut self, reply: &Reply) {
        match reply {
            Reply::Swap(_, Err(_)) => self.scenario.counts.refused += 1,
            Reply::Swap(_, Ok(swapped)) => {
                assert_eq!(
                    swapped.pauses.len(),
                    usize::from(self.job.plan().parallelism)
                );
            }
            _ => {}
        }
    }

    /// All that workers have begun is done before they end.
    fn stop_workers(&mut self) -> Vec<Input> {
        self.write();
        let live = self.live.take().expect("workers run");
        self.store = Some(live.writer.into_store());
        // One in three is lost with its state.
        self.ended = match self.scenario.random.below(3) {
            0 => Vec::new(),
            _ => live.built.workers,
        };
        let mut inbox = self.inbox.lock().expect("no test panics with it");
        let mut inputs: Vec<_> = inbox.drain(..).collect();
        inputs.push(Input::Stopped(Ok(())));
        inputs
    }

    fn store(&mut self) -> &mut dyn CheckpointStorage {
        &mut **self.store.as_mut().expect("no workers run")
    }

    fn recover(&mut self, what: Recover) -> Result<Found, StoreError> {
        let ended = std::mem::take(&mut self.ended);
        self.left = RetainedStates::default();
        if let Some(at) = what.at {
            self.store().reader().read(at)?;
        }
        let mut damaged = Vec::new();
        if let Depth::Thorough = what.depth {
            // The newest is what was found to be damaged.
            let listed = self.store().reader().list().expect("it is readable");
            if let Some(id) = listed.iter().map(|(id, _)| *id).max() {
                self.store().delete(&[id]).expect("it is there");
                self.scenario.shelf.take_back();
                damaged.push((id, "a chunk is damaged".to_owned()));
            }
        }
        let mut recovery = self.store().recover(Depth::Quick, what.at)?;
        assert!(recovery.damaged.is_empty(), "{:?}", recovery.damaged);
        recovery.damaged = damaged;
        if what.in_memory && !ended.is_empty() {
            let at = EarlierRuns::of(recovery.restored.as_ref()).checkpoint;
            self.left = RetainedStates::of(ended).back_to(at);
        }
        let found = Found::of(&mut recovery, !self.left.is_empty());
        self.recovery = Some(recovery);
        Ok(found)
    }

    fn delete_after(&mut self, at: CheckpointId) -> DeletedLater {
        let later = delete_after(self.store(), at).expect("they are there");
        self.scenario.shelf.take_back();
        let recovery = self.store().recover(Depth::Quick, Some(at));
        let recovery = recovery.expect("it is sound");
        let next_id = recovery.next_id;
        self.recovery = Some(recovery);
        DeletedLater {
            ids: later,
            next_id,
        }
    }

    fn begin_output(&mut self, start: &Start) -> (Writer, Option<Recovery>) {
        let mut recovery = self.recovery.take();
        if let (Some(amended), Some(found)) = (&start.amended, &mut recovery)
            && let Some(restored) = &mut found.restored
        {
            amended.apply(&mut restored.checkpoint);
        }
        let restored = recovery.as_ref().and_then(|found| found.restored.as_ref());
        let store = self.store.take().expect("no workers run");
        let retained = NonZeroU32::new(3).expect("not zero");
        let begun = Writer::begin(&start.plan, store, retained, restored, start.fresh);
        let (writer, _) = begun.expect("the output is sound");
        (writer.holding(Arc::clone(&self.retains_all)), recovery)
    }

    fn start(&mut self, start: &Start) -> Result<Vec<Vec<StateSchema>>, JobError> {
        assert!(self.now >= self.waits_until, "a delay is waited for");
        if let Some(error) = self.reason_not_to_start(start) {
            self.scenario.counts.not_started += 1;
            return Err(error);
        }
        let (writer, recovery) = self.begin_output(start);
        let recovery = recovery.expect("a job starts after it was recovered");
        let restored = recovery.restored.as_ref();
        let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(writer.reader()));
        let workers = 0..start.plan.parallelism;
        let wakes: Vec<_> = workers.map(|_| Arc::new(Asleep) as Arc<dyn Wake>).collect();
        let counters: Vec<_> = wakes
            .iter()
            .map(|_| Arc::new(Counters::default()))
            .collect();
        let origin = WorkerOrigin {
            plan: &start.plan,
            restored: restored.map(|restored| &restored.checkpoint),
            chunks: &chunks,
            next_chunk: recovery.next_chunk,
            left: std::mem::take(&mut self.left),
        };
        let built = build(origin, &wakes, &counters, &self.reports).expect("the job builds");
        let schemas = built.schemas.clone();
        self.live = Some(Live {
            built,
            writer,
            to_write: None,
            chunks,
        });
        Ok(schemas)
    }

    /// Now and then workers cannot be made: for now, because of damage, or never with another number of tasks.
    fn reason_not_to_start(&mut self, start: &Start) -> Option<JobError> {
        if !self.scenario.has_faults {
            return None;
        }
        let operator = || "first".to_owned();
        let chunk = ChunkId(1);
        match self.below(30) {
            0 => Some(JobError::Tree {
                operator: operator(),
                reason: StateError::Damaged {
                    chunk,
                    reason: ChunkDamage::ScratchCopy,
                }
                .into(),
            }),
            1 => {
                let listed = self.store().reader().list().expect("it is readable");
                (listed.len() > 1).then(|| JobError::Chunks {
                    operator: operator(),
                    reason: StateError::Damaged {
                        chunk,
                        reason: ChunkDamage::Length,
                    },
                })
            }
            2 if start.plan.parallelism != start.plan.configured_parallelism => {
                Some(JobError::Defect { what: "a test" })
            }
            _ => None,
        }
    }
}

pub fn push(inbox: &Mutex<VecDeque<Input>>, input: Input) {
    let mut inbox = inbox.lock().expect("no test panics with it");
    inbox.push_back(input);
}

/// Does what the loader does in the background.
fn supply(worker: &mut Worker, chunks: &dyn ChunkReader) {
    let Some((node, chunk)) = worker.missing().pop() else {
        return;
    };
    let bytes = chunks.chunk(chunk).expect("it is there");
    let chunk = Arc::new(Chunk {
        id: chunk.id,
        bytes,
    });
    worker.supply(node, chunk).expect("it is sound");
}
