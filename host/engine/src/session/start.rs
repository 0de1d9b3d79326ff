//! Selects the checkpoint that a run starts from: the newest, an older one, or a savepoint.
//!
//! Nothing is deleted or imported before the selected checkpoint was read and accepted for this pipeline.

use std::path::PathBuf;

use super::recovery::{check, dropped};
use super::what_runs::{PluginLoader, Runs, from_checkpoint, operators};
use super::{EngineError, Say, StartFrom};
use super::{foreign, storage};
use crate::edge::data_dir::DataDir;
use crate::edge::later_output::LaterOutput;
use crate::edge::rolled_back::RolledBackNote;
use crate::guest::GuestEngine;
use crate::runtime::plan::Plan;
use floodmark_checkpoint::crash::{self, Point};
use floodmark_checkpoint::store::{ReadOnlyStore, Recovery, StoreError, savepoint};
use floodmark_checkpoint::{Checkpoint, CheckpointStorage, Depth, delete_after};
use floodmark_state::stream::CheckpointId;

/// The start of a run.
pub enum StartPoint {
    /// From the newest sound checkpoint, or from the beginning.
    Newest,
    /// From this checkpoint.
    At(CheckpointId),
    /// From an opened savepoint.
    Carried {
        /// The opened file, from which the checkpoint is imported.
        savepoint: Box<ReadOnlyStore>,
        /// Its only checkpoint, already accepted for this pipeline, which has a place for all of it.
        checkpoint: Box<Checkpoint>,
        /// A warning for each state without a place in the pipeline, which was removed.
        says: Vec<String>,
        /// The path as the user gave it, for messages.
        path: PathBuf,
    },
}

impl StartPoint {
    /// Opens the savepoint, if the run starts from one, and checks that the pipeline can resume from it, with its plugins.
    pub fn open(
        from: &StartFrom,
        plan: &Plan,
        data_dir: &DataDir,
        engine: &GuestEngine,
    ) -> Result<Self, EngineError> {
        match from {
            StartFrom::Newest | StartFrom::Beginning => Ok(Self::Newest),
            StartFrom::Checkpoint(id) => Ok(Self::At(CheckpointId(*id))),
            StartFrom::Savepoint {
                path, take_plugins, ..
            } => {
                let (savepoint, mut checkpoint) = savepoint::open(path, None)?;
                if !take_plugins {
                    foreign::refuse(plan, &checkpoint, None)?;
                }
                let mut left = checkpoint.clone();
                // A plugin that is taken along declares its own states.
                if *take_plugins {
                    let is_there = |name: &str| operators(plan).any(|(known, _)| known == name);
                    left.operators.retain(|saved| !is_there(&saved.name));
                }
                check(&left, true, plan, data_dir)?;
                foreign::adopt(plan, &mut checkpoint);
                left.operators.retain(|saved| {
                    checkpoint
                        .operators
                        .iter()
                        .all(|kept| kept.name != saved.name)
                });
                let loading = PluginLoader {
                    reader: &savepoint,
                    engine,
                };
                runs(plan, &checkpoint, None, &loading)?;
                let warn = |state: String| format!("warning: {state} is left behind");
                Ok(Self::Carried {
                    savepoint: Box::new(savepoint),
                    checkpoint: Box::new(checkpoint),
                    says: dropped(&left, plan).into_iter().map(warn).collect(),
                    path: path.clone(),
                })
            }
        }
    }

    /// Whether the run starts from a savepoint.
    pub fn is_carried(&self) -> bool {
        matches!(self, Self::Carried { .. })
    }

    /// Imports the savepoint, if the run starts from one, into a storage without checkpoints. Returns whether it did.
    pub fn import(
        &self,
        storage: &mut dyn CheckpointStorage,
        data_dir: &DataDir,
    ) -> Result<bool, EngineError> {
        let Self::Carried {
            savepoint,
            checkpoint,
            path,
            says: _,
        } = self
        else {
            return Ok(false);
        };
        if let Some(newest) = storage::ids(&*storage.reader())?.first() {
            let message = format!(
                "the data folder `{}` has checkpoints already (the newest is {newest}), so the job cannot start from `{}`; use another `--data-dir`, `--fresh` to forget them, or, if an earlier run of this command wrote them, leave out `--from` to resume",
                data_dir.path().display(),
                path.display()
            );
            return Err(EngineError::data(message));
        }
        let imported = storage.import(&**savepoint, checkpoint);
        imported.map_err(|error| match error {
            // The data folder is fine, so `--fresh` does not help.
            StoreError::Damaged { path: at, reason } if at == *path => {
                let next = savepoint::COPY_AGAIN;
                let reason = format!("it is damaged: {reason}; {next}");
                StoreError::UnusableSavepoint { path: at, reason }
            }
            other => other,
        })?;
        crash::point(Point::SavepointImported);
        Ok(true)
    }

    /// Finds the checkpoint.
    pub fn recover(&self, storage: &mut dyn CheckpointStorage) -> Result<Recovery, EngineError> {
        let (depth, at) = match self {
            Self::Newest | Self::Carried { .. } => (Depth::Quick, None),
            // Later ones are deleted, so this one must be sound.
            Self::At(id) => (Depth::Thorough, Some(*id)),
        };
        let recovery = storage.recover(depth, at);
        recovery.map_err(|error| match error {
            StoreError::NoSuchCheckpoint { id } => no_such(id, storage),
            other => other.into(),
        })
    }

    /// The plan that resumes from the checkpoint; `plan` is what the pipeline names.
    pub fn what_runs(
        &self,
        plan: &Plan,
        recovery: &Recovery,
        data_dir: &DataDir,
        loading: &PluginLoader<'_>,
    ) -> Result<Runs, EngineError> {
        let Some(restored) = &recovery.restored else {
            return Ok(Runs {
                plan: plan.clone(),
                says: Vec::new(),
            });
        };
        // The note is about the newest checkpoint. A user who names a checkpoint wants the plugins that the pipeline
        // names.
        let note = match self {
            Self::Newest => RolledBackNote::read(data_dir.path())
                .map_err(|error| EngineError::data(error.to_string()))?,
            Self::At(_) | Self::Carried { .. } => None,
        };
        let mut runs = runs(plan, &restored.checkpoint, note.as_ref(), loading)?;
        if let Self::Carried { says, .. } = self {
            runs.says.extend(says.iter().cloned());
        }
        Ok(runs)
    }

    /// Deletes the checkpoints after the one that the job returns to. Their output is taken back afterwards, so that a
    /// checkpoint never exists without its output.
    pub fn forget_later(
        &self,
        storage: &mut dyn CheckpointStorage,
        data_dir: &DataDir,
        say: &Say,
    ) -> Result<(), EngineError> {
        let Self::At(start) = self else {
            return Ok(());
        };
        LaterOutput::of(data_dir.path()).note(*start)?;
        let later = delete_after(storage, *start)?;
        if later.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = later.iter().rev().map(ToString::to_string).collect();
        say(&format!(
            "checkpoints after {start} are deleted, and their output is taken back: {}",
            names.join(", ")
        ));
        Ok(())
    }
}

fn runs(
    plan: &Plan,
    checkpoint: &Checkpoint,
    note: Option<&RolledBackNote>,
    loading: &PluginLoader<'_>,
) -> Result<Runs, EngineError> {
    let runs = from_checkpoint(plan, checkpoint, note, loading);
    runs.map_err(|error| EngineError::plugin(error.to_string()))
}

fn no_such(id: CheckpointId, storage: &dyn CheckpointStorage) -> EngineError {
    let there = storage::ids(&*storage.reader()).unwrap_or_default();
    let there: Vec<_> = there.iter().map(ToString::to_string).collect();
    let there = match there.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are {}", there.join(", ")),
    };
    let message = format!("there is no checkpoint {id}; {there}");
    EngineError::data(message)
}
