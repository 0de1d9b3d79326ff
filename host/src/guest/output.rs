//! What a guest returned, checked before anybody else sees it: guests are hostile.

use super::bindings::exports::floodmark::engine::operator as wit;
use crate::stream::{Column, MalformedColumn, OptionalColumn, Timestamp};

/// What one call returned. Slots are indexes of the keys that they speak of, ports and states those of the description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOutput {
    /// Records that leave, in order.
    pub emissions: Vec<Emission>,
    /// New values of states, at most one item a state.
    pub writes: Vec<StateWrites>,
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
pub struct StateWrites {
    /// The state, by position.
    pub state: u16,
    /// Keys of the call.
    pub slots: Vec<u32>,
    /// For each of them the new value, or that it is cleared.
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

/// Checks what a call over `keys` keys returned.
pub(super) fn check_output(
    output: wit::Output,
    keys: usize,
    outputs: usize,
    states: usize,
) -> Result<CallOutput, BadOutput> {
    let emissions = output
        .emissions
        .into_iter()
        .map(|emission| check_emission(emission, keys, outputs));
    let emissions = emissions.collect::<Result<_, _>>()?;
    let mut writes: Vec<StateWrites> = Vec::with_capacity(output.values.len());
    for write in output.values {
        let state = write.state;
        if usize::from(state) >= states || writes.iter().any(|earlier| earlier.state == state) {
            return Err(BadOutput::State { state, states });
        }
        writes.push(check_writes(write, keys)?);
    }
    Ok(CallOutput { emissions, writes })
}

fn check_emission(
    emission: wit::Emission,
    keys: usize,
    outputs: usize,
) -> Result<Emission, BadOutput> {
    let output = emission.output;
    if usize::from(output) >= outputs {
        return Err(BadOutput::Output { output, outputs });
    }
    let (keys, emitted) = match emission.keys {
        wit::EmittedKeys::Input => (keys, EmittedKeys::Input),
        wit::EmittedKeys::Fresh(fresh) => {
            let fresh = check_column("keys of an emission", fresh)?;
            (fresh.len(), EmittedKeys::Fresh(fresh))
        }
    };
    let values = check_column("values of an emission", emission.values)?;
    let (slots, timestamps) = (emission.slots, emission.timestamps);
    if slots.len() != values.len() || slots.len() != timestamps.len() {
        return Err(BadOutput::Lengths {
            slots: slots.len(),
            values: values.len(),
            timestamps: timestamps.len(),
        });
    }
    check_slots(&slots, keys)?;
    Ok(Emission {
        output,
        keys: emitted,
        slots,
        values,
        timestamps,
    })
}

fn check_writes(write: wit::ValueWrites, keys: usize) -> Result<StateWrites, BadOutput> {
    let values =
        OptionalColumn::from_parts(write.values.present, write.values.ends, write.values.bytes);
    let values = values.map_err(|reason| BadOutput::Column {
        what: "values of a state",
        reason,
    })?;
    let (state, slots) = (write.state, write.slots);
    if slots.len() != values.len() {
        return Err(BadOutput::WriteLengths {
            slots: slots.len(),
            values: values.len(),
        });
    }
    check_slots(&slots, keys)?;
    let mut seen = vec![false; keys];
    for &slot in &slots {
        if std::mem::replace(&mut seen[slot as usize], true) {
            return Err(BadOutput::SlotTwice { state, slot });
        }
    }
    Ok(StateWrites {
        state,
        slots,
        values,
    })
}

fn check_column(what: &'static str, column: wit::Column) -> Result<Column, BadOutput> {
    Column::from_parts(column.ends, column.bytes)
        .map_err(|reason| BadOutput::Column { what, reason })
}

fn check_slots(slots: &[u32], keys: usize) -> Result<(), BadOutput> {
    match slots.iter().max() {
        Some(&slot) if slot as usize >= keys => Err(BadOutput::Slot { slot, keys }),
        _ => Ok(()),
    }
}
