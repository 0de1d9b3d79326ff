//! Calls a running job through the socket in its data folder.
//!
//! Implements only the part of HTTP that a server of the same program needs.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{FILE_NAME, reach};

/// Longest time to send a call to the job.
const WRITE_MAX: Duration = Duration::from_secs(5);
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
    /// An I/O error.
    #[error("cannot talk to the job on `{}`: {source}", folder.display())]
    Io {
        /// The data folder of the job.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
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

/// Calls the job that runs on a data folder, and waits for the answer without a time limit. A call without a body only
/// reads.
///
/// # Errors
/// See [`AskError`]. [`AskError::NotRunning`] means that no call was made.
pub fn ask(folder: &Path, path: &str, body: Option<&Value>) -> Result<Value, AskError> {
    let io = |source| AskError::Io {
        folder: folder.to_path_buf(),
        source,
    };
    let mut stream =
        reach(folder, FILE_NAME, |path| UnixStream::connect(path)).map_err(|error| match error
            .kind()
        {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning {
                folder: folder.to_path_buf(),
            },
            _ => io(error),
        })?;
    stream.set_write_timeout(Some(WRITE_MAX)).map_err(io)?;
    stream
        .write_all(request(path, body).as_bytes())
        .map_err(io)?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    let parsed = read.ok().and_then(|_| parse(&answer));
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
