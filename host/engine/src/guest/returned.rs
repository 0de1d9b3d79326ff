//! The unchecked output of a guest, in one form for all three kinds of `process`.
//!
//! The three interfaces differ in how they refer to the keys and times of emissions, and in whether numbers are lists
//! or bytes. Those differences end here; `output` checks the rest.

use super::bindings::exports::floodmark::engine::operator::{self, Rejection};
use super::bindings::exports::floodmark::engine::{operator_compact, operator_packed};
use super::output::BadOutput;

/// An output of `process`.
#[derive(Default)]
pub(super) struct Returned {
    pub(super) emissions: Vec<ReturnedEmission>,
    pub(super) values: Vec<ReturnedValueWrites>,
    pub(super) lists: Vec<ReturnedListWrites>,
    pub(super) maps: Vec<ReturnedMapWrites>,
    pub(super) rejections: Vec<Rejection>,
}

/// A column, unchecked.
#[derive(Default)]
pub(super) struct Items {
    pub(super) ends: Vec<u32>,
    pub(super) bytes: Vec<u8>,
}

/// A column with absent items, unchecked.
#[derive(Default)]
pub(super) struct OptionalItems {
    pub(super) present: Vec<u8>,
    pub(super) items: Items,
}

/// A selection of the items of a call.
pub(super) enum Selection {
    All,
    Listed(Vec<u32>),
}

/// Records emitted at one port.
pub(super) struct ReturnedEmission {
    pub(super) output: u16,
    pub(super) rows: Rows,
    /// `None` if all are empty.
    pub(super) values: Option<Items>,
}

/// Keys and times of emissions.
pub(super) enum Rows {
    /// From `operator`: slots of the call's keys, or of these keys.
    Slots {
        keys: Option<Items>,
        slots: Vec<u32>,
        timestamps: Vec<i64>,
    },
    /// From the other interfaces: those of the records, unless others are given.
    Records {
        records: Selection,
        keys: Option<Items>,
        timestamps: Option<Vec<i64>>,
    },
}

pub(super) struct ReturnedValueWrites {
    pub(super) state: u16,
    pub(super) slots: Selection,
    pub(super) values: OptionalItems,
}

pub(super) struct ReturnedListWrites {
    pub(super) state: u16,
    pub(super) cleared: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) values: Items,
}

pub(super) struct ReturnedMapWrites {
    pub(super) state: u16,
    pub(super) cleared: Vec<u32>,
    pub(super) slots: Vec<u32>,
    pub(super) sub_keys: Items,
    pub(super) values: OptionalItems,
}

impl From<operator::Column> for Items {
    fn from(column: operator::Column) -> Self {
        let operator::Column { ends, bytes } = column;
        Self { ends, bytes }
    }
}

impl From<operator::OptionalColumn> for OptionalItems {
    fn from(column: operator::OptionalColumn) -> Self {
        let operator::OptionalColumn {
            present,
            ends,
            bytes,
        } = column;
        let items = Items { ends, bytes };
        Self { present, items }
    }
}

impl From<operator::ListWrites> for ReturnedListWrites {
    fn from(write: operator::ListWrites) -> Self {
        Self {
            state: write.state,
            cleared: write.cleared,
            slots: write.slots,
            values: write.values.into(),
        }
    }
}

impl From<operator::MapWrites> for ReturnedMapWrites {
    fn from(write: operator::MapWrites) -> Self {
        Self {
            state: write.state,
            cleared: write.cleared,
            slots: write.slots,
            sub_keys: write.sub_keys.into(),
            values: write.values.into(),
        }
    }
}

impl From<operator::Output> for Returned {
    fn from(output: operator::Output) -> Self {
        let emissions = output
            .emissions
            .into_iter()
            .map(|emission| ReturnedEmission {
                output: emission.output,
                rows: Rows::Slots {
                    keys: match emission.keys {
                        operator::EmittedKeys::Input => None,
                        operator::EmittedKeys::Fresh(keys) => Some(keys.into()),
                    },
                    slots: emission.slots,
                    timestamps: emission.timestamps,
                },
                values: Some(emission.values.into()),
            });
        let values = output.values.into_iter().map(|write| ReturnedValueWrites {
            state: write.state,
            slots: Selection::Listed(write.slots),
            values: write.values.into(),
        });
        Self {
            emissions: emissions.collect(),
            values: values.collect(),
            lists: all(output.lists),
            maps: all(output.maps),
            rejections: output.rejections,
        }
    }
}

/// The same items in the host's types.
fn all<T, U: From<T>>(items: Vec<T>) -> Vec<U> {
    items.into_iter().map(U::from).collect()
}

impl From<operator_compact::Selection> for Selection {
    fn from(selection: operator_compact::Selection) -> Self {
        match selection {
            operator_compact::Selection::All => Self::All,
            operator_compact::Selection::Listed(listed) => Self::Listed(listed),
        }
    }
}

impl From<operator_compact::Output> for Returned {
    fn from(output: operator_compact::Output) -> Self {
        use operator_compact::{EmittedKeys, EmittedTimes};
        let emissions = output
            .emissions
            .into_iter()
            .map(|emission| ReturnedEmission {
                output: emission.output,
                rows: Rows::Records {
                    records: emission.records.into(),
                    keys: match emission.keys {
                        EmittedKeys::Same => None,
                        EmittedKeys::Fresh(keys) => Some(keys.into()),
                    },
                    timestamps: match emission.timestamps {
                        EmittedTimes::Same => None,
                        EmittedTimes::Fresh(times) => Some(times),
                    },
                },
                values: emission.values.map(Items::from),
            });
        let values = output.values.into_iter().map(|write| ReturnedValueWrites {
            state: write.state,
            slots: write.slots.into(),
            values: write.values.into(),
        });
        Self {
            emissions: emissions.collect(),
            values: values.collect(),
            lists: all(output.lists),
            maps: all(output.maps),
            rejections: output.rejections,
        }
    }
}

impl Returned {
    /// Unpacks the numbers in the output of a packed call.
    ///
    /// # Errors
    /// When bytes end in the middle of a number.
    pub(super) fn unpack(output: operator_packed::Output) -> Result<Self, BadOutput> {
        let values = output.values.into_iter().map(|write| {
            Ok(ReturnedValueWrites {
                state: write.state,
                slots: selection(write.slots)?,
                values: optional_items(write.values)?,
            })
        });
        let lists = output.lists.into_iter().map(|write| {
            Ok(ReturnedListWrites {
                state: write.state,
                cleared: u32s(&write.cleared)?,
                slots: u32s(&write.slots)?,
                values: items(write.values)?,
            })
        });
        let maps = output.maps.into_iter().map(|write| {
            Ok(ReturnedMapWrites {
                state: write.state,
                cleared: u32s(&write.cleared)?,
                slots: u32s(&write.slots)?,
                sub_keys: items(write.sub_keys)?,
                values: optional_items(write.values)?,
            })
        });
        let emissions = output.emissions.into_iter().map(emission);
        Ok(Self {
            emissions: emissions.collect::<Result<_, _>>()?,
            values: values.collect::<Result<_, _>>()?,
            lists: lists.collect::<Result<_, _>>()?,
            maps: maps.collect::<Result<_, _>>()?,
            rejections: output.rejections,
        })
    }
}

fn emission(emission: operator_packed::Emission) -> Result<ReturnedEmission, BadOutput> {
    use operator_packed::{EmittedKeys, EmittedTimes, EmittedValues};
    Ok(ReturnedEmission {
        output: emission.output,
        rows: Rows::Records {
            records: selection(emission.records)?,
            keys: match emission.keys {
                EmittedKeys::Same => None,
                EmittedKeys::Fresh(keys) => Some(items(keys)?),
            },
            timestamps: match emission.timestamps {
                EmittedTimes::Same => None,
                EmittedTimes::Fresh(times) => Some(numbers(&times, i64::from_le_bytes)?),
            },
        },
        values: match emission.values {
            EmittedValues::Empty => None,
            EmittedValues::Bytes(column) => Some(items(column)?),
            EmittedValues::Text(column) => Some(Items {
                ends: u32s(&column.ends)?,
                bytes: column.text.into_bytes(),
            }),
        },
    })
}

fn selection(selection: operator_packed::Selection) -> Result<Selection, BadOutput> {
    Ok(match selection {
        operator_packed::Selection::All => Selection::All,
        operator_packed::Selection::Listed(listed) => Selection::Listed(u32s(&listed)?),
    })
}

fn items(column: operator_packed::PackedColumnResult) -> Result<Items, BadOutput> {
    let ends = u32s(&column.ends)?;
    let bytes = column.bytes;
    Ok(Items { ends, bytes })
}

fn optional_items(
    column: operator_packed::PackedOptionalColumnResult,
) -> Result<OptionalItems, BadOutput> {
    Ok(OptionalItems {
        present: column.present,
        items: Items {
            ends: u32s(&column.ends)?,
            bytes: column.bytes,
        },
    })
}

fn u32s(bytes: &[u8]) -> Result<Vec<u32>, BadOutput> {
    numbers(bytes, u32::from_le_bytes)
}

/// Unpacks numbers from bytes.
fn numbers<const BYTES: usize, N>(
    bytes: &[u8],
    from_le_bytes: fn([u8; BYTES]) -> N,
) -> Result<Vec<N>, BadOutput> {
    let (numbers, rest) = bytes.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return Err(BadOutput::Packed {
            bytes: bytes.len(),
            each: BYTES,
        });
    }
    Ok(numbers.iter().copied().map(from_le_bytes).collect())
}

/// Packs numbers to bytes for a packed call.
pub(super) fn packed_u32s(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

/// As [`packed_u32s`].
pub(super) fn packed_i64s(numbers: &[i64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

#[cfg(test)]
mod tests {
    //! Catches numbers that change when packed, and bytes of a hostile guest that are not whole numbers.

    use super::*;

    #[test]
    fn numbers_go_through_bytes() {
        let numbers: Vec<u32> = vec![0, 1, 0x0102_0304, u32::MAX];
        assert_eq!(u32s(&packed_u32s(&numbers)), Ok(numbers));
        let times = vec![i64::MIN, -1, 0, 1 << 60];
        let bytes = packed_i64s(&times);
        assert_eq!(self::numbers(&bytes, i64::from_le_bytes), Ok(times));
    }

    #[test]
    fn parts_of_numbers_are_refused() {
        for bytes in [1, 2, 3, 5, 7] {
            let refused = BadOutput::Packed { bytes, each: 4 };
            assert_eq!(u32s(&vec![0; bytes]), Err(refused));
        }
        assert_eq!(u32s(&[]), Ok(vec![]));
    }
}
