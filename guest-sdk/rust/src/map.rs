//! Many values per key, each under a sub-key, in the order of the sub-keys.
//!
//! Entries come from the host one by one when they are asked for, or in pages during iteration. What a call has read or
//! written is kept until its end, so an entry costs the host one look-up per call however often it is used, and what
//! the call has written is laid over what the host has.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use crate::columns::{Column, MapWrites, OptionalColumn, StateKind};
use crate::encoding::{AsSubKey, Encoding, Postcard, SubKey};
use crate::entries::{Bounds, Entries};
use crate::reads;
use crate::states::{Call, Declaration, State, Writes, sealed};
use crate::{Error, Result};

/// A state that keeps, for each key, values of type `V` by sub-keys of type `K`.
///
/// It is the map of the current record's key. `E` is how values are written: [`Postcard`] unless said otherwise;
/// sub-keys are written so that their bytes sort as they do.
///
/// ```
/// # use floodmark_sdk::{Config, Map, Operator, Output, Record, Result, States};
/// /// How often each value came for a key; emits the first of them by alphabet.
/// #[derive(Default, States)]
/// struct Values {
///     counts: Map<String, u64>,
/// }
///
/// impl Operator for Values {
///     # fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
///     fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
///         *self.counts.or_default(record.text()?)? += 1;
///         if let Some((value, count)) = self.counts.first()? {
///             out.emit(format_args!("{value} {count}"));
///         }
///         Ok(())
///     }
/// }
/// # let mut task = floodmark_sdk::testing::Task::new::<Values>();
/// # assert_eq!(task.run([("k", "b"), ("k", "a"), ("k", "a")])?, [("k", "b 1"), ("k", "a 1"), ("k", "a 2")]);
/// # Result::<()>::Ok(())
/// ```
///
/// - `keys` has one item for each key of the call.
/// - `slot` is the key of the current record; outside of `process` it means nothing.
pub struct Map<K, V, E = Postcard> {
    state: u16,
    slot: usize,
    keys: Vec<OfKey<V>>,
    sub_key: Vec<u8>,
    kinds: PhantomData<fn(K) -> E>,
}

/// What this call knows of one key's map. Once `is_cleared`, the host's entries do not count.
pub(crate) struct OfKey<V> {
    pub(crate) is_cleared: bool,
    pub(crate) entries: BTreeMap<Vec<u8>, Entry<V>>,
}

pub(crate) struct Entry<V> {
    pub(crate) value: Option<V>,
    pub(crate) is_changed: bool,
}

impl<K: SubKey, V, E: Encoding<V>> Map<K, V, E> {
    /// The value of a sub-key, if there is one.
    ///
    /// # Errors
    /// The value does not decode.
    pub fn get<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q) -> Result<Option<&V>>
    where
        K: Borrow<Q>,
    {
        Ok(self.entry(sub_key)?.value.as_ref())
    }

    /// The value to change in place, if there is one. It counts as changed from here on.
    ///
    /// # Errors
    /// The value does not decode.
    pub fn get_mut<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q) -> Result<Option<&mut V>>
    where
        K: Borrow<Q>,
    {
        let entry = self.entry(sub_key)?;
        entry.is_changed |= entry.value.is_some();
        Ok(entry.value.as_mut())
    }

    /// The value to change in place; the default is set first if there is none. It counts as changed from here on.
    ///
    /// # Errors
    /// The value does not decode.
    pub fn or_default<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q) -> Result<&mut V>
    where
        K: Borrow<Q>,
        V: Default,
    {
        self.or_insert_with(sub_key, V::default)
    }

    /// The value to change in place; the result of `first` is set first if there is none. It counts as changed from
    /// here on.
    ///
    /// # Errors
    /// The value does not decode.
    pub fn or_insert_with<Q: AsSubKey + ?Sized>(
        &mut self,
        sub_key: &Q,
        first: impl FnOnce() -> V,
    ) -> Result<&mut V>
    where
        K: Borrow<Q>,
    {
        let entry = self.entry(sub_key)?;
        entry.is_changed = true;
        Ok(entry.value.get_or_insert_with(first))
    }

    /// Whether there is a value.
    ///
    /// # Errors
    /// The value does not decode.
    pub fn contains<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
    {
        Ok(self.get(sub_key)?.is_some())
    }

    /// Sets a value. The previous value is not read.
    pub fn insert<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q, value: V)
    where
        K: Borrow<Q>,
    {
        self.put(sub_key, Some(value));
    }

    /// Removes a value, if there is one. The previous value is not read.
    pub fn remove<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q)
    where
        K: Borrow<Q>,
    {
        self.put(sub_key, None);
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        let key = &mut self.keys[self.slot];
        key.is_cleared = true;
        key.entries.clear();
    }

    /// Gets several entries from the host at once, so that [`get`](Map::get) and similar functions find them here.
    ///
    /// # Errors
    /// A value does not decode.
    pub fn prefetch<'a, Q: AsSubKey + ?Sized + 'a>(
        &mut self,
        sub_keys: impl IntoIterator<Item = &'a Q>,
    ) -> Result
    where
        K: Borrow<Q>,
    {
        let key = &mut self.keys[self.slot];
        if key.is_cleared {
            return Ok(());
        }
        let mut asked = Column::new();
        for sub_key in sub_keys {
            self.sub_key.clear();
            sub_key.append_to(&mut self.sub_key);
            if !key.entries.contains_key(&self.sub_key) {
                asked.push(&self.sub_key);
            }
        }
        let slot = u32::try_from(self.slot).expect("a slot came as a `u32`");
        while !asked.is_empty() {
            let values = reads::map_get(self.state, &vec![slot; asked.len()], &asked);
            let answered = values.len();
            assert!(answered > 0, "the host answers for one sub-key at least");
            take_in::<V, E>(key, &asked, &values)?;
            let rest = asked.iter().skip(answered);
            asked = rest.fold(Column::new(), |mut rest, sub_key| {
                rest.push(sub_key);
                rest
            });
        }
        Ok(())
    }

    /// All entries, in the order of their sub-keys.
    pub fn iter(&self) -> Entries<'_, K, V, E> {
        self.entries(Bounds::all())
    }

    /// The entries of a range of sub-keys, such as `"b".to_owned()..` or `5..=10`, in the order of their sub-keys.
    pub fn range(&self, sub_keys: impl std::ops::RangeBounds<K>) -> Entries<'_, K, V, E> {
        self.entries(Bounds::of(&sub_keys))
    }

    /// The entry with the lowest sub-key.
    ///
    /// # Errors
    /// It does not decode.
    pub fn first(&self) -> Result<Option<(K, V)>> {
        self.iter().page(1).next().transpose()
    }

    /// The entry with the highest sub-key.
    ///
    /// # Errors
    /// It does not decode.
    pub fn last(&self) -> Result<Option<(K, V)>> {
        self.iter().descending().page(1).next().transpose()
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().page(1).next().is_none()
    }

    fn entries(&self, bounds: Bounds) -> Entries<'_, K, V, E> {
        let slot = u32::try_from(self.slot).expect("a slot came as a `u32`");
        Entries::new(self.state, slot, &self.keys[self.slot], bounds)
    }

    /// What this call knows of a sub-key; asks the host first if that is nothing.
    fn entry<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q) -> Result<&mut Entry<V>> {
        self.sub_key.clear();
        sub_key.append_to(&mut self.sub_key);
        let key = &mut self.keys[self.slot];
        if !key.entries.contains_key(&self.sub_key) {
            let mut asked = Column::new();
            asked.push(&self.sub_key);
            let values = if key.is_cleared {
                let mut none = OptionalColumn::new();
                none.push(None);
                none
            } else {
                let slot = u32::try_from(self.slot).expect("a slot came as a `u32`");
                reads::map_get(self.state, &[slot], &asked)
            };
            take_in::<V, E>(key, &asked, &values)?;
        }
        let entry = key.entries.get_mut(&self.sub_key);
        Ok(entry.expect("the host answers for one sub-key at least"))
    }

    fn put<Q: AsSubKey + ?Sized>(&mut self, sub_key: &Q, value: Option<V>) {
        self.sub_key.clear();
        sub_key.append_to(&mut self.sub_key);
        let entries = &mut self.keys[self.slot].entries;
        match entries.get_mut(&self.sub_key) {
            Some(entry) => {
                entry.is_changed |= entry.value.is_some() || value.is_some();
                entry.value = value;
            }
            None => {
                let entry = Entry {
                    value,
                    is_changed: true,
                };
                entries.insert(self.sub_key.clone(), entry);
            }
        }
    }
}

/// Keeps what the host answered for the first of these sub-keys.
fn take_in<V, E: Encoding<V>>(
    key: &mut OfKey<V>,
    sub_keys: &Column,
    values: &OptionalColumn,
) -> Result {
    for (sub_key, value) in sub_keys.iter().zip(values.iter()) {
        let value = value.map(E::decode).transpose().map_err(undecodable)?;
        let entry = Entry {
            value,
            is_changed: false,
        };
        key.entries.insert(sub_key.to_vec(), entry);
    }
    Ok(())
}

#[cold]
pub(crate) fn undecodable(error: Error) -> Error {
    error.within("a value of a map does not decode")
}

impl<'a, K: SubKey, V, E: Encoding<V>> IntoIterator for &'a Map<K, V, E> {
    type Item = Result<(K, V)>;
    type IntoIter = Entries<'a, K, V, E>;

    fn into_iter(self) -> Entries<'a, K, V, E> {
        self.iter()
    }
}

impl<V> Default for OfKey<V> {
    fn default() -> Self {
        Self {
            is_cleared: false,
            entries: BTreeMap::new(),
        }
    }
}

impl<K, V, E> Default for Map<K, V, E> {
    fn default() -> Self {
        Self {
            state: 0,
            slot: 0,
            keys: Vec::new(),
            sub_key: Vec::new(),
            kinds: PhantomData,
        }
    }
}

impl<K, V, E> fmt::Debug for Map<K, V, E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.keys.get(self.slot).map(|key| key.entries.len());
        formatter
            .debug_struct("Map")
            .field("known", &known)
            .finish_non_exhaustive()
    }
}

impl<K, V, E> sealed::Sealed for Map<K, V, E> {}

impl<K: SubKey, V, E: Encoding<V>> State for Map<K, V, E> {
    const KIND: StateKind = StateKind::Map;

    type Item = V;

    type Encoding = E;

    fn load(&mut self, _: &Declaration, call: &Call<'_>, index: usize) -> Result {
        self.state = u16::try_from(index).expect("an operator has fewer than 65536 states");
        self.keys.clear();
        self.keys.resize_with(call.keys.len(), OfKey::default);
        Ok(())
    }

    #[inline]
    fn seek(&mut self, slot: u32) {
        self.slot = slot as usize;
    }

    fn store(&mut self, declaration: &Declaration, writes: &mut Writes, index: usize) -> Result {
        let mut written = MapWrites {
            state: u16::try_from(index).expect("an operator has fewer than 65536 states"),
            cleared: Vec::new(),
            slots: Vec::new(),
            sub_keys: Column::new(),
            values: OptionalColumn::new(),
        };
        let mut bytes = Vec::new();
        for (slot, key) in (0_u32..).zip(&self.keys) {
            if key.is_cleared {
                written.cleared.push(slot);
            }
            for (sub_key, entry) in key.entries.iter().filter(|(_, entry)| entry.is_changed) {
                bytes.clear();
                if let Some(value) = &entry.value {
                    E::encode(value, &mut bytes).map_err(|error| {
                        error.within(format_args!("cannot encode state `{}`", declaration.name))
                    })?;
                }
                let value = entry.value.is_some().then_some(bytes.as_slice());
                written.values.push(value);
                written.sub_keys.push(sub_key);
                written.slots.push(slot);
            }
        }
        if !written.cleared.is_empty() || !written.slots.is_empty() {
            writes.maps.push(written);
        }
        Ok(())
    }

    fn sub_key_to_json(bytes: &[u8], json: &mut Vec<u8>) -> Result {
        serde_json::to_writer(json, &K::from_bytes(bytes)?.to_json())?;
        Ok(())
    }

    fn sub_key_from_json(json: &[u8], bytes: &mut Vec<u8>) -> Result {
        K::from_json(&serde_json::from_slice(json)?)?.append_to(bytes);
        Ok(())
    }
}
