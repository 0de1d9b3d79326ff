//! How much room do checkpoints take of a state of which a tenth changes in each: in the store, in its file, and after a
//! compaction?

mod support;

use std::num::NonZeroU32;
use std::sync::Arc;

use floodmark_checkpoint::store::CheckpointStore;
use floodmark_checkpoint::{
    Checkpoint, CheckpointStorage, CheckpointStorageSettings, Compression, NewCheckpoint,
    OperatorSnapshot, PluginDigest, Scale, TaskSnapshot, Trigger,
};
use floodmark_state::stream::{CheckpointId, Column, MaxParallelism, OptionalColumn, hash_key};
use floodmark_state::{ChunkId, ChunkIds, Keys, Lookup, Sealed, StateId, StateStore};
use support::{Random, folder, setting};

const BATCH: usize = 2048;
const VALUE_BYTES: usize = 92;

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

/// Writes the keys `first`, `first + step` and so on below `end`, each with a value of its own.
fn touch(state: &mut StateStore, random: &mut Random, (first, step, end): (usize, usize, usize)) {
    let mut lookup = Lookup::default();
    let numbers: Vec<_> = (first..end).step_by(step).collect();
    for numbers in numbers.chunks(BATCH) {
        let names: Vec<_> = numbers.iter().map(|key| format!("{key:08}")).collect();
        let column: Column = names.iter().map(String::as_bytes).collect();
        let hashes: Vec<_> = names.iter().map(|key| hash_key(key.as_bytes())).collect();
        let keys = Keys {
            keys: &column,
            hashes: &hashes,
        };
        state
            .read(StateId(0), keys, 0, &mut lookup)
            .expect("all is in memory");
        let slots: Vec<_> = (0..hashes.len() as u32).collect();
        let mut values = OptionalColumn::new();
        for number in numbers {
            let count = random.next() % 1000;
            let mut value = format!("count={count};key={number};").into_bytes();
            value.extend(std::iter::repeat_with(|| random.next() as u8).take(40));
            value.resize(VALUE_BYTES, b' ');
            values.push(Some(&value));
        }
        state.write(StateId(0), keys, 0, &lookup, &slots, &values);
        state.compact(0).expect("all is in memory");
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn measure(keys: usize, rounds: usize, compression: Compression) {
    let path = folder("store").join("checkpoint_space.redb");
    let _ = std::fs::remove_file(&path);
    let settings = CheckpointStorageSettings {
        compression,
        ..CheckpointStorageSettings::default()
    };
    let mut store = CheckpointStore::open(&path, settings).expect("the store opens");
    let max = MaxParallelism::DEFAULT;
    let mut state = StateStore::new(floodmark_state::StoreSettings::in_memory(
        max,
        max.all_groups(),
        ChunkIds::new(ChunkId(0), 0, 1),
    ));
    let mut random = Random(7);
    let plugins = [(PluginDigest([0; 32]), Arc::from(Vec::new()))];
    let state_bytes = (keys * (8 + VALUE_BYTES)) as f64;
    let mut most: f64 = 0.0;
    for round in 0..rounds {
        let share = if round == 0 {
            (0, 1, keys)
        } else {
            (round % 10, 10, keys)
        };
        touch(&mut state, &mut random, share);
        let sealed = state.seal().expect("all is in memory");
        let written = store.write(&NewCheckpoint {
            checkpoint: &checkpoint(round as u64 + 1, &sealed),
            chunks: &sealed.fresh,
            plugins: &plugins,
            retained: NonZeroU32::new(3).expect("not zero"),
        });
        written.expect("there is room");
        let space = store.space().expect("it is sound");
        let share = space.stored_bytes as f64 / state_bytes;
        most = most.max(share);
        if (round + 1) % 10 == 0 {
            println!(
                "  after {:>3} checkpoints: {share:.2} × the state stored (at most {most:.2} ×), {:.2} × in use, a file of {:.2} ×",
                round + 1,
                space.used_bytes as f64 / state_bytes,
                space.file_bytes as f64 / state_bytes,
            );
        }
    }
    let (before, after) = store.compact().expect("it is sound");
    println!(
        "{keys} keys of {} B, {rounds} checkpoints with a tenth changed in each, 3 kept, {compression:?}: at most {most:.2} × the state; compaction takes the file from {:.2} × to {:.2} ×",
        8 + VALUE_BYTES,
        before as f64 / state_bytes,
        after as f64 / state_bytes,
    );
    drop(store);
    let _ = std::fs::remove_file(&path);
}

fn main() {
    let keys = setting("FLOODMARK_BENCH_KEYS", 1_000_000);
    let rounds = setting("FLOODMARK_BENCH_CHECKPOINTS", 100);
    for compression in [Compression::None, Compression::Lz4] {
        measure(keys as usize, rounds as usize, compression);
    }
}
