//! `floodmark dead-letters list`: prints the records that were set aside, and the reasons.

use std::path::PathBuf;

use clap::Args;

use super::super::pipeline;
use super::super::print::{LinePrinter, print};
use super::super::table::table;
use super::super::{CommandError, PipelineArguments};
use super::{FoundLetter, data_dir, sinks};
use floodmark_engine::connector::letter::{Letter, LetterPlace};
use floodmark_engine::edge::replay_folder::ReplayFolder;

/// Characters of a reason that the table shows, and of a key and a value.
const REASON_CHARS: usize = 60;
const BYTES_CHARS: usize = 30;

/// Selects the letters to list.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Lists only the letters of this operator, source or sink
    #[arg(long, value_name = "NODE")]
    operator: Option<String>,
    /// Prints each letter as one line of JSON, with all of its bytes, and whether it was `replayed`
    #[arg(long)]
    json: bool,
    /// The data folder of the job, which records the letters that were replayed [default: `.floodmark/NAME` beside the
    /// pipeline file]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) fn list(arguments: &ListArguments) -> Result<(), CommandError> {
    let pipeline = pipeline::read(&arguments.pipeline)?;
    let operator = arguments.operator.as_deref();
    let sinks = sinks(&pipeline.spec, operator)?;
    let data_dir = data_dir(arguments.data_dir.as_deref(), &pipeline);
    let replayed = ReplayFolder::of(&data_dir).replayed()?;
    let was_replayed =
        |place: &LetterPlace| replayed.contains(&place.sink, &place.part, place.line);
    if arguments.json {
        let mut lines = LinePrinter::new();
        for sink in sinks {
            let goes_on = sink.read(operator, &mut |FoundLetter { letter, place, .. }| {
                lines.json(&letter.to_json_with("replayed", was_replayed(&place)))
            })?;
            if !goes_on {
                break;
            }
        }
        return lines.finish();
    }
    let head = ["operator", "record", "why", "key", "value", "replayed"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for sink in sinks {
        sink.read(operator, &mut |FoundLetter { letter, place, .. }| {
            rows.push(row(&letter, was_replayed(&place)));
            Ok(true)
        })?;
    }
    match rows.len() {
        1 => print("no dead letters\n"),
        _ => print(&table(&rows)),
    }
}

fn row(letter: &Letter, was_replayed: bool) -> Vec<String> {
    let bytes = |bytes: &[u8]| shortened(&String::from_utf8_lossy(bytes), BYTES_CHARS);
    vec![
        letter.operator.clone(),
        letter.position.clone(),
        shortened(&letter.reason, REASON_CHARS),
        bytes(&letter.key),
        bytes(&letter.value),
        if was_replayed { "yes" } else { "no" }.to_owned(),
    ]
}

/// The beginning of a text.
fn shortened(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if text.chars().nth(chars_max).is_some() {
        short.push('…');
    }
    short
}
