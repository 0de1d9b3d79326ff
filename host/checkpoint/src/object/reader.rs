//! Reads checkpoints in an object store, and changes nothing.
//!
//! Records say where chunks are. This is cached, so that a chunk costs one request; records are read again if no known
//! record names a chunk. A record that disappears between listing and reading was retired, and is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::claim::Named;
use super::layout::{self, CheckpointRecord, StoredCheckpoint, StoredChunk, StoredPlugin};
use super::objects::Got;
use super::remote::Remote;
use crate::manifest::ID_MAX;
use crate::store::{CheckpointReport, Listed, StoreError, VerifyReport, is_gone};
use crate::{Checkpoint, CheckpointReader, ManifestError, PluginDigest};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkId, ChunkRef};

/// Largest record, in bytes: a record names some hundred thousand chunks at most.
pub(super) const RECORD_BYTES_MAX: u64 = 256 << 20;

/// Records by id; for one that cannot be read, the reason.
pub(super) type Records = BTreeMap<u64, Result<CheckpointRecord, ManifestError>>;

/// A checkpoint's id and its record; or the reason why the record cannot be read.
type KeptListed = (CheckpointId, Result<StoredCheckpoint, ManifestError>);

#[derive(Debug)]
pub(super) struct ObjectReader {
    remote: Arc<Remote>,
    /// The chunks and plugins that known records name.
    known: Mutex<Named>,
}

impl ObjectReader {
    pub(super) fn new(remote: Arc<Remote>) -> Self {
        Self {
            remote,
            known: Mutex::default(),
        }
    }

    /// All records, including marks.
    pub(super) fn records(&self) -> Result<Records, StoreError> {
        let names = self.remote.list(layout::CHECKPOINTS)?;
        let ids: BTreeSet<u64> = names
            .keys()
            .filter_map(|name| layout::parse_number(name))
            .collect();
        let wanted = ids
            .into_iter()
            .map(|id| (id, layout::number(id), RECORD_BYTES_MAX));
        let mut records = Records::new();
        self.remote
            .get_all(layout::CHECKPOINTS, wanted, |id, got| {
                if let Some(record) = record(id, got) {
                    records.insert(id, record);
                }
            })?;
        let kept = records
            .values()
            .filter_map(|record| record.as_ref().ok()?.kept.as_ref());
        let mut known = Named::default();
        for kept in kept {
            known.chunks.extend(&kept.chunks);
            known.plugins.extend(&kept.plugins);
        }
        *self.known() = known;
        Ok(records)
    }

    /// Checkpoints, newest first.
    pub(super) fn kept(&self) -> Result<Vec<KeptListed>, StoreError> {
        let records = self.records()?.into_iter().rev();
        let kept = records.filter_map(|(id, record)| {
            let kept = record.map(|record| record.kept).transpose()?;
            Some((CheckpointId(id), kept))
        });
        Ok(kept.collect())
    }

    /// The id of the newest checkpoint, as noted beside the records; `None` without a readable note.
    pub(super) fn newest(&self) -> Result<Option<u64>, StoreError> {
        let got = self.remote.get("", layout::NEWEST, None, 64)?;
        Ok(match got {
            // One that no job reaches is as damaged as one that is no number.
            Got::Bytes(bytes) => str::from_utf8(&bytes)
                .ok()
                .and_then(layout::parse_number)
                .filter(|number| *number <= ID_MAX),
            _ => None,
        })
    }

    fn known(&self) -> MutexGuard<'_, Named> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a new checkpoint names.
    pub(super) fn learn(&self, named: &Named) {
        let mut known = self.known();
        known.chunks.extend(&named.chunks);
        known.plugins.extend(&named.plugins);
    }

    /// Finds what a record names; if it is not known, reads the records again.
    fn find<T>(&self, look: impl Fn(&Named) -> Option<T>) -> Result<Option<T>, StoreError> {
        let found = look(&self.known());
        if found.is_some() {
            return Ok(found);
        }
        self.records()?;
        Ok(look(&self.known()))
    }

    fn find_chunk(&self, chunk: ChunkRef) -> Result<StoredChunk, StoreError> {
        let found = self.find(|known| known.chunks.get(&chunk.id).copied())?;
        let found = found.ok_or_else(|| self.damaged(chunk_problem(chunk.id, MISSING)))?;
        if found.chunk.len != chunk.len {
            return Err(self.damaged(chunk_problem(chunk.id, OTHER_LENGTH)));
        }
        Ok(found)
    }

    pub(super) fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged {
            path: self.remote.url(),
            reason,
        }
    }

    /// Reads chunks, several at a time, and passes on each one or a description of its damage.
    pub(super) fn read_chunks(
        &self,
        chunks: impl Iterator<Item = StoredChunk>,
        mut take: impl FnMut(StoredChunk, Result<(Vec<u8>, bool), String>),
    ) -> Result<(), StoreError> {
        let wanted = chunks.map(|chunk| (chunk, chunk.name(), chunk.object_bytes()));
        self.remote.get_all(layout::CHUNKS, wanted, |chunk, got| {
            let read = match got {
                Got::Missing => Err(MISSING),
                Got::TooLong => Err(OTHER_LENGTH),
                Got::Bytes(object) => layout::decode_chunk(&chunk, &object).map(|plain| {
                    let has_index = chunk.index_range().is_none_or(|range| {
                        let index = usize::try_from(range.start).ok();
                        let index = index.and_then(|start| object.get(start..));
                        index.is_some_and(|index| layout::decode_index(&chunk, index).is_some())
                    });
                    (plain, has_index)
                }),
            };
            take(
                chunk,
                read.map_err(|what| chunk_problem(chunk.chunk.id, what)),
            );
        })
    }

    /// The plugin's bytes, or a description of the damage.
    pub(super) fn read_plugin(
        &self,
        plugin: PluginDigest,
        stored: StoredPlugin,
    ) -> Result<Result<Vec<u8>, String>, StoreError> {
        let name = layout::plugin_name(plugin, stored.writer);
        let got = self.remote.get(layout::PLUGINS, &name, None, stored.len)?;
        Ok(match got {
            Got::Bytes(bytes) if Sha256::digest(&bytes)[..] == plugin.0 => Ok(bytes),
            Got::Missing => Err(format!("plugin {plugin} {MISSING}")),
            _ => Err(format!("plugin {plugin} does not have that digest")),
        })
    }
}

const MISSING: &str = "is missing";
const OTHER_LENGTH: &str = "has a different length than its checkpoint says";

pub(super) fn chunk_problem(id: ChunkId, what: &str) -> String {
    format!("chunk {} {what}", id.0)
}

fn record(id: u64, got: Got) -> Option<Result<CheckpointRecord, ManifestError>> {
    match got {
        Got::Bytes(bytes) => Some(layout::decode_record(id, &bytes)),
        Got::TooLong => Some(Err(ManifestError::Malformed(
            "it is longer than any record can be",
        ))),
        Got::Missing => None,
    }
}

impl CheckpointReader for ObjectReader {
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        let kept = self.kept()?.into_iter();
        Ok(kept
            .map(|(id, kept)| (id, kept.map(|kept| kept.checkpoint)))
            .collect())
    }

    fn read(&self, id: CheckpointId) -> Result<Checkpoint, StoreError> {
        let name = layout::number(id.0);
        let got = self
            .remote
            .get(layout::CHECKPOINTS, &name, None, RECORD_BYTES_MAX)?;
        let none = || StoreError::NoSuchCheckpoint { id };
        match record(id.0, got).ok_or_else(none)? {
            Ok(record) => {
                let kept = record.kept.ok_or_else(none)?;
                let checkpoint = kept.checkpoint.clone();
                self.learn(&Named::from(kept));
                Ok(checkpoint)
            }
            Err(ManifestError::OtherVersion { found }) => Err(StoreError::OtherFormat {
                path: self.remote.url(),
                found: found.into(),
                expected: layout::VERSION.into(),
            }),
            Err(error) => Err(self.damaged(error.to_string())),
        }
    }

    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, StoreError> {
        let stored = self.find_chunk(chunk)?;
        let mut read = None;
        self.read_chunks([stored].into_iter(), |_, found| read = Some(found))?;
        let read = read.unwrap_or_else(|| Err(chunk_problem(chunk.id, MISSING)));
        read.map(|(plain, _)| plain)
            .map_err(|reason| self.damaged(reason))
    }

    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, StoreError> {
        let stored = match self.find_chunk(chunk) {
            Ok(stored) => stored,
            // Reading the chunk itself reports the damage.
            Err(StoreError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(range) = stored.index_range() else {
            return Ok(None);
        };
        let bytes_max = range.end - range.start;
        let got = self
            .remote
            .get(layout::CHUNKS, &stored.name(), Some(range), bytes_max)?;
        Ok(match got {
            Got::Bytes(bytes) => layout::decode_index(&stored, &bytes),
            _ => None,
        })
    }

    fn plugin(&self, plugin: PluginDigest) -> Result<Vec<u8>, StoreError> {
        let found = self.find(|known| known.plugins.get(&plugin).copied())?;
        let found = found.ok_or_else(|| self.damaged(format!("plugin {plugin} {MISSING}")))?;
        self.read_plugin(plugin, found)?
            .map_err(|reason| self.damaged(reason))
    }

    fn verify(&self, id: Option<CheckpointId>) -> Result<VerifyReport, StoreError> {
        let asked = id;
        let mut kept = self.kept()?;
        let highest = kept.first().map(|(id, _)| id.0);
        if let Some(id) = id {
            kept.retain(|(found, _)| *found == id);
            if kept.is_empty() {
                return Err(StoreError::NoSuchCheckpoint { id });
            }
        }
        let mut chunks = BTreeMap::new();
        let mut plugins = BTreeMap::new();
        for kept in kept.iter().filter_map(|(_, kept)| kept.as_ref().ok()) {
            chunks.extend(kept.chunks.iter().map(|(id, stored)| (*id, *stored)));
            plugins.extend(kept.plugins.iter().map(|(id, stored)| (*id, *stored)));
        }
        let mut report = VerifyReport {
            chunks: chunks.len(),
            chunk_bytes: chunks
                .values()
                .map(|stored| u64::from(stored.chunk.len))
                .sum(),
            ..VerifyReport::default()
        };
        let mut wrong_chunks = BTreeMap::new();
        self.read_chunks(chunks.into_values(), |stored, read| {
            let id = stored.chunk.id;
            let problem = match read {
                Ok((_, true)) => return,
                Ok((_, false)) => chunk_problem(id, "has a damaged index"),
                Err(problem) => problem,
            };
            wrong_chunks.insert(id, problem);
        })?;
        let mut wrong_plugins = BTreeMap::new();
        for (plugin, stored) in plugins {
            if let Err(problem) = self.read_plugin(plugin, stored)? {
                wrong_plugins.insert(plugin, problem);
            }
        }
        for (id, kept) in kept {
            let problems = match kept {
                Err(error) => vec![error.to_string()],
                Ok(kept) => {
                    let chunks = kept.chunks.keys().filter_map(|id| wrong_chunks.get(id));
                    let plugins = kept.plugins.keys().filter_map(|id| wrong_plugins.get(id));
                    chunks.chain(plugins).cloned().collect()
                }
            };
            // Its objects may have been deleted while they were read.
            if !problems.is_empty() && is_gone(self, id)? {
                match asked {
                    Some(id) => return Err(StoreError::NoSuchCheckpoint { id }),
                    None => continue,
                }
            }
            report.checkpoints.push(CheckpointReport { id, problems });
        }
        if asked.is_none() {
            report.problems.extend(self.missing(highest)?);
        }
        Ok(report)
    }
}

impl ObjectReader {
    /// A description of the damage if the record of the newest checkpoint is missing.
    fn missing(&self, highest: Option<u64>) -> Result<Option<String>, StoreError> {
        let Some(newest) = self.newest()? else {
            return Ok(None);
        };
        if highest.is_some_and(|highest| highest >= newest) {
            return Ok(None);
        }
        // A process that deletes the newest checkpoint on purpose leaves a mark behind it.
        let names = self.remote.list(layout::CHECKPOINTS)?;
        let last = names
            .keys()
            .filter_map(|name| layout::parse_number(name))
            .max();
        let is_missing = last.is_none_or(|last| last < newest);
        Ok(is_missing
            .then(|| format!("checkpoint {newest} was written, but its record is missing")))
    }
}
