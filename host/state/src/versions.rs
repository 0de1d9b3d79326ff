//! Handles earlier versions of a state: their entries have ids of their own, and count until the newest version has an
//! entry for the key, even a tombstone.
//!
//! ```text
//! lookup of the newest  ──▶ an entry?  it counts
//!                       └─▶ none: the earlier ids, newest first; the first entry counts
//! ```
//!
//! Writing over an entry of an earlier version removes that entry from the index without a tombstone: the new entry
//! hides it. After a restore both are in the index again, and the sweep or compaction drops the older one. The sweep
//! scans the chunks that may have entries of earlier versions and returns those to migrate. Entries that cannot be
//! migrated stay, and with them the id of their version.

use super::index::{Identity, IndexPlace, SearchResult, Word, index_hash};
use super::layout::{Content, Head};
use super::log::{NewEntry, SweepMark, state_bit};
use super::store::StateStore;
use super::{StateError, StateId};
use crate::stream::hash_key;

/// Bytes that one call of the sweep scans, about.
const SWEEP_BYTES: usize = 256 << 10;

/// An entry of an earlier version of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleEntry {
    /// The id of its version.
    pub version: StateId,
    /// The id of the newest version.
    pub state: StateId,
    /// Its key.
    pub key: Vec<u8>,
    /// The page of the key's tree, if it is one.
    pub node: Option<u64>,
}

impl StateStore {
    /// The valid entry of an identity for which the newest version has none, and its version. The log can return the
    /// same entry again immediately afterwards.
    pub(super) fn find_earlier(
        &mut self,
        identity: Identity<'_>,
        key_hash: u64,
    ) -> Result<Option<(StateId, SearchResult)>, StateError> {
        for at in 0.. {
            let settings = self.states.iter().find(|state| state.id == identity.state);
            let Some(&version) = settings.and_then(|settings| settings.aliases.get(at)) else {
                break;
            };
            let earlier = Identity {
                state: version,
                ..identity
            };
            let place = self.place(key_hash, version, identity.node);
            let found = self.find(earlier, place)?;
            if !found.word.is_empty() {
                return Ok(Some((version, found)));
            }
        }
        Ok(None)
    }

    /// Writes an entry of the newest version to replace the one of an earlier version that was found.
    #[expect(
        clippy::too_many_arguments,
        reason = "all of it is what a write is made of, and it is called in one place"
    )]
    pub(super) fn put_over_earlier(
        &mut self,
        new: (Head, u64),
        key: &[u8],
        place: IndexPlace,
        found: SearchResult,
        value: Option<&[u8]>,
        version: StateId,
        key_hash: u64,
    ) {
        let birth = self.log.tail_id();
        let (head, expires_ms) = new;
        let head = Head {
            written_ms: head.written_ms.filter(|_| value.is_some()),
            ..head
        };
        let entry = NewEntry {
            head,
            key,
            content: value.map_or(Content::Tombstone { birth }, Content::Value),
            hash: place.hash,
            expires_ms,
            replaces: Word::EMPTY,
        };
        self.log.tombstones += usize::from(value.is_none());
        let word = self.log.append(&entry);
        self.tables[place.table as usize].insert(word);
        let old = IndexPlace {
            hash: index_hash(key_hash, version, head.node),
            ..place
        };
        self.remove(old, found);
    }

    /// The newest version of a state, if this id is of an earlier one.
    pub(super) fn newest_of(&self, version: StateId) -> Option<StateId> {
        let newest = self
            .states
            .iter()
            .find(|state| state.aliases.contains(&version));
        newest.map(|state| state.id)
    }

    /// Whether an entry of an earlier version is superseded, because a newer version has an entry for its key.
    pub(super) fn is_superseded(
        &mut self,
        identity: Identity<'_>,
        key_hash: u64,
    ) -> Result<bool, StateError> {
        let Some(newest) = self.newest_of(identity.state) else {
            return Ok(false);
        };
        let aliases = self.states.iter().find(|state| state.id == newest);
        let aliases = aliases.map_or(&[][..], |state| &state.aliases).iter();
        let newer: Vec<_> = aliases
            .copied()
            .take_while(|&version| version != identity.state)
            .collect();
        for version in std::iter::once(newest).chain(newer) {
            let place = self.place(key_hash, version, identity.node);
            let newer = Identity {
                state: version,
                ..identity
            };
            if !self.find(newer, place)?.word.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any chunk may have an entry of this state, even an outdated one. If none does, no later checkpoint needs
    /// the id.
    #[must_use]
    pub fn holds(&self, state: StateId) -> bool {
        let chunks = self.log.chunks.iter().flatten();
        chunks
            .filter(|chunk| !chunk.rest.is_in_limbo)
            .any(|chunk| chunk.may_hold(state))
    }

    /// Continues the search for entries of earlier versions in sealed chunks. Call it between batches. The caller
    /// migrates what is returned: it reads the state of that key and writes it in the newest version. When nothing is
    /// returned and `is_done`, all remaining entries of earlier versions are garbage, which compaction removes, or the
    /// caller could not migrate them. Those stay, and few of them are returned again.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged. The store must not be used then.
    pub fn stale_entries(&mut self) -> Result<StaleSweep, StateError> {
        let mut sweep = StaleSweep::default();
        let bits = self.earlier_bits();
        let next = |store: &Self| {
            let mut chunks = store.log.sealed();
            let next = chunks.find(|(_, chunk)| chunk.is_unsearched(bits));
            next.map(|(handle, _)| handle)
        };
        let mut looked_at = 0;
        while looked_at < SWEEP_BYTES {
            let Some(handle) = next(self) else {
                // Compaction may have moved entries to the tail before the sweep has found them.
                sweep.is_waiting = self.has_unsearched_tail();
                sweep.is_done = !sweep.is_waiting;
                break;
            };
            self.log.make_resident(handle)?;
            looked_at += self.log.bytes(handle).len();
            self.sweep_chunk(handle, &mut sweep)?;
        }
        Ok(sweep)
    }

    /// The bits of chunks that may have entries of earlier versions.
    fn earlier_bits(&self) -> u64 {
        let versions = self.states.iter().flat_map(|state| &state.aliases);
        versions.fold(0, |bits, &id| bits | state_bit(id))
    }

    /// By state with earlier versions, in the order of the settings: the bytes of chunks that may have entries of these
    /// versions, even outdated ones. A chunk counts for each of its states.
    #[must_use]
    pub fn earlier_bytes(&self) -> Vec<(StateId, u64)> {
        let states = self.states.iter();
        let states = states.filter(|state| !state.aliases.is_empty());
        let sized = states.map(|state| {
            let bits = state.aliases.iter();
            let bits = bits.fold(0, |bits, &id| bits | state_bit(id));
            let chunks = self.log.chunks.iter().flatten();
            let found =
                chunks.filter(|chunk| !chunk.rest.is_in_limbo && chunk.rest.states & bits != 0);
            let bytes = found.map(|chunk| chunk.len() as u64);
            (state.id, bytes.sum::<u64>())
        });
        sized.collect()
    }

    fn has_unsearched_tail(&self) -> bool {
        // Ids from 63 on share a bit, which every tail has.
        let current = self.states.iter().map(|state| state.id);
        let current = current.fold(0, |bits, id| bits | state_bit(id));
        let bits = self.earlier_bits() & !current;
        let mut tail = self.log.tail.iter();
        tail.any(|&handle| self.log.chunk(handle).is_unsearched(bits))
    }

    /// The chunk that is being written, if it has entries of earlier versions that the sweep has not named.
    pub(super) fn unsearched_tail(&self) -> Option<u32> {
        let &handle = self.log.tail.last()?;
        let chunk = self.log.chunk(handle);
        chunk.is_unsearched(self.earlier_bits()).then_some(handle)
    }

    fn sweep_chunk(&mut self, handle: u32, sweep: &mut StaleSweep) -> Result<(), StateError> {
        let super::log::ChunkPlace::Resident(chunk) = &self.log.chunk(handle).place else {
            unreachable!("the chunk was just made resident")
        };
        // Keeps the bytes while the chunk may be dropped.
        let chunk = std::sync::Arc::clone(chunk);
        self.log.chunk_mut(handle).rest.sweep = SweepMark::Searched;
        let mut offset = 0;
        while offset < chunk.bytes.len() {
            let entry = super::layout::entry_at(&chunk.bytes, offset);
            let at = offset;
            offset += entry.len;
            let Some(newest) = self.newest_of(entry.state) else {
                continue;
            };
            let key_hash = hash_key(entry.key);
            if !self.owns(key_hash) {
                continue;
            }
            let identity = Identity {
                state: entry.state,
                node: entry.node,
                key: entry.key,
            };
            let place = self.place(key_hash, entry.state, entry.node);
            let found = self.find(identity, place)?;
            if found.word != Word::new(place.hash, handle, at) {
                continue;
            }
            if self.is_superseded(identity, key_hash)? {
                self.remove(place, found);
                continue;
            }
            match entry.content {
                Content::Tombstone { birth } => {
                    self.rename_tombstone(identity, key_hash, newest, birth, found);
                }
                Content::Value(_) => sweep.entries.push(StaleEntry {
                    version: entry.state,
                    state: newest,
                    key: entry.key.to_vec(),
                    node: entry.node,
                }),
            }
        }
        Ok(())
    }

    /// Lets the newest version hide what a tombstone of an earlier one hides.
    fn rename_tombstone(
        &mut self,
        identity: Identity<'_>,
        key_hash: u64,
        newest: StateId,
        birth: super::ChunkId,
        found: SearchResult,
    ) {
        let place = self.place(key_hash, newest, identity.node);
        let entry = NewEntry {
            head: Head {
                state: newest,
                node: identity.node,
                written_ms: None,
            },
            key: identity.key,
            content: Content::Tombstone { birth },
            hash: place.hash,
            expires_ms: 0,
            replaces: Word::EMPTY,
        };
        self.log.tombstones += 1;
        let word = self.log.append(&entry);
        self.tables[place.table as usize].insert(word);
        let old = self.place(key_hash, identity.state, identity.node);
        self.remove(old, found);
    }
}

/// The result of one step of the sweep.
#[derive(Debug, Default)]
pub struct StaleSweep {
    /// Entries to migrate.
    pub entries: Vec<StaleEntry>,
    /// Whether all chunks were searched.
    pub is_done: bool,
    /// Whether the others can be searched only after the next seal.
    pub is_waiting: bool,
}
