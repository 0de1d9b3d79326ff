//! Rolls a store back to the last durable seal, within the process: undoes later entries, from the newest to the
//! oldest.
//!
//! The cost depends on the number of entries since that seal, not on the size of the state: for each undone entry the
//! index gets back the word that it replaced, and the counts were noted at the seal. Ids of chunks are not reused.

use super::history::{Counts, Removed};
use super::index::{Word, index_hash};
use super::layout;
use super::log::{Log, SweepMark};
use super::store::StateStore;
use super::{StateError, StateId};
use crate::stream::hash_key;

/// The result of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RollbackOutcome {
    /// The store is as at the last durable seal, or in its initial state if there is none.
    Done,
    /// The data for it was not kept; the store is unchanged, and must be restored from the checkpoint.
    RestoreNeeded,
}

/// An entry to undo.
struct Undone {
    offset: usize,
    key_hash: u64,
    state: StateId,
    node: Option<u64>,
}

impl StateStore {
    /// Tells the store that everything up to the seal of this number is durable, so that data for earlier seals can be
    /// dropped. Numbers of seals that were rolled back are ignored.
    pub fn durable(&mut self, epoch: u64) {
        let history = &mut self.log.history;
        let is_known = epoch < history.epoch && epoch > history.durable;
        if !history.is_kept || !is_known || epoch < history.void_below {
            return;
        }
        history.durable = epoch;
        history.counts.retain(|counts| counts.seal >= epoch);
        history.removed.retain(|removed| removed.epoch > epoch);
        let done = |list: &mut Vec<(u64, u32)>| -> Vec<u32> {
            let end = list.partition_point(|&(of, _)| of <= epoch);
            list.drain(..end).map(|(_, handle)| handle).collect()
        };
        let born = done(&mut history.born);
        let limbo = done(&mut history.limbo);
        for handle in born {
            let replaced = std::mem::take(&mut self.log.chunk_mut(handle).rest.replaced);
            self.log.history.words -= replaced.len();
        }
        for handle in limbo {
            self.log.free(handle);
        }
    }

    /// Rolls back to the last durable seal. There must be no pending call of [`StateStore::durable`] for a later one.
    ///
    /// # Errors
    /// When chunks that are not in memory cannot be read. The store must not be used then.
    pub fn rollback(&mut self) -> Result<RollbackOutcome, StateError> {
        let history = &mut self.log.history;
        if !history.is_kept || history.durable < history.possible_from {
            return Ok(RollbackOutcome::RestoreNeeded);
        }
        let durable = history.durable;
        let begin = history.born.partition_point(|&(of, _)| of <= durable);
        let undone = history.born.split_off(begin);
        let mut removed = std::mem::take(&mut history.removed);
        for &(_, handle) in undone.iter().rev() {
            self.undo_chunk(handle, &mut removed)?;
        }
        self.bring_back(&mut removed, 0);
        self.log.reset_to_durable(&undone);
        self.bound()?;
        Ok(RollbackOutcome::Done)
    }

    fn undo_chunk(&mut self, handle: u32, removed: &mut Vec<Removed>) -> Result<(), StateError> {
        let rest = &mut self.log.chunk_mut(handle).rest;
        let replaced = std::mem::take(&mut rest.replaced);
        let first_append = rest.first_append;
        self.log.history.words -= replaced.len();
        self.log.make_resident(handle)?;
        let bytes = self.log.bytes(handle);
        let mut entries = Vec::with_capacity(replaced.len());
        let mut offset = 0;
        while offset < bytes.len() {
            let entry = layout::entry_at(bytes, offset);
            entries.push(Undone {
                offset,
                key_hash: hash_key(entry.key),
                state: entry.state,
                node: entry.node,
            });
            offset += entry.len;
        }
        assert_eq!(entries.len(), replaced.len(), "each entry has its word");
        for (number, (entry, &before)) in entries.iter().zip(&replaced).enumerate().rev() {
            self.bring_back(removed, first_append + number as u64 + 1);
            let place = self.place(entry.key_hash, entry.state, entry.node);
            let hash = index_hash(entry.key_hash, entry.state, entry.node);
            let word = Word::new(hash, handle, entry.offset);
            let table = &mut self.tables[place.table as usize];
            let position = table.position_of(table.home(hash), word);
            if before.is_empty() {
                table.remove(position);
            } else {
                table.replace(position, before);
            }
        }
        Ok(())
    }

    /// Restores words that were removed after this many entries had been appended.
    fn bring_back(&mut self, removed: &mut Vec<Removed>, appends: u64) {
        while let Some(last) = removed.pop_if(|last| last.appends >= appends) {
            self.tables[last.table as usize].insert(last.word);
        }
    }
}

impl Log {
    /// Restores the counts of the last durable seal, without the chunks of these epochs.
    fn reset_to_durable(&mut self, undone: &[(u64, u32)]) {
        let history = &mut self.history;
        let durable = history.durable;
        history.counts.truncate(1);
        history.limbo.clear();
        history.epoch += 1;
        history.void_below = history.epoch;
        history.notes = true;
        let counts = history.counts.pop();
        let counts = counts.expect("the counts of the last durable seal are kept");
        let Counts {
            ref live,
            live_bytes,
            total_bytes,
            tombstones,
            seal,
        } = counts;
        assert_eq!(
            seal, durable,
            "the first counts are of the last durable seal"
        );
        self.live_bytes = live_bytes;
        self.total_bytes = total_bytes;
        self.tombstones = tombstones;
        self.appended_bytes = 0;
        self.compaction.victim = None;
        self.tail.clear();
        for &(_, handle) in undone {
            self.free(handle);
        }
        for &(handle, live) in live {
            let chunk = self.chunk_mut(handle);
            chunk.live = live;
            chunk.rest.is_in_limbo = false;
            // Migrations since then are undone as well.
            chunk.rest.sweep = SweepMark::Unsearched;
        }
        self.history.counts.push(counts);
    }

    /// Drops all rollback data; rollbacks are possible again once the next seal is durable.
    pub(super) fn give_rollback_up(&mut self) {
        let history = &mut self.history;
        history.notes = false;
        history.possible_from = history.epoch;
        history.counts.clear();
        history.removed = Vec::new();
        let born = std::mem::take(&mut history.born);
        let limbo = std::mem::take(&mut history.limbo);
        for (_, handle) in born {
            let replaced = std::mem::take(&mut self.chunk_mut(handle).rest.replaced);
            self.history.words -= replaced.len();
        }
        for (_, handle) in limbo {
            self.free(handle);
        }
    }
}
