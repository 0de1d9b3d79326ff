//! Lets a guest read lists and maps of its task during a call.
//!
//! The caller of a guest shares the state with it for the length of the call. Only a guest's own reads lock it, and no
//! other thread has it then, so they never wait. After the call, also after a crash, the caller alone has the state
//! again. Each request of a guest is checked here, before it reaches the state. Independent of how the state is stored.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::{Result, bail};

use super::bindings::floodmark::engine::state::{
    Column as WitColumn, Entries, Host, Items, OptionalColumn as WitValues,
};

use super::guest_state::GuestState;
use super::output::SUB_KEY_BYTES_MAX;
use floodmark_state::StateKind;
use floodmark_state::stream::{Column, OptionalColumn};

/// Largest number of items in one answer.
const PAGE_ITEMS_MAX: usize = 1 << 16;
/// Bytes after which an answer is full.
const PAGE_BYTES: usize = 1 << 20;

/// Lists and maps of the keys of one call. States are given by position, keys by slot; both are checked.
///
/// A failed read, such as of a damaged chunk, fails the whole call: `process` returns its reason.
pub trait StateAccess: Send + 'static {
    /// Appends the values of map entries to `values`, one for each pair of slot and sub-key, until the page is full.
    ///
    /// # Errors
    /// When the state cannot be read; the reason is for the user.
    fn map_get(
        &mut self,
        state: u16,
        slots: &[u32],
        sub_keys: &Column,
        page: PageLimits,
        values: &mut OptionalColumn,
    ) -> Result<(), String>;

    /// Entries of a map, until the page is full.
    ///
    /// # Errors
    /// As [`StateAccess::map_get`].
    fn map_scan(
        &mut self,
        state: u16,
        slot: u32,
        range: SubKeyRange<'_>,
        page: PageLimits,
    ) -> Result<MapPage, String>;

    /// Items of a list from a position on, until the page is full.
    ///
    /// # Errors
    /// As [`StateAccess::map_get`].
    fn list_read(
        &mut self,
        state: u16,
        slot: u32,
        start: u64,
        page: PageLimits,
    ) -> Result<ListPage, String>;

    /// The number of items of lists.
    ///
    /// # Errors
    /// As [`StateAccess::map_get`].
    fn list_len(&mut self, state: u16, slots: &[u32]) -> Result<Vec<u64>, String>;
}

/// Sub-keys from `start` up to but not including `end`.
#[derive(Debug, Clone, Copy)]
pub struct SubKeyRange<'a> {
    /// The lower bound, inclusive.
    pub start: &'a [u8],
    /// The upper bound, exclusive; `None` if there is none.
    pub end: Option<&'a [u8]>,
    /// Whether the order is descending.
    pub descending: bool,
}

/// Entries of a map, in the requested order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapPage {
    /// One sub-key per entry.
    pub sub_keys: Column,
    /// One value per entry.
    pub values: Column,
    /// Whether there are more entries in the range.
    pub more: bool,
}

/// Items of a list, in append order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListPage {
    /// One value per item.
    pub values: Column,
    /// The position to continue from; `None` at the end.
    pub next: Option<u64>,
}

/// Limits on one answer. The first item always fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimits {
    /// Largest number of items, at least 1.
    pub items: usize,
    /// Bytes after which it is full.
    pub bytes: usize,
}

impl PageLimits {
    /// A page of at most `items` items (0 counts as 1), which is full at `bytes` bytes.
    #[must_use]
    pub fn new(items: usize, bytes: usize) -> Self {
        Self {
            items: items.clamp(1, PAGE_ITEMS_MAX),
            bytes,
        }
    }

    /// Whether an answer of this size is full.
    #[must_use]
    pub fn is_full(self, items: usize, bytes: usize) -> bool {
        items >= self.items || (items > 0 && bytes >= self.bytes)
    }
}

/// The state of a call, lent to its guest.
pub(super) struct Lent {
    pub(super) access: Arc<Mutex<dyn StateAccess>>,
    /// Number of keys of the call.
    pub(super) keys: usize,
    /// The reason if a read failed.
    pub(super) failure: Option<String>,
}

impl Lent {
    fn access(&self) -> MutexGuard<'_, dyn StateAccess> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_slots(&self, slots: &[u32]) -> Result<()> {
        match slots.iter().max() {
            Some(&slot) if slot as usize >= self.keys => {
                bail!("it read slot {slot} of a call with {} keys", self.keys)
            }
            _ => Ok(()),
        }
    }

    /// Returns the answer; if the state could not be read, ends the call.
    fn answer<T>(&mut self, read: Result<T, String>) -> Result<T> {
        match read {
            Ok(answer) => Ok(answer),
            Err(reason) => {
                self.failure = Some(reason);
                bail!("the state cannot be read")
            }
        }
    }
}

impl GuestState {
    /// The state, if the guest may read this one as this kind now.
    fn lent(&mut self, state: u16, kind: StateKind) -> Result<&mut Lent> {
        let Some(lent) = &mut self.lent else {
            bail!("it read state {state} outside of `process`");
        };
        match self.kinds.get(usize::from(state)) {
            Some(declared) if *declared == kind => Ok(lent),
            Some(declared) => bail!(
                "it read state {state} as a {}, but declares it as a {}",
                word(kind),
                word(*declared)
            ),
            None => bail!(
                "it read state {state}, but the number of declared states is {}",
                self.kinds.len()
            ),
        }
    }
}

impl Host for GuestState {
    fn map_get(&mut self, state: u16, slots: Vec<u32>, sub_keys: WitColumn) -> Result<WitValues> {
        let lent = self.lent(state, StateKind::Map)?;
        lent.check_slots(&slots)?;
        let sub_keys = Column::from_parts(sub_keys.ends, sub_keys.bytes)?;
        if slots.len() != sub_keys.len() {
            bail!(
                "it read a map with {} slots, but {} sub-keys",
                slots.len(),
                sub_keys.len()
            );
        }
        for sub_key in sub_keys.iter() {
            check_sub_key(sub_key)?;
        }
        let page = PageLimits::new(PAGE_ITEMS_MAX, PAGE_BYTES);
        let mut values = OptionalColumn::new();
        let read = lent
            .access()
            .map_get(state, &slots, &sub_keys, page, &mut values);
        lent.answer(read)?;
        let (present, ends, bytes) = values.into_parts();
        Ok(WitValues {
            present,
            ends,
            bytes,
        })
    }

    fn map_scan(
        &mut self,
        state: u16,
        slot: u32,
        start: Vec<u8>,
        end: Option<Vec<u8>>,
        descending: bool,
        max: u32,
    ) -> Result<Entries> {
        let lent = self.lent(state, StateKind::Map)?;
        lent.check_slots(&[slot])?;
        // Continuing after the longest sub-key takes one byte more.
        let range = SubKeyRange {
            start: &start,
            end: end.as_deref(),
            descending,
        };
        let page = PageLimits::new(max as usize, PAGE_BYTES);
        let read = lent.access().map_scan(state, slot, range, page);
        let found = lent.answer(read)?;
        Ok(Entries {
            sub_keys: column(found.sub_keys),
            values: column(found.values),
            more: found.more,
        })
    }

    fn list_read(&mut self, state: u16, slot: u32, start: u64, max: u32) -> Result<Items> {
        let lent = self.lent(state, StateKind::List)?;
        lent.check_slots(&[slot])?;
        let page = PageLimits::new(max as usize, PAGE_BYTES);
        let read = lent.access().list_read(state, slot, start, page);
        let found = lent.answer(read)?;
        Ok(Items {
            values: column(found.values),
            next: found.next,
        })
    }

    fn list_len(&mut self, state: u16, slots: Vec<u32>) -> Result<Vec<u64>> {
        let lent = self.lent(state, StateKind::List)?;
        lent.check_slots(&slots)?;
        if slots.len() > PAGE_ITEMS_MAX {
            bail!(
                "it asked for the lengths of {} lists at once, but at most {PAGE_ITEMS_MAX} are allowed",
                slots.len()
            );
        }
        let read = lent.access().list_len(state, &slots);
        lent.answer(read)
    }
}

fn check_sub_key(sub_key: &[u8]) -> Result<()> {
    if sub_key.len() > SUB_KEY_BYTES_MAX {
        bail!(
            "it read a sub-key of {} bytes, but at most {SUB_KEY_BYTES_MAX} are allowed",
            sub_key.len()
        );
    }
    Ok(())
}

fn column(column: Column) -> WitColumn {
    let (ends, bytes) = column.into_parts();
    WitColumn { ends, bytes }
}

/// The name of a kind of state, for messages.
pub(super) fn word(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Value => "value",
        StateKind::List => "list",
        StateKind::Map => "map",
    }
}
