//! The folders below that of a sink that have its parts, listed in `.staged/folders`.
//!
//! ```text
//! k=a        the sink has made this folder, and removes it once it is empty
//! /k=b       it was there before, so it is the user's and stays
//! ```
//!
//! The list says where parts of the sink may be. So a part that a user has moved into a folder of their own is not taken
//! back, and a job may change `folders` between two runs. A folder is on the list before it is made. A line that a crash
//! has cut short has no newline, and its folder was not made.
//!
//! A folder that is there already is taken only if it is a real one, is not that of another sink, and has no files that are
//! named like parts: such files could not be told from the sink's own later, and would be removed with them.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::committer::read_owner;
use super::folder::is_safe;
use super::part::PartName;
use super::{names, staging};
use crate::connector::{ConnectorError, regular_file};

/// Before the path of a folder that was there before. No path of the list begins with it.
const FOUND: char = '/';

/// The list: one path a line, relative to the folder of the sink.
pub(super) struct MadeFolders {
    folder: PathBuf,
    staging: PathBuf,
    names: BTreeSet<String>,
    /// Those that were there before.
    found: BTreeSet<String>,
    /// Whether a line can be added: the file ends in a whole one.
    ends_whole: bool,
}

impl MadeFolders {
    /// Reads the list of a sink. A missing file is an empty list.
    pub(super) fn read(folder: &Path, staging: &Path) -> Result<Self, ConnectorError> {
        let path = staging.join("folders");
        let bytes = match regular_file::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            found => found.map_err(ConnectorError::io("read", &path))?,
        };
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let (mut names, mut found) = (BTreeSet::new(), BTreeSet::new());
        for line in lines.filter_map(|line| line.strip_suffix(b"\n")) {
            let line = std::str::from_utf8(line).unwrap_or_default();
            let name = line.strip_prefix(FOUND).unwrap_or(line);
            if !is_safe(name) {
                continue;
            }
            names.insert(name.to_owned());
            if name != line {
                found.insert(name.to_owned());
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            staging: staging.to_owned(),
            names,
            found,
            ends_whole: bytes.is_empty() || bytes.ends_with(b"\n"),
        })
    }

    /// The folders, each after those that it is in.
    pub(super) fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The paths of those that can be reached without a symbolic link. What is behind a link was moved away by a reader.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let reached = self.names().filter(move |name| !self.is_behind_link(name));
        reached.map(move |name| self.folder.join(name))
    }

    fn is_behind_link(&self, name: &str) -> bool {
        with_outer(name).any(|outer| self.folder.join(outer).is_symlink())
    }

    /// Makes folders and those that they are in. They are on the list then, for sure; the caller syncs the folders.
    ///
    /// # Errors
    /// When one cannot be made, or is there and is not the sink's to write to. Others may be there then.
    pub(super) fn make(&mut self, folders: &BTreeSet<&str>) -> Result<(), ConnectorError> {
        let all: BTreeSet<&str> = folders
            .iter()
            .flat_map(|folder| with_outer(folder))
            .collect();
        for folder in &all {
            if self.check(folder)? && !self.names.contains(*folder) {
                self.found.insert((*folder).to_owned());
            }
        }
        let new: Vec<&str> = all
            .iter()
            .copied()
            .filter(|folder| !self.names.contains(*folder))
            .collect();
        if !new.is_empty() || !self.ends_whole {
            self.add(&new)?;
        }
        for folder in all {
            let path = self.folder.join(folder);
            match fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.map_err(ConnectorError::io("create folder", &path))?,
            }
        }
        Ok(())
    }

    /// Whether a folder is there. Refuses what is in its place and is not to be written to.
    fn check(&self, name: &str) -> Result<bool, ConnectorError> {
        let path = self.folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => return Err(ConnectorError::LinkedFolder { path }),
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let error = ErrorKind::NotADirectory.into();
                return Err(ConnectorError::io("create folder", &path)(error));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(ConnectorError::io("create folder", &path)(error)),
        }
        if let Some(owner) = read_owner(&staging(&path))? {
            return Err(ConnectorError::OutputTaken {
                path,
                job: owner.job,
                sink: owner.sink,
            });
        }
        if self.names.contains(name) {
            return Ok(true);
        }
        let mut found = names(&path)?.into_iter();
        match found.find(|name| PartName::parse(name).is_some()) {
            Some(part) => Err(ConnectorError::ForeignPart {
                path: path.join(part),
            }),
            None => Ok(true),
        }
    }

    /// Removes folders that the sink has made and that are empty, and takes those off the list that are gone.
    pub(super) fn remove_empty(&mut self) -> Result<(), ConnectorError> {
        let mut kept = BTreeSet::new();
        for name in self.names.iter().rev() {
            if self.is_behind_link(name) {
                kept.insert(name.clone());
                continue;
            }
            let path = self.folder.join(name);
            let removed = match self.found.contains(name) {
                true => path.symlink_metadata().map(|_| false),
                false => fs::remove_dir(&path).map(|()| true),
            };
            match removed {
                Ok(true) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It is not the sink's, is not empty, or may not be removed.
                Ok(false) | Err(_) => {
                    kept.insert(name.clone());
                }
            }
        }
        if kept.len() == self.names.len() {
            return Ok(());
        }
        self.names = kept;
        self.found.retain(|name| self.names.contains(name));
        self.write()
    }

    fn add(&mut self, new: &[&str]) -> Result<(), ConnectorError> {
        if !self.ends_whole {
            self.names.extend(new.iter().map(|&name| name.to_owned()));
            return self.write();
        }
        self.ends_whole = false;
        let path = self.staging.join("folders");
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(ConnectorError::io("open", &path))?;
        file.write_all(self.lines(new.iter().copied()).as_bytes())
            .map_err(ConnectorError::io("write", &path))?;
        file.sync_all().map_err(ConnectorError::unsynced(&path))?;
        sync_folder(&self.staging)?;
        self.ends_whole = true;
        self.names.extend(new.iter().map(|&name| name.to_owned()));
        Ok(())
    }

    /// Writes the list as a whole, beside the old one first.
    fn write(&mut self) -> Result<(), ConnectorError> {
        self.ends_whole = false;
        let (new, path) = (
            self.staging.join("folders.new"),
            self.staging.join("folders"),
        );
        let mut file = File::create(&new).map_err(ConnectorError::io("create", &new))?;
        file.write_all(self.lines(self.names()).as_bytes())
            .map_err(ConnectorError::io("write", &new))?;
        file.sync_all().map_err(ConnectorError::unsynced(&new))?;
        fs::rename(&new, &path).map_err(ConnectorError::io("rename", &new))?;
        sync_folder(&self.staging)?;
        self.ends_whole = true;
        Ok(())
    }

    fn lines<'a>(&self, names: impl Iterator<Item = &'a str>) -> String {
        let mut lines = String::new();
        for name in names {
            if self.found.contains(name) {
                lines.push(FOUND);
            }
            lines += name;
            lines.push('\n');
        }
        lines
    }
}

/// A folder and those that it is in, the outermost first.
pub(super) fn with_outer(folder: &str) -> impl Iterator<Item = &str> {
    let ends = folder.match_indices('/').map(|(end, _)| end);
    ends.chain([folder.len()]).map(move |end| &folder[..end])
}

pub(super) fn sync_folder(path: &Path) -> Result<(), ConnectorError> {
    let folder = File::open(path).map_err(ConnectorError::io("open", path))?;
    folder.sync_all().map_err(ConnectorError::unsynced(path))
}

#[cfg(test)]
mod tests {
    //! Catches a folder that is made and not on the list, one on it that leads somewhere else, and one of the user that is
    //! removed.

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let made = MadeFolders::read(folder, folder).unwrap();
        made.names().map(str::to_owned).collect()
    }

    #[test]
    fn the_list_has_what_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut made = MadeFolders::read(folder, folder).unwrap();
        made.make(&BTreeSet::from(["a/b/c", "a/d"])).unwrap();
        made.make(&BTreeSet::from(["a/b", "e"])).unwrap();
        assert_eq!(names(folder), ["a", "a/b", "a/b/c", "a/d", "e"]);
        assert!(folder.join("a/b/c").is_dir());
        fs::write(folder.join("a/d/of the user"), "").unwrap();
        made.remove_empty().unwrap();
        assert_eq!(names(folder), ["a", "a/d"]);
        assert!(!folder.join("e").exists());
    }

    #[test]
    fn a_folder_that_was_there_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        let mut made = MadeFolders::read(folder, folder).unwrap();
        made.make(&BTreeSet::from(["a/b/c", "a/d"])).unwrap();
        let list = fs::read_to_string(folder.join("folders")).unwrap();
        assert_eq!(list, "/a\n/a/b\na/b/c\na/d\n");
        // Also when another process removes what is empty.
        let mut made = MadeFolders::read(folder, folder).unwrap();
        made.remove_empty().unwrap();
        assert_eq!(names(folder), ["a", "a/b"]);
        assert!(folder.join("a/b").is_dir());
        assert!(!folder.join("a/d").exists());
        fs::remove_dir(folder.join("a/b")).unwrap();
        made.remove_empty().unwrap();
        assert_eq!(names(folder), ["a"]);
    }

    #[test]
    fn a_line_that_was_cut_short_is_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::write(folder.join("folders"), "a\n../x\n/\n\na\0\nb\nc").unwrap();
        let mut made = MadeFolders::read(folder, folder).unwrap();
        assert_eq!(made.names().collect::<Vec<_>>(), ["a", "b"]);
        made.make(&BTreeSet::from(["d"])).unwrap();
        made.make(&BTreeSet::from(["e"])).unwrap();
        assert_eq!(names(folder), ["a", "b", "d", "e"]);
    }
}
