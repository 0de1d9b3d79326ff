//! Chunks of a stored checkpoint for the state that is restored from it: `state` knows no checkpoints, and says what it needs as
//! a trait.

use std::sync::Arc;

use crate::checkpoint::CheckpointReader;
use crate::checkpoint::store::StoreError;
use crate::state::{ChunkReader, ChunkRef, ChunkUnreadable};

/// Reads chunks through a reader of checkpoints.
pub struct CheckpointChunks(pub Arc<dyn CheckpointReader>);

impl ChunkReader for CheckpointChunks {
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
        self.0
            .chunk(chunk)
            .map_err(|error| unreadable(chunk, &error))
    }

    fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
        self.0
            .chunk_index(chunk)
            .map_err(|error| unreadable(chunk, &error))
    }
}

fn unreadable(chunk: ChunkRef, error: &StoreError) -> ChunkUnreadable {
    ChunkUnreadable {
        chunk: chunk.id,
        reason: error.to_string(),
        is_damaged: matches!(error, StoreError::Damaged { .. }),
    }
}
