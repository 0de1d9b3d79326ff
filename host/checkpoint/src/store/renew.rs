//! Replaces a damaged file with a new one: a file with damage in it is never written to.
//!
//! ```text
//! 1. checkpoints.redb.restored       created, filled with all sound checkpoints, synced
//! 2. checkpoints.damaged-7.redb      second name of the damaged file      (fsync of the folder)
//! 3. checkpoints.redb.restored       renamed to checkpoints.redb         (fsync of the folder)
//! ```
//!
//! A crash at any point leaves a whole file under the store's name: before the rename the damaged one, from which the next
//! start does the same again, and after it the new one. The damaged file is never deleted.

use std::fs;
use std::path::{Path, PathBuf};

use super::copy::{Highest, copy_to};
use super::error::{StoreError, StoreFault};
use super::file::{self, OpenedStore};
use super::guard::guarded;
use super::verify::{VerifiedObjects, check};
use super::{CheckpointStore, Listed};
use crate::Checkpoint;
use floodmark_state::stream::CheckpointId;

impl CheckpointStore {
    /// Moves to a new file with the sound checkpoints of `listed`, and returns the new name of the damaged file.
    ///
    /// After an error the store is unchanged.
    pub(super) fn renew(
        &mut self,
        sound: &[&Checkpoint],
        highest: Highest,
    ) -> Result<PathBuf, StoreError> {
        let new = file::restored_name(self.reader.path());
        self.renew_by(sound, highest, || file::make_anew(&new))
    }

    pub(super) fn renew_by(
        &mut self,
        sound: &[&Checkpoint],
        highest: Highest,
        make: impl FnOnce() -> Result<OpenedStore, StoreFault>,
    ) -> Result<PathBuf, StoreError> {
        let path = self.path();
        let new = file::restored_name(&path);
        let made = self.copy_and_replace(&path, &new, sound, highest, make);
        made.map_err(|fault| {
            // The new file is incomplete, and the next attempt creates it again. A leftover does no harm.
            let _ = fs::remove_file(&new);
            let source = Box::new(fault.of(&new));
            StoreError::NotReplaced { path, source }
        })
    }

    fn copy_and_replace(
        &mut self,
        path: &Path,
        new: &Path,
        sound: &[&Checkpoint],
        highest: Highest,
        make: impl FnOnce() -> Result<OpenedStore, StoreFault>,
    ) -> Result<PathBuf, StoreFault> {
        let (storage, database) = make()?;
        let compression = self.settings.compression;
        guarded(|| copy_to(&database, &*self.reader, sound, highest, compression))?;
        let aside = file::keep_aside(path, highest.checkpoint)?;
        fs::rename(new, path)?;
        file::sync_folder(path)?;
        self.reader.alone(|slot| {
            // The old handle is dropped before the old file.
            slot.database = Some(database);
            slot.storage = storage;
        });
        Ok(aside)
    }

    /// The sound checkpoints of `listed`; the others are added to `damaged` with their reasons.
    pub(super) fn sound_ones(
        &mut self,
        listed: Vec<Listed>,
        damaged: &mut Vec<(CheckpointId, String)>,
    ) -> Result<Vec<Checkpoint>, StoreError> {
        let mut sound = Vec::new();
        let mut seen = VerifiedObjects::default();
        for (id, manifest) in listed {
            match manifest {
                Err(error) => damaged.push((id, error.to_string())),
                Ok(checkpoint) => {
                    let problems = check(&*self.reader, &checkpoint, &mut seen)?;
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
