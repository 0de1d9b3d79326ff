//! Catches a half checkpoint, a lost older one, a used id and a leak after any single request failed, its answer was lost,
//! or the process died there.

use std::sync::atomic::{AtomicU64, Ordering};

use super::faulty::{Fault, Faulty};
use super::*;

const FAULTS: [Fault; 3] = [Fault::Refused, Fault::AnswerLost, Fault::DownFromHere];

fn open_faulty(
    store: &Arc<dyn ObjectStore>,
    fault: Fault,
    at: u64,
    seen: &Arc<AtomicU64>,
) -> ObjectStorage {
    let faulty = Faulty::new(store, Some(fault), at, seen);
    let remote = Remote::new("memory://test", faulty, Path::from("some/job")).unwrap();
    ObjectStorage::on(remote, None, settings())
}

/// A store with checkpoints 1 and 2, written without faults.
fn prepared() -> Arc<dyn ObjectStore> {
    let store = in_memory();
    let mut storage = open(&store);
    nth(1).write(&mut storage).unwrap();
    nth(2).write(&mut storage).unwrap();
    store
}

/// The checkpoint that was numbered as `nth`, under another id.
fn named(id: u64, as_nth: u64) -> Sample {
    let mut sample = nth(as_nth);
    sample.checkpoint.id = CheckpointId(id);
    sample
}

/// Writes the checkpoints of `nth` 3 to 5 under ids that a failure makes skip; returns what was written.
fn write_on(storage: &mut ObjectStorage, first: u64) -> Vec<Sample> {
    let mut written = Vec::new();
    let mut pending: Vec<Arc<Chunk>> = Vec::new();
    for (id, as_nth) in (first..).zip(3..=5) {
        let mut sample = named(id, as_nth);
        // What a failed one handed over is handed over again.
        pending.extend(sample.chunks.iter().cloned());
        sample.chunks.clone_from(&pending);
        if sample.write(storage).is_ok() {
            pending.clear();
            sample.chunks = nth(as_nth).chunks;
            written.push(sample);
        }
    }
    written
}

#[test]
fn any_request_may_fail() {
    for fault in FAULTS {
        for at in 0.. {
            let store = prepared();
            let seen = Arc::new(AtomicU64::new(0));
            let mut storage = open_faulty(&store, fault, at, &seen);
            let first = storage.recover(Depth::Quick, None).map_or(9, |recovery| {
                nth(2).assert_is(&recovery.restored.unwrap(), &*open(&store).reader());
                recovery.next_id.0
            });
            let written = write_on(&mut storage, first);
            let was_reached = seen.load(Ordering::SeqCst) > at;
            drop(storage);
            // All stored checkpoints are whole, whichever operation failed.
            let mut next = open(&store);
            for (id, checkpoint) in next.reader().list().unwrap() {
                let report = next.reader().verify(Some(id)).unwrap();
                assert!(report.is_sound(), "{fault:?} {at}: {report:?}");
                checkpoint.unwrap();
            }
            let recovery = next.recover(Depth::Thorough, None).unwrap();
            assert!(recovery.damaged.is_empty(), "{fault:?} {at}");
            let restored = recovery.restored.unwrap();
            // What was said to be durable is there; one that was said to have failed may be.
            let last = written.last().map_or(2, |sample| sample.checkpoint.id.0);
            assert!(restored.checkpoint.id.0 >= last, "{fault:?} {at}");
            if let Some(sample) = written
                .last()
                .filter(|sample| sample.checkpoint.id == restored.checkpoint.id)
            {
                sample.assert_is(&restored, &*next.reader());
            }
            assert!(recovery.next_id > restored.checkpoint.id);
            // Nothing is left after the next write.
            sample(recovery.next_id.0, 1, 30..33)
                .write(&mut next)
                .unwrap();
            sample(recovery.next_id.0 + 1, 1, 31..34)
                .write(&mut next)
                .unwrap();
            assert_eq!(ids(&next).len(), 2, "{fault:?} {at}");
            assert_tidy(&store);
            if !was_reached {
                assert!(at > 20 && written.len() == 3, "{fault:?} {at}");
                break;
            }
            if fault != Fault::DownFromHere && first != 9 {
                assert!(
                    written.len() >= 2,
                    "{fault:?} {at}: the job does not continue"
                );
            }
        }
    }
}

#[test]
fn a_storage_cleans_up_after_itself() {
    for fault in [Fault::Refused, Fault::AnswerLost] {
        for at in 0.. {
            let store = prepared();
            let seen = Arc::new(AtomicU64::new(0));
            let mut storage = open_faulty(&store, fault, at, &seen);
            let first = storage
                .recover(Depth::Quick, None)
                .map_or(9, |recovery| recovery.next_id.0);
            write_on(&mut storage, first);
            let was_reached = seen.load(Ordering::SeqCst) > at;
            if !was_reached {
                break;
            }
            // Two more, without a fault.
            sample(first + 10, 1, 30..33).write(&mut storage).unwrap();
            sample(first + 11, 1, 31..34).write(&mut storage).unwrap();
            assert_eq!(ids(&storage), [first + 11, first + 10], "{fault:?} {at}");
            assert_tidy(&store);
            storage.recover(Depth::Thorough, None).unwrap();
        }
    }
}

#[test]
fn any_request_of_a_delete_or_an_import_may_fail() {
    for fault in FAULTS {
        for at in 0.. {
            let store = prepared();
            let from = in_memory();
            let mut source = open(&from);
            named(70, 4).write(&mut source).unwrap();
            let seen = Arc::new(AtomicU64::new(0));
            let mut storage = open_faulty(&store, fault, at, &seen);
            let imported = storage.import(&*source.reader(), &named(70, 4).checkpoint);
            let deleted = storage.delete(&[CheckpointId(2)]);
            let was_reached = seen.load(Ordering::SeqCst) > at;
            drop(storage);
            let mut next = open(&store);
            let recovery = next.recover(Depth::Thorough, None).unwrap();
            assert!(recovery.damaged.is_empty(), "{fault:?} {at}");
            let there = ids(&next);
            assert!(there.contains(&1));
            assert!(imported.is_err() || there.contains(&70), "{fault:?} {at}");
            assert!(deleted.is_err() || !there.contains(&2), "{fault:?} {at}");
            assert_tidy(&store);
            if !was_reached {
                assert!(imported.is_ok() && deleted.is_ok());
                break;
            }
        }
    }
}
