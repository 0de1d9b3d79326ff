//! The bytes of one page of a tree. No other module knows them.
//!
//! ```text
//! page    version: 1 │ level │ contents to the end of the page
//! level   bits 0 to 6: 0 for a leaf, else how many levels are below; bit 7: the next free number comes first
//! leaf    items: sub-key length × 2 (+ 1 if a time follows) │ value length │ time │ sub-key │ value
//! inner   next free number, of node 0 only │ children: separator length │ node number │ separator
//! ```
//!
//! Numbers are LEB128 of at most 64 bits; a time is milliseconds since 1970, 8 bytes little-endian. Sub-keys and
//! separators are in strictly ascending order of bytes. Sub-keys below a child are at or above its separator, and below
//! the next child's; the first separator is empty. No page is empty. Sub-keys do not share prefixes: a page is small,
//! and finding an item is one pass over its lengths. There is no checksum: the chunk that contains the page has one.

use super::Lifetime;
use crate::stream::Column;

/// The size that a page is filled to. A page is longer only for a long item or few long separators, or after values
/// were migrated.
pub const PAGE_BYTES: usize = 2048;

/// The highest level of a page. Pages of higher levels are refused, so that every walk ends.
pub const LEVEL_MAX: u8 = 31;

/// Numbers of nodes are smaller than this, so that counting them never overflows.
const NODES_MAX: u64 = 1 << 63;

const VERSION: u8 = 1;
const HAS_NEXT_FREE: u8 = 0x80;

/// A leaf without items: the start of every leaf, but not a valid page.
pub const BLANK_LEAF: &[u8] = &[VERSION, 0];

/// The reason why bytes are not a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedPage(pub &'static str);

/// A page, borrowed.
#[derive(Debug, Clone, Copy)]
pub enum Page<'a> {
    /// Has items.
    Leaf(Leaf<'a>),
    /// Has children.
    Inner(Inner<'a>),
}

/// A page with items.
#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    contents: &'a [u8],
}

/// A page with children.
#[derive(Debug, Clone, Copy)]
pub struct Inner<'a> {
    /// Number of levels below; at least 1.
    pub level: u8,
    /// The number of the next new node; only in the root.
    pub next_free: Option<u64>,
    contents: &'a [u8],
}

/// An item of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its sub-key.
    pub sub_key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The time of its write, if the state had a time to live then.
    pub written_ms: Option<u64>,
    /// All its bytes.
    pub raw: &'a [u8],
}

/// A child of an inner page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child<'a> {
    /// The lower bound of the sub-keys below it.
    pub separator: &'a [u8],
    /// The node of its page.
    pub node: u64,
}

impl<'a> Page<'a> {
    /// Reads the head of a page. The content is checked when it is read.
    ///
    /// # Errors
    /// When the bytes are not a page.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MalformedPage> {
        let [version, level, contents @ ..] = bytes else {
            return Err(MalformedPage("it is shorter than its head"));
        };
        if *version != VERSION {
            return Err(MalformedPage("its version is unknown"));
        }
        let mut contents = contents;
        let next_free = match level & HAS_NEXT_FREE {
            0 => None,
            _ => Some(take_number(&mut contents)?),
        };
        let level = level & !HAS_NEXT_FREE;
        if level > LEVEL_MAX {
            return Err(MalformedPage("its level is too high"));
        }
        if contents.is_empty() {
            return Err(MalformedPage("it is empty"));
        }
        match (level, next_free) {
            (0, None) => Ok(Self::Leaf(Leaf { contents })),
            (0, Some(_)) | (_, Some(0 | NODES_MAX..)) => {
                Err(MalformedPage("it has a wrong next free number"))
            }
            _ => Ok(Self::Inner(Inner {
                level,
                next_free,
                contents,
            })),
        }
    }

    /// Number of levels below.
    #[must_use]
    pub fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner(inner) => inner.level,
        }
    }
}

impl<'a> Leaf<'a> {
    /// The items, in order.
    pub fn items(self) -> impl Iterator<Item = Result<Item<'a>, MalformedPage>> {
        let mut rest = self.contents;
        let mut last: Option<&[u8]> = None;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let item = take_item(&mut rest).and_then(|item| {
                if last.is_some_and(|last| last >= item.sub_key) {
                    return Err(MalformedPage("its sub-keys do not ascend"));
                }
                last = Some(item.sub_key);
                Ok(item)
            });
            if item.is_err() {
                rest = &[];
            }
            Some(item)
        })
    }

    /// The item of a sub-key.
    ///
    /// # Errors
    /// When the page is malformed before the item's place.
    pub fn find(self, sub_key: &[u8]) -> Result<Option<Item<'a>>, MalformedPage> {
        for item in self.items() {
            let item = item?;
            if item.sub_key >= sub_key {
                return Ok((item.sub_key == sub_key).then_some(item));
            }
        }
        Ok(None)
    }
}

impl<'a> Inner<'a> {
    /// The children, in order; at least one.
    pub fn children(self) -> impl Iterator<Item = Result<Child<'a>, MalformedPage>> {
        let mut rest = self.contents;
        let mut last: Option<&[u8]> = None;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let child = take_child(&mut rest).and_then(|child| {
                let is_in_order = match last {
                    None => child.separator.is_empty(),
                    Some(last) => last < child.separator,
                };
                if !is_in_order {
                    return Err(MalformedPage("its separators do not ascend"));
                }
                if child.node == 0 {
                    return Err(MalformedPage("it names the root as a child"));
                }
                last = Some(child.separator);
                Ok(child)
            });
            if child.is_err() {
                rest = &[];
            }
            Some(child)
        })
    }

    /// The child that a sub-key belongs to.
    ///
    /// # Errors
    /// When the page is malformed before the child's place.
    pub fn child_of(self, sub_key: &[u8]) -> Result<u64, MalformedPage> {
        let mut node = None;
        for child in self.children() {
            let child = child?;
            if child.separator > sub_key {
                break;
            }
            node = Some(child.node);
        }
        node.ok_or(MalformedPage("it has no child"))
    }
}

/// Adds an item to a leaf.
pub fn push_item(page: &mut Vec<u8>, sub_key: &[u8], value: &[u8], written_ms: Option<u64>) {
    let flagged = (sub_key.len() as u64) << 1 | u64::from(written_ms.is_some());
    push_number(page, flagged);
    push_number(page, value.len() as u64);
    if let Some(written_ms) = written_ms {
        page.extend_from_slice(&written_ms.to_le_bytes());
    }
    page.extend_from_slice(sub_key);
    page.extend_from_slice(value);
}

/// Appends the items of a leaf to another, whose sub-keys are all lower.
pub fn join_leaves(page: &mut Vec<u8>, next: Leaf<'_>) {
    page.extend_from_slice(next.contents);
}

/// An inner page without children yet.
#[must_use]
pub fn begin_inner(level: u8) -> Vec<u8> {
    debug_assert!(level > 0 && level <= LEVEL_MAX);
    vec![VERSION, level]
}

/// Adds a child to an inner page.
pub fn push_child(page: &mut Vec<u8>, separator: &[u8], node: u64) {
    push_number(page, separator.len() as u64);
    push_number(page, node);
    page.extend_from_slice(separator);
}

/// An inner page with a next free number, as for node 0. `next_free` replaces an existing number.
///
/// # Errors
/// When the bytes are not an inner page.
pub fn with_next_free(page: &[u8], next_free: u64) -> Result<Vec<u8>, MalformedPage> {
    let Page::Inner(inner) = Page::parse(page)? else {
        return Err(MalformedPage("a leaf has no next free number"));
    };
    let mut root = Vec::with_capacity(page.len() + 10);
    root.extend_from_slice(&[VERSION, inner.level | HAS_NEXT_FREE]);
    push_number(&mut root, next_free);
    root.extend_from_slice(inner.contents);
    Ok(root)
}

/// A page without its expired items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pruned {
    /// Unchanged: nothing in it has expired, or it has no items.
    Unchanged,
    /// The remaining page.
    Smaller(Vec<u8>),
    /// All items have expired. Node 0 may be removed, and with it the tree; any other page must stay, and this is the
    /// smallest one that can replace it: its last item, although expired.
    Nothing(Vec<u8>),
}

/// Drops the expired items of a page, as compaction does. The tree stays valid without changing any other page.
///
/// # Errors
/// When the bytes are not a page.
pub fn prune(page: &[u8], lifetime: Lifetime) -> Result<Pruned, MalformedPage> {
    let Page::Leaf(leaf) = Page::parse(page)? else {
        return Ok(Pruned::Unchanged);
    };
    let mut pruned = BLANK_LEAF.to_vec();
    let mut last = None;
    for item in leaf.items() {
        let item = item?;
        if !lifetime.is_expired(item.written_ms) {
            pruned.extend_from_slice(item.raw);
        }
        last = Some(item);
    }
    if pruned.len() == page.len() {
        return Ok(Pruned::Unchanged);
    }
    match last {
        Some(last) if pruned == BLANK_LEAF => {
            pruned.extend_from_slice(last.raw);
            Ok(Pruned::Nothing(pruned))
        }
        _ => Ok(Pruned::Smaller(pruned)),
    }
}

/// The time when the last unexpired item of a page expires; 0 if none will.
#[must_use]
pub fn expires_ms(page: &[u8], lifetime: Lifetime) -> u64 {
    let (Some(ttl_ms), Ok(Page::Leaf(leaf))) = (lifetime.ttl_ms, Page::parse(page)) else {
        return 0;
    };
    let written = leaf.items().filter_map(|item| item.ok()?.written_ms);
    written
        .map(|written| written.saturating_add(ttl_ms))
        .filter(|&expires| expires > lifetime.now_ms)
        .max()
        .unwrap_or(0)
}

/// Appends the values of a page in order, for a migration; nothing for an inner page.
///
/// # Errors
/// When the bytes are not a page.
pub fn push_values(page: &[u8], values: &mut Column) -> Result<(), MalformedPage> {
    if let Page::Leaf(leaf) = Page::parse(page)? {
        for item in leaf.items() {
            values.push(item?.value);
        }
    }
    Ok(())
}

/// The page with other values: as many as [`push_values`] returned. Sub-keys and times are kept. The page may then be
/// longer than [`PAGE_BYTES`], and is cut when it is written next.
///
/// # Errors
/// When the bytes are not a page.
///
/// # Panics
/// When the numbers of values and items differ. Callers check this for values that a guest returned.
pub fn with_values<'v>(
    page: &[u8],
    values: impl ExactSizeIterator<Item = &'v [u8]>,
) -> Result<Vec<u8>, MalformedPage> {
    let mut values = values;
    let Page::Leaf(leaf) = Page::parse(page)? else {
        assert_eq!(values.len(), 0, "an inner page has no values");
        return Ok(page.to_vec());
    };
    let mut replaced = BLANK_LEAF.to_vec();
    for item in leaf.items() {
        let item = item?;
        let value = values.next().expect("as many values as items");
        push_item(&mut replaced, item.sub_key, value, item.written_ms);
    }
    assert_eq!(values.len(), 0, "as many values as items");
    Ok(replaced)
}

fn take_item<'a>(rest: &mut &'a [u8]) -> Result<Item<'a>, MalformedPage> {
    let begin = *rest;
    let flagged = take_number(rest)?;
    let value_len = take_number(rest)?;
    let written_ms = match flagged & 1 {
        0 => None,
        _ => {
            let time = take(rest, 8)?;
            Some(u64::from_le_bytes(time.try_into().expect("8 bytes")))
        }
    };
    let sub_key = take(rest, flagged >> 1)?;
    let value = take(rest, value_len)?;
    Ok(Item {
        sub_key,
        value,
        written_ms,
        raw: &begin[..begin.len() - rest.len()],
    })
}

fn take_child<'a>(rest: &mut &'a [u8]) -> Result<Child<'a>, MalformedPage> {
    let len = take_number(rest)?;
    let node = take_number(rest)?;
    let separator = take(rest, len)?;
    Ok(Child { separator, node })
}

#[inline]
fn take<'a>(rest: &mut &'a [u8], len: u64) -> Result<&'a [u8], MalformedPage> {
    let parts = usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len));
    let (taken, after) = parts.ok_or(MalformedPage("it ends too early"))?;
    *rest = after;
    Ok(taken)
}

#[inline]
fn take_number(rest: &mut &[u8]) -> Result<u64, MalformedPage> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest
            .split_first()
            .ok_or(MalformedPage("it ends too early"))?;
        *rest = after;
        if shift == 63 && byte > 1 {
            break;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(MalformedPage("a number in it has more than 64 bits"))
}

#[inline]
fn push_number(page: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        page.push(number as u8 | 0x80);
        number >>= 7;
    }
    page.push(number as u8);
}
