//! Catches a panic, or an entry that is taken for another, when a chunk that is read later is damaged, cut or missing;
//! hash collisions; and restores that take too long.

use std::collections::BTreeMap;
use std::sync::Arc;

use floodmark_testing::Random;

use super::index::index_hash;
use super::nodes::NodeAddress;
use super::*;
use crate::stream::{Column, MaxParallelism, OptionalColumn, hash_key};

/// Chunks, one of which differs from what was written.
struct Damaged {
    chunks: BTreeMap<ChunkId, Vec<u8>>,
    missing: bool,
}

impl ChunkReader for Damaged {
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
        match self.missing {
            false => Ok(self.chunks[&chunk.id].clone()),
            true => Err(ChunkUnreadable {
                chunk: chunk.id,
                reason: "it is missing".to_owned(),
                is_damaged: true,
            }),
        }
    }

    fn chunk_index(&self, _: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
        Ok(None)
    }
}

fn settings() -> StoreSettings {
    let max = MaxParallelism::DEFAULT;
    StoreSettings::in_memory(max, max.all_groups(), ChunkIds::new(ChunkId(0), 0, 1))
}

fn name(key: usize) -> Vec<u8> {
    format!("key {key}").into_bytes()
}

fn put(store: &mut StateStore, state: u16, keys: &[Vec<u8>], value: Option<&[u8]>) {
    let column: Column = keys.iter().map(Vec::as_slice).collect();
    let hashes: Vec<_> = keys.iter().map(|key| hash_key(key)).collect();
    let keys = Keys {
        keys: &column,
        hashes: &hashes,
    };
    let mut lookup = Lookup::default();
    store.read(StateId(state), keys, 0, &mut lookup).unwrap();
    let slots: Vec<_> = (0..hashes.len() as u32).collect();
    let mut values = OptionalColumn::new();
    slots.iter().for_each(|_| values.push(value));
    store.write(StateId(state), keys, 0, &lookup, &slots, &values);
}

fn get(store: &mut StateStore, state: u16, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
    let column: Column = [key].into_iter().collect();
    let mut lookup = Lookup::default();
    let keys = Keys {
        keys: &column,
        hashes: &[hash_key(key)],
    };
    store.read(StateId(state), keys, 0, &mut lookup)?;
    Ok(lookup.values().get(0).map(<[u8]>::to_vec))
}

/// A store restored from the index of this chunk, which later gets other bytes for it.
fn restored(sound: &Chunk, bytes: Vec<u8>, missing: bool) -> StateStore {
    let reader = Damaged {
        chunks: [(sound.id, bytes)].into(),
        missing,
    };
    let mut restore = Restore::new(settings(), Arc::new(reader), 0, []);
    let everything = MaxParallelism::DEFAULT.all_groups();
    let index = chunk_index::of(&sound.bytes);
    restore
        .add(Chunk::as_ref(sound), &[everything], Some(&index))
        .unwrap();
    restore.finish().unwrap()
}

fn one_chunk(keys: usize) -> Arc<Chunk> {
    let mut store = StateStore::new(settings());
    let names: Vec<_> = (0..keys).map(name).collect();
    put(&mut store, 0, &names, Some(&[7; 20]));
    store.seal().unwrap().fresh.remove(0)
}

#[test]
fn each_flipped_byte_is_an_error_or_only_in_a_value() {
    let sound = one_chunk(20);
    let mut errors = 0;
    for at in 0..sound.bytes.len() {
        let mut bytes = sound.bytes.clone();
        bytes[at] ^= 0x41;
        let mut store = restored(&sound, bytes, false);
        for key in 0..20 {
            // The storage's checksum covers values; everything else is compared with the index.
            match get(&mut store, 0, &name(key)) {
                Ok(value) => assert_eq!(value.map(|value| value.len()), Some(20)),
                Err(error) => {
                    errors += 1;
                    assert_eq!(error.damaged_chunk(), Some(sound.id));
                }
            }
        }
    }
    assert!(errors > 20 * 20, "{errors} errors");
}

#[test]
fn cut_and_missing_chunks_are_errors() {
    let sound = one_chunk(20);
    for len in 0..sound.bytes.len() {
        let mut store = restored(&sound, sound.bytes[..len].to_vec(), false);
        assert!(get(&mut store, 0, &name(3)).is_err());
        let short = Chunk {
            id: sound.id,
            bytes: sound.bytes[..len].to_vec(),
        };
        assert!(store.supply(Arc::new(short)).is_err());
        store.supply(Arc::clone(&sound)).unwrap();
        assert_eq!(get(&mut store, 0, &name(3)), Ok(Some(vec![7; 20])));
    }
    let mut store = restored(&sound, Vec::new(), true);
    assert!(get(&mut store, 0, &name(3)).is_err());
    assert_eq!(get(&mut store, 0, b"never written"), Ok(None));
}

#[test]
fn without_a_sound_index_the_chunk_itself_must_be_sound() {
    let sound = one_chunk(20);
    let everything = MaxParallelism::DEFAULT.all_groups();
    for (bytes, is_sound) in [
        (sound.bytes.clone(), true),
        (sound.bytes[1..].to_vec(), false),
        (vec![0xff; sound.bytes.len()], false),
    ] {
        let reader = Damaged {
            chunks: [(sound.id, bytes)].into(),
            missing: false,
        };
        let mut restore = Restore::new(settings(), Arc::new(reader), 0, []);
        let added = restore.add(
            Chunk::as_ref(&sound),
            std::slice::from_ref(&everything),
            Some(&[1, 2, 3]),
        );
        assert_eq!(added.is_ok(), is_sound);
    }
}

/// A node of state 2 with the index hash of a node of state 1: each step of the mixing is invertible.
fn colliding_node(key_hash: u64, node: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    // Newton's iteration doubles the bits of the inverse.
    let inverse = (0..6).fold(FACTOR, |inverse, _| {
        inverse.wrapping_mul(2u64.wrapping_sub(FACTOR.wrapping_mul(inverse)))
    });
    let [one, two] = [1, 2].map(|state| index_hash(key_hash, StateId(state), None));
    let with = one ^ two ^ node.wrapping_add(1 << 32).wrapping_mul(FACTOR);
    with.wrapping_mul(inverse).wrapping_sub(1 << 32)
}

fn address(state: u16, key: &[u8], node: u64) -> NodeAddress<'_> {
    NodeAddress {
        state: StateId(state),
        key,
        key_hash: hash_key(key),
        node,
    }
}

#[test]
fn entries_with_one_hash_are_told_apart() {
    let key = name(1);
    let hash = hash_key(&key);
    let (one, two) = (5, colliding_node(hash, 5));
    assert_eq!(
        index_hash(hash, StateId(1), Some(one)),
        index_hash(hash, StateId(2), Some(two))
    );
    let mut store = StateStore::new(settings());
    let mut chunks = BTreeMap::new();
    let mut sealed = None;
    for page in [b"first ".as_slice(), b"second"] {
        for (state, node) in [(1, one), (2, two)] {
            let page = [page, &[state as u8]].concat();
            let address = address(state, &key, node);
            store.put_node(address, Some(&page), 0).unwrap();
        }
        let seal = store.seal().unwrap();
        chunks.extend(seal.fresh.iter().map(|chunk| (chunk.id, Arc::clone(chunk))));
        sealed = Some(seal);
    }
    let sealed = sealed.unwrap();
    assert_eq!(sealed.collided, [index_hash(hash, StateId(1), Some(one))]);
    let reader = Damaged {
        chunks: chunks
            .values()
            .map(|chunk| (chunk.id, chunk.bytes.clone()))
            .collect(),
        missing: false,
    };
    let mut restore = Restore::new(settings(), Arc::new(reader), 0, sealed.collided);
    let everything = MaxParallelism::DEFAULT.all_groups();
    for chunk in chunks.values() {
        let index = chunk_index::of(&chunk.bytes);
        restore
            .add(
                Chunk::as_ref(chunk),
                std::slice::from_ref(&everything),
                Some(&index),
            )
            .unwrap();
    }
    let mut restored = restore.finish().unwrap();
    assert_eq!(restored.len(), 2);
    for store in [&mut store, &mut restored] {
        for (state, node) in [(1u16, one), (2, two)] {
            let expected = [b"second".as_slice(), &[state as u8]].concat();
            let page = store.node(address(state, &key, node));
            assert_eq!(page, Ok(Some(expected.as_slice())));
        }
    }
    assert_eq!(
        restored.seal().unwrap().collided.len(),
        1,
        "it is handed on"
    );
}

/// Restores many entries from indexes alone. The measured time is printed; the limit is far above it.
#[test]
fn many_entries_are_restored_quickly() {
    let entries = match std::env::var_os("FLOODMARK_HEAVY") {
        Some(_) => 10_000_000,
        None => 200_000,
    };
    let reader = Damaged {
        chunks: BTreeMap::new(),
        missing: true,
    };
    let mut restore = Restore::new(settings(), Arc::new(reader), 0, []);
    let everything = [MaxParallelism::DEFAULT.all_groups()];
    let mut random = Random(1);
    let per_chunk = 9000;
    let index = |random: &mut Random| {
        let mut index = vec![1];
        for _ in 0..per_chunk {
            let hash = hash_key(&random.below(entries as u64).to_le_bytes());
            index.extend_from_slice(&hash.to_le_bytes());
            index.extend_from_slice(&[0, 0xdc, 0x01]);
        }
        index
    };
    let indexes: Vec<_> = (0..entries / per_chunk)
        .map(|_| index(&mut random))
        .collect();
    #[expect(clippy::disallowed_methods, reason = "a figure for people")]
    let begin = std::time::Instant::now();
    for (id, index) in indexes.iter().enumerate() {
        let chunk = ChunkRef {
            id: ChunkId(id as u64),
            len: per_chunk as u32 * 110,
        };
        restore.add(chunk, &everything, Some(index)).unwrap();
    }
    let added = begin.elapsed();
    let store = restore.finish().unwrap();
    #[expect(clippy::print_stderr, reason = "a figure for people")]
    {
        eprintln!(
            "{entries} entries: {added:?} and then {:?}",
            begin.elapsed() - added
        );
    }
    assert_eq!(store.live_bytes(), store.len() * 110);
    assert!(begin.elapsed().as_secs() < 60);
}
