//! Opens files that a user names, or that are in a data folder: regular files only, and of bounded size where the whole
//! content is read.
//!
//! A pipe would wait for its other end, and a device such as `/dev/zero` has no end. Links are followed if the user has
//! named the file, and refused in a data folder. Only short secrets may come through a pipe, within a time limit.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use crate::connector::regular_file;

/// Longest wait for the writer of a pipe: so often, and so long between two attempts.
const PIPE_ATTEMPTS: u32 = 200;
const PIPE_DELAY: Duration = Duration::from_millis(25);

/// Opens a file for reading, if it is a regular one.
///
/// # Errors
/// When it is something else, or the system refuses.
pub fn open(path: &Path) -> io::Result<File> {
    regular_file::open(path, 0)
}

/// Like [`open`], for a file of a data folder, which is not reached through a link.
///
/// # Errors
/// As [`open`], and when it is a symbolic link.
pub(super) fn open_own(path: &Path) -> io::Result<File> {
    regular_file::open(path, libc::O_NOFOLLOW).map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => io::Error::new(
            ErrorKind::InvalidInput,
            "it is a symbolic link, and a data folder has its own files; put the file itself there",
        ),
        _ => error,
    })
}

/// The text of a file.
///
/// # Errors
/// When it is not a regular file, is longer than `bytes_max` ([`ErrorKind::FileTooLarge`]) or not UTF-8, or the system
/// refuses.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    text_of(open(path)?, bytes_max)
}

/// Like [`read_text`], for a file of a data folder, which is not reached through a link.
///
/// # Errors
/// As [`read_text`], and when it is a symbolic link.
pub(super) fn read_own_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    text_of(open_own(path)?, bytes_max)
}

fn text_of(file: File, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = file.take(bytes_max + 1).read_to_string(&mut text)?;
    is_short(read, bytes_max)?;
    Ok(text)
}

fn is_short(read: usize, bytes_max: u64) -> io::Result<()> {
    if read as u64 <= bytes_max {
        return Ok(());
    }
    let limit = match bytes_max >> 20 {
        0 => format!("{bytes_max} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    };
    Err(io::Error::new(
        ErrorKind::FileTooLarge,
        format!("it has more than {limit}; is it the right file?"),
    ))
}

/// A short text from a regular file or a pipe: a shell gives a pipe for `<(…)`.
///
/// # Errors
/// When it is something else, longer than `bytes_max` or not UTF-8, nothing is written to the pipe for 5 seconds, also if
/// no process has opened it for that yet, or the system refuses.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing runs yet that could wait instead"
)]
pub fn read_short_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is neither a regular file nor a pipe",
        ));
    }
    let mut file = file.take(bytes_max + 1);
    let mut bytes = Vec::new();
    for _ in 0..PIPE_ATTEMPTS {
        match file.read_to_end(&mut bytes) {
            // A pipe without a writer seems to be at its end.
            Ok(_) if kind.is_fifo() && bytes.is_empty() => std::thread::sleep(PIPE_DELAY),
            Ok(_) => {
                is_short(bytes.len(), bytes_max)?;
                let not_text = |_| io::Error::new(ErrorKind::InvalidData, "it is not UTF-8");
                return String::from_utf8(bytes).map_err(not_text);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PIPE_DELAY),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        ErrorKind::TimedOut,
        "it is a pipe, and nothing is written to it, or its other end stays open",
    ))
}

#[cfg(test)]
mod tests {
    //! Catches a read that never ends, and one that ends at the limit as if the file did.

    use super::*;

    #[test]
    fn only_regular_files_of_the_right_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "text").unwrap();
        for read in [read_text, read_own_text, read_short_text] {
            assert_eq!(read(&path, 4).unwrap(), "text");
            let error = read(&path, 3).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
            for other in [Path::new("/dev/zero"), folder.path()] {
                let error = read(other, 4).unwrap_err().to_string();
                assert!(error.starts_with("it is n"), "{error}");
            }
        }
        let error = open(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.starts_with("it is not a regular file"), "{error}");
    }

    #[test]
    fn the_writer_of_a_pipe_may_come_late() {
        let folder = tempfile::tempdir().unwrap();
        let script = "mkfifo pipe && echo made && exec 1>&- && sleep 0.2 && echo secret > pipe";
        let mut writer = std::process::Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut made = String::new();
        let mut said = writer.stdout.take().unwrap();
        said.read_to_string(&mut made).unwrap();
        assert_eq!(made, "made\n");
        let read = read_short_text(&folder.path().join("pipe"), 100);
        assert_eq!(read.unwrap(), "secret\n");
        assert!(writer.wait().unwrap().success());
    }

    #[test]
    fn links_are_followed_if_the_user_has_named_them() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("text"), folder.path().join("link"));
        std::fs::write(&path, "text").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read_text(&link, 4).unwrap(), "text");
        let error = read_own_text(&link, 4).unwrap_err().to_string();
        assert!(error.starts_with("it is a symbolic link"), "{error}");
    }
}
