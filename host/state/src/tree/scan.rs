//! Reads ranges: items in ascending or descending order, a bounded number at a time, and their count.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow, RangeBounds};

use super::page::{Inner, Item, Leaf, MalformedPage, Page};
use super::{Lifetime, MalformedTree, Nodes, Tree};
use crate::stream::Column;

/// Limits on the result of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanLimits {
    /// Largest number of items.
    pub items: usize,
    /// Largest number of bytes of sub-keys and values. The first item may be longer.
    pub bytes: usize,
}

/// A part of a scan. The next one starts after its last sub-key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// The sub-keys, in the order of the scan.
    pub sub_keys: Column,
    /// The value of each.
    pub values: Column,
    /// Whether there are more items in the range.
    pub more: bool,
}

/// The range and direction of a walk.
struct Range<'r> {
    start: Bound<&'r [u8]>,
    end: Bound<&'r [u8]>,
    is_reverse: bool,
}

impl Range<'_> {
    fn contains(&self, sub_key: &[u8]) -> bool {
        RangeBounds::<[u8]>::contains(&(self.start, self.end), sub_key)
    }

    /// Whether the range may include sub-keys from `first` on and below `before`.
    fn touches(&self, first: &[u8], before: Option<&[u8]>) -> bool {
        let is_behind = match self.end {
            Bound::Included(end) => first > end,
            Bound::Excluded(end) => first >= end,
            Bound::Unbounded => false,
        };
        let is_in_front = match (self.start, before) {
            (Bound::Included(start) | Bound::Excluded(start), Some(before)) => before <= start,
            _ => false,
        };
        !is_behind && !is_in_front
    }
}

/// A walk over leaves.
struct ScanWalk<'w, F> {
    range: Range<'w>,
    /// The sub-key that the walk has reached.
    last: Option<Vec<u8>>,
    /// Receives each unexpired item of the range.
    visit: F,
}

impl<N: Nodes> Tree<'_, N> {
    /// The items between two bounds. Each page on the way costs one read, and items cost little; expired items cost the
    /// same until their page is rewritten or compacted. A range that ends before it starts is empty.
    ///
    /// # Errors
    /// When a page cannot be read, or is damaged.
    pub fn scan(
        &mut self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        limits: ScanLimits,
        is_reverse: bool,
    ) -> Result<Scan, N::Error> {
        let mut scan = Scan::default();
        let range = Range {
            start,
            end,
            is_reverse,
        };
        let mut bytes = 0usize;
        self.walk(range, |item: &Item<'_>| {
            let len = item.sub_key.len() + item.value.len();
            let is_full = scan.values.len() >= limits.items
                || !scan.values.is_empty() && bytes + len > limits.bytes;
            if is_full {
                scan.more = true;
                return ControlFlow::Break(());
            }
            bytes += len;
            scan.sub_keys.push(item.sub_key);
            scan.values.push(item.value);
            ControlFlow::Continue(())
        })?;
        Ok(scan)
    }

    /// Values of a list in order of their positions, which are the sub-keys, starting at a position. If the front of a
    /// list has expired, positions start above 0; they start at 0 again once the list is empty.
    ///
    /// # Errors
    /// When a page cannot be read, or is damaged.
    pub fn list_read(&mut self, start: u64, limits: ScanLimits) -> Result<Scan, N::Error> {
        let start = start.to_be_bytes();
        self.scan(Bound::Included(&start), Bound::Unbounded, limits, false)
    }

    /// Number of unexpired items of a map or list. Reads every page: a stored count would become wrong as items expire.
    ///
    /// # Errors
    /// When a page cannot be read, or is damaged.
    pub fn count(&mut self) -> Result<u64, N::Error> {
        let range = Range {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
            is_reverse: false,
        };
        let mut count = 0;
        self.walk(range, |_: &Item<'_>| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// The write time of each unexpired item, in the order of a scan; `None` for one that never expires. For tools.
    ///
    /// # Errors
    /// When a page cannot be read, or is damaged.
    pub fn written(&mut self) -> Result<Vec<Option<u64>>, N::Error> {
        let range = Range {
            start: Bound::Unbounded,
            end: Bound::Unbounded,
            is_reverse: false,
        };
        let mut written = Vec::new();
        self.walk(range, |item: &Item<'_>| {
            written.push(item.written_ms);
            ControlFlow::Continue(())
        })?;
        Ok(written)
    }

    /// Removes all items. Reads the inner pages, and removes every page.
    ///
    /// # Errors
    /// When a page cannot be read or is damaged: the tree is unchanged. When one cannot be removed: its content is
    /// unknown.
    pub fn clear(&mut self) -> Result<(), N::Error> {
        for node in self.nodes()? {
            self.nodes.remove(node)?;
        }
        Ok(())
    }

    /// The numbers of all pages. Reads the inner ones.
    ///
    /// # Errors
    /// When a page cannot be read, or is damaged.
    pub fn nodes(&mut self) -> Result<BTreeSet<u64>, N::Error> {
        let mut nodes = BTreeSet::new();
        let mut to_do = vec![(0, None)];
        while let Some((node, level)) = to_do.pop() {
            // Without this check, a walk over forged pages that refer to each other would never end.
            if !nodes.insert(node) {
                let reason = "it has two parents";
                return Err(MalformedTree { node, reason }.into());
            }
            if level == Some(0) {
                continue;
            }
            if let Some(Page::Inner(inner)) = self.page(node, level)? {
                let children = Children::of(inner).map_err(|error| error.at(node))?;
                let below = Some(children.level - 1);
                to_do.extend(children.nodes.into_iter().map(|child| (child, below)));
            }
        }
        Ok(nodes)
    }

    fn walk<F>(&mut self, range: Range<'_>, visit: F) -> Result<(), N::Error>
    where
        F: FnMut(&Item<'_>) -> ControlFlow<()>,
    {
        let mut walk = ScanWalk {
            range,
            last: None,
            visit,
        };
        // The caller's `visit` knows whether it stopped the walk.
        self.walk_node(0, None, &mut walk).map(|_| ())
    }

    fn walk_node<F>(
        &mut self,
        node: u64,
        level: Option<u8>,
        walk: &mut ScanWalk<'_, F>,
    ) -> Result<ControlFlow<()>, N::Error>
    where
        F: FnMut(&Item<'_>) -> ControlFlow<()>,
    {
        let lifetime = self.lifetime;
        let children = match self.page(node, level)? {
            // Only the root may be missing: the tree is empty.
            None => return Ok(ControlFlow::Break(())),
            Some(Page::Leaf(leaf)) => {
                let flow = walk.leaf(leaf, lifetime);
                return flow.map_err(|error| error.at(node).into());
            }
            Some(Page::Inner(inner)) => Children::of(inner).map_err(|error| error.at(node))?,
        };
        let count = children.nodes.len();
        for index in 0..count {
            let index = match walk.range.is_reverse {
                true => count - 1 - index,
                false => index,
            };
            let before = (index + 1 < count).then(|| children.separators.get(index + 1));
            if walk.range.touches(children.separators.get(index), before) {
                let level = Some(children.level - 1);
                let flow = self.walk_node(children.nodes[index], level, walk)?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The children of an inner page, copied, since their pages are read next.
struct Children {
    level: u8,
    separators: Column,
    nodes: Vec<u64>,
}

impl Children {
    fn of(inner: Inner<'_>) -> Result<Self, MalformedPage> {
        let mut children = Self {
            level: inner.level,
            separators: Column::new(),
            nodes: Vec::new(),
        };
        for child in inner.children() {
            let child = child?;
            children.separators.push(child.separator);
            children.nodes.push(child.node);
        }
        Ok(children)
    }
}

impl<F: FnMut(&Item<'_>) -> ControlFlow<()>> ScanWalk<'_, F> {
    /// Visits the items of a leaf that are in the range and not expired. Each leaf must advance the walk, so that it
    /// ends on forged pages as well.
    fn leaf(
        &mut self,
        leaf: Leaf<'_>,
        lifetime: Lifetime,
    ) -> Result<ControlFlow<()>, MalformedPage> {
        let items: Result<Vec<_>, _> = leaf.items().collect();
        let mut items = items?;
        if self.range.is_reverse {
            items.reverse();
        }
        if let (Some(first), Some(last)) = (items.first(), &self.last) {
            let is_further = match self.range.is_reverse {
                true => first.sub_key < last.as_slice(),
                false => first.sub_key > last.as_slice(),
            };
            if !is_further {
                return Err(MalformedPage("its sub-keys are not where its parent says"));
            }
        }
        self.last = items.last().map(|item| item.sub_key.to_vec());
        let seen = items.iter().filter(|item| {
            !lifetime.is_expired(item.written_ms) && self.range.contains(item.sub_key)
        });
        for item in seen {
            if (self.visit)(item).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
