//! Runs one worker: a task of every node, advanced by `step(now)`.
//!
//! Nodes that pass records on by function calls form a region; exchanges connect regions. A step advances each region
//! by at most one message or one read, downstream first. A region with output that no channel accepts pauses, which is
//! how backpressure reaches the sources. A worker uses no clock, no thread and no sleep: it returns until when it is
//! idle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::JobError;
use super::aligner::{Aligner, Alignment, RegionInput};
use super::delivery::WaitingBatch;
use super::exchange::{Exchange, Message, Receiver};
use super::keyed::Dictionary;
use super::observed::Meters;
use super::plan::{NodeIndex, RegionIndex, WorkerIndex};
use super::report::{Report, Reports};
use super::snapshot::{RegionId, RegionSnapshot, SnapshotError};
use super::swap::{Ready, Replacement};
use super::sweep::Hurry;
use super::task::Task;
use crate::guest::{GuestClock, LogLevel, LogLine};
use crate::observe::{Stage, Standing, WorkerMetrics};
use floodmark_checkpoint::crash::{self, Point};
use floodmark_state::stream::{CheckpointId, InputPort, NO_TIMESTAMP, OutputPort, Timestamp};

/// Longest time that records wait for others to the same worker.
const FLUSH_DELAY: Duration = Duration::from_millis(50);
/// Interval of watermarks.
const WATERMARK_INTERVAL: Duration = Duration::from_millis(200);

/// A command to a worker.
#[derive(Debug, Clone)]
pub enum Control {
    /// Replace plugins at the barrier of the next checkpoint.
    Replace(Replacement),
    /// Take a checkpoint.
    Begin {
        /// The id of the checkpoint.
        checkpoint: CheckpointId,
        /// Whether sources stop reading after it.
        last: bool,
    },
    /// Sources stop reading, as if their input had ended.
    EndInput,
    /// Sources resume reading, after a barrier that was to be the last.
    Resume,
    /// Operators sweep also between records, until this time. A client that wants it to last says so again.
    Hurry {
        /// The end of it.
        until: Duration,
        /// The only operator that does, by name; `None` for all.
        operator: Option<String>,
    },
    /// A checkpoint is durable, and its output is visible as far as possible.
    Completed(CheckpointId),
    /// A checkpoint that was begun is not durable, and never will be.
    Aborted(CheckpointId),
    /// The job has ended.
    Shutdown,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Work was done; there may be more. `snapshot` if it included a barrier.
    Moved {
        /// Whether a snapshot was taken.
        snapshot: bool,
    },
    /// There is nothing to do before this time, unless the worker is woken.
    Idle {
        /// The next time at which a source, or a batch that waits for more records, needs a step.
        until: Option<Duration>,
    },
    /// The worker was shut down.
    Over,
}

/// The progress of a worker, for observers.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records read.
    pub records_in: AtomicU64,
    /// Records handed to sinks.
    pub records_out: AtomicU64,
    /// Units of the sources that are processed.
    pub source_done: AtomicU64,
    /// Units in total; `u64::MAX` if unknown.
    pub source_total: AtomicU64,
    /// Metrics for observers.
    pub observed: Arc<WorkerMetrics>,
}

/// The target of an output port.
pub(super) enum Outlet {
    /// A task on this worker.
    Local {
        /// The node of the task.
        to: NodeIndex,
        /// The input port.
        input: InputPort,
        /// Whether the task needs a dictionary.
        keyed: bool,
    },
    /// An exchange of this worker.
    Exchange(ExchangeIndex),
}

/// The index of an exchange of a worker, from 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExchangeIndex(pub(super) usize);

/// An edge from another worker.
pub(super) struct Inlet {
    pub(super) receiver: Receiver,
    pub(super) to: NodeIndex,
    pub(super) input: InputPort,
    pub(super) ended: bool,
    /// Whether it does not count for the watermark.
    pub(super) is_beside_input: bool,
    pub(super) watermark: Timestamp,
}

/// Nodes that pass records on by function calls. Its inputs are its inlets, and all its sources together as one more.
pub(super) struct Region {
    pub(super) nodes: Vec<NodeIndex>,
    pub(super) sources: Vec<NodeIndex>,
    pub(super) inlets: Vec<Inlet>,
    pub(super) exchanges: Vec<ExchangeIndex>,
    pub(super) aligner: Aligner,
    pub(super) begin: Option<CheckpointId>,
    pub(super) suspended: bool,
    pub(super) ended: bool,
    pub(super) turn: usize,
    /// Records that are processed before anything else.
    pub(super) waiting: VecDeque<WaitingBatch>,
    pub(super) flush_at: Option<Duration>,
    pub(super) watermark: SentWatermark,
}

/// The watermark that a region has sent, and when it looks for a later one.
pub(super) struct SentWatermark {
    time: Timestamp,
    next_at: Duration,
}

impl SentWatermark {
    /// Before any was sent.
    pub(super) fn none() -> Self {
        Self {
            time: NO_TIMESTAMP,
            next_at: Duration::ZERO,
        }
    }

    /// Whether this one is later, so that it is to be sent. The next look comes after the interval.
    fn rises(&mut self, time: Timestamp, now: Duration) -> bool {
        self.next_at = now + WATERMARK_INTERVAL;
        let is_later = time > self.time;
        self.time = self.time.max(time);
        is_later
    }
}

impl Region {
    fn sources_input(&self) -> RegionInput {
        RegionInput(self.inlets.len())
    }
}

/// How a worker is told what to do, and reports what it has done.
pub(super) struct JobLink {
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) reports: Reports,
    /// How long operators sweep also between records.
    pub(super) hurry: Hurry,
}

impl JobLink {
    pub(super) fn report(&self, report: Report) {
        // The receiver is only gone while the job is being torn down.
        (self.reports)(report);
    }
}

/// One worker of a job.
pub struct Worker {
    pub(super) index: WorkerIndex,
    pub(super) names: Vec<String>,
    pub(super) tasks: Vec<Option<Task>>,
    pub(super) outlets: Vec<Vec<Vec<Outlet>>>,
    pub(super) exchanges: Vec<Exchange>,
    pub(super) regions: Vec<Region>,
    /// The region, by node.
    pub(super) region_of: Vec<RegionIndex>,
    pub(super) dictionary: Dictionary,
    /// New plugins for a later barrier.
    pub(super) ready: Option<Ready>,
    pub(super) link: JobLink,
    pub(super) meters: Meters,
    pub(super) wall_ms: u64,
}

impl Worker {
    /// Measures the stages of its tasks by the clock that its plugins were loaded with.
    #[must_use]
    pub fn measured_by(mut self, clock: GuestClock) -> Self {
        self.meters.stages.set_clock(clock);
        self
    }

    /// Does a bounded amount of work. `wall_ms` is wall-clock time in milliseconds since 1970.
    ///
    /// # Errors
    /// When a task cannot continue. The worker must not be used again.
    pub fn step(&mut self, now: Duration, wall_ms: u64) -> Result<Progress, JobError> {
        self.wall_ms = wall_ms;
        while let Ok(control) = self.link.control.try_recv() {
            match control {
                Control::Shutdown => return Ok(Progress::Over),
                Control::Replace(replacement) => self.make_ready(replacement),
                Control::Begin { checkpoint, last } => self.begin(checkpoint, last),
                Control::EndInput => self.end_input(),
                Control::Resume => self.resume(),
                Control::Hurry { until, operator } => self.link.hurry = Hurry { until, operator },
                Control::Completed(checkpoint) => self.hear(checkpoint, true)?,
                Control::Aborted(checkpoint) => self.hear(checkpoint, false)?,
            }
        }
        let mut moved = false;
        let mut snapshot = false;
        let mut until: Option<Duration> = None;
        for region in (0..self.regions.len()).rev().map(RegionIndex) {
            let first = self.regions[region.0].nodes[0];
            self.meters.stages.enter(first, Stage::Exchange);
            if !self.drain(region) {
                self.meters.standings[region.0] = Standing::BackPressured;
                continue;
            }
            self.meters.standings[region.0] = Standing::Idle;
            match self.advance(region, now)? {
                Progress::Moved { snapshot: taken } => {
                    moved = true;
                    snapshot |= taken;
                    self.meters.standings[region.0] = Standing::Busy;
                    self.meters.stages.enter(first, Stage::Exchange);
                    self.drain(region);
                }
                Progress::Idle { until: next } => until = [until, next].into_iter().flatten().min(),
                Progress::Over => {}
            }
        }
        self.meters.stages.rest();
        // What follows a snapshot in the same step would count as its pause.
        let is_hurried = now < self.link.hurry.until && !snapshot;
        if is_hurried || (!moved && self.is_sweeping()) {
            moved |= self.sweep_between(now, !moved)?;
        }
        match moved {
            true => Ok(Progress::Moved { snapshot }),
            false => Ok(Progress::Idle { until }),
        }
    }

    fn begin(&mut self, checkpoint: CheckpointId, last: bool) {
        for region in self
            .regions
            .iter_mut()
            .filter(|region| !region.sources.is_empty())
        {
            region.begin = Some(checkpoint);
            // Nothing is read from now until the barrier, which is the region's next step.
            region.suspended |= last;
        }
    }

    fn resume(&mut self) {
        for region in &mut self.regions {
            region.suspended = false;
        }
    }

    fn end_input(&mut self) {
        for task in self.tasks.iter_mut().flatten() {
            if let Task::Source(source) = task {
                source.finished = true;
            }
        }
    }

    /// Sends buffered messages; returns whether the region may continue.
    fn drain(&mut self, region: RegionIndex) -> bool {
        let mut free = true;
        for &exchange in &self.regions[region.0].exchanges {
            free &= self.exchanges[exchange.0].drain();
        }
        free
    }

    fn advance(&mut self, at: RegionIndex, now: Duration) -> Result<Progress, JobError> {
        if self.regions[at.0]
            .flush_at
            .is_some_and(|flush_at| flush_at <= now)
        {
            self.flush(at);
        }
        if self.take_up(at)? {
            self.note_held(at, now);
            if self.regions[at.0].waiting.is_empty() {
                // The watermark that waited for these records.
                self.advance_watermark(at, now);
                self.end_if_done(at);
            }
            return Ok(Progress::Moved { snapshot: false });
        }
        if let Some(checkpoint) = self.regions[at.0].begin.take() {
            let input = self.regions[at.0].sources_input();
            return self.barrier(at, input, checkpoint);
        }
        let mut moved = false;
        if let Some((inlet, message)) = self.receive(at) {
            if let Message::Barrier(checkpoint) = message {
                return self.barrier(at, inlet, checkpoint);
            }
            self.handle(at, inlet, message, now)?;
            moved = true;
        }
        if let Some(node) = self.ready_source(at, now) {
            self.read(at, node, now)?;
            moved = true;
        }
        if !moved {
            if self.end_if_done(at) {
                return Ok(Progress::Moved { snapshot: false });
            }
            if self.regions[at.0].flush_at.is_none() {
                return Ok(Progress::Idle {
                    until: self.next_read(at),
                });
            }
            self.flush(at);
        }
        Ok(Progress::Moved { snapshot: false })
    }

    /// Handles a message other than a barrier.
    fn handle(
        &mut self,
        at: RegionIndex,
        inlet: RegionInput,
        message: Message,
        now: Duration,
    ) -> Result<(), JobError> {
        let source = &mut self.regions[at.0].inlets[inlet.0];
        match message {
            Message::Barrier(_) => unreachable!("barriers are aligned"),
            Message::Records(keyed) => {
                let (to, input) = (source.to, source.input);
                self.give(to, input, *keyed)?;
                self.note_held(at, now);
            }
            Message::Watermark(time) => {
                source.watermark = time;
                self.advance_watermark(at, now);
            }
            Message::EndOfInput => {
                source.ended = true;
                self.end_if_done(at);
            }
        }
        Ok(())
    }

    /// The next message of an inlet that is not held back. Inlets take turns.
    fn receive(&mut self, at: RegionIndex) -> Option<(RegionInput, Message)> {
        let region = &mut self.regions[at.0];
        for _ in 0..region.inlets.len() {
            let inlet = region.turn % region.inlets.len();
            region.turn = inlet + 1;
            if region.aligner.holds(RegionInput(inlet)) {
                continue;
            }
            if let Some(message) = region.inlets[inlet].receiver.receive() {
                return Some((RegionInput(inlet), message));
            }
        }
        None
    }

    fn ready_source(&mut self, at: RegionIndex, now: Duration) -> Option<NodeIndex> {
        let region = &self.regions[at.0];
        if region.sources.is_empty()
            || region.suspended
            || region.aligner.holds(region.sources_input())
        {
            return None;
        }
        let count = region.sources.len();
        let order = (0..count).map(|offset| region.sources[(region.turn + offset) % count]);
        let ready = order.into_iter().find(|&node| match &self.tasks[node.0] {
            Some(Task::Source(source)) => source.is_ready(now),
            _ => false,
        });
        if region.inlets.is_empty() {
            self.regions[at.0].turn = (self.regions[at.0].turn + 1) % count;
        }
        ready
    }

    fn next_read(&self, at: RegionIndex) -> Option<Duration> {
        let region = &self.regions[at.0];
        if region.suspended
            || region.sources.is_empty()
            || region.aligner.holds(region.sources_input())
        {
            return None;
        }
        let idle = region
            .sources
            .iter()
            .filter_map(|&node| match &self.tasks[node.0] {
                Some(Task::Source(source)) if !source.finished => Some(source.idle_until),
                _ => None,
            });
        idle.min()
    }

    fn read(&mut self, at: RegionIndex, node: NodeIndex, now: Duration) -> Result<(), JobError> {
        let Some(Task::Source(source)) = &mut self.tasks[node.0] else {
            unreachable!("sources of a region are sources")
        };
        self.meters.stages.enter(node, Stage::Source);
        let (batch, bad) = source
            .read(now)
            .map_err(|reason| JobError::connector(&self.names[node.0], reason))?;
        self.meters.stages.enter(node, Stage::Exchange);
        let has_times = source.newest != NO_TIMESTAMP;
        let has_finished = source.finished;
        let warning = match batch.is_empty() {
            true => source.reader.take_warning(),
            false => None,
        };
        self.meters
            .counters
            .records_in
            .fetch_add(batch.len() as u64, Ordering::Relaxed);
        if !batch.is_empty() {
            self.meters.note_in(node, &batch);
            self.meters.note_out(node, &batch);
            self.emit(node, OutputPort(0), batch)?;
            self.note_held(at, now);
        }
        if let Some(message) = warning {
            let level = LogLevel::Warn;
            self.report_log(node, vec![LogLine { level, message }]);
        }
        if let Some(bad) = bad {
            self.refuse_input(at, node, *bad, now)?;
        }
        if has_finished || now >= self.meters.count_at {
            self.meters.count_sources(&self.tasks, now);
        }
        if has_times && now >= self.regions[at.0].watermark.next_at {
            self.advance_watermark(at, now);
        }
        self.end_if_done(at);
        Ok(())
    }

    /// Remembers when records that wait for others have to go.
    pub(super) fn note_held(&mut self, at: RegionIndex, now: Duration) {
        if self.regions[at.0].flush_at.is_some() {
            return;
        }
        let holds = self.regions[at.0]
            .exchanges
            .iter()
            .any(|&exchange| self.exchanges[exchange.0].holds_any());
        if holds {
            self.regions[at.0].flush_at = Some(now + FLUSH_DELAY);
        }
    }

    fn flush(&mut self, at: RegionIndex) {
        self.regions[at.0].flush_at = None;
        for &exchange in &self.regions[at.0].exchanges {
            self.exchanges[exchange.0].flush();
        }
    }

    /// Sends a mark to all workers, behind all records.
    fn broadcast(&mut self, at: RegionIndex, mark: &Message) {
        self.regions[at.0].flush_at = None;
        for &exchange in &self.regions[at.0].exchanges {
            self.exchanges[exchange.0].broadcast(mark);
        }
    }

    fn barrier(
        &mut self,
        at: RegionIndex,
        input: RegionInput,
        checkpoint: CheckpointId,
    ) -> Result<Progress, JobError> {
        // What a checkpoint takes is told with the checkpoint.
        self.meters.stages.rest();
        let aligned = self.regions[at.0].aligner.barrier(input, checkpoint);
        let Alignment::Aligned(checkpoint) = aligned else {
            return Ok(Progress::Moved { snapshot: false });
        };
        crash::point(Point::BarrierReached);
        let swap = self.swap_begins(at, checkpoint);
        let mut snapshot = RegionSnapshot::new(checkpoint, self.part(at));
        for &node in &self.regions[at.0].nodes {
            let task = self.tasks[node.0].as_mut().expect("every node has a task");
            snapshot.add(node, task).map_err(|error| match error {
                SnapshotError::Sink(reason) => JobError::connector(&self.names[node.0], reason),
                SnapshotError::State(reason) => JobError::chunks(&self.names[node.0], reason),
            })?;
        }
        self.note_entries(at);
        crash::point(Point::BarrierPassed);
        self.broadcast(at, &Message::Barrier(checkpoint));
        if let Some(begun) = swap {
            self.swap(at, begun);
        }
        self.link.report(Report::Snapshot(snapshot));
        Ok(Progress::Moved { snapshot: true })
    }

    fn advance_watermark(&mut self, at: RegionIndex, now: Duration) {
        let region = &self.regions[at.0];
        if !region.waiting.is_empty() {
            return;
        }
        let inlets = region
            .inlets
            .iter()
            .filter(|inlet| !inlet.ended && !inlet.is_beside_input)
            .map(|inlet| inlet.watermark);
        let sources = region
            .sources
            .iter()
            .filter_map(|&node| match &self.tasks[node.0] {
                Some(Task::Source(source)) if !source.finished && !source.is_beside_input => {
                    Some(source.newest)
                }
                _ => None,
            });
        let Some(watermark) = inlets.chain(sources).min() else {
            return;
        };
        if self.regions[at.0].watermark.rises(watermark, now) {
            let nodes = &self.regions[at.0].nodes;
            self.meters.note_watermark(nodes, watermark);
            self.broadcast(at, &Message::Watermark(watermark));
        }
    }

    /// Ends a region whose inputs have all ended; returns whether it ended now.
    fn end_if_done(&mut self, at: RegionIndex) -> bool {
        let region = &self.regions[at.0];
        let has_ended = |node: &NodeIndex| match &self.tasks[node.0] {
            Some(Task::Source(source)) => source.finished,
            _ => false,
        };
        let done =
            region.inlets.iter().all(|inlet| inlet.ended) && region.sources.iter().all(has_ended);
        if !done || region.ended || !region.waiting.is_empty() {
            return false;
        }
        self.regions[at.0].ended = true;
        self.broadcast(at, &Message::EndOfInput);
        self.link.report(Report::Ended(self.part(at)));
        true
    }

    pub(super) fn part(&self, region: RegionIndex) -> RegionId {
        RegionId {
            worker: self.index,
            region,
        }
    }
}
