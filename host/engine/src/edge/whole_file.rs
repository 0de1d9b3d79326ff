//! Writes a file as a whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;

/// The path of a file to write, in a folder that can be written.
#[derive(Debug)]
pub struct WholeFile {
    path: PathBuf,
    unfinished: PathBuf,
    /// The mode of the new file, before the umask.
    mode: u32,
}

impl WholeFile {
    /// Checks that a file can be written at this path. An existing file stays until the new one is written.
    ///
    /// # Errors
    /// When the folder is missing or cannot be written, or the path is a folder.
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o666)
    }

    /// Like [`WholeFile::at`], for a file that only this user may read.
    pub(super) fn private(path: &Path) -> io::Result<Self> {
        Self::with_mode(path, 0o600)
    }

    fn with_mode(path: &Path, mode: u32) -> io::Result<Self> {
        if path.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let unfinished = format!(".{}.{}", name.to_string_lossy(), process::id());
        let file = Self {
            path: path.to_path_buf(),
            unfinished: path.with_file_name(unfinished),
            mode,
        };
        file.put(b"")?;
        fs::remove_file(&file.unfinished)?;
        Ok(file)
    }

    /// The path as given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file under another name and renames it.
    ///
    /// # Errors
    /// When the system refuses. An existing file is unchanged.
    pub fn write(self, content: &[u8]) -> io::Result<()> {
        let written = self.put(content);
        let written = written.and_then(|()| fs::rename(&self.unfinished, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&self.unfinished);
        }
        written
    }

    fn put(&self, content: &[u8]) -> io::Result<()> {
        // Left by an earlier process with the same id.
        let _ = fs::remove_file(&self.unfinished);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(&self.unfinished)?;
        file.write_all(content)
    }
}

#[cfg(test)]
mod tests {
    //! Catches a file that is only half written, and one that is lost although nothing was written.

    use super::*;

    #[test]
    fn it_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.svg");
        fs::write(&path, "before").expect("writable");
        let file = WholeFile::at(&path).expect("it can be written");
        assert_eq!(fs::read(&path).expect("readable"), b"before");
        file.write(b"after").expect("it can be written");
        assert_eq!(fs::read(&path).expect("readable"), b"after");
        let names = fs::read_dir(folder.path()).expect("readable");
        assert_eq!(names.count(), 1, "nothing else is left");
        for impossible in [
            folder.path(),
            &folder.path().join("none/a.svg"),
            Path::new("/"),
        ] {
            assert!(
                WholeFile::at(impossible).is_err(),
                "{}",
                impossible.display()
            );
        }
    }
}
