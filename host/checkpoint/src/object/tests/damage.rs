//! Catches a damaged object that goes unnoticed, is taken for a good one, or makes anything panic: every byte of every object is
//! flipped, each is cut at many places, and each is deleted.

use super::*;

/// A store with checkpoints 3 and 4.
fn prepared() -> Arc<dyn ObjectStore> {
    let store = in_memory();
    let mut storage = open(&store);
    for id in 1..=4 {
        nth(id).write(&mut storage).unwrap();
    }
    store
}

/// Whether damage of the object is harmless: a mark, or the note.
fn is_aside(path: &str) -> bool {
    path.ends_with("/newest") || path.ends_with("checkpoints/00000000000000000000")
}

fn check(path: &str, bytes: Option<Vec<u8>>, what: &str) {
    let store = prepared();
    replace(&store, path, bytes);
    let mut storage = open(&store);
    let reader = storage.reader();
    if !is_aside(path) {
        let is_gone = path.ends_with("checkpoints/00000000000000000003") && what == "deleted";
        let report = reader.verify(None).unwrap();
        assert!(
            !report.is_sound() || is_gone,
            "{path}: {what} is not found by verify"
        );
    }
    for id in 3..=6 {
        if let Ok(bytes) = reader.chunk(Chunk::as_ref(&chunk(id))) {
            assert!(bytes == chunk(id).bytes, "{path}: {what} gives wrong bytes");
        }
    }
    for depth in [Depth::Quick, Depth::Thorough] {
        match storage.recover(depth, None) {
            Ok(recovery) => {
                let restored = recovery.restored.unwrap();
                let id = restored.checkpoint.id.0;
                assert!(id == 4 || !recovery.damaged.is_empty(), "{path}: {what}");
                assert_eq!(restored.checkpoint, nth(id).checkpoint);
                if depth == Depth::Thorough {
                    nth(id).assert_is(&restored, &*storage.reader());
                }
                assert!(
                    recovery.next_id.0 > 4 && recovery.next_chunk.0 > 6,
                    "{path}: {what}"
                );
            }
            Err(StoreError::AllDamaged { .. }) => {
                let is_shared = path.contains("chunks/") || path.contains("plugins/");
                assert!(is_shared, "{path}: {what}");
            }
            Err(error) => panic!("{path}: {what}: {error}"),
        }
    }
}

#[test]
fn every_flipped_byte_is_found() {
    for (path, bytes) in objects(&prepared()) {
        let step = if std::env::var_os("FLOODMARK_HEAVY").is_some() {
            1
        } else {
            11
        };
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            check(&path, Some(flipped), &format!("a flip at {at}"));
        }
    }
}

#[test]
fn every_cut_object_is_found() {
    for (path, bytes) in objects(&prepared()) {
        let len = bytes.len();
        for at in [0, 1, len / 3, len / 2, len - 1] {
            check(&path, Some(bytes[..at].to_vec()), &format!("a cut at {at}"));
        }
        check(&path, Some([&bytes[..], b"x"].concat()), "a byte too many");
        check(&path, Some(bytes.repeat(40)), "far too many bytes");
    }
}

#[test]
fn every_deleted_object_is_found() {
    for path in objects(&prepared()).into_keys() {
        check(&path, None, "deleted");
    }
}

#[test]
fn objects_that_changed_places_are_found() {
    let stored = objects(&prepared());
    for path in stored.keys() {
        for (other, bytes) in &stored {
            if path != other && stored[path] != *bytes {
                check(path, Some(bytes.clone()), &format!("the bytes of {other}"));
            }
        }
    }
}

#[test]
fn the_next_write_leaves_damage_behind() {
    for path in objects(&prepared())
        .into_keys()
        .filter(|path| path.contains("checkpoints/"))
    {
        let store = prepared();
        replace(&store, &path, Some(b"damaged".to_vec()));
        let mut storage = open(&store);
        let next = storage.recover(Depth::Quick, None).unwrap().next_id.0;
        sample(next, 1, 30..33).write(&mut storage).unwrap();
        sample(next + 1, 1, 31..34).write(&mut storage).unwrap();
        assert_tidy(&store);
    }
}

#[test]
fn a_store_of_a_newer_version_is_left_alone() {
    let store = prepared();
    let path = "some/job/checkpoints/00000000000000000004";
    let mut bytes = objects(&store)[path].clone();
    bytes[8] = 2;
    let content = bytes.len() - 8;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[..content]).to_le_bytes();
    bytes[content..].copy_from_slice(&checksum);
    replace(&store, path, Some(bytes));
    let before = objects(&store);
    let mut storage = open(&store);
    let refused = storage.recover(Depth::Quick, None);
    assert!(
        matches!(refused, Err(StoreError::OtherFormat { found: 2, .. })),
        "{refused:?}"
    );
    assert!(nth(9).write(&mut storage).is_err());
    assert!(before == objects(&store));
}
