//! Visits all valid entries, chunk by chunk, sealed or not. For tools: it is slow.

use std::sync::Arc;

use super::index::{Identity, Word};
use super::layout::{self, Content, Entry};
use super::log::ChunkPlace;
use super::store::StateStore;
use super::{Chunk, StateError, StateId, StateKind};
use crate::stream::hash_key;

impl StateStore {
    /// The keys with a value or a tree in a state, in no particular order. Expired ones may be included.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged.
    pub fn keys_of(&mut self, state: StateId) -> Result<Vec<Vec<u8>>, StateError> {
        let mut keys = Vec::new();
        self.visit(|entry| {
            let is_first = entry.node.is_none_or(|node| node == 0);
            if entry.state == state && is_first && matches!(entry.content, Content::Value(_)) {
                keys.push(entry.key.to_vec());
            }
        })?;
        Ok(keys)
    }

    /// Whether a state has an entry for a key, including a tombstone.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged.
    pub fn has_entry(
        &mut self,
        state: StateId,
        kind: StateKind,
        key: &[u8],
    ) -> Result<bool, StateError> {
        let node = match kind {
            StateKind::Value => None,
            StateKind::List | StateKind::Map => Some(0),
        };
        let identity = Identity { state, node, key };
        let place = self.place(hash_key(key), state, node);
        Ok(!self.find(identity, place)?.word.is_empty())
    }

    fn visit(&mut self, mut visit: impl FnMut(&Entry<'_>)) -> Result<(), StateError> {
        let mut handles: Vec<u32> = self.log.sealed().map(|(handle, _)| handle).collect();
        handles.extend(&self.log.tail);
        for handle in handles {
            self.log.make_resident(handle)?;
            let chunk = self.log.chunk(handle);
            // Keeps the bytes: lookups of other entries may evict the chunk.
            let chunk = match &chunk.place {
                ChunkPlace::Resident(chunk) => Arc::clone(chunk),
                ChunkPlace::Tail(bytes) => Arc::new(Chunk {
                    id: chunk.id,
                    bytes: bytes.clone(),
                }),
                ChunkPlace::Cold | ChunkPlace::Stored => {
                    unreachable!("the chunk was just made resident")
                }
            };
            let mut offset = 0;
            while offset < chunk.bytes.len() {
                let entry = layout::entry_at(&chunk.bytes, offset);
                let at = offset;
                offset += entry.len;
                let key_hash = hash_key(entry.key);
                if !self.owns(key_hash) {
                    continue;
                }
                let place = self.place(key_hash, entry.state, entry.node);
                let identity = Identity {
                    state: entry.state,
                    node: entry.node,
                    key: entry.key,
                };
                if self.find(identity, place)?.word == Word::new(place.hash, handle, at) {
                    visit(&entry);
                }
            }
            self.log.evict(None)?;
        }
        Ok(())
    }
}
