//! Batches with a dictionary of their keys, and how they are made.
//!
//! State is read and written once per key and batch, so a batch for an operator with state carries a dictionary of its
//! keys. [`Dictionary::keyed`] makes one for a batch that stays on its worker, without moving values; [`Partitioner`]
//! distributes records to the tasks that own their keys.

use std::ops::Range;

use super::sizes::{BATCH_LIMITS, CALL_RECORDS_MAX};
use floodmark_state::stream::batch::Room;
use floodmark_state::stream::{
    Batch, Column, KeyGroup, MaxParallelism, TaskIndex, Timestamp, hash_key, short,
};

/// A batch with a dictionary.
///
/// - `batch.keys` has each key once.
/// - `hashes` has [`hash_key`] of each key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyedBatch {
    /// The records.
    pub batch: Batch,
    /// The hash of each key.
    pub hashes: Vec<u64>,
}

/// Finds keys that a batch already has. Reused for many batches; a generation number marks entries of earlier ones as
/// stale.
#[derive(Debug, Default)]
pub struct Dictionary {
    table: Vec<KeySlot>,
    generation: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct KeySlot {
    generation: u32,
    slot: u32,
}

impl KeyedBatch {
    /// A batch for a task that does not look keys up.
    #[must_use]
    pub fn without_dictionary(batch: Batch) -> Self {
        let hashes = Vec::new();
        Self { batch, hashes }
    }

    /// A part of the records, with a dictionary of its own. Nothing is hashed again.
    ///
    /// # Panics
    /// When the range is out of bounds.
    #[must_use]
    pub fn part(&self, records: Range<usize>) -> Self {
        debug_assert!(
            self.hashes.is_empty() || self.hashes.len() == self.batch.keys.len(),
            "each key has its hash"
        );
        let mut hashes = Vec::new();
        // A batch for an operator without state has no hashes.
        let batch = self.batch.part(records, |slot| {
            hashes.extend(self.hashes.get(slot as usize));
        });
        Self { batch, hashes }
    }
}

impl Dictionary {
    fn begin(&mut self, keys_max: usize) {
        let wanted = (keys_max * 2).next_power_of_two().max(64);
        if self.table.len() < wanted || self.generation == u32::MAX {
            self.table.clear();
            self.table.resize(wanted, KeySlot::default());
            self.generation = 0;
        }
        self.generation += 1;
    }

    /// The slot of a key among `keys`, or `Err` with the place to add it.
    // As a call it costs words 2 % of their time.
    #[inline(always)]
    fn find(&self, keys: &Column, hashes: &[u64], key: &[u8], hash: u64) -> Result<u32, usize> {
        let mask = self.table.len() - 1;
        // The low bits decide the key group, so within a task they vary little.
        let mut place = (hash >> 20) as usize & mask;
        loop {
            let entry = self.table[place];
            if entry.generation != self.generation {
                return Err(place);
            }
            if hashes[entry.slot as usize] == hash
                && short::same(keys.get(entry.slot as usize), key)
            {
                return Ok(entry.slot);
            }
            place = (place + 1) & mask;
        }
    }

    #[inline]
    fn note(&mut self, place: usize, slot: u32) {
        self.table[place] = KeySlot {
            generation: self.generation,
            slot,
        };
    }

    /// Adds a dictionary to a batch. Values stay where they are, and so do keys if there are no duplicates.
    #[must_use]
    pub fn keyed(&mut self, batch: Batch) -> KeyedBatch {
        self.begin(batch.keys.len());
        let mut hashes = Vec::with_capacity(batch.keys.len());
        for (slot, key) in batch.keys.iter().enumerate() {
            let hash = hash_key(key);
            match self.find(&batch.keys, &hashes, key, hash) {
                Ok(_) => break,
                Err(place) => self.note(place, slot as u32),
            }
            hashes.push(hash);
        }
        if hashes.len() < batch.keys.len() {
            return self.keyed_with_duplicates(batch, hashes);
        }
        KeyedBatch { batch, hashes }
    }

    /// Cuts records out of a batch and adds a dictionary, in one pass.
    ///
    /// # Panics
    /// When the range is out of bounds.
    #[must_use]
    pub fn keyed_part(&mut self, batch: &Batch, records: Range<usize>) -> KeyedBatch {
        let count = records.len();
        self.begin(count);
        let mut keys = Column::with_capacity(count, 16 * count);
        let mut hashes = Vec::with_capacity(count);
        let slots = batch.slots[records.clone()].iter().map(|&slot| {
            let key = batch.keys.get(slot as usize);
            let hash = hash_key(key);
            match self.find(&keys, &hashes, key, hash) {
                Ok(known) => known,
                Err(place) => {
                    let new = hashes.len() as u32;
                    self.note(place, new);
                    keys.push_from(&batch.keys, slot as usize);
                    hashes.push(hash);
                    new
                }
            }
        });
        let slots = slots.collect();
        let batch = Batch {
            keys,
            slots,
            values: batch.values.part(records.clone()),
            timestamps: batch.timestamps[records.clone()].to_vec(),
            origin: batch.origin.from_record(records.start),
            skips_values: batch.skips_values,
        };
        KeyedBatch { batch, hashes }
    }

    /// The rest of [`Dictionary::keyed`]: the first keys, one for each hash, are known to be different.
    fn keyed_with_duplicates(&mut self, mut batch: Batch, mut hashes: Vec<u64>) -> KeyedBatch {
        let distinct = hashes.len();
        let mut keys = Column::with_capacity(batch.keys.len(), batch.keys.bytes().len());
        let mut renamed = Vec::with_capacity(batch.keys.len());
        for (slot, key) in batch.keys.iter().enumerate() {
            if slot < distinct {
                keys.push(key);
                renamed.push(slot as u32);
                continue;
            }
            let hash = hash_key(key);
            let name = match self.find(&keys, &hashes, key, hash) {
                Ok(known) => known,
                Err(place) => {
                    let new = keys.len() as u32;
                    self.note(place, new);
                    keys.push(key);
                    hashes.push(hash);
                    new
                }
            };
            renamed.push(name);
        }
        batch
            .slots
            .iter_mut()
            .for_each(|slot| *slot = renamed[*slot as usize]);
        batch.keys = keys;
        KeyedBatch { batch, hashes }
    }
}

/// Distributes records to the tasks that own their keys, with a dictionary each.
#[derive(Debug)]
pub struct Partitioner {
    max_parallelism: MaxParallelism,
    /// The owning task, by key group.
    owners: Vec<TaskIndex>,
    /// By task.
    targets: Vec<Target>,
    hashes: Vec<u64>,
}

#[derive(Debug, Default)]
struct Target {
    keyed: KeyedBatch,
    dictionary: Dictionary,
    /// The size of the last full batch, reserved at once for the next one.
    room: Room,
}

impl Target {
    #[inline]
    fn push(&mut self, key: &[u8], hash: u64, value: &[u8], timestamp: Timestamp) {
        let Self {
            keyed: KeyedBatch { batch, hashes },
            dictionary,
            room,
        } = self;
        if batch.is_empty() {
            dictionary.begin(CALL_RECORDS_MAX);
            *batch = Batch::with_room(*room);
            hashes.reserve(batch.keys.capacity());
        }
        let slot = match dictionary.find(&batch.keys, hashes, key, hash) {
            Ok(slot) => slot,
            Err(place) => {
                let slot = batch.keys.len() as u32;
                dictionary.note(place, slot);
                batch.keys.push(key);
                hashes.push(hash);
                slot
            }
        };
        batch.slots.push(slot);
        batch.values.push(value);
        batch.timestamps.push(timestamp);
    }

    fn is_full(&self) -> bool {
        BATCH_LIMITS.are_reached(&self.keyed.batch)
    }
}

impl Partitioner {
    /// A partitioner for this many tasks.
    #[must_use]
    pub fn new(max_parallelism: MaxParallelism, tasks: u16) -> Self {
        let groups = (0..max_parallelism.get()).map(KeyGroup);
        Self {
            max_parallelism,
            owners: groups
                .map(|group| max_parallelism.owner(group, tasks))
                .collect(),
            targets: (0..tasks).map(|_| Target::default()).collect(),
            hashes: Vec::new(),
        }
    }

    /// Takes a batch; passes full batches to `send`, each with its task.
    pub fn push(&mut self, batch: &Batch, mut send: impl FnMut(TaskIndex, KeyedBatch)) {
        self.hashes.clear();
        self.hashes.extend(batch.keys.iter().map(hash_key));
        for (record, &slot) in batch.slots.iter().enumerate() {
            let hash = self.hashes[slot as usize];
            let group = self.max_parallelism.group_of(hash);
            let task = self.owners[usize::from(group.0)];
            let target = &mut self.targets[usize::from(task.0)];
            target.push(
                batch.keys.get(slot as usize),
                hash,
                batch.values.get(record),
                batch.timestamps[record],
            );
            if target.is_full() {
                target.keyed.batch.origin.join(&batch.origin);
                target.room = target.keyed.batch.room();
                send(task, std::mem::take(&mut target.keyed));
            }
        }
        for target in &mut self.targets {
            if !target.keyed.batch.is_empty() {
                target.keyed.batch.origin.join(&batch.origin);
            }
        }
    }

    /// Sends all buffered records.
    pub fn flush(&mut self, mut send: impl FnMut(TaskIndex, KeyedBatch)) {
        for (task, target) in (0..).map(TaskIndex).zip(&mut self.targets) {
            if !target.keyed.batch.is_empty() {
                send(task, std::mem::take(&mut target.keyed));
            }
        }
    }

    /// Whether records are buffered.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        self.targets
            .iter()
            .any(|target| !target.keyed.batch.is_empty())
    }
}

#[cfg(test)]
mod tests {
    //! Catches records whose key or order changes on the way to a dictionary, and duplicate keys.

    use super::*;

    fn batch(keys: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for (number, key) in keys.iter().enumerate() {
            batch.push(key.as_bytes(), number.to_string().as_bytes(), number as i64);
        }
        batch
    }

    fn rows(batch: &Batch) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
        batch
            .iter()
            .map(|(key, value, time)| (key.to_vec(), value.to_vec(), time))
            .collect()
    }

    fn assert_keyed(keyed: &KeyedBatch) {
        let mut seen: Vec<_> = keyed.batch.keys.iter().collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), keyed.batch.keys.len(), "a key appears twice");
        assert!(
            keyed
                .batch
                .keys
                .iter()
                .map(hash_key)
                .eq(keyed.hashes.iter().copied())
        );
    }

    #[test]
    fn a_dictionary_keeps_records() {
        let mut dictionary = Dictionary::default();
        for keys in [
            &["a", "b", "c"][..],
            &["a", "b", "a", "c", "b", "", ""],
            &[],
            &["x", "x", "x"],
        ] {
            let before = batch(keys);
            let keyed = dictionary.keyed(before.clone());
            assert_keyed(&keyed);
            assert_eq!(rows(&keyed.batch), rows(&before));
        }
    }

    #[test]
    fn partitions_keep_the_order_of_each_key() {
        let max = MaxParallelism::DEFAULT;
        let names: Vec<_> = (0..20_000)
            .map(|number| (number * 7919 % 997).to_string())
            .collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let before = batch(&names);
        let mut partitioner = Partitioner::new(max, 3);
        let mut out = vec![Vec::new(); 3];
        let mut take = |task: TaskIndex, keyed: KeyedBatch| {
            assert_keyed(&keyed);
            for key in keyed.batch.keys.iter() {
                assert_eq!(max.owner(max.group_of(hash_key(key)), 3), task);
            }
            out[usize::from(task.0)].extend(rows(&keyed.batch));
        };
        partitioner.push(&before, &mut take);
        assert!(partitioner.holds_any());
        partitioner.flush(&mut take);
        assert!(!partitioner.holds_any());
        let mut all: Vec<_> = out.into_iter().flatten().collect();
        all.sort_by(|left, right| (&left.0, left.2).cmp(&(&right.0, right.2)));
        let mut expected = rows(&before);
        expected.sort_by(|left, right| (&left.0, left.2).cmp(&(&right.0, right.2)));
        assert_eq!(all, expected);
        assert!(all.is_sorted_by(|left, right| (&left.0, left.2) <= (&right.0, right.2)));
    }
}
