//! A batch of records, stored by column.
//!
//! Keys are stored beside the records and referenced by index, so that state is read and written once per key, not once
//! per record. Whether keys are unique depends on the producer of the batch: the partitioner guarantees it for
//! operators with state; sources and plugins need not.

use std::ops::Range;

use super::{Column, Origin};

/// Milliseconds since 1970-01-01T00:00:00Z in event time, or [`NO_TIMESTAMP`].
pub type Timestamp = i64;

/// The timestamp of a record without event time.
pub const NO_TIMESTAMP: Timestamp = i64::MIN;

/// Records in arrival order.
///
/// - `slots`, `values` and `timestamps` have the same length, the number of records.
/// - Each slot is an index of `keys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The keys that records refer to.
    pub keys: Column,
    /// The index of the key of each record.
    pub slots: Vec<u32>,
    /// The value of each record.
    pub values: Column,
    /// The event time of each record.
    pub timestamps: Vec<Timestamp>,
    /// The place where the records were read.
    pub origin: Origin,
    /// Whether [`Batch::push`] leaves values empty, since no task reads them.
    pub skips_values: bool,
}

/// The size of a batch: records, keys, bytes of keys, bytes of values.
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    records: usize,
    keys: usize,
    key_bytes: usize,
    value_bytes: usize,
}

/// Short items are written eight bytes at a time, including the last one.
const SLACK_BYTES: usize = 16;

impl Batch {
    /// An empty batch that can grow to this size without reallocating.
    #[must_use]
    pub fn with_room(room: Room) -> Self {
        if room.records == 0 {
            return Self::default();
        }
        Self {
            keys: Column::with_capacity(room.keys, room.key_bytes + SLACK_BYTES),
            slots: Vec::with_capacity(room.records),
            values: Column::with_capacity(room.records, room.value_bytes + SLACK_BYTES),
            timestamps: Vec::with_capacity(room.records),
            ..Self::default()
        }
    }

    /// The size of this batch.
    #[must_use]
    pub fn room(&self) -> Room {
        Room {
            records: self.len(),
            keys: self.keys.len(),
            key_bytes: self.keys.bytes().len(),
            value_bytes: self.values.bytes().len(),
        }
    }

    /// Number of records.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no record.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of keys and values.
    #[must_use]
    #[inline]
    pub fn bytes_len(&self) -> usize {
        self.keys.bytes().len() + self.values.bytes().len()
    }

    /// Adds a record with a key slot of its own, and an empty value if values are skipped. An empty key is shared with
    /// the record before, if that is also empty.
    ///
    /// # Panics
    /// When the batch would exceed 2³² keys.
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
        self.values
            .push(if self.skips_values { b"" } else { value });
        self.timestamps.push(timestamp);
    }

    /// The records in order: key, value, event time.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8], Timestamp)> {
        (0..self.len()).map(|record| {
            (
                self.keys.get(self.slots[record] as usize),
                self.values.get(record),
                self.timestamps[record],
            )
        })
    }

    /// Removes all records and keeps the capacity.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.slots.clear();
        self.values.clear();
        self.timestamps.clear();
        self.origin = Origin::default();
    }

    /// Copies some of the records, each with a key of its own unless the one before has the same slot.
    ///
    /// # Panics
    /// When the range is out of bounds.
    #[must_use]
    pub fn cut(&self, records: Range<usize>) -> Self {
        let count = records.len();
        let mut keys = Column::with_capacity(count, 0);
        let mut last = None;
        let slots = self.slots[records.clone()].iter().map(|&slot| {
            if last.replace(slot) != Some(slot) {
                keys.push(self.keys.get(slot as usize));
            }
            keys.len() as u32 - 1
        });
        let slots = slots.collect();
        Self {
            keys,
            slots,
            values: self.values.part(records.clone()),
            timestamps: self.timestamps[records.clone()].to_vec(),
            origin: self.origin.from_record(records.start),
            skips_values: self.skips_values,
        }
    }

    /// Copies some of the records, with only their keys, one for each slot. `key_of` is called with each slot, in the
    /// order of their new numbers.
    ///
    /// # Panics
    /// When the range is out of bounds.
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
            skips_values: self.skips_values,
        }
    }
}
