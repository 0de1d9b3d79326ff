//! Keeps the data for rollbacks: the word that each entry replaced, removed words, and dropped chunks.
//!
//! An **epoch** is what is appended between two seals, numbered from 1; seal `n` ends epoch `n`, and seal 0 is the
//! store's initial state. Chunks that lost their last live entry are in limbo until a later seal is durable. Counts are
//! noted at each seal, so that a rollback reads only the entries that it undoes.

use super::index::Word;

/// Entries and removals since the last durable seal.
///
/// - `durable < epoch`, and the first of `counts` are those of `durable`, if they are needed.
/// - A rollback is possible when `durable >= possible_from`.
#[derive(Debug)]
pub(super) struct History {
    /// Whether data for rollbacks is kept.
    pub(super) is_kept: bool,
    /// Whether current appends are noted.
    pub(super) notes: bool,
    pub(super) epoch: u64,
    pub(super) durable: u64,
    /// Seals below this number and after `durable` were rolled back.
    pub(super) void_below: u64,
    pub(super) possible_from: u64,
    /// Number of entries ever appended.
    pub(super) appends: u64,
    /// Number of words that are kept.
    pub(super) words: usize,
    pub(super) counts: Vec<Counts>,
    /// Chunks and the epochs in which they were started, oldest first.
    pub(super) born: Vec<(u64, u32)>,
    pub(super) removed: Vec<Removed>,
    /// Chunks and the epochs in which they were dropped, oldest first.
    pub(super) limbo: Vec<(u64, u32)>,
}

/// A word that was removed from the index without a replacement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Removed {
    pub(super) epoch: u64,
    /// Number of entries ever appended before its removal.
    pub(super) appends: u64,
    pub(super) table: u32,
    pub(super) word: Word,
}

/// The counts at a seal.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) seal: u64,
    /// Live bytes by chunk.
    pub(super) live: Vec<(u32, usize)>,
    pub(super) live_bytes: usize,
    pub(super) total_bytes: usize,
    pub(super) tombstones: usize,
}

impl History {
    pub(super) fn new(is_kept: bool) -> Self {
        Self {
            is_kept,
            notes: is_kept,
            epoch: 1,
            durable: 0,
            void_below: 0,
            possible_from: 0,
            appends: 0,
            words: 0,
            counts: Vec::new(),
            born: Vec::new(),
            removed: Vec::new(),
            limbo: Vec::new(),
        }
    }

    pub(super) fn note_removed(&mut self, table: usize, word: Word) {
        if self.notes {
            self.removed.push(Removed {
                epoch: self.epoch,
                appends: self.appends,
                table: table as u32,
                word,
            });
        }
    }

    /// Bytes of the kept data, without the chunks.
    pub(super) fn bytes(&self) -> usize {
        self.words * size_of::<Word>() + self.removed.len() * size_of::<Removed>()
    }
}
