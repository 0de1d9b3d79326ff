//! Limits the garbage of a log: live entries of poor chunks move to the tail, and the chunks are dropped.
//!
//! Writes pay for the work: each appended byte allows compaction to scan two bytes of a chunk. A chunk is chosen as a
//! victim while the log is larger than twice its live entries, so at least half of the scanned bytes are garbage, and
//! garbage is removed at least as fast as it is added. Two more kinds of victims keep manifests small and tombstones
//! few: many small chunks, and the oldest chunk while there are many tombstones, since they can be removed only after
//! it. Expired entries are dropped on the way, and chunks with mostly expired entries are victims, too. The scheme is
//! that of a log-structured file system's cleaner (Rosenblum and Ousterhout, 1992), with greedy choice. It never runs
//! between a lookup and its write.

use super::index::{Identity, IndexPlace, SearchResult, Word};
use super::layout::{self, Content, Entry};
use super::log::{CHUNK_BYTES, LogChunk, NewEntry, SweepMark, Victim, state_bit};
use super::prefetch::prefetch;
use super::store::{Rules, StateStore};
use super::tree::page::{self, Pruned};
use super::{ChunkId, StateError};
use crate::stream::hash_key;

/// Most bytes that one call scans: a fraction of a millisecond.
const SCAN_BYTES_A_CALL: usize = 256 << 10;

/// With less garbage than this, nothing is moved.
const GARBAGE_BYTES_MIN: usize = 4 << 20;

/// A chunk shorter than this is small, and this many small ones are merged.
const SMALL_CHUNK_BYTES: usize = CHUNK_BYTES / 4;
const SMALL_CHUNKS_MAX: usize = 16;

/// Tombstones that are always tolerated.
const TOMBSTONES_MIN: usize = 64;

/// Entries whose index slots are fetched together.
const BLOCK: usize = 32;

/// An entry of the victim that may be the newest of its identity.
struct Candidate {
    offset: usize,
    key_hash: u64,
    place: IndexPlace,
}

/// The treatment of an entry of the victim.
enum Move {
    /// It is dropped: there are no older entries that it hides.
    Drop,
    /// It is replaced by a tombstone, which hides older entries.
    Bury,
    /// It is moved, with a new value if one is given.
    Keep(Option<Vec<u8>>),
}

impl StateStore {
    /// Does a bounded amount of compaction if needed, and keeps the budget. Call it after each batch. `now_ms` is
    /// wall-clock time in milliseconds since 1970.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, is damaged, or cannot be moved out of memory. The store must
    /// not be used then.
    pub fn compact(&mut self, now_ms: u64) -> Result<(), StateError> {
        let appended = std::mem::take(&mut self.log.appended_bytes);
        self.log.compaction.allow(2 * appended);
        let mut budget = self.log.compaction.allowed.min(SCAN_BYTES_A_CALL);
        while budget > 0 {
            let Some(victim) = self.victim(now_ms) else {
                self.log.compaction.allowed = self.log.compaction.allowed.min(SCAN_BYTES_A_CALL);
                break;
            };
            let looked_at = self.scan(victim, budget, now_ms)?;
            self.log.compaction.allowed -= looked_at.min(self.log.compaction.allowed);
            budget = budget.saturating_sub(looked_at);
        }
        // Bytes that compaction itself appends allow no scanning.
        self.log.appended_bytes = 0;
        match self.log.residency.is_bounded() {
            true => self.bound(),
            false => Ok(()),
        }
    }

    /// Like [`StateStore::compact`], for a store to which nothing may have been written since it was sealed: what has
    /// expired must go without records, too. A store without expiry is not touched. Each seal allows a bounded amount.
    ///
    /// # Errors
    /// As [`StateStore::compact`].
    pub fn expire(&mut self, now_ms: u64) -> Result<(), StateError> {
        match self.states.iter().any(|state| state.ttl_ms.is_some()) {
            true => self.compact(now_ms),
            false => Ok(()),
        }
    }

    /// Whether compaction may drop chunks with garbage of earlier versions now, for a caller that has nothing else to do.
    #[must_use]
    pub fn can_drop_versions(&self) -> bool {
        // As of the first moment, nothing has expired.
        self.has_aliases && self.log.compaction.allowed > 0 && self.choose_by_rules(0).is_some()
    }

    /// Lets the next call of [`StateStore::compact`] scan as much as one call may, if there is garbage of earlier versions,
    /// also if little was written since. For a caller that wants it gone soon, and calls often.
    pub fn hurry_versions(&mut self) {
        if self.has_aliases && self.choose_by_rules(0).is_some() {
            let allowed = self.log.compaction.allowed;
            self.log.compaction.allowed = allowed.max(SCAN_BYTES_A_CALL);
        }
    }

    /// The current victim, or the next chunk that is worth compacting.
    fn victim(&mut self, now_ms: u64) -> Option<Victim> {
        if let Some(victim) = self.log.compaction.victim
            && self.is_still_there(victim)
        {
            return Some(victim);
        }
        let victim = self.choose(now_ms).map(|(handle, id)| Victim {
            handle,
            id,
            offset: 0,
        });
        self.log.compaction.victim = victim;
        victim
    }

    fn is_still_there(&self, victim: Victim) -> bool {
        self.log.chunks[victim.handle as usize]
            .as_ref()
            .is_some_and(|chunk| chunk.id == victim.id && !chunk.rest.is_in_limbo)
    }

    fn choose(&self, now_ms: u64) -> Option<(u32, ChunkId)> {
        let name = |(handle, chunk): (u32, &LogChunk)| (handle, chunk.id);
        let garbage = self.log.total_bytes - self.log.live_bytes;
        if garbage > self.log.live_bytes + GARBAGE_BYTES_MIN {
            let poorest = self
                .log
                .sealed()
                .min_by_key(|(_, chunk)| chunk.live * 1024 / chunk.len().max(1));
            return poorest.map(name);
        }
        let tombstones = self.log.tombstones;
        if tombstones > TOMBSTONES_MIN + (self.len() - tombstones) / 4 {
            let oldest = self.log.sealed().min_by_key(|(_, chunk)| chunk.id);
            return oldest.map(name);
        }
        let small = || {
            let chunks = self.log.sealed();
            chunks.filter(|(_, chunk)| chunk.len() < SMALL_CHUNK_BYTES)
        };
        if small().count() > SMALL_CHUNKS_MAX {
            return small().min_by_key(|(_, chunk)| chunk.id).map(name);
        }
        if self.states.is_empty() {
            return None;
        }
        self.choose_by_rules(now_ms).map(name)
    }

    /// A chunk that is mostly expired, or in which an earlier version of a state is only garbage.
    fn choose_by_rules(&self, now_ms: u64) -> Option<(u32, &LogChunk)> {
        let forgets = self.states.iter().any(|state| state.ttl_ms.is_some());
        let versions = self.states.iter().flat_map(|state| &state.aliases);
        let versions = versions.fold(0, |bits, &id| bits | state_bit(id));
        let current = self.states.iter().map(|state| state.id);
        // Ids from 63 on share a bit, so their chunks may have only current entries.
        let versions = versions & !current.fold(0, |bits, id| bits | state_bit(id));
        if !forgets && versions == 0 {
            return None;
        }
        self.log.sealed().find(|(_, chunk)| {
            let rest = &chunk.rest;
            let has_expired = forgets
                && rest.timed_bytes > 0
                && rest.expires_ms <= now_ms
                && rest.timed_bytes * 2 >= chunk.live;
            has_expired || (rest.sweep == SweepMark::Searched && rest.states & versions != 0)
        })
    }

    /// Moves the live entries in the victim's next bytes; returns how many bytes were scanned.
    fn scan(
        &mut self,
        mut victim: Victim,
        budget: usize,
        now_ms: u64,
    ) -> Result<usize, StateError> {
        let oldest_other = self.oldest_but(victim.id);
        let begin = victim.offset;
        self.log.make_resident(victim.handle)?;
        let mut candidates = Vec::with_capacity(BLOCK);
        loop {
            let len = self.log.bytes(victim.handle).len();
            if victim.offset == len {
                self.log.compaction.victim = None;
                self.log.let_go(victim.handle);
                return Ok(len - begin);
            }
            if victim.offset - begin >= budget {
                self.log.compaction.victim = Some(victim);
                return Ok(victim.offset - begin);
            }
            self.collect(&mut victim, &mut candidates);
            for candidate in candidates.drain(..) {
                self.relocate(victim, &candidate, oldest_other, now_ms)?;
                if !self.is_still_there(victim) {
                    // Its last live entry was moved, and the chunk was dropped.
                    self.log.compaction.victim = None;
                    return Ok(victim.offset - begin);
                }
                // A lookup in between may have moved it out of memory.
                self.log.make_resident(victim.handle)?;
            }
        }
    }

    fn oldest_but(&self, id: ChunkId) -> Option<ChunkId> {
        let chunks = self.log.chunks.iter().flatten();
        chunks
            .filter(|chunk| chunk.id != id && !chunk.rest.is_in_limbo)
            .map(|chunk| chunk.id)
            .min()
    }

    fn collect(&self, victim: &mut Victim, candidates: &mut Vec<Candidate>) {
        let bytes = self.log.bytes(victim.handle);
        while candidates.len() < BLOCK && victim.offset < bytes.len() {
            let entry = layout::entry_at(bytes, victim.offset);
            let key_hash = hash_key(entry.key);
            if self.owns(key_hash) {
                let place = self.place(key_hash, entry.state, entry.node);
                let table = self.table(place);
                prefetch(table.slots(), table.home(place.hash));
                candidates.push(Candidate {
                    offset: victim.offset,
                    key_hash,
                    place,
                });
            }
            victim.offset += entry.len;
        }
    }

    /// Moves an entry to the tail if it is the newest of its identity and has not expired.
    fn relocate(
        &mut self,
        victim: Victim,
        candidate: &Candidate,
        oldest_other: Option<ChunkId>,
        now_ms: u64,
    ) -> Result<(), StateError> {
        let place = candidate.place;
        let word = Word::new(place.hash, victim.handle, candidate.offset);
        let Some(position) = self.find_word(place, word) else {
            return Ok(());
        };
        let bytes = &self.log.bytes(victim.handle)[candidate.offset..];
        let len = layout::entry_at(bytes, 0).len;
        let copy = bytes[..len].to_vec();
        let entry = layout::entry_at(&copy, 0);
        let found = SearchResult::of(position, word, &entry);
        let hides = oldest_other.is_some_and(|oldest| oldest <= victim.id);
        let fate = self.decide(&entry, candidate, oldest_other, hides, now_ms)?;
        let content = match &fate {
            Move::Drop => {
                self.remove(place, found);
                return Ok(());
            }
            Move::Bury => Content::Tombstone { birth: victim.id },
            Move::Keep(Some(value)) => Content::Value(value),
            Move::Keep(None) => entry.content,
        };
        let mut new = NewEntry {
            head: entry.head(),
            key: entry.key,
            content,
            hash: place.hash,
            expires_ms: self.expires_ms(&entry, content, now_ms),
            replaces: word,
        };
        if matches!(content, Content::Tombstone { .. }) {
            new.head.written_ms = None;
            new.expires_ms = 0;
            self.log.tombstones += usize::from(!entry.is_tombstone());
        }
        let is_earlier = self.has_aliases && self.newest_of(entry.state).is_some();
        let unsearched = is_earlier.then(|| self.unsearched_tail()).flatten();
        let moved = self.log.append(&new);
        if is_earlier {
            let from = self.log.chunk(victim.handle).rest.sweep;
            let is_named = from != SweepMark::Unsearched && unsearched != Some(moved.handle());
            self.log.chunk_mut(moved.handle()).rest.sweep = match is_named {
                true => SweepMark::Remaining,
                false => SweepMark::Unsearched,
            };
        }
        self.tables[place.table as usize].replace(position, moved);
        self.log.discard(word, len);
        Ok(())
    }

    fn decide(
        &mut self,
        entry: &Entry<'_>,
        candidate: &Candidate,
        oldest_other: Option<ChunkId>,
        hides: bool,
        now_ms: u64,
    ) -> Result<Move, StateError> {
        if let Content::Tombstone { birth } = entry.content {
            return Ok(match oldest_other.is_none_or(|oldest| oldest > birth) {
                true => Move::Drop,
                false => Move::Keep(None),
            });
        }
        if self.states.is_empty() {
            return Ok(Move::Keep(None));
        }
        let identity = Identity {
            state: entry.state,
            node: entry.node,
            key: entry.key,
        };
        // Moving it would make it younger than the tombstone of a newer version, which could then be removed first.
        if self.has_aliases && self.is_superseded(identity, candidate.key_hash)? {
            return Ok(Move::Drop);
        }
        let rules = self.rules_of(entry, now_ms);
        Ok(match prune(entry, rules) {
            _ if rules.has_expired(entry) && hides => Move::Bury,
            _ if rules.has_expired(entry) => Move::Drop,
            Pruned::Unchanged => Move::Keep(None),
            // A tree without its root does not exist.
            Pruned::Nothing(_) if entry.node == Some(0) && hides => Move::Bury,
            Pruned::Nothing(_) if entry.node == Some(0) => Move::Drop,
            Pruned::Smaller(page) | Pruned::Nothing(page) => Move::Keep(Some(page)),
        })
    }

    /// The settings of an entry's state, also for an entry of an earlier version.
    fn settings_of(&self, entry: &Entry<'_>) -> Option<&super::settings::StateSettings> {
        let mut states = self.states.iter();
        states.find(|state| state.id == entry.state || state.aliases.contains(&entry.state))
    }

    fn rules_of(&self, entry: &Entry<'_>, now_ms: u64) -> Rules {
        let state = self
            .settings_of(entry)
            .map_or(entry.state, |state| state.id);
        self.rules(state, now_ms)
    }

    /// The expiry time of an entry that is moved with this content; 0 if it never expires.
    fn expires_ms(&self, entry: &Entry<'_>, content: Content<'_>, now_ms: u64) -> u64 {
        if let (Some(_), Content::Value(page)) = (entry.node, content) {
            return page::expires_ms(page, self.rules_of(entry, now_ms).lifetime());
        }
        let ttl = self.settings_of(entry).and_then(|state| state.ttl_ms);
        match (entry.written_ms, ttl) {
            (Some(written), Some(ttl)) => written.saturating_add(ttl),
            // It has a write time, but its state no longer expires.
            (Some(_), None) => u64::MAX,
            (None, _) => 0,
        }
    }

    fn find_word(&self, place: IndexPlace, word: Word) -> Option<usize> {
        let table = self.table(place);
        let (mut position, mut found) = table.search(table.home(place.hash), place.hash);
        while !found.is_empty() {
            if found == word {
                return Some(position);
            }
            (position, found) = table.search(table.after(position), place.hash);
        }
        None
    }
}

/// A page without its expired items. A damaged page is kept: the next read of it reports the damage.
fn prune(entry: &Entry<'_>, rules: Rules) -> Pruned {
    match (entry.node, rules.ttl_ms, entry.content) {
        (Some(_), Some(_), Content::Value(page)) => {
            page::prune(page, rules.lifetime()).unwrap_or(Pruned::Unchanged)
        }
        _ => Pruned::Unchanged,
    }
}
