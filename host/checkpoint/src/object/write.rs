//! Writes a checkpoint: first the objects that it names, then its record; then retires older checkpoints.
//!
//! A failure before the record leaves objects that no record names; the next write or start removes them (`sweep`). A
//! failure after it only costs space: the checkpoint is durable, and the next write retries the removal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::ObjectStorage;
use super::claim::{Claim, Named, Placed};
use super::layout::{self, CheckpointRecord, StoredCheckpoint, StoredPlugin, WriterId};
use crate::crash::{self, Point};
use crate::store::{CheckpointRefusal, StoreError};
use crate::{Checkpoint, CheckpointReader, CommitPermit, NewCheckpoint, PluginDigest, retention};
use crate::{chunks_of, plugins_of};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Chunk, ChunkId, ChunkRef, chunk_index};

/// The objects that a checkpoint names: already stored, or to be stored.
struct Needed<'a> {
    named: Named,
    chunks: BTreeMap<ChunkId, &'a Chunk>,
    plugins: BTreeMap<PluginDigest, &'a [u8]>,
}

impl ObjectStorage {
    pub(super) fn write_checkpoint(
        &mut self,
        new: &NewCheckpoint<'_>,
    ) -> Result<CommitPermit, StoreError> {
        let id = new.checkpoint.id;
        self.claim()?;
        self.require_new(id)?;
        let claim = self.claimed()?;
        let Needed {
            mut named,
            chunks,
            plugins,
        } = needed(claim, new).map_err(|reason| StoreError::Refused { id, reason })?;
        let was_littered = claim.is_littered;
        let writer = self.prepare(id, new.chunks.iter().map(|chunk| chunk.id.0).max())?;
        let mut uploads = self.remote.uploads();
        for (id, chunk) in chunks {
            let index = chunk_index::of(&chunk.bytes);
            let (stored, object) = layout::encode_chunk(
                id,
                &chunk.bytes,
                Some(&index),
                writer,
                self.settings.compression,
            );
            uploads.put(layout::CHUNKS, &stored.name(), object)?;
            named.chunks.insert(id, stored);
        }
        for (plugin, bytes) in plugins {
            let name = layout::plugin_name(plugin, writer);
            uploads.put(layout::PLUGINS, &name, bytes.to_vec())?;
            let len = bytes.len() as u64;
            named.plugins.insert(plugin, StoredPlugin { writer, len });
        }
        uploads.finish()?;
        self.commit(new.checkpoint, named)?;
        self.claimed()?.is_littered = was_littered;
        // A failure only costs space: the next checkpoint retries.
        let _ = self.retire(new);
        Ok(CommitPermit { checkpoint: id })
    }

    pub(super) fn import_checkpoint(
        &mut self,
        from: &dyn CheckpointReader,
        checkpoint: &Checkpoint,
    ) -> Result<CommitPermit, StoreError> {
        let id = checkpoint.id;
        self.claim()?;
        self.require_new(id)?;
        let refs: BTreeMap<ChunkId, ChunkRef> = chunks_of(checkpoint)
            .map(|chunk| (chunk.id, chunk))
            .collect();
        let writer = self.prepare(id, refs.keys().map(|id| id.0).max())?;
        let mut named = Named::default();
        let remote = Arc::clone(&self.remote);
        let mut uploads = remote.uploads();
        for (chunk_id, chunk) in refs {
            let plain = from.chunk(chunk)?;
            if let Some(stored) = self.claimed()?.stored_chunk(chunk_id) {
                if stored.checksum != xxh3_64(&plain) || stored.chunk != chunk {
                    let reason = CheckpointRefusal::ChunkReused { chunk: chunk_id };
                    return Err(StoreError::Refused { id, reason });
                }
                named.chunks.insert(chunk_id, stored);
                continue;
            }
            let index = from.chunk_index(chunk)?;
            let index = index.unwrap_or_else(|| chunk_index::of(&plain));
            let compression = self.settings.compression;
            let (stored, object) =
                layout::encode_chunk(chunk_id, &plain, Some(&index), writer, compression);
            uploads.put(layout::CHUNKS, &stored.name(), object)?;
            named.chunks.insert(chunk_id, stored);
        }
        for plugin in plugins_of(checkpoint).collect::<BTreeSet<_>>() {
            if let Some(stored) = self.claimed()?.stored_plugin(plugin) {
                named.plugins.insert(plugin, stored);
                continue;
            }
            let bytes = from.plugin(plugin)?;
            let len = bytes.len() as u64;
            uploads.put(layout::PLUGINS, &layout::plugin_name(plugin, writer), bytes)?;
            named.plugins.insert(plugin, StoredPlugin { writer, len });
        }
        uploads.finish()?;
        self.commit(checkpoint, named)?;
        // The note only matters if the record is lost.
        let _ = self.note_newest(id);
        Ok(CommitPermit { checkpoint: id })
    }

    /// Checks the preconditions before the first object of a checkpoint is written.
    fn prepare(
        &mut self,
        id: CheckpointId,
        highest_chunk: Option<u64>,
    ) -> Result<WriterId, StoreError> {
        self.advance_to(id.0)?;
        self.require_new(id)?;
        let claim = self.claimed()?;
        claim.tried = Some(id.0);
        claim.is_littered = true;
        claim.highest_chunk = claim.highest_chunk.max(highest_chunk.unwrap_or(0));
        Ok(claim.writer)
    }

    /// Creates the record: from here on the checkpoint exists.
    fn commit(&mut self, checkpoint: &Checkpoint, named: Named) -> Result<(), StoreError> {
        crash::point(Point::ObjectsStored);
        let id = checkpoint.id;
        let next = self.after(id.0)?;
        let claim = self.claimed()?;
        let record = CheckpointRecord {
            writer: claim.writer,
            next,
            highest_chunk: claim.highest_chunk,
            kept: Some(StoredCheckpoint {
                checkpoint: checkpoint.clone(),
                chunks: named.chunks.clone(),
                plugins: named.plugins.clone(),
            }),
        };
        match self.place(id.0, &record)? {
            Placed::Now => {}
            // The client has retried after its answer was lost. An id is tried only once, so it is the same record.
            Placed::Earlier(found) => debug_assert_eq!(*found, record),
        }
        crash::point(Point::ObjectsRecorded);
        self.reader.learn(&named);
        let claim = self.claimed()?;
        claim.successor = next;
        claim.missing = None;
        claim.live.insert(id, named);
        Ok(())
    }

    /// Retires checkpoints beyond `retained`, and removes objects that no record names.
    fn retire(&mut self, new: &NewCheckpoint<'_>) -> Result<(), StoreError> {
        let id = new.checkpoint.id;
        let noted = self.note_newest(id);
        let claim = self.claimed()?;
        let stored = claim.live.keys().chain(&claim.damaged).copied().collect();
        let retired = retention::retire(&stored, &claim.damaged, id, new.retained);
        // The objects that a damaged record names are found only by listing all objects.
        claim.is_littered |= !claim.damaged.is_empty();
        let removed = self.remove(&retired);
        let marks = self.old_marks()?;
        let marks = marks.into_iter().map(layout::number);
        self.remote.delete_all(layout::CHECKPOINTS, marks)?;
        removed.and(noted)
    }

    fn note_newest(&self, id: CheckpointId) -> Result<(), StoreError> {
        self.remote
            .put("", layout::NEWEST, layout::number(id.0).into_bytes())
    }

    /// Deletes records, and then the objects that only they named.
    fn remove(&mut self, ids: &BTreeSet<CheckpointId>) -> Result<(), StoreError> {
        let names = ids.iter().map(|id| layout::number(id.0));
        self.remote.delete_all(layout::CHECKPOINTS, names)?;
        let claim = self.claimed()?;
        claim.damaged.retain(|id| !ids.contains(id));
        let mut chunks = BTreeSet::new();
        let mut plugins = BTreeSet::new();
        for id in ids {
            let named = claim.live.remove(id).unwrap_or_default();
            chunks.extend(chunk_names(&named));
            plugins.extend(plugin_names(&named));
        }
        if claim.is_littered {
            return self.sweep();
        }
        for named in claim.live.values() {
            chunk_names(named).for_each(|name| {
                chunks.remove(&name);
            });
            plugin_names(named).for_each(|name| {
                plugins.remove(&name);
            });
        }
        claim.is_littered = true;
        self.remote.delete_all(layout::CHUNKS, chunks.into_iter())?;
        self.remote
            .delete_all(layout::PLUGINS, plugins.into_iter())?;
        self.claimed()?.is_littered = false;
        Ok(())
    }

    /// Removes all objects that no record names, except those of later writers, which are about to be named.
    pub(super) fn sweep(&mut self) -> Result<(), StoreError> {
        let claim = self.claimed()?;
        claim.is_littered = true;
        // It is unknown what an unreadable record names.
        if !claim.damaged.is_empty() {
            return Ok(());
        }
        let writer = claim.writer;
        let chunks: BTreeSet<String> = claim.live.values().flat_map(chunk_names).collect();
        let plugins: BTreeSet<String> = claim.live.values().flat_map(plugin_names).collect();
        for (folder, named) in [(layout::CHUNKS, chunks), (layout::PLUGINS, plugins)] {
            let stored = self.remote.list(folder)?;
            let ours = |name: &String| {
                let found = layout::parse_name(name);
                found.is_some_and(|(_, found)| found <= writer)
            };
            let unnamed = stored
                .into_keys()
                .filter(|name| ours(name) && !named.contains(name));
            self.remote.delete_all(folder, unnamed)?;
        }
        self.claimed()?.is_littered = false;
        Ok(())
    }

    pub(super) fn delete_checkpoints(&mut self, ids: &[CheckpointId]) -> Result<(), StoreError> {
        let claim = self.claim()?;
        let ids: BTreeSet<_> = ids.iter().copied().collect();
        for id in &ids {
            if !claim.live.contains_key(id) && !claim.damaged.contains(id) {
                return Err(StoreError::NoSuchCheckpoint { id: *id });
            }
        }
        // The record with the highest id must stay: a mark takes its place.
        let successor = claim.successor;
        if ids
            .last()
            .is_some_and(|id| successor == id.0.saturating_add(1))
        {
            let beyond = self.after(successor)?;
            self.advance_to(beyond)?;
        }
        let claim = self.claimed()?;
        claim.is_littered |= ids.iter().any(|id| claim.damaged.contains(id));
        self.remove(&ids)
    }
}

fn chunk_names(named: &Named) -> impl Iterator<Item = String> {
    named.chunks.values().map(|chunk| chunk.name())
}

fn plugin_names(named: &Named) -> impl Iterator<Item = String> {
    let plugins = named.plugins.iter();
    plugins.map(|(plugin, stored)| layout::plugin_name(*plugin, stored.writer))
}

/// The objects to store for a checkpoint, or the reason why it does not fit the storage.
fn needed<'a>(claim: &Claim, new: &NewCheckpoint<'a>) -> Result<Needed<'a>, CheckpointRefusal> {
    let handed_over: BTreeMap<_, _> = new
        .chunks
        .iter()
        .map(|chunk| (chunk.id, &**chunk))
        .collect();
    let mut needed = Needed {
        named: Named::default(),
        chunks: BTreeMap::new(),
        plugins: BTreeMap::new(),
    };
    for chunk in chunks_of(new.checkpoint) {
        let handed_over = handed_over.get(&chunk.id).copied();
        let stored = claim.stored_chunk(chunk.id);
        let is_len = |len: usize| len == chunk.len as usize;
        let fits = handed_over.is_none_or(|handed_over| is_len(handed_over.bytes.len()));
        if !fits || stored.is_some_and(|stored| stored.chunk != chunk) {
            return Err(CheckpointRefusal::ChunkLength { chunk: chunk.id });
        }
        match (stored, handed_over) {
            (None, None) => return Err(CheckpointRefusal::ChunkMissing { chunk: chunk.id }),
            (None, Some(handed_over)) => {
                needed.chunks.insert(chunk.id, handed_over);
            }
            (Some(stored), Some(handed_over)) if xxh3_64(&handed_over.bytes) != stored.checksum => {
                return Err(CheckpointRefusal::ChunkReused { chunk: chunk.id });
            }
            (Some(stored), _) => {
                needed.named.chunks.insert(chunk.id, stored);
            }
        }
    }
    for plugin in plugins_of(new.checkpoint) {
        if let Some(stored) = claim.stored_plugin(plugin) {
            needed.named.plugins.insert(plugin, stored);
            continue;
        }
        let handed_over = new.plugins.iter().find(|(digest, _)| *digest == plugin);
        let (_, bytes) = handed_over.ok_or(CheckpointRefusal::PluginMissing { plugin })?;
        needed.plugins.insert(plugin, bytes);
    }
    Ok(needed)
}
