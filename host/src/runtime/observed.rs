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
            task.records_in.add(batch.len() as u64);
            task.bytes_in.add(batch.bytes_len() as u64);
        }
    }

    /// Counts a batch that a task passed on or wrote.
    pub(super) fn note_out(&self, node: usize, batch: &Batch) {
        if let Some(task) = self.counters.observed.task(node) {
            task.records_out.add(batch.len() as u64);
            task.bytes_out.add(batch.bytes_len() as u64);
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
            let since = |now: u64, known: u64| now.saturating_sub(known);
            task.calls.add(since(times.calls, known_times.calls));
            task.guest.add(since(times.guest_ns, known_times.guest_ns));
            task.copy.add(since(times.copy_ns, known_times.copy_ns));
            task.host.add(since(times.host_ns, known_times.host_ns));
            task.traps.add(since(faults.traps, known.traps));
            task.retries.add(since(faults.retries, known.retries));
            task.rejections
                .add(since(faults.rejections, known.rejections));
            task.skipped.add(since(faults.skipped, known.skipped));
            task.dead_letters
                .add(since(faults.dead_letters, known.dead_letters));
            task.state_bytes
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
                task.state_bytes.set(store.live_bytes() as u64);
                task.state_entries.set(store.len() as u64);
                task.instances.set(1);
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
    task.quick_code.set(u64::from(is_quick));
    task.optimising.set(u64::from(is_optimising));
}
