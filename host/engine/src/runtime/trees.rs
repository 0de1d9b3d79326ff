//! Stores lists and maps of a task as trees of pages; each page is an entry of the state store.

use std::ops::Bound;

use super::collections::{CollectionPlace, KeyedCollections};
use super::keyed_state::{KeyedState, StaleValue};
use super::schema::DeclaredState;
use crate::guest::{ListPage, MapPage, PageLimits, SubKeyRange};
use floodmark_state::stream::OptionalColumn;
use floodmark_state::tree::{ScanLimits, Tree, Write};
use floodmark_state::{
    CollectionSlot, Keys, Lookup, Migrate, NoMigration, Pages, StaleEntry, StateStore, TreeError,
};

/// Steps of the store's sweep, for one answer, that find nothing.
const SEARCHES_MAX: u32 = 8;

/// A store, and the migration of lists and maps that an earlier version of their state has written.
#[derive(Debug)]
pub struct Trees<M> {
    /// The store.
    pub store: StateStore,
    /// Migrates values.
    pub migrate: M,
}

impl Trees<NoMigration> {
    /// Wraps a store without earlier versions.
    #[must_use]
    pub fn of_one_version(store: StateStore) -> Self {
        Self {
            store,
            migrate: NoMigration,
        }
    }
}

impl<M: Migrate> Trees<M> {
    pub(super) fn at<R>(
        &mut self,
        place: CollectionPlace<'_>,
        what: impl FnOnce(Tree<'_, Pages<'_>>) -> Result<R, TreeError>,
    ) -> Result<R, TreeError> {
        self.store.in_tree(slot_of(place), &mut self.migrate, what)
    }
}

fn slot_of(place: CollectionPlace<'_>) -> CollectionSlot<'_> {
    let CollectionPlace {
        state,
        key,
        hash: key_hash,
        now_ms,
    } = place;
    CollectionSlot {
        state,
        key,
        key_hash,
        now_ms,
    }
}

impl From<PageLimits> for ScanLimits {
    fn from(page: PageLimits) -> Self {
        Self {
            items: page.items,
            bytes: page.bytes,
        }
    }
}

impl<M: Migrate + Send + 'static> KeyedCollections for Trees<M> {
    type Error = TreeError;

    fn map_get(
        &mut self,
        place: CollectionPlace<'_>,
        sub_key: &[u8],
    ) -> Result<Option<Vec<u8>>, TreeError> {
        self.at(place, |mut tree| tree.get(sub_key))
    }

    fn map_scan(
        &mut self,
        place: CollectionPlace<'_>,
        range: SubKeyRange<'_>,
        page: PageLimits,
    ) -> Result<MapPage, TreeError> {
        let start = Bound::Included(range.start);
        let end = range.end.map_or(Bound::Unbounded, Bound::Excluded);
        let scan = self.at(place, |mut tree| {
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
        place: CollectionPlace<'_>,
        writes: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), TreeError> {
        let write = |&(sub_key, value)| Write { sub_key, value };
        let writes: Vec<_> = writes.iter().map(write).collect();
        self.at(place, |mut tree| tree.apply(&writes))
    }

    fn list_read(
        &mut self,
        place: CollectionPlace<'_>,
        start: u64,
        page: PageLimits,
    ) -> Result<ListPage, TreeError> {
        let scan = self.at(place, |mut tree| tree.list_read(start, page.into()))?;
        // A list of one item at the last possible position has no next one.
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

    fn list_len(&mut self, place: CollectionPlace<'_>) -> Result<u64, TreeError> {
        self.at(place, |mut tree| tree.count())
    }

    fn list_append(
        &mut self,
        place: CollectionPlace<'_>,
        items: &[&[u8]],
    ) -> Result<(), TreeError> {
        self.at(place, |mut tree| tree.append(items))
    }

    fn clear(&mut self, place: CollectionPlace<'_>) -> Result<(), TreeError> {
        self.at(place, |mut tree| tree.clear())
    }

    fn migrate(&mut self, place: CollectionPlace<'_>) -> Result<Option<String>, TreeError> {
        match self.store.migrate_tree(slot_of(place), &mut self.migrate) {
            Ok(()) => Ok(None),
            Err(TreeError::Migration { reason }) => Ok(Some(reason.to_string())),
            Err(error) => Err(error),
        }
    }
}

impl<M: Migrate + Send + 'static> KeyedState for Trees<M> {
    #[inline]
    fn read(
        &mut self,
        state: &DeclaredState,
        keys: Keys<'_>,
        now_ms: u64,
        lookup: &mut Lookup,
    ) -> Result<(), TreeError> {
        Ok(self.store.read(state.id, keys, now_ms, lookup)?)
    }

    #[inline]
    fn write(
        &mut self,
        state: &DeclaredState,
        keys: Keys<'_>,
        now_ms: u64,
        lookup: &Lookup,
        slots: &[u32],
        values: &OptionalColumn,
    ) -> Result<(), TreeError> {
        self.store
            .write(state.id, keys, now_ms, lookup, slots, values);
        Ok(())
    }

    /// A list or map is named once for each of its pages that is found.
    fn stale_values(&mut self, _now_ms: u64) -> Result<Option<Vec<StaleValue>>, TreeError> {
        let value = |StaleEntry { state, key, .. }| StaleValue { state, key };
        for _ in 0..SEARCHES_MAX {
            let sweep = self.store.stale_entries()?;
            if !sweep.entries.is_empty() || sweep.is_waiting {
                return Ok(Some(sweep.entries.into_iter().map(value).collect()));
            }
            if sweep.is_done {
                return Ok(None);
            }
        }
        Ok(Some(Vec::new()))
    }

    #[inline]
    fn size_bytes(&self) -> u64 {
        self.store.total_bytes() as u64
    }

    #[inline]
    fn settle(&mut self, now_ms: u64) -> Result<(), TreeError> {
        Ok(self.store.compact(now_ms)?)
    }
}
