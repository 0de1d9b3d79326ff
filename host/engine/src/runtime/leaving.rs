//! Makes batches of what a plugin emitted.
//!
//! Emissions may have the keys of the call. The last of these takes the column, each other one a copy: only the keys of
//! its records if they are few. `guest` has counted these copies against the limit on output before it let the output
//! pass, so this module checks nothing.

use crate::guest::{Emission, EmittedKeys, KEYS_FEWER, bytes_of};
use floodmark_state::stream::{Batch, Column, OutputPort};

/// Bytes that are written at once for a short key, so that a copy of exactly the keys has room for the last one.
const SHORT_BYTES: usize = 16;

/// The emitted batches, each with its port.
pub(super) fn leaving(emissions: Vec<Emission>, mut batch: Batch) -> Vec<(OutputPort, Batch)> {
    let mut leaving = Vec::with_capacity(emissions.len());
    let has_input_keys = |emission: &Emission| emission.keys == EmittedKeys::Input;
    let last = emissions.iter().rposition(has_input_keys);
    let origin = batch.origin.inherited();
    for (index, emission) in emissions.into_iter().enumerate() {
        let mut slots = emission.slots;
        if slots.is_empty() {
            continue;
        }
        let keys = match emission.keys {
            EmittedKeys::Fresh(keys) => keys,
            EmittedKeys::Input if Some(index) == last => std::mem::take(&mut batch.keys),
            EmittedKeys::Input => copied_keys(&batch.keys, &mut slots),
        };
        let emitted = Batch {
            keys,
            slots,
            values: emission.values,
            timestamps: emission.timestamps,
            origin: origin.clone(),
            skips_values: false,
        };
        leaving.push((OutputPort(emission.output), emitted));
    }
    leaving
}

/// A copy of the keys that an emission needs: only those of its records if they are few, with new slots. Otherwise many
/// small emissions would each copy all keys, and the next operator would hash them all.
fn copied_keys(keys: &Column, slots: &mut [u32]) -> Column {
    let few = bytes_of(keys) / KEYS_FEWER;
    let mut bytes = 0;
    let is_few = slots.iter().all(|&slot| {
        bytes += keys.len_of(slot as usize);
        4 * slots.len() + bytes < few
    });
    if !is_few {
        return keys.clone();
    }
    let mut copied = Column::with_capacity(slots.len(), bytes + SHORT_BYTES);
    for (new, slot) in (0..).zip(slots) {
        copied.push_from(keys, *slot as usize);
        *slot = new;
    }
    copied
}

#[cfg(test)]
mod tests {
    //! Catches emitted records that get another key when only some of the call's keys are copied, copies of all keys for
    //! each record, and emissions of nothing that still copy.

    use super::*;

    fn emission(slots: &[u32], keys: EmittedKeys) -> Emission {
        Emission {
            output: 0,
            keys,
            slots: slots.to_vec(),
            values: Column::of_empty_items(slots.len()),
            timestamps: vec![0; slots.len()],
        }
    }

    #[test]
    fn each_emission_has_the_keys_of_its_records() {
        let mut call = Batch::default();
        for number in 0..100 {
            call.push(format!("key-{number:030}").as_bytes(), b"", 0);
        }
        let all: Vec<u32> = (0..100).rev().collect();
        let fresh: Column = [b"new".as_slice()].into_iter().collect();
        let emissions = vec![
            emission(&[7, 3, 7], EmittedKeys::Input),
            emission(&[], EmittedKeys::Input),
            emission(&all, EmittedKeys::Input),
            emission(&[99], EmittedKeys::Input),
            emission(&[0], EmittedKeys::Fresh(fresh)),
        ];
        let left = leaving(emissions, call);
        let numbers = |batch: &Batch| -> Vec<String> {
            let keys = batch.iter().map(|(key, ..)| String::from_utf8_lossy(key));
            keys.map(|key| {
                key.trim_start_matches("key-")
                    .trim_start_matches('0')
                    .to_owned()
            })
            .collect()
        };
        let shown: Vec<_> = left.iter().map(|(_, batch)| numbers(batch)).collect();
        assert_eq!(shown[0], ["7", "3", "7"]);
        assert_eq!((shown[1].len(), shown[1][0].as_str()), (100, "99"));
        assert_eq!(shown[2..], [vec!["99".to_owned()], vec!["new".to_owned()]]);
        let keys: Vec<_> = left.iter().map(|(_, batch)| batch.keys.len()).collect();
        assert_eq!(keys, [3, 100, 100, 1]);
    }
}
