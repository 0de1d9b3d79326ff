//! Finds the checkpoint to start from, and makes sure that the job continues in a sound file.
//!
//! A quick recovery reads manifests and the store's own tables, which must be consistent; bytes are compared with their
//! checksums when they are read later. Any doubt leads to a thorough recovery, which reads every byte that the
//! checkpoint names, and all pages.

use std::path::PathBuf;

use redb::ReadableDatabase;

use super::copy::Highest;
use super::error::{StoreError, StoreFault};
use super::tables::{self, Meta};
use super::verify::{VerifiedObjects, Views, check};
use super::{CheckpointStore, Health, Listed, read};
use crate::chunks_of;
use crate::manifest::ID_MAX;
use crate::{Checkpoint, CommitPermit, Depth};
use floodmark_state::ChunkId;
use floodmark_state::stream::CheckpointId;

/// What a recovery found.
#[derive(Debug)]
pub struct Recovery {
    /// The newest sound checkpoint, or the requested one; `None` if there never was any.
    pub restored: Option<RestoredCheckpoint>,
    /// The damaged checkpoints, newest first, with the reasons. Ones older than `restored` are only checked if
    /// something else is damaged.
    pub damaged: Vec<(CheckpointId, String)>,
    /// The damaged file, if there was damage: a new file with all sound checkpoints has replaced it.
    pub set_aside: Option<SetAside>,
    /// Higher than all ids that were ever written, including those of damaged checkpoints.
    pub next_id: CheckpointId,
    /// Higher than all chunk ids that were ever written: a chunk of a damaged checkpoint must not be taken for a new
    /// one.
    pub next_chunk: ChunkId,
}

/// A damaged store, kept so that a user can inspect it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// The new path of the file.
    pub path: PathBuf,
    /// The first damage that was found.
    pub reason: String,
}

/// A checkpoint to start from. Its chunks are read through a [`CheckpointReader`].
#[derive(Debug)]
pub struct RestoredCheckpoint {
    /// Its manifest.
    pub checkpoint: Checkpoint,
    /// The proof that it is durable.
    pub permit: CommitPermit,
}

impl RestoredCheckpoint {
    /// A permit for a stored checkpoint, which is durable.
    pub(super) fn permit(checkpoint: &Checkpoint) -> CommitPermit {
        CommitPermit {
            checkpoint: checkpoint.id,
        }
    }

    fn of(checkpoint: Checkpoint) -> Self {
        let permit = Self::permit(&checkpoint);
        Self { checkpoint, permit }
    }
}

impl CheckpointStore {
    /// Finds the newest checkpoint that is sound, or checks the requested one.
    ///
    /// If a thorough recovery finds any damage, also in redb's internal pages, the sound checkpoints are copied to a
    /// new file. It replaces the damaged one, which is kept beside it.
    ///
    /// # Errors
    ///
    /// [`StoreError::AllDamaged`] when there are checkpoints and none is sound, [`StoreError::ChosenDamaged`] when `at`
    /// is not, [`StoreError::NotReplaced`] when the sound ones cannot be copied. An I/O error is returned unchanged: it
    /// may be temporary, and then returning to an older checkpoint would be wrong. Nothing is changed in each case.
    pub(super) fn find(
        &mut self,
        depth: Depth,
        at: Option<CheckpointId>,
    ) -> Result<Recovery, StoreError> {
        if depth == Depth::Quick && matches!(self.health, Health::Sound) {
            match self.find_quickly(at) {
                Ok(Some(recovery)) => return Ok(recovery),
                Ok(None) | Err(StoreError::Damaged { .. } | StoreError::NotAStore { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let recovery = self.find_thoroughly(at)?;
        if matches!(self.health, Health::Sound) {
            self.clear_mark();
        }
        Ok(recovery)
    }

    /// Recovers from the store's own tables; `None` if they are inconsistent.
    fn find_quickly(&self, at: Option<CheckpointId>) -> Result<Option<Recovery>, StoreError> {
        self.reader.view(|transaction| {
            let meta = tables::meta(transaction)?;
            let listed = read::list(transaction)?;
            let newest = listed.first().map_or(0, |(id, _)| id.0);
            if meta.highest_checkpoint != Some(newest) {
                return Ok(None);
            }
            let (Some(highest_chunk), true) = (
                meta.highest_chunk,
                listed.iter().all(|(_, found)| found.is_ok()),
            ) else {
                return Ok(None);
            };
            let mut sound = listed.into_iter().filter_map(|(_, found)| found.ok());
            let chosen = match at {
                None => sound.next(),
                Some(id) => {
                    let found = sound.find(|checkpoint| checkpoint.id == id);
                    Some(found.ok_or(StoreFault::Asked(StoreError::NoSuchCheckpoint { id }))?)
                }
            };
            if let Some(chosen) = &chosen
                && read::unlisted(transaction, chosen)?.is_some()
            {
                return Ok(None);
            }
            let highest = newest.max(meta.highest_lost.unwrap_or(0));
            Ok(Some(Recovery {
                restored: chosen.map(RestoredCheckpoint::of),
                damaged: Vec::new(),
                set_aside: None,
                next_id: CheckpointId(highest.saturating_add(1)),
                next_chunk: ChunkId(highest_chunk.saturating_add(1)),
            }))
        })
    }

    fn find_thoroughly(&mut self, at: Option<CheckpointId>) -> Result<Recovery, StoreError> {
        let pages = self.reader.check_pages()?;
        let (meta, listed) = self
            .reader
            .view(|transaction| Ok((tables::meta(transaction)?, read::list(transaction)?)))?;
        let highest = self.highest(&meta, &listed)?;
        let mut damaged = Vec::new();
        let newest = listed.first().map_or(0, |(id, _)| id.0);
        // The highest checkpoint is retired only by a higher one. If it is deleted, it is not recorded as the highest
        // any more.
        if let Some(missing) = meta.highest_checkpoint.filter(|id| *id > newest) {
            damaged.push((CheckpointId(missing), "its manifest is missing".to_owned()));
        }
        let mut others = listed;
        let restored = match at {
            None => self.newest_sound(&mut others, &mut damaged)?,
            Some(id) => Some(self.chosen(&mut others, id)?),
        };
        let first = damaged.first();
        let first = first.map(|(id, reason)| format!("checkpoint {id}: {reason}"));
        let unreadable = || {
            let mut others = others.iter();
            others
                .find_map(|(id, found)| Some(format!("checkpoint {id}: {}", found.as_ref().err()?)))
        };
        let damage = first
            .or(pages)
            .or_else(|| meta.damage())
            .or_else(unreadable);
        let set_aside = match (damage, &restored) {
            (None, _) => {
                self.health = Health::Sound;
                None
            }
            (Some(reason), Some(restored)) => {
                let others = self.sound_ones(others, &mut damaged)?;
                let sound: Vec<_> = others.iter().chain([&restored.checkpoint]).collect();
                self.leave(&sound, highest, reason)?
            }
            // The store may have had checkpoints, so this must not be reported as a fresh start.
            (Some(reason), None) if damaged.is_empty() => {
                let path = self.path();
                return Err(StoreError::Damaged { path, reason });
            }
            (Some(_), None) => {
                let path = self.path();
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

    /// Takes the newest sound one out of `listed`, and the damaged ones before it.
    fn newest_sound(
        &self,
        listed: &mut Vec<Listed>,
        damaged: &mut Vec<(CheckpointId, String)>,
    ) -> Result<Option<RestoredCheckpoint>, StoreError> {
        while !listed.is_empty() {
            let found = listed.remove(0);
            let id = found.0;
            match self.load(found)? {
                Ok(restored) => return Ok(Some(restored)),
                Err(reason) => damaged.push((id, reason)),
            }
        }
        Ok(None)
    }

    /// Takes the one with this id out of `listed`.
    fn chosen(
        &self,
        listed: &mut Vec<Listed>,
        id: CheckpointId,
    ) -> Result<RestoredCheckpoint, StoreError> {
        let at = listed.iter().position(|(listed, _)| *listed == id);
        let at = at.ok_or(StoreError::NoSuchCheckpoint { id })?;
        self.load(listed.remove(at))?.map_err(|reason| {
            let path = self.path();
            StoreError::ChosenDamaged { path, id, reason }
        })
    }

    /// The checkpoint, or a description of its damage.
    fn load(
        &self,
        (_, manifest): Listed,
    ) -> Result<Result<RestoredCheckpoint, String>, StoreError> {
        let checkpoint = match manifest {
            Ok(checkpoint) => checkpoint,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let problems = check(&*self.reader, &checkpoint, &mut VerifiedObjects::default())?;
        Ok(match problems.into_iter().next() {
            None => Ok(RestoredCheckpoint::of(checkpoint)),
            Some(reason) => Err(reason),
        })
    }

    /// The highest ids that were ever written. The numbers in the store have a checksum, and keys of tables do not:
    /// keys are used only if a number is unreadable.
    fn highest(&self, meta: &Meta, listed: &[Listed]) -> Result<Highest, StoreError> {
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

    /// Replaces the damaged file with a new one. A store without a file name is no longer written to instead.
    fn leave(
        &mut self,
        sound: &[&Checkpoint],
        highest: Highest,
        reason: String,
    ) -> Result<Option<SetAside>, StoreError> {
        if self.marker.is_none() {
            self.health = Health::Damaged(reason);
            return Ok(None);
        }
        let path = self.renew(sound, highest)?;
        self.health = Health::Sound;
        Ok(Some(SetAside { path, reason }))
    }

    /// The highest id in the table of chunks; 0 if that table is damaged.
    fn highest_chunk(&self) -> Result<u64, StoreError> {
        let highest = self.reader.with(|database| {
            let table = database.begin_read()?.open_table(tables::CHUNKS)?;
            let last = table.range(..=ID_MAX)?.next_back().transpose()?;
            Ok(last.map_or(0, |(id, _)| id.value()))
        });
        match highest {
            Err(StoreError::Damaged { .. }) => Ok(0),
            other => other,
        }
    }
}
