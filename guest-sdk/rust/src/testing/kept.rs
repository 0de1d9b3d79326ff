//! What a task keeps: the states of all keys, with the time at which each value was written.
//!
//! Small numbers on purpose: answers have few items, so that a test meets more than one page.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;

use crate::Result;
use crate::columns::{Column, OptionalColumn, StateDeclaration, StateKind};
use crate::reads::native::{Range, Readable};
use crate::reads::{Entries, Items};

/// Items of one answer.
const PAGE_ITEMS: usize = 10;

/// The states of a task.
#[derive(Debug, Default)]
pub(super) struct States {
    pub(super) states: Vec<Kept>,
    /// The time, in milliseconds since the task began.
    pub(super) now_ms: u64,
    /// The keys of the current call.
    pub(super) keys: Column,
}

/// One state: for each key, what a host would keep as a map. A value has the sub-key of no bytes, an item of a list its
/// position.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    kind: StateKind,
    ttl_ms: Option<u64>,
    keys: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Written>>,
}

#[derive(Debug, PartialEq)]
struct Written {
    value: Vec<u8>,
    at_ms: u64,
}

impl Kept {
    /// The live entries of a key.
    fn live(&self, key: &[u8], now_ms: u64) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        let entries = self.keys.get(key).into_iter().flatten();
        let is_live = move |written: &Written| {
            let ttl_ms = self.ttl_ms;
            ttl_ms.is_none_or(|ttl_ms| now_ms < written.at_ms + ttl_ms)
        };
        entries
            .filter(move |(_, written)| is_live(written))
            .map(|(sub_key, written)| (sub_key.as_slice(), written.value.as_slice()))
    }

    fn get(&self, key: &[u8], sub_key: &[u8], now_ms: u64) -> Option<&[u8]> {
        let mut live = self.live(key, now_ms);
        let found = live.find(|(live, _)| *live == sub_key);
        found.map(|(_, value)| value)
    }

    fn set(&mut self, key: &[u8], sub_key: &[u8], value: Option<&[u8]>, at_ms: u64) {
        let entries = self.keys.entry(key.to_vec()).or_default();
        match value {
            Some(value) => {
                let value = value.to_vec();
                entries.insert(sub_key.to_vec(), Written { value, at_ms });
            }
            None => {
                entries.remove(sub_key);
            }
        }
        if entries.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Puts others in the place of all values, one for one.
    pub(super) fn rewrite(&mut self, rewrite: impl Fn(&Column) -> Result<Column>) -> Result {
        let mut written = self.keys.values_mut().flat_map(BTreeMap::values_mut);
        let mut values = Column::new();
        let mut places = Vec::new();
        for written in written.by_ref() {
            values.push(&written.value);
            places.push(&mut written.value);
        }
        let rewritten = rewrite(&values)?;
        assert_eq!(rewritten.len(), values.len(), "one value for each");
        for (place, value) in places.into_iter().zip(rewritten.iter()) {
            *place = value.to_vec();
        }
        Ok(())
    }
}

impl States {
    pub(super) fn new(declared: &[StateDeclaration]) -> Self {
        let state = |state: &StateDeclaration| Kept {
            kind: state.kind,
            ttl_ms: state.ttl_ms,
            keys: BTreeMap::new(),
        };
        Self {
            states: declared.iter().map(state).collect(),
            ..Self::default()
        }
    }

    pub(super) fn take(&mut self, state: usize) -> Kept {
        let Kept { kind, ttl_ms, .. } = self.states[state];
        let empty = Kept {
            kind,
            ttl_ms,
            keys: BTreeMap::new(),
        };
        mem::replace(&mut self.states[state], empty)
    }

    /// Takes over the values of a state, but not how long they live.
    pub(super) fn put(&mut self, state: usize, kept: Kept) {
        self.states[state].keys = kept.keys;
    }

    /// What comes with a call for these keys.
    pub(super) fn current_values(&self, keys: &Column) -> Vec<OptionalColumn> {
        let values_of = |state: &Kept| {
            let mut column = OptionalColumn::new();
            if state.kind == StateKind::Value {
                for key in keys.iter() {
                    column.push(state.get(key, &[], self.now_ms));
                }
            }
            column
        };
        self.states.iter().map(values_of).collect()
    }

    pub(super) fn value(&self, state: usize, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.states[state].get(key, &[], self.now_ms);
        value.map(<[u8]>::to_vec)
    }

    pub(super) fn items(&self, state: usize, key: &[u8]) -> Vec<Vec<u8>> {
        let live = self.states[state].live(key, self.now_ms);
        live.map(|(_, value)| value.to_vec()).collect()
    }

    pub(super) fn entries(&self, state: usize, key: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let live = self.states[state].live(key, self.now_ms);
        live.map(|(sub_key, value)| (sub_key.to_vec(), value.to_vec()))
            .collect()
    }

    pub(super) fn set_value(&mut self, state: usize, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.states[state].set(&key, &[], value.as_deref(), self.now_ms);
    }

    pub(super) fn set_entry(
        &mut self,
        state: usize,
        key: &[u8],
        sub_key: &[u8],
        value: Option<&[u8]>,
    ) {
        self.states[state].set(key, sub_key, value, self.now_ms);
    }

    pub(super) fn append(&mut self, state: usize, key: &[u8], item: &[u8]) {
        let kept = &mut self.states[state];
        let last = kept.keys.get(key).and_then(BTreeMap::last_key_value);
        let position = last.map_or(0, |(position, _)| position_of(position) + 1);
        kept.set(key, &position.to_be_bytes(), Some(item), self.now_ms);
    }

    pub(super) fn clear(&mut self, state: usize, key: &[u8]) {
        self.states[state].keys.remove(key);
    }

    fn readable(&self, state: u16, slot: u32, kind: StateKind) -> (&Kept, &[u8]) {
        let kept = self.states.get(usize::from(state));
        let kept = kept.unwrap_or_else(|| panic!("state {state} is read and not declared"));
        assert_eq!(kept.kind, kind, "a state is read as what it is");
        (kept, self.keys.get(slot as usize))
    }
}

impl Readable for RefCell<States> {
    fn map_get(&self, state: u16, slots: &[u32], sub_keys: &Column) -> OptionalColumn {
        assert_eq!(slots.len(), sub_keys.len(), "as many slots as sub-keys");
        let states = self.borrow();
        let mut values = OptionalColumn::new();
        for (&slot, sub_key) in slots.iter().zip(sub_keys.iter()).take(PAGE_ITEMS) {
            let (kept, key) = states.readable(state, slot, StateKind::Map);
            values.push(kept.get(key, sub_key, states.now_ms));
        }
        values
    }

    fn map_scan(&self, state: u16, slot: u32, range: Range<'_>, max: u32) -> Entries {
        let states = self.borrow();
        let (kept, key) = states.readable(state, slot, StateKind::Map);
        let end = match range.end {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        let is_before_end = |sub_key: &[u8]| match end {
            Bound::Excluded(end) => sub_key < end,
            _ => true,
        };
        let mut live: Vec<_> = kept
            .live(key, states.now_ms)
            .filter(|(sub_key, _)| *sub_key >= range.start && is_before_end(sub_key))
            .collect();
        if range.descending {
            live.reverse();
        }
        let len = PAGE_ITEMS.min(max.max(1) as usize);
        let (mut sub_keys, mut values) = (Column::new(), Column::new());
        for (sub_key, value) in live.iter().take(len) {
            sub_keys.push(sub_key);
            values.push(value);
        }
        Entries {
            sub_keys,
            values,
            more: live.len() > len,
        }
    }

    fn list_read(&self, state: u16, slot: u32, start: u64, max: u32) -> Items {
        let states = self.borrow();
        let (kept, key) = states.readable(state, slot, StateKind::List);
        let len = PAGE_ITEMS.min(max.max(1) as usize);
        let mut values = Column::new();
        for (position, item) in kept.live(key, states.now_ms) {
            let position = position_of(position);
            if position < start {
                continue;
            }
            if values.len() == len {
                let next = Some(position);
                return Items { values, next };
            }
            values.push(item);
        }
        Items { values, next: None }
    }

    fn list_len(&self, state: u16, slots: &[u32]) -> Vec<u64> {
        let states = self.borrow();
        let len = |&slot: &u32| {
            let (kept, key) = states.readable(state, slot, StateKind::List);
            kept.live(key, states.now_ms).count() as u64
        };
        slots.iter().map(len).collect()
    }
}

fn position_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("a position has eight bytes"))
}
