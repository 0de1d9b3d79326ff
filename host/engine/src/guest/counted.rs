//! Counts what the output of a call costs the host, before the host makes any of it.
//!
//! A guest names in a few bytes what takes the host many: all records of the call, their keys, their times. So an
//! emission counts with the columns that are made of it, not only with the bytes that were copied out of the guest.
//! Changes of lists and maps cost time in the state, so their number is bounded too. `output` checks what the output
//! means; values of `value` states need no bound of their own, since each key of the call has at most one in each.

use super::limits::{Exceeded, Limits};
use super::output::{CallOutput, Emission};
use super::returned::{Items, OptionalItems, Returned, Rows, Selection};
use floodmark_state::stream::{Batch, Column, OptionalColumn};

/// Largest number of emissions of one call: each becomes a batch, and may become a call of the next operator.
const EMISSIONS_MAX: usize = 1 << 14;
/// Bytes of an emission beside its columns, after the first one: its batch, and the origin of that.
const EMISSION_BYTES: usize = size_of::<Emission>() + size_of::<Batch>() + 512;
/// Bytes of an entry of the state beside its key and value, roughly.
const ENTRY_BYTES: usize = 16;
/// Copied keys are those of the records of an emission, instead of all, if they have this many times fewer bytes.
pub(crate) const KEYS_FEWER: usize = 4;

impl Returned {
    /// Checks that a call does not return more than it may.
    ///
    /// # Errors
    /// The limit that is exceeded.
    pub(super) fn check_cost(&self, batch: &Batch, limits: &Limits) -> Result<(), Exceeded> {
        let emissions = self.emissions.len();
        if emissions > EMISSIONS_MAX {
            return Err(Exceeded::Emissions {
                emissions: emissions as u64,
                allowed: EMISSIONS_MAX as u64,
            });
        }
        let (changes, allowed) = (self.changes(), limits.changes_per_call());
        if changes > allowed {
            return Err(Exceeded::Changes { changes, allowed });
        }
        let (bytes, allowed) = (self.bytes(batch), limits.output_bytes_per_call);
        match bytes > allowed {
            true => Err(Exceeded::Output {
                bytes: Some(bytes),
                allowed,
            }),
            false => Ok(()),
        }
    }

    /// Number of changes of lists and maps.
    fn changes(&self) -> u64 {
        let lists = self.lists.iter();
        let lists = lists.map(|write| write.cleared.len() + write.slots.len());
        let maps = self.maps.iter();
        let maps = maps.map(|write| write.cleared.len() + write.slots.len());
        lists.chain(maps).sum::<usize>() as u64
    }

    /// Its size in the host's memory in bytes, with all that is made of it.
    fn bytes(&self, batch: &Batch) -> u64 {
        let emissions = self.emissions.iter().map(|emission| {
            let values = match &emission.values {
                Some(values) => values.size(),
                None => 4 * emission.rows.len(batch),
            };
            size_of_val(emission) + emission.rows.size(batch) + values
        });
        let values = self.values.iter().map(|write| {
            let slots = write.slots.size(4 * batch.keys.len());
            size_of_val(write) + slots + write.values.size()
        });
        let lists = self.lists.iter().map(|write| {
            let slots = 4 * (write.cleared.len() + write.slots.len());
            size_of_val(write) + slots + write.values.size()
        });
        let maps = self.maps.iter().map(|write| {
            let slots = 4 * (write.cleared.len() + write.slots.len());
            size_of_val(write) + slots + write.sub_keys.size() + write.values.size()
        });
        let rejections = self.rejections.iter();
        let rejections =
            rejections.map(|rejection| size_of_val(rejection) + rejection.reason.len());
        let returned = emissions
            .chain(values)
            .chain(lists)
            .chain(maps)
            .chain(rejections);
        let beside = self.emissions.len().saturating_sub(1) * EMISSION_BYTES;
        returned.sum::<usize>() as u64 + beside as u64 + self.copied_key_bytes(batch)
    }

    /// Bytes of the copies of the call's keys: all emissions with these keys but the last need one.
    fn copied_key_bytes(&self, batch: &Batch) -> u64 {
        let emissions = self.emissions.iter();
        let mut with_input_keys = emissions.filter(|emission| emission.rows.has_input_keys());
        if with_input_keys.next_back().is_none() || self.emissions.len() < 2 {
            return 0;
        }
        let all = bytes_of(&batch.keys);
        let mut longest = None;
        let copies = with_input_keys.map(|emission| {
            let longest = *longest.get_or_insert_with(|| longest_of(&batch.keys));
            let own = emission.rows.len(batch) * (4 + longest);
            all.min(KEYS_FEWER * own) as u64
        });
        copies.sum()
    }
}

impl CallOutput {
    /// Bytes that its writes add to the state at least, without keys; 0 if they only remove.
    pub(crate) fn state_bytes(&self) -> u64 {
        let values = self.values.iter().map(|write| &write.values);
        let values = values.map(bytes_of_present);
        let items = self.lists.iter();
        let items =
            items.map(|write| ENTRY_BYTES * write.values.len() + write.values.bytes().len());
        let entries = self
            .maps
            .iter()
            .map(|write| match bytes_of_present(&write.values) {
                0 => 0,
                bytes => bytes + write.sub_keys.bytes().len(),
            });
        values.chain(items).chain(entries).sum::<usize>() as u64
    }
}

/// Bytes of the present values of a column.
fn bytes_of_present(values: &OptionalColumn) -> usize {
    let present = values.present().iter();
    let present: u32 = present.map(|bits| bits.count_ones()).sum();
    ENTRY_BYTES * present as usize + values.bytes().len()
}

/// Bytes of a column.
pub(crate) fn bytes_of(column: &Column) -> usize {
    4 * column.len() + column.bytes().len()
}

fn longest_of(column: &Column) -> usize {
    let lens = (0..column.len()).map(|index| column.len_of(index));
    lens.max().unwrap_or(0)
}

impl Items {
    fn size(&self) -> usize {
        4 * self.ends.len() + self.bytes.len()
    }
}

impl OptionalItems {
    fn size(&self) -> usize {
        self.present.len() + self.items.size()
    }
}

impl Selection {
    /// Its bytes; `all` is the size of the list that is made if it selects everything.
    fn size(&self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::Listed(listed) => 4 * listed.len(),
        }
    }
}

impl Rows {
    /// Number of records.
    fn len(&self, batch: &Batch) -> usize {
        match self {
            Self::Slots { slots, .. } => slots.len(),
            Self::Records { records, .. } => match records {
                Selection::All => batch.len(),
                Selection::Listed(listed) => listed.len(),
            },
        }
    }

    fn has_input_keys(&self) -> bool {
        match self {
            Self::Slots { keys, .. } | Self::Records { keys, .. } => keys.is_none(),
        }
    }

    /// Bytes of keys, slots and times, without copies of the call's keys.
    fn size(&self, batch: &Batch) -> usize {
        match self {
            Self::Slots {
                keys,
                slots,
                timestamps,
            } => keys.as_ref().map_or(0, Items::size) + 4 * slots.len() + 8 * timestamps.len(),
            Self::Records {
                records,
                keys,
                timestamps,
            } => {
                let count = self.len(batch);
                let times = timestamps.as_ref().map_or(count, Vec::len);
                // The list that was returned, and the slots that are made of it.
                let slots = records.size(0) + 4 * count;
                keys.as_ref().map_or(0, Items::size) + slots + 8 * times
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches output that costs the host more than was counted: columns of the call that are copied for each emission, or
    //! named in a word; and a count above what a usual output costs, which would refuse good plugins.

    use super::super::returned::{ReturnedEmission, ReturnedListWrites};
    use super::*;

    /// A thousand records, each with a key of ten bytes.
    fn call() -> Batch {
        let mut batch = Batch::default();
        for number in 0..1000 {
            batch.push(format!("{number:010}").as_bytes(), b"", 0);
        }
        batch
    }

    fn all_records() -> ReturnedEmission {
        ReturnedEmission {
            output: 0,
            rows: Rows::Records {
                records: Selection::All,
                keys: None,
                timestamps: None,
            },
            values: None,
        }
    }

    fn one_slot() -> ReturnedEmission {
        ReturnedEmission {
            output: 0,
            rows: Rows::Slots {
                keys: None,
                slots: vec![7],
                timestamps: vec![0],
            },
            values: Some(Items {
                ends: vec![0],
                bytes: Vec::new(),
            }),
        }
    }

    fn bytes_of_emissions(emission: fn() -> ReturnedEmission, count: usize) -> u64 {
        let returned = Returned {
            emissions: (0..count).map(|_| emission()).collect(),
            ..Returned::default()
        };
        returned.bytes(&call())
    }

    #[test]
    fn an_emission_counts_with_what_is_made_of_it() {
        // Slots of four bytes, times of eight, and ends of empty values.
        let made = 1000 * (4 + 8 + 4);
        let one = bytes_of_emissions(all_records, 1);
        assert!((made..made + 300).contains(&one), "{one}");
        // Each further one also has a copy of the keys.
        let each = bytes_of_emissions(all_records, 11) - one;
        let copied = 10 * (made + 1000 * (4 + 10));
        assert!((copied..copied + 20_000).contains(&each), "{each}");
    }

    #[test]
    fn few_records_take_the_keys_of_few() {
        let one = bytes_of_emissions(one_slot, 1);
        assert!(one < 400, "{one}");
        let each = bytes_of_emissions(one_slot, 1001) - one;
        assert!((500_000..1_500_000).contains(&each), "{each}");
    }

    fn check(returned: &Returned, limits: Limits) -> Result<(), Exceeded> {
        returned.check_cost(&call(), &limits)
    }

    #[test]
    fn emissions_and_changes_are_bounded_by_number() {
        let emitting = |count| Returned {
            emissions: (0..count).map(|_| one_slot()).collect(),
            ..Returned::default()
        };
        assert_eq!(check(&emitting(EMISSIONS_MAX), Limits::default()), Ok(()));
        let allowed = EMISSIONS_MAX as u64;
        let emissions = allowed + 1;
        assert_eq!(
            check(&emitting(EMISSIONS_MAX + 1), Limits::default()),
            Err(Exceeded::Emissions { emissions, allowed })
        );
        let limits = Limits {
            output_bytes_per_call: 8 << 20,
            ..Limits::default()
        };
        let list = |slots| Returned {
            lists: vec![ReturnedListWrites {
                state: 0,
                cleared: vec![0],
                slots: vec![0; slots],
                values: Items::default(),
            }],
            ..Returned::default()
        };
        assert_eq!(check(&list(8191), limits), Ok(()));
        let (changes, allowed) = (8193, 8192);
        assert_eq!(
            check(&list(8192), limits),
            Err(Exceeded::Changes { changes, allowed })
        );
    }
}
