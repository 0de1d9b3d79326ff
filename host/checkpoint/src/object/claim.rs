//! Gives the right to write to one process: ids are taken in order, and each new writer takes the next one.
//!
//! ```text
//! 5 record   6 record   7 mark of B   8 record of B
//!                        ^ the id that A, which wrote 6, would need next
//! ```
//!
//! Each writer knows the id of its next record. Creating that record fails if another writer has started meanwhile. The
//! right is then lost permanently: a writer never looks for another free id. Marks are kept, since a writer may notice
//! late; only the newest are kept, so that their number has a limit. If the answer to a create was lost, the writer
//! tries to put a mark there. Either the mark is created, and the lost create can never succeed, or the record is found
//! and counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::ObjectStorage;
use super::layout::{
    self, CheckpointRecord, StoredCheckpoint, StoredChunk, StoredPlugin, WriterId,
};
use super::objects::{Created, Got};
use super::reader::RECORD_BYTES_MAX;
use crate::manifest::ID_MAX;
use crate::store::{CheckpointRefusal, StoreError};
use crate::{ManifestError, PluginDigest};
use floodmark_state::ChunkId;
use floodmark_state::stream::CheckpointId;

/// Largest number of marks that are kept.
const MARKS_MAX: usize = 64;
/// Number of lost races against other starting writers before an error is returned.
const TRIES: usize = 8;

/// Whether this storage may write.
#[derive(Debug)]
pub(super) enum ClaimStatus {
    /// It has not tried yet.
    Unclaimed,
    /// It may write, until another writer starts.
    Writer(Claim),
    /// It may not write: another writer has started.
    TakenOver,
}

/// The chunks and plugins that stored checkpoints name.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    pub chunks: BTreeMap<ChunkId, StoredChunk>,
    pub plugins: BTreeMap<PluginDigest, StoredPlugin>,
}

impl From<StoredCheckpoint> for Named {
    fn from(kept: StoredCheckpoint) -> Self {
        Self {
            chunks: kept.chunks,
            plugins: kept.plugins,
        }
    }
}

/// The right to write, and the known content of the storage.
#[derive(Debug)]
pub(super) struct Claim {
    pub writer: WriterId,
    /// The id that the next record must have.
    pub successor: u64,
    /// The highest id that was tried; it is unknown whether records from `successor` up to it exist.
    pub tried: Option<u64>,
    pub highest_chunk: u64,
    /// The stored checkpoints whose records can be read.
    pub live: BTreeMap<CheckpointId, Named>,
    /// Records that cannot be read.
    pub damaged: BTreeSet<CheckpointId>,
    /// The newest checkpoint, if its record is missing.
    pub missing: Option<CheckpointId>,
    pub marks: BTreeSet<u64>,
    /// Whether there may be objects that no record names.
    pub is_littered: bool,
}

impl Claim {
    /// Whether it is unknown if some record exists.
    fn is_in_doubt(&self) -> bool {
        self.tried.is_some_and(|tried| tried >= self.successor)
    }

    /// The stored chunk with this id, if a checkpoint names it.
    pub(super) fn stored_chunk(&self, id: ChunkId) -> Option<StoredChunk> {
        let mut found = self.live.values().filter_map(|named| named.chunks.get(&id));
        found.next().copied()
    }

    pub(super) fn stored_plugin(&self, plugin: PluginDigest) -> Option<StoredPlugin> {
        let mut found = self
            .live
            .values()
            .filter_map(|named| named.plugins.get(&plugin));
        found.next().copied()
    }

    pub(super) fn mark(&self, next: u64) -> CheckpointRecord {
        CheckpointRecord {
            writer: self.writer,
            next,
            highest_chunk: self.highest_chunk,
            kept: None,
        }
    }
}

/// The object found under an id that was to be taken.
pub(super) enum Placed {
    Now,
    /// A record that this writer tried to create earlier.
    Earlier(Box<CheckpointRecord>),
}

impl ObjectStorage {
    /// Makes sure that only this storage writes, and that the existence of all records is known.
    pub(super) fn claim(&mut self) -> Result<&mut Claim, StoreError> {
        if matches!(self.standing, ClaimStatus::Unclaimed) {
            self.standing = ClaimStatus::Writer(self.begin()?);
        } else {
            self.settle()?;
        }
        self.claimed()
    }

    pub(super) fn claimed(&mut self) -> Result<&mut Claim, StoreError> {
        match &mut self.standing {
            ClaimStatus::Writer(claim) => Ok(claim),
            _ => Err(StoreError::TakenOver {
                path: self.remote.url(),
            }),
        }
    }

    /// Claims the right to write, by creating a mark under the next id.
    fn begin(&self) -> Result<Claim, StoreError> {
        if let Some(folder) = &self.folder {
            remove_pieces(folder);
        }
        for _ in 0..TRIES {
            let mut claim = self.look()?;
            let begin = claim.successor;
            claim.writer = WriterId(begin);
            claim.successor = self.after(begin)?;
            let record = layout::encode_record(begin, &claim.mark(claim.successor));
            let created =
                self.remote
                    .create(layout::CHECKPOINTS, &layout::number(begin), record)?;
            if created == Created::Now {
                claim.marks.insert(begin);
                return Ok(claim);
            }
        }
        Err(StoreError::TakenOver {
            path: self.remote.url(),
        })
    }

    pub(super) fn after(&self, id: u64) -> Result<u64, StoreError> {
        let next = id.saturating_add(1);
        match next <= ID_MAX {
            true => Ok(next),
            false => Err(StoreError::Damaged {
                path: self.remote.url(),
                reason: format!("its highest id is {id}, which no job reaches"),
            }),
        }
    }

    /// Reads the content of the storage before claiming it.
    fn look(&self) -> Result<Claim, StoreError> {
        // The note is read first: another writer may add records meanwhile, and they must not be missed.
        let newest = self.reader.newest()?;
        let records = self.reader.records()?;
        let mut claim = Claim {
            writer: WriterId(0),
            successor: 0,
            tried: None,
            highest_chunk: 0,
            live: BTreeMap::new(),
            damaged: BTreeSet::new(),
            missing: None,
            marks: BTreeSet::new(),
            is_littered: true,
        };
        let last = records.last_key_value().map(|(id, _)| *id);
        if let Some(missing) = newest.filter(|newest| last.is_none_or(|last| last < *newest)) {
            claim.missing = Some(CheckpointId(missing));
            claim.successor = self.after(missing)?;
        }
        for (id, record) in records {
            let next = match record {
                Ok(record) => {
                    claim.highest_chunk = claim.highest_chunk.max(record.highest_chunk);
                    let next = record.next;
                    match record.kept {
                        Some(kept) => {
                            claim.live.insert(CheckpointId(id), Named::from(kept));
                        }
                        None => {
                            claim.marks.insert(id);
                        }
                    }
                    next
                }
                // A newer version wrote it, so this one must not continue from it or delete it.
                Err(ManifestError::OtherVersion { found }) => {
                    return Err(StoreError::OtherFormat {
                        path: self.remote.url(),
                        found: found.into(),
                        expected: layout::VERSION.into(),
                    });
                }
                Err(_) => {
                    claim.damaged.insert(CheckpointId(id));
                    self.after(id)?
                }
            };
            claim.successor = claim.successor.max(next);
        }
        let named = claim
            .live
            .values()
            .filter_map(|named| named.chunks.last_key_value());
        let named = named.map(|(id, _)| id.0).max();
        let stored = self.remote.list(layout::CHUNKS)?;
        let stored = stored.keys().filter_map(|name| layout::parse_name(name));
        let stored = stored.filter_map(|(id, _)| layout::parse_number(id));
        // No job gives a chunk a higher id, so no new one can have the name of such an object.
        let stored = stored.filter(|id| *id <= ID_MAX).max();
        claim.highest_chunk = claim.highest_chunk.max(named.max(stored).unwrap_or(0));
        Ok(claim)
    }

    /// Finds out whether a record exists whose creation failed.
    fn settle(&mut self) -> Result<(), StoreError> {
        let claim = self.claimed()?;
        if !claim.is_in_doubt() {
            return Ok(());
        }
        let beyond = claim.tried.unwrap_or(0);
        let beyond = self.after(beyond)?;
        self.advance_to(beyond)
    }

    /// Makes this id the next one, with a mark for the ids before it.
    pub(super) fn advance_to(&mut self, id: u64) -> Result<(), StoreError> {
        loop {
            let claim = self.claimed()?;
            let successor = claim.successor;
            if successor >= id {
                return Ok(());
            }
            let mark = claim.mark(id);
            match self.place(successor, &mark)? {
                Placed::Now => {
                    let claim = self.claimed()?;
                    claim.marks.insert(successor);
                    claim.successor = id;
                }
                Placed::Earlier(record) => {
                    let claim = self.claimed()?;
                    claim.successor = record.next;
                    match record.kept {
                        Some(kept) => {
                            claim
                                .live
                                .insert(CheckpointId(successor), Named::from(kept));
                        }
                        None => {
                            claim.marks.insert(successor);
                        }
                    }
                }
            }
        }
    }

    /// Creates the next record. If another writer's record exists, the right to write is lost.
    pub(super) fn place(
        &mut self,
        id: u64,
        record: &CheckpointRecord,
    ) -> Result<Placed, StoreError> {
        let (folder, name) = (layout::CHECKPOINTS, layout::number(id));
        let bytes = layout::encode_record(id, record);
        if self.remote.create(folder, &name, bytes)? == Created::Now {
            return Ok(Placed::Now);
        }
        let got = self.remote.get(folder, &name, None, RECORD_BYTES_MAX)?;
        if let Got::Bytes(bytes) = got
            && let Ok(found) = layout::decode_record(id, &bytes)
            && found.writer == record.writer
        {
            return Ok(Placed::Earlier(Box::new(found)));
        }
        self.standing = ClaimStatus::TakenOver;
        Err(StoreError::TakenOver {
            path: self.remote.url(),
        })
    }

    /// Refuses an id that was used or tried before.
    pub(super) fn require_new(&mut self, id: CheckpointId) -> Result<(), StoreError> {
        let claim = self.claimed()?;
        let highest = claim.successor.saturating_sub(1);
        if id.0 < claim.successor {
            let highest = CheckpointId(highest);
            let reason = CheckpointRefusal::IdNotNew { highest };
            return Err(StoreError::Refused { id, reason });
        }
        Ok(())
    }

    /// Marks that are no longer needed: the oldest, but never the record with the highest id.
    pub(super) fn old_marks(&mut self) -> Result<Vec<u64>, StoreError> {
        let marks = &mut self.claimed()?.marks;
        let mut old = Vec::new();
        while marks.len() > MARKS_MAX {
            old.extend(marks.pop_first());
        }
        Ok(old)
    }
}

/// Removes unfinished files of processes that died: a file gets its final name when it is complete. A process that is
/// still writing one is about to lose the right to write.
fn remove_pieces(folder: &Path) {
    let is_piece = |name: &str| {
        let number = name.rsplit_once('#').map(|(_, number)| number);
        number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    for part in [layout::CHECKPOINTS, layout::CHUNKS, layout::PLUGINS, ""] {
        let Ok(entries) = std::fs::read_dir(folder.join(part)) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_str().is_some_and(is_piece) {
                // A leftover only takes space.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}
