//! What a simulated job stands in: a disk, a source and a sink, all in memory, all outliving the job.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use floodmark_checkpoint::{CommitPermit, Split, Staged};
use floodmark_engine::connector::{
    ConnectorError, Guarantee, ReadLimits, ReadOutcome, Recovered, RestoredSink, Sink,
    SinkCommitter, SinkWriter, Source, SourceProgress, SourceReader, UnwritableRecord,
};
use floodmark_engine::runtime::aligner::Mode;
use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};
use floodmark_testing::Random;

/// A disk for the store. It fails on request, as a full one does.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    bytes: Vec<u8>,
    fails_in: Option<u64>,
}

impl Disk {
    /// From the `operations`-th write on the disk refuses, if `fails`.
    pub fn fail_after(&self, operations: u64, fails: bool) {
        self.0.lock().expect("no test panics with it").fails_in = fails.then_some(operations);
    }

    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.0.lock().expect("no test panics with it");
        match &mut state.fails_in {
            Some(0) => return Err(io::ErrorKind::StorageFull.into()),
            Some(left) => *left -= 1,
            None => {}
        }
        change(&mut state.bytes);
        Ok(())
    }
}

impl redb::StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no test panics with it").bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().expect("no test panics with it");
        out.copy_from_slice(&state.bytes[offset as usize..offset as usize + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|bytes| bytes.resize(len as usize, 0))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|_| ())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(|bytes| {
            bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data)
        })
    }
}

/// A source of numbered records: `records` in each of `splits`, with few keys.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    pub splits: u64,
    pub records: u64,
    pub keys: u64,
}

impl Numbers {
    fn key(&self, split: u64, record: u64) -> Vec<u8> {
        Random(split << 32 | record)
            .below(self.keys)
            .to_string()
            .into_bytes()
    }

    pub fn all_keys(&self) -> impl Iterator<Item = Vec<u8>> {
        (0..self.splits)
            .flat_map(move |split| (0..self.records).map(move |record| self.key(split, record)))
    }
}

fn split(number: u64, position: u64) -> Split {
    Split([number.to_le_bytes(), position.to_le_bytes()].concat())
}

fn parts(split: &Split) -> (u64, u64) {
    let (number, position) = split.0.split_at(8);
    let read = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
    (read(number), read(position))
}

impl Source for Numbers {
    fn can_resume(&self, _: &[Split]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn is_beside_input(&self) -> bool {
        false
    }

    fn splits(
        &self,
        _: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        Ok(restored.unwrap_or_else(|| (0..self.splits).map(|number| split(number, 0)).collect()))
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        Ok(Box::new(NumbersReader {
            numbers: *self,
            splits: splits.iter().map(parts).collect(),
        }))
    }
}

struct NumbersReader {
    numbers: Numbers,
    splits: Vec<(u64, u64)>,
}

impl SourceReader for NumbersReader {
    fn read(
        &mut self,
        now: Duration,
        _: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        // How many come depends on the time, so that batches differ from life to life.
        let count = u64::from(now.subsec_micros() % 37);
        for _ in 0..count {
            let Some((number, position)) = self
                .splits
                .iter_mut()
                .find(|(_, at)| *at < self.numbers.records)
            else {
                return Ok(ReadOutcome::Finished);
            };
            batch.push(&self.numbers.key(*number, *position), b"", *position as i64);
            *position += 1;
        }
        match count {
            0 => Ok(ReadOutcome::Idle {
                until: now + Duration::from_millis(3),
            }),
            _ => Ok(ReadOutcome::More),
        }
    }

    fn splits(&self) -> Vec<Split> {
        self.splits
            .iter()
            .map(|&(number, position)| split(number, position))
            .collect()
    }

    fn progress(&self) -> SourceProgress {
        SourceProgress::default()
    }
}

type Lines = Vec<(Vec<u8>, Vec<u8>)>;

/// A sink in memory: parts are staged, then visible.
#[derive(Debug, Clone, Default)]
pub struct Shelf(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    staged: BTreeMap<(u64, u16), Lines>,
    visible: BTreeMap<(u64, u16), Lines>,
    /// Whether checkpoints were deleted whose output is visible.
    takes_back: bool,
}

impl Shelf {
    /// Checkpoints were deleted: their output is taken back at the next recovery.
    pub fn take_back(&self) {
        self.0.lock().expect("no test panics with it").takes_back = true;
    }

    /// Checks that no line is visible twice, if each counts once.
    pub fn check_visible(&self, mode: Mode) {
        if mode == Mode::AtLeastOnce {
            return;
        }
        let parts = self.0.lock().expect("no test panics with it");
        let mut seen = BTreeSet::new();
        for line in parts.visible.values().flatten() {
            assert!(seen.insert(line), "{line:?} is visible twice");
        }
    }

    /// How many lines are visible.
    pub fn len(&self) -> u64 {
        self.lines().values().sum()
    }

    /// By key: how many lines are visible.
    pub fn lines(&self) -> BTreeMap<Vec<u8>, u64> {
        let parts = self.0.lock().expect("no test panics with it");
        let mut lines: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        for (key, _) in parts.visible.values().flatten() {
            *lines.entry(key.clone()).or_default() += 1;
        }
        lines
    }

    /// For each key how often it was counted; checks that the counts are 1 to that number.
    pub fn counts(&self) -> BTreeMap<Vec<u8>, u64> {
        let parts = self.0.lock().expect("no test panics with it");
        let mut numbers: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
        for (key, value) in parts.visible.values().flatten() {
            let number = std::str::from_utf8(value)
                .expect("digits")
                .parse()
                .expect("a number");
            numbers.entry(key.clone()).or_default().push(number);
        }
        let count = |(key, mut numbers): (Vec<u8>, Vec<u64>)| {
            numbers.sort_unstable();
            assert!(
                numbers.iter().copied().eq(1..=numbers.len() as u64),
                "{key:?}: {numbers:?}"
            );
            (key, numbers.len() as u64)
        };
        numbers.into_iter().map(count).collect()
    }
}

impl Sink for Shelf {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, task: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(ShelfWriter {
            shelf: self.clone(),
            task,
            lines: Vec::new(),
        }))
    }

    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError> {
        Ok(Box::new(ShelfCommitter(self.clone())))
    }
}

struct ShelfWriter {
    shelf: Shelf,
    task: TaskIndex,
    lines: Lines,
}

impl SinkWriter for ShelfWriter {
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError> {
        self.lines.extend(
            batch
                .iter()
                .map(|(key, value, _)| (key.to_vec(), value.to_vec())),
        );
        Ok(Vec::new())
    }

    fn stage(&mut self, checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        let name = (checkpoint.0, self.task.0);
        let lines = std::mem::take(&mut self.lines);
        self.shelf
            .0
            .lock()
            .expect("no test panics with it")
            .staged
            .insert(name, lines);
        Ok(Some(Staged(
            [name.0.to_le_bytes(), u64::from(name.1).to_le_bytes()].concat(),
        )))
    }
}

struct ShelfCommitter(Shelf);

fn name(staged: &Staged) -> (u64, u16) {
    let (checkpoint, task) = parts(&Split(staged.0.clone()));
    (checkpoint, task as u16)
}

impl SinkCommitter for ShelfCommitter {
    fn prepare(&mut self, _: &[Staged]) -> Result<Vec<u8>, ConnectorError> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &CommitPermit, staged: &[Staged]) -> Result<(), ConnectorError> {
        let mut parts = self.0.0.lock().expect("no test panics with it");
        for name in staged.iter().map(name) {
            if let Some(lines) = parts.staged.remove(&name) {
                parts.visible.insert(name, lines);
            }
            assert!(
                parts.visible.contains_key(&name),
                "a part that is named is there"
            );
        }
        Ok(())
    }

    fn recover(&mut self, restored: Option<RestoredSink<'_>>) -> Result<Recovered, ConnectorError> {
        let checkpoint = restored.map_or(0, |restored| restored.permit.checkpoint().0);
        if let Some(restored) = restored {
            self.commit(restored.permit, restored.staged)?;
        }
        let mut parts = self.0.0.lock().expect("no test panics with it");
        parts.staged.clear();
        if std::mem::take(&mut parts.takes_back) {
            parts.visible.retain(|(made, _), _| *made <= checkpoint);
        }
        assert!(
            parts.visible.keys().all(|(made, _)| *made <= checkpoint),
            "a part is visible before its checkpoint"
        );
        Ok(Recovered::default())
    }

    fn clear(&mut self) -> Result<Recovered, ConnectorError> {
        *self.0.0.lock().expect("no test panics with it") = Parts::default();
        Ok(Recovered::default())
    }

    fn summary(&self) -> Option<String> {
        None
    }
}
