//! The entries of a map, in order: pages of the host with what the call has written laid over them.

use std::collections::btree_map;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use crate::Result;
use crate::columns::Column;
use crate::encoding::{AsSubKey, Encoding, Postcard, SubKey};
use crate::map::{Entry, OfKey, undecodable};
use crate::reads;

/// Entries of the first page.
const FIRST_PAGE: u32 = 32;
/// Entries of the others.
const PAGE: u32 = 4096;

/// Sub-keys as bytes: not below `start`, and below `end`.
pub(crate) struct Bounds {
    start: Vec<u8>,
    end: Option<Vec<u8>>,
}

impl Bounds {
    pub(crate) fn all() -> Self {
        Self {
            start: Vec::new(),
            end: None,
        }
    }

    pub(crate) fn of<K: AsSubKey>(range: &impl RangeBounds<K>) -> Self {
        let bytes = |sub_key: &K| {
            let mut bytes = Vec::new();
            sub_key.append_to(&mut bytes);
            bytes
        };
        Self {
            start: match range.start_bound() {
                Bound::Included(start) => bytes(start),
                Bound::Excluded(start) => next_after(bytes(start)),
                Bound::Unbounded => Vec::new(),
            },
            end: match range.end_bound() {
                Bound::Included(end) => Some(next_after(bytes(end))),
                Bound::Excluded(end) => Some(bytes(end)),
                Bound::Unbounded => None,
            },
        }
    }

    fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
}

/// What comes right after these bytes.
fn next_after(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(0);
    bytes
}

/// The entries of a [`Map`](crate::Map), in the order of their sub-keys or, if told so at first, the other way round.
///
/// - `bounds` is what the host has not been asked for yet; there is nothing more once `is_over`.
pub struct Entries<'a, K, V, E = Postcard> {
    state: u16,
    slot: u32,
    bounds: Bounds,
    is_over: bool,
    is_descending: bool,
    page_len: u32,
    sub_keys: Column,
    values: Column,
    at: usize,
    own: btree_map::Range<'a, Vec<u8>, Entry<V>>,
    own_next: Option<(&'a Vec<u8>, &'a Entry<V>)>,
    kinds: PhantomData<fn(K) -> E>,
}

impl<'a, K: SubKey, V, E: Encoding<V>> Entries<'a, K, V, E> {
    pub(crate) fn new(state: u16, slot: u32, key: &'a OfKey<V>, bounds: Bounds) -> Self {
        let is_empty = bounds.is_empty();
        let range = match &bounds.end {
            _ if is_empty => (Bound::Unbounded, Bound::Excluded([].as_slice())),
            Some(end) => (
                Bound::Included(bounds.start.as_slice()),
                Bound::Excluded(end.as_slice()),
            ),
            None => (Bound::Included(bounds.start.as_slice()), Bound::Unbounded),
        };
        let own = key.entries.range::<[u8], _>(range);
        Self {
            state,
            slot,
            bounds,
            is_over: is_empty || key.is_cleared,
            is_descending: false,
            page_len: FIRST_PAGE,
            sub_keys: Column::new(),
            values: Column::new(),
            at: 0,
            own,
            own_next: None,
            kinds: PhantomData,
        }
    }

    /// The same entries from the highest sub-key down. To be said before the first entry is taken.
    ///
    /// # Panics
    /// When entries were taken already.
    #[must_use]
    pub fn descending(mut self) -> Self {
        let is_fresh = self.own_next.is_none() && self.sub_keys.is_empty();
        assert!(is_fresh, "the order is chosen before the first entry");
        self.is_descending = !self.is_descending;
        self
    }

    /// How many entries the first page has.
    pub(crate) fn page(mut self, entries: u32) -> Self {
        self.page_len = entries;
        self
    }

    /// Gets the next page if the last one is used up. Whether the host has an entry.
    fn fill(&mut self) -> bool {
        while self.at == self.sub_keys.len() {
            if self.is_over {
                return false;
            }
            let page = reads::map_scan(
                self.state,
                self.slot,
                &self.bounds.start,
                self.bounds.end.as_deref(),
                self.is_descending,
                self.page_len,
            );
            self.page_len = PAGE;
            self.is_over = !page.more;
            if let Some(last) = page.sub_keys.len().checked_sub(1) {
                let last = page.sub_keys.get(last).to_vec();
                match self.is_descending {
                    true => self.bounds.end = Some(last),
                    false => self.bounds.start = next_after(last),
                }
            }
            (self.sub_keys, self.values, self.at) = (page.sub_keys, page.values, 0);
        }
        true
    }

    fn next_bytes(&mut self) -> Option<Result<(K, V)>> {
        loop {
            if self.own_next.is_none() {
                self.own_next = match self.is_descending {
                    true => self.own.next_back(),
                    false => self.own.next(),
                };
            }
            let has_host = self.fill();
            let host = has_host.then(|| self.sub_keys.get(self.at));
            let order = match (host, self.own_next) {
                (None, None) => return None,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(host), Some((own, _))) => match self.is_descending {
                    true => own.as_slice().cmp(host),
                    false => host.cmp(own.as_slice()),
                },
            };
            if order.is_lt() {
                let entry = decoded::<K, V, E>(host.unwrap_or_default(), self.values.get(self.at));
                self.at += 1;
                return Some(entry);
            }
            // What this call knows is newer than what the host has.
            self.at += usize::from(order.is_eq());
            let (sub_key, entry) = self.own_next.take()?;
            if let Some(value) = &entry.value {
                let mut bytes = Vec::new();
                let encoded = E::encode(value, &mut bytes);
                return Some(encoded.and_then(|()| decoded::<K, V, E>(sub_key, &bytes)));
            }
        }
    }
}

fn decoded<K: SubKey, V, E: Encoding<V>>(sub_key: &[u8], value: &[u8]) -> Result<(K, V)> {
    Ok((
        K::from_bytes(sub_key)?,
        E::decode(value).map_err(undecodable)?,
    ))
}

impl<K: SubKey, V, E: Encoding<V>> Iterator for Entries<'_, K, V, E> {
    type Item = Result<(K, V)>;

    fn next(&mut self) -> Option<Result<(K, V)>> {
        self.next_bytes()
    }
}

impl<K, V, E> fmt::Debug for Entries<'_, K, V, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Entries").finish_non_exhaustive()
    }
}
