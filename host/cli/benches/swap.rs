//! How long does a job pause when a plugin is replaced? Counts by key under full load with two tasks, while two versions of
//! the plugin take each other's place again and again; the pause is from the barrier at a task until it is ready for the next
//! record, and should not depend on how much state there is.

mod support;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use floodmark_checkpoint::store::CheckpointStore;
use floodmark_checkpoint::{CheckpointStorage, CheckpointStorageSettings, Depth};
use floodmark_engine::connector::{DiscardSink, GeneratorSettings, GeneratorSource, Recovered};
use floodmark_engine::edge::clock::Clock;
use floodmark_engine::edge::drive::{DriveSettings, Inputs, Kept, Watcher, drive, request};
use floodmark_engine::edge::failures::FailureLog;
use floodmark_engine::edge::later_output::LaterOutput;
use floodmark_engine::edge::scratch;
use floodmark_engine::edge::swap::{NewPlugin, SwapDesk, Swapper, Wish};
use floodmark_engine::guest::GuestEngine;
use floodmark_engine::job::restart::Strategy;
use floodmark_engine::job::{CheckpointSettings, JobSettings, Notice, Request};
use floodmark_engine::observe::WorkerMetrics;
use floodmark_engine::runtime::plan::{Plan, Role, WorkerIndex};
use floodmark_engine::runtime::worker::Counters;
use support::{count_plan, folder, plugin, setting};

/// Tells how many records were read.
struct Watching(Arc<AtomicU64>);

impl Watcher for Watching {
    fn begun(&mut self, _: &[(String, Recovered)]) {}

    fn notice(&mut self, _: Duration, notice: Notice) {
        assert!(
            !matches!(notice, Notice::WentBack(_) | Notice::NotCompleted { .. }),
            "{notice:?}"
        );
    }

    fn planned(&mut self, _: &Plan, _: bool) {}

    fn watch(&mut self, _: Duration, counters: &[Arc<Counters>]) {
        let read = counters
            .iter()
            .map(|counters| counters.records_in.load(Ordering::Relaxed));
        self.0.store(read.sum(), Ordering::Relaxed);
    }

    fn observed(&self, _: WorkerIndex) -> Arc<WorkerMetrics> {
        Arc::new(WorkerMetrics::new(3))
    }
}

/// The same component with another digest: a custom section more, which says nothing.
fn other_version(component: &[u8]) -> Vec<u8> {
    let mut other = component.to_vec();
    other.extend_from_slice(&[0, 2, 1, b'b']);
    other
}

struct Figures {
    pauses: Vec<f64>,
    total: Duration,
    records: u64,
}

#[expect(
    clippy::disallowed_methods,
    reason = "swaps are asked for on a thread of their own, which waits for the state"
)]
fn measure(keys: u64, swaps: u64, parallelism: u16) -> Figures {
    let clock = Clock::start();
    let engine = GuestEngine::new(Some(folder("compiled"))).expect("this machine runs plugins");
    let components = [plugin("word-count"), other_version(&plugin("word-count"))];
    let first = engine.load("count", &components[0]).expect("it is one");
    let source = GeneratorSource::new(&GeneratorSettings {
        keys: NonZeroU64::new(keys).expect("not zero"),
        value_bytes: 16,
        ..GeneratorSettings::default()
    });
    let source = source.expect("the settings are right");
    let mut plan: Plan = count_plan(
        std::path::Path::new("/none"),
        &first,
        Arc::new(DiscardSink),
        parallelism,
    );
    plan.nodes[0].role = Role::Source(Arc::new(source));
    let path = folder("store").join(format!("swap-{}.redb", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let mut store =
        CheckpointStore::open(&path, CheckpointStorageSettings::default()).expect("it opens");
    let recovery = store.recover(Depth::Quick, None).expect("it is new");
    let (inputs, inbox) = Inputs::channel();
    let reader = store.reader();
    let swapper = Swapper {
        engine,
        inputs: inputs.clone(),
        reader: Arc::new(move || Some(Arc::clone(&reader))),
        scratch: Arc::new(|| scratch::file_in(&folder("store"))),
        clock,
        desk: SwapDesk::default(),
    };
    let read = Arc::new(AtomicU64::new(0));
    let stopper = inputs.clone();
    let swapping = std::thread::spawn({
        let read = Arc::clone(&read);
        move || {
            // Nearly all keys are there after three times as many records.
            while read.load(Ordering::Relaxed) < 3 * keys {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (begun, records) = (clock.now(), read.load(Ordering::Relaxed));
            let mut pauses = Vec::new();
            for round in 0..swaps {
                let wish = Wish {
                    plugins: vec![NewPlugin {
                        operator: "count".to_owned(),
                        component: components[(round as usize + 1) % 2].clone(),
                        config: Vec::new(),
                        without: Vec::new(),
                    }],
                    ..Wish::default()
                };
                let found = swapper.swap(&wish).expect("it fits");
                let done = found.swapped.expect("it is another");
                pauses.extend(done.pauses_us.iter().map(|pause| *pause as f64 / 1e3));
            }
            let total = clock.now() - begun;
            let records = read.load(Ordering::Relaxed) - records;
            let stop = Request::Stop {
                drain: false,
                caller: None,
            };
            request(&stopper, stop);
            Figures {
                pauses,
                total,
                records,
            }
        }
    });
    let settings = DriveSettings {
        job: JobSettings {
            checkpoints: CheckpointSettings {
                interval: None,
                ..CheckpointSettings::every(Duration::MAX)
            },
            fresh: false,
            restart: Strategy::None,
            seed: 0,
        },
        retained: NonZeroU32::MIN,
    };
    let kept = Kept {
        store: Box::new(store),
        recovery,
        failures: FailureLog::default(),
        later_output: LaterOutput::default(),
    };
    let channel = (inputs, inbox);
    let mut watching = Watching(read);
    drive(
        Arc::new(plan),
        kept,
        settings,
        clock,
        channel,
        &mut watching,
    )
    .expect("it ends well");
    let _ = std::fs::remove_file(&path);
    swapping.join().expect("all swaps were done")
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted[((sorted.len() - 1) * percent).div_ceil(100)]
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let swaps = setting("FLOODMARK_BENCH_SWAPS", 100);
    let parallelism = 2;
    println!(
        "keyed count, p = {parallelism}, as fast as it goes, {swaps} swaps in one run; pause of a worker in ms"
    );
    for keys in [10_000, 1_000_000, 5_000_000] {
        let Figures {
            mut pauses,
            total,
            records,
        } = measure(keys, swaps, parallelism);
        pauses.sort_by(f64::total_cmp);
        println!(
            "{keys:>9} keys: median {:.3}, p99 {:.3}, longest {:.3}; {:.1} ms a swap, {:.2} M records a second meanwhile",
            percentile(&pauses, 50),
            percentile(&pauses, 99),
            pauses[pauses.len() - 1],
            total.as_secs_f64() * 1e3 / swaps as f64,
            records as f64 / total.as_secs_f64() / 1e6,
        );
    }
}
