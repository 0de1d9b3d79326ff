//! An ordered map from sub-keys to values, kept as a B+ tree of small pages: what a `map` state has for one key, and, with
//! positions as sub-keys, a `list` state.
//!
//! ```text
//!                 node 0: the root            most trees are this one page, a leaf
//!               ┌────────┼────────┐
//!            node 3    node 1   node 2        a page keeps its number when it splits; the new ones get the next
//! ```
//!
//! Pages instead of one entry an item: a key with few items costs one index word and one look-up, a scan reads items side
//! by side, and no key is stored once more for each of its items. Pages instead of one long value: a key with a million
//! items pays for the pages that change. `page` has the bytes, `apply` writes (`rewrite` a leaf, `cut` what is too long), `scan` reads ranges
//! and lists.
//!
//! Where the pages lie is told by [`Nodes`]. They come from disk: a malformed one is an error, and never a panic or an
//! endless loop, since the level of a page is one below its parent's, and sub-keys ascend over the whole of a walk.
//! Bytes that are damaged and still make pages are found by the checksum of the chunk that they lie in, not here.
//!
//! Not kept: the number of items. It would change the root with each write, and be wrong as soon as time passes.
//! Not done: filling of pages that lost items, beyond what [`Tree::apply`] says.

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

/// Where the pages of one key's tree are.
pub trait Nodes {
    /// Why a page cannot be read or written.
    type Error: From<MalformedTree>;

    /// The page of a node; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, Self::Error>;

    /// Makes this the page of a node.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), Self::Error>;

    /// Makes a node have no page. It may have none already.
    ///
    /// # Errors
    /// When that cannot be written.
    fn remove(&mut self, node: u64) -> Result<(), Self::Error>;
}

/// A page that does not fit the tree that it is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("page {node} of a map or list is damaged: {reason}")]
pub struct MalformedTree {
    /// Which.
    pub node: u64,
    /// What is wrong.
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

/// How long items live, and what time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// How long an item lives after it was written; `None` without expiry.
    pub ttl_ms: Option<u64>,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

impl Lifetime {
    /// Whether an item that was written at this time has expired. One without a time was written while items did not expire,
    /// and never does.
    #[must_use]
    pub fn is_expired(self, written_ms: Option<u64>) -> bool {
        match (self.ttl_ms, written_ms) {
            (Some(ttl), Some(written)) => self.now_ms >= written.saturating_add(ttl),
            _ => false,
        }
    }

    /// The time that an item is written with now.
    #[must_use]
    pub fn stamp(self) -> Option<u64> {
        self.ttl_ms.map(|_| self.now_ms)
    }
}

/// The tree of one key, for a while.
///
/// - Node 0 is the root. A tree without items has no page.
/// - All leaves are on level 0, and each page is one level below its parent.
/// - No page is empty. Each but the root is the child of one other.
/// - All numbers of nodes are below the next free one, which stands in the root; 1 if the root is a leaf.
#[derive(Debug)]
pub struct Tree<'a, N> {
    nodes: &'a mut N,
    lifetime: Lifetime,
}

impl<'a, N: Nodes> Tree<'a, N> {
    /// The tree that lies in these nodes.
    #[must_use]
    pub fn new(nodes: &'a mut N, lifetime: Lifetime) -> Self {
        Self { nodes, lifetime }
    }

    /// The value of a sub-key. Reads as many pages as the tree is high.
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

    /// The page of a node, which is on this level, unless it is the root's.
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
                Err(missing("it is on another level than its parent says").into())
            }
            (Some(_), _) if is_root => Err(missing("it is a root below another").into()),
            (None, Page::Inner(_)) if !is_root => {
                Err(missing("it is the root and has no next free number").into())
            }
            _ => Ok(Some(page)),
        }
    }
}
