//! Opens regular files, and nothing else: a pipe would wait for its other end, and a device such as `/dev/zero` has no end.
//!
//! For files that a connector or a job has written itself. Inputs of sources are checked where they are listed.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file for reading, with more flags for the system.
///
/// # Errors
/// When it is not a regular file, or the system refuses.
pub(crate) fn open(path: &Path, flags: i32) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        // Else opening a pipe would wait. For regular files it has no effect.
        .custom_flags(libc::O_NONBLOCK | flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file; copy its content into one",
        )),
    }
}

/// The content of a file.
///
/// # Errors
/// When it is not a regular file, or the system refuses.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path, 0)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
