//! The contract of state with a job, for each backend: values, lists and maps are what plain ones would be, over barriers,
//! crashes, rollbacks, times that run out, other parallelisms, compaction, and with memory for a tenth of it.
//!
//! Catches a kind of state that is lost, comes back or is another key's after any of these, in any order; each alone has
//! tests of its own. The same on each storage of checkpoints is tested in `runtime`.

mod job;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::{Chunk, ChunkId, ChunkReader, ChunkRef, ChunkUnreadable, chunk_index};
use crate::stream::KeyGroupRange;
use job::Subject;

/// A barrier of all tasks, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Barrier {
    /// By task: its key groups, its chunks, and the hashes that entries share.
    tasks: Vec<(KeyGroupRange, Vec<ChunkRef>, Vec<u64>)>,
    created_ms: u64,
}

/// One way to run.
#[derive(Debug, Clone, Copy, Default)]
struct Setup {
    keys: u64,
    rounds: u64,
    /// Whether only a tenth of the state may be in memory.
    is_on_disk: bool,
    /// Whether the states with an odd number forget, and forgetting is switched at crashes.
    forgets: bool,
}

/// Says which run has failed.
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

/// Keeps barriers over crashes.
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
    /// Makes a barrier durable, with those of its chunks that may not be kept yet.
    fn keep(&mut self, barrier: &Barrier, fresh: &[Arc<Chunk>]) {
        for chunk in fresh {
            let before = self.chunks.insert(chunk.id, Arc::clone(chunk));
            assert!(before.is_none(), "a chunk id is used twice");
        }
        let named = barrier.tasks.iter().flat_map(|(_, chunks, _)| chunks);
        assert!({ named }.all(|chunk| self.chunks.contains_key(&chunk.id)));
        self.last = Some(barrier.clone());
    }

    /// What a process finds that starts after a crash: the last barrier, its chunks, and the first id for new ones.
    fn crash(&self) -> (Option<Barrier>, Arc<dyn ChunkReader>, ChunkId) {
        let last = self.chunks.keys().next_back();
        let next = last.map_or(ChunkId(0), |id| ChunkId(id.0 + 1));
        (self.last.clone(), Arc::new(self.chunks.clone()), next)
    }
}

/// How much to run: a little, unless much is asked for.
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
