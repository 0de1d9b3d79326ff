//! The address of the newest entry of each key: one small hash table per key group.
//!
//! A table uses open addressing with linear probing over 64-bit words. A word has the top bits of the key's hash, which
//! also determine its home, and the address of its entry; so a table grows and closes gaps without reading any key, and
//! a small table per key group grows in well under a millisecond. The caller compares keys, since it has the log.
//!
//! An entry is searched by its [`Identity`], all parts of which [`index_hash`] combines in a hash.
//!
//! ```text
//! word: tag, the top 24 bits of the hash | chunk handle, 20 bits, from 1 | offset in the chunk, 20 bits
//! ```

use super::StateId;
use super::layout::Entry;

const TAG_BITS: u32 = 24;
const HANDLE_BITS: u32 = 20;
const OFFSET_BITS: u32 = 20;
const CAPACITY_BITS_MIN: u32 = 3;

/// Offsets are smaller than this.
pub const OFFSET_LIMIT: usize = 1 << OFFSET_BITS;
/// Handles are smaller than this, and at least 1.
pub const HANDLE_LIMIT: u32 = 1 << HANDLE_BITS;

/// Tag and address of an entry; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(u64);

impl Word {
    /// The word of an empty slot.
    pub const EMPTY: Self = Self(0);

    /// A word for the entry of a key with this hash.
    #[inline]
    #[must_use]
    pub fn new(hash: u64, handle: u32, offset: usize) -> Self {
        debug_assert!(handle > 0 && handle < HANDLE_LIMIT && offset < OFFSET_LIMIT);
        let tag = hash >> (64 - TAG_BITS);
        Self(tag << (64 - TAG_BITS) | u64::from(handle) << OFFSET_BITS | offset as u64)
    }

    /// Whether the slot is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the entry may be of a key with this hash.
    #[inline]
    #[must_use]
    pub fn may_be(self, hash: u64) -> bool {
        (self.0 ^ hash) >> (64 - TAG_BITS) == 0
    }

    /// The handle of the chunk.
    #[inline]
    #[must_use]
    pub fn handle(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32 & (HANDLE_LIMIT - 1)
    }

    /// The offset in the chunk.
    #[inline]
    #[must_use]
    pub fn offset(self) -> usize {
        self.0 as usize & (OFFSET_LIMIT - 1)
    }
}

/// The identity that an entry is searched by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) state: StateId,
    pub(super) node: Option<u64>,
    pub(super) key: &'a [u8],
}

/// The hash that identifies an entry within a task, except for collisions; it is derived from the hash of the key. For
/// state 0 without a node it is the key's hash.
#[inline]
#[must_use]
pub fn index_hash(key_hash: u64, state: StateId, node: Option<u64>) -> u64 {
    if state.0 == 0 && node.is_none() {
        return key_hash;
    }
    let hash = mix(key_hash, u64::from(state.0) + 1);
    match node {
        None => hash,
        Some(node) => mix(hash, node.wrapping_add(1 << 32)),
    }
}

/// Each step is invertible, so that different hashes stay different. The constants are those of SplitMix64 (Steele, Lea
/// and Flood, 2014).
#[inline]
fn mix(hash: u64, with: u64) -> u64 {
    let mut mixed = hash ^ with.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 29)
}

/// The position of an identity in the index.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IndexPlace {
    pub(super) table: u32,
    pub(super) hash: u64,
}

/// The result of a search: the word of the entry, or the empty one.
#[derive(Debug, Clone, Copy)]
pub(super) struct SearchResult {
    pub(super) word: Word,
    pub(super) position: u32,
    /// Length of the entry in bytes times 2, plus 1 if it is a tombstone.
    len: u32,
}

impl SearchResult {
    #[inline]
    pub(super) fn at(position: usize, word: Word) -> Self {
        Self {
            word,
            position: position as u32,
            len: 0,
        }
    }

    pub(super) fn of(position: usize, word: Word, entry: &Entry<'_>) -> Self {
        let mut found = Self::at(position, word);
        found.note(entry);
        found
    }

    #[inline]
    pub(super) fn note(&mut self, entry: &Entry<'_>) {
        // Entries of 2 GiB are refused much earlier: a guest has 1 GiB of memory.
        self.len = (entry.len as u32) << 1 | u32::from(entry.is_tombstone());
    }

    /// Notes that its entry has a value, and is `len` bytes long.
    #[inline]
    pub(super) fn note_value(&mut self, len: usize) {
        self.len = (len as u32) << 1;
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        (self.len >> 1) as usize
    }

    #[inline]
    pub(super) fn is_tombstone(self) -> bool {
        self.len & 1 == 1
    }
}

/// The words of one key group.
///
/// - The number of slots is a power of two, and at most three quarters of them are taken.
/// - There is no empty slot between the home of a word and the word.
#[derive(Debug)]
pub struct IndexTable {
    slots: Box<[Word]>,
    len: usize,
    shift_right: u32,
    shift_left: u32,
}

impl Default for IndexTable {
    fn default() -> Self {
        Self::with_capacity_bits(CAPACITY_BITS_MIN)
    }
}

impl IndexTable {
    fn with_capacity_bits(bits: u32) -> Self {
        Self {
            slots: vec![Word::EMPTY; 1 << bits].into_boxed_slice(),
            len: 0,
            shift_right: 64 - bits.min(TAG_BITS),
            shift_left: bits.saturating_sub(TAG_BITS),
        }
    }

    /// A table that holds this many keys before it grows.
    #[must_use]
    pub fn with_room(keys: usize) -> Self {
        let slots = (keys * 4).div_ceil(3).next_power_of_two();
        Self::with_capacity_bits(slots.trailing_zeros().max(CAPACITY_BITS_MIN))
    }

    /// Frees unused slots.
    pub fn shrink(&mut self) {
        let mut fitting = Self::with_room(self.len);
        if fitting.slots.len() < self.slots.len() {
            for &word in self.slots.iter().filter(|word| !word.is_empty()) {
                fitting.insert_without_growing(word);
            }
            fitting.len = self.len;
            *self = fitting;
        }
    }

    /// Stores a word at the position where a search has ended, in a table that has room for it.
    #[inline]
    pub fn fill(&mut self, position: usize, word: Word) {
        debug_assert!(self.slots[position].is_empty());
        self.slots[position] = word;
        self.len += 1;
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The position where the search for a key with this hash starts.
    #[inline]
    #[must_use]
    pub fn home(&self, hash: u64) -> usize {
        ((hash >> self.shift_right) << self.shift_left) as usize
    }

    /// The slots, for prefetching the one at a home.
    #[inline]
    #[must_use]
    pub fn slots(&self) -> &[Word] {
        &self.slots
    }

    /// The first position from `position` on whose word may be of a key with this hash, or the empty one that ends the
    /// search.
    #[inline]
    #[must_use]
    pub fn search(&self, mut position: usize, hash: u64) -> (usize, Word) {
        loop {
            let word = self.slots[position];
            if word.is_empty() || word.may_be(hash) {
                return (position, word);
            }
            position = self.after(position);
        }
    }

    /// The next position.
    #[inline]
    #[must_use]
    pub fn after(&self, position: usize) -> usize {
        (position + 1) & (self.slots.len() - 1)
    }

    /// The position of a word that is in the table. `hint` is where it was last seen.
    #[inline]
    #[must_use]
    pub fn position_of(&self, hint: usize, word: Word) -> usize {
        if self.slots.get(hint) == Some(&word) {
            return hint;
        }
        let mut position = self.home(word.0);
        while self.slots[position] != word {
            assert!(
                !self.slots[position].is_empty(),
                "a word that was found is in the table"
            );
            position = self.after(position);
        }
        position
    }

    /// Replaces a word by another one of the same key.
    #[inline]
    pub fn replace(&mut self, position: usize, word: Word) {
        debug_assert!(!self.slots[position].is_empty());
        self.slots[position] = word;
    }

    /// Adds the word of a key that is not in the table.
    #[inline]
    pub fn insert(&mut self, word: Word) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        self.insert_without_growing(word);
        self.len += 1;
    }

    fn insert_without_growing(&mut self, word: Word) {
        let mut position = self.home(word.0);
        while !self.slots[position].is_empty() {
            position = self.after(position);
        }
        self.slots[position] = word;
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger = Self::with_capacity_bits(self.slots.len().trailing_zeros() + 1);
        for &word in self.slots.iter().filter(|word| !word.is_empty()) {
            larger.insert_without_growing(word);
        }
        larger.len = self.len;
        *self = larger;
    }

    /// Removes the word at `position` and closes the gap.
    pub fn remove(&mut self, position: usize) {
        debug_assert!(!self.slots[position].is_empty());
        let mask = self.slots.len() - 1;
        let mut gap = position;
        let mut next = self.after(position);
        while !self.slots[next].is_empty() {
            let home = self.home(self.slots[next].0);
            // The word may move into the gap unless its home lies behind the gap.
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(gap) & mask) {
                self.slots[gap] = self.slots[next];
                gap = next;
            }
            next = self.after(next);
        }
        self.slots[gap] = Word::EMPTY;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    //! Catches keys that get lost when a table grows or closes a gap, and entries that are taken for one.

    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::stream::hash_key;

    #[test]
    fn random_inserts_and_removals_equal_a_map() {
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            seed >> 11
        };
        let mut table = IndexTable::default();
        let mut model = BTreeMap::new();
        for step in 0..20_000usize {
            // Few distinct tags, so that probe sequences are long and wrap around.
            let tag = random() % 500;
            let hash = tag << 40 | tag << 55;
            let at = table.home(hash);
            if let Some(&word) = model.get(&hash) {
                let position = table.position_of(at, word);
                if random() % 2 == 0 {
                    table.remove(position);
                    model.remove(&hash);
                } else {
                    let moved = Word::new(hash, 9, step % OFFSET_LIMIT);
                    table.replace(position, moved);
                    model.insert(hash, moved);
                }
            } else {
                let word = Word::new(hash, 1 + step as u32 % 1000, step);
                table.insert(word);
                model.insert(hash, word);
            }
            assert_eq!(table.len(), model.len());
            if step % 97 == 0 {
                for (&hash, &word) in &model {
                    let mut found = table.search(table.home(hash), hash);
                    while found.1 != word {
                        assert!(!found.1.is_empty(), "lost {hash:x} at step {step}");
                        found = table.search(table.after(found.0), hash);
                    }
                }
            }
        }
    }

    #[test]
    fn hashes_tell_states_and_nodes_apart() {
        let hash = hash_key(b"key");
        let mut seen = BTreeSet::new();
        for state in [0, 1, 2, u16::MAX] {
            for node in [None, Some(0), Some(1), Some(u64::MAX)] {
                assert!(seen.insert(index_hash(hash, StateId(state), node)));
            }
        }
        assert!(seen.contains(&hash), "state 0 goes by the key's own hash");
    }
}
