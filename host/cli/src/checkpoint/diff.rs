//! `floodmark checkpoint diff`: shows the differences between two checkpoints.

use std::cmp::Ordering;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::{chunks, describe_split};
use crate::CommandError;
use crate::escape::one_line;
use crate::failure::EXIT_DATA;
use crate::place::{PlaceOrSavepoint, scratch_file};
use crate::print::{print, print_json};
use crate::state::row::readable;
use floodmark_checkpoint::{Checkpoint, CheckpointReader, OperatorSnapshot};
use floodmark_engine::runtime::saved::SavedState;
use floodmark_engine::session::number::{bytes, count, date, span, things};
use floodmark_state::{StateSchema, TreeError};

/// Shows the differences between two checkpoints: records, positions, plugins, and the keys of each state
#[derive(Debug, Args)]
pub struct Diff {
    /// The number of the earlier checkpoint
    #[arg(value_name = "A", value_parser = crate::typed::checkpoint_id)]
    a: u64,
    /// The number of the later checkpoint
    #[arg(value_name = "B", value_parser = crate::typed::checkpoint_id)]
    b: u64,
    /// Lists each key that is new, gone or changed
    #[arg(long)]
    keys: bool,
    #[command(flatten)]
    place: PlaceOrSavepoint,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Counts of new, gone, changed and unchanged keys of a state.
#[derive(Debug, Default)]
struct Changes {
    new: u64,
    gone: u64,
    changed: u64,
    same: u64,
    /// With `--keys`: each difference (`+`, `-` or `~`) and its key.
    named: Vec<(char, Vec<u8>)>,
}

impl Changes {
    fn note(&mut self, what: char, key: &[u8], named: bool) {
        match what {
            '+' => self.new += 1,
            '-' => self.gone += 1,
            _ => self.changed += 1,
        }
        if named {
            self.named.push((what, key.to_vec()));
        }
    }
}

pub(super) fn diff(arguments: &Diff) -> Result<(), CommandError> {
    let opened = arguments.place.open()?;
    let a = opened.checkpoint(Some(arguments.a))?;
    let b = opened.checkpoint(Some(arguments.b))?;
    let mut operators = Vec::new();
    let names = a.operators.iter().chain(&b.operators);
    let mut names: Vec<_> = names.map(|operator| operator.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let side = |checkpoint: &Checkpoint| find(checkpoint, name).cloned();
        let (before, after) = (side(&a), side(&b));
        let states = states(
            &opened.reader,
            (&a, before.as_ref()),
            (&b, after.as_ref()),
            arguments.keys,
        )?;
        operators.push((name, before, after, states));
    }
    if arguments.json {
        let operators = operators.iter().map(|(name, before, after, states)| {
            json!({
                "name": name,
                "plugin-before": before.as_ref().map(|operator| operator.plugin.to_string()),
                "plugin-after": after.as_ref().map(|operator| operator.plugin.to_string()),
                "states": states.iter().map(|(name, changes)| facts(name, changes)).collect::<Value>(),
            })
        });
        return print_json(&json!({
            "a": a.id.0,
            "b": b.id.0,
            "records-in": signed(a.records_in, b.records_in),
            "records-out": signed(a.records_out, b.records_out),
            "operators": operators.collect::<Value>(),
        }));
    }
    let mut text = heading(&a, &b);
    text += &sources(&a, &b);
    for (name, before, after, states) in &operators {
        text += &operator_page(name, before.as_ref(), after.as_ref(), states);
    }
    print(&text)
}

fn find<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<&'a OperatorSnapshot> {
    let mut operators = checkpoint.operators.iter();
    operators.find(|operator| operator.name == name)
}

fn signed(before: u64, after: u64) -> i128 {
    i128::from(after) - i128::from(before)
}

fn difference(before: u64, after: u64) -> String {
    match after.checked_sub(before) {
        Some(more) => format!("+{}", count(more)),
        None => format!("-{}", count(before - after)),
    }
}

fn heading(a: &Checkpoint, b: &Checkpoint) -> String {
    let apart = std::time::Duration::from_millis(a.created_ms.abs_diff(b.created_ms));
    format!(
        "checkpoint {} ({}) to {} ({}), {} apart\n  records      {} in, {} out\n",
        a.id,
        date(a.created_ms),
        b.id,
        date(b.created_ms),
        span(apart),
        difference(a.records_in, b.records_in),
        difference(a.records_out, b.records_out),
    )
}

fn sources(a: &Checkpoint, b: &Checkpoint) -> String {
    let mut text = String::new();
    for source in &b.sources {
        let describe = |checkpoint: &Checkpoint| -> Vec<String> {
            let source = checkpoint
                .sources
                .iter()
                .find(|found| found.name == source.name);
            let splits = source.map_or(&[][..], |source| &source.splits);
            splits
                .iter()
                .map(|split| {
                    describe_split(checkpoint, source.map_or("", |source| &source.name), split)
                })
                .collect()
        };
        let (before, after) = (describe(a), describe(b));
        if before == after {
            continue;
        }
        text += &format!("source `{}`\n", one_line(&source.name));
        for line in before.iter().filter(|line| !after.contains(line)) {
            text += &format!("  - {}\n", one_line(line));
        }
        for line in after.iter().filter(|line| !before.contains(line)) {
            text += &format!("  + {}\n", one_line(line));
        }
    }
    text
}

type OperatorChanges = Vec<(String, Changes)>;

fn states(
    reader: &Arc<dyn CheckpointReader>,
    (a, before): (&Checkpoint, Option<&OperatorSnapshot>),
    (b, after): (&Checkpoint, Option<&OperatorSnapshot>),
    named: bool,
) -> Result<OperatorChanges, CommandError> {
    let damaged = |error: &dyn std::fmt::Display| CommandError::new(EXIT_DATA, error.to_string());
    let open = |checkpoint, operator: Option<&OperatorSnapshot>| match operator {
        None => Ok(None),
        Some(operator) => SavedState::open(reader, checkpoint, operator, scratch_file()?)
            .map(Some)
            .map_err(|error| damaged(&error)),
    };
    let declared = |operator: Option<&OperatorSnapshot>| {
        operator.map_or(Vec::new(), |operator| operator.states.clone())
    };
    let (old, new) = (declared(before), declared(after));
    let mut names: Vec<_> = old
        .iter()
        .chain(&new)
        .map(|state| state.name.clone())
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut sides = (
        Side::of(open(a, before)?, old),
        Side::of(open(b, after)?, new),
    );
    let mut found = Vec::new();
    for name in names {
        let changes =
            compare(&mut sides.0, &mut sides.1, &name, named).map_err(|error| damaged(&error))?;
        found.push((name, changes));
    }
    Ok(found)
}

/// The state of an operator in one of the checkpoints.
struct Side {
    saved: Option<SavedState>,
    schemas: Vec<StateSchema>,
}

impl Side {
    fn of(saved: Option<SavedState>, schemas: Vec<StateSchema>) -> Self {
        Self { saved, schemas }
    }

    /// All keys of a state that have not expired, with the version that they are stored in.
    fn keys(&mut self, name: &str) -> Result<Vec<(Vec<u8>, StateSchema)>, TreeError> {
        let mut found = Vec::new();
        let Some(saved) = &mut self.saved else {
            return Ok(found);
        };
        for schema in self.schemas.iter().filter(|schema| schema.name == name) {
            let keys = saved.live_keys(schema.id)?;
            found.extend(keys.into_iter().map(|key| (key, schema.clone())));
        }
        found.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(found)
    }
}

fn compare(a: &mut Side, b: &mut Side, name: &str, named: bool) -> Result<Changes, TreeError> {
    let (before, after) = (a.keys(name)?, b.keys(name)?);
    let mut changes = Changes::default();
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(changes),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.0.cmp(&new.0),
        };
        match order {
            Ordering::Less => {
                let (key, _) = old.next().expect("it was peeked at");
                changes.note('-', key, named);
            }
            Ordering::Greater => {
                let (key, _) = new.next().expect("it was peeked at");
                changes.note('+', key, named);
            }
            Ordering::Equal => {
                let (key, was) = old.next().expect("it was peeked at");
                let (_, is) = new.next().expect("it was peeked at");
                let value = |side: &mut Side, schema: &StateSchema| match &mut side.saved {
                    Some(saved) => saved.read(schema.id, key),
                    None => Ok(None),
                };
                if was.version != is.version || value(a, was)? != value(b, is)? {
                    changes.note('~', key, named);
                } else {
                    changes.same += 1;
                }
            }
        }
    }
}

fn facts(name: &str, changes: &Changes) -> Value {
    let keys: Vec<_> = changes
        .named
        .iter()
        .map(|(what, key)| json!([what.to_string(), readable(key)]))
        .collect();
    json!({
        "name": name,
        "new": changes.new,
        "gone": changes.gone,
        "changed": changes.changed,
        "same": changes.same,
        "keys": keys,
    })
}

fn operator_page(
    name: &str,
    before: Option<&OperatorSnapshot>,
    after: Option<&OperatorSnapshot>,
    states: &OperatorChanges,
) -> String {
    let mut text = format!("operator `{}`", one_line(name));
    text += match (before, after) {
        (None, _) => ": new\n",
        (_, None) => ": gone\n",
        (Some(before), Some(after)) if before.plugin != after.plugin => ": different plugin\n",
        _ => "\n",
    };
    for (state, changes) in states {
        text += &format!(
            "  state   `{}`: {} new, {} gone, {} changed, {} unchanged\n",
            one_line(state),
            count(changes.new),
            count(changes.gone),
            count(changes.changed),
            count(changes.same)
        );
        for (what, key) in &changes.named {
            text += &format!("    {what} {}\n", readable(key));
        }
    }
    if let (Some(before), Some(after)) = (before, after)
        && !states.is_empty()
    {
        let (old, new) = (chunks(before), chunks(after));
        let fresh: u64 = new.difference(&old).map(|(_, len)| u64::from(*len)).sum();
        text += &format!(
            "  size    {} before, {} after; {} shared, {} new\n",
            bytes(before.state_bytes()),
            bytes(after.state_bytes()),
            things(old.intersection(&new).count() as u64, "chunk"),
            bytes(fresh)
        );
    }
    text
}
