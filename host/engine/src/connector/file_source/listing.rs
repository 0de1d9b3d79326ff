//! Lists the files that a configured path matches, and reads the few bytes by which they are told apart.
//!
//! Reads the disk and caches nothing. Symbolic links to files are followed. Those to folders are not, where a walk finds
//! the folder by itself, so that no walk is endless.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::identity::{FileFacts, FileKey, Fingerprint, PRINT_BYTES};
use super::pattern::{PathPattern, PatternPart, is_hidden};
use crate::connector::ConnectorError;
use crate::connector::read_ahead::read_at;

/// Files by their paths.
pub(super) type FilesByPath = BTreeMap<PathBuf, FileFacts>;

/// What a walk has found.
#[derive(Debug, Default)]
pub(super) struct WalkedFiles {
    pub(super) files: FilesByPath,
    pub(super) folders: BTreeSet<PathBuf>,
}

/// A configured path.
#[derive(Debug)]
pub(super) struct Listing {
    path: PathBuf,
    /// `Some` if there are signs of a pattern in it, with the reason if it is not one.
    pattern: Option<Result<PathPattern, String>>,
}

impl Listing {
    pub(super) fn new(base: &Path, configured: &Path) -> Self {
        let is_pattern = PathPattern::is_in(configured);
        Self {
            // Without `.` in it, as restored paths are.
            path: base.join(configured).components().collect(),
            pattern: is_pattern.then(|| PathPattern::parse(base, configured)),
        }
    }

    /// Whether files can be added: not for a single file.
    pub(super) fn is_open(&self) -> bool {
        self.path.is_dir() || (self.pattern.is_some() && !self.path.exists())
    }

    /// All files, in the order of their paths.
    ///
    /// # Errors
    /// [`ConnectorError::NoInput`] when there is none, and the system's errors for folders that cannot be read.
    pub(super) fn list(&self) -> Result<FilesByPath, ConnectorError> {
        let walked = self.walk()?;
        if walked.files.is_empty() {
            return Err(ConnectorError::NoInput {
                path: self.path.clone(),
            });
        }
        Ok(walked.files)
    }

    /// All files, which may be none, and the folders in which more may appear.
    pub(super) fn walk(&self) -> Result<WalkedFiles, ConnectorError> {
        let mut walked = WalkedFiles::default();
        match (fs::metadata(&self.path), &self.pattern) {
            (Ok(found), _) if found.is_dir() => walk(&self.path, &mut walked)?,
            (Ok(found), _) => {
                refuse_other_than_file(&self.path, &found)?;
                walked.files.insert(self.path.clone(), facts_of(&found));
                walked
                    .folders
                    .extend(self.path.parent().map(Path::to_owned));
            }
            (Err(error), Some(pattern)) if is_absent(&error) => {
                let pattern = pattern.as_ref().map_err(|reason| {
                    let reason = io::Error::new(ErrorKind::InvalidInput, reason.clone());
                    ConnectorError::io("match", &self.path)(reason)
                })?;
                expand(pattern.root(), pattern.parts(), &mut walked)?;
            }
            (Err(error), None) if is_absent(&error) => {
                walked
                    .folders
                    .extend(self.path.parent().map(Path::to_owned));
            }
            (Err(error), _) => return Err(ConnectorError::io("read", &self.path)(error)),
        }
        Ok(walked)
    }

    /// Whether a path is one that it matches, as far as a path alone can say.
    pub(super) fn matches(&self, path: &Path) -> bool {
        match &self.pattern {
            Some(Ok(pattern)) if !self.path.exists() => pattern.matches(path),
            _ => path.strip_prefix(&self.path).is_ok_and(|rest| {
                let mut parts = rest.components();
                parts.all(|part| matches!(part, Component::Normal(name) if !is_hidden(name)))
            }),
        }
    }

    /// Whether a path is one that it can match, or a name beside such a path: what a file is called after a rotation.
    pub(super) fn may_name(&self, path: &Path) -> bool {
        if let Some(Ok(pattern)) = &self.pattern
            && !self.path.exists()
        {
            return pattern.matches(path) || pattern.matches_beside(path);
        }
        let rest = path.strip_prefix(&self.path);
        let is_below = rest.is_ok_and(|rest| {
            rest.components()
                .all(|part| matches!(part, Component::Normal(_)))
        });
        let is_beside = path.file_name().is_some() && path.parent() == self.path.parent();
        is_below || (is_beside && !self.path.is_dir())
    }
}

/// What the system says of a file.
pub(super) fn facts_of(metadata: &Metadata) -> FileFacts {
    let born = metadata.created().ok();
    let born = born.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    FileFacts {
        key: FileKey {
            device: metadata.dev(),
            inode: metadata.ino(),
            born: born.map_or(0, |time| time.as_nanos() as u64),
        },
        len: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    }
}

/// Whether an open file is the one with this key.
pub(super) fn is_file_of(file: &File, key: FileKey) -> bool {
    file.metadata()
        .is_ok_and(|found| facts_of(&found).key == key)
}

/// The facts of a file; `None` if there is no such file.
pub(super) fn facts_at(path: &Path) -> Result<Option<FileFacts>, ConnectorError> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(Some(facts_of(&found))),
        Ok(_) => Ok(None),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(ConnectorError::io("read", path)(error)),
    }
}

/// The files in a folder with one of these inodes, whatever their names are.
pub(super) fn with_inodes(
    folder: &Path,
    is_wanted: &dyn Fn(u64) -> bool,
    found: &mut FilesByPath,
) -> Result<(), ConnectorError> {
    each_entry(folder, |entry, kind| {
        if kind.is_file() && is_wanted(entry.ino()) {
            add_if_there(folder.join(entry.file_name()), found)?;
        }
        Ok(())
    })
}

/// The folder of the file that a symbolic link leads to; `None` for other paths, and if it cannot be listed.
pub(super) fn target_folder(link: &Path) -> Option<PathBuf> {
    if !link.is_symlink() {
        return None;
    }
    let target = link.canonicalize().ok()?;
    let folder = target.parent()?;
    fs::read_dir(folder).ok()?;
    Some(folder.to_owned())
}

/// Opens a file that was listed for reading.
pub(super) fn open_listed(path: &Path) -> Result<File, ConnectorError> {
    let mut options = OpenOptions::new();
    // Since it was listed, a pipe may have taken its place, and opening that would wait for its other end.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let opened = match options.open(path) {
        // Another process has a lease of it, which only regular files can have, and has to give it up now.
        Err(error) if error.kind() == ErrorKind::WouldBlock => File::open(path),
        opened => opened,
    };
    let file = opened.map_err(ConnectorError::io("open", path))?;
    let found = file.metadata().map_err(ConnectorError::io("read", path))?;
    refuse_other_than_file(path, &found)?;
    Ok(file)
}

/// Opens a file for reading; `None` if there is no such file.
pub(super) fn open(path: &Path) -> Result<Option<File>, ConnectorError> {
    match open_listed(path) {
        Ok(file) => Ok(Some(file)),
        Err(ConnectorError::Io { source, .. }) if is_absent(&source) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a file for reading; `None` if there is no such file, or this user may not read it.
pub(super) fn open_if_allowed(path: &Path) -> Result<Option<File>, ConnectorError> {
    match open(path) {
        Err(error) if may_not_be_read(&error) => Ok(None),
        opened => opened,
    }
}

/// Whether an error says that this user may not read a file.
pub(super) fn may_not_be_read(error: &ConnectorError) -> bool {
    matches!(error, ConnectorError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied)
}

/// Reads up to `len` bytes from `offset`, fewer at the end of the file.
pub(super) fn bytes_at(
    file: &File,
    path: &Path,
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, ConnectorError> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        let read = read_at(file, &mut bytes[filled..], offset + filled as u64);
        match read.map_err(ConnectorError::io("read", path))? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether the bytes before a position have this fingerprint.
pub(super) fn fits(
    file: &File,
    path: &Path,
    position: u64,
    print: Fingerprint,
) -> Result<bool, ConnectorError> {
    let len = print.bytes_len();
    let Some(from) = position.checked_sub(len as u64) else {
        return Ok(false);
    };
    Ok(print.fits(&bytes_at(file, path, from, len)?))
}

/// The position after the last newline before `len`, and the fingerprint of the bytes before it.
pub(super) fn last_line_end(
    path: &Path,
    len: u64,
) -> Result<(u64, Option<Fingerprint>), ConnectorError> {
    let Some(file) = open_if_allowed(path)? else {
        return Ok((0, None));
    };
    let mut end = len;
    while end > 0 {
        let start = end.saturating_sub(PRINT_BYTES as u64);
        let bytes = bytes_at(&file, path, start, (end - start) as usize)?;
        if let Some(at) = memchr::memrchr(b'\n', &bytes) {
            let position = start + at as u64 + 1;
            let from = position.saturating_sub(PRINT_BYTES as u64);
            let before = bytes_at(&file, path, from, (position - from) as usize)?;
            return Ok((position, Some(Fingerprint::of(&before))));
        }
        end = start;
    }
    Ok((0, None))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn refuse_other_than_file(path: &Path, found: &Metadata) -> Result<(), ConnectorError> {
    if found.is_file() {
        return Ok(());
    }
    let reason = match found.file_type().is_fifo() {
        true => {
            "it is a pipe; read it as standard input, with `connector = \"stdin\"` and `<` before its name on the command line"
        }
        false => "it is not a regular file",
    };
    let reason = io::Error::new(ErrorKind::InvalidInput, reason);
    Err(ConnectorError::io("read", path)(reason))
}

/// Adds the files in a folder that the rest of a pattern matches.
fn expand(
    folder: &Path,
    parts: &[PatternPart],
    walked: &mut WalkedFiles,
) -> Result<(), ConnectorError> {
    let Some((part, rest)) = parts.split_first() else {
        return Ok(());
    };
    walked.folders.insert(folder.to_owned());
    match part {
        PatternPart::Name(name) if rest.is_empty() => {
            add_if_there(folder.join(name), &mut walked.files)
        }
        PatternPart::Name(name) => expand(&folder.join(name), rest, walked),
        PatternPart::Fitting(_) => each_entry(folder, |entry, kind| {
            if !part.fits(&entry.file_name()) {
                return Ok(());
            }
            let path = folder.join(entry.file_name());
            if rest.is_empty() && leads_to_file(kind, &path) {
                return add_if_there(path, &mut walked.files);
            }
            if !rest.is_empty() && (kind.is_dir() || (kind.is_symlink() && path.is_dir())) {
                return expand(&path, rest, walked);
            }
            Ok(())
        }),
        PatternPart::Folders => {
            expand(folder, rest, walked)?;
            each_entry(folder, |entry, kind| {
                match kind.is_dir() && !is_hidden(&entry.file_name()) {
                    true => expand(&folder.join(entry.file_name()), parts, walked),
                    false => Ok(()),
                }
            })
        }
    }
}

fn walk(folder: &Path, walked: &mut WalkedFiles) -> Result<(), ConnectorError> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        walked.folders.insert(folder.clone());
        each_entry(&folder, |entry, kind| {
            let name = entry.file_name();
            if is_hidden(&name) {
                return Ok(());
            }
            let path = folder.join(name);
            if kind.is_dir() {
                folders.push(path);
            } else if leads_to_file(kind, &path) {
                add_if_there(path, &mut walked.files)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Calls `each` with all entries of a folder; one that does not exist has none.
fn each_entry(
    folder: &Path,
    mut each: impl FnMut(&fs::DirEntry, FileType) -> Result<(), ConnectorError>,
) -> Result<(), ConnectorError> {
    // An empty path is the current folder.
    let opened = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    let entries = match fs::read_dir(opened) {
        Err(error) if is_absent(&error) => return Ok(()),
        found => found.map_err(ConnectorError::io("read", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(ConnectorError::io("read", folder))?;
        match entry.file_type() {
            Err(error) if is_absent(&error) => {}
            kind => each(&entry, kind.map_err(ConnectorError::io("read", folder))?)?,
        }
    }
    Ok(())
}

fn leads_to_file(kind: FileType, path: &Path) -> bool {
    kind.is_file() || (kind.is_symlink() && path.is_file())
}

/// Adds a regular file, unless it was removed since its folder was read.
fn add_if_there(path: PathBuf, files: &mut FilesByPath) -> Result<(), ConnectorError> {
    if let Some(facts) = facts_at(&path)? {
        files.insert(path, facts);
    }
    Ok(())
}
