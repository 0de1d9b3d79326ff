//! Builds the workers of a job: tasks with their splits and state, regions, and the exchanges between them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc;

use super::JobError;
use super::aligner::Aligner;
use super::bad_records::BadRecordHandler;
use super::chunks::{named_chunks, overlap};
use super::exchange::{Exchange, Receiver, Wake, channel};
use super::faults::Handling;
use super::keyed::{Dictionary, Partitioner};
use super::observed::Meters;
use super::plan::{NodeIndex, Operator, Plan, RegionIndex, Role, StateBackend, WorkerIndex};
use super::report::Reports;
use super::retained_state::{RetainedState, RetainedStates};
use super::schema::{States, snapshot_of};
use super::snapshot::Seals;
use super::source_task::SourceTask;
use super::sweep::Hurry;
use super::task::{InstanceFactory, OperatorTask, SinkTask, Task};
use super::worker::{
    Control, Counters, ExchangeIndex, Inlet, JobLink, Outlet, Region, SentWatermark, Worker,
};
use floodmark_checkpoint::{Checkpoint, Split};
use floodmark_state::stream::{NO_TIMESTAMP, TaskIndex};
use floodmark_state::{
    Backend, ChunkId, ChunkIds, ChunkReader, Restore, StateSchema, StateStore, StoreSettings,
};

/// The workers, and the channels that control them.
pub struct Built {
    /// One per unit of parallelism.
    pub workers: Vec<Worker>,
    /// A channel of controls for each worker. After sending, wake the worker.
    pub controls: Vec<mpsc::Sender<Control>>,
    /// By node: the states of its operator; empty for other nodes.
    pub schemas: Vec<Vec<StateSchema>>,
}

/// Everything that workers are built from.
pub struct WorkerOrigin<'a> {
    /// The plan to run.
    pub plan: &'a Plan,
    /// The checkpoint to resume from.
    pub restored: Option<&'a Checkpoint>,
    /// Reads the chunks of `restored`.
    pub chunks: &'a Arc<dyn ChunkReader>,
    /// Higher than all ids of chunks in use.
    pub next_chunk: ChunkId,
    /// State in memory that is already as in the checkpoint.
    pub left: RetainedStates,
}

/// Builds workers that resume from a checkpoint, or start fresh. `wakes` wakes each worker.
///
/// # Errors
/// When a plugin, input or output cannot be opened, or the saved state does not fit the plan. Output is unchanged.
pub fn build(
    mut origin: WorkerOrigin<'_>,
    wakes: &[Arc<dyn Wake>],
    counters: &[Arc<Counters>],
    reports: &Reports,
) -> Result<Built, JobError> {
    let WorkerOrigin { plan, restored, .. } = origin;
    plan.assert_sound();
    check_max_parallelism(plan, restored)?;
    let mut states = plan
        .nodes
        .iter()
        .map(|node| States::of(node, restored, plan.allow_dropped_state))
        .collect::<Result<Vec<_>, _>>()?;
    let mut controls = Vec::new();
    let mut workers = Vec::new();
    for (index, counters) in (0..).map(WorkerIndex).zip(counters) {
        let (control_sender, control) = mpsc::channel();
        controls.push(control_sender);
        let regions = regions(plan);
        let meters = Meters::new(Arc::clone(counters), plan.nodes.len(), regions.len());
        workers.push(Worker {
            index,
            names: plan.nodes.iter().map(|node| node.name.clone()).collect(),
            tasks: Vec::new(),
            outlets: outlets(plan),
            exchanges: Vec::new(),
            regions,
            region_of: plan.regions(),
            dictionary: Dictionary::default(),
            ready: None,
            link: JobLink {
                control,
                reports: reports.clone(),
                hurry: Hurry::default(),
            },
            meters,
            wall_ms: 0,
        });
    }
    for (node, states) in (0..).map(NodeIndex).zip(&mut states) {
        let tasks = origin.tasks(node, states)?;
        for (worker, task) in workers.iter_mut().zip(tasks) {
            worker.tasks.push(Some(task));
        }
    }
    connect(plan, &mut workers, wakes);
    for region in workers.iter_mut().flat_map(|worker| &mut worker.regions) {
        let inputs = region.inlets.len() + usize::from(!region.sources.is_empty());
        region.aligner = Aligner::new(inputs, plan.mode);
    }
    for worker in &mut workers {
        for region in (0..worker.regions.len()).map(RegionIndex) {
            worker.note_entries(region);
        }
    }
    Ok(Built {
        workers,
        controls,
        schemas: states.into_iter().map(|states| states.schemas).collect(),
    })
}

fn check_max_parallelism(plan: &Plan, restored: Option<&Checkpoint>) -> Result<(), JobError> {
    match restored {
        Some(checkpoint) if checkpoint.scale.max_parallelism != plan.max_parallelism => {
            Err(JobError::MaxParallelism {
                now: plan.max_parallelism.get(),
                before: checkpoint.scale.max_parallelism.get(),
                checkpoint: checkpoint.id,
            })
        }
        _ => Ok(()),
    }
}

/// A function that opens instances for a task of an operator.
pub(crate) fn opener(name: &str, operator: &Operator, task: TaskIndex) -> InstanceFactory {
    let (plugin, name) = (Arc::clone(&operator.plugin), name.to_owned());
    let config = operator.config.clone();
    Arc::new(move || plugin.open_for(task.0, &name, &config))
}

fn outlets(plan: &Plan) -> Vec<Vec<Vec<Outlet>>> {
    let mut outlets: Vec<Vec<Vec<Outlet>>> = Vec::new();
    for node in &plan.nodes {
        let ports = match &node.role {
            Role::Source(_) => 1,
            Role::Operator(operator) => operator.plugin.description().outputs.len(),
            Role::Sink(_) => 0,
        };
        // One more port, the last, is for dead letters.
        outlets.push((0..=ports).map(|_| Vec::new()).collect());
    }
    let mut exchanges = 0;
    for edge in &plan.edges {
        let outlet = if plan.is_local(edge) {
            let keyed = edge.routing == super::plan::Routing::ByKey;
            Outlet::Local {
                to: edge.to,
                input: edge.input,
                keyed,
            }
        } else {
            exchanges += 1;
            Outlet::Exchange(ExchangeIndex(exchanges - 1))
        };
        outlets[edge.from.0][usize::from(edge.output.0)].push(outlet);
    }
    outlets
}

fn regions(plan: &Plan) -> Vec<Region> {
    let regions = plan.regions();
    let count = regions.iter().max().map_or(0, |last| last.0 + 1);
    let region = |index: RegionIndex| {
        let nodes: Vec<_> = (0..plan.nodes.len())
            .map(NodeIndex)
            .filter(|node| regions[node.0] == index)
            .collect();
        let is_source = |node: &NodeIndex| matches!(plan.node(*node).role, Role::Source(_));
        Region {
            sources: nodes.iter().copied().filter(is_source).collect(),
            nodes,
            inlets: Vec::new(),
            exchanges: Vec::new(),
            aligner: Aligner::new(0, plan.mode),
            begin: None,
            suspended: false,
            ended: false,
            turn: 0,
            waiting: VecDeque::new(),
            flush_at: None,
            watermark: SentWatermark::none(),
        }
    };
    (0..count).map(RegionIndex).map(region).collect()
}

/// Connects the workers: for each edge by key, a channel from each worker to each.
fn connect(plan: &Plan, workers: &mut [Worker], wakes: &[Arc<dyn Wake>]) {
    let regions = plan.regions();
    for edge in plan.edges.iter().filter(|edge| !plan.is_local(edge)) {
        let mut receivers: Vec<Vec<Receiver>> = workers.iter().map(|_| Vec::new()).collect();
        for (from, worker) in workers.iter_mut().enumerate() {
            let partitioner = Partitioner::new(plan.max_parallelism, plan.parallelism);
            let senders = wakes.iter().zip(&mut receivers).map(|(wake, receivers)| {
                let (sender, receiver) = channel(Arc::clone(&wakes[from]), Arc::clone(wake));
                receivers.push(receiver);
                sender
            });
            let exchange = Exchange::new(partitioner, senders);
            worker.exchanges.push(exchange);
            let exchange = ExchangeIndex(worker.exchanges.len() - 1);
            let region = regions[edge.from.0];
            worker.regions[region.0].exchanges.push(exchange);
        }
        let is_beside_input = match &plan.node(edge.from).role {
            Role::Source(source) => source.is_beside_input(),
            Role::Operator(_) | Role::Sink(_) => false,
        };
        for (worker, receivers) in workers.iter_mut().zip(receivers) {
            let region = regions[edge.to.0];
            let inlets = &mut worker.regions[region.0].inlets;
            inlets.extend(receivers.into_iter().map(|receiver| Inlet {
                receiver,
                to: edge.to,
                input: edge.input,
                ended: false,
                is_beside_input,
                watermark: NO_TIMESTAMP,
            }));
        }
    }
}

impl WorkerOrigin<'_> {
    fn tasks(&mut self, index: NodeIndex, states: &mut States) -> Result<Vec<Task>, JobError> {
        let node = self.plan.node(index);
        let parallelism = self.plan.parallelism;
        let connector = |reason| JobError::connector(&node.name, reason);
        match &node.role {
            Role::Source(source) => {
                let saved = self.restored.and_then(|restored| {
                    let mut sources = restored.sources.iter();
                    sources.find(|source| source.name == node.name)
                });
                let from = self.restored.map(|restored| restored.id);
                let splits = source.splits(from, saved.map(|saved| saved.splits.clone()));
                let shares = deal_out(splits.map_err(connector)?, usize::from(parallelism));
                let readers = shares.into_iter().map(|share| source.reader(share));
                let name: Arc<str> = node.name.as_str().into();
                let task = |reader| {
                    let bad_records = BadRecordHandler::of(node);
                    Ok(Task::Source(SourceTask {
                        is_beside_input: source.is_beside_input(),
                        skips_values: self.plan.skips_values(index),
                        ..SourceTask::new(Arc::clone(&name), reader, bad_records)
                    }))
                };
                readers
                    .map(|reader| reader.map_err(connector).and_then(task))
                    .collect()
            }
            Role::Sink(sink) => {
                let writers = (0..parallelism).map(|task| sink.writer(TaskIndex(task)));
                let task = |writer| {
                    Ok(Task::Sink(SinkTask {
                        writer,
                        records: 0,
                        bad_records: BadRecordHandler::of(node),
                    }))
                };
                writers
                    .map(|writer| writer.map_err(connector).and_then(task))
                    .collect()
            }
            Role::Operator(operator) => {
                let handling = Handling::of(&node.name, operator);
                let seals = Seals::begin(self.restored.map(|restored| restored.id));
                let tasks = (0..parallelism).map(TaskIndex);
                let stores = tasks.map(|task| match self.left.take(index, task) {
                    Some(left) => Ok(left),
                    None => Ok(RetainedState {
                        store: self.state(index, task, states)?,
                        seals: seals.clone(),
                    }),
                });
                let stores = stores.collect::<Result<Vec<_>, JobError>>()?;
                states.retain(|id| stores.iter().any(|state| state.store.holds(id)));
                let task = |(task, state): (u16, RetainedState)| {
                    let RetainedState { mut store, seals } = state;
                    // State in memory may be of another plugin.
                    let _ = store.replace_rules(states.settings());
                    let open = opener(&node.name, operator, TaskIndex(task));
                    let task =
                        OperatorTask::new(open, states.declared.clone(), store, handling.clone())?;
                    Ok(Task::Operator(Box::new(task.with_seals(seals))))
                };
                (0..).zip(stores).map(task).collect()
            }
        }
    }

    /// The state of an operator's task: the saved state of all tasks, restricted to the key groups of this one.
    fn state(
        &self,
        index: NodeIndex,
        task: TaskIndex,
        states: &States,
    ) -> Result<StateStore, JobError> {
        let Plan {
            nodes,
            parallelism,
            max_parallelism,
            ..
        } = self.plan;
        let node = self.plan.node(index);
        let key_groups = max_parallelism.range(task, *parallelism);
        // Every task of every node numbers its own chunks.
        let tasks = u64::from(*parallelism);
        let number = index.0 as u64 * tasks + u64::from(task.0);
        let ids = ChunkIds::new(self.next_chunk, number, nodes.len() as u64 * tasks);
        let settings = StoreSettings {
            backend: self.backend(index, states)?,
            states: states.settings(),
            keeps_rollback: true,
            ..StoreSettings::in_memory(*max_parallelism, key_groups.clone(), ids)
        };
        let saved = self
            .restored
            .and_then(|restored| Some((restored, snapshot_of(node, restored)?)));
        let Some((restored, snapshot)) = saved else {
            return Ok(StateStore::new(settings));
        };
        let overlapping = || {
            let tasks = snapshot.tasks.iter();
            tasks.filter(|saved| overlap(&saved.key_groups, &key_groups))
        };
        let created_ms = restored.created_ms;
        let collided = overlapping().flat_map(|saved| saved.collided.iter().copied());
        let mut restore = Restore::new(settings, Arc::clone(self.chunks), created_ms, collided);
        let unusable = |reason| JobError::chunks(&node.name, reason);
        for (chunk, ranges) in named_chunks(&snapshot.tasks, &key_groups) {
            let stored = self.chunks.chunk_index(chunk);
            let stored = stored.map_err(|reason| unusable(reason.into()))?;
            restore
                .add(chunk, &ranges, stored.as_deref())
                .map_err(unusable)?;
        }
        restore.finish().map_err(unusable)
    }

    /// The backend of a task's chunks. A task without state needs no file.
    fn backend(&self, index: NodeIndex, states: &States) -> Result<Backend, JobError> {
        let StateBackend::Disk {
            memory_bytes,
            scratch,
        } = &self.plan.backend
        else {
            return Ok(Backend::Memory);
        };
        if states.declared.is_empty() {
            return Ok(Backend::Memory);
        }
        let file = scratch().map_err(|source| JobError::Scratch {
            operator: self.plan.node(index).name.clone(),
            source,
        })?;
        let share = memory_bytes / self.plan.stateful_tasks().max(1);
        Ok(Backend::Disk {
            scratch: file,
            budget_bytes: usize::try_from(share).unwrap_or(usize::MAX),
        })
    }
}

/// Deals splits round-robin: shares differ by at most one.
fn deal_out(splits: Vec<Split>, tasks: usize) -> Vec<Vec<Split>> {
    let mut shares: Vec<Vec<Split>> = (0..tasks).map(|_| Vec::new()).collect();
    for (number, split) in splits.into_iter().enumerate() {
        shares[number % tasks].push(split);
    }
    shares
}
