//! Creates and opens savepoints: stores with exactly one checkpoint, in a file of its own that can be copied and kept.
//!
//! A savepoint is written as `NAME.part` and renamed once it is durable, so a file with its final name is whole. A
//! `NAME.part` left by a process that died is replaced.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::copy::{Highest, copy_to};
use super::error::{StoreError, StoreFault};
use super::file;
use super::guard::guarded;
use super::readonly::ReadOnlyStore;
use crate::chunks_of;
use crate::manifest::{CARRIED_ID_MAX, RECORDS_MAX, STATE_ID_MAX};
use crate::{Checkpoint, CheckpointReader, CheckpointStorageSettings};
use floodmark_state::stream::CheckpointId;

/// What to do about a savepoint that is not whole.
pub const COPY_AGAIN: &str = "check the path, or copy the savepoint again from where it was made";

/// Creates a savepoint of a checkpoint at `to`.
///
/// # Errors
///
/// When `to` exists (it is not touched), when the checkpoint or the disk fails, or the checkpoint was retired in the
/// meantime ([`StoreError::NoSuchCheckpoint`]). On failure nothing is left at `to`.
pub fn create(
    to: &Path,
    from: &dyn CheckpointReader,
    checkpoint: &Checkpoint,
    settings: CheckpointStorageSettings,
) -> Result<(), StoreError> {
    check_target(to)?;
    let part = file::with_suffix(to, ".part");
    let made = make(&part, to, from, checkpoint, settings);
    made.map_err(|fault| {
        // A leftover does no harm: the next savepoint of that name replaces it.
        let _ = fs::remove_file(&part);
        let error = fault.of(to);
        match from.read(checkpoint.id) {
            Err(gone @ StoreError::NoSuchCheckpoint { .. }) => gone,
            _ => error,
        }
    })
}

/// Checks that a savepoint can be created at `to`, by creating its temporary file for a moment.
///
/// # Errors
/// [`StoreError::Exists`], or [`StoreError::SavepointTarget`] when the system refuses. Nothing is left there.
pub fn check_target(to: &Path) -> Result<(), StoreError> {
    if fs::symlink_metadata(to).is_ok() {
        let path = to.to_owned();
        return Err(StoreError::Exists { path });
    }
    let part = file::with_suffix(to, ".part");
    let created = file::private().write(true).create_new(true).open(&part);
    match created.and_then(|_| fs::remove_file(&part)) {
        // Left by a process that died, or of a savepoint that is being made: `create` finds out.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(|source| StoreError::SavepointTarget {
            path: to.to_owned(),
            source,
        }),
    }
}

fn make(
    part: &Path,
    to: &Path,
    from: &dyn CheckpointReader,
    checkpoint: &Checkpoint,
    settings: CheckpointStorageSettings,
) -> Result<(), StoreFault> {
    let (storage, database) = file::make_anew(part)?;
    let highest = Highest {
        checkpoint: checkpoint.id.0,
        chunk: chunks_of(checkpoint)
            .map(|chunk| chunk.id.0)
            .max()
            .unwrap_or(0),
    };
    guarded(|| {
        copy_to(
            &database,
            from,
            &[checkpoint],
            highest,
            settings.compression,
        )
    })?;
    drop(database);
    // Another process may have created one: a link never replaces an existing file.
    match fs::hard_link(part, to) {
        Ok(()) => fs::remove_file(part)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let path = to.to_owned();
            return Err(StoreError::Exists { path }.into());
        }
        // Not all file systems have hard links.
        Err(_) => fs::rename(part, to)?,
    }
    drop(storage);
    Ok(file::sync_folder(to)?)
}

/// Opens a savepoint; or the store in a data folder, given the id of a checkpoint in it.
///
/// # Errors
///
/// When it is not a store, has not exactly one checkpoint and none was chosen, or that one's manifest is damaged. A number
/// that would leave a job too few is damage, too.
pub fn open(
    path: impl Into<PathBuf>,
    id: Option<CheckpointId>,
) -> Result<(ReadOnlyStore, Checkpoint), StoreError> {
    let path = path.into();
    let store = ReadOnlyStore::open(&path).map_err(of_savepoint)?;
    let id = match id {
        Some(id) => id,
        None => match store.list()?.as_slice() {
            [(id, _)] => *id,
            listed => {
                let count = listed.len();
                return Err(StoreError::NotOne { path, count });
            }
        },
    };
    let checkpoint = store.read(id).map_err(of_savepoint)?;
    if let Some(what) = beyond_jobs(&checkpoint) {
        let reason = format!(
            "it is damaged: {what} in it is higher than any that a job reaches; {COPY_AGAIN}"
        );
        return Err(StoreError::UnusableSavepoint { path, reason });
    }
    Ok((store, checkpoint))
}

/// A number from which a job that starts here could not count on: its own checkpoints could not be read then.
fn beyond_jobs(checkpoint: &Checkpoint) -> Option<&'static str> {
    let chunks = chunks_of(checkpoint).map(|chunk| chunk.id.0);
    let mut ids = chunks.chain([checkpoint.id.0]);
    let operators = checkpoint.operators.iter();
    let mut states = operators.flat_map(|operator| &operator.states);
    let records = checkpoint.records_in.max(checkpoint.records_out);
    if ids.any(|id| id > CARRIED_ID_MAX) || states.any(|state| state.id.0 > STATE_ID_MAX / 2) {
        return Some("an id");
    }
    (records > RECORDS_MAX / 2).then_some("a number of records")
}

/// The error of a savepoint: it has no other checkpoints to fall back to, and running a job or `--fresh` does not help.
fn of_savepoint(error: StoreError) -> StoreError {
    let (path, reason) = match error {
        StoreError::Damaged { path, reason } => {
            (path, format!("it is damaged: {reason}; {COPY_AGAIN}"))
        }
        StoreError::Absent { path } => (path, format!("there is no such file; {COPY_AGAIN}")),
        StoreError::NotAStore { path, reason } => {
            (path, format!("it is not one: {reason}; {COPY_AGAIN}"))
        }
        StoreError::OtherFormat {
            path,
            found,
            expected,
        } => {
            let next = match found > expected {
                true => "use a newer floodmark, such as the one that wrote it",
                false => "use the floodmark that wrote it",
            };
            let reason = format!(
                "it has format {found}, and this floodmark reads format {expected}; {next}"
            );
            (path, reason)
        }
        other => return other,
    };
    StoreError::UnusableSavepoint { path, reason }
}
