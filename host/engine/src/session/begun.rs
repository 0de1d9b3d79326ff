//! A watcher that also notes whether its job has begun. It passes everything on.

use std::sync::Arc;
use std::time::Duration;

use crate::connector::Recovered;
use crate::edge::drive::Watcher;
use crate::job::Notice;
use crate::observe::WorkerMetrics;
use crate::runtime::plan::{Plan, WorkerIndex};
use crate::runtime::worker::Counters;

/// Watches for the begin of a job, on behalf of the session.
pub struct BeginWatcher<'a> {
    watcher: &'a mut dyn Watcher,
    /// Whether records may have flowed.
    pub has_begun: bool,
}

impl<'a> BeginWatcher<'a> {
    /// Of a job that has not begun.
    pub fn of(watcher: &'a mut dyn Watcher) -> Self {
        Self {
            watcher,
            has_begun: false,
        }
    }
}

impl Watcher for BeginWatcher<'_> {
    fn begun(&mut self, recovered: &[(String, Recovered)]) {
        self.has_begun = true;
        self.watcher.begun(recovered);
    }

    fn notice(&mut self, now: Duration, notice: Notice) {
        self.watcher.notice(now, notice);
    }

    fn watch(&mut self, now: Duration, counters: &[Arc<Counters>]) {
        self.watcher.watch(now, counters);
    }

    fn planned(&mut self, plan: &Plan, is_on_trial: bool) {
        self.watcher.planned(plan, is_on_trial);
    }

    fn observed(&self, worker: WorkerIndex) -> Arc<WorkerMetrics> {
        self.watcher.observed(worker)
    }
}
