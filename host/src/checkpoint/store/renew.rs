//! Goes on in a new file when the old one is damaged: nothing is ever written to a file with damage in it.
//!
//! ```text
//! 1. checkpoints.redb.restored       made, gets all that is sound, durable
//! 2. checkpoints.damaged-7.redb      one more name of the damaged file   (fsync of the folder)
//! 3. checkpoints.redb.restored       renamed to checkpoints.redb         (fsync of the folder)
//! ```
//!
//! A crash at any point leaves a whole file under the store's name: before the rename the damaged one, from which the next
//! start does the same again, and after it the new one. The damaged file is never deleted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use redb::Database;
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Fault, StoreError};
use super::file::{self, Opened};
use super::guard::guarded;
use super::write::References;
use super::{CheckpointStore, Listed, chunks_of, tables};
use crate::checkpoint::{Checkpoint, manifest};
use crate::stream::CheckpointId;

/// The highest ids that were ever used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Highest {
    pub(super) checkpoint: u64,
    pub(super) chunk: u64,
}

impl CheckpointStore {
    /// Moves to a new file with the sound checkpoints of `listed`, and returns the damaged file's new name.
    ///
    /// After an error the store is as it was.
    pub(super) fn renew(
        &mut self,
        sound: &[Checkpoint],
        highest: Highest,
    ) -> Result<PathBuf, StoreError> {
        let new = file::restored_name(&self.path);
        self.renew_by(sound, highest, || file::make_anew(&new))
    }

    pub(super) fn renew_by(
        &mut self,
        sound: &[Checkpoint],
        highest: Highest,
        make: impl FnOnce() -> Result<Opened, Fault>,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path.clone();
        let new = file::restored_name(&path);
        let made = self.copy_and_replace(&path, &new, sound, highest, make);
        made.map_err(|fault| {
            // It is not complete, and is made anew the next time. When even this fails, it is in nobody's way.
            let _ = fs::remove_file(&new);
            let reason = match fault.of(&new) {
                StoreError::Io { source, .. } => source.to_string(),
                error => error.to_string(),
            };
            StoreError::NotReplaced { path, reason }
        })
    }

    fn copy_and_replace(
        &mut self,
        path: &Path,
        new: &Path,
        sound: &[Checkpoint],
        highest: Highest,
        make: impl FnOnce() -> Result<Opened, Fault>,
    ) -> Result<PathBuf, Fault> {
        let (storage, database) = make()?;
        guarded(|| self.copy_to(&database, sound, highest))?;
        let aside = file::keep_aside(path, highest.checkpoint)?;
        fs::rename(new, path)?;
        file::sync_folder(path)?;
        // The old handle goes before the old file.
        self.database = Some(database);
        self.storage = storage;
        Ok(aside)
    }

    /// Writes all of `sound` to `new`, in one transaction. A chunk at a time is in memory.
    fn copy_to(
        &mut self,
        new: &Database,
        sound: &[Checkpoint],
        highest: Highest,
    ) -> Result<(), Fault> {
        let references = References::of(sound.iter());
        let mut transaction = new.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut checkpoints = transaction.open_table(tables::CHECKPOINTS)?;
            for checkpoint in sound {
                checkpoints.insert(checkpoint.id.0, &manifest::encode(checkpoint)[..])?;
            }
            let mut chunks = transaction.open_table(tables::CHUNKS)?;
            let mut pieces = transaction.open_table(tables::CHUNK_BYTES)?;
            let named = sound.iter().flat_map(chunks_of);
            let named: BTreeMap<_, _> = named.map(|chunk| (chunk.id, chunk)).collect();
            for (id, chunk) in named {
                let bytes = self.chunk(chunk)?;
                let count = references.chunks.get(&id).copied().unwrap_or(0);
                tables::insert_chunk(&mut pieces, id.0, &bytes)?;
                chunks.insert(id.0, (count, chunk.len, xxh3_64(&bytes)))?;
            }
            let mut plugins = transaction.open_table(tables::PLUGINS)?;
            let mut pieces = transaction.open_table(tables::PLUGIN_BYTES)?;
            for plugin in &references.plugins {
                let bytes = self.plugin(*plugin)?;
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

    /// Those of `listed` that are sound; what is wrong with the others goes to `damaged`.
    pub(super) fn sound_ones(
        &mut self,
        listed: Vec<Listed>,
        damaged: &mut Vec<(CheckpointId, String)>,
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let mut sound = Vec::new();
        let mut chunks = BTreeMap::new();
        let mut plugins = BTreeMap::new();
        for (id, manifest) in listed {
            match manifest {
                Err(error) => damaged.push((id, error.to_string())),
                Ok(checkpoint) => {
                    let problems = self.check(&checkpoint, &mut chunks, &mut plugins)?;
                    if problems.is_empty() {
                        sound.push(checkpoint);
                    } else {
                        damaged.push((id, problems.join("; ")));
                    }
                }
            }
        }
        Ok(sound)
    }
}
