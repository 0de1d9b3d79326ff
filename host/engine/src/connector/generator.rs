//! The generator source: creates records, the same ones every time.
//!
//! Record `n`, from 0, is made of `r`, the `n`-th output of SplitMix64 (Steele, Lea, Flood 2014) with the state `seed`:
//! - its key is `r` modulo `keys`, in decimal, with zeros in front up to 8 digits;
//! - its value is `value-bytes` letters from `a` to `p`, one per half byte of the outputs of SplitMix64 with the state
//!   `r`: of each output first the low halves of its bytes, least significant byte first, then the high halves;
//! - its event time is `n` milliseconds.
//!
//! Split `i` of 8 creates the records whose number modulo 8 is `i`. With a rate, record `k` after the start of a run is
//! due `k / rate` seconds after the start; the caller provides the clock.

use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::settings::fact;
use super::{
    ConnectorError, Endless, NodeContext, ReadLimits, ReadOutcome, Source, SourceProgress,
    SourceReader, SourceSettings, encoding,
};
use floodmark_checkpoint::Split;
use floodmark_state::stream::{Batch, CheckpointId, Timestamp, Unit};

const VERSION: u8 = 1;
const WHAT: &str = "a split of a generator source";
const SPLITS: u64 = 8;
const VALUE_BYTES_MAX: usize = 64 << 20;
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
const NANOSECONDS: u128 = 1_000_000_000;

/// The fields of a source with `connector = "generator"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GeneratorSettings {
    /// Number of records; endless if absent.
    pub records: Option<u64>,
    /// Number of distinct keys.
    pub keys: NonZeroU64,
    /// Length of a value, in bytes.
    pub value_bytes: usize,
    /// Records per second, of all tasks together; unlimited if absent.
    pub rate: Option<NonZeroU64>,
    /// The seed of the random numbers: another seed gives other records.
    pub seed: u64,
}

impl SourceSettings for GeneratorSettings {
    // More records, or another rate, continue the same sequence.
    fn identity(&self, _: &Path) -> Vec<(String, String)> {
        vec![
            fact("keys", self.keys),
            fact("value-bytes", self.value_bytes),
            fact("seed", self.seed),
        ]
    }

    fn endless(&self) -> Option<Endless> {
        self.records.is_none().then_some(Endless {
            reason: "never ends",
            field: "records",
            value: "1000000",
        })
    }

    fn reads(&self) -> Option<&Path> {
        None
    }

    fn open(&self, _: &NodeContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> {
        Ok(Arc::new(GeneratorSource::new(self)?))
    }
}

impl Default for GeneratorSettings {
    fn default() -> Self {
        Self {
            records: None,
            keys: const { NonZeroU64::new(1000).expect("not 0") },
            value_bytes: 100,
            rate: None,
            seed: 0,
        }
    }
}

/// Creates records.
#[derive(Debug, Clone)]
pub struct GeneratorSource {
    records: Option<u64>,
    rate: Option<NonZeroU64>,
    recipe: Recipe,
}

/// The settings that determine a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Recipe {
    seed: u64,
    keys: NonZeroU64,
    value_bytes: usize,
}

/// - `index < SPLITS`
#[derive(Debug, Clone, Serialize, Deserialize)]
struct GeneratorSplit {
    index: u64,
    /// Number of records created so far.
    count: u64,
    recipe: Recipe,
}

impl GeneratorSource {
    /// A source with these settings.
    ///
    /// # Errors
    /// When values would be longer than 64 MiB.
    pub fn new(settings: &GeneratorSettings) -> Result<Self, ConnectorError> {
        if settings.value_bytes > VALUE_BYTES_MAX {
            return Err(ConnectorError::Setting {
                setting: "value-bytes",
                reason: "it is more than 64 MiB; make it smaller",
            });
        }
        Ok(Self {
            records: settings.records,
            rate: settings.rate,
            recipe: Recipe {
                seed: settings.seed,
                keys: settings.keys,
                value_bytes: settings.value_bytes,
            },
        })
    }

    fn decode(&self, split: &Split) -> Result<GeneratorSplit, ConnectorError> {
        let split: GeneratorSplit = encoding::decode(WHAT, VERSION, &split.0)?;
        if split.index >= SPLITS || split.count > u64::MAX / SPLITS - 1 {
            return Err(ConnectorError::Undecodable {
                what: WHAT,
                reason: "there is no such split or count".to_owned(),
            });
        }
        let changed = |setting, before: u64, now: u64| {
            Err(ConnectorError::SettingChanged {
                setting,
                before: before.to_string(),
                now: now.to_string(),
            })
        };
        let (before, now) = (split.recipe, self.recipe);
        if before.seed != now.seed {
            return changed("seed", before.seed, now.seed);
        }
        if before.keys != now.keys {
            return changed("keys", before.keys.get(), now.keys.get());
        }
        if before.value_bytes != now.value_bytes {
            return changed(
                "value-bytes",
                before.value_bytes as u64,
                now.value_bytes as u64,
            );
        }
        Ok(split)
    }
}

impl GeneratorSplit {
    /// The number of its next record.
    fn next(&self) -> u64 {
        self.count * SPLITS + self.index
    }

    fn encode(&self) -> Split {
        Split(encoding::encode(VERSION, self))
    }
}

impl Source for GeneratorSource {
    fn can_resume(&self, splits: &[Split]) -> Result<(), ConnectorError> {
        splits
            .iter()
            .try_for_each(|split| self.decode(split).map(drop))
    }

    fn is_beside_input(&self) -> bool {
        false
    }

    fn splits(
        &self,
        _: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        let mut splits: Vec<_> = (0..SPLITS)
            .map(|index| GeneratorSplit {
                index,
                count: 0,
                recipe: self.recipe,
            })
            .collect();
        for split in restored.iter().flatten() {
            let split = self.decode(split)?;
            let index = split.index as usize;
            splits[index] = split;
        }
        Ok(splits.iter().map(GeneratorSplit::encode).collect())
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let splits: Vec<_> = splits
            .iter()
            .map(|split| self.decode(split))
            .collect::<Result<_, _>>()?;
        Ok(Box::new(GeneratorReader {
            pace: self.rate.map(|rate| Pace {
                rate,
                first: splits.iter().map(|split| split.count).collect(),
                started: None,
            }),
            label: label(&splits),
            splits,
            source: self.clone(),
            key: Vec::new(),
            value: Vec::new(),
        }))
    }
}

/// A split and its position for people, on one line.
#[must_use]
pub fn describe(split: &Split) -> String {
    match encoding::decode::<GeneratorSplit>(WHAT, VERSION, &split.0) {
        Ok(GeneratorSplit { index, count, .. }) => {
            format!("split {index} of {SPLITS} after {count} records")
        }
        Err(error) => error.to_string(),
    }
}

/// The name of a reader of these splits.
fn label(splits: &[GeneratorSplit]) -> Arc<str> {
    let indexes: Vec<_> = splits.iter().map(|split| split.index.to_string()).collect();
    let plural = if indexes.len() == 1 { "" } else { "s" };
    format!("split{plural} {} of {SPLITS}", indexes.join(" ")).into()
}

struct GeneratorReader {
    source: GeneratorSource,
    splits: Vec<GeneratorSplit>,
    label: Arc<str>,
    pace: Option<Pace>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// The schedule of records.
struct Pace {
    rate: NonZeroU64,
    /// The count of each split when the reader was created.
    first: Vec<u64>,
    /// The time of the first read.
    started: Option<Duration>,
}

impl Pace {
    fn due(&self, at: usize, split: &GeneratorSplit) -> Duration {
        let since = u128::from(split.count - self.first[at]) * u128::from(SPLITS);
        let records = since + u128::from(split.index);
        let nanoseconds = records * NANOSECONDS / u128::from(self.rate.get());
        let after = u64::try_from(nanoseconds).map_or(Duration::MAX, Duration::from_nanos);
        self.started.unwrap_or_default().saturating_add(after)
    }
}

impl GeneratorReader {
    /// The split with the lowest next record: in a single task, records come in the order of their numbers.
    fn next_split(&self) -> Option<usize> {
        let end = self.source.records.unwrap_or(u64::MAX);
        let open = self.splits.iter().enumerate();
        open.map(|(at, split)| (split.next(), at))
            .filter(|&(next, _)| next < end)
            .min()
            .map(|(_, at)| at)
    }
}

impl SourceReader for GeneratorReader {
    fn read(
        &mut self,
        now: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        if let Some(pace) = &mut self.pace {
            pace.started.get_or_insert(now);
        }
        let (len, first) = (batch.len(), self.next_split());
        let from = first.map_or(0, |at| self.splits[at].next());
        let mut to = from;
        let outcome = loop {
            let Some(at) = self.next_split() else {
                break ReadOutcome::Finished;
            };
            if let Some(pace) = &self.pace {
                let until = pace.due(at, &self.splits[at]);
                if until > now {
                    break ReadOutcome::Idle { until };
                }
            }
            let number = self.splits[at].next();
            self.source
                .recipe
                .make(number, &mut self.key, &mut self.value);
            batch.push(&self.key, &self.value, number as Timestamp);
            self.splits[at].count += 1;
            to = number + 1;
            if limits.are_reached(batch) {
                break ReadOutcome::More;
            }
        };
        if batch.len() > len {
            let records = batch.len() - len;
            batch
                .origin
                .read(&self.label, Unit::Records, (from, to), records);
        }
        Ok(outcome)
    }

    fn splits(&self) -> Vec<Split> {
        self.splits.iter().map(GeneratorSplit::encode).collect()
    }

    fn progress(&self) -> SourceProgress {
        let of_split = |records: u64, split: &GeneratorSplit| {
            records.saturating_sub(split.index).div_ceil(SPLITS)
        };
        SourceProgress {
            done: self.splits.iter().map(|split| split.count).sum(),
            total: self.source.records.map(|records| {
                let splits = self.splits.iter();
                splits.map(|split| of_split(records, split)).sum()
            }),
        }
    }
}

impl Recipe {
    fn make(self, number: u64, key: &mut Vec<u8>, value: &mut Vec<u8>) {
        let random = split_mix(self.seed, number);
        key.clear();
        let mut digits = [b'0'; 20];
        let mut rest = random % self.keys;
        let mut first = digits.len();
        while rest > 0 || first > digits.len() - 8 {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        key.extend_from_slice(&digits[first..]);
        value.clear();
        for block in 0..self.value_bytes.div_ceil(16) as u64 {
            let random = split_mix(random, block);
            for halves in [random, random >> 4] {
                // All eight half bytes become letters at once: none of the sums carries into the next byte.
                let letters = (halves & 0x0f0f_0f0f_0f0f_0f0f) + 0x6161_6161_6161_6161;
                value.extend_from_slice(&letters.to_le_bytes());
            }
        }
        value.truncate(self.value_bytes);
    }
}

/// Output `number`, from 0, of SplitMix64 with this state.
fn split_mix(state: u64, number: u64) -> u64 {
    let mut mixed = state.wrapping_add(GOLDEN_GAMMA.wrapping_mul(number.wrapping_add(1)));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    //! Catches records that depend on the number of readers, on time or on restarts, and a rate that is not kept.

    use super::*;

    type Made = (Vec<u8>, Vec<u8>, Timestamp);

    fn source(records: Option<u64>, rate: Option<u64>) -> GeneratorSource {
        GeneratorSource::new(&GeneratorSettings {
            records,
            keys: NonZeroU64::new(50).unwrap(),
            value_bytes: 21,
            rate: rate.and_then(NonZeroU64::new),
            seed: 7,
        })
        .unwrap()
    }

    fn limits(records_max: usize) -> ReadLimits {
        ReadLimits {
            records_max,
            bytes_max: usize::MAX,
        }
    }

    /// All records in the order of their event times, created by `tasks` readers that are restarted after each batch.
    fn check(records: u64, tasks: usize, batch_max: usize) -> Vec<Made> {
        let source = source(Some(records), None);
        let mut splits = source.splits(None, None).unwrap();
        let mut made = Vec::new();
        loop {
            let mut next = Vec::new();
            let mut finished = true;
            for task in 0..tasks {
                let own: Vec<_> = splits.iter().skip(task).step_by(tasks).cloned().collect();
                let mut reader = source.reader(own).unwrap();
                let mut batch = Batch::default();
                let outcome = reader.read(Duration::ZERO, limits(batch_max), &mut batch);
                finished &= outcome.unwrap() == ReadOutcome::Finished;
                made.extend(batch.iter().map(|(k, v, t)| (k.to_vec(), v.to_vec(), t)));
                next.extend(reader.splits());
            }
            splits = source.splits(None, Some(next)).unwrap();
            if finished {
                made.sort_by_key(|record| record.2);
                return made;
            }
        }
    }

    #[test]
    fn records_depend_on_settings_alone() {
        let expected = check(100, 1, 1000);
        assert_eq!(expected.len(), 100);
        for (number, record) in expected.iter().enumerate() {
            assert_eq!(record.2, number as i64);
            assert_eq!(record.1.len(), 21);
        }
        for tasks in [1, 2, 3, 8, 9] {
            assert_eq!(check(100, tasks, 7), expected);
        }
        assert_eq!(check(0, 2, 7), []);
        assert_eq!(check(3, 2, 7), expected[..3]);
    }

    #[test]
    fn the_generator_is_the_published_one() {
        // The first outputs of the reference implementation with the state 1234567.
        assert_eq!(split_mix(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(1_234_567, 1), 3_203_168_211_198_807_973);
        let first = &check(1, 1, 1)[0];
        let random = split_mix(7, 0);
        assert_eq!(first.0, format!("{:08}", random % 50).into_bytes());
        let block = split_mix(random, 0).to_le_bytes();
        let letters: Vec<u8> = block.iter().map(|byte| b'a' + byte % 16).collect();
        assert_eq!(first.1[..8], letters);
        let letters: Vec<u8> = block.iter().map(|byte| b'a' + byte / 16).collect();
        assert_eq!(first.1[8..16], letters);
    }

    #[test]
    fn a_rate_is_kept_from_the_first_read_on() {
        let source = source(None, Some(100));
        let splits = source.splits(None, None).unwrap();
        let mut readers = [
            source.reader(splits[..4].to_vec()).unwrap(),
            source.reader(splits[4..].to_vec()).unwrap(),
        ];
        let mut total = 0;
        for step in 0..=100 {
            let now = Duration::from_secs(5) + Duration::from_millis(step * 20);
            for reader in &mut readers {
                let mut batch = Batch::default();
                let outcome = reader.read(now, limits(1000), &mut batch).unwrap();
                assert!(matches!(outcome, ReadOutcome::Idle { until } if until > now));
                total += batch.len();
            }
            assert_eq!(total as u64, step * 2 + 1);
        }
    }

    #[test]
    fn hostile_and_foreign_splits_are_refused() {
        let source = source(None, None);
        let good = source.splits(None, None).unwrap()[7].clone();
        for len in 0..good.0.len() {
            assert!(source.reader(vec![Split(good.0[..len].to_vec())]).is_err());
        }
        for at in 0..good.0.len() {
            for byte in 0..=255 {
                let mut bytes = good.0.clone();
                bytes[at] = byte;
                if let Ok(mut reader) = source.reader(vec![Split(bytes)]) {
                    let read = reader.read(Duration::ZERO, limits(2), &mut Batch::default());
                    read.unwrap();
                }
            }
        }
        let other = GeneratorSource::new(&GeneratorSettings::default()).unwrap();
        let refused = other.splits(None, Some(vec![good]));
        assert!(matches!(
            refused,
            Err(ConnectorError::SettingChanged {
                setting: "seed",
                ..
            })
        ));
    }
}
