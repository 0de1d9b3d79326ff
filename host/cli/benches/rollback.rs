//! How long does a task's state take to go back to the last durable checkpoint in memory, and what does it cost to be able
//! to? 100 k keys were written since, of `FLOODMARK_BENCH_KEYS` (10 M), uniformly, with values of 8 and of 100 bytes.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

mod support;

use std::time::{Duration, Instant};

use floodmark_state::stream::{Column, MaxParallelism, OptionalColumn, hash_key};
use floodmark_state::{
    ChunkId, ChunkIds, Keys, Lookup, RollbackOutcome, StateId, StateStore, StoreSettings,
};
use support::{Random, median, setting};

const STATE: StateId = StateId(0);
const BATCH: u64 = 4096;
const DIRTY: u64 = 100_000;

struct State {
    store: StateStore,
    lookup: Lookup,
    value: Vec<u8>,
}

impl State {
    fn new(keeps_rollback: bool, value_bytes: usize) -> Self {
        let max = MaxParallelism::DEFAULT;
        let settings = StoreSettings {
            keeps_rollback,
            ..StoreSettings::in_memory(max, max.all_groups(), ChunkIds::new(ChunkId(1), 0, 1))
        };
        Self {
            store: StateStore::new(settings),
            lookup: Lookup::default(),
            value: vec![0; value_bytes],
        }
    }

    fn write(&mut self, numbers: impl Iterator<Item = u64>) {
        let mut keys = Column::new();
        numbers.for_each(|number| keys.push(&number.to_be_bytes()));
        let hashes: Vec<_> = keys.iter().map(hash_key).collect();
        let keys = Keys {
            keys: &keys,
            hashes: &hashes,
        };
        self.store
            .read(STATE, keys, 0, &mut self.lookup)
            .expect("all of it is in memory");
        self.value[0] = self.value[0].wrapping_add(1);
        let slots: Vec<u32> = (0..hashes.len() as u32).collect();
        let mut values = OptionalColumn::new();
        slots.iter().for_each(|_| values.push(Some(&self.value)));
        self.store
            .write(STATE, keys, 0, &self.lookup, &slots, &values);
        self.store.compact(0).expect("all of it is in memory");
    }

    /// Each of these keys once.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn write_all(&mut self, numbers: &[u64]) -> Duration {
        let begin = Instant::now();
        for batch in numbers.chunks(BATCH as usize) {
            self.write(batch.iter().copied());
        }
        begin.elapsed()
    }

    fn load(&mut self, keys: u64) {
        for first in (0..keys).step_by(BATCH as usize) {
            self.write(first..keys.min(first + BATCH));
        }
    }

    fn seal(&mut self) -> u64 {
        self.store.seal().expect("all of it is in memory").epoch
    }
}

/// So many keys, each once.
fn dirty(random: &mut Random, keys: u64) -> Vec<u64> {
    let mut dirty: Vec<_> = (0..DIRTY.min(keys)).map(|_| random.next() % keys).collect();
    dirty.sort_unstable();
    dirty.dedup();
    // In an order that has nothing to do with where they are.
    dirty.sort_unstable_by_key(|key| hash_key(&key.to_be_bytes()));
    dirty
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn main() {
    let keys = setting("FLOODMARK_BENCH_KEYS", 10_000_000);
    let rounds = setting("FLOODMARK_BENCH_ROUNDS", 5);
    println!("{DIRTY} keys written of {keys}, and back; medians of {rounds}");
    for value_bytes in [8, 100] {
        let mut random = Random(keys);
        let mut writes = Vec::new();
        for keeps_rollback in [false, true] {
            let mut state = State::new(keeps_rollback, value_bytes);
            state.load(keys);
            let mut written = Vec::new();
            let mut back = Vec::new();
            for _ in 0..rounds {
                let epoch = state.seal();
                state.store.durable(epoch);
                let dirty = dirty(&mut random, keys);
                let each = state.write_all(&dirty).as_secs_f64() * 1e9 / dirty.len() as f64;
                written.push(each);
                if keeps_rollback {
                    let begin = Instant::now();
                    let came = state.store.rollback().expect("all of it is in memory");
                    back.push(begin.elapsed().as_secs_f64() * 1e3);
                    assert_eq!(came, RollbackOutcome::Done);
                }
            }
            writes.push(median(written));
            if keeps_rollback {
                println!(
                    "  values of {value_bytes:>3} bytes: back in {:.1} ms; a write {:.0} ns, {:.0} ns where nothing is kept for it",
                    median(back),
                    writes[1],
                    writes[0],
                );
            }
        }
    }
}
