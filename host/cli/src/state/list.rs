//! `floodmark state list`: prints the states of each operator and their sizes.

use clap::Args;
use serde_json::{Value, json};

use super::{StateArguments, unreadable};
use crate::CommandError;
use crate::checkpoint::{describe_state, state_facts};
use crate::place::scratch_file;
use crate::print::{print, print_json};
use crate::table::table;
use floodmark_engine::runtime::saved::SavedState;
use floodmark_engine::session::number::{bytes, count};

/// Lists the states of each operator, and their sizes
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    source: StateArguments,
    /// Also counts the keys of each state, which reads all of it
    #[arg(long)]
    count: bool,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn list(arguments: &List) -> Result<(), CommandError> {
    let (opened, checkpoint) = arguments.source.open()?;
    let mut rows = vec![
        ["operator", "state", "keys", "operator's size", "what"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut found = Vec::new();
    for operator in &checkpoint.operators {
        let mut saved = match arguments.count && !operator.states.is_empty() {
            true => Some(
                SavedState::open(&opened.reader, &checkpoint, operator, scratch_file()?)
                    .map_err(unreadable)?,
            ),
            false => None,
        };
        for state in &operator.states {
            let (mut keys, mut expired) = (None, None);
            if let Some(saved) = &mut saved {
                let live = saved.live_keys(state.id).map_err(unreadable)?.len() as u64;
                keys = Some(live);
                if arguments.source.with_expired {
                    let all = saved.keys(state.id).map_err(unreadable)?.len() as u64;
                    expired = Some(all.saturating_sub(live));
                }
            }
            let mut facts = state_facts(state);
            facts["operator"] = json!(operator.name);
            facts["operator-bytes"] = json!(operator.state_bytes());
            facts["keys"] = json!(keys);
            if let Some(expired) = expired {
                facts["expired-keys"] = json!(expired);
            }
            let counted = match (keys, expired) {
                (None, _) => "-".to_owned(),
                (Some(keys), Some(expired)) if expired > 0 => {
                    format!("{} and {} expired", count(keys), count(expired))
                }
                (Some(keys), _) => count(keys),
            };
            found.push(facts);
            rows.push(vec![
                operator.name.clone(),
                state.name.clone(),
                counted,
                bytes(operator.state_bytes()),
                describe_state(state),
            ]);
        }
    }
    if arguments.json {
        return print_json(
            &json!({ "checkpoint": checkpoint.id.0, "states": Value::Array(found) }),
        );
    }
    if rows.len() == 1 {
        return print(&format!("checkpoint {} holds no state\n", checkpoint.id));
    }
    print(&table(&rows))
}
