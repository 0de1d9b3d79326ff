//! `floodmark swap`: replaces plugins of a running job between two records, or of a stopped one.
//!
//! A running job does the swap itself (`edge::swap`), and this command prints its findings. For a stopped job, this
//! command writes a checkpoint that names the new plugins (`stopped`).

mod show;
mod stopped;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::CommandError;
use super::failure::{EXIT_DATA, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PLUGIN, EXIT_USAGE};
use super::job::{JobArguments, JobLocation, absolute, as_text};
use super::terminal::Terminal;
use floodmark_control::client::AskError;
use floodmark_control::swap::{CANCEL, CANCELLED, PATH, UNFIT};
use floodmark_engine::edge::signals;
use floodmark_engine::edge::swap::{Findings, RehearsalExtent};
use floodmark_engine::guest::Cancellation;
use floodmark_engine::pipeline::duration;

/// Replaces plugins of a running job between two records, after checking that they fit; or of a stopped job
///
/// While the job keeps running, the new plugin is compiled, its ports and states are compared with the old one's, and
/// it is tried on the state of the newest checkpoint. It takes over at the barrier of a checkpoint: the old plugin
/// processes the records before the barrier, the new one those after it. After a crash, the job resumes with the old
/// plugin and its state, or with the new plugin and its state. If the swap is refused, nothing has changed: exit code 3
/// means that the plugin does not fit, 4 that the job cannot swap. Ctrl-C cancels a swap whose checkpoint has not begun.
#[derive(Debug, Args)]
pub struct SwapArguments {
    /// The pipeline file of the job, or a folder with a `pipeline.toml`
    #[arg(value_name = "PIPELINE")]
    pipeline: PathBuf,
    /// Operators with their new plugins: a `.wasm` file, a folder that is built first, or `same` to change only the
    /// configuration; all are replaced at one barrier
    #[arg(value_name = "OPERATOR NEW", num_args = 2.., required = true)]
    replacements: Vec<String>,
    /// Sets a field of the new plugin's configuration, on top of the old one's; with several operators
    /// `OPERATOR.key=value`
    #[arg(long = "config", value_name = "key=value")]
    configs: Vec<String>,
    /// Lets both plugins process N records after the newest checkpoint first, and prints where their output differs
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = super::typed::records)]
    shadow: u64,
    /// Leaves a field out of the new plugin's configuration; with several operators `OPERATOR.KEY`
    #[arg(long = "without", value_name = "KEY")]
    withouts: Vec<String>,
    /// How much of the saved state the new plugin migrates in a rehearsal first: some thousand values, or all of them
    #[arg(long, value_name = "sample|all", default_value = "sample")]
    rehearse: RehearsalArgument,
    /// Does all checks, and changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Reverts to the old plugin and its state if the job fails within this time, such as `30s`
    #[arg(long, value_name = "TIME")]
    trial: Option<String>,
    /// Drops state that the new plugin no longer declares
    #[arg(long)]
    allow_dropped_state: bool,
    /// Prints the findings and the result as JSON
    #[arg(long)]
    json: bool,
    /// The data folder of the job [default: `.floodmark/NAME` beside the pipeline file, NAME being the job's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The value of `--rehearse`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RehearsalArgument {
    Sample,
    All,
}

impl From<RehearsalArgument> for RehearsalExtent {
    fn from(typed: RehearsalArgument) -> Self {
        match typed {
            RehearsalArgument::Sample => Self::Sample,
            RehearsalArgument::All => Self::All,
        }
    }
}

/// The replacement of one operator, as typed.
struct ReplacementArgument {
    operator: String,
    /// The component; `None` for the same plugin.
    file: Option<PathBuf>,
    config: BTreeMap<String, String>,
    without: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// When the plugin does not fit, or the job cannot continue with it. The old plugin stays in its place.
pub fn swap(arguments: &SwapArguments) -> Result<(), CommandError> {
    let terminal = Terminal::new();
    let replacements = replacements(arguments, &terminal)?;
    let trial = arguments.trial.as_deref().map(duration::parse).transpose();
    let trial = trial.map_err(|reason| usage(format!("`--trial`: {reason}")))?;
    let place = JobArguments::of(&arguments.pipeline, arguments.data_dir.as_deref()).place()?;
    let mut operators = Vec::new();
    for replacement in &replacements {
        let file = replacement.file.as_deref().map(as_text).transpose()?;
        operators.push(json!({
            "operator": replacement.operator,
            "file": file,
            "config": replacement.config,
            "without": replacement.without,
        }));
    }
    let wish = json!({
        "operators": operators,
        "shadow": arguments.shadow,
        "dry-run": arguments.dry_run,
        "trial-ms": trial.map(|trial| u64::try_from(trial.as_millis()).unwrap_or(u64::MAX)),
        "allow-dropped-state": arguments.allow_dropped_state,
        "rehearse": RehearsalExtent::from(arguments.rehearse),
    });
    let cancellation = cancelled_by_signal(&place, &terminal)?;
    let mut waiting = || show_step(&place, &terminal);
    let answered = place.call_while(PATH, &wish, &mut waiting);
    terminal.clear();
    let answer = match answered {
        Err(AskError::NotRunning { .. }) => {
            let found = stopped::swap(arguments, &place, &replacements, &cancellation);
            terminal.clear();
            return show::print(&found?, arguments.json, true);
        }
        Err(AskError::Refused { code, message }) if code == UNFIT => {
            return Err(CommandError::new(EXIT_PLUGIN, message));
        }
        Err(AskError::Refused { code, message }) if code == CANCELLED => {
            return Err(CommandError::new(EXIT_INTERRUPTED, message));
        }
        answered => answered?,
    };
    let found: Findings = serde_json::from_value(answer).map_err(|error| {
        let message = format!("cannot read the job's answer: {error}");
        CommandError::new(EXIT_FAILED, message)
    })?;
    show::print(&found, arguments.json, false)
}

/// Cancels the swap at the first signal, that of a stopped job by what this returns; a second signal ends the process.
fn cancelled_by_signal(
    place: &JobLocation,
    terminal: &Terminal,
) -> Result<Cancellation, CommandError> {
    let cancellation = Cancellation::default();
    let (folder, terminal) = (place.data_dir.clone(), terminal.clone());
    let cancelled = cancellation.clone();
    let watched = signals::on_stop(move || {
        cancelled.cancel();
        terminal.say(cancel(&folder));
    });
    watched.map_err(|error| {
        CommandError::new(EXIT_FAILED, format!("cannot handle signals: {error}"))
    })?;
    Ok(cancellation)
}

/// Asks the job to cancel its swap; returns what follows, for people.
fn cancel(folder: &Path) -> &'static str {
    let answer = floodmark_control::ask(folder, CANCEL, Some(&json!({})));
    let answer = answer.unwrap_or_default();
    match answer["cancelled"] == false && answer["step"].is_string() {
        true => {
            "the swap can no longer be cancelled, since its checkpoint has begun: it continues, and `floodmark status` shows the plugin; a second Ctrl-C ends this command and not the swap"
        }
        false => "cancelling; a second Ctrl-C ends this command at once",
    }
}

/// Shows what a running job does for the swap.
fn show_step(place: &JobLocation, terminal: &Terminal) {
    if terminal.has_bar()
        && let Ok(found) = place.look(PATH)
        && let Some(step) = found["step"].as_str()
    {
        terminal.show(None, &format!("swap: {step}"));
    }
}

fn usage(message: String) -> CommandError {
    CommandError::new(EXIT_USAGE, message)
}

fn replacements(
    arguments: &SwapArguments,
    terminal: &Terminal,
) -> Result<Vec<ReplacementArgument>, CommandError> {
    if !arguments.replacements.len().is_multiple_of(2) {
        let last = &arguments.replacements[arguments.replacements.len() - 1];
        return Err(usage(format!(
            "operator `{last}` has no new plugin; write each operator followed by its new plugin"
        )));
    }
    let mut replacements = Vec::new();
    for pair in arguments.replacements.chunks(2) {
        let file = match pair[1].as_str() {
            "same" => None,
            typed => {
                let built = floodmark_plugin_build::component(Path::new(typed), &mut |line| {
                    terminal.say(line);
                });
                let built =
                    built.map_err(|error| CommandError::new(EXIT_PLUGIN, error.to_string()))?;
                Some(absolute(&built)?)
            }
        };
        replacements.push(ReplacementArgument {
            operator: pair[0].clone(),
            file,
            config: BTreeMap::new(),
            without: Vec::new(),
        });
    }
    for typed in &arguments.configs {
        let option = format!("--config {typed}");
        let (path, value) = typed
            .split_once('=')
            .ok_or_else(|| usage(format!("`{option}` has no `=`")))?;
        let (replacement, key) = meant(&mut replacements, &option, path)?;
        replacement.config.insert(key.to_owned(), value.to_owned());
    }
    for typed in &arguments.withouts {
        let option = format!("--without {typed}");
        let (replacement, key) = meant(&mut replacements, &option, typed)?;
        if replacement.config.contains_key(key) {
            return Err(usage(format!("`{option}`: `--config` sets `{key}`")));
        }
        replacement.without.push(key.to_owned());
    }
    Ok(replacements)
}

/// The operator that an option is for, and the key of its configuration.
fn meant<'a, 'k>(
    replacements: &'a mut [ReplacementArgument],
    option: &str,
    path: &'k str,
) -> Result<(&'a mut ReplacementArgument, &'k str), CommandError> {
    if let [only] = replacements {
        return Ok((only, path));
    }
    let (operator, key) = path.split_once('.').ok_or_else(|| {
        usage(format!(
            "`{option}` names no operator; write `OPERATOR.{path}`"
        ))
    })?;
    let mut several = replacements.iter_mut();
    let found = several.find(|replacement| replacement.operator == operator);
    let found = found.ok_or_else(|| {
        usage(format!(
            "`{option}`: operator `{operator}` is not replaced here"
        ))
    })?;
    Ok((found, key))
}

fn refuse(message: impl Into<String>) -> CommandError {
    CommandError::new(EXIT_DATA, message)
}
