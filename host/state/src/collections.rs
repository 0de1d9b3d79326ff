//! Lists and maps of keys: one tree for each key, whose pages are entries of the store.
//!
//! A tree is used within a closure, since it borrows the store. All pages of a tree have one version of the state: a
//! tree that an earlier version wrote is first migrated as a whole, with [`Migrate`] converting the values of some
//! pages at a time. The sweep ([`StateStore::stale_entries`]) finds trees that no call uses, and its caller migrates
//! them with [`StateStore::migrate_tree`]. A tree that cannot be migrated stays as it is, and the next caller tries again.
//! Sub-keys are the same in all versions.
//!
//! Trees are migrated as a whole and not page by page, because tools read checkpoints without a plugin, and would
//! otherwise find values in two encodings. The cost is one pause, in proportion to the largest tree of one key. Decoded
//! pages are not cached between reads: finding an item in a page costs less than tracking which cached pages are
//! current.

use super::nodes::NodeAddress;
use super::store::StateStore;
use super::tree::{Lifetime, MalformedTree, Nodes, Tree, page};
use super::{StateError, StateId};
use crate::stream::Column;

/// Bytes of values that are migrated at a time, about.
const MIGRATED_BYTES: usize = 256 << 10;

/// A list or map by state and key, with the current time.
#[derive(Debug, Clone, Copy)]
pub struct CollectionSlot<'a> {
    /// The state that the list or map belongs to.
    pub state: StateId,
    /// The key.
    pub key: &'a [u8],
    /// [`crate::stream::hash_key`] of the key.
    pub key_hash: u64,
    /// Wall-clock time in milliseconds since 1970.
    pub now_ms: u64,
}

impl<'a> CollectionSlot<'a> {
    fn address(self, node: u64) -> NodeAddress<'a> {
        NodeAddress {
            state: self.state,
            key: self.key,
            key_hash: self.key_hash,
            node,
        }
    }
}

/// Migrates values of earlier versions of a state.
pub trait Migrate {
    /// Converts values to the encoding of the newest version, one for one.
    ///
    /// # Errors
    /// When they cannot be migrated.
    fn migrate(
        &mut self,
        state: StateId,
        from: StateId,
        values: &Column,
    ) -> Result<Column, MigrationError>;
}

/// The reason why values of an earlier version of a state cannot be migrated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrationError {
    /// There is no plugin.
    #[error("this store has no plugin to migrate them")]
    NoPlugin,
    /// The plugin does not declare the state.
    #[error("the plugin does not declare the state")]
    UnknownState,
    /// The checkpoint does not list that version of the state.
    #[error("the version is unknown")]
    UnknownVersion,
    /// The plugin cannot be started, refuses to migrate, or crashes.
    #[error("{message}")]
    Plugin {
        /// The message of the plugin, or a description of its failure.
        message: String,
    },
    /// The plugin returned a different number of values.
    #[error("{values} values became {migrated}")]
    Count {
        /// The number of values.
        values: usize,
        /// The number of values that it returned.
        migrated: usize,
    },
}

/// Refuses, for stores without earlier versions.
#[derive(Debug, Clone, Copy)]
pub struct NoMigration;

impl Migrate for NoMigration {
    fn migrate(&mut self, _: StateId, _: StateId, _: &Column) -> Result<Column, MigrationError> {
        Err(MigrationError::NoPlugin)
    }
}

/// The reason why a list or map cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// An error of the store.
    #[error(transparent)]
    State(#[from] StateError),
    /// A page is malformed, or not in its place.
    #[error(transparent)]
    Malformed(#[from] MalformedTree),
    /// Values of an earlier version could not be migrated.
    #[error("values of an earlier version of the state cannot be migrated: {reason}")]
    Migration {
        /// Why they cannot be migrated.
        reason: MigrationError,
    },
}

/// The pages of one key's tree.
#[derive(Debug)]
pub struct Pages<'a> {
    store: &'a mut StateStore,
    slot: CollectionSlot<'a>,
}

impl Nodes for Pages<'_> {
    type Error = TreeError;

    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, TreeError> {
        Ok(self.store.node(self.slot.address(node))?)
    }

    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), TreeError> {
        let CollectionSlot { now_ms, .. } = self.slot;
        let address = self.slot.address(node);
        Ok(self.store.put_node(address, Some(page), now_ms)?)
    }

    fn remove(&mut self, node: u64) -> Result<(), TreeError> {
        let CollectionSlot { now_ms, .. } = self.slot;
        Ok(self.store.put_node(self.slot.address(node), None, now_ms)?)
    }
}

impl StateStore {
    /// Runs `what` on the list or map of a key. Writes are applied at once; a rollback undoes them like all others.
    ///
    /// # Errors
    /// Those of `what`, and those of [`StateStore::migrate_tree`], before `what` has run.
    ///
    /// # Panics
    /// When the key is of a key group that this task does not own.
    pub fn in_tree<R>(
        &mut self,
        slot: CollectionSlot<'_>,
        migrate: &mut dyn Migrate,
        what: impl FnOnce(Tree<'_, Pages<'_>>) -> Result<R, TreeError>,
    ) -> Result<R, TreeError> {
        let rules = self.rules(slot.state, slot.now_ms);
        if rules.has_aliases {
            self.take_over_tree(slot, migrate)?;
        }
        let mut pages = Pages { store: self, slot };
        what(Tree::new(&mut pages, rules.lifetime()))
    }

    /// Brings the tree of a key to the newest version of its state, unless it is already, or does not exist.
    ///
    /// # Errors
    /// When the tree cannot be read, or is damaged: the store must not be used then. After [`TreeError::Migration`] nothing
    /// has changed.
    pub fn migrate_tree(
        &mut self,
        slot: CollectionSlot<'_>,
        migrate: &mut dyn Migrate,
    ) -> Result<(), TreeError> {
        match self.rules(slot.state, slot.now_ms).has_aliases {
            true => self.take_over_tree(slot, migrate),
            false => Ok(()),
        }
    }

    /// Converts the tree of a key to the newest version. Nodes keep their numbers, so that each new page hides its old
    /// one. A tree of more than [`MIGRATED_BYTES`] is converted twice: the first time shows whether all of it can be, and
    /// nothing is kept of it. So memory does not grow with the tree, and a tree is never left in two versions.
    fn take_over_tree(
        &mut self,
        slot: CollectionSlot<'_>,
        migrate: &mut dyn Migrate,
    ) -> Result<(), TreeError> {
        let root = slot.address(0);
        // A tree of the newest version, or a removal of it.
        let newest = self.find(root.identity(), self.node_place(root))?;
        if !newest.word.is_empty() {
            return Ok(());
        }
        let Some((version, found)) = self.find_earlier(root.identity(), slot.key_hash)? else {
            return Ok(());
        };
        if found.is_tombstone() {
            return Ok(());
        }
        let earlier = CollectionSlot {
            state: version,
            ..slot
        };
        let mut pages = Pages {
            store: self,
            slot: earlier,
        };
        let for_ever = Lifetime {
            ttl_ms: None,
            now_ms: slot.now_ms,
        };
        let nodes: Vec<u64> = Tree::new(&mut pages, for_ever)
            .nodes()?
            .into_iter()
            .collect();
        let mut first = 0;
        while first < nodes.len() {
            let some = self.some_pages(earlier, &nodes[first..])?;
            let all_at_once = some.pages.len() == nodes.len();
            first += some.pages.len();
            let converted = some.converted((slot.state, version), migrate)?;
            if all_at_once {
                return self.put_pages(slot, version, converted);
            }
        }
        let mut first = 0;
        while first < nodes.len() {
            let some = self.some_pages(earlier, &nodes[first..])?;
            let converted = some.converted((slot.state, version), migrate);
            // The pages before these are of the newest version by now.
            let converted = converted.map_err(|_| MalformedTree {
                node: nodes[first],
                reason: "its plugin has migrated its values once, and refused them then",
            })?;
            first += converted.len();
            self.put_pages(slot, version, converted)?;
        }
        Ok(())
    }

    /// The first of these pages, with values of about [`MIGRATED_BYTES`]; at least one.
    fn some_pages(
        &mut self,
        earlier: CollectionSlot<'_>,
        nodes: &[u64],
    ) -> Result<SomePages, TreeError> {
        let mut some = SomePages::default();
        for &node in nodes {
            let page = self.node(earlier.address(node))?.map(<[u8]>::to_vec);
            let missing = MalformedTree {
                node,
                reason: "it is not there",
            };
            some.add(node, page.ok_or(missing)?)?;
            if some.values.bytes().len() >= MIGRATED_BYTES {
                break;
            }
        }
        Ok(some)
    }

    fn put_pages(
        &mut self,
        slot: CollectionSlot<'_>,
        version: StateId,
        pages: Vec<(u64, Vec<u8>)>,
    ) -> Result<(), TreeError> {
        for (node, page) in pages {
            self.put_node_over(slot.address(node), version, &page, slot.now_ms)?;
        }
        Ok(())
    }
}

/// Pages whose values are migrated together.
#[derive(Default)]
struct SomePages {
    /// The number, bytes and number of values of each page.
    pages: Vec<(u64, Vec<u8>, usize)>,
    values: Column,
}

impl SomePages {
    fn add(&mut self, node: u64, page: Vec<u8>) -> Result<(), MalformedTree> {
        let before = self.values.len();
        page::push_values(&page, &mut self.values).map_err(|error| error.at(node))?;
        self.pages.push((node, page, self.values.len() - before));
        Ok(())
    }

    /// The pages with the values of the newest version, by node.
    fn converted(
        self,
        (state, version): (StateId, StateId),
        migrate: &mut dyn Migrate,
    ) -> Result<Vec<(u64, Vec<u8>)>, TreeError> {
        let count = self.values.len();
        let migrated = match count {
            0 => Ok(Column::new()),
            _ => migrate.migrate(state, version, &self.values),
        };
        let migrated = migrated.map_err(|reason| TreeError::Migration { reason })?;
        if migrated.len() != count {
            let reason = MigrationError::Count {
                values: count,
                migrated: migrated.len(),
            };
            return Err(TreeError::Migration { reason });
        }
        let mut first = 0;
        let mut converted = Vec::with_capacity(self.pages.len());
        for (node, page, count) in self.pages {
            let values = (first..first + count).map(|index| migrated.get(index));
            first += count;
            let page = page::with_values(&page, values).map_err(|error| error.at(node))?;
            converted.push((node, page));
        }
        Ok(converted)
    }
}
