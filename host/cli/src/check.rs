//! `floodmark check`: loads a pipeline and its plugins, and prints what a run would do. No record is read, and nothing is
//! written but what building plugins writes; `--no-build` leaves that out.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::escape::one_line;
use super::pipeline::read;
use super::print::{print, print_json};
use super::terminal::Terminal;
use super::{CommandError, PipelineArguments};
use floodmark_engine::StartFrom;
use floodmark_engine::connector::Guarantee;
use floodmark_engine::edge::data_dir::DataDir;
use floodmark_engine::guest::Limits;
use floodmark_engine::pipeline::settings::{
    CheckpointMode, OnErrorSetting, StateBackendSetting, StorageSetting,
};
use floodmark_engine::pipeline::spec::OperatorSpec;
use floodmark_engine::pipeline::{GraphExchange, GraphNode, NodeKind, Spec};
use floodmark_engine::pipeline::{duration, size};
use floodmark_engine::runtime::plan::{Operator, Role};
use floodmark_engine::session::assemble::{Assembled, assemble};
use floodmark_engine::session::limits::{Ticking, limits_of};
use floodmark_engine::session::preflight::NO_DATA;
use floodmark_engine::session::{preflight, restart};

/// Loads a pipeline and its plugins, and prints what a run would do
///
/// What takes no time is checked first: names and settings, inputs, the folders of outputs, and whether the plugins exist.
/// Then plugins that are given as folders are built, which runs code that is in them: use `--no-build` for a pipeline from
/// an author whom you do not trust.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    pipeline: PipelineArguments,
    /// Builds, compiles and runs nothing; prints what was therefore not checked
    #[arg(long)]
    no_build: bool,
    /// The data folder of the job, if `run` is given one: inputs of a job that has run there may be gone
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the pipeline cannot run.
pub fn check(arguments: &CheckArguments) -> Result<(), CommandError> {
    let terminal = Terminal::new();
    let pipeline = read(&arguments.pipeline)?;
    let default = || DataDir::default_path(&pipeline.folder, &pipeline.spec.name);
    let data_dir = arguments.data_dir.clone().unwrap_or_else(default);
    let starts_over = preflight::starts_over(&StartFrom::Newest, &data_dir);
    preflight::check(&pipeline, NO_DATA, starts_over)?;
    if arguments.no_build {
        return match arguments.json {
            true => print_json(&facts(&pipeline.spec, None)),
            false => print(&describe_unbuilt(&pipeline.spec)),
        };
    }
    let guests = Ticking::for_job(&pipeline.spec, None, &terminal.saying())?;
    let assembled = assemble(pipeline, &guests.engine, NO_DATA, &mut |line| {
        terminal.say(line)
    })?;
    match arguments.json {
        true => print_json(&facts(&assembled.graph.spec, Some(&assembled))),
        false => print(&describe(&assembled)),
    }
}

/// The pipeline for programs. What only plugins know is `null` without them.
fn facts(spec: &Spec, assembled: Option<&Assembled>) -> Value {
    let plugin = |name: &str| {
        let nodes = &assembled?.plan.nodes;
        let node = nodes.iter().find(|node| node.name == name)?;
        let Role::Operator(Operator { plugin, .. }) = &node.role else {
            return None;
        };
        let description = plugin.description();
        let states = description.states.iter().map(|state| &state.name);
        Some(json!({
            "name": description.name,
            "version": description.version,
            "digest": plugin.digest().to_string(),
            "inputs": description.inputs,
            "outputs": description.outputs,
            "states": states.collect::<Vec<_>>(),
        }))
    };
    let operators = spec.operators.iter().map(|(name, operator)| {
        json!({ "name": name, "path": operator.plugin.display().to_string(), "plugin": plugin(name) })
    });
    json!({
        "job": spec.name,
        "parallelism": spec.parallelism,
        "max-parallelism": spec.max_parallelism.get(),
        "is-built": assembled.is_some(),
        "sources": spec.sources.keys().collect::<Vec<_>>(),
        "operators": operators.collect::<Vec<_>>(),
        "sinks": spec.sinks.keys().collect::<Vec<_>>(),
    })
}

fn describe(assembled: &Assembled) -> String {
    let mut text = describe_job(&assembled.graph.spec);
    for node in &assembled.graph.nodes {
        text += &describe_node(assembled, node);
    }
    text
}

/// What is known without plugins.
fn describe_unbuilt(spec: &Spec) -> String {
    let mut text = describe_job(spec);
    for name in spec.sources.keys() {
        text += &format!("source `{name}`\n{}", describe_bad_records(spec, name));
    }
    for (name, operator) in &spec.operators {
        let plugin = operator.plugin.display().to_string();
        text += &format!("operator `{name}`\n  plugin  {}\n", one_line(&plugin));
        text += &describe_limits(&limits_of(spec, name));
        text += &describe_handling(operator);
    }
    for name in spec.sinks.keys() {
        text += &format!("sink `{name}`\n{}", describe_bad_records(spec, name));
    }
    if !spec.operators.is_empty() {
        let names: Vec<_> = spec.operators.keys().map(String::as_str).collect();
        text += &format!(
            "not checked, since nothing was built or compiled: whether the plugins of `{}` are valid, and fit their ports, states and `config`\n",
            names.join("`, `")
        );
    }
    text
}

fn describe_job(spec: &Spec) -> String {
    let interval = match spec.checkpoint.interval {
        Some(interval) => format!("every {}", duration::format(interval)),
        None => "only when the job stops or ends".to_owned(),
    };
    let mut text = format!(
        "job `{}`: parallelism {} of at most {}; checkpoints {interval}, the last {} kept\n",
        spec.name,
        spec.parallelism,
        spec.max_parallelism.get(),
        spec.checkpoint.retained,
    );
    let storage = &spec.checkpoint.storage;
    if *storage != StorageSetting::Redb {
        let storage = storage.to_string();
        text += &format!("checkpoints are kept in {}\n", one_line(&storage));
    }
    if let Some(warning) = forgetful(storage) {
        text += &format!("warning: {warning}\n");
    }
    if spec.checkpoint.mode == CheckpointMode::AtLeastOnce {
        text += "after a failure, records since the last checkpoint may count twice: `checkpoint.mode` is `at-least-once`\n";
    }
    match (spec.state.backend, spec.state.memory) {
        (StateBackendSetting::Disk, _) => {
            text += &format!(
                "state is on disk, with {} of it in memory\n",
                size::format(spec.state.memory_beside_disk())
            );
        }
        (StateBackendSetting::Memory, Some(bytes)) => {
            text += &format!(
                "operators without `limits.state` may have {} of state together\n",
                size::format(bytes)
            );
        }
        (StateBackendSetting::Memory, None) => {}
    }
    text += &format!("{}\n", restart::describe(&spec.restart));
    text
}

/// A warning for a storage that does not outlive the process.
pub(super) fn forgetful(storage: &StorageSetting) -> Option<&'static str> {
    (*storage == StorageSetting::Memory).then_some(
        "checkpoints are kept in memory only: they are lost when the process ends, so a job that dies starts over; `checkpoint.storage = \"redb\"` keeps them",
    )
}

fn describe_node(assembled: &Assembled, node: &GraphNode) -> String {
    let role = &assembled.plan.nodes[usize::from(node.id.0)].role;
    let mut text = match node.kind {
        NodeKind::Source => format!("source `{}`\n", node.name),
        NodeKind::Sink => format!("sink `{}`\n", node.name),
        NodeKind::Operator { .. } => format!("operator `{}`\n", node.name),
    };
    if let Role::Operator(Operator { plugin, limits, .. }) = role {
        let description = plugin.description();
        text += &format!(
            "  plugin  {} {}, {} bytes, sha256 {}\n          {}\n",
            one_line(&description.name),
            one_line(&description.version),
            plugin.component().len(),
            plugin.digest(),
            one_line(&assembled.components[&node.name].display().to_string()),
        );
        text += &describe_limits(limits);
        for state in &description.states {
            text += &format!(
                "  state   `{}`: one value per key, version {}\n",
                state.name, state.version
            );
        }
    }
    let source = assembled.graph.spec.sources.get(&node.name);
    if source.is_some_and(|source| source.settings.reads_standard_input()) {
        text += "  standard input: if the process dies, what it had read after its last checkpoint is lost\n";
    }
    if let Some(operator) = assembled.graph.spec.operators.get(&node.name) {
        text += &describe_handling(operator);
    }
    text += describe_bad_records(&assembled.graph.spec, &node.name);
    if let Role::Sink(sink) = role {
        text += match sink.guarantee() {
            Guarantee::ExactlyOnce => {
                "  each record is visible exactly once, even after a failure\n"
            }
            Guarantee::AtLeastOnce => {
                "  at least once: after a failure, records since the last checkpoint are written again\n"
            }
        };
    }
    for edge in assembled.graph.incoming(node.id) {
        let from = assembled.graph.node(edge.from);
        let port = match from.outputs[usize::from(edge.output.0)].as_str() {
            "" => String::new(),
            port => format!(", output `{port}`"),
        };
        let how = match edge.exchange {
            GraphExchange::Forward => "",
            GraphExchange::ByKey => ", by key",
        };
        text += &format!("  from    `{}`{port}{how}\n", from.name);
    }
    text
}

/// How bad records of a source or sink are handled, unless one fails the job.
fn describe_bad_records(spec: &Spec, node: &str) -> &'static str {
    let is_source = spec.sources.contains_key(node);
    let is_sink = spec.sinks.contains_key(node);
    match spec.on_error_of(node) {
        Some(OnErrorSetting::Skip) if is_source => "  errors  what is not a record is skipped\n",
        Some(OnErrorSetting::DeadLetter) if is_source => {
            "  errors  what is not a record is set aside as a dead letter\n"
        }
        Some(OnErrorSetting::Skip) if is_sink => {
            "  errors  a record that cannot be written is skipped\n"
        }
        Some(OnErrorSetting::DeadLetter) if is_sink => {
            "  errors  a record that cannot be written is set aside as a dead letter\n"
        }
        _ => "",
    }
}

/// How records that the plugin cannot handle are handled, and how long its states live.
fn describe_handling(operator: &OperatorSpec) -> String {
    let mut text = match operator.on_error {
        OnErrorSetting::Fail => "  errors  a record that the plugin cannot handle fails the job\n",
        OnErrorSetting::Skip => "  errors  a record that the plugin cannot handle is skipped\n",
        OnErrorSetting::DeadLetter => {
            "  errors  a record that the plugin cannot handle is set aside as a dead letter\n"
        }
    }
    .to_owned();
    for (state, ttl) in &operator.ttl {
        text += &match ttl.0 {
            Some(ttl) => format!(
                "          `{state}` expires {} after its last write\n",
                duration::format(ttl)
            ),
            None => format!("          `{state}` never expires\n"),
        };
    }
    text
}

fn describe_limits(limits: &Limits) -> String {
    let fuel = match limits.fuel_per_call {
        Some(units) => format!(" and {units} units of fuel"),
        None => String::new(),
    };
    let state = match limits.state_bytes {
        None | Some(u64::MAX) => String::new(),
        Some(bytes) => format!(" {} of state per task;", size::format(bytes)),
    };
    format!(
        "  limits  {} of memory; {}, {} of output{fuel} per call;{state} {} log lines per second; {} spare instances\n",
        size::format(limits.memory_bytes),
        duration::format(limits.time_per_call),
        size::format(limits.output_bytes_per_call),
        limits.log_lines_per_second,
        limits.instances,
    )
}
