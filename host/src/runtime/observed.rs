//! The metrics that a worker publishes: it updates a few atomics per batch and per step, none per record.

use std::time::Duration;

use super::task::{OperatorTask, Task};
use super::worker::Worker;
use crate::observe::{Standing, TaskMetrics};
use crate::stream::Batch;

impl Worker {
    /// Adds the time that the regions spent in their last standing. A task of a region that had work counts as busy
    /// also while the worker was processing another region.
    pub fn note_time(&self, took: Duration) {
        let observed = &self.counters.observed;
        for (node, &region) in self.region_of.iter().enumerate() {
            if let Some(task) = observed.task(node) {
                task.times.note(self.standings[region], took);
            }
        }
        let any = |standing| self.standings.contains(&standing);
        let all = if any(Standing::Busy) {
            Standing::Busy
        } else if any(Standing::BackPressured) {
            Standing::BackPressured
        } else {
            Standing::Idle
        };
        observed.times.note(all, took);
    }

    /// Counts a batch that a task received.
    pub(super) fn note_in(&self, node: usize, batch: &Batch) {
        if let Some(task) = self.counters.observed.task(node) {
            task.input.add(batch.len(), batch.bytes_len());
        }
    }

    /// Counts a batch that a task passed on or wrote.
    pub(super) fn note_out(&self, node: usize, batch: &Batch) {
        if let Some(task) = self.counters.observed.task(node) {
            task.output.add(batch.len(), batch.bytes_len());
        }
    }

    /// Updates the metrics after an operator has processed a batch, or failed.
    pub(super) fn note_call(&mut self, node: usize) {
        let Some(Task::Operator(operator)) = &mut self.tasks[node] else {
            return;
        };
        let reported = operator.desk.take_reported();
        if let Some(task) = self.counters.observed.task(node) {
            if let Some(reported) = reported {
                task.reported.add(reported.counters);
                task.reported.set(reported.gauges);
                task.reported.observe(reported.histograms);
            }
            let faults = operator.faults();
            let times = operator.times();
            let (known, known_times) = std::mem::replace(&mut self.known[node], (faults, times));
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
            task.state
                .bytes
                .set(operator.store_mut().live_bytes() as u64);
            note_code(task, operator);
        }
    }

    /// Publishes the number of state entries, after the tasks of a region have taken a snapshot or restored one.
    pub(super) fn note_entries(&mut self, at: usize) {
        for &node in &self.regions[at].nodes {
            if let Some(Task::Operator(operator)) = &mut self.tasks[node]
                && let Some(task) = self.counters.observed.task(node)
            {
                note_code(task, operator);
                let store = operator.store_mut();
                task.state.bytes.set(store.live_bytes() as u64);
                task.state.entries.set(store.len() as u64);
                task.instances.live.set(1);
            }
        }
    }

    /// Publishes a region's watermark.
    pub(super) fn note_watermark(&self, at: usize, watermark: i64) {
        for &node in &self.regions[at].nodes {
            if let Some(task) = self.counters.observed.task(node) {
                task.watermark.set(watermark);
            }
        }
    }
}

/// Publishes the kind of code that an operator runs.
fn note_code(task: &TaskMetrics, operator: &OperatorTask) {
    let (is_quick, is_optimising) = operator.code();
    task.instances.quick_code.set(u64::from(is_quick));
    task.instances.optimising.set(u64::from(is_optimising));
}
