//! `floodmark dead-letters`: lists the records that operators, sources and sinks could not handle, and replays them.
//!
//! Dead letters are read from the pipeline's own file sinks, and only committed files are read, so these commands work
//! while the job runs. Letters that went to other sinks are not found.

mod list;
mod replay;

use std::io::{BufRead, ErrorKind};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::CommandError;
use super::failure::{EXIT_CONNECTOR, EXIT_USAGE};
use floodmark_engine::connector::letter::{Letter, LetterPlace};
use floodmark_engine::connector::{SinkFormat, file_sink};
use floodmark_engine::edge::data_dir::DataDir;
use floodmark_engine::pipeline::Spec;
use floodmark_engine::session::assemble::LoadedPipeline;
use floodmark_state::stream::{CheckpointId, DEAD_LETTERS};

#[derive(Debug, Subcommand)]
#[expect(
    missing_docs,
    reason = "the names say it, and the help texts are on the arguments"
)]
pub enum DeadLettersCommand {
    /// Lists the records that operators, sources and sinks could not handle, in the order in which they were set aside
    List(list::ListArguments),
    /// Returns records that were set aside to their nodes: each record once, however often the command is given
    ///
    /// A running job whose input has no end processes them at once; any other job processes them in its next run. A
    /// record that fails again is set aside again, as a new dead letter: fix the plugin or the settings first. What a source
    /// could not read is parsed once more, with the settings of the pipeline file.
    Replay(replay::LetterReplayArguments),
}

/// Runs the command.
///
/// # Errors
/// When the pipeline is invalid, no file sink has its dead letters, or they cannot be read or replayed.
pub fn dead_letters(command: &DeadLettersCommand) -> Result<(), CommandError> {
    match command {
        DeadLettersCommand::List(arguments) => list::list(arguments),
        DeadLettersCommand::Replay(arguments) => replay::replay(arguments),
    }
}

/// A letter, and the committed file it was found in.
struct FoundLetter<'a> {
    /// The committed file.
    part: &'a PathBuf,
    letter: Letter,
    place: LetterPlace,
}

/// A file sink that reads dead letters.
struct LetterSink<'a> {
    name: &'a str,
    folder: &'a Path,
    /// The operators, sources and sinks whose letters it reads.
    operators: Vec<&'a str>,
}

/// The data folder of the job.
fn data_dir(given: Option<&Path>, pipeline: &LoadedPipeline) -> PathBuf {
    let default = || DataDir::default_path(&pipeline.folder, &pipeline.spec.name);
    given.map_or_else(default, Path::to_path_buf)
}

/// The file sinks that receive dead letters of the operator, source or sink with this name, or of any.
///
/// # Errors
/// When there is no such node, or no file sink.
fn sinks<'a>(spec: &'a Spec, operator: Option<&str>) -> Result<Vec<LetterSink<'a>>, CommandError> {
    if let Some(operator) = operator
        && spec.on_error_of(operator).is_none()
    {
        return Err(replay::no_such_operator(operator, spec));
    }
    let mut sinks = Vec::new();
    for (name, sink) in &spec.sinks {
        let settings = &sink.settings;
        let (Some(folder), Some(format)) = (settings.writes(), settings.format()) else {
            continue;
        };
        let from = sink.from.iter();
        let letters = from.filter(|from| from.port.as_deref() == Some(DEAD_LETTERS));
        let operators: Vec<_> = letters.map(|from| from.node.as_str()).collect();
        let is_meant = match operator {
            Some(operator) => operators.contains(&operator),
            None => !operators.is_empty(),
        };
        // A row of CSV has the key beside the letter, and its own quotes.
        if is_meant && format != SinkFormat::Csv {
            sinks.push(LetterSink {
                name,
                folder,
                operators,
            });
        }
    }
    if sinks.is_empty() {
        let name = operator.unwrap_or("NODE");
        return Err(CommandError::new(
            EXIT_USAGE,
            format!(
                "no file sink keeps these dead letters; add one that reads `{name}.{DEAD_LETTERS}`, with `format = \"jsonl\"`"
            ),
        ));
    }
    Ok(sinks)
}

impl LetterSink<'_> {
    /// Passes all committed letters, or those of one operator, to `each` in order, until it returns `false`. Returns
    /// whether all were passed.
    ///
    /// # Errors
    /// When one cannot be read.
    fn read(
        &self,
        operator: Option<&str>,
        each: &mut dyn FnMut(FoundLetter<'_>) -> Result<bool, CommandError>,
    ) -> Result<bool, CommandError> {
        let parts = file_sink::committed(self.folder);
        let parts = parts.map_err(|error| CommandError::new(EXIT_CONNECTOR, error.to_string()))?;
        for part in parts {
            let Some(checkpoint) = file_sink::checkpoint_of(&part) else {
                continue;
            };
            if !self.read_part(&part, checkpoint, operator, each)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_part(
        &self,
        part: &PathBuf,
        checkpoint: CheckpointId,
        operator: Option<&str>,
        each: &mut dyn FnMut(FoundLetter<'_>) -> Result<bool, CommandError>,
    ) -> Result<bool, CommandError> {
        let unreadable = |error: std::io::Error| {
            let message = format!("cannot read `{}`: {error}", part.display());
            CommandError::new(EXIT_CONNECTOR, message)
        };
        let lines = match file_sink::read_part(part) {
            // The file was taken back or moved away since the folder was read.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            opened => opened.map_err(unreadable)?.split(b'\n'),
        };
        let name = part.file_name().unwrap_or_default().to_string_lossy();
        for (number, line) in (1..).zip(lines) {
            let line = line.map_err(unreadable)?;
            // A sink may also contain records that are not letters.
            let letter = std::str::from_utf8(&line).ok().map(Letter::from_json);
            let Some(Ok(letter)) = letter else {
                continue;
            };
            let is_meant = match operator {
                Some(operator) => letter.operator == operator,
                None => self.operators.contains(&letter.operator.as_str()),
            };
            let place = LetterPlace {
                checkpoint,
                sink: self.name.to_owned(),
                part: name.clone().into_owned(),
                line: number,
            };
            let found = FoundLetter {
                part,
                letter,
                place,
            };
            if is_meant && !each(found)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
