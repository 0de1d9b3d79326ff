//! Migrates values that an earlier version of a plugin wrote: those of a batch here, before the plugin sees them, and
//! others by a `sweep`, until none is left. The stream never waits for all of them.
//!
//! A value that the plugin cannot migrate stays as it is, so that a better plugin can migrate it later. A record of its
//! key is a guilty record (`blame`): it fails the job, is skipped or becomes a dead letter.

use super::blame::FailedCall;
use super::schema::DeclaredState;
use super::task::{InstanceFactory, TaskError};
use crate::guest::{GuestError, Instance};
use floodmark_state::stream::{Column, OptionalColumn};
use floodmark_state::{Lookup, Migrate, MigrationError, StateId};

/// Longest part of a key in a message, in characters.
const KEY_CHARS_MAX: usize = 100;

/// Values of a state that the plugin could not migrate. Nothing has changed.
pub(super) struct NotMigrated {
    error: Box<GuestError>,
    /// The state, its versions and the reason, for people.
    what: String,
}

impl NotMigrated {
    fn of(state: &DeclaredState, from: u32, error: GuestError) -> Self {
        Self {
            what: step_from(state, from, &error),
            error: Box::new(error),
        }
    }

    /// The call before which it was to be migrated.
    pub(super) fn call(self, was_fresh: bool) -> FailedCall {
        FailedCall {
            error: *self.error,
            was_fresh,
            not_migrated: Some(self.what),
        }
    }
}

impl<E> From<NotMigrated> for TaskError<E> {
    fn from(error: NotMigrated) -> Self {
        Self::Guest(*error.error)
    }
}

fn step_from(state: &DeclaredState, from: u32, error: &GuestError) -> String {
    step_of((state.name.as_str(), from, state.version), &plainly(error))
}

/// A state, its versions and a reason, for people.
pub(crate) fn step_of((state, from, to): (&str, u32, u32), reason: &str) -> String {
    format!("`{state}` from version {from} to version {to}: it {reason}")
}

/// The end of a sentence that begins with the operator: the plugin cannot migrate what a key has.
pub(crate) fn not_migrated(key: &[u8], what: &str) -> String {
    let key = String::from_utf8_lossy(key);
    let key: String = key.chars().take(KEY_CHARS_MAX).collect();
    format!("cannot migrate the entry of key {key:?} in state {what}")
}

/// The error as the end of a sentence that begins with the operator.
pub(crate) fn plainly(error: &GuestError) -> String {
    let text = error.to_string();
    let after_name = text
        .strip_prefix("operator `")
        .and_then(|rest| rest.split_once('`'))
        .and_then(|(_, rest)| rest.strip_prefix(' '));
    after_name.unwrap_or(&text).to_owned()
}

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
) -> Result<Option<OptionalColumn>, NotMigrated> {
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
            false => {
                let new = instance.migrate(index, version, &old);
                Some(new.map_err(|error| NotMigrated::of(state, version, error))?)
            }
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
        loop {
            let (mut instance, was_fresh) = match self.instance.take() {
                Some(instance) => (instance, false),
                None => match (self.open)() {
                    Ok(opened) => (opened, true),
                    Err(error) => return Err(refused(declared, version, &error)),
                },
            };
            let migrated = instance.migrate(index, version, values);
            let is_spoilt = migrated.as_ref().is_err_and(GuestError::spoils_instance);
            if !is_spoilt {
                self.instance = Some(instance);
            }
            match migrated {
                Ok(migrated) => return Ok(migrated),
                // What the instance did before may be the cause. After an interruption no other opens.
                Err(_) if is_spoilt && !was_fresh => {}
                Err(error) => return Err(refused(declared, version, &error)),
            }
        }
    }
}

fn refused(state: &DeclaredState, from: u32, error: &GuestError) -> MigrationError {
    MigrationError::Plugin {
        message: step_from(state, from, error),
    }
}

#[cfg(test)]
mod tests {
    //! Catches messages that name the operator twice.

    use super::*;

    #[test]
    fn the_name_of_the_operator_is_left_out() {
        for (operator, expected) in [
            (
                "count",
                "returned an error from `migrate`: too `big` for this",
            ),
            ("", "returned an error from `migrate`: too `big` for this"),
        ] {
            let error = GuestError::Values {
                operator: operator.to_owned(),
                call: "migrate",
                reason: "too `big` for this".to_owned(),
            };
            assert_eq!(plainly(&error), expected);
        }
    }
}
