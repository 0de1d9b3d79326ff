//! Tests the contract of state with a job, for each backend: values, lists and maps equal those of a plain model,
//! across barriers, crashes, rollbacks, expiry, other parallelisms, compaction, and with memory for a tenth of the
//! state.
//!
//! Catches state that is lost, reappears or moves to another key after any of these, in any order; each alone has tests
//! of its own. `runtime` tests the same on each storage of checkpoints.

mod job;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::{Chunk, ChunkId, ChunkReader, ChunkRef, ChunkUnreadable, chunk_index};
use crate::stream::KeyGroupRange;
use job::Subject;

/// A barrier of all tasks, as a storage keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Barrier {
    /// By task: its key groups, its chunks, and the hashes that entries share.
    tasks: Vec<(KeyGroupRange, Vec<ChunkRef>, Vec<u64>)>,
    created_ms: u64,
}

/// A configuration of a run.
#[derive(Debug, Clone, Copy, Default)]
struct Setup {
    keys: u64,
    rounds: u64,
    /// Whether only a tenth of the state may be in memory.
    is_on_disk: bool,
    /// Whether states with an odd number expire, and crashes switch expiry on and off.
    forgets: bool,
}

/// Prints which run has failed.
struct Told(u64, Setup);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(seed, setup) = self;
            writeln!(std::io::stderr(), "seed {seed}, {setup:?}").unwrap();
        }
    }
}

/// Runs a job for a while.
fn run(seed: u64, setup: Setup) {
    let _told = Told(seed, setup);
    let mut subject = Subject::new(seed, setup);
    let mut parallelisms = [1, 4, 3, 2].into_iter().cycle();
    for round in 1..=setup.rounds {
        subject.round();
        if round % 4 == 0 {
            subject.barrier();
        }
        match subject.random.below(60) {
            0 => {
                subject.roll_back();
                subject.check_all();
            }
            1 => {
                let parallelism = parallelisms.next().unwrap();
                match setup.forgets {
                    true => subject.switch_forgetting(parallelism),
                    false => subject.crash(parallelism),
                }
                subject.check_all();
            }
            _ => {}
        }
    }
    subject.check_all();
}

/// Keeps barriers across crashes.
#[derive(Default)]
struct Keeper {
    chunks: BTreeMap<ChunkId, Arc<Chunk>>,
    last: Option<Barrier>,
}

impl ChunkReader for BTreeMap<ChunkId, Arc<Chunk>> {
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
        Ok(self[&chunk.id].bytes.clone())
    }

    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
        Ok(Some(chunk_index::of(&self[&chunk.id].bytes)))
    }
}

impl Keeper {
    /// Makes a barrier durable, with its chunks that may not be stored yet.
    fn keep(&mut self, barrier: &Barrier, fresh: &[Arc<Chunk>]) {
        for chunk in fresh {
            let before = self.chunks.insert(chunk.id, Arc::clone(chunk));
            assert!(before.is_none(), "a chunk id is used twice");
        }
        let named = barrier.tasks.iter().flat_map(|(_, chunks, _)| chunks);
        assert!({ named }.all(|chunk| self.chunks.contains_key(&chunk.id)));
        self.last = Some(barrier.clone());
    }

    /// The data that a process finds after a crash: the last barrier, its chunks, and the first id for new ones.
    fn crash(&self) -> (Option<Barrier>, Arc<dyn ChunkReader>, ChunkId) {
        let last = self.chunks.keys().next_back();
        let next = last.map_or(ChunkId(0), |id| ChunkId(id.0 + 1));
        (self.last.clone(), Arc::new(self.chunks.clone()), next)
    }
}

/// The seeds to run: a few, unless the environment asks for more.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var_os("FLOODMARK_HEAVY") {
        Some(_) => 0..100,
        None => 0..3,
    }
}

#[test]
fn equals_plain_values_lists_and_maps() {
    for seed in seeds() {
        for is_on_disk in [false, true] {
            let setup = Setup {
                keys: 100,
                rounds: 600,
                is_on_disk,
                forgets: seed % 3 != 0,
            };
            run(seed, setup);
        }
    }
}
