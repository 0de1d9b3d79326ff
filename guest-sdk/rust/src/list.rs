//! Many values per key, in the order in which they were appended.
//!
//! What a call appends is encoded at once and leaves with the call. What earlier calls appended stays with the host
//! until the operator iterates, and then comes in pages. So appending costs the same however long a list is.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem;

use crate::columns::{Column, ListWrites, StateKind};
use crate::encoding::{Encoding, Postcard};
use crate::reads;
use crate::states::{Call, Declaration, State, Writes, sealed};
use crate::{Error, Result};

/// Lists whose lengths are asked for at once.
const LENGTHS: usize = 64;
/// Items of the first page.
const FIRST_PAGE: u32 = 64;
/// Items of the other pages.
const PAGE: u32 = 4096;
/// The slot of an item that was appended and then cleared.
const CLEARED: u32 = u32::MAX;

/// A state that keeps a list of `T` for each key.
///
/// It is the list of the current record's key. Reading costs calls of the host: [`iter`](List::iter) one for many
/// items, [`len`](List::len) one for many keys. `E` is how items are written: [`Postcard`] unless said otherwise.
///
/// ```
/// # use floodmark_sdk::{Config, Decimal, List, Operator, Output, Record, Result, States};
/// #[derive(Default, States)]
/// struct Longest {
///     words: List<String>,
/// }
///
/// impl Operator for Longest {
///     # fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
///     fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
///         self.words.push(record.text()?.to_owned());
///         let mut longest = 0;
///         for word in self.words.iter() {
///             longest = longest.max(word?.len() as u64);
///         }
///         out.emit(Decimal(longest));
///         Ok(())
///     }
/// }
/// # let mut task = floodmark_sdk::testing::Task::new::<Longest>();
/// # assert_eq!(task.run([("a", "tide"), ("a", "ebb")])?, [("a", "4"), ("a", "4")]);
/// # Result::<()>::Ok(())
/// ```
///
/// - `keys` has one item for each key of the call.
/// - Each item of `slots` and `values` was appended in this call, in order; `CLEARED` marks those that were cleared
///   again.
pub struct List<T, E = Postcard> {
    state: u16,
    slot: usize,
    keys: Vec<OfKey>,
    slots: Vec<u32>,
    values: Column,
    failure: Option<Error>,
    encoding: PhantomData<fn(T) -> E>,
}

#[derive(Default)]
struct OfKey {
    is_cleared: bool,
    /// How many items the host has, once that is known.
    host_len: Cell<Option<u64>>,
    /// Indexes of what this call appended.
    appended: Vec<u32>,
}

impl<T, E: Encoding<T>> List<T, E> {
    /// Appends an item. If it cannot be encoded, the call fails when its records are done.
    pub fn push(&mut self, item: T) {
        let end = self.values.bytes.len();
        if let Err(error) = E::encode(&item, &mut self.values.bytes) {
            self.values.bytes.truncate(end);
            self.failure.get_or_insert(error);
            return;
        }
        self.values.end_item();
        let index = u32::try_from(self.slots.len()).expect("a column stays below 4 Gi items");
        self.slots
            .push(u32::try_from(self.slot).expect("a slot came as a `u32`"));
        self.keys[self.slot].appended.push(index);
    }

    /// The items, the oldest first. Each is decoded when it is reached.
    pub fn iter(&self) -> Items<'_, T, E> {
        let next = match self.keys[self.slot].is_cleared {
            true => None,
            false => Some(0),
        };
        Items {
            list: self,
            page: Column::new(),
            at: 0,
            next,
            page_len: FIRST_PAGE,
            own: 0,
        }
    }

    /// All items, the oldest first.
    ///
    /// # Errors
    /// An item does not decode.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        self.iter().collect()
    }

    /// The number of items. The host counts them, so the cost grows with the length of the list; that of
    /// [`is_empty`](List::is_empty) does not.
    #[must_use]
    pub fn len(&self) -> u64 {
        let key = &self.keys[self.slot];
        let host = match key.is_cleared {
            true => 0,
            false => key.host_len.get().unwrap_or_else(|| self.ask_lengths()),
        };
        host + key.appended.len() as u64
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let key = &self.keys[self.slot];
        if key.is_cleared || !key.appended.is_empty() {
            return key.appended.is_empty();
        }
        if let Some(len) = key.host_len.get() {
            return len == 0;
        }
        let slot = u32::try_from(self.slot).expect("a slot came as a `u32`");
        reads::list_read(self.state, slot, 0, 1).values.is_empty()
    }

    /// Removes all items.
    pub fn clear(&mut self) {
        let key = &mut self.keys[self.slot];
        key.is_cleared = true;
        for index in key.appended.drain(..) {
            self.slots[index as usize] = CLEARED;
        }
    }

    /// Replaces all items with these.
    pub fn replace(&mut self, items: impl IntoIterator<Item = T>) {
        self.clear();
        for item in items {
            self.push(item);
        }
    }

    /// Asks for this list's length, and at the same time for those of the keys whose records come next.
    #[cold]
    fn ask_lengths(&self) -> u64 {
        let asked: Vec<u32> = (0_u32..)
            .zip(&self.keys)
            .skip(self.slot)
            .filter(|(_, key)| key.host_len.get().is_none())
            .map(|(slot, _)| slot)
            .take(LENGTHS)
            .collect();
        for (&slot, len) in asked.iter().zip(reads::list_len(self.state, &asked)) {
            self.keys[slot as usize].host_len.set(Some(len));
        }
        let own = self.keys[self.slot].host_len.get();
        own.expect("the host answers for each slot")
    }
}

/// The items of a [`List`].
pub struct Items<'a, T, E = Postcard> {
    list: &'a List<T, E>,
    /// What the host has handed over, and how many of it are done.
    page: Column,
    at: usize,
    /// From where on the host has more.
    next: Option<u64>,
    page_len: u32,
    /// How many of this call's own are done.
    own: usize,
}

impl<T, E: Encoding<T>> Iterator for Items<'_, T, E> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        while self.at == self.page.len() {
            let Some(start) = self.next else {
                let index = *self.list.keys[self.list.slot].appended.get(self.own)?;
                self.own += 1;
                return Some(E::decode(self.list.values.get(index as usize)));
            };
            let slot = u32::try_from(self.list.slot).expect("a slot came as a `u32`");
            let items = reads::list_read(self.list.state, slot, start, self.page_len);
            self.page_len = PAGE;
            (self.page, self.at, self.next) = (items.values, 0, items.next);
        }
        let item = E::decode(self.page.get(self.at));
        self.at += 1;
        Some(item.map_err(|error| error.within("an item of a list")))
    }
}

impl<'a, T, E: Encoding<T>> IntoIterator for &'a List<T, E> {
    type Item = Result<T>;
    type IntoIter = Items<'a, T, E>;

    fn into_iter(self) -> Items<'a, T, E> {
        self.iter()
    }
}

impl<T, E> Default for List<T, E> {
    fn default() -> Self {
        Self {
            state: 0,
            slot: 0,
            keys: Vec::new(),
            slots: Vec::new(),
            values: Column::new(),
            failure: None,
            encoding: PhantomData,
        }
    }
}

impl<T, E> fmt::Debug for List<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let appended = self.keys.get(self.slot).map(|key| key.appended.len());
        formatter
            .debug_struct("List")
            .field("appended", &appended)
            .finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for Items<'_, T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Items").finish_non_exhaustive()
    }
}

impl<T, E> sealed::Sealed for List<T, E> {}

impl<T, E: Encoding<T>> State for List<T, E> {
    const KIND: StateKind = StateKind::List;

    type Item = T;

    type Encoding = E;

    fn load(&mut self, _: &Declaration, call: &Call<'_>, index: usize) -> Result {
        self.state = u16::try_from(index).expect("an operator has fewer than 65536 states");
        self.keys.clear();
        self.keys.resize_with(call.keys.len(), OfKey::default);
        self.slots = Vec::new();
        self.values = Column::new();
        self.failure = None;
        Ok(())
    }

    #[inline]
    fn seek(&mut self, slot: u32) {
        self.slot = slot as usize;
    }

    fn store(&mut self, declaration: &Declaration, writes: &mut Writes, index: usize) -> Result {
        if let Some(error) = self.failure.take() {
            let name = declaration.name;
            return Err(error.within(format_args!("cannot encode an item of state `{name}`")));
        }
        let cleared: Vec<u32> = (0_u32..)
            .zip(&self.keys)
            .filter(|(_, key)| key.is_cleared)
            .map(|(slot, _)| slot)
            .collect();
        let (mut slots, mut values) = (mem::take(&mut self.slots), mem::take(&mut self.values));
        if slots.contains(&CLEARED) {
            let mut kept = Column::new();
            for (&slot, item) in slots.iter().zip(values.iter()) {
                if slot != CLEARED {
                    kept.push(item);
                }
            }
            values = kept;
            slots.retain(|&slot| slot != CLEARED);
        }
        if !cleared.is_empty() || !slots.is_empty() {
            writes.lists.push(ListWrites {
                state: u16::try_from(index).expect("an operator has fewer than 65536 states"),
                cleared,
                slots,
                values,
            });
        }
        Ok(())
    }
}
