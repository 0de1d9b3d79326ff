//! Stores a chunk: compressed if that saves enough, in pieces, with its checksum and its index.
//!
//! The checksum covers the bytes before compression, so faults of the compression are found as well. A chunk that does
//! not shrink by a tenth is stored uncompressed. The checksum of an index is seeded with its chunk's, so the index of
//! another chunk does not match. No more bytes are read than the checkpoint says.

use std::borrow::Cow;

use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::error::StoreFault;
use super::tables::{self, ChunkEntry, Pieces};
use crate::Compression;
use floodmark_state::{ChunkId, ChunkRef, chunk_index};

/// The codec of the lz4 block format. A chunk without a codec is stored as it is.
const LZ4: u8 = 1;
/// Largest expansion of an lz4 block: one byte stands for at most this many.
const LZ4_RATIO_MAX: usize = 255;
/// Bytes of the checksum in front of an index.
const INDEX_HEAD_BYTES: usize = 8;

/// The index with which a restore finds the entries of a chunk without reading it; `None` for bytes without entries.
fn chunk_index_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let index = chunk_index::of(bytes);
    (!index.is_empty()).then_some(index)
}

/// The tables of chunks in a write transaction.
pub(super) struct ChunkTables<'t> {
    stored: Table<'t, u64, ChunkEntry>,
    pieces: Pieces<'t>,
    codecs: Table<'t, u64, (u8, u32)>,
    indexes: Pieces<'t>,
}

impl<'t> ChunkTables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreFault> {
        Ok(Self {
            stored: transaction.open_table(tables::CHUNKS)?,
            pieces: transaction.open_table(tables::CHUNK_BYTES)?,
            codecs: transaction.open_table(tables::CHUNK_CODEC)?,
            indexes: transaction.open_table(tables::CHUNK_INDEX)?,
        })
    }

    /// References, length and checksum of a stored chunk.
    pub(super) fn get(&self, id: ChunkId) -> Result<Option<(u32, u32, u64)>, StoreFault> {
        Ok(self.stored.get(id.0)?.map(|found| found.value()))
    }

    pub(super) fn ids(&self) -> Result<Vec<u64>, StoreFault> {
        let ids = self.stored.iter()?;
        Ok(ids
            .map(|entry| Ok(entry?.0.value()))
            .collect::<Result<_, redb::StorageError>>()?)
    }

    pub(super) fn insert(
        &mut self,
        chunk: ChunkRef,
        bytes: &[u8],
        count: u32,
        compression: Compression,
    ) -> Result<(), StoreFault> {
        let id = chunk.id.0;
        let checksum = xxh3_64(bytes);
        let stored = compress(bytes, compression);
        if let Cow::Owned(stored) = &stored {
            let len = u32::try_from(stored.len()).expect("it is shorter than the chunk");
            self.codecs.insert(id, (LZ4, len))?;
        }
        tables::insert_chunk(&mut self.pieces, id, &stored)?;
        self.stored.insert(id, (count, chunk.len, checksum))?;
        if let Some(index) = chunk_index_of(bytes) {
            let head = xxh3_64_with_seed(&index, checksum).to_le_bytes();
            tables::insert_index(&mut self.indexes, id, &[&head[..], &index].concat())?;
        }
        Ok(())
    }

    pub(super) fn set_count(&mut self, id: ChunkId, count: u32) -> Result<(), StoreFault> {
        if let Some((stored, len, checksum)) = self.get(id)?
            && stored != count
        {
            self.stored.insert(id.0, (count, len, checksum))?;
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, id: u64) -> Result<(), StoreFault> {
        self.stored.remove(id)?;
        self.codecs.remove(id)?;
        let Self {
            pieces, indexes, ..
        } = self;
        tables::remove_pieces(|number| Ok(pieces.remove((id, number))?.is_some()))?;
        tables::remove_pieces(|number| Ok(indexes.remove((id, number))?.is_some()))
    }
}

/// The bytes to store: owned if they are compressed.
fn compress(bytes: &[u8], compression: Compression) -> Cow<'_, [u8]> {
    if compression == Compression::Lz4 {
        let compressed = lz4_flex::block::compress(bytes);
        if compressed.len() <= bytes.len() - bytes.len() / 10 && compressed.len() < bytes.len() {
            return Cow::Owned(compressed);
        }
    }
    Cow::Borrowed(bytes)
}

/// The bytes of a chunk, exactly as written.
pub(super) fn read(transaction: &ReadTransaction, chunk: ChunkRef) -> Result<Vec<u8>, StoreFault> {
    let damaged = |what| StoreFault::Damaged(format!("chunk {} {what}", chunk.id.0));
    let checksum = checksum_of(transaction, chunk)?;
    let id = chunk.id.0;
    let len = chunk.len as usize;
    let codecs = transaction.open_table(tables::CHUNK_CODEC)?;
    let codec = codecs.get(id)?.map(|found| found.value());
    let pieces = transaction.open_table(tables::CHUNK_BYTES)?;
    let bytes = match codec {
        None => tables::read_chunk(&pieces, id, len)?,
        Some((LZ4, stored)) if stored < chunk.len => {
            let stored = stored as usize;
            let compressed = tables::read_chunk(&pieces, id, stored)?;
            // Allocate at most what these bytes can decompress to, even if the stored lengths claim more.
            if compressed.len() != stored || len / LZ4_RATIO_MAX > stored {
                return Err(damaged("is shorter than when it was written"));
            }
            let mut bytes = vec![0; len];
            let written = lz4_flex::block::decompress_into(&compressed, &mut bytes);
            if written.map_err(|_| damaged("cannot be decompressed"))? != len {
                return Err(damaged("is shorter than when it was written"));
            }
            bytes
        }
        Some(_) => return Err(damaged("has an unknown compression")),
    };
    if bytes.len() != len {
        return Err(damaged("is shorter than when it was written"));
    }
    if xxh3_64(&bytes) != checksum {
        return Err(damaged("does not match its checksum"));
    }
    Ok(bytes)
}

fn checksum_of(transaction: &ReadTransaction, chunk: ChunkRef) -> Result<u64, StoreFault> {
    let damaged = |what| StoreFault::Damaged(format!("chunk {} {what}", chunk.id.0));
    let chunks = transaction.open_table(tables::CHUNKS)?;
    let found = chunks
        .get(chunk.id.0)?
        .ok_or_else(|| damaged("is missing"))?;
    let (_, len, checksum) = found.value();
    if len != chunk.len {
        return Err(damaged("has a different length than its checkpoint says"));
    }
    Ok(checksum)
}

/// The result of reading a chunk's index.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IndexFound {
    Absent,
    Sound(Vec<u8>),
    Damaged,
}

impl IndexFound {
    /// The index if it is sound. Without one, the chunk is read whole, so a damaged index does no harm.
    pub(super) fn sound(self) -> Option<Vec<u8>> {
        match self {
            Self::Sound(index) => Some(index),
            Self::Absent | Self::Damaged => None,
        }
    }
}

pub(super) fn read_index(
    transaction: &ReadTransaction,
    chunk: ChunkRef,
) -> Result<IndexFound, StoreFault> {
    let pieces = transaction.open_table(tables::CHUNK_INDEX)?;
    let checksum = checksum_of(transaction, chunk)?;
    let mut bytes = tables::read_chunk(&pieces, chunk.id.0, usize::MAX)?;
    if bytes.is_empty() {
        return Ok(IndexFound::Absent);
    }
    let Some((head, index)) = bytes.split_at_checked(INDEX_HEAD_BYTES) else {
        return Ok(IndexFound::Damaged);
    };
    if head != xxh3_64_with_seed(index, checksum).to_le_bytes() {
        return Ok(IndexFound::Damaged);
    }
    bytes.drain(..INDEX_HEAD_BYTES);
    Ok(IndexFound::Sound(bytes))
}
