//! Reads of lists and maps from the host, in the middle of a call.
//!
//! `List` and `Map` do this for operators; a plugin that handles columns calls these itself. They are what `state` in `wit/` says.
//! Natively there is no host: `testing` lends what it keeps for the length of a call.

pub use crate::bindings::floodmark::engine::state::{Entries, Items};
#[cfg(target_family = "wasm")]
pub use crate::bindings::floodmark::engine::state::{list_len, list_read, map_get, map_scan};
#[cfg(not(target_family = "wasm"))]
pub use native::{list_len, list_read, map_get, map_scan};

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native {
    //! The same functions on what `testing` keeps.

    use std::cell::RefCell;
    use std::rc::Rc;

    use crate::bindings::floodmark::engine::state::{Entries, Items};
    use crate::columns::{Column, OptionalColumn};

    /// What can be read during a call.
    pub(crate) trait Readable {
        fn map_get(&self, state: u16, slots: &[u32], sub_keys: &Column) -> OptionalColumn;
        fn map_scan(&self, state: u16, slot: u32, range: Range<'_>, max: u32) -> Entries;
        fn list_read(&self, state: u16, slot: u32, start: u64, max: u32) -> Items;
        fn list_len(&self, state: u16, slots: &[u32]) -> Vec<u64>;
    }

    /// Which sub-keys are read, and from which end.
    pub(crate) struct Range<'a> {
        pub(crate) start: &'a [u8],
        pub(crate) end: Option<&'a [u8]>,
        pub(crate) descending: bool,
    }

    thread_local! {
        static LENT: RefCell<Option<Rc<dyn Readable>>> = const { RefCell::new(None) };
    }

    /// Makes `readable` what is read until this ends, by a panic too.
    pub(crate) fn lend<R>(readable: Rc<dyn Readable>, call: impl FnOnce() -> R) -> R {
        struct Returned;
        impl Drop for Returned {
            fn drop(&mut self) {
                LENT.take();
            }
        }
        LENT.replace(Some(readable));
        let _returned = Returned;
        call()
    }

    fn lent() -> Rc<dyn Readable> {
        let lent = LENT.with_borrow(Clone::clone);
        lent.expect("lists and maps can be read only within `process`")
    }

    /// The values of a map state for pairs of slot and sub-key; those that did not fit are missing at the end.
    ///
    /// # Panics
    /// Outside of `process`.
    #[must_use]
    pub fn map_get(state: u16, slots: &[u32], sub_keys: &Column) -> OptionalColumn {
        lent().map_get(state, slots, sub_keys)
    }

    /// Entries of one key of a map state, by sub-key.
    ///
    /// # Panics
    /// Outside of `process`.
    #[must_use]
    pub fn map_scan(
        state: u16,
        slot: u32,
        start: &[u8],
        end: Option<&[u8]>,
        descending: bool,
        max: u32,
    ) -> Entries {
        let range = Range {
            start,
            end,
            descending,
        };
        lent().map_scan(state, slot, range, max)
    }

    /// Items of one key of a list state, from a position on.
    ///
    /// # Panics
    /// Outside of `process`.
    #[must_use]
    pub fn list_read(state: u16, slot: u32, start: u64, max: u32) -> Items {
        lent().list_read(state, slot, start, max)
    }

    /// How many items the lists of some keys have.
    ///
    /// # Panics
    /// Outside of `process`.
    #[must_use]
    pub fn list_len(state: u16, slots: &[u32]) -> Vec<u64> {
        lent().list_len(state, slots)
    }
}
