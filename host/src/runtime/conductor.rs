//! Collects the snapshots of a job's regions into checkpoints, and turns what the coordinator decides into actions.
//! No I/O and no threads: reports and the time come in, actions go out.

mod again;
mod notice;
mod swap;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::again::{Operated, operators, parts};
pub use self::notice::{CompletedCheckpoint, Notice, WentBack};
use self::swap::Swap;
use super::JobError;
use super::plan::{Plan, Role};
use super::report::{Answer, Asker, Report, Rescaled, RollbackOrder};
use super::snapshot::{RegionSnapshot, SealedState};
use super::swap::{Running, Swapped};
use super::worker::Control;
use super::writer::WriteRequest;
use crate::checkpoint::coordinator::{CheckpointSettings, Coordinator, Effect, Ending, Event};
use crate::checkpoint::{Checkpoint, SourceSnapshot, Split, Staged, TaskSnapshot, Trigger};
use crate::state::{Chunk, ChunkId, HeldStates, StateSchema};
use crate::stream::{CheckpointId, MaxParallelism};

/// What is to be done for a job.
#[derive(Debug)]
pub enum Action {
    /// Tell all workers.
    Tell(Control),
    /// Hand a checkpoint to the writer.
    Write(Box<WriteRequest>),
    /// Pass a notice to the job's observers.
    Notify(Notice),
    /// Answer a request for a checkpoint or a stop.
    Answer(Asker<CheckpointId>, Answer<CheckpointId>),
    /// Answer a request for a swap.
    AnswerSwap(Asker<Swapped>, Answer<Swapped>),
    /// Answer a request for what runs.
    Describe {
        /// The caller to answer.
        asker: Asker<Running>,
        /// See [`Running`].
        schemas: Vec<Vec<StateSchema>>,
        /// See [`Running`].
        generation: u64,
        /// See [`Running`].
        newest: Option<CheckpointId>,
    },
    /// From a checkpoint on, which is durable, another plan counts.
    PlanReplaced {
        /// The plan.
        plan: Arc<Plan>,
        /// The first checkpoint that is its own.
        from: CheckpointId,
        /// By node that changes: its states, as that checkpoint would have them without it.
        before: Vec<(usize, Vec<StateSchema>)>,
        /// How long a failure undoes it.
        trial: Option<Duration>,
    },
    /// Answer a request for another number of tasks.
    AnswerRescale(Asker<Rescaled>, Answer<Rescaled>),
    /// Shut the workers down, which stand still at a durable checkpoint, and make them anew.
    Rescale(RescaleOrder),
    /// Shut the workers down, and go back to a checkpoint.
    RollBack(Box<RollbackOrder>),
    /// Shut the workers down: the job is over.
    Finish(Ending),
    /// Shut the workers down: the job has failed.
    Fail(JobError),
}

/// Has a job go on with another number of tasks.
#[derive(Debug)]
pub struct RescaleOrder {
    /// How many per node.
    pub parallelism: u16,
    /// Who asks.
    pub asker: Asker<Rescaled>,
    /// When the barrier was sent off.
    pub since: Duration,
}

/// Conducts one job.
pub struct Conductor {
    coordinator: Coordinator,
    template: Checkpoint,
    sources: Vec<usize>,
    /// How many there are, of any kind.
    nodes: usize,
    operators: Vec<Operated>,
    sinks: Vec<usize>,
    max_parallelism: MaxParallelism,
    parallelism: u16,
    pending: Option<Pending>,
    unwritten: BTreeMap<ChunkId, Arc<Chunk>>,
    staged: BTreeMap<usize, Vec<Staged>>,
    /// Who wants the next checkpoint that begins.
    askers: Vec<Asker<CheckpointId>>,
    /// Who waits for the end of the job.
    stop_askers: Vec<Asker<CheckpointId>>,
    /// Who wants another number of tasks.
    rescale: Option<RescaleOrder>,
    last_failure: Option<String>,
    failures: u32,
    last_durable: Option<CheckpointId>,
    swap: Option<Swap>,
    /// Grows whenever plan or states change.
    generation: u64,
    /// By node: states of which the last durable checkpoint may have entries. All, if nothing is known.
    held: BTreeMap<usize, HeldStates>,
}

/// A checkpoint under way: consumed by writing it.
struct Pending {
    checkpoint: CheckpointId,
    trigger: Trigger,
    created_ms: u64,
    begun: Duration,
    collected: Duration,
    stall: Duration,
    state_bytes_new: u64,
    state_bytes: u64,
    records_in: u64,
    records_out: u64,
    askers: Vec<Asker<CheckpointId>>,
    splits: BTreeMap<usize, Vec<Split>>,
    states: BTreeMap<(usize, usize), SealedState>,
    held: BTreeMap<usize, HeldStates>,
}

/// Where a job's counts stand when it begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct EarlierRuns {
    /// The checkpoint that it resumes from.
    pub checkpoint: Option<CheckpointId>,
    /// Records read by earlier runs.
    pub records_in: u64,
    /// Records written by earlier runs.
    pub records_out: u64,
}

impl Conductor {
    /// For a job that begins, or resumes after earlier runs; its next checkpoint has the id `next`.
    #[must_use]
    pub fn new(
        plan: &Plan,
        schemas: Vec<Vec<StateSchema>>,
        settings: CheckpointSettings,
        next: CheckpointId,
        earlier: EarlierRuns,
    ) -> Self {
        let mut sources = Vec::new();
        let mut sinks = Vec::new();
        for (index, node) in plan.nodes.iter().enumerate() {
            match &node.role {
                Role::Source(_) => sources.push(index),
                Role::Sink(_) => sinks.push(index),
                Role::Operator(_) => {}
            }
        }
        let named = |index: &usize| SourceSnapshot {
            name: plan.nodes[*index].name.clone(),
            splits: Vec::new(),
        };
        let template = Checkpoint {
            id: next,
            created_ms: 0,
            trigger: Trigger::Periodic,
            job: plan.job.clone(),
            data_folder: plan.data_folder.clone(),
            identity: plan.identity.clone(),
            parallelism: plan.parallelism,
            configured_parallelism: plan.configured_parallelism,
            max_parallelism: plan.max_parallelism,
            records_in: earlier.records_in,
            records_out: earlier.records_out,
            sources: sources.iter().map(named).collect(),
            operators: Vec::new(),
            sinks: Vec::new(),
        };
        Self {
            coordinator: Coordinator::new(settings, parts(plan), next),
            template,
            sources,
            nodes: plan.nodes.len(),
            operators: operators(plan, schemas),
            sinks,
            max_parallelism: plan.max_parallelism,
            parallelism: plan.parallelism,
            pending: None,
            unwritten: BTreeMap::new(),
            staged: BTreeMap::new(),
            askers: Vec::new(),
            stop_askers: Vec::new(),
            rescale: None,
            last_failure: None,
            failures: 0,
            last_durable: earlier.checkpoint,
            swap: None,
            generation: 0,
            held: BTreeMap::new(),
        }
    }

    /// When to report [`Report::Tick`], if nothing else happens before.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        self.coordinator.wakes_at()
    }

    /// Takes a report. `wall_ms` is the time of day, for people who read the checkpoint.
    pub fn handle(&mut self, now: Duration, wall_ms: u64, report: Report) -> Vec<Action> {
        let mut actions = Vec::new();
        let event = match report {
            Report::Tick => Event::Tick,
            Report::CheckpointAsked(asker) => {
                self.askers.push(asker);
                Event::Asked
            }
            Report::StopAsked { drain, asker } => {
                self.stop_askers.extend(asker);
                match drain {
                    true => Event::DrainAsked,
                    false => Event::StopAsked,
                }
            }
            Report::RunningAsked(asker) => return vec![self.describe(asker)],
            Report::SwapAsked(request) => match self.ask_for_swap(now, request, &mut actions) {
                Some(event) => event,
                None => return actions,
            },
            Report::PluginsReplaced {
                checkpoint,
                part,
                pause,
            } => {
                self.note_pause(checkpoint, part, pause);
                return actions;
            }
            Report::RescaleAsked { parallelism, asker } => {
                if let Err((asker, reason)) = self.note_rescale(parallelism, asker) {
                    return vec![Action::AnswerRescale(asker, Err(reason))];
                }
                Event::RescaleAsked
            }
            Report::RollbackAsked(order) => return vec![Action::RollBack(order)],
            Report::Ended(part) => Event::Ended(part),
            Report::StateDirty(part) => Event::StateDirty(part),
            Report::Failed(error) => return vec![Action::Fail(error)],
            Report::Log {
                operator,
                task,
                line,
            } => {
                return vec![Action::Notify(Notice::Log {
                    operator,
                    task,
                    line,
                })];
            }
            Report::Stalled(stall) => {
                if let Some(pending) = &mut self.pending {
                    pending.stall = pending.stall.max(stall);
                }
                return actions;
            }
            Report::Snapshot(snapshot) => {
                let (checkpoint, part) = (snapshot.checkpoint, snapshot.part);
                self.collect(now, snapshot);
                Event::Acknowledged { checkpoint, part }
            }
            Report::Written(outcome) => {
                let reasons = outcome.not_visible.into_iter();
                actions.extend(reasons.map(|reason| Action::Notify(Notice::NotVisible { reason })));
                match outcome.durable {
                    Ok(()) => self.completed(now, outcome.checkpoint, &mut actions),
                    Err(reason) => {
                        self.not_completed(now, outcome.checkpoint, reason, &mut actions)
                    }
                }
            }
        };
        let mut effects = Vec::new();
        self.coordinator.step(now, event, &mut effects);
        for effect in effects {
            self.carry_out(now, wall_ms, effect, &mut actions);
        }
        actions
    }

    /// Adds a region's snapshot to the checkpoint. Its chunks and staged parts are kept even if this checkpoint fails: the
    /// next one needs them.
    fn collect(&mut self, now: Duration, snapshot: RegionSnapshot) {
        let fresh = snapshot.fresh.into_iter();
        let mut bytes_new = 0;
        self.unwritten.extend(fresh.map(|chunk| {
            bytes_new += chunk.bytes.len() as u64;
            (chunk.id, chunk)
        }));
        let (mut written, mut read) = (0, 0);
        for (node, staged, records) in snapshot.sinks {
            self.staged.entry(node).or_default().extend(staged);
            written += records;
        }
        let Some(pending) = self
            .pending
            .as_mut()
            .filter(|pending| pending.checkpoint == snapshot.checkpoint)
        else {
            return;
        };
        for (node, splits, records) in snapshot.sources {
            pending.splits.entry(node).or_default().extend(splits);
            read += records;
        }
        for (node, state) in snapshot.operators {
            pending.state_bytes += state.bytes;
            let held = pending.held.entry(node).or_default();
            *held = held.with(state.held);
            pending.states.insert((node, snapshot.part.worker), state);
        }
        pending.state_bytes_new += bytes_new;
        pending.records_in += read;
        pending.records_out += written;
        pending.collected = now;
    }

    fn completed(&mut self, now: Duration, id: CheckpointId, actions: &mut Vec<Action>) -> Event {
        self.unwritten.clear();
        let before = self.last_durable.replace(id);
        self.failures = 0;
        actions.push(Action::Tell(Control::Completed(id)));
        self.swap_is_durable(now, id, before, actions);
        if let Some(pending) = self.pending.take() {
            self.held = pending.held;
            let askers = pending.askers.into_iter();
            actions.extend(askers.map(|asker| Action::Answer(asker, Ok(id))));
            actions.push(Action::Notify(Notice::Completed(CompletedCheckpoint {
                id,
                trigger: pending.trigger,
                created_ms: pending.created_ms,
                collecting: pending.collected.saturating_sub(pending.begun),
                total: now.saturating_sub(pending.begun),
                stall: pending.stall,
                state_bytes_new: pending.state_bytes_new,
                state_bytes: pending.state_bytes,
                records_in: pending.records_in,
            })));
        }
        Event::Written(id)
    }

    fn not_completed(
        &mut self,
        now: Duration,
        id: CheckpointId,
        reason: String,
        actions: &mut Vec<Action>,
    ) -> Event {
        actions.push(Action::Tell(Control::Aborted(id)));
        self.failures += 1;
        self.last_failure = Some(reason.clone());
        if let Some(pending) = self.pending.take() {
            let answer = |asker| Action::Answer(asker, Err(reason.clone()));
            actions.extend(pending.askers.into_iter().map(answer));
            actions.push(Action::Notify(Notice::NotCompleted {
                checkpoint: id,
                trigger: pending.trigger,
                created_ms: pending.created_ms,
                total: now.saturating_sub(pending.begun),
                reason: reason.clone(),
            }));
        }
        self.swap_is_lost(id, &reason, actions);
        Event::NotWritten(id)
    }

    fn carry_out(
        &mut self,
        now: Duration,
        wall_ms: u64,
        effect: Effect,
        actions: &mut Vec<Action>,
    ) {
        match effect {
            Effect::Begin {
                checkpoint,
                trigger,
            } => {
                self.pending = Some(Pending {
                    checkpoint,
                    trigger,
                    created_ms: wall_ms,
                    begun: now,
                    collected: now,
                    stall: Duration::ZERO,
                    state_bytes_new: 0,
                    state_bytes: 0,
                    records_in: self.template.records_in,
                    records_out: self.template.records_out,
                    askers: std::mem::take(&mut self.askers),
                    splits: BTreeMap::new(),
                    states: BTreeMap::new(),
                    held: BTreeMap::new(),
                });
                actions.push(Action::Notify(Notice::Begun {
                    checkpoint,
                    trigger,
                    created_ms: wall_ms,
                }));
                match trigger {
                    Trigger::Swap => self.begin_swap(checkpoint, actions),
                    Trigger::Stop | Trigger::Final => self.refuse_swap(actions),
                    _ => {}
                }
                let last = matches!(trigger, Trigger::Stop | Trigger::Final | Trigger::Rescale);
                if let (Trigger::Rescale, Some(order)) = (trigger, &mut self.rescale) {
                    order.since = now;
                }
                actions.push(Action::Tell(Control::Begin { checkpoint, last }));
            }
            Effect::Write(checkpoint) => {
                let request = self.request(checkpoint);
                actions.push(Action::Write(Box::new(request)));
            }
            Effect::Abandon(checkpoint) => {
                let reason =
                    "not all tasks reached its barrier within `checkpoint.timeout`".to_owned();
                self.not_completed(now, checkpoint, reason, actions);
            }
            Effect::Remake(_) => actions.extend(self.rescale.take().map(Action::Rescale)),
            Effect::Resume => {
                actions.push(Action::Tell(Control::Resume));
                let reason = self.last_failure.clone().unwrap_or_default();
                self.refuse_rescale(&reason, actions);
            }
            Effect::EndInput => actions.push(Action::Tell(Control::EndInput)),
            Effect::Finish(Ending::TooManyFailures) => {
                actions.push(Action::Fail(JobError::TooManyFailures {
                    failures: self.failures,
                    reason: self.last_failure.take().unwrap_or_default(),
                    restart: self.last_durable,
                }));
            }
            Effect::Finish(Ending::WithoutLastCheckpoint) => {
                let reason = self.last_failure.take().unwrap_or_default();
                actions.push(Action::Fail(JobError::LastCheckpoint {
                    reason,
                    restart: self.last_durable,
                }));
            }
            Effect::Finish(ending) => {
                self.refuse_rescale("the job is over", actions);
                let last = self.last_durable;
                let askers = self.askers.drain(..).chain(self.stop_askers.drain(..));
                let answer = |asker| last.map(|last| Action::Answer(asker, Ok(last)));
                actions.extend(askers.filter_map(answer));
                actions.push(Action::Finish(ending));
            }
        }
    }

    /// All that was collected, as a checkpoint.
    fn request(&mut self, id: CheckpointId) -> WriteRequest {
        let operators = self.operators_at(id);
        let pending = self
            .pending
            .as_mut()
            .expect("a checkpoint is written only while it is pending");
        let mut checkpoint = Checkpoint {
            id,
            created_ms: pending.created_ms,
            trigger: pending.trigger,
            records_in: pending.records_in,
            records_out: pending.records_out,
            ..self.template.clone()
        };
        for (source, node) in checkpoint.sources.iter_mut().zip(&self.sources) {
            source.splits = pending.splits.remove(node).unwrap_or_default();
        }
        let mut chunks = Vec::new();
        let mut plugins = Vec::new();
        for operated in operators {
            let Operated {
                node,
                snapshot: mut operator,
                component,
            } = operated;
            plugins.push((operator.plugin, component));
            for task in 0..self.parallelism {
                let sealed = pending.states.remove(&(node, usize::from(task)));
                let mut state = sealed.unwrap_or_default();
                if state.parts.is_empty() {
                    let key_groups = self.max_parallelism.range(task, self.parallelism);
                    state.parts.push((key_groups, Vec::new()));
                }
                for (key_groups, named) in state.parts {
                    let unwritten = named
                        .iter()
                        .filter_map(|chunk| self.unwritten.get(&chunk.id));
                    chunks.extend(unwritten.cloned());
                    operator.tasks.push(TaskSnapshot {
                        key_groups,
                        chunks: named,
                        collided: state.collided.clone(),
                    });
                }
            }
            checkpoint.operators.push(operator);
        }
        // A chunk may be in several parts of a task.
        chunks.sort_unstable_by_key(|chunk| chunk.id);
        chunks.dedup_by_key(|chunk| chunk.id);
        let staged = self
            .sinks
            .iter()
            .map(|sink| self.staged.remove(sink).unwrap_or_default())
            .collect();
        plugins.sort_unstable_by_key(|(digest, _)| *digest);
        plugins.dedup_by_key(|(digest, _)| *digest);
        WriteRequest {
            checkpoint,
            plugins,
            chunks,
            staged,
        }
    }
}
