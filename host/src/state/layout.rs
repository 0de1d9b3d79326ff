//! The bytes of an entry: the only module that knows them.
//!
//! ```text
//! entry     = state  key-length  value-length+1  key  value
//! tombstone = state  key-length  0               key  birth
//! ```
//!
//! `state`, `key-length` and `value-length+1` are LEB128 numbers of at most 32 bits. `birth` is the id of the chunk in
//! which the tombstone was first written, 8 bytes, little-endian: a tombstone may go once no chunk is left that is as old,
//! because no older value of its key is left then. Numbers of 7 bits take one byte, so a small entry costs 3 bytes beyond
//! its key and value.

use super::{ChunkId, StateId};

/// An entry of a log, borrowed from its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Whose state it is.
    pub state: StateId,
    /// The key.
    pub key: &'a [u8],
    /// What the key had from then on.
    pub content: Content<'a>,
    /// Bytes of the whole entry.
    pub len: usize,
}

/// What an entry says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// It has this value.
    Value(&'a [u8]),
    /// It has none.
    Tombstone {
        /// The chunk in which it lost its value.
        birth: ChunkId,
    },
}

/// Bytes that are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no state entry at byte {offset} of the chunk")]
pub struct MalformedEntry {
    /// Where it should be.
    pub offset: usize,
}

/// Bytes of the longest header.
pub const HEADER_BYTES_MAX: usize = 15;
const BIRTH_BYTES: usize = 8;

/// Appends an entry.
pub fn append(log: &mut Vec<u8>, state: StateId, key: &[u8], content: Content<'_>) {
    push_number(log, u32::from(state.0));
    push_number(
        log,
        u32::try_from(key.len()).expect("a key stays below 4 GiB"),
    );
    match content {
        Content::Value(value) => {
            push_number(
                log,
                u32::try_from(value.len() + 1).expect("a value stays below 4 GiB"),
            );
            log.extend_from_slice(key);
            log.extend_from_slice(value);
        }
        Content::Tombstone { birth } => {
            push_number(log, 0);
            log.extend_from_slice(key);
            log.extend_from_slice(&birth.0.to_le_bytes());
        }
    }
}

/// Bytes that [`append`] adds at most.
#[must_use]
pub fn entry_bytes_max(key: &[u8], content: Content<'_>) -> usize {
    let content_bytes = match content {
        Content::Value(value) => value.len(),
        Content::Tombstone { .. } => BIRTH_BYTES,
    };
    HEADER_BYTES_MAX + key.len() + content_bytes
}

/// The entry at `offset` of bytes that [`append`] has written and that were checked since they were read back.
///
/// # Panics
/// When there is none: the caller's addresses are wrong.
#[inline]
#[must_use]
pub fn entry_at(chunk: &[u8], offset: usize) -> Entry<'_> {
    read(chunk, offset).expect("an address points at an entry")
}

/// The entry at `offset` of bytes from outside.
///
/// # Errors
/// When there is none.
#[inline]
pub fn read(chunk: &[u8], offset: usize) -> Result<Entry<'_>, MalformedEntry> {
    read_parts(chunk, offset).ok_or(MalformedEntry { offset })
}

#[inline]
fn read_parts(chunk: &[u8], offset: usize) -> Option<Entry<'_>> {
    let bytes = chunk.get(offset..)?;
    let (state, key_len, content_len, header) = match bytes {
        &[state, key_len, content_len, ..] if (state | key_len | content_len) < 0x80 => (
            u32::from(state),
            u32::from(key_len),
            u32::from(content_len),
            3,
        ),
        _ => read_long_header(bytes)?,
    };
    let key_end = header + key_len as usize;
    let end = key_end
        + match content_len {
            0 => BIRTH_BYTES,
            len => len as usize - 1,
        };
    let key = bytes.get(header..key_end)?;
    let content = bytes.get(key_end..end)?;
    Some(Entry {
        state: StateId(u16::try_from(state).ok()?),
        key,
        content: match content_len {
            0 => Content::Tombstone {
                birth: ChunkId(u64::from_le_bytes(content.try_into().ok()?)),
            },
            _ => Content::Value(content),
        },
        len: end,
    })
}

#[cold]
fn read_long_header(bytes: &[u8]) -> Option<(u32, u32, u32, usize)> {
    let mut at = 0;
    let state = read_number(bytes, &mut at)?;
    let key_len = read_number(bytes, &mut at)?;
    let content_len = read_number(bytes, &mut at)?;
    Some((state, key_len, content_len, at))
}

#[inline]
fn push_number(log: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        log.push(number as u8 | 0x80);
        number >>= 7;
    }
    log.push(number as u8);
}

fn read_number(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let mut number = 0u32;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = u32::from(byte & 0x7f);
        if shift == 28 && part > 0xf {
            return None;
        }
        number |= part << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! Catches an entry that reads back as another, and bytes from a damaged disk that make the reader panic.

    use super::*;

    #[test]
    fn entries_read_back() {
        let long = vec![7; 20_000];
        let cases: [(u16, &[u8], Content<'_>); 6] = [
            (0, b"", Content::Value(b"")),
            (1, b"key", Content::Value(b"value")),
            (127, &long[..127], Content::Value(&long[..126])),
            (128, &long[..128], Content::Value(&long[..127])),
            (u16::MAX, &long, Content::Value(&long)),
            (
                3,
                b"gone",
                Content::Tombstone {
                    birth: ChunkId(u64::MAX - 1),
                },
            ),
        ];
        let mut log = Vec::new();
        for &(state, key, content) in &cases {
            let before = log.len();
            append(&mut log, StateId(state), key, content);
            assert!(log.len() - before <= entry_bytes_max(key, content));
        }
        let mut offset = 0;
        for &(state, key, content) in &cases {
            let entry = entry_at(&log, offset);
            assert_eq!(
                (entry.state.0, entry.key, entry.content),
                (state, key, content)
            );
            offset += entry.len;
        }
        assert_eq!(offset, log.len());
    }

    #[test]
    fn cut_and_forged_bytes_are_refused() {
        let mut log = Vec::new();
        append(&mut log, StateId(300), b"key", Content::Value(&[1; 200]));
        for len in 0..log.len() {
            assert_eq!(
                read(&log[..len], 0),
                Err(MalformedEntry { offset: 0 }),
                "cut to {len}"
            );
        }
        assert!(
            read(&[0xff; 40], 0).is_err(),
            "a number of more than 32 bits"
        );
        assert!(
            read(&[0xff, 0xff, 0x7f, 0, 1], 0).is_err(),
            "a state above 16 bits"
        );
        assert!(read(&log, log.len() + 1).is_err(), "past the end");
    }
}
