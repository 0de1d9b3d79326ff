//! The part of the host: batches and state in, emissions and writes out.
//!
//! Everything that comes back is checked as a host checks it. A breach of the contract panics, since it is a mistake in a
//! plugin that handles columns, or in this crate.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::kept::States;
use super::{Emitted, Given, Rejected, Task};
use crate::columns::{
    Batch, Column, Emission, EmittedKeys, EmittedTimes, ListWrites, MapWrites, NO_TIMESTAMP,
    OptionalColumn, Output, Part, Plugin, Rejection, StateKind, UnreadColumns, ValueWrites,
};
use crate::export::Instance;
use crate::reads::native::lend;
use crate::{Error, Result};

/// The exports of a component that need no instance, and how to get one.
pub(super) struct Exports {
    pub(super) unread: fn() -> Vec<UnreadColumns>,
    pub(super) open: fn() -> Box<dyn Call>,
    pub(super) migrate: fn(u16, u32, &Column) -> Result<Column>,
    pub(super) to_json: fn(u16, Part, &Column) -> Result<Column>,
    pub(super) from_json: fn(u16, Part, &Column) -> Result<Column>,
}

impl Exports {
    pub(super) fn of<P: Plugin>() -> Self {
        Self {
            unread: P::unread,
            open: || Box::new(Instance::<P>::new()),
            migrate: P::migrate,
            to_json: P::to_json,
            from_json: P::from_json,
        }
    }
}

/// The exports of a component that is live.
pub(super) trait Call {
    fn open(&self, config: Vec<(String, String)>) -> Result<(), String>;
    fn process(
        &self,
        input: u16,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Output, String>;
    fn completed(&self, checkpoint: u64);
    fn aborted(&self, checkpoint: u64);
}

impl<P: Plugin> Call for Instance<P> {
    fn open(&self, config: Vec<(String, String)>) -> Result<(), String> {
        Self::open(self, config)
    }

    fn process(
        &self,
        input: u16,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Output, String> {
        Self::process(self, input, records, states)
    }

    fn completed(&self, checkpoint: u64) {
        Self::completed(self, checkpoint);
    }

    fn aborted(&self, checkpoint: u64) {
        Self::aborted(self, checkpoint);
    }
}

pub(super) fn call(task: &mut Task, input: &str, records: Vec<Given>) -> Result<Vec<Emitted>> {
    let inputs = &task.description.inputs;
    let Some(port) = inputs.iter().position(|name| name == input) else {
        panic!("there is no input `{input}`; there are {inputs:?}");
    };
    let instance = match task.instance.take() {
        Some(instance) => instance,
        None => {
            let instance = (task.exports.open)();
            instance.open(task.config.clone()).map_err(Error::new)?;
            instance
        }
    };
    let batch = batch_of(records);
    let Batch {
        keys,
        slots,
        values,
        ..
    } = &batch;
    let current = task.states.borrow().current_values(keys);
    let port = u16::try_from(port).expect("`describe` has at most 65535 inputs");
    task.states.borrow_mut().keys = keys.clone();
    let readable = Rc::clone(&task.states);
    let read = without_unread(batch.clone(), port, &(task.exports.unread)());
    let output = lend(readable, || instance.process(port, read, current));
    let output = output.map_err(Error::new)?;
    let emitted = emitted(&output.emissions, &batch, &task.description.outputs);
    apply(task, &output, keys);
    let mut rejected = BTreeSet::new();
    for Rejection { record, reason } in output.rejections {
        assert!(
            rejected.insert(record),
            "each record is rejected at most once"
        );
        let record = record as usize;
        task.rejected.push(Rejected {
            key: keys.get(slots[record] as usize).to_vec(),
            value: values.get(record).to_vec(),
            reason,
        });
    }
    task.instance = Some(instance);
    Ok(emitted)
}

/// What a host hands over of a batch: nothing of the columns that the plugin does not read.
fn without_unread(mut batch: Batch, input: u16, unread: &[UnreadColumns]) -> Batch {
    for unread in unread.iter().filter(|unread| unread.input == input) {
        if unread.values {
            batch.values = Column::new();
        }
        if unread.timestamps {
            batch.timestamps = Vec::new();
        }
    }
    batch
}

/// The records with each key once, in order of appearance.
pub(super) fn batch_of(records: Vec<Given>) -> Batch {
    let mut batch = Batch {
        keys: Column::new(),
        slots: Vec::new(),
        values: Column::new(),
        timestamps: Vec::new(),
    };
    for record in records {
        let known = batch.keys.iter().position(|key| key == record.key);
        let slot = known.unwrap_or_else(|| {
            batch.keys.push(&record.key);
            batch.keys.len() - 1
        });
        batch
            .slots
            .push(u32::try_from(slot).expect("tests are small"));
        batch.values.push(&record.value);
        batch
            .timestamps
            .push(record.timestamp.unwrap_or(NO_TIMESTAMP));
    }
    batch
}

pub(super) fn emitted(emissions: &[Emission], batch: &Batch, outputs: &[String]) -> Vec<Emitted> {
    let mut all = Vec::new();
    for emission in emissions {
        let output = &outputs[usize::from(emission.output)];
        let places = emission.records.places(batch.slots.len());
        let len = places.len();
        if let Some(values) = &emission.values {
            check_column(&values.ends, &values.bytes);
            assert_eq!(values.len(), len, "as many values as records selected");
        }
        if let EmittedKeys::Fresh(keys) = &emission.keys {
            check_column(&keys.ends, &keys.bytes);
            assert_eq!(keys.len(), len, "as many keys as records selected");
        }
        if let EmittedTimes::Fresh(timestamps) = &emission.timestamps {
            let times = timestamps.len();
            assert_eq!(times, len, "as many timestamps as records selected");
        }
        for (index, place) in places.enumerate() {
            let key = match &emission.keys {
                EmittedKeys::Same => batch.keys.get(batch.slots[place] as usize),
                EmittedKeys::Fresh(keys) => keys.get(index),
            };
            let timestamp = match &emission.timestamps {
                EmittedTimes::Same => batch.timestamps[place],
                EmittedTimes::Fresh(timestamps) => timestamps[index],
            };
            let value = emission.values.as_ref().map(|values| values.get(index));
            all.push(Emitted {
                output: output.clone(),
                key: key.to_vec(),
                value: value.unwrap_or_default().to_vec(),
                timestamp: (timestamp != NO_TIMESTAMP).then_some(timestamp),
            });
        }
    }
    all
}

fn apply(task: &mut Task, output: &Output, keys: &Column) {
    let mut states = task.states.borrow_mut();
    let mut written = BTreeSet::new();
    let mut check = |state: u16, kind: StateKind| {
        assert!(written.insert(state), "at most one item a state");
        let declared = task.description.states.get(usize::from(state));
        let declared = declared.expect("a declared state is written");
        assert_eq!(declared.kind, kind, "a state is written as what it is");
    };
    for write in &output.values {
        check(write.state, StateKind::Value);
        apply_values(&mut states, write, keys);
    }
    for write in &output.lists {
        check(write.state, StateKind::List);
        apply_list(&mut states, write, keys);
    }
    for write in &output.maps {
        check(write.state, StateKind::Map);
        apply_map(&mut states, write, keys);
    }
}

fn apply_values(states: &mut States, write: &ValueWrites, keys: &Column) {
    check_optional(&write.values);
    let slots: Vec<usize> = write.slots.places(keys.len()).collect();
    assert_eq!(write.values.len(), slots.len(), "as many values as slots");
    check_distinct(&slots);
    for (slot, value) in slots.into_iter().zip(write.values.iter()) {
        let key = keys.get(slot).to_vec();
        states.set_value(usize::from(write.state), key, value.map(<[u8]>::to_vec));
    }
}

fn apply_list(states: &mut States, write: &ListWrites, keys: &Column) {
    check_column(&write.values.ends, &write.values.bytes);
    let len = write.slots.len();
    assert_eq!(write.values.len(), len, "as many items as slots");
    check_distinct(&write.cleared);
    let state = usize::from(write.state);
    for &slot in &write.cleared {
        states.clear(state, keys.get(slot as usize));
    }
    for (&slot, item) in write.slots.iter().zip(write.values.iter()) {
        states.append(state, keys.get(slot as usize), item);
    }
}

fn apply_map(states: &mut States, write: &MapWrites, keys: &Column) {
    check_column(&write.sub_keys.ends, &write.sub_keys.bytes);
    check_optional(&write.values);
    let len = write.slots.len();
    assert_eq!(write.sub_keys.len(), len, "as many sub-keys as slots");
    assert_eq!(write.values.len(), len, "as many values as slots");
    check_distinct(&write.cleared);
    let entries: Vec<_> = write.slots.iter().zip(write.sub_keys.iter()).collect();
    let distinct: BTreeSet<_> = entries.iter().collect();
    assert_eq!(distinct.len(), len, "no sub-key of a slot twice");
    let state = usize::from(write.state);
    for &slot in &write.cleared {
        states.clear(state, keys.get(slot as usize));
    }
    for ((&slot, sub_key), value) in entries.into_iter().zip(write.values.iter()) {
        states.set_entry(state, keys.get(slot as usize), sub_key, value);
    }
}

fn check_distinct<T: Ord>(slots: &[T]) {
    let distinct: BTreeSet<_> = slots.iter().collect();
    assert_eq!(distinct.len(), slots.len(), "no slot twice");
}

fn check_optional(column: &OptionalColumn) {
    check_column(&column.ends, &column.bytes);
    let bytes = column.len().div_ceil(8);
    assert_eq!(column.present.len(), bytes, "a bit a value");
}

fn check_column(ends: &[u32], bytes: &[u8]) {
    assert!(ends.is_sorted(), "the ends of a column never decrease");
    let end = ends.last().map_or(0, |&end| end as usize);
    assert_eq!(end, bytes.len(), "the last end is the length of the bytes");
}
