//! Tries a plugin on the state of a checkpoint: an instance, dropped afterwards, migrates values of each state with
//! another version. Nothing is written.
//!
//! A sample is some thousand values of the newest chunks, so that a large state takes no longer; lists and maps with a
//! page in an older chunk are skipped. All values are read chunk by chunk, so that memory does not grow with the state:
//! besides the index, the keys of one chunk and the list or map of one key are in memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{StateRow, SwapRefusal, named};
use crate::guest::Instance;
use crate::runtime::migration::{not_migrated, plainly, step_of};
use crate::runtime::plan::{Operator, Scratch};
use crate::runtime::saved::{Saved, SavedState};
use floodmark_checkpoint::{Checkpoint, CheckpointReader, OperatorSnapshot};
use floodmark_state::stream::Column;
use floodmark_state::{StateError, StateSchema};

/// Largest number of keys of a state that are tried in a sample.
const KEYS_MAX: usize = 2000;
/// Largest size of chunks that are read for a sample, in bytes.
const CHUNK_BYTES_MAX: u64 = 32 << 20;
/// Values, and their bytes, that are migrated in one call.
const VALUES_A_CALL: usize = 500;
const BYTES_A_CALL: usize = 1 << 20;

/// How much of the saved state a rehearsal tries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RehearsalExtent {
    /// Some thousand values.
    #[default]
    Sample,
    /// All values.
    All,
}

/// The result of a rehearsal. The content of one key in one state counts as one value here, also if it is a list or map.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rehearsed {
    /// The checkpoint whose state was read.
    pub checkpoint: u64,
    /// Number of values that were migrated.
    pub migrated: u64,
    /// Number of values of earlier versions in the state that was read.
    pub values: u64,
    /// Bytes of state that were not read.
    pub unread_bytes: u64,
    /// Whether there may be values that were not tried.
    pub is_sample: bool,
    /// Its duration in microseconds.
    pub took_us: u64,
}

/// A rehearsal of one operator.
pub struct Rehearsal<'a> {
    /// Reads the state.
    pub reader: &'a Arc<dyn CheckpointReader>,
    /// The checkpoint that has it.
    pub checkpoint: &'a Checkpoint,
    /// The name of the operator.
    pub name: &'a str,
    /// The operator with the new plugin.
    pub operator: &'a Operator,
    /// How much is tried.
    pub extent: RehearsalExtent,
    /// Creates a file for state that is read.
    pub scratch: &'a Scratch,
}

/// A state whose values are migrated.
struct StateStep<'a> {
    schema: &'a StateSchema,
    /// Its position in the description of the new plugin.
    index: u16,
    to: u32,
}

/// Values for one call, each with the key that it is of.
#[derive(Default)]
struct RehearsalCall {
    values: Column,
    keys: Vec<Vec<u8>>,
}

impl Rehearsal<'_> {
    /// Tries the plugin. `progress` is called with the number of values so far, and ends the rehearsal with its error.
    ///
    /// # Errors
    /// When the plugin does not open or does not migrate a value, state cannot be read, or `progress` says so.
    pub fn run(
        &self,
        progress: &mut dyn FnMut(u64) -> Result<(), SwapRefusal>,
    ) -> Result<Rehearsed, SwapRefusal> {
        let plugin = &self.operator.plugin;
        let mut rehearsed = Rehearsed {
            checkpoint: self.checkpoint.id.0,
            ..Rehearsed::default()
        };
        // The plugin must open with its configuration before anything else is tried.
        drop(plugin.open(self.name, &self.operator.config)?);
        let mut saved = self.checkpoint.operators.iter();
        let Some(snapshot) = saved.find(|snapshot| snapshot.name == self.name) else {
            return Ok(rehearsed);
        };
        let declared = &plugin.description().states;
        let steps = named(&snapshot.states).filter_map(|schema| {
            let mut now = declared.iter().zip(0..);
            let (state, index) = now.find(|(state, _)| state.name == schema.name)?;
            let to = state.version;
            (to != schema.version).then_some(StateStep { schema, index, to })
        });
        let steps: Vec<_> = steps.collect();
        if steps.is_empty() {
            return Ok(rehearsed);
        }
        let read = match self.extent {
            RehearsalExtent::Sample => newest_of(snapshot),
            RehearsalExtent::All => snapshot.clone(),
        };
        rehearsed.unread_bytes = unread_bytes(snapshot, &read);
        let scratch = (self.scratch)().map_err(|source| SwapRefusal::Scratch { source })?;
        let state = SavedState::open(self.reader, self.checkpoint, &read, scratch);
        let mut state = state.map_err(|source| self.unreadable(source))?;
        for step in steps {
            match self.extent {
                RehearsalExtent::Sample => {
                    self.sample(&step, &mut state, &mut rehearsed, progress)?
                }
                RehearsalExtent::All => self.all(&step, &mut state, &mut rehearsed, progress)?,
            }
        }
        rehearsed.is_sample = rehearsed.unread_bytes > 0 || rehearsed.migrated < rehearsed.values;
        Ok(rehearsed)
    }

    fn sample(
        &self,
        step: &StateStep<'_>,
        state: &mut SavedState,
        rehearsed: &mut Rehearsed,
        progress: &mut dyn FnMut(u64) -> Result<(), SwapRefusal>,
    ) -> Result<(), SwapRefusal> {
        let id = step.schema.id;
        let keys = state.keys(id).map_err(|source| self.unreadable(source))?;
        rehearsed.values += keys.len() as u64;
        let every = keys.len().div_ceil(KEYS_MAX).max(1);
        let mut instance = self.operator.plugin.start(self.name)?;
        let mut call = RehearsalCall::default();
        for key in keys.iter().step_by(every) {
            // Keys whose entry is incomplete in these chunks are skipped.
            if let Ok(Some(saved)) = state.read(id, key) {
                rehearsed.migrated += 1;
                call.add(key, &saved);
                self.try_if_full(step, &mut instance, &mut call, rehearsed, progress)?;
            }
        }
        self.try_out(step, &mut instance, call, &mut || {
            progress(rehearsed.migrated)
        })
    }

    fn all(
        &self,
        step: &StateStep<'_>,
        state: &mut SavedState,
        rehearsed: &mut Rehearsed,
        progress: &mut dyn FnMut(u64) -> Result<(), SwapRefusal>,
    ) -> Result<(), SwapRefusal> {
        let id = step.schema.id;
        let mut search = state.search(id);
        let mut instance = self.operator.plugin.start(self.name)?;
        let mut call = RehearsalCall::default();
        while let Some(keys) = state
            .next_keys(id, &mut search)
            .map_err(|source| self.unreadable(source))?
        {
            progress(rehearsed.migrated)?;
            for key in keys {
                let saved = state.read(id, &key);
                let saved = saved.map_err(|source| SwapRefusal::TreeUnreadable {
                    operator: self.name.to_owned(),
                    checkpoint: self.checkpoint.id,
                    source,
                })?;
                // One that has expired has no content.
                let Some(saved) = saved else {
                    continue;
                };
                rehearsed.values += 1;
                rehearsed.migrated += 1;
                call.add(&key, &saved);
                self.try_if_full(step, &mut instance, &mut call, rehearsed, progress)?;
            }
        }
        self.try_out(step, &mut instance, call, &mut || {
            progress(rehearsed.migrated)
        })
    }

    /// Migrates the values of a call that has no room for more, and empties it.
    fn try_if_full(
        &self,
        step: &StateStep<'_>,
        instance: &mut Instance,
        call: &mut RehearsalCall,
        rehearsed: &Rehearsed,
        progress: &mut dyn FnMut(u64) -> Result<(), SwapRefusal>,
    ) -> Result<(), SwapRefusal> {
        if !call.is_full() {
            return Ok(());
        }
        let mut progress = || progress(rehearsed.migrated);
        progress()?;
        self.try_out(step, instance, std::mem::take(call), &mut progress)
    }

    /// Migrates values. If they cannot be migrated together, finds the first that cannot be migrated alone; `progress` is
    /// called for each.
    fn try_out(
        &self,
        step: &StateStep<'_>,
        instance: &mut Instance,
        call: RehearsalCall,
        progress: &mut dyn FnMut() -> Result<(), SwapRefusal>,
    ) -> Result<(), SwapRefusal> {
        let StateStep { schema, index, to } = *step;
        if call.keys.is_empty() {
            return Ok(());
        }
        let Err(together) = instance.migrate(index, schema.version, &call.values) else {
            return Ok(());
        };
        if together.is_interruption() {
            return Err(together.into());
        }
        let mut instance = self.operator.plugin.start(self.name)?;
        for (key, value) in call.keys.iter().zip(call.values.iter()) {
            progress()?;
            let alone: Column = [value].into_iter().collect();
            if let Err(error) = instance.migrate(index, schema.version, &alone) {
                if error.is_interruption() {
                    return Err(error.into());
                }
                let what = step_of((schema.name.as_str(), schema.version, to), &plainly(&error));
                return Err(SwapRefusal::NotMigrated {
                    operator: self.name.to_owned(),
                    reason: not_migrated(key, &what),
                });
            }
        }
        Err(together.into())
    }

    fn unreadable(&self, source: StateError) -> SwapRefusal {
        SwapRefusal::StateUnreadable {
            operator: self.name.to_owned(),
            checkpoint: self.checkpoint.id,
            source,
        }
    }
}

impl RehearsalCall {
    fn add(&mut self, key: &[u8], saved: &Saved) {
        for value in saved.values() {
            self.values.push(value);
            self.keys.push(key.to_vec());
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() >= VALUES_A_CALL || self.values.bytes().len() >= BYTES_A_CALL
    }
}

/// Counts the keys of the versions that hold a swap back, as of a checkpoint. Those that it cannot tell are not counted.
pub fn count_held_back(
    checkpoint: (&Arc<dyn CheckpointReader>, &Checkpoint),
    operator: &str,
    rows: &mut [StateRow],
    scratch: &Scratch,
) {
    for row in rows {
        if let Some(version) = row.held_back_by() {
            row.keys =
                keys_of_version(checkpoint, operator, (row.state.as_str(), version), scratch);
        }
    }
}

/// The number of keys that have a value of a version of a state; `None` if the checkpoint cannot tell.
fn keys_of_version(
    (reader, checkpoint): (&Arc<dyn CheckpointReader>, &Checkpoint),
    operator: &str,
    (state, version): (&str, u32),
    scratch: &Scratch,
) -> Option<u64> {
    let mut saved = checkpoint.operators.iter();
    let snapshot = saved.find(|snapshot| snapshot.name == operator)?;
    let mut schemas = named(&snapshot.states);
    let schema = schemas.find(|schema| schema.name == state && schema.version == version)?;
    let mut saved = SavedState::open(reader, checkpoint, snapshot, scratch().ok()?).ok()?;
    let mut search = saved.search(schema.id);
    let mut count = 0;
    while let Some(keys) = saved.next_keys(schema.id, &mut search).ok()? {
        count += keys.len() as u64;
    }
    Some(count)
}

/// Bytes of the chunks of a snapshot that a part of it lacks. Each counts once, also if several tasks name it.
fn unread_bytes(whole: &OperatorSnapshot, read: &OperatorSnapshot) -> u64 {
    whole.state_bytes() - read.state_bytes()
}

/// The newest chunks of each task.
fn newest_of(snapshot: &OperatorSnapshot) -> OperatorSnapshot {
    let mut newest = snapshot.clone();
    let share = CHUNK_BYTES_MAX / newest.tasks.len().max(1) as u64;
    for task in &mut newest.tasks {
        let mut bytes = 0;
        let mut chunks = task.chunks.iter().rev();
        let kept = chunks
            .position(|chunk| {
                bytes += u64::from(chunk.len);
                bytes > share
            })
            .unwrap_or(task.chunks.len())
            .max(1);
        let passed_over = task.chunks.len().saturating_sub(kept);
        task.chunks.drain(..passed_over);
    }
    newest
}

#[cfg(test)]
mod tests {
    //! Catches chunks that count once for each task that names them, as several do after a rescale.

    use super::*;
    use floodmark_checkpoint::{PluginDigest, TaskSnapshot};
    use floodmark_state::stream::{MaxParallelism, TaskIndex};
    use floodmark_state::{ChunkId, ChunkRef};

    #[test]
    fn what_is_not_read_counts_each_chunk_once() {
        let mib = 1 << 20;
        let chunk = |id| ChunkRef {
            id: ChunkId(id),
            len: mib,
        };
        let task = |task| TaskSnapshot {
            key_groups: MaxParallelism::new(128).unwrap().range(TaskIndex(task), 2),
            chunks: (0..40).map(chunk).collect(),
            collided: Vec::new(),
        };
        let whole = OperatorSnapshot {
            name: "count".to_owned(),
            plugin: PluginDigest([0; 32]),
            config: Vec::new(),
            replaces: None,
            states: Vec::new(),
            tasks: vec![task(0), task(1)],
        };
        // Both read the newest 16 MiB, which are the same.
        let unread = unread_bytes(&whole, &newest_of(&whole));
        assert_eq!(unread, 24 * u64::from(mib));
        assert_eq!(unread_bytes(&whole, &whole), 0);
    }
}
