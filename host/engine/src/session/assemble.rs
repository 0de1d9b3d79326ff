//! From what a user typed to a plan that can run: the file is read, plugins are built and loaded, connectors are made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::limits::limits_of;
use super::{EngineError, number};
use crate::connector::{ConnectorError, NodeContext};
use crate::guest::{GuestEngine, Plugin};
use crate::pipeline::settings::{CheckpointMode, OnErrorSetting, Ttl};
use crate::pipeline::{self, GraphExchange, NodeKind, PluginInterface, Spec};
use crate::runtime::aligner::Mode;
use crate::runtime::plan::{
    self, Edge, Node, NodeIndex, Operator, Plan, Role, Routing, StateBackend,
};

/// A pipeline file that was read.
pub struct LoadedPipeline {
    /// The settings of the file, parsed and checked.
    pub spec: Spec,
    /// The folder of the file.
    pub folder: PathBuf,
}

/// A pipeline with everything that it needs to run.
pub struct Assembled {
    /// The graph, for people.
    pub graph: pipeline::PipelineGraph,
    /// What runs.
    pub plan: Plan,
    /// By operator: where its component is.
    pub components: BTreeMap<String, PathBuf>,
}

/// Builds and loads all that the pipeline names. `data` is the id of the data folder.
pub fn assemble(
    pipeline: LoadedPipeline,
    engine: &GuestEngine,
    data: &str,
    say: &mut dyn FnMut(&str),
) -> Result<Assembled, EngineError> {
    let mut plugins = BTreeMap::new();
    let mut components = BTreeMap::new();
    for name in pipeline.spec.operators.keys() {
        let (path, plugin) = load(&pipeline.spec, name, engine, say)?;
        plugins.insert(name.clone(), plugin);
        components.insert(name.clone(), path);
    }
    let (graph, plan) = put_together(pipeline, &plugins, data)?;
    Ok(Assembled {
        graph,
        plan,
        components,
    })
}

/// Components of this size and more take seconds to compile, during which people should know what they wait for.
const LARGE_BYTES: usize = 1 << 20;

/// Builds and loads the plugin that the pipeline names for an operator; returns where its component is, too.
pub fn load(
    spec: &Spec,
    name: &str,
    engine: &GuestEngine,
    say: &mut dyn FnMut(&str),
) -> Result<(PathBuf, Arc<Plugin>), EngineError> {
    let of_plugin = |reason: String| {
        let problem = spec.problem(&["operator", name, "plugin"], reason);
        EngineError::plugin(problem.to_string())
    };
    let path = floodmark_plugin_build::component(&spec.operators[name].plugin, say)
        .map_err(|error| of_plugin(error.to_string()))?;
    let component = std::fs::read(&path).map_err(|error| {
        of_plugin(format!(
            "cannot read the plugin `{}`: {error}",
            path.display()
        ))
    })?;
    let mut is_said = component.len() < LARGE_BYTES;
    let mut compiles = || {
        if !std::mem::replace(&mut is_said, true) {
            say(&format!(
                "compiling the plugin of `{name}`, which has {}",
                number::bytes(component.len() as u64)
            ));
        }
    };
    let plugin = engine
        .load_telling(name, &component, limits_of(spec, name), &mut compiles)
        .map_err(|error| of_plugin(error.to_string()))?;
    Ok((path, Arc::new(plugin)))
}

/// The graph and the plan of a pipeline, with these plugins by operator.
pub fn put_together(
    pipeline: LoadedPipeline,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    data: &str,
) -> Result<(pipeline::PipelineGraph, Plan), EngineError> {
    let LoadedPipeline { spec, folder } = pipeline;
    let facts = plugins
        .iter()
        .map(|(name, plugin)| (name.clone(), facts(plugin)))
        .collect();
    let graph = pipeline::PipelineGraph::new(spec, &facts)?;
    let plan = plan(&graph, &folder, plugins, data)?;
    Ok((graph, plan))
}

fn facts(plugin: &Plugin) -> PluginInterface {
    let description = plugin.description();
    PluginInterface {
        inputs: description.inputs.clone(),
        outputs: description.outputs.clone(),
        states: description
            .states
            .iter()
            .map(|state| state.name.clone())
            .collect(),
    }
}

fn plan(
    graph: &pipeline::PipelineGraph,
    folder: &Path,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    data: &str,
) -> Result<Plan, EngineError> {
    let spec = &graph.spec;
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let context = NodeContext {
            job: &spec.name,
            node: &node.name,
            folder,
            data_folder: data,
        };
        let role = role(spec, node.kind, plugins, &context)?;
        nodes.push(Node {
            bad_records: on_error(spec.on_error_of(&node.name).unwrap_or_default()),
            ..Node::new(&node.name, role)
        });
    }
    let edges = graph.edges.iter().map(|edge| Edge {
        from: NodeIndex(edge.from.0.into()),
        output: edge.output,
        to: NodeIndex(edge.to.0.into()),
        input: edge.input,
        routing: match edge.exchange {
            GraphExchange::Forward => Routing::Forward,
            GraphExchange::ByKey => Routing::ByKey,
        },
    });
    Ok(Plan {
        job: spec.name.clone(),
        data_folder: data.to_owned(),
        identity: graph.identity(),
        parallelism: spec.parallelism,
        configured_parallelism: spec.parallelism,
        max_parallelism: spec.max_parallelism,
        mode: match spec.checkpoint.mode {
            CheckpointMode::ExactlyOnce => Mode::ExactlyOnce,
            CheckpointMode::AtLeastOnce => Mode::AtLeastOnce,
        },
        allow_dropped_state: false,
        backend: StateBackend::Memory,
        edges: edges.collect(),
        nodes,
    })
}

/// What a node does: its plugin with its settings, or its connector, which is made.
fn role(
    spec: &Spec,
    kind: NodeKind,
    plugins: &BTreeMap<String, Arc<Plugin>>,
    context: &NodeContext<'_>,
) -> Result<Role, EngineError> {
    let name = context.node;
    let of_node = |section: &str, error: ConnectorError| {
        let problem = spec.problem(&[section, name], error.to_string());
        EngineError::usage(problem.to_string())
    };
    Ok(match kind {
        NodeKind::Operator { .. } => {
            let operator = &spec.operators[name];
            let config = operator.config.clone().into_iter().collect();
            Role::Operator(Operator {
                ttl_ms: ttl_ms(&operator.ttl),
                on_error: on_error(operator.on_error),
                ..Operator::new(Arc::clone(&plugins[name]), config)
            })
        }
        NodeKind::Source => {
            let made = spec.sources[name].settings.open(context);
            Role::Source(made.map_err(|error| of_node("source", error))?)
        }
        NodeKind::Sink => {
            let made = spec.sinks[name].settings.open(context);
            Role::Sink(made.map_err(|error| of_node("sink", error))?)
        }
    })
}

fn on_error(setting: OnErrorSetting) -> plan::OnError {
    match setting {
        OnErrorSetting::Fail => plan::OnError::Fail,
        OnErrorSetting::Skip => plan::OnError::Skip,
        OnErrorSetting::DeadLetter => plan::OnError::DeadLetter,
    }
}

fn ttl_ms(ttl: &BTreeMap<String, Ttl>) -> BTreeMap<String, Option<u64>> {
    let ms = |ttl: &Ttl| {
        let ms = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        ttl.0.map(ms)
    };
    let all = ttl.iter().map(|(state, ttl)| (state.clone(), ms(ttl)));
    all.collect()
}
