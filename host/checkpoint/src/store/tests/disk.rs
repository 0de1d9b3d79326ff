//! A disk in memory that records, dies, refuses and counts.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use floodmark_testing::Random;
use redb::StorageBackend;

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// The bytes that a reader sees.
    pub(super) bytes: Vec<u8>,
    /// The bytes that certainly survive a power failure.
    durable: Vec<u8>,
    unsynced: Vec<Op>,
    /// Writes, changes of length and syncs.
    pub(super) ops: usize,
    /// From this operation on, all fail.
    pub(super) fails_at: Option<usize>,
    /// Writes of this many more bytes are accepted.
    pub(super) budget: Option<usize>,
    pub(super) written: usize,
    pub(super) syncs: usize,
}

/// Clones share the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let durable = bytes.clone();
        Self(Arc::new(Mutex::new(State {
            bytes,
            durable,
            ..State::default()
        })))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A possible content of the disk if the power fails now, one for each `seed`.
    pub(super) fn image(&self, seed: u64) -> Vec<u8> {
        let state = self.state();
        let mut image = state.durable.clone();
        let mut random = Random(seed);
        for (at, op) in state.unsynced.iter().enumerate() {
            let last = at + 1 == state.unsynced.len();
            let part = match seed {
                0 => 0,
                1 => 8,
                // All but the last, of which half arrived.
                2 => 8 - u64::from(last) * 4,
                3 => 8 - u64::from(last) * 8,
                _ if random.below(2) == 0 => 0,
                _ if random.below(4) == 0 => random.below(9),
                _ => 8,
            };
            apply(&mut image, op, part);
        }
        image
    }

    fn op(&self) -> Result<MutexGuard<'_, State>, io::Error> {
        let mut state = self.state();
        state.ops += 1;
        if state.fails_at.is_some_and(|at| state.ops > at) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(state)
    }
}

/// The first `part` eighths of a write arrive.
fn apply(bytes: &mut Vec<u8>, op: &Op, part: u64) {
    match op {
        Op::SetLen(len) if part > 0 => bytes.resize(*len, 0),
        Op::SetLen(_) => {}
        Op::Write(offset, data) => {
            let len = data.len() * part as usize / 8;
            if len > 0 {
                let end = offset + len;
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(&data[..len]);
            }
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        let from = usize::try_from(offset).unwrap();
        let found = from
            .checked_add(out.len())
            .and_then(|end| state.bytes.get(from..end));
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let op = Op::SetLen(usize::try_from(len).unwrap());
        let mut state = self.op()?;
        apply(&mut state.bytes, &op, 8);
        state.unsynced.push(op);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut state = self.op()?;
        let state = &mut *state;
        state.syncs += 1;
        for op in state.unsynced.drain(..) {
            apply(&mut state.durable, &op, 8);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let op = Op::Write(usize::try_from(offset).unwrap(), data.to_vec());
        let mut state = match self.op() {
            Ok(state) => state,
            Err(error) => {
                // The power failed during it: part of it may have arrived.
                self.state().unsynced.push(op);
                return Err(error);
            }
        };
        if let Some(budget) = &mut state.budget {
            *budget = budget
                .checked_sub(data.len())
                .ok_or(io::ErrorKind::StorageFull)?;
        }
        state.written += data.len();
        apply(&mut state.bytes, &op, 8);
        state.unsynced.push(op);
        Ok(())
    }
}
