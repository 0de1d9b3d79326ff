//! Adds sources that are in no pipeline file: they read letters that are replayed to their nodes.
//!
//! These sources are in the plan and not in the graph, so that a job's identity does not depend on replays. Their names
//! have dots, which names in a pipeline file cannot have. There is one for each input of an operator that sets records
//! aside, one for each sink that does so, and one beside each source: it emits by the outputs of that source. A node that
//! has replayed letters from an earlier time keeps its own: the positions must stay in the checkpoints.

use std::path::Path;
use std::sync::Arc;

use super::EngineError;
use crate::connector::letter::{INPUT_OF_SINKS, INPUT_OF_SOURCES};
use crate::connector::{ReplayedLetters, Source};
use crate::edge::replay_folder::{ReplayFolder, ReplayFolderError};
use crate::runtime::plan::{Edge, Node, NodeIndex, OnError, Plan, Role, Routing};
use floodmark_state::stream::{InputPort, OutputPort};

impl From<ReplayFolderError> for EngineError {
    fn from(error: ReplayFolderError) -> Self {
        Self::data(error.to_string())
    }
}

/// The target of the records in replayed letters.
enum ReplayTarget {
    /// An input of an operator or a sink.
    Input(InputPort),
    /// What reads this source.
    Outputs(Arc<dyn Source>),
}

/// An input by which a node may get letters.
struct ReplayPort {
    name: String,
    target: ReplayTarget,
    /// Whether the node sets records aside.
    sets_aside: bool,
}

fn ports_of(node: &Node) -> Vec<ReplayPort> {
    let sets_aside = node.bad_records == OnError::DeadLetter;
    match &node.role {
        Role::Operator(operator) => {
            let inputs = &operator.plugin.description().inputs;
            let ports = (0..).map(InputPort).zip(inputs);
            let ports = ports.map(|(port, name)| ReplayPort {
                name: name.clone(),
                target: ReplayTarget::Input(port),
                sets_aside: operator.on_error == OnError::DeadLetter,
            });
            ports.collect()
        }
        Role::Sink(_) => vec![ReplayPort {
            name: INPUT_OF_SINKS.to_owned(),
            target: ReplayTarget::Input(InputPort(0)),
            sets_aside,
        }],
        Role::Source(source) => vec![ReplayPort {
            name: INPUT_OF_SOURCES.to_owned(),
            target: ReplayTarget::Outputs(Arc::clone(source)),
            sets_aside,
        }],
    }
}

/// A source that was added, and what it leads to: places are those in the plan without such sources.
struct AddedSource {
    at: NodeIndex,
    of: NodeIndex,
    input: Option<InputPort>,
}

/// Adds the sources to a plan; with `follow` they wait for more letters. Returns warnings for the user.
///
/// # Errors
/// When the folders of letters cannot be read or created.
pub fn add_sources(
    plan: &mut Plan,
    data_dir: &Path,
    follow: bool,
) -> Result<Vec<String>, EngineError> {
    let folder = ReplayFolder::of(data_dir);
    let mut unread = folder.ports()?;
    let mut nodes = Vec::new();
    let mut added = Vec::new();
    let mut places = Vec::new();
    for (of, node) in (0..).map(NodeIndex).zip(plan.nodes.drain(..)) {
        for port in ports_of(&node) {
            let is_there =
                |(known, input): &(String, String)| *known == node.name && *input == port.name;
            if !port.sets_aside && !unread.iter().any(is_there) {
                continue;
            }
            let letters = folder.port(&node.name, &port.name);
            let (source, input) = match port.target {
                ReplayTarget::Input(input) => {
                    let letters: Arc<dyn Source> = Arc::new(ReplayedLetters::new(&letters, follow));
                    (letters, Some(input))
                }
                ReplayTarget::Outputs(source) => match source.letters(&letters, follow) {
                    Some(letters) => (letters, None),
                    None => continue,
                },
            };
            unread.retain(|known| !is_there(known));
            if follow {
                folder.make_port(&node.name, &port.name)?;
            }
            added.push(AddedSource {
                at: NodeIndex(nodes.len()),
                of,
                input,
            });
            let name = format!("{}.{}.replay", node.name, port.name);
            nodes.push(Node {
                // Letters of operators and sinks are not input of the user: one that is damaged is never skipped.
                bad_records: match input {
                    Some(_) => OnError::Fail,
                    None => node.bad_records,
                },
                ..Node::new(name, Role::Source(source))
            });
        }
        places.push(NodeIndex(nodes.len()));
        nodes.push(node);
    }
    let mut edges = Vec::new();
    for source in added {
        edges.extend(edges_of(&source, &plan.edges, &places));
    }
    for edge in &mut plan.edges {
        edge.from = places[edge.from.0];
        edge.to = places[edge.to.0];
    }
    plan.edges.extend(edges);
    plan.nodes = nodes;
    let warning = |(node, input): (String, String)| {
        format!(
            "warning: the letters in `{}` are not read, since the pipeline has no node `{node}` that takes letters by `{input}`",
            folder.port(&node, &input).display()
        )
    };
    Ok(unread.into_iter().map(warning).collect())
}

/// The edges of an added source.
fn edges_of(source: &AddedSource, edges: &[Edge], places: &[NodeIndex]) -> Vec<Edge> {
    let Some(input) = source.input else {
        // The same as those of the source beside it.
        let beside = edges.iter().filter(|edge| edge.from == source.of);
        let moved = beside.map(|edge| Edge {
            from: source.at,
            to: places[edge.to.0],
            ..*edge
        });
        return moved.collect();
    };
    vec![Edge {
        from: source.at,
        output: OutputPort(0),
        to: places[source.of.0],
        input,
        routing: routing(edges, source.of),
    }]
}

/// The routing of records to a node.
fn routing(edges: &[Edge], to: NodeIndex) -> Routing {
    let known = edges.iter().find(|edge| edge.to == to);
    known.expect("every input port has an edge").routing
}
