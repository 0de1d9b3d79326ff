//! Carries out rollbacks that clients of a running job request: reads the checkpoint and loads its plugins, notes the
//! rollback in the data folder, and waits until the job runs from there.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::drive::{Inputs, ask};
use super::rolled_back::RolledBackNote;
use crate::guest::GuestError;
use crate::job::{
    CanResume, OperationKind, Refusal, Request, RollbackRequest, RolledBack, UnfitSource,
};
use crate::runtime::plan::Operator;
use floodmark_checkpoint::PluginDigest;
use floodmark_checkpoint::store::StoreError;
use floodmark_state::stream::CheckpointId;

/// A rollback that was checked and can be done.
pub struct PreparedRollback {
    /// The operators that run after it, by node.
    pub operators: Vec<(String, Operator)>,
    /// The note for the data folder.
    pub note: RolledBackNote,
    /// Lines about it for the user.
    pub says: Vec<String>,
    /// Looks once more whether the sources can resume.
    pub can_resume: CanResume,
}

/// Reads a whole checkpoint and loads its plugins; or returns the reason why the job cannot return to it.
pub type PrepareRollback =
    Arc<dyn Fn(CheckpointId) -> Result<PreparedRollback, UnfitCheckpoint> + Send + Sync>;

/// The reason why a job was not rolled back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollbackRefusal {
    /// Another client is already rolling the job back. Nothing has changed.
    #[error("{}", OperationKind::Rollback.refuses_another())]
    UnderWay,
    /// It cannot return to that checkpoint. Nothing has changed.
    #[error(transparent)]
    Checkpoint(#[from] UnfitCheckpoint),
    /// The note cannot be written. Nothing has changed.
    #[error("cannot write into `{}`: {source}; nothing has changed", folder.display())]
    Folder {
        /// The data folder.
        folder: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The job refused, failed on the way, or has ended.
    #[error(transparent)]
    Job(#[from] Refusal),
}

/// The reason why a job cannot return to a checkpoint. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitCheckpoint {
    /// The job has ended.
    #[error("the job is over")]
    JobOver,
    /// The checkpoint does not exist, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is from another pipeline.
    #[error("checkpoint {checkpoint} is from another pipeline: {difference}")]
    OtherPipeline {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The first difference, as a sentence.
        difference: String,
    },
    /// It is damaged.
    #[error(
        "checkpoint {checkpoint} is damaged ({problem}), so the job cannot go back to it; `floodmark checkpoint verify` says which are sound"
    )]
    Damaged {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// A description of the damage.
        problem: String,
    },
    /// A source cannot resume at its positions.
    #[error("the job cannot go back to checkpoint {checkpoint}: {reason}")]
    Source {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The source, and why it cannot.
        reason: UnfitSource,
    },
    /// One of its plugins cannot run.
    #[error(transparent)]
    Plugin(#[from] UnfitPlugin),
}

/// The reason why a plugin of a checkpoint cannot replace the one that the pipeline names.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitPlugin {
    /// Its component cannot be read.
    #[error("operator `{operator}`: {source}")]
    Unreadable {
        /// The operator.
        operator: String,
        /// The error of the storage.
        source: StoreError,
    },
    /// It cannot be loaded.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// It does not fit the graph of the pipeline.
    #[error(
        "operator `{operator}`: plugin {:.12} of the checkpoint has different {differing} than the plugin that the pipeline names, so it does not fit the graph; name it in the pipeline instead",
        plugin.to_string()
    )]
    OtherInterface {
        /// The operator.
        operator: String,
        /// The plugin of the checkpoint.
        plugin: PluginDigest,
        /// What differs, in words.
        differing: &'static str,
    },
}

/// Rolls back one running job, for clients on any thread.
pub struct Rollbacks {
    inputs: Inputs,
    folder: PathBuf,
    prepare: PrepareRollback,
    /// Held from preparing to the answer: the note in the data folder must be that of the rollback which is carried out.
    one_at_a_time: Mutex<()>,
}

impl Rollbacks {
    /// Rollbacks of the job that takes these inputs and has this data folder.
    #[must_use]
    pub fn new(inputs: Inputs, folder: PathBuf, prepare: PrepareRollback) -> Self {
        Self {
            inputs,
            folder,
            prepare,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Returns the job permanently to a checkpoint. Returns when it has resumed and its next checkpoint is durable, with
    /// lines for the user.
    ///
    /// # Errors
    /// When it cannot be done, see [`RollbackRefusal`].
    pub fn roll_back(
        &self,
        to: CheckpointId,
    ) -> Result<(RolledBack, Vec<String>), RollbackRefusal> {
        let Ok(_alone) = self.one_at_a_time.try_lock() else {
            return Err(RollbackRefusal::UnderWay);
        };
        let prepared = (self.prepare)(to)?;
        // If the process dies after the rollback and before the next checkpoint, it restarts with the plugins as of `to`.
        let written = prepared.note.write(&self.folder);
        written.map_err(|source| RollbackRefusal::Folder {
            folder: self.folder.clone(),
            source,
        })?;
        let (operators, can_resume) = (prepared.operators, prepared.can_resume);
        let back = ask(&self.inputs, |caller| {
            Request::Rollback(Box::new(RollbackRequest {
                to,
                operators,
                can_resume,
                caller,
            }))
        })?;
        Ok((back, prepared.says))
    }
}
