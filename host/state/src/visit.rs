//! Visits all valid entries, chunk by chunk, sealed or not. For tools: it is slow.

use std::sync::Arc;

use super::index::{Identity, Word};
use super::layout::{self, Content, Entry};
use super::log::ChunkPlace;
use super::store::StateStore;
use super::{Chunk, StateError, StateId, StateKind};
use crate::stream::hash_key;

/// A search for the keys of a state, chunk by chunk, so that not all of them need be in memory at once. The store must
/// not change meanwhile.
#[derive(Debug)]
pub struct KeySearch {
    state: StateId,
    handles: std::vec::IntoIter<u32>,
}

impl StateStore {
    /// A search that begins.
    #[must_use]
    pub fn search(&self, state: StateId) -> KeySearch {
        let handles = self.handles();
        KeySearch {
            state,
            handles: handles.into_iter(),
        }
    }

    /// Some keys with a value or a tree, none of them twice; `None` after the last ones. Expired ones may be included.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged.
    pub fn next_keys(
        &mut self,
        search: &mut KeySearch,
    ) -> Result<Option<Vec<Vec<u8>>>, StateError> {
        let Some(handle) = search.handles.next() else {
            return Ok(None);
        };
        let mut keys = Vec::new();
        self.visit_chunk(handle, &mut |entry| {
            if is_first_of(entry, search.state) {
                keys.push(entry.key.to_vec());
            }
        })?;
        Ok(Some(keys))
    }

    /// The keys with a value or a tree in a state, in no particular order. Expired ones may be included.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged.
    pub fn keys_of(&mut self, state: StateId) -> Result<Vec<Vec<u8>>, StateError> {
        let mut keys = Vec::new();
        for handle in self.handles() {
            self.visit_chunk(handle, &mut |entry| {
                if is_first_of(entry, state) {
                    keys.push(entry.key.to_vec());
                }
            })?;
        }
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

    /// The write time of a value in milliseconds since 1970; `None` if there is none, or it never expires.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged.
    pub fn written_of(&mut self, state: StateId, key: &[u8]) -> Result<Option<u64>, StateError> {
        let identity = Identity {
            state,
            node: None,
            key,
        };
        let place = self.place(hash_key(key), state, None);
        let found = self.find(identity, place)?;
        match found.word.is_empty() {
            true => Ok(None),
            false => Ok(self.log.entry_again(found.word).written_ms),
        }
    }

    /// All chunks.
    fn handles(&self) -> Vec<u32> {
        let mut handles: Vec<u32> = self.log.sealed().map(|(handle, _)| handle).collect();
        handles.extend(&self.log.tail);
        handles
    }

    /// Visits the valid entries of a chunk.
    fn visit_chunk(
        &mut self,
        handle: u32,
        visit: &mut dyn FnMut(&Entry<'_>),
    ) -> Result<(), StateError> {
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
        self.log.evict(None)
    }
}

/// Whether an entry is the value of a key in a state, or the root of its list or map.
fn is_first_of(entry: &Entry<'_>, state: StateId) -> bool {
    let is_first = entry.node.is_none_or(|node| node == 0);
    entry.state == state && is_first && matches!(entry.content, Content::Value(_))
}
