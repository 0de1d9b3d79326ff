//! The side of the socket that answers.
//!
//! A request costs the job no more than one report: reading, waiting and answering happen on a thread a connection, of
//! which there are few at once. Whoever is slow, sends too much or what is no request is answered with an error or dropped;
//! nothing of that reaches the job. The socket belongs to the holder of the folder's lock, who removes one that was left
//! behind.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::super::clock::Clock;
use super::super::drive::Reports;
use super::changes::{self, Rollbacks};
use super::{FILE_NAME, LINE_BYTES_MAX, Request, Response, TALK_MAX, reach_as};
use crate::runtime::report::{Asker, Report};
use crate::stream::CheckpointId;

/// Connections at once; more are closed unheard.
const CONNECTIONS_MAX: usize = 8;
/// The name of the socket before it may be used.
const NEW_FILE_NAME: &str = "control.new";

/// Copies a checkpoint to a file.
pub type Savepoints = Arc<dyn Fn(CheckpointId, &Path) -> Result<(), String> + Send + Sync>;

/// A job that can be asked, until this is dropped.
pub struct Listening {
    path: PathBuf,
    open: Arc<Open>,
}

/// The connections that are open.
#[derive(Default)]
struct Open {
    counts: Mutex<Counts>,
    fewer: Condvar,
}

#[derive(Default)]
struct Counts {
    connections: usize,
    /// Of them, those with a request that the job has heard.
    busy: usize,
    /// Whether a stop was answered with a savepoint.
    stopped_with_savepoint: bool,
}

impl Open {
    fn change<T>(&self, change: impl FnOnce(&mut Counts) -> T) -> T {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut counts);
        self.fewer.notify_all();
        changed
    }
}

impl Listening {
    /// Waits until all that the job has heard is answered, the job being over: savepoints are made then. Returns whether
    /// one was, of the last checkpoint.
    #[must_use]
    pub fn finish(self) -> bool {
        let counts = self.open.counts.lock();
        let counts = counts.unwrap_or_else(PoisonError::into_inner);
        let counts = self.open.fewer.wait_while(counts, |counts| counts.busy > 0);
        let counts = counts.unwrap_or_else(PoisonError::into_inner);
        counts.stopped_with_savepoint
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // One that stays behind is removed by the next job.
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens on the socket of a data folder that this process holds.
///
/// # Errors
/// When the system refuses: the job cannot be asked then.
#[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
pub fn listen(
    folder: &Path,
    reports: Reports,
    savepoints: Savepoints,
    rollbacks: Rollbacks,
) -> io::Result<Listening> {
    let folder = folder.to_path_buf();
    let path = folder.join(FILE_NAME);
    let new = folder.join(NEW_FILE_NAME);
    for left in [&path, &new] {
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // Nobody finds it before it is the owner's alone.
    let listener = reach_as(&folder, NEW_FILE_NAME, |path| UnixListener::bind(path))?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, &path)?;
    let open = Arc::new(Open::default());
    let listening = Listening {
        path,
        open: Arc::clone(&open),
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A connection that fails is its owner's concern. With too many files open, it is not tried without a break.
            let Ok(stream) = stream else {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let has_room = open.change(|counts| {
                counts.connections += 1;
                counts.connections <= CONNECTIONS_MAX
            });
            let connection = Connection {
                open: Arc::clone(&open),
                reports: reports.clone(),
                savepoints: Arc::clone(&savepoints),
                rollbacks: Arc::clone(&rollbacks),
                folder: folder.clone(),
            };
            if has_room {
                std::thread::spawn(move || connection.talk(stream));
            }
        }
    });
    Ok(listening)
}

/// One connection, counted as long as it lives.
struct Connection {
    open: Arc<Open>,
    reports: Reports,
    savepoints: Savepoints,
    rollbacks: Rollbacks,
    folder: PathBuf,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.change(|counts| counts.connections -= 1);
    }
}

/// A request that the job has heard and that is not answered yet.
struct Busy<'a>(&'a Open);

impl<'a> Busy<'a> {
    fn new(open: &'a Open) -> Self {
        open.change(|counts| counts.busy += 1);
        Self(open)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.change(|counts| counts.busy -= 1);
    }
}

impl Connection {
    fn talk(&self, mut stream: UnixStream) {
        let Ok(line) = read_line(&mut stream) else {
            return;
        };
        // Until the answer is on its way, the process does not end.
        let busy = Busy::new(&self.open);
        let response = match serde_json::from_slice(&line) {
            Ok(request) => self.respond(request),
            Err(error) => Response::Error(format!("this is no request: {error}")),
        };
        let mut answer = serde_json::to_vec(&response).expect("an answer is a number or a text");
        answer.push(b'\n');
        // Whoever does not take the answer gets none.
        let _ = stream.write_all(&answer);
        drop(busy);
    }

    fn respond(&self, request: Request) -> Response {
        let (asker, answer) = Asker::new();
        let (report, savepoint, stops) = match request {
            Request::Checkpoint { savepoint } => (Report::CheckpointAsked(asker), savepoint, false),
            Request::Stop { drain, savepoint } => {
                let asker = Some(asker);
                (Report::StopAsked { drain, asker }, savepoint, true)
            }
            Request::Rescale { parallelism } => {
                let done = changes::rescale(&self.reports, parallelism);
                return done.map_or_else(Response::Error, Response::Done);
            }
            Request::Rollback { to } => {
                let (reports, to) = (&self.reports, CheckpointId(to));
                let done = changes::roll_back(reports, &self.rollbacks, &self.folder, to);
                return done.map_or_else(Response::Error, Response::Done);
            }
        };
        if savepoint.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Response::Error("the path of a savepoint has to be absolute".to_owned());
        }
        // A job that is over takes no report, and drops whoever asks.
        let _ = self.reports.send(report);
        let id = match answer.recv() {
            Ok(Ok(id)) => id,
            Ok(Err(reason)) => return Response::Error(reason),
            Err(_) => {
                return Response::Error(
                    "the job ended before it could do that; its last checkpoint is kept".to_owned(),
                );
            }
        };
        let Some(path) = savepoint else {
            return Response::Checkpoint(id.0);
        };
        match (self.savepoints)(id, &path) {
            Ok(()) => {
                self.open
                    .change(|counts| counts.stopped_with_savepoint |= stops);
                Response::Checkpoint(id.0)
            }
            Err(reason) => Response::Error(format!(
                "checkpoint {id} is there, but not the savepoint: {reason}"
            )),
        }
    }
}

/// The first line, if it comes in time and is short enough.
fn read_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let clock = Clock::start();
    let mut line = Vec::new();
    let mut piece = [0; 1024];
    stream.set_write_timeout(Some(TALK_MAX))?;
    loop {
        let left = TALK_MAX.saturating_sub(clock.now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let len = stream.read(&mut piece)?;
        let end = piece[..len].iter().position(|&byte| byte == b'\n');
        line.extend_from_slice(&piece[..end.unwrap_or(len)]);
        if end.is_some() {
            return Ok(line);
        }
        if len == 0 || line.len() as u64 > LINE_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}
