//! Reads one operator's state in a checkpoint, for tools that inspect it; and builds a checkpoint from state from
//! elsewhere.
//!
//! Reads use the store that a job would restore, over all key groups at once, so they return what a job would see. The
//! clock is fixed at the time of the checkpoint: entries that had expired at that time are returned only on request.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use super::chunks::{CheckpointChunks, named_chunks};
use super::collections::{CollectionPlace, KeyedCollections};
use super::trees::Trees;
use crate::guest::{PageLimits, SubKeyRange};
use floodmark_checkpoint::{Checkpoint, CheckpointReader, OperatorSnapshot};
use floodmark_state::stream::{Column, MaxParallelism, OptionalColumn, hash_key};
use floodmark_state::{
    Backend, ChunkId, ChunkIds, ChunkReader, KeySearch, Keys, Lookup, NoMigration, Restore, Sealed,
    StateError, StateId, StateKind, StateSchema, StateSettings, StateStore, StoreSettings,
    TreeError,
};

/// Memory for chunks of a large state, in bytes.
const BUDGET_BYTES: usize = 256 << 20;
/// Largest page of a list or map, in items and in bytes.
const PAGE_ITEMS: usize = 10_000;
const PAGE_BYTES: usize = 4 << 20;

/// A sub-key and its value.
pub type MapEntry = (Vec<u8>, Vec<u8>);

/// The content of a key in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// A value.
    Value(Vec<u8>),
    /// Values in order.
    List(Vec<Vec<u8>>),
    /// Values by sub-key, in order.
    Map(Vec<MapEntry>),
}

impl Saved {
    /// All values in it.
    pub fn values(&self) -> Box<dyn Iterator<Item = &Vec<u8>> + '_> {
        match self {
            Self::Value(value) => Box::new(std::iter::once(value)),
            Self::List(values) => Box::new(values.iter()),
            Self::Map(entries) => Box::new(entries.iter().map(|(_, value)| value)),
        }
    }

    /// The sub-keys of a map.
    pub fn sub_keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        let entries = match self {
            Self::Map(entries) => entries.as_slice(),
            Self::Value(_) | Self::List(_) => &[],
        };
        entries.iter().map(|(key, _)| key)
    }
}

/// The state of one operator in a checkpoint.
#[derive(Debug)]
pub struct SavedState {
    trees: Trees<NoMigration>,
    schemas: Vec<StateSchema>,
    now_ms: u64,
}

impl SavedState {
    /// Reads the indexes; the rest is read on demand. `scratch` is an empty file that is not used for anything else.
    ///
    /// # Errors
    /// When an index cannot be read, or a chunk that has no index.
    pub fn open(
        reader: &Arc<dyn CheckpointReader>,
        checkpoint: &Checkpoint,
        operator: &OperatorSnapshot,
        scratch: File,
    ) -> Result<Self, StateError> {
        let chunks: Arc<dyn ChunkReader> = Arc::new(CheckpointChunks(Arc::clone(reader)));
        let max_parallelism = checkpoint.scale.max_parallelism;
        let settings = StoreSettings {
            backend: Backend::Disk {
                scratch,
                budget_bytes: BUDGET_BYTES,
            },
            states: operator.states.iter().map(settings_of).collect(),
            ..StoreSettings::in_memory(
                max_parallelism,
                max_parallelism.all_groups(),
                ChunkIds::new(ChunkId(u64::MAX / 2), 0, 1),
            )
        };
        let collided = operator
            .tasks
            .iter()
            .flat_map(|task| &task.collided)
            .copied();
        let mut restore = Restore::new(
            settings,
            Arc::clone(&chunks),
            checkpoint.created_ms,
            collided,
        );
        for (chunk, ranges) in named_chunks(&operator.tasks, &max_parallelism.all_groups()) {
            let index = chunks.chunk_index(chunk)?;
            restore.add(chunk, &ranges, index.as_deref())?;
        }
        Ok(Self {
            trees: Trees::of_one_version(restore.finish()?),
            schemas: operator.states.clone(),
            now_ms: checkpoint.created_ms,
        })
    }

    /// The keys of a state with something that has not expired, in the order of their bytes.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn live_keys(&mut self, state: StateId) -> Result<Vec<Vec<u8>>, TreeError> {
        let keys = self.keys(state)?;
        let mut schemas = self.schemas.iter();
        if !schemas.any(|schema| schema.id == state && schema.ttl_ms.is_some()) {
            return Ok(keys);
        }
        let mut live = Vec::new();
        for key in keys {
            if self.read(state, &key)?.is_some() {
                live.push(key);
            }
        }
        Ok(live)
    }

    /// All keys of a state, in the order of their bytes. Expired ones are included until compaction has dropped them.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn keys(&mut self, state: StateId) -> Result<Vec<Vec<u8>>, StateError> {
        let mut keys = Vec::new();
        for key in self.trees.store.keys_of(state)? {
            if !self.is_superseded(state, &key)? {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// A search for the keys of a state that does not have all of them in memory.
    #[must_use]
    pub fn search(&self, state: StateId) -> KeySearch {
        self.trees.store.search(state)
    }

    /// Some keys of a state, in no particular order; `None` after the last ones.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn next_keys(
        &mut self,
        state: StateId,
        search: &mut KeySearch,
    ) -> Result<Option<Vec<Vec<u8>>>, StateError> {
        let Some(found) = self.trees.store.next_keys(search)? else {
            return Ok(None);
        };
        let mut keys = Vec::with_capacity(found.len());
        for key in found {
            if !self.is_superseded(state, &key)? {
                keys.push(key);
            }
        }
        Ok(Some(keys))
    }

    /// The content of a key in a state that has not expired, if any.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn read(&mut self, state: StateId, key: &[u8]) -> Result<Option<Saved>, TreeError> {
        self.read_at(state, key, self.now_ms)
    }

    /// When each unexpired value in the content of a key was written, in milliseconds since 1970; `None` for one that never
    /// expires. Empty for a state without expiry.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn written(&mut self, state: StateId, key: &[u8]) -> Result<Vec<Option<u64>>, TreeError> {
        let mut schemas = self.schemas.iter();
        let expires = |schema: &&StateSchema| schema.id == state && schema.ttl_ms.is_some();
        let Some(kind) = schemas.find(expires).map(|schema| schema.kind) else {
            return Ok(Vec::new());
        };
        if kind == StateKind::Value {
            return Ok(vec![self.trees.store.written_of(state, key)?]);
        }
        let place = CollectionPlace {
            state,
            key,
            hash: hash_key(key),
            now_ms: self.now_ms,
        };
        self.trees.at(place, |mut tree| tree.written())
    }

    /// The content of a key in a state, if any, expired or not. Compaction may have dropped what has expired.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn read_with_expired(
        &mut self,
        state: StateId,
        key: &[u8],
    ) -> Result<Option<Saved>, TreeError> {
        // At this time nothing has expired yet.
        self.read_at(state, key, 0)
    }

    fn read_at(
        &mut self,
        state: StateId,
        key: &[u8],
        now_ms: u64,
    ) -> Result<Option<Saved>, TreeError> {
        let hash = hash_key(key);
        if self.is_superseded(state, key)? {
            return Ok(None);
        }
        let place = CollectionPlace {
            state,
            key,
            hash,
            now_ms,
        };
        let schema = self.schemas.iter().find(|schema| schema.id == state);
        match schema.map(|schema| schema.kind) {
            None => Ok(None),
            Some(StateKind::Value) => {
                let keys: Column = [key].into_iter().collect();
                let mut lookup = Lookup::default();
                let keys = Keys {
                    keys: &keys,
                    hashes: &[hash],
                };
                self.trees.store.read(state, keys, now_ms, &mut lookup)?;
                Ok(lookup
                    .values()
                    .get(0)
                    .map(|value| Saved::Value(value.to_vec())))
            }
            Some(StateKind::List) => list_of(&mut self.trees, place),
            Some(StateKind::Map) => map_of(&mut self.trees, place),
        }
    }
}

impl SavedState {
    /// Whether a later version of the state has an entry for the key, including a removal.
    fn is_superseded(&mut self, state: StateId, key: &[u8]) -> Result<bool, StateError> {
        let mut schemas = self.schemas.iter();
        let Some(schema) = schemas.find(|schema| schema.id == state) else {
            return Ok(false);
        };
        let is_later = |later: &&StateSchema| later.name == schema.name && later.id > schema.id;
        for later in self.schemas.iter().filter(is_later) {
            if self.trees.store.has_entry(later.id, later.kind, key)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// All items of a list.
pub(super) fn list_of<S: KeyedCollections>(
    store: &mut S,
    place: CollectionPlace<'_>,
) -> Result<Option<Saved>, S::Error> {
    let mut values = Vec::new();
    let mut start = Some(0);
    while let Some(from) = start {
        let page = store.list_read(place, from, page())?;
        values.extend(page.values.iter().map(<[u8]>::to_vec));
        start = page.next;
    }
    Ok((!values.is_empty()).then_some(Saved::List(values)))
}

/// All entries of a map.
pub(super) fn map_of<S: KeyedCollections>(
    store: &mut S,
    place: CollectionPlace<'_>,
) -> Result<Option<Saved>, S::Error> {
    let mut entries: Vec<MapEntry> = Vec::new();
    let mut start = Vec::new();
    loop {
        let range = SubKeyRange {
            start: &start,
            end: None,
            descending: false,
        };
        let page = store.map_scan(place, range, page())?;
        let found = page.sub_keys.iter().zip(page.values.iter());
        entries.extend(found.map(|(key, value)| (key.to_vec(), value.to_vec())));
        let Some((last, _)) = entries.last().filter(|_| page.more) else {
            return Ok((!entries.is_empty()).then_some(Saved::Map(entries)));
        };
        // The next possible sub-key in the order of bytes.
        start = [last.as_slice(), &[0]].concat();
    }
}

fn page() -> PageLimits {
    PageLimits::new(PAGE_ITEMS, PAGE_BYTES)
}

fn settings_of(schema: &StateSchema) -> StateSettings {
    StateSettings {
        ttl_ms: schema.ttl_ms,
        ..StateSettings::plain(schema.id)
    }
}

/// Builds the state of one operator from values, for a checkpoint of its own.
#[derive(Debug)]
pub struct SavedStateBuilder {
    trees: Trees<NoMigration>,
    now_ms: u64,
}

impl SavedStateBuilder {
    /// Starts empty. Chunks get the ids `first`, `first + stride` and so on; `now_ms` is the time of all writes
    /// that have no other.
    #[must_use]
    pub fn new(
        max_parallelism: MaxParallelism,
        schemas: &[StateSchema],
        chunk_ids: ChunkIds,
        now_ms: u64,
    ) -> Self {
        let settings = StoreSettings {
            states: schemas.iter().map(settings_of).collect(),
            ..StoreSettings::in_memory(max_parallelism, max_parallelism.all_groups(), chunk_ids)
        };
        Self {
            trees: Trees::of_one_version(StateStore::new(settings)),
            now_ms,
        }
    }

    /// Sets the content of a key in a state. Sub-keys of a map must be strictly ascending. `written` has the write time of
    /// each value, as [`SavedState::written`] returns it; a value without one counts as written now.
    ///
    /// # Errors
    /// When the state is too large to be kept.
    pub fn put(
        &mut self,
        state: StateId,
        key: &[u8],
        saved: &Saved,
        written: &[Option<u64>],
    ) -> Result<(), TreeError> {
        let now_ms = self.now_ms;
        let time = |at: usize| {
            let written = written.get(at).copied().flatten();
            written.map_or(now_ms, |written| written.min(now_ms))
        };
        let hash = hash_key(key);
        let place = |now_ms: u64| CollectionPlace {
            state,
            key,
            hash,
            now_ms,
        };
        match saved {
            Saved::Value(value) => {
                let keys: Column = [key].into_iter().collect();
                let keys = Keys {
                    keys: &keys,
                    hashes: &[hash],
                };
                let mut lookup = Lookup::default();
                let store = &mut self.trees.store;
                store.read(state, keys, time(0), &mut lookup)?;
                let mut values = OptionalColumn::new();
                values.push(Some(value));
                store.write(state, keys, time(0), &lookup, &[0], &values);
            }
            Saved::List(values) => {
                self.trees.clear(place(now_ms))?;
                let mut at = 0;
                while at < values.len() {
                    let mut rest = at..values.len();
                    let end = rest.find(|end| time(*end) != time(at));
                    let end = end.unwrap_or(values.len());
                    let run: Vec<_> = values[at..end].iter().map(Vec::as_slice).collect();
                    self.trees.list_append(place(time(at)), &run)?;
                    at = end;
                }
            }
            Saved::Map(entries) => {
                self.trees.clear(place(now_ms))?;
                let mut by_time: BTreeMap<u64, Vec<_>> = BTreeMap::new();
                for (at, (sub_key, value)) in entries.iter().enumerate() {
                    let writes = by_time.entry(time(at)).or_default();
                    writes.push((sub_key.as_slice(), Some(value.as_slice())));
                }
                for (written_ms, writes) in by_time {
                    self.trees.map_write(place(written_ms), &writes)?;
                }
            }
        }
        Ok(self.trees.store.compact(now_ms)?)
    }

    /// Seals everything as the state of one task.
    ///
    /// # Errors
    /// As [`SavedStateBuilder::put`].
    pub fn finish(mut self) -> Result<Sealed, StateError> {
        self.trees.store.seal()
    }
}

#[cfg(test)]
mod tests {
    //! Catches a tool that shows what a job no longer sees, or that cannot show it at all.

    use std::num::NonZeroU32;

    use floodmark_checkpoint::store::CheckpointStore;
    use floodmark_checkpoint::{
        CheckpointStorage, CheckpointStorageSettings, NewCheckpoint, PluginDigest, Scale,
        TaskSnapshot, Trigger,
    };
    use floodmark_state::stream::CheckpointId;
    use sha2::{Digest, Sha256};

    use super::*;

    const VALUES: StateId = StateId(0);
    const MAPS: StateId = StateId(1);

    fn schemas() -> Vec<StateSchema> {
        let schema = |(id, name, kind): (StateId, &str, StateKind)| StateSchema {
            id,
            name: name.to_owned(),
            kind,
            version: 1,
            ttl_ms: Some(500),
        };
        let all = [
            (VALUES, "values", StateKind::Value),
            (MAPS, "maps", StateKind::Map),
        ];
        all.map(schema).to_vec()
    }

    fn map(keys: &[&str]) -> Saved {
        let entry = |key: &&str| (key.as_bytes().to_vec(), b"1".to_vec());
        Saved::Map(keys.iter().map(entry).collect())
    }

    /// The state at 2000: `old` was written at 1000, and `new` at 1900.
    fn state() -> SavedState {
        let (schemas, groups) = (schemas(), MaxParallelism::DEFAULT);
        let ids = ChunkIds::new(ChunkId(1), 0, 1);
        let mut builder = SavedStateBuilder::new(groups, &schemas, ids, 2000);
        for (key, now_ms) in [(&b"old"[..], 1000), (&b"new"[..], 1900)] {
            let value = Saved::Value(key.to_vec());
            let written = [Some(now_ms), Some(now_ms + 1)];
            builder.put(VALUES, key, &value, &written[..1]).unwrap();
            builder.put(MAPS, key, &map(&["a", "b"]), &written).unwrap();
        }
        let sealed = builder.finish().unwrap();
        let component: Arc<[u8]> = Arc::from(&b"component"[..]);
        let plugin = PluginDigest(Sha256::digest(&component).into());
        let operator = OperatorSnapshot {
            name: "count".to_owned(),
            plugin,
            config: Vec::new(),
            replaces: None,
            states: schemas,
            tasks: vec![TaskSnapshot {
                key_groups: groups.all_groups(),
                chunks: sealed.chunks,
                collided: sealed.collided,
            }],
        };
        let checkpoint = Checkpoint {
            id: CheckpointId(1),
            created_ms: 2000,
            trigger: Trigger::Asked,
            job: "job".to_owned(),
            data_folder: String::new(),
            identity: String::new(),
            scale: Scale::configured(1, groups),
            records_in: 0,
            records_out: 0,
            sources: Vec::new(),
            operators: vec![operator],
            sinks: Vec::new(),
        };
        let mut store = CheckpointStore::in_memory(CheckpointStorageSettings::default()).unwrap();
        let new = NewCheckpoint {
            checkpoint: &checkpoint,
            chunks: &sealed.fresh,
            plugins: &[(plugin, component)],
            retained: NonZeroU32::MIN,
        };
        store.write(&new).unwrap();
        let scratch = tempfile::tempfile().unwrap();
        SavedState::open(
            &store.reader(),
            &checkpoint,
            &checkpoint.operators[0],
            scratch,
        )
        .unwrap()
    }

    #[test]
    fn what_has_expired_is_shown_on_request_alone() {
        let mut state = state();
        for (id, old) in [
            (VALUES, Saved::Value(b"old".to_vec())),
            (MAPS, map(&["a", "b"])),
        ] {
            assert_eq!(state.keys(id).unwrap(), [b"new", b"old"]);
            assert_eq!(state.live_keys(id).unwrap(), [b"new"]);
            assert_eq!(state.read(id, b"old").unwrap(), None);
            assert_eq!(state.read_with_expired(id, b"old").unwrap(), Some(old));
            let new = state.read(id, b"new").unwrap();
            assert!(new.is_some());
            assert_eq!(state.read_with_expired(id, b"new").unwrap(), new);
        }
        // What is left of its time is known, too.
        assert_eq!(state.written(VALUES, b"new").unwrap(), [Some(1900)]);
        let written = state.written(MAPS, b"new").unwrap();
        assert_eq!(written, [Some(1900), Some(1901)]);
    }
}
