//! Catches a failed write that loses an earlier checkpoint, one whose fate is reported wrongly, and a store that stays
//! broken once there is space again.

use super::*;

/// Makes the write of the third sample fail as `fail` says, and then writes a fourth.
fn check(fail: impl Fn(&Disk), what: &str) -> bool {
    let disk = Disk::default();
    let mut store = open(&disk).unwrap();
    let samples = samples();
    samples[0].write(&mut store).unwrap();
    samples[1].write(&mut store).unwrap();
    fail(&disk);
    let failed = samples[2].write(&mut store);
    let lift = || {
        let mut state = disk.state();
        state.fails_at = None;
        state.budget = None;
    };
    let Err(error) = failed else {
        return false;
    };
    assert!(matches!(error, StoreError::Io { .. }), "{what}: {error}");
    assert_eq!(store.last_failed().unwrap().fate, Fate::Unknown);
    lift();
    // Another process that reads the file now would see this.
    let fate = store.settle().unwrap().unwrap();
    assert_eq!(fate.checkpoint, CheckpointId(3));
    let newest = store
        .recover(Depth::Thorough, None)
        .unwrap()
        .restored
        .unwrap();
    match fate.fate {
        Fate::Durable => samples[2].assert_is(&store, &newest),
        Fate::Absent => samples[1].assert_is(&store, &newest),
        Fate::Unknown => panic!("{what}: it was opened again"),
    }
    assert!(store.reader.verify(None).unwrap().is_sound(), "{what}");
    // The chunks of the failed write are included again, under the next id.
    let mut next = samples[3].clone();
    next.chunks
        .extend(samples[2].chunks.iter().take(1).cloned());
    let named = next
        .chunks
        .iter()
        .map(|chunk| Chunk::as_ref(chunk))
        .collect();
    next.checkpoint.operators[0].tasks[0].chunks = named;
    next.write(&mut store).unwrap();
    drop(store);
    let mut store = open(&disk).unwrap();
    next.assert_is_found(&mut store);
    assert!(store.reader.verify(None).unwrap().is_sound(), "{what}");
    true
}

#[test]
fn each_operation_of_a_write_fails() {
    let mut after = 0;
    let fail = |disk: &Disk, after: usize| {
        let mut state = disk.state();
        state.fails_at = Some(state.ops + after);
    };
    while check(|disk| fail(disk, after), &format!("operation {after}")) {
        after += 1;
    }
    assert!(
        after > 8,
        "only {after} operations: does the disk see them?"
    );
}

#[test]
fn the_disk_is_full() {
    let mut budget = 0;
    while check(
        |disk| disk.state().budget = Some(budget),
        &format!("{budget} bytes left"),
    ) {
        budget += 10_000;
    }
    assert!(
        budget > 100_000,
        "only {budget} bytes: does the disk count them?"
    );
}

#[test]
fn a_disk_that_stays_full_keeps_refusing() {
    let disk = Disk::default();
    let mut store = open(&disk).unwrap();
    samples()[0].write(&mut store).unwrap();
    disk.state().budget = Some(0);
    for sample in &samples()[1..] {
        assert!(matches!(
            sample.write(&mut store),
            Err(StoreError::Io { .. })
        ));
    }
    disk.state().budget = None;
    samples()[3].write(&mut store).unwrap();
    let failed = store.last_failed().unwrap();
    assert_eq!(failed.fate, Fate::Absent);
}
