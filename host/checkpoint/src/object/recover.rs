//! Finds the checkpoint to start from. Repairs nothing: damaged objects stay until the next checkpoint is written.

use std::collections::BTreeMap;

use super::ObjectStorage;
use super::layout::{self, StoredCheckpoint};
use super::objects::Names;
use super::reader::chunk_problem;
use crate::store::{Recovery, RestoredCheckpoint, StoreError};
use crate::{CommitPermit, Depth, ManifestError};
use floodmark_state::ChunkId;
use floodmark_state::stream::CheckpointId;

/// The names of all stored objects: enough for [`Depth::Quick`].
struct StoredNames {
    chunks: Names,
    plugins: Names,
}

impl ObjectStorage {
    pub(super) fn recover_from(
        &mut self,
        depth: Depth,
        at: Option<CheckpointId>,
    ) -> Result<Recovery, StoreError> {
        // From here on, no earlier writer can add a checkpoint.
        let claim = self.claim()?;
        let (next_id, highest_chunk) = (claim.successor, claim.highest_chunk);
        let missing = claim.missing.filter(|_| at.is_none());
        let mut damaged: Vec<_> = missing
            .map(|id| (id, "its record is missing".to_owned()))
            .into_iter()
            .collect();
        let mut kept = self.reader.kept()?;
        if let Some(id) = at {
            kept.retain(|(found, _)| *found == id);
            if kept.is_empty() {
                return Err(StoreError::NoSuchCheckpoint { id });
            }
        }
        let mut stored = None;
        let mut restored = None;
        for (id, kept) in kept {
            match self.check(kept, depth, &mut stored)? {
                Ok(found) => {
                    restored = Some(found);
                    break;
                }
                Err(reason) => damaged.push((id, reason)),
            }
        }
        let path = self.remote.url();
        match (&restored, damaged.first(), at) {
            (None, Some((id, reason)), Some(_)) => {
                let reason = format!("checkpoint {id}: {reason}");
                return Err(StoreError::Damaged { path, reason });
            }
            (None, Some(_), None) => return Err(StoreError::AllDamaged { path, damaged }),
            _ => {}
        }
        if damaged.is_empty() {
            // A failure only leaves garbage: the next write tries again.
            let _ = self.sweep();
        }
        Ok(Recovery {
            restored,
            damaged,
            set_aside: None,
            next_id: CheckpointId(next_id),
            next_chunk: ChunkId(highest_chunk.saturating_add(1)),
        })
    }

    /// The checkpoint, or a description of its damage.
    fn check(
        &self,
        kept: Result<StoredCheckpoint, ManifestError>,
        depth: Depth,
        stored: &mut Option<StoredNames>,
    ) -> Result<Result<RestoredCheckpoint, String>, StoreError> {
        let kept = match kept {
            Ok(kept) => kept,
            Err(ManifestError::OtherVersion { found }) => {
                return Err(StoreError::OtherFormat {
                    path: self.remote.url(),
                    found: found.into(),
                    expected: layout::VERSION.into(),
                });
            }
            Err(error) => return Ok(Err(error.to_string())),
        };
        let checked = match depth {
            Depth::Quick => {
                let stored = match stored {
                    Some(stored) => stored,
                    None => stored.insert(StoredNames {
                        chunks: self.remote.list(layout::CHUNKS)?,
                        plugins: self.remote.list(layout::PLUGINS)?,
                    }),
                };
                is_all_there(&kept, stored)
            }
            Depth::Thorough => self.read_all(&kept)?,
        };
        Ok(checked.map(|()| RestoredCheckpoint {
            permit: CommitPermit {
                checkpoint: kept.checkpoint.id,
            },
            checkpoint: kept.checkpoint,
        }))
    }

    /// Reads every byte of a checkpoint, a few chunks at a time.
    fn read_all(&self, kept: &StoredCheckpoint) -> Result<Result<(), String>, StoreError> {
        let mut problems = BTreeMap::new();
        let chunks = kept.chunks.values().copied();
        self.reader.read_chunks(chunks, |stored, read| {
            if let Err(problem) = read {
                problems.insert(stored.chunk.id, problem);
            }
        })?;
        if let Some((_, problem)) = problems.pop_first() {
            return Ok(Err(problem));
        }
        for (plugin, stored) in &kept.plugins {
            if let Err(problem) = self.reader.read_plugin(*plugin, *stored)? {
                return Ok(Err(problem));
            }
        }
        Ok(Ok(()))
    }
}

fn is_all_there(kept: &StoredCheckpoint, stored: &StoredNames) -> Result<(), String> {
    for chunk in kept.chunks.values() {
        let problem = match stored.chunks.get(&chunk.name()) {
            Some(len) if *len == chunk.object_bytes() => continue,
            Some(_) => "has a different length than its checkpoint says",
            None => "is missing",
        };
        return Err(chunk_problem(chunk.chunk.id, problem));
    }
    for (plugin, told) in &kept.plugins {
        let name = layout::plugin_name(*plugin, told.writer);
        if stored.plugins.get(&name) != Some(&told.len) {
            return Err(format!("plugin {plugin} is missing, or has another length"));
        }
    }
    Ok(())
}
