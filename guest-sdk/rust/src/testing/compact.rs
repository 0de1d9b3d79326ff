//! The plain output of an operator, which hosts that do not know the compact one ask for, against the compact one and a model.
//!
//! Catches an emission that takes key or time from another record, a gap among the slots that are written, and a plain output that
//! says something else. Batches are drawn from a fixed seed; a failure names its round.

use std::collections::BTreeMap;

use super::host::{batch_of, emitted as emitted_compactly};
use super::{Emitted, Given};
use crate::bindings::exports::floodmark::engine::operator as plain;
use crate::columns::{Batch, NO_TIMESTAMP, OptionalColumn, Output as Compact, Selection};
use crate::encoding::{Encoding, Postcard};
use crate::export::Instance;
use crate::{
    Config, List, Map, Operator, Output, Port, Record, RecordByRecord, Result, States, Value,
};

const ROUNDS: u64 = 400;

/// Does what a value says, one byte a step.
#[derive(Default, States)]
struct Steps {
    count: Value<u64>,
    seen: List<u64>,
    steps: Map<u64, u64>,
}

const ODD: Port = Port::named(Steps::OUTPUTS, "odd");

impl Operator for Steps {
    const OUTPUTS: &'static [&'static str] = &["all", "odd"];

    fn open(_: &Config) -> Result<Self> {
        Ok(Self::default())
    }

    fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
        for step in record.value() {
            match step {
                b'e' => out.emit(record.key()),
                b'0' => out.emit(""),
                b'k' => out.key("fresh").emit("k"),
                b't' => out.at(7).emit("t"),
                b'o' => out.to(ODD).emit("o"),
                b'p' => out.to(ODD).key(b"p").at(NO_TIMESTAMP).emit(""),
                b'c' => *self.count.or_default() += 1,
                b'x' => self.count.clear(),
                b'l' => self.seen.push(1),
                b'L' => self.seen.clear(),
                b'm' => self.steps.insert(&1, 2),
                b'M' => self.steps.remove(&1),
                _ => out.reject("no"),
            }
        }
        Ok(())
    }
}

/// The new count of each key that is written; nothing if it is cleared.
type Written = BTreeMap<Vec<u8>, Option<u64>>;

/// What the records make, computed one by one: emissions by port, counts, and which records are rejected.
fn model(records: &[Given], counts: &BTreeMap<Vec<u8>, u64>) -> (Vec<Emitted>, Written, Vec<u32>) {
    let (mut all, mut odd, mut written, mut rejected) = (vec![], vec![], BTreeMap::new(), vec![]);
    for (index, record) in (0_u32..).zip(records) {
        let own = Emitted {
            output: "all".to_owned(),
            key: record.key.clone(),
            value: Vec::new(),
            timestamp: record.timestamp,
        };
        let count = |written: &BTreeMap<_, Option<u64>>| match written.get(&record.key) {
            Some(count) => *count,
            None => counts.get(&record.key).copied(),
        };
        for step in &record.value {
            let (key, value) = (own.key.clone(), own.key.clone());
            let odd_own = Emitted {
                output: "odd".to_owned(),
                ..own.clone()
            };
            match step {
                b'e' => all.push(Emitted {
                    value,
                    ..own.clone()
                }),
                b'0' => all.push(own.clone()),
                b'k' => all.push(Emitted {
                    key: b"fresh".to_vec(),
                    value: b"k".to_vec(),
                    ..own.clone()
                }),
                b't' => all.push(Emitted {
                    timestamp: Some(7),
                    value: b"t".to_vec(),
                    ..own.clone()
                }),
                b'o' => odd.push(Emitted {
                    value: b"o".to_vec(),
                    ..odd_own
                }),
                b'p' => odd.push(Emitted {
                    key: b"p".to_vec(),
                    timestamp: None,
                    ..odd_own
                }),
                b'c' => drop(written.insert(key, Some(count(&written).unwrap_or(0) + 1))),
                b'x' if count(&written).is_some() => drop(written.insert(key, None)),
                b'r' if rejected.last() != Some(&index) => rejected.push(index),
                _ => {}
            }
        }
    }
    all.extend(odd);
    (all, written, rejected)
}

/// What a plain output means, read as `operator` says.
fn emitted_plainly(output: &plain::Output, batch: &Batch) -> Vec<Emitted> {
    let mut all = Vec::new();
    for emission in &output.emissions {
        let keys = match &emission.keys {
            plain::EmittedKeys::Input => &batch.keys,
            plain::EmittedKeys::Fresh(keys) => keys,
        };
        assert_eq!(emission.values.len(), emission.slots.len());
        assert_eq!(emission.timestamps.len(), emission.slots.len());
        for (index, &slot) in emission.slots.iter().enumerate() {
            let timestamp = emission.timestamps[index];
            all.push(Emitted {
                output: Steps::OUTPUTS[usize::from(emission.output)].to_owned(),
                key: keys.get(slot as usize).to_vec(),
                value: emission.values.get(index).to_vec(),
                timestamp: (timestamp != NO_TIMESTAMP).then_some(timestamp),
            });
        }
    }
    all
}

fn written(slots: impl Iterator<Item = usize>, values: &OptionalColumn, batch: &Batch) -> Written {
    let decode = |bytes: &[u8]| <Postcard as Encoding<u64>>::decode(bytes).unwrap();
    let written = slots.zip(values.iter());
    written
        .map(|(slot, value)| (batch.keys.get(slot).to_vec(), value.map(decode)))
        .collect()
}

/// A linear congruential generator: good enough to draw batches.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    /// Records of few keys. What all of a batch do is drawn first, so that batches come in which only few kinds of step are.
    fn records(&mut self) -> Vec<Given> {
        let steps = b"e0ktopcxlLmMr";
        let kinds: Vec<u8> = (0..1 + self.below(4))
            .map(|_| steps[self.below(13) as usize])
            .collect();
        let keys = 1 + self.below(12);
        (0..self.below(20))
            .map(|index| {
                let key = if keys > 8 { index } else { self.below(keys) };
                let value: Vec<u8> = match self.below(8) {
                    0 => (0..self.below(4))
                        .map(|_| steps[self.below(13) as usize])
                        .collect(),
                    _ => kinds.clone(),
                };
                let given = Given::from((format!("key-{key}"), value));
                match self.below(3) {
                    0 => given,
                    time => given.at(time as i64 * 7),
                }
            })
            .collect()
    }
}

#[test]
fn compact_and_plain_output_say_the_same() {
    let mut draw = Draw(1);
    let (mut selected_all, mut listed) = (0, 0);
    for round in 0..ROUNDS {
        let records = draw.records();
        let batch = batch_of(records.clone());
        let counts: BTreeMap<Vec<u8>, u64> = batch
            .keys
            .iter()
            .filter(|_| draw.below(2) == 0)
            .map(|key| (key.to_vec(), 3))
            .collect();
        let mut current = OptionalColumn::new();
        for key in batch.keys.iter() {
            current.push(counts.contains_key(key).then_some(&[3]));
        }
        let states = vec![current, OptionalColumn::new(), OptionalColumn::new()];
        let instance = Instance::<RecordByRecord<Steps>>::new();
        let compact: Compact = instance.process(0, batch.clone(), states.clone()).unwrap();
        let plain = instance.process_plain(0, batch.clone(), states).unwrap();

        let (emitted, counted, rejected) = model(&records, &counts);
        let outputs: Vec<String> = Steps::OUTPUTS.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(
            emitted_compactly(&compact.emissions, &batch, &outputs),
            emitted,
            "round {round}"
        );
        assert_eq!(emitted_plainly(&plain, &batch), emitted, "round {round}");
        let mut by_compact = BTreeMap::new();
        for writes in &compact.values {
            match writes.slots {
                Selection::All => selected_all += 1,
                Selection::Listed(_) => listed += 1,
            }
            by_compact = written(
                writes.slots.places(batch.keys.len()),
                &writes.values,
                &batch,
            );
        }
        let mut by_plain = BTreeMap::new();
        for writes in &plain.values {
            let slots = writes.slots.iter().map(|&slot| slot as usize);
            by_plain = written(slots, &writes.values, &batch);
        }
        assert_eq!(by_compact, counted, "round {round}");
        assert_eq!(by_plain, counted, "round {round}");
        let of = |rejections: &[plain::Rejection]| -> Vec<u32> {
            rejections
                .iter()
                .map(|rejection| rejection.record)
                .collect()
        };
        assert_eq!(of(&compact.rejections), rejected, "round {round}");
        assert_eq!(of(&plain.rejections), rejected, "round {round}");
        assert_eq!(format!("{:?}", compact.lists), format!("{:?}", plain.lists));
        assert_eq!(format!("{:?}", compact.maps), format!("{:?}", plain.maps));
    }
    assert!(selected_all > 20 && listed > 20, "both forms are drawn");
}
