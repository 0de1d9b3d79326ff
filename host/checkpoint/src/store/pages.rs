//! Checks every page of redb's file that is in use, including redb's internal ones, without writing to the file.
//!
//! This module's checksums cover stored data. redb's tables of free and freed pages are internal, and a flipped bit
//! there shows only when a transaction commits: redb then panics, panics again during cleanup, and the process is gone.
//! redb can check all its pages against its own checksums, but tries to repair what it finds. So the check runs on a
//! view of the file whose writes stay in memory: a repair writes a few pages, never the data.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::error::{StoreError, StoreFault};
use super::file;
use super::handle::{Handle, Storage};

const BLOCK_BYTES: usize = 4096;

/// A description of damage in the pages of the file in `storage`; `None` if they are sound. No handle on the file may
/// be open for writing.
///
/// An I/O error is returned as an error: it may be temporary, and is not damage.
pub(super) fn check(storage: &Storage, path: &Path) -> Result<Option<String>, StoreError> {
    let overlay =
        Overlay::new(storage.clone()).map_err(|error| StoreFault::from(error).of(path))?;
    let checked = Handle::open(&Storage::new(overlay), file::CACHE_BYTES)
        .and_then(|mut view| view.check_integrity());
    match checked {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(
            "redb's record of its pages does not match the pages".to_owned(),
        )),
        Err(fault) => match fault.of(path) {
            StoreError::Damaged { reason, .. } | StoreError::NotAStore { reason, .. } => {
                Ok(Some(reason))
            }
            error => Err(error),
        },
    }
}

/// A file with an overlay of blocks in memory that were written since.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Storage,
    state: Mutex<Overlaid>,
}

#[derive(Debug)]
struct Overlaid {
    len: u64,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    pub(super) fn new(file: Storage) -> Result<Self, io::Error> {
        let len = file.backend().len()?;
        let blocks = BTreeMap::new();
        Ok(Self {
            file,
            state: Mutex::new(Overlaid { len, blocks }),
        })
    }

    fn state(&self) -> MutexGuard<'_, Overlaid> {
        // No step under this lock leaves it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads bytes from `offset` on, with zeros beyond the end of the file.
    fn fill(&self, state: &Overlaid, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let in_file = self.file.backend().len()?.saturating_sub(offset);
        let in_file = out
            .len()
            .min(usize::try_from(in_file).unwrap_or(usize::MAX));
        let (from_file, beyond) = out.split_at_mut(in_file);
        if !from_file.is_empty() {
            self.file.backend().read(offset, from_file)?;
        }
        beyond.fill(0);
        for (number, from, to) in blocks(offset, out.len()) {
            if let Some(block) = state.blocks.get(&number) {
                let at = position(offset, number, from);
                out[at..at + to - from].copy_from_slice(&block[from..to]);
            }
        }
        Ok(())
    }
}

/// The blocks that `len` bytes from `offset` touch: the number, start and end of each.
fn blocks(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let size = BLOCK_BYTES as u64;
    let end = offset + len as u64;
    (offset / size..end.div_ceil(size)).map(move |number| {
        let start = number * size;
        let from = offset.saturating_sub(start);
        let to = (end - start).min(size);
        (number, from as usize, to as usize)
    })
}

/// The position of byte `from` of a block in a buffer that begins at `offset`.
fn position(offset: u64, number: u64, from: usize) -> usize {
    (number * BLOCK_BYTES as u64 + from as u64 - offset) as usize
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        match offset.checked_add(out.len() as u64) {
            Some(end) if end <= state.len => self.fill(&state, offset, out),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.state().len = len;
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        for (number, from, to) in blocks(offset, data.len()) {
            let mut block = vec![0; BLOCK_BYTES];
            self.fill(&state, number * BLOCK_BYTES as u64, &mut block)?;
            let at = position(offset, number, from);
            block[from..to].copy_from_slice(&data[at..at + to - from]);
            state.blocks.insert(number, block);
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }
}
