//! The contract's own shape: whole batches, column by column.
//!
//! An operator that processes records does not need this module. A [`Plugin`] handles the whole batch itself: it
//! decides what to copy, and must follow the rules in `wit/`, which nothing here checks. `record_by_record` is one.
//!
//! What a plugin returns is the output of the interface `operator-compact`, which names keys, slots and times of the
//! input instead of copying them. A host that does not know this interface calls the one of `operator`, for which
//! [`export_plugin!`](crate::export_plugin) spells the same output out.

pub use crate::bindings::exports::floodmark::engine::input_columns::UnreadColumns;
pub use crate::bindings::exports::floodmark::engine::operator::{
    Description, ListWrites, MapWrites, Rejection, StateDeclaration, StateKind,
};
pub use crate::bindings::exports::floodmark::engine::operator_compact::{
    Emission, EmittedKeys, EmittedTimes, Output, Selection, ValueWrites,
};
pub use crate::bindings::exports::floodmark::engine::state_values::Part;
pub use crate::bindings::floodmark::engine::types::{Batch, Column, OptionalColumn, Timestamp};
use crate::{Config, Error, Port, Result, short};

/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: Timestamp = Timestamp::MIN;

/// A plugin at the level of the contract. [`export_plugin!`](crate::export_plugin) makes a component of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a plugin",
    label = "not a `floodmark_sdk::columns::Plugin`",
    note = "an operator that handles one record after the other implements `Operator` and is exported by `export!`"
)]
pub trait Plugin: Sized + 'static {
    /// Describes the plugin; always the same, for any configuration.
    fn describe() -> Description;

    /// The columns of its input that it does not read; always the same, for any configuration. A host need not pass
    /// them: they may have no items.
    #[must_use]
    fn unread() -> Vec<UnreadColumns> {
        Vec::new()
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// The configuration is wrong; there is no instance.
    fn open(config: &Config) -> Result<Self>;

    /// Handles the records of one input port, with the current values of each declared state.
    ///
    /// # Errors
    /// The batch cannot be handled; the host applies nothing of the call, and tries again with fewer of its records. To
    /// refuse single records, name them in [`Output::rejections`].
    fn process(
        &mut self,
        input: Port,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Output>;

    /// Rewrites values of an older version of a state, one for one; asked without values before a job starts.
    ///
    /// # Errors
    /// This plugin does not migrate that version, which is the default.
    fn migrate(state: u16, from_version: u32, values: &Column) -> Result<Column> {
        let _ = values;
        Err(Error::new(format!(
            "this plugin takes over no other version of its states, so not version {from_version} of state {state}"
        )))
    }

    /// Values or sub-keys of a state as JSON texts, one for one, for tools.
    ///
    /// # Errors
    /// The bytes are not values, or this plugin does not support JSON, which is the default.
    fn to_json(state: u16, part: Part, values: &Column) -> Result<Column> {
        let _ = (state, part, values);
        Err(Error::new("this plugin does not turn its states into JSON"))
    }

    /// The inverse.
    ///
    /// # Errors
    /// As [`Plugin::to_json`].
    fn from_json(state: u16, part: Part, texts: &Column) -> Result<Column> {
        let _ = (state, part, texts);
        Err(Error::new("this plugin does not make states of JSON"))
    }

    /// Called when a checkpoint is durable. Best effort: this one also covers all below it.
    fn checkpoint_completed(&mut self, checkpoint: u64) {
        let _ = checkpoint;
    }

    /// Called when a checkpoint was aborted.
    fn checkpoint_aborted(&mut self, checkpoint: u64) {
        let _ = checkpoint;
    }
}

impl Output {
    /// Nothing emitted and nothing written.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            emissions: Vec::new(),
            values: Vec::new(),
            lists: Vec::new(),
            maps: Vec::new(),
            rejections: Vec::new(),
        }
    }
}

impl Default for Output {
    fn default() -> Self {
        Self::new()
    }
}

impl Selection {
    /// The places selected, of `len` records or slots of the call.
    pub fn places(&self, len: usize) -> impl ExactSizeIterator<Item = usize> {
        let selected = match self {
            Self::All => len,
            Self::Listed(places) => places.len(),
        };
        (0..selected).map(move |at| match self {
            Self::All => at,
            Self::Listed(places) => places[at] as usize,
        })
    }
}

impl Column {
    /// A column without items.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ends: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Item `index`.
    ///
    /// # Panics
    /// When there is no such item.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[start_of(&self.ends, index)..self.ends[index] as usize]
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let item = &self.bytes[start..end as usize];
            start = end as usize;
            item
        })
    }

    /// Adds an item.
    ///
    /// # Panics
    /// When the column would pass 4 GiB, which is more than a guest's memory.
    #[inline]
    pub fn push(&mut self, item: &[u8]) {
        short::append(&mut self.bytes, item);
        self.end_item();
    }

    /// Ends an item that was appended to `bytes`.
    #[inline]
    pub(crate) fn end_item(&mut self) {
        self.ends.push(end_of(&self.bytes));
    }
}

impl Default for Column {
    fn default() -> Self {
        Self::new()
    }
}

impl OptionalColumn {
    /// A column without items.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            present: Vec::new(),
            ends: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Number of items, absent ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no item at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Item `index`, if it is there.
    ///
    /// # Panics
    /// When the column is shorter.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let is_present = self.present[index / 8] & (1 << (index % 8)) != 0;
        is_present.then(|| &self.bytes[start_of(&self.ends, index)..self.ends[index] as usize])
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        let mut start = 0;
        self.ends.iter().enumerate().map(move |(index, &end)| {
            let item = &self.bytes[start..end as usize];
            start = end as usize;
            let is_present = self.present[index / 8] & (1 << (index % 8)) != 0;
            is_present.then_some(item)
        })
    }

    /// Adds an item.
    ///
    /// # Panics
    /// When the column would pass 4 GiB, which is more than a guest's memory.
    #[inline]
    pub fn push(&mut self, item: Option<&[u8]>) {
        let index = self.ends.len();
        if index.is_multiple_of(8) {
            self.present.push(0);
        }
        self.present[index / 8] |= u8::from(item.is_some()) << (index % 8);
        short::append(&mut self.bytes, item.unwrap_or_default());
        self.ends.push(end_of(&self.bytes));
    }
}

impl Default for OptionalColumn {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
fn start_of(ends: &[u32], index: usize) -> usize {
    match index.checked_sub(1) {
        Some(before) => ends[before] as usize,
        None => 0,
    }
}

#[inline]
pub(crate) fn end_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a column stays below 4 GiB")
}

#[cfg(test)]
mod tests {
    //! Catches items that run into each other, and gaps that read as empty items.

    use super::*;

    #[test]
    fn items_come_back_as_they_went_in() {
        let items = [b"ab".as_slice(), b"", b"c"];
        let mut column = Column::new();
        for item in items {
            column.push(item);
        }
        assert_eq!(column.iter().collect::<Vec<_>>(), items);
    }

    #[test]
    fn a_gap_is_not_an_empty_item() {
        let items: Vec<Option<&[u8]>> = (0..19)
            .map(|index| match index % 3 {
                0 => None,
                1 => Some(b"".as_slice()),
                _ => Some(b"xy".as_slice()),
            })
            .collect();
        let mut column = OptionalColumn::new();
        for item in &items {
            column.push(*item);
        }
        assert_eq!(column.iter().collect::<Vec<_>>(), items);
        assert_eq!(column.present.len(), 3);
    }
}
