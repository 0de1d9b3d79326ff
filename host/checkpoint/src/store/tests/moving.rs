//! Catches a reader that is wrong or fails because another process writes, a savepoint that is visible in part or
//! replaces a file, and an import, a deletion or a compaction that loses anything.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::damage::{KEEP_ALL, folder, image, names, newest_damaged, put};
use super::*;

/// Checkpoints that share chunks with those before.
fn endless(id: u64) -> Sample {
    let lengths = [100, 9000, 70_000, 300_000];
    let chunks = (id..id + 3).map(|id| chunk(id, lengths[id as usize % 4]));
    sample(id, 1 + (id / 5 % 2) as u8, chunks.collect())
}

/// Reads the whole store, as often as possible, while a thread writes.
fn look_while_written(
    store: &mut CheckpointStore,
    rounds: u64,
    reader: impl Fn() -> Box<dyn Fn() -> Vec<u64> + Send>,
) {
    let done = AtomicBool::new(false);
    let retained = NonZeroU32::new(3).unwrap();
    endless(1).write_keeping(store, retained).unwrap();
    std::thread::scope(|scope| {
        let look = reader();
        let done = &done;
        let looks = scope.spawn(move || {
            let (mut looks, mut newest) = (0, 0);
            while !done.load(Ordering::Relaxed) || looks == 0 {
                let ids = look();
                let next = ids.first().copied().unwrap_or(0);
                assert!(
                    next >= newest,
                    "checkpoint {newest} was there before {next}"
                );
                let expected: Vec<_> = (1..=next).rev().take(3).collect();
                assert_eq!(ids, expected);
                newest = next;
                looks += 1;
            }
            (looks, newest)
        });
        for id in 2..=rounds {
            endless(id).write_keeping(store, retained).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        let (looks, newest) = looks.join().unwrap();
        assert!(looks > 1 && newest > 1, "{looks} looks, up to {newest}");
    });
}

/// The ids, after comparing everything that they name. Checkpoints that were retired meanwhile are left out.
fn look(reader: &dyn CheckpointReader) -> Vec<u64> {
    let listed = reader.list().unwrap();
    for (id, checkpoint) in &listed {
        let expected = endless(id.0);
        assert_eq!(checkpoint, &Ok(expected.checkpoint));
        let is_gone = || {
            let read = reader.read(*id);
            matches!(read, Err(StoreError::NoSuchCheckpoint { .. }))
        };
        for chunk in &expected.chunks {
            match reader.chunk(Chunk::as_ref(chunk)) {
                Ok(bytes) => assert!(bytes == chunk.bytes, "wrong bytes"),
                Err(error) => assert!(is_gone(), "{error}"),
            }
            match reader.chunk_index(Chunk::as_ref(chunk)) {
                Ok(index) => assert!(index.is_some() || is_gone()),
                Err(error) => assert!(is_gone(), "{error}"),
            }
        }
        for (digest, bytes) in &expected.plugins {
            match reader.plugin(*digest) {
                Ok(found) => assert!(found[..] == bytes[..], "wrong bytes"),
                Err(error) => assert!(is_gone(), "{error}"),
            }
        }
    }
    listed.iter().map(|(id, _)| id.0).collect()
}

fn rounds() -> u64 {
    if std::env::var_os("FLOODMARK_HEAVY").is_some() {
        3000
    } else {
        120
    }
}

#[test]
fn another_process_may_write() {
    let folder = folder();
    let path = folder.path().join("checkpoints.redb");
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    look_while_written(&mut store, rounds(), || {
        let reader = ReadOnlyStore::open(&path).unwrap();
        Box::new(move || {
            let ids = look(&reader);
            let report = reader.verify(None).unwrap();
            assert!(report.is_sound(), "{report:?}");
            ids
        })
    });
    let reader = ReadOnlyStore::open(&path).unwrap();
    assert_eq!(look(&reader).len(), 3);
    let report = reader.verify(None).unwrap();
    assert!(report.is_sound() && !report.is_busy, "{report:?}");
}

#[test]
fn the_same_process_may_write() {
    let folder = folder();
    let path = folder.path().join("checkpoints.redb");
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let reader = store.reader();
    look_while_written(&mut store, rounds(), || {
        let reader = Arc::clone(&reader);
        Box::new(move || look(&*reader))
    });
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = folder();
    let path = put(&folder, &image());
    let mode = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&path, 0o400);
    mode(folder.path(), 0o500);
    let reader = ReadOnlyStore::open(&path).unwrap();
    samples()[2].assert_in(&reader);
    assert!(reader.verify(None).unwrap().is_sound());
    mode(folder.path(), 0o700);
    assert_eq!(std::fs::read(&path).unwrap(), image(), "it was touched");
    assert_eq!(names(folder.path()).len(), 1);
    let absent = ReadOnlyStore::open(folder.path().join("no"));
    assert!(matches!(absent, Err(StoreError::Absent { .. })));
    // Damage is damage, also here.
    let other = self::folder();
    let path = put(&other, &newest_damaged());
    let reader = ReadOnlyStore::open(&path).unwrap();
    assert!(!reader.verify(None).unwrap().is_sound());
    samples()[1].assert_in(&reader);
}

#[test]
fn a_savepoint_there_and_back() {
    let folder = folder();
    let path = put(&folder, &image());
    let store = ReadOnlyStore::open(&path).unwrap();
    let chosen = store.read(CheckpointId(2)).unwrap();
    let to = folder.path().join("save");
    // Left by a process that died.
    std::fs::write(folder.path().join("save.part"), b"half").unwrap();
    savepoint::create(&to, &store, &chosen, SETTINGS).unwrap();
    assert_eq!(names(folder.path()), ["checkpoints.redb", "save"]);
    let again = savepoint::create(&to, &store, &chosen, SETTINGS);
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    let (saved, checkpoint) = savepoint::open(&to, None).unwrap();
    samples()[1].assert_in(&saved);
    assert!(saved.verify(None).unwrap().is_sound());
    let many = savepoint::open(&path, None);
    assert!(matches!(many, Err(StoreError::NotOne { count: 3, .. })));
    let (_, third) = savepoint::open(&path, Some(CheckpointId(3))).unwrap();
    assert_eq!(third, samples()[2].checkpoint);
    let mut gone = chosen.clone();
    gone.id = CheckpointId(9);
    gone.operators[0].tasks[0].chunks[0].id = ChunkId(77);
    let absent = savepoint::create(&folder.path().join("other"), &store, &gone, SETTINGS);
    assert!(matches!(absent, Err(StoreError::NoSuchCheckpoint { .. })));
    assert_eq!(names(folder.path()).len(), 2, "nothing is left of it");

    // And into a store that has nothing yet.
    let mut target = CheckpointStore::in_memory(SETTINGS).unwrap();
    let permit = target.import(&saved, &checkpoint).unwrap();
    assert_eq!(permit.checkpoint(), CheckpointId(2));
    let recovery = target.recover(Depth::Quick, None).unwrap();
    samples()[1].assert_is(&target, &recovery.restored.unwrap());
    assert_eq!((recovery.next_id.0, recovery.next_chunk.0), (3, 5));
    let twice = target.import(&saved, &checkpoint);
    assert!(
        matches!(twice, Err(StoreError::Refused { .. })),
        "{twice:?}"
    );
    samples()[2].write(&mut target).unwrap();
    assert!(target.reader.verify(None).unwrap().is_sound());
    // A savepoint is a store like others.
    let mut store = CheckpointStore::open(&to, SETTINGS).unwrap();
    samples()[2].write(&mut store).unwrap();
    samples()[2].assert_is_found(&mut store);
}

#[test]
fn ids_go_on_when_all_is_deleted() {
    let folder = folder();
    let path = put(&folder, &image());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let absent = store.delete(&[CheckpointId(1), CheckpointId(7)]);
    assert!(matches!(absent, Err(StoreError::NoSuchCheckpoint { .. })));
    samples()[0].assert_in(&*store.reader);
    store.delete(&[CheckpointId(3), CheckpointId(1)]).unwrap();
    samples()[1].assert_is_found(&mut store);
    let report = store.reader.verify(None).unwrap();
    assert!(report.is_sound() && report.chunks == 3, "{report:?}");
    store.delete(&[CheckpointId(2)]).unwrap();
    drop(store);
    for depth in [Depth::Quick, Depth::Thorough] {
        let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
        let recovery = store.recover(depth, None).unwrap();
        assert!(recovery.restored.is_none() && recovery.damaged.is_empty());
        assert_eq!((recovery.next_id.0, recovery.next_chunk.0), (4, 6));
        assert!(recovery.set_aside.is_none());
    }
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let old = samples()[2].write(&mut store);
    assert!(matches!(old, Err(StoreError::Refused { .. })), "{old:?}");
    samples()[3].write(&mut store).unwrap();
    assert!(store.reader.verify(None).unwrap().is_sound());
}

#[test]
fn compaction_makes_the_file_shorter() {
    let folder = folder();
    let path = put(&folder, &image());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let large = sample(
        9,
        1,
        (20..26).map(|id| chunk(id, CHUNK_BYTES_BEST)).collect(),
    );
    large.write_keeping(&mut store, KEEP_ALL).unwrap();
    store.delete(&[CheckpointId(9)]).unwrap();
    let (before, after) = store.compact().unwrap();
    assert!(before > 6 << 20 && after < before / 2, "{before}, {after}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), after);
    samples()[2].assert_in(&*store.reader);
    assert!(store.reader.verify(None).unwrap().is_sound());
    let mut next = samples()[3].clone();
    next.checkpoint.id = CheckpointId(10);
    next.write_keeping(&mut store, KEEP_ALL).unwrap();
    next.assert_is_found(&mut store);
    assert_eq!(names(folder.path()).len(), 1);
    // A damaged one is left as it is.
    let other = self::folder();
    let path = put(&other, &newest_damaged());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let refused = store.compact();
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
}

/// The power fails at each operation of a compaction.
#[test]
fn power_fails_while_it_is_compacted() {
    let image = image();
    let mut dies_at = 0;
    loop {
        let disk = Disk::new(image.clone());
        let mut store = open(&disk).unwrap();
        samples()[3].write_keeping(&mut store, RETAINED).unwrap();
        let ops = disk.state().ops;
        disk.state().fails_at = Some(ops + dies_at);
        let compacted = store.compact();
        // A process that survives the failure continues with the same store.
        disk.state().fails_at = None;
        let images: Vec<_> = (0..4).map(|seed| disk.image(seed)).collect();
        samples()[3].assert_is_found(&mut store);
        for image in images {
            let mut store = open(&Disk::new(image)).unwrap();
            samples()[3].assert_is_found(&mut store);
            let report = store.reader.verify(None).unwrap();
            assert!(report.is_sound(), "operation {dies_at}: {report:?}");
        }
        if compacted.is_ok() {
            break;
        }
        dies_at += 1;
    }
    assert!(dies_at > 5, "only {dies_at} operations");
}
