//! Entries that are pages of a tree: each is found by state, key and node number, one at a time.
//!
//! What a page holds is up to `tree`; here it is bytes. Pages have no write time: each item in them has its own.

use super::layout::{Content, Head};
use super::store::{Identity, Place, StateStore};
use super::{StateError, StateId};

impl StateStore {
    /// The bytes of a page; `key_hash` is [`crate::stream::hash_key`] of the key.
    ///
    /// # Errors
    /// When a chunk that is not in memory cannot be read, or is damaged. The store is as it was.
    ///
    /// # Panics
    /// When the key is of a key group that this task does not own.
    pub fn node(
        &mut self,
        state: StateId,
        key: &[u8],
        key_hash: u64,
        node: u64,
    ) -> Result<Option<&[u8]>, StateError> {
        let (identity, place) = self.node_identity(state, key, key_hash, node);
        let found = self.find(identity, place)?;
        if found.word.is_empty() {
            return Ok(None);
        }
        match self.log.entry_again(found.word).content {
            Content::Value(page) => Ok(Some(page)),
            Content::Tombstone { .. } => Ok(None),
        }
    }

    /// Writes a page: in place if it is in the tail and as long as before.
    ///
    /// # Errors
    /// As [`StateStore::node`].
    ///
    /// # Panics
    /// As [`StateStore::node`].
    pub fn put_node(
        &mut self,
        state: StateId,
        key: &[u8],
        key_hash: u64,
        node: u64,
        page: &[u8],
    ) -> Result<(), StateError> {
        self.change_node(state, key, key_hash, node, Some(page))
    }

    /// Removes a page. One that is not there stays so.
    ///
    /// # Errors
    /// As [`StateStore::node`].
    ///
    /// # Panics
    /// As [`StateStore::node`].
    pub fn remove_node(
        &mut self,
        state: StateId,
        key: &[u8],
        key_hash: u64,
        node: u64,
    ) -> Result<(), StateError> {
        self.change_node(state, key, key_hash, node, None)
    }

    fn change_node(
        &mut self,
        state: StateId,
        key: &[u8],
        key_hash: u64,
        node: u64,
        page: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let (identity, place) = self.node_identity(state, key, key_hash, node);
        let found = self.find(identity, place)?;
        let head = Head {
            state,
            node: Some(node),
            written_ms: None,
        };
        self.put((head, 0), key, place, found, page);
        Ok(())
    }

    fn node_identity<'a>(
        &self,
        state: StateId,
        key: &'a [u8],
        key_hash: u64,
        node: u64,
    ) -> (Identity<'a>, Place) {
        let identity = Identity {
            state,
            node: Some(node),
            key,
        };
        (identity, self.place(key_hash, state, Some(node)))
    }
}
