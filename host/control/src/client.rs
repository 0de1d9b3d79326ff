//! Calls a running job through the socket in its data folder.
//!
//! Implements only the part of HTTP that a server of the same program needs.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{FILE_NAME, reach};
use floodmark_engine::edge::data_dir;

/// Longest time to send a call to the job.
const WRITE_MAX: Duration = Duration::from_secs(5);
/// Longest time to wait for more of an answer to a call that only reads. Operations take as long as they take.
const READ_MAX: Duration = Duration::from_secs(10);
/// Number of attempts to connect while a process holds the data folder, and the time between two: a job that has just
/// begun makes its socket soon.
const CONNECT_ATTEMPTS: u32 = 20;
const CONNECT_DELAY: Duration = Duration::from_millis(25);
/// Longest time to wait for a job that takes no calls, since as many as its socket can hold wait already.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often a caller that waits is called.
const WAITING_EVERY: Duration = Duration::from_secs(1);
/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The reason why a call has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No job listens on the folder.
    #[error("no job runs on the data folder `{}`", folder.display())]
    NotRunning {
        /// The data folder of the job.
        folder: PathBuf,
    },
    /// A process holds the folder, but has no socket there.
    #[error("{}", no_socket(folder, *process))]
    NoSocket {
        /// The data folder of the job.
        folder: PathBuf,
        /// The id of the process, if it is known.
        process: Option<u32>,
    },
    /// An I/O error.
    #[error("cannot talk to the job on `{}`: {source}", folder.display())]
    Io {
        /// The data folder of the job.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A job listens, and takes no call, or does not answer one that only reads.
    #[error(
        "the job on `{}` ({}) has not answered for {} seconds; its process may be suspended, or have no time: look at it, or continue it with `kill -CONT`",
        folder.display(),
        process.map_or("process unknown".to_owned(), |process| format!("process {process}")),
        after.as_secs()
    )]
    Slow {
        /// The data folder of the job.
        folder: PathBuf,
        /// The process that holds the folder, if known.
        process: Option<u32>,
        /// The time that it had.
        after: Duration,
    },
    /// The job refused the call.
    #[error("{message}")]
    Refused {
        /// The reason as a code for programs.
        code: String,
        /// The reason as a sentence for people.
        message: String,
    },
    /// The job ended without an answer, or its answer cannot be read.
    #[error(
        "the job on `{}` did not answer, so it is unknown whether it carried out the request; check with `floodmark checkpoint list`",
        folder.display()
    )]
    Silent {
        /// The data folder of the job.
        folder: PathBuf,
    },
}

fn no_socket(folder: &Path, process: Option<u32>) -> String {
    let (name, end) = match process {
        Some(id) => (
            format!("process {id}"),
            format!("end it with `kill {id}`, which stops a running job with a checkpoint"),
        ),
        None => ("a process".to_owned(), "end it".to_owned()),
    };
    format!(
        "{name} uses the data folder `{}`, but has no `{FILE_NAME}` there: a job that is starting makes it soon, and a job whose socket was removed makes it again within seconds; try again, or {end}",
        folder.display()
    )
}

/// Connects to the socket in a data folder.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing runs here that could wait instead"
)]
fn connect(folder: &Path) -> Result<UnixStream, AskError> {
    let mut attempts = 1;
    loop {
        let source = match reach(folder, FILE_NAME, connect_at_once) {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let is_full = source.kind() == io::ErrorKind::WouldBlock;
        if is_full && attempts * CONNECT_DELAY < CONNECT_MAX {
            attempts += 1;
            std::thread::sleep(CONNECT_DELAY);
            continue;
        }
        if is_full {
            return Err(slow(folder, CONNECT_MAX));
        }
        let is_absent = matches!(
            source.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
        );
        let folder = folder.to_path_buf();
        if !is_absent {
            return Err(AskError::Io { folder, source });
        }
        if !data_dir::is_held(&folder) {
            return Err(AskError::NotRunning { folder });
        }
        if attempts >= CONNECT_ATTEMPTS {
            let process = data_dir::holder_of(&folder);
            return Err(AskError::NoSocket { folder, process });
        }
        attempts += 1;
        std::thread::sleep(CONNECT_DELAY);
    }
}

/// Connects, or fails at once: a plain call to connect waits without a time limit while the socket is full.
fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let connected = runtime.block_on(tokio::net::UnixStream::connect(path))?;
    let stream = connected.into_std()?;
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn slow(folder: &Path, after: Duration) -> AskError {
    AskError::Slow {
        folder: folder.to_path_buf(),
        process: data_dir::holder_of(folder),
        after,
    }
}

/// Calls the job that runs on a data folder, and waits for the answer. A call without a body only reads, and has a time
/// limit.
///
/// # Errors
/// See [`AskError`]. [`AskError::NotRunning`] and [`AskError::NoSocket`] mean that no call was made.
pub fn ask(folder: &Path, path: &str, body: Option<&Value>) -> Result<Value, AskError> {
    call(folder, path, body, None)
}

/// As [`ask`], and calls `waiting` about once a second until the answer is there.
///
/// # Errors
/// As [`ask`].
pub fn ask_while(
    folder: &Path,
    path: &str,
    body: &Value,
    waiting: &mut dyn FnMut(),
) -> Result<Value, AskError> {
    call(folder, path, Some(body), Some(waiting))
}

fn call(
    folder: &Path,
    path: &str,
    body: Option<&Value>,
    waiting: Option<&mut dyn FnMut()>,
) -> Result<Value, AskError> {
    let io = |source| AskError::Io {
        folder: folder.to_path_buf(),
        source,
    };
    let mut stream = connect(folder)?;
    stream.set_write_timeout(Some(WRITE_MAX)).map_err(io)?;
    stream
        .write_all(request(path, body).as_bytes())
        .map_err(io)?;
    let timeout = match (body, &waiting) {
        (None, _) => Some(READ_MAX),
        (Some(_), Some(_)) => Some(WAITING_EVERY),
        (Some(_), None) => None,
    };
    stream.set_read_timeout(timeout).map_err(io)?;
    let answer = read(stream, waiting);
    if let Err(error) = &answer
        && matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        )
    {
        return Err(slow(folder, READ_MAX));
    }
    let parsed = answer.ok().and_then(|answer| parse(&answer));
    let (status, value) = parsed.ok_or_else(|| AskError::Silent {
        folder: folder.to_path_buf(),
    })?;
    if status == 200 {
        return Ok(value);
    }
    let text = |field: &str| {
        value["error"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    Err(AskError::Refused {
        code: text("code"),
        message: text("message"),
    })
}

/// Reads to the end. With `waiting`, the stream has a time limit for a read.
fn read(stream: UnixStream, mut waiting: Option<&mut dyn FnMut()>) -> io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    let mut stream = stream.take(ANSWER_BYTES_MAX);
    loop {
        match (stream.read_to_end(&mut answer), &mut waiting) {
            (Ok(_), _) => return Ok(answer),
            (Err(error), Some(waiting)) if error.kind() == io::ErrorKind::WouldBlock => waiting(),
            (Err(error), _) => return Err(error),
        }
    }
}

fn request(path: &str, body: Option<&Value>) -> String {
    match body {
        None => format!("GET {path} HTTP/1.1\r\nhost: floodmark\r\nconnection: close\r\n\r\n"),
        Some(body) => {
            let body = body.to_string();
            format!(
                "POST {path} HTTP/1.1\r\nhost: floodmark\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
    }
}

/// The status and body. The server closes the connection after an answer, so it ends with the body.
fn parse(answer: &[u8]) -> Option<(u16, Value)> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = serde_json::from_slice(&answer[end + 4..]).ok()?;
    Some((status, body))
}
