//! `floodmark state get`: prints the value of one key.

use clap::Args;

use super::row::{from_hex, readable};
use super::{StateArguments, operator, schemas, unreadable};
use crate::CommandError;
use crate::failure::{EXIT_NO_VALUE, EXIT_USAGE};
use crate::place::scratch_file;
use crate::print::{print, print_json_text};
use crate::terminal::Terminal;
use crate::terminal::warn;
use floodmark_engine::runtime::saved::SavedState;
use floodmark_engine::session::limits::Ticking;

/// Prints the value, list or map of one key in a state
#[derive(Debug, Args)]
pub struct Get {
    /// The name of the operator
    #[arg(value_name = "OPERATOR")]
    operator: String,
    /// The name of the state
    #[arg(value_name = "STATE")]
    state: String,
    /// The key, as text
    #[arg(value_name = "KEY")]
    key: String,
    /// Reads the key as hexadecimal digits
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    source: StateArguments,
    /// Prints JSON, as a row of `dump`; `null` if the key has no value
    #[arg(long)]
    json: bool,
}

pub(super) fn get(arguments: &Get) -> Result<(), CommandError> {
    let (opened, checkpoint) = arguments.source.open()?;
    let operator = operator(&checkpoint, &arguments.operator)?;
    let versions = schemas(operator, &arguments.state)?;
    let key = match arguments.hex {
        true => from_hex(&arguments.key).map_err(|reason| CommandError::new(EXIT_USAGE, reason))?,
        false => arguments.key.clone().into_bytes(),
    };
    let mut saved = SavedState::open(&opened.reader, &checkpoint, operator, scratch_file()?)
        .map_err(unreadable)?;
    let mut found = None;
    for state in versions {
        if let Some(value) = arguments.source.read(&mut saved, state, &key)? {
            found = Some((state, value));
        }
    }
    let Some((schema, (value, age))) = found else {
        if arguments.json {
            print_json_text("null")?;
        }
        return Err(CommandError::new(
            EXIT_NO_VALUE,
            format!(
                "key `{}` has no value in state `{}` of operator `{}` as of checkpoint {}",
                readable(&key),
                arguments.state,
                operator.name,
                checkpoint.id
            ),
        ));
    };
    let guests = Ticking::for_tools()?.keeping(opened.compiled.clone(), &Terminal::new().saying());
    let mut decoder = arguments.source.decoder(&guests.engine, &opened, operator);
    let shown = decoder.show_all(schema, &[value], &mut warn).remove(0);
    if arguments.json {
        let raw_version = decoder.is_raw(schema).then_some(schema.version);
        let mut row = shown.row(&operator.name, &arguments.state, &key, raw_version);
        age.note(&mut row);
        return print_json_text(&serde_json::to_string(&row).unwrap_or_default());
    }
    if age.has_expired {
        warn(&format!(
            "this had expired at the time of checkpoint {}, or a part of it had: the job does not see that",
            checkpoint.id
        ));
    }
    print(&shown.page())
}
