//! `floodmark state load`: makes a savepoint of rows.
//!
//! The pipeline says which operators and states there are; its plugins encode the values. Without a base, sources begin at
//! the beginning: that is how a job starts with state from elsewhere. With one, all that the rows do not speak of is the base's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::decoder::encode;
use super::row::{Row, Text};
use crate::checkpoint::store::savepoint;
use crate::cli::assemble::{Assembled, assemble, read};
use crate::cli::failure::{EXIT_DATA, EXIT_USAGE};
use crate::cli::number::things;
use crate::cli::print::print;
use crate::cli::terminal::{Terminal, warn};
use crate::cli::{Failure, PipelineArguments};
use crate::edge::clock::Clock;
use crate::guest::{GuestEngine, Instance};
use crate::pipeline::words;
use crate::runtime::plan::Role;
use crate::runtime::saved::{Saved, SavedStateBuilder};

/// Rows whose values the plugin encodes at a time.
const ROWS_A_CALL: usize = 1000;
/// The longest row.
const ROW_BYTES_MAX: u64 = 1 << 30;

/// Makes a savepoint of the rows that `dump` prints: to start a job with state, or to repair one
///
/// Start the job from it with `floodmark run PIPELINE --from FILE`.
#[derive(Debug, Args)]
pub struct Load {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The rows, one a line; `-` for standard input
    #[arg(value_name = "ROWS")]
    rows: PathBuf,
    /// The savepoint to make
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// A savepoint to change: positions, and all state that the rows do not speak of, are taken from it. A state that has
    /// rows holds these alone
    #[arg(long, value_name = "SAVEPOINT")]
    base: Option<PathBuf>,
}

pub(super) fn load(arguments: &Load) -> Result<(), Failure> {
    let terminal = Terminal::new();
    let engine = GuestEngine::new(None)?;
    let assembled = assemble(read(&arguments.pipeline)?, &engine, "", &mut |line| terminal.say(line))?;
    let base = arguments.base.as_deref().map(savepoint::open).transpose()?;
    let mut loading = Loading::new(&assembled)?;
    let input: Box<dyn Read> = match arguments.rows.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(&arguments.rows).map_err(|error| unreadable(&arguments.rows, &error))?),
    };
    let mut input = BufReader::new(input);
    let mut line = String::new();
    let mut rows: u64 = 0;
    loop {
        line.clear();
        let read = input.by_ref().take(ROW_BYTES_MAX).read_line(&mut line);
        if read.map_err(|error| unreadable(&arguments.rows, &error))? == 0 {
            break;
        }
        rows += 1;
        if line.trim().is_empty() {
            continue;
        }
        let at = |reason: String| Failure::new(EXIT_USAGE, format!("{}:{rows}: {reason}; no savepoint was made", arguments.rows.display()));
        let row: Row = serde_json::from_str(&line).map_err(|error| at(error.to_string()))?;
        loading.add(row).map_err(at)?;
    }
    let (checkpoint, reader, keys) = loading.finish(base.as_ref(), Clock::start().wall_ms())?;
    savepoint::create(&arguments.to, &*reader, &checkpoint)?;
    if arguments.base.is_none() {
        warn("the savepoint holds state alone: a job that starts from it reads its sources from the beginning");
    }
    print(&format!(
        "savepoint `{}`: {} of {}\n",
        arguments.to.display(),
        things(keys, "key"),
        things(rows, "row")
    ))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(EXIT_DATA, format!("cannot read the rows `{}`: {error}", path.display()))
}
