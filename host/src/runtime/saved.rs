//! The state that a checkpoint holds of one operator, for whoever looks into it, and the way back: a checkpoint made of
//! state from elsewhere.
//!
//! Reading goes through the store that a job would restore, over all key groups at once, so what is seen is what a job sees.
//! Time stands still at the moment of the checkpoint: what had expired by then is not there.

use std::fs::File;
use std::sync::Arc;

use super::chunks::{ChunksOf, named_chunks};
use crate::checkpoint::{Checkpoint, CheckpointReader, OperatorSnapshot};
use crate::state::{
    Backend, ChunkId, ChunkIds, Keys, Lookup, Restore, Sealed, StateError, StateId, StateKind,
    StateSchema, StateSettings, StateStore, StoreSettings,
};
use crate::stream::{Column, MaxParallelism, OptionalColumn, hash_key};

/// Chunks of a large state that are in memory at a time.
const BUDGET_BYTES: usize = 256 << 20;

/// What a key has in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// A value.
    Value(Vec<u8>),
    /// Values in order.
    List(Vec<Vec<u8>>),
    /// Values by sub-key, in order.
    Map(Vec<(Vec<u8>, Vec<u8>)>),
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
}

/// The state of one operator in a checkpoint.
#[derive(Debug)]
pub struct SavedState {
    store: StateStore,
    schemas: Vec<StateSchema>,
    now_ms: u64,
}

impl SavedState {
    /// Opens it by its indexes; the rest is read when it is asked for. `scratch` is an empty file that nobody else uses.
    ///
    /// # Errors
    /// When an index cannot be read, or a chunk without one.
    pub fn open(
        reader: &Arc<dyn CheckpointReader>,
        checkpoint: &Checkpoint,
        operator: &OperatorSnapshot,
        scratch: File,
    ) -> Result<Self, StateError> {
        let chunks = ChunksOf::new(Arc::clone(reader));
        let max_parallelism = checkpoint.max_parallelism;
        let settings = StoreSettings {
            backend: Backend::Disk {
                scratch,
                budget_bytes: BUDGET_BYTES,
            },
            states: operator.states.iter().map(settings_of).collect(),
            ..StoreSettings::in_memory(
                max_parallelism,
                max_parallelism.range(0, 1),
                ChunkIds::new(ChunkId(u64::MAX / 2), 0, 1),
            )
        };
        let collided = operator.tasks.iter().flat_map(|task| &task.collided).copied();
        let mut restore = Restore::new(settings, Arc::new(chunks.clone()), checkpoint.created_ms, collided);
        for (chunk, ranges) in named_chunks(&operator.tasks, &max_parallelism.range(0, 1)) {
            let index = chunks.index(chunk)?;
            restore.add(chunk, &ranges, index.as_deref())?;
        }
        Ok(Self {
            store: restore.finish()?,
            schemas: operator.states.clone(),
            now_ms: checkpoint.created_ms,
        })
    }

    /// All keys of a state, in the order of their bytes.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn keys(&mut self, state: StateId) -> Result<Vec<Vec<u8>>, StateError> {
        let mut keys = self.store.keys_of(state)?;
        keys.sort_unstable();
        Ok(keys)
    }

    /// What a key has in a state, if anything.
    ///
    /// # Errors
    /// When a chunk cannot be read.
    pub fn read(&mut self, state: StateId, key: &[u8]) -> Result<Option<Saved>, StateError> {
        let schema = self.schemas.iter().find(|schema| schema.id == state);
        let hash = hash_key(key);
        match schema.map(|schema| schema.kind) {
            None => Ok(None),
            Some(StateKind::Value) => {
                let keys: Column = [key].into_iter().collect();
                let mut lookup = Lookup::default();
                let keys = Keys {
                    keys: &keys,
                    hashes: &[hash],
                };
                self.store.read(state, keys, self.now_ms, &mut lookup)?;
                Ok(lookup.values().get(0).map(|value| Saved::Value(value.to_vec())))
            }
            Some(StateKind::List) => {
                let values = self.store.all_of_list(state, key, hash, self.now_ms)?;
                Ok(Some(Saved::List(values)).filter(|_| !values.is_empty()))
            }
            Some(StateKind::Map) => {
                let entries = self.store.all_of_map(state, key, hash, self.now_ms)?;
                Ok(Some(Saved::Map(entries)).filter(|_| !entries.is_empty()))
            }
        }
    }
}

fn settings_of(schema: &StateSchema) -> StateSettings {
    StateSettings {
        ttl_ms: schema.ttl_ms,
        ..StateSettings::plain(schema.id)
    }
}
