//! Reads chunks of a stored checkpoint for `state`, which is independent of checkpoints and defines a trait for this.

use std::collections::BTreeMap;
use std::sync::Arc;

use floodmark_checkpoint::store::StoreError;
use floodmark_checkpoint::{CheckpointReader, TaskSnapshot};
use floodmark_state::stream::KeyGroupRange;
use floodmark_state::{ChunkId, ChunkReader, ChunkRef, ChunkUnreadable};

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

/// The chunks of saved tasks that may contain keys of some key groups, oldest first, each with the key groups that it
/// is used for.
pub(super) fn named_chunks(
    tasks: &[TaskSnapshot],
    key_groups: &KeyGroupRange,
) -> Vec<(ChunkRef, Vec<KeyGroupRange>)> {
    let mut named: BTreeMap<ChunkId, (ChunkRef, Vec<KeyGroupRange>)> = BTreeMap::new();
    for saved in tasks
        .iter()
        .filter(|saved| overlap(&saved.key_groups, key_groups))
    {
        for &chunk in &saved.chunks {
            let (_, ranges) = named.entry(chunk.id).or_insert((chunk, Vec::new()));
            ranges.push(saved.key_groups.clone());
        }
    }
    named.into_values().collect()
}

pub(super) fn overlap(left: &KeyGroupRange, right: &KeyGroupRange) -> bool {
    left.0.start < right.0.end && right.0.start < left.0.end
}

fn unreadable(chunk: ChunkRef, error: &StoreError) -> ChunkUnreadable {
    ChunkUnreadable {
        chunk: chunk.id,
        reason: error.to_string(),
        is_damaged: matches!(error, StoreError::Damaged { .. }),
    }
}
