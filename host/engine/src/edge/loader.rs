//! Reads the chunks of state that a restored job does not have in memory yet, in the background, so that lookups find
//! them.
//!
//! The newest chunks come first: they have the latest writes. Short channels bring chunks to their workers, so that at
//! most a few MiB are in flight; a worker takes a few between its steps. If a chunk cannot be read, the lookup that
//! needs it tries again, since the cause may be temporary. Damage fails the job at once, as in a lookup.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::threads::Bell;
use crate::runtime::JobError;
use crate::runtime::exchange::Wake;
use crate::runtime::plan::{NodeIndex, WorkerIndex};
use crate::runtime::report::{Report, Reports};
use crate::runtime::worker::Worker;
use floodmark_state::{Chunk, ChunkId, ChunkReader, ChunkRef};

/// Chunks that wait for a worker, 1 MiB each.
const WAITING_MAX: usize = 2;
/// A state up to this size is read before the job begins, which takes some milliseconds.
const AT_ONCE_BYTES: u64 = 16 << 20;

/// A chunk, and the node whose task needs it.
pub(super) type Loaded = (NodeIndex, Arc<Chunk>);

/// The chunks that a worker does not have in memory, each with the nodes that need it.
type Wanted = BTreeMap<ChunkId, (ChunkRef, Vec<Taker>)>;

/// The task that a chunk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Taker {
    worker: WorkerIndex,
    node: NodeIndex,
}

/// The loader thread.
pub(super) struct Loader {
    thread: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Loader {
    /// Starts reading the chunks that workers lack. `proof` becomes true when all were read and are sound. Returns a
    /// receiver of chunks for each worker.
    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    pub(super) fn start(
        workers: &mut [Worker],
        bells: &[Arc<Bell>],
        chunks: Arc<dyn ChunkReader>,
        proof: Arc<AtomicBool>,
        reports: &Reports,
    ) -> (Self, Vec<mpsc::Receiver<Loaded>>) {
        let wanted = wanted(workers);
        proof.store(wanted.is_empty(), Ordering::Relaxed);
        let is_over = Arc::new(AtomicBool::new(false));
        let bytes: u64 = wanted.values().map(|(chunk, _)| u64::from(chunk.len)).sum();
        let at_once = bytes <= AT_ONCE_BYTES;
        let takers: usize = wanted.values().map(|(_, takers)| takers.len()).sum();
        let room = if at_once { takers } else { WAITING_MAX };
        let (senders, receivers): (Vec<_>, Vec<_>) = workers
            .iter()
            .map(|_| mpsc::sync_channel::<Loaded>(room))
            .unzip();
        let names = workers.first().map_or(Vec::new(), Worker::names);
        let lanes: Vec<_> = senders.into_iter().zip(bells.iter().cloned()).collect();
        let reading = Reading {
            chunks,
            names,
            lanes,
            is_over: Arc::clone(&is_over),
            proof,
            reports: reports.clone(),
        };
        let thread = match at_once {
            true => {
                reading.run(wanted);
                None
            }
            false => Some(std::thread::spawn(move || reading.run(wanted))),
        };
        (Self { thread, is_over }, receivers)
    }

    /// Stops the thread after the current chunk. The workers must have ended before: the thread may be waiting for one.
    pub(super) fn stop(self) -> Result<(), JobError> {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.map_or(Ok(()), JoinHandle::join);
        ended.map_err(|_| JobError::Defect {
            what: "the reader of state",
        })
    }
}

/// The state of the thread.
struct Reading {
    chunks: Arc<dyn ChunkReader>,
    names: Vec<String>,
    lanes: Vec<(mpsc::SyncSender<Loaded>, Arc<Bell>)>,
    is_over: Arc<AtomicBool>,
    /// Set when all chunks were read.
    proof: Arc<AtomicBool>,
    reports: Reports,
}

impl Reading {
    fn run(self, wanted: Wanted) {
        let mut all = true;
        for (chunk, takers) in wanted.into_values().rev() {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            match self.chunks.chunk(chunk) {
                Ok(bytes) => self.hand_over(chunk.id, bytes, &takers),
                Err(reason) if reason.is_damaged => {
                    let first = takers.first().map(|taker| taker.node);
                    let operator = first.and_then(|node| self.names.get(node.0));
                    let operator = operator.cloned().unwrap_or_default();
                    let reason = reason.into();
                    (self.reports)(Report::Failed(JobError::Chunks { operator, reason }));
                    return;
                }
                Err(_) => all = false,
            }
        }
        self.proof.store(all, Ordering::Relaxed);
    }

    fn hand_over(&self, id: ChunkId, bytes: Vec<u8>, takers: &[Taker]) {
        let chunk = Arc::new(Chunk { id, bytes });
        for taker in takers {
            let (sender, bell) = &self.lanes[usize::from(taker.worker.0)];
            // A worker that has ended needs no chunks.
            if sender.send((taker.node, Arc::clone(&chunk))).is_ok() {
                bell.wake();
            }
        }
    }
}

fn wanted(workers: &mut [Worker]) -> Wanted {
    let mut wanted = Wanted::new();
    for (index, worker) in (0..).map(WorkerIndex).zip(workers) {
        for (node, chunk) in worker.missing() {
            let (_, takers) = wanted.entry(chunk.id).or_insert((chunk, Vec::new()));
            takers.push(Taker {
                worker: index,
                node,
            });
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    //! Catches a loader that reads old chunks first, forgets a task, continues on damaged storage, does not report the
    //! damage, stops at a failure that may pass, or has more chunks in flight than it may.

    use super::*;
    use floodmark_state::ChunkUnreadable;

    /// A storage of one-byte chunks by id; some cannot be read.
    struct Shelf(Vec<(u64, bool)>);

    impl ChunkReader for Shelf {
        fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
            let unreadable = self.0.iter().find(|(id, _)| *id == chunk.id.0);
            match unreadable {
                None => Ok(vec![chunk.id.0 as u8]),
                Some(&(_, is_damaged)) => Err(ChunkUnreadable {
                    chunk: chunk.id,
                    reason: "it is not there".to_owned(),
                    is_damaged,
                }),
            }
        }

        fn chunk_index(&self, _: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
            unreachable!("the loader reads chunks")
        }
    }

    /// The chunks that two workers get of chunks 1 to 5, of which the second needs only 3, and the reported problems.
    fn load(unreadable: &[(u64, bool)]) -> (Vec<Vec<u64>>, Vec<String>) {
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::sync_channel(8)).unzip();
        let (reporter, reported) = mpsc::channel();
        let lanes = senders.into_iter().map(|sender| (sender, Arc::default()));
        let reading = Reading {
            chunks: Arc::new(Shelf(unreadable.to_vec())),
            names: vec!["source".to_owned(), "count".to_owned()],
            lanes: lanes.collect(),
            is_over: Arc::default(),
            reports: Arc::new(move |report| reporter.send(report).unwrap()),
            proof: Arc::default(),
        };
        let node = NodeIndex(1);
        let wanted = (1..=5).map(|id| {
            let workers = if id == 3 { 0..2 } else { 0..1 };
            let workers = workers.map(WorkerIndex);
            let takers = workers.map(|worker| Taker { worker, node });
            let id = ChunkId(id);
            (id, (ChunkRef { id, len: 1 }, takers.collect()))
        });
        reading.run(wanted.collect());
        let ids = |inbox: &mpsc::Receiver<Loaded>| {
            let loaded = inbox.try_iter();
            let id = |(node, chunk): Loaded| {
                assert_eq!(node, NodeIndex(1));
                assert_eq!(u64::from(chunk.bytes[0]), chunk.id.0);
                chunk.id.0
            };
            loaded.map(id).collect()
        };
        let said = reported.iter().map(|report| format!("{report:?}"));
        (inboxes.iter().map(ids).collect(), said.collect())
    }

    #[test]
    fn the_newest_comes_first_and_to_all() {
        let (loaded, said) = load(&[]);
        assert_eq!(loaded, [vec![5, 4, 3, 2, 1], vec![3]]);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn what_may_pass_is_left_out() {
        let (loaded, said) = load(&[(5, false), (3, false)]);
        assert_eq!(loaded, [vec![4, 2, 1], vec![]]);
        assert!(said.is_empty(), "{said:?}");
    }

    #[test]
    fn damage_is_told() {
        let (loaded, said) = load(&[(4, true)]);
        assert_eq!(loaded, [vec![5], vec![]]);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("count"), "{said:?}");
        assert!(said[0].contains("is_damaged: true"), "{said:?}");
    }
}
