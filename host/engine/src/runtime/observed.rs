//! The metrics that a worker publishes: it updates a few atomics per batch and per step, none per record.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::faults::Faults;
use super::plan::{NodeIndex, RegionIndex};
use super::stages::Stages;
use super::task::{OperatorTask, Task};
use super::worker::{Counters, Worker};
use crate::guest::CallTimes;
use crate::observe::{Standing, TaskMetrics};
use floodmark_state::stream::Batch;

/// How often the progress of sources is counted, which asks every split.
const COUNT_INTERVAL: Duration = Duration::from_millis(50);

/// What a worker measures of itself and its tasks.
pub(super) struct Meters {
    pub(super) counters: Arc<Counters>,
    /// By region: how it stood in the last step.
    pub(super) standings: Vec<Standing>,
    /// By node: what observers know of the calls of its task.
    known: Vec<(Faults, CallTimes)>,
    pub(super) stages: Stages,
    /// When the progress of sources is counted next.
    pub(super) count_at: Duration,
}

impl Worker {
    /// Adds the time that the regions spent in their last standing. A task of a region that had work counts as busy
    /// also while the worker was processing another region.
    pub fn note_time(&self, took: Duration) {
        let observed = &self.meters.counters.observed;
        for (node, &region) in self.region_of.iter().enumerate() {
            if let Some(task) = observed.task(node) {
                task.times.note(self.meters.standings[region.0], took);
            }
        }
        let any = |standing| self.meters.standings.contains(&standing);
        let all = if any(Standing::Busy) {
            Standing::Busy
        } else if any(Standing::BackPressured) {
            Standing::BackPressured
        } else {
            Standing::Idle
        };
        observed.times.note(all, took);
    }

    /// The tasks of a region have taken their snapshots, or have their state from one.
    pub(super) fn note_entries(&mut self, at: RegionIndex) {
        for &node in &self.regions[at.0].nodes {
            if let Some(Task::Operator(operator)) = &mut self.tasks[node.0]
                && let Some(task) = self.meters.counters.observed.task(node.0)
            {
                note_code(task, operator);
                note_state(task, operator);
                let entries = operator.store_mut().len();
                task.state.entries.set(entries as u64);
                task.instances.live.set(1);
            }
        }
    }
}

impl Meters {
    /// Before the first step.
    pub(super) fn new(counters: Arc<Counters>, nodes: usize, regions: usize) -> Self {
        Self {
            standings: vec![Standing::Idle; regions],
            known: vec![Default::default(); nodes],
            stages: Stages::new(Arc::clone(&counters.observed)),
            count_at: Duration::ZERO,
            counters,
        }
    }

    /// Counts how far the sources among these tasks are.
    pub(super) fn count_sources(&mut self, tasks: &[Option<Task>], now: Duration) {
        self.count_at = now + COUNT_INTERVAL;
        let (mut done, mut total) = (0, Some(0));
        for task in tasks.iter().flatten() {
            if let Task::Source(source) = task {
                let progress = source.reader.progress();
                done += progress.done;
                total = total
                    .zip(progress.total)
                    .map(|(sum, more): (u64, u64)| sum + more);
            }
        }
        self.counters.source_done.store(done, Ordering::Relaxed);
        self.counters
            .source_total
            .store(total.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A task got a batch.
    pub(super) fn note_in(&self, node: NodeIndex, batch: &Batch) {
        if let Some(task) = self.counters.observed.task(node.0) {
            task.input.add(batch.len(), batch.bytes_len());
        }
    }

    /// Counts a batch that a task passed on or wrote.
    pub(super) fn note_out(&self, node: NodeIndex, batch: &Batch) {
        if let Some(task) = self.counters.observed.task(node.0) {
            task.output.add(batch.len(), batch.bytes_len());
        }
    }

    /// A source or sink has met records that it cannot read or write.
    pub(super) fn note_bad(&self, node: NodeIndex, skipped: usize, letters: usize) {
        if let Some(task) = self.counters.observed.task(node.0) {
            task.faults.skipped.add(skipped as u64);
            task.faults.dead_letters.add(letters as u64);
        }
    }

    /// An operator has handled a batch, or failed at it.
    pub(super) fn note_call(&mut self, node: NodeIndex, operator: &mut OperatorTask) {
        let reported = operator.desk.take_reported();
        let unmigrated = operator.plugin.sweep.take_news();
        if let Some(task) = self.counters.observed.task(node.0) {
            if let Some(reported) = reported {
                task.reported.add(reported.counters);
                task.reported.set(reported.gauges);
                task.reported.observe(reported.histograms);
            }
            if let Some(unmigrated) = unmigrated {
                task.state.unmigrated.set(unmigrated);
            }
            let faults = operator.faults();
            let times = operator.times();
            let (known, known_times) = std::mem::replace(&mut self.known[node.0], (faults, times));
            let (calls, totals) = (&task.calls, &task.faults);
            for (total, now, known) in [
                (&calls.count, times.calls, known_times.calls),
                (&calls.guest, times.guest_ns, known_times.guest_ns),
                (&calls.copy, times.copy_ns, known_times.copy_ns),
                (&calls.host, times.host_ns, known_times.host_ns),
                (&totals.traps, faults.traps, known.traps),
                (&totals.retries, faults.retries, known.retries),
                (&totals.rejections, faults.rejections, known.rejections),
                (&totals.skipped, faults.skipped, known.skipped),
                (
                    &totals.dead_letters,
                    faults.dead_letters,
                    known.dead_letters,
                ),
            ] {
                total.add(now.saturating_sub(known));
            }
            note_state(task, operator);
            note_code(task, operator);
        }
    }

    /// A hurried operator has done a step of its sweep, or found nothing to do now.
    pub(super) fn note_sweep(
        &self,
        node: NodeIndex,
        operator: &mut OperatorTask,
        has_stepped: bool,
    ) {
        if let Some(task) = self.counters.observed.task(node.0) {
            task.state.sweep.steps.add(u64::from(has_stepped));
            task.state.sweep.set_left(operator.earlier_bytes());
        }
    }

    /// The watermark of the region of these nodes is this.
    pub(super) fn note_watermark(&self, nodes: &[NodeIndex], watermark: i64) {
        for &node in nodes {
            if let Some(task) = self.counters.observed.task(node.0) {
                task.watermark.set(watermark);
            }
        }
    }
}

/// Publishes how large the state is, and how large it may be, to observers and to tasks that share its limit.
fn note_state(task: &TaskMetrics, operator: &mut OperatorTask) {
    operator.publish_size();
    let (limit, shared_limit) = operator.room.limits();
    let store = operator.store_mut();
    task.state.bytes.set(store.live_bytes() as u64);
    task.state.size.set(store.total_bytes() as u64);
    task.state.limit.set(limit);
    task.state.shared_limit.set(shared_limit);
}

/// Publishes the kind of code that an operator runs.
fn note_code(task: &TaskMetrics, operator: &OperatorTask) {
    let (is_quick, is_optimising) = operator.code();
    task.instances.quick_code.set(u64::from(is_quick));
    task.instances.optimising.set(u64::from(is_optimising));
}
