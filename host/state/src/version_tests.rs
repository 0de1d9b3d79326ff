//! Catches values of an earlier version that are lost, reappear after they were cleared, or are taken for values of the
//! newest version; and a sweep that misses some.

use std::collections::BTreeMap;
use std::sync::Arc;

use floodmark_testing::Random;

use super::model_tests::Disk;
use super::*;
use crate::stream::{Column, MaxParallelism, OptionalColumn, hash_key};

/// By key: the version of its value, and the value.
type Model = BTreeMap<Vec<u8>, (u16, Vec<u8>)>;

const KEYS: u64 = 400;
/// Ids of the versions of the state, by version.
const IDS: [u16; 3] = [4, 9, 2];

struct Subject {
    store: StateStore,
    disk: Arc<Disk>,
    model: Model,
    random: Random,
    version: usize,
}

fn settings(version: usize, first: u64) -> StoreSettings {
    let max = MaxParallelism::DEFAULT;
    let ids = ChunkIds::new(ChunkId(first), 0, 1);
    StoreSettings {
        states: vec![StateSettings {
            aliases: IDS[..version].iter().rev().map(|&id| StateId(id)).collect(),
            ..StateSettings::plain(StateId(IDS[version]))
        }],
        keeps_rollback: true,
        ..StoreSettings::in_memory(max, max.all_groups(), ids)
    }
}

impl Subject {
    /// Reads keys, checks versions and values, and writes some.
    fn batch(&mut self, keys: &[Vec<u8>], migrate_all: bool) {
        let column: Column = keys.iter().map(Vec::as_slice).collect();
        let hashes: Vec<_> = keys.iter().map(|key| hash_key(key)).collect();
        let keys_of = Keys {
            keys: &column,
            hashes: &hashes,
        };
        let newest = StateId(IDS[self.version]);
        let mut lookup = Lookup::default();
        self.store.read(newest, keys_of, 0, &mut lookup).unwrap();
        let (mut slots, mut values) = (Vec::new(), OptionalColumn::new());
        for (slot, key) in keys.iter().enumerate() {
            let expected = self.model.get(key);
            let value = lookup.values().get(slot);
            assert_eq!(value, expected.map(|(_, value)| value.as_slice()));
            if let (Some(versions), Some((version, _))) = (lookup.versions(), expected) {
                assert_eq!(versions[slot], StateId(*version));
            }
            let choice = self.random.below(4);
            if !migrate_all && choice < 2 {
                continue;
            }
            slots.push(slot as u32);
            if !migrate_all && choice == 2 {
                values.push(None);
                self.model.remove(key);
            } else {
                let value = match (migrate_all, value) {
                    (true, value) => value.map(<[u8]>::to_vec),
                    (false, _) => Some(vec![self.random.below(256) as u8; choice as usize]),
                };
                values.push(value.as_deref());
                if let Some(value) = value {
                    self.model.insert(key.clone(), (newest.0, value));
                }
            }
        }
        self.store
            .write(newest, keys_of, 0, &lookup, &slots, &values);
        self.store.compact(0).unwrap();
    }

    fn some_keys(&mut self) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = (0..self.random.below(60))
            .map(|_| self.random.below(KEYS).to_string().into_bytes())
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }

    fn seal(&mut self) -> Vec<ChunkRef> {
        let sealed = self.store.seal().unwrap();
        let mut chunks = self.disk.chunks.clone();
        chunks.extend(sealed.fresh.into_iter().map(|chunk| (chunk.id, chunk)));
        self.disk = Arc::new(Disk {
            chunks,
            has_indexes: true,
        });
        self.store.durable(sealed.epoch);
        sealed.chunks
    }

    fn restore(&mut self, version: usize) {
        let chunks = self.seal();
        let next = self.disk.chunks.keys().next_back().map_or(0, |id| id.0 + 1);
        self.version = version;
        let reader = Arc::clone(&self.disk) as _;
        let mut restore = Restore::new(settings(version, next), reader, 0, []);
        let everything = MaxParallelism::DEFAULT.all_groups();
        for chunk in chunks {
            let index = self.disk.chunk_index(chunk).unwrap();
            restore
                .add(chunk, std::slice::from_ref(&everything), index.as_deref())
                .unwrap();
        }
        self.store = restore.finish().unwrap();
    }

    fn check_all(&mut self) {
        let keys: Vec<_> = (0..KEYS).map(|key| key.to_string().into_bytes()).collect();
        let random = std::mem::replace(&mut self.random, Random(0));
        let before = self.model.clone();
        let column: Column = keys.iter().map(Vec::as_slice).collect();
        let hashes: Vec<_> = keys.iter().map(|key| hash_key(key)).collect();
        let mut lookup = Lookup::default();
        let newest = StateId(IDS[self.version]);
        let keys_of = Keys {
            keys: &column,
            hashes: &hashes,
        };
        self.store.read(newest, keys_of, 0, &mut lookup).unwrap();
        for (slot, key) in keys.iter().enumerate() {
            let expected = before.get(key).map(|(_, value)| value.as_slice());
            assert_eq!(lookup.values().get(slot), expected);
        }
        self.random = random;
    }
}

fn run(seed: u64) {
    let mut subject = Subject {
        store: StateStore::new(settings(0, 0)),
        disk: Arc::default(),
        model: Model::new(),
        random: Random(seed),
        version: 0,
    };
    for version in 0..IDS.len() {
        for round in 0..120 {
            let keys = subject.some_keys();
            subject.batch(&keys, false);
            if round % 5 == 4 {
                subject.seal();
            }
            if round % 17 == 16 {
                subject.restore(version);
                subject.check_all();
            }
            if round % 13 == 12 {
                subject.seal();
                let before = subject.model.clone();
                let keys = subject.some_keys();
                subject.batch(&keys, false);
                assert_eq!(subject.store.rollback(), Ok(RollbackOutcome::Done));
                subject.model = before;
                subject.check_all();
            }
            if version == 1 && round > 60 {
                // The sweep of one version is interrupted by the next.
                let named = subject.store.stale_entries().unwrap().entries;
                let keys: Vec<_> = named.into_iter().map(|stale| stale.key).collect();
                let some = keys.len() / 2;
                subject.batch(&keys[..some], true);
            }
        }
        subject.restore((version + 1).min(IDS.len() - 1));
        subject.check_all();
    }
    sweep_to_the_end(&mut subject);
}

fn sweep_to_the_end(subject: &mut Subject) {
    let holds = |subject: &Subject| {
        let mut earlier = IDS[..2].iter();
        earlier.any(|&id| subject.store.holds(StateId(id)))
    };
    for _ in 0..200 {
        let sweep = subject.store.stale_entries().unwrap();
        let mut keys: Vec<_> = sweep.entries.into_iter().map(|stale| stale.key).collect();
        keys.sort();
        keys.dedup();
        subject.batch(&keys, true);
        subject.seal();
        subject.store.compact(0).unwrap();
        if !holds(subject) {
            break;
        }
    }
    assert!(!holds(subject), "entries of earlier versions are left");
    assert!(
        subject
            .model
            .values()
            .all(|(version, _)| *version == IDS[2])
    );
    subject.check_all();
}

#[test]
fn a_hurry_drops_garbage_of_earlier_versions_though_nothing_is_written() {
    let mut subject = Subject {
        store: StateStore::new(settings(0, 0)),
        disk: Arc::default(),
        model: Model::new(),
        random: Random(7),
        version: 0,
    };
    let keys: Vec<_> = (0..KEYS).map(|key| key.to_string().into_bytes()).collect();
    subject.batch(&keys, false);
    subject.restore(1);
    let left = |subject: &Subject| subject.store.earlier_bytes();
    let found = left(&subject);
    assert_eq!((found.len(), found[0].0), (1, StateId(IDS[1])));
    assert!(
        found[0].1 > 0,
        "the entries of the first version are in chunks"
    );

    // They are named, and the plugin cannot migrate them.
    let named = subject.store.stale_entries().unwrap().entries;
    assert_eq!(named.len(), subject.model.len());
    subject.store.log.compaction.allowed = 0;
    assert!(!subject.store.can_drop_versions());
    subject.store.hurry_versions();
    assert!(subject.store.can_drop_versions());
    subject.store.compact(0).unwrap();
    // Those that cannot be migrated are moved once, and not again and again.
    subject.seal();
    subject.store.hurry_versions();
    assert!(!subject.store.can_drop_versions());
    assert!(left(&subject)[0].1 > 0);

    // A better plugin migrates them.
    let keys: Vec<_> = named.into_iter().map(|stale| stale.key).collect();
    subject.batch(&keys, true);
    subject.seal();
    assert_eq!(left(&subject), [(StateId(IDS[1]), 0)]);
    subject.check_all();
}

#[test]
fn values_of_earlier_versions_count_until_they_are_written_again() {
    for seed in 0..6 {
        run(seed);
    }
}
