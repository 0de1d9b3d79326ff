//! `floodmark dead-letters`: looks at the records that operators could not handle.
//!
//! Dead letters are where the pipeline's own file sinks have written them, and only what is committed is read: looking works
//! beside a running job. Letters that went to other sinks are not found.

mod list;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use clap::Subcommand;

use super::Failure;
use super::failure::{EXIT_CONNECTOR, EXIT_USAGE};
use crate::connector::{FileSinkSettings, SinkFormat, file_sink};
use crate::pipeline::Spec;
use crate::pipeline::spec::SinkConnector;
use crate::runtime::letter::Letter;
use crate::stream::DEAD_LETTERS;

#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the names say it, and the help texts are on the arguments"
)]
pub enum DeadLettersCommand {
    /// Lists the records that operators could not handle, in the order in which they were set aside
    List(list::ListArguments),
}

/// Carries the command out.
///
/// # Errors
/// When the pipeline is wrong, no sink keeps its dead letters, or they cannot be read.
pub fn dead_letters(command: &DeadLettersCommand) -> Result<(), Failure> {
    match command {
        DeadLettersCommand::List(arguments) => list::list(arguments),
    }
}

/// Hands on all committed letters of a pipeline, or of one of its operators, sink by sink and in order, until `each` says
/// `false`.
///
/// # Errors
/// When there is no such operator, no file sink keeps letters, or one cannot be read.
pub(super) fn read(
    spec: &Spec,
    operator: Option<&str>,
    each: &mut dyn FnMut(Letter) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    if let Some(operator) = operator
        && !spec.operators.contains_key(operator)
    {
        return Err(Failure::new(
            EXIT_USAGE,
            format!("the pipeline has no operator `{operator}`"),
        ));
    }
    let sinks = sinks(spec, operator);
    if sinks.is_empty() {
        let name = operator.unwrap_or("OPERATOR");
        return Err(Failure::new(
            EXIT_USAGE,
            format!(
                "no file sink keeps these dead letters; add one that reads `{name}.{DEAD_LETTERS}`, with `format = \"jsonl\"`"
            ),
        ));
    }
    for settings in sinks {
        let parts = file_sink::committed(&settings.path);
        let parts = parts.map_err(|error| Failure::new(EXIT_CONNECTOR, error.to_string()))?;
        for part in parts {
            if !read_part(&part, operator, each)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The file sinks that read dead letters of the operator, or of any.
fn sinks<'a>(spec: &'a Spec, operator: Option<&str>) -> Vec<&'a FileSinkSettings> {
    let files = spec.sinks.values().filter_map(|sink| {
        let SinkConnector::File(settings) = &sink.connector else {
            return None;
        };
        let mut from = sink.from.iter();
        let reads = from.any(|reference| {
            let is_meant = operator.is_none_or(|operator| reference.node == operator);
            is_meant && reference.port.as_deref() == Some(DEAD_LETTERS)
        });
        // A row of CSV has the key beside the letter, and its own quotes.
        (reads && settings.format != SinkFormat::Csv).then_some(settings)
    });
    files.collect()
}

/// Whether to go on.
fn read_part(
    part: &Path,
    operator: Option<&str>,
    each: &mut dyn FnMut(Letter) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    let unreadable = |error: std::io::Error| {
        let message = format!("cannot read `{}`: {error}", part.display());
        Failure::new(EXIT_CONNECTOR, message)
    };
    let lines = BufReader::new(File::open(part).map_err(unreadable)?).lines();
    for line in lines {
        // A sink may also have written records that are no letters.
        let Ok(letter) = Letter::from_json(&line.map_err(unreadable)?) else {
            continue;
        };
        if operator.is_none_or(|operator| letter.operator == operator) && !each(letter)? {
            return Ok(false);
        }
    }
    Ok(true)
}
