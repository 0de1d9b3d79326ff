//! Merges the states in a checkpoint and those that the plugin declares into one list for an operator.
//!
//! A state is identified by its name; within the log of a task, each of its versions has an id of its own. Saved ids
//! stay as long as any chunk may have entries of them, so a plugin that declares another version gets a new id, and the
//! earlier ones become sources of values that it migrates (`migration`). Whether the plugin migrates them is asked
//! here, before the job has processed a record.

use super::JobError;
use super::plan::{Node, Operator, Role};
use crate::guest::{GuestError, Plugin, StateDeclaration};
use floodmark_checkpoint::{Checkpoint, OperatorSnapshot};
use floodmark_state::stream::{CheckpointId, Column};
use floodmark_state::{StateId, StateKind, StateSchema, StateSettings};

/// The states of a node's tasks.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// All ids that entries may have: those of the plugin, of earlier versions, and, without a name, of dropped states.
    pub schemas: Vec<StateSchema>,
    /// The plugin's states, by position in its description.
    pub declared: Vec<DeclaredState>,
}

/// A state as the plugin declares it.
#[derive(Debug, Clone)]
pub struct DeclaredState {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: StateId,
    /// The kind of its content for each key.
    pub kind: StateKind,
    /// The version of its encoding.
    pub version: u32,
    /// Time to live of its entries, in milliseconds; `None` is without expiry.
    pub ttl_ms: Option<u64>,
    /// Ids and versions of saved entries, newest first.
    pub earlier: Vec<(StateId, u32)>,
}

impl States {
    /// The states of a node that resumes from a checkpoint, or starts without one.
    ///
    /// # Errors
    /// When the plugin does not accept the saved state.
    pub fn of(
        node: &Node,
        restored: Option<&Checkpoint>,
        allow_dropped: bool,
    ) -> Result<Self, JobError> {
        let Role::Operator(operator) = &node.role else {
            return Ok(Self::default());
        };
        let saved = restored.and_then(|restored| {
            let found = snapshot_of(node, restored)?;
            Some((restored.id, found.states.clone()))
        });
        let (checkpoint, saved) = saved.unwrap_or((CheckpointId(0), Vec::new()));
        Self::taken_over(&node.name, operator, checkpoint, saved, allow_dropped)
    }

    /// The states of a plugin that takes over from another plugin or version. `checkpoint` is for messages.
    ///
    /// # Errors
    /// When the plugin does not accept the existing state.
    pub fn taken_over(
        name: &str,
        Operator { plugin, ttl_ms, .. }: &Operator,
        checkpoint: CheckpointId,
        mut schemas: Vec<StateSchema>,
        allow_dropped: bool,
    ) -> Result<Self, JobError> {
        let declared = &plugin.description().states;
        let taking_over = TakingOver {
            name,
            plugin,
            checkpoint,
        };
        for schema in &mut schemas {
            taking_over.check(schema, allow_dropped)?;
        }
        let mut states = Vec::with_capacity(declared.len());
        for state in declared {
            let ttl_ms = ttl_ms.get(&state.name).copied().unwrap_or(state.ttl_ms);
            let id = id_of(&mut schemas, state, ttl_ms);
            let others = schemas
                .iter()
                .filter(|schema| schema.name == state.name && schema.id != id);
            let mut earlier: Vec<_> = others.map(|schema| (schema.id, schema.version)).collect();
            earlier.sort_by_key(|(id, _)| std::cmp::Reverse(*id));
            states.push(DeclaredState {
                name: state.name.clone(),
                id,
                kind: state.kind,
                version: state.version,
                ttl_ms,
                earlier,
            });
        }
        Ok(Self {
            schemas,
            declared: states,
        })
    }

    /// The settings of a task's store.
    #[must_use]
    pub fn settings(&self) -> Vec<StateSettings> {
        let settings = |state: &DeclaredState| StateSettings {
            ttl_ms: state.ttl_ms,
            aliases: state.earlier.iter().map(|(id, _)| *id).collect(),
            ..StateSettings::plain(state.id)
        };
        self.declared.iter().map(settings).collect()
    }

    /// Removes ids of which no chunk has entries any longer.
    pub fn retain(&mut self, is_held: impl Fn(StateId) -> bool) {
        let Self { schemas, declared } = self;
        for state in declared.iter_mut() {
            state.earlier.retain(|(id, _)| is_held(*id));
        }
        schemas.retain(|schema| {
            declared.iter().any(|state| state.id == schema.id) || is_held(schema.id)
        });
    }
}

/// A node's operator in a checkpoint.
pub(super) fn snapshot_of<'a>(
    node: &Node,
    restored: &'a Checkpoint,
) -> Option<&'a OperatorSnapshot> {
    let mut operators = restored.operators.iter();
    operators.find(|operator| operator.name == node.name)
}

/// The id of a declared state: that of the last saved version if it is the same, otherwise the next free one. A plugin
/// that returns to an earlier version also gets a new id: entries under the old id may still be in chunks, and would
/// hide newer ones.
fn id_of(schemas: &mut Vec<StateSchema>, state: &StateDeclaration, ttl_ms: Option<u64>) -> StateId {
    let of_name = schemas
        .iter_mut()
        .filter(|schema| schema.name == state.name);
    let last = of_name.max_by_key(|schema| schema.id);
    if let Some(schema) = last.filter(|schema| schema.version == state.version) {
        schema.ttl_ms = ttl_ms;
        return schema.id;
    }
    let next = schemas.iter().map(|schema| schema.id.0 + 1).max();
    let id = StateId(next.unwrap_or(0));
    schemas.push(StateSchema {
        id,
        name: state.name.clone(),
        kind: state.kind,
        version: state.version,
        ttl_ms,
    });
    id
}

/// The reason why a plugin cannot use a saved state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateMisfit {
    /// It does not declare the state.
    #[error("it has saved state `{state}`, but the plugin declares no state of that name")]
    Undeclared {
        /// The state.
        state: String,
    },
    /// It declares the state as another kind.
    #[error("state `{state}` was saved as another kind")]
    OtherKind {
        /// The state.
        state: String,
    },
    /// It does not migrate the saved version.
    #[error(
        "state `{state}` was saved in version {saved}, and the plugin, which has version {declared}, does not migrate it: {source}"
    )]
    NotMigrated {
        /// The state.
        state: String,
        /// The saved version.
        saved: u32,
        /// The version that the plugin declares.
        declared: u32,
        /// The error of the plugin.
        source: Box<GuestError>,
    },
}

/// A plugin, and the state that another plugin or version has saved.
struct TakingOver<'a> {
    name: &'a str,
    plugin: &'a Plugin,
    checkpoint: CheckpointId,
}

impl TakingOver<'_> {
    fn check(&self, schema: &mut StateSchema, allow_dropped: bool) -> Result<(), JobError> {
        if schema.name.is_empty() {
            return Ok(());
        }
        let name = schema.name.clone();
        let declared = self.plugin.description().states.iter().zip(0..);
        let Some((now, index)) = declared.into_iter().find(|(now, _)| now.name == name) else {
            if allow_dropped {
                // The id stays taken: entries of it may still exist.
                schema.name.clear();
                return Ok(());
            }
            return Err(self.refused(StateMisfit::Undeclared { state: name }));
        };
        if now.kind != schema.kind {
            return Err(self.refused(StateMisfit::OtherKind { state: name }));
        }
        if now.version == schema.version {
            return Ok(());
        }
        let mut instance = self.plugin.start(self.name)?;
        match instance.migrate(index, schema.version, &Column::new()) {
            Ok(_) => Ok(()),
            Err(error) if error.is_interruption() => Err(error.into()),
            Err(error) => Err(self.refused(StateMisfit::NotMigrated {
                state: name,
                saved: schema.version,
                declared: now.version,
                source: Box::new(error),
            })),
        }
    }

    fn refused(&self, reason: StateMisfit) -> JobError {
        JobError::State {
            operator: self.name.to_owned(),
            reason,
            checkpoint: self.checkpoint,
        }
    }
}
