//! The checked graph of a spec, with all ports matched and the routing of all edges decided.
//!
//! Pure: the caller loads the plugins and passes their descriptions. An operator with state gets its input by key;
//! everything else stays on its task. The runtime decides which tasks are chained.

use std::collections::{BTreeMap, BTreeSet};

use super::from::{From, Reference};
use super::problem::{Problem, Problems};
use super::spec::Spec;
use super::{suggestions, wiring};
use floodmark_state::stream::{DEAD_LETTERS, InputPort, OutputPort};

/// The parts of a plugin's description that the graph depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginInterface {
    /// Input ports, at least one.
    pub inputs: Vec<String>,
    /// Output ports, at least one.
    pub outputs: Vec<String>,
    /// The names of its states, in order of declaration.
    pub states: Vec<String>,
}

/// An index of [`PipelineGraph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(pub u16);

/// A node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    /// Its index in the plan.
    pub id: NodeId,
    /// The name, which is unique; the spec has its settings under this name.
    pub name: String,
    /// Whether it is a source, an operator or a sink.
    pub kind: NodeKind,
    /// Names of input ports, by [`InputPort`]: those of the plugin; for a sink, one with an empty name.
    pub inputs: Vec<String>,
    /// Names of output ports, by [`OutputPort`]: those of the plugin, or for a source one with an empty name; and
    /// [`DEAD_LETTERS`].
    pub outputs: Vec<String>,
}

/// The kind of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Reads records from outside.
    Source,
    /// Calls a plugin.
    Operator {
        /// Whether it has state, and so gets its input by key.
        stateful: bool,
    },
    /// Writes records to the outside.
    Sink,
}

/// Connects an output port to an input port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GraphEdge {
    /// The node that writes.
    pub from: NodeId,
    /// The output port.
    pub output: OutputPort,
    /// The node that reads.
    pub to: NodeId,
    /// The input port.
    pub input: InputPort,
    /// The choice of the task that gets a record.
    pub exchange: GraphExchange,
}

/// The choice of the task that gets a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GraphExchange {
    /// The task with the same number as the one that wrote it.
    Forward,
    /// The task that owns its key.
    ByKey,
}

/// A pipeline that can run.
///
/// - `nodes[i].id` is `i`, and every edge goes from a smaller id to a larger one.
/// - Edges are sorted and no two are equal.
/// - Every input port and every output port has an edge, except that for dead letters it is optional.
#[derive(Debug, Clone)]
pub struct PipelineGraph {
    /// The parsed pipeline.
    pub spec: Spec,
    /// The nodes, in topological order.
    pub nodes: Vec<GraphNode>,
    /// The edges, sorted by writer, output port, reader and input port.
    pub edges: Vec<GraphEdge>,
}

impl PipelineGraph {
    /// Matches the ports. `plugins` has the facts of every operator of the spec, by its name.
    ///
    /// # Errors
    /// With every `from` that does not match the ports, and every port without an edge.
    ///
    /// # Panics
    /// When `plugins` lacks an operator.
    pub fn new(spec: Spec, plugins: &BTreeMap<String, PluginInterface>) -> Result<Self, Problems> {
        Problems::none(unknown_states(&spec, plugins))?;
        let nodes = nodes(&spec, plugins)?;
        let mut matching = Matching {
            spec: &spec,
            nodes: &nodes,
            ids: nodes
                .iter()
                .map(|node| (node.name.as_str(), node.id))
                .collect(),
            edges: BTreeSet::new(),
            problems: Vec::new(),
        };
        for node in &nodes {
            matching.node(node);
        }
        if matching.problems.is_empty() {
            matching.outputs_read();
        }
        let (edges, problems) = (matching.edges, matching.problems);
        Problems::none(problems)?;
        let mut edges: Vec<GraphEdge> = edges.into_iter().collect();
        exchange_between_stages(&nodes, &mut edges);
        assert!(
            edges.iter().all(|edge| edge.from < edge.to),
            "nodes are in topological order"
        );
        Ok(Self { spec, nodes, edges })
    }

    /// The node with this id.
    ///
    /// # Panics
    /// When the id is of another plan.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &GraphNode {
        &self.nodes[usize::from(id.0)]
    }

    /// The edges that arrive at a node.
    pub fn incoming(&self, id: NodeId) -> impl Iterator<Item = &GraphEdge> {
        self.edges.iter().filter(move |edge| edge.to == id)
    }
}

/// Sends records by key where they would otherwise pass directly from before an exchange to behind it. Tasks that pass
/// records directly take a checkpoint together, so beside such a shortcut they would wait for their own barrier.
///
/// The stage of a node is the largest number of exchanges on a way to it. No way leads to a source: it gets the latest stage
/// that its readers allow. Records pass directly within a stage only.
fn exchange_between_stages(nodes: &[GraphNode], edges: &mut [GraphEdge]) {
    let place = |id: NodeId| usize::from(id.0);
    let exchanges = |edge: &GraphEdge| u16::from(edge.exchange == GraphExchange::ByKey);
    let mut stages = vec![0; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        for edge in edges.iter().filter(|edge| edge.to == node.id) {
            stages[at] = stages[at].max(stages[place(edge.from)] + exchanges(edge));
        }
    }
    for (at, node) in nodes.iter().enumerate() {
        if node.kind == NodeKind::Source {
            let readers = edges.iter().filter(|edge| edge.from == node.id);
            let allowed = readers.map(|edge| stages[place(edge.to)] - exchanges(edge));
            stages[at] = allowed.min().unwrap_or(0);
        }
    }
    for edge in edges {
        if stages[place(edge.from)] < stages[place(edge.to)] {
            edge.exchange = GraphExchange::ByKey;
        }
    }
}

/// Problems about states that no plugin declares.
fn unknown_states(spec: &Spec, plugins: &BTreeMap<String, PluginInterface>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, operator) in &spec.operators {
        let states = &plugins[name].states;
        for state in operator.ttl.keys().filter(|state| !states.contains(state)) {
            let hint = suggestions::hint(state, states.iter().map(String::as_str));
            let message = format!("the plugin has no state `{state}`{hint}");
            problems.push(spec.problem(&["operator", name, "ttl", state], message));
        }
    }
    problems
}

fn nodes(
    spec: &Spec,
    plugins: &BTreeMap<String, PluginInterface>,
) -> Result<Vec<GraphNode>, Problem> {
    let order = wiring::order(spec)?;
    let node = |(id, name): (u16, &str)| {
        let unnamed = || vec![String::new()];
        let (kind, inputs, mut outputs) = if spec.sources.contains_key(name) {
            (NodeKind::Source, Vec::new(), unnamed())
        } else if spec.sinks.contains_key(name) {
            (NodeKind::Sink, unnamed(), Vec::new())
        } else {
            let facts = plugins
                .get(name)
                .expect("every operator has been described");
            assert!(
                !facts.inputs.is_empty() && !facts.outputs.is_empty(),
                "ports were checked"
            );
            let kind = NodeKind::Operator {
                stateful: !facts.states.is_empty(),
            };
            (kind, facts.inputs.clone(), facts.outputs.clone())
        };
        outputs.push(DEAD_LETTERS.to_owned());
        GraphNode {
            id: NodeId(id),
            name: name.to_owned(),
            kind,
            inputs,
            outputs,
        }
    };
    Ok((0..).zip(order).map(node).collect())
}

/// The edges while a [`PipelineGraph`] is built, with the problems so far.
struct Matching<'a> {
    spec: &'a Spec,
    nodes: &'a [GraphNode],
    ids: BTreeMap<&'a str, NodeId>,
    edges: BTreeSet<GraphEdge>,
    problems: Vec<Problem>,
}

impl Matching<'_> {
    /// Adds the edges that arrive at a node.
    fn node(&mut self, node: &GraphNode) {
        let spec = self.spec;
        let path = ["operator", &node.name, "from"];
        if let Some(sink) = spec.sinks.get(&node.name) {
            self.edges(
                node,
                InputPort(0),
                &sink.from,
                &["sink", &node.name, "from"],
            );
        }
        match spec
            .operators
            .get(&node.name)
            .map(|operator| &operator.from)
        {
            None => {}
            Some(From::Only(references)) if node.inputs.len() == 1 => {
                self.edges(node, InputPort(0), references, &path);
            }
            Some(From::Only(_)) => {
                let inputs = suggestions::list(node.inputs.iter().map(String::as_str));
                let first = &node.inputs[0];
                let message = format!(
                    "the plugin has the inputs {inputs}; write which input reads which node, as in `from = {{ {first} = \"NODE\", … }}`"
                );
                self.problems.push(spec.problem(&path, message));
            }
            Some(From::ByInput(from)) => self.named_inputs(node, from),
        }
    }

    fn named_inputs(&mut self, node: &GraphNode, from: &BTreeMap<String, Vec<Reference>>) {
        let spec = self.spec;
        for (input, references) in from {
            let path = ["operator", &node.name, "from", input];
            match (0..).zip(&node.inputs).find(|(_, name)| *name == input) {
                Some((port, _)) => self.edges(node, InputPort(port), references, &path),
                None => {
                    let hint = suggestions::hint(input, node.inputs.iter().map(String::as_str));
                    let message = format!("the plugin has no input `{input}`{hint}");
                    self.problems.push(spec.problem(&path, message));
                }
            }
        }
        for input in node
            .inputs
            .iter()
            .filter(|&input| !from.contains_key(input))
        {
            let message = format!(
                "nothing is connected to the plugin's input `{input}`; add `{input} = \"NODE\"`"
            );
            self.problems
                .push(spec.problem(&["operator", &node.name, "from"], message));
        }
    }

    fn edges(&mut self, to: &GraphNode, input: InputPort, references: &[Reference], path: &[&str]) {
        let exchange = match to.kind {
            NodeKind::Operator { stateful: true } => GraphExchange::ByKey,
            NodeKind::Source | NodeKind::Operator { stateful: false } | NodeKind::Sink => {
                GraphExchange::Forward
            }
        };
        for reference in references {
            let from = &self.nodes[usize::from(self.ids[reference.node.as_str()].0)];
            match output(from, reference.port.as_deref()) {
                Ok(output) => {
                    let edge = GraphEdge {
                        from: from.id,
                        output,
                        to: to.id,
                        input,
                        exchange,
                    };
                    if !self.edges.insert(edge) {
                        let message = format!("names the same output of `{}` twice", from.name);
                        self.problems.push(self.spec.problem(path, message));
                    }
                }
                Err(message) => self.problems.push(self.spec.problem(path, message)),
            }
        }
    }

    fn outputs_read(&mut self) {
        let read: BTreeSet<(NodeId, OutputPort)> = self
            .edges
            .iter()
            .map(|edge| (edge.from, edge.output))
            .collect();
        for node in self.nodes {
            for (port, name) in (0..).zip(&node.outputs) {
                if name == DEAD_LETTERS || read.contains(&(node.id, OutputPort(port))) {
                    continue;
                }
                let node = &node.name;
                let message = format!(
                    "nothing reads the output `{name}`, so its records would vanish; write `{node}.{name}` in a `from`, for example in that of a sink with `connector = \"discard\"`"
                );
                self.problems
                    .push(self.spec.problem(&["operator", node], message));
            }
        }
    }
}

/// The output port that a reference names.
fn output(node: &GraphNode, port: Option<&str>) -> Result<OutputPort, String> {
    let name = &node.name;
    let names = || node.outputs.iter().map(String::as_str);
    let own = || names().filter(|&port| port != DEAD_LETTERS);
    match port {
        None if own().count() == 1 => Ok(OutputPort(0)),
        None => {
            let choices: Vec<String> = own().map(|port| format!("{name}.{port}")).collect();
            let choices = suggestions::list(choices.iter().map(String::as_str));
            Err(format!(
                "`{name}` has several outputs; write one of {choices}"
            ))
        }
        Some(port) if node.kind == NodeKind::Source && port != DEAD_LETTERS => Err(format!(
            "`{name}` is a source and has one output; write `{name}`"
        )),
        Some(port) => (0..)
            .zip(names())
            .find(|(_, known)| *known == port)
            .map(|(index, _)| OutputPort(index))
            .ok_or_else(|| {
                format!(
                    "`{name}` has no output `{port}`{}",
                    suggestions::hint(port, names())
                )
            }),
    }
}
