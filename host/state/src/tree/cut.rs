//! Cuts content that is too long for one page into several.
//!
//! Leaves are cut between items, inner pages between children. Pages get their numbers later.

use super::apply::ChildEntry;
use super::page::{self, Leaf, MalformedPage, PAGE_BYTES};
use super::rewrite::leaf;

/// Inner pages have at least this many children before they are cut, however long the separators: each level then has
/// at most half as many pages as the one below.
const CHILDREN_MIN: usize = 4;

/// A page without a number yet.
pub(super) struct NewPage {
    /// The lower bound of its content. The parent knows that of the first piece.
    pub(super) separator: Vec<u8>,
    pub(super) page: Vec<u8>,
}

/// The number of bytes to fill each page with: equal if items may be inserted anywhere, full if they are added at the
/// end.
fn fill(total: usize, at_end: bool) -> usize {
    match at_end {
        true => PAGE_BYTES,
        false => total.div_ceil(total.div_ceil(PAGE_BYTES).max(1)),
    }
}

/// Cuts a leaf that is too long.
pub(super) fn cut_leaf(page: Vec<u8>, at_end: bool) -> Result<Vec<NewPage>, MalformedPage> {
    if page.len() <= PAGE_BYTES {
        let separator = Vec::new();
        return Ok(vec![NewPage { separator, page }]);
    }
    let fill = fill(page.len(), at_end);
    let mut pieces: Vec<NewPage> = Vec::new();
    let mut last: &[u8] = &[];
    for item in leaf(&page)?.into_iter().flat_map(Leaf::items) {
        let item = item?;
        let has_room = pieces.last().is_some_and(|piece| {
            piece.page.len() < fill && piece.page.len() + item.raw.len() <= PAGE_BYTES
        });
        if !has_room {
            let separator = match pieces.is_empty() {
                true => Vec::new(),
                false => shortest_between(last, item.sub_key).to_vec(),
            };
            let page = page::BLANK_LEAF.to_vec();
            pieces.push(NewPage { separator, page });
        }
        let piece = pieces.last_mut().expect("one was just begun");
        piece.page.extend_from_slice(item.raw);
        last = item.sub_key;
    }
    Ok(pieces)
}

/// The shortest bytes that are above `low` and not above `high`.
fn shortest_between<'a>(low: &[u8], high: &'a [u8]) -> &'a [u8] {
    let alike = low.iter().zip(high).take_while(|(low, high)| low == high);
    &high[..high.len().min(alike.count() + 1)]
}

/// Builds inner pages from children; none from no children.
pub(super) fn cut_inner(level: u8, children: &[ChildEntry<'_>], at_end: bool) -> Vec<NewPage> {
    let bytes_of = |child: &ChildEntry<'_>| child.separator.len() + 4;
    let total: usize = children.iter().map(bytes_of).sum();
    let fill = fill(total, at_end);
    let mut pieces: Vec<NewPage> = Vec::new();
    let mut in_last = 0;
    for child in children {
        let has_room = pieces.last().is_some_and(|piece| {
            let len = piece.page.len();
            total <= PAGE_BYTES
                || in_last < CHILDREN_MIN
                || len < fill && len + bytes_of(child) <= PAGE_BYTES
        });
        if !has_room {
            let (separator, page) = (child.separator.to_vec(), page::begin_inner(level));
            pieces.push(NewPage { separator, page });
            in_last = 0;
        }
        let piece = pieces.last_mut().expect("one was just begun");
        let separator = if in_last == 0 {
            &[][..]
        } else {
            &child.separator
        };
        page::push_child(&mut piece.page, separator, child.node);
        in_last += 1;
    }
    pieces
}
