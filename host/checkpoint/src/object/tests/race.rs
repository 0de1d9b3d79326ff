//! Catches two writers on one prefix that both continue, and one that destroys objects that the other has stored or is
//! about to store: another writer begins at every single request of a write.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use super::faulty::Faulty;
use super::*;

fn begin_and_write(store: &Arc<dyn ObjectStore>) -> (u64, u64) {
    let mut other = open(store);
    let recovery = other.recover(Depth::Thorough, None).unwrap();
    assert!(recovery.damaged.is_empty());
    let restored = recovery.restored.unwrap();
    let id = restored.checkpoint.id.0;
    // It continues from there, with the restored chunks and one of its own.
    let first = chunks_of(&restored.checkpoint).next().unwrap().id.0;
    let mut sample = sample(recovery.next_id.0, 2, first + 1..first + 3);
    let own = Arc::new(Chunk {
        id: recovery.next_chunk,
        bytes: b"of the other".to_vec(),
    });
    sample.checkpoint.operators[0].tasks[0]
        .chunks
        .push(Chunk::as_ref(&own));
    sample.chunks = vec![own];
    sample.write(&mut other).unwrap();
    (id, recovery.next_id.0)
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "a runtime cannot start within another on one thread"
)]
fn the_writer_that_begins_last_may_write() {
    for at in 0.. {
        let store = in_memory();
        let mut storage = open(&store);
        for id in 1..=3 {
            nth(id).write(&mut storage).unwrap();
        }
        drop(storage);
        let seen = Arc::new(AtomicU64::new(0));
        let other = Arc::new(Mutex::new(None));
        let (inner, outcome) = (Arc::clone(&store), Arc::clone(&other));
        let faulty = Faulty::new(&store, None, at, &seen).meanwhile(move || {
            let written = std::thread::spawn(move || begin_and_write(&inner)).join();
            *outcome.lock().unwrap() = Some(written.unwrap());
        });
        let remote = Remote::new("memory://test", faulty, Path::from("some/job")).unwrap();
        let mut first = ObjectStorage::on(remote, None, settings());
        let begun = first.recover(Depth::Quick, None);
        let mine = begun.map(|recovery| {
            let (id, chunk) = (recovery.next_id.0, recovery.next_chunk.0);
            let samples = [
                sample(id, 2, chunk..chunk + 3),
                sample(id + 1, 2, chunk + 1..chunk + 5),
            ];
            samples.map(|sample| {
                let written = sample.write(&mut first);
                written.map(|permit| permit.checkpoint().0)
            })
        });
        let Some((restored, written)) = *other.lock().unwrap() else {
            assert!(at > 15);
            break;
        };
        let mut last = 0;
        for mine in mine.into_iter().flatten() {
            match mine {
                Ok(id) => last = id,
                Err(StoreError::TakenOver { .. }) => {}
                Err(error) => panic!("{at}: {error}"),
            }
        }
        // The first one may have started after the other was ready; otherwise the other has what was reported durable to it.
        if last > written {
            assert!(restored <= 3, "{at}");
        } else {
            assert!(
                last <= restored,
                "{at}: {last} was durable, and {restored} restored"
            );
            let refused = nth(90).write(&mut first);
            assert!(
                matches!(refused, Err(StoreError::TakenOver { .. })) || last == 0,
                "{at}"
            );
            let refused = first.recover(Depth::Quick, None);
            assert!(refused.is_err() || last == 0, "{at}");
        }
        let report = open(&store).reader().verify(None).unwrap();
        assert!(report.is_sound(), "{at}: {report:?}");
        assert!(
            report
                .checkpoints
                .iter()
                .any(|found| found.id.0 == written.max(last))
        );
        let recovery = open(&store).recover(Depth::Thorough, None).unwrap();
        assert_eq!(
            recovery.restored.unwrap().checkpoint.id.0,
            written.max(last),
            "{at}"
        );
    }
}

#[test]
fn a_late_record_finds_its_id_taken() {
    let store = in_memory();
    let mut first = open(&store);
    nth(1).write(&mut first).unwrap();
    // After many more starts and checkpoints, the id that the first writer needs next is still taken.
    for start in 0..20 {
        let mut storage = open(&store);
        let next = storage.recover(Depth::Quick, None).unwrap().next_id.0;
        for id in next..next + 3 {
            sample(id, 1, 10 + start * 10 + id..14 + start * 10 + id)
                .write(&mut storage)
                .unwrap();
        }
    }
    let before = objects(&store);
    let late = nth(2).write(&mut first);
    assert!(
        matches!(late, Err(StoreError::TakenOver { .. })),
        "{late:?}"
    );
    let after = objects(&store);
    let is_kept = |(path, bytes): (&String, &Vec<u8>)| after.get(path) == Some(bytes);
    assert!(before.iter().all(is_kept));
    // The next start removes what it had uploaded before it noticed.
    open(&store).recover(Depth::Quick, None).unwrap();
    assert_tidy(&store);
}
