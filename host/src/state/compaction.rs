//! Keeps the garbage of a log within bounds: live entries of poor chunks move to the tail, and the chunks go.
//!
//! The work is paid for by writes: each appended byte allows two bytes of a chunk to be looked at. Victims are taken while
//! the log is more than twice its live entries, so at least half of what is looked at is garbage, and garbage goes at least
//! as fast as it comes. Two more kinds of victims keep manifests and tombstones few: many small chunks, and the oldest
//! chunk while tombstones abound, since only its going lets them go. The scheme is that of a log-structured file system's
//! cleaner (Rosenblum and Ousterhout, 1992), with greedy choice. It never runs between a lookup and its write.

use super::index::Word;
use super::layout::{self, Content};
use super::log::{CHUNK_BYTES, Victim};
use super::prefetch::prefetch;
use super::store::StateStore;
use super::{ChunkId, StateId};
use crate::stream::hash_key;

/// Bytes that one call looks at, at most: a share of a millisecond.
const SCAN_BYTES_A_CALL: usize = 256 << 10;

/// Below this much garbage nothing is worth moving.
const GARBAGE_BYTES_MIN: usize = 4 << 20;

/// A chunk below this length is small, and this many small ones are merged.
const SMALL_CHUNK_BYTES: usize = CHUNK_BYTES / 4;
const SMALL_CHUNKS_MAX: usize = 16;

/// Tombstones that are always tolerated.
const TOMBSTONES_MIN: usize = 64;

/// Entries whose index slots are fetched together.
const BLOCK: usize = 32;

/// An entry of the victim that the index may point at.
struct Candidate {
    offset: usize,
    len: usize,
    hash: u64,
}

impl StateStore {
    /// Does a bounded amount of compaction, if there is need. To be called after each batch.
    pub fn compact(&mut self) {
        let appended = std::mem::take(&mut self.log.appended_bytes);
        self.log.compaction.allow(2 * appended);
        let mut budget = self.log.compaction.allowed.min(SCAN_BYTES_A_CALL);
        while budget > 0 {
            let Some(victim) = self.victim() else {
                self.log.compaction.allowed = self.log.compaction.allowed.min(SCAN_BYTES_A_CALL);
                return;
            };
            let looked_at = self.scan(victim, budget);
            self.log.compaction.allowed -= looked_at.min(self.log.compaction.allowed);
            budget = budget.saturating_sub(looked_at);
        }
        // What compaction itself appends pays for nothing.
        self.log.appended_bytes = 0;
    }

    /// The chunk at work, or the next one that is worth it.
    fn victim(&mut self) -> Option<Victim> {
        if let Some(victim) = self.log.compaction.victim {
            let still_there = self.log.chunks[victim.handle as usize]
                .as_ref()
                .is_some_and(|chunk| chunk.id == victim.id);
            if still_there {
                return Some(victim);
            }
        }
        self.log.compaction.victim = self.choose();
        self.log.compaction.victim
    }

    fn choose(&self) -> Option<Victim> {
        let victim = |(handle, id): (u32, ChunkId)| Victim {
            handle,
            id,
            offset: 0,
        };
        let garbage = self.log.total_bytes - self.log.live_bytes;
        if garbage > self.log.live_bytes + GARBAGE_BYTES_MIN {
            let poorest = self
                .log
                .sealed()
                .min_by_key(|(_, chunk)| chunk.live * 1024 / chunk.bytes().len().max(1));
            return poorest.map(|(handle, chunk)| victim((handle, chunk.id)));
        }
        if self.tombstones > TOMBSTONES_MIN + (self.len() - self.tombstones) / 4 {
            let oldest = self.log.sealed().min_by_key(|(_, chunk)| chunk.id);
            return oldest.map(|(handle, chunk)| victim((handle, chunk.id)));
        }
        let small = || {
            self.log
                .sealed()
                .filter(|(_, chunk)| chunk.bytes().len() < SMALL_CHUNK_BYTES)
        };
        if small().count() > SMALL_CHUNKS_MAX {
            return small()
                .min_by_key(|(_, chunk)| chunk.id)
                .map(|(handle, chunk)| victim((handle, chunk.id)));
        }
        None
    }

    /// Moves the live entries of the victim's next bytes; returns how many bytes were looked at.
    fn scan(&mut self, mut victim: Victim, budget: usize) -> usize {
        let oldest_other = self
            .log
            .chunks
            .iter()
            .flatten()
            .filter(|chunk| chunk.id != victim.id)
            .map(|chunk| chunk.id)
            .min();
        let begin = victim.offset;
        let mut candidates = Vec::with_capacity(BLOCK);
        loop {
            let len = self.log.bytes(victim.handle).len();
            if victim.offset == len {
                self.log.compaction.victim = None;
                self.log.drop_chunk(victim.handle);
                return len - begin;
            }
            if victim.offset - begin >= budget {
                self.log.compaction.victim = Some(victim);
                return victim.offset - begin;
            }
            self.collect(&mut victim, &mut candidates);
            for candidate in candidates.drain(..) {
                self.relocate(victim.handle, &candidate, oldest_other);
                if self.log.chunks[victim.handle as usize]
                    .as_ref()
                    .is_none_or(|chunk| chunk.id != victim.id)
                {
                    // Its last live entry has moved, and the chunk went with it.
                    self.log.compaction.victim = None;
                    return victim.offset - begin;
                }
            }
        }
    }

    fn collect(&self, victim: &mut Victim, candidates: &mut Vec<Candidate>) {
        let bytes = self.log.bytes(victim.handle);
        while candidates.len() < BLOCK && victim.offset < bytes.len() {
            let entry = layout::entry_at(bytes, victim.offset);
            let hash = hash_key(entry.key);
            if self.owns(hash) {
                let table = &self.tables[self.table_index(hash)];
                prefetch(table.slots(), table.home(hash));
                candidates.push(Candidate {
                    offset: victim.offset,
                    len: entry.len,
                    hash,
                });
            }
            victim.offset += entry.len;
        }
    }

    /// Moves an entry to the tail if it is the newest of its key; drops it if it is a tombstone that hides nothing.
    fn relocate(&mut self, handle: u32, candidate: &Candidate, oldest_other: Option<ChunkId>) {
        let word = Word::new(candidate.hash, handle, candidate.offset);
        let table = self.table_index(candidate.hash);
        let Some(position) = self.find_word(table, candidate.hash, word) else {
            return;
        };
        let bytes = &self.log.bytes(handle)[candidate.offset..candidate.offset + candidate.len];
        let entry = layout::entry_at(bytes, 0);
        if let Content::Tombstone { birth } = entry.content
            && oldest_other.is_none_or(|oldest| oldest > birth)
        {
            self.tombstones -= 1;
            self.tables[table].remove(position);
            self.log.discard(word);
            return;
        }
        let copy = bytes.to_vec();
        let moved = self.append_copy(&copy, candidate.hash);
        self.tables[table].replace(position, moved);
        self.log.discard(word);
    }

    fn append_copy(&mut self, entry: &[u8], hash: u64) -> Word {
        let entry = layout::entry_at(entry, 0);
        let state: StateId = entry.state;
        self.log.append(state, entry.key, hash, entry.content)
    }

    fn find_word(&self, table: usize, hash: u64, word: Word) -> Option<usize> {
        let table = &self.tables[table];
        let (mut position, mut found) = table.search(table.home(hash), hash);
        while !found.is_empty() {
            if found == word {
                return Some(position);
            }
            (position, found) = table.search(table.after(position), hash);
        }
        None
    }
}
