//! Catches cleared values that reappear with another number of tasks: a chunk that one task needs has outdated entries
//! of another task, whose tombstones are already gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::model_tests::Disk;
use super::*;
use crate::stream::{Column, KeyGroupRange, MaxParallelism, OptionalColumn, TaskIndex, hash_key};

type Parts = Vec<(KeyGroupRange, Vec<ChunkRef>)>;

fn max() -> MaxParallelism {
    MaxParallelism::new(16).unwrap()
}

fn restore(disk: &Disk, parts: &Parts, task: TaskIndex, tasks: u16) -> StateStore {
    let last = disk.chunks.keys().next_back();
    let first = last.map_or(ChunkId(0), |id| ChunkId(id.0 + 1));
    let ids = ChunkIds::new(first, u64::from(task.0), u64::from(tasks));
    let settings = StoreSettings::in_memory(max(), max().range(task, tasks), ids);
    let mut named: BTreeMap<ChunkId, (ChunkRef, Vec<KeyGroupRange>)> = BTreeMap::new();
    for (groups, chunks) in parts {
        for &chunk in chunks {
            let (_, ranges) = named.entry(chunk.id).or_insert((chunk, Vec::new()));
            ranges.push(groups.clone());
        }
    }
    let reader = Disk {
        chunks: disk.chunks.clone(),
        has_indexes: true,
    };
    let mut restore = Restore::new(settings, Arc::new(reader), 0, []);
    for (chunk, ranges) in named.values() {
        let index = chunk_index::of(&disk.chunks[&chunk.id].bytes);
        restore.add(*chunk, ranges, Some(&index)).unwrap();
    }
    restore.finish().unwrap()
}

fn put(store: &mut StateStore, key: &[u8], value: Option<&[u8]>) -> Option<Vec<u8>> {
    let column: Column = [key].into_iter().collect();
    let keys = Keys {
        keys: &column,
        hashes: &[hash_key(key)],
    };
    let mut lookup = Lookup::default();
    store.read(StateId(0), keys, 0, &mut lookup).unwrap();
    let before = lookup.values().get(0).map(<[u8]>::to_vec);
    let mut values = OptionalColumn::new();
    values.push(value);
    store.write(StateId(0), keys, 0, &lookup, &[0], &values);
    before
}

fn seal(store: &mut StateStore, disk: &mut Disk) -> Parts {
    let sealed = store.seal().unwrap();
    let fresh = sealed.fresh.into_iter();
    disk.chunks.extend(fresh.map(|chunk| (chunk.id, chunk)));
    sealed.parts
}

/// The only task, or the first of two.
const FIRST: TaskIndex = TaskIndex(0);
/// The second task of two.
const SECOND: TaskIndex = TaskIndex(1);

/// Keys that a task of two owns.
fn keys_of(task: TaskIndex) -> impl Iterator<Item = Vec<u8>> {
    let keys = (0..).map(|number: u32| number.to_string().into_bytes());
    keys.filter(move |key| max().owner(max().group_of(hash_key(key)), 2) == task)
}

#[test]
fn what_was_cleared_stays_so_although_another_task_keeps_its_chunk() {
    let mut disk = Disk::default();
    let cleared = keys_of(FIRST).next().unwrap();
    let kept = keys_of(SECOND).next().unwrap();
    let mut alone = restore(&disk, &Vec::new(), FIRST, 1);
    put(&mut alone, &cleared, Some(b"old"));
    put(&mut alone, &kept, Some(b"kept"));
    let parts = seal(&mut alone, &mut disk);
    assert_eq!(parts.len(), 1);

    // The first of two tasks clears its key, and continues until the tombstone is removed.
    let mut first = restore(&disk, &parts, FIRST, 2);
    let mut second = restore(&disk, &parts, SECOND, 2);
    assert_eq!(
        put(&mut first, &cleared, None).as_deref(),
        Some(&b"old"[..])
    );
    let mut parts = Parts::new();
    for key in keys_of(FIRST).skip(1).take(40) {
        put(&mut first, &key, Some(b"new"));
        parts = seal(&mut first, &mut disk);
        first.compact(0).unwrap();
    }
    assert_eq!(first.len(), 40, "the tombstone is still there");
    parts.extend(seal(&mut second, &mut disk));

    // With one task again, the chunk is used only for the keys that the second task had.
    for round in 0..3 {
        let mut alone = restore(&disk, &parts, FIRST, 1);
        assert_eq!(
            put(&mut alone, &kept, Some(b"kept")).as_deref(),
            Some(&b"kept"[..])
        );
        assert_eq!(put(&mut alone, &cleared, None), None, "round {round}");
        parts = seal(&mut restore(&disk, &parts, FIRST, 1), &mut disk);
        assert_eq!(parts.len(), 2, "round {round}");
        assert_eq!((parts[0].0.0.start, parts[1].0.0.end), (0, 16));
        assert_eq!(parts[0].0.0.end, parts[1].0.0.start);
    }
}
