//! Keeps replayed dead letters in the data folder, as files that the job reads like any input.
//!
//! ```text
//! .floodmark/word-count/
//!   replay.lock                          held while letters are added; never deleted
//!   replay/count/in/000001-00000007.jsonl    letters for the input `in` of operator `count`, the newest of checkpoint 7
//! ```
//!
//! Each line is a letter and the place where it was found. So the files themselves say which letters were replayed, and
//! no separate index can be wrong. A file is written under a name that readers ignore, and then renamed. It never
//! changes and is only deleted together with all others: positions in checkpoints refer to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::data_dir::create_durably;
use super::{private, regular_file};
use crate::connector::letter::{Letter, LetterPlace};
use floodmark_state::stream::CheckpointId;

/// The folder of replayed letters in a data folder.
#[derive(Debug, Clone)]
pub struct ReplayFolder {
    path: PathBuf,
    lock: PathBuf,
}

/// An I/O error of the replay folder.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} `{}`: {source}", path.display())]
pub struct ReplayFolderError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// For `map_err`: the attempted action and its path.
fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReplayFolderError {
    move |source| ReplayFolderError {
        action,
        path: path.to_owned(),
        source,
    }
}

impl ReplayFolder {
    /// The replay folder of this data folder, which may not exist.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self {
            path: data_dir.join("replay"),
            lock: data_dir.join("replay.lock"),
        }
    }

    /// The folder of letters for an input of an operator.
    #[must_use]
    pub fn port(&self, operator: &str, input: &str) -> PathBuf {
        self.path.join(operator).join(input)
    }

    /// Like [`ReplayFolder::port`], and creates the folder.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn make_port(&self, operator: &str, input: &str) -> Result<PathBuf, ReplayFolderError> {
        let port = self.port(operator, input);
        create_durably(&port).map_err(|(path, source)| io_error("create", &path)(source))?;
        Ok(port)
    }

    /// The operators and inputs that have folders.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ports(&self) -> Result<Vec<(String, String)>, ReplayFolderError> {
        let mut ports = Vec::new();
        for operator in names(&self.path)? {
            let inputs = names(&self.path.join(&operator))?;
            ports.extend(inputs.into_iter().map(|input| (operator.clone(), input)));
        }
        Ok(ports)
    }

    /// The letters that were replayed.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn replayed(&self) -> Result<HandedBack, ReplayFolderError> {
        let mut handed_back = HandedBack::default();
        for (operator, input) in self.ports()? {
            let port = self.port(&operator, &input);
            for name in names(&port)? {
                let path = port.join(name);
                let file = regular_file::open_own(&path).map_err(io_error("open", &path))?;
                for line in BufReader::new(file).split(b'\n') {
                    let line = line.map_err(io_error("read", &path))?;
                    let line = std::str::from_utf8(&line).ok();
                    handed_back.extend(line.and_then(LetterPlace::of_line));
                }
            }
        }
        Ok(handed_back)
    }

    /// Waits until no other process replays letters, and keeps others from it.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn hold(&self) -> Result<HeldReplayFolder, ReplayFolderError> {
        let lock = private::file()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.lock)
            .map_err(io_error("open", &self.lock))?;
        lock.lock().map_err(io_error("lock", &self.lock))?;
        Ok(HeldReplayFolder {
            folder: self.clone(),
            _lock: lock,
        })
    }
}

/// Replayed letters: by sink and file, their lines.
#[derive(Debug, Default)]
pub struct HandedBack(BTreeMap<String, BTreeMap<String, BTreeSet<u64>>>);

impl HandedBack {
    /// Whether a letter was replayed.
    #[must_use]
    pub fn contains(&self, sink: &str, part: &str, line: u64) -> bool {
        let lines = self.0.get(sink).and_then(|parts| parts.get(part));
        lines.is_some_and(|lines| lines.contains(&line))
    }
}

impl Extend<LetterPlace> for HandedBack {
    fn extend<T: IntoIterator<Item = LetterPlace>>(&mut self, places: T) {
        for place in places {
            let parts = self.0.entry(place.sink).or_default();
            parts.entry(place.part).or_default().insert(place.line);
        }
    }
}

/// The replay folder, locked against other processes that replay letters.
#[derive(Debug)]
pub struct HeldReplayFolder {
    folder: ReplayFolder,
    _lock: File,
}

impl HeldReplayFolder {
    /// Starts a file for an input of an operator. The job does not see it yet.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn draft(
        &self,
        operator: &str,
        input: &str,
    ) -> Result<ReplayFileWriter, ReplayFolderError> {
        let folder = self.folder.make_port(operator, input)?;
        let numbers = names(&folder)?.into_iter();
        let numbers = numbers.filter_map(|name| LetterPlace::parse_file_name(&name));
        let number = numbers.map(|(_, number)| number).max().unwrap_or(0) + 1;
        // Overwrites the draft of a process that died.
        let aside = folder.join(".draft");
        let file = private::file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&aside)
            .map_err(io_error("create", &aside))?;
        Ok(ReplayFileWriter {
            file: BufWriter::with_capacity(64 << 10, file),
            folder,
            aside,
            number,
            newest: CheckpointId(0),
            letters: 0,
        })
    }

    /// Removes all letters, for a job that starts fresh.
    ///
    /// # Errors
    /// When some letters could not be removed.
    pub fn clear(&self) -> Result<(), ReplayFolderError> {
        let path = &self.folder.path;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(io_error("remove", path)),
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct ReplayFileWriter {
    file: BufWriter<File>,
    folder: PathBuf,
    aside: PathBuf,
    number: u64,
    newest: CheckpointId,
    letters: u64,
}

impl ReplayFileWriter {
    /// Adds a letter. Letters of older checkpoints must be added first.
    ///
    /// # Errors
    /// When the system refuses.
    ///
    /// # Panics
    /// When the letter is of an older checkpoint than the one before.
    pub fn add(&mut self, letter: &Letter, place: &LetterPlace) -> Result<(), ReplayFolderError> {
        assert!(self.newest <= place.checkpoint, "letters come in order");
        self.newest = place.checkpoint;
        self.letters += 1;
        let written = writeln!(self.file, "{}", place.to_line(letter));
        written.map_err(io_error("write", &self.aside))
    }

    /// Number of letters in the file.
    #[must_use]
    pub fn letters(&self) -> u64 {
        self.letters
    }

    /// Makes the file durable, and visible to the job.
    ///
    /// # Errors
    /// When the system refuses. It is unknown whether the letters were replayed; replaying them again is safe.
    pub fn finish(self) -> Result<(), ReplayFolderError> {
        let name = LetterPlace::file_name(self.newest, self.number);
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error);
        file.and_then(|file| file.sync_all())
            .map_err(io_error("write", &self.aside))?;
        let path = self.folder.join(name);
        fs::rename(&self.aside, &path).map_err(io_error("rename", &path))?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error("sync", &self.folder))
    }
}

/// The names in a folder in order, except hidden ones; none if there is no folder.
fn names(folder: &Path) -> Result<Vec<String>, ReplayFolderError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("read", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(io_error("read", folder))?.file_name();
        names.extend(
            name.into_string()
                .ok()
                .filter(|name| !name.starts_with('.')),
        );
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    //! Catches letters that are handed back twice or that a reader sees in part, and a draft of a process that died that gets
    //! in the way.

    use super::*;
    use floodmark_state::stream::NO_TIMESTAMP;

    fn letter() -> Letter {
        Letter {
            operator: "count".to_owned(),
            plugin: "00ff".to_owned(),
            reason: "no".to_owned(),
            position: "source `text`".to_owned(),
            input: "in".to_owned(),
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            timestamp: NO_TIMESTAMP,
            columns: Vec::new(),
            bytes_in_all: None,
        }
    }

    fn place(checkpoint: u64, line: u64) -> LetterPlace {
        LetterPlace {
            checkpoint: CheckpointId(checkpoint),
            sink: "letters".to_owned(),
            part: format!("part-{checkpoint}"),
            line,
        }
    }

    #[test]
    fn what_was_handed_back_is_what_appeared() {
        let data_dir = tempfile::tempdir().unwrap();
        let folder = ReplayFolder::of(data_dir.path());
        assert!(folder.ports().unwrap().is_empty());
        let held = folder.hold().unwrap();
        let mut draft = held.draft("count", "in").unwrap();
        draft.add(&letter(), &place(3, 1)).unwrap();
        draft.add(&letter(), &place(7, 2)).unwrap();
        // Dropped like the draft of a process that dies: nothing is replayed.
        draft.file.flush().unwrap();
        drop(draft);
        assert!(!folder.replayed().unwrap().contains("letters", "part-3", 1));

        for (number, checkpoint) in [(1, 7), (2, 9)] {
            let mut draft = held.draft("count", "in").unwrap();
            draft.add(&letter(), &place(checkpoint, 5)).unwrap();
            assert_eq!(draft.letters(), 1);
            draft.finish().unwrap();
            let name = format!("{number:06}-{checkpoint:08}.jsonl");
            assert!(folder.port("count", "in").join(name).is_file());
        }
        let replayed = folder.replayed().unwrap();
        assert!(replayed.contains("letters", "part-7", 5));
        assert!(replayed.contains("letters", "part-9", 5));
        assert!(!replayed.contains("letters", "part-9", 4));
        assert!(!replayed.contains("other", "part-9", 5));
        held.clear().unwrap();
        held.clear().unwrap();
        assert!(!folder.replayed().unwrap().contains("letters", "part-7", 5));
    }
}
