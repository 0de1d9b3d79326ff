//! Lists and maps of a task in its state store: each a tree of pages, each page an entry of the store.

use std::ops::Bound;

use super::collections::{KeyedCollections, Place};
use crate::guest::{ListPage, MapPage, Page, SubKeyRange};
use crate::state::tree::{Lifetime, Limits, MalformedTree, Nodes, Tree, Write};
use crate::state::{StateError, StateStore};

/// Why a list or map cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store.
    #[error(transparent)]
    State(#[from] StateError),
    /// A page that is none.
    #[error(transparent)]
    Malformed(#[from] MalformedTree),
}

/// The pages of one key's list or map.
struct KeyNodes<'a> {
    store: &'a mut StateStore,
    place: Place<'a>,
}

impl Nodes for KeyNodes<'_> {
    type Error = TreeError;

    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, TreeError> {
        let Place {
            state, key, hash, ..
        } = self.place;
        Ok(self.store.node(state, key, hash, node)?)
    }

    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), TreeError> {
        let Place {
            state, key, hash, ..
        } = self.place;
        Ok(self.store.put_node(state, key, hash, node, page)?)
    }

    fn remove(&mut self, node: u64) -> Result<(), TreeError> {
        let Place {
            state, key, hash, ..
        } = self.place;
        Ok(self.store.remove_node(state, key, hash, node)?)
    }
}

/// Does something with one key's tree.
fn in_tree<R>(
    store: &mut StateStore,
    place: Place<'_>,
    what: impl FnOnce(Tree<'_, KeyNodes<'_>>) -> R,
) -> R {
    let lifetime = Lifetime {
        ttl_ms: store.ttl_ms(place.state),
        now_ms: place.now_ms,
    };
    let mut nodes = KeyNodes { store, place };
    what(Tree::new(&mut nodes, lifetime))
}

impl From<Page> for Limits {
    fn from(page: Page) -> Self {
        Self {
            items: page.items,
            bytes: page.bytes,
        }
    }
}

impl KeyedCollections for StateStore {
    type Error = TreeError;

    fn map_get(&mut self, place: Place<'_>, sub_key: &[u8]) -> Result<Option<Vec<u8>>, TreeError> {
        in_tree(self, place, |mut tree| tree.get(sub_key))
    }

    fn map_scan(
        &mut self,
        place: Place<'_>,
        range: SubKeyRange<'_>,
        page: Page,
    ) -> Result<MapPage, TreeError> {
        let start = Bound::Included(range.start);
        let end = range.end.map_or(Bound::Unbounded, Bound::Excluded);
        let scan = in_tree(self, place, |mut tree| {
            tree.scan(start, end, page.into(), range.descending)
        })?;
        Ok(MapPage {
            sub_keys: scan.sub_keys,
            values: scan.values,
            more: scan.more,
        })
    }

    fn map_write(
        &mut self,
        place: Place<'_>,
        writes: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), TreeError> {
        let write = |&(sub_key, value)| Write { sub_key, value };
        let writes: Vec<_> = writes.iter().map(write).collect();
        in_tree(self, place, |mut tree| tree.apply(&writes))
    }

    fn list_read(
        &mut self,
        place: Place<'_>,
        start: u64,
        page: Page,
    ) -> Result<ListPage, TreeError> {
        let scan = in_tree(self, place, |mut tree| tree.list_read(start, page.into()))?;
        // A list of one item at the last position of all has no next one.
        let next = match scan.sub_keys.len().checked_sub(1) {
            Some(last) if scan.more => {
                let position = scan.sub_keys.get(last).first_chunk();
                position.and_then(|bytes| u64::from_be_bytes(*bytes).checked_add(1))
            }
            _ => None,
        };
        Ok(ListPage {
            values: scan.values,
            next,
        })
    }

    fn list_len(&mut self, place: Place<'_>) -> Result<u64, TreeError> {
        in_tree(self, place, |mut tree| tree.count())
    }

    fn list_append(&mut self, place: Place<'_>, items: &[&[u8]]) -> Result<(), TreeError> {
        in_tree(self, place, |mut tree| tree.append(items))
    }

    fn clear(&mut self, place: Place<'_>) -> Result<(), TreeError> {
        in_tree(self, place, |mut tree| tree.clear())
    }
}
