//! Opens files that a user names: regular files only, and of bounded size where the whole content is read.
//!
//! A pipe would wait for its other end, and a device such as `/dev/zero` has no end. Links are followed: the user has
//! named the file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a file for reading, if it is a regular one.
///
/// # Errors
/// When it is something else, or the system refuses.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        // Else opening a pipe would wait. For regular files it has no effect.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file; copy its content into one",
        )),
    }
}

/// The text of a file.
///
/// # Errors
/// When it is not a regular file, is longer than `bytes_max` or not UTF-8, or the system refuses.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if read as u64 > bytes_max {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it has more than {} MiB; split it", bytes_max >> 20),
        ));
    }
    Ok(text)
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
        assert_eq!(read_text(&path, 4).unwrap(), "text");
        let error = read_text(&path, 3).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        for other in [Path::new("/dev/zero"), folder.path()] {
            let error = open(other).unwrap_err().to_string();
            assert!(error.starts_with("it is not a regular file"), "{error}");
        }
    }
}
