//! Runs two plugins on the same records with the same state, and compares their output: two replays side by side.
//!
//! Each operator is tested alone, with the running plugins before it, so that both get the same records.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::desk::SwapToken;
use super::{SwapRefusal, Wish};
use crate::runtime::plan::{Operator, Plan, Role};
use crate::runtime::replay::{Replay, ReplayOf, ReplayOutcome, ReplayedRecord};
use crate::runtime::swap::replaced;
use floodmark_checkpoint::{Checkpoint, CheckpointReader};

/// Largest number of differences that are reported.
const TOLD_MAX: usize = 20;
/// Characters of a value in a reported difference.
const SHOWN_CHARS_MAX: usize = 60;
/// Largest number of checkpoints to try, if too few records follow the newer ones.
const CHECKPOINTS_MAX: usize = 10;

/// The result of a shadow run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shadow {
    /// The name of the operator.
    pub operator: String,
    /// The checkpoint from which both plugins started.
    pub checkpoint: u64,
    /// Number of records that both plugins processed.
    pub records: u64,
    /// Number of records with different results.
    pub different: u64,
    /// The first differences, one line each.
    pub differences: Vec<String>,
}

pub(super) fn shadow(
    (token, wish): (&SwapToken, &Wish),
    plan: &Plan,
    reader: &Arc<dyn CheckpointReader>,
    newest: &Checkpoint,
    (name, operator): (&str, &Operator),
) -> Result<Shadow, SwapRefusal> {
    let mut new = replaced(plan, &[(name.to_owned(), operator.clone())])?;
    new.allow_dropped_state = wish.allow_dropped_state;
    let extent = (token, wish.shadow);
    let mut best = run(plan, &new, reader, newest, name, extent)?;
    let is_same = |checkpoint: &Checkpoint| is_of(plan, checkpoint, name);
    let older = reader.list().unwrap_or_default().into_iter();
    let older = older.filter(|(id, _)| *id < newest.id);
    for (_, found) in older.take(CHECKPOINTS_MAX) {
        if best.records >= wish.shadow {
            break;
        }
        // Earlier checkpoints may be of another plugin, with its own state.
        let Some(checkpoint) = found.ok().filter(is_same) else {
            break;
        };
        match run(plan, &new, reader, &checkpoint, name, extent) {
            Ok(more) if more.records > best.records => best = more,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(best)
}

/// Whether a checkpoint has the plugin that runs now.
fn is_of(plan: &Plan, checkpoint: &Checkpoint, name: &str) -> bool {
    let node = plan.nodes.iter().find(|node| node.name == name);
    let mut saved = checkpoint.operators.iter();
    let saved = saved.find(|snapshot| snapshot.name == name);
    match (node.map(|node| &node.role), saved) {
        (Some(Role::Operator(operator)), Some(saved)) => {
            let choice = operator.choice();
            choice.plugin == saved.plugin && choice.config == saved.config
        }
        _ => false,
    }
}

fn run(
    old: &Plan,
    new: &Plan,
    reader: &Arc<dyn CheckpointReader>,
    checkpoint: &Checkpoint,
    name: &str,
    (token, records): (&SwapToken, u64),
) -> Result<Shadow, SwapRefusal> {
    let replay = |plan| {
        Replay::new(ReplayOf {
            plan,
            operator: name,
            checkpoint: Some(checkpoint),
            reader: Arc::clone(reader),
            with_states: false,
        })
    };
    let (mut old, mut new) = (replay(old)?, replay(new)?);
    let mut shadow = Shadow {
        operator: name.to_owned(),
        checkpoint: checkpoint.id.0,
        ..Shadow::default()
    };
    while shadow.records < records {
        token.end.check()?;
        let (Some(before), Some(after)) = (old.advance()?, new.advance()?) else {
            break;
        };
        shadow.records += 1;
        if let Some(difference) = difference(&before.outcome, &after.outcome) {
            shadow.different += 1;
            if shadow.differences.len() < TOLD_MAX {
                let ReplayedRecord { key, .. } = &before;
                shadow.differences.push(format!(
                    "record {} (key {}): {difference}",
                    shadow.records,
                    shown(key)
                ));
            }
        }
    }
    Ok(shadow)
}

/// The difference of two outcomes, if any; logs are not compared.
fn difference(old: &ReplayOutcome, new: &ReplayOutcome) -> Option<String> {
    match (&old.failure, &new.failure) {
        (None, Some(reason)) => return Some(format!("new failed: {reason}")),
        (Some(reason), None) => return Some(format!("old failed, new did not: {reason}")),
        _ => {}
    }
    if old.emitted == new.emitted {
        return None;
    }
    let text = |outcome: &ReplayOutcome| -> String {
        let emitted: Vec<_> = outcome
            .emitted
            .iter()
            .take(3)
            .map(|record| shown(&record.value))
            .collect();
        match outcome.emitted.len() {
            0 => "nothing".to_owned(),
            count @ 1..=3 => emitted[..count].join(", "),
            count => format!("{} and {} more", emitted.join(", "), count - 3),
        }
    };
    let (before, after) = (text(old), text(new));
    Some(match before == after {
        true => format!("both emitted {before}, with another key, time or port"),
        false => format!("old emitted {before}, new emitted {after}"),
    })
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut chars = text.chars();
    let begin: String = chars
        .by_ref()
        .take(SHOWN_CHARS_MAX)
        .flat_map(char::escape_debug)
        .collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    format!("\"{begin}{rest}\"")
}

#[cfg(test)]
mod tests {
    //! Catches a difference that is not reported, and a reported one that is none.

    use super::*;
    use crate::runtime::replay::Emitted;

    fn emitted(values: &[&str]) -> ReplayOutcome {
        let emitted = values.iter().map(|value| Emitted {
            port: "out".to_owned(),
            key: b"a".to_vec(),
            value: value.as_bytes().to_vec(),
            timestamp: 0,
        });
        ReplayOutcome {
            emitted: emitted.collect(),
            ..ReplayOutcome::default()
        }
    }

    #[test]
    fn differences_are_told() {
        assert_eq!(difference(&emitted(&["1"]), &emitted(&["1"])), None);
        let told = difference(&emitted(&["3"]), &emitted(&["4"]));
        assert_eq!(
            told.as_deref(),
            Some("old emitted \"3\", new emitted \"4\"")
        );
        let told = difference(&emitted(&[]), &emitted(&["1", "2", "3", "4", "5"]));
        assert_eq!(
            told.as_deref(),
            Some("old emitted nothing, new emitted \"1\", \"2\", \"3\" and 2 more")
        );
        let mut other_key = emitted(&["3"]);
        other_key.emitted[0].key = b"b".to_vec();
        let told = difference(&emitted(&["3"]), &other_key);
        assert_eq!(
            told.as_deref(),
            Some("both emitted \"3\", with another key, time or port")
        );
        let failed = ReplayOutcome {
            failure: Some("it trapped".to_owned()),
            ..ReplayOutcome::default()
        };
        let told = difference(&emitted(&["3"]), &failed);
        assert_eq!(told.as_deref(), Some("new failed: it trapped"));
    }

    #[test]
    fn values_are_shown_in_part() {
        assert_eq!(shown(b"a\"\n"), "\"a\\\"\\n\"");
        assert_eq!(shown(&[b'x'; 100]).chars().count(), SHOWN_CHARS_MAX + 3);
    }
}
