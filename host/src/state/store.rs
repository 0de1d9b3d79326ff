//! The state of one task: a log of entries, and for each key the address of its newest.
//!
//! Writing appends to the tail, or changes an entry in place while the tail is not sealed. Sealing is what a barrier does:
//! it hands over the chunks of the tail without copying them. Keys of a batch are looked up together, so that the memory
//! that one key needs is on its way while others are compared. `compaction` keeps the garbage within bounds. The store
//! does no I/O; durable chunks come in through `restore`.

use super::index::{Table, Word};
use super::layout::{self, Content};
use super::log::{InPlace, Log, Sealed};
use super::prefetch::prefetch;
use super::{ChunkIds, StateId};
use crate::stream::{Column, KeyGroup, KeyGroupRange, MaxParallelism, OptionalColumn};

/// Keys that are looked up together: enough to hide the memory's latency, few enough to stay in the first cache.
const LOOKUP_BLOCK: usize = 64;

/// A task's state.
///
/// - Each word of the index points at the newest entry of its key; a key that lost its value has a tombstone.
/// - `tombstones` is the number of words that point at one.
#[derive(Debug)]
pub struct StateStore {
    pub(super) max_parallelism: MaxParallelism,
    pub(super) key_groups: KeyGroupRange,
    pub(super) tables: Vec<Table>,
    pub(super) log: Log,
    pub(super) tombstones: usize,
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
pub(super) struct Found {
    pub(super) position: usize,
    pub(super) word: Word,
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
    pub(super) fn confirm(
        &self,
        state: StateId,
        key: &[u8],
        hash: u64,
        found: &mut Found,
    ) -> Option<&[u8]> {
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
        self.log.seal()
    }
}
