//! Catches garbage, small chunks and tombstones that pile up in a busy store, and expired entries that stay in an idle one.

use super::*;
use crate::stream::{Column, MaxParallelism, OptionalColumn, hash_key};

/// Overwrites `keys` keys `rounds` times over with a seal after each, as a busy job does.
fn churn(rounds: usize, keys: usize, value: &[u8], clear: bool) -> StateStore {
    let max = MaxParallelism::DEFAULT;
    let ids = ChunkIds::new(ChunkId(0), 0, 1);
    let mut store = StateStore::new(StoreSettings::in_memory(max, max.all_groups(), ids));
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
            store.read(StateId(0), keys, 0, &mut lookup).unwrap();
            let slots: Vec<_> = (0..block.len() as u32).collect();
            let mut values = OptionalColumn::new();
            for slot in 0..block.len() {
                // A few keys are written only in the first round: compaction has to move them.
                let keep = round > 0 && slot % 10 == 0;
                let value = if keep {
                    lookup.values().get(slot)
                } else {
                    Some(value)
                };
                values.push(value.filter(|_| !clear || round % 2 == 0 || keep));
            }
            store.write(StateId(0), keys, 0, &lookup, &slots, &values);
            store.compact(0).unwrap();
        }
        store.seal().unwrap();
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
    let chunks = store.seal().unwrap().chunks.len();
    assert!(chunks < 40, "{chunks} chunks");
}

#[test]
fn tombstones_go_in_the_end() {
    let mut store = churn(60, 20_000, &[7; 10], true);
    assert_eq!(store.len(), 20_000, "the last round has left tombstones");
    for _ in 0..20 {
        store.seal().unwrap();
        store.compact(0).unwrap();
    }
    assert!(
        store.len() < 20_000 / 2,
        "{} entries for 2000 values",
        store.len()
    );
}

#[test]
fn expired_entries_go_from_an_idle_store() {
    let max = MaxParallelism::DEFAULT;
    let ids = ChunkIds::new(ChunkId(0), 0, 1);
    let mut store = StateStore::new(StoreSettings {
        states: vec![StateSettings {
            ttl_ms: Some(100),
            ..StateSettings::plain(StateId(0))
        }],
        ..StoreSettings::in_memory(max, max.all_groups(), ids)
    });
    let names: Vec<_> = (0..1000).map(|key| key.to_string().into_bytes()).collect();
    let column: Column = names.iter().map(Vec::as_slice).collect();
    let hashes: Vec<_> = names.iter().map(|key| hash_key(key)).collect();
    let keys = Keys {
        keys: &column,
        hashes: &hashes,
    };
    let mut lookup = Lookup::default();
    store.read(StateId(0), keys, 1000, &mut lookup).unwrap();
    let slots: Vec<_> = (0..1000).collect();
    let mut values = OptionalColumn::new();
    for _ in &names {
        values.push(Some(&[7; 10][..]));
    }
    store.write(StateId(0), keys, 1000, &lookup, &slots, &values);
    store.seal().unwrap();
    store.expire(1099).unwrap();
    assert_eq!(store.len(), 1000, "nothing has expired");
    for _ in 0..3 {
        store.seal().unwrap();
        store.expire(1100).unwrap();
    }
    assert_eq!(store.len(), 0);
}
