//! Finds the newest sound checkpoint, reads it whole, and sees to it that the job goes on in a sound file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable};

use super::error::StoreError;
use super::renew::Highest;
use super::tables::{self, Meta};
use super::{CheckpointStore, Health, Listed, chunks_of, plugins_of};
use crate::checkpoint::{Checkpoint, CommitPermit, ManifestError};
use crate::state::{Chunk, ChunkId};
use crate::stream::CheckpointId;

/// What a job starts from.
#[derive(Debug)]
pub struct Recovery {
    /// The newest sound checkpoint; none when there never was any.
    pub restored: Option<RestoredCheckpoint>,
    /// Those that are damaged, newest first, with what is wrong. Ones older than `restored` are only looked at when
    /// something else is damaged.
    pub damaged: Vec<(CheckpointId, String)>,
    /// The damaged file, when there was damage: a new file has replaced it, with all sound checkpoints.
    pub set_aside: Option<SetAside>,
    /// Above all ids that were ever written, those of damaged checkpoints included.
    pub next_id: CheckpointId,
    /// Above all ids of chunks that were ever written: a chunk of a damaged checkpoint must not be taken for a new one.
    pub next_chunk: ChunkId,
}

/// A damaged store that was kept for whoever wants to look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now.
    pub path: PathBuf,
    /// What was found first.
    pub reason: String,
}

/// A checkpoint whose every byte fits its checksum.
#[derive(Debug)]
pub struct RestoredCheckpoint {
    /// Its manifest.
    pub checkpoint: Checkpoint,
    /// All chunks that it names.
    pub chunks: BTreeMap<ChunkId, Arc<Chunk>>,
    /// It is durable.
    pub permit: CommitPermit,
}

impl CheckpointStore {
    /// Reads the newest checkpoint of which all is sound, and says of each newer one why it is not.
    ///
    /// When there is any damage, also in what only redb uses, the sound checkpoints are copied to a new file, which
    /// replaces the damaged one; that is kept beside it.
    ///
    /// # Errors
    ///
    /// [`StoreError::AllDamaged`] when there are checkpoints and none is sound, [`StoreError::NotReplaced`] when they cannot
    /// be copied. An I/O error is returned as it is: it may pass, and then going back to an older checkpoint would be
    /// wrong. Nothing is changed in each case.
    pub fn recover(&mut self) -> Result<Recovery, StoreError> {
        let pages = self.check_pages()?;
        let meta = self.with(|database| tables::meta(&database.begin_read()?))?;
        let listed = self.list()?;
        let highest = self.highest(&meta, &listed)?;
        let mut damaged = Vec::new();
        let newest = listed.first().map_or(0, |(id, _)| id.0);
        // The highest is only ever retired by a higher one.
        if let Some(missing) = meta.highest_checkpoint.filter(|id| *id > newest) {
            damaged.push((CheckpointId(missing), "its manifest is missing".to_owned()));
        }
        let mut restored = None;
        let mut listed = listed.into_iter();
        for (id, manifest) in listed.by_ref() {
            match self.load(manifest)? {
                Ok(found) => {
                    restored = Some(found);
                    break;
                }
                Err(reason) => damaged.push((id, reason)),
            }
        }
        let first = damaged.first();
        let first = first.map(|(id, reason)| format!("checkpoint {id}: {reason}"));
        let damage = first.or(pages).or_else(|| meta.damage());
        let set_aside = match (damage, &restored) {
            (None, _) => {
                self.health = Health::Sound;
                None
            }
            (Some(reason), Some(restored)) => {
                let mut sound = self.sound_ones(listed.collect(), &mut damaged)?;
                sound.push(restored.checkpoint.clone());
                self.leave(&sound, highest, reason)?
            }
            // It may have had checkpoints: to say that there never was one is not for us.
            (Some(reason), None) if damaged.is_empty() => {
                let path = self.path.clone();
                return Err(StoreError::Damaged { path, reason });
            }
            (Some(_), None) => {
                let path = self.path.clone();
                return Err(StoreError::AllDamaged { path, damaged });
            }
        };
        Ok(Recovery {
            restored,
            damaged,
            set_aside,
            next_id: CheckpointId(highest.checkpoint.saturating_add(1)),
            next_chunk: ChunkId(highest.chunk.saturating_add(1)),
        })
    }

    /// The highest ids that were ever written. The numbers in the store have a checksum, and keys of tables have none: they
    /// count only when a number is unreadable.
    fn highest(&mut self, meta: &Meta, listed: &[Listed]) -> Result<Highest, StoreError> {
        let checkpoint = match meta.highest_checkpoint {
            Some(highest) => highest.max(meta.highest_lost.unwrap_or(0)),
            None => {
                let newest = listed.first().map_or(0, |(id, _)| id.0);
                newest.max(meta.highest_lost.unwrap_or(0))
            }
        };
        let chunk = match meta.highest_chunk {
            Some(highest) => highest,
            None => {
                let sound = listed.iter().filter_map(|(_, found)| found.as_ref().ok());
                let named = sound.flat_map(chunks_of).map(|chunk| chunk.id.0);
                named.fold(self.highest_chunk()?, u64::max)
            }
        };
        Ok(Highest { checkpoint, chunk })
    }

    /// Leaves the damaged file for a new one. A store that has no name cannot: it is not written to any more.
    fn leave(
        &mut self,
        sound: &[Checkpoint],
        highest: Highest,
        reason: String,
    ) -> Result<Option<SetAside>, StoreError> {
        if !self.replaceable {
            self.health = Health::Damaged(reason);
            return Ok(None);
        }
        let path = self.renew(sound, highest)?;
        self.health = Health::Sound;
        Ok(Some(SetAside { path, reason }))
    }

    /// The checkpoint with its chunks, or why it is damaged.
    fn load(
        &mut self,
        manifest: Result<Checkpoint, ManifestError>,
    ) -> Result<Result<RestoredCheckpoint, String>, StoreError> {
        let checkpoint = match manifest {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut chunks = BTreeMap::new();
        for chunk in chunks_of(&checkpoint) {
            let id = chunk.id;
            match self.chunk(chunk) {
                Ok(bytes) => chunks.insert(id, Arc::new(Chunk { id, bytes })),
                Err(StoreError::Damaged { reason, .. }) => return Ok(Err(reason)),
                Err(error) => return Err(error),
            };
        }
        for plugin in plugins_of(&checkpoint) {
            match self.plugin(plugin) {
                Ok(_) => {}
                Err(StoreError::Damaged { reason, .. }) => return Ok(Err(reason)),
                Err(error) => return Err(error),
            }
        }
        let permit = CommitPermit {
            checkpoint: checkpoint.id,
        };
        Ok(Ok(RestoredCheckpoint {
            checkpoint,
            chunks,
            permit,
        }))
    }

    /// The highest id in the table of chunks; 0 when that table is damaged.
    fn highest_chunk(&mut self) -> Result<u64, StoreError> {
        let highest = self.with(|database| {
            let table = database.begin_read()?.open_table(tables::CHUNKS)?;
            Ok(table.last()?.map_or(0, |(id, _)| id.value()))
        });
        match highest {
            Err(StoreError::Damaged { .. }) => Ok(0),
            other => other,
        }
    }
}
