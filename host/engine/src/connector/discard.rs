//! The discard sink: drops records, and counts and hashes them.
//!
//! The checksum is the wrapping sum of XXH3-64 (seed 0) over each record's key length (4 bytes, little endian), key,
//! value length (likewise) and value. So it does not depend on the order of records or on event times. Totals are part
//! of the checkpoint: they are those of a run without failures.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    ConnectorError, Guarantee, NodeContext, Recovered, RestoredSink, Sink, SinkCommitter,
    SinkFormat, SinkSettings, SinkWriter, UnwritableRecord, encoding,
};
use floodmark_checkpoint::{CommitPermit, Staged};
use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};

const VERSION: u8 = 1;
/// Bytes of the length in front of a key or value.
const LEN_BYTES: usize = 4;
/// Longest short key or value, in bytes.
const SHORT_BYTES: usize = 16;
/// Number of short records that are collected before they are hashed.
const WAITING_MAX: usize = 64;
const WHAT_STAGED: &str = "a part of a discard sink";
const WHAT_STATE: &str = "the state of a discard sink";

/// The settings of a discard sink: none yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardSinkSettings {}

/// Counts and drops records.
#[derive(Debug, Default)]
pub struct DiscardSink;

/// Number and checksum of dropped records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct DiscardedTotal {
    records: u64,
    checksum: u64,
}

#[derive(Serialize, Deserialize)]
struct DiscardedPart {
    checkpoint: u64,
    task: u16,
    total: DiscardedTotal,
}

impl DiscardedPart {
    fn id(&self) -> (CheckpointId, TaskIndex) {
        (CheckpointId(self.checkpoint), TaskIndex(self.task))
    }
}

impl DiscardedTotal {
    fn add(&mut self, other: Self) {
        self.records = self.records.wrapping_add(other.records);
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

impl SinkSettings for DiscardSinkSettings {
    fn identity(&self, _: &Path) -> Vec<(String, String)> {
        Vec::new()
    }

    fn writes(&self) -> Option<&Path> {
        None
    }

    fn format(&self) -> Option<SinkFormat> {
        None
    }

    fn open(&self, _: &NodeContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> {
        Ok(Arc::new(DiscardSink))
    }
}

impl Sink for DiscardSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, task: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(DiscardWriter {
            task,
            total: DiscardedTotal::default(),
            record: Vec::new(),
        }))
    }

    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError> {
        Ok(Box::new(DiscardCommitter::default()))
    }
}

struct DiscardWriter {
    task: TaskIndex,
    total: DiscardedTotal,
    record: Vec<u8>,
}

impl SinkWriter for DiscardWriter {
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError> {
        let mut waiting = WaitingRecords::default();
        for (record, &slot) in batch.slots.iter().enumerate() {
            let slot = slot as usize;
            let (Some(key), Some(value)) = (batch.keys.short(slot), batch.values.short(record))
            else {
                let (key, value) = (batch.keys.get(slot), batch.values.get(record));
                let checksum = checksum_of(key, value, &mut self.record);
                self.total.add(DiscardedTotal {
                    records: 1,
                    checksum,
                });
                continue;
            };
            if waiting.is_full() {
                self.total.add(waiting.take());
            }
            waiting.push(key, value);
        }
        self.total.add(waiting.take());
        Ok(Vec::new())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        let total = std::mem::take(&mut self.total);
        let part = DiscardedPart {
            checkpoint: checkpoint.0,
            task: self.task.0,
            total,
        };
        Ok((total.records > 0).then(|| Staged(encoding::encode(VERSION, &part))))
    }
}

/// Records with short keys and values, collected to be hashed later: a processor that reads data immediately after
/// writing it in pieces stalls for longer than the hash takes.
struct WaitingRecords {
    records: [[u8; 2 * (LEN_BYTES + SHORT_BYTES)]; WAITING_MAX],
    lens: [usize; WAITING_MAX],
    count: usize,
}

impl Default for WaitingRecords {
    fn default() -> Self {
        Self {
            records: [[0; _]; WAITING_MAX],
            lens: [0; WAITING_MAX],
            count: 0,
        }
    }
}

impl WaitingRecords {
    #[inline]
    fn is_full(&self) -> bool {
        self.count == WAITING_MAX
    }

    /// Each write ends with unused bytes, which the next one overwrites.
    ///
    /// # Panics
    /// When it is full.
    #[inline]
    fn push(&mut self, key: ([u8; SHORT_BYTES], usize), value: ([u8; SHORT_BYTES], usize)) {
        let record = &mut self.records[self.count];
        let mut end = 0;
        for (bytes, len) in [key, value] {
            record[end..end + LEN_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
            end += LEN_BYTES;
            record[end..end + SHORT_BYTES].copy_from_slice(&bytes);
            end += len;
        }
        self.lens[self.count] = end;
        self.count += 1;
    }

    /// Returns the total of the collected records, and empties the buffer.
    fn take(&mut self) -> DiscardedTotal {
        let records = self.records.iter().zip(self.lens).take(self.count);
        let checksums = records.map(|(record, len)| xxh3_64(&record[..len]));
        let checksum = checksums.fold(0, u64::wrapping_add);
        let records = std::mem::take(&mut self.count) as u64;
        DiscardedTotal { records, checksum }
    }
}

/// The checksum of any record, assembled in `record`.
fn checksum_of(key: &[u8], value: &[u8], record: &mut Vec<u8>) -> u64 {
    record.clear();
    for part in [key, value] {
        // A column is shorter than 4 GiB, and so is each of its items.
        record.extend_from_slice(&(part.len() as u32).to_le_bytes());
        record.extend_from_slice(part);
    }
    xxh3_64(record)
}

/// - `prepared` is `committed` plus all of `pending`.
#[derive(Default)]
struct DiscardCommitter {
    prepared: DiscardedTotal,
    committed: DiscardedTotal,
    pending: BTreeMap<(CheckpointId, TaskIndex), DiscardedTotal>,
}

impl SinkCommitter for DiscardCommitter {
    fn prepare(&mut self, staged: &[Staged]) -> Result<Vec<u8>, ConnectorError> {
        for part in staged {
            let part: DiscardedPart = encoding::decode(WHAT_STAGED, VERSION, &part.0)?;
            let earlier = self.pending.insert(part.id(), part.total);
            if earlier.is_none() {
                self.prepared.add(part.total);
            }
        }
        Ok(encoding::encode(VERSION, &self.prepared))
    }

    fn commit(&mut self, _: &CommitPermit, staged: &[Staged]) -> Result<(), ConnectorError> {
        for part in staged {
            let part: DiscardedPart = encoding::decode(WHAT_STAGED, VERSION, &part.0)?;
            if let Some(total) = self.pending.remove(&part.id()) {
                self.committed.add(total);
            }
        }
        Ok(())
    }

    fn recover(&mut self, restored: Option<RestoredSink<'_>>) -> Result<Recovered, ConnectorError> {
        self.pending.clear();
        // The state already includes the restored parts.
        self.committed = match restored {
            Some(restored) => encoding::decode(WHAT_STATE, VERSION, restored.state)?,
            None => DiscardedTotal::default(),
        };
        self.prepared = self.committed;
        Ok(Recovered::default())
    }

    fn clear(&mut self) -> Result<Recovered, ConnectorError> {
        *self = Self::default();
        Ok(Recovered::default())
    }

    fn summary(&self) -> Option<String> {
        let DiscardedTotal { records, checksum } = self.committed;
        let plural = if records == 1 { "" } else { "s" };
        Some(format!(
            "{records} record{plural}, checksum {checksum:016x}"
        ))
    }
}

#[cfg(test)]
mod tests {
    //! Catches a checksum that depends on order, batches or restarts, and records that are counted twice or not at all.

    use super::*;

    const PERMIT: fn(u64) -> CommitPermit = CommitPermit::for_test;

    fn batch(records: &[(&str, &str)]) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in records {
            batch.push(key.as_bytes(), value.as_bytes(), 0);
        }
        batch
    }

    fn written(task: u16, checkpoint: u64, batches: &[Batch]) -> Vec<Staged> {
        let mut writer = DiscardSink.writer(TaskIndex(task)).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        let staged = writer.stage(CheckpointId(checkpoint)).unwrap();
        staged.into_iter().collect()
    }

    #[test]
    fn the_checksum_is_the_specified_one_in_any_order() {
        let hash = |bytes: &[u8]| xxh3_64(bytes);
        let expected = hash(b"\x01\0\0\0a\x02\0\0\0bc").wrapping_add(hash(b"\0\0\0\0\x01\0\0\0d"));
        let records = [("a", "bc"), ("", "d")];
        let swapped = [("", "d"), ("a", "bc")];
        for staged in [
            written(0, 1, &[batch(&records)]),
            written(0, 1, &[batch(&swapped[..1]), batch(&swapped[1..])]),
        ] {
            let mut committer = DiscardSink.committer().unwrap();
            committer.recover(None).unwrap();
            committer.prepare(&staged).unwrap();
            committer.commit(&PERMIT(1), &staged).unwrap();
            let expected = format!("2 records, checksum {expected:016x}");
            assert_eq!(committer.summary(), Some(expected));
        }
        assert_eq!(written(0, 1, &[batch(&[])]), []);
    }

    #[test]
    fn records_of_any_length_are_hashed_alike() {
        let bytes: Vec<u8> = (1..=40).collect();
        let mut all = Batch::default();
        let mut expected = DiscardedTotal::default();
        for (key, value) in (0..20).flat_map(|key| (0..20).map(move |value| (key, value))) {
            let (key, value) = (&bytes[..key], &bytes[20..20 + value]);
            all.push(key, value, 0);
            expected.add(DiscardedTotal {
                records: 1,
                checksum: checksum_of(key, value, &mut Vec::new()),
            });
        }
        let staged = written(0, 1, &[all]);
        let part: DiscardedPart = encoding::decode(WHAT_STAGED, VERSION, &staged[0].0).unwrap();
        assert_eq!(part.total, expected);
    }

    #[test]
    fn totals_survive_restarts_and_count_each_part_once() {
        let mut committer = DiscardSink.committer().unwrap();
        committer.recover(None).unwrap();
        // The checkpoint of the first part fails; the second includes both.
        let mut staged = written(0, 1, &[batch(&[("a", "1")])]);
        committer.prepare(&staged).unwrap();
        let more = written(1, 2, &[batch(&[("b", "2")])]);
        let state = committer.prepare(&more).unwrap();
        staged.extend(more);
        assert!(committer.summary().unwrap().starts_with("0 records"));
        committer.commit(&PERMIT(2), &staged).unwrap();
        committer.commit(&PERMIT(2), &staged).unwrap();
        let summary = committer.summary();
        assert!(summary.as_ref().unwrap().starts_with("2 records"));

        let mut committer = DiscardSink.committer().unwrap();
        let permit = PERMIT(2);
        let restored = RestoredSink {
            data_folder: "",
            permit: &permit,
            staged: &staged,
            state: &state,
        };
        committer.recover(Some(restored)).unwrap();
        assert_eq!(committer.summary(), summary);
        committer.commit(&permit, &staged).unwrap();
        assert_eq!(committer.summary(), summary);
        committer.clear().unwrap();
        assert!(committer.summary().unwrap().starts_with("0 records"));
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let mut committer = DiscardSink.committer().unwrap();
        for bytes in [vec![], vec![1], vec![9, 9, 9], vec![0xff; 40]] {
            assert!(committer.prepare(&[Staged(bytes.clone())]).is_err());
            let permit = PERMIT(1);
            let restored = RestoredSink {
                data_folder: "",
                permit: &permit,
                staged: &[],
                state: &bytes,
            };
            assert!(committer.recover(Some(restored)).is_err());
        }
    }
}
