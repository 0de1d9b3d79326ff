//! Tries a plugin on the state of a checkpoint: an instance, dropped afterwards, migrates some thousand values of each
//! state with another version. Nothing is written.
//!
//! Only the newest chunks are read, so that a large state takes no longer; lists and maps with a page in an older chunk
//! are skipped.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{SwapRefusal, Swapper, named};
use crate::runtime::plan::Operator;
use crate::runtime::saved::SavedState;
use floodmark_checkpoint::{Checkpoint, CheckpointReader, OperatorSnapshot};
use floodmark_state::stream::Column;

/// Largest number of keys of a state that are tried.
const KEYS_MAX: usize = 2000;
/// Largest size of chunks that are read, in bytes.
const CHUNK_BYTES_MAX: u64 = 32 << 20;
/// Values that are migrated in one call.
const VALUES_A_CALL: usize = 500;

/// The result of a rehearsal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rehearsed {
    /// The checkpoint whose state was read.
    pub checkpoint: u64,
    /// Number of migrated values.
    pub migrated: u64,
    /// Its duration in microseconds.
    pub took_us: u64,
}

impl Swapper {
    pub(super) fn rehearse(
        &self,
        reader: &Arc<dyn CheckpointReader>,
        checkpoint: &Checkpoint,
        name: &str,
        operator: &Operator,
    ) -> Result<Rehearsed, SwapRefusal> {
        let mut rehearsed = Rehearsed {
            checkpoint: checkpoint.id.0,
            ..Rehearsed::default()
        };
        // The plugin must open with its configuration before anything else is tried.
        drop(operator.plugin.open(name, &operator.config)?);
        let mut saved = checkpoint.operators.iter();
        let Some(snapshot) = saved.find(|snapshot| snapshot.name == name) else {
            return Ok(rehearsed);
        };
        let declared = &operator.plugin.description().states;
        let mut to_migrate = Vec::new();
        for schema in named(&snapshot.states) {
            let mut now = declared.iter().zip(0..);
            if let Some((state, index)) = now.find(|(state, _)| state.name == schema.name)
                && state.version != schema.version
            {
                to_migrate.push((schema, index));
            }
        }
        if to_migrate.is_empty() {
            return Ok(rehearsed);
        }
        let scratch = (self.scratch)().map_err(|source| SwapRefusal::Scratch { source })?;
        let unreadable = |source| SwapRefusal::StateUnreadable {
            operator: name.to_owned(),
            checkpoint: checkpoint.id,
            source,
        };
        let newest = newest_of(snapshot);
        let state = SavedState::open(reader, checkpoint, &newest, scratch);
        let mut state = state.map_err(unreadable)?;
        let mut instance = operator.plugin.start(name)?;
        for (schema, index) in to_migrate {
            let keys = state.keys(schema.id).map_err(unreadable)?;
            let step = keys.len().div_ceil(KEYS_MAX).max(1);
            let mut values = Column::new();
            for key in keys.iter().step_by(step) {
                // Keys whose entry is incomplete in these chunks are skipped.
                let Ok(Some(saved)) = state.read(schema.id, key) else {
                    continue;
                };
                for value in saved.values() {
                    values.push(value);
                    rehearsed.migrated += 1;
                    if values.len() >= VALUES_A_CALL {
                        instance.migrate(index, schema.version, &values)?;
                        values = Column::new();
                    }
                }
            }
            instance.migrate(index, schema.version, &values)?;
        }
        Ok(rehearsed)
    }
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
