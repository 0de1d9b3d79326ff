//! Moves the bytes of sealed chunks between memory, the task's scratch file, and the checkpoint that the store was
//! restored from.
//!
//! A chunk of the checkpoint is read as a whole when an entry of it is needed, or supplied earlier by a loader in the
//! background. With a budget, chunks move from memory to the scratch file, chosen by the clock algorithm (Corbató,
//! 1968), and entries are read from there one by one; a chunk with many such reads is loaded as a whole. Chunks that
//! are read back are compared with their index, since the rest of the store relies on it.

use std::sync::Arc;

use super::index::Word;
use super::layout::{self, Entry};
use super::log::{CHUNK_BYTES, ChunkPlace, Log, LogChunk};
use super::scratch_file::ScratchFile;
use super::settings::Backend;
use super::{Chunk, ChunkDamage, ChunkId, ChunkReader, ChunkRef, StateError, chunk_index};

/// Buffers of dropped chunks that are kept for new ones.
const SPARE_BUFFERS_MAX: usize = 32;
/// The same where memory is short.
const SPARE_BUFFERS_MAX_DISK: usize = 2;

/// Entries of a cold chunk that are read before the whole chunk is loaded.
const COLD_READS_MAX: u32 = 1024;
/// Bytes of a cold entry that are read first: most entries are shorter.
const COLD_READ_BYTES: usize = 256;

/// The places for chunks, and the bytes of sealed ones in memory.
pub(super) struct Residency {
    reader: Option<Arc<dyn ChunkReader>>,
    disk: Option<Disk>,
    spare: Vec<Vec<u8>>,
    spare_max: usize,
    pub(super) resident_bytes: usize,
    /// The cold entry that was read last.
    pub(super) entry: Vec<u8>,
}

struct Disk {
    scratch: ScratchFile,
    budget_bytes: usize,
    hand: usize,
}

impl std::fmt::Debug for Residency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Residency")
            .field("resident_bytes", &self.resident_bytes)
            .finish_non_exhaustive()
    }
}

impl Residency {
    pub(super) fn new(backend: Backend, reader: Option<Arc<dyn ChunkReader>>) -> Self {
        let disk = match backend {
            Backend::Memory => None,
            Backend::Disk {
                scratch,
                budget_bytes,
            } => Some(Disk {
                scratch: ScratchFile::new(scratch),
                budget_bytes,
                hand: 0,
            }),
        };
        Self {
            reader,
            spare_max: match disk {
                None => SPARE_BUFFERS_MAX,
                Some(_) => SPARE_BUFFERS_MAX_DISK,
            },
            disk,
            spare: Vec::new(),
            resident_bytes: 0,
            entry: Vec::new(),
        }
    }

    /// Whether there is a budget.
    #[inline]
    pub(super) fn is_bounded(&self) -> bool {
        self.disk.is_some()
    }

    /// Largest number of bytes in memory.
    pub(super) fn budget_bytes(&self) -> usize {
        let disk = self.disk.as_ref();
        disk.map_or(usize::MAX, |disk| disk.budget_bytes)
    }

    /// Largest number of bytes for rollback data.
    pub(super) fn history_bytes_max(&self) -> usize {
        match self.disk {
            None => usize::MAX,
            Some(_) => self.budget_bytes() / 4,
        }
    }

    pub(super) fn take_spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    fn keep_spare(&mut self, chunk: Arc<Chunk>) {
        if self.spare.len() < self.spare_max
            && let Ok(chunk) = Arc::try_unwrap(chunk)
            && chunk.bytes.capacity() == CHUNK_BYTES
        {
            self.spare.push(chunk.bytes);
        }
    }

    /// Frees what a dropped chunk used.
    pub(super) fn forget(&mut self, chunk: LogChunk) {
        if let (Some(slots), Some(disk)) = (chunk.rest.slots, &mut self.disk) {
            disk.scratch.release(slots);
        }
        if let ChunkPlace::Resident(shared) = chunk.place {
            self.resident_bytes -= shared.bytes.len();
            self.keep_spare(shared);
        }
    }
}

fn damaged(chunk: ChunkId, reason: ChunkDamage) -> StateError {
    StateError::Damaged { chunk, reason }
}

impl Log {
    /// The entry at an address whose chunk is not in memory.
    #[cold]
    pub(super) fn fetch_entry(&mut self, word: Word) -> Result<Entry<'_>, StateError> {
        let (handle, offset) = (word.handle(), word.offset());
        let chunk = self.chunk_mut(handle);
        if matches!(chunk.place, ChunkPlace::Cold) {
            chunk.rest.cold_reads += 1;
            if chunk.rest.cold_reads < COLD_READS_MAX {
                return self.read_cold(handle, offset);
            }
        }
        self.make_resident(handle)?;
        let chunk = self.chunk(handle);
        layout::read(chunk.bytes(), offset).map_err(|malformed| damaged(chunk.id, malformed.into()))
    }

    fn read_cold(&mut self, handle: u32, offset: usize) -> Result<Entry<'_>, StateError> {
        let Self {
            chunks, residency, ..
        } = self;
        let chunk = chunks[handle as usize]
            .as_ref()
            .expect("a handle in use names a chunk");
        let (Some(disk), Some(slots)) = (&residency.disk, &chunk.rest.slots) else {
            unreachable!("a cold chunk is in the scratch file")
        };
        let room = chunk.len().saturating_sub(offset);
        let read = |len: usize, into: &mut Vec<u8>| {
            into.resize(len, 0);
            disk.scratch
                .read(slots, offset, into)
                .map_err(|error| StateError::scratch(&error))
        };
        read(room.min(COLD_READ_BYTES), &mut residency.entry)?;
        let len = layout::entry_len(&residency.entry).filter(|&len| len <= room);
        let len = len.ok_or_else(|| damaged(chunk.id, ChunkDamage::ScratchCopy))?;
        if len > residency.entry.len() {
            read(len, &mut residency.entry)?;
        }
        layout::read(&residency.entry, 0).map_err(|_| damaged(chunk.id, ChunkDamage::ScratchCopy))
    }

    /// Loads the bytes of a chunk into memory; other chunks may be evicted.
    pub(super) fn make_resident(&mut self, handle: u32) -> Result<(), StateError> {
        let chunk = self.chunk(handle);
        let bytes = match chunk.place {
            ChunkPlace::Tail(_) | ChunkPlace::Resident(_) => return Ok(()),
            ChunkPlace::Cold => self.read_whole(handle)?,
            ChunkPlace::Stored => {
                let reader = self.residency.reader.as_ref();
                let reader = reader.expect("a stored chunk comes from a checkpoint");
                let bytes = reader.chunk(chunk.as_ref())?;
                check(chunk, &bytes)?;
                bytes
            }
        };
        let shared = Arc::new(Chunk {
            id: chunk.id,
            bytes,
        });
        self.settle(handle, shared);
        self.evict(Some(handle))
    }

    /// The bytes of a cold chunk.
    fn read_whole(&self, handle: u32) -> Result<Vec<u8>, StateError> {
        let chunk = self.chunk(handle);
        let (Some(disk), Some(slots)) = (&self.residency.disk, &chunk.rest.slots) else {
            unreachable!("a cold chunk is in the scratch file")
        };
        let mut bytes = vec![0; chunk.len()];
        disk.scratch
            .read(slots, 0, &mut bytes)
            .map_err(|error| StateError::scratch(&error))?;
        Ok(bytes)
    }

    fn settle(&mut self, handle: u32, shared: Arc<Chunk>) {
        self.residency.resident_bytes += shared.bytes.len();
        let chunk = self.chunk_mut(handle);
        chunk.place = ChunkPlace::Resident(shared);
        chunk.is_referenced = true;
        chunk.rest.cold_reads = 0;
    }

    /// The chunks that are only in the checkpoint, newest first.
    pub(super) fn missing(&self) -> Vec<ChunkRef> {
        let mut missing: Vec<_> = self
            .sealed()
            .filter(|(_, chunk)| matches!(chunk.place, ChunkPlace::Stored))
            .map(|(_, chunk)| chunk.as_ref())
            .collect();
        missing.sort_unstable_by_key(|chunk| std::cmp::Reverse(chunk.id));
        missing
    }

    /// Takes the bytes of a chunk that may be missing.
    pub(super) fn supply(&mut self, shared: Arc<Chunk>) -> Result<(), StateError> {
        let wanted = self.sealed().find(|(_, chunk)| chunk.id == shared.id);
        let Some((handle, chunk)) = wanted else {
            return Ok(());
        };
        if !matches!(chunk.place, ChunkPlace::Stored) {
            return Ok(());
        }
        check(chunk, &shared.bytes)?;
        self.settle(handle, shared);
        // No read has needed it yet, so it is evicted before others.
        self.chunk_mut(handle).is_referenced = false;
        self.evict(None)
    }

    /// Moves chunks out of memory until the budget is kept, or no other chunk can be moved. `keep` stays in memory.
    pub(super) fn evict(&mut self, keep: Option<u32>) -> Result<(), StateError> {
        let Some(budget) = self.residency.disk.as_ref().map(|disk| disk.budget_bytes) else {
            return Ok(());
        };
        let tail: usize = self
            .tail
            .iter()
            .map(|&handle| self.bytes(handle).len().max(CHUNK_BYTES))
            .sum();
        let fixed = tail + self.history.bytes();
        let count = self.chunks.len();
        // Two rounds: the first may only clear marks.
        for _ in 0..2 * count {
            if self.residency.resident_bytes == 0 || self.residency.resident_bytes + fixed <= budget
            {
                break;
            }
            let Some(disk) = &mut self.residency.disk else {
                break;
            };
            disk.hand = (disk.hand + 1) % count;
            let hand = disk.hand;
            let Some(chunk) = &mut self.chunks[hand] else {
                continue;
            };
            if keep == Some(hand as u32) || !matches!(chunk.place, ChunkPlace::Resident(_)) {
                continue;
            }
            if std::mem::take(&mut chunk.is_referenced) {
                continue;
            }
            self.move_out(hand as u32)?;
        }
        Ok(())
    }

    fn move_out(&mut self, handle: u32) -> Result<(), StateError> {
        let Self {
            chunks, residency, ..
        } = self;
        let (Some(chunk), Some(disk)) = (&mut chunks[handle as usize], &mut residency.disk) else {
            unreachable!("only chunks of a bounded log are moved out")
        };
        let ChunkPlace::Resident(shared) = &chunk.place else {
            unreachable!("only resident chunks are moved out")
        };
        if chunk.rest.slots.is_none() {
            let slots = disk.scratch.write(&shared.bytes);
            chunk.rest.slots = Some(slots.map_err(|error| StateError::scratch(&error))?);
        }
        if let ChunkPlace::Resident(shared) = std::mem::replace(&mut chunk.place, ChunkPlace::Cold)
        {
            residency.resident_bytes -= shared.bytes.len();
            residency.keep_spare(shared);
        }
        Ok(())
    }
}

/// Compares the bytes of a chunk with the index that the store was restored from.
fn check(chunk: &LogChunk, bytes: &[u8]) -> Result<(), StateError> {
    if bytes.len() != chunk.len() {
        return Err(damaged(chunk.id, ChunkDamage::Length));
    }
    let fingerprint = chunk_index::fingerprint(&chunk_index::of(bytes));
    match chunk.rest.fingerprint {
        Some(expected) if expected != fingerprint => {
            Err(damaged(chunk.id, ChunkDamage::OtherIndex))
        }
        _ => Ok(()),
    }
}
