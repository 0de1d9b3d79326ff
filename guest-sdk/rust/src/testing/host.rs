//! The part of the host: batches and state in, emissions and writes out.
//!
//! Everything that comes back is checked as a host checks it. A breach of the contract panics, since it is a mistake in a
//! plugin that handles columns, or in this crate.

use std::collections::BTreeSet;

use super::{Emitted, Given, Task};
use crate::columns::{
    Batch, Column, Emission, EmittedKeys, NO_TIMESTAMP, OptionalColumn, Output, Plugin, ValueWrites,
};
use crate::export::Instance;
use crate::{Error, Result};

/// The exports of a component.
pub(super) trait Call {
    fn open(&self, config: Vec<(String, String)>) -> Result<(), String>;
    fn process(
        &self,
        input: u16,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Output, String>;
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
}

pub(super) fn call(task: &mut Task, input: &str, records: Vec<Given>) -> Result<Vec<Emitted>> {
    let inputs = &task.description.inputs;
    let Some(port) = inputs.iter().position(|name| name == input) else {
        panic!("there is no input `{input}`; there are {inputs:?}");
    };
    let instance = match task.instance.take() {
        Some(instance) => instance,
        None => {
            let instance = (task.open)();
            instance.open(task.config.clone()).map_err(Error::new)?;
            instance
        }
    };
    let batch = batch_of(records);
    let keys = batch.keys.clone();
    let current = current_values(task, &keys);
    let port = u16::try_from(port).expect("`describe` has at most 65535 inputs");
    let output = instance.process(port, batch, current).map_err(Error::new)?;
    let emitted = emitted(&output.emissions, &keys, &task.description.outputs);
    apply(task, &output.values, &keys);
    task.instance = Some(instance);
    Ok(emitted)
}

/// The records with each key once, in order of appearance.
fn batch_of(records: Vec<Given>) -> Batch {
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

fn current_values(task: &Task, keys: &Column) -> Vec<OptionalColumn> {
    let values_of = |state: &super::Values| {
        let mut column = OptionalColumn::new();
        for key in keys.iter() {
            column.push(state.get(key).map(Vec::as_slice));
        }
        column
    };
    task.states.iter().map(values_of).collect()
}

fn emitted(emissions: &[Emission], keys: &Column, outputs: &[String]) -> Vec<Emitted> {
    let mut all = Vec::new();
    for emission in emissions {
        let output = &outputs[usize::from(emission.output)];
        let keys = match &emission.keys {
            EmittedKeys::Input => keys,
            EmittedKeys::Fresh(fresh) => fresh,
        };
        check_column(keys.ends.as_slice(), &keys.bytes);
        check_column(&emission.values.ends, &emission.values.bytes);
        let len = emission.slots.len();
        assert_eq!(emission.values.len(), len, "as many values as slots");
        assert_eq!(
            emission.timestamps.len(),
            len,
            "as many timestamps as slots"
        );
        for (index, &slot) in emission.slots.iter().enumerate() {
            let timestamp = emission.timestamps[index];
            all.push(Emitted {
                output: output.clone(),
                key: keys.get(slot as usize).to_vec(),
                value: emission.values.get(index).to_vec(),
                timestamp: (timestamp != NO_TIMESTAMP).then_some(timestamp),
            });
        }
    }
    all
}

fn apply(task: &mut Task, writes: &[ValueWrites], keys: &Column) {
    let mut written = BTreeSet::new();
    for write in writes {
        assert!(written.insert(write.state), "at most one item a state");
        check_column(&write.values.ends, &write.values.bytes);
        let len = write.slots.len();
        assert_eq!(write.values.len(), len, "as many values as slots");
        assert_eq!(write.values.present.len(), len.div_ceil(8), "a bit a value");
        let slots: BTreeSet<_> = write.slots.iter().collect();
        assert_eq!(slots.len(), len, "no slot twice");
        let values = &mut task.states[usize::from(write.state)];
        for (index, &slot) in write.slots.iter().enumerate() {
            let key = keys.get(slot as usize);
            match write.values.get(index) {
                Some(value) => values.insert(key.to_vec(), value.to_vec()),
                None => values.remove(key),
            };
        }
    }
}

fn check_column(ends: &[u32], bytes: &[u8]) {
    assert!(ends.is_sorted(), "the ends of a column never decrease");
    let end = ends.last().map_or(0, |&end| end as usize);
    assert_eq!(end, bytes.len(), "the last end is the length of the bytes");
}
