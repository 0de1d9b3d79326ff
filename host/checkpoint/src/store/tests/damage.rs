//! Catches damage that ends in a panic or ends the process, in wrong bytes, in a job that starts fresh although there
//! was a checkpoint, or in a damaged file that is written to.
//!
//! A panic inside a panic ends the process, so the flips run in a child process: this test program, started again.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::*;
use crate::store::copy::Highest;
use crate::store::file;

const CHILD: &str = "FLOODMARK_TEST_CHILD";
const HEAVY: &str = "FLOODMARK_HEAVY";
pub(super) const KEEP_ALL: NonZeroU32 = NonZeroU32::new(9).unwrap();

/// A store with three checkpoints, closed.
pub(super) fn image() -> Vec<u8> {
    let disk = Disk::default();
    let mut store = open(&disk).unwrap();
    for sample in samples().iter().take(3) {
        sample.write_keeping(&mut store, KEEP_ALL).unwrap();
    }
    drop(store);
    disk.state().bytes.clone()
}

/// In memory where the system has such a folder: syncs are most of the time.
pub(super) fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

pub(super) fn put(folder: &TempDir, image: &[u8]) -> PathBuf {
    let path = folder.path().join("checkpoints.redb");
    std::fs::write(&path, image).unwrap();
    path
}

/// The position of a needle of 64 bytes.
fn find(image: &[u8], needle: &[u8]) -> usize {
    let mut windows = image.windows(64);
    windows.position(|window| window == &needle[..64]).unwrap()
}

/// A byte of a chunk that only the newest checkpoint has.
pub(super) fn newest_damaged() -> Vec<u8> {
    let mut image = image();
    let at = find(&image, &samples()[2].chunks[2].bytes);
    image[at] ^= 1;
    image
}

/// The effect of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The newest checkpoint was found, in the same file.
    Untouched,
    /// This checkpoint was found, in a new file.
    Restored(u64),
    Refused,
}

/// Opens a store that may be damaged, recovers it, writes two more checkpoints, and recovers it again.
fn check(image: &[u8], what: &str) -> Outcome {
    let folder = folder();
    let path = put(&folder, image);
    let Ok(store) = CheckpointStore::open(&path, SETTINGS) else {
        refused(&path, what);
        return Outcome::Refused;
    };
    let _ = store.reader.list();
    let sound = store
        .reader
        .verify(None)
        .is_ok_and(|report| report.is_sound());
    assert_eq!(
        names(folder.path()).len(),
        1,
        "{what}: reading changes nothing"
    );
    drop(store);
    // One in four: they take as long as the rest.
    if image
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
        % 4
        == 0
    {
        quickly(image, what);
    }
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let Ok(recovery) = store.recover(Depth::Thorough, None) else {
        drop(store);
        refused(&path, what);
        return Outcome::Refused;
    };
    let restored = recovery
        .restored
        .unwrap_or_else(|| panic!("{what}: it looks new"));
    let id = restored.checkpoint.id.0;
    samples()[id as usize - 1].assert_is(&store, &restored);
    assert_eq!(recovery.next_id.0, 4, "{what}");
    assert_eq!(
        recovery.set_aside.is_none(),
        sound,
        "{what}: {:?}",
        recovery.set_aside
    );
    if let Some(aside) = &recovery.set_aside {
        // redb marks the first page of a file that it opens.
        let kept = std::fs::read(&aside.path).unwrap();
        assert!(
            kept[4096..] == image[4096..],
            "{what}: another file is aside"
        );
    } else {
        assert!(id == 3 && recovery.damaged.is_empty(), "{what}");
    }
    go_on(store, &path, id, what);
    let files = 1 + usize::from(recovery.set_aside.is_some());
    assert_eq!(
        names(folder.path()).len(),
        files,
        "{what}: {:?}",
        names(folder.path())
    );
    match recovery.set_aside {
        None => Outcome::Untouched,
        Some(_) => Outcome::Restored(id),
    }
}

/// A quick start may find less damage; but what is read then is right, or an error.
fn quickly(image: &[u8], what: &str) {
    let folder = folder();
    let path = put(&folder, image);
    let Ok(mut store) = CheckpointStore::open(&path, SETTINGS) else {
        return;
    };
    let Ok(recovery) = store.recover(Depth::Quick, None) else {
        return;
    };
    assert_eq!(recovery.next_id.0, 4, "{what}");
    let restored = recovery.restored;
    let restored = restored.unwrap_or_else(|| panic!("{what}: it looks new"));
    let sample = &samples()[restored.checkpoint.id.0 as usize - 1];
    assert_eq!(restored.checkpoint, sample.checkpoint, "{what}");
    let reader = ReadOnlyStore::open(&path);
    let readers = [
        Some(store.reader()),
        reader.ok().map(|reader| Arc::new(reader) as _),
    ];
    for reader in readers.into_iter().flatten() {
        let _ = reader.list();
        for chunk in &sample.chunks {
            let named = Chunk::as_ref(chunk);
            if let Ok(bytes) = reader.chunk(named) {
                assert!(bytes == chunk.bytes, "{what}: wrong bytes");
            }
            if let Ok(Some(index)) = reader.chunk_index(named) {
                let expected = floodmark_state::chunk_index::of(&chunk.bytes);
                assert!(index == expected, "{what}: a wrong index");
            }
        }
    }
}

/// Two more checkpoints after checkpoint `id`; then the last one is found.
fn go_on(mut store: CheckpointStore, path: &Path, id: u64, what: &str) {
    for next in [4, 5] {
        let mut next_sample = samples()[id as usize - 1].clone();
        next_sample.checkpoint.id = CheckpointId(next);
        next_sample.chunks.push(chunk(50 + next, 3000));
        let named = next_sample.chunks.iter().map(|chunk| Chunk::as_ref(chunk));
        next_sample.checkpoint.operators[0].tasks[0].chunks = named.collect();
        next_sample
            .write(&mut store)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        if next == 5 {
            drop(store);
            store = CheckpointStore::open(path, SETTINGS)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            let recovery = store
                .recover(Depth::Thorough, None)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(recovery.set_aside, None, "{what}");
            next_sample.assert_is(&store, &recovery.restored.unwrap());
            let report = store.reader.verify(None).unwrap();
            assert!(report.is_sound(), "{what}: {report:?}");
        }
    }
}

/// Nothing was lost, and a fresh start is possible.
fn refused(path: &Path, what: &str) {
    assert_eq!(names(path.parent().unwrap()).len(), 1, "{what}");
    remove(path).unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut store = CheckpointStore::open(path, SETTINGS).unwrap();
    samples()[0].write(&mut store).unwrap();
}

/// Calls itself by `name` in a child, in which this returns true.
fn in_child(name: &str) -> bool {
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let name = format!("store::tests::damage::{name}");
    let mut child = Command::new(env::current_exe().unwrap());
    child
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD, "1");
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let from = text.len().saturating_sub(2000);
    let end = text.get(from..).unwrap_or(&text);
    assert!(output.status.success(), "{}: {end}", output.status);
    assert!(text.contains("1 passed"), "{name} did not run: {end}");
    false
}

#[test]
fn flipped_bytes() {
    if !in_child("flipped_bytes") {
        return;
    }
    let image = image();
    assert_eq!(check(&image, "sound"), Outcome::Untouched);
    let mut outcomes = BTreeMap::<Outcome, usize>::new();
    let mut random = Random(1);
    for (page, bytes) in image.chunks(4096).enumerate() {
        // Pages with only zeros are not in use.
        if bytes.iter().all(|byte| *byte == 0) {
            continue;
        }
        let shift = random.below(7) as usize;
        // In a page full of a chunk's bytes, all positions are alike.
        let books = bytes.iter().filter(|byte| **byte == 0).count() > 64;
        let offsets: Vec<_> = if books && env::var_os(HEAVY).is_some() {
            (0..bytes.len()).collect()
        } else if page == 0 {
            // redb's header.
            (0..320).step_by(3).collect()
        } else {
            // Headers and the ends of keys are in the front.
            let behind = [64 + shift, 600 + shift, 4095];
            (shift..64).step_by(7).chain(behind).collect()
        };
        for at in offsets.into_iter().filter(|at| *at < bytes.len()) {
            let mut damaged = image.clone();
            damaged[page * 4096 + at] ^= [0xff, 1 << random.below(8)][at % 2];
            // The last line of a child that dies says where.
            writeln!(std::io::stdout(), "page {page}, byte {at}").unwrap();
            let outcome = check(&damaged, &format!("page {page}, byte {at}"));
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    for expected in [
        Outcome::Untouched,
        Outcome::Restored(3),
        Outcome::Restored(2),
        Outcome::Refused,
    ] {
        assert!(outcomes.contains_key(&expected), "{outcomes:?}");
    }
}

#[test]
fn cut_off() {
    if !in_child("cut_off") {
        return;
    }
    let image = image();
    for len in (1..image.len()).step_by(image.len() / 150) {
        check(&image[..len], &format!("cut at {len}"));
    }
}

/// The checkpoint before is restored, the next write succeeds, and the damaged one is removed.
#[test]
fn the_newest_is_damaged() {
    let folder = folder();
    let path = put(&folder, &newest_damaged());
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let report = store.reader.verify(None).unwrap();
    assert_eq!(report.checkpoints[0].problems.len(), 1, "{report:?}");
    let recovery = store.recover(Depth::Thorough, None).unwrap();
    samples()[1].assert_is(&store, &recovery.restored.unwrap());
    let reason = "chunk 5 does not match its checksum".to_owned();
    assert_eq!(recovery.damaged, [(CheckpointId(3), reason)]);
    assert_eq!((recovery.next_id.0, recovery.next_chunk.0), (4, 6));
    assert_eq!(
        names(folder.path()),
        ["checkpoints.damaged-3.redb", "checkpoints.redb"]
    );
    let old = samples()[2].write(&mut store);
    assert!(
        matches!(old, Err(StoreError::Refused { .. })),
        "an id is used again: {old:?}"
    );
    assert!(store.reader.verify(None).unwrap().is_sound());
    // Before anything is written, it is found as it was left.
    drop(store);
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    let again = store.recover(Depth::Thorough, None).unwrap();
    assert!(
        again.damaged.is_empty() && again.set_aside.is_none(),
        "{again:?}"
    );
    assert_eq!((again.next_id.0, again.next_chunk.0), (4, 6));
    let mut next = samples()[1].clone();
    next.checkpoint.id = again.next_id;
    next.write_keeping(&mut store, KEEP_ALL).unwrap();
    let listed = store.reader.list().unwrap();
    let listed: Vec<_> = listed.into_iter().map(|(id, _)| id.0).collect();
    assert_eq!(listed, [4, 2, 1]);
    assert!(store.reader.verify(None).unwrap().is_sound());
}

#[test]
fn all_are_damaged() {
    let mut image = image();
    // All three have a chunk 3.
    let at = find(&image, &samples()[0].chunks[2].bytes);
    image[at] ^= 1;
    let mut store = open(&Disk::new(image)).unwrap();
    let Err(StoreError::AllDamaged { damaged, .. }) = store.recover(Depth::Thorough, None) else {
        panic!("it is damaged");
    };
    let ids: Vec<_> = damaged.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [3, 2, 1]);
}

/// A store on a backend has no folder for a new file: it is read, and not written to.
#[test]
fn a_damaged_store_without_a_name_is_not_written_to() {
    let disk = Disk::new(newest_damaged());
    for recovered in [false, true] {
        let mut store = open(&disk).unwrap();
        if recovered {
            samples()[1].assert_is_found(&mut store);
        }
        let written = samples()[3].write(&mut store);
        assert!(
            matches!(written, Err(StoreError::Damaged { .. })),
            "{written:?}"
        );
    }
}

/// The process dies before, between and after the steps that replace a damaged file.
#[test]
fn a_crash_while_it_is_replaced() {
    let damaged = newest_damaged();
    let done = folder();
    let path = put(&done, &damaged);
    CheckpointStore::open(&path, SETTINGS)
        .unwrap()
        .recover(Depth::Thorough, None)
        .unwrap();
    let new = std::fs::read(&path).unwrap();
    let aside = "checkpoints.damaged-3.redb";
    let check = |what: &str, restored: &[u8], linked: bool, renamed: bool| {
        let folder = folder();
        let path = put(&folder, &damaged);
        let temporary = folder.path().join("checkpoints.redb.restored");
        if !restored.is_empty() {
            std::fs::write(&temporary, restored).unwrap();
        }
        if linked {
            std::fs::hard_link(&path, folder.path().join(aside)).unwrap();
        }
        if renamed {
            std::fs::rename(&temporary, &path).unwrap();
        }
        let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
        let recovery = store.recover(Depth::Thorough, None).unwrap();
        samples()[1].assert_is(&store, &recovery.restored.unwrap());
        assert_eq!(recovery.set_aside.is_none(), renamed, "{what}");
        assert_eq!(recovery.next_id.0, 4, "{what}");
        assert_eq!(names(folder.path()), [aside, "checkpoints.redb"], "{what}");
        let kept = std::fs::read(folder.path().join(aside)).unwrap();
        assert!(kept[4096..] == damaged[4096..], "{what}");
        go_on(store, &path, 2, what);
    };
    check("at the start", &[], false, false);
    for part in (1..new.len()).step_by(new.len() / 20) {
        check("while it is made", &new[..part], false, false);
    }
    check("once it is made", &new, false, false);
    check("once the damaged one is linked", &new, true, false);
    check("once it is renamed", &new, true, true);
    // A new store must not get checkpoints of the one that it was to replace.
    let left = folder();
    std::fs::write(left.path().join("checkpoints.redb.restored"), &new).unwrap();
    let mut store = CheckpointStore::open(left.path().join("checkpoints.redb"), SETTINGS).unwrap();
    assert!(
        store
            .recover(Depth::Thorough, None)
            .unwrap()
            .restored
            .is_none()
    );
}

/// As on a file system on which a file has one name only.
#[test]
fn a_copy_is_kept_where_there_are_no_links() {
    let folder = folder();
    let path = put(&folder, b"damaged");
    let aside = folder.path().join("aside");
    file::copy(&path, &aside).unwrap();
    assert_eq!(std::fs::read(&aside).unwrap(), b"damaged");
    assert_eq!(names(folder.path()), ["aside", "checkpoints.redb"]);
}

#[test]
fn an_earlier_damaged_file_is_never_overwritten() {
    let folder = folder();
    let damaged = newest_damaged();
    for count in 1..=3 {
        let path = put(&folder, &damaged);
        CheckpointStore::open(&path, SETTINGS)
            .unwrap()
            .recover(Depth::Thorough, None)
            .unwrap();
        assert_eq!(names(folder.path()).len(), 1 + count);
        // The next one is another file.
        std::fs::remove_file(&path).unwrap();
    }
    let path = put(&folder, &damaged);
    let kept = names(folder.path());
    let asides = [
        "checkpoints.damaged-3-2.redb",
        "checkpoints.damaged-3-3.redb",
        "checkpoints.damaged-3.redb",
    ];
    assert_eq!(kept[..3], asides);
    remove(&path).unwrap();
    assert_eq!(names(folder.path()), asides, "starting over keeps them");
}

#[test]
fn the_disk_is_full_while_it_is_replaced() {
    let damaged = newest_damaged();
    let mut budget = 0;
    loop {
        let folder = folder();
        let path = put(&folder, &damaged);
        let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
        let sound = [&samples()[0].checkpoint, &samples()[1].checkpoint];
        let highest = Highest {
            checkpoint: 3,
            chunk: 5,
        };
        let disk = Disk::default();
        let renewed = store.renew_by(&sound, highest, || {
            let opened = file::open_on(disk.clone())?;
            disk.state().budget = Some(budget);
            // What the disk would have under this name.
            std::fs::write(file::restored_name(&path), b"part")?;
            Ok(opened)
        });
        let Err(error) = renewed else {
            break;
        };
        assert!(matches!(error, StoreError::NotReplaced { .. }), "{error:?}");
        assert!(error.to_string().contains("no storage space"), "{error}");
        assert_eq!(names(folder.path()), ["checkpoints.redb"]);
        // With space again, it goes as it would have gone.
        samples()[1].assert_is_found(&mut store);
        go_on(store, &path, 2, &format!("{budget} bytes"));
        budget += 10_000;
    }
    assert!(
        budget > 50_000,
        "only {budget} bytes: does the disk count them?"
    );
}
