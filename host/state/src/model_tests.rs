//! Catches a store that disagrees with a map: after updates in place or by appending, over seals, compaction, eviction,
//! rollbacks, expiry, lazy restores of every barrier, and other parallelisms.

use std::collections::BTreeMap;
use std::sync::Arc;

use floodmark_testing::Random;

use super::nodes::NodeAddress;
use super::*;
use crate::stream::{Column, KeyGroupRange, MaxParallelism, OptionalColumn, TaskIndex, hash_key};

/// By state, node and key: the value, and the time of its write if the state had expiry then.
type Model = BTreeMap<(u16, Option<u64>, Vec<u8>), (Vec<u8>, Option<u64>)>;

const TTL_MS: u64 = 400;
/// State 1 may have expiry; state 2 has pages.
const FORGETFUL: u16 = 1;
const PAGES: u16 = 2;

/// What checkpoints keep.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) chunks: BTreeMap<ChunkId, Arc<Chunk>>,
    pub(super) has_indexes: bool,
}

impl ChunkReader for Disk {
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
        Ok(self.chunks[&chunk.id].bytes.clone())
    }

    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
        // Some chunks are of an old release.
        let has_index = self.has_indexes && !chunk.id.0.is_multiple_of(5);
        Ok(has_index.then(|| chunk_index::of(&self.chunks[&chunk.id].bytes)))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Setup {
    keys: u64,
    clears: u64,
    rescale: bool,
    /// Bytes that each task may use, on the disk backend.
    budget: Option<usize>,
    has_indexes: bool,
    rolls_back: bool,
    forgets: bool,
}

/// A barrier of all tasks.
#[derive(Clone)]
struct Barrier {
    /// By key groups.
    parts: Vec<(KeyGroupRange, Vec<ChunkRef>)>,
    collided: Vec<u64>,
    epochs: Vec<u64>,
    created_ms: u64,
    model: Model,
}

/// A job's tasks, the durable chunks, and a model of the state.
struct Subject {
    setup: Setup,
    max: MaxParallelism,
    tasks: Vec<StateStore>,
    disk: Arc<Disk>,
    model: Model,
    random: Random,
    now_ms: u64,
    forgets: bool,
}

impl Subject {
    fn new(seed: u64, setup: Setup) -> Self {
        let max = MaxParallelism::new(16).expect("within the limits");
        let mut subject = Self {
            setup,
            max,
            tasks: Vec::new(),
            disk: Arc::new(Disk {
                has_indexes: setup.has_indexes,
                ..Disk::default()
            }),
            model: Model::new(),
            random: Random(seed),
            now_ms: 1_000_000,
            forgets: setup.forgets,
        };
        let ids = ChunkIds::new(ChunkId(0), 0, 1);
        subject.tasks = vec![StateStore::new(subject.settings(TaskIndex(0), 1, ids))];
        subject
    }

    fn settings(&self, task: TaskIndex, tasks: u16, ids: ChunkIds) -> StoreSettings {
        StoreSettings {
            backend: match self.setup.budget {
                None => Backend::Memory,
                Some(budget_bytes) => Backend::Disk {
                    scratch: tempfile::tempfile().unwrap(),
                    budget_bytes,
                },
            },
            states: vec![StateSettings {
                ttl_ms: self.forgets.then_some(TTL_MS),
                ..StateSettings::plain(StateId(FORGETFUL))
            }],
            keeps_rollback: self.setup.rolls_back,
            ..StoreSettings::in_memory(self.max, self.max.range(task, tasks), ids)
        }
    }

    fn owner(&self, hash: u64) -> usize {
        let tasks = u16::try_from(self.tasks.len()).expect("few tasks");
        usize::from(self.max.owner(self.max.group_of(hash), tasks).0)
    }

    fn visible<'a>(&'a self, entry: &(u16, Option<u64>, Vec<u8>)) -> Option<&'a [u8]> {
        let (value, written) = self.model.get(entry)?;
        let expired = self.forgets
            && entry.0 == FORGETFUL
            && written.is_some_and(|written| self.now_ms >= written + TTL_MS);
        (!expired).then_some(value.as_slice())
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.random.below(3000) {
            0 => 1_500_000,
            _ => self.random.below(3) * 20,
        };
        vec![self.random.below(256) as u8; len as usize]
    }

    fn some_keys(&mut self) -> Vec<Vec<u8>> {
        let mut picked: Vec<Vec<u8>> = (0..self.random.below(200))
            .map(|_| format!("{:x}", self.random.below(self.setup.keys)).into_bytes())
            .collect();
        picked.sort();
        picked.dedup();
        picked
    }

    /// One call of an operator: reads some keys of a state, checks them, and writes some of them.
    fn batch(&mut self) {
        self.now_ms += self.random.below(30);
        let state = self.random.below(2) as u16;
        let picked = self.some_keys();
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
            let now = self.now_ms;
            self.tasks[task]
                .read(StateId(state), keys, now, &mut lookup)
                .unwrap();
            let (mut slots, mut values) = (Vec::new(), OptionalColumn::new());
            for (slot, key) in mine.iter().enumerate() {
                let entry = (state, None, key.to_vec());
                assert_eq!(lookup.values().get(slot), self.visible(&entry), "{entry:?}");
                match self.random.below(10) {
                    0..3 => continue,
                    choice if choice < 3 + self.setup.clears => {
                        values.push(None);
                        self.model.remove(&entry);
                    }
                    _ => {
                        let value = self.value();
                        values.push(Some(&value));
                        let timed = state == FORGETFUL && self.forgets;
                        self.model.insert(entry, (value, timed.then_some(now)));
                    }
                }
                slots.push(slot as u32);
            }
            self.tasks[task].write(StateId(state), keys, now, &lookup, &slots, &values);
            self.tasks[task].compact(now).unwrap();
        }
    }

    /// Reads and changes some pages.
    fn pages(&mut self) {
        for key in self.some_keys().into_iter().take(20) {
            let node = self.random.below(3) * 1_000_000;
            let task = self.owner(hash_key(&key));
            let entry = (PAGES, Some(node), key.clone());
            let page = self.get(PAGES, Some(node), &key);
            assert_eq!(page.as_deref(), self.visible(&entry), "{entry:?}");
            match self.random.below(4) {
                0 => {
                    self.model.remove(&entry);
                    let address = address(&key, node);
                    self.tasks[task].put_node(address, None, 0).unwrap();
                }
                _ => {
                    let page = self.value();
                    let address = address(&key, node);
                    self.tasks[task].put_node(address, Some(&page), 0).unwrap();
                    self.model.insert(entry, (page, None));
                }
            }
        }
    }

    fn seal(&mut self) -> Barrier {
        let mut barrier = Barrier {
            parts: Vec::new(),
            collided: Vec::new(),
            epochs: Vec::new(),
            created_ms: self.now_ms,
            model: self.model.clone(),
        };
        let mut disk = Disk {
            chunks: self.disk.chunks.clone(),
            has_indexes: self.disk.has_indexes,
        };
        for task in &mut self.tasks {
            let sealed = task.seal().unwrap();
            for chunk in sealed.fresh {
                let before = disk.chunks.insert(chunk.id, chunk);
                assert!(before.is_none(), "a chunk id is used twice");
            }
            for chunk in &sealed.chunks {
                assert_eq!(disk.chunks[&chunk.id].bytes.len(), chunk.len as usize);
            }
            barrier.parts.extend(sealed.parts);
            barrier.collided.extend(sealed.collided);
            barrier.epochs.push(sealed.epoch);
        }
        self.disk = Arc::new(disk);
        barrier
    }

    fn durable(&mut self, barrier: &Barrier) {
        for (task, &epoch) in self.tasks.iter_mut().zip(&barrier.epochs) {
            task.durable(epoch);
        }
    }

    /// Rolls back to the last durable barrier within the process, if possible.
    fn roll_back(&mut self, barrier: &Barrier) {
        let mut came: Vec<_> = self.tasks.iter_mut().map(|task| task.rollback()).collect();
        came.dedup();
        match came.pop() {
            Some(Ok(RollbackOutcome::Done)) if came.is_empty() => {
                self.model = barrier.model.clone()
            }
            // Some tasks no longer have the data for it.
            _ => {
                assert!(self.setup.budget.is_some());
                self.restore(barrier, self.tasks.len() as u16);
            }
        }
    }

    /// Restarts from a barrier with `parallelism` tasks.
    fn restore(&mut self, barrier: &Barrier, parallelism: u16) {
        self.model = barrier.model.clone();
        let mut named: BTreeMap<ChunkId, (ChunkRef, Vec<KeyGroupRange>)> = BTreeMap::new();
        for (groups, chunks) in &barrier.parts {
            for &chunk in chunks {
                let (_, ranges) = named.entry(chunk.id).or_insert((chunk, Vec::new()));
                ranges.push(groups.clone());
            }
        }
        let last = self.disk.chunks.keys().next_back();
        let next = last.map_or(ChunkId(0), |id| ChunkId(id.0 + 1));
        self.tasks = (0..parallelism)
            .map(TaskIndex)
            .map(|task| {
                let ids = ChunkIds::new(next, u64::from(task.0), u64::from(parallelism));
                let mut restore = Restore::new(
                    self.settings(task, parallelism, ids),
                    Arc::clone(&self.disk) as _,
                    barrier.created_ms,
                    barrier.collided.iter().copied(),
                );
                for (chunk, ranges) in named.values() {
                    let index = self.disk.chunk_index(*chunk).unwrap();
                    restore.add(*chunk, ranges, index.as_deref()).unwrap();
                }
                restore.finish().unwrap()
            })
            .collect();
    }

    /// Supplies some chunks, as a loader in the background does.
    fn load(&mut self) {
        for task in &mut self.tasks {
            for chunk in task.missing() {
                if self.random.below(3) == 0 {
                    task.supply(Arc::clone(&self.disk.chunks[&chunk.id]))
                        .unwrap();
                }
            }
        }
    }

    fn get(&mut self, state: u16, node: Option<u64>, key: &[u8]) -> Option<Vec<u8>> {
        let hash = hash_key(key);
        let task = self.owner(hash);
        let store = &mut self.tasks[task];
        if let Some(node) = node {
            let page = store.node(address(key, node)).unwrap();
            return page.map(<[u8]>::to_vec);
        }
        let column: Column = [key].into_iter().collect();
        let mut lookup = Lookup::default();
        let keys = Keys {
            keys: &column,
            hashes: &[hash],
        };
        store
            .read(StateId(state), keys, self.now_ms, &mut lookup)
            .unwrap();
        lookup.values().get(0).map(<[u8]>::to_vec)
    }

    fn check_all(&mut self) {
        let nodes = [0, 1, 2].map(|node| (PAGES, Some(node * 1_000_000)));
        for (state, node) in [(0, None), (FORGETFUL, None)].into_iter().chain(nodes) {
            for key in 0..self.setup.keys {
                let entry = (state, node, format!("{key:x}").into_bytes());
                let got = self.get(state, node, &entry.2);
                assert_eq!(got.as_deref(), self.visible(&entry), "{entry:?}");
            }
        }
    }

    /// Switches expiry on or off, as a restart can. Expired values are visible again or are gone permanently.
    fn switch_forgetting(&mut self, barrier: &Barrier, parallelism: u16) {
        self.forgets = !self.forgets;
        self.restore(barrier, parallelism);
        let expired = self.model.iter().filter(|((state, ..), (_, written))| {
            *state == FORGETFUL && written.is_some_and(|at| self.now_ms >= at + TTL_MS)
        });
        let expired: Vec<_> = expired.map(|(entry, _)| entry.clone()).collect();
        for entry in expired {
            if !self.forgets && self.get(FORGETFUL, None, &entry.2).is_none() {
                self.model.remove(&entry);
            }
        }
    }

    fn keeps_its_budget(&self) {
        let Some(budget) = self.setup.budget else {
            return;
        };
        for task in &self.tasks {
            // The tail may be larger than the budget; then only the chunk that was read last is in memory.
            let resident = task.resident_bytes();
            assert!(resident <= budget.max(3 << 20), "{resident} bytes");
        }
    }
}

fn address(key: &[u8], node: u64) -> NodeAddress<'_> {
    NodeAddress {
        state: StateId(PAGES),
        key,
        key_hash: hash_key(key),
        node,
    }
}

fn run(seed: u64, setup: Setup) {
    let mut subject = Subject::new(seed, setup);
    let mut barriers: Vec<Barrier> = Vec::new();
    let mut durable: Option<Barrier> = None;
    for round in 0..300u64 {
        subject.batch();
        subject.pages();
        if round % 7 == 6 {
            let barrier = subject.seal();
            subject.keeps_its_budget();
            if subject.random.below(3) > 0 {
                subject.durable(&barrier);
                durable = Some(barrier.clone());
            }
            barriers.push(barrier);
            subject.load();
        }
        if setup.rolls_back
            && round % 23 == 11
            && let Some(durable) = &durable
        {
            subject.roll_back(durable);
            subject.check_all();
        }
        if round % 50 == 49 {
            let last = barriers.len() - 1;
            let back = subject.random.below(3).min(last as u64) as usize;
            let barrier = barriers.swap_remove(last - back);
            barriers.truncate(last - back);
            let parallelism = match setup.rescale {
                true => [4, 3, 2, 1][round as usize / 50 % 4],
                false => 1,
            };
            if setup.forgets {
                subject.switch_forgetting(&barrier, parallelism);
            } else {
                subject.restore(&barrier, parallelism);
            }
            subject.check_all();
            // A restored store rolls back to its initial state.
            if setup.rolls_back {
                let begun = Barrier {
                    model: subject.model.clone(),
                    ..barrier
                };
                subject.batch();
                subject.pages();
                subject.roll_back(&begun);
                subject.check_all();
            }
            let barrier = subject.seal();
            subject.durable(&barrier);
            durable = Some(barrier.clone());
            barriers.push(barrier);
        }
    }
    subject.check_all();
}

#[test]
fn equals_a_map() {
    for seed in 0..4 {
        let setup = Setup {
            keys: 300,
            clears: 3,
            has_indexes: seed % 2 == 0,
            ..Setup::default()
        };
        run(seed, setup);
        let setup = Setup {
            keys: 8000,
            clears: 1,
            ..setup
        };
        run(seed, setup);
    }
}

#[test]
fn equals_a_map_over_other_parallelisms() {
    for seed in 0..4 {
        let setup = Setup {
            keys: 500,
            clears: 3,
            rescale: true,
            has_indexes: seed % 2 == 0,
            ..Setup::default()
        };
        run(seed, setup);
    }
}

#[test]
fn equals_a_map_with_little_memory() {
    for seed in 0..4 {
        let setup = Setup {
            keys: 2000,
            clears: 2,
            rescale: seed % 2 == 0,
            budget: Some(200_000),
            has_indexes: seed != 3,
            ..Setup::default()
        };
        run(seed, setup);
    }
}

#[test]
fn equals_a_map_after_going_back() {
    for seed in 0..6 {
        let setup = Setup {
            keys: 600,
            clears: 3,
            rescale: seed % 2 == 0,
            budget: (seed % 3 == 0).then_some(200_000),
            has_indexes: true,
            rolls_back: true,
            ..Setup::default()
        };
        run(seed, setup);
    }
}

#[test]
fn equals_a_map_that_forgets() {
    for seed in 0..6 {
        let setup = Setup {
            keys: 600,
            clears: 2,
            rescale: seed % 2 == 0,
            budget: (seed % 3 == 0).then_some(200_000),
            has_indexes: true,
            rolls_back: seed % 2 == 1,
            forgets: true,
        };
        run(seed, setup);
    }
}
