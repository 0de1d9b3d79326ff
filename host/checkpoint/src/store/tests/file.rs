//! Catches another file that is taken for a store, a second process that gets in, and a store that is found half
//! created.

use super::*;

#[test]
fn each_file_gets_its_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoints.redb");
    let absent = CheckpointStore::open_existing(&path, SETTINGS);
    assert!(
        matches!(absent, Err(StoreError::Absent { .. })),
        "{absent:?}"
    );
    // Left by a process that died while creating the store.
    std::fs::write(folder.path().join("checkpoints.redb.new"), b"half").unwrap();
    let mut store = CheckpointStore::open(&path, SETTINGS).unwrap();
    samples()[0].write(&mut store).unwrap();
    // A dropped handle must not let another process in.
    store.reader.alone(|slot| slot.database = None);
    let names = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 1, "only the store is left");
    let second = CheckpointStore::open(&path, SETTINGS);
    assert!(
        matches!(second, Err(StoreError::InUse { .. })),
        "{second:?}"
    );
    let removed = remove(&path);
    assert!(
        matches!(removed, Err(StoreError::InUse { .. })),
        "{removed:?}"
    );
    drop(store);
    let mut store = CheckpointStore::open_existing(&path, SETTINGS).unwrap();
    samples()[0].assert_is_found(&mut store);
    store
        .reader
        .with(|database| {
            let transaction = database.begin_write()?;
            tables::set_meta(&transaction, tables::META_FORMAT, 77)?;
            Ok(transaction.commit()?)
        })
        .unwrap();
    drop(store);
    let other = CheckpointStore::open(&path, SETTINGS);
    assert!(
        matches!(other, Err(StoreError::OtherFormat { found: 77, .. })),
        "{other:?}"
    );
    remove(&path).unwrap();
    remove(&path).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_not_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let check = |bytes: &[u8]| {
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let error = CheckpointStore::open(&path, SETTINGS).unwrap_err();
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error:?}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was touched");
    };
    check(b"");
    check(b"words");
    check(&[0; 100_000]);
    check(&[b'x'; 100_000]);
    let path = folder.path().join("other.redb");
    drop(redb::Database::create(&path).unwrap());
    let other = CheckpointStore::open(&path, SETTINGS);
    assert!(
        matches!(other, Err(StoreError::NotAStore { .. })),
        "{other:?}"
    );
}
