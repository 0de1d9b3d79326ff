//! A piece of the log: named, written from front to back, then sealed and shared.

/// A chunk of one job. Ids are never used twice, and grow with time: of two entries of a key, the one in the chunk with
/// the higher id, or further back in the same chunk, is the newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u64);

/// A chunk in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
}

/// A sealed chunk: its bytes never change again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its id.
    pub id: ChunkId,
    /// Its entries, as `state::layout` writes them.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Names this chunk in a checkpoint.
    #[must_use]
    pub fn as_ref(&self) -> ChunkRef {
        ChunkRef {
            id: self.id,
            len: u32::try_from(self.bytes.len()).expect("a chunk stays below 4 GiB"),
        }
    }
}
