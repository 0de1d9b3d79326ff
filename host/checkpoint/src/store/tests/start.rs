//! Catches a quick start that misses damage in what it reads, one that reads more than it should, a commit that ended the
//! process and is not noticed, and a choice of an older checkpoint that costs newer ones or reuses their ids.

use super::damage::{KEEP_ALL, folder, image, names, newest_damaged, put};
use super::*;
use crate::store::file;

fn writing(path: &Path) -> bool {
    file::writing_name(path).exists()
}

/// A chunk that is damaged is found when it is read, and not before.
#[test]
fn a_quick_start_reads_no_chunks() {
    let folder = folder();
    let path = put(&folder, &newest_damaged());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let recovery = store.recover(Depth::Quick, None).unwrap();
    assert_eq!((recovery.next_id.0, recovery.next_chunk.0), (4, 6));
    let restored = recovery.restored.unwrap().checkpoint;
    assert_eq!(restored, samples()[2].checkpoint);
    let damaged = Chunk::as_ref(&samples()[2].chunks[2]);
    let read = store.reader().chunk(damaged);
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    // A caller that finds this damage recovers again.
    samples()[1].assert_is_found(&mut store);
    assert_eq!(names(folder.path()).len(), 2);
}

/// A marker of a commit that did not return.
#[test]
fn a_mark_makes_a_start_thorough() {
    let folder = folder();
    let path = put(&folder, &newest_damaged());
    std::fs::write(file::writing_name(&path), b"").unwrap();
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let recovery = store.recover(Depth::Quick, None).unwrap();
    samples()[1].assert_is(&store, &recovery.restored.unwrap());
    assert!(recovery.set_aside.is_some() && !writing(&path));
    drop(store);
    // Without a recovery, the first write checks the pages.
    let path = put(&folder, &newest_damaged());
    std::fs::write(file::writing_name(&path), b"").unwrap();
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let written = samples()[3].write(&mut store);
    assert!(
        matches!(written, Err(StoreError::Damaged { .. })),
        "{written:?}"
    );
}

#[test]
fn the_mark_is_there_exactly_while_a_commit_is_under_way() {
    let folder = folder();
    let path = put(&folder, &image());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    assert!(!writing(&path));
    let seen = store.transact(|_| Ok(writing(&path))).unwrap();
    assert!(seen && !writing(&path));
    let refused = samples()[0].write(&mut store);
    assert!(matches!(refused, Err(StoreError::Refused { .. })));
    assert!(!writing(&path), "nothing was written");
    let spoiled = store.transact(|_| -> Result<(), StoreFault> { panic!("as redb does") });
    assert!(spoiled.is_err() && writing(&path));
    // The pages are sound, as the next write finds.
    samples()[3].write_keeping(&mut store, KEEP_ALL).unwrap();
    assert!(!writing(&path));
    samples()[3].assert_is_found(&mut store);
}

/// What a quick start reads is damaged: it finds the same as a thorough one.
#[test]
fn damaged_books_lead_to_a_thorough_start() {
    let check = |change: fn(&redb::WriteTransaction) -> Result<(), StoreFault>, expect: u64| {
        let folder = folder();
        let path = put(&folder, &image());
        let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
        let changed = store.transact(|database| {
            let transaction = database.begin_write()?;
            change(&transaction)?;
            Ok(transaction.commit()?)
        });
        changed.unwrap();
        let recovery = store.recover(Depth::Quick, None).unwrap();
        let restored = recovery.restored.unwrap();
        assert_eq!(restored.checkpoint.id.0, expect);
        samples()[expect as usize - 1].assert_is(&store, &restored);
        assert!(recovery.set_aside.is_some());
        assert_eq!(recovery.next_id.0, 4);
    };
    check(
        |transaction| {
            transaction.open_table(tables::CHECKPOINTS)?.remove(3)?;
            Ok(())
        },
        2,
    );
    check(
        |transaction| {
            let mut table = transaction.open_table(tables::CHECKPOINTS)?;
            table.insert(1, &b"rubbish"[..])?;
            Ok(())
        },
        3,
    );
    check(
        |transaction| {
            let mut table = transaction.open_table(tables::CHUNKS)?;
            table.insert(5, (1, 7, 7))?;
            Ok(())
        },
        2,
    );
    check(
        |transaction| {
            transaction
                .open_table(tables::PLUGINS)?
                .remove(plugin(2).0.0)?;
            Ok(())
        },
        2,
    );
}

#[test]
fn an_older_one_is_chosen() {
    for depth in [Depth::Quick, Depth::Thorough] {
        let folder = folder();
        let path = put(&folder, &image());
        let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
        let recovery = store.recover(depth, Some(CheckpointId(1))).unwrap();
        samples()[0].assert_is(&store, &recovery.restored.unwrap());
        assert_eq!((recovery.next_id.0, recovery.next_chunk.0), (4, 6));
        assert!(recovery.set_aside.is_none());
        samples()[2].assert_in(&*store.reader);
        let absent = store.recover(depth, Some(CheckpointId(9)));
        assert!(
            matches!(absent, Err(StoreError::NoSuchCheckpoint { .. })),
            "{absent:?}"
        );
    }
    let folder = folder();
    let path = put(&folder, &newest_damaged());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let damaged = store.recover(Depth::Thorough, Some(CheckpointId(3)));
    assert!(
        matches!(damaged, Err(StoreError::ChosenDamaged { .. })),
        "{damaged:?}"
    );
    assert_eq!(names(folder.path()).len(), 1, "nothing was changed");
}
