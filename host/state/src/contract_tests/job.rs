//! A job that keeps all kinds of state, and a model of its expected state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::{Barrier, Keeper, Setup};
use floodmark_testing::Random;

use crate::stream::{Column, KeyGroupRange, MaxParallelism, OptionalColumn, TaskIndex, hash_key};
use crate::tree::{ScanLimits, Tree, Write};
use crate::{
    Backend, Chunk, ChunkId, ChunkIds, ChunkRef, CollectionSlot, Keys, Lookup, NoMigration, Pages,
    Restore, RollbackOutcome, StateId, StateSettings, StateStore, StoreSettings, TreeError,
};

/// States with an odd number may have expiry.
const VALUES: [u16; 2] = [0, 1];
const LISTS: [u16; 2] = [2, 3];
const MAPS: [u16; 2] = [4, 5];
const TTL_MS: u64 = 150;
const ALL: ScanLimits = ScanLimits {
    items: usize::MAX,
    bytes: usize::MAX,
};

/// A value, and the time of its write if its state had expiry then.
type Item = (Vec<u8>, Option<u64>);
type Place = (u16, Vec<u8>);

#[derive(Debug, Clone, Default)]
struct Model {
    values: BTreeMap<Place, Item>,
    lists: BTreeMap<Place, Vec<Item>>,
    maps: BTreeMap<Place, BTreeMap<Vec<u8>, Item>>,
}

/// A job, and a model of its state.
pub(super) struct Subject {
    setup: Setup,
    max: MaxParallelism,
    keeper: Keeper,
    tasks: Vec<StateStore>,
    budget_bytes: usize,
    /// Sealed chunks that are in no kept barrier.
    unwritten: BTreeMap<ChunkId, Arc<Chunk>>,
    /// The last kept barrier: its seals, and the model at that time.
    kept: Option<(Barrier, Vec<u64>, Model)>,
    model: Model,
    pub(super) random: Random,
    now_ms: u64,
    forgets: bool,
    written: u64,
}

impl Subject {
    /// A job before its first record.
    pub(super) fn new(seed: u64, setup: Setup) -> Self {
        let mut subject = Self {
            setup,
            max: MaxParallelism::new(16).unwrap(),
            keeper: Keeper::default(),
            tasks: Vec::new(),
            budget_bytes: 0,
            unwritten: BTreeMap::new(),
            kept: None,
            model: Model::default(),
            random: Random(seed),
            now_ms: 1_000_000,
            forgets: setup.forgets,
            written: 0,
        };
        subject.crash(1);
        subject
    }

    fn settings(&self, task: TaskIndex, tasks: u16, first: ChunkId) -> StoreSettings {
        let ids = ChunkIds::new(first, u64::from(task.0), u64::from(tasks));
        let states = [VALUES, LISTS, MAPS].map(|[_, forgetful]| StateSettings {
            ttl_ms: self.forgets.then_some(TTL_MS),
            ..StateSettings::plain(StateId(forgetful))
        });
        StoreSettings {
            backend: match self.setup.is_on_disk {
                false => Backend::Memory,
                true => Backend::Disk {
                    scratch: tempfile::tempfile().unwrap(),
                    budget_bytes: self.budget_bytes / usize::from(tasks),
                },
            },
            states: states.into(),
            keeps_rollback: true,
            ..StoreSettings::in_memory(self.max, self.max.range(task, tasks), ids)
        }
    }

    fn owner(&self, key: &[u8]) -> usize {
        let group = self.max.group_of(hash_key(key));
        usize::from(self.max.owner(group, self.tasks.len() as u16).0)
    }

    fn is_live(&self, state: u16, item: &Item) -> bool {
        let expired = |written| self.now_ms >= written + TTL_MS;
        state.is_multiple_of(2) || !self.forgets || !item.1.is_some_and(expired)
    }

    /// A new value, different from all others.
    fn value(&mut self) -> Vec<u8> {
        self.written += 1;
        let len = match self.random.below(2000) {
            0 => 1_100_000,
            1..20 => self.random.below(5000),
            _ => self.random.below(600),
        };
        let mut value = self.written.to_le_bytes().to_vec();
        value.resize(8 + len as usize, 7);
        value
    }

    fn stamp(&self, state: u16) -> Option<u64> {
        (self.forgets && !state.is_multiple_of(2)).then_some(self.now_ms)
    }

    fn key(&mut self) -> Vec<u8> {
        format!("{:x}", self.random.below(self.setup.keys)).into_bytes()
    }

    fn in_tree<R>(
        &mut self,
        state: u16,
        key: &[u8],
        what: impl FnOnce(Tree<'_, Pages<'_>>) -> Result<R, TreeError>,
    ) -> R {
        let slot = CollectionSlot {
            state: StateId(state),
            key,
            key_hash: hash_key(key),
            now_ms: self.now_ms,
        };
        let task = self.owner(key);
        let done = self.tasks[task].in_tree(slot, &mut NoMigration, what);
        done.unwrap()
    }

    /// One call of an operator, followed by compaction.
    pub(super) fn round(&mut self) {
        self.now_ms += self.random.below(20);
        self.change_values();
        for _ in 0..self.random.below(8) {
            let (state, key) = (LISTS[self.random.below(2) as usize], self.key());
            self.check_list(state, &key);
            self.change_list(state, key);
            let (state, key) = (MAPS[self.random.below(2) as usize], self.key());
            self.check_map(state, &key);
            self.change_map(state, key);
        }
        for task in &mut self.tasks {
            task.compact(self.now_ms).unwrap();
        }
    }

    fn change_values(&mut self) {
        let state = VALUES[self.random.below(2) as usize];
        let picked: BTreeSet<_> = (0..self.random.below(100)).map(|_| self.key()).collect();
        for task in 0..self.tasks.len() {
            let mine: Vec<_> = picked
                .iter()
                .filter(|key| self.owner(key) == task)
                .collect();
            let column: Column = mine.iter().map(|key| key.as_slice()).collect();
            let hashes: Vec<_> = mine.iter().map(|key| hash_key(key)).collect();
            let keys = Keys {
                keys: &column,
                hashes: &hashes,
            };
            let (now, mut lookup) = (self.now_ms, Lookup::default());
            self.tasks[task]
                .read(StateId(state), keys, now, &mut lookup)
                .unwrap();
            let (mut slots, mut values) = (Vec::new(), OptionalColumn::new());
            for (slot, key) in mine.into_iter().enumerate() {
                let place = (state, key.clone());
                let item = self.model.values.get(&place);
                let expected = item.filter(|item| self.is_live(state, item));
                let expected = expected.map(|(value, _)| value.as_slice());
                assert_eq!(lookup.values().get(slot), expected, "{place:?}");
                match self.random.below(10) {
                    0..3 => continue,
                    3 | 4 => {
                        values.push(None);
                        self.model.values.remove(&place);
                    }
                    _ => {
                        let item = (self.value(), self.stamp(state));
                        values.push(Some(&item.0));
                        self.model.values.insert(place, item);
                    }
                }
                slots.push(slot as u32);
            }
            self.tasks[task].write(StateId(state), keys, now, &lookup, &slots, &values);
        }
    }

    fn change_list(&mut self, state: u16, key: Vec<u8>) {
        if self.random.below(12) == 0 {
            self.in_tree(state, &key, |mut tree| tree.clear());
            self.model.lists.remove(&(state, key));
            return;
        }
        let count = match self.random.below(30) {
            0 => self.random.below(300),
            _ => self.random.below(6),
        };
        let values: Vec<_> = (0..count).map(|_| self.value()).collect();
        let items: Vec<_> = values.iter().map(Vec::as_slice).collect();
        self.in_tree(state, &key, |mut tree| tree.append(&items));
        let stamp = self.stamp(state);
        let list = self.model.lists.entry((state, key)).or_default();
        list.extend(values.into_iter().map(|value| (value, stamp)));
    }

    fn change_map(&mut self, state: u16, key: Vec<u8>) {
        if self.random.below(20) == 0 {
            self.in_tree(state, &key, |mut tree| tree.clear());
            self.model.maps.remove(&(state, key));
            return;
        }
        let count = match self.random.below(30) {
            0 => self.random.below(300),
            _ => self.random.below(8),
        };
        let mut batch = BTreeMap::new();
        for _ in 0..count {
            let sub_key = self.sub_key();
            let value = (self.random.below(3) > 0).then(|| self.value());
            batch.insert(sub_key, value);
        }
        let writes: Vec<_> = batch
            .iter()
            .map(|(sub_key, value)| Write {
                sub_key,
                value: value.as_deref(),
            })
            .collect();
        self.in_tree(state, &key, |mut tree| tree.apply(&writes));
        let stamp = self.stamp(state);
        let map = self.model.maps.entry((state, key)).or_default();
        for (sub_key, value) in batch {
            match value {
                Some(value) => drop(map.insert(sub_key, (value, stamp))),
                None => drop(map.remove(&sub_key)),
            }
        }
    }

    fn sub_key(&mut self) -> Vec<u8> {
        self.random.below(500).to_string().into_bytes()
    }

    fn check_list(&mut self, state: u16, key: &[u8]) {
        let limits = ScanLimits {
            items: 1 + self.random.below(50) as usize,
            bytes: 2000,
        };
        let (mut got, mut start): (Vec<Vec<u8>>, u64) = (Vec::new(), 0);
        loop {
            let read = self.in_tree(state, key, |mut tree| tree.list_read(start, limits));
            got.extend(read.values.iter().map(<[u8]>::to_vec));
            if !read.more {
                break;
            }
            let last = read.sub_keys.get(read.sub_keys.len() - 1);
            start = u64::from_be_bytes(last.try_into().unwrap()) + 1;
        }
        let list = self.model.lists.get(&(state, key.to_vec()));
        let live = list
            .into_iter()
            .flatten()
            .filter(|item| self.is_live(state, item));
        let expected: Vec<_> = live.map(|(value, _)| value.clone()).collect();
        assert!(got == expected, "list {state} of {key:?}");
        let count = self.in_tree(state, key, |mut tree| tree.count());
        assert_eq!(count, expected.len() as u64);
    }

    fn check_map(&mut self, state: u16, key: &[u8]) {
        let limits = ScanLimits {
            items: 1 + self.random.below(100) as usize,
            bytes: 5000,
        };
        let (start, sub_key) = (self.sub_key(), self.sub_key());
        let is_reverse = self.random.below(2) == 0;
        let range = (Bound::Included(start.as_slice()), Bound::Unbounded);
        let scan = self.in_tree(state, key, |mut tree| {
            tree.scan(range.0, range.1, limits, is_reverse)
        });
        let value = self.in_tree(state, key, |mut tree| tree.get(&sub_key));
        let map = self.model.maps.get(&(state, key.to_vec()));
        let live = map
            .into_iter()
            .flatten()
            .filter(|(_, item)| self.is_live(state, item));
        let live: BTreeMap<_, _> = live.map(|(sub_key, item)| (sub_key, &item.0)).collect();
        assert_eq!(value.as_ref(), live.get(&sub_key).copied());
        let mut expected: Vec<_> = live.into_iter().filter(|(at, _)| **at >= start).collect();
        if is_reverse {
            expected.reverse();
        }
        let got: Vec<_> = scan.sub_keys.iter().zip(scan.values.iter()).collect();
        assert_eq!(scan.more, got.len() < expected.len());
        assert!(!scan.more || !got.is_empty());
        let expected = expected
            .iter()
            .map(|(at, value)| (at.as_slice(), value.as_slice()));
        assert!(
            got.iter().copied().eq(expected.take(got.len())),
            "map {state} of {key:?}"
        );
    }

    fn value_of(&mut self, state: u16, key: &[u8]) -> Option<Vec<u8>> {
        let column: Column = [key].into_iter().collect();
        let keys = Keys {
            keys: &column,
            hashes: &[hash_key(key)],
        };
        let (task, mut lookup) = (self.owner(key), Lookup::default());
        self.tasks[task]
            .read(StateId(state), keys, self.now_ms, &mut lookup)
            .unwrap();
        lookup.values().get(0).map(<[u8]>::to_vec)
    }

    pub(super) fn check_all(&mut self) {
        for number in 0..self.setup.keys {
            let key = format!("{number:x}").into_bytes();
            for state in VALUES {
                let item = self.model.values.get(&(state, key.clone()));
                let live = item.filter(|item| self.is_live(state, item));
                let expected = live.map(|(value, _)| value.clone());
                assert!(
                    self.value_of(state, &key) == expected,
                    "value {state} of {key:?}"
                );
            }
            LISTS.iter().for_each(|state| self.check_list(*state, &key));
            MAPS.iter().for_each(|state| self.check_map(*state, &key));
        }
    }

    /// A barrier, which is nearly always kept. Tasks are nearly always notified.
    pub(super) fn barrier(&mut self) {
        let tasks = self.tasks.len() as u16;
        let mut barrier = Barrier {
            tasks: Vec::new(),
            created_ms: self.now_ms,
        };
        let mut epochs = Vec::new();
        for store in &mut self.tasks {
            let sealed = store.seal().unwrap();
            let fresh = sealed.fresh.into_iter();
            self.unwritten.extend(fresh.map(|chunk| (chunk.id, chunk)));
            let collided = sealed.collided;
            let parts = sealed.parts.into_iter();
            let parts = parts.map(|(groups, chunks)| (groups, chunks, collided.clone()));
            barrier.tasks.extend(parts);
            epochs.push(sealed.epoch);
            let budget = self.budget_bytes / usize::from(tasks);
            // The chunk that was read last may exceed it.
            let resident = store.resident_bytes();
            assert!(
                !self.setup.is_on_disk || resident <= budget + (2 << 20),
                "{resident} bytes"
            );
        }
        if self.random.below(5) == 0 {
            return;
        }
        let named = |id: &ChunkId| {
            let mut tasks = barrier.tasks.iter();
            tasks.any(|(_, chunks, _)| chunks.iter().any(|chunk| chunk.id == *id))
        };
        self.unwritten.retain(|id, _| named(id));
        let fresh: Vec<_> = self.unwritten.values().map(Arc::clone).collect();
        self.keeper.keep(&barrier, &fresh);
        self.unwritten.clear();
        self.kept = Some((barrier, epochs, self.model.clone()));
        if self.random.below(5) > 0 {
            self.tell();
        }
    }

    /// Notifies the tasks of the last kept barrier.
    fn tell(&mut self) {
        let epochs = self.kept.iter().flat_map(|(_, epochs, _)| epochs);
        for (task, &epoch) in self.tasks.iter_mut().zip(epochs) {
            task.durable(epoch);
        }
    }

    /// Rolls back within the process if possible, otherwise restarts as after a crash.
    pub(super) fn roll_back(&mut self) {
        self.tell();
        let tasks = self.tasks.len() as u16;
        let came: Vec<_> = self
            .tasks
            .iter_mut()
            .map(|task| task.rollback().unwrap())
            .collect();
        match (
            &self.kept,
            came.iter().all(|came| *came == RollbackOutcome::Done),
        ) {
            (Some((_, _, model)), true) => self.model = model.clone(),
            (_, is_done) => {
                assert!(
                    is_done || self.setup.is_on_disk,
                    "memory keeps what it needs"
                );
                self.crash(tasks);
            }
        }
        self.unwritten.clear();
    }

    /// Restarts from the last kept barrier.
    pub(super) fn crash(&mut self, parallelism: u16) {
        let (found, reader, first) = self.keeper.crash();
        self.unwritten.clear();
        self.model = match (&found, &self.kept) {
            (Some(found), Some((barrier, _, model))) => {
                assert_eq!(
                    found, barrier,
                    "another barrier than the last that was kept"
                );
                model.clone()
            }
            (None, None) => Model::default(),
            _ => panic!("a barrier is lost, or there is one that was never kept"),
        };
        let barrier = found.unwrap_or(Barrier {
            tasks: Vec::new(),
            created_ms: self.now_ms,
        });
        let chunks = barrier.tasks.iter().flat_map(|(_, chunks, _)| chunks);
        let bytes: usize = chunks.map(|chunk| chunk.len as usize).sum();
        self.budget_bytes = (bytes / 10).max(200_000);
        let mut named: BTreeMap<ChunkId, (ChunkRef, Vec<KeyGroupRange>)> = BTreeMap::new();
        for (groups, chunks, _) in &barrier.tasks {
            for &chunk in chunks {
                let (_, ranges) = named.entry(chunk.id).or_insert((chunk, Vec::new()));
                ranges.push(groups.clone());
            }
        }
        let tasks = (0..parallelism).map(TaskIndex).map(|task| {
            let settings = self.settings(task, parallelism, first);
            let collided = barrier
                .tasks
                .iter()
                .flat_map(|(_, _, collided)| collided.clone());
            let mut restore =
                Restore::new(settings, Arc::clone(&reader), barrier.created_ms, collided);
            for (chunk, ranges) in named.values() {
                let index = reader.chunk_index(*chunk).unwrap();
                restore.add(*chunk, ranges, index.as_deref()).unwrap();
            }
            restore.finish().unwrap()
        });
        self.tasks = tasks.collect();
        if let Some((_, epochs, _)) = &mut self.kept {
            // A restored store starts with seal 0, which is durable.
            *epochs = vec![0; usize::from(parallelism)];
        }
    }

    /// Switches expiry, and restarts. Expired values are visible again, or are gone permanently.
    pub(super) fn switch_forgetting(&mut self, parallelism: u16) {
        self.forgets = !self.forgets;
        self.crash(parallelism);
        if self.forgets {
            return;
        }
        let mut there = BTreeSet::new();
        for (state, key) in self.model.values.clone().into_keys() {
            there.extend(self.value_of(state, &key));
        }
        for (state, key) in self.model.lists.clone().into_keys() {
            let read = self.in_tree(state, &key, |mut tree| tree.list_read(0, ALL));
            there.extend(read.values.iter().map(<[u8]>::to_vec));
        }
        for (state, key) in self.model.maps.clone().into_keys() {
            let (start, end) = (Bound::Unbounded, Bound::Unbounded);
            let read = self.in_tree(state, &key, |mut tree| tree.scan(start, end, ALL, false));
            there.extend(read.values.iter().map(<[u8]>::to_vec));
        }
        let now_ms = self.now_ms;
        let stays = |(value, written): &Item| {
            let had_expired = written.is_some_and(|written| now_ms >= written + TTL_MS);
            !had_expired || there.contains(value)
        };
        self.model.values.retain(|_, item| stays(item));
        self.model
            .lists
            .values_mut()
            .for_each(|list| list.retain(stays));
        let maps = self.model.maps.values_mut();
        maps.for_each(|map| map.retain(|_, item| stays(item)));
        if let Some((_, _, model)) = &mut self.kept {
            *model = self.model.clone();
        }
    }
}
