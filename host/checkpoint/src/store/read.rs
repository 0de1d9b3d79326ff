//! Reads within one transaction of redb, shared by readers of an open store and read-only views.

use redb::{ReadTransaction, ReadableTable};
use sha2::{Digest, Sha256};

use super::error::{StoreError, StoreFault};
use super::{Listed, tables};
use crate::{Checkpoint, ManifestError, PluginDigest, manifest};
use crate::{chunks_of, plugins_of};
use floodmark_state::stream::CheckpointId;

/// All manifests, newest first.
pub(super) fn list(transaction: &ReadTransaction) -> Result<Vec<Listed>, StoreFault> {
    let mut listed = manifests(&transaction.open_table(tables::CHECKPOINTS)?)?;
    listed.reverse();
    Ok(listed)
}

/// All manifests, oldest first.
pub(super) fn manifests(
    table: &impl ReadableTable<u64, &'static [u8]>,
) -> Result<Vec<Listed>, StoreFault> {
    let mut listed = Vec::new();
    for entry in table.iter()? {
        let (id, bytes) = entry?;
        let id = CheckpointId(id.value());
        listed.push((id, decode(id, bytes.value())));
    }
    Ok(listed)
}

/// A manifest must be stored under its own id: keys have no checksum of this module.
fn decode(id: CheckpointId, bytes: &[u8]) -> Result<Checkpoint, ManifestError> {
    let checkpoint = manifest::decode(bytes)?;
    if checkpoint.id != id {
        return Err(ManifestError::Malformed(
            "it is stored under a different id",
        ));
    }
    Ok(checkpoint)
}

pub(super) fn checkpoint(
    transaction: &ReadTransaction,
    id: CheckpointId,
) -> Result<Checkpoint, StoreFault> {
    let table = transaction.open_table(tables::CHECKPOINTS)?;
    let found = table
        .get(id.0)?
        .ok_or(StoreError::NoSuchCheckpoint { id })?;
    Ok(decode(id, found.value())?)
}

pub(super) fn plugin(
    transaction: &ReadTransaction,
    plugin: PluginDigest,
) -> Result<Vec<u8>, StoreFault> {
    let damaged = |what| StoreFault::Damaged(format!("plugin {plugin} {what}"));
    let lengths = transaction.open_table(tables::PLUGINS)?;
    let len = lengths
        .get(plugin.0)?
        .ok_or_else(|| damaged("is missing"))?
        .value();
    let pieces = transaction.open_table(tables::PLUGIN_BYTES)?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let bytes = tables::read_plugin(&pieces, plugin.0, len)?;
    if Sha256::digest(&bytes)[..] != plugin.0 {
        return Err(damaged("does not have that digest"));
    }
    Ok(bytes)
}

/// The chunks and plugins of a checkpoint that the store does not list, or lists differently. No bytes are read.
pub(super) fn unlisted(
    transaction: &ReadTransaction,
    checkpoint: &Checkpoint,
) -> Result<Option<String>, StoreFault> {
    let chunks = transaction.open_table(tables::CHUNKS)?;
    for chunk in chunks_of(checkpoint) {
        let stored = chunks.get(chunk.id.0)?.map(|found| found.value());
        if stored.is_none_or(|(_, len, _)| len != chunk.len) {
            return Ok(Some(format!(
                "chunk {} is missing from the list of chunks, or listed with a different length",
                chunk.id.0
            )));
        }
    }
    let plugins = transaction.open_table(tables::PLUGINS)?;
    for plugin in plugins_of(checkpoint) {
        if plugins.get(plugin.0)?.is_none() {
            return Ok(Some(format!("plugin {plugin} is missing")));
        }
    }
    Ok(None)
}
