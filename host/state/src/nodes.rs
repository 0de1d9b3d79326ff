//! Entries that are pages of a tree: each is found by state, key and node number, one at a time.
//!
//! `tree` knows the content of a page, and `collections` the tree that it belongs to; here it is bytes. Pages have no
//! write time: each of their items has its own.

use super::index::{Identity, IndexPlace};
use super::layout::{Content, Head};
use super::store::StateStore;
use super::tree::page;
use super::{StateError, StateId};

/// The address of a page: its state, key and node.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeAddress<'a> {
    pub(super) state: StateId,
    pub(super) key: &'a [u8],
    /// [`crate::stream::hash_key`] of the key.
    pub(super) key_hash: u64,
    pub(super) node: u64,
}

impl<'a> NodeAddress<'a> {
    pub(super) fn identity(self) -> Identity<'a> {
        Identity {
            state: self.state,
            node: Some(self.node),
            key: self.key,
        }
    }
}

impl StateStore {
    /// The bytes of a page.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged. The store is unchanged.
    ///
    /// # Panics
    /// When the key is of a key group that this task does not own.
    pub(super) fn node(&mut self, address: NodeAddress<'_>) -> Result<Option<&[u8]>, StateError> {
        let found = self.find(address.identity(), self.node_place(address))?;
        if found.word.is_empty() {
            return Ok(None);
        }
        match self.log.entry_again(found.word).content {
            Content::Value(page) => Ok(Some(page)),
            Content::Tombstone { .. } => Ok(None),
        }
    }

    /// Writes or removes a page: in place if it is in the tail and the length is the same. Removing a missing page does
    /// nothing.
    ///
    /// # Errors
    /// As [`StateStore::node`].
    ///
    /// # Panics
    /// As [`StateStore::node`].
    pub(super) fn put_node(
        &mut self,
        address: NodeAddress<'_>,
        page: Option<&[u8]>,
        now_ms: u64,
    ) -> Result<(), StateError> {
        let place = self.node_place(address);
        let found = self.find(address.identity(), place)?;
        let new = self.node_head(address, page, now_ms);
        self.put(new, address.key, place, found, page);
        Ok(())
    }

    /// Writes a page of the newest version of a state, replacing the page of the same node that an earlier version has.
    ///
    /// # Errors
    /// As [`StateStore::node`].
    ///
    /// # Panics
    /// As [`StateStore::node`].
    pub(super) fn put_node_over(
        &mut self,
        address: NodeAddress<'_>,
        version: StateId,
        page: &[u8],
        now_ms: u64,
    ) -> Result<(), StateError> {
        let earlier = NodeAddress {
            state: version,
            ..address
        };
        let found = self.find(earlier.identity(), self.node_place(earlier))?;
        if found.word.is_empty() {
            return self.put_node(address, Some(page), now_ms);
        }
        let new = self.node_head(address, Some(page), now_ms);
        let place = self.node_place(address);
        let NodeAddress { key, key_hash, .. } = address;
        self.put_over_earlier(new, key, place, found, Some(page), version, key_hash);
        Ok(())
    }

    pub(super) fn node_place(&self, address: NodeAddress<'_>) -> IndexPlace {
        self.place(address.key_hash, address.state, Some(address.node))
    }

    /// The head of a page's entry, and the time when the last of its items expires.
    fn node_head(&self, address: NodeAddress<'_>, page: Option<&[u8]>, now_ms: u64) -> (Head, u64) {
        let head = Head {
            state: address.state,
            node: Some(address.node),
            written_ms: None,
        };
        let lifetime = self.rules(address.state, now_ms).lifetime();
        let expires_ms = page.map_or(0, |page| page::expires_ms(page, lifetime));
        (head, expires_ms)
    }
}
