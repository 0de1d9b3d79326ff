//! Rebuilds the index of a store from the indexes of a checkpoint's chunks. The chunks themselves are read later, when
//! they are needed.
//!
//! Rows are distributed by key group, oldest chunk first, and each group is then scanned from its newest row to its
//! oldest: of rows with the same index hash, the first is the newest, and the others are garbage. A group fits into a
//! processor's cache, which makes this fast. For hashes that are known to be shared, the entries themselves are read.
//! Rows of key groups that the task, or the task of the checkpoint, does not own are skipped: nothing else is needed
//! for another parallelism.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::chunk_index::{self, IndexRow};
use super::index::{
    HANDLE_LIMIT, Identity, IndexPlace, IndexTable, SearchResult, Word, index_hash,
};
use super::log::{ChunkPlace, ChunkRest, LogChunk, state_bit};
use super::prefetch::prefetch;
use super::settings::StoreSettings;
use super::store::StateStore;
use super::{Chunk, ChunkDamage, ChunkId, ChunkReader, ChunkRef, StateError};
use crate::stream::{KeyGroup, KeyGroupRange};

/// Rebuilds a store from the chunks of a checkpoint.
pub struct Restore {
    store: StateStore,
    reader: Arc<dyn ChunkReader>,
    created_ms: u64,
    collided: BTreeSet<u64>,
    last: Option<ChunkId>,
    /// Rows by key group of the task.
    groups: Vec<Vec<GroupRow>>,
    rows: Vec<IndexRow>,
}

/// A row of a key group: index hash, and the address of the entry.
///
/// ```text
/// at: chunk handle, 20 bits | offset, 20 bits | length, 23 bits | tombstone, 1 bit
/// ```
///
/// A length of all ones means the rest of the chunk: only an entry that is alone in its chunk is that long.
#[derive(Debug, Clone, Copy)]
struct GroupRow {
    hash: u64,
    at: u64,
}

/// Number of rows that memory is prefetched ahead.
const PREFETCH_ROWS: usize = 12;

const LEN_BITS: u32 = 23;
const LEN_MAX: usize = (1 << LEN_BITS) - 1;

impl GroupRow {
    #[inline]
    fn new(hash: u64, handle: u32, row: &IndexRow) -> Self {
        let address = u64::from(handle) << 20 | row.offset as u64;
        let len = row.len.min(LEN_MAX) as u64;
        Self {
            hash,
            at: address << (LEN_BITS + 1) | len << 1 | u64::from(row.is_tombstone),
        }
    }

    #[inline]
    fn word(self) -> Word {
        let address = self.at >> (LEN_BITS + 1);
        Word::new(
            self.hash,
            (address >> 20) as u32,
            address as usize & ((1 << 20) - 1),
        )
    }

    #[inline]
    fn is_tombstone(self) -> bool {
        self.at & 1 == 1
    }
}

impl Restore {
    /// Starts empty. `created_ms` is the time of the checkpoint, `collided` are the shared hashes in its snapshots, and
    /// `reader` reads its chunks.
    #[must_use]
    pub fn new(
        settings: StoreSettings,
        reader: Arc<dyn ChunkReader>,
        created_ms: u64,
        collided: impl IntoIterator<Item = u64>,
    ) -> Self {
        let store = StateStore::with_reader(settings, Some(Arc::clone(&reader)));
        Self {
            groups: vec![Vec::new(); store.tables.len()],
            store,
            reader,
            created_ms,
            collided: collided.into_iter().collect(),
            last: None,
            rows: Vec::new(),
        }
    }

    /// Adds a chunk by its index. Only keys count that this task owns and for which the snapshots list the chunk: its
    /// entries for other keys are out of date. Without a matching index, the chunk is read as a whole.
    ///
    /// # Errors
    /// When the chunk must be read and cannot, or is damaged, or the store has as many chunks as it can: each task of the
    /// checkpoint had fewer, but this one reads those of several. The store must not be used then.
    ///
    /// # Panics
    /// When chunks are not added oldest first.
    pub fn add(
        &mut self,
        chunk: ChunkRef,
        named_for: &[KeyGroupRange],
        index: Option<&[u8]>,
    ) -> Result<(), StateError> {
        assert!(self.last < Some(chunk.id), "chunks come oldest first");
        if self.store.log.is_full() {
            return Err(StateError::TooManyChunks {
                chunks_max: HANDLE_LIMIT - 1,
            });
        }
        self.last = Some(chunk.id);
        self.store.log.ids.pass(chunk.id);
        let len = chunk.len as usize;
        let fits = index.filter(|index| chunk_index::read(index, len, &mut self.rows).is_ok());
        let (place, fingerprint) = match fits {
            Some(index) => (ChunkPlace::Stored, Some(chunk_index::fingerprint(index))),
            None => (self.read_whole(chunk)?, None),
        };
        if let ChunkPlace::Resident(_) = place {
            self.store.log.residency.resident_bytes += len;
        }
        let rest = ChunkRest {
            len: chunk.len,
            fingerprint,
            ..ChunkRest::default()
        };
        let handle = self.store.log.add(LogChunk::new(chunk.id, place, rest));
        self.store.log.total_bytes += len;
        self.deal_out(handle, named_for);
        self.store.log.evict(None)
    }

    fn read_whole(&mut self, chunk: ChunkRef) -> Result<ChunkPlace, StateError> {
        let bytes = self.reader.chunk(chunk)?;
        let index = chunk_index::of(&bytes);
        let len = chunk.len as usize;
        let is_sound = bytes.len() == len && chunk_index::read(&index, len, &mut self.rows).is_ok();
        if !is_sound {
            return Err(StateError::Damaged {
                chunk: chunk.id,
                reason: ChunkDamage::NoEntries,
            });
        }
        let id = chunk.id;
        Ok(ChunkPlace::Resident(Arc::new(Chunk { id, bytes })))
    }

    /// Distributes the rows of a chunk to their key groups.
    fn deal_out(&mut self, handle: u32, named_for: &[KeyGroupRange]) {
        let own = self.store.key_groups.0.clone();
        let counts: Vec<bool> = own
            .clone()
            .map(|group| {
                named_for
                    .iter()
                    .any(|range| range.contains(KeyGroup(group)))
            })
            .collect();
        let forgetful = self
            .store
            .states
            .iter()
            .filter(|state| state.ttl_ms.is_some());
        let forgetful = forgetful
            .flat_map(|state| state.aliases.iter().copied().chain([state.id]))
            .fold(0, |bits, id| bits | state_bit(id));
        let mut states = 0;
        let mut timed_bytes = 0;
        let mut has_outdated = false;
        for row in &self.rows {
            let group = self.store.max_parallelism.group_of(row.key_hash).0;
            let group = usize::from(group.wrapping_sub(own.start));
            has_outdated |= counts.get(group) == Some(&false);
            if counts.get(group) == Some(&true) {
                states |= state_bit(row.state);
                // Pages contain times that the index does not have.
                let is_page = row.node.is_some() && !row.is_tombstone;
                let has_times = is_page && forgetful & state_bit(row.state) != 0;
                if row.is_timed || has_times {
                    timed_bytes += row.len;
                }
                let hash = index_hash(row.key_hash, row.state, row.node);
                self.groups[group].push(GroupRow::new(hash, handle, row));
            }
        }
        let ttl_ms = self.store.states.iter().filter_map(|state| state.ttl_ms);
        let ttl_ms = ttl_ms.max().unwrap_or(0);
        let rest = &mut self.store.log.chunk_mut(handle).rest;
        rest.states = states;
        rest.timed_bytes = timed_bytes;
        rest.expires_ms = self.created_ms.saturating_add(ttl_ms);
        if has_outdated {
            rest.counts_for = named_for.into();
        }
    }

    /// The store with all added chunks.
    ///
    /// # Errors
    /// When entries with shared hashes cannot be read.
    pub fn finish(mut self) -> Result<StateStore, StateError> {
        let mut undecided = Vec::new();
        let mut hashes = Vec::new();
        for (table, rows) in std::mem::take(&mut self.groups).into_iter().enumerate() {
            let is_undecided = |row: &GroupRow| self.collided.contains(&row.hash);
            if !self.collided.is_empty() {
                let newest_first = rows.iter().rev().copied();
                undecided.extend(newest_first.filter(is_undecided).map(|row| (table, row)));
            }
            self.store.adopt(table, &rows, &mut hashes, &self.collided);
        }
        for (table, row) in undecided {
            self.store.adopt_shared(table, row)?;
        }
        self.store.collided = self.collided;
        self.store.drop_garbage();
        self.store.log.note_counts(0);
        self.store.bound()?;
        Ok(self.store)
    }
}

impl StateStore {
    /// Builds the table of a key group from all its rows, oldest first, except those of shared hashes.
    fn adopt(
        &mut self,
        table: usize,
        rows: &[GroupRow],
        hashes: &mut Vec<u64>,
        shared: &BTreeSet<u64>,
    ) {
        let mut index = IndexTable::with_room(rows.len());
        // The whole hash of each word; values for empty slots do not matter.
        if hashes.len() < index.slots().len() {
            hashes.resize(index.slots().len(), 0);
        }
        let has_shared = !shared.is_empty();
        for (at, row) in rows.iter().enumerate().rev() {
            if let Some(soon) = rows.get(at.wrapping_sub(PREFETCH_ROWS)) {
                let home = index.home(soon.hash);
                prefetch(index.slots(), home);
                prefetch(hashes, home);
            }
            if has_shared && shared.contains(&row.hash) {
                continue;
            }
            let mut position = index.home(row.hash);
            let is_newest = loop {
                if index.slots()[position].is_empty() {
                    break true;
                }
                if hashes[position] == row.hash {
                    break false;
                }
                position = index.after(position);
            };
            if is_newest {
                hashes[position] = row.hash;
                index.fill(position, row.word());
                self.count(*row);
            }
        }
        index.shrink();
        self.tables[table] = index;
    }

    /// Adds a row of a shared hash unless there is a newer one of the same identity; rows arrive newest first.
    fn adopt_shared(&mut self, table: usize, row: GroupRow) -> Result<(), StateError> {
        let entry = self.log.entry(row.word())?;
        let key = entry.key.to_vec();
        let identity = Identity {
            state: entry.state,
            node: entry.node,
            key: &key,
        };
        let place = IndexPlace {
            table: table as u32,
            hash: row.hash,
        };
        let found: SearchResult = self.find(identity, place)?;
        if found.word.is_empty() {
            self.tables[table].insert(row.word());
            self.count(row);
        }
        Ok(())
    }

    fn count(&mut self, row: GroupRow) {
        let word = row.word();
        let chunk = self.log.chunk_mut(word.handle());
        let len = match (row.at >> 1) as usize & LEN_MAX {
            LEN_MAX => chunk.len() - word.offset(),
            len => len,
        };
        chunk.live += len;
        self.log.live_bytes += len;
        self.log.tombstones += usize::from(row.is_tombstone());
    }

    /// Drops the chunks without live entries.
    fn drop_garbage(&mut self) {
        let chunks = self.log.sealed().filter(|(_, chunk)| chunk.live == 0);
        let garbage: Vec<_> = chunks
            .map(|(handle, chunk)| (handle, chunk.len()))
            .collect();
        for (handle, len) in garbage {
            self.log.total_bytes -= len;
            self.log.free(handle);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches a panic over a checkpoint with more chunks than one store can address.

    use super::*;
    use crate::stream::MaxParallelism;
    use crate::{ChunkIds, ChunkUnreadable};

    /// Chunks that are not to be read.
    struct NotToRead;

    impl ChunkReader for NotToRead {
        fn chunk(&self, chunk: ChunkRef) -> Result<Vec<u8>, ChunkUnreadable> {
            unreachable!("{chunk:?} is read")
        }

        fn chunk_index(&self, chunk: ChunkRef) -> Result<Option<Vec<u8>>, ChunkUnreadable> {
            unreachable!("the index of {chunk:?} is read")
        }
    }

    #[test]
    fn too_many_chunks_are_refused() {
        let max = MaxParallelism::DEFAULT;
        let ids = ChunkIds::new(ChunkId(0), 0, 1);
        let settings = StoreSettings::in_memory(max, max.all_groups(), ids);
        let mut restore = Restore::new(settings, Arc::new(NotToRead), 0, []);
        let chunks = &mut restore.store.log.chunks;
        chunks.resize_with(HANDLE_LIMIT as usize, || None);
        let one_more = ChunkRef {
            id: ChunkId(1),
            len: 10,
        };
        let refused = restore.add(one_more, &[max.all_groups()], None);
        let error = refused.unwrap_err();
        assert_eq!(
            error,
            StateError::TooManyChunks {
                chunks_max: (1 << 20) - 1
            }
        );
        assert_eq!(error.damaged_chunk(), None);
    }
}
