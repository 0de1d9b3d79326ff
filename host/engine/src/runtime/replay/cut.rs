//! Cuts a plan down to the ancestors of one operator, and captures the records that would reach the operator.
//!
//! The operator itself stays, without edges: it is built like the others, with its state, and called by the replay.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::connector::{
    ConnectorError, DiscardSink, Guarantee, ReadLimits, ReadOutcome, Sink, SinkCommitter,
    SinkWriter, Source, SourceProgress, SourceReader, UnwritableRecord,
};
use crate::runtime::plan::{Edge, Node, NodeIndex, OnError, Operator, Plan, Role};
use floodmark_checkpoint::{Split, Staged};
use floodmark_state::stream::{Batch, CheckpointId, InputPort, TaskIndex};

/// Records that reached the operator, with the input port.
#[derive(Clone, Default)]
pub(super) struct Captured(Arc<Mutex<Vec<(InputPort, Batch)>>>);

impl Captured {
    fn push(&self, input: InputPort, batch: Batch) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.push((input, batch));
    }

    /// Takes all records since the last call.
    pub(super) fn take(&self) -> Vec<(InputPort, Batch)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The plan, and the operator's node in it; `None` if there is no such operator.
pub(super) fn cut(plan: &Plan, operator: &str, captured: &Captured) -> Option<(Plan, NodeIndex)> {
    let is_meant = |node: &Node| node.name == operator && matches!(node.role, Role::Operator(_));
    let target = plan.nodes.iter().position(is_meant)?;
    let mut is_kept = vec![false; plan.nodes.len()];
    is_kept[target] = true;
    // From the last node to the first: a node is kept if one of its successors is, which is already known. A sink whose
    // dead letters lead to the operator is not: it would write.
    for at in (0..plan.nodes.len()).rev() {
        if matches!(plan.nodes[at].role, Role::Sink(_)) {
            continue;
        }
        let mut leading = plan.edges.iter().filter(|edge| edge.from.0 == at);
        is_kept[at] |= leading.any(|edge| is_kept[edge.to.0]);
    }
    let mut places = vec![None; plan.nodes.len()];
    let mut nodes = Vec::new();
    for (at, node) in plan.nodes.iter().enumerate().filter(|(at, _)| is_kept[*at]) {
        places[at] = Some(NodeIndex(nodes.len()));
        let role = match &node.role {
            Role::Source(source) => Role::Source(Arc::new(OneByOne(Arc::clone(source)))),
            // A replay shows the records at which the operator fails, so none is skipped.
            Role::Operator(operator) if at == target => Role::Operator(Operator {
                on_error: OnError::Fail,
                ..operator.apart()
            }),
            Role::Operator(operator) => Role::Operator(operator.apart()),
            Role::Sink(sink) => Role::Sink(Arc::clone(sink)),
        };
        nodes.push(Node {
            role,
            ..node.clone()
        });
    }
    let mut edges = Vec::new();
    for edge in &plan.edges {
        let (Some(from), Some(to)) = (places[edge.from.0], places[edge.to.0]) else {
            continue;
        };
        if edge.to.0 != target {
            edges.push(Edge { from, to, ..*edge });
            continue;
        }
        let place = CapturingSink {
            captured: captured.clone(),
            input: edge.input,
        };
        edges.push(Edge {
            from,
            to: NodeIndex(nodes.len()),
            input: InputPort(0),
            ..*edge
        });
        let name = format!("{operator}.{}", edge.input.0);
        nodes.push(Node::new(name, Role::Sink(Arc::new(place))));
    }
    let cut = Plan {
        parallelism: 1,
        nodes,
        edges,
        ..plan.clone()
    };
    Some((cut, places[target]?))
}

/// Reads one record at a time.
struct OneByOne(Arc<dyn Source>);

impl Source for OneByOne {
    fn splits(
        &self,
        from: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        self.0.splits(from, restored)
    }

    fn can_resume(&self, splits: &[Split]) -> Result<(), ConnectorError> {
        self.0.can_resume(splits)
    }

    fn is_beside_input(&self) -> bool {
        self.0.is_beside_input()
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        Ok(Box::new(OneByOneReader(self.0.reader(splits)?)))
    }
}

struct OneByOneReader(Box<dyn SourceReader>);

impl SourceReader for OneByOneReader {
    fn read(
        &mut self,
        now: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        let records_max = 1;
        let limits = ReadLimits {
            records_max,
            ..limits
        };
        self.0.read(now, limits, batch)
    }

    fn splits(&self) -> Vec<Split> {
        self.0.splits()
    }

    fn progress(&self) -> SourceProgress {
        self.0.progress()
    }
}

/// A sink that captures records of an input port.
struct CapturingSink {
    captured: Captured,
    input: InputPort,
}

impl Sink for CapturingSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(PlaceWriter {
            captured: self.captured.clone(),
            input: self.input,
        }))
    }

    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError> {
        // There is nothing to commit.
        DiscardSink.committer()
    }
}

struct PlaceWriter {
    captured: Captured,
    input: InputPort,
}

impl SinkWriter for PlaceWriter {
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError> {
        self.captured.push(self.input, batch.clone());
        Ok(Vec::new())
    }

    fn stage(&mut self, _: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        Ok(None)
    }
}
