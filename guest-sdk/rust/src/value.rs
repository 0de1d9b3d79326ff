//! One value per key.
//!
//! All values of a call are decoded before its first record and the changed ones encoded after its last, so each key
//! costs one of each however many records it has, and no access can fail. A state that is only written pays for
//! decoding too.

use std::fmt;
use std::marker::PhantomData;

use crate::columns::{OptionalColumn, Selection, StateKind, ValueWrites, end_of};
use crate::encoding::{Encoding, Postcard};
use crate::error::Readable;
use crate::states::{Call, Declaration, State, Writes, sealed};
use crate::{Error, Result};

/// A state that keeps one `T` for each key.
///
/// It is always the value for the key of the record that is being processed: there is no way to name another key. `E`
/// is how values are written: [`Postcard`] unless said otherwise.
///
/// - `cells` has one cell for each key of the call.
/// - `slot` is the key of the current record; outside of `process` it means nothing.
pub struct Value<T, E = Postcard> {
    cells: Vec<Cell<T>>,
    slot: usize,
    encoding: PhantomData<fn() -> E>,
}

struct Cell<T> {
    value: Option<T>,
    is_changed: bool,
}

impl<T, E> Value<T, E> {
    /// The value, if there is one.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.cells[self.slot].value.as_ref()
    }

    /// The value to change in place, if there is one. It counts as changed from here on.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        let cell = &mut self.cells[self.slot];
        cell.is_changed |= cell.value.is_some();
        cell.value.as_mut()
    }

    /// The value to change in place; the default is set first if there is none. It counts as changed from here on.
    #[inline]
    pub fn or_default(&mut self) -> &mut T
    where
        T: Default,
    {
        self.or_insert_with(T::default)
    }

    /// The value to change in place; the result of `first` is set first if there is none. It counts as changed from
    /// here on.
    #[inline]
    pub fn or_insert_with(&mut self, first: impl FnOnce() -> T) -> &mut T {
        let cell = self.changing();
        cell.value.get_or_insert_with(first)
    }

    /// Sets the value.
    #[inline]
    pub fn set(&mut self, value: T) {
        self.changing().value = Some(value);
    }

    /// Removes the value; the host forgets the key in this state.
    #[inline]
    pub fn clear(&mut self) {
        self.take();
    }

    /// Removes the value and returns it.
    #[inline]
    pub fn take(&mut self) -> Option<T> {
        let cell = &mut self.cells[self.slot];
        cell.is_changed |= cell.value.is_some();
        cell.value.take()
    }

    #[inline]
    fn changing(&mut self) -> &mut Cell<T> {
        let cell = &mut self.cells[self.slot];
        cell.is_changed = true;
        cell
    }
}

impl<T, E> Default for Value<T, E> {
    fn default() -> Self {
        Self {
            cells: Vec::new(),
            slot: 0,
            encoding: PhantomData,
        }
    }
}

impl<T: fmt::Debug, E> fmt::Debug for Value<T, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.cells.get(self.slot);
        formatter
            .debug_tuple("Value")
            .field(&current.and_then(|cell| cell.value.as_ref()))
            .finish()
    }
}

impl<T, E> sealed::Sealed for Value<T, E> {}

impl<T, E: Encoding<T>> State for Value<T, E> {
    const KIND: StateKind = StateKind::Value;

    type Item = T;

    type Encoding = E;

    fn load(&mut self, declaration: &Declaration, call: &Call<'_>, index: usize) -> Result {
        let current = &call.current[index];
        assert_eq!(
            current.len(),
            call.keys.len(),
            "the host hands over one value of `{}` for each key",
            declaration.name
        );
        self.cells.clear();
        self.cells.reserve(current.len());
        for (slot, bytes) in current.iter().enumerate() {
            let value = bytes
                .map(E::decode)
                .transpose()
                .map_err(|error| undecodable(error, declaration, call.keys.get(slot)))?;
            self.cells.push(Cell {
                value,
                is_changed: false,
            });
        }
        Ok(())
    }

    #[inline]
    fn seek(&mut self, slot: u32) {
        self.slot = slot as usize;
    }

    fn store(&mut self, declaration: &Declaration, writes: &mut Writes, index: usize) -> Result {
        // As long as no cell is left out there is nothing to list.
        let mut listed: Option<Vec<u32>> = None;
        let mut absent = Vec::new();
        let mut ends = Vec::with_capacity(self.cells.len());
        let mut bytes = Vec::with_capacity(self.cells.len() * size_of::<T>().min(64));
        for (slot, cell) in (0_u32..).zip(&self.cells) {
            if !cell.is_changed {
                listed.get_or_insert_with(|| (0..slot).collect());
                continue;
            }
            match &cell.value {
                Some(value) => E::encode(value, &mut bytes).map_err(|error| {
                    error.within(format_args!("cannot encode state `{}`", declaration.name))
                })?,
                None => absent.push(ends.len()),
            }
            if let Some(slots) = &mut listed {
                slots.push(slot);
            }
            ends.push(end_of(&bytes));
        }
        if ends.is_empty() {
            return Ok(());
        }
        let values = OptionalColumn {
            present: presence(ends.len(), &absent),
            ends,
            bytes,
        };
        writes.values.push(ValueWrites {
            state: u16::try_from(index).expect("an operator has fewer than 65536 states"),
            slots: listed.map_or(Selection::All, Selection::Listed),
            values,
        });
        Ok(())
    }
}

/// One bit for each of `len` items, lowest first: set but for the absent ones.
fn presence(len: usize, absent: &[usize]) -> Vec<u8> {
    let mut present = vec![u8::MAX; len.div_ceil(8)];
    if let Some(last) = present.last_mut() {
        *last >>= (8 - len % 8) % 8;
    }
    for index in absent {
        present[index / 8] &= !(1 << (index % 8));
    }
    present
}

#[cold]
pub(crate) fn undecodable(error: Error, declaration: &Declaration, key: &[u8]) -> Error {
    Error::new(format!(
        "state `{}` of key `{}` does not decode as version {} of its type: {error}; run the plugin that wrote it, raise \
         `version` and say how to `migrate`, or keep this state as it was and add another one for the new type",
        declaration.name,
        Readable(key),
        declaration.version,
    ))
}

#[cfg(test)]
mod tests {
    //! Catches bits behind the last value, and a cleared value that is taken for an empty one.

    use super::*;

    #[test]
    fn presence_is_what_pushing_makes() {
        for len in 0..40 {
            let absent: Vec<usize> = (0..len).filter(|index| index % 3 == 1).collect();
            let mut column = OptionalColumn::new();
            for index in 0..len {
                column.push((!absent.contains(&index)).then_some(b"x"));
            }
            assert_eq!(presence(len, &absent), column.present);
        }
    }
}
