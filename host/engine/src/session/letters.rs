//! Adds sources that are in no pipeline file: they read letters that are replayed to their operators.
//!
//! These sources are in the plan and not in the graph, so that a job's identity does not depend on replays. Their names
//! have dots, which names in a pipeline file cannot have. There is one for each input of an operator that sets records
//! aside, and of an operator that has replayed letters from an earlier time: its positions must stay in the
//! checkpoints.

use std::path::Path;
use std::sync::Arc;

use super::EngineError;
use crate::connector::ReplayedLetters;
use crate::edge::replay_folder::{ReplayFolder, ReplayFolderError};
use crate::runtime::plan::{Edge, Node, NodeIndex, OnError, Plan, Role, Routing};
use floodmark_state::stream::{InputPort, OutputPort};

impl From<ReplayFolderError> for EngineError {
    fn from(error: ReplayFolderError) -> Self {
        Self::data(error.to_string())
    }
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
    let mut edges = Vec::new();
    let mut places = Vec::new();
    for (index, node) in (0..).map(NodeIndex).zip(plan.nodes.drain(..)) {
        if let Role::Operator(operator) = &node.role {
            let inputs = &operator.plugin.description().inputs;
            for (port, input) in (0..).map(InputPort).zip(inputs) {
                let is_there = |(known, of): &(String, String)| *known == node.name && of == input;
                if operator.on_error != OnError::DeadLetter && !unread.iter().any(is_there) {
                    continue;
                }
                unread.retain(|known| !is_there(known));
                let letters = match follow {
                    true => folder.make_port(&node.name, input)?,
                    false => folder.port(&node.name, input),
                };
                let from = NodeIndex(nodes.len());
                edges.push((from, index, port, routing(&plan.edges, index)));
                nodes.push(Node {
                    name: format!("{}.{input}.replay", node.name),
                    role: Role::Source(Arc::new(ReplayedLetters::new(&letters, follow))),
                });
            }
        }
        places.push(NodeIndex(nodes.len()));
        nodes.push(node);
    }
    for edge in &mut plan.edges {
        edge.from = places[edge.from.0];
        edge.to = places[edge.to.0];
    }
    let added = edges.into_iter().map(|(from, to, input, routing)| Edge {
        from,
        output: OutputPort(0),
        to: places[to.0],
        input,
        routing,
    });
    plan.edges.extend(added);
    plan.nodes = nodes;
    let warning = |(operator, input): (String, String)| {
        format!(
            "warning: the letters in `{}` are not read, since the pipeline has no operator `{operator}` with an input `{input}`",
            folder.port(&operator, &input).display()
        )
    };
    Ok(unread.into_iter().map(warning).collect())
}

/// The routing of records to an operator.
fn routing(edges: &[Edge], to: NodeIndex) -> Routing {
    let known = edges.iter().find(|edge| edge.to == to);
    known.expect("every input port has an edge").routing
}
