//! `floodmark replay`: feeds an operator the records after a checkpoint, with the checkpoint's state, and prints what
//! it does with each.
//!
//! Nothing is changed: the checkpoint is read beside the job that may be running, input is read, and output is printed
//! instead of written.

mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use self::show::Printer;
use super::failure::{EXIT_DATA, EXIT_PLUGIN, EXIT_USAGE};
use super::pipeline::read;
use super::place::{OpenedCheckpoints, PlaceArguments, PlaceOrSavepoint};
use super::terminal::Terminal;
use super::terminal::warn;
use super::{CommandError, PipelineArguments};
use floodmark_checkpoint::{Checkpoint, OperatorSnapshot};
use floodmark_engine::edge::data_dir::DataDir;
use floodmark_engine::edge::scratch;
use floodmark_engine::guest::{GuestEngine, Limits, Plugin};
use floodmark_engine::pipeline::{suggestions, takeover};
use floodmark_engine::runtime::plan::{Operator, Plan, Role, StateBackend};
use floodmark_engine::runtime::replay::{Replay, ReplayOf};
use floodmark_engine::session::assemble::{LoadedPipeline, load, put_together};
use floodmark_engine::session::foreign;
use floodmark_engine::session::letters::add_sources;
use floodmark_engine::session::limits::{Ticking, limits_of};

/// Memory for state; the rest goes to a temporary file.
const STATE_BYTES: u64 = 256 << 20;

/// Shows what an operator does with each record after a checkpoint; changes nothing
///
/// Prints for each record what the operator emitted, how the state of the record's key changed, what the plugin logged,
/// and why it failed, if it did. Sources continue at the checkpoint's positions. The plugins, their configuration and
/// their state are those of the checkpoint; `--plugin` puts another plugin in the operator's place. The clock is fixed
/// at the time of the checkpoint, so the same command prints the same bytes each time. The job may be running. A savepoint
/// whose plugins or configurations differ from those of the pipeline needs `--take-plugins`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// The number of a checkpoint, or a savepoint file [default: the newest checkpoint]
    #[arg(long, value_name = "ID|FILE")]
    from: Option<String>,
    /// The operator to replay; may be left out if there is only one
    #[arg(long, value_name = "OPERATOR")]
    operator: Option<String>,
    /// Another plugin for the operator: a `.wasm` file, or a folder to build
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,
    /// Sets a field of the operator's configuration; may be given several times
    #[arg(long = "config", value_name = "field=value")]
    configs: Vec<String>,
    /// Number of records to replay
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = super::typed::records)]
    records: u64,
    /// Runs the plugins and configurations of the savepoint where the pipeline names others. They are code of the author of
    /// the savepoint, and run in the sandbox
    #[arg(long, requires = "from")]
    take_plugins: bool,
    /// Prints one line of JSON for each record
    #[arg(long)]
    json: bool,
    /// Replays even if the plugin no longer declares some of the saved state
    #[arg(long)]
    allow_dropped_state: bool,
    /// The data folder of the job [default: `.floodmark/NAME` beside the pipeline file, NAME being the job's]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When the checkpoint cannot be read or is not this pipeline's, or the plugin does not accept its state.
pub fn replay(arguments: &ReplayArguments) -> Result<(), CommandError> {
    let pipeline = read(&arguments.pipeline)?;
    let mut sources = pipeline.spec.sources.iter();
    if let Some((name, _)) = sources.find(|(_, source)| source.settings.reads_standard_input()) {
        let message = format!(
            "source `{name}` reads standard input, which cannot be read a second time, so there is nothing to replay"
        );
        return Err(CommandError::new(EXIT_USAGE, message));
    }
    let (opened, checkpoint) = open(arguments, &pipeline)?;
    let name = operator_name(arguments, &pipeline)?;
    let guests = Ticking::for_job(&pipeline.spec, None, &Terminal::new().saying())?;
    let engine = &guests.engine;
    let data_dir = data_dir(arguments, &pipeline);
    let mut plan = plan(arguments, pipeline, &opened, &checkpoint, engine)?;
    if opened.is_foreign && !arguments.take_plugins {
        let replaced = arguments.plugin.as_ref().map(|_| name.as_str());
        foreign::refuse(&plan, &checkpoint, replaced)?;
    }
    add_sources(&mut plan, &data_dir, false)?;
    let changes = takeover(&checkpoint.identity, &plan.identity).map_err(|reason| {
        let id = checkpoint.id;
        CommandError::new(
            EXIT_DATA,
            format!("checkpoint {id} is from another pipeline: {reason}"),
        )
    })?;
    // A replay writes no output.
    let changes = changes
        .iter()
        .filter(|change| !change.starts_with("sink `"));
    changes.for_each(|change| warn(change));
    let operator = asked(arguments, &plan, &name, engine)?;
    let plugin = Arc::clone(&operator.plugin);
    let plan = plan.with_operator(&name, operator);
    let mut replay = Replay::new(ReplayOf {
        plan: &plan,
        operator: &name,
        checkpoint: Some(&checkpoint),
        reader: Arc::clone(&opened.reader),
        with_states: true,
    })?;
    let mut printer = Printer::new(&name, &plugin, arguments.json)?;
    if !printer.begin(&checkpoint)? {
        return Ok(());
    }
    for _ in 0..arguments.records {
        let Some(replayed) = replay.advance()? else {
            break;
        };
        if !printer.record(&replayed)? {
            return Ok(());
        }
    }
    printer.end(arguments.records)
}

fn open(
    arguments: &ReplayArguments,
    pipeline: &LoadedPipeline,
) -> Result<(OpenedCheckpoints, Checkpoint), CommandError> {
    let id = arguments.from.as_deref().map(str::parse::<u64>);
    let (savepoint, id) = match (&arguments.from, id) {
        (Some(file), Some(Err(_))) => (Some(PathBuf::from(file)), None),
        (_, id) => (None, id.and_then(Result::ok)),
    };
    let place = PlaceOrSavepoint {
        place: PlaceArguments {
            pipeline: None,
            data_dir: Some(data_dir(arguments, pipeline)),
        },
        savepoint,
    };
    let opened = place.open()?;
    let checkpoint = opened.checkpoint(id)?;
    Ok((opened, checkpoint))
}

fn data_dir(arguments: &ReplayArguments, pipeline: &LoadedPipeline) -> PathBuf {
    let default = || DataDir::default_path(&pipeline.folder, &pipeline.spec.name);
    arguments.data_dir.clone().unwrap_or_else(default)
}

fn operator_name(
    arguments: &ReplayArguments,
    pipeline: &LoadedPipeline,
) -> Result<String, CommandError> {
    let names: Vec<_> = pipeline.spec.operators.keys().collect();
    let of = |message: String| CommandError::new(EXIT_USAGE, message);
    match (&arguments.operator, names.as_slice()) {
        (Some(name), names) if names.contains(&name) => Ok(name.clone()),
        (Some(name), names) => {
            let hint = suggestions::hint(name, names.iter().map(|name| name.as_str()));
            Err(of(format!("the pipeline has no operator `{name}`{hint}")))
        }
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err(of(
            "the pipeline has no operator, so there is nothing to replay".to_owned(),
        )),
        (None, names) => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            Err(of(format!(
                "which operator? There are {}; name one with `--operator`",
                names.join(", ")
            )))
        }
    }
}

/// The plan with the checkpoint's plugins and configurations. Operators that it does not have come from the pipeline, and so
/// do all if the checkpoint is a savepoint whose plugins the user does not take.
fn plan(
    arguments: &ReplayArguments,
    pipeline: LoadedPipeline,
    opened: &OpenedCheckpoints,
    checkpoint: &Checkpoint,
    engine: &GuestEngine,
) -> Result<Plan, CommandError> {
    let mut plugins = BTreeMap::new();
    let takes = !opened.is_foreign || arguments.take_plugins;
    let saved = |name: &str| saved(checkpoint, name).filter(|_| takes);
    for name in pipeline.spec.operators.keys() {
        let plugin = match saved(name) {
            Some(saved) => {
                let component = opened.reader.plugin(saved.plugin)?;
                let limits = limits_of(&pipeline.spec, name);
                Arc::new(engine.load_within(name, &component, limits)?)
            }
            None => load(&pipeline.spec, name, engine, &mut warn)?.1,
        };
        plugins.insert(name.clone(), plugin);
    }
    let (_, mut plan) = put_together(pipeline, &plugins, "")?;
    for node in &mut plan.nodes {
        if let (Role::Operator(operator), Some(saved)) = (&mut node.role, saved(&node.name)) {
            // Checkpoints of old versions have no configuration.
            if !saved.config.is_empty() {
                operator.config.clone_from(&saved.config);
            }
        }
    }
    plan.allow_dropped_state = arguments.allow_dropped_state;
    plan.backend = StateBackend::Disk {
        memory_bytes: STATE_BYTES,
        scratch: Arc::new(|| scratch::file_in(&std::env::temp_dir())),
    };
    Ok(plan)
}

fn saved<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<&'a OperatorSnapshot> {
    let mut operators = checkpoint.operators.iter();
    operators.find(|operator| operator.name == name)
}

/// The operator to replay, with another plugin or configuration if given.
fn asked(
    arguments: &ReplayArguments,
    plan: &Plan,
    name: &str,
    engine: &GuestEngine,
) -> Result<Operator, CommandError> {
    let mut nodes = plan.nodes.iter().filter(|node| node.name == name);
    let found = nodes.find_map(|node| match &node.role {
        Role::Operator(operator) => Some(operator.clone()),
        _ => None,
    });
    let mut operator = found.expect("the pipeline has the operator");
    if let Some(path) = &arguments.plugin {
        let plugin = other(path, name, operator.limits, engine)?;
        let (now, before) = (plugin.description(), operator.plugin.description());
        if now.inputs != before.inputs {
            return Err(CommandError::new(
                EXIT_USAGE,
                format!(
                    "the plugin `{}` has the inputs {:?}, but operator `{name}` is given {:?}",
                    path.display(),
                    now.inputs,
                    before.inputs
                ),
            ));
        }
        operator.plugin = Arc::new(plugin);
    }
    for text in &arguments.configs {
        let (field, value) = text.split_once('=').ok_or_else(|| {
            let message = format!("`--config {text}` has no `=`; write `--config field=value`");
            CommandError::new(EXIT_USAGE, message)
        })?;
        operator.config.retain(|(known, _)| known != field);
        operator.config.push((field.to_owned(), value.to_owned()));
    }
    operator.config.sort();
    Ok(operator)
}

fn other(
    path: &Path,
    name: &str,
    limits: Limits,
    engine: &GuestEngine,
) -> Result<Plugin, CommandError> {
    let of_plugin = |reason: String| CommandError::new(EXIT_PLUGIN, reason);
    let path = floodmark_plugin_build::component(path, &mut warn);
    let path = path.map_err(|error| of_plugin(error.to_string()))?;
    let component = std::fs::read(&path).map_err(|error| {
        of_plugin(format!(
            "cannot read the plugin `{}`: {error}",
            path.display()
        ))
    })?;
    Ok(engine.load_within(name, &component, limits)?)
}
