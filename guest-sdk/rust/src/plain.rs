//! Compact output in the words of `operator`, for hosts that know nothing else.
//!
//! Keys, slots and times that an output takes from the call are copied from there; nothing else changes. An output that breaks the
//! contract is not checked here, and breaks it in these words, too.

use crate::bindings::exports::floodmark::engine::operator::{
    Emission as PlainEmission, EmittedKeys as PlainKeys, ValueWrites as PlainWrites,
};
use crate::columns::{
    Batch, Column, Emission, EmittedKeys, EmittedTimes, NO_TIMESTAMP, Output as Compact, Selection,
    Timestamp, ValueWrites,
};

pub use crate::bindings::exports::floodmark::engine::operator::Output;

/// What an output may take from its call.
pub(crate) struct Called {
    keys: usize,
    slots: Vec<u32>,
    timestamps: Vec<Timestamp>,
}

impl Called {
    pub(crate) fn of(records: &Batch) -> Self {
        Self {
            keys: records.keys.len(),
            slots: records.slots.clone(),
            timestamps: records.timestamps.clone(),
        }
    }

    /// The same output without anything that it takes from the call.
    pub(crate) fn spell_out(&self, output: Compact) -> Output {
        let emissions = output.emissions.into_iter();
        let values = output.values.into_iter();
        Output {
            emissions: emissions.map(|emission| self.emission(emission)).collect(),
            values: values.map(|writes| self.value_writes(writes)).collect(),
            lists: output.lists,
            maps: output.maps,
            rejections: output.rejections,
        }
    }

    fn emission(&self, emission: Emission) -> PlainEmission {
        let places = places(emission.records, self.slots.len());
        let timestamps = match emission.timestamps {
            EmittedTimes::Same => taken(&places, &self.timestamps, NO_TIMESTAMP),
            EmittedTimes::Fresh(timestamps) => timestamps,
        };
        let values = emission.values.unwrap_or_else(|| Column {
            ends: vec![0; places.len()],
            bytes: Vec::new(),
        });
        let (keys, slots) = match emission.keys {
            EmittedKeys::Same => (PlainKeys::Input, taken(&places, &self.slots, u32::MAX)),
            EmittedKeys::Fresh(keys) => (PlainKeys::Fresh(keys), all_places(places.len())),
        };
        PlainEmission {
            output: emission.output,
            keys,
            slots,
            values,
            timestamps,
        }
    }

    fn value_writes(&self, writes: ValueWrites) -> PlainWrites {
        PlainWrites {
            state: writes.state,
            slots: places(writes.slots, self.keys),
            values: writes.values,
        }
    }
}

fn places(selection: Selection, len: usize) -> Vec<u32> {
    match selection {
        Selection::All => all_places(len),
        Selection::Listed(places) => places,
    }
}

fn all_places(len: usize) -> Vec<u32> {
    (0..u32::try_from(len).expect("a column stays below 4 Gi items")).collect()
}

/// The items at these places. A place that the call does not have becomes `beyond`, which the host refuses as it would the place.
fn taken<T: Copy>(places: &[u32], items: &[T], beyond: T) -> Vec<T> {
    let item = |&place: &u32| items.get(place as usize).copied().unwrap_or(beyond);
    places.iter().map(item).collect()
}
