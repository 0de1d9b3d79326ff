//! A whole job on one thread from one seed: workers, exchanges, the machine of the job's life, store and sink, moved in a
//! random order. Workers fail, cannot be made, or are found damaged; disks are full; clients swap, rescale, roll back, stop
//! and drain; processes are killed. The output must be that of a run without any of that, whatever the order.
//!
//! `FLOODMARK_SEED` runs one seed; `FLOODMARK_HEAVY` runs many more.

#![expect(clippy::print_stdout, reason = "a failing run shows its seed")]

mod clients;
#[cfg(feature = "deliberate-faults")]
mod faults;
mod model;
mod process;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use floodmark_engine::guest::{GuestEngine, Plugin};
use floodmark_engine::job::restart::{Backoff, Failure, Strategy};
use floodmark_engine::job::{CheckpointSettings, Ending, JobSettings, Output};
use floodmark_engine::runtime::aligner::Mode;
use floodmark_engine::runtime::plan::{
    Edge, Node, NodeIndex, Operator, Plan, Role, Routing, StateBackend,
};
use floodmark_state::stream::{InputPort, MaxParallelism, OutputPort};
use floodmark_testing::Random;

use model::RestartModel;
use process::{Death, Process};
use world::{Disk, Numbers, Shelf};

/// Counts by key, and the same with another digest: a custom section more, which says nothing.
static COUNT: LazyLock<[Plugin; 2]> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/word-count/rust");
    let path = floodmark_plugin_build::component(&folder, &mut |_| ()).expect("the plugin builds");
    let component = std::fs::read(path).expect("the component is there");
    let other = [component.as_slice(), &[0, 2, 1, b'b']].concat();
    let engine = GuestEngine::new(None).expect("this machine runs WebAssembly");
    [component, other].map(|component| engine.load("count", &component).expect("it is one"))
});

/// Processes after which no further fault is injected, so that the job ends.
const FAULTY_PROCESSES: u64 = 12;
/// Processes after which a job that has not ended never will.
const PROCESSES_MAX: u64 = 60;

/// What one seed is about.
struct Scenario {
    random: Random,
    numbers: Numbers,
    shelf: Shelf,
    disk: Disk,
    mode: Mode,
    /// Failures that count, as the data folder keeps them.
    failures: Vec<Failure>,
    /// Time of day when the process began.
    begun_ms: u64,
    has_faults: bool,
    /// A worker fails at one move of so many.
    moves_per_failure: u64,
    model: RestartModel,
    counts: Counts,
    /// The output of the job, if it is compared.
    trace: Option<Vec<String>>,
}

/// How often things have happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    processes: u64,
    failures: u64,
    not_started: u64,
    gone_back: u64,
    /// How often with the state in memory.
    in_memory: u64,
    given_up: u64,
    swapped: u64,
    /// Swaps that did not happen.
    refused: u64,
    trials_failed: u64,
    trials_passed: u64,
    rescaled: u64,
    rolled_back: u64,
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
            failures: Vec::new(),
            begun_ms: 0,
            has_faults: true,
            moves_per_failure: if seed % 4 == 3 { 40 } else { 300 },
            model: RestartModel::default(),
            counts: Counts::default(),
            trace: None,
        }
    }

    fn plan(&mut self) -> Plan {
        let edge = |from, to, routing| Edge {
            from: NodeIndex(from),
            output: OutputPort(0),
            to: NodeIndex(to),
            input: InputPort(0),
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
                Node::new("numbers", Role::Source(Arc::new(self.numbers))),
                Node::new(
                    "first",
                    Role::Operator(Operator::new(Arc::new(COUNT[0].clone()), Vec::new())),
                ),
                Node::new(
                    "second",
                    Role::Operator(Operator::new(Arc::new(COUNT[0].clone()), Vec::new())),
                ),
                Node::new("shelf", Role::Sink(Arc::new(self.shelf.clone()))),
            ],
            edges: vec![
                edge(0, 1, Routing::ByKey),
                // Both outputs of the first: a region with a local input and one from an exchange.
                edge(1, 2, Routing::ByKey),
                edge(2, 3, Routing::Forward),
            ],
        }
    }

    fn settings(&mut self) -> JobSettings {
        let delay = Duration::from_millis(self.random.below(40));
        let limit = 1 + self.random.below(4) as u32;
        let restart = match self.random.below(6) {
            _ if !self.has_faults => Strategy::default(),
            0 => Strategy::None,
            1 | 2 => Strategy::FixedDelay {
                attempts: Some(limit),
                delay,
            },
            3 => Strategy::FailureRate {
                failures_max: limit,
                interval: Duration::from_millis(500),
                delay,
            },
            _ => Strategy::ExponentialDelay(Backoff {
                initial: delay,
                max: delay * 4,
                attempts: Some(3 * limit),
                ..Backoff::default()
            }),
        };
        let interval = Duration::from_millis(1 + self.random.below(60));
        JobSettings {
            checkpoints: CheckpointSettings {
                timeout: Duration::from_secs(10),
                min_pause: Duration::from_millis(self.random.below(20)),
                ..CheckpointSettings::every(interval)
            },
            fresh: false,
            restart,
            seed: self.random.below(u64::MAX),
        }
    }

    fn trace(&mut self, output: &Output) {
        if let Some(trace) = &mut self.trace {
            let mut line = format!("{output:?}");
            line.truncate(line.floor_char_boundary(2000));
            trace.push(line);
        }
    }

    fn run(&mut self) {
        for number in 0..PROCESSES_MAX {
            self.counts.processes += 1;
            self.has_faults = number < FAULTY_PROCESSES;
            // At first short lives, then long enough ones to finish.
            let moves = 50 + self.random.below(300 + 200 * (number + 1));
            let moves = if self.has_faults { moves } else { 1_000_000 };
            let death = Process::begin(self).run(moves);
            self.begun_ms += 1_000;
            if let Death::Ended(_) = death {
                self.failures.clear();
                self.model.ended();
            }
            let expected = self.numbers.splits * self.numbers.records;
            // A job that was drained has more to read.
            if death == Death::Ended(Ending::Complete) && self.shelf.len() >= expected {
                return;
            }
        }
        panic!("the job has not ended after {PROCESSES_MAX} processes");
    }
}

/// Runs one seed; returns what happened.
fn check(seed: u64, mode: Mode) -> Counts {
    println!("seed {seed}, {mode:?}");
    let mut scenario = Scenario::new(seed, mode);
    scenario.run();
    scenario.check_output(seed);
    scenario.counts
}

impl Scenario {
    fn check_output(&self, seed: u64) {
        let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for key in self.numbers.all_keys() {
            *expected.entry(key).or_default() += 1;
        }
        match self.mode {
            Mode::ExactlyOnce => assert_eq!(self.shelf.counts(), expected, "seed {seed}"),
            Mode::AtLeastOnce => {
                let lines = self.shelf.lines();
                for (key, least) in &expected {
                    let there = lines.get(key).copied().unwrap_or(0);
                    assert!(there >= *least, "seed {seed}: {key:?} {there} of {least}");
                }
                assert_eq!(lines.len(), expected.len(), "seed {seed}: other keys");
            }
        }
    }
}

fn check_all(mode: Mode, seeds: u64) {
    if let Ok(seed) = std::env::var("FLOODMARK_SEED") {
        check(seed.parse().expect("a number"), mode);
        return;
    }
    let heavy = std::env::var_os("FLOODMARK_HEAVY").is_some();
    let seeds = if heavy { 500 } else { seeds };
    let mut sum = Counts::default();
    for seed in 0..seeds {
        sum.add(check(seed, mode));
    }
    println!("{sum:?} of {seeds} seeds");
    let often_enough = [
        ("processes", sum.processes, 2 * seeds),
        ("failures", sum.failures, seeds),
        ("going back", sum.gone_back, seeds),
        ("in memory", sum.in_memory, sum.gone_back / 4),
        ("swaps", sum.swapped, seeds),
        ("swaps that do not happen", sum.refused, 1),
        ("workers that are not made", sum.not_started, seeds / 4),
        ("giving up", sum.given_up, seeds / 10),
        ("failed trials", sum.trials_failed, seeds / 20),
        ("passed trials", sum.trials_passed, seeds / 20),
        ("rescales", sum.rescaled, seeds / 2),
        ("rollbacks", sum.rolled_back, seeds / 2),
    ];
    for (what, times, least) in often_enough {
        assert!(times >= least, "{what}: {times} times, not {least}");
    }
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.processes += other.processes;
        self.failures += other.failures;
        self.not_started += other.not_started;
        self.gone_back += other.gone_back;
        self.in_memory += other.in_memory;
        self.given_up += other.given_up;
        self.swapped += other.swapped;
        self.refused += other.refused;
        self.trials_failed += other.trials_failed;
        self.trials_passed += other.trials_passed;
        self.rescaled += other.rescaled;
        self.rolled_back += other.rolled_back;
    }
}

/// Catches a record that is lost or counted twice by some order of steps, barriers, writes, commits, crashes, operations and
/// going back; and a job that goes back or gives up otherwise than its restart strategy says.
#[test]
fn every_order_gives_the_same_output() {
    check_all(Mode::ExactlyOnce, 30);
}

/// Catches a record that is lost where no input waits for another's barrier.
#[test]
fn at_least_once_loses_nothing() {
    check_all(Mode::AtLeastOnce, 10);
}

/// Catches a decision that depends on anything but its inputs: a seed that fails could not be looked into.
#[test]
fn a_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut scenario = Scenario::new(seed, Mode::ExactlyOnce);
        scenario.trace = Some(Vec::new());
        scenario.run();
        (scenario.counts, scenario.trace.unwrap_or_default())
    };
    for seed in 0..3 {
        let (first, second) = (trace(seed), trace(seed));
        assert_eq!(first.0, second.0, "seed {seed}");
        for (at, (first, second)) in first.1.iter().zip(&second.1).enumerate() {
            assert_eq!(first, second, "seed {seed}, output {at}");
        }
        assert!(!first.1.is_empty(), "a trace says something");
    }
}
