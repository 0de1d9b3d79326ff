//! Watches the folders of followed files with inotify, on one thread, and wakes the workers whose readers listen.
//!
//! Folders are watched, not files: 20,000 files in a folder are one watch. The thread starts with the first watch, and
//! pauses for a millisecond after each notification, so that a file which is written all the time does not keep it
//! busy. It decides nothing: what a reader does with a path is its own matter.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::clock::Clock;
use crate::connector::folder_events::{FolderEvents, FolderListener, FolderNews};
use crate::runtime::JobError;
use crate::runtime::exchange::Wake;

/// The pause after a notification.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};
/// Room for notifications that are read at once.
const READ_BYTES: usize = 16 << 10;
/// Changed paths that are kept for a reader; with more, it looks at all files.
const PATHS_MAX: usize = 4096;

/// The thread, and what it watches.
pub(super) struct WatchingThread {
    watching: Arc<FolderWatches>,
    clock: Clock,
}

struct FolderWatches {
    state: Mutex<WatchState>,
}

/// - `listeners` has the folders of each watch, with the names by which they were given.
#[derive(Default)]
struct WatchState {
    running: Option<RunningWatch>,
    is_over: bool,
    listeners: BTreeMap<i32, Vec<(PathBuf, Arc<Inbox>)>>,
}

struct RunningWatch {
    inotify: Arc<OwnedFd>,
    /// The thread ends when this is dropped.
    stop: PipeWriter,
    thread: JoinHandle<()>,
}

/// What has changed for one listener.
struct Inbox {
    news: Mutex<FolderNews>,
    has_news: AtomicBool,
    bell: Arc<dyn Wake>,
}

/// The service for the readers of one worker.
struct WorkerEvents {
    watching: Arc<FolderWatches>,
    clock: Clock,
    bell: Arc<dyn Wake>,
}

struct Listener {
    watching: Arc<FolderWatches>,
    inbox: Arc<Inbox>,
}

impl WatchingThread {
    pub(super) fn new(clock: Clock) -> Self {
        let state = Mutex::default();
        Self {
            watching: Arc::new(FolderWatches { state }),
            clock,
        }
    }

    /// The service for the readers of a worker, which this bell wakes.
    pub(super) fn service(&self, bell: Arc<dyn Wake>) -> Arc<dyn FolderEvents> {
        Arc::new(WorkerEvents {
            watching: Arc::clone(&self.watching),
            clock: self.clock,
            bell,
        })
    }

    /// Stops the thread. Later changes are not noticed.
    pub(super) fn stop(self) -> Result<(), JobError> {
        let mut state = self.watching.lock();
        state.is_over = true;
        state.listeners.clear();
        let running = state.running.take();
        drop(state);
        let Some(running) = running else {
            return Ok(());
        };
        drop(running.stop);
        running.thread.join().map_err(|_| JobError::Defect {
            what: "the thread that watches folders",
        })
    }
}

impl FolderEvents for WorkerEvents {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn listen(&self) -> Box<dyn FolderListener> {
        Box::new(Listener {
            watching: Arc::clone(&self.watching),
            inbox: Arc::new(Inbox {
                news: Mutex::default(),
                has_news: AtomicBool::new(false),
                bell: Arc::clone(&self.bell),
            }),
        })
    }
}

impl FolderListener for Listener {
    fn watch(&mut self, folder: &Path) -> io::Result<()> {
        match self.watching.watch(folder, &self.inbox) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn has_news(&self) -> bool {
        self.inbox.has_news.load(Ordering::Acquire)
    }

    fn take(&mut self) -> FolderNews {
        let mut news = self.inbox.lock();
        self.inbox.has_news.store(false, Ordering::Release);
        std::mem::take(&mut *news)
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, FolderNews> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change; without a path, something is unknown.
    fn add(&self, path: Option<PathBuf>, names_changed: bool) {
        let mut news = self.lock();
        news.names_changed |= names_changed;
        match path {
            Some(path) if news.paths.len() < PATHS_MAX => {
                news.paths.insert(path);
            }
            _ => news.names_changed = true,
        }
        self.has_news.store(true, Ordering::Release);
    }
}

impl FolderWatches {
    fn lock(&self) -> MutexGuard<'_, WatchState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(self: &Arc<Self>, folder: &Path, inbox: &Arc<Inbox>) -> Result<(), Errno> {
        let mut state = self.lock();
        if state.is_over {
            return Ok(());
        }
        let inotify = match &state.running {
            Some(running) => Arc::clone(&running.inotify),
            None => {
                let running = self.start()?;
                let inotify = Arc::clone(&running.inotify);
                state.running = Some(running);
                inotify
            }
        };
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let opened = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        let watch = inotify::add_watch(&*inotify, opened, flags)?;
        let listeners = state.listeners.entry(watch).or_default();
        let is_known =
            |(path, own): &(PathBuf, Arc<Inbox>)| path == folder && Arc::ptr_eq(own, inbox);
        if !listeners.iter().any(is_known) {
            listeners.push((folder.to_owned(), Arc::clone(inbox)));
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    fn start(self: &Arc<Self>) -> Result<RunningWatch, Errno> {
        let inotify = Arc::new(inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?);
        let stop = io::pipe();
        let (over, stop) =
            stop.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        let (watching, own) = (Arc::clone(self), Arc::clone(&inotify));
        let thread = std::thread::spawn(move || watching.work(&own, &over));
        Ok(RunningWatch {
            inotify,
            stop,
            thread,
        })
    }

    /// Passes on notifications until the other end of `over` is closed. If the system fails, readers find no more news,
    /// and look for themselves at their longest interval.
    fn work(&self, inotify: &OwnedFd, over: &PipeReader) {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            let mut fds = [
                PollFd::new(inotify, PollFlags::IN),
                PollFd::new(over, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            if !fds[1].revents().is_empty() {
                return;
            }
            let mut woken: Vec<Arc<Inbox>> = Vec::new();
            let mut events = inotify::Reader::new(inotify, &mut room);
            while let Ok(event) = events.next() {
                let name = event
                    .file_name()
                    .map(|name| OsStr::from_bytes(name.to_bytes()));
                self.deliver(event.wd(), event.events(), name, &mut woken);
            }
            for inbox in woken {
                inbox.bell.wake();
            }
            let _ = poll(&mut [PollFd::new(over, PollFlags::IN)], Some(&PAUSE));
        }
    }

    /// Puts a notification into the inboxes of its folder.
    fn deliver(
        &self,
        watch: i32,
        flags: ReadFlags,
        name: Option<&OsStr>,
        woken: &mut Vec<Arc<Inbox>>,
    ) {
        let mut state = self.lock();
        let names_changed = !(ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE).contains(flags);
        let mut tell = |path: Option<PathBuf>, inbox: &Arc<Inbox>| {
            inbox.add(path, names_changed);
            if !woken.iter().any(|other| Arc::ptr_eq(other, inbox)) {
                woken.push(Arc::clone(inbox));
            }
        };
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            for (_, inbox) in state.listeners.values().flatten() {
                tell(None, inbox);
            }
            return;
        }
        for (folder, inbox) in state.listeners.get(&watch).into_iter().flatten() {
            tell(name.map(|name| folder.join(name)), inbox);
        }
        if flags.contains(ReadFlags::IGNORED) {
            // The folder is gone.
            state.listeners.remove(&watch);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches a change that wakes no worker or names another path, and a thread that does not end.

    use std::fs;
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;

    /// A bell that a test hears.
    struct TestBell(Mutex<mpsc::Sender<()>>);

    impl Wake for TestBell {
        fn wake(&self) {
            let _ = self.0.lock().unwrap().send(());
        }
    }

    #[test]
    fn changes_wake_the_worker_and_are_named() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, "").unwrap();
        let (sender, woken) = mpsc::channel();
        let thread = WatchingThread::new(Clock::start());
        let service = thread.service(Arc::new(TestBell(Mutex::new(sender))));
        let mut listener = service.listen();
        listener.watch(folder.path()).unwrap();
        listener.watch(&folder.path().join("nothing")).unwrap();
        assert!(!listener.has_news());
        fs::write(&path, "more").unwrap();
        woken.recv().unwrap();
        assert!(listener.has_news());
        assert!(listener.take().paths.contains(&path));
        fs::rename(&path, folder.path().join("g")).unwrap();
        let mut news = FolderNews::default();
        while !news.paths.contains(&folder.path().join("g")) {
            woken.recv().unwrap();
            let more = listener.take();
            news.names_changed |= more.names_changed;
            news.paths.extend(more.paths);
        }
        assert!(news.names_changed && news.paths.contains(&path));
        thread.stop().unwrap();
        listener.watch(folder.path()).unwrap();
        fs::write(folder.path().join("g"), "late").unwrap();
        assert!(!listener.has_news());
    }

    #[test]
    fn a_thread_that_never_began_stops() {
        WatchingThread::new(Clock::start()).stop().unwrap();
    }
}
