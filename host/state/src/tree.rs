//! An ordered map from sub-keys to values, stored as a B+ tree of small pages. A `map` state has one for each key; so
//! has a `list` state, with positions as sub-keys.
//!
//! ```text
//!                 node 0: the root            most trees are this one page, a leaf
//!               ┌────────┼────────┐
//!            node 3    node 1   node 2        a page keeps its number when it splits; the new ones get the next
//! ```
//!
//! Pages, instead of one entry per item: a key with few items costs one index word and one lookup, a scan reads
//! adjacent items, and the key is not stored again for each item. Pages, instead of one long value: for a key with a
//! million items, only the changed pages are written. `page` has the bytes, `apply` writes (`rewrite` a leaf, `cut`
//! long ones), `scan` reads ranges and lists.
//!
//! [`Nodes`] stores the pages. They come from disk, so a malformed page is an error, and never a panic or an endless
//! loop: the level of a page is one below its parent's, and sub-keys ascend over a whole walk. Damaged bytes that still
//! are valid pages are detected by the checksum of their chunk, not here.
//!
//! The number of items is not stored: it would change the root with each write, and become wrong as items expire. Pages
//! that lost items are not refilled, beyond what [`Tree::apply`] says.

pub mod page;

mod apply;
mod cut;
mod rewrite;
mod scan;

#[cfg(test)]
mod page_tests;
#[cfg(test)]
mod tests;

pub use apply::Write;
pub use scan::{Scan, ScanLimits};

use page::{MalformedPage, Page};

/// Stores the pages of one key's tree.
pub trait Nodes {
    /// The reason why a page cannot be read or written.
    type Error: From<MalformedTree>;

    /// The page of a node; `None` if it has none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, Self::Error>;

    /// Sets the page of a node.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), Self::Error>;

    /// Removes the page of a node, if it has one.
    ///
    /// # Errors
    /// When it cannot be written.
    fn remove(&mut self, node: u64) -> Result<(), Self::Error>;
}

/// A page that does not fit the tree that it is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {node} of a map or list is damaged: {reason}")]
pub struct MalformedTree {
    /// The node.
    pub node: u64,
    /// The reason.
    pub reason: &'static str,
}

impl MalformedPage {
    pub(super) fn at(self, node: u64) -> MalformedTree {
        MalformedTree {
            node,
            reason: self.0,
        }
    }
}

/// The time to live of items, and the current time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Time to live of an item after its write in milliseconds; `None` is without expiry.
    pub ttl_ms: Option<u64>,
    /// Wall-clock time in milliseconds since 1970.
    pub now_ms: u64,
}

impl Lifetime {
    /// Whether an item that was written at this time has expired. An item without a time was written while items did
    /// not expire, and never expires.
    #[must_use]
    pub fn is_expired(self, written_ms: Option<u64>) -> bool {
        match (self.ttl_ms, written_ms) {
            (Some(ttl), Some(written)) => self.now_ms >= written.saturating_add(ttl),
            _ => false,
        }
    }

    /// The write time for new items; `None` without expiry.
    #[must_use]
    pub fn stamp(self) -> Option<u64> {
        self.ttl_ms.map(|_| self.now_ms)
    }
}

/// The tree of one key, borrowed.
///
/// - Node 0 is the root. A tree without items has no page.
/// - All leaves are on level 0, and each page is one level below its parent.
/// - No page is empty. Each but the root is the child of one other.
/// - All numbers of nodes are below the next free one, which is stored in the root; 1 if the root is a leaf.
#[derive(Debug)]
pub struct Tree<'a, N> {
    nodes: &'a mut N,
    lifetime: Lifetime,
}

impl<'a, N: Nodes> Tree<'a, N> {
    /// The tree in these nodes.
    #[must_use]
    pub fn new(nodes: &'a mut N, lifetime: Lifetime) -> Self {
        Self { nodes, lifetime }
    }

    /// The value of a sub-key. Reads one page on each level.
    ///
    /// # Errors
    /// When a page cannot be read, or is damaged.
    pub fn get(&mut self, sub_key: &[u8]) -> Result<Option<Vec<u8>>, N::Error> {
        let lifetime = self.lifetime;
        let (mut node, mut level) = (0, None);
        loop {
            let Some(page) = self.page(node, level)? else {
                return Ok(None);
            };
            match page {
                Page::Leaf(leaf) => {
                    let found = leaf.find(sub_key).map_err(|error| error.at(node))?;
                    let live = found.filter(|item| !lifetime.is_expired(item.written_ms));
                    return Ok(live.map(|item| item.value.to_vec()));
                }
                Page::Inner(inner) => {
                    level = Some(inner.level - 1);
                    node = inner.child_of(sub_key).map_err(|error| error.at(node))?;
                }
            }
        }
    }

    /// The page of a node, which must be on this level unless it is the root.
    fn page(&mut self, node: u64, level: Option<u8>) -> Result<Option<Page<'_>>, N::Error> {
        let missing = |reason| MalformedTree { node, reason };
        let Some(bytes) = self.nodes.read(node)? else {
            return match level {
                None => Ok(None),
                Some(_) => Err(missing("it is not there").into()),
            };
        };
        let page = Page::parse(bytes).map_err(|error| error.at(node))?;
        let is_root = matches!(&page, Page::Inner(inner) if inner.next_free.is_some());
        match (level, &page) {
            (Some(level), _) if level != page.level() => {
                Err(missing("it is on a different level than its parent says").into())
            }
            (Some(_), _) if is_root => Err(missing("it is a root below another").into()),
            (None, Page::Inner(_)) if !is_root => {
                Err(missing("it is the root and has no next free number").into())
            }
            _ => Ok(Some(page)),
        }
    }
}
