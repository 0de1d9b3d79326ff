//! What does a checkpoint cost: how long does the stream pause at its barrier, and how long and how many bytes does
//! it take to make the changed keys durable?

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floodmark_checkpoint::store::CheckpointStore;
use floodmark_checkpoint::{
    Checkpoint, CheckpointStorage, CheckpointStorageSettings, NewCheckpoint, OperatorSnapshot,
    PluginDigest, Scale, TaskSnapshot, Trigger,
};
use floodmark_engine::connector::DiscardSink;
use floodmark_state::stream::{CheckpointId, Column, MaxParallelism, OptionalColumn, hash_key};
use floodmark_state::{ChunkId, ChunkIds, Keys, Lookup, Sealed, StateId, StateStore};
use support::{Random, count_plan, folder, keyed_lines, load, median, run, setting};

const BATCH: usize = 2048;

struct Table {
    store: StateStore,
    keys: Vec<(Column, Vec<u64>)>,
    random: Random,
}

impl Table {
    fn new(keys: usize) -> Self {
        let max = MaxParallelism::DEFAULT;
        let names: Vec<_> = (0..keys)
            .map(|key| format!("{key:08}").into_bytes())
            .collect();
        let batch = |names: &[Vec<u8>]| {
            let column: Column = names.iter().map(Vec::as_slice).collect();
            let hashes = names.iter().map(|key| hash_key(key)).collect();
            (column, hashes)
        };
        Self {
            store: StateStore::new(floodmark_state::StoreSettings::in_memory(
                max,
                max.all_groups(),
                ChunkIds::new(ChunkId(0), 0, 1),
            )),
            keys: names.chunks(BATCH).map(batch).collect(),
            random: Random(7),
        }
    }

    /// Writes every key once.
    fn touch_all(&mut self, value_bytes: usize) {
        let mut lookup = Lookup::default();
        for (keys, hashes) in &self.keys {
            let keys = Keys { keys, hashes };
            self.store
                .read(StateId(0), keys, 0, &mut lookup)
                .expect("it is in memory");
            let slots: Vec<_> = (0..hashes.len() as u32).collect();
            let mut values = OptionalColumn::new();
            let value = vec![self.random.next() as u8; value_bytes];
            slots.iter().for_each(|_| values.push(Some(&value)));
            self.store
                .write(StateId(0), keys, 0, &lookup, &slots, &values);
            self.store.compact(0).expect("it is in memory");
        }
    }
}

fn checkpoint(id: u64, sealed: &Sealed) -> Checkpoint {
    let max_parallelism = MaxParallelism::DEFAULT;
    Checkpoint {
        id: CheckpointId(id),
        created_ms: 0,
        trigger: Trigger::Periodic,
        job: "bench".to_owned(),
        data_folder: String::new(),
        identity: "bench".to_owned(),
        scale: Scale::configured(1, max_parallelism),
        records_in: 0,
        records_out: 0,
        sources: Vec::new(),
        operators: vec![OperatorSnapshot {
            name: "count".to_owned(),
            plugin: PluginDigest([0; 32]),
            config: Vec::new(),
            replaces: None,
            states: Vec::new(),
            tasks: vec![TaskSnapshot {
                key_groups: max_parallelism.all_groups(),
                chunks: sealed.chunks.clone(),
                collided: Vec::new(),
            }],
        }],
        sinks: Vec::new(),
    }
}

/// Bytes that this process has handed to the operating system.
fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn percentile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[((figures.len() - 1) as f64 * share).round() as usize]
}

/// Makes `rounds` checkpoints of `keys` keys that all have changed.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure(keys: usize, value_bytes: usize, rounds: u64) {
    let path = folder("store").join("checkpoint_write.redb");
    let _ = std::fs::remove_file(&path);
    let mut disk = CheckpointStore::open(&path, CheckpointStorageSettings::default())
        .expect("the store opens");
    let mut table = Table::new(keys);
    let retained = NonZeroU32::new(3).expect("not zero");
    let plugin = [(PluginDigest([0; 32]), Arc::from(Vec::new()))];
    let (mut seals, mut writes, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        table.touch_all(value_bytes);
        let begin = Instant::now();
        let sealed = table.store.seal().expect("it is in memory");
        seals.push(begin.elapsed().as_secs_f64() * 1e3);
        let before = bytes_written();
        let begin = Instant::now();
        disk.write(&NewCheckpoint {
            checkpoint: &checkpoint(round, &sealed),
            chunks: &sealed.fresh,
            plugins: &plugin,
            retained,
        })
        .expect("there is room");
        writes.push(begin.elapsed().as_secs_f64() * 1e6 / keys as f64);
        let dirty = keys * (8 + value_bytes);
        ratios.push((bytes_written() - before) as f64 / dirty as f64);
    }
    println!(
        "{keys:>8} keys of 8 B with {value_bytes:>3} B, all changed, {rounds} times: barrier median {:.3} ms, p99 {:.3} ms; write {:.3} µs a key, {:.2} bytes a changed byte",
        median(seals.clone()),
        percentile(&mut seals, 0.99),
        median(writes),
        median(ratios),
    );
    drop(disk);
    let _ = std::fs::remove_file(&path);
}

/// The same in a job that counts 1 M keys: how long its worker pauses, the snapshot of the sink included.
#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn measure_job() {
    let records = setting("FLOODMARK_BENCH_RECORDS", 10_000_000);
    let input = keyed_lines(records, 1_000_000);
    let plan = count_plan(&input, &load("word-count"), Arc::new(DiscardSink), 1);
    let mut stalls = Vec::new();
    let mut totals = Vec::new();
    for _ in 0..setting("FLOODMARK_BENCH_ROUNDS", 3) * 3 {
        let (_, told) = run(&plan, Some(Duration::from_millis(250)));
        let full = told
            .checkpoints
            .iter()
            .filter(|checkpoint| checkpoint.state_bytes_new > 1 << 20);
        for checkpoint in full {
            stalls.push(checkpoint.stall.as_secs_f64() * 1e3);
            totals.push(checkpoint.total.as_secs_f64() * 1e3);
        }
    }
    println!(
        "job counting 1 M keys, a checkpoint every 250 ms, {} checkpoints: worker pause median {:.2} ms, p99 {:.2} ms (the batch at work included); trigger to visible median {:.0} ms",
        stalls.len(),
        median(stalls.clone()),
        percentile(&mut stalls, 0.99),
        median(totals),
    );
}

fn main() {
    let rounds = setting("FLOODMARK_BENCH_ROUNDS", 3) * 10;
    for (keys, value_bytes) in [
        (1_000_000, 100),
        (1_000_000, 8),
        (100_000, 100),
        (10_000, 100),
        (1000, 100),
    ] {
        measure(keys, value_bytes, rounds);
    }
    measure_job();
}
