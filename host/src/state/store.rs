//! The state of one task: a log of entries, and for each key the address of its newest.
//!
//! Writing appends to the tail, or changes an entry in place while the tail is not sealed. Sealing is what a barrier does:
//! it hands over the chunks of the tail without copying them. Keys of a batch are looked up together, so that the memory
//! that one key needs is on its way while others are compared. `compaction` keeps the garbage within bounds. The store
//! does no I/O; durable chunks come in through [`Restore`].

use std::sync::Arc;

use super::index::{HANDLE_LIMIT, OFFSET_LIMIT, Table, Word};
use super::layout::{self, Content};
use super::prefetch::prefetch;
use super::{Chunk, ChunkId, ChunkIds, ChunkRef, StateId};
use crate::stream::{Column, KeyGroup, KeyGroupRange, MaxParallelism, OptionalColumn};

/// Bytes that a chunk is filled to. An entry that is longer has a chunk of its own.
pub const CHUNK_BYTES: usize = (1 << 20) - 4096;
const _: () = assert!(CHUNK_BYTES <= OFFSET_LIMIT);

/// Buffers of dropped chunks that are kept for new ones: fresh memory costs page faults.
const SPARE_BUFFERS_MAX: usize = 32;

/// Keys that are looked up together: enough to hide the memory's latency, few enough to stay in the first cache.
const LOOKUP_BLOCK: usize = 64;

/// A task's state.
///
/// - Each word of the index points at the newest entry of its key; a key that lost its value has a tombstone.
/// - Chunks before the tail are sealed and never change; those of the tail are not shared with anybody.
/// - `live` of a chunk is the number of bytes in it that the index points at; a sealed chunk with none is dropped.
/// - Chunk ids grow in the order in which chunks were begun.
#[derive(Debug)]
pub struct StateStore {
    pub(super) max_parallelism: MaxParallelism,
    pub(super) key_groups: KeyGroupRange,
    pub(super) tables: Vec<Table>,
    pub(super) log: Log,
    pub(super) tombstones: usize,
    pub(super) compaction: super::compaction::Progress,
}

/// The chunks. Handle 0 is never given out.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) chunks: Vec<Option<LogChunk>>,
    free: Vec<u32>,
    tail: Vec<u32>,
    ids: ChunkIds,
    spare: Vec<Vec<u8>>,
    pub(super) live_bytes: usize,
    pub(super) total_bytes: usize,
    pub(super) appended_bytes: usize,
}

#[derive(Debug)]
pub(super) struct LogChunk {
    pub(super) id: ChunkId,
    pub(super) bytes: ChunkBytes,
    pub(super) live: usize,
}

#[derive(Debug)]
pub(super) enum ChunkBytes {
    Tail(Vec<u8>),
    Sealed(Arc<Chunk>),
}

impl LogChunk {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            ChunkBytes::Tail(bytes) => bytes,
            ChunkBytes::Sealed(chunk) => &chunk.bytes,
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.bytes, ChunkBytes::Sealed(_))
    }
}

/// The state at a barrier.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// All chunks, oldest first.
    pub chunks: Vec<ChunkRef>,
    /// Those that no earlier barrier has handed over.
    pub fresh: Vec<Arc<Chunk>>,
}

/// The keys of a batch, each once, and their hashes.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The keys.
    pub keys: &'a Column,
    /// [`crate::stream::hash_key`] of each.
    pub hashes: &'a [u64],
}

/// What one state has for the keys of a batch. Good until the state of these keys is written or the store compacts.
#[derive(Debug, Default)]
pub struct Lookup {
    values: OptionalColumn,
    found: Vec<Found>,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    position: usize,
    word: Word,
}

impl Lookup {
    /// The value of each key.
    #[must_use]
    pub fn values(&self) -> &OptionalColumn {
        &self.values
    }
}

impl StateStore {
    /// An empty store for these key groups.
    #[must_use]
    pub fn new(max_parallelism: MaxParallelism, key_groups: KeyGroupRange, ids: ChunkIds) -> Self {
        let tables = key_groups.0.clone().map(|_| Table::default()).collect();
        Self {
            max_parallelism,
            key_groups,
            tables,
            log: Log::new(ids),
            tombstones: 0,
            compaction: super::compaction::Progress::default(),
        }
    }

    /// Number of values and tombstones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// Whether there is neither value nor tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(Table::is_empty)
    }

    /// Bytes of the newest entries.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.log.live_bytes
    }

    /// Bytes of all entries.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.log.total_bytes
    }

    #[inline]
    pub(super) fn table_index(&self, hash: u64) -> usize {
        let group = self.max_parallelism.group_of(hash);
        debug_assert!(
            self.key_groups.contains(group),
            "the key belongs to this task"
        );
        usize::from(group.0 - self.key_groups.0.start)
    }

    #[inline]
    pub(super) fn owns(&self, hash: u64) -> bool {
        let group: KeyGroup = self.max_parallelism.group_of(hash);
        self.key_groups.contains(group)
    }

    /// Looks the values of a state up.
    ///
    /// # Panics
    /// When a key is of a key group that this task does not own.
    pub fn read(&self, state: StateId, keys: Keys<'_>, lookup: &mut Lookup) {
        lookup.values.clear();
        lookup.found.clear();
        lookup.found.reserve(keys.hashes.len());
        let mut first = 0;
        for hashes in keys.hashes.chunks(LOOKUP_BLOCK) {
            for &hash in hashes {
                let table = &self.tables[self.table_index(hash)];
                prefetch(table.slots(), table.home(hash));
            }
            let block = lookup.found.len();
            for &hash in hashes {
                let table = &self.tables[self.table_index(hash)];
                let (position, word) = table.search(table.home(hash), hash);
                if !word.is_empty() {
                    prefetch(self.log.bytes(word.handle()), word.offset());
                }
                lookup.found.push(Found { position, word });
            }
            for (index, &hash) in hashes.iter().enumerate() {
                let key = keys.keys.get(first + index);
                let found = &mut lookup.found[block + index];
                let value = self.confirm(state, key, hash, found);
                lookup.values.push(value);
            }
            first += hashes.len();
        }
    }

    /// Follows a candidate until its entry is of the state and key, and returns its value.
    #[inline]
    fn confirm(&self, state: StateId, key: &[u8], hash: u64, found: &mut Found) -> Option<&[u8]> {
        loop {
            if found.word.is_empty() {
                return None;
            }
            let entry = layout::entry_at(self.log.bytes(found.word.handle()), found.word.offset());
            if entry.state == state && entry.key == key {
                return match entry.content {
                    Content::Value(value) => Some(value),
                    Content::Tombstone { .. } => None,
                };
            }
            let table = &self.tables[self.table_index(hash)];
            (found.position, found.word) = table.search(table.after(found.position), hash);
        }
    }

    /// Writes values of a state: `values[i]` for the key `slots[i]`; an absent one clears it. `lookup` is what
    /// [`StateStore::read`] found for the same keys and state just before.
    ///
    /// # Panics
    /// When a slot is no index of the keys, or there are not as many slots as values: whoever takes them from a guest
    /// has checked that, and that no slot appears twice.
    pub fn write(
        &mut self,
        state: StateId,
        keys: Keys<'_>,
        lookup: &Lookup,
        slots: &[u32],
        values: &OptionalColumn,
    ) {
        assert_eq!(slots.len(), values.len(), "one value a slot");
        for (item, &slot) in slots.iter().enumerate() {
            let slot = slot as usize;
            let (key, hash) = (keys.keys.get(slot), keys.hashes[slot]);
            self.put(state, key, hash, lookup.found[slot], values.get(item));
        }
    }

    #[inline]
    fn put(&mut self, state: StateId, key: &[u8], hash: u64, found: Found, value: Option<&[u8]>) {
        let table = self.table_index(hash);
        if found.word.is_empty() {
            if let Some(value) = value {
                let word = self.log.append(state, key, hash, Content::Value(value));
                self.tables[table].insert(word);
            }
            return;
        }
        let was_tombstone = match self.log.update_in_place(found.word, value) {
            InPlace::Done => return,
            InPlace::Needs { was_tombstone } => was_tombstone,
        };
        let content = match value {
            Some(value) => Content::Value(value),
            None if was_tombstone => return,
            None => Content::Tombstone {
                birth: self.log.tail_id(),
            },
        };
        self.tombstones += usize::from(value.is_none());
        self.tombstones -= usize::from(was_tombstone);
        let word = self.log.append(state, key, hash, content);
        let position = self.tables[table].position_of(found.position, found.word);
        self.tables[table].replace(position, word);
        self.log.discard(found.word);
    }

    /// Seals the tail, as a barrier does: costs by the number of chunks, not by their bytes.
    pub fn seal(&mut self) -> Sealed {
        self.compaction.allow(super::compaction::SCAN_BYTES_A_SEAL);
        self.log.seal()
    }
}

enum InPlace {
    Done,
    Needs { was_tombstone: bool },
}

impl Log {
    fn new(ids: ChunkIds) -> Self {
        Self {
            chunks: vec![None],
            free: Vec::new(),
            tail: Vec::new(),
            ids,
            spare: Vec::new(),
            live_bytes: 0,
            total_bytes: 0,
            appended_bytes: 0,
        }
    }

    #[inline]
    pub(super) fn bytes(&self, handle: u32) -> &[u8] {
        self.chunk(handle).bytes()
    }

    #[inline]
    pub(super) fn chunk(&self, handle: u32) -> &LogChunk {
        self.chunks[handle as usize]
            .as_ref()
            .expect("a handle in use names a chunk")
    }

    #[inline]
    fn chunk_mut(&mut self, handle: u32) -> &mut LogChunk {
        self.chunks[handle as usize]
            .as_mut()
            .expect("a handle in use names a chunk")
    }

    /// Changes the value of an entry where it stands, if it is in the tail and the new value is as long.
    #[inline]
    fn update_in_place(&mut self, word: Word, value: Option<&[u8]>) -> InPlace {
        let offset = word.offset();
        let chunk = self.chunk_mut(word.handle());
        let entry = layout::entry_at(chunk.bytes(), offset);
        let Content::Value(old) = entry.content else {
            return InPlace::Needs {
                was_tombstone: true,
            };
        };
        let old_len = old.len();
        let end = offset + entry.len;
        match (&mut chunk.bytes, value) {
            (ChunkBytes::Tail(bytes), Some(value)) if value.len() == old_len => {
                bytes[end - old_len..end].copy_from_slice(value);
                InPlace::Done
            }
            _ => InPlace::Needs {
                was_tombstone: false,
            },
        }
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        state: StateId,
        key: &[u8],
        hash: u64,
        content: Content<'_>,
    ) -> Word {
        let handle = self.tail_with_room(layout::entry_bytes_max(key, content));
        let chunk = self.chunk_mut(handle);
        let ChunkBytes::Tail(bytes) = &mut chunk.bytes else {
            unreachable!("the tail is not sealed")
        };
        let offset = bytes.len();
        layout::append(bytes, state, key, content);
        let len = bytes.len() - offset;
        chunk.live += len;
        self.live_bytes += len;
        self.total_bytes += len;
        self.appended_bytes += len;
        Word::new(hash, handle, offset)
    }

    #[inline]
    fn tail_with_room(&mut self, room: usize) -> u32 {
        if let Some(&handle) = self.tail.last() {
            let used = self.bytes(handle).len();
            if used == 0 || used + room <= CHUNK_BYTES {
                return handle;
            }
        }
        self.begin_chunk()
    }

    #[cold]
    fn begin_chunk(&mut self) -> u32 {
        let id = self.ids.take();
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(CHUNK_BYTES);
        let handle = self.add(LogChunk {
            id,
            bytes: ChunkBytes::Tail(bytes),
            live: 0,
        });
        self.tail.push(handle);
        handle
    }

    fn add(&mut self, chunk: LogChunk) -> u32 {
        if let Some(handle) = self.free.pop() {
            self.chunks[handle as usize] = Some(chunk);
            return handle;
        }
        let handle = u32::try_from(self.chunks.len()).expect("fewer than 4 Gi chunks");
        assert!(
            handle < HANDLE_LIMIT,
            "a task's state stays below 1 Mi chunks"
        );
        self.chunks.push(Some(chunk));
        handle
    }

    /// The id of the chunk that the next entry goes to, or would if it has room.
    fn tail_id(&mut self) -> ChunkId {
        let handle = match self.tail.last() {
            Some(&handle) => handle,
            None => self.begin_chunk(),
        };
        self.chunk(handle).id
    }

    /// Counts an entry as garbage, and drops its chunk if that was its last.
    #[inline]
    pub(super) fn discard(&mut self, word: Word) {
        let chunk = self.chunk_mut(word.handle());
        let len = layout::entry_at(chunk.bytes(), word.offset()).len;
        chunk.live -= len;
        let drained = chunk.live == 0 && chunk.is_sealed();
        self.live_bytes -= len;
        if drained {
            self.drop_chunk(word.handle());
        }
    }

    /// Drops a chunk without a live entry.
    pub(super) fn drop_chunk(&mut self, handle: u32) {
        let chunk = self.chunks[handle as usize]
            .take()
            .expect("a handle in use names a chunk");
        assert_eq!(
            chunk.live, 0,
            "a dropped chunk holds nothing that is needed"
        );
        self.free.push(handle);
        self.total_bytes -= chunk.bytes().len();
        if let ChunkBytes::Sealed(shared) = chunk.bytes
            && self.spare.len() < SPARE_BUFFERS_MAX
            && let Ok(chunk) = Arc::try_unwrap(shared)
            && chunk.bytes.capacity() == CHUNK_BYTES
        {
            self.spare.push(chunk.bytes);
        }
    }

    fn seal(&mut self) -> Sealed {
        let mut fresh = Vec::with_capacity(self.tail.len());
        for handle in std::mem::take(&mut self.tail) {
            let chunk = self.chunk_mut(handle);
            let ChunkBytes::Tail(bytes) = &mut chunk.bytes else {
                unreachable!("the tail is not sealed")
            };
            let mut bytes = std::mem::take(bytes);
            if bytes.len() < CHUNK_BYTES / 2 {
                bytes.shrink_to_fit();
            }
            let sealed = Arc::new(Chunk {
                id: chunk.id,
                bytes,
            });
            chunk.bytes = ChunkBytes::Sealed(Arc::clone(&sealed));
            if chunk.live == 0 {
                self.drop_chunk(handle);
            } else {
                fresh.push(sealed);
            }
        }
        let mut chunks: Vec<_> = self.sealed().map(|(_, chunk)| chunk_ref(chunk)).collect();
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        Sealed { chunks, fresh }
    }

    /// The sealed chunks and their handles.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (u32, &LogChunk)> {
        self.chunks
            .iter()
            .enumerate()
            .filter_map(|(handle, chunk)| {
                let chunk = chunk.as_ref().filter(|chunk| chunk.is_sealed())?;
                Some((handle as u32, chunk))
            })
    }
}

fn chunk_ref(chunk: &LogChunk) -> ChunkRef {
    ChunkRef {
        id: chunk.id,
        len: u32::try_from(chunk.bytes().len()).expect("a chunk stays below 4 GiB"),
    }
}

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
