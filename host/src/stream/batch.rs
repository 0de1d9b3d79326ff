//! A batch of records, column by column.
//!
//! Keys stand beside the records and are named by index, so that state is read and written once a key, not once a
//! record. Whether each key stands only once is up to who made the batch: the partitioner promises it to operators with
//! state, sources and plugins need not.

use std::ops::Range;

use super::{Column, Origin};

/// Milliseconds since 1970-01-01T00:00:00Z in event time, or [`NO_TIMESTAMP`].
pub type Timestamp = i64;

/// The timestamp of a record that has none.
pub const NO_TIMESTAMP: Timestamp = i64::MIN;

/// Records in arrival order.
///
/// - `slots`, `values` and `timestamps` have the same length, the number of records.
/// - Each slot is an index of `keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The keys that records point at.
    pub keys: Column,
    /// For each record the index of its key.
    pub slots: Vec<u32>,
    /// For each record its value.
    pub values: Column,
    /// For each record its event time.
    pub timestamps: Vec<Timestamp>,
    /// Where the records were read.
    pub origin: Origin,
}

impl Batch {
    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.keys.bytes().len() + self.values.bytes().len()
    }

    /// Adds a record with a key of its own slot. The empty key is shared with the record before, if that has it too.
    ///
    /// # Panics
    /// When the batch would pass 2³² keys.
    #[inline]
    pub fn push(&mut self, key: &[u8], value: &[u8], timestamp: Timestamp) {
        let shares = key.is_empty()
            && self
                .slots
                .last()
                .is_some_and(|&slot| self.keys.get(slot as usize).is_empty());
        if !shares {
            self.keys.push(key);
        }
        let slot = u32::try_from(self.keys.len() - 1).expect("a batch stays below 4 Gi keys");
        self.slots.push(slot);
        self.values.push(value);
        self.timestamps.push(timestamp);
    }

    /// The records in order: key, value, event time.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8], Timestamp)> {
        (0..self.len()).map(|record| {
            (
                self.keys.get(self.slots[record] as usize),
                self.values.get(record),
                self.timestamps[record],
            )
        })
    }

    /// Removes all records and keeps the room.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.slots.clear();
        self.values.clear();
        self.timestamps.clear();
        self.origin = Origin::default();
    }

    /// Some of the records, with only their keys, each once for each slot. `key_of` hears of each slot that is taken, in the
    /// order in which they get their new numbers.
    ///
    /// # Panics
    /// When there are no such records.
    #[must_use]
    pub fn part(&self, records: Range<usize>, mut key_of: impl FnMut(u32)) -> Self {
        let mut renamed = vec![u32::MAX; self.keys.len()];
        let mut keys = Column::new();
        let slots = self.slots[records.clone()].iter().map(|&slot| {
            let name = &mut renamed[slot as usize];
            if *name == u32::MAX {
                *name = keys.len() as u32;
                keys.push(self.keys.get(slot as usize));
                key_of(slot);
            }
            *name
        });
        let slots = slots.collect();
        Self {
            keys,
            slots,
            values: self.values.part(records.clone()),
            timestamps: self.timestamps[records.clone()].to_vec(),
            origin: self.origin.from_record(records.start),
        }
    }
}
