//! Checks on the values that a guest returned, before any other module sees them: guests are hostile.

use super::access::word;
use super::bindings::exports::floodmark::engine::operator as wit;
use super::instance::shortened;
use super::returned::{self, Items, OptionalItems, Returned, Rows, Selection};
use crate::state::StateKind;
use crate::stream::{Batch, Column, MalformedColumn, OptionalColumn, Timestamp};

/// Bytes of a sub-key of a map.
pub const SUB_KEY_BYTES_MAX: usize = 1 << 16;

/// What one call returned. Slots are indexes of the keys that they speak of, ports and states those of the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOutput {
    /// Records that leave, in order.
    pub emissions: Vec<Emission>,
    /// New values of `value` states, at most one item a state.
    pub values: Vec<ValueWrites>,
    /// Changes of `list` states, at most one item a state.
    pub lists: Vec<ListWrites>,
    /// Changes of `map` states, at most one item a state.
    pub maps: Vec<MapWrites>,
    /// Records of the call that the plugin does not want: each at most once, in ascending order.
    pub rejections: Vec<Rejection>,
}

/// A record that the plugin does not want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Its index among the records of the call.
    pub record: u32,
    /// The plugin's own words, of bounded length and on one line.
    pub reason: String,
}

/// Records that leave by one port: as many slots, values and timestamps as there are records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// The output port.
    pub output: u16,
    /// Whose keys the slots name.
    pub keys: EmittedKeys,
    /// For each record its key.
    pub slots: Vec<u32>,
    /// For each record its value.
    pub values: Column,
    /// For each record its event time.
    pub timestamps: Vec<Timestamp>,
}

/// Whose keys an emission has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EmittedKeys {
    /// Those of the call.
    Input,
    /// These.
    Fresh(Column),
}

/// New values of one state. No slot appears twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueWrites {
    /// The state, by position.
    pub state: u16,
    /// Keys of the call.
    pub slots: Vec<u32>,
    /// For each of them the new value, or that it is cleared.
    pub values: OptionalColumn,
}

/// Changes of one list state: what is cleared first, then what is appended, in order. No slot is cleared twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListWrites {
    /// The state, by position.
    pub state: u16,
    /// Keys of the call whose lists lose all items.
    pub cleared: Vec<u32>,
    /// Keys of the call, as often as they get items.
    pub slots: Vec<u32>,
    /// For each of them the item.
    pub values: Column,
}

/// Changes of one map state: what is cleared first, then new values. No slot is cleared twice, and no sub-key of a slot
/// appears twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapWrites {
    /// The state, by position.
    pub state: u16,
    /// Keys of the call whose maps lose all entries.
    pub cleared: Vec<u32>,
    /// Keys of the call, as often as entries of them change.
    pub slots: Vec<u32>,
    /// For each of them the sub-key, of at most [`SUB_KEY_BYTES_MAX`] bytes.
    pub sub_keys: Column,
    /// For each of them the new value, or that the entry goes.
    pub values: OptionalColumn,
}

/// How a guest broke the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadOutput {
    /// A column is none.
    #[error("{what}: {reason}")]
    Column {
        /// Which one.
        what: &'static str,
        /// Why.
        reason: MalformedColumn,
    },
    /// Columns that belong together have different lengths.
    #[error("an emission has {slots} slots, {values} values and {timestamps} timestamps")]
    Lengths {
        /// How many.
        slots: usize,
        /// How many.
        values: usize,
        /// How many.
        timestamps: usize,
    },
    /// An emission has not one key, value or time a record.
    #[error("an emission of {records} records has {items} {what}")]
    EmissionLengths {
        /// How many records it comes from.
        records: usize,
        /// Of what.
        what: &'static str,
        /// How many.
        items: usize,
    },
    /// An emission comes from a record that the call does not have.
    #[error("an emission from record {record}, of {records} records")]
    Record {
        /// The record.
        record: u32,
        /// How many there are.
        records: usize,
    },
    /// Bytes that are no whole numbers.
    #[error("{bytes} bytes of numbers of {each} bytes each")]
    Packed {
        /// How many.
        bytes: usize,
        /// Bytes of a number.
        each: usize,
    },
    /// A write has not one value a slot.
    #[error("a write has {slots} slots and {values} values")]
    WriteLengths {
        /// How many.
        slots: usize,
        /// How many.
        values: usize,
    },
    /// A slot names no key.
    #[error("slot {slot} of {keys} keys")]
    Slot {
        /// The slot.
        slot: u32,
        /// How many there are.
        keys: usize,
    },
    /// A slot is written twice in one call.
    #[error("two writes of state {state} to slot {slot}")]
    SlotTwice {
        /// The state.
        state: u16,
        /// The slot.
        slot: u32,
    },
    /// A change of a map has not one sub-key and one value a slot.
    #[error("a change of a map has {slots} slots, {sub_keys} sub-keys and {values} values")]
    MapLengths {
        /// How many.
        slots: usize,
        /// How many.
        sub_keys: usize,
        /// How many.
        values: usize,
    },
    /// A sub-key is written twice in one call.
    #[error("two writes of state {state} to one sub-key of slot {slot}")]
    SubKeyTwice {
        /// The state.
        state: u16,
        /// The slot.
        slot: u32,
    },
    /// A sub-key is too long.
    #[error("a sub-key of {bytes} bytes in state {state}; {SUB_KEY_BYTES_MAX} are allowed")]
    SubKeyLength {
        /// The state.
        state: u16,
        /// Its length.
        bytes: usize,
    },
    /// A state is written as another kind than it is.
    #[error("state {state} is written as a {written}, and declared as a {declared}")]
    Kind {
        /// The state.
        state: u16,
        /// As what it was written.
        written: &'static str,
        /// What it is.
        declared: &'static str,
    },
    /// A rejected record that the call does not have, or that is rejected twice.
    #[error("a rejection of record {record}, of {records} records, each at most once")]
    Rejection {
        /// The record.
        record: u32,
        /// How many there are.
        records: usize,
    },
    /// A port that is not declared.
    #[error("output {output} of {outputs} declared ones")]
    Output {
        /// The port.
        output: u16,
        /// How many there are.
        outputs: usize,
    },
    /// A state that is not declared, or was written already.
    #[error("writes to state {state}, of {states} declared ones, each at most once")]
    State {
        /// The state.
        state: u16,
        /// How many there are.
        states: usize,
    },
}

/// What a call may speak of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declared<'a> {
    /// The records of the call.
    pub(super) batch: &'a Batch,
    /// Output ports.
    pub(super) outputs: usize,
    /// The kinds of the states.
    pub(super) states: &'a [StateKind],
}

/// Checks what a call returned.
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

/// Records of the call, each once.
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
            let batch = declared.batch;
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
    }
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

/// An item a selected record.
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

/// Each sub-key of a slot once. SDKs write them in order, so that is looked at first.
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

/// Slots of the call, each once.
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
