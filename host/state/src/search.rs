//! The plain data of searches in [`super::store`]: the key of a search, its result, and the rules for visible values.

use super::StateId;
use super::index::Word;
use super::layout::{Content, Entry, Head};
use super::tree::Lifetime;

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

/// The position of an identity in the index.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IndexPlace {
    pub(super) table: u32,
    pub(super) hash: u64,
}

/// The identity that an entry is searched by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) state: StateId,
    pub(super) node: Option<u64>,
    pub(super) key: &'a [u8],
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
