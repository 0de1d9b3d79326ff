//! Catches a checkpoint that was acknowledged and is gone, one that is there in part, and a reference count that does not
//! survive a power failure: the disk dies at each operation, and each image that can result is opened.

use super::*;

/// Images for each operation: four that are the same for all, and some at random.
const IMAGES: u64 = 8;

#[test]
fn power_fails_at_each_operation() {
    let created = Disk::default();
    drop(open(&created).unwrap());
    let created = created.state().bytes.clone();
    let mut dies_at = 0;
    loop {
        let disk = Disk::new(created.clone());
        disk.state().fails_at = Some(dies_at);
        let (acknowledged, done) = run(&disk);
        for seed in 0..IMAGES {
            let seed = if seed < 4 {
                seed
            } else {
                seed + IMAGES * dies_at as u64
            };
            check(
                disk.image(seed),
                acknowledged,
                &format!("operation {dies_at}, seed {seed}"),
            );
        }
        if done {
            break;
        }
        dies_at += 1;
    }
    assert!(
        dies_at > 40,
        "only {dies_at} operations: does the disk see them?"
    );
}

/// Writes the samples until the disk dies. Returns the last acknowledged one, and whether everything succeeded,
/// including closing.
fn run(disk: &Disk) -> (usize, bool) {
    let mut acknowledged = 0;
    if let Ok(mut store) = open(disk) {
        for sample in samples() {
            if sample.write(&mut store).is_err() {
                break;
            }
            acknowledged += 1;
        }
    }
    let state = disk.state();
    (
        acknowledged,
        state.fails_at.is_some_and(|at| state.ops <= at),
    )
}

fn check(image: Vec<u8>, acknowledged: usize, what: &str) {
    let samples = samples();
    let mut store = open(&Disk::new(image)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let recovery = store
        .recover(Depth::Thorough, None)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(
        recovery.damaged.is_empty() && matches!(store.health, Health::Sound),
        "{what}: {:?}, {:?}",
        recovery.damaged,
        store.health
    );
    let found = recovery
        .restored
        .as_ref()
        .map_or(0, |found| found.checkpoint.id.0 as usize);
    assert!(
        found == acknowledged || found == acknowledged + 1,
        "{what}: {found}, not {acknowledged}"
    );
    if let Some(restored) = &recovery.restored {
        samples[found - 1].assert_is(&store, restored);
    }
    let report = store.reader.verify(None).unwrap();
    assert!(report.is_sound(), "{what}: {report:?}");
    assert_eq!(report.checkpoints.len(), found.min(2), "{what}");
    // The store accepts the next checkpoint.
    if let Some(next) = samples.get(found) {
        next.write(&mut store)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(store.reader.verify(None).unwrap().is_sound(), "{what}");
    }
}
