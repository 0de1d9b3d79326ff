//! Lists and maps of keys: for each key a tree, whose pages are entries of the store.
//!
//! A tree is used for as long as a closure runs, since it borrows the store. Pages of earlier versions of a state are
//! migrated when they are read: their values go through [`Migrate`] page by page, and the page is written anew under the
//! newest version, so that it happens once. What nobody reads is migrated by whoever follows the sweep
//! ([`StateStore::stale_entries`]), with [`StateStore::migrate_page`]. Sub-keys are the same in all versions.
//!
//! Pages are not kept decoded between two reads: finding an item in one costs less than keeping track of which are still
//! true.

use super::nodes::NodeAddress;
use super::store::StateStore;
use super::tree::{MalformedTree, Nodes, Tree, page};
use super::versions::StaleEntry;
use super::{StateError, StateId};
use crate::stream::{Column, hash_key};

/// Whose list or map is meant, and when.
#[derive(Debug, Clone, Copy)]
pub struct CollectionSlot<'a> {
    /// The state.
    pub state: StateId,
    /// The key.
    pub key: &'a [u8],
    /// [`crate::stream::hash_key`] of the key.
    pub key_hash: u64,
    /// The time of day, in milliseconds since 1970.
    pub now_ms: u64,
}

/// Takes over values of earlier versions of a state.
pub trait Migrate {
    /// The values in the encoding of the newest version, one for one.
    ///
    /// # Errors
    /// Why that cannot be, for people.
    fn migrate(&mut self, state: StateId, from: StateId, values: &Column)
    -> Result<Column, String>;
}

/// For stores without earlier versions: refuses.
#[derive(Debug, Clone, Copy)]
pub struct NoMigration;

impl Migrate for NoMigration {
    fn migrate(&mut self, _: StateId, _: StateId, _: &Column) -> Result<Column, String> {
        Err("nobody is there who could".to_owned())
    }
}

/// Why a list or map cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// The store cannot be.
    #[error(transparent)]
    State(#[from] StateError),
    /// A page is none, or is not where it should be.
    #[error(transparent)]
    Malformed(#[from] MalformedTree),
    /// Values of an earlier version were not taken over.
    #[error("values of an earlier version of the state cannot be migrated: {reason}")]
    Migration {
        /// Why.
        reason: String,
    },
}

/// The pages of one key's tree.
pub struct Pages<'a> {
    store: &'a mut StateStore,
    slot: CollectionSlot<'a>,
    migrate: &'a mut dyn Migrate,
}

impl StateStore {
    /// Does something with the list or map of a key. Writes are there at once; like all others they are undone by a
    /// rollback.
    ///
    /// # Panics
    /// When the tree is used and the key is of a key group that this task does not own.
    pub fn in_tree<R>(
        &mut self,
        slot: CollectionSlot<'_>,
        migrate: &mut dyn Migrate,
        what: impl FnOnce(Tree<'_, Pages<'_>>) -> R,
    ) -> R {
        let lifetime = self.rules(slot.state, slot.now_ms).lifetime();
        let mut pages = Pages {
            store: self,
            slot,
            migrate,
        };
        what(Tree::new(&mut pages, lifetime))
    }

    /// Migrates a page that the sweep has named, unless that was done or the page has gone since. Entries that are no pages
    /// are passed over.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or is not taken over. It is as it was.
    pub fn migrate_page(
        &mut self,
        stale: &StaleEntry,
        now_ms: u64,
        migrate: &mut dyn Migrate,
    ) -> Result<(), TreeError> {
        let Some(node) = stale.node else {
            return Ok(());
        };
        let slot = CollectionSlot {
            state: stale.state,
            key: &stale.key,
            key_hash: hash_key(&stale.key),
            now_ms,
        };
        let mut pages = Pages {
            store: self,
            slot,
            migrate,
        };
        pages.take_over(node)
    }
}

impl Pages<'_> {
    fn put(&mut self, node: u64, page: Option<&[u8]>) -> Result<(), TreeError> {
        let address = address(self.slot, node);
        Ok(self.store.put_node(address, page, self.slot.now_ms)?)
    }

    /// Makes the page of a node one of the newest version, if it is of an earlier one.
    fn take_over(&mut self, node: u64) -> Result<(), TreeError> {
        let malformed = |error: page::MalformedPage| TreeError::Malformed(error.at(node));
        let slot = self.slot;
        let (version, values, old) = match self.store.node(address(slot, node))? {
            Some((version, page)) if version != slot.state => {
                let values = page::values(page).map_err(malformed)?;
                (version, values, page.to_vec())
            }
            _ => return Ok(()),
        };
        let refused = |reason| TreeError::Migration { reason };
        let page = if values.is_empty() {
            old
        } else {
            let migrated = self.migrate.migrate(slot.state, version, &values);
            let migrated = migrated.map_err(refused)?;
            if migrated.len() != values.len() {
                let counts = (values.len(), migrated.len());
                return Err(refused(format!("{} became {}", counts.0, counts.1)));
            }
            page::with_values(&old, migrated.iter()).map_err(malformed)?
        };
        self.put(node, Some(&page))
    }
}

fn address(slot: CollectionSlot<'_>, node: u64) -> NodeAddress<'_> {
    NodeAddress {
        state: slot.state,
        key: slot.key,
        key_hash: slot.key_hash,
        node,
    }
}

impl Nodes for Pages<'_> {
    type Error = TreeError;

    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, TreeError> {
        if self.store.has_aliases {
            self.take_over(node)?;
        }
        let found = self.store.node(address(self.slot, node))?;
        Ok(found.map(|(_, page)| page))
    }

    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), TreeError> {
        self.put(node, Some(page))
    }

    fn remove(&mut self, node: u64) -> Result<(), TreeError> {
        self.put(node, None)
    }
}
