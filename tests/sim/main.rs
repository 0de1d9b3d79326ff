//! A whole job on one thread from one seed: workers, exchanges, coordinator, store and sink, moved in a random order and
//! killed at random moments. The output must be that of a run without faults, whatever the order.
//!
//! `FLOODMARK_SEED` runs one seed; `FLOODMARK_HEAVY` runs many more.

#![expect(clippy::print_stdout, reason = "a failing run shows its seed")]

mod world;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use floodmark::checkpoint::coordinator::CheckpointSettings;
use floodmark::checkpoint::store::CheckpointStore;
use floodmark::checkpoint::{CheckpointStorage, Depth, StoreSettings};
use floodmark::edge::plugin_build;
use floodmark::guest::{GuestEngine, Plugin};
use floodmark::runtime::JobError;
use floodmark::runtime::aligner::Mode;
use floodmark::runtime::build::{Built, Origin, build};
use floodmark::runtime::chunks::CheckpointChunks;
use floodmark::runtime::conductor::{Action, Conductor, EarlierRuns, Notice};
use floodmark::runtime::exchange::Wake;
use floodmark::runtime::left::LeftStates;
use floodmark::runtime::plan::{
    Edge, Node, NodeIndex, Operator, Plan, Role, Routing, StateBackend,
};
use floodmark::runtime::report::{Answer, Asker, Report};
use floodmark::runtime::swap::{Prepared, Running, SwapRequest};
use floodmark::runtime::worker::{Counters, Progress, Worker};
use floodmark::runtime::writer::{WriteRequest, Writer};
use floodmark::state::{Chunk, ChunkReader};
use floodmark::stream::{CheckpointId, MaxParallelism};

use world::{Disk, Numbers, Random, Shelf};

/// Counts by key, and the same with another digest: a custom section more, which says nothing.
static COUNT: LazyLock<[Plugin; 2]> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/word-count/rust");
    let path = plugin_build::component(&folder, &mut |_| ()).expect("the plugin builds");
    let component = std::fs::read(path).expect("the component is there");
    let other = [component.as_slice(), &[0, 2, 1, b'b']].concat();
    let engine = GuestEngine::new(None).expect("this machine runs WebAssembly");
    [component, other].map(|component| engine.load("count", &component).expect("it is one"))
});

struct Asleep;

impl Wake for Asleep {
    fn wake(&self) {}
}

/// What one seed is about.
struct Scenario {
    random: Random,
    numbers: Numbers,
    shelf: Shelf,
    disk: Disk,
    mode: Mode,
    gone_back: u64,
    /// How often with the state in memory.
    rolled_back: u64,
    swapped: u64,
    /// Swaps that were asked for and did not happen.
    not_swapped: u64,
}

/// How one life of the job ended.
#[derive(Debug, PartialEq, Eq)]
enum Death {
    Killed,
    Finished,
}

impl Scenario {
    fn new(seed: u64, mode: Mode) -> Self {
        let mut random = Random(seed);
        let numbers = Numbers {
            splits: 1 + random.below(5),
            records: 200 + random.below(4000),
            keys: 1 + random.below(300),
        };
        Self {
            random,
            numbers,
            shelf: Shelf::default(),
            disk: Disk::default(),
            mode,
            gone_back: 0,
            rolled_back: 0,
            swapped: 0,
            not_swapped: 0,
        }
    }

    fn plan(&mut self) -> Plan {
        let node = |name: &str, role| Node {
            name: name.to_owned(),
            role,
        };
        let edge = |from, to, routing| Edge {
            from: NodeIndex(from),
            output: 0,
            to: NodeIndex(to),
            input: 0,
            routing,
        };
        let parallelism = 1 + self.random.below(4) as u16;
        Plan {
            data_folder: String::new(),
            backend: StateBackend::Memory,
            job: "sim".to_owned(),
            identity: "sim".to_owned(),
            parallelism,
            configured_parallelism: parallelism,
            max_parallelism: MaxParallelism::new(16).expect("within the limits"),
            mode: self.mode,
            allow_dropped_state: false,
            nodes: vec![
                node("numbers", Role::Source(Arc::new(self.numbers))),
                node(
                    "first",
                    Role::Operator(Operator::new(Arc::new(COUNT[0].clone()), Vec::new())),
                ),
                node(
                    "second",
                    Role::Operator(Operator::new(Arc::new(COUNT[0].clone()), Vec::new())),
                ),
                node("shelf", Role::Sink(Arc::new(self.shelf.clone()))),
            ],
            edges: vec![
                edge(0, 1, Routing::ByKey),
                // Both outputs of the first: a region with a local input and one from an exchange.
                edge(1, 2, Routing::ByKey),
                edge(2, 3, Routing::Forward),
            ],
        }
    }

    /// Runs the job until it is finished or killed, after at most `steps` moves. Now and then all workers are lost, and the
    /// job goes back to its last checkpoint as the real one does.
    fn live(&mut self, steps: u64) -> Death {
        let mut plan = Arc::new(self.plan());
        let mut plans: Vec<(CheckpointId, Arc<Plan>)> = Vec::new();
        let mut swap = None;
        let disk = self.disk.clone();
        let store = CheckpointStore::open_on(disk, StoreSettings::default())
            .expect("the store opens after a crash");
        let (reports, inbox) = mpsc::channel();
        let (mut writer, mut recovered) =
            begin(&plan, Box::new(store), reports.clone(), Vec::new());
        let settings = CheckpointSettings {
            timeout: Duration::from_secs(10),
            min_pause: Duration::from_millis(self.random.below(20)),
            ..CheckpointSettings::every(Duration::from_millis(1 + self.random.below(60)))
        };
        let mut conductor = Conductor::new(
            &plan,
            recovered.built.schemas.clone(),
            settings,
            recovered.next_id,
            recovered.earlier,
        );
        let mut to_write: Option<WriteRequest> = None;
        let mut now = Duration::ZERO;
        let mut is_lost = false;
        for _ in 0..steps {
            now += Duration::from_micros(self.random.below(2000));
            if std::mem::take(&mut is_lost) || self.random.below(500) == 0 {
                if let Some(request) = to_write.take() {
                    self.write(&mut writer, request, &reports);
                }
                let workers = std::mem::take(&mut recovered.built.workers);
                let mut actions = Vec::new();
                for report in inbox.try_iter().filter(|report| !report.is_of_workers()) {
                    actions.extend(conductor.handle(now, 0, report));
                }
                if let Some(death) = outcome(&actions) {
                    return death;
                }
                // One in three is lost with its state.
                let workers = match self.random.below(3) {
                    0 => Vec::new(),
                    _ => workers,
                };
                let mut store = writer.into_store();
                let newest = newest(&mut *store);
                actions.extend(conductor.settle_swap(now, newest, "lost"));
                self.follow(actions, &mut plan, &mut plans);
                while let Some((_, before)) =
                    plans.pop_if(|(from, _)| newest.is_none_or(|newest| newest < *from))
                {
                    plan = before;
                }
                (writer, recovered) = begin(&plan, store, reports.clone(), workers);
                self.rolled_back += u64::from(recovered.in_memory);
                let schemas = recovered.built.schemas.clone();
                conductor.begin_again(now, &plan, schemas, recovered.next_id, recovered.earlier);
                self.gone_back += 1;
            }
            let report = match self.random.below(4) {
                0 if self.random.below(20) == 0 => match swap.take() {
                    None => {
                        let (asker, running) = Asker::new();
                        swap = Some(running);
                        Report::RunningAsked(asker)
                    }
                    // It may have been asked before the job went back.
                    Some(running) => Report::SwapAsked(self.swap(running.recv())),
                },
                0 if self.random.below(40) == 0 => Report::CheckpointAsked(Asker::new().0),
                0 => inbox.try_recv().unwrap_or(Report::Tick),
                1 if self.random.below(3) == 0
                    && let Some(request) = to_write.take() =>
                {
                    self.write(&mut writer, request, &reports);
                    continue;
                }
                _ => {
                    let workers = &mut recovered.built.workers;
                    let worker = self.random.below(workers.len() as u64) as usize;
                    if self.random.below(10) == 0 {
                        supply(&mut workers[worker], &*recovered.chunks);
                    }
                    let progress = workers[worker]
                        .step(now, 0)
                        .expect("nothing fails in a worker");
                    assert_ne!(progress, Progress::Over, "a worker ended unasked");
                    continue;
                }
            };
            let actions = conductor.handle(now, 0, report);
            if let Some(death) = outcome(&actions) {
                return death;
            }
            // Tasks have plugins that no checkpoint names.
            is_lost = actions.iter().any(is_not_swapped);
            let mut others = Vec::new();
            for action in actions {
                match action {
                    Action::Describe {
                        asker,
                        schemas,
                        generation,
                        newest,
                    } => asker.answer(Ok(Running {
                        plan: Arc::clone(&plan),
                        schemas,
                        generation,
                        newest,
                    })),
                    Action::Tell(control) => {
                        let controls = &recovered.built.controls;
                        controls.iter().for_each(|worker| {
                            worker.send(control.clone()).expect("the worker is there")
                        });
                    }
                    Action::Write(request) => to_write = Some(*request),
                    other => others.push(other),
                }
            }
            self.follow(others, &mut plan, &mut plans);
            self.shelf.check_visible(self.mode);
        }
        Death::Killed
    }

    /// One of the operators, or both, by the same plugin opened otherwise.
    fn swap(&mut self, running: Result<Answer<Running>, mpsc::RecvError>) -> Box<SwapRequest> {
        let running = running.expect("the answer is there").expect("all is told");
        let plugin = COUNT[self.random.below(2) as usize].clone();
        let operator = Operator::new(Arc::new(plugin), Vec::new());
        let names = match self.random.below(3) {
            0 => vec!["first"],
            1 => vec!["second"],
            _ => vec!["first", "second"],
        };
        let operators = names
            .iter()
            .map(|name| ((*name).to_owned(), operator.clone()));
        let prepared = Prepared::new(&running, operators.collect(), false);
        Box::new(SwapRequest {
            prepared: prepared.expect("the plugin fits"),
            trial: None,
            stopwatch: Arc::new(|| Duration::ZERO),
            asker: Asker::new().0,
        })
    }

    /// Notes what became of swaps.
    fn follow(
        &mut self,
        actions: Vec<Action>,
        plan: &mut Arc<Plan>,
        plans: &mut Vec<(CheckpointId, Arc<Plan>)>,
    ) {
        for action in actions {
            match action {
                Action::PlanReplaced {
                    plan: new, from, ..
                } => {
                    plans.push((from, std::mem::replace(plan, new)));
                }
                Action::AnswerSwap(_, Ok(swapped)) => {
                    self.swapped += 1;
                    assert_eq!(swapped.pauses.len(), usize::from(plan.parallelism));
                }
                Action::AnswerSwap(_, Err(_)) => self.not_swapped += 1,
                _ => {}
            }
        }
    }

    fn write(
        &mut self,
        writer: &mut Writer,
        request: WriteRequest,
        reports: &mpsc::Sender<Report>,
    ) {
        let operations = self.random.below(60);
        self.disk.fail_after(operations, self.random.below(8) == 0);
        let outcome = writer.write(request);
        self.disk.fail_after(u64::MAX, false);
        reports
            .send(Report::Written(outcome))
            .expect("the inbox is there");
    }

    fn run(&mut self) -> u64 {
        for lives in 1.. {
            // At first short lives, then long enough ones to come to an end.
            let steps = 50 + self.random.below(100 + 400 * lives);
            let steps = if lives > 12 { 1_000_000 } else { steps };
            if self.live(steps) == Death::Finished {
                return lives;
            }
        }
        unreachable!("the loop has no end")
    }
}

/// What a start makes of the newest checkpoint.
struct Begun {
    built: Built,
    next_id: CheckpointId,
    earlier: EarlierRuns,
    in_memory: bool,
    chunks: Arc<dyn ChunkReader>,
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

fn begin(
    plan: &Plan,
    mut store: Box<dyn CheckpointStorage>,
    reports: mpsc::Sender<Report>,
    workers: Vec<Worker>,
) -> (Writer, Begun) {
    let recovery = store
        .recover(Depth::Quick, None)
        .expect("no checkpoint is damaged");
    assert!(recovery.damaged.is_empty(), "{:?}", recovery.damaged);
    let restored = recovery.restored.as_ref();
    let retained = NonZeroU32::new(2).expect("not zero");
    let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(store.reader()));
    let (writer, _) =
        Writer::begin(plan, store, retained, restored, false).expect("the output is sound");
    let wakes: Vec<_> = (0..plan.parallelism)
        .map(|_| Arc::new(Asleep) as Arc<dyn Wake>)
        .collect();
    let counters: Vec<_> = wakes
        .iter()
        .map(|_| Arc::new(Counters::default()))
        .collect();
    let left = LeftStates::of(workers).back_to(restored.map(|restored| restored.checkpoint.id));
    let in_memory = !left.is_empty();
    let origin = Origin {
        plan,
        restored: restored.map(|restored| &restored.checkpoint),
        chunks: &chunks,
        next_chunk: recovery.next_chunk,
        left,
    };
    let built = build(origin, &wakes, &counters, &reports);
    let earlier = restored.map(|restored| EarlierRuns {
        checkpoint: Some(restored.checkpoint.id),
        records_in: restored.checkpoint.records_in,
        records_out: restored.checkpoint.records_out,
    });
    let begun = Begun {
        built: built.expect("the job builds"),
        next_id: recovery.next_id,
        earlier: earlier.unwrap_or_default(),
        in_memory,
        chunks,
    };
    (writer, begun)
}

/// The checkpoint from which a job would go on.
fn newest(store: &mut dyn CheckpointStorage) -> Option<CheckpointId> {
    let recovery = store.recover(Depth::Quick, None);
    let restored = recovery.expect("no checkpoint is damaged").restored;
    restored.map(|restored| restored.checkpoint.id)
}

fn is_not_swapped(action: &Action) -> bool {
    matches!(action, Action::Fail(JobError::NotSwapped { .. }))
}

/// Whether the job is over by these actions.
fn outcome(actions: &[Action]) -> Option<Death> {
    actions.iter().find_map(|action| match action {
        Action::Notify(Notice::NotCompleted { reason, .. }) => {
            assert!(reason.contains("could not be read or written"), "{reason}");
            None
        }
        Action::Finish(_) => Some(Death::Finished),
        failed if is_not_swapped(failed) => None,
        // The disk was full too often at the end: the job starts again.
        Action::Fail(_) => Some(Death::Killed),
        _ => None,
    })
}

/// Runs one seed; returns how many lives the job had, and what happened in them.
fn check(seed: u64, mode: Mode) -> (u64, Scenario) {
    println!("seed {seed}, {mode:?}");
    let mut scenario = Scenario::new(seed, mode);
    let lives = scenario.run();
    let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for key in scenario.numbers.all_keys() {
        *expected.entry(key).or_default() += 1;
    }
    match mode {
        Mode::ExactlyOnce => assert_eq!(
            scenario.shelf.counts(),
            expected,
            "seed {seed} after {lives} lives"
        ),
        Mode::AtLeastOnce => {
            let lines = scenario.shelf.lines();
            for (key, least) in &expected {
                let there = lines.get(key).copied().unwrap_or(0);
                assert!(there >= *least, "seed {seed}: {key:?} {there} of {least}");
            }
            assert_eq!(lines.len(), expected.len(), "seed {seed}: other keys");
        }
    }
    (lives, scenario)
}

fn check_all(mode: Mode, seeds: u64) {
    if let Ok(seed) = std::env::var("FLOODMARK_SEED") {
        check(seed.parse().expect("a number"), mode);
        return;
    }
    let heavy = std::env::var_os("FLOODMARK_HEAVY").is_some();
    let seeds = if heavy { 500 } else { seeds };
    let (mut lives, mut gone_back, mut rolled_back) = (0, 0, 0);
    let (mut swapped, mut not_swapped) = (0, 0);
    for seed in 0..seeds {
        let (lived, scenario) = check(seed, mode);
        lives += lived;
        gone_back += scenario.gone_back;
        rolled_back += scenario.rolled_back;
        swapped += scenario.swapped;
        not_swapped += scenario.not_swapped;
    }
    assert!(
        swapped > seeds && not_swapped > 0,
        "plugins are replaced often enough: {swapped} times, and {not_swapped} times not"
    );
    assert!(
        lives > 2 * seeds,
        "the job is killed often enough: {lives} lives of {seeds} jobs"
    );
    assert!(
        gone_back > seeds,
        "the job goes back often enough: {gone_back} times of {seeds} jobs"
    );
    assert!(
        rolled_back > gone_back / 3,
        "and in memory: {rolled_back} of {gone_back} times"
    );
}

/// Catches a record that is lost or counted twice by some order of steps, barriers, writes, commits, crashes and going back.
#[test]
fn every_order_gives_the_same_output() {
    check_all(Mode::ExactlyOnce, 30);
}

/// Catches a record that is lost where no input waits for another's barrier.
#[test]
fn at_least_once_loses_nothing() {
    check_all(Mode::AtLeastOnce, 10);
}
