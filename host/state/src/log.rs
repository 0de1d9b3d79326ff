//! The chunks of one task's state: the tail that entries are appended to, and the sealed ones before it.
//!
//! The log knows entries and addresses, but not keys: the index in `store` knows which entry is the newest of its key.
//! `residency` moves the bytes of sealed chunks, and `history` keeps the data for rollbacks. Buffers of dropped chunks
//! are reused, since fresh memory costs page faults.

use std::sync::Arc;

use super::history::{Counts, History};
use super::index::{HANDLE_LIMIT, OFFSET_LIMIT, Word};
use super::layout::{self, Content, Entry, Head};
use super::residency::Residency;
use super::{Chunk, ChunkId, ChunkIds, ChunkRef, StateError, StateId};
use crate::scratch_file::Slots;
use crate::stream::{KeyGroup, KeyGroupRange};

/// The size that a chunk is filled to, in bytes. A longer entry gets a chunk of its own.
pub const CHUNK_BYTES: usize = (1 << 20) - 4096;
const _: () = assert!(CHUNK_BYTES <= OFFSET_LIMIT);

/// Bytes that compaction may scan after each barrier, even if little was written, so that small chunks are merged.
const SCAN_BYTES_A_SEAL: usize = 256 << 10;

/// The chunks of one task, by handle. Handle 0 is never used.
///
/// - Chunks before the tail are sealed and never change; those of the tail have no other owner.
/// - `live` of a chunk is the number of bytes in it that the index points at; a sealed chunk with 0 is dropped.
/// - Chunk ids grow in the order in which chunks were started.
/// - `tombstones` is the number of words of the index that point at one.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) chunks: Vec<Option<LogChunk>>,
    free: Vec<u32>,
    pub(super) tail: Vec<u32>,
    pub(super) ids: ChunkIds,
    pub(super) live_bytes: usize,
    pub(super) total_bytes: usize,
    pub(super) tombstones: usize,
    pub(super) appended_bytes: usize,
    pub(super) compaction: CompactionProgress,
    pub(super) residency: Residency,
    pub(super) history: History,
}

/// A chunk: the fields that each lookup needs, and the rest.
#[derive(Debug)]
pub(super) struct LogChunk {
    pub(super) place: ChunkPlace,
    pub(super) id: ChunkId,
    pub(super) live: usize,
    /// Whether it was read since eviction last considered it. Only maintained if chunks are evicted.
    pub(super) is_referenced: bool,
    pub(super) rest: Box<ChunkRest>,
}

/// The place of a chunk's bytes.
#[derive(Debug)]
pub(super) enum ChunkPlace {
    /// In memory, and growing.
    Tail(Vec<u8>),
    /// In memory.
    Resident(Arc<Chunk>),
    /// In the scratch file only.
    Cold,
    /// In the checkpoint that the store was restored from.
    Stored,
}

/// The fields that a lookup does not need.
#[derive(Debug, Default)]
pub(super) struct ChunkRest {
    /// Length of a sealed chunk in bytes.
    pub(super) len: u32,
    /// By entry, the word that it replaced; empty if no rollback needs it.
    pub(super) replaced: Vec<Word>,
    /// The number of its first entry among all entries ever appended.
    pub(super) first_append: u64,
    /// The states of its entries: one bit by state id; the last bit for all ids from 63 on.
    pub(super) states: u64,
    /// Bytes of entries that expire, and of pages with items that do.
    pub(super) timed_bytes: usize,
    /// The time when the last of them expires.
    pub(super) expires_ms: u64,
    /// Its copy in the scratch file.
    pub(super) slots: Option<Slots>,
    /// Number of entries that were read from the scratch file since the chunk was last in memory.
    pub(super) cold_reads: u32,
    /// Fingerprint of its index, if only the index was read so far.
    pub(super) fingerprint: Option<u64>,
    /// Whether it is kept only for a rollback.
    pub(super) is_in_limbo: bool,
    /// Whether the sweep has searched it for entries of earlier versions.
    pub(super) sweep: SweepMark,
    /// The key groups whose entries are valid, if the chunk also has outdated entries of other key groups that the task
    /// owns; otherwise empty. Entries that would hide outdated ones may be gone, so later checkpoints must not use the
    /// chunk for those key groups either.
    pub(super) counts_for: Box<[KeyGroupRange]>,
}

/// How far the sweep is with a chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SweepMark {
    /// It may have entries of earlier versions that the sweep has not named.
    #[default]
    Unsearched,
    /// The sweep has named all of them, so most are garbage by now.
    Searched,
    /// Compaction has moved entries to it that the sweep had named: they could not be migrated.
    Remaining,
}

impl LogChunk {
    pub(super) fn new(id: ChunkId, place: ChunkPlace, rest: ChunkRest) -> Self {
        Self {
            place,
            id,
            live: 0,
            is_referenced: true,
            rest: Box::new(rest),
        }
    }

    /// Its bytes if they are in memory, otherwise empty.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.place {
            ChunkPlace::Tail(bytes) => bytes,
            ChunkPlace::Resident(chunk) => &chunk.bytes,
            ChunkPlace::Cold | ChunkPlace::Stored => &[],
        }
    }

    pub(super) fn len(&self) -> usize {
        match &self.place {
            ChunkPlace::Tail(bytes) => bytes.len(),
            _ => self.rest.len as usize,
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        !matches!(self.place, ChunkPlace::Tail(_))
    }

    pub(super) fn as_ref(&self) -> ChunkRef {
        ChunkRef {
            id: self.id,
            len: u32::try_from(self.len()).expect("a chunk stays below 4 GiB"),
        }
    }

    /// Whether the sweep still has to search it for entries of states with these bits.
    pub(super) fn is_unsearched(&self, bits: u64) -> bool {
        self.rest.states & bits != 0 && self.rest.sweep == SweepMark::Unsearched
    }

    pub(super) fn may_hold(&self, state: StateId) -> bool {
        self.rest.states & state_bit(state) != 0
    }
}

/// The bit of a state in [`ChunkRest::states`].
#[inline]
pub(super) fn state_bit(state: StateId) -> u64 {
    1 << state.0.min(63)
}

/// The progress of compaction.
#[derive(Debug, Default)]
pub(super) struct CompactionProgress {
    /// Bytes that may be scanned.
    pub(super) allowed: usize,
    pub(super) victim: Option<Victim>,
}

/// A chunk whose live entries move to the tail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    pub(super) handle: u32,
    pub(super) id: ChunkId,
    /// The offset of the next entry to examine.
    pub(super) offset: usize,
}

impl CompactionProgress {
    pub(super) fn allow(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_add(bytes);
    }
}

/// The state at a barrier.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// All chunks, oldest first.
    pub chunks: Vec<ChunkRef>,
    /// The same chunks by ranges of key groups, which together are those of the task; usually one range. A chunk is
    /// listed only for key groups whose entries in it are valid, and a restore uses no others.
    pub parts: Vec<(KeyGroupRange, Vec<ChunkRef>)>,
    /// The chunks that no earlier barrier has returned.
    pub fresh: Vec<Arc<Chunk>>,
    /// Index hashes that two entries were ever seen to share, sorted.
    pub collided: Vec<u64>,
    /// States that the chunks may have entries of.
    pub held: HeldStates,
    /// The number of this seal, for [`super::StateStore::durable`].
    pub epoch: u64,
}

/// A set of states. It may contain too many, but never too few.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldStates(u64);

impl HeldStates {
    /// The set for chunks about which nothing is known.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether the set may contain a state.
    #[must_use]
    pub fn may_have(self, state: StateId) -> bool {
        self.0 & state_bit(state) != 0
    }

    /// The union of both sets.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An entry to append.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewEntry<'a> {
    pub(super) head: Head,
    pub(super) key: &'a [u8],
    pub(super) content: Content<'a>,
    /// Its index hash.
    pub(super) hash: u64,
    /// The expiry time of the entry, or of the last item of a page; 0 if it never expires.
    pub(super) expires_ms: u64,
    /// The word of the entry that it replaces.
    pub(super) replaces: Word,
}

impl Log {
    pub(super) fn new(ids: ChunkIds, residency: Residency, history: History) -> Self {
        Self {
            chunks: vec![None],
            free: Vec::new(),
            tail: Vec::new(),
            ids,
            live_bytes: 0,
            total_bytes: 0,
            tombstones: 0,
            appended_bytes: 0,
            compaction: CompactionProgress::default(),
            residency,
            history,
        }
    }

    /// The bytes of a chunk if they are in memory, otherwise empty.
    #[inline]
    pub(super) fn bytes(&self, handle: u32) -> &[u8] {
        self.chunk(handle).bytes()
    }

    #[inline]
    pub(super) fn chunk(&self, handle: u32) -> &LogChunk {
        self.chunks[handle as usize]
            .as_ref()
            .expect("a handle in use names a chunk")
    }

    #[inline]
    pub(super) fn chunk_mut(&mut self, handle: u32) -> &mut LogChunk {
        self.chunks[handle as usize]
            .as_mut()
            .expect("a handle in use names a chunk")
    }

    /// The entry at an address, wherever its chunk is.
    #[inline]
    pub(super) fn entry(&mut self, word: Word) -> Result<Entry<'_>, StateError> {
        if self.bytes(word.handle()).is_empty() {
            return self.fetch_entry(word);
        }
        Ok(layout::entry_at(self.bytes(word.handle()), word.offset()))
    }

    /// The entry that [`Log::entry`] has just returned.
    pub(super) fn entry_again(&self, word: Word) -> Entry<'_> {
        match self.bytes(word.handle()) {
            [] => layout::entry_at(&self.residency.entry, 0),
            bytes => layout::entry_at(bytes, word.offset()),
        }
    }

    /// Overwrites the value of an entry, if the entry is in the tail and the new value has the same length.
    #[inline]
    pub(super) fn update_in_place(
        &mut self,
        word: Word,
        value: &[u8],
        written_ms: Option<u64>,
        expires_ms: u64,
    ) -> bool {
        let offset = word.offset();
        let chunk = self.chunk_mut(word.handle());
        let ChunkPlace::Tail(bytes) = &mut chunk.place else {
            return false;
        };
        let entry = layout::entry_at(bytes, offset);
        let Content::Value(old) = entry.content else {
            return false;
        };
        if old.len() != value.len() || entry.written_ms.is_some() != written_ms.is_some() {
            return false;
        }
        let end = offset + entry.len;
        if let (Some(range), Some(written_ms)) = (layout::written_range(&entry), written_ms) {
            let range = offset + range.start..offset + range.end;
            bytes[range].copy_from_slice(&written_ms.to_le_bytes());
        }
        chunk.rest.expires_ms = chunk.rest.expires_ms.max(expires_ms);
        bytes[end - value.len()..end].copy_from_slice(value);
        true
    }

    #[inline]
    pub(super) fn append(&mut self, entry: &NewEntry<'_>) -> Word {
        let handle = self.tail_with_room(layout::entry_bytes_max(entry.key, entry.content));
        let notes = self.history.notes;
        let chunk = self.chunk_mut(handle);
        let ChunkPlace::Tail(bytes) = &mut chunk.place else {
            unreachable!("the tail is not sealed")
        };
        let offset = bytes.len();
        layout::append(bytes, entry.head, entry.key, entry.content);
        let len = bytes.len() - offset;
        chunk.live += len;
        chunk.rest.states |= state_bit(entry.head.state);
        if entry.expires_ms > 0 {
            chunk.rest.timed_bytes += len;
            chunk.rest.expires_ms = chunk.rest.expires_ms.max(entry.expires_ms);
        }
        if notes {
            chunk.rest.replaced.push(entry.replaces);
            self.history.words += 1;
            self.history.appends += 1;
        }
        self.live_bytes += len;
        self.total_bytes += len;
        self.appended_bytes += len;
        Word::new(entry.hash, handle, offset)
    }

    #[inline]
    fn tail_with_room(&mut self, room: usize) -> u32 {
        if let Some(&handle) = self.tail.last() {
            let used = self.bytes(handle).len();
            if used == 0 || used + room <= CHUNK_BYTES {
                return handle;
            }
        }
        self.begin_chunk()
    }

    #[cold]
    fn begin_chunk(&mut self) -> u32 {
        let id = self.ids.take();
        let mut bytes = self.residency.take_spare();
        bytes.clear();
        bytes.reserve_exact(CHUNK_BYTES);
        let rest = ChunkRest {
            first_append: self.history.appends,
            ..ChunkRest::default()
        };
        let handle = self.add(LogChunk::new(id, ChunkPlace::Tail(bytes), rest));
        self.tail.push(handle);
        if self.history.is_kept {
            self.history.born.push((self.history.epoch, handle));
        }
        handle
    }

    /// Whether there is no handle left for another chunk.
    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty() && self.chunks.len() >= HANDLE_LIMIT as usize
    }

    pub(super) fn add(&mut self, chunk: LogChunk) -> u32 {
        if let Some(handle) = self.free.pop() {
            self.chunks[handle as usize] = Some(chunk);
            return handle;
        }
        let handle = u32::try_from(self.chunks.len()).expect("fewer than 4 Gi chunks");
        assert!(
            handle < HANDLE_LIMIT,
            "a task's state stays below 1 Mi chunks"
        );
        self.chunks.push(Some(chunk));
        handle
    }

    /// The id of the chunk that the next entry goes to, if it fits.
    pub(super) fn tail_id(&mut self) -> ChunkId {
        let handle = match self.tail.last() {
            Some(&handle) => handle,
            None => self.begin_chunk(),
        };
        self.chunk(handle).id
    }

    /// Counts an entry as garbage, and drops its chunk if it has no other live entry.
    #[inline]
    pub(super) fn discard(&mut self, word: Word, len: usize) {
        let chunk = self.chunk_mut(word.handle());
        chunk.live = chunk.live.saturating_sub(len);
        let drained = chunk.live == 0 && chunk.is_sealed();
        self.live_bytes = self.live_bytes.saturating_sub(len);
        if drained {
            self.let_go(word.handle());
        }
    }

    /// Drops a chunk without a live entry: at once, or as soon as no rollback can need it.
    pub(super) fn let_go(&mut self, handle: u32) {
        let chunk = self.chunk_mut(handle);
        assert_eq!(
            chunk.live, 0,
            "a chunk that is let go holds nothing that is needed"
        );
        let len = chunk.len();
        let waits = len > 0;
        chunk.rest.is_in_limbo = waits;
        self.total_bytes -= len;
        if waits && self.history.notes {
            self.history.limbo.push((self.history.epoch, handle));
        } else {
            self.free(handle);
        }
    }

    /// Frees a chunk and its handle. The counts no longer include it.
    pub(super) fn free(&mut self, handle: u32) {
        let chunk = self.chunks[handle as usize]
            .take()
            .expect("a handle in use names a chunk");
        self.free.push(handle);
        self.history.words -= chunk.rest.replaced.len();
        if self.history.is_kept {
            self.history.born.retain(|&(_, born)| born != handle);
        }
        self.residency.forget(chunk);
    }

    pub(super) fn seal(&mut self) -> Sealed {
        self.compaction.allow(SCAN_BYTES_A_SEAL);
        let mut fresh = Vec::with_capacity(self.tail.len());
        for handle in std::mem::take(&mut self.tail) {
            let chunk = self.chunk_mut(handle);
            let ChunkPlace::Tail(bytes) = &mut chunk.place else {
                unreachable!("the tail is not sealed")
            };
            let mut bytes = std::mem::take(bytes);
            if bytes.len() < CHUNK_BYTES / 2 {
                bytes.shrink_to_fit();
            }
            let sealed = Arc::new(Chunk {
                id: chunk.id,
                bytes,
            });
            chunk.rest.len = sealed.as_ref().as_ref().len;
            chunk.place = ChunkPlace::Resident(Arc::clone(&sealed));
            let is_empty = chunk.live == 0;
            self.residency.resident_bytes += sealed.bytes.len();
            if is_empty {
                self.let_go(handle);
            } else {
                fresh.push(sealed);
            }
        }
        let mut chunks: Vec<_> = self.sealed().map(|(_, chunk)| chunk.as_ref()).collect();
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        let held = self.sealed().map(|(_, chunk)| chunk.rest.states);
        let held = HeldStates(held.fold(0, |bits, more| bits | more));
        let epoch = self.history.epoch;
        self.note_counts(epoch);
        self.history.epoch += 1;
        self.history.notes = self.history.is_kept;
        Sealed {
            chunks,
            parts: Vec::new(),
            fresh,
            collided: Vec::new(),
            held,
            epoch,
        }
    }

    /// The sealed chunks by ranges of the task's key groups: as few ranges as possible.
    pub(super) fn parts(&self, own: &KeyGroupRange) -> Vec<(KeyGroupRange, Vec<ChunkRef>)> {
        let own = own.0.clone();
        let mut chunks: Vec<_> = self.sealed().map(|(_, chunk)| chunk).collect();
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        let ranges = chunks.iter().flat_map(|chunk| &chunk.rest.counts_for);
        let mut borders: Vec<_> = ranges
            .flat_map(|range| [range.0.start, range.0.end])
            .filter(|border| own.start < *border && *border < own.end)
            .chain([own.start, own.end])
            .collect();
        borders.sort_unstable();
        borders.dedup();
        let mut parts: Vec<(KeyGroupRange, Vec<ChunkRef>)> = Vec::new();
        for (&start, &end) in borders.iter().zip(&borders[1..]) {
            let counts = |chunk: &&&LogChunk| {
                let mut ranges = chunk.rest.counts_for.iter();
                chunk.rest.counts_for.is_empty()
                    || ranges.any(|range| range.contains(KeyGroup(start)))
            };
            let chunks: Vec<_> = chunks
                .iter()
                .filter(counts)
                .map(|chunk| chunk.as_ref())
                .collect();
            match parts.last_mut() {
                Some((range, before)) if *before == chunks => range.0.end = end,
                _ => parts.push((KeyGroupRange(start..end), chunks)),
            }
        }
        parts
    }

    /// Notes the counts that a rollback to this seal restores.
    pub(super) fn note_counts(&mut self, seal: u64) {
        if self.history.is_kept {
            let live = self.sealed().map(|(handle, chunk)| (handle, chunk.live));
            let counts = Counts {
                seal,
                live: live.collect(),
                live_bytes: self.live_bytes,
                total_bytes: self.total_bytes,
                tombstones: self.tombstones,
            };
            self.history.counts.push(counts);
        }
    }

    /// The sealed chunks that are not in limbo, and their handles.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (u32, &LogChunk)> {
        self.chunks
            .iter()
            .enumerate()
            .filter_map(|(handle, chunk)| {
                let chunk = chunk.as_ref()?;
                let counts = chunk.is_sealed() && !chunk.rest.is_in_limbo;
                counts.then_some((handle as u32, chunk))
            })
    }
}
