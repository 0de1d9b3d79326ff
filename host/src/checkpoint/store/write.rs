//! Writes a checkpoint: one transaction that adds what is new and removes what nothing names any more.
//!
//! Reference counts are not added to and subtracted from: they are counted anew from the manifests, a few thousand
//! steps, and those that changed are stored. A damaged count thus never deletes a chunk that is in use.
//!
//! redb visits each new page again at the commit, for its checksum, and writes those twice that did not fit its buffer. So
//! a large write gets a handle whose buffer holds all of it, and gives that memory back at once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable, Table, WriteTransaction};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Fault, Refusal, StoreError};
use super::{
    CheckpointStore, FailedWrite, Fate, Health, chunks_of, file, manifests, plugins_of, tables,
};
use crate::checkpoint::{
    Checkpoint, CommitPermit, ManifestError, PluginDigest, manifest, retention,
};
use crate::state::{Chunk, ChunkId};
use crate::stream::CheckpointId;

/// What the buffer of an ordinary handle holds for sure.
const WRITE_BYTES_SMALL: usize = file::CACHE_BYTES / 4;
/// Beyond this, memory is dearer than writing some pages twice.
const CACHE_BYTES_MAX: usize = 1 << 30;

/// What is handed over with a checkpoint. What is stored already may be handed over again.
struct Request<'a> {
    checkpoint: &'a Checkpoint,
    chunks: BTreeMap<ChunkId, &'a Chunk>,
    plugins: BTreeMap<PluginDigest, &'a [u8]>,
    retained: NonZeroU32,
}

impl CheckpointStore {
    /// Writes a checkpoint with the chunks and plugins that it names and the store does not have yet, and retires those
    /// beyond `retained`. It is durable when this returns.
    ///
    /// # Errors
    ///
    /// After [`StoreError::Refused`], nothing was written. After any other, all that was there is still there, and
    /// whether this checkpoint is, too, is unknown: the next call looks ([`CheckpointStore::last_failed`]). Write the
    /// next checkpoint under a new id then, and hand over the chunks of this one again.
    pub fn write(
        &mut self,
        checkpoint: &Checkpoint,
        chunks: &[Arc<Chunk>],
        plugins: &[(PluginDigest, Arc<[u8]>)],
        retained: NonZeroU32,
    ) -> Result<CommitPermit, StoreError> {
        self.require_name()?;
        let bytes = chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
        let bytes = bytes
            + plugins
                .iter()
                .map(|(_, plugin)| plugin.len())
                .sum::<usize>();
        if bytes > WRITE_BYTES_SMALL {
            // Half of the cache is for writing; pages are a little larger than what is in them.
            self.cache_bytes = (bytes * 2 + bytes / 4 + file::CACHE_BYTES).min(CACHE_BYTES_MAX);
            self.database = None;
        }
        let written = self.write_once(checkpoint, chunks, plugins, retained);
        if bytes > WRITE_BYTES_SMALL {
            self.cache_bytes = file::CACHE_BYTES;
            self.database = None;
        }
        written
    }

    /// Refuses a file that somebody has removed: what is written to it would be gone with this process.
    fn require_name(&self) -> Result<(), StoreError> {
        if self.replaceable && !self.path.exists() {
            return Err(StoreError::Removed {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    /// Refuses a damaged file: redb's commit may take the process with it. `recover` has looked, as a rule.
    fn require_health(&mut self) -> Result<(), StoreError> {
        if matches!(self.health, Health::Unknown) {
            self.health = self.check_pages()?.map_or(Health::Sound, Health::Damaged);
        }
        match &self.health {
            Health::Damaged(reason) => Err(StoreError::Damaged {
                path: self.path.clone(),
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn write_once(
        &mut self,
        checkpoint: &Checkpoint,
        chunks: &[Arc<Chunk>],
        plugins: &[(PluginDigest, Arc<[u8]>)],
        retained: NonZeroU32,
    ) -> Result<CommitPermit, StoreError> {
        // The fate of the last one is settled before this one starts.
        self.settle()?;
        self.require_health()?;
        let request = Request {
            checkpoint,
            chunks: chunks.iter().map(|chunk| (chunk.id, &**chunk)).collect(),
            plugins: plugins
                .iter()
                .map(|(digest, bytes)| (*digest, &**bytes))
                .collect(),
            retained,
        };
        let written = self.with(|database| {
            let highest = tables::meta(&database.begin_read()?)?;
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            request.apply(&transaction, highest)?;
            Ok(transaction.commit()?)
        });
        match written {
            Ok(()) => Ok(CommitPermit {
                checkpoint: checkpoint.id,
            }),
            Err(error) => {
                // Without a handle the transaction may have been cut off anywhere, its commit included.
                if self.database.is_none() {
                    self.failed = Some(FailedWrite {
                        checkpoint: checkpoint.id,
                        fate: Fate::Unknown,
                    });
                }
                Err(error)
            }
        }
    }
}

impl Request<'_> {
    fn apply(&self, transaction: &WriteTransaction, highest: tables::Meta) -> Result<(), Fault> {
        let mut checkpoints = transaction.open_table(tables::CHECKPOINTS)?;
        let stored = manifests(&checkpoints)?;
        let newest = stored.last().map_or(0, |(id, _)| id.0);
        let highest_id = newest.max(highest.highest_checkpoint.unwrap_or(0));
        let highest_id = highest_id.max(highest.highest_lost.unwrap_or(0));
        if self.checkpoint.id.0 <= highest_id {
            let highest = CheckpointId(highest_id);
            return Err(self.refused(Refusal::IdNotNew { highest }));
        }
        let mut damaged = BTreeSet::new();
        for (id, manifest) in &stored {
            match manifest {
                Ok(_) => {}
                // Not ours to delete: a newer version wrote it.
                Err(ManifestError::OtherVersion { found }) => {
                    return Err(Fault::OtherFormat((*found).into()));
                }
                Err(_) => {
                    damaged.insert(*id);
                }
            }
        }
        let ids = stored.iter().map(|(id, _)| *id).collect();
        let retired = retention::retire(&ids, &damaged, self.checkpoint.id, self.retained);
        for id in &retired {
            checkpoints.remove(id.0)?;
        }
        let bytes = manifest::encode(self.checkpoint);
        checkpoints.insert(self.checkpoint.id.0, &bytes[..])?;

        let before = References::of(
            stored
                .iter()
                .filter_map(|(_, manifest)| manifest.as_ref().ok()),
        );
        let stay = stored.iter().filter(|(id, _)| !retired.contains(id));
        let stay = stay.filter_map(|(_, manifest)| manifest.as_ref().ok());
        let after = References::of(stay.chain([self.checkpoint]));
        // What only an unreadable manifest named is not in `before`: then all that is stored is looked at.
        let sweep = !damaged.is_empty();
        self.update_chunks(transaction, &before, &after, sweep)?;
        self.update_plugins(transaction, &before, &after, sweep)?;

        tables::set_meta(transaction, tables::META_CHECKPOINT, self.checkpoint.id.0)?;
        let chunks = self.chunks.last_key_value().map_or(0, |(id, _)| id.0);
        let chunks = chunks.max(highest.highest_chunk.unwrap_or(0));
        tables::set_meta(transaction, tables::META_CHUNK, chunks)
    }

    fn update_chunks(
        &self,
        transaction: &WriteTransaction,
        before: &References,
        after: &References,
        sweep: bool,
    ) -> Result<(), Fault> {
        let mut chunks = transaction.open_table(tables::CHUNKS)?;
        let mut pieces = transaction.open_table(tables::CHUNK_BYTES)?;
        // First remove, so that the new bytes find free space as soon as possible.
        let mut unnamed: BTreeSet<u64> = before.chunks.keys().map(|id| id.0).collect();
        if sweep {
            for entry in chunks.iter()? {
                unnamed.insert(entry?.0.value());
            }
        }
        unnamed.retain(|id| !after.chunks.contains_key(&ChunkId(*id)));
        for id in unnamed {
            chunks.remove(id)?;
            tables::remove_pieces(|number| Ok(pieces.remove((id, number))?.is_some()))?;
        }
        let named = chunks_of(self.checkpoint).map(|chunk| (chunk.id, chunk.len));
        for (id, len) in named.collect::<BTreeSet<_>>() {
            let count = after.chunks.get(&id).copied().unwrap_or(0);
            self.keep_chunk(&mut chunks, &mut pieces, id, len, count)?;
        }
        // Those that the new checkpoint does not name, and a retired one did.
        for (id, count) in &after.chunks {
            if before.chunks.get(id).is_some_and(|before| before != count) || sweep {
                set_count(&mut chunks, *id, *count)?;
            }
        }
        Ok(())
    }

    fn keep_chunk(
        &self,
        chunks: &mut Table<'_, u64, (u32, u32, u64)>,
        pieces: &mut Table<'_, (u64, u32), &'static [u8]>,
        id: ChunkId,
        len: u32,
        count: u32,
    ) -> Result<(), Fault> {
        let handed_over = self.chunks.get(&id);
        if handed_over.is_some_and(|chunk| chunk.bytes.len() != len as usize) {
            return Err(self.refused(Refusal::ChunkLength { chunk: id }));
        }
        let stored = chunks.get(id.0)?.map(|found| found.value());
        match (stored, handed_over) {
            (None, None) => Err(self.refused(Refusal::ChunkMissing { chunk: id })),
            (None, Some(chunk)) => {
                tables::insert_chunk(pieces, id.0, &chunk.bytes)?;
                chunks.insert(id.0, (count, len, xxh3_64(&chunk.bytes)))?;
                Ok(())
            }
            (Some((_, stored, _)), _) if stored != len => {
                Err(self.refused(Refusal::ChunkLength { chunk: id }))
            }
            (Some((_, _, checksum)), Some(chunk)) if xxh3_64(&chunk.bytes) != checksum => {
                Err(self.refused(Refusal::ChunkReused { chunk: id }))
            }
            (Some((stored, ..)), _) if stored != count => set_count(chunks, id, count),
            (Some(_), _) => Ok(()),
        }
    }

    fn update_plugins(
        &self,
        transaction: &WriteTransaction,
        before: &References,
        after: &References,
        sweep: bool,
    ) -> Result<(), Fault> {
        let mut plugins = transaction.open_table(tables::PLUGINS)?;
        let mut pieces = transaction.open_table(tables::PLUGIN_BYTES)?;
        let mut unnamed: BTreeSet<[u8; 32]> =
            before.plugins.iter().map(|digest| digest.0).collect();
        if sweep {
            for entry in plugins.iter()? {
                unnamed.insert(entry?.0.value());
            }
        }
        unnamed.retain(|digest| !after.plugins.contains(&PluginDigest(*digest)));
        for digest in unnamed {
            plugins.remove(digest)?;
            tables::remove_pieces(|number| Ok(pieces.remove((digest, number))?.is_some()))?;
        }
        for plugin in plugins_of(self.checkpoint).collect::<BTreeSet<_>>() {
            if plugins.get(plugin.0)?.is_some() {
                continue;
            }
            let bytes = self.plugins.get(&plugin);
            let bytes = bytes.ok_or_else(|| self.refused(Refusal::PluginMissing { plugin }))?;
            tables::insert_plugin(&mut pieces, plugin.0, bytes)?;
            plugins.insert(plugin.0, bytes.len() as u64)?;
        }
        Ok(())
    }

    fn refused(&self, reason: Refusal) -> Fault {
        let id = self.checkpoint.id;
        StoreError::Refused { id, reason }.into()
    }
}

fn set_count(
    chunks: &mut Table<'_, u64, (u32, u32, u64)>,
    id: ChunkId,
    count: u32,
) -> Result<(), Fault> {
    let stored = chunks.get(id.0)?.map(|found| found.value());
    if let Some((stored, len, checksum)) = stored
        && stored != count
    {
        chunks.insert(id.0, (count, len, checksum))?;
    }
    Ok(())
}

/// What checkpoints name.
#[derive(Default)]
pub(super) struct References {
    pub(super) chunks: BTreeMap<ChunkId, u32>,
    pub(super) plugins: BTreeSet<PluginDigest>,
}

impl References {
    pub(super) fn of<'a>(checkpoints: impl Iterator<Item = &'a Checkpoint>) -> Self {
        let mut references = Self::default();
        for checkpoint in checkpoints {
            for chunk in chunks_of(checkpoint) {
                *references.chunks.entry(chunk.id).or_default() += 1;
            }
            references.plugins.extend(plugins_of(checkpoint));
        }
        references
    }
}
