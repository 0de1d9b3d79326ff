//! Makes parts durable, then visible, and repairs the folder after a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::made_folders::{MadeFolders, sync_folder, with_outer};
use super::part::{Part, PartName, Size, is_open_name};
use super::taken_back::{PartTakenBack, TakenBack};
use super::{Owner, names, staging, visible};
use crate::connector::{
    ConnectorError, Recovered, RestoredSink, SinkCommitter, encoding, regular_file,
};
use floodmark_checkpoint::{CommitPermit, Staged};
use floodmark_state::stream::CheckpointId;

const VERSION: u8 = 1;

/// - `prepared` is `committed` plus all of `pending`.
/// - While it exists, it holds the lock of the staging folder.
pub(super) struct FileCommitter {
    folder: PathBuf,
    staging: PathBuf,
    owner: Owner,
    mark: Mark,
    made: MadeFolders,
    taken_back: TakenBack,
    prepared: CommittedTotal,
    committed: CommittedTotal,
    /// Number of parts in `committed` that were not in the folder at the start.
    absent: u64,
    pending: BTreeMap<PartName, PendingPart>,
    has_failed_sync: bool,
    _lock: File,
}

/// The owner of the staging folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// There is no marker.
    Absent,
    /// This owner, from an earlier run.
    Ours,
    /// The same sink, but its checkpoints are in the data folder with this id.
    OtherData(String),
}

/// The origin of a restored checkpoint, with respect to this folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckpointOrigin {
    /// From this job's data folder.
    Own,
    /// It was carried here from the data folder that wrote this folder.
    TakenOver,
    /// It was carried here, and this folder is new.
    Carried,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct CommittedTotal {
    parts: u64,
    size: Size,
}

struct PendingPart {
    size: Size,
    /// Whether it was made visible; this may not be durable yet.
    is_renamed: bool,
}

#[derive(Serialize, Deserialize)]
struct State {
    /// Parts of checkpoints up to this one were committed when the state was saved.
    committed_through: Option<u64>,
    total: CommittedTotal,
}

impl CommittedTotal {
    fn add(&mut self, size: Size) {
        self.parts = self.parts.saturating_add(1);
        self.size.records = self.size.records.saturating_add(size.records);
        self.size.bytes = self.size.bytes.saturating_add(size.bytes);
    }
}

impl FileCommitter {
    pub(super) fn open(folder: PathBuf, owner: Owner) -> Result<Self, ConnectorError> {
        let staging = staging(&folder);
        fs::create_dir_all(&staging).map_err(ConnectorError::io("create folder", &staging))?;
        let lock = File::open(&staging).map_err(ConnectorError::io("open", &staging))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ConnectorError::OutputInUse { path: folder });
            }
            // Some network file systems have no locks; the owner is checked there as well.
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => {
                return Err(ConnectorError::io("lock", &staging)(error));
            }
        }
        let mark = read_mark(&folder, &staging, &owner)?;
        let made = MadeFolders::read(&folder, &staging)?;
        let taken_back = TakenBack::read(&staging)?;
        Ok(Self {
            folder,
            staging,
            owner,
            mark,
            made,
            taken_back,
            prepared: CommittedTotal::default(),
            committed: CommittedTotal::default(),
            absent: 0,
            pending: BTreeMap::new(),
            has_failed_sync: false,
            _lock: lock,
        })
    }

    fn sync_parts(&self, parts: &[Part]) -> Result<(), ConnectorError> {
        for part in parts {
            let path = self.staging.join(part.name.file_name());
            let file = File::open(&path).map_err(ConnectorError::io("open", &path))?;
            file.sync_all().map_err(ConnectorError::unsynced(&path))?;
            let metadata = file.metadata().map_err(ConnectorError::io("read", &path))?;
            if metadata.len() != part.size.bytes {
                let reason = format!("it has {} bytes, not {}", metadata.len(), part.size.bytes);
                return Err(ConnectorError::unsynced(&path)(io::Error::new(
                    ErrorKind::InvalidData,
                    reason,
                )));
            }
        }
        sync_folder(&self.staging)
    }

    /// Makes one part visible; `false` if it is neither staged nor visible. A part that is still staged was not committed,
    /// so a file with its visible name is not the sink's, and stays.
    fn rename(&self, part: &Part, recovered: &mut Recovered) -> Result<bool, ConnectorError> {
        let staged = self.staging.join(part.name.file_name());
        let visible = part.visible(&self.folder);
        let len = match fs::metadata(&staged) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return is_visible(&visible, part.size.bytes);
            }
            found => found.map_err(ConnectorError::io("commit", &staged))?.len(),
        };
        if len != part.size.bytes {
            return Err(ConnectorError::PartDamaged {
                path: staged,
                len,
                expected: part.size.bytes,
            });
        }
        match rename_new(&staged, &visible) {
            Ok(()) => {
                recovered.committed += 1;
                Ok(true)
            }
            Err(error) => Err(match error.kind() {
                ErrorKind::AlreadyExists => ConnectorError::ForeignPart { path: visible },
                // Its folder is not there. As a part that is gone, it would be removed.
                ErrorKind::NotFound => ConnectorError::io("create", &visible)(error),
                _ => ConnectorError::io("commit", &staged)(error),
            }),
        }
    }

    /// Makes the folders of parts that are still staged.
    fn make_folders(&mut self, parts: &[Part]) -> Result<(), ConnectorError> {
        let is_staged = |part: &&Part| self.staging.join(part.name.file_name()).exists();
        let inner = parts.iter().filter(|part| !part.folder.is_empty());
        let folders: BTreeSet<&str> = inner
            .filter(is_staged)
            .map(|part| part.folder.as_str())
            .collect();
        match folders.is_empty() {
            true => Ok(()),
            false => self.made.make(&folders),
        }
    }

    /// Syncs the folders of visible parts, and those that these are in. A reader may have moved some away.
    fn sync_folders_of(&self, parts: &[Part]) -> Result<(), ConnectorError> {
        let inner = parts.iter().filter(|part| !part.folder.is_empty());
        let folders: BTreeSet<&str> = inner.flat_map(|part| with_outer(&part.folder)).collect();
        for folder in folders.iter().rev() {
            let path = self.folder.join(folder);
            if path.is_dir() {
                sync_folder(&path)?;
            }
        }
        sync_folder(&self.folder)
    }

    /// Removes these visible parts, folders that are empty then, and all staged files.
    fn remove(
        &mut self,
        retracted: &[PathBuf],
        recovered: &mut Recovered,
    ) -> Result<(), ConnectorError> {
        for name in names(&self.staging)? {
            if PartName::parse(&name).is_some() || is_open_name(&name) {
                remove_file(&self.staging.join(name))?;
                recovered.aborted += 1;
            }
        }
        let mut changed = BTreeSet::new();
        for path in retracted {
            remove_file(path)?;
            changed.extend(path.parent());
            recovered.retracted += 1;
        }
        for folder in changed {
            sync_folder(folder)?;
        }
        self.made.remove_empty()?;
        sync_folder(&self.staging)?;
        sync_folder(&self.folder)
    }

    /// Notes, before they are removed, that these parts are taken back.
    fn note_taken_back(
        &mut self,
        parts: &[(PartName, PathBuf)],
        to: (CheckpointId, u64),
    ) -> Result<(), ConnectorError> {
        if parts.is_empty() {
            return Ok(());
        }
        let data = match &self.mark {
            Mark::OtherData(data) => data,
            Mark::Ours | Mark::Absent => &self.owner.data,
        };
        let named = |(part, path): &(PartName, PathBuf)| -> Option<PartTakenBack> {
            let name = path.strip_prefix(&self.folder).ok()?.to_str()?;
            Some((part.checkpoint.0, name.to_owned()))
        };
        let named = parts.iter().filter_map(named).collect();
        self.taken_back.add(data, to, named)
    }

    /// Number of visible parts.
    fn count_visible(&self) -> Result<usize, ConnectorError> {
        Ok(visible(&self.folder, &self.made)?.len())
    }

    /// Writes the owner of this folder. A marker that a crash cut short has no newline, and counts as missing.
    fn mark(&mut self) -> Result<(), ConnectorError> {
        if self.mark == Mark::Ours {
            return Ok(());
        }
        let path = marker(&self.staging);
        let mut bytes = serde_json::to_vec(&self.owner).expect("strings always encode");
        bytes.push(b'\n');
        let mut file = File::create(&path).map_err(ConnectorError::io("create", &path))?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_all())
            .map_err(ConnectorError::io("write", &path))?;
        sync_folder(&self.staging)?;
        self.mark = Mark::Ours;
        Ok(())
    }

    /// The relation of a restored checkpoint to this folder, which has this many visible parts.
    fn origin(
        &self,
        restored: RestoredSink<'_>,
        parts: usize,
    ) -> Result<CheckpointOrigin, ConnectorError> {
        let is_carried =
            !restored.data_folder.is_empty() && restored.data_folder != self.owner.data;
        match &self.mark {
            Mark::OtherData(data) if is_carried && data == restored.data_folder => {
                Ok(CheckpointOrigin::TakenOver)
            }
            Mark::OtherData(_) | Mark::Absent if is_carried && parts == 0 => {
                Ok(CheckpointOrigin::Carried)
            }
            Mark::Absent if is_carried => {
                let path = self.folder.clone();
                Err(ConnectorError::UnmarkedOutput { path, parts })
            }
            Mark::OtherData(_) => {
                let path = self.folder.clone();
                Err(ConnectorError::OtherRun { path })
            }
            Mark::Ours | Mark::Absent => Ok(CheckpointOrigin::Own),
        }
    }

    fn restore(
        &mut self,
        restored: RestoredSink<'_>,
        origin: CheckpointOrigin,
    ) -> Result<Recovered, ConnectorError> {
        let state: State = encoding::decode("the state of a file sink", VERSION, restored.state)?;
        let parts = decode_all(restored.staged)?;
        let last = restored.permit.checkpoint();
        let counted = state.total.parts;
        // A new folder has nothing that could have been taken back.
        if origin != CheckpointOrigin::Carried {
            let data = match restored.data_folder {
                "" => self.owner.data.as_str(),
                data => data,
            };
            self.taken_back.check(&self.folder, data, (last, counted))?;
        }
        self.make_folders(&parts)?;
        let mut recovered = Recovered::default();
        for part in &parts {
            let was_committed = state
                .committed_through
                .is_some_and(|through| part.name.checkpoint.0 <= through);
            // With the marker the staging folder is complete, so the part was committed and moved away by a reader. A
            // new folder never had it.
            let may_be_gone =
                was_committed || self.mark == Mark::Ours || origin != CheckpointOrigin::Own;
            if !self.rename(part, &mut recovered)? && !may_be_gone {
                return Err(ConnectorError::PartGone {
                    path: part.visible(&self.folder),
                });
            }
        }
        self.sync_folders_of(&parts)?;
        let visible = visible(&self.folder, &self.made)?;
        let (later, kept): (Vec<_>, Vec<_>) = visible
            .into_iter()
            .partition(|(part, _)| part.checkpoint > last);
        self.note_taken_back(&later, (last, counted))?;
        let later: Vec<PathBuf> = later.into_iter().map(|(_, path)| path).collect();
        self.remove(&later, &mut recovered)?;
        self.committed = state.total;
        self.absent = counted.saturating_sub(kept.len() as u64);
        if origin != CheckpointOrigin::Carried {
            recovered.counted = counted;
            recovered.absent = self.absent;
        }
        Ok(recovered)
    }
}

impl SinkCommitter for FileCommitter {
    fn prepare(&mut self, staged: &[Staged]) -> Result<Vec<u8>, ConnectorError> {
        if self.has_failed_sync {
            let reason = io::Error::other("an earlier sync of it failed");
            return Err(ConnectorError::unsynced(&self.staging)(reason));
        }
        let parts = decode_all(staged)?;
        if !parts.is_empty() {
            // After a failed sync the content of the disk is unknown, and a second sync may succeed without writing the
            // rest. A file that cannot be opened was not synced at all, and can be tried again.
            let synced = self.sync_parts(&parts);
            self.has_failed_sync = synced.as_ref().is_err_and(ConnectorError::is_failed_sync);
            synced?;
        }
        if let Some(first) = parts.iter().map(|part| part.name.checkpoint).min() {
            self.taken_back.resumed(&self.owner.data, first)?;
        }
        let committed_through = match self.pending.keys().next() {
            Some(oldest) => oldest.checkpoint.0.checked_sub(1),
            None => parts
                .iter()
                .map(|part| part.name.checkpoint.0)
                .min()
                .and_then(|oldest| oldest.checked_sub(1)),
        };
        for part in parts {
            let pending = PendingPart {
                size: part.size,
                is_renamed: false,
            };
            if self.pending.insert(part.name, pending).is_none() {
                self.prepared.add(part.size);
            }
        }
        let total = self.prepared;
        Ok(encoding::encode(
            VERSION,
            &State {
                committed_through,
                total,
            },
        ))
    }

    fn commit(&mut self, _: &CommitPermit, staged: &[Staged]) -> Result<(), ConnectorError> {
        let parts = decode_all(staged)?;
        self.make_folders(&parts)?;
        for part in &parts {
            let is_there = self.rename(part, &mut Recovered::default())?;
            // A part that is not pending was committed before, and one that is renamed may have been moved away since.
            if let Some(pending) = self.pending.get_mut(&part.name) {
                if !is_there && !pending.is_renamed {
                    return Err(ConnectorError::PartGone {
                        path: self.staging.join(part.name.file_name()),
                    });
                }
                pending.is_renamed = true;
            }
        }
        if !parts.is_empty() {
            self.sync_folders_of(&parts)?;
        }
        for part in &parts {
            if let Some(pending) = self.pending.remove(&part.name) {
                self.committed.add(pending.size);
            }
        }
        Ok(())
    }

    fn recover(&mut self, restored: Option<RestoredSink<'_>>) -> Result<Recovered, ConnectorError> {
        let parts = self.count_visible()?;
        let recovered = match restored {
            Some(restored) => {
                let origin = self.origin(restored, parts)?;
                self.restore(restored, origin)?
            }
            // A job that starts fresh may take over the folder of another run only if no parts are left in it.
            None if parts > 0 && matches!(self.mark, Mark::OtherData(_)) => {
                let path = self.folder.clone();
                return Err(ConnectorError::OtherRun { path });
            }
            None => {
                if parts > 0 {
                    let path = self.folder.clone();
                    return Err(ConnectorError::ForeignOutput { path, parts });
                }
                let mut recovered = Recovered::default();
                self.remove(&[], &mut recovered)?;
                self.committed = CommittedTotal::default();
                self.absent = 0;
                recovered
            }
        };
        self.pending.clear();
        self.has_failed_sync = false;
        self.prepared = self.committed;
        self.mark()?;
        Ok(recovered)
    }

    fn clear(&mut self) -> Result<Recovered, ConnectorError> {
        let all = visible(&self.folder, &self.made)?;
        if self.mark == Mark::Absent && !all.is_empty() {
            return Err(ConnectorError::UnmarkedOutput {
                path: self.folder.clone(),
                parts: all.len(),
            });
        }
        let all: Vec<PathBuf> = all.into_iter().map(|(_, path)| path).collect();
        let mut recovered = Recovered::default();
        self.remove(&all, &mut recovered)?;
        self.taken_back.forget()?;
        self.pending.clear();
        self.has_failed_sync = false;
        self.absent = 0;
        self.committed = CommittedTotal::default();
        self.prepared = CommittedTotal::default();
        self.mark()?;
        Ok(recovered)
    }

    fn summary(&self) -> Option<String> {
        let CommittedTotal { parts, size } = self.committed;
        let place = match self.absent {
            0 => String::new(),
            absent => format!(" of all runs, {} of them", parts.saturating_sub(absent)),
        };
        Some(format!(
            "{} record{}, {} byte{} in {parts} part{}{place} in `{}`",
            size.records,
            plural(size.records),
            size.bytes,
            plural(size.bytes),
            plural(parts),
            self.folder.display()
        ))
    }
}

/// Whether a part that is no longer staged is visible. A file of another length is another one: the part was moved away.
fn is_visible(path: &Path, bytes: u64) -> Result<bool, ConnectorError> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file() && found.len() == bytes),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(ConnectorError::io("read", path)(error)),
    }
}

/// Renames a file; the error is `AlreadyExists` if the new name is taken.
///
/// This is one call of the system, so a file that appears meanwhile is not replaced either. A second link and the removal
/// of the first would leave both names after a crash, as a file of a user does.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // Some file systems do not have this call, NFS among them.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::symlink_metadata(to) {
            Ok(_) => Err(ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

fn plural(number: u64) -> &'static str {
    if number == 1 { "" } else { "s" }
}

fn marker(staging: &Path) -> PathBuf {
    staging.join("owner")
}

pub(super) fn read_mark(
    folder: &Path,
    staging: &Path,
    owner: &Owner,
) -> Result<Mark, ConnectorError> {
    let Some(found) = read_owner(staging)? else {
        return Ok(Mark::Absent);
    };
    if (&found.job, &found.sink) != (&owner.job, &owner.sink) {
        return Err(ConnectorError::OutputTaken {
            path: folder.to_owned(),
            job: found.job,
            sink: found.sink,
        });
    }
    Ok(if found.data == owner.data {
        Mark::Ours
    } else {
        Mark::OtherData(found.data)
    })
}

/// The owner in a staging folder; `None` if there is no marker, or one that a crash has cut short.
pub(super) fn read_owner(staging: &Path) -> Result<Option<Owner>, ConnectorError> {
    let path = marker(staging);
    let bytes = match regular_file::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.map_err(ConnectorError::io("read", &path))?,
    };
    if !bytes.ends_with(b"\n") {
        return Ok(None);
    }
    let owner = serde_json::from_slice(&bytes)
        .map_err(|error| ConnectorError::io("read", &path)(error.into()))?;
    Ok(Some(owner))
}

fn decode_all(staged: &[Staged]) -> Result<Vec<Part>, ConnectorError> {
    let mut parts = Vec::new();
    for staged in staged {
        parts.extend(Part::decode(staged)?);
    }
    Ok(parts)
}

fn remove_file(path: &Path) -> Result<(), ConnectorError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(ConnectorError::io("remove", path)),
    }
}
