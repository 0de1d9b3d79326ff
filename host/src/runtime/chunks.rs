//! Hands the chunks of a restored checkpoint to the stores that go on from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::{Chunk, ChunkId, ChunkReader, ChunkRef, ChunkUnreadable};

/// Chunks that were read with their checkpoint.
pub(super) struct ChunksAtHand(BTreeMap<ChunkId, Arc<Chunk>>);

impl ChunksAtHand {
    pub(super) fn new(chunks: &BTreeMap<ChunkId, Arc<Chunk>>) -> Self {
        Self(chunks.clone())
    }
}

impl ChunkReader for ChunksAtHand {
    fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
        let found = self.0.get(&chunk.id);
        let found = found.ok_or_else(|| ChunkUnreadable {
            chunk: chunk.id,
            reason: "it is missing".to_owned(),
            is_damaged: true,
        })?;
        Ok(found.bytes.clone())
    }

    fn chunk_index(&self, _: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
        Ok(None)
    }
}
