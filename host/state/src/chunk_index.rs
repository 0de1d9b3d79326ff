//! The index of a chunk: the facts about each entry that a restore needs, so that the chunk itself can be read later.
//!
//! ```text
//! index = version: u8, 1 │ row for each entry of the chunk, in order
//! row   = hash of the key: u64 little-endian │ number │ length * 2 + (1 for a tombstone) │ [node]
//! ```
//!
//! `number`, `length` and `node` are LEB128; `number` is the first number of the entry (`layout`), and says whether
//! `node` follows. `length` is that of the whole entry, so offsets are sums of lengths. An entry is identified by its
//! index hash, in which `index` combines all parts of its identity. Two entries may have the same hash: the store that
//! notices this records the hash in the snapshot, and a restore reads the entries of that hash themselves.

use xxhash_rust::xxh3::xxh3_64;

use super::StateId;
use super::layout;
use crate::stream::hash_key;

const VERSION: u8 = 1;

/// Builds the index of a chunk. For bytes that are not a chunk, the result matches no chunk.
#[must_use]
pub fn of(chunk: &[u8]) -> Vec<u8> {
    let mut index = Vec::with_capacity(1 + chunk.len() / 8);
    index.push(VERSION);
    let mut offset = 0;
    while let Ok(entry) = layout::read(chunk, offset) {
        index.extend_from_slice(&hash_key(entry.key).to_le_bytes());
        layout::push_number(&mut index, u64::from(layout::number_of(entry.head())));
        let len = (entry.len as u64) << 1 | u64::from(entry.is_tombstone());
        layout::push_number(&mut index, len);
        if let Some(node) = entry.node {
            layout::push_number(&mut index, node);
        }
        offset += entry.len;
    }
    index
}

/// A fingerprint that shows whether an index was built from the same chunk.
#[must_use]
pub(super) fn fingerprint(index: &[u8]) -> u64 {
    xxh3_64(index)
}

/// The facts about one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexRow {
    /// [`hash_key`] of its key.
    pub key_hash: u64,
    /// The state that it belongs to.
    pub state: StateId,
    /// The page of the key's tree, if it is one.
    pub node: Option<u64>,
    /// Whether it has a write time.
    pub is_timed: bool,
    /// Whether it records that the key has no value.
    pub is_tombstone: bool,
    /// Its position in the chunk.
    pub offset: usize,
    /// Its length in bytes.
    pub len: usize,
}

/// The bytes are not an index of the chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the index of the chunk does not match it")]
pub struct MalformedIndex;

/// Reads the index of a chunk of `chunk_len` bytes into `rows`, replacing earlier rows. There is at most one row for
/// nine bytes of the index.
///
/// # Errors
/// When the bytes are not an index of such a chunk. `rows` must not be used then.
pub fn read(
    index: &[u8],
    chunk_len: usize,
    rows: &mut Vec<IndexRow>,
) -> Result<(), MalformedIndex> {
    rows.clear();
    let Some((&VERSION, mut rest)) = index.split_first() else {
        return Err(MalformedIndex);
    };
    let mut offset = 0;
    while !rest.is_empty() {
        let row = read_row(&mut rest, offset).ok_or(MalformedIndex)?;
        // Every entry has at least three bytes of header.
        if row.len < 3 || row.len > chunk_len - offset || offset >= super::index::OFFSET_LIMIT {
            return Err(MalformedIndex);
        }
        offset += row.len;
        rows.push(row);
    }
    match offset == chunk_len {
        true => Ok(()),
        false => Err(MalformedIndex),
    }
}

#[inline]
fn read_row(rest: &mut &[u8], offset: usize) -> Option<IndexRow> {
    let (hash, tail) = rest.split_first_chunk::<8>()?;
    let mut at = 0;
    let number = u32::try_from(layout::read_number(tail, &mut at)?).ok()?;
    let (state, has_node, is_timed) = layout::parts_of(number)?;
    let len = layout::read_number(tail, &mut at)?;
    let node = match has_node {
        true => Some(layout::read_number(tail, &mut at)?),
        false => None,
    };
    *rest = &tail[at..];
    Some(IndexRow {
        key_hash: u64::from_le_bytes(*hash),
        state,
        node,
        is_timed,
        is_tombstone: len & 1 == 1,
        offset,
        len: usize::try_from(len >> 1).ok()?,
    })
}

#[cfg(test)]
mod tests {
    //! Catches an index that differs from its chunk, one of another release that is misread, and damaged bytes that
    //! make the reader panic or allocate too much.

    use super::super::ChunkId;
    use super::super::layout::{Content, Head};
    use super::*;

    fn chunk() -> Vec<u8> {
        let mut chunk = Vec::new();
        let tombstone = Content::Tombstone { birth: ChunkId(9) };
        let page = Head {
            state: StateId(2),
            node: Some(300),
            written_ms: Some(5),
        };
        layout::append(
            &mut chunk,
            Head::plain(StateId(1)),
            b"a",
            Content::Value(&[7; 100]),
        );
        layout::append(&mut chunk, page, b"b", Content::Value(b"page"));
        layout::append(&mut chunk, Head::plain(StateId(300)), b"c", tombstone);
        chunk
    }

    /// The bytes of a released format: never updated.
    #[test]
    fn golden_bytes() {
        let hex: String = of(&chunk())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            concat!(
                "01",
                "1f4e961eb632c6e6",
                "01",
                "d001",
                "3f84d8441c0b5a57",
                "82800c",
                "28",
                "ac02",
                "1bf8b9469a21408c",
                "ac02",
                "1b",
            )
        );
    }

    #[test]
    fn rows_say_what_the_entries_say() {
        let chunk = chunk();
        let mut rows = Vec::new();
        read(&of(&chunk), chunk.len(), &mut rows).expect("its own index");
        assert_eq!(rows.len(), 3);
        for row in rows {
            let entry = layout::entry_at(&chunk, row.offset);
            let expected = IndexRow {
                key_hash: hash_key(entry.key),
                state: entry.state,
                node: entry.node,
                is_timed: entry.written_ms.is_some(),
                is_tombstone: entry.is_tombstone(),
                offset: row.offset,
                len: entry.len,
            };
            assert_eq!(row, expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let chunk = chunk();
        let index = of(&chunk);
        let mut rows = Vec::new();
        for len in 0..index.len() {
            assert_eq!(
                read(&index[..len], chunk.len(), &mut rows),
                Err(MalformedIndex),
                "cut to {len}"
            );
        }
        for len in [0, 1, chunk.len() - 1, chunk.len() + 1] {
            assert_eq!(
                read(&index, len, &mut rows),
                Err(MalformedIndex),
                "a chunk of {len} bytes"
            );
        }
        for byte in 0..index.len() {
            for bit in 0..8 {
                let mut damaged = index.clone();
                damaged[byte] ^= 1 << bit;
                // Some can still be read; the storage's checksum detects those. None panics.
                let _ = read(&damaged, chunk.len(), &mut rows);
            }
        }
        assert!(read(&of(&chunk[..chunk.len() - 1]), chunk.len(), &mut rows).is_err());
        assert!(
            read(&[VERSION + 1], 0, &mut rows).is_err(),
            "another version"
        );
        assert!(read(&[VERSION], 0, &mut rows).is_ok(), "an empty chunk");
    }
}
