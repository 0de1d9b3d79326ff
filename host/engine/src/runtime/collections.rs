//! Lists and maps of a task: its guest reads them during a call, and they are written when the call has succeeded.
//!
//! [`Collections`] owns the task's store, which a task shares with its guest's instance during a call. `guest` checks
//! the requests of a guest; [`KeyedCollections`] decides how a list or map is stored.

use crate::guest::{
    ListPage, ListWrites, MapPage, MapWrites, PageLimits, StateAccess, SubKeyRange,
};
use floodmark_state::StateId;
use floodmark_state::stream::{Column, OptionalColumn};

/// One list or map.
#[derive(Debug, Clone, Copy)]
pub struct CollectionPlace<'a> {
    /// The state.
    pub state: StateId,
    /// The key.
    pub key: &'a [u8],
    /// [`floodmark_state::stream::hash_key`] of the key.
    pub hash: u64,
    /// Wall-clock time in milliseconds since 1970.
    pub now_ms: u64,
}

/// A store of lists and maps by key. After a failed write, the content of the list or map is unknown.
pub trait KeyedCollections: Send + 'static {
    /// The reason why it cannot be read or written.
    type Error: std::error::Error + Send + 'static;

    /// The value of a sub-key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn map_get(
        &mut self,
        place: CollectionPlace<'_>,
        sub_key: &[u8],
    ) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Entries of a map.
    ///
    /// # Errors
    /// When they cannot be read.
    fn map_scan(
        &mut self,
        place: CollectionPlace<'_>,
        range: SubKeyRange<'_>,
        page: PageLimits,
    ) -> Result<MapPage, Self::Error>;

    /// Sets values of sub-keys in strictly ascending order; `None` removes the entry.
    ///
    /// # Errors
    /// When they cannot be written.
    fn map_write(
        &mut self,
        place: CollectionPlace<'_>,
        writes: &[(&[u8], Option<&[u8]>)],
    ) -> Result<(), Self::Error>;

    /// Items of a list.
    ///
    /// # Errors
    /// When they cannot be read.
    fn list_read(
        &mut self,
        place: CollectionPlace<'_>,
        start: u64,
        page: PageLimits,
    ) -> Result<ListPage, Self::Error>;

    /// The number of items of a list.
    ///
    /// # Errors
    /// When they cannot be read.
    fn list_len(&mut self, place: CollectionPlace<'_>) -> Result<u64, Self::Error>;

    /// Appends items to a list.
    ///
    /// # Errors
    /// When they cannot be written.
    fn list_append(
        &mut self,
        place: CollectionPlace<'_>,
        items: &[&[u8]],
    ) -> Result<(), Self::Error>;

    /// Removes the whole list or map.
    ///
    /// # Errors
    /// When it cannot be written.
    fn clear(&mut self, place: CollectionPlace<'_>) -> Result<(), Self::Error>;

    /// Brings a list or map that an earlier version of its state wrote to the newest version. Returns the reason if the
    /// plugin cannot migrate it: it is unchanged then. A place that has all of them in the newest version returns `None`.
    ///
    /// # Errors
    /// When it cannot be read or written.
    fn migrate(&mut self, place: CollectionPlace<'_>) -> Result<Option<String>, Self::Error>;
}

/// A task's store, and the data for reads of the current call.
///
/// - `keys` and `hashes` are those of the current call, if its guest may read: slots are their indexes.
pub struct Collections<S: KeyedCollections> {
    store: S,
    /// The ids of the states, by position in the description.
    states: Vec<StateId>,
    keys: Column,
    hashes: Vec<u64>,
    now_ms: u64,
    failure: Option<S::Error>,
    /// Why the plugin could not migrate a list or map that the current call read.
    not_migrated: Option<String>,
}

impl<S: KeyedCollections> Collections<S> {
    /// Wraps a store that has these states.
    pub fn new(store: S, states: Vec<StateId>) -> Self {
        Self {
            store,
            states,
            keys: Column::new(),
            hashes: Vec::new(),
            now_ms: 0,
            failure: None,
            not_migrated: None,
        }
    }

    /// The store.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Exchanges the states with `states`.
    pub fn exchange_states(&mut self, states: &mut Vec<StateId>) {
        std::mem::swap(&mut self.states, states);
    }

    /// Returns the store.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Sets the keys of the next call.
    pub fn begin(&mut self, keys: &Column, hashes: &[u64], now_ms: u64) {
        self.keys.clone_from(keys);
        self.hashes.clear();
        self.hashes.extend_from_slice(hashes);
        self.now_ms = now_ms;
        self.failure = None;
        self.not_migrated = None;
    }

    /// The reason if a read has failed since `begin`.
    pub fn take_failure(&mut self) -> Option<S::Error> {
        self.failure.take()
    }

    /// The reason if the plugin could not migrate what a read since `begin` was for: nothing has changed.
    pub fn take_not_migrated(&mut self) -> Option<String> {
        self.not_migrated.take()
    }

    /// Migrates all lists and maps that the call wrote, before any of it is applied. Returns the reason if the plugin
    /// cannot migrate one of them, which is unchanged then.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub fn migrate(
        &mut self,
        lists: &[ListWrites],
        maps: &[MapWrites],
    ) -> Result<Option<String>, S::Error> {
        let of_lists = lists
            .iter()
            .map(|write| (write.state, &write.cleared, &write.slots));
        let of_maps = maps
            .iter()
            .map(|write| (write.state, &write.cleared, &write.slots));
        for (state, cleared, slots) in of_lists.chain(of_maps) {
            for &slot in cleared.iter().chain(slots) {
                let (store, place) = self.at(state, slot);
                if let Some(reason) = store.migrate(place)? {
                    return Ok(Some(reason));
                }
            }
        }
        Ok(None)
    }

    /// Applies what the call wrote to lists and maps.
    ///
    /// # Errors
    /// When the state cannot be written: some of the writes may be applied.
    ///
    /// When a state or slot does not belong to the call. The caller must have checked the writes of a guest.
    pub fn write(&mut self, lists: &[ListWrites], maps: &[MapWrites]) -> Result<(), S::Error> {
        for write in lists {
            self.clear(write.state, &write.cleared)?;
            let mut items = Vec::new();
            for run in runs(&write.slots, |_, _| std::cmp::Ordering::Equal) {
                items.clear();
                items.extend(run.iter().map(|&index| write.values.get(index)));
                let (store, place) = self.at(write.state, write.slots[run[0]]);
                store.list_append(place, &items)?;
            }
        }
        for write in maps {
            self.clear(write.state, &write.cleared)?;
            let sub_key = |index: usize| write.sub_keys.get(index);
            let mut entries = Vec::new();
            for run in runs(&write.slots, |one, other| sub_key(one).cmp(sub_key(other))) {
                entries.clear();
                let entry = |&index: &usize| (sub_key(index), write.values.get(index));
                entries.extend(run.iter().map(entry));
                let (store, place) = self.at(write.state, write.slots[run[0]]);
                store.map_write(place, &entries)?;
            }
        }
        Ok(())
    }

    fn clear(&mut self, state: u16, slots: &[u32]) -> Result<(), S::Error> {
        for &slot in slots {
            let (store, place) = self.at(state, slot);
            store.clear(place)?;
        }
        Ok(())
    }

    fn at(&mut self, state: u16, slot: u32) -> (&mut S, CollectionPlace<'_>) {
        let slot = slot as usize;
        let place = CollectionPlace {
            state: self.states[usize::from(state)],
            key: self.keys.get(slot),
            hash: self.hashes[slot],
            now_ms: self.now_ms,
        };
        (&mut self.store, place)
    }

    fn answer<T>(
        &mut self,
        (state, slot): (u16, u32),
        read: Result<T, S::Error>,
    ) -> Result<T, String> {
        let error = match read {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // If the plugin cannot migrate the list or map, no read of it succeeds, but the store is sound.
        let (store, place) = self.at(state, slot);
        if let Ok(Some(reason)) = store.migrate(place) {
            self.not_migrated = Some(reason.clone());
            return Err(reason);
        }
        let reason = error.to_string();
        self.failure = Some(error);
        Err(reason)
    }
}

/// For each slot, the indexes of its elements in order, and by `then` among equals.
fn runs(
    slots: &[u32],
    then: impl Fn(usize, usize) -> std::cmp::Ordering,
) -> impl Iterator<Item = Vec<usize>> {
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by(|&one, &other| slots[one].cmp(&slots[other]).then_with(|| then(one, other)));
    let runs = order.chunk_by(|&one, &other| slots[one] == slots[other]);
    runs.map(<[usize]>::to_vec).collect::<Vec<_>>().into_iter()
}

impl<S: KeyedCollections> StateAccess for Collections<S> {
    fn map_get(
        &mut self,
        state: u16,
        slots: &[u32],
        sub_keys: &Column,
        page: PageLimits,
        values: &mut OptionalColumn,
    ) -> Result<(), String> {
        for (&slot, sub_key) in slots.iter().zip(sub_keys.iter()) {
            if page.is_full(values.len(), values.bytes().len()) {
                break;
            }
            let (store, place) = self.at(state, slot);
            let read = store.map_get(place, sub_key);
            values.push(self.answer((state, slot), read)?.as_deref());
        }
        Ok(())
    }

    fn map_scan(
        &mut self,
        state: u16,
        slot: u32,
        range: SubKeyRange<'_>,
        page: PageLimits,
    ) -> Result<MapPage, String> {
        let (store, place) = self.at(state, slot);
        let read = store.map_scan(place, range, page);
        self.answer((state, slot), read)
    }

    fn list_read(
        &mut self,
        state: u16,
        slot: u32,
        start: u64,
        page: PageLimits,
    ) -> Result<ListPage, String> {
        let (store, place) = self.at(state, slot);
        let read = store.list_read(place, start, page);
        self.answer((state, slot), read)
    }

    fn list_len(&mut self, state: u16, slots: &[u32]) -> Result<Vec<u64>, String> {
        let mut lens = Vec::with_capacity(slots.len());
        for &slot in slots {
            let (store, place) = self.at(state, slot);
            let read = store.list_len(place);
            lens.push(self.answer((state, slot), read)?);
        }
        Ok(lens)
    }
}

#[cfg(test)]
mod tests {
    //! Catches writes that reach the wrong key or are applied in the wrong order, clearing that is applied after them,
    //! and pages of reads that lose or repeat entries at their borders.

    use std::collections::BTreeMap;

    use super::super::trees::Trees;
    use super::*;
    use floodmark_state::stream::{MaxParallelism, hash_key};
    use floodmark_state::{ChunkId, ChunkIds, StateStore, StoreSettings};

    const KEYS: u64 = 3;
    const LIST: u16 = 0;
    const MAP: u16 = 1;

    /// SplitMix64 (Steele, Lea and Flood, 2014).
    fn random(state: &mut u64, below: u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    /// The expected content, by slot.
    #[derive(Default)]
    struct Model {
        lists: [Vec<Vec<u8>>; KEYS as usize],
        maps: [BTreeMap<Vec<u8>, Vec<u8>>; KEYS as usize],
    }

    impl Model {
        /// Random writes of one call, which are also applied to the model.
        fn writes(&mut self, seed: &mut u64) -> (ListWrites, MapWrites) {
            let mut list = ListWrites {
                state: LIST,
                cleared: Vec::new(),
                slots: Vec::new(),
                values: Column::new(),
            };
            let mut map = MapWrites {
                state: MAP,
                cleared: Vec::new(),
                slots: Vec::new(),
                sub_keys: Column::new(),
                values: OptionalColumn::new(),
            };
            if random(seed, 8) == 0 {
                let slot = random(seed, KEYS) as u32;
                self.lists[slot as usize].clear();
                self.maps[slot as usize].clear();
                list.cleared.push(slot);
                map.cleared.push(slot);
            }
            let mut written = BTreeMap::new();
            for _ in 0..random(seed, 30) {
                let slot = random(seed, KEYS) as u32;
                let value = vec![b'v'; random(seed, 200) as usize];
                list.slots.push(slot);
                list.values.push(&value);
                self.lists[slot as usize].push(value.clone());
                let sub_key = random(seed, 200).to_string().into_bytes();
                let value = (random(seed, 4) > 0).then_some(value);
                if written.insert((slot, sub_key.clone()), ()).is_some() {
                    continue;
                }
                map.slots.push(slot);
                map.sub_keys.push(&sub_key);
                map.values.push(value.as_deref());
                match value {
                    Some(value) => self.maps[slot as usize].insert(sub_key, value),
                    None => self.maps[slot as usize].remove(&sub_key),
                };
            }
            (list, map)
        }
    }

    fn whole_list(kept: &mut impl StateAccess, slot: u32, page: PageLimits) -> Vec<Vec<u8>> {
        let (mut items, mut next) = (Vec::new(), Some(0));
        while let Some(start) = next {
            let read = kept.list_read(LIST, slot, start, page).expect("readable");
            items.extend(read.values.iter().map(<[u8]>::to_vec));
            next = read.next;
        }
        items
    }

    fn whole_map(
        kept: &mut impl StateAccess,
        slot: u32,
        page: PageLimits,
        descending: bool,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let (mut start, mut end) = (Vec::new(), None);
        let mut entries = Vec::new();
        loop {
            let range = SubKeyRange {
                start: &start,
                end: end.as_deref(),
                descending,
            };
            let read = kept.map_scan(MAP, slot, range, page).expect("readable");
            let read_entries = read.sub_keys.iter().zip(read.values.iter());
            entries.extend(read_entries.map(|(sub_key, value)| (sub_key.to_vec(), value.to_vec())));
            if !read.more {
                return entries;
            }
            let last = entries.last().expect("there is more after something");
            match descending {
                true => end = Some(last.0.clone()),
                false => start = [last.0.as_slice(), &[0]].concat(),
            }
        }
    }

    #[test]
    fn lists_and_maps_are_what_plain_ones_are() {
        let max_parallelism = MaxParallelism::new(16).expect("a number of key groups");
        let store = StateStore::new(StoreSettings::in_memory(
            max_parallelism,
            max_parallelism.all_groups(),
            ChunkIds::new(ChunkId(0), 0, 1),
        ));
        let trees = Trees::of_one_version(store);
        let mut kept = Collections::new(trees, vec![StateId(4), StateId(9)]);
        let keys: Column = [b"a".as_slice(), b"b", b""].into_iter().collect();
        let hashes: Vec<_> = keys.iter().map(hash_key).collect();
        let (mut model, mut seed) = (Model::default(), 1);
        for round in 0..150 {
            kept.begin(&keys, &hashes, round);
            let (list, map) = model.writes(&mut seed);
            kept.write(&[list], &[map]).expect("writable");
            if round % 10 == 0 {
                kept.store_mut().store.seal().expect("sealed");
            }
            let page = PageLimits::new(1 + random(&mut seed, 20) as usize, 500);
            for slot in 0..KEYS as u32 {
                let (items, entries) = (&model.lists[slot as usize], &model.maps[slot as usize]);
                assert_eq!(whole_list(&mut kept, slot, page), *items);
                assert_eq!(kept.list_len(LIST, &[slot]), Ok(vec![items.len() as u64]));
                let mut pairs: Vec<_> = entries.clone().into_iter().collect();
                assert_eq!(whole_map(&mut kept, slot, page, false), pairs);
                pairs.reverse();
                assert_eq!(whole_map(&mut kept, slot, page, true), pairs);
            }
            let sub_keys: Column = [b"1".as_slice(), b"10", b"x"].into_iter().collect();
            let mut values = OptionalColumn::new();
            kept.map_get(MAP, &[0, 1, 2], &sub_keys, page, &mut values)
                .expect("readable");
            for (slot, value) in values.iter().enumerate() {
                let expected = model.maps[slot].get(sub_keys.get(slot));
                assert_eq!(value, expected.map(Vec::as_slice));
            }
        }
    }
}
