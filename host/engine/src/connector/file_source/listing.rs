//! Lists the files that a configured path matches, and their lengths.
//!
//! Reads the disk and caches nothing. Symbolic links to files are followed; those to folders below the configured one
//! are not, so that no walk is endless.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use crate::connector::ConnectorError;

/// A configured path.
#[derive(Debug)]
pub(super) struct Listing {
    base: PathBuf,
    configured: PathBuf,
}

impl Listing {
    pub(super) fn new(base: &Path, configured: PathBuf) -> Self {
        Self {
            base: base.to_owned(),
            configured,
        }
    }

    /// Whether files can be added: not for a single file.
    pub(super) fn is_open(&self) -> bool {
        let path = self.path();
        path.is_dir() || (self.is_pattern() && !path.exists())
    }

    /// All files with their lengths, in the order of their paths' bytes.
    ///
    /// # Errors
    /// [`ConnectorError::NoInput`] when there is none, and the system's errors for files that cannot be read.
    pub(super) fn list(&self) -> Result<BTreeMap<OsString, u64>, ConnectorError> {
        let path = self.path();
        let mut files = BTreeMap::new();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => walk(&path, &mut files)?,
            Ok(_) => add(&path, &mut files)?,
            Err(error) if error.kind() == ErrorKind::NotFound && self.is_pattern() => {
                self.matches(&mut files)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(ConnectorError::io("read", &path)(error)),
        }
        if files.is_empty() {
            return Err(ConnectorError::NoInput { path });
        }
        Ok(files)
    }

    fn path(&self) -> PathBuf {
        self.base.join(&self.configured)
    }

    fn is_pattern(&self) -> bool {
        let bytes = self.configured.as_os_str().as_bytes();
        bytes.iter().any(|byte| b"*?[".contains(byte))
    }

    fn matches(&self, files: &mut BTreeMap<OsString, u64>) -> Result<(), ConnectorError> {
        let path = self.path();
        let refuse = |reason: String| {
            ConnectorError::io("match", &path)(io::Error::new(ErrorKind::InvalidInput, reason))
        };
        let (Some(base), Some(configured)) = (self.base.to_str(), self.configured.to_str()) else {
            return Err(refuse("a pattern has to be UTF-8".to_owned()));
        };
        // Only the text that the user wrote is a pattern, not the folder of the pipeline.
        let pattern = Path::new(&glob::Pattern::escape(base)).join(configured);
        let pattern = pattern.to_str().expect("two strings make a string");
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let found = glob::glob_with(pattern, options).map_err(|error| refuse(error.to_string()))?;
        for path in found {
            let path = path.map_err(|error| {
                let path = error.path().to_owned();
                ConnectorError::io("read", &path)(error.into())
            })?;
            if path.is_file() {
                add_if_there(&path, files)?;
            }
        }
        Ok(())
    }
}

/// The length of a readable file.
pub(super) fn length_of(path: &Path) -> Result<u64, ConnectorError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(ConnectorError::NoInput {
                path: path.to_owned(),
            });
        }
        found => found.map_err(ConnectorError::io("read", path))?,
    };
    // Opening a pipe would wait for its other end, so the file type is checked first.
    if metadata.file_type().is_fifo() {
        let reason = io::Error::new(
            ErrorKind::InvalidInput,
            "it is a pipe; read it as standard input, with `connector = \"stdin\"` and `<` before its name on the command line",
        );
        return Err(ConnectorError::io("read", path)(reason));
    }
    if !metadata.is_file() {
        let reason = io::Error::new(ErrorKind::InvalidInput, "it is not a regular file");
        return Err(ConnectorError::io("read", path)(reason));
    }
    File::open(path).map_err(ConnectorError::io("open", path))?;
    Ok(metadata.len())
}

fn walk(folder: &Path, files: &mut BTreeMap<OsString, u64>) -> Result<(), ConnectorError> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found.map_err(ConnectorError::io("read", &folder))?,
        };
        for entry in entries {
            let entry = entry.map_err(ConnectorError::io("read", &folder))?;
            if entry.file_name().as_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let kind = entry
                .file_type()
                .map_err(ConnectorError::io("read", &path))?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() || (kind.is_symlink() && path.is_file()) {
                add_if_there(&path, files)?;
            }
        }
    }
    Ok(())
}

fn add(path: &Path, files: &mut BTreeMap<OsString, u64>) -> Result<(), ConnectorError> {
    let len = length_of(path)?;
    files.insert(path.as_os_str().to_owned(), len);
    Ok(())
}

/// Skips a file that was removed since its folder was read.
fn add_if_there(path: &Path, files: &mut BTreeMap<OsString, u64>) -> Result<(), ConnectorError> {
    match add(path, files) {
        Err(ConnectorError::NoInput { .. }) => Ok(()),
        added => added,
    }
}
