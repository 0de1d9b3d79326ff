//! Tests the contract of state: values, lists and maps, with and without a time to live, on each backend and each
//! storage, against a map.
//!
//! Catches state that depends on where it is kept: across barriers, returning to a checkpoint in memory, restarts from
//! the storage with other numbers of tasks, compaction, and chunks that move from memory to a file.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use floodmark_testing::Random;

use super::chunks::{CheckpointChunks, named_chunks};
use super::collections::{CollectionPlace, KeyedCollections};
use super::trees::Trees;
use crate::guest::{PageLimits, SubKeyRange};
use floodmark_checkpoint::object::{ObjectSettings, ObjectStorage};
use floodmark_checkpoint::store::CheckpointStore;
use floodmark_checkpoint::{
    Checkpoint, CheckpointStorage, CheckpointStorageSettings, Depth, NewCheckpoint,
    OperatorSnapshot, PluginDigest, Scale, TaskSnapshot, Trigger,
};
use floodmark_state::stream::{
    CheckpointId, Column, MaxParallelism, OptionalColumn, TaskIndex, hash_key,
};
use floodmark_state::{
    Backend, ChunkId, ChunkIds, ChunkReader, Keys, Lookup, NoMigration, Restore, RollbackOutcome,
    StateId, StateSettings, StateStore,
};

const VALUE: StateId = StateId(0);
const PASSING: StateId = StateId(1);
const MAP: StateId = StateId(2);
const LIST: StateId = StateId(3);
const PASSING_MAP: StateId = StateId(4);
const TTL_MS: u64 = 400;
/// Memory of each task; its state is about ten times as large.
const BUDGET_BYTES: usize = 400 << 10;

/// By state, key and, in maps and lists, sub-key or position: the value, and the time of its write.
type Model = BTreeMap<(u16, Vec<u8>, Vec<u8>), (Vec<u8>, u64)>;

/// The same byte, so many times or less.
fn filled(random: &mut Random, len_max: u64) -> Vec<u8> {
    let (len, byte) = (random.below(len_max), random.below(256) as u8);
    vec![byte; len as usize]
}

struct Subject {
    random: Random,
    now_ms: u64,
    max: MaxParallelism,
    on_disk: bool,
    tasks: Vec<Trees<NoMigration>>,
    model: Model,
    /// The model as of the last checkpoint, and the seals of the tasks in it.
    durable: Model,
    next: (CheckpointId, ChunkId),
    positions: BTreeMap<Vec<u8>, u64>,
    durable_positions: BTreeMap<Vec<u8>, u64>,
}

impl Subject {
    fn settings(&self, task: TaskIndex, tasks: u16) -> floodmark_state::StoreSettings {
        let ttl = |id: StateId| StateSettings {
            ttl_ms: (id == PASSING || id == PASSING_MAP).then_some(TTL_MS),
            ..StateSettings::plain(id)
        };
        floodmark_state::StoreSettings {
            backend: match self.on_disk {
                false => Backend::Memory,
                true => Backend::Disk {
                    scratch: tempfile::tempfile().unwrap(),
                    budget_bytes: BUDGET_BYTES,
                },
            },
            states: [VALUE, PASSING, MAP, LIST, PASSING_MAP].map(ttl).into(),
            keeps_rollback: true,
            ..floodmark_state::StoreSettings::in_memory(
                self.max,
                self.max.range(task, tasks),
                ChunkIds::new(self.next.1, task.0.into(), tasks.into()),
            )
        }
    }

    fn start(&mut self, storage: &mut dyn CheckpointStorage, tasks: u16) {
        let recovery = storage.recover(Depth::Quick, None).unwrap();
        assert!(recovery.damaged.is_empty(), "{:?}", recovery.damaged);
        self.next = (recovery.next_id, recovery.next_chunk);
        let reader: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(storage.reader()));
        self.tasks.clear();
        for task in (0..tasks).map(TaskIndex) {
            let settings = self.settings(task, tasks);
            let groups = settings.key_groups.clone();
            let store = match &recovery.restored {
                None => StateStore::new(settings),
                Some(restored) => {
                    let saved = &restored.checkpoint.operators[0].tasks;
                    let collided = saved.iter().flat_map(|task| task.collided.clone());
                    let created = restored.checkpoint.created_ms;
                    let mut restore =
                        Restore::new(settings, Arc::clone(&reader), created, collided);
                    for (chunk, ranges) in named_chunks(saved, &groups) {
                        let index = reader.chunk_index(chunk).unwrap();
                        restore.add(chunk, &ranges, index.as_deref()).unwrap();
                    }
                    restore.finish().unwrap()
                }
            };
            self.tasks.push(Trees::of_one_version(store));
        }
        self.model = self.durable.clone();
        self.positions = self.durable_positions.clone();
    }

    fn task(&self, key: &[u8]) -> usize {
        let group = self.max.group_of(hash_key(key));
        usize::from(self.max.owner(group, self.tasks.len() as u16).0)
    }

    fn place<'a>(&self, state: StateId, key: &'a [u8]) -> CollectionPlace<'a> {
        CollectionPlace {
            state,
            key,
            hash: hash_key(key),
            now_ms: self.now_ms,
        }
    }

    fn is_alive(&self, state: u16, written_ms: u64) -> bool {
        let passes = state == PASSING.0 || state == PASSING_MAP.0;
        !passes || self.now_ms < written_ms + TTL_MS
    }

    /// The model's content of a key, by sub-key.
    fn expected(&self, state: StateId, key: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let from = (state.0, key.to_vec(), Vec::new());
        let of_key = self
            .model
            .range(from..)
            .take_while(|((of, name, _), _)| (*of, name.as_slice()) == (state.0, key));
        let alive = of_key.filter(|(_, (_, written))| self.is_alive(state.0, *written));
        alive
            .map(|((_, _, sub_key), (value, _))| (sub_key.clone(), value.clone()))
            .collect()
    }

    fn check(&mut self, state: StateId, key: &[u8]) {
        let expected = self.expected(state, key);
        let (task, place) = (self.task(key), self.place(state, key));
        let store = &mut self.tasks[task];
        if state == LIST {
            let values: Vec<_> = expected.into_iter().map(|(_, value)| value).collect();
            assert!(list(store, place) == values, "list of {key:?}");
        } else if state == MAP || state == PASSING_MAP {
            assert!(map(store, place) == expected, "map of {key:?}");
        } else {
            let found = value(&mut store.store, place);
            let expected = expected.into_iter().next().map(|(_, value)| value);
            assert!(found == expected, "value of {key:?}");
        }
    }

    /// Reads a key in a state, and changes it.
    fn step(&mut self) {
        self.now_ms += self.random.below(3);
        let state = StateId(self.random.below(5) as u16);
        let key = format!("key-{}", self.random.below(300)).into_bytes();
        self.check(state, &key);
        let (task, place) = (self.task(&key), self.place(state, &key));
        let (long, short) = (filled(&mut self.random, 6000), filled(&mut self.random, 60));
        let sub_key = format!("{:03}", self.random.below(60)).into_bytes();
        let removes = self.random.below(5) == 0;
        let store = &mut self.tasks[task];
        if state == LIST {
            if removes {
                store.clear(place).unwrap();
                self.positions.remove(&key);
                self.model
                    .retain(|(of, name, _), _| (*of, name) != (LIST.0, &key));
            } else {
                store.list_append(place, &[&short, &long]).unwrap();
                let next = self.positions.entry(key.clone()).or_default();
                for value in [short, long] {
                    let position = next.to_be_bytes().to_vec();
                    *next += 1;
                    self.model
                        .insert((LIST.0, key.clone(), position), (value, self.now_ms));
                }
            }
        } else if state == MAP || state == PASSING_MAP {
            let value = (!removes).then_some(short.as_slice());
            store.map_write(place, &[(&sub_key, value)]).unwrap();
            let entry = (state.0, key, sub_key);
            match removes {
                true => self.model.remove(&entry),
                false => self.model.insert(entry, (short, self.now_ms)),
            };
        } else {
            put(
                &mut store.store,
                place,
                (!removes).then_some(long.as_slice()),
            );
            let entry = (state.0, key, Vec::new());
            match removes {
                true => self.model.remove(&entry),
                false => self.model.insert(entry, (long, self.now_ms)),
            };
        }
        self.tasks[task].store.compact(self.now_ms).unwrap();
    }

    /// Takes a checkpoint.
    fn barrier(&mut self, storage: &mut dyn CheckpointStorage) {
        let (mut saved, mut fresh, mut epochs) = (Vec::new(), Vec::new(), Vec::new());
        for store in &mut self.tasks {
            let sealed = store.store.seal().unwrap();
            let parts = sealed.parts.into_iter();
            saved.extend(parts.map(|(key_groups, chunks)| TaskSnapshot {
                key_groups,
                chunks,
                collided: sealed.collided.clone(),
            }));
            fresh.extend(sealed.fresh);
            epochs.push(sealed.epoch);
        }
        let plugin =
            PluginDigest(sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new()).into());
        let checkpoint = Checkpoint {
            id: self.next.0,
            created_ms: self.now_ms,
            trigger: Trigger::Periodic,
            job: "contract".to_owned(),
            data_folder: String::new(),
            identity: String::new(),
            scale: Scale::configured(self.tasks.len() as u16, self.max),
            records_in: 0,
            records_out: 0,
            sources: Vec::new(),
            operators: vec![OperatorSnapshot {
                name: "state".to_owned(),
                plugin,
                config: Vec::new(),
                replaces: None,
                states: Vec::new(),
                tasks: saved,
            }],
            sinks: Vec::new(),
        };
        storage
            .write(&NewCheckpoint {
                checkpoint: &checkpoint,
                chunks: &fresh,
                plugins: &[(plugin, Arc::from(&b""[..]))],
                retained: NonZeroU32::new(2).unwrap(),
            })
            .unwrap();
        self.next.0 = CheckpointId(self.next.0.0 + 1);
        for (store, epoch) in self.tasks.iter_mut().zip(epochs) {
            store.store.durable(epoch);
        }
        self.durable = self.model.clone();
        self.durable_positions = self.positions.clone();
    }

    fn go_back(&mut self) {
        for store in &mut self.tasks {
            assert_eq!(store.store.rollback().unwrap(), RollbackOutcome::Done);
        }
        self.model = self.durable.clone();
        self.positions = self.durable_positions.clone();
    }

    fn check_all(&mut self) {
        for number in 0..300 {
            let key = format!("key-{number}").into_bytes();
            for state in 0..5 {
                self.check(StateId(state), &key);
            }
        }
    }
}

fn list(store: &mut Trees<NoMigration>, place: CollectionPlace<'_>) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut start = Some(0);
    while let Some(from) = start {
        let items = store
            .list_read(place, from, PageLimits::new(7, 1 << 20))
            .unwrap();
        found.extend(items.values.iter().map(<[u8]>::to_vec));
        start = items.next;
    }
    found
}

fn map(store: &mut Trees<NoMigration>, place: CollectionPlace<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut start = Vec::new();
    loop {
        let range = SubKeyRange {
            start: &start,
            end: None,
            descending: false,
        };
        let page = store
            .map_scan(place, range, PageLimits::new(7, 1 << 20))
            .unwrap();
        let pairs = page.sub_keys.iter().zip(page.values.iter());
        found.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
        match found.last() {
            Some((last, _)) if page.more => start = [last.as_slice(), &[0]].concat(),
            _ => return found,
        }
    }
}

fn value(store: &mut StateStore, place: CollectionPlace<'_>) -> Option<Vec<u8>> {
    let mut lookup = Lookup::default();
    let column: Column = [place.key].into_iter().collect();
    let keys = Keys {
        keys: &column,
        hashes: &[place.hash],
    };
    store
        .read(place.state, keys, place.now_ms, &mut lookup)
        .unwrap();
    lookup.values().get(0).map(<[u8]>::to_vec)
}

fn put(store: &mut StateStore, place: CollectionPlace<'_>, value: Option<&[u8]>) {
    let mut lookup = Lookup::default();
    let column: Column = [place.key].into_iter().collect();
    let keys = Keys {
        keys: &column,
        hashes: &[place.hash],
    };
    store
        .read(place.state, keys, place.now_ms, &mut lookup)
        .unwrap();
    let mut values = OptionalColumn::new();
    values.push(value);
    store.write(place.state, keys, place.now_ms, &lookup, &[0], &values);
}

#[expect(clippy::print_stdout, reason = "a run that fails names its seed")]
fn check(seed: u64, on_disk: bool, mut open: impl FnMut() -> Box<dyn CheckpointStorage>) {
    println!("seed {seed}, on disk: {on_disk}");
    let mut storage = open();
    let mut subject = Subject {
        random: Random(seed),
        now_ms: 1000,
        max: MaxParallelism::new(16).unwrap(),
        on_disk,
        tasks: Vec::new(),
        model: Model::new(),
        durable: Model::new(),
        next: (CheckpointId(1), ChunkId(0)),
        positions: BTreeMap::new(),
        durable_positions: BTreeMap::new(),
    };
    for tasks in [1, 4, 3, 2] {
        subject.start(&mut *storage, tasks);
        subject.check_all();
        for _ in 0..6 {
            for _ in 0..250 {
                subject.step();
            }
            match subject.random.below(3) {
                0 => subject.go_back(),
                _ => subject.barrier(&mut *storage),
            }
        }
        subject.check_all();
        for _ in 0..50 {
            subject.step();
        }
        // A crash: everything after the last checkpoint is lost. The tasks are dropped first, since they read from the
        // storage.
        subject.tasks.clear();
        storage = reopened(storage, &mut open);
    }
    subject.start(&mut *storage, 1);
    subject.check_all();
}

/// Closes a storage and opens it again; one in memory is kept.
fn reopened(
    storage: Box<dyn CheckpointStorage>,
    open: &mut impl FnMut() -> Box<dyn CheckpointStorage>,
) -> Box<dyn CheckpointStorage> {
    if storage.reader().list().unwrap().is_empty() {
        return storage;
    }
    drop(storage);
    open()
}

fn check_storage(mut make: impl FnMut(&Path) -> Box<dyn CheckpointStorage>) {
    let rounds = if std::env::var_os("FLOODMARK_HEAVY").is_some() {
        20
    } else {
        1
    };
    for seed in 1..=rounds {
        for on_disk in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            check(seed, on_disk, || make(folder.path()));
        }
    }
}

#[test]
fn in_a_file() {
    check_storage(|folder| {
        let store = CheckpointStore::open(
            folder.join("store.redb"),
            CheckpointStorageSettings::default(),
        );
        Box::new(store.unwrap())
    });
}

#[test]
fn in_a_folder() {
    check_storage(|folder| {
        let url = format!("file://{}", folder.join("kept").display());
        Box::new(ObjectStorage::open(&url, ObjectSettings::default()).unwrap())
    });
}
