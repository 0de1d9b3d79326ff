//! The state of one task: a log of entries, and an index with the address of the newest entry of each key.
//!
//! A write appends to the tail, or changes an entry in place while the tail is not sealed. A barrier seals the tail: it
//! returns its chunks without copying them. Keys of a batch are looked up together, so that memory for one key is
//! fetched while others are compared. `compaction` limits the garbage, `residency` the memory, and `rollback` returns
//! to a barrier. The caller passes wall-clock time with each call.

use std::collections::BTreeSet;

use super::history::History;
use super::index::{Identity, IndexPlace, IndexTable, SearchResult, index_hash};
use super::layout::{self, Content, Entry, Head};
use super::log::{Log, NewEntry, Sealed, SweepMark};
use super::prefetch::prefetch;
use super::residency::Residency;
use super::settings::{StateSettings, StoreSettings};
use super::tree::Lifetime;
use super::{StateError, StateId};
use crate::stream::short;
use crate::stream::{Column, KeyGroup, KeyGroupRange, MaxParallelism, OptionalColumn, hash_key};

/// Keys that are looked up together: enough to hide the memory's latency, few enough to stay in the first-level cache.
const LOOKUP_BLOCK: usize = 64;

/// Number of writes that memory is prefetched ahead.
const WRITE_AHEAD: usize = 16;

/// A task's state.
///
/// - Each word of the index points at the newest entry of its identity (key, state, node); an identity that lost its
///   value has a tombstone.
/// - Two entries of the index have the same index hash only if `collided` has it.
#[derive(Debug)]
pub struct StateStore {
    pub(super) max_parallelism: MaxParallelism,
    pub(super) key_groups: KeyGroupRange,
    pub(super) tables: Vec<IndexTable>,
    pub(super) log: Log,
    pub(super) states: Vec<StateSettings>,
    pub(super) has_aliases: bool,
    pub(super) collided: BTreeSet<u64>,
}

/// The keys of a batch, each once, and their hashes.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// Each key once.
    pub keys: &'a Column,
    /// [`crate::stream::hash_key`] of each.
    pub hashes: &'a [u64],
}

/// The values of one state for the keys of a batch. Valid until these keys of the state are written or the store
/// compacts.
#[derive(Debug, Default)]
pub struct Lookup {
    values: OptionalColumn,
    found: Vec<SearchResult>,
    versions: Vec<StateId>,
}

impl Lookup {
    /// Removes all values. With [`Lookup::push`], for values that are kept in another store.
    pub fn clear(&mut self) {
        self.values.clear();
        self.versions.clear();
        self.found.clear();
    }

    /// Adds the value of the next key, and the id of the version that wrote it; that of a key without a value does not
    /// matter. A [`StateStore`] cannot write with such a lookup.
    pub fn push(&mut self, value: Option<&[u8]>, version: StateId) {
        self.values.push(value);
        self.versions.push(version);
    }

    /// The value of each key.
    #[must_use]
    pub fn values(&self) -> &OptionalColumn {
        &self.values
    }

    /// The version of each key's value: the id of the state, or of an earlier version, whose value must be migrated.
    /// `None` if the state has no earlier versions.
    #[must_use]
    pub fn versions(&self) -> Option<&[StateId]> {
        (!self.versions.is_empty()).then_some(&self.versions)
    }
}

/// The expiry of a state, at this time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) ttl_ms: Option<u64>,
    pub(super) now_ms: u64,
    pub(super) has_aliases: bool,
}

impl Rules {
    /// Whether an entry has expired.
    #[inline]
    pub(super) fn has_expired(self, entry: &Entry<'_>) -> bool {
        match (self.ttl_ms, entry.written_ms) {
            (Some(ttl), Some(written)) => self.now_ms >= written.saturating_add(ttl),
            _ => false,
        }
    }

    #[inline]
    pub(super) fn head(self, state: StateId) -> Head {
        Head {
            state,
            node: None,
            written_ms: self.ttl_ms.map(|_| self.now_ms),
        }
    }

    pub(super) fn lifetime(self) -> Lifetime {
        Lifetime {
            ttl_ms: self.ttl_ms,
            now_ms: self.now_ms,
        }
    }

    #[inline]
    pub(super) fn expires_ms(self) -> u64 {
        let expires = |ttl_ms| self.now_ms.saturating_add(ttl_ms);
        self.ttl_ms.map_or(0, expires)
    }
}

/// The value of an entry, unless it has none or has expired.
#[inline]
pub(super) fn visible<'a>(entry: &Entry<'a>, rules: Rules) -> Option<&'a [u8]> {
    match entry.content {
        Content::Value(value) if !rules.has_expired(entry) => Some(value),
        _ => None,
    }
}

impl StateStore {
    /// An empty store.
    #[must_use]
    pub fn new(settings: StoreSettings) -> Self {
        let mut store = Self::with_reader(settings, None);
        store.log.note_counts(0);
        store
    }

    pub(super) fn with_reader(
        settings: StoreSettings,
        reader: Option<std::sync::Arc<dyn super::ChunkReader>>,
    ) -> Self {
        let StoreSettings {
            max_parallelism,
            key_groups,
            ids,
            backend,
            states,
            keeps_rollback,
        } = settings;
        let tables = key_groups
            .0
            .clone()
            .map(|_| IndexTable::default())
            .collect();
        let residency = Residency::new(backend, reader);
        Self {
            max_parallelism,
            key_groups,
            tables,
            log: Log::new(ids, residency, History::new(keeps_rollback)),
            has_aliases: states.iter().any(|state| !state.aliases.is_empty()),
            states,
            collided: BTreeSet::new(),
        }
    }

    /// Replaces the settings of states and returns the previous ones, when another plugin takes over the state. The
    /// cost grows with the number of chunks.
    #[must_use]
    pub fn replace_rules(&mut self, states: Vec<StateSettings>) -> Vec<StateSettings> {
        let has_aliases = states.iter().any(|state| !state.aliases.is_empty());
        if has_aliases {
            for chunk in self.log.chunks.iter_mut().flatten() {
                chunk.rest.sweep = SweepMark::Unsearched;
            }
        }
        self.has_aliases = has_aliases;
        std::mem::replace(&mut self.states, states)
    }

    /// Number of values and tombstones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.iter().map(IndexTable::len).sum()
    }

    /// Whether there is neither value nor tombstone.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(IndexTable::is_empty)
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

    /// Bytes appended since the last seal. They stay in memory until the next one, even beyond the budget: a caller
    /// with a budget requests a checkpoint when they are a large part of it.
    #[must_use]
    pub fn unsealed_bytes(&self) -> usize {
        let tail = self.log.tail.iter();
        tail.map(|&handle| self.log.chunk(handle).len()).sum()
    }

    /// Whether more than a quarter of the budget was appended since the last seal.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.log.residency.is_bounded()
            && self.unsealed_bytes() > self.log.residency.budget_bytes() / 4
    }

    /// Bytes of sealed chunks in memory, plus rollback data.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        self.log.residency.resident_bytes + self.log.history.bytes()
    }

    #[inline]
    pub(super) fn place(&self, key_hash: u64, state: StateId, node: Option<u64>) -> IndexPlace {
        let group = self.max_parallelism.group_of(key_hash);
        debug_assert!(
            self.key_groups.contains(group),
            "the key belongs to this task"
        );
        IndexPlace {
            // For a key of another task this is not a valid table.
            table: u32::from(group.0).wrapping_sub(u32::from(self.key_groups.0.start)),
            hash: index_hash(key_hash, state, node),
        }
    }

    #[inline]
    pub(super) fn owns(&self, key_hash: u64) -> bool {
        let group: KeyGroup = self.max_parallelism.group_of(key_hash);
        self.key_groups.contains(group)
    }

    #[inline]
    pub(super) fn table(&self, place: IndexPlace) -> &IndexTable {
        &self.tables[place.table as usize]
    }

    pub(super) fn rules(&self, state: StateId, now_ms: u64) -> Rules {
        let settings = self.states.iter().find(|settings| settings.id == state);
        Rules {
            ttl_ms: settings.and_then(|settings| settings.ttl_ms),
            now_ms,
            has_aliases: settings.is_some_and(|settings| !settings.aliases.is_empty()),
        }
    }

    /// Looks up the values of a state. `now_ms` is wall-clock time in milliseconds since 1970.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged. The store is unchanged.
    ///
    /// # Panics
    /// When a key is of a key group that this task does not own.
    pub fn read(
        &mut self,
        state: StateId,
        keys: Keys<'_>,
        now_ms: u64,
        lookup: &mut Lookup,
    ) -> Result<(), StateError> {
        let rules = self.rules(state, now_ms);
        lookup.clear();
        lookup.found.reserve(keys.hashes.len());
        lookup.values.reserve(keys.hashes.len());
        let is_bounded = self.log.residency.is_bounded();
        let mut places = [IndexPlace::default(); LOOKUP_BLOCK];
        let mut first = 0;
        for hashes in keys.hashes.chunks(LOOKUP_BLOCK) {
            for (place, &hash) in places.iter_mut().zip(hashes) {
                *place = self.place(hash, state, None);
                let table = self.table(*place);
                prefetch(table.slots(), table.home(place.hash));
            }
            for place in &places[..hashes.len()] {
                let table = self.table(*place);
                let (position, word) = table.search(table.home(place.hash), place.hash);
                if !word.is_empty() {
                    let chunk = self.log.chunk(word.handle());
                    prefetch(chunk.bytes(), word.offset());
                    // The key and a short value may reach into the next cache line.
                    prefetch(chunk.bytes(), word.offset() + 24);
                    if is_bounded {
                        self.log.chunk_mut(word.handle()).is_referenced = true;
                    }
                }
                lookup.found.push(SearchResult::at(position, word));
            }
            for (index, place) in places[..hashes.len()].iter().enumerate() {
                let identity = Identity {
                    state,
                    node: None,
                    key: keys.keys.get(first + index),
                };
                let found = &mut lookup.found[first + index];
                let values = &mut lookup.values;
                if !rules.has_aliases && !found.word.is_empty() {
                    let bytes = self.log.bytes(found.word.handle());
                    let plain =
                        layout::plain_value(bytes, found.word.offset(), state, identity.key);
                    if let Some((value, len)) = plain {
                        found.note_value(len);
                        values.push(Some(value));
                        continue;
                    }
                }
                self.follow(identity, *place, found, |entry| {
                    values.push(visible(entry, rules));
                })?;
                if rules.has_aliases {
                    self.look_at_versions(identity, hashes[index], rules, lookup)?;
                } else if found.word.is_empty() {
                    lookup.values.push(None);
                }
            }
            first += hashes.len();
        }
        Ok(())
    }

    /// Checks candidates until an entry has the identity, and passes it to `take`; or until there are no more.
    #[inline]
    pub(super) fn follow(
        &mut self,
        identity: Identity<'_>,
        place: IndexPlace,
        found: &mut SearchResult,
        take: impl FnOnce(&Entry<'_>),
    ) -> Result<(), StateError> {
        while !found.word.is_empty() {
            let entry = self.log.entry(found.word)?;
            if entry.state == identity.state
                && short::same(entry.key, identity.key)
                && entry.node == identity.node
            {
                found.note(&entry);
                take(&entry);
                return Ok(());
            }
            let same = index_hash(hash_key(entry.key), entry.state, entry.node) == place.hash;
            if same {
                self.collided.insert(place.hash);
            }
            let table = &self.tables[place.table as usize];
            let (position, word) = table.search(table.after(found.position as usize), place.hash);
            *found = SearchResult::at(position, word);
        }
        Ok(())
    }

    /// The entry of an identity.
    pub(super) fn find(
        &mut self,
        identity: Identity<'_>,
        place: IndexPlace,
    ) -> Result<SearchResult, StateError> {
        let table = self.table(place);
        let (position, word) = table.search(table.home(place.hash), place.hash);
        let mut found = SearchResult::at(position, word);
        self.follow(identity, place, &mut found, |_| {})?;
        Ok(found)
    }

    /// Sets the version of the last key's value; if the newest version has no entry, searches the earlier ones.
    #[cold]
    fn look_at_versions(
        &mut self,
        identity: Identity<'_>,
        key_hash: u64,
        rules: Rules,
        lookup: &mut Lookup,
    ) -> Result<(), StateError> {
        let slot = lookup.versions.len();
        if !lookup.found[slot].word.is_empty() {
            lookup.versions.push(identity.state);
            return Ok(());
        }
        match self.find_earlier(identity, key_hash)? {
            Some((version, found)) => {
                let entry = self.log.entry_again(found.word);
                lookup.values.push(visible(&entry, rules));
                lookup.versions.push(version);
                lookup.found[slot] = found;
            }
            None => {
                lookup.values.push(None);
                lookup.versions.push(identity.state);
            }
        }
        Ok(())
    }

    /// Writes values of a state: `values[i]` for the key `slots[i]`; `None` clears it. `lookup` is the result of
    /// [`StateStore::read`] for the same keys and state immediately before.
    ///
    /// # Panics
    /// When a slot is not an index of the keys, or the numbers of slots and values differ. Callers check this for slots
    /// that a guest returned, and that no slot appears twice.
    pub fn write(
        &mut self,
        state: StateId,
        keys: Keys<'_>,
        now_ms: u64,
        lookup: &Lookup,
        slots: &[u32],
        values: &OptionalColumn,
    ) {
        assert_eq!(slots.len(), values.len(), "one value a slot");
        let rules = self.rules(state, now_ms);
        let head = rules.head(state);
        for (item, &slot) in slots.iter().enumerate() {
            if let Some(&ahead) = slots.get(item + WRITE_AHEAD) {
                self.expect_write(keys, state, lookup, ahead as usize);
            }
            let slot = slot as usize;
            let (key, hash) = (keys.keys.get(slot), keys.hashes[slot]);
            let place = self.place(hash, state, None);
            let new = (head, rules.expires_ms());
            let found = lookup.found[slot];
            match lookup.versions.get(slot) {
                Some(&version) if version != state => {
                    self.put_over_earlier(new, key, place, found, values.get(item), version, hash);
                }
                _ => self.put(new, key, place, found, values.get(item)),
            }
        }
    }

    /// Prefetches the memory that a write will change: after the guest's call it may no longer be cached.
    #[inline]
    fn expect_write(&self, keys: Keys<'_>, state: StateId, lookup: &Lookup, slot: usize) {
        let found = lookup.found[slot];
        if found.word.is_empty() {
            return;
        }
        let chunk = self.log.chunk(found.word.handle());
        if chunk.is_sealed() {
            let place = self.place(keys.hashes[slot], state, None);
            prefetch(self.table(place).slots(), found.position as usize);
        } else {
            prefetch(chunk.bytes(), found.word.offset());
            prefetch(chunk.bytes(), found.word.offset() + 24);
        }
    }

    /// Writes an entry with its expiry time, replacing the one that was found.
    #[inline]
    pub(super) fn put(
        &mut self,
        (head, expires_ms): (Head, u64),
        key: &[u8],
        place: IndexPlace,
        found: SearchResult,
        value: Option<&[u8]>,
    ) {
        let mut entry = NewEntry {
            head,
            key,
            content: Content::Value(&[]),
            hash: place.hash,
            expires_ms,
            replaces: found.word,
        };
        let table = place.table as usize;
        if found.word.is_empty() {
            if let Some(value) = value {
                entry.content = Content::Value(value);
                let word = self.log.append(&entry);
                self.tables[table].insert(word);
            }
            return;
        }
        entry.content = match value {
            Some(value) => {
                let written_ms = head.written_ms;
                let log = &mut self.log;
                if log.update_in_place(found.word, value, written_ms, expires_ms) {
                    return;
                }
                Content::Value(value)
            }
            None if found.is_tombstone() => return,
            None => {
                // A tombstone never expires.
                entry.head.written_ms = None;
                Content::Tombstone {
                    birth: self.log.tail_id(),
                }
            }
        };
        self.log.tombstones += usize::from(value.is_none());
        self.log.tombstones -= usize::from(found.is_tombstone());
        let word = self.log.append(&entry);
        let position = self.tables[table].position_of(found.position as usize, found.word);
        self.tables[table].replace(position, word);
        self.log.discard(found.word, found.len());
    }

    /// Removes an entry from the index. There must be no older entries of the same identity, or they must be hidden.
    pub(super) fn remove(&mut self, place: IndexPlace, found: SearchResult) {
        let table = place.table as usize;
        let position = self.tables[table].position_of(found.position as usize, found.word);
        self.tables[table].remove(position);
        self.log.history.note_removed(table, found.word);
        self.log.tombstones -= usize::from(found.is_tombstone());
        self.log.discard(found.word, found.len());
    }

    /// Seals the tail, as a barrier does. The cost depends on the number of chunks, not on their bytes.
    ///
    /// # Errors
    /// When chunks cannot be moved to the scratch file. The store must not be used then.
    pub fn seal(&mut self) -> Result<Sealed, StateError> {
        let mut sealed = self.log.seal();
        sealed.parts = self.log.parts(&self.key_groups);
        sealed.collided = self.collided.iter().copied().collect();
        self.bound()?;
        Ok(sealed)
    }

    /// Evicts chunks to keep the budget.
    pub(super) fn bound(&mut self) -> Result<(), StateError> {
        if self.log.history.bytes() > self.log.residency.history_bytes_max() {
            self.log.give_rollback_up();
        }
        self.log.evict(None)
    }

    /// The chunks that are only in the checkpoint from which the store was restored, newest first. They are read when
    /// they are needed; a loader may read them earlier, and pass them to [`StateStore::supply`].
    #[must_use]
    pub fn missing(&self) -> Vec<super::ChunkRef> {
        self.log.missing()
    }

    /// Takes a chunk that may be missing. A chunk that is not missing is ignored.
    ///
    /// # Errors
    /// When it differs from what the checkpoint says. The store is unchanged.
    pub fn supply(&mut self, chunk: std::sync::Arc<super::Chunk>) -> Result<(), StateError> {
        self.log.supply(chunk)
    }
}
