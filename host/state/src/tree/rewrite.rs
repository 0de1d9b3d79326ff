//! Applies an edit to a leaf, in one pass over its items and the writes, both in order. Expired items are left out, so
//! each write of a leaf drops them. The result may be too long for a page: `cut` cuts it.

use super::Lifetime;
use super::apply::{Edit, Write};
use super::page::{self, Leaf, MalformedPage, Page};

/// A leaf with an edit applied, however long.
pub(super) struct Rewritten {
    pub(super) page: Vec<u8>,
    /// Whether all new items are at its end.
    pub(super) at_end: bool,
}

/// Applies an edit to a leaf, and drops expired items.
pub(super) fn rewrite(
    leaf: Option<Leaf<'_>>,
    edit: Edit<'_>,
    lifetime: Lifetime,
) -> Result<Rewritten, MalformedPage> {
    let (mut writes, values): (&[Write<'_>], &[&[u8]]) = match edit {
        Edit::Write(writes) => (writes, &[]),
        Edit::Append(values) => (&[], values),
        Edit::Trim => (&[], &[]),
    };
    let stamp = lifetime.stamp();
    let mut page = page::BLANK_LEAF.to_vec();
    let put = |page: &mut Vec<u8>, writes: &[Write<'_>]| {
        for write in writes {
            if let Some(value) = write.value {
                page::push_item(page, write.sub_key, value, stamp);
            }
        }
    };
    let mut at_end = true;
    let mut last = None;
    for item in leaf.into_iter().flat_map(Leaf::items) {
        let item = item?;
        last = Some(item.sub_key);
        let before = writes.partition_point(|write| write.sub_key < item.sub_key);
        put(&mut page, &writes[..before]);
        at_end &= before == 0;
        writes = &writes[before..];
        match writes {
            [write, rest @ ..] if write.sub_key == item.sub_key => {
                put(&mut page, std::slice::from_ref(write));
                writes = rest;
            }
            _ if lifetime.is_expired(item.written_ms) => {}
            _ => page.extend_from_slice(item.raw),
        }
    }
    put(&mut page, writes);
    append(&mut page, last, values, stamp)?;
    Ok(Rewritten { page, at_end })
}

/// Appends values at the positions after the last one.
fn append(
    page: &mut Vec<u8>,
    last: Option<&[u8]>,
    values: &[&[u8]],
    stamp: Option<u64>,
) -> Result<(), MalformedPage> {
    if values.is_empty() {
        return Ok(());
    }
    let mut last = match last {
        None => None,
        Some(bytes) => {
            let position = bytes
                .try_into()
                .map_err(|_| MalformedPage("a position in it does not have 8 bytes"))?;
            Some(u64::from_be_bytes(position))
        }
    };
    for value in values {
        let position = match last {
            None => 0,
            Some(last) => last
                .checked_add(1)
                .ok_or(MalformedPage("its list has no position left"))?,
        };
        page::push_item(page, &position.to_be_bytes(), value, stamp);
        last = Some(position);
    }
    Ok(())
}

/// The leaf of a page; `None` for a blank page, which is never part of a tree.
pub(super) fn leaf(page: &[u8]) -> Result<Option<Leaf<'_>>, MalformedPage> {
    if page == page::BLANK_LEAF {
        return Ok(None);
    }
    match Page::parse(page)? {
        Page::Leaf(leaf) => Ok(Some(leaf)),
        Page::Inner(_) => Err(MalformedPage("it should be a leaf")),
    }
}

/// Whether all items are expired.
pub(super) fn is_expired(
    leaf: Option<Leaf<'_>>,
    lifetime: Lifetime,
) -> Result<bool, MalformedPage> {
    for item in leaf.into_iter().flat_map(Leaf::items) {
        if !lifetime.is_expired(item?.written_ms) {
            return Ok(false);
        }
    }
    Ok(true)
}
