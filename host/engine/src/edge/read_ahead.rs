//! Reads files ahead of the workers of a job, on one thread, so that workers do not wait while the system copies.
//!
//! One thread serves all workers, since copying is several times as fast as a worker's processing of the bytes. It
//! starts with the first request. It helps only if a core is free for it: with as many workers as cores, workers read
//! for themselves. A worker that needs a part which the thread has not started yet takes it back and reads it itself,
//! so it never waits for other workers' parts. While its own part is being read, it waits without spinning: the read
//! takes as long as its own would, and the thread may need the core.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::connector::read_ahead::{PendingRead, ReadAhead, ReadPart};
use crate::runtime::JobError;

/// A part and the room before it stay below the size from which buffers get a mapping of their own (`allocator`).
const PART_BYTES: usize = 192 << 10;

/// The thread, and the service that workers use.
pub(super) struct ReadingThread {
    reads: Option<Arc<Reads>>,
}

/// Accepts requests to read parts. Starts the thread with the first one.
struct Reads {
    thread: Mutex<Thread>,
}

enum Thread {
    NotStarted,
    Running(mpsc::Sender<Arc<Turn>>, JoinHandle<()>),
    Over,
}

/// A queued part: the thread takes it to read it, or the worker takes it back.
type Turn = Mutex<Option<(ReadPart, mpsc::SyncSender<ReadPart>)>>;

/// A requested part.
struct RequestedPart {
    turn: Arc<Turn>,
    read: mpsc::Receiver<ReadPart>,
}

impl ReadingThread {
    /// Creates a reading thread for this many workers, if a core is free for it.
    pub(super) fn new(workers: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            reads: (workers < cores).then(|| Arc::new(Reads::new())),
        }
    }

    /// The service for sources; `None` if workers read for themselves.
    pub(super) fn service(&self) -> Option<Arc<dyn ReadAhead>> {
        let reads = Arc::clone(self.reads.as_ref()?);
        Some(reads)
    }

    /// Stops the thread after the current part. Later requests are returned unread.
    pub(super) fn stop(self) -> Result<(), JobError> {
        self.reads.map_or(Ok(()), |reads| reads.stop())
    }
}

impl Reads {
    fn new() -> Self {
        let thread = Mutex::new(Thread::NotStarted);
        Self { thread }
    }

    fn ask(&self, part: ReadPart) -> RequestedPart {
        let (done, read) = mpsc::sync_channel(1);
        let turn = Arc::new(Mutex::new(Some((part, done))));
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Thread::NotStarted = *thread {
            *thread = start();
        }
        if let Thread::Running(turns, _) = &*thread {
            // If the thread has ended, its worker finds the part still queued.
            let _ = turns.send(Arc::clone(&turn));
        }
        RequestedPart { turn, read }
    }

    fn stop(&self) -> Result<(), JobError> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        let Thread::Running(turns, handle) = std::mem::replace(&mut *thread, Thread::Over) else {
            return Ok(());
        };
        drop(turns);
        handle.join().map_err(|_| JobError::Defect {
            what: "the thread that reads ahead",
        })
    }
}

impl ReadAhead for Reads {
    fn part_bytes(&self) -> usize {
        PART_BYTES
    }

    fn begin(&self, part: ReadPart) -> Box<dyn PendingRead> {
        Box::new(self.ask(part))
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
fn start() -> Thread {
    let (turns, inbox) = mpsc::channel::<Arc<Turn>>();
    let handle = std::thread::spawn(move || {
        for turn in inbox {
            read(&turn);
        }
    });
    Thread::Running(turns, handle)
}

/// Reads a part, unless its worker took it back.
fn read(turn: &Turn) {
    let asked = turn.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some((mut part, done)) = asked {
        // The worker reads the part again and handles the error.
        let _ = part.read();
        // The receiver is gone if the worker has dropped the part.
        let _ = done.send(part);
    }
}

impl RequestedPart {
    fn take_back(&self) -> Option<ReadPart> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        turn.take().map(|(part, _)| part)
    }
}

impl PendingRead for RequestedPart {
    fn take(self: Box<Self>) -> Option<ReadPart> {
        // A closed channel without an answer means that the thread has panicked.
        self.take_back().or_else(|| self.read.recv().ok())
    }
}

impl Drop for RequestedPart {
    fn drop(&mut self) {
        self.take_back();
    }
}

#[cfg(test)]
mod tests {
    //! Catches a thread that reads the wrong bytes, stops at an unreadable part or reads a dropped one, and a worker
    //! that waits for a part that is not started, or for a thread that has ended.

    use std::fs::File;

    use tempfile::TempDir;

    use super::*;

    /// A file of 100 bytes, 0 to 99.
    fn file() -> (TempDir, Arc<File>) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        std::fs::write(&path, (0..100).collect::<Vec<u8>>()).unwrap();
        let file = Arc::new(File::open(&path).unwrap());
        (folder, file)
    }

    fn part(file: &Arc<File>, offset: u64) -> ReadPart {
        ReadPart {
            file: Arc::clone(file),
            offset,
            buffer: vec![255; 14],
            room: 4..14,
            len: 0,
        }
    }

    /// Makes the thread wait for a turn that the test holds.
    fn hold_up(reads: &Reads, turn: &Arc<Turn>) {
        let thread = reads.thread.lock().unwrap();
        let Thread::Running(turns, _) = &*thread else {
            panic!("the thread has not been started");
        };
        turns.send(Arc::clone(turn)).unwrap();
    }

    #[test]
    fn parts_have_the_bytes_of_the_file() {
        let (_folder, file) = file();
        let reads = Reads::new();
        let asked: Vec<_> = (0..30).map(|n| reads.ask(part(&file, 4 * n))).collect();
        for (asked, from) in asked.iter().zip((0_u8..).step_by(4)) {
            let part = asked.read.recv().unwrap();
            let expected: Vec<u8> = (from..100).take(10).collect();
            assert_eq!(part.buffer[..4], [255; 4]);
            assert_eq!(part.buffer[4..4 + part.len], expected);
            assert!(asked.take_back().is_none());
        }
        reads.stop().unwrap();
    }

    #[test]
    fn what_cannot_be_read_comes_back_unread() {
        let (folder, file) = file();
        let closed = Arc::new(File::create(folder.path().join("closed")).unwrap());
        let reads = Reads::new();
        let asked = [reads.ask(part(&closed, 0)), reads.ask(part(&file, 0))];
        let len = |asked: &RequestedPart| asked.read.recv().unwrap().len;
        assert_eq!(asked.each_ref().map(len), [0, 10]);
        reads.stop().unwrap();
    }

    #[test]
    fn a_worker_takes_back_what_has_not_begun() {
        let (_folder, file) = file();
        let reads = Reads::new();
        reads.ask(part(&file, 0)).read.recv().unwrap();
        let turn: Arc<Turn> = Arc::default();
        let held = turn.lock().unwrap();
        hold_up(&reads, &turn);
        let (taken, dropped) = (reads.begin(part(&file, 7)), reads.begin(part(&file, 8)));
        let taken = taken.take().unwrap();
        assert_eq!((taken.offset, taken.len), (7, 0));
        drop((taken, dropped));
        // Only this reference is left: no buffer waits for the thread.
        assert_eq!(Arc::strong_count(&file), 1);
        drop(held);
        reads.stop().unwrap();
    }

    #[test]
    fn after_the_end_parts_come_back_unread() {
        let (_folder, file) = file();
        let thread = ReadingThread::new(0);
        let service = thread.service().unwrap();
        let before = service.begin(part(&file, 0));
        thread.stop().unwrap();
        assert_eq!(before.take().unwrap().offset, 0);
        let after = service.begin(part(&file, 9)).take().unwrap();
        assert_eq!((after.offset, after.len), (9, 0));
    }

    #[test]
    fn with_a_worker_for_each_core_there_is_none() {
        assert!(ReadingThread::new(usize::MAX).service().is_none());
    }
}
