//! Replaces plugins of a running job: the preparation, and the exchange at the barrier.
//!
//! The caller that requests a swap does all slow work while the job keeps running: it opens one instance per task, and
//! decides which old state becomes which new one. The job sends each worker its [`Parcel`] before the barrier of a
//! checkpoint. Right after the snapshot of that checkpoint, a task and its parcel exchange plugins. So the old plugin
//! processes the records before the barrier, the new one those after it, and the checkpoint names the new one. The
//! parcel with the old plugin returns to the caller, which drops it, so a worker does not even free its memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::JobError;
use super::build::opener;
use super::faults::Handling;
use super::migration::OwnInstance;
use super::plan::{NodeIndex, Operator, Plan, RegionIndex, Role, WorkerIndex};
use super::report::Report;
use super::schema::States;
use super::snapshot::RegionId;
use super::task::{InstanceFactory, OpenedPlugin, OperatorTask, Task, kept};
use super::worker::Worker;
use crate::guest::{Description, GuestError, Plugin};
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::stream::{CheckpointId, TaskIndex};
use floodmark_state::{StateId, StateSchema, StateSettings};

/// The running plan and its states, for a caller that wants to change them.
#[derive(Debug, Clone)]
pub struct Running {
    /// The plan.
    pub plan: Arc<Plan>,
    /// By node: the states of its operator that may have entries.
    pub schemas: Vec<Vec<StateSchema>>,
    /// Incremented whenever plan or states change.
    pub generation: u64,
    /// The newest durable checkpoint; `None` before the first one.
    pub newest: Option<CheckpointId>,
}

impl Running {
    /// By operator and state: the earlier versions that may have entries, newest first.
    #[must_use]
    pub fn earlier_versions(&self) -> BTreeMap<(String, String), Vec<u32>> {
        let mut earlier = BTreeMap::<(String, String), Vec<u32>>::new();
        for ((_, node), schemas) in self.plan.indexed_nodes().zip(&self.schemas) {
            let named = schemas.iter().filter(|schema| !schema.name.is_empty());
            let mut newest_first: Vec<_> = named.collect();
            newest_first.sort_by_key(|schema| std::cmp::Reverse(schema.id));
            for (at, schema) in newest_first.iter().enumerate() {
                let mut newer = newest_first[..at].iter();
                if newer.any(|newer| newer.name == schema.name) {
                    let of = (node.name.clone(), schema.name.clone());
                    earlier.entry(of).or_default().push(schema.version);
                }
            }
        }
        earlier
    }
}

/// The reason why plugins cannot be replaced. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// There is no such operator.
    #[error("there is no operator `{operator}` in the job")]
    NoOperator {
        /// The requested name.
        operator: String,
    },
    /// The new plugin has other ports.
    #[error(
        "operator `{operator}`: the new plugin has different {direction}s (`{new}`) than the old one (`{old}`), and a swap does not change the graph; give it the same ones in the same order, or stop the job and change the pipeline"
    )]
    OtherPorts {
        /// The operator's name in the pipeline.
        operator: String,
        /// `input` or `output`.
        direction: &'static str,
        /// The ports of the old plugin.
        old: String,
        /// The ports of the new plugin.
        new: String,
    },
    /// The new plugin has state and the old one has none, or the other way round: its records need other routing.
    #[error(
        "operator `{operator}`: the new plugin keeps {now} and the old one {before}, so its records would have to be routed differently; stop the job and name the new plugin in the pipeline"
    )]
    OtherRouting {
        /// The operator's name in the pipeline.
        operator: String,
        /// Whether the new one keeps state, in words.
        now: &'static str,
        /// Whether the old one keeps state, in words.
        before: &'static str,
    },
    /// An error of the plugin or the state.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// New plugins that are ready for the exchange.
pub struct PreparedSwap {
    pub(super) generation: u64,
    pub(super) plan: Arc<Plan>,
    /// By node, for nodes that change.
    pub(super) schemas: BTreeMap<NodeIndex, Vec<StateSchema>>,
    pub(super) handover: Handover,
}

impl std::fmt::Debug for PreparedSwap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PreparedSwap")
            .field("generation", &self.generation)
            .field("schemas", &self.schemas)
            .finish_non_exhaustive()
    }
}

impl PreparedSwap {
    /// Prepares operators, by name. States that the plugins do not declare are dropped if `allow_dropped`.
    ///
    /// # Errors
    /// When a plugin does not fit, does not accept the state, or cannot be opened.
    pub fn new(
        running: &Running,
        operators: Vec<(String, Operator)>,
        allow_dropped: bool,
    ) -> Result<Self, SwapError> {
        let plan = replaced(&running.plan, &operators)?;
        let workers = usize::from(plan.parallelism);
        let mut ready: Vec<BTreeMap<NodeIndex, ReadyPlugin>> = Vec::new();
        ready.resize_with(workers, BTreeMap::new);
        let mut schemas = BTreeMap::new();
        let newest = running.newest.unwrap_or(CheckpointId(0));
        for (name, operator) in &operators {
            let node = node_of(&plan, name)?;
            let saved = running.schemas[node.0].clone();
            let states = States::taken_over(name, operator, newest, saved, allow_dropped)?;
            let handling = Handling::of(name, operator);
            for (task, tasks) in (0..).map(TaskIndex).zip(&mut ready) {
                let open = opener(name, operator, task);
                let opened = ReadyPlugin::open(open, &states, handling.clone());
                tasks.insert(node, opened.map_err(JobError::from)?);
            }
            schemas.insert(node, states.schemas);
        }
        let parcels = ready.into_iter().map(|ready| Parcel {
            untouched: ready.len(),
            ready,
        });
        Ok(Self {
            generation: running.generation,
            handover: Handover::new(parcels),
            plan: Arc::new(plan),
            schemas,
        })
    }

    /// The plan with the new plugins.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The states of the new plugins, by node.
    #[must_use]
    pub fn schemas(&self) -> &BTreeMap<NodeIndex, Vec<StateSchema>> {
        &self.schemas
    }

    /// The generation of the job for which it was prepared, see [`Running`].
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of workers that it was prepared for.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.handover.workers()
    }

    /// A handle to the exchanged plugins: while it is held, no worker frees them.
    #[must_use]
    pub fn hold(&self) -> Handover {
        self.handover.clone()
    }
}

/// The plan with some operators replaced.
///
/// # Errors
/// When an operator does not fit the graph.
pub fn replaced(plan: &Plan, operators: &[(String, Operator)]) -> Result<Plan, SwapError> {
    let mut plan = plan.clone();
    for (name, operator) in operators {
        let node = node_of(&plan, name)?;
        let Role::Operator(old) = &plan.node(node).role else {
            unreachable!("the node is an operator")
        };
        let (old, new) = (old.plugin.description(), operator.plugin.description());
        fits(name, old, new)?;
        plan.nodes[node.0].role = Role::Operator(operator.clone());
    }
    Ok(plan)
}

/// Checks that a plugin can replace another in a graph: it has the same ports in the same order, and state if the other
/// has.
///
/// # Errors
/// The difference.
pub fn fits(operator: &str, old: &Description, new: &Description) -> Result<(), SwapError> {
    let directions = [
        ("input", &old.inputs, &new.inputs),
        ("output", &old.outputs, &new.outputs),
    ];
    for (direction, old, new) in directions {
        if old != new {
            return Err(SwapError::OtherPorts {
                operator: operator.to_owned(),
                direction,
                old: old.join("`, `"),
                new: new.join("`, `"),
            });
        }
    }
    if old.states.is_empty() != new.states.is_empty() {
        let (now, before) = match new.states.is_empty() {
            true => ("no state", "some"),
            false => ("state", "none"),
        };
        return Err(SwapError::OtherRouting {
            operator: operator.to_owned(),
            now,
            before,
        });
    }
    Ok(())
}

/// The plugin of a node, with its name.
#[must_use]
pub fn plugin_at(plan: &Plan, node: NodeIndex) -> Option<(String, Arc<Plugin>)> {
    let node = plan.node(node);
    match &node.role {
        Role::Operator(operator) => Some((node.name.clone(), Arc::clone(&operator.plugin))),
        _ => None,
    }
}

fn node_of(plan: &Plan, name: &str) -> Result<NodeIndex, SwapError> {
    let is_meant =
        |node: &super::plan::Node| node.name == name && matches!(node.role, Role::Operator(_));
    let found = plan.nodes.iter().position(is_meant).map(NodeIndex);
    found.ok_or_else(|| SwapError::NoOperator {
        operator: name.to_owned(),
    })
}

/// Another plugin for a task, opened and complete, so that the exchange costs only a few moves.
struct ReadyPlugin {
    plugin: OpenedPlugin,
    ids: Vec<StateId>,
    rules: Vec<StateSettings>,
    migrate: OwnInstance,
    handling: Handling,
}

impl ReadyPlugin {
    /// Opens an instance.
    fn open(
        open: InstanceFactory,
        states: &States,
        handling: Handling,
    ) -> Result<Self, GuestError> {
        let declared = states.declared.clone();
        Ok(Self {
            ids: declared.iter().map(|state| state.id).collect(),
            rules: states.settings(),
            migrate: OwnInstance::new(Arc::clone(&open), declared.clone()),
            plugin: OpenedPlugin::new(open, declared)?,
            handling,
        })
    }
}

/// Returns the time since some fixed moment: workers have no clock of their own.
pub type Stopwatch = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The new plugins for one worker; after the exchange, the old ones.
pub struct Parcel {
    /// The plugins, by node.
    ready: BTreeMap<NodeIndex, ReadyPlugin>,
    /// Nodes that have not been exchanged yet.
    untouched: usize,
}

/// The parcels of all workers, before and after the exchange.
#[derive(Clone)]
pub struct Handover(Arc<Vec<Mutex<Option<Parcel>>>>);

impl Handover {
    fn new(parcels: impl Iterator<Item = Parcel>) -> Self {
        let parcels = parcels.map(|parcel| Mutex::new(Some(parcel)));
        Self(Arc::new(parcels.collect()))
    }

    pub(super) fn workers(&self) -> usize {
        self.0.len()
    }

    fn exchange(&self, worker: WorkerIndex, parcel: Option<Parcel>) -> Option<Parcel> {
        let mut slot = self.0[usize::from(worker.0)]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, parcel)
    }
}

/// A swap, as sent to workers.
#[derive(Clone)]
pub struct Replacement {
    /// The checkpoint at whose barrier it happens.
    pub checkpoint: CheckpointId,
    /// The parcels for the workers.
    pub handover: Handover,
    /// Measures the pause.
    pub stopwatch: Stopwatch,
}

impl std::fmt::Debug for Replacement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replacement")
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

/// A parcel that a worker has received.
pub(super) struct Ready {
    replacement: Replacement,
    parcel: Parcel,
}

impl Worker {
    /// Receives the parcel for a later barrier.
    pub(super) fn make_ready(&mut self, replacement: Replacement) {
        crash::point(Point::SwapBeforeBarrier);
        self.read_values();
        let parcel = replacement.handover.exchange(self.index, None);
        self.ready = parcel.map(|parcel| Ready {
            replacement,
            parcel,
        });
    }

    /// Lets sources read values again if they skip them, since the new plugin may read them. Records that are read from
    /// now on reach the new plugin; records before the barrier do not.
    fn read_values(&mut self) {
        for task in self.tasks.iter_mut().flatten() {
            if let Task::Source(source) = task {
                source.skips_values = false;
            }
        }
    }

    /// The start time of a swap, if the plugins of a region are replaced at this barrier.
    pub(super) fn swap_begins(
        &self,
        at: RegionIndex,
        checkpoint: CheckpointId,
    ) -> Option<Duration> {
        let ready = self.ready.as_ref()?;
        let Replacement { checkpoint: of, .. } = ready.replacement;
        let mut nodes = self.regions[at.0].nodes.iter();
        let is_meant = nodes.any(|node| ready.parcel.ready.contains_key(node));
        (of == checkpoint && is_meant).then(|| (ready.replacement.stopwatch)())
    }

    /// Replaces the plugins of a region, right after its snapshot.
    pub(super) fn swap(&mut self, at: RegionIndex, begun: Duration) {
        let Some(mut ready) = self.ready.take() else {
            return;
        };
        let Ready {
            replacement,
            parcel,
        } = &mut ready;
        let region = &self.regions[at.0];
        for &node in &region.nodes {
            if let (Some(Task::Operator(operator)), Some(plugin)) =
                (&mut self.tasks[node.0], parcel.ready.get_mut(&node))
            {
                operator.exchange(plugin);
                parcel.untouched -= 1;
                crash::point(Point::SwapAtBarrier);
            }
        }
        let pause = (replacement.stopwatch)().saturating_sub(begun);
        self.link.report(Report::PluginsReplaced {
            checkpoint: replacement.checkpoint,
            part: RegionId {
                worker: self.index,
                region: at,
            },
            pause,
        });
        if parcel.untouched > 0 {
            self.ready = Some(ready);
        } else {
            let Ready {
                replacement,
                parcel,
            } = ready;
            replacement.handover.exchange(self.index, Some(parcel));
        }
    }
}

impl OperatorTask {
    /// Swaps in `ready` between two records. The old plugin is left in `ready`, so the caller that requested the swap
    /// drops it, not the worker.
    fn exchange(&mut self, ready: &mut ReadyPlugin) {
        let kept = kept(&mut self.kept);
        kept.exchange_states(&mut ready.ids);
        let trees = kept.store_mut();
        std::mem::swap(&mut trees.migrate, &mut ready.migrate);
        ready.rules = trees.store.replace_rules(std::mem::take(&mut ready.rules));
        self.desk.exchange_handling(&mut ready.handling);
        self.is_fresh = true;
        self.desk.keep_times(self.plugin.instance.times());
        std::mem::swap(&mut self.plugin, &mut ready.plugin);
    }
}
