//! Catches chunks that are not compressed or come back wrong, and damage to codecs, compressed blocks and indexes that is not found.

use super::*;
use crate::store::chunks::{self, IndexFound};
use crate::store::verify::Views;

/// Chunks of which all but one become shorter.
fn wordy() -> Sample {
    let words = |id: u64, len: usize| {
        let text = format!("value {id} of the key number {id};").into_bytes();
        let bytes = text.iter().copied().cycle().take(len).collect();
        let id = ChunkId(id);
        Arc::new(Chunk { id, bytes })
    };
    let noise = chunk(4, 50_000);
    sample(
        1,
        1,
        vec![words(1, 700_000), words(2, 300), noise, words(9, 0)],
    )
}

/// Changes tables behind the store's back.
fn tamper(
    store: &CheckpointStore,
    change: impl FnOnce(&redb::WriteTransaction) -> Result<(), StoreFault>,
) {
    let tampered = store.reader.with(|database| {
        let transaction = database.begin_write()?;
        change(&transaction)?;
        Ok(transaction.commit()?)
    });
    tampered.unwrap();
}

#[test]
fn compressed_chunks_come_back() {
    let len = |compression| {
        let disk = Disk::default();
        let mut store = CheckpointStore::open_on(
            disk.clone(),
            CheckpointStorageSettings {
                compression,
                ..CheckpointStorageSettings::default()
            },
        )
        .unwrap();
        wordy().write(&mut store).unwrap();
        wordy().assert_is_found(&mut store);
        assert!(store.reader.verify(None).unwrap().is_sound());
        // Another setting does not change what is stored, and the store may be mixed.
        store.settings = SETTINGS;
        let mut more = wordy();
        more.checkpoint.id = CheckpointId(2);
        more.write(&mut store).unwrap();
        more.assert_is_found(&mut store);
        store.space().unwrap().stored_bytes
    };
    let (plain, small) = (len(Compression::None), len(Compression::Lz4));
    assert!(plain > 750_000 && small < 150_000, "{plain} and {small}");
}

/// An entry about a chunk's compression is wrong: an error, never another value, never more memory than the chunk may
/// take.
#[test]
fn a_wrong_codec() {
    let check = |codec: Option<(u8, u32)>| {
        let mut store = open(&Disk::default()).unwrap();
        wordy().write(&mut store).unwrap();
        tamper(&store, |transaction| {
            let mut codecs = transaction.open_table(tables::CHUNK_CODEC)?;
            match codec {
                Some(codec) => codecs.insert(1, codec)?,
                None => codecs.remove(1)?,
            };
            Ok(())
        });
        let read = store.reader.chunk(Chunk::as_ref(&wordy().chunks[0]));
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{codec:?}");
        assert!(!store.reader.verify(None).unwrap().is_sound(), "{codec:?}");
        let recovered = store.recover(Depth::Thorough, None);
        assert!(
            matches!(recovered, Err(StoreError::AllDamaged { .. })),
            "{codec:?}"
        );
    };
    check(None);
    check(Some((0, 100)));
    check(Some((2, 100)));
    for stored in [0, 1, 50, 699_999, 700_000, u32::MAX] {
        check(Some((1, stored)));
    }
}

/// Bytes with right lengths and a right checksum of something else.
#[test]
fn hostile_blocks() {
    let mut random = Random(3);
    let chunk = wordy().chunks[0].clone();
    let compressed = lz4_flex::block::compress(&chunk.bytes);
    for round in 0..200 {
        let mut store = open(&Disk::default()).unwrap();
        wordy().write(&mut store).unwrap();
        let mut bytes = compressed.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        if bytes == compressed {
            continue;
        }
        tamper(&store, |transaction| {
            let mut pieces = transaction.open_table(tables::CHUNK_BYTES)?;
            tables::remove_pieces(|number| Ok(pieces.remove((1, number))?.is_some()))?;
            tables::insert_chunk(&mut pieces, 1, &bytes)
        });
        let read = store.reader.chunk(Chunk::as_ref(&chunk));
        assert!(
            !read.is_ok_and(|read| read != chunk.bytes),
            "round {round}: wrong bytes"
        );
    }
}

/// It is recognised, costs no checkpoint, and is not taken for that of another chunk.
#[test]
fn a_damaged_index_is_as_good_as_none() {
    let mut store = open(&Disk::default()).unwrap();
    wordy().write(&mut store).unwrap();
    let named = |at: usize| Chunk::as_ref(&wordy().chunks[at]);
    let first = store.reader.chunk_index(named(0)).unwrap().unwrap();
    assert_eq!(
        first,
        floodmark_state::chunk_index::of(&wordy().chunks[0].bytes)
    );
    tamper(&store, |transaction| {
        let mut pieces = transaction.open_table(tables::CHUNK_INDEX)?;
        let other = pieces.get((4, 0))?.unwrap().value().to_vec();
        pieces.insert((1, 0), &other[..])?;
        let mut cut = pieces.get((2, 0))?.unwrap().value().to_vec();
        cut.truncate(5);
        pieces.insert((2, 0), &cut[..])?;
        pieces.remove((4, 0))?;
        Ok(())
    });
    let found = |at: usize| {
        store
            .reader
            .view(|transaction| chunks::read_index(transaction, named(at)))
            .unwrap()
    };
    assert_eq!(found(0), IndexFound::Damaged);
    assert_eq!(found(1), IndexFound::Damaged);
    assert_eq!(found(2), IndexFound::Absent);
    assert_eq!(store.reader.chunk_index(named(0)).unwrap(), None);
    let report = store.reader.verify(None).unwrap();
    assert_eq!(report.checkpoints[0].problems.len(), 2, "{report:?}");
    wordy().assert_is_found(&mut store);
}
