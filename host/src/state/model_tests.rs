//! Catches a store that disagrees with a map: after updates in place and not, over seals, compaction, restores of every
//! barrier, and other parallelisms.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::stream::{Column, KeyGroupRange, MaxParallelism, OptionalColumn, hash_key};

type Model = BTreeMap<(u16, Vec<u8>), Vec<u8>>;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// A job's tasks, the durable chunks, and what the state should be.
struct Subject {
    max: MaxParallelism,
    tasks: Vec<StateStore>,
    disk: BTreeMap<ChunkId, Arc<Chunk>>,
    model: Model,
    random: Random,
    keys: u64,
}

impl Subject {
    fn new(seed: u64, keys: u64) -> Self {
        let max = MaxParallelism::new(16).expect("within the limits");
        let tasks = vec![StateStore::new(
            max,
            max.range(0, 1),
            ChunkIds::new(ChunkId(0), 0, 1),
        )];
        Self {
            max,
            tasks,
            disk: BTreeMap::new(),
            model: Model::new(),
            random: Random(seed),
            keys,
        }
    }

    fn owner(&self, hash: u64) -> usize {
        let tasks = u16::try_from(self.tasks.len()).expect("few tasks");
        usize::from(self.max.owner(self.max.group_of(hash), tasks))
    }

    /// One call of an operator: reads some keys of a state, checks them, and writes some of them.
    fn batch(&mut self, clears: u64) {
        let state = self.random.below(2) as u16;
        let mut picked: Vec<Vec<u8>> = (0..self.random.below(200))
            .map(|_| format!("{:x}", self.random.below(self.keys)).into_bytes())
            .collect();
        picked.sort();
        picked.dedup();
        for task in 0..self.tasks.len() {
            let mine: Vec<_> = picked
                .iter()
                .filter(|key| self.owner(hash_key(key)) == task)
                .collect();
            let keys: Column = mine.iter().map(|key| key.as_slice()).collect();
            let hashes: Vec<_> = mine.iter().map(|key| hash_key(key)).collect();
            let keys = Keys {
                keys: &keys,
                hashes: &hashes,
            };
            let mut lookup = Lookup::default();
            self.tasks[task].read(StateId(state), keys, &mut lookup);
            let (mut slots, mut values) = (Vec::new(), OptionalColumn::new());
            for (slot, key) in mine.iter().enumerate() {
                let entry = (state, key.to_vec());
                assert_eq!(
                    lookup.values().get(slot),
                    self.model.get(&entry).map(Vec::as_slice)
                );
                match self.random.below(10) {
                    0..3 => continue,
                    choice if choice < 3 + clears => {
                        values.push(None);
                        self.model.remove(&entry);
                    }
                    _ => {
                        let len = if self.random.below(3000) == 0 {
                            1_500_000
                        } else {
                            self.random.below(3) * 20
                        };
                        let value = vec![self.random.below(256) as u8; len as usize];
                        values.push(Some(&value));
                        self.model.insert(entry, value);
                    }
                }
                slots.push(slot as u32);
            }
            self.tasks[task].write(StateId(state), keys, &lookup, &slots, &values);
            self.tasks[task].compact();
        }
    }

    fn seal(&mut self) -> Vec<Vec<ChunkRef>> {
        let mut named = Vec::new();
        for task in &mut self.tasks {
            let sealed = task.seal();
            for chunk in sealed.fresh {
                let before = self.disk.insert(chunk.id, chunk);
                assert!(before.is_none(), "a chunk id is used twice");
            }
            for chunk in &sealed.chunks {
                assert_eq!(self.disk[&chunk.id].bytes.len(), chunk.len as usize);
            }
            named.push(sealed.chunks);
        }
        named
    }

    /// Starts again from a barrier with `parallelism` tasks.
    fn restore(&mut self, barrier: &[Vec<ChunkRef>], parallelism: u16) {
        let mut named: BTreeMap<ChunkId, Vec<KeyGroupRange>> = BTreeMap::new();
        for (task, chunks) in barrier.iter().enumerate() {
            for chunk in chunks {
                let range = self.max.range(task as u16, barrier.len() as u16);
                named.entry(chunk.id).or_default().push(range);
            }
        }
        let next = self
            .disk
            .keys()
            .next_back()
            .map_or(ChunkId(0), |id| ChunkId(id.0 + 1));
        self.tasks = (0..parallelism)
            .map(|task| {
                let chunk_ids = ChunkIds::new(next, u64::from(task), u64::from(parallelism));
                let mut restore =
                    Restore::new(self.max, self.max.range(task, parallelism), chunk_ids);
                for (id, ranges) in &named {
                    restore
                        .add(Arc::clone(&self.disk[id]), ranges)
                        .expect("sound chunks");
                }
                restore.finish()
            })
            .collect();
    }

    fn check_all(&self) {
        for state in 0..2u16 {
            for key in 0..self.keys {
                let key = format!("{key:x}").into_bytes();
                let hash = hash_key(&key);
                let column: Column = [key.as_slice()].into_iter().collect();
                let mut lookup = Lookup::default();
                let keys = Keys {
                    keys: &column,
                    hashes: &[hash],
                };
                self.tasks[self.owner(hash)].read(StateId(state), keys, &mut lookup);
                assert_eq!(
                    lookup.values().get(0),
                    self.model.get(&(state, key)).map(Vec::as_slice)
                );
            }
        }
    }
}

fn run(seed: u64, keys: u64, clears: u64, rescale: bool) {
    let mut subject = Subject::new(seed, keys);
    let mut barriers: Vec<(Vec<Vec<ChunkRef>>, Model)> = Vec::new();
    for round in 0..300u64 {
        subject.batch(clears);
        if round % 7 == 6 {
            let barrier = subject.seal();
            barriers.push((barrier, subject.model.clone()));
        }
        if round % 50 == 49 {
            let last = barriers.len() - 1;
            let back = subject.random.below(3).min(last as u64) as usize;
            let (barrier, model) = barriers.swap_remove(last - back);
            barriers.truncate(last - back);
            subject.model = model;
            let parallelism = if rescale {
                1 + subject.random.below(4) as u16
            } else {
                1
            };
            subject.restore(&barrier, parallelism);
            subject.check_all();
            barriers.push((subject.seal(), subject.model.clone()));
        }
    }
    subject.check_all();
}

#[test]
fn equals_a_map() {
    for seed in 0..6 {
        run(seed, 300, 3, false);
        run(seed, 20_000, 1, false);
    }
}

#[test]
fn equals_a_map_over_other_parallelisms() {
    for seed in 0..6 {
        run(seed, 500, 3, true);
    }
}

/// Overwrites `keys` keys `rounds` times over with a seal after each, as a busy job does.
fn churn(rounds: usize, keys: usize, value: &[u8], clear: bool) -> StateStore {
    let max = MaxParallelism::DEFAULT;
    let mut store = StateStore::new(max, max.range(0, 1), ChunkIds::new(ChunkId(0), 0, 1));
    let names: Vec<_> = (0..keys).map(|key| key.to_string().into_bytes()).collect();
    for round in 0..rounds {
        for block in names.chunks(1000) {
            let column: Column = block.iter().map(Vec::as_slice).collect();
            let hashes: Vec<_> = block.iter().map(|key| hash_key(key)).collect();
            let keys = Keys {
                keys: &column,
                hashes: &hashes,
            };
            let mut lookup = Lookup::default();
            store.read(StateId(0), keys, &mut lookup);
            let slots: Vec<_> = (0..block.len() as u32).collect();
            let mut values = OptionalColumn::new();
            for slot in 0..block.len() {
                // A few keys are written in the first round only: they are what compaction has to move.
                let keep = round > 0 && slot % 10 == 0;
                let value = if keep {
                    lookup.values().get(slot)
                } else {
                    Some(value)
                };
                values.push(value.filter(|_| !clear || round % 2 == 0 || keep));
            }
            store.write(StateId(0), keys, &lookup, &slots, &values);
            store.compact();
        }
        store.seal();
    }
    store
}

#[test]
fn garbage_stays_within_bounds() {
    let store = churn(40, 20_000, &[7; 100], false);
    assert!(
        store.total_bytes() <= 2 * store.live_bytes() + (6 << 20),
        "{} bytes for {} live ones",
        store.total_bytes(),
        store.live_bytes()
    );
}

#[test]
fn small_chunks_are_merged() {
    let mut store = churn(200, 50, &[7; 10], false);
    let chunks = store.seal().chunks.len();
    assert!(chunks < 40, "{chunks} chunks");
}

#[test]
fn tombstones_go_in_the_end() {
    let mut store = churn(60, 20_000, &[7; 10], true);
    assert_eq!(store.len(), 20_000, "the last round has left tombstones");
    for _ in 0..20 {
        store.seal();
        store.compact();
    }
    assert!(
        store.len() < 20_000 / 2,
        "{} entries for 2000 values",
        store.len()
    );
}
