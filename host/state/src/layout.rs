//! The bytes of an entry. No other module knows them.
//!
//! ```text
//! entry     = number  key-length  value-length+1  [node]  [written]  key  value
//! tombstone = number  key-length  0               [node]  [written]  key  birth
//! number    = state id  + 65,536 if a node follows  + 131,072 if a write time follows
//! ```
//!
//! `number`, `key-length` and `value-length+1` are LEB128 numbers of at most 32 bits, `node` one of at most 64.
//! `written` is the time of the write, 8 bytes, little-endian, in milliseconds since 1970. `birth` is the id of the
//! chunk in which the tombstone was first written, 8 bytes, little-endian: a tombstone may be removed once all chunks
//! of that age or older are gone, because then no older value of its key exists. Numbers of 7 bits take one byte, so a
//! small entry without node and time costs 3 bytes beyond its key and value; entries of the first format are exactly
//! those.

use super::{ChunkId, StateId};
use crate::stream::short;

/// The owner of an entry, and its write time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The state that it belongs to.
    pub state: StateId,
    /// The page of the key's tree, if the state is stored in one.
    pub node: Option<u64>,
    /// The time of the write in milliseconds since 1970, if its state has expiry.
    pub written_ms: Option<u64>,
}

impl Head {
    /// The head of an entry that is not a page and never expires.
    #[must_use]
    pub fn plain(state: StateId) -> Self {
        Self {
            state,
            node: None,
            written_ms: None,
        }
    }
}

/// An entry of a log, borrowed from its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The state that it belongs to.
    pub state: StateId,
    /// The page of the key's tree, if the state is stored in one.
    pub node: Option<u64>,
    /// The time of the write in milliseconds since 1970, if its state had expiry then.
    pub written_ms: Option<u64>,
    /// The key.
    pub key: &'a [u8],
    /// The value of the key from this entry on.
    pub content: Content<'a>,
    /// Length of the whole entry in bytes.
    pub len: usize,
}

impl Entry<'_> {
    /// The owner and the write time.
    #[must_use]
    pub fn head(&self) -> Head {
        Head {
            state: self.state,
            node: self.node,
            written_ms: self.written_ms,
        }
    }

    /// Whether it records that its key has no value.
    #[inline]
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        matches!(self.content, Content::Tombstone { .. })
    }
}

/// The content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// The key has this value.
    Value(&'a [u8]),
    /// The key has no value.
    Tombstone {
        /// The chunk in which it lost its value.
        birth: ChunkId,
    },
}

/// The bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no state entry at byte {offset} of the chunk")]
pub struct MalformedEntry {
    /// The offset of the entry.
    pub offset: usize,
}

/// Length of the longest header in bytes.
pub const HEADER_BYTES_MAX: usize = 33;
const BIRTH_BYTES: usize = 8;
const WRITTEN_BYTES: usize = 8;

const HAS_NODE: u32 = 1 << 16;
const HAS_WRITTEN: u32 = 1 << 17;
const NUMBER_LIMIT: u32 = 1 << 18;

/// The first number of an entry.
#[must_use]
pub(super) fn number_of(head: Head) -> u32 {
    let node = if head.node.is_some() { HAS_NODE } else { 0 };
    let written = if head.written_ms.is_some() {
        HAS_WRITTEN
    } else {
        0
    };
    u32::from(head.state.0) | node | written
}

/// The parts of an entry's first number: state, whether a node follows, whether a write time follows.
#[must_use]
pub(super) fn parts_of(number: u32) -> Option<(StateId, bool, bool)> {
    let state = StateId((number & 0xffff) as u16);
    (number < NUMBER_LIMIT).then_some((state, number & HAS_NODE != 0, number & HAS_WRITTEN != 0))
}

/// Appends an entry.
#[inline]
pub fn append(log: &mut Vec<u8>, head: Head, key: &[u8], content: Content<'_>) {
    if let Content::Value(value) = content
        && head.node.is_none()
        && head.written_ms.is_none()
        && head.state.0 < 0x80
        && key.len() < 0x80
        && value.len() < 0x7f
    {
        log.extend_from_slice(&[head.state.0 as u8, key.len() as u8, value.len() as u8 + 1]);
        short::append(log, key);
        short::append(log, value);
        return;
    }
    push_number(log, u64::from(number_of(head)));
    push_number(
        log,
        u64::from(u32::try_from(key.len()).expect("a key stays below 4 GiB")),
    );
    let content_len = match content {
        Content::Value(value) => u32::try_from(value.len() + 1).expect("a value stays below 4 GiB"),
        Content::Tombstone { .. } => 0,
    };
    push_number(log, u64::from(content_len));
    if let Some(node) = head.node {
        push_number(log, node);
    }
    if let Some(written_ms) = head.written_ms {
        log.extend_from_slice(&written_ms.to_le_bytes());
    }
    log.extend_from_slice(key);
    match content {
        Content::Value(value) => log.extend_from_slice(value),
        Content::Tombstone { birth } => log.extend_from_slice(&birth.0.to_le_bytes()),
    }
}

/// Largest number of bytes that [`append`] adds.
#[inline]
#[must_use]
pub fn entry_bytes_max(key: &[u8], content: Content<'_>) -> usize {
    let content_bytes = match content {
        Content::Value(value) => value.len(),
        Content::Tombstone { .. } => BIRTH_BYTES,
    };
    HEADER_BYTES_MAX + key.len() + content_bytes
}

/// The range of the write time in an entry of a value.
#[must_use]
pub(super) fn written_range(entry: &Entry<'_>) -> Option<std::ops::Range<usize>> {
    entry.written_ms?;
    let content_len = match entry.content {
        Content::Value(value) => value.len(),
        Content::Tombstone { .. } => BIRTH_BYTES,
    };
    let end = entry.len - content_len - entry.key.len();
    Some(end - WRITTEN_BYTES..end)
}

/// Reads the entry at `offset` of bytes that [`append`] has written, or that were checked after they were read back.
///
/// # Panics
/// When there is no entry: the caller's address is wrong.
#[inline]
#[must_use]
pub fn entry_at(chunk: &[u8], offset: usize) -> Entry<'_> {
    read(chunk, offset).expect("an address points at an entry")
}

/// The value at `offset` of bytes as for [`entry_at`], and the length of its entry: only for this state and key, and
/// only for the short header, without node and time. `None` means that the caller must read the entry.
#[inline(always)]
#[must_use]
pub(super) fn plain_value<'a>(
    chunk: &'a [u8],
    offset: usize,
    state: StateId,
    key: &[u8],
) -> Option<(&'a [u8], usize)> {
    let (header, rest) = chunk.get(offset..)?.split_first_chunk::<3>()?;
    let &[state_byte, key_len, content_len] = header;
    let is_meant = (state_byte | key_len | content_len) < 0x80
        && u16::from(state_byte) == state.0
        && usize::from(key_len) == key.len()
        && content_len > 0;
    if !is_meant {
        return None;
    }
    let (found, rest) = rest.split_at_checked(key.len())?;
    let value = rest.get(..usize::from(content_len) - 1)?;
    short::same(found, key).then_some((value, 3 + key.len() + value.len()))
}

/// Reads the entry at `offset` of untrusted bytes.
///
/// # Errors
/// When there is no valid entry.
#[inline]
pub fn read(chunk: &[u8], offset: usize) -> Result<Entry<'_>, MalformedEntry> {
    read_parts(chunk, offset).ok_or(MalformedEntry { offset })
}

/// The length of the entry that starts with these bytes; `None` if they are too few, or not an entry.
#[must_use]
pub(super) fn entry_len(bytes: &[u8]) -> Option<usize> {
    let header = read_long_header(bytes)?;
    Some(header.end(0))
}

struct EntryHeader {
    state: StateId,
    node: Option<u64>,
    written_ms: Option<u64>,
    key_len: u32,
    content_len: u32,
    len: usize,
}

impl EntryHeader {
    #[inline]
    fn end(&self, offset: usize) -> usize {
        let content = match self.content_len {
            0 => BIRTH_BYTES,
            len => len as usize - 1,
        };
        offset + self.len + self.key_len as usize + content
    }
}

#[inline]
fn read_parts(chunk: &[u8], offset: usize) -> Option<Entry<'_>> {
    let bytes = chunk.get(offset..)?;
    let header = match bytes {
        &[state, key_len, content_len, ..] if (state | key_len | content_len) < 0x80 => {
            EntryHeader {
                state: StateId(u16::from(state)),
                node: None,
                written_ms: None,
                key_len: u32::from(key_len),
                content_len: u32::from(content_len),
                len: 3,
            }
        }
        _ => read_long_header(bytes)?,
    };
    let key_end = header.len + header.key_len as usize;
    let end = header.end(0);
    let key = bytes.get(header.len..key_end)?;
    let content = bytes.get(key_end..end)?;
    Some(Entry {
        state: header.state,
        node: header.node,
        written_ms: header.written_ms,
        key,
        content: match header.content_len {
            0 => Content::Tombstone {
                birth: ChunkId(u64::from_le_bytes(content.try_into().ok()?)),
            },
            _ => Content::Value(content),
        },
        len: end,
    })
}

#[cold]
fn read_long_header(bytes: &[u8]) -> Option<EntryHeader> {
    let mut at = 0;
    let (state, has_node, has_written) = parts_of(read_number32(bytes, &mut at)?)?;
    let key_len = read_number32(bytes, &mut at)?;
    let content_len = read_number32(bytes, &mut at)?;
    let node = match has_node {
        true => Some(read_number(bytes, &mut at)?),
        false => None,
    };
    let written_ms = match has_written {
        true => {
            let written = bytes.get(at..at + WRITTEN_BYTES)?;
            at += WRITTEN_BYTES;
            Some(u64::from_le_bytes(written.try_into().ok()?))
        }
        false => None,
    };
    Some(EntryHeader {
        state,
        node,
        written_ms,
        key_len,
        content_len,
        len: at,
    })
}

/// Appends a LEB128 number.
#[inline]
pub(super) fn push_number(log: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        log.push(number as u8 | 0x80);
        number >>= 7;
    }
    log.push(number as u8);
}

fn read_number32(bytes: &[u8], at: &mut usize) -> Option<u32> {
    u32::try_from(read_number(bytes, at)?).ok()
}

/// Reads the LEB128 number at `at` of untrusted bytes.
#[inline]
pub(super) fn read_number(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
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
    //! Catches an entry that reads back as another, bytes of the first format that are misread, and bytes from a
    //! damaged disk that make the reader panic.

    use super::*;

    fn head(state: u16, node: Option<u64>, written_ms: Option<u64>) -> Head {
        Head {
            state: StateId(state),
            node,
            written_ms,
        }
    }

    #[test]
    fn entries_read_back() {
        let long = vec![7; 20_000];
        let tombstone = Content::Tombstone {
            birth: ChunkId(u64::MAX - 1),
        };
        let cases: [(Head, &[u8], Content<'_>); 9] = [
            (head(0, None, None), b"", Content::Value(b"")),
            (head(1, None, None), b"key", Content::Value(b"value")),
            (
                head(127, None, None),
                &long[..127],
                Content::Value(&long[..126]),
            ),
            (
                head(128, None, None),
                &long[..128],
                Content::Value(&long[..127]),
            ),
            (head(u16::MAX, None, None), &long, Content::Value(&long)),
            (head(3, None, None), b"gone", tombstone),
            (
                head(0, Some(u64::MAX), None),
                b"key",
                Content::Value(b"page"),
            ),
            (head(2, None, Some(u64::MAX)), b"key", Content::Value(b"")),
            (head(u16::MAX, Some(0), Some(1)), b"", tombstone),
        ];
        let mut log = Vec::new();
        for &(head, key, content) in &cases {
            let before = log.len();
            append(&mut log, head, key, content);
            assert!(log.len() - before <= entry_bytes_max(key, content));
        }
        let mut offset = 0;
        for &(head, key, content) in &cases {
            let entry = entry_at(&log, offset);
            assert_eq!(
                (entry.head(), entry.key, entry.content),
                (head, key, content)
            );
            assert_eq!(entry_len(&log[offset..]), Some(entry.len));
            offset += entry.len;
        }
        assert_eq!(offset, log.len());
    }

    #[test]
    fn a_write_time_stands_where_its_range_says() {
        let mut log = Vec::new();
        let time = 0x1122_3344_5566_7788;
        append(
            &mut log,
            head(300, Some(5), Some(time)),
            b"key",
            Content::Value(b"value"),
        );
        let range = written_range(&entry_at(&log, 0)).expect("it has a time");
        assert_eq!(log[range], time.to_le_bytes());
    }

    /// The bytes of released formats are never updated: a change here is a change of the format.
    #[test]
    fn golden_bytes() {
        let tombstone = Content::Tombstone { birth: ChunkId(9) };
        let cases: [(Head, Content<'_>, &[u8]); 5] = [
            (
                head(1, None, None),
                Content::Value(b"v"),
                &[1, 1, 2, b'k', b'v'],
            ),
            (
                head(1, None, None),
                tombstone,
                &[1, 1, 0, b'k', 9, 0, 0, 0, 0, 0, 0, 0],
            ),
            (
                head(1, Some(300), None),
                Content::Value(b"v"),
                &[0x81, 0x80, 4, 1, 2, 0xac, 2, b'k', b'v'],
            ),
            (
                head(1, None, Some(0x0102)),
                Content::Value(b"v"),
                &[0x81, 0x80, 8, 1, 2, 2, 1, 0, 0, 0, 0, 0, 0, b'k', b'v'],
            ),
            (
                head(2, Some(1), Some(3)),
                tombstone,
                &[
                    0x82, 0x80, 12, 1, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, b'k', 9, 0, 0, 0, 0, 0, 0, 0,
                ],
            ),
        ];
        for (head, content, expected) in cases {
            let mut log = Vec::new();
            append(&mut log, head, b"k", content);
            assert_eq!(log, expected, "{head:?}");
        }
    }

    #[test]
    fn cut_and_forged_bytes_are_refused() {
        for head in [head(300, None, None), head(300, Some(1 << 40), Some(7))] {
            let mut log = Vec::new();
            append(&mut log, head, b"key", Content::Value(&[1; 200]));
            for len in 0..log.len() {
                assert_eq!(
                    read(&log[..len], 0),
                    Err(MalformedEntry { offset: 0 }),
                    "cut to {len}"
                );
            }
            assert!(read(&log, log.len() + 1).is_err(), "past the end");
        }
        assert!(
            read(&[0xff; 40], 0).is_err(),
            "a number of more than 64 bits"
        );
        assert!(
            read(&[0xff, 0xff, 0x7f, 0, 1], 0).is_err(),
            "a number above 18 bits"
        );
    }
}
