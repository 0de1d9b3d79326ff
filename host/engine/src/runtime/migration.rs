//! Migrates values that an earlier version of a plugin wrote: those of a batch before the plugin sees them, and a few
//! others after each batch, until none is left. The stream never waits for all of them.

use super::keyed_state::KeyedState;
use super::schema::DeclaredState;
use super::task::{InstanceFactory, TaskError};
use crate::guest::{GuestError, Instance};
use floodmark_state::stream::{Column, OptionalColumn, hash_key};
use floodmark_state::{Keys, Lookup, Migrate, MigrationError, StateId};

/// The values of a lookup, with values of earlier versions migrated; `None` if all are current. `index` is the position
/// of the state in the plugin's description.
///
/// # Errors
/// When the plugin fails. Nothing has changed.
pub(super) fn migrated(
    instance: &mut Instance,
    index: u16,
    state: &DeclaredState,
    lookup: &Lookup,
) -> Result<Option<OptionalColumn>, GuestError> {
    let Some(versions) = lookup.versions() else {
        return Ok(None);
    };
    let values = lookup.values();
    let is_old = |slot: usize| versions[slot] != state.id && values.get(slot).is_some();
    if !(0..versions.len()).any(is_old) {
        return Ok(None);
    }
    let is_known = |slot: usize| state.earlier.iter().any(|(id, _)| versions[slot] == *id);
    let are_known = (0..versions.len())
        .filter(|&slot| is_old(slot))
        .all(is_known);
    assert!(are_known, "a lookup has versions of its state");
    let mut replaced: Vec<Option<Column>> = Vec::new();
    for &(id, version) in &state.earlier {
        let old: Column = values_of(values, versions, id).collect();
        // A plugin that returned to an earlier version may find values of its own.
        replaced.push(match old.is_empty() || version == state.version {
            true => None,
            false => Some(instance.migrate(index, version, &old)?),
        });
    }
    let mut taken = vec![0; replaced.len()];
    let mut current = OptionalColumn::new();
    for (slot, version) in versions.iter().enumerate() {
        let earlier = state.earlier.iter().position(|(id, _)| id == version);
        let value = values.get(slot);
        match earlier.and_then(|at| Some((at, replaced[at].as_ref()?))) {
            Some((at, new)) if value.is_some() => {
                current.push(Some(new.get(taken[at])));
                taken[at] += 1;
            }
            _ => current.push(value),
        }
    }
    Ok(Some(current))
}

/// The values that are of one version, in order.
fn values_of<'a>(
    values: &'a OptionalColumn,
    versions: &'a [StateId],
    id: StateId,
) -> impl Iterator<Item = &'a [u8]> {
    let slots = versions.iter().enumerate();
    slots.filter_map(move |(slot, version)| (*version == id).then(|| values.get(slot))?)
}

/// Migrates some values that were not looked up. Returns whether there may be more.
///
/// # Errors
/// When the plugin fails, or state cannot be read: the task must not be used then.
pub(super) fn migrate_some<S: KeyedState>(
    instance: &mut Instance,
    states: &[DeclaredState],
    kept: &mut S,
    wall_ms: u64,
) -> Result<bool, TaskError<S::Error>> {
    let stale = kept.stale_values(wall_ms).map_err(TaskError::State)?;
    let Some(stale) = stale else {
        return Ok(false);
    };
    for (state, index) in states.iter().zip(0..) {
        let of_state = stale.iter().filter(|value| value.state == state.id);
        let keys: Column = of_state.map(|value| value.key.as_slice()).collect();
        if keys.is_empty() {
            continue;
        }
        let hashes: Vec<_> = keys.iter().map(hash_key).collect();
        let keys = Keys {
            keys: &keys,
            hashes: &hashes,
        };
        let mut lookup = Lookup::default();
        kept.read(state, keys, wall_ms, &mut lookup)
            .map_err(TaskError::State)?;
        let Some(values) = migrated(instance, index, state, &lookup)? else {
            continue;
        };
        // Values that have expired meanwhile are left to compaction.
        let slots: Vec<u32> = (0..hashes.len() as u32)
            .filter(|&slot| values.get(slot as usize).is_some())
            .collect();
        let mut current = OptionalColumn::new();
        for &slot in &slots {
            current.push(values.get(slot as usize));
        }
        kept.write(state, keys, wall_ms, &lookup, &slots, &current)
            .map_err(TaskError::State)?;
    }
    Ok(true)
}

/// Migrates lists and maps with an instance of its own, since the task's may be in the middle of a call.
pub struct OwnInstance {
    open: InstanceFactory,
    states: Vec<DeclaredState>,
    instance: Option<Instance>,
}

impl OwnInstance {
    /// A migrator for a plugin with these states, in its order. The instance is started when it is needed.
    #[must_use]
    pub fn new(open: InstanceFactory, states: Vec<DeclaredState>) -> Self {
        Self {
            open,
            states,
            instance: None,
        }
    }
}

impl Migrate for OwnInstance {
    fn migrate(
        &mut self,
        state: StateId,
        from: StateId,
        values: &Column,
    ) -> Result<Column, MigrationError> {
        let mut declared = self.states.iter().zip(0..);
        let declared = declared.find(|(declared, _)| declared.id == state);
        let (declared, index) = declared.ok_or(MigrationError::UnknownState)?;
        let mut earlier = declared.earlier.iter();
        let version = earlier.find_map(|(id, version)| (*id == from).then_some(*version));
        let version = version.ok_or(MigrationError::UnknownVersion)?;
        if version == declared.version {
            return Ok(values.clone());
        }
        let failed = |error: GuestError| MigrationError::Plugin {
            message: error.to_string(),
        };
        let instance = match &mut self.instance {
            Some(instance) => instance,
            none => none.insert((self.open)().map_err(failed)?),
        };
        let migrated = instance.migrate(index, version, values);
        migrated.map_err(failed)
    }
}
