//! Applies one transaction: adds new data, and removes data that no checkpoint names any longer.
//!
//! Reference counts are not updated in place: they are counted again from the manifests, which takes a few thousand
//! steps, and the changed ones are stored. So a damaged count never deletes a chunk that is in use.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use redb::{ReadableTable, WriteTransaction};
use xxhash_rust::xxh3::xxh3_64;

use super::chunks::ChunkTables;
use super::error::{CheckpointRefusal, StoreError, StoreFault};
use super::read::manifests;
use super::{Listed, tables};
use crate::{
    Checkpoint, CheckpointReader, Compression, ManifestError, NewCheckpoint, PluginDigest,
    manifest, retention,
};
use crate::{chunks_of, plugins_of};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{Chunk, ChunkId, ChunkRef};

/// What one transaction adds to the store and removes from it.
pub(super) struct StoreChange<'a> {
    pub(super) new: Option<New<'a>>,
    pub(super) deleted: &'a [CheckpointId],
    pub(super) compression: Compression,
}

/// A checkpoint to add.
pub(super) struct New<'a> {
    pub(super) checkpoint: &'a Checkpoint,
    pub(super) source: ContentSource<'a>,
    /// Number of checkpoints to keep, including this one; `None` keeps all.
    pub(super) retained: Option<NonZeroU32>,
}

/// The source of a new checkpoint's bytes.
pub(super) enum ContentSource<'a> {
    Handed(Handed<'a>),
    Reader(&'a dyn CheckpointReader),
}

/// The bytes that come with a new checkpoint. Some may already be stored.
pub(super) struct Handed<'a> {
    chunks: BTreeMap<ChunkId, &'a Chunk>,
    plugins: BTreeMap<PluginDigest, &'a [u8]>,
}

impl<'a> Handed<'a> {
    pub(super) fn of(new: &NewCheckpoint<'a>) -> Self {
        let chunks = new.chunks.iter().map(|chunk| (chunk.id, &**chunk));
        let plugins = new
            .plugins
            .iter()
            .map(|(digest, bytes)| (*digest, &**bytes));
        Self {
            chunks: chunks.collect(),
            plugins: plugins.collect(),
        }
    }
}

impl ContentSource<'_> {
    fn chunk(&self, chunk: ChunkRef) -> Result<Option<Cow<'_, [u8]>>, StoreFault> {
        match self {
            Self::Handed(handed) => {
                let found = handed.chunks.get(&chunk.id);
                Ok(found.map(|chunk| Cow::Borrowed(&chunk.bytes[..])))
            }
            Self::Reader(reader) => Ok(Some(Cow::Owned(reader.chunk(chunk)?))),
        }
    }

    fn plugin(&self, plugin: PluginDigest) -> Result<Option<Cow<'_, [u8]>>, StoreFault> {
        match self {
            Self::Handed(handed) => Ok(handed.plugins.get(&plugin).copied().map(Cow::Borrowed)),
            Self::Reader(reader) => Ok(Some(Cow::Owned(reader.plugin(plugin)?))),
        }
    }

    /// The highest id of a chunk that comes with the checkpoint, whether the checkpoint names it or not.
    fn highest_chunk(&self) -> u64 {
        match self {
            Self::Handed(handed) => handed.chunks.last_key_value().map_or(0, |(id, _)| id.0),
            Self::Reader(_) => 0,
        }
    }
}

/// The stored checkpoints to delete, and those whose manifests cannot be read.
struct Fates {
    retired: BTreeSet<CheckpointId>,
    damaged: BTreeSet<CheckpointId>,
}

impl StoreChange<'_> {
    pub(super) fn apply(
        &self,
        transaction: &WriteTransaction,
        meta: &tables::Meta,
    ) -> Result<(), StoreFault> {
        let mut checkpoints = transaction.open_table(tables::CHECKPOINTS)?;
        let stored = manifests(&checkpoints)?;
        let newest = stored.last().map_or(0, |(id, _)| id.0);
        let highest_id = newest
            .max(meta.highest_checkpoint.unwrap_or(0))
            .max(meta.highest_lost.unwrap_or(0));
        let fates = self.fates(&stored, CheckpointId(highest_id))?;
        for id in &fates.retired {
            checkpoints.remove(id.0)?;
        }
        if let Some(new) = &self.new {
            let bytes = manifest::encode(new.checkpoint);
            checkpoints.insert(new.checkpoint.id.0, &bytes[..])?;
        }
        let sound = stored
            .iter()
            .filter_map(|(id, manifest)| Some((*id, manifest.as_ref().ok()?)));
        let before = CheckpointReferences::of(sound.clone().map(|(_, checkpoint)| checkpoint));
        let stay = sound.filter(|(id, _)| !fates.retired.contains(id));
        let stay = stay.map(|(_, checkpoint)| checkpoint);
        let new = self.new.as_ref().map(|new| new.checkpoint);
        let after = CheckpointReferences::of(stay.chain(new));
        // Chunks that only an unreadable manifest named are not in `before`: then everything stored is examined.
        let sweep = !fates.damaged.is_disjoint(&fates.retired);
        self.update_chunks(transaction, &before, &after, sweep)?;
        self.update_plugins(transaction, &before, &after, sweep)?;
        let left = stored.iter().map(|(id, _)| *id);
        let left = left.filter(|id| !fates.retired.contains(id)).max();
        self.update_meta(transaction, meta, left, highest_id)
    }

    /// Decides which checkpoints to delete; refuses an invalid change.
    fn fates(&self, stored: &[Listed], highest: CheckpointId) -> Result<Fates, StoreFault> {
        if let Some(new) = &self.new
            && new.checkpoint.id <= highest
        {
            return Err(new.refused(CheckpointRefusal::IdNotNew { highest }));
        }
        let mut damaged = BTreeSet::new();
        for (id, manifest) in stored {
            match manifest {
                Ok(_) => {}
                // Another version wrote it, and may still need it.
                Err(ManifestError::OtherVersion { found }) => {
                    return Err(StoreFault::OtherFormat((*found).into()));
                }
                Err(_) => {
                    damaged.insert(*id);
                }
            }
        }
        let ids: BTreeSet<_> = stored.iter().map(|(id, _)| *id).collect();
        let mut retired = BTreeSet::new();
        for id in self.deleted {
            if !ids.contains(id) {
                return Err(StoreError::NoSuchCheckpoint { id: *id }.into());
            }
            retired.insert(*id);
        }
        if let Some(new) = &self.new {
            let retained = new.retained.unwrap_or(NonZeroU32::MAX);
            retired.extend(retention::retire(
                &ids,
                &damaged,
                new.checkpoint.id,
                retained,
            ));
        }
        Ok(Fates { retired, damaged })
    }

    /// `left` is the newest checkpoint that is kept; `highest_id` is the highest id ever used.
    fn update_meta(
        &self,
        transaction: &WriteTransaction,
        meta: &tables::Meta,
        left: Option<CheckpointId>,
        highest_id: u64,
    ) -> Result<(), StoreFault> {
        let Some(new) = &self.new else {
            // The newest may be deleted, but its id stays used.
            let newest = left.map_or(0, |id| id.0);
            tables::set_meta(transaction, tables::META_CHECKPOINT, newest)?;
            return tables::set_meta(transaction, tables::META_LOST, highest_id);
        };
        tables::set_meta(transaction, tables::META_CHECKPOINT, new.checkpoint.id.0)?;
        let chunks = chunks_of(new.checkpoint).map(|chunk| chunk.id.0).max();
        let chunks = chunks.unwrap_or(0).max(new.source.highest_chunk());
        let chunks = chunks.max(meta.highest_chunk.unwrap_or(0));
        tables::set_meta(transaction, tables::META_CHUNK, chunks)
    }

    fn update_chunks(
        &self,
        transaction: &WriteTransaction,
        before: &CheckpointReferences,
        after: &CheckpointReferences,
        sweep: bool,
    ) -> Result<(), StoreFault> {
        let mut chunks = ChunkTables::open(transaction)?;
        // Removes first, so that new bytes find free space as soon as possible.
        let mut unnamed: BTreeSet<u64> = before.chunks.keys().map(|id| id.0).collect();
        if sweep {
            unnamed.extend(chunks.ids()?);
        }
        unnamed.retain(|id| !after.chunks.contains_key(&ChunkId(*id)));
        for id in unnamed {
            chunks.remove(id)?;
        }
        if let Some(new) = &self.new {
            let named = chunks_of(new.checkpoint).map(|chunk| (chunk.id, chunk.len));
            for (id, len) in named.collect::<BTreeSet<_>>() {
                let count = after.chunks.get(&id).copied().unwrap_or(0);
                new.keep_chunk(&mut chunks, ChunkRef { id, len }, count, self.compression)?;
            }
        }
        // Chunks that a retired checkpoint named, and the new one does not.
        for (id, count) in &after.chunks {
            if before.chunks.get(id).is_some_and(|before| before != count) || sweep {
                chunks.set_count(*id, *count)?;
            }
        }
        Ok(())
    }

    fn update_plugins(
        &self,
        transaction: &WriteTransaction,
        before: &CheckpointReferences,
        after: &CheckpointReferences,
        sweep: bool,
    ) -> Result<(), StoreFault> {
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
        let Some(new) = &self.new else {
            return Ok(());
        };
        for plugin in plugins_of(new.checkpoint).collect::<BTreeSet<_>>() {
            if plugins.get(plugin.0)?.is_some() {
                continue;
            }
            let bytes = new.source.plugin(plugin)?;
            let bytes =
                bytes.ok_or_else(|| new.refused(CheckpointRefusal::PluginMissing { plugin }))?;
            tables::insert_plugin(&mut pieces, plugin.0, &bytes)?;
            plugins.insert(plugin.0, bytes.len() as u64)?;
        }
        Ok(())
    }
}

impl New<'_> {
    fn keep_chunk(
        &self,
        chunks: &mut ChunkTables<'_>,
        chunk: ChunkRef,
        count: u32,
        compression: Compression,
    ) -> Result<(), StoreFault> {
        let ChunkRef { id, len } = chunk;
        let given = self.source.chunk(chunk)?;
        if given
            .as_ref()
            .is_some_and(|bytes| bytes.len() != len as usize)
        {
            return Err(self.refused(CheckpointRefusal::ChunkLength { chunk: id }));
        }
        match (chunks.get(id)?, given) {
            (None, None) => Err(self.refused(CheckpointRefusal::ChunkMissing { chunk: id })),
            (None, Some(bytes)) => chunks.insert(chunk, &bytes, count, compression),
            (Some((_, stored, _)), _) if stored != len => {
                Err(self.refused(CheckpointRefusal::ChunkLength { chunk: id }))
            }
            (Some((_, _, checksum)), Some(bytes)) if xxh3_64(&bytes) != checksum => {
                Err(self.refused(CheckpointRefusal::ChunkReused { chunk: id }))
            }
            (Some(_), _) => chunks.set_count(id, count),
        }
    }

    fn refused(&self, reason: CheckpointRefusal) -> StoreFault {
        let id = self.checkpoint.id;
        StoreError::Refused { id, reason }.into()
    }
}

/// The chunks and plugins that checkpoints name.
#[derive(Default)]
pub(super) struct CheckpointReferences {
    pub(super) chunks: BTreeMap<ChunkId, u32>,
    pub(super) plugins: BTreeSet<PluginDigest>,
}

impl CheckpointReferences {
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
