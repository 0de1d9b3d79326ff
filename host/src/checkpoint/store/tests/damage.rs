//! Catches damage that ends in a panic, in wrong bytes, or in a job that starts as if there never was a checkpoint.

use super::*;

/// A store with three checkpoints, closed.
fn image() -> Vec<u8> {
    let disk = Disk::default();
    let mut store = open(&disk).unwrap();
    for sample in samples().iter().take(3) {
        let retained = NonZeroU32::new(9).unwrap();
        store
            .write(
                &sample.checkpoint,
                &sample.chunks,
                &sample.plugins,
                retained,
            )
            .unwrap();
    }
    drop(store);
    disk.state().bytes.clone()
}

/// The id that is recovered from `image`, if any.
fn check(image: Vec<u8>, what: &str) -> Option<u64> {
    let disk = Disk::new(image);
    let Ok(mut store) = open(&disk) else {
        return None;
    };
    let _ = store.list();
    let _ = store.verify(None);
    let recovery = store.recover().ok()?;
    let restored = recovery
        .restored
        .unwrap_or_else(|| panic!("{what}: it looks new"));
    let id = restored.checkpoint.id.0;
    samples()[id as usize - 1].assert_is(&restored);
    assert!(
        id == 3 || !recovery.damaged.is_empty(),
        "{what}: nothing is said"
    );
    assert!(recovery.next_id.0 > 3, "{what}");
    Some(id)
}

#[test]
fn flipped_bytes() {
    let image = image();
    assert_eq!(check(image.clone(), "sound"), Some(3));
    // Pages that hold nothing but zeros are not in use.
    let used = image
        .chunks(4096)
        .enumerate()
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let used: Vec<_> = used.map(|(page, _)| page).collect();
    let mut outcomes = BTreeMap::<Option<u64>, usize>::new();
    let mut flip = |at: usize, bits: u8| {
        let mut damaged = image.clone();
        damaged[at] ^= bits;
        let outcome = check(damaged, &format!("byte {at} of {}", image.len()));
        *outcomes.entry(outcome).or_default() += 1;
    };
    let mut random = Random(1);
    for page in used {
        // Headers and the ends of keys are in the front.
        let front = (0..64).step_by(3);
        for at in front.chain((64..4096).step_by(509)) {
            flip(page * 4096 + at, 1 << random.below(8));
            flip(page * 4096 + at, 0xff);
        }
    }
    assert!(
        outcomes[&Some(3)] > 0 && outcomes[&Some(2)] > 0 && outcomes[&None] > 0,
        "{outcomes:?}"
    );
}

#[test]
fn cut_off() {
    let image = image();
    for len in (1..image.len()).step_by(image.len() / 150) {
        check(image[..len].to_vec(), &format!("cut at {len}"));
    }
}

/// A flipped byte in a chunk that only the newest checkpoint has: the one before is taken, the next write goes on, and the
/// damaged one does not stay.
#[test]
fn the_newest_is_damaged() {
    let mut image = image();
    let newest = &samples()[2].chunks[2].bytes[..64];
    let at = image
        .windows(64)
        .position(|window| window == newest)
        .unwrap();
    image[at] ^= 1;
    let mut store = open(&Disk::new(image)).unwrap();
    let recovery = store.recover().unwrap();
    samples()[1].assert_is(&recovery.restored.unwrap());
    assert_eq!(recovery.damaged[0].0, CheckpointId(3));
    assert_eq!(recovery.damaged[0].1, "chunk 5 does not fit its checksum");
    let report = store.verify(None).unwrap();
    assert_eq!(report.checkpoints[0].problems.len(), 1, "{report:?}");
    let mut next = samples()[1].clone();
    next.checkpoint.id = recovery.next_id;
    next.write(&mut store).unwrap();
    let listed: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|(id, _)| id.0)
        .collect();
    assert_eq!(listed, [4, 2]);
    assert!(store.verify(None).unwrap().is_sound());
}

#[test]
fn all_are_damaged() {
    let mut image = image();
    // All three have a chunk 3.
    let shared = &samples()[0].chunks[2].bytes[..64];
    let at = image
        .windows(64)
        .position(|window| window == shared)
        .unwrap();
    image[at] ^= 1;
    let mut store = open(&Disk::new(image)).unwrap();
    let Err(StoreError::AllDamaged { damaged, .. }) = store.recover() else {
        panic!("it is damaged");
    };
    let ids: Vec<_> = damaged.iter().map(|(id, _)| id.0).collect();
    assert_eq!(ids, [3, 2, 1]);
}
