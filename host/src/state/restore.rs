//! Rebuilds a store from the chunks of a checkpoint.
//!
//! Chunks are read oldest first, so the last entry of a key that is seen is its newest. What a task does not own, or its
//! checkpoint did not own, is passed over: that is all that another parallelism needs.

use std::sync::Arc;

use super::index::{OFFSET_LIMIT, Word};
use super::layout::{self, Content};
use super::log::{ChunkBytes, LogChunk};
use super::store::{Found, StateStore};
use super::{Chunk, ChunkId, ChunkIds};
use crate::stream::{KeyGroupRange, MaxParallelism};

/// Rebuilds a store from the chunks of a checkpoint.
#[derive(Debug)]
pub struct Restore {
    store: StateStore,
    last: Option<ChunkId>,
}

impl Restore {
    /// Begins with nothing.
    #[must_use]
    pub fn new(max_parallelism: MaxParallelism, key_groups: KeyGroupRange, ids: ChunkIds) -> Self {
        Self {
            store: StateStore::new(max_parallelism, key_groups, ids),
            last: None,
        }
    }

    /// Adds a chunk. Of its keys those count that this task owns, and that the tasks owned in whose snapshots the chunk
    /// stands: what it holds of others is out of date.
    ///
    /// # Errors
    /// When the bytes are no entries. The store is then not to be used.
    ///
    /// # Panics
    /// When the chunks do not come oldest first.
    pub fn add(
        &mut self,
        chunk: Arc<Chunk>,
        named_for: &[KeyGroupRange],
    ) -> Result<(), layout::MalformedEntry> {
        assert!(self.last < Some(chunk.id), "chunks come oldest first");
        self.last = Some(chunk.id);
        self.store.log.ids.pass(chunk.id);
        let handle = self.store.log.add(LogChunk {
            id: chunk.id,
            bytes: ChunkBytes::Sealed(Arc::clone(&chunk)),
            live: 0,
        });
        self.store.log.total_bytes += chunk.bytes.len();
        let mut offset = 0;
        while offset < chunk.bytes.len() {
            let entry = layout::read(&chunk.bytes, offset)?;
            if offset >= OFFSET_LIMIT {
                return Err(layout::MalformedEntry { offset });
            }
            let hash = crate::stream::hash_key(entry.key);
            let group = self.store.max_parallelism.group_of(hash);
            if self.store.owns(hash) && named_for.iter().any(|range| range.contains(group)) {
                self.store.adopt(&entry, hash, handle, offset);
            }
            offset += entry.len;
        }
        if self.store.log.chunk(handle).live == 0 {
            self.store.log.drop_chunk(handle);
        }
        Ok(())
    }

    /// The store with all that was added.
    #[must_use]
    pub fn finish(self) -> StateStore {
        self.store
    }
}

impl StateStore {
    /// Takes an entry that was read back as the newest of its key.
    fn adopt(&mut self, entry: &layout::Entry<'_>, hash: u64, handle: u32, offset: usize) {
        let table = self.table_index(hash);
        let mut found = Found {
            position: 0,
            word: Word::EMPTY,
        };
        (found.position, found.word) =
            self.tables[table].search(self.tables[table].home(hash), hash);
        self.confirm(entry.state, entry.key, hash, &mut found);
        let word = Word::new(hash, handle, offset);
        self.log.chunk_mut(handle).live += entry.len;
        self.log.live_bytes += entry.len;
        self.tombstones += usize::from(matches!(entry.content, Content::Tombstone { .. }));
        if found.word.is_empty() {
            self.tables[table].insert(word);
        } else {
            let old = layout::entry_at(self.log.bytes(found.word.handle()), found.word.offset());
            self.tombstones -= usize::from(matches!(old.content, Content::Tombstone { .. }));
            self.tables[table].replace(found.position, word);
            self.log.discard(found.word);
        }
    }
}
