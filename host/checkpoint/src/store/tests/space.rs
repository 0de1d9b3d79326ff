//! Catches checkpoints that take more and more space for a state of constant size.

use super::*;
use floodmark_state::stream::{Column, OptionalColumn, hash_key};
use floodmark_state::{ChunkIds, Keys, Lookup, StateId, StateStore};

const KEYS: usize = 30_000;
/// Bytes of a key and its value.
const ENTRY_BYTES: usize = 100;
/// The amount of garbage that the state tolerates, however small it is itself.
const GARBAGE_BYTES: usize = 4 << 20;

fn touch(state: &mut StateStore, first: usize, step: usize, round: u64) {
    let mut random = Random(round);
    let names: Vec<_> = (first..KEYS)
        .step_by(step)
        .map(|key| format!("{key:08}"))
        .collect();
    let mut lookup = Lookup::default();
    for names in names.chunks(2048) {
        let column: Column = names.iter().map(String::as_bytes).collect();
        let hashes: Vec<_> = names.iter().map(|key| hash_key(key.as_bytes())).collect();
        let keys = Keys {
            keys: &column,
            hashes: &hashes,
        };
        state.read(StateId(0), keys, 0, &mut lookup).unwrap();
        let slots: Vec<_> = (0..hashes.len() as u32).collect();
        let mut values = OptionalColumn::new();
        for name in names {
            let mut value = format!("count of {name};").into_bytes();
            value.extend((0..40).map(|_| random.next() as u8));
            value.resize(ENTRY_BYTES - name.len(), b' ');
            values.push(Some(&value));
        }
        state.write(StateId(0), keys, 0, &lookup, &slots, &values);
        state.compact(0).unwrap();
    }
}

#[test]
fn it_does_not_grow_with_the_number_of_checkpoints() {
    let most = |compression| {
        let settings = CheckpointStorageSettings {
            compression,
            ..CheckpointStorageSettings::default()
        };
        let mut store = CheckpointStore::in_memory(settings).unwrap();
        let max = MaxParallelism::DEFAULT;
        let mut state = StateStore::new(floodmark_state::StoreSettings::in_memory(
            max,
            max.all_groups(),
            ChunkIds::new(ChunkId(0), 0, 1),
        ));
        let (mut early, mut late) = (0, 0);
        for round in 0..60 {
            let (first, step) = if round == 0 { (0, 1) } else { (round % 10, 10) };
            touch(&mut state, first, step, round as u64);
            let sealed = state.seal().unwrap();
            let mut next = sample(round as u64 + 1, 1, Vec::new());
            next.checkpoint.operators[0].tasks[0].chunks = sealed.chunks;
            next.chunks = sealed.fresh;
            let retained = NonZeroU32::new(3).unwrap();
            next.write_keeping(&mut store, retained).unwrap();
            let stored = store.space().unwrap().stored_bytes;
            let most = if round < 30 { &mut early } else { &mut late };
            *most = stored.max(*most);
        }
        assert!(late <= early + early / 10, "from {early} to {late}");
        assert!(store.reader.verify(None).unwrap().is_sound());
        let before = store.space().unwrap();
        let (len, shorter) = store.compact().unwrap();
        assert_eq!(len, before.file_bytes);
        // By how much depends on where redb has put its large pages.
        assert!(shorter <= len, "{len}, {shorter} of {before:?}");
        late as usize
    };
    let plain = most(Compression::None);
    let small = most(Compression::Lz4);
    let state_bytes = KEYS * ENTRY_BYTES;
    let text = format!("{state_bytes} bytes of state take {plain}, and {small} compressed");
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).unwrap();
    let bound = (state_bytes * 22 + GARBAGE_BYTES * 13) / 10;
    assert!(plain <= bound, "{plain}, more than {bound}");
    assert!(small < plain * 8 / 10, "{small} of {plain}");
}
