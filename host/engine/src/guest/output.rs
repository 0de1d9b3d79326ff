//! Checks the values that a guest returned, before any other module sees them: guests are untrusted.

use super::access::word;
use super::bindings::exports::floodmark::engine::operator as wit;
use super::instance::shortened;
use super::returned::{self, Items, OptionalItems, Returned, Rows, Selection};
use floodmark_state::StateKind;
use floodmark_state::stream::{Batch, Column, MalformedColumn, OptionalColumn, Timestamp};

/// Longest sub-key of a map, in bytes.
pub const SUB_KEY_BYTES_MAX: usize = 1 << 16;

/// The checked output of one call. Slots are indexes of keys; ports and states are positions in the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOutput {
    /// Emitted records, in order.
    pub emissions: Vec<Emission>,
    /// New values of `value` states, at most one item per state.
    pub values: Vec<ValueWrites>,
    /// Changes of `list` states, at most one item per state.
    pub lists: Vec<ListWrites>,
    /// Changes of `map` states, at most one item per state.
    pub maps: Vec<MapWrites>,
    /// Rejected records of the call: each at most once, in ascending order.
    pub rejections: Vec<Rejection>,
}

/// A record that the plugin rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its index among the records of the call.
    pub record: u32,
    /// The plugin's reason, shortened to one line.
    pub reason: String,
}

/// Records emitted at one port: as many slots, values and timestamps as there are records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// The output port, by its position in the description.
    pub output: u16,
    /// The keys that the slots refer to.
    pub keys: EmittedKeys,
    /// The key of each record.
    pub slots: Vec<u32>,
    /// The value of each record.
    pub values: Column,
    /// The event time of each record.
    pub timestamps: Vec<Timestamp>,
}

/// The keys of an emission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmittedKeys {
    /// The keys of the call.
    Input,
    /// New keys.
    Fresh(Column),
}

/// New values of one state. No slot appears twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueWrites {
    /// The state, by its position in the description.
    pub state: u16,
    /// Keys of the call.
    pub slots: Vec<u32>,
    /// The new value of each; `None` clears it.
    pub values: OptionalColumn,
}

/// Changes of one list state: lists are cleared first, then items are appended, in order. No slot is cleared twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListWrites {
    /// The state, by its position in the description.
    pub state: u16,
    /// Keys of the call whose lists lose all items.
    pub cleared: Vec<u32>,
    /// Keys of the call, once for each appended item.
    pub slots: Vec<u32>,
    /// The appended items.
    pub values: Column,
}

/// Changes of one map state: maps are cleared first, then values are set. No slot is cleared twice, and no sub-key of a
/// slot appears twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapWrites {
    /// The state, by its position in the description.
    pub state: u16,
    /// Keys of the call whose maps lose all entries.
    pub cleared: Vec<u32>,
    /// Keys of the call, once for each changed entry.
    pub slots: Vec<u32>,
    /// The sub-key of each, of at most [`SUB_KEY_BYTES_MAX`] bytes.
    pub sub_keys: Column,
    /// The new value of each; `None` removes the entry.
    pub values: OptionalColumn,
}

/// A violation of the contract by a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOutput {
    /// A column is malformed.
    #[error("{what}: {reason}")]
    Column {
        /// The items of the column, for the message.
        what: &'static str,
        /// How the column is malformed.
        reason: MalformedColumn,
    },
    /// Columns that belong together have different lengths.
    #[error("an emission has {slots} slots, {values} values and {timestamps} timestamps")]
    Lengths {
        /// Number of slots.
        slots: usize,
        /// Number of values.
        values: usize,
        /// Number of timestamps.
        timestamps: usize,
    },
    /// An emission does not have one key, value or time per record.
    #[error("an emission of {records} records has {items} {what}")]
    EmissionLengths {
        /// Number of records that it was made from.
        records: usize,
        /// The kind of item.
        what: &'static str,
        /// Number of items.
        items: usize,
    },
    /// An emission refers to a record that the call does not have.
    #[error("an emission from record {record}, but the call has {records} records")]
    Record {
        /// The index that was given.
        record: u32,
        /// Number of records in the call.
        records: usize,
    },
    /// Packed bytes are not a whole number of numbers.
    #[error("{bytes} bytes do not divide into numbers of {each} bytes each")]
    Packed {
        /// Number of bytes.
        bytes: usize,
        /// Bytes of one number.
        each: usize,
    },
    /// A write does not have one value per slot.
    #[error("a write has {slots} slots and {values} values")]
    WriteLengths {
        /// Number of slots.
        slots: usize,
        /// Number of values.
        values: usize,
    },
    /// A slot is not the index of a key.
    #[error("slot {slot}, but the call has {keys} keys")]
    Slot {
        /// The index that was given for a key of the call.
        slot: u32,
        /// Number of keys in the call.
        keys: usize,
    },
    /// A slot is written twice in one call.
    #[error("two writes of state {state} to slot {slot}")]
    SlotTwice {
        /// The position that was given for a state.
        state: u16,
        /// The index that was given for a key of the call.
        slot: u32,
    },
    /// A change of a map does not have one sub-key and one value per slot.
    #[error("a change of a map has {slots} slots, {sub_keys} sub-keys and {values} values")]
    MapLengths {
        /// Number of slots.
        slots: usize,
        /// Number of sub-keys.
        sub_keys: usize,
        /// Number of values.
        values: usize,
    },
    /// A sub-key is written twice in one call.
    #[error("two writes of state {state} to one sub-key of slot {slot}")]
    SubKeyTwice {
        /// The position that was given for a state.
        state: u16,
        /// The index that was given for a key of the call.
        slot: u32,
    },
    /// A sub-key is too long.
    #[error("a sub-key of {bytes} bytes in state {state}; at most {SUB_KEY_BYTES_MAX} are allowed")]
    SubKeyLength {
        /// The position that was given for a state.
        state: u16,
        /// Its length in bytes.
        bytes: usize,
    },
    /// A state is written as another kind than declared.
    #[error("state {state} is written as a {written}, but declared as a {declared}")]
    Kind {
        /// The position that was given for a state.
        state: u16,
        /// The kind of the write.
        written: &'static str,
        /// The declared kind.
        declared: &'static str,
    },
    /// A rejected record that the call does not have, or that is rejected twice.
    #[error(
        "a rejection of record {record}, but each of the {records} records is rejected at most once"
    )]
    Rejection {
        /// The index that was given.
        record: u32,
        /// Number of records in the call.
        records: usize,
    },
    /// A port is not declared.
    #[error("output {output}, but the number of declared outputs is {outputs}")]
    Output {
        /// The position that was given.
        output: u16,
        /// Number of declared output ports.
        outputs: usize,
    },
    /// A state is not declared, or was already written.
    #[error(
        "writes to state {state}, but the {states} declared states are written at most once each"
    )]
    State {
        /// The position that was given for a state.
        state: u16,
        /// Number of declared states.
        states: usize,
    },
}

/// The records, ports and states that the output of a call may refer to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    /// The records of the call.
    pub(super) batch: &'a Batch,
    /// Number of output ports.
    pub(super) outputs: usize,
    /// The declared kind of each state, by position.
    pub(super) states: &'a [StateKind],
}

/// Checks the output of a call against the batch and the description.
pub(super) fn check_output(
    output: Returned,
    declared: Declared<'_>,
) -> Result<CallOutput, BadOutput> {
    let keys = declared.batch.keys.len();
    let emissions = output
        .emissions
        .into_iter()
        .map(|emission| check_emission(emission, declared));
    let emissions = emissions.collect::<Result<_, _>>()?;
    let mut values: Vec<ValueWrites> = Vec::with_capacity(output.values.len());
    for write in output.values {
        let is_again = values.iter().any(|earlier| earlier.state == write.state);
        check_state(write.state, StateKind::Value, is_again, declared)?;
        values.push(check_values(write, keys)?);
    }
    let mut lists: Vec<ListWrites> = Vec::with_capacity(output.lists.len());
    for write in output.lists {
        let is_again = lists.iter().any(|earlier| earlier.state == write.state);
        check_state(write.state, StateKind::List, is_again, declared)?;
        lists.push(check_list(write, keys)?);
    }
    let mut maps: Vec<MapWrites> = Vec::with_capacity(output.maps.len());
    for write in output.maps {
        let is_again = maps.iter().any(|earlier| earlier.state == write.state);
        check_state(write.state, StateKind::Map, is_again, declared)?;
        maps.push(check_map(write, keys)?);
    }
    Ok(CallOutput {
        emissions,
        values,
        lists,
        maps,
        rejections: check_rejections(output.rejections, declared.batch.len())?,
    })
}

/// Checks that rejections are of records of the call, each once.
fn check_rejections(
    rejections: Vec<wit::Rejection>,
    records: usize,
) -> Result<Vec<Rejection>, BadOutput> {
    let mut rejections: Vec<_> = rejections
        .into_iter()
        .map(|rejection| Rejection {
            record: rejection.record,
            reason: shortened(&rejection.reason),
        })
        .collect();
    rejections.sort_unstable_by_key(|rejection| rejection.record);
    let is_wrong = |(index, rejection): &(usize, &Rejection)| {
        let is_again = *index > 0 && rejections[index - 1].record == rejection.record;
        is_again || rejection.record as usize >= records
    };
    match rejections.iter().enumerate().find(is_wrong) {
        Some((_, rejection)) => Err(BadOutput::Rejection {
            record: rejection.record,
            records,
        }),
        None => Ok(rejections),
    }
}

fn check_state(
    state: u16,
    kind: StateKind,
    is_again: bool,
    declared: Declared<'_>,
) -> Result<(), BadOutput> {
    match declared.states.get(usize::from(state)) {
        Some(declared) if *declared != kind => Err(BadOutput::Kind {
            state,
            written: word(kind),
            declared: word(*declared),
        }),
        Some(_) if !is_again => Ok(()),
        _ => Err(BadOutput::State {
            state,
            states: declared.states.len(),
        }),
    }
}

fn check_emission(
    emission: returned::ReturnedEmission,
    declared: Declared<'_>,
) -> Result<Emission, BadOutput> {
    let returned::ReturnedEmission {
        output,
        rows,
        values,
    } = emission;
    if usize::from(output) >= declared.outputs {
        return Err(BadOutput::Output {
            output,
            outputs: declared.outputs,
        });
    }
    let values = match values {
        Some(values) => Some(check_column("values of an emission", values)?),
        None => None,
    };
    match rows {
        Rows::Slots {
            keys,
            slots,
            timestamps,
        } => {
            let keys = keys
                .map(|keys| check_column("keys of an emission", keys))
                .transpose()?;
            let values = values.unwrap_or_else(|| Column::of_empty_items(slots.len()));
            if slots.len() != values.len() || slots.len() != timestamps.len() {
                return Err(BadOutput::Lengths {
                    slots: slots.len(),
                    values: values.len(),
                    timestamps: timestamps.len(),
                });
            }
            let count = keys.as_ref().unwrap_or(&declared.batch.keys).len();
            check_slots(&slots, count)?;
            Ok(Emission {
                output,
                keys: keys.map_or(EmittedKeys::Input, EmittedKeys::Fresh),
                slots,
                values,
                timestamps,
            })
        }
        Rows::Records {
            records,
            keys,
            timestamps,
        } => {
            let rows = (records, keys, timestamps);
            check_emission_of_records(output, rows, values, declared.batch)
        }
    }
}

/// An emission that names records of its input by selection.
fn check_emission_of_records(
    output: u16,
    (records, keys, timestamps): (Selection, Option<Items>, Option<Vec<i64>>),
    values: Option<Column>,
    batch: &Batch,
) -> Result<Emission, BadOutput> {
    let records = check_selection(records, batch)?;
    let count = records.as_ref().map_or(batch.len(), Vec::len);
    let same = |what, items: usize| match items == count {
        true => Ok(()),
        false => Err(BadOutput::EmissionLengths {
            records: count,
            what,
            items,
        }),
    };
    let values = values.unwrap_or_else(|| Column::of_empty_items(count));
    same("values", values.len())?;
    let (keys, slots) = match keys {
        Some(keys) => {
            let keys = check_column("keys of an emission", keys)?;
            same("keys", keys.len())?;
            (EmittedKeys::Fresh(keys), (0..count as u32).collect())
        }
        None => (EmittedKeys::Input, of_records(&batch.slots, &records)),
    };
    let timestamps = match timestamps {
        Some(timestamps) => {
            same("times", timestamps.len())?;
            timestamps
        }
        None => of_records(&batch.timestamps, &records),
    };
    Ok(Emission {
        output,
        keys,
        slots,
        values,
        timestamps,
    })
}

/// The selected records, if they are not all.
fn check_selection(selection: Selection, batch: &Batch) -> Result<Option<Vec<u32>>, BadOutput> {
    let Selection::Listed(listed) = selection else {
        return Ok(None);
    };
    let records = batch.len();
    match listed.iter().max() {
        Some(&record) if record as usize >= records => Err(BadOutput::Record { record, records }),
        _ => Ok(Some(listed)),
    }
}

/// The items of the selected records.
fn of_records<T: Copy>(items: &[T], records: &Option<Vec<u32>>) -> Vec<T> {
    match records {
        None => items.to_vec(),
        Some(records) => records.iter().map(|&at| items[at as usize]).collect(),
    }
}

fn check_values(
    write: returned::ReturnedValueWrites,
    keys: usize,
) -> Result<ValueWrites, BadOutput> {
    let values = check_optional(write.values)?;
    let state = write.state;
    let lengths = |slots: usize| match slots == values.len() {
        true => Ok(()),
        false => Err(BadOutput::WriteLengths {
            slots,
            values: values.len(),
        }),
    };
    let slots = match write.slots {
        Selection::All => {
            lengths(keys)?;
            (0..keys as u32).collect()
        }
        Selection::Listed(slots) => {
            lengths(slots.len())?;
            check_distinct(state, &slots, keys)?;
            slots
        }
    };
    Ok(ValueWrites {
        state,
        slots,
        values,
    })
}

fn check_list(write: returned::ReturnedListWrites, keys: usize) -> Result<ListWrites, BadOutput> {
    let values = check_column("items of a list", write.values)?;
    let (state, cleared, slots) = (write.state, write.cleared, write.slots);
    if slots.len() != values.len() {
        return Err(BadOutput::WriteLengths {
            slots: slots.len(),
            values: values.len(),
        });
    }
    check_distinct(state, &cleared, keys)?;
    check_slots(&slots, keys)?;
    Ok(ListWrites {
        state,
        cleared,
        slots,
        values,
    })
}

fn check_map(write: returned::ReturnedMapWrites, keys: usize) -> Result<MapWrites, BadOutput> {
    let sub_keys = check_column("sub-keys of a map", write.sub_keys)?;
    let values = check_optional(write.values)?;
    let (state, cleared, slots) = (write.state, write.cleared, write.slots);
    if slots.len() != values.len() || slots.len() != sub_keys.len() {
        return Err(BadOutput::MapLengths {
            slots: slots.len(),
            sub_keys: sub_keys.len(),
            values: values.len(),
        });
    }
    check_distinct(state, &cleared, keys)?;
    check_slots(&slots, keys)?;
    let long = sub_keys
        .iter()
        .map(<[u8]>::len)
        .find(|&bytes| bytes > SUB_KEY_BYTES_MAX);
    if let Some(bytes) = long {
        return Err(BadOutput::SubKeyLength { state, bytes });
    }
    check_sub_keys(state, &slots, &sub_keys)?;
    Ok(MapWrites {
        state,
        cleared,
        slots,
        sub_keys,
        values,
    })
}

/// Checks that each sub-key of a slot appears once. SDKs write them in order, so that is checked first.
fn check_sub_keys(state: u16, slots: &[u32], sub_keys: &Column) -> Result<(), BadOutput> {
    let entry = |index: usize| (slots[index], sub_keys.get(index));
    if (1..slots.len()).all(|index| entry(index - 1) < entry(index)) {
        return Ok(());
    }
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_unstable_by_key(|&index| entry(index));
    let twice = order.windows(2).find(|two| entry(two[0]) == entry(two[1]));
    match twice {
        Some(two) => Err(BadOutput::SubKeyTwice {
            state,
            slot: slots[two[0]],
        }),
        None => Ok(()),
    }
}

/// Checks that slots are of the call, each once.
fn check_distinct(state: u16, slots: &[u32], keys: usize) -> Result<(), BadOutput> {
    check_slots(slots, keys)?;
    if slots.is_empty() {
        return Ok(());
    }
    // SDKs write them in order.
    if !slots
        .array_windows::<2>()
        .fold(false, |falls, two| falls | (two[0] >= two[1]))
    {
        return Ok(());
    }
    let mut seen = vec![false; keys];
    for &slot in slots {
        if std::mem::replace(&mut seen[slot as usize], true) {
            return Err(BadOutput::SlotTwice { state, slot });
        }
    }
    Ok(())
}

fn check_optional(values: OptionalItems) -> Result<OptionalColumn, BadOutput> {
    let OptionalItems { present, items } = values;
    OptionalColumn::from_parts(present, items.ends, items.bytes).map_err(|reason| {
        BadOutput::Column {
            what: "values of a state",
            reason,
        }
    })
}

fn check_column(what: &'static str, column: Items) -> Result<Column, BadOutput> {
    Column::from_parts(column.ends, column.bytes)
        .map_err(|reason| BadOutput::Column { what, reason })
}

fn check_slots(slots: &[u32], keys: usize) -> Result<(), BadOutput> {
    match slots.iter().max() {
        Some(&slot) if slot as usize >= keys => Err(BadOutput::Slot { slot, keys }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
