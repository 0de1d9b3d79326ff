//! The early end of a swap that is being prepared: its client cancels it, or the job ends.
//!
//! What takes long asks between two steps, and reads of saved state ask before each chunk, so neither a client nor the end
//! of a job waits for a large state. Calls of a plugin and its compiler are ended elsewhere (`guest::deadline`,
//! `guest::elsewhere`).

use std::path::PathBuf;
use std::sync::Arc;

use super::SwapRefusal;
use crate::guest::{Cancellation, Haste};
use crate::job::Refusal;
use floodmark_checkpoint::store::{Listed, StoreError, VerifyReport};
use floodmark_checkpoint::{Checkpoint, CheckpointReader, PluginDigest};
use floodmark_state::ChunkRef;
use floodmark_state::stream::CheckpointId;

/// Whether a swap must end before the job has it.
#[derive(Debug, Clone)]
pub(super) struct SwapEnd {
    pub(super) cancellation: Cancellation,
    /// Begins when the job is asked to stop, or has ended.
    pub(super) haste: Haste,
}

impl SwapEnd {
    /// Asks whether the swap may continue.
    ///
    /// # Errors
    /// When it was cancelled, or the job ends.
    pub(super) fn check(&self) -> Result<(), SwapRefusal> {
        if self.cancellation.is_cancelled() {
            return Err(SwapRefusal::Cancelled);
        }
        match self.haste.has_begun() {
            true => Err(SwapRefusal::Job(Refusal::SwapAtEnd)),
            false => Ok(()),
        }
    }

    /// The refusal to report for one that occurred: the end of the swap, if that is the cause.
    pub(super) fn cause_of(&self, refusal: SwapRefusal) -> SwapRefusal {
        match (self.check(), refusal) {
            // The job itself knows best why it ends.
            (Err(SwapRefusal::Job(_)), SwapRefusal::Job(own)) => SwapRefusal::Job(own),
            (Err(end), _) => end,
            (Ok(()), refusal) => refusal,
        }
    }

    /// The same reader, which reads no chunk once the swap must end.
    pub(super) fn reader(&self, inner: Arc<dyn CheckpointReader>) -> Arc<dyn CheckpointReader> {
        Arc::new(SwapReader {
            inner,
            end: self.clone(),
        })
    }
}

/// Reads checkpoints for a swap.
struct SwapReader {
    inner: Arc<dyn CheckpointReader>,
    end: SwapEnd,
}

impl SwapReader {
    /// The error is not shown: [`SwapEnd::cause_of`] replaces it.
    fn check(&self) -> Result<(), StoreError> {
        self.end.check().map_err(|refusal| StoreError::Unusable {
            path: PathBuf::new(),
            reason: refusal.to_string(),
        })
    }
}

impl CheckpointReader for SwapReader {
    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        self.inner.list()
    }

    fn read(&self, id: CheckpointId) -> Result<Checkpoint, StoreError> {
        self.inner.read(id)
    }

    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, StoreError> {
        self.check()?;
        self.inner.chunk(chunk)
    }

    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, StoreError> {
        self.check()?;
        self.inner.chunk_index(chunk)
    }

    fn plugin(&self, plugin: PluginDigest) -> Result<Vec<u8>, StoreError> {
        self.inner.plugin(plugin)
    }

    fn verify(&self, id: Option<CheckpointId>) -> Result<VerifyReport, StoreError> {
        self.inner.verify(id)
    }
}
