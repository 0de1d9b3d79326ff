//! Writes to a tree: one batch at a time, each page at most once.
//!
//! One walk descends to the pages that a batch changes, and returns the results: no page, one page, or several if one
//! was too long. The results are buffered until the walk is complete, so after a page that cannot be read or is damaged
//! the tree is unchanged, and a page that changes twice is written once. The walk reads the pages on the way down, and
//! the neighbours of a leaf that shrank below a quarter. It writes the pages that changed, and the root if a new number
//! was allocated.
//!
//! A leaf that lost all items is removed, and so is an inner page without children; a root with one child is replaced
//! by it. A leaf that shrank is joined with a neighbour under the same parent if both fill no more than half a page.
//! Otherwise pages are not filled from their neighbours, and inner pages are not joined.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cut::{NewPage, cut_inner, cut_leaf};
use super::page::{self, Child, LEVEL_MAX, MalformedPage, PAGE_BYTES, Page};
use super::rewrite::{is_expired, leaf, rewrite};
use super::{Lifetime, MalformedTree, Nodes, Tree};

/// A leaf shorter than this may be joined with a neighbour.
const SMALL_LEAF_BYTES: usize = PAGE_BYTES / 4;
/// Longest two leaves together that are joined.
const JOINED_LEAF_BYTES_MAX: usize = PAGE_BYTES / 2;
/// Fully expired leaves that an append removes from the front of a list: more than it adds, so that they cannot
/// accumulate.
const TRIMMED_LEAVES_MAX: usize = 4;

/// A new value of a sub-key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// The sub-key.
    pub sub_key: &'a [u8],
    /// Its new value; `None` removes it.
    pub value: Option<&'a [u8]>,
}

/// A change of a part of a tree.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edit<'e> {
    /// Applies these writes.
    Write(&'e [Write<'e>]),
    /// Appends these values at the end, each at the position after the last.
    Append(&'e [&'e [u8]]),
    /// Only removes expired leaves at the front of a list.
    Trim,
}

/// The result for a page.
enum PageOutcome {
    /// It is unchanged.
    Same,
    /// It was replaced by these pages, in order; by none if it was removed.
    Pieces {
        pieces: Vec<NewPage>,
        /// Whether it may be joined with a neighbour.
        shrank: bool,
    },
}

/// A child while its parent is rewritten.
pub(super) struct ChildEntry<'p> {
    pub(super) separator: Cow<'p, [u8]>,
    pub(super) node: u64,
    shrank: bool,
}

/// A walk, and its buffered changes.
struct ApplyWalk<'w, N> {
    nodes: &'w mut N,
    lifetime: Lifetime,
    next_free: u64,
    /// The new page of each node; `None` if it was removed.
    changes: BTreeMap<u64, Option<Vec<u8>>>,
    /// Number of further leaves that may be removed from the front.
    trims: usize,
}

impl<N: Nodes> Tree<'_, N> {
    /// Applies writes in strictly ascending order of sub-keys. Expired items of the changed leaves are dropped.
    ///
    /// # Errors
    /// When a page cannot be read or is damaged: the tree is unchanged. When one cannot be written: its content is
    /// unknown.
    ///
    /// # Panics
    /// When the writes are not in ascending order.
    pub fn apply(&mut self, writes: &[Write<'_>]) -> Result<(), N::Error> {
        assert!(
            writes.is_sorted_by(|one, next| one.sub_key < next.sub_key),
            "writes ascend by sub-key"
        );
        if writes.is_empty() {
            return Ok(());
        }
        self.edit(Edit::Write(writes), 0)
    }

    /// Appends values to a list: each gets the position after the last, as 8 bytes, big-endian, starting at 0. Fully
    /// expired leaves at the front are removed, a few at a time.
    ///
    /// # Errors
    /// As [`Tree::apply`].
    pub fn append(&mut self, values: &[&[u8]]) -> Result<(), N::Error> {
        if values.is_empty() {
            return Ok(());
        }
        let trims = self.lifetime.ttl_ms.map_or(0, |_| TRIMMED_LEAVES_MAX);
        self.edit(Edit::Append(values), trims)
    }

    fn edit(&mut self, edit: Edit<'_>, trims: usize) -> Result<(), N::Error> {
        let (level, next_free) = match self.page(0, None)? {
            None | Some(Page::Leaf(_)) => (0, 1),
            Some(Page::Inner(inner)) => (inner.level, inner.next_free.unwrap_or(1)),
        };
        let mut walk = ApplyWalk {
            nodes: &mut *self.nodes,
            lifetime: self.lifetime,
            next_free,
            changes: BTreeMap::new(),
            trims,
        };
        match walk.visit(0, level, edit)? {
            PageOutcome::Same if walk.next_free == next_free => {}
            PageOutcome::Same => {
                let root = walk.bytes(0)?;
                walk.put_root(root)?;
            }
            PageOutcome::Pieces { pieces, .. } => walk.grow(pieces, level)?,
        }
        for (node, page) in walk.changes {
            match page {
                Some(page) => self.nodes.write(node, &page)?,
                None => self.nodes.remove(node)?,
            }
        }
        Ok(())
    }
}

impl<N: Nodes> ApplyWalk<'_, N> {
    /// The page of an existing node.
    fn bytes(&mut self, node: u64) -> Result<Vec<u8>, N::Error> {
        match self.nodes.read(node)? {
            Some(bytes) => Ok(bytes.to_vec()),
            None => Err(damaged(node, "it is not there").into()),
        }
    }

    fn visit(&mut self, node: u64, level: u8, edit: Edit<'_>) -> Result<PageOutcome, N::Error> {
        if level > 0 {
            return self.visit_inner(node, level, edit);
        }
        let old = match self.nodes.read(node)? {
            Some(bytes) => bytes,
            None if node == 0 => page::BLANK_LEAF,
            None => return Err(damaged(node, "it is not there").into()),
        };
        let leaf = leaf(old).map_err(|error| error.at(node))?;
        if let Edit::Trim = edit {
            let is_expired = is_expired(leaf, self.lifetime).map_err(|error| error.at(node))?;
            self.trims = if is_expired { self.trims - 1 } else { 0 };
            return Ok(match is_expired {
                true => PageOutcome::pieces(Vec::new(), true),
                false => PageOutcome::Same,
            });
        }
        let new = rewrite(leaf, edit, self.lifetime).map_err(|error| error.at(node))?;
        if new.page == old {
            return Ok(PageOutcome::Same);
        }
        if new.page == page::BLANK_LEAF {
            return Ok(PageOutcome::pieces(Vec::new(), true));
        }
        let shrank = new.page.len() < old.len() && new.page.len() < SMALL_LEAF_BYTES;
        let pieces = cut_leaf(new.page, new.at_end).map_err(|error| error.at(node))?;
        Ok(PageOutcome::pieces(pieces, shrank))
    }

    fn visit_inner(
        &mut self,
        node: u64,
        level: u8,
        edit: Edit<'_>,
    ) -> Result<PageOutcome, N::Error> {
        let bytes = self.bytes(node)?;
        let page = Page::parse(&bytes).map_err(|error| error.at(node))?;
        let inner = match page {
            Page::Inner(inner) if inner.level == level => inner,
            _ => {
                return Err(
                    damaged(node, "it is on a different level than its parent says").into(),
                );
            }
        };
        if inner.next_free.is_some() != (node == 0) {
            return Err(damaged(node, "only the root has a next free number").into());
        }
        let children: Result<Vec<_>, _> = inner.children().collect();
        let children = children.map_err(|error| error.at(node))?;
        if children.iter().any(|child| child.node >= self.next_free) {
            return Err(damaged(node, "it names a node that was never given out").into());
        }
        let mut kept = Vec::with_capacity(children.len() + 1);
        let mut changed = false;
        let mut rest = edit;
        for (index, child) in children.iter().enumerate() {
            let before = children.get(index + 1).map(|next| next.separator);
            // When its leaves are removed, the next one becomes the front of the list.
            let is_front = self.trims > 0 && kept.is_empty();
            match rest.split_off(before, is_front) {
                None => kept.push(ChildEntry::same(child)),
                Some(mine) => match self.visit(child.node, level - 1, mine)? {
                    PageOutcome::Same => kept.push(ChildEntry::same(child)),
                    PageOutcome::Pieces { pieces, shrank } => {
                        changed |= pieces.len() != 1;
                        self.replace(child, pieces, shrank, &mut kept);
                    }
                },
            }
        }
        if level == 1 {
            changed |= self.join_small_leaves(&mut kept)?;
        }
        if !changed {
            return Ok(PageOutcome::Same);
        }
        let at_end = kept.len() > children.len()
            && kept
                .iter()
                .zip(&children)
                .all(|(kept, child)| kept.node == child.node);
        Ok(PageOutcome::pieces(cut_inner(level, &kept, at_end), false))
    }

    /// Replaces a child by its pieces: the first one keeps its number.
    fn replace<'p>(
        &mut self,
        child: &Child<'p>,
        pieces: Vec<NewPage>,
        shrank: bool,
        kept: &mut Vec<ChildEntry<'p>>,
    ) {
        if pieces.is_empty() {
            self.changes.insert(child.node, None);
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            let (separator, node) = match index {
                0 => (Cow::Borrowed(child.separator), child.node),
                _ => (Cow::Owned(piece.separator), self.take_number()),
            };
            self.changes.insert(node, Some(piece.page));
            kept.push(ChildEntry {
                separator,
                node,
                shrank,
            });
        }
    }

    fn take_number(&mut self) -> u64 {
        let node = self.next_free;
        // A forged number near the end is refused when it is read; counting cannot get there.
        self.next_free += 1;
        node
    }

    /// Joins leaves that shrank with a neighbour; returns whether any was joined.
    fn join_small_leaves(&mut self, kept: &mut Vec<ChildEntry<'_>>) -> Result<bool, N::Error> {
        let before = kept.len();
        let mut index = 0;
        while index < kept.len() {
            if !kept[index].shrank {
                index += 1;
            } else if index + 1 < kept.len() && self.join(kept[index].node, kept[index + 1].node)? {
                kept.remove(index + 1);
            } else if index > 0 && self.join(kept[index - 1].node, kept[index].node)? {
                kept.remove(index);
            } else {
                index += 1;
            }
        }
        Ok(kept.len() < before)
    }

    /// Joins a leaf with the one before it, if both together are short enough; returns whether they are.
    fn join(&mut self, node: u64, next: u64) -> Result<bool, N::Error> {
        let mut page = self.newest(node)?;
        let next_page = self.newest(next)?;
        if page.len() + next_page.len() > JOINED_LEAF_BYTES_MAX {
            return Ok(false);
        }
        match (Page::parse(&page), Page::parse(&next_page)) {
            (Ok(Page::Leaf(_)), Ok(Page::Leaf(next))) => page::join_leaves(&mut page, next),
            _ => return Err(damaged(next, "it or the one before it should be a leaf").into()),
        }
        self.changes.insert(node, Some(page));
        self.changes.insert(next, None);
        Ok(true)
    }

    /// The page of a node after the changes of this walk.
    fn newest(&mut self, node: u64) -> Result<Vec<u8>, N::Error> {
        match self.changes.get(&node) {
            Some(Some(page)) => Ok(page.clone()),
            _ => self.bytes(node),
        }
    }

    /// Builds the root from the result, adding levels if it is several pages and dropping levels with one child.
    fn grow(&mut self, mut pieces: Vec<NewPage>, mut level: u8) -> Result<(), N::Error> {
        while pieces.len() > 1 {
            if level == LEVEL_MAX {
                return Err(damaged(0, "its tree has as many levels as there may be").into());
            }
            level += 1;
            let mut children = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let node = self.take_number();
                self.changes.insert(node, Some(piece.page));
                children.push(ChildEntry {
                    separator: Cow::Owned(piece.separator),
                    node,
                    shrank: false,
                });
            }
            pieces = cut_inner(level, &children, false);
        }
        let Some(mut root) = pieces.pop().map(|piece| piece.page) else {
            self.changes.insert(0, None);
            return Ok(());
        };
        while let Some(child) = only_child(&root).map_err(|error| error.at(0))? {
            root = match self.changes.remove(&child).flatten() {
                Some(page) => page,
                None => self.bytes(child)?,
            };
            let page = Page::parse(&root).map_err(|error| error.at(child))?;
            if page.level() + 1 != level {
                return Err(
                    damaged(child, "it is on a different level than its parent says").into(),
                );
            }
            level -= 1;
            self.changes.insert(child, None);
        }
        self.put_root(root)
    }

    fn put_root(&mut self, page: Vec<u8>) -> Result<(), N::Error> {
        let root = match Page::parse(&page).map_err(|error| error.at(0))? {
            Page::Leaf(_) => page,
            Page::Inner(_) => {
                page::with_next_free(&page, self.next_free).map_err(|error| error.at(0))?
            }
        };
        self.changes.insert(0, Some(root));
        Ok(())
    }
}

impl PageOutcome {
    fn pieces(pieces: Vec<NewPage>, shrank: bool) -> Self {
        Self::Pieces { pieces, shrank }
    }
}

impl<'p> ChildEntry<'p> {
    fn same(child: &Child<'p>) -> Self {
        Self {
            separator: Cow::Borrowed(child.separator),
            node: child.node,
            shrank: false,
        }
    }
}

impl<'e> Edit<'e> {
    /// Splits off the part for a child whose successor starts at `before`; `None` if there is nothing for it.
    fn split_off(&mut self, before: Option<&[u8]>, is_front: bool) -> Option<Edit<'e>> {
        let trim = is_front.then_some(Edit::Trim);
        let Some(before) = before else {
            return match self {
                Self::Write([]) | Self::Trim => trim,
                _ => Some(*self),
            };
        };
        let Self::Write(writes) = self else {
            return trim;
        };
        let (mine, rest) = writes.split_at(writes.partition_point(|write| write.sub_key < before));
        *writes = rest;
        match mine {
            [] => trim,
            _ => Some(Self::Write(mine)),
        }
    }
}

fn damaged(node: u64, reason: &'static str) -> MalformedTree {
    MalformedTree { node, reason }
}

/// The child of an inner page that has only one.
fn only_child(page: &[u8]) -> Result<Option<u64>, MalformedPage> {
    let Page::Inner(inner) = Page::parse(page)? else {
        return Ok(None);
    };
    let mut children = inner.children();
    let first = children.next().transpose()?;
    Ok(match children.next() {
        None => first.map(|child| child.node),
        Some(_) => None,
    })
}
