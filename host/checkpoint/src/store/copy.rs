//! Copies checkpoints of another store into a new one, in one transaction. Only one chunk at a time is in memory.

use std::collections::BTreeMap;

use redb::Database;

use super::change::CheckpointReferences;
use super::chunks::ChunkTables;
use super::error::StoreFault;
use super::tables;
use crate::chunks_of;
use crate::{Checkpoint, CheckpointReader, Compression, manifest};

/// The highest ids that were ever used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Highest {
    pub(super) checkpoint: u64,
    pub(super) chunk: u64,
}

/// Copies all of `sound` and everything they name to `new`, which is empty.
pub(super) fn copy_to(
    new: &Database,
    from: &dyn CheckpointReader,
    sound: &[&Checkpoint],
    highest: Highest,
    compression: Compression,
) -> Result<(), StoreFault> {
    let references = CheckpointReferences::of(sound.iter().copied());
    let mut transaction = new.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut checkpoints = transaction.open_table(tables::CHECKPOINTS)?;
        for checkpoint in sound {
            checkpoints.insert(checkpoint.id.0, &manifest::encode(checkpoint)[..])?;
        }
        let mut chunks = ChunkTables::open(&transaction)?;
        let named = sound.iter().copied().flat_map(chunks_of);
        let named: BTreeMap<_, _> = named.map(|chunk| (chunk.id, chunk)).collect();
        for (id, chunk) in named {
            let bytes = from.chunk(chunk)?;
            let count = references.chunks.get(&id).copied().unwrap_or(0);
            chunks.insert(chunk, &bytes, count, compression)?;
        }
        let mut plugins = transaction.open_table(tables::PLUGINS)?;
        let mut pieces = transaction.open_table(tables::PLUGIN_BYTES)?;
        for plugin in &references.plugins {
            let bytes = from.plugin(*plugin)?;
            tables::insert_plugin(&mut pieces, plugin.0, &bytes)?;
            plugins.insert(plugin.0, bytes.len() as u64)?;
        }
    }
    let newest = sound.iter().map(|checkpoint| checkpoint.id.0).max();
    tables::set_meta(&transaction, tables::META_CHECKPOINT, newest.unwrap_or(0))?;
    tables::set_meta(&transaction, tables::META_LOST, highest.checkpoint)?;
    tables::set_meta(&transaction, tables::META_CHUNK, highest.chunk)?;
    Ok(transaction.commit()?)
}
