//! Checks every byte that checkpoints name, and the store's own tables. Repairs nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use redb::{ReadTransaction, ReadableTable};

use super::change::CheckpointReferences;
use super::chunks::{self, IndexFound};
use super::error::{StoreError, StoreFault};
use super::{Listed, read, tables};
use crate::{Checkpoint, CheckpointReader, PluginDigest, chunks_of, plugins_of};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkId, ChunkRef};

/// The findings of [`CheckpointReader::verify`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The checkpoints, newest first.
    pub checkpoints: Vec<CheckpointReport>,
    /// Problems of the store as a whole: reference counts, and bytes that no checkpoint names.
    pub problems: Vec<String>,
    /// Whether the store's own tables could not be checked because a job kept writing.
    pub is_busy: bool,
    /// Number of different chunks that were read.
    pub chunks: usize,
    /// Bytes of those chunks.
    pub chunk_bytes: u64,
}

/// The findings about one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointReport {
    /// The id under which the checkpoint is stored.
    pub id: CheckpointId,
    /// The problems; empty if it is sound.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether there are no problems.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
            && self
                .checkpoints
                .iter()
                .all(|checkpoint| checkpoint.problems.is_empty())
    }
}

/// The result of redb's own check of its pages.
pub(super) enum PageCheck {
    /// A description of the damage; `None` if they are sound.
    Checked(Option<String>),
    /// Another process kept writing to them.
    Busy,
}

/// Access to the store as one commit left it.
pub(super) trait Views {
    /// Runs `call` on a view. It may be called several times.
    fn view<T>(
        &self,
        call: impl Fn(&ReadTransaction) -> Result<T, StoreFault>,
    ) -> Result<T, StoreError>;

    /// Checks the pages of the file.
    fn pages(&self) -> Result<PageCheck, StoreError>;
}

impl<V: Views + Send + Sync> CheckpointReader for V {
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        self.view(read::list)
    }

    fn read(&self, id: CheckpointId) -> Result<Checkpoint, StoreError> {
        self.view(|transaction| read::checkpoint(transaction, id))
    }

    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, StoreError> {
        self.view(|transaction| chunks::read(transaction, chunk))
    }

    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, StoreError> {
        self.view(|transaction| chunks::read_index(transaction, chunk).map(|found| found.sound()))
    }

    fn plugin(&self, plugin: PluginDigest) -> Result<Vec<u8>, StoreError> {
        self.view(|transaction| read::plugin(transaction, plugin))
    }

    fn verify(&self, id: Option<CheckpointId>) -> Result<VerifyReport, StoreError> {
        verify(self, id)
    }
}

/// Checks one checkpoint, or all of them and the store's own tables.
pub(super) fn verify(
    reader: &(impl CheckpointReader + Views),
    id: Option<CheckpointId>,
) -> Result<VerifyReport, StoreError> {
    let asked = id;
    let mut listed = reader.list()?;
    if let Some(id) = id {
        listed.retain(|(listed, _)| *listed == id);
        if listed.is_empty() {
            return Err(StoreError::NoSuchCheckpoint { id });
        }
    }
    let mut report = VerifyReport::default();
    let mut read = VerifiedObjects::default();
    let mut indexes = BTreeMap::new();
    for (id, manifest) in &listed {
        let problems = match manifest {
            Err(error) => vec![error.to_string()],
            Ok(checkpoint) => {
                let mut problems = check(reader, checkpoint, &mut read)?;
                problems.extend(check_indexes(reader, checkpoint, &mut indexes)?);
                problems
            }
        };
        // It may have been retired in the meantime, with its chunks.
        if !problems.is_empty() && is_gone(reader, *id)? {
            match asked {
                Some(id) => return Err(StoreError::NoSuchCheckpoint { id }),
                None => continue,
            }
        }
        report
            .checkpoints
            .push(CheckpointReport { id: *id, problems });
    }
    report.chunks = read.chunks.len();
    report.chunk_bytes = read.chunks.keys().map(|(_, len)| u64::from(*len)).sum();
    if id.is_none() {
        match reader.view(check_books) {
            Err(StoreError::Damaged { reason, .. }) => report.problems.push(reason),
            Err(StoreError::Busy { .. }) => report.is_busy = true,
            found => report.problems = found?,
        }
        match reader.pages()? {
            PageCheck::Checked(problem) => report.problems.extend(problem),
            PageCheck::Busy => report.is_busy = true,
        }
    }
    Ok(report)
}

/// Whether a checkpoint was deleted meanwhile.
pub(crate) fn is_gone(
    reader: &impl CheckpointReader,
    id: CheckpointId,
) -> Result<bool, StoreError> {
    match reader.read(id) {
        Err(StoreError::NoSuchCheckpoint { .. }) => Ok(true),
        Err(StoreError::Damaged { .. }) | Ok(_) => Ok(false),
        Err(StoreError::OtherFormat { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Chunks and plugins that were already read, with their problems.
#[derive(Default)]
pub(super) struct VerifiedObjects {
    chunks: BTreeMap<(ChunkId, u32), Option<String>>,
    plugins: BTreeMap<PluginDigest, Option<String>>,
}

/// Reads each chunk and plugin once, however many checkpoints name it.
pub(super) fn check(
    reader: &impl CheckpointReader,
    checkpoint: &Checkpoint,
    seen: &mut VerifiedObjects,
) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    for ChunkRef { id, len } in chunks_of(checkpoint) {
        if let Entry::Vacant(entry) = seen.chunks.entry((id, len)) {
            let read = reader.chunk(ChunkRef { id, len });
            entry.insert(problem(read)?);
        }
        problems.extend(seen.chunks[&(id, len)].clone());
    }
    for plugin in plugins_of(checkpoint) {
        if let Entry::Vacant(entry) = seen.plugins.entry(plugin) {
            let read = reader.plugin(plugin);
            entry.insert(problem(read)?);
        }
        problems.extend(seen.plugins[&plugin].clone());
    }
    Ok(problems)
}

/// Checks indexes. A damaged one costs time but no state, so it does not count when a checkpoint is chosen.
fn check_indexes(
    reader: &impl Views,
    checkpoint: &Checkpoint,
    seen: &mut BTreeMap<ChunkId, bool>,
) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    for chunk in chunks_of(checkpoint) {
        if let Entry::Vacant(entry) = seen.entry(chunk.id) {
            let found = reader.view(|transaction| chunks::read_index(transaction, chunk));
            // Damage of the chunk itself was already reported.
            let is_damaged = match found {
                Ok(found) => found == IndexFound::Damaged,
                Err(StoreError::Damaged { .. }) => false,
                Err(error) => return Err(error),
            };
            entry.insert(is_damaged);
        }
        if seen[&chunk.id] {
            let id = chunk.id.0;
            problems.push(format!(
                "the index of chunk {id} does not match its checksum"
            ));
        }
    }
    Ok(problems)
}

fn check_books(transaction: &ReadTransaction) -> Result<Vec<String>, StoreFault> {
    let listed = read::list(transaction)?;
    let newest = listed.first().map_or(0, |(id, _)| id.0);
    let sound = listed
        .iter()
        .filter_map(|(_, manifest)| manifest.as_ref().ok());
    let expect = CheckpointReferences::of(sound);
    let mut problems = Vec::new();
    for entry in transaction.open_table(tables::CHUNKS)?.iter()? {
        let (id, stored) = entry?;
        let (count, expected) = (stored.value().0, expect.chunks.get(&ChunkId(id.value())));
        let expected = expected.copied().unwrap_or(0);
        if count != expected {
            let id = id.value();
            problems.push(format!(
                "chunk {id} has a reference count of {count}, but {expected} references"
            ));
        } else if count == 0 {
            problems.push(format!("no checkpoint names chunk {}", id.value()));
        }
    }
    problems.extend(unowned(transaction)?);
    for entry in transaction.open_table(tables::PLUGINS)?.iter()? {
        let plugin = PluginDigest(entry?.0.value());
        if !expect.plugins.contains(&plugin) {
            problems.push(format!("no checkpoint names plugin {plugin}"));
        }
    }
    match tables::meta(transaction)?.highest_checkpoint {
        None => problems.push("the highest checkpoint's id is unreadable".to_owned()),
        Some(highest) if highest != newest => {
            problems.push(format!(
                "the newest checkpoint is {newest}, but should be {highest}"
            ));
        }
        Some(_) => {}
    }
    Ok(problems)
}

/// Data of chunks that are not stored.
fn unowned(transaction: &ReadTransaction) -> Result<Vec<String>, StoreFault> {
    let chunks = transaction.open_table(tables::CHUNKS)?;
    let mut problems = Vec::new();
    for (what, table) in [
        ("a piece", tables::CHUNK_BYTES),
        ("an index", tables::CHUNK_INDEX),
    ] {
        let pieces = transaction.open_table(table)?;
        let mut last = None;
        for entry in pieces.iter()? {
            let id = entry?.0.value().0;
            if last != Some(id) && chunks.get(id)?.is_none() {
                problems.push(format!(
                    "there is {what} of chunk {id}, but the chunk is not stored"
                ));
            }
            last = Some(id);
        }
    }
    Ok(problems)
}

fn problem(read: Result<Vec<u8>, StoreError>) -> Result<Option<String>, StoreError> {
    match read {
        Ok(_) => Ok(None),
        Err(StoreError::Damaged { reason, .. }) => Ok(Some(reason)),
        Err(error) => Err(error),
    }
}
