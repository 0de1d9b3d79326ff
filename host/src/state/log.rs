//! The chunks of one task's state: the tail that entries are appended to, and the sealed ones before it.
//!
//! Knows entries and addresses, but not keys: which entry is the newest of its key is told by the index in `store`. Buffers
//! of dropped chunks are used again, since fresh memory costs page faults.

use std::sync::Arc;

use super::index::{HANDLE_LIMIT, OFFSET_LIMIT, Word};
use super::layout::{self, Content};
use super::{Chunk, ChunkId, ChunkIds, ChunkRef, StateId};

/// Bytes that a chunk is filled to. An entry that is longer has a chunk of its own.
pub const CHUNK_BYTES: usize = (1 << 20) - 4096;
const _: () = assert!(CHUNK_BYTES <= OFFSET_LIMIT);

/// Buffers of dropped chunks that are kept for new ones: fresh memory costs page faults.
const SPARE_BUFFERS_MAX: usize = 32;

/// Bytes that each barrier allows compaction to look at, whatever was written: small states merge their small chunks with it.
const SCAN_BYTES_A_SEAL: usize = 256 << 10;

/// The chunks of one task, by handle. Handle 0 is never given out.
///
/// - Chunks before the tail are sealed and never change; those of the tail are not shared with anybody.
/// - `live` of a chunk is the number of bytes in it that the index points at; a sealed chunk with none is dropped.
/// - Chunk ids grow in the order in which chunks were begun.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) chunks: Vec<Option<LogChunk>>,
    free: Vec<u32>,
    tail: Vec<u32>,
    pub(super) ids: ChunkIds,
    spare: Vec<Vec<u8>>,
    pub(super) live_bytes: usize,
    pub(super) total_bytes: usize,
    pub(super) appended_bytes: usize,
    pub(super) compaction: CompactionProgress,
}

#[derive(Debug)]
pub(super) struct LogChunk {
    pub(super) id: ChunkId,
    pub(super) bytes: ChunkBytes,
    pub(super) live: usize,
}

#[derive(Debug)]
pub(super) enum ChunkBytes {
    Tail(Vec<u8>),
    Sealed(Arc<Chunk>),
}

impl LogChunk {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match &self.bytes {
            ChunkBytes::Tail(bytes) => bytes,
            ChunkBytes::Sealed(chunk) => &chunk.bytes,
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.bytes, ChunkBytes::Sealed(_))
    }
}

/// How far compaction has come.
#[derive(Debug, Default)]
pub(super) struct CompactionProgress {
    /// Bytes that may be looked at.
    pub(super) allowed: usize,
    pub(super) victim: Option<Victim>,
}

/// A chunk whose live entries move to the tail.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    pub(super) handle: u32,
    pub(super) id: ChunkId,
    /// The entry to look at next.
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
    /// Those that no earlier barrier has handed over.
    pub fresh: Vec<Arc<Chunk>>,
}

/// What came of an update in place.
pub(super) enum InPlace {
    /// It is done.
    Done,
    /// The entry has to be written anew.
    Needs {
        /// Whether it stands for no value now.
        was_tombstone: bool,
    },
}

impl Log {
    pub(super) fn new(ids: ChunkIds) -> Self {
        Self {
            chunks: vec![None],
            free: Vec::new(),
            tail: Vec::new(),
            ids,
            spare: Vec::new(),
            live_bytes: 0,
            total_bytes: 0,
            appended_bytes: 0,
            compaction: CompactionProgress::default(),
        }
    }

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

    /// Changes the value of an entry where it stands, if it is in the tail and the new value is as long.
    #[inline]
    pub(super) fn update_in_place(&mut self, word: Word, value: Option<&[u8]>) -> InPlace {
        let offset = word.offset();
        let chunk = self.chunk_mut(word.handle());
        let entry = layout::entry_at(chunk.bytes(), offset);
        let Content::Value(old) = entry.content else {
            return InPlace::Needs {
                was_tombstone: true,
            };
        };
        let old_len = old.len();
        let end = offset + entry.len;
        match (&mut chunk.bytes, value) {
            (ChunkBytes::Tail(bytes), Some(value)) if value.len() == old_len => {
                bytes[end - old_len..end].copy_from_slice(value);
                InPlace::Done
            }
            _ => InPlace::Needs {
                was_tombstone: false,
            },
        }
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        state: StateId,
        key: &[u8],
        hash: u64,
        content: Content<'_>,
    ) -> Word {
        let handle = self.tail_with_room(layout::entry_bytes_max(key, content));
        let chunk = self.chunk_mut(handle);
        let ChunkBytes::Tail(bytes) = &mut chunk.bytes else {
            unreachable!("the tail is not sealed")
        };
        let offset = bytes.len();
        layout::append(bytes, layout::Head::plain(state), key, content);
        let len = bytes.len() - offset;
        chunk.live += len;
        self.live_bytes += len;
        self.total_bytes += len;
        self.appended_bytes += len;
        Word::new(hash, handle, offset)
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
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(CHUNK_BYTES);
        let handle = self.add(LogChunk {
            id,
            bytes: ChunkBytes::Tail(bytes),
            live: 0,
        });
        self.tail.push(handle);
        handle
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

    /// The id of the chunk that the next entry goes to, or would if it has room.
    pub(super) fn tail_id(&mut self) -> ChunkId {
        let handle = match self.tail.last() {
            Some(&handle) => handle,
            None => self.begin_chunk(),
        };
        self.chunk(handle).id
    }

    /// Counts an entry as garbage, and drops its chunk if that was its last.
    #[inline]
    pub(super) fn discard(&mut self, word: Word) {
        let chunk = self.chunk_mut(word.handle());
        let len = layout::entry_at(chunk.bytes(), word.offset()).len;
        chunk.live -= len;
        let drained = chunk.live == 0 && chunk.is_sealed();
        self.live_bytes -= len;
        if drained {
            self.drop_chunk(word.handle());
        }
    }

    /// Drops a chunk without a live entry.
    pub(super) fn drop_chunk(&mut self, handle: u32) {
        let chunk = self.chunks[handle as usize]
            .take()
            .expect("a handle in use names a chunk");
        assert_eq!(
            chunk.live, 0,
            "a dropped chunk holds nothing that is needed"
        );
        self.free.push(handle);
        self.total_bytes -= chunk.bytes().len();
        if let ChunkBytes::Sealed(shared) = chunk.bytes
            && self.spare.len() < SPARE_BUFFERS_MAX
            && let Ok(chunk) = Arc::try_unwrap(shared)
            && chunk.bytes.capacity() == CHUNK_BYTES
        {
            self.spare.push(chunk.bytes);
        }
    }

    pub(super) fn seal(&mut self) -> Sealed {
        self.compaction.allow(SCAN_BYTES_A_SEAL);
        let mut fresh = Vec::with_capacity(self.tail.len());
        for handle in std::mem::take(&mut self.tail) {
            let chunk = self.chunk_mut(handle);
            let ChunkBytes::Tail(bytes) = &mut chunk.bytes else {
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
            chunk.bytes = ChunkBytes::Sealed(Arc::clone(&sealed));
            if chunk.live == 0 {
                self.drop_chunk(handle);
            } else {
                fresh.push(sealed);
            }
        }
        let mut chunks: Vec<_> = self.sealed().map(|(_, chunk)| chunk_ref(chunk)).collect();
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        Sealed { chunks, fresh }
    }

    /// The sealed chunks and their handles.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (u32, &LogChunk)> {
        self.chunks
            .iter()
            .enumerate()
            .filter_map(|(handle, chunk)| {
                let chunk = chunk.as_ref().filter(|chunk| chunk.is_sealed())?;
                Some((handle as u32, chunk))
            })
    }
}

fn chunk_ref(chunk: &LogChunk) -> ChunkRef {
    ChunkRef {
        id: chunk.id,
        len: u32::try_from(chunk.bytes().len()).expect("a chunk stays below 4 GiB"),
    }
}
