//! The plan of a job: nodes with their components, and edges. A plan is checked, so building tasks from it cannot fail
//! because of a wrong graph.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use super::aligner::Mode;
pub use super::state_room::StateBudget;
use crate::connector::{Sink, Source};
use crate::guest::{Limits, Plugin};
use floodmark_checkpoint::PluginChoice;
use floodmark_state::stream::{InputPort, MaxParallelism, OutputPort, TaskIndex};

/// A checked graph with everything that is needed to run it.
///
/// - `nodes` are in topological order: an edge leads from a lower index to a higher one.
/// - Ports of edges exist; sources have one output port, sinks one input port, and all nodes one more output port for
///   dead letters, behind the others.
/// - Edges into an operator with state go by key.
#[derive(Clone)]
pub struct Plan {
    /// The name of the job.
    pub job: String,
    /// The id of the data folder, with which sinks mark their output.
    pub data_folder: String,
    /// Identifies the job across runs.
    pub identity: String,
    /// Tasks per node.
    pub parallelism: u16,
    /// Tasks per node in the pipeline file: differs from `parallelism` if the job was rescaled while it ran.
    pub configured_parallelism: u16,
    /// Number of key groups.
    pub max_parallelism: MaxParallelism,
    /// The guarantee of checkpoints.
    pub mode: Mode,
    /// Whether saved state that no plugin declares any longer is dropped; otherwise it is an error.
    pub allow_dropped_state: bool,
    /// The place for state while the job runs.
    pub backend: StateBackend,
    /// Sources, operators and sinks.
    pub nodes: Vec<Node>,
    /// The connections between nodes.
    pub edges: Vec<Edge>,
}

/// The place for state while a job runs.
#[derive(Clone)]
pub enum StateBackend {
    /// All of it in memory.
    Memory,
    /// Recently used state is in memory, and the rest in files.
    Disk {
        /// Bytes of state in memory, over all tasks.
        memory_bytes: u64,
        /// Creates an empty file for its caller alone.
        scratch: Scratch,
    },
}

/// Creates an empty file for its caller alone.
pub type Scratch = Arc<dyn Fn() -> io::Result<File> + Send + Sync>;

/// A node of the graph.
#[derive(Clone)]
pub struct Node {
    /// Its name in the pipeline file.
    pub name: String,
    /// The kind of node, with its component.
    pub role: Role,
    /// The handling of records that a source cannot read or a sink cannot write. For an operator, its own counts.
    pub bad_records: OnError,
}

impl Node {
    /// A node for which a bad record fails the job.
    #[must_use]
    pub fn new(name: impl Into<String>, role: Role) -> Self {
        Self {
            name: name.into(),
            role,
            bad_records: OnError::Fail,
        }
    }
}

/// The kind of a node, with its component.
#[expect(
    clippy::large_enum_variant,
    reason = "a plan has few nodes, and no record passes through it"
)]
#[derive(Clone)]
pub enum Role {
    /// Reads records.
    Source(Arc<dyn Source>),
    /// Calls a plugin.
    Operator(Operator),
    /// Writes records.
    Sink(Arc<dyn Sink>),
}

/// Whether it is an operator whose plugin declares states.
fn has_state(node: &Node) -> bool {
    match &node.role {
        Role::Operator(operator) => !operator.plugin.description().states.is_empty(),
        _ => false,
    }
}

/// The plugin and settings of an operator.
#[derive(Clone)]
pub struct Operator {
    /// The plugin that runs.
    pub plugin: Arc<Plugin>,
    /// The configuration that the plugin is opened with.
    pub config: Vec<(String, String)>,
    /// The choice in the pipeline file, if another plugin runs in its place.
    pub replaces: Option<PluginChoice>,
    /// Time to live of entries by state, in place of the plugin's; `None` is without expiry.
    pub ttl_ms: BTreeMap<String, Option<u64>>,
    /// The limits of an instance, of this plugin and of later replacements.
    pub limits: Limits,
    /// What its state may take together with that of others, if `limits` have no size; `None` without a limit.
    pub state_budget: Option<Arc<StateBudget>>,
    /// The handling of records that the plugin cannot handle.
    pub on_error: OnError,
}

impl Operator {
    /// An operator with default settings.
    #[must_use]
    pub fn new(plugin: Arc<Plugin>, config: Vec<(String, String)>) -> Self {
        Self {
            limits: plugin.limits(),
            plugin,
            config,
            replaces: None,
            ttl_ms: BTreeMap::new(),
            state_budget: None,
            on_error: OnError::default(),
        }
    }

    /// The same operator for tasks beside those of the job, which take nothing from what these share.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self {
            plugin: Arc::new(self.plugin.apart()),
            state_budget: None,
            ..self.clone()
        }
    }

    /// The plugin that runs, and its configuration.
    #[must_use]
    pub fn choice(&self) -> PluginChoice {
        PluginChoice {
            plugin: self.plugin.digest(),
            config: self.config.clone(),
        }
    }
}

/// The handling of a record that a plugin cannot handle, since it fails at it or rejects it; that a source cannot read; or
/// that a sink cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The job fails. The restart strategy decides, if a plugin has failed; all others would fail again.
    #[default]
    Fail,
    /// The record is skipped.
    Skip,
    /// The record leaves through the port for dead letters.
    DeadLetter,
}

/// The index of a node in [`Plan::nodes`], from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub usize);

/// The index of a worker, from 0: there are as many as [`Plan::parallelism`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerIndex(pub u16);

impl WorkerIndex {
    /// The index of each of its tasks: it has one of every node.
    #[must_use]
    pub fn task(self) -> TaskIndex {
        TaskIndex(self.0)
    }
}

/// The index of a region of a worker, from 0; the same on all workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RegionIndex(pub usize);

/// Connects an output port to an input port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The sending node.
    pub from: NodeIndex,
    /// The output port.
    pub output: OutputPort,
    /// The receiving node.
    pub to: NodeIndex,
    /// The input port.
    pub input: InputPort,
    /// The choice of the receiving task.
    pub routing: Routing,
}

/// The choice of the task that receives a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// The task on the same worker.
    Forward,
    /// The task that owns the record's key.
    ByKey,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.nodes.iter().map(|node| &node.name).collect();
        f.debug_struct("Plan")
            .field("job", &self.job)
            .field("nodes", &names)
            .field("edges", &self.edges)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// The node with this index.
    ///
    /// # Panics
    /// When the index is from another plan.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    /// All nodes, each with its index.
    pub fn indexed_nodes(&self) -> impl Iterator<Item = (NodeIndex, &Node)> {
        (0..).map(NodeIndex).zip(&self.nodes)
    }

    /// Lets the state of all operators whose limits name no size have so many bytes together.
    pub fn bound_state(&mut self, bytes: u64) {
        let budget = Arc::new(StateBudget::new(bytes));
        for node in self.nodes.iter_mut().filter(|node| has_state(node)) {
            if let Role::Operator(operator) = &mut node.role {
                operator.state_budget = Some(Arc::clone(&budget));
            }
        }
    }

    /// Asserts the invariants above. The maker of a plan has already checked the graph, so a violation is a bug.
    ///
    /// # Panics
    /// When an invariant is violated.
    pub(super) fn assert_sound(&self) {
        let ports = |node: &Node| match &node.role {
            Role::Source(_) => (0, 1),
            Role::Sink(_) => (1, 0),
            Role::Operator(operator) => {
                let description = operator.plugin.description();
                (description.inputs.len(), description.outputs.len())
            }
        };
        for edge in &self.edges {
            assert!(edge.from < edge.to, "edges lead to later nodes");
            let (from, to) = (self.node(edge.from), self.node(edge.to));
            // Dead letters leave by one port more.
            let (inputs, outputs) = (ports(to).0, ports(from).1 + 1);
            let has_ports =
                usize::from(edge.output.0) < outputs && usize::from(edge.input.0) < inputs;
            assert!(has_ports, "the ports of edges exist");
            let has_state = match &to.role {
                Role::Operator(operator) => !operator.plugin.description().states.is_empty(),
                Role::Source(_) | Role::Sink(_) => false,
            };
            assert!(
                !has_state || edge.routing == Routing::ByKey,
                "records go by key to operators with state"
            );
        }
        let regions = self.regions();
        for edge in self.edges.iter().filter(|edge| !self.is_local(edge)) {
            assert!(
                regions[edge.from.0] != regions[edge.to.0],
                "exchanges lead to other regions: one would wait for its own barrier"
            );
        }
        let parallelism = self.parallelism;
        let groups = self.max_parallelism.get();
        assert!((1..=groups).contains(&parallelism), "a task has key groups");
    }

    /// Tasks of operators that declare state.
    #[must_use]
    pub fn stateful_tasks(&self) -> u64 {
        let is_stateful = |node: &&Node| match &node.role {
            Role::Operator(operator) => !operator.plugin.description().states.is_empty(),
            Role::Source(_) | Role::Sink(_) => false,
        };
        self.nodes.iter().filter(is_stateful).count() as u64 * u64::from(self.parallelism)
    }

    /// Whether no task reads the values of a source's records. An operator's task reads them if its plugin does, or if
    /// records that the plugin cannot handle become dead letters.
    ///
    /// With at-least-once checkpoints the answer is no: records from before a swap may then reach the new plugin, which
    /// may read values.
    #[must_use]
    pub fn skips_values(&self, source: NodeIndex) -> bool {
        let reads_values = |edge: &Edge| match &self.node(edge.to).role {
            Role::Source(_) | Role::Sink(_) => true,
            Role::Operator(operator) => {
                let unread = &operator.plugin.description().unread;
                operator.on_error == OnError::DeadLetter
                    || !unread[usize::from(edge.input.0)].values
            }
        };
        // Dead letters have values of their own.
        let is_input = |edge: &&Edge| edge.from == source && edge.output == OutputPort(0);
        let mut edges = self.edges.iter().filter(is_input);
        self.mode == Mode::ExactlyOnce && !edges.any(reads_values)
    }

    /// The same plan with another operator under a name.
    #[must_use]
    pub fn with_operator(&self, name: &str, operator: Operator) -> Self {
        let mut plan = self.clone();
        for node in plan.nodes.iter_mut().filter(|node| node.name == name) {
            if let Role::Operator(role) = &mut node.role {
                role.clone_from(&operator);
            }
        }
        plan
    }

    /// Whether records of an edge stay on their worker.
    #[must_use]
    pub fn is_local(&self, edge: &Edge) -> bool {
        edge.routing == Routing::Forward || self.parallelism == 1
    }

    /// Groups nodes that pass records on by function calls. Returns the region of each node; indexes grow along the
    /// stream.
    #[must_use]
    pub fn regions(&self) -> Vec<RegionIndex> {
        let mut region: Vec<usize> = (0..self.nodes.len()).collect();
        for edge in self.edges.iter().filter(|edge| self.is_local(edge)) {
            let (left, right) = (region[edge.from.0], region[edge.to.0]);
            let (low, high) = (left.min(right), left.max(right));
            region
                .iter_mut()
                .filter(|number| **number == high)
                .for_each(|number| *number = low);
        }
        let mut numbers = region.clone();
        numbers.sort_unstable();
        numbers.dedup();
        region
            .iter()
            .map(|number| RegionIndex(numbers.partition_point(|known| known < number)))
            .collect()
    }
}
