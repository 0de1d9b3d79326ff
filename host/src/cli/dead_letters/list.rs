//! `floodmark dead-letters list`: which records were set aside, and why.

use clap::Args;

use super::super::assemble;
use super::super::print::{Lines, print};
use super::super::table::table;
use super::super::{Failure, PipelineArguments};
use crate::runtime::letter::Letter;

/// Characters of a reason in the table, and of a key and a value.
const REASON_CHARS: usize = 60;
const BYTES_CHARS: usize = 30;

/// What is listed.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Only those of this operator
    #[arg(long, value_name = "OPERATOR")]
    operator: Option<String>,
    /// Prints each letter as it was written: one JSON object a line, with all of its bytes
    #[arg(long)]
    json: bool,
}

pub(super) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let pipeline = assemble::read(&arguments.pipeline)?;
    let operator = arguments.operator.as_deref();
    if arguments.json {
        let mut lines = Lines::new();
        super::read(&pipeline.spec, operator, &mut |letter| {
            lines.line(&letter.to_json())
        })?;
        return lines.finish();
    }
    let head = ["operator", "record", "why", "key", "value"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    super::read(&pipeline.spec, operator, &mut |letter| {
        rows.push(row(&letter));
        Ok(true)
    })?;
    match rows.len() {
        1 => print("no dead letters\n"),
        _ => print(&table(&rows)),
    }
}

fn row(letter: &Letter) -> Vec<String> {
    let bytes = |bytes: &[u8]| shortened(&String::from_utf8_lossy(bytes), BYTES_CHARS);
    vec![
        letter.operator.clone(),
        letter.position.clone(),
        shortened(&letter.reason, REASON_CHARS),
        bytes(&letter.key),
        bytes(&letter.value),
    ]
}

/// The beginning of a text, on one line.
fn shortened(text: &str, chars_max: usize) -> String {
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    let mut short: String = text.chars().take(chars_max).map(printable).collect();
    if text.chars().nth(chars_max).is_some() {
        short.push('…');
    }
    short
}
