//! `floodmark dead-letters replay`: returns letters to their nodes, each once.
//!
//! It only writes files that the job reads like any input (`edge::replay_folder`), so checkpoints make the replay
//! exactly once. A letter is identified by the place where it was found: sink, file and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::failure::{EXIT_DATA, EXIT_USAGE};
use super::super::pipeline;
use super::super::print::print;
use super::super::{CommandError, PipelineArguments};
use super::{FoundLetter, data_dir, sinks};
use floodmark_engine::connector::letter::Letter;
use floodmark_engine::edge::data_dir::is_held;
use floodmark_engine::edge::replay_folder::{HeldReplayFolder, ReplayFileWriter, ReplayFolder};
use floodmark_engine::pipeline::Spec;
use floodmark_engine::pipeline::settings::OnErrorSetting;
use floodmark_engine::session::number::things;

/// Selects the letters to replay.
#[derive(Debug, Args)]
pub struct LetterReplayArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Replays only the letters of this operator, source or sink
    #[arg(long, value_name = "NODE")]
    operator: Option<String>,
    /// Replays only records that arrived at this input port
    #[arg(long, value_name = "PORT")]
    input: Option<String>,
    /// Replays only letters with this text in their reason or position; given several times, with all of the texts
    #[arg(long = "where", value_name = "TEXT")]
    texts: Vec<String>,
    /// Prints the number of letters, and replays none
    #[arg(long)]
    dry_run: bool,
    /// The data folder of the job [default: `.floodmark/NAME` beside the pipeline file, NAME being the job's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl LetterReplayArguments {
    fn means(&self, letter: &Letter) -> bool {
        let has = |text: &String| letter.reason.contains(text) || letter.position.contains(text);
        self.input
            .as_ref()
            .is_none_or(|input| *input == letter.input)
            && self.texts.iter().all(has)
    }
}

/// The counts of a replay.
#[derive(Default)]
struct ReplayCounts {
    /// By operator and input: letters handed back.
    letters: BTreeMap<(String, String), u64>,
    /// Letters that were replayed before.
    before: u64,
    /// Letters about whole files, which cannot be replayed.
    files: u64,
    /// Letters that have only the start of their record.
    cut: u64,
    /// All letters that the options select, including these.
    all: u64,
}

pub(super) fn replay(arguments: &LetterReplayArguments) -> Result<(), CommandError> {
    let pipeline = pipeline::read(&arguments.pipeline)?;
    let spec = &pipeline.spec;
    let data_dir = data_dir(arguments.data_dir.as_deref(), &pipeline);
    // Checked first, so that a mistyped operator is not reported as a missing folder.
    sinks(spec, arguments.operator.as_deref())?;
    if !data_dir.is_dir() {
        let message = format!(
            "there is no data folder `{}`; if the job was run with `--data-dir`, pass it here too",
            data_dir.display()
        );
        return Err(CommandError::new(EXIT_DATA, message));
    }
    let held = ReplayFolder::of(&data_dir).hold()?;
    let done = hand_back(arguments, spec, &data_dir, &held)?;
    print(&describe(&done, arguments, spec, &data_dir))
}

/// Writes the letters of each sink to one file, in the order of the sink's parts.
fn hand_back(
    arguments: &LetterReplayArguments,
    spec: &Spec,
    data_dir: &Path,
    held: &HeldReplayFolder,
) -> Result<ReplayCounts, CommandError> {
    let replayed = ReplayFolder::of(data_dir).replayed()?;
    let operator = arguments.operator.as_deref();
    let mut done = ReplayCounts::default();
    for sink in sinks(spec, operator)? {
        let mut drafts: BTreeMap<(String, String), ReplayFileWriter> = BTreeMap::new();
        let mut parts = Vec::new();
        sink.read(operator, &mut |found| {
            let FoundLetter {
                part,
                letter,
                place,
            } = found;
            if !arguments.means(&letter) {
                return Ok(true);
            }
            done.all += 1;
            if replayed.contains(&place.sink, &place.part, place.line) {
                done.before += 1;
                return Ok(true);
            }
            if letter.is_of_file() && spec.sources.contains_key(&letter.operator) {
                done.files += 1;
                return Ok(true);
            }
            if letter.bytes_in_all.is_some() {
                done.cut += 1;
                return Ok(true);
            }
            let port = (letter.operator.clone(), letter.input.clone());
            check_input(&port.1)?;
            *done.letters.entry(port.clone()).or_default() += 1;
            if arguments.dry_run {
                return Ok(true);
            }
            if parts.last() != Some(part) {
                parts.push(part.clone());
            }
            if !drafts.contains_key(&port) {
                drafts.insert(port.clone(), held.draft(&port.0, &port.1)?);
            }
            let draft = drafts.get_mut(&port).expect("it was just made");
            draft.add(&letter, &place)?;
            Ok(true)
        })?;
        // The job may have returned to a checkpoint and taken back output with letters. Their records are then
        // processed again anyway.
        if let Some(gone) = parts.iter().find(|part| !part.exists()) {
            let message = format!(
                "`{}` was removed while its letters were being read, so no letters of sink `{}` were replayed; try again",
                gone.display(),
                sink.name
            );
            return Err(CommandError::new(EXIT_DATA, message));
        }
        for draft in drafts.into_values() {
            draft.finish()?;
        }
    }
    Ok(done)
}

/// Others may have changed the letters, which are output, and the input becomes the name of a folder.
fn check_input(input: &str) -> Result<(), CommandError> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    if !input.is_empty() && input.len() <= 64 && input.chars().all(allowed) {
        return Ok(());
    }
    let shown: String = input
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    let message = format!(
        "a letter names the input `{shown}` of its record, which is not a valid name; was its file changed?"
    );
    Err(CommandError::new(EXIT_DATA, message))
}

fn describe(
    done: &ReplayCounts,
    arguments: &LetterReplayArguments,
    spec: &Spec,
    data_dir: &Path,
) -> String {
    let left_out = describe_left_out(done);
    if done.letters.is_empty() && !left_out.is_empty() {
        return left_out;
    }
    if done.letters.is_empty() {
        return match (done.all, done.before) {
            (0, _) => "nothing to replay: there are no such dead letters\n".to_owned(),
            (1, _) => "nothing to replay: the only dead letter was already replayed\n".to_owned(),
            (all, _) => {
                let letters = things(all, "dead letter");
                format!("nothing to replay: all {letters} were already replayed\n")
            }
        };
    }
    let mut text = String::new();
    for ((operator, input), count) in &done.letters {
        let letters = things(*count, "dead letter");
        let when = match arguments.dry_run {
            true => "would be replayed".to_owned(),
            false => format!("replayed: {}", when(operator, spec, data_dir)),
        };
        let of = if spec.sources.contains_key(operator) {
            format!("source `{operator}`")
        } else if spec.sinks.contains_key(operator) {
            format!("sink `{operator}`")
        } else {
            format!("operator `{operator}`, input `{input}`")
        };
        text += &format!("{letters} of {of}, {when}\n");
    }
    text + &left_out
}

/// A line about each kind of letters that cannot be replayed.
fn describe_left_out(done: &ReplayCounts) -> String {
    let files = match done.files {
        0 => String::new(),
        1 => "1 dead letter is about a whole file: correct the file and add it to the input under another name\n".to_owned(),
        files => format!("{} are about whole files: correct the files and add them to the input under other names\n", things(files, "dead letter")),
    };
    let cut = match done.cut {
        0 => String::new(),
        1 => "1 dead letter has only the first bytes of its record, and is not replayed: correct the record in its file, and add the file to the input under another name\n".to_owned(),
        cut => format!("{} have only the first bytes of their records, and are not replayed: correct the records in their files, and add these to the input under other names\n", things(cut, "dead letter")),
    };
    files + &cut
}

/// A text that says when the job will process the letters.
fn when(operator: &str, spec: &Spec, data_dir: &Path) -> &'static str {
    let sets_aside = spec.on_error_of(operator) == Some(OnErrorSetting::DeadLetter);
    match (is_held(data_dir), spec.has_end()) {
        (true, false) if sets_aside => "the running job processes them now",
        (true, _) => "the running job does not look for them; the next run processes them",
        (false, _) => "the next run processes them",
    }
}

/// The failure for a node that does not exist.
pub(super) fn no_such_operator(operator: &str, spec: &Spec) -> CommandError {
    let others = spec.sources.keys().chain(spec.sinks.keys());
    let names = spec.operators.keys().chain(others);
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let there = match names.is_empty() {
        true => "it has none".to_owned(),
        false => format!("there are {}", names.join(", ")),
    };
    let message = format!("the pipeline has no operator, source or sink `{operator}`; {there}");
    CommandError::new(EXIT_USAGE, message)
}
