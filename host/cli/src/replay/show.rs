//! Prints replayed records and their effects: for people, or one line of JSON each.
//!
//! ```text
//! {"record":1,"input":"words","key":"rain","value":"","timestamp":null,"position":"…","output":[{"port":"counts","key":"rain","value":"rain,3",
//!  "timestamp":null}],"states":[{"state":"count","before":2,"after":3}],"log":[],"failure":null}
//! {"summary":{"records":1,"output":1,"failed":0}}
//! ```
//!
//! Keys and values are text if they are UTF-8, and `{"hex": …}` otherwise, as in rows of `floodmark state`. A list
//! shows its last items (`items`), a map what was set and removed (`set`, `removed`), so that a line stays short.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::CommandError;
use crate::escape::one_line;
use crate::print::LinePrinter;
use crate::state::decoder::Decoder;
use crate::state::row::{Bytes, Shown, json_of};
use crate::terminal::warn;
use floodmark_checkpoint::Checkpoint;
use floodmark_engine::guest::{LogLevel, Plugin};
use floodmark_engine::runtime::replay::{Change, ReplayedRecord};
use floodmark_engine::runtime::saved::{MapEntry, Saved};
use floodmark_engine::session::number::{date, things};
use floodmark_state::stream::{NO_TIMESTAMP, Timestamp};
use floodmark_state::{StateId, StateKind, StateSchema};

/// Limit on the items of a list, and entries of a map, that are shown.
const ITEMS_MAX: usize = 20;
/// Characters of a key or value that are shown to people.
const CHARS_MAX: usize = 200;

/// Prints records one after the other.
pub(super) struct Printer {
    lines: LinePrinter,
    json: bool,
    operator: String,
    inputs: Vec<String>,
    plugin: String,
    states: Vec<StateSchema>,
    decoder: Decoder,
    summary: Summary,
}

#[derive(Default, Clone, Copy, Serialize)]
struct Summary {
    records: u64,
    output: u64,
    failed: u64,
}

#[derive(Serialize)]
struct End {
    summary: Summary,
}

#[derive(Serialize)]
struct ShownRecord<'a> {
    record: u64,
    input: &'a str,
    key: Bytes,
    value: Bytes,
    timestamp: Option<Timestamp>,
    position: &'a str,
    output: Vec<ShownOutput<'a>>,
    states: Vec<ShownState>,
    log: Vec<ShownLogLine<'a>>,
    failure: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownOutput<'a> {
    port: &'a str,
    key: Bytes,
    value: Bytes,
    timestamp: Option<Timestamp>,
}

#[derive(Serialize)]
struct ShownState {
    state: String,
    #[serde(flatten)]
    became: Became,
}

/// The change of a key's state.
#[derive(Serialize)]
#[serde(untagged)]
enum Became {
    Value {
        before: Option<Box<RawValue>>,
        after: Option<Box<RawValue>>,
    },
    List {
        items: Vec<Box<RawValue>>,
    },
    Map {
        set: Vec<(Box<RawValue>, Box<RawValue>)>,
        removed: Vec<Box<RawValue>>,
    },
}

#[derive(Serialize)]
struct ShownLogLine<'a> {
    level: &'static str,
    message: &'a str,
}

impl Printer {
    pub(super) fn new(operator: &str, plugin: &Plugin, json: bool) -> Result<Self, CommandError> {
        let description = plugin.description();
        let states = description.states.iter().map(|state| StateSchema {
            id: StateId(0),
            name: state.name.clone(),
            kind: state.kind,
            version: state.version,
            ttl_ms: state.ttl_ms,
        });
        Ok(Self {
            lines: LinePrinter::new(),
            json,
            operator: operator.to_owned(),
            inputs: description.inputs.clone(),
            plugin: format!(
                "plugin {} {} (sha256 {})",
                description.name,
                description.version,
                plugin.digest()
            ),
            states: states.collect(),
            decoder: Decoder::with(plugin.clone(), operator)?,
            summary: Summary::default(),
        })
    }

    /// Prints a header; returns whether the output is still open.
    pub(super) fn begin(&mut self, checkpoint: &Checkpoint) -> Result<bool, CommandError> {
        if self.json {
            return Ok(true);
        }
        self.lines.text(&format!(
            "operator `{}` of job `{}` from checkpoint {}, taken at {}, with {}",
            self.operator,
            one_line(&checkpoint.job),
            checkpoint.id,
            date(checkpoint.created_ms),
            self.plugin
        ))
    }

    /// Prints a record; returns whether the output is still open.
    pub(super) fn record(&mut self, replayed: &ReplayedRecord) -> Result<bool, CommandError> {
        self.summary.records += 1;
        self.summary.output += replayed.outcome.emitted.len() as u64;
        self.summary.failed += u64::from(replayed.outcome.failure.is_some());
        let changes = &replayed.outcome.changes;
        let states: Vec<_> = changes
            .iter()
            .filter_map(|change| self.state(change))
            .collect();
        let input = self.inputs.get(usize::from(replayed.input.0));
        let line = line(
            self.summary.records,
            input.map_or("", String::as_str),
            replayed,
            states,
        );
        match self.json {
            true => {
                let json = serde_json::to_string(&line).expect("a line is JSON");
                self.lines.json(&json)
            }
            false => {
                let page = page(&line, replayed, self.inputs.len() > 1);
                self.lines.text(&page)
            }
        }
    }

    /// The change of one state.
    fn state(&mut self, change: &Change) -> Option<ShownState> {
        let schema = self.states.get(usize::from(change.state))?.clone();
        let mut show = |saved: Option<Saved>| {
            let shown = self.decoder.show_all(&schema, &[saved?], &mut warn);
            shown.into_iter().next()
        };
        let became = match schema.kind {
            StateKind::Value => Became::Value {
                before: value(show(change.before.clone())),
                after: value(show(change.after.clone())),
            },
            StateKind::List => Became::List {
                items: match show(last(change.after.as_ref())) {
                    Some(Shown::List(items)) => items.into_iter().map(raw).collect(),
                    _ => Vec::new(),
                },
            },
            StateKind::Map => {
                let set = entries_beside(change.after.as_ref(), change.before.as_ref(), true);
                let gone = entries_beside(change.before.as_ref(), change.after.as_ref(), false);
                Became::Map {
                    set: map(show(set)),
                    removed: map(show(gone)).into_iter().map(|(key, _)| key).collect(),
                }
            }
        };
        Some(ShownState {
            state: schema.name,
            became,
        })
    }

    /// Prints the totals.
    pub(super) fn end(mut self, asked: u64) -> Result<(), CommandError> {
        let summary = self.summary;
        let text = match self.json {
            true => serde_json::to_string(&End { summary }).expect("a summary is JSON"),
            false => {
                let end = match summary.records < asked {
                    true => "; the input ends there",
                    false => "",
                };
                format!(
                    "{} in, {} out, {} failed{end}",
                    things(summary.records, "record"),
                    things(summary.output, "record"),
                    summary.failed
                )
            }
        };
        match self.lines.text(&text)? {
            true => self.lines.finish(),
            false => Ok(()),
        }
    }
}

fn line<'a>(
    record: u64,
    input: &'a str,
    replayed: &'a ReplayedRecord,
    states: Vec<ShownState>,
) -> ShownRecord<'a> {
    let outcome = &replayed.outcome;
    let output = outcome.emitted.iter().map(|emitted| ShownOutput {
        port: &emitted.port,
        key: Bytes::of(&emitted.key),
        value: Bytes::of(&emitted.value),
        timestamp: time(emitted.timestamp),
    });
    let log = outcome.log.iter().map(|line| ShownLogLine {
        level: level(line.level),
        message: &line.message,
    });
    ShownRecord {
        record,
        input,
        key: Bytes::of(&replayed.key),
        value: Bytes::of(&replayed.value),
        timestamp: time(replayed.timestamp),
        position: &replayed.position,
        output: output.collect(),
        states,
        log: log.collect(),
        failure: outcome.failure.as_deref(),
    }
}

/// A record as text for people.
fn page(line: &ShownRecord<'_>, replayed: &ReplayedRecord, with_input: bool) -> String {
    let input = match with_input {
        true => format!(" {}", line.input),
        false => String::new(),
    };
    let pair =
        |key: &[u8], value: &[u8]| format!("{} {}", short(&json_of(key)), short(&json_of(value)));
    let mut text = format!(
        "#{}{input}  {}  ({})",
        line.record,
        pair(&replayed.key, &replayed.value),
        short(line.position)
    );
    for emitted in &replayed.outcome.emitted {
        let what = pair(&emitted.key, &emitted.value);
        text += &format!("\n    output `{}`: {what}", emitted.port);
    }
    for ShownState { state, became } in &line.states {
        text += &format!("\n    state `{state}`: {}", became.text());
    }
    for log in &line.log {
        text += &format!("\n    {}: {}", log.level, log.message);
    }
    if let Some(failure) = line.failure {
        text += &format!("\n    failed: {}", failure.replace('\n', "\n    "));
    }
    text
}

impl Became {
    fn text(&self) -> String {
        let nothing = "nothing".to_owned();
        match self {
            Self::Value { before, after } => {
                let text = |value: &Option<Box<RawValue>>| {
                    value
                        .as_ref()
                        .map_or("absent".to_owned(), |text| short(text.get()))
                };
                format!("{}, was {}", text(after), text(before))
            }
            Self::List { items } if items.is_empty() => nothing,
            Self::List { items } => {
                let items: Vec<_> = items.iter().map(|item| short(item.get())).collect();
                format!("ends with {}", items.join(", "))
            }
            Self::Map { set, removed } => {
                let set = set
                    .iter()
                    .map(|(key, value)| format!("{} = {}", short(key.get()), short(value.get())));
                let removed = removed
                    .iter()
                    .map(|key| format!("{} removed", short(key.get())));
                let all: Vec<_> = set.chain(removed).collect();
                all.join(", ")
            }
        }
    }
}

/// The last items of a list.
fn last(saved: Option<&Saved>) -> Option<Saved> {
    match saved? {
        Saved::List(items) => {
            let from = items.len().saturating_sub(ITEMS_MAX);
            Some(Saved::List(items[from..].to_vec()))
        }
        _ => None,
    }
}

/// Entries of a map that another map does not have: with the same value, or with any.
fn entries_beside(map: Option<&Saved>, other: Option<&Saved>, same_value: bool) -> Option<Saved> {
    fn entries(saved: Option<&Saved>) -> &[MapEntry] {
        match saved {
            Some(Saved::Map(entries)) => entries,
            _ => &[],
        }
    }
    let other = entries(other);
    let is_in_other = |entry: &MapEntry| {
        let found = other.binary_search_by(|(key, _)| key.cmp(&entry.0));
        found.is_ok_and(|at| !same_value || other[at].1 == entry.1)
    };
    let beside = entries(map).iter().filter(|entry| !is_in_other(entry));
    let beside: Vec<_> = beside.take(ITEMS_MAX).cloned().collect();
    (!beside.is_empty()).then_some(Saved::Map(beside))
}

fn value(shown: Option<Shown>) -> Option<Box<RawValue>> {
    match shown? {
        Shown::Value(text) => Some(raw(text)),
        _ => None,
    }
}

fn map(shown: Option<Shown>) -> Vec<(Box<RawValue>, Box<RawValue>)> {
    match shown {
        Some(Shown::Map(entries)) => entries
            .into_iter()
            .map(|(key, value)| (raw(key), raw(value)))
            .collect(),
        _ => Vec::new(),
    }
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).expect("what is shown was checked to be JSON")
}

fn time(timestamp: Timestamp) -> Option<Timestamp> {
    (timestamp != NO_TIMESTAMP).then_some(timestamp)
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warning",
        LogLevel::Error => "error",
    }
}

/// A text on one line, shortened for people.
fn short(text: &str) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text).into_owned(),
    }
}
