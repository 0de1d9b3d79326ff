//! Entries that are pages of a tree: each is found by state, key and node number, one at a time.
//!
//! What a page holds is up to `tree`, and to which tree it belongs up to `collections`; here it is bytes. Pages have no
//! write time: each item in them has its own. Where the newest version of a state has nothing of a node, the page of an
//! earlier version counts: a tree may be of several versions, page by page, until all is migrated.

use super::layout::{Content, Head};
use super::store::{Found, Identity, Place, StateStore};
use super::tree::page;
use super::{StateError, StateId};

/// Which page of which tree is meant.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeAddress<'a> {
    pub(super) state: StateId,
    pub(super) key: &'a [u8],
    pub(super) key_hash: u64,
    pub(super) node: u64,
}

/// A page as it was found.
pub(super) struct FoundNode {
    /// The id of its version.
    pub(super) version: StateId,
    found: Found,
}

impl StateStore {
    /// The bytes of the page that counts, and the version that it is of.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged. The store is as it was.
    ///
    /// # Panics
    /// When the key is of a key group that this task does not own.
    pub(super) fn node(
        &mut self,
        address: NodeAddress<'_>,
    ) -> Result<Option<(StateId, &[u8])>, StateError> {
        let Some(FoundNode { version, found }) = self.find_node(address)? else {
            return Ok(None);
        };
        match self.log.entry_again(found.word).content {
            Content::Value(page) => Ok(Some((version, page))),
            Content::Tombstone { .. } => Ok(None),
        }
    }

    /// Writes a page, or removes it: in place if it is in the tail and as long as before. One that is not there stays so.
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
        let head = Head {
            state: address.state,
            node: Some(address.node),
            written_ms: None,
        };
        let lifetime = self.rules(address.state, now_ms).lifetime();
        let new = (
            head,
            page.map_or(0, |page| page::expires_ms(page, lifetime)),
        );
        let place = self.node_place(address);
        match self.find_node(address)? {
            Some(FoundNode { found, .. }) if page.is_none() && found.is_tombstone() => {}
            Some(FoundNode { version, found }) if version != address.state => {
                let key_hash = address.key_hash;
                self.put_over_earlier(new, address.key, place, found, page, version, key_hash);
            }
            found => {
                let found = found.map_or(Found::none(), |node| node.found);
                self.put(new, address.key, place, found, page);
            }
        }
        Ok(())
    }

    /// The entry that counts for a node, be it a tombstone. It can be had from the log again at once.
    fn find_node(&mut self, address: NodeAddress<'_>) -> Result<Option<FoundNode>, StateError> {
        let identity = Identity {
            state: address.state,
            node: Some(address.node),
            key: address.key,
        };
        let found = self.find(identity, self.node_place(address))?;
        if !found.word.is_empty() {
            let version = address.state;
            return Ok(Some(FoundNode { version, found }));
        }
        if !self.has_aliases {
            return Ok(None);
        }
        let earlier = self.find_earlier(identity, address.key_hash)?;
        Ok(earlier.map(|(version, found)| FoundNode { version, found }))
    }

    fn node_place(&self, address: NodeAddress<'_>) -> Place {
        self.place(address.key_hash, address.state, Some(address.node))
    }
}
