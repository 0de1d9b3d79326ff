//! Listens on the socket and on TCP, and serves all calls on one thread.
//!
//! The socket belongs to the process that holds the folder's lock, which removes a leftover one, and makes its own again
//! when that was removed. Each door has a limit
//! on open connections; further ones are refused with an answer. A call that waits for the job costs the job one
//! report.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::address::{Listen, ListenError};
use super::connection::{ConnectionContext, Peer, Stream, talk, turn_away};
use super::guard::Guard;
use super::routes::Routes;
use super::{FILE_NAME, reach};

/// Largest number of open connections of a door.
const CONNECTIONS_MAX: usize = 32;
/// Connections beyond it that get an answer; more are closed without one.
const TURNED_AWAY_MAX: usize = 32;
/// Largest number of calls that wait for the job.
const WAITING_MAX: usize = 16;
/// How often the server looks whether its socket is still there.
const SOCKET_LOOK: Duration = Duration::from_secs(2);
/// The name of the socket while its mode is being set.
const NEW_FILE_NAME: &str = "control.new";

/// Counts the calls that wait for the job, and numbers all calls.
#[derive(Default)]
pub(super) struct OpenCalls {
    numbers: AtomicU64,
    waiting: Mutex<usize>,
    fewer: Condvar,
}

/// A call that waits for the job, or whose answer is not sent yet.
pub(super) struct Busy(Arc<OpenCalls>);

impl OpenCalls {
    /// A number that no other call has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts another call; `None` if there are too many.
    pub(super) fn begin(open: &Arc<Self>, is_always_heard: bool) -> Option<Busy> {
        let mut waiting = open.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *waiting >= WAITING_MAX && !is_always_heard {
            return None;
        }
        *waiting += 1;
        Some(Busy(Arc::clone(open)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut waiting = self
            .0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        self.0.fewer.notify_all();
    }
}

/// Listeners that are not served yet.
#[derive(Default)]
pub struct Doors {
    /// The socket, and the folder that it is in.
    socket: Option<(UnixListener, PathBuf)>,
    tcp: Option<(TcpListener, Guard)>,
}

impl Doors {
    /// Listens on a socket in a data folder that this process holds.
    ///
    /// # Errors
    /// When the system refuses: the socket cannot be used then.
    pub fn on_socket(&mut self, folder: &Path) -> io::Result<()> {
        self.socket = Some((bind(folder)?, folder.to_path_buf()));
        Ok(())
    }

    /// Listens on TCP. Returns the address with the actual port, if any port was requested.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn on_tcp(&mut self, listen: &Listen) -> Result<SocketAddr, ListenError> {
        let bound = TcpListener::bind(listen.address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (address, listener) = bound.map_err(|source| ListenError::Bind {
            address: listen.address,
            source,
        })?;
        let token = listen.token.clone();
        self.tcp = Some((listener, Guard::Tcp { token }));
        Ok(address)
    }

    /// Serves calls until the returned value is dropped.
    ///
    /// # Errors
    /// When the system refuses: no calls are served then.
    pub fn open(self, routes: Routes) -> io::Result<Serving> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let open = Arc::new(OpenCalls::default());
        let routes = Arc::new(routes);
        let desk = |guard| {
            Arc::new(ConnectionContext {
                guard,
                routes: Arc::clone(&routes),
                open: Arc::clone(&open),
            })
        };
        let (closing, closed) = oneshot::channel::<()>();
        let mut path = None;
        let entered = runtime.enter();
        if let Some((listener, folder)) = self.socket {
            path = Some(folder.join(FILE_NAME));
            let listener = tokio::net::UnixListener::from_std(listener)?;
            runtime.spawn(keep_socket(folder, listener, desk(Guard::Socket)));
        }
        if let Some((listener, guard)) = self.tcp {
            let door = Door::Tcp(tokio::net::TcpListener::from_std(listener)?);
            runtime.spawn(door.serve(desk(guard)));
        }
        drop(entered);
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                // A message or a dropped sender means that serving ends.
                let _ = runtime.block_on(closed);
            })?;
        Ok(Serving {
            path,
            open,
            _closing: closing,
        })
    }
}

/// Listens on a new socket in a folder, in place of one that is there.
fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = folder.join(FILE_NAME);
    let new = folder.join(NEW_FILE_NAME);
    for left in [&path, &new] {
        match fs::remove_file(left) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // It gets its final name only after its mode restricts it to the owner.
    let listener = reach(folder, NEW_FILE_NAME, |path| UnixListener::bind(path))?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&new, Permissions::from_mode(0o600))?;
    fs::rename(&new, &path)?;
    Ok(listener)
}

/// Serves the socket in a folder, and makes it again when its file is gone: users and programs clean folders. A file that
/// is there is left alone, since in a folder that was made again it may belong to another job.
async fn keep_socket(
    folder: PathBuf,
    listener: tokio::net::UnixListener,
    desk: Arc<ConnectionContext>,
) {
    let mut served = tokio::spawn(Door::Socket(listener).serve(Arc::clone(&desk)));
    loop {
        tokio::time::sleep(SOCKET_LOOK).await;
        match fs::symlink_metadata(folder.join(FILE_NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => continue,
        }
        // If the folder is gone too, the next look tries again.
        let made = bind(&folder).and_then(tokio::net::UnixListener::from_std);
        if let Ok(listener) = made {
            served.abort();
            served = tokio::spawn(Door::Socket(listener).serve(Arc::clone(&desk)));
        }
    }
}

/// A socket that accepts connections.
enum Door {
    Socket(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Door {
    async fn next(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        Ok(match self {
            Self::Socket(listener) => {
                let stream = listener.accept().await?.0.into_std()?;
                // Without a second descriptor it is served all the same.
                let peer = stream.try_clone().and_then(Peer::of);
                let stream = tokio::net::UnixStream::from_std(stream)?;
                let stream: Box<dyn Stream> = Box::new(stream);
                (stream, peer.unwrap_or_else(|_| Peer::unknown()))
            }
            Self::Tcp(listener) => {
                let stream: Box<dyn Stream> = Box::new(listener.accept().await?.0);
                (stream, Peer::unknown())
            }
        })
    }

    async fn serve(self, desk: Arc<ConnectionContext>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let doorstep = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
        loop {
            let Ok((stream, peer)) = self.next().await else {
                // With too many open files, retries only after a pause.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    talk(stream, &peer, desk).await;
                    drop(place);
                });
            } else if let Ok(place) = Arc::clone(&doorstep).try_acquire_owned() {
                tokio::spawn(async move {
                    turn_away(stream).await;
                    drop(place);
                });
            }
        }
    }
}

/// Serves calls until it is dropped.
pub struct Serving {
    path: Option<PathBuf>,
    open: Arc<OpenCalls>,
    _closing: oneshot::Sender<()>,
}

impl Serving {
    /// Waits until all accepted calls are answered, including savepoints. The job must have ended.
    pub fn finish(self) {
        let waiting = self.open.waiting.lock();
        let waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        drop(self.open.fewer.wait_while(waiting, |waiting| *waiting > 0));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The next job removes a leftover socket.
            let _ = fs::remove_file(path);
        }
    }
}
