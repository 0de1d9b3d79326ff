//! Entries that are pages of a tree: each is found by state, key and node number, one at a time.
//!
//! What a page holds is up to `tree`; here it is bytes. Pages have no write time: each item in them has its own.

use super::layout::{Content, Head};
use super::store::{Identity, Place, StateStore};
use super::tree::Nodes;
use super::{StateError, StateId};

/// The pages of one key's tree.
#[derive(Debug)]
pub struct KeyNodes<'a> {
    store: &'a mut StateStore,
    state: StateId,
    key: &'a [u8],
    key_hash: u64,
}

impl Nodes for KeyNodes<'_> {
    type Error = StateError;

    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, StateError> {
        self.store.node(self.state, self.key, self.key_hash, node)
    }

    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), StateError> {
        self.store
            .put_node(self.state, self.key, self.key_hash, node, page)
    }

    fn remove(&mut self, node: u64) -> Result<(), StateError> {
        self.store
            .remove_node(self.state, self.key, self.key_hash, node)
    }
}

impl StateStore {
    /// The pages of a key's tree; `key_hash` is [`crate::stream::hash_key`] of the key.
    pub fn nodes_of<'a>(
        &'a mut self,
        state: StateId,
        key: &'a [u8],
        key_hash: u64,
    ) -> KeyNodes<'a> {
        KeyNodes {
            store: self,
            state,
            key,
            key_hash,
        }
    }

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
        let expires_ms = self.rules(state, self.now_ms).expires_ms();
        self.put((head, expires_ms), key, place, found, page);
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

#[cfg(test)]
mod tests {
    //! Catches trees that differ from a map once they lie in a store, and trees of which all has expired that stay for
    //! ever.

    use std::collections::BTreeMap;

    use super::super::tree::{Lifetime, Tree, Write};
    use super::super::{ChunkId, ChunkIds, StateSettings, StoreSettings};
    use super::*;
    use crate::stream::{MaxParallelism, hash_key};

    #[test]
    fn trees_live_in_a_store_and_expire_there() {
        let max = MaxParallelism::DEFAULT;
        let ids = ChunkIds::new(ChunkId(0), 0, 1);
        let mut store = StateStore::new(StoreSettings {
            states: vec![StateSettings {
                ttl_ms: Some(100),
                ..StateSettings::plain(StateId(3))
            }],
            ..StoreSettings::in_memory(max, max.range(0, 1), ids)
        });
        let lifetime = |now_ms| Lifetime {
            ttl_ms: Some(100),
            now_ms,
        };
        let mut model = BTreeMap::new();
        for key in 0..300u64 {
            let name = key.to_be_bytes();
            let mut nodes = store.nodes_of(StateId(3), &name, hash_key(&name));
            let mut tree = Tree::new(&mut nodes, lifetime(10));
            for item in 0..40u64 {
                let sub_key = (item * 7 % 40).to_be_bytes();
                let write = Write {
                    sub_key: &sub_key,
                    value: Some(&name),
                };
                tree.apply(&[write]).unwrap();
                model.insert((key, sub_key), name);
            }
        }
        store.compact(20).unwrap();
        for ((key, sub_key), value) in &model {
            let name = key.to_be_bytes();
            let mut nodes = store.nodes_of(StateId(3), &name, hash_key(&name));
            let got = Tree::new(&mut nodes, lifetime(20)).get(sub_key).unwrap();
            assert_eq!(got.as_deref(), Some(value.as_slice()));
        }
        let before = store.live_bytes();
        for round in 0..40 {
            store.seal().unwrap();
            store.compact(1000 + round * 200).unwrap();
        }
        assert!(
            store.live_bytes() * 10 < before,
            "{} of {before}",
            store.live_bytes()
        );
    }
}
