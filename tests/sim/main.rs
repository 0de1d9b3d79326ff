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
use floodmark::runtime::build::{Built, build};
use floodmark::runtime::chunks::CheckpointChunks;
use floodmark::runtime::conductor::{Action, Conductor, EarlierRuns, Notice};
use floodmark::runtime::exchange::Wake;
use floodmark::runtime::plan::{Edge, Node, NodeIndex, Plan, Role, Routing};
use floodmark::runtime::report::Report;
use floodmark::runtime::worker::{Counters, Progress};
use floodmark::runtime::writer::{WriteRequest, Writer};
use floodmark::stream::MaxParallelism;

use world::{Disk, Numbers, Random, Shelf};

static COUNT: LazyLock<Plugin> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/word-count/rust");
    let path = plugin_build::component(&folder, &mut |_| ()).expect("the plugin builds");
    let component = std::fs::read(path).expect("the component is there");
    let engine = GuestEngine::new(None).expect("this machine runs WebAssembly");
    engine.load("count", &component).expect("the plugin is one")
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
}

/// How one life of the job ended.
#[derive(Debug, PartialEq, Eq)]
enum Death {
    Killed,
    Finished,
}

impl Scenario {
    fn new(seed: u64) -> Self {
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
        Plan {
            data_folder: String::new(),
            job: "sim".to_owned(),
            identity: "sim".to_owned(),
            parallelism: 1 + self.random.below(4) as u16,
            max_parallelism: MaxParallelism::new(16).expect("within the limits"),
            nodes: vec![
                node("numbers", Role::Source(Arc::new(self.numbers))),
                node(
                    "first",
                    Role::Operator {
                        plugin: Arc::new(COUNT.clone()),
                        config: Vec::new(),
                    },
                ),
                node(
                    "second",
                    Role::Operator {
                        plugin: Arc::new(COUNT.clone()),
                        config: Vec::new(),
                    },
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

    /// Runs the job until it is finished or killed, after at most `steps` moves.
    fn live(&mut self, steps: u64) -> Death {
        let plan = self.plan();
        let disk = self.disk.clone();
        let mut store = CheckpointStore::open_on(disk, StoreSettings::default())
            .expect("the store opens after a crash");
        let recovery = store
            .recover(Depth::Quick, None)
            .expect("no checkpoint is damaged");
        assert!(recovery.damaged.is_empty(), "{:?}", recovery.damaged);
        let restored = recovery.restored.as_ref();
        let retained = NonZeroU32::new(2).expect("not zero");
        let chunks = CheckpointChunks(store.reader());
        let (mut writer, _) = Writer::begin(&plan, Box::new(store), retained, restored, false)
            .expect("the output is sound");
        let wakes: Vec<_> = (0..plan.parallelism)
            .map(|_| Arc::new(Asleep) as Arc<dyn Wake>)
            .collect();
        let counters: Vec<_> = wakes
            .iter()
            .map(|_| Arc::new(Counters::default()))
            .collect();
        let (reports, inbox) = mpsc::channel();
        let built = build(
            &plan,
            restored,
            &chunks,
            recovery.next_chunk,
            &wakes,
            &counters,
            &reports,
        )
        .expect("the job builds");
        let Built {
            mut workers,
            controls,
            schemas,
        } = built;
        let earlier = restored.map(|restored| EarlierRuns {
            checkpoint: Some(restored.checkpoint.id),
            records_in: restored.checkpoint.records_in,
            records_out: restored.checkpoint.records_out,
        });
        let settings = CheckpointSettings {
            interval: Some(Duration::from_millis(1 + self.random.below(60))),
            timeout: Duration::from_secs(10),
        };
        let earlier = earlier.unwrap_or_default();
        let mut conductor = Conductor::new(&plan, schemas, settings, recovery.next_id, earlier);
        let mut to_write: Option<WriteRequest> = None;
        let mut now = Duration::ZERO;
        for _ in 0..steps {
            now += Duration::from_micros(self.random.below(2000));
            let report = match self.random.below(4) {
                0 => inbox.try_recv().unwrap_or(Report::Tick),
                1 if to_write.is_some() && self.random.below(3) == 0 => {
                    self.disk
                        .fail_after(self.random.below(60), self.random.below(8) == 0);
                    let outcome = writer.write(to_write.take().expect("it was just there"));
                    self.disk.fail_after(u64::MAX, false);
                    Report::Written(outcome)
                }
                _ => {
                    let worker = self.random.below(workers.len() as u64) as usize;
                    let progress = workers[worker]
                        .step(now)
                        .expect("nothing fails in a worker");
                    assert_ne!(progress, Progress::Over, "nobody has shut it down");
                    continue;
                }
            };
            for action in conductor.handle(now, 0, report) {
                match action {
                    Action::Tell(control) => {
                        controls
                            .iter()
                            .for_each(|worker| worker.send(control).expect("the worker is there"));
                    }
                    Action::Write(request) => to_write = Some(*request),
                    Action::Notify(Notice::NotCompleted { reason, .. }) => {
                        assert!(reason.contains("could not be read or written"), "{reason}");
                    }
                    Action::Notify(_) => {}
                    Action::Finish(_) => return Death::Finished,
                    // The disk was full too often at the end: the job starts again.
                    Action::Fail(_) => return Death::Killed,
                }
            }
            self.shelf.check_visible();
        }
        Death::Killed
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

fn check(seed: u64) -> u64 {
    println!("seed {seed}");
    let mut scenario = Scenario::new(seed);
    let lives = scenario.run();
    let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for key in scenario.numbers.all_keys() {
        *expected.entry(key).or_default() += 1;
    }
    assert_eq!(
        scenario.shelf.counts(),
        expected,
        "seed {seed} after {lives} lives"
    );
    lives
}

/// Catches a record that is lost or counted twice by some order of steps, barriers, writes, commits and crashes.
#[test]
fn every_order_gives_the_same_output() {
    if let Ok(seed) = std::env::var("FLOODMARK_SEED") {
        check(seed.parse().expect("a number"));
        return;
    }
    let seeds = if std::env::var_os("FLOODMARK_HEAVY").is_some() {
        500
    } else {
        30
    };
    let lives: u64 = (0..seeds).map(check).sum();
    assert!(
        lives > 2 * seeds,
        "the job is killed often enough: {lives} lives of {seeds} jobs"
    );
}
