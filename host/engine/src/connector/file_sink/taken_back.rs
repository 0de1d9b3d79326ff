//! Parts that were taken back: removed from the folder, because the job returned to an older checkpoint.
//!
//! A savepoint of a checkpoint that the job has left behind still counts these parts. Without this list, a job that starts
//! from it could not tell them from parts that a reader has moved away, and would continue without their records. The list
//! is the file `.staged/taken-back`, and is durable before the first part is removed. It does not keep the parts.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::made_folders::sync_folder;
use crate::connector::{ConnectorError, regular_file};
use floodmark_state::stream::CheckpointId;

const VERSION: u8 = 1;
/// Most returns on the list; the oldest ones go first.
const RETURNS_MAX: usize = 100;
/// Most parts that one return names: those of the oldest checkpoints.
const NAMED_PARTS_MAX: usize = 1000;
/// Most parts that a message names.
const SHOWN_PARTS_MAX: usize = 3;

/// The list of one sink.
pub(super) struct TakenBack {
    staging: PathBuf,
    returns: Vec<PastReturn>,
}

/// A part that was taken back: the number of its checkpoint, and its path below the folder of the sink.
pub(super) type PartTakenBack = (u64, String);

#[derive(Serialize, Deserialize)]
struct TakenBackFile {
    version: u8,
    returns: Vec<PastReturn>,
}

/// A return to an older checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PastReturn {
    /// The id of the data folder with the checkpoints that were left behind.
    data: String,
    /// The checkpoint to which the job returned.
    to: u64,
    /// Number of parts that it counts.
    counted: u64,
    /// The first checkpoint after the return that has parts. What was left behind has a lower number. `None` until then.
    before: Option<u64>,
    parts: Vec<PartTakenBack>,
}

/// A checkpoint counts parts that were taken back since.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` lacks output that checkpoint {checkpoint} counts: the job returned to checkpoint {to} since, and took it back ({parts}); to keep what is there, resume the job with the data folder that it has; to start from checkpoint {checkpoint}, set another `path`, or add `--fresh`, which removes the output that is there: the output then begins after that checkpoint",
    path.display()
)]
pub struct OutputTakenBack {
    path: PathBuf,
    checkpoint: u64,
    to: u64,
    parts: String,
}

impl TakenBack {
    /// Reads the list of a sink. A missing file is an empty list.
    pub(super) fn read(staging: &Path) -> Result<Self, ConnectorError> {
        let path = file(staging);
        let mut list = Self {
            staging: staging.to_owned(),
            returns: Vec::new(),
        };
        let bytes = match regular_file::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(list),
            found => found.map_err(ConnectorError::io("read", &path))?,
        };
        let found: TakenBackFile = serde_json::from_slice(&bytes)
            .map_err(|error| ConnectorError::io("read", &path)(error.into()))?;
        if found.version != VERSION {
            let reason = format!("it is of version {}, not {VERSION}", found.version);
            return Err(ConnectorError::io("read", &path)(io::Error::other(reason)));
        }
        list.returns = found.returns;
        Ok(list)
    }

    /// Notes which parts are about to be removed, as the job returns to a checkpoint that counts `counted` parts.
    pub(super) fn add(
        &mut self,
        data: &str,
        (to, counted): (CheckpointId, u64),
        parts: Vec<PartTakenBack>,
    ) -> Result<(), ConnectorError> {
        let is_same = |past: &PastReturn| {
            (past.data.as_str(), past.to, past.counted, past.before) == (data, to.0, counted, None)
        };
        // A crash may have interrupted the removal: the rest is of the same return.
        let mut past = match self.returns.pop_if(|past| is_same(past)) {
            Some(past) => past,
            None => PastReturn {
                data: data.to_owned(),
                to: to.0,
                counted,
                before: None,
                parts: Vec::new(),
            },
        };
        past.parts.extend(parts);
        past.parts.sort_unstable();
        past.parts.dedup();
        past.parts.truncate(NAMED_PARTS_MAX);
        self.returns.push(past);
        let excess = self.returns.len().saturating_sub(RETURNS_MAX);
        self.returns.drain(..excess);
        self.write()
    }

    /// Notes that the job has parts again, from checkpoint `first` on.
    pub(super) fn resumed(
        &mut self,
        data: &str,
        first: CheckpointId,
    ) -> Result<(), ConnectorError> {
        let mut has_changed = false;
        for past in &mut self.returns {
            if past.before.is_none() && past.data == data {
                past.before = Some(first.0);
                has_changed = true;
            }
        }
        match has_changed {
            true => self.write(),
            false => Ok(()),
        }
    }

    /// Refuses a checkpoint that counts parts of `folder` which were taken back. Parts that a user has put back are there.
    pub(super) fn check(
        &self,
        folder: &Path,
        data: &str,
        (checkpoint, counted): (CheckpointId, u64),
    ) -> Result<(), ConnectorError> {
        let checkpoint = checkpoint.0;
        for past in &self.returns {
            let is_left_behind = past.data == data
                && checkpoint > past.to
                && past.before.is_none_or(|before| checkpoint < before)
                && counted > past.counted;
            if !is_left_behind {
                continue;
            }
            let mut missing = Vec::new();
            for (_, name) in past.parts.iter().filter(|(of, _)| *of <= checkpoint) {
                let path = folder.join(name);
                let is_there = path
                    .try_exists()
                    .map_err(ConnectorError::io("read", &path))?;
                if !is_there {
                    missing.push(name.as_str());
                }
            }
            if !missing.is_empty() {
                return Err(ConnectorError::OutputTakenBack(OutputTakenBack {
                    path: folder.to_owned(),
                    checkpoint,
                    to: past.to,
                    parts: shown(&missing),
                }));
            }
        }
        Ok(())
    }

    /// Empties the list, as all output is removed.
    pub(super) fn forget(&mut self) -> Result<(), ConnectorError> {
        let path = file(&self.staging);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(ConnectorError::io("remove", &path))?,
        }
        self.returns.clear();
        Ok(())
    }

    /// Writes the list as a whole, beside the old one first.
    fn write(&self) -> Result<(), ConnectorError> {
        let (new, path) = (self.staging.join("taken-back.new"), file(&self.staging));
        let list = TakenBackFile {
            version: VERSION,
            returns: self.returns.clone(),
        };
        let mut bytes = serde_json::to_vec(&list).expect("strings and numbers always encode");
        bytes.push(b'\n');
        let mut file = File::create(&new).map_err(ConnectorError::io("create", &new))?;
        file.write_all(&bytes)
            .map_err(ConnectorError::io("write", &new))?;
        file.sync_all().map_err(ConnectorError::unsynced(&new))?;
        fs::rename(&new, &path).map_err(ConnectorError::io("rename", &new))?;
        sync_folder(&self.staging)
    }
}

fn file(staging: &Path) -> PathBuf {
    staging.join("taken-back")
}

fn shown(names: &[&str]) -> String {
    let mut text: Vec<String> = names
        .iter()
        .take(SHOWN_PARTS_MAX)
        .map(|name| format!("`{name}`"))
        .collect();
    if names.len() > SHOWN_PARTS_MAX {
        text.push(format!("{} more", names.len() - SHOWN_PARTS_MAX));
    }
    text.join(", ")
}

#[cfg(test)]
mod tests {
    //! Catches a checkpoint that is let through although its output was taken back, and one of later that is refused.

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn only_what_was_left_behind_is_refused() {
        let folder = TempDir::new().unwrap();
        let staging = folder.path().join(".staged");
        fs::create_dir(&staging).unwrap();
        let mut list = TakenBack::read(&staging).unwrap();
        let to = (CheckpointId(1), 1);
        let part = |number: u64| (number, format!("part-{number}"));
        list.add("data", to, vec![part(3)]).unwrap();
        list.add("data", to, vec![part(2)]).unwrap();
        assert_eq!(list.returns.len(), 1);
        list.resumed("other", CheckpointId(2)).unwrap();
        list.resumed("data", CheckpointId(5)).unwrap();
        let mut list = TakenBack::read(&staging).unwrap();
        for (data, checkpoint, counted, refused) in [
            ("data", 1, 1, ""),
            ("data", 2, 2, "`part-2`"),
            ("data", 3, 3, "`part-2`, `part-3`"),
            ("data", 4, 3, "`part-2`, `part-3`"),
            // After the return, without output and with it.
            ("data", 4, 1, ""),
            ("data", 5, 2, ""),
            ("other", 3, 3, ""),
        ] {
            let checked = list.check(folder.path(), data, (CheckpointId(checkpoint), counted));
            let error = checked.map_or_else(|error| error.to_string(), |()| String::new());
            let what = format!("{data} {checkpoint} {counted}: {error}");
            assert_eq!(error.is_empty(), refused.is_empty(), "{what}");
            assert!(error.contains(refused), "{what}");
        }
        fs::write(folder.path().join("part-2"), "").unwrap();
        let second = (CheckpointId(2), 2);
        list.check(folder.path(), "data", second).unwrap();
        list.forget().unwrap();
        let list = TakenBack::read(&staging).unwrap();
        assert_eq!(list.returns, []);
    }
}
