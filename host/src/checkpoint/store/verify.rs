//! Checks every byte that checkpoints name, and the books that the store keeps on them. Repairs nothing.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use redb::{ReadableDatabase, ReadableTable};

use super::error::StoreError;
use super::write::References;
use super::{CheckpointStore, chunks_of, plugins_of, tables};
use crate::checkpoint::{Checkpoint, PluginDigest};
use crate::state::{ChunkId, ChunkRef};
use crate::stream::CheckpointId;

/// What [`CheckpointStore::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Newest first.
    pub checkpoints: Vec<CheckpointReport>,
    /// What is wrong with the store as a whole: reference counts, and bytes that no checkpoint names.
    pub problems: Vec<String>,
    /// Different chunks that were read.
    pub chunks: usize,
    /// Their bytes.
    pub chunk_bytes: u64,
}

/// What was found of one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointReport {
    /// Which.
    pub id: CheckpointId,
    /// Empty when all of it is sound.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
            && self
                .checkpoints
                .iter()
                .all(|checkpoint| checkpoint.problems.is_empty())
    }
}

impl CheckpointStore {
    /// Checks one checkpoint, or all of them and the store's books as well.
    ///
    /// # Errors
    ///
    /// When there is no such checkpoint, or the list of checkpoints cannot be read. Damage below that is in the report.
    pub fn verify(&mut self, id: Option<CheckpointId>) -> Result<VerifyReport, StoreError> {
        let mut listed = self.list()?;
        if let Some(id) = id {
            listed.retain(|(listed, _)| *listed == id);
            if listed.is_empty() {
                return Err(StoreError::NoSuchCheckpoint { id });
            }
        }
        let mut report = VerifyReport::default();
        let mut chunks = BTreeMap::new();
        let mut plugins = BTreeMap::new();
        for (id, manifest) in &listed {
            let problems = match manifest {
                Err(error) => vec![error.to_string()],
                Ok(checkpoint) => self.check(checkpoint, &mut chunks, &mut plugins)?,
            };
            report
                .checkpoints
                .push(CheckpointReport { id: *id, problems });
        }
        report.chunks = chunks.len();
        report.chunk_bytes = chunks.keys().map(|(_, len)| u64::from(*len)).sum();
        if id.is_none() {
            let sound = listed
                .iter()
                .filter_map(|(_, manifest)| manifest.as_ref().ok());
            let newest = listed.first().map_or(0, |(id, _)| id.0);
            report.problems = self.check_books(&References::of(sound), newest)?;
            report.problems.extend(self.check_pages()?);
        }
        Ok(report)
    }

    /// Reads each chunk and plugin once, however many checkpoints name it.
    pub(super) fn check(
        &mut self,
        checkpoint: &Checkpoint,
        chunks: &mut BTreeMap<(ChunkId, u32), Option<String>>,
        plugins: &mut BTreeMap<PluginDigest, Option<String>>,
    ) -> Result<Vec<String>, StoreError> {
        let mut problems = Vec::new();
        for ChunkRef { id, len } in chunks_of(checkpoint) {
            if let Entry::Vacant(entry) = chunks.entry((id, len)) {
                let read = self.chunk(ChunkRef { id, len });
                entry.insert(problem(read)?);
            }
            problems.extend(chunks[&(id, len)].clone());
        }
        for plugin in plugins_of(checkpoint) {
            if let Entry::Vacant(entry) = plugins.entry(plugin) {
                let read = self.plugin(plugin);
                entry.insert(problem(read)?);
            }
            problems.extend(plugins[&plugin].clone());
        }
        Ok(problems)
    }

    fn check_books(&mut self, expect: &References, newest: u64) -> Result<Vec<String>, StoreError> {
        let found = self.with(|database| {
            let transaction = database.begin_read()?;
            let mut problems = Vec::new();
            for entry in transaction.open_table(tables::CHUNKS)?.iter()? {
                let (id, stored) = entry?;
                let (count, expected) = (stored.value().0, expect.chunks.get(&ChunkId(id.value())));
                let expected = expected.copied().unwrap_or(0);
                if count != expected {
                    let id = id.value();
                    problems.push(format!(
                        "chunk {id} counts {count} references, and has {expected}"
                    ));
                } else if count == 0 {
                    problems.push(format!("no checkpoint names chunk {}", id.value()));
                }
            }
            let chunks = transaction.open_table(tables::CHUNKS)?;
            let mut last = None;
            for entry in transaction.open_table(tables::CHUNK_BYTES)?.iter()? {
                let id = entry?.0.value().0;
                if last != Some(id) && chunks.get(id)?.is_none() {
                    problems.push(format!(
                        "there are bytes of chunk {id}, which is not stored"
                    ));
                }
                last = Some(id);
            }
            for entry in transaction.open_table(tables::PLUGINS)?.iter()? {
                let plugin = PluginDigest(entry?.0.value());
                if !expect.plugins.contains(&plugin) {
                    problems.push(format!("no checkpoint names plugin {plugin}"));
                }
            }
            match tables::meta(&transaction)?.highest_checkpoint {
                None => problems.push("the highest checkpoint's id is unreadable".to_owned()),
                Some(highest) if highest != newest => {
                    problems.push(format!(
                        "the newest checkpoint is {newest}, and should be {highest}"
                    ));
                }
                Some(_) => {}
            }
            Ok(problems)
        });
        match found {
            Err(StoreError::Damaged { reason, .. }) => Ok(vec![reason]),
            other => other,
        }
    }
}

fn problem(read: Result<Vec<u8>, StoreError>) -> Result<Option<String>, StoreError> {
    match read {
        Ok(_) => Ok(None),
        Err(StoreError::Damaged { reason, .. }) => Ok(Some(reason)),
        Err(error) => Err(error),
    }
}
