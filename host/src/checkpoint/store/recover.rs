//! Finds the newest sound checkpoint, and reads it whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable};

use super::error::StoreError;
use super::{CheckpointStore, chunks_of, plugins_of, tables};
use crate::checkpoint::{Checkpoint, CommitPermit, ManifestError};
use crate::state::{Chunk, ChunkId};
use crate::stream::CheckpointId;

/// What a job starts from.
#[derive(Debug)]
pub struct Recovery {
    /// The newest sound checkpoint; none when there never was any.
    pub restored: Option<RestoredCheckpoint>,
    /// Those that are newer and damaged, newest first, with what is wrong.
    pub damaged: Vec<(CheckpointId, String)>,
    /// Above all ids that were ever written, those of damaged checkpoints included.
    pub next_id: CheckpointId,
    /// Above all ids of chunks that were ever written: a chunk of a damaged checkpoint must not be taken for a new one.
    pub next_chunk: ChunkId,
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
    /// The damaged ones are retired with the next write.
    ///
    /// # Errors
    ///
    /// [`StoreError::AllDamaged`] when there are checkpoints and none is sound. An I/O error is returned as it is: it
    /// may pass, and then going back to an older checkpoint would be wrong. Nothing is changed in either case.
    pub fn recover(&mut self) -> Result<Recovery, StoreError> {
        let meta = self.with(|database| tables::meta(&database.begin_read()?))?;
        let listed = self.list()?;
        let mut damaged = Vec::new();
        let newest = listed.first().map_or(0, |(id, _)| id.0);
        let highest = meta.highest_checkpoint.unwrap_or(newest);
        // The highest is only ever retired by a higher one.
        if highest > newest {
            damaged.push((CheckpointId(highest), "its manifest is missing".to_owned()));
        }
        let mut chunks = meta.highest_chunk.unwrap_or(0).max(self.highest_chunk()?);
        for (_, manifest) in &listed {
            let named = manifest.iter().flat_map(chunks_of);
            chunks = chunks.max(named.map(|chunk| chunk.id.0).max().unwrap_or(0));
        }
        let mut restored = None;
        for (id, manifest) in listed {
            match self.load(manifest) {
                Ok(Ok(found)) => {
                    restored = Some(found);
                    break;
                }
                Ok(Err(reason)) => damaged.push((id, reason)),
                Err(error) => return Err(error),
            }
        }
        if restored.is_none() && !damaged.is_empty() {
            let path = self.path.clone();
            return Err(StoreError::AllDamaged { path, damaged });
        }
        self.damaged = damaged.iter().map(|(id, _)| *id).collect();
        Ok(Recovery {
            restored,
            damaged,
            next_id: CheckpointId(highest.max(newest).saturating_add(1)),
            next_chunk: ChunkId(chunks.saturating_add(1)),
        })
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
