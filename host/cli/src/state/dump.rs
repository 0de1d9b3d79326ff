//! `floodmark state dump`: prints all keys of a state, in the order of their bytes.

use clap::{Args, ValueEnum};

use super::decoder::Decoder;
use super::row::{Shown, readable};
use super::{ContentAge, StateArguments, operator, schemas, unreadable};
use crate::CommandError;
use crate::place::scratch_file;
use crate::print::LinePrinter;
use crate::terminal::Terminal;
use crate::terminal::warn;
use floodmark_checkpoint::OperatorSnapshot;
use floodmark_engine::runtime::saved::SavedState;
use floodmark_engine::session::limits::Ticking;
use floodmark_state::StateSchema;

/// Keys whose values are decoded in one call of the plugin.
const KEYS_A_CALL: usize = 1000;

/// Prints all keys of a state with their values, one per line
#[derive(Debug, Args)]
pub struct Dump {
    /// Prints only states of this operator
    #[arg(value_name = "OPERATOR")]
    operator: Option<String>,
    /// Prints only this state
    #[arg(value_name = "STATE", requires = "operator")]
    state: Option<String>,
    /// The output format: rows that `load` reads, or one line for each value with the columns operator, state, key,
    /// sub-key and value
    #[arg(long, value_enum, default_value_t = DumpFormat::Jsonl)]
    format: DumpFormat,
    /// Same as `--format jsonl`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    source: StateArguments,
}

impl Dump {
    fn format(&self) -> DumpFormat {
        match self.json {
            true => DumpFormat::Jsonl,
            false => self.format,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DumpFormat {
    Jsonl,
    Csv,
}

pub(super) fn dump(arguments: &Dump) -> Result<(), CommandError> {
    let (opened, checkpoint) = arguments.source.open()?;
    let operators: Vec<_> = match &arguments.operator {
        Some(name) => vec![operator(&checkpoint, name)?],
        None => checkpoint.operators.iter().collect(),
    };
    let guests = Ticking::for_tools()?.keeping(opened.compiled.clone(), &Terminal::new().saying());
    let mut lines = LinePrinter::new();
    let head = match arguments.source.with_expired {
        true => "operator,state,key,sub-key,value,expired",
        false => "operator,state,key,sub-key,value",
    };
    let format = arguments.format();
    if format == DumpFormat::Csv && !lines.csv(head)? {
        return Ok(());
    }
    for operator in operators {
        let states: Vec<_> = match &arguments.state {
            Some(state) => schemas(operator, state)?,
            None => operator.states.iter().collect(),
        };
        if states.is_empty() {
            continue;
        }
        let mut dumping = Dumping {
            saved: SavedState::open(&opened.reader, &checkpoint, operator, scratch_file()?)
                .map_err(unreadable)?,
            operator,
            source: &arguments.source,
            format,
        };
        for state in states {
            // A plugin that fails at one state may decode the next one.
            let mut decoder = arguments.source.decoder(&guests.engine, &opened, operator);
            if !dumping.state(state, &mut decoder, &mut lines)? {
                return Ok(());
            }
        }
    }
    lines.finish()
}

struct Dumping<'a> {
    saved: SavedState,
    operator: &'a OperatorSnapshot,
    source: &'a StateArguments,
    format: DumpFormat,
}

impl Dumping<'_> {
    /// Prints a state; returns whether the output is still open.
    fn state(
        &mut self,
        state: &StateSchema,
        decoder: &mut Decoder,
        lines: &mut LinePrinter,
    ) -> Result<bool, CommandError> {
        let keys = self.saved.keys(state.id).map_err(unreadable)?;
        for keys in keys.chunks(KEYS_A_CALL) {
            let mut there = Vec::with_capacity(keys.len());
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                if let Some((value, age)) = self.source.read(&mut self.saved, state, key)? {
                    there.push((key.as_slice(), age));
                    found.push(value);
                }
            }
            let shown = decoder.show_all(state, &found, &mut warn);
            for (key, shown) in there.into_iter().zip(shown) {
                if !self.print(state, key, shown, decoder.is_raw(state), lines)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn print(
        &self,
        state: &StateSchema,
        (key, age): (&[u8], ContentAge),
        shown: Shown,
        raw: bool,
        lines: &mut LinePrinter,
    ) -> Result<bool, CommandError> {
        let operator = &self.operator.name;
        if self.format == DumpFormat::Jsonl {
            let mut row = shown.row(operator, &state.name, key, raw.then_some(state.version));
            age.note(&mut row);
            let row = serde_json::to_string(&row).map_err(unreadable)?;
            return lines.json(&row);
        }
        let cells: Vec<(String, String)> = match shown {
            Shown::Value(value) => vec![(String::new(), value)],
            Shown::List(values) => {
                let number = |(at, value): (usize, String)| (at.to_string(), value);
                values.into_iter().enumerate().map(number).collect()
            }
            Shown::Map(entries) => {
                let text = |(key, value): (String, String)| (plain(&key), value);
                entries.into_iter().map(text).collect()
            }
        };
        for (sub_key, value) in cells {
            let fields = [
                operator,
                &state.name,
                &readable(key),
                &sub_key,
                &plain(&value),
            ];
            let mut line = fields.map(|field| quoted(field)).join(",");
            if self.source.with_expired {
                line += if age.has_expired { ",expired" } else { "," };
            }
            if !lines.csv(&line)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A JSON text as a table cell: strings without quotes.
fn plain(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}
