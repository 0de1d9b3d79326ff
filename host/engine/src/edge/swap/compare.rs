//! Comparison of saved states with those that another plugin declares: a table for people, and the refusal of a plugin that
//! does not fit.

use serde::{Deserialize, Serialize};

use super::{SwapRefusal, named};
use crate::guest::Plugin;
use floodmark_state::stream::Column;
use floodmark_state::{StateKind, StateSchema};

/// The comparison of one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StateRow {
    /// The name of the state.
    pub state: String,
    /// `value`, `list` or `map`: the saved kind or, for a new state, the declared one.
    pub kind: String,
    /// The versions of saved entries, newest first.
    pub saved: Vec<u32>,
    /// The version that the plugin declares; `None` if it does not declare the state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u32>,
    /// The effect of the swap on the state.
    pub fate: StateCompatibility,
    /// The reason, if there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The saved version that the plugin does not migrate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<u32>,
    /// The number of keys of that version as of the newest checkpoint, if it is not the newest version and was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
}

impl StateRow {
    /// The version that holds the plugin back, if newer ones would not: it is being migrated to them.
    pub(super) fn held_back_by(&self) -> Option<u32> {
        let newest = self.saved.first().copied();
        self.refused.filter(|refused| newest != Some(*refused))
    }
}

/// The effect of a swap on a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateCompatibility {
    /// Kind and version are the same.
    Fits,
    /// The plugin migrates its values from the saved version.
    Migrates,
    /// The plugin does not migrate its values.
    NotMigrated,
    /// The state is new and starts empty.
    New,
    /// The plugin does not declare it, and it is dropped.
    Dropped,
    /// The plugin declares it as another kind.
    OtherKind,
}

/// Compares saved states with those that a plugin declares.
///
/// # Errors
/// When the plugin cannot be started. States that do not fit are not an error; they are in the table.
pub fn compare(
    operator: &str,
    plugin: &Plugin,
    saved: &[StateSchema],
) -> Result<Vec<StateRow>, SwapRefusal> {
    let mut rows: Vec<StateRow> = Vec::new();
    let declared = &plugin.description().states;
    let mut newest_first: Vec<_> = named(saved).collect();
    newest_first.sort_by_key(|schema| std::cmp::Reverse(schema.id));
    for schema in newest_first {
        if let Some(row) = rows.iter_mut().find(|row| row.state == schema.name) {
            row.saved.push(schema.version);
            continue;
        }
        let now = declared.iter().find(|state| state.name == schema.name);
        rows.push(StateRow {
            state: schema.name.clone(),
            kind: kind(schema.kind).to_owned(),
            saved: vec![schema.version],
            declared: now.map(|state| state.version),
            fate: match now {
                None => StateCompatibility::Dropped,
                Some(state) if state.kind != schema.kind => StateCompatibility::OtherKind,
                Some(_) => StateCompatibility::Fits,
            },
            reason: None,
            refused: None,
            keys: None,
        });
    }
    for state in declared {
        if rows.iter().all(|row| row.state != state.name) {
            rows.push(StateRow {
                state: state.name.clone(),
                kind: kind(state.kind).to_owned(),
                saved: Vec::new(),
                declared: Some(state.version),
                fate: StateCompatibility::New,
                reason: None,
                refused: None,
                keys: None,
            });
        }
    }
    for row in rows
        .iter_mut()
        .filter(|row| row.fate == StateCompatibility::Fits)
    {
        ask_to_migrate(operator, plugin, row)?;
    }
    rows.sort_by(|one, other| one.state.cmp(&other.state));
    Ok(rows)
}

/// Asks the plugin whether it migrates values of older versions.
fn ask_to_migrate(operator: &str, plugin: &Plugin, row: &mut StateRow) -> Result<(), SwapRefusal> {
    let declared = plugin.description().states.iter().zip(0..);
    let found = declared
        .clone()
        .find(|(state, _)| state.name == row.state)
        .map(|(state, index)| (state.version, index));
    let Some((version, index)) = found else {
        return Ok(());
    };
    for &saved in row.saved.iter().filter(|saved| **saved != version) {
        let mut instance = plugin.start(operator)?;
        row.fate = StateCompatibility::Migrates;
        if let Err(error) = instance.migrate(index, saved, &Column::new()) {
            if error.is_interruption() {
                return Err(error.into());
            }
            row.fate = StateCompatibility::NotMigrated;
            row.reason = Some(error.to_string());
            row.refused = Some(saved);
            break;
        }
    }
    Ok(())
}

/// Refuses a swap that would lose state.
///
/// # Errors
/// When states do not fit: all of them.
pub fn refuse_states(
    operator: &str,
    rows: &[StateRow],
    allow_dropped: bool,
) -> Result<(), SwapRefusal> {
    let is_lost = |row: &&StateRow| match row.fate {
        StateCompatibility::Dropped => !allow_dropped,
        _ => loss(row).is_some(),
    };
    let lost: Vec<_> = rows.iter().filter(is_lost).cloned().collect();
    match lost.is_empty() {
        true => Ok(()),
        false => Err(SwapRefusal::States {
            operator: operator.to_owned(),
            lost,
        }),
    }
}

/// For each state that a swap would lose: the reason, for people.
pub(super) fn losses(lost: &[StateRow]) -> String {
    let each: Vec<_> = lost.iter().filter_map(loss).collect();
    each.join("; ")
}

/// The reason why a swap would lose a state, and what to do; `None` if the plugin keeps all of it.
fn loss(row: &StateRow) -> Option<String> {
    let StateRow { state, .. } = row;
    match row.fate {
        StateCompatibility::Fits | StateCompatibility::Migrates | StateCompatibility::New => None,
        StateCompatibility::Dropped => Some(format!(
            "it does not declare the saved state `{state}`; `--allow-dropped-state` leaves that state behind"
        )),
        StateCompatibility::OtherKind => Some(format!(
            "state `{state}` is saved as a {}, but it declares a different kind; give the new one another name",
            row.kind
        )),
        StateCompatibility::NotMigrated => Some(format!(
            "state `{state}` is saved in version {}, and the plugin, which has version {}, does not migrate it: {}{}",
            row.refused
                .or(row.saved.first().copied())
                .unwrap_or_default(),
            row.declared.unwrap_or_default(),
            row.reason.as_deref().unwrap_or("it does not say why"),
            held_back(row),
        )),
    }
}

/// What holds a swap back that is possible later, and what to do.
fn held_back(row: &StateRow) -> String {
    let Some(version) = row.held_back_by() else {
        return String::new();
    };
    let keys = match row.keys {
        None => "some keys are".to_owned(),
        Some(0) => "no key is, but checkpoints are".to_owned(),
        Some(1) => "1 key is".to_owned(),
        Some(keys) => format!("{keys} keys are"),
    };
    let them = if row.keys == Some(1) { "it" } else { "them" };
    format!(
        "; {keys} still of version {version}: the job migrates {them} while it runs, and `floodmark state migrate` does it now; swap again after that, and if some cannot be migrated, first swap to a plugin that migrates them"
    )
}

fn kind(kind: StateKind) -> &'static str {
    match kind {
        StateKind::Value => "value",
        StateKind::List => "list",
        StateKind::Map => "map",
    }
}
