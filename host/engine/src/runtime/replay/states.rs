//! Compares the content of a key in an operator's states before and after a record.
//!
//! Only the end of a long list is read, and only the beginning of a large map. So the cost per record does not grow
//! with the state of its key.

use crate::guest::{PageLimits, SubKeyRange};
use crate::runtime::collections::{CollectionPlace, KeyedCollections};
use crate::runtime::migration::migrated;
use crate::runtime::saved::Saved;
use crate::runtime::task::{OperatorTask, TaskError};
use floodmark_state::stream::{Column, hash_key};
use floodmark_state::{Keys, Lookup, StateKind};

/// Items of a list, and entries of a map, that are read.
pub const ITEMS_MAX: usize = 1000;
const BYTES_MAX: usize = 4 << 20;

/// A change of one state of the record's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The position of the state in the plugin's description.
    pub state: u16,
    /// The content before, up to [`ITEMS_MAX`]; `None` if there was none.
    pub before: Option<Saved>,
    /// The content afterwards.
    pub after: Option<Saved>,
}

/// The part of a key's state that was read.
#[derive(Default)]
pub(super) struct SeenState {
    saved: Option<Saved>,
    /// Whether the map has more entries after these.
    is_cut: bool,
}

impl From<Option<Saved>> for SeenState {
    fn from(saved: Option<Saved>) -> Self {
        let is_cut = false;
        Self { saved, is_cut }
    }
}

/// The content of a key in each state.
pub(super) fn of_key(
    task: &mut OperatorTask,
    key: &[u8],
    wall_ms: u64,
) -> Result<Vec<SeenState>, TaskError> {
    let states = task.states().to_vec();
    let mut found = Vec::with_capacity(states.len());
    for (state, index) in states.iter().zip(0..) {
        let place = CollectionPlace {
            state: state.id,
            key,
            hash: hash_key(key),
            now_ms: wall_ms,
        };
        found.push(match state.kind {
            StateKind::Value => {
                let keys: Column = [key].into_iter().collect();
                let hashes = [place.hash];
                let keys = Keys {
                    keys: &keys,
                    hashes: &hashes,
                };
                let mut lookup = Lookup::default();
                let store = task.store_mut();
                store.read(state.id, keys, wall_ms, &mut lookup)?;
                let current = migrated(task.instance_mut(), index, state, &lookup)?;
                let values = current.as_ref().unwrap_or(lookup.values());
                values
                    .get(0)
                    .map(|value| Saved::Value(value.to_vec()))
                    .into()
            }
            StateKind::List => list(task, place)?.into(),
            StateKind::Map => map(task, place)?,
        });
    }
    Ok(found)
}

fn list(task: &mut OperatorTask, place: CollectionPlace<'_>) -> Result<Option<Saved>, TaskError> {
    let trees = task.trees_mut();
    let len = trees.list_len(place)?;
    let start = len.saturating_sub(ITEMS_MAX as u64);
    let page = trees.list_read(place, start, PageLimits::new(ITEMS_MAX, BYTES_MAX))?;
    let items: Vec<_> = page.values.iter().map(<[u8]>::to_vec).collect();
    Ok((!items.is_empty()).then_some(Saved::List(items)))
}

fn map(task: &mut OperatorTask, place: CollectionPlace<'_>) -> Result<SeenState, TaskError> {
    let all = SubKeyRange {
        start: &[],
        end: None,
        descending: false,
    };
    let trees = task.trees_mut();
    let page = trees.map_scan(place, all, PageLimits::new(ITEMS_MAX, BYTES_MAX))?;
    let entries = page.sub_keys.iter().zip(page.values.iter());
    let entries: Vec<_> = entries
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    Ok(SeenState {
        saved: (!entries.is_empty()).then_some(Saved::Map(entries)),
        is_cut: page.more,
    })
}

/// The states that differ.
pub(super) fn changes(before: Vec<SeenState>, after: Vec<SeenState>) -> Vec<Change> {
    let mut changes = Vec::new();
    for ((mut before, mut after), state) in before.into_iter().zip(after).zip(0..) {
        // An entry that moved beyond the end of a page is neither new nor gone.
        let ends = [end(&before), end(&after)];
        if let Some(end) = ends.into_iter().flatten().min() {
            keep_to(&mut before, &end);
            keep_to(&mut after, &end);
        }
        if before.saved != after.saved {
            changes.push(Change {
                state,
                before: before.saved,
                after: after.saved,
            });
        }
    }
    changes
}

/// The last key that was read of a map with more entries.
fn end(seen: &SeenState) -> Option<Vec<u8>> {
    match &seen.saved {
        Some(Saved::Map(entries)) if seen.is_cut => Some(entries.last()?.0.clone()),
        _ => None,
    }
}

fn keep_to(seen: &mut SeenState, end: &[u8]) {
    if let Some(Saved::Map(entries)) = &mut seen.saved {
        entries.retain(|(key, _)| key.as_slice() <= end);
    }
}

#[cfg(test)]
mod tests {
    //! Catches an entry of a large map that is reported as changed only because the page of entries has moved.

    use super::*;

    fn seen(keys: &[&str], is_cut: bool) -> SeenState {
        let entry = |key: &&str| (key.as_bytes().to_vec(), b"1".to_vec());
        SeenState {
            saved: Some(Saved::Map(keys.iter().map(entry).collect())),
            is_cut,
        }
    }

    #[test]
    fn pages_are_compared_as_far_as_both_go() {
        let changed = |before, after| {
            let changes = changes(vec![before], vec![after]);
            changes
                .into_iter()
                .map(|change| change.after)
                .collect::<Vec<_>>()
        };
        let expected = seen(&["a", "b"], true).saved;
        assert_eq!(
            changed(seen(&["b", "c"], true), seen(&["a", "b"], true)),
            [expected]
        );
        assert_eq!(
            changed(seen(&["b", "c"], true), seen(&["b", "c", "d"], true)),
            []
        );
        let expected = seen(&["b", "c", "d"], false).saved;
        assert_eq!(
            changed(seen(&["b", "c"], false), seen(&["b", "c", "d"], false)),
            [expected]
        );
        assert_eq!(changed(seen(&["b"], false), SeenState::default()), [None]);
    }
}
