//! The tables in redb's file, and the layout of byte strings of any length in them.
//!
//! redb keeps a value that does not fit a leaf of 4 KiB in a page of its own, whose size is the next power of two, and
//! writes that page whole: 600 KB would cost 1 MiB, and 10 MB would cost 16 MiB. So bytes are stored in pieces that
//! fill their pages: first pieces of `CHUNK_BYTES_BEST`, then the powers of two that the rest is made of, until the
//! next page wastes little. Pieces smaller than a page are padded to one, so that each piece is alone in its leaf: then
//! an insertion never copies its neighbours. Readers only join the pieces and cut at the length, so the way of cutting
//! may change without a new format.

use redb::{ReadOnlyTable, ReadableTable, Table, TableDefinition};
use xxhash_rust::xxh3::xxh3_64;

use super::error::StoreFault;
use crate::manifest::ID_MAX;

/// Reference count, length, XXH3-64.
pub(super) type ChunkEntry = (u32, u32, u64);
/// A table of pieces, for data with a numeric id.
pub(super) type Pieces<'t> = Table<'t, (u64, u32), &'static [u8]>;

pub(super) const CHECKPOINTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("checkpoints");
/// By id: references from checkpoints, length, XXH3-64 of the bytes.
pub(super) const CHUNKS: TableDefinition<'_, u64, ChunkEntry> = TableDefinition::new("chunks");
/// By id: the codec, and the compressed length. Uncompressed chunks have no entry.
pub(super) const CHUNK_CODEC: TableDefinition<'_, u64, (u8, u32)> =
    TableDefinition::new("chunk-codec");
/// By id and piece number: the index of the chunk, with a checksum in front.
pub(super) const CHUNK_INDEX: TableDefinition<'_, (u64, u32), &[u8]> =
    TableDefinition::new("chunk-index");
/// By id and piece number: the bytes.
pub(super) const CHUNK_BYTES: TableDefinition<'_, (u64, u32), &[u8]> =
    TableDefinition::new("chunk-bytes");
/// By SHA-256: the length.
pub(super) const PLUGINS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("plugins");
/// By SHA-256 and piece number: the bytes.
pub(super) const PLUGIN_BYTES: TableDefinition<'_, ([u8; 32], u32), &[u8]> =
    TableDefinition::new("plugin-bytes");
/// Numbers by name, each with a checksum of number and name.
const META: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("meta");

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_CHECKPOINT: &str = "highest-checkpoint";
/// The highest checkpoint that was lost to damage: its id is not used again. Missing if none was ever lost.
pub(super) const META_LOST: &str = "highest-lost-checkpoint";
pub(super) const META_CHUNK: &str = "highest-chunk";

const PAGE_BYTES: usize = 4096;
const PAGE_BYTES_MAX: usize = 1 << 20;
/// A leaf's header (4), the end of its one value (4), and the larger of the two keys.
const CHUNK_PIECE_OVERHEAD: usize = 8 + 12;
const PLUGIN_PIECE_OVERHEAD: usize = 8 + 36;

/// The best length of a full chunk: it fills a page of 1 MiB to the last byte. Chunks may be shorter or longer.
pub const CHUNK_BYTES_BEST: usize = PAGE_BYTES_MAX - CHUNK_PIECE_OVERHEAD;

/// The lengths of the pieces of `len` bytes; the last may be padded to its length.
fn pieces(len: usize, overhead: usize) -> impl Iterator<Item = usize> {
    let mut left = len;
    let mut first = true;
    std::iter::from_fn(move || {
        if left == 0 && !first {
            return None;
        }
        first = false;
        let page = (left + overhead)
            .next_power_of_two()
            .clamp(PAGE_BYTES, PAGE_BYTES_MAX);
        let wasted = page.saturating_sub(left + overhead);
        // A thirty-second of the page is less than another piece would save in time.
        let piece = if wasted <= page / 32 || page == PAGE_BYTES {
            left.clamp(PAGE_BYTES - overhead, page - overhead)
        } else {
            page / 2 - overhead
        };
        left = left.saturating_sub(piece);
        Some(piece)
    })
}

pub(super) fn insert_chunk(
    table: &mut Pieces<'_>,
    id: u64,
    bytes: &[u8],
) -> Result<(), StoreFault> {
    insert_pieces(bytes, CHUNK_PIECE_OVERHEAD, true, |number, piece| {
        table.insert((id, number), piece)?;
        Ok(())
    })
}

/// Like chunks, but pieces smaller than a page share one with their neighbours: small chunks have indexes of a few
/// bytes, and a reader needs the exact length.
pub(super) fn insert_index(
    table: &mut Pieces<'_>,
    id: u64,
    bytes: &[u8],
) -> Result<(), StoreFault> {
    insert_pieces(bytes, CHUNK_PIECE_OVERHEAD, false, |number, piece| {
        table.insert((id, number), piece)?;
        Ok(())
    })
}

pub(super) fn insert_plugin(
    table: &mut Table<'_, ([u8; 32], u32), &[u8]>,
    digest: [u8; 32],
    bytes: &[u8],
) -> Result<(), StoreFault> {
    insert_pieces(bytes, PLUGIN_PIECE_OVERHEAD, true, |number, piece| {
        table.insert((digest, number), piece)?;
        Ok(())
    })
}

/// Uses `insert` and not `insert_reserve`: redb fills a value with zeros for the latter, and copies that as well.
fn insert_pieces(
    bytes: &[u8],
    overhead: usize,
    is_padded: bool,
    mut insert: impl FnMut(u32, &[u8]) -> Result<(), StoreFault>,
) -> Result<(), StoreFault> {
    let mut rest = bytes;
    for (number, len) in (0..).zip(pieces(bytes.len(), overhead)) {
        if len <= rest.len() {
            let (piece, after) = rest.split_at(len);
            insert(number, piece)?;
            rest = after;
        } else {
            let mut padded = rest.to_vec();
            if is_padded {
                padded.resize(len, 0);
            }
            insert(number, &padded)?;
            rest = &[];
        }
    }
    Ok(())
}

/// The joined pieces, of at most `len` bytes.
pub(super) fn read_chunk(
    table: &ReadOnlyTable<(u64, u32), &[u8]>,
    id: u64,
    len: usize,
) -> Result<Vec<u8>, StoreFault> {
    // The length may be wrong, so memory grows with the bytes that are read.
    let mut bytes = Vec::with_capacity(len.min(CHUNK_BYTES_BEST));
    for piece in table.range((id, 0)..=(id, u32::MAX))? {
        join(&mut bytes, piece?.1.value(), len);
    }
    Ok(bytes)
}

pub(super) fn read_plugin(
    table: &ReadOnlyTable<([u8; 32], u32), &[u8]>,
    digest: [u8; 32],
    len: usize,
) -> Result<Vec<u8>, StoreFault> {
    // The length is not verified yet, so no memory is reserved for it.
    let mut bytes = Vec::new();
    for piece in table.range((digest, 0)..=(digest, u32::MAX))? {
        join(&mut bytes, piece?.1.value(), len);
    }
    Ok(bytes)
}

/// Appends a piece, up to `len` bytes in all. Checksums are verified afterwards.
fn join(bytes: &mut Vec<u8>, piece: &[u8], len: usize) {
    let wanted = piece.len().min(len.saturating_sub(bytes.len()));
    bytes.extend_from_slice(&piece[..wanted]);
}

/// Calls `remove` with the number of each piece until there is none.
pub(super) fn remove_pieces(
    mut remove: impl FnMut(u32) -> Result<bool, redb::StorageError>,
) -> Result<(), StoreFault> {
    for number in 0..=u32::MAX {
        if !remove(number)? {
            break;
        }
    }
    Ok(())
}

/// The numbers that describe the whole store.
pub(super) fn meta(transaction: &redb::ReadTransaction) -> Result<Meta, StoreFault> {
    let table = match transaction.open_table(META) {
        Err(redb::TableError::Storage(error)) => return Err(error.into()),
        Err(error) => return Err(StoreFault::NotAStore(error.to_string())),
        Ok(table) => table,
    };
    let format = get_meta(&table, META_FORMAT)?
        .ok_or_else(|| StoreFault::Damaged("its format version is unreadable".to_owned()))?;
    Ok(Meta {
        format,
        highest_checkpoint: get_id(&table, META_CHECKPOINT)?,
        highest_lost: get_id(&table, META_LOST)?,
        highest_chunk: get_id(&table, META_CHUNK)?,
    })
}

/// The numbers; `None` for each that failed its checksum or is out of range.
pub(super) struct Meta {
    pub(super) format: u64,
    pub(super) highest_checkpoint: Option<u64>,
    pub(super) highest_lost: Option<u64>,
    pub(super) highest_chunk: Option<u64>,
}

impl Meta {
    pub(super) fn damage(&self) -> Option<String> {
        let read = self.highest_checkpoint.and(self.highest_chunk);
        let unreadable = || "the highest ids are unreadable".to_owned();
        read.is_none().then(unreadable)
    }
}

fn get_meta(
    table: &impl ReadableTable<&'static str, (u64, u64)>,
    name: &str,
) -> Result<Option<u64>, StoreFault> {
    let stored = table.get(name)?.map(|found| found.value());
    Ok(stored
        .and_then(|(number, checksum)| (meta_checksum(name, number) == checksum).then_some(number)))
}

/// An id that no job reaches is damage: the next ones would overflow.
fn get_id(
    table: &impl ReadableTable<&'static str, (u64, u64)>,
    name: &str,
) -> Result<Option<u64>, StoreFault> {
    Ok(get_meta(table, name)?.filter(|id| *id <= ID_MAX))
}

/// Stores `number` under `name`.
pub(super) fn set_meta(
    transaction: &redb::WriteTransaction,
    name: &str,
    number: u64,
) -> Result<(), StoreFault> {
    let mut table = transaction.open_table(META)?;
    table.insert(name, (number, meta_checksum(name, number)))?;
    Ok(())
}

fn meta_checksum(name: &str, number: u64) -> u64 {
    xxh3_64(&[name.as_bytes(), &number.to_le_bytes()].concat())
}

#[cfg(test)]
mod tests {
    //! Catches pieces that lose bytes, and lengths that waste much of a page.

    use super::*;

    fn written(len: usize) -> usize {
        let page = |piece: usize| (piece + CHUNK_PIECE_OVERHEAD).next_power_of_two();
        pieces(len, CHUNK_PIECE_OVERHEAD).map(page).sum()
    }

    #[test]
    fn pieces_cover_all_bytes_and_waste_little() {
        let lengths = (0..3_000_000)
            .step_by(997)
            .chain([CHUNK_BYTES_BEST, 10_000_000]);
        for len in lengths.chain(4000..4200) {
            let total: usize = pieces(len, CHUNK_PIECE_OVERHEAD).sum();
            assert!(total >= len, "{len}: {total}");
            assert!(
                written(len) <= len + len / 28 + PAGE_BYTES + 200,
                "{len}: {}",
                written(len)
            );
            assert!(
                pieces(len, CHUNK_PIECE_OVERHEAD).count() <= len / CHUNK_BYTES_BEST + 8,
                "{len}"
            );
        }
        assert_eq!(written(CHUNK_BYTES_BEST), 1 << 20);
        assert_eq!(pieces(CHUNK_BYTES_BEST, CHUNK_PIECE_OVERHEAD).count(), 1);
        assert_eq!(pieces(0, CHUNK_PIECE_OVERHEAD).count(), 1);
    }
}
