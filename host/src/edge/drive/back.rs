//! How a running job goes back to a checkpoint: its threads are joined, the storage says what is durable, and workers are made
//! anew from there. State that is in memory goes back there if all of it can.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::super::threads::Threads;
use super::{GOING_BACK_MAX, Job, earlier_runs};
use crate::checkpoint::Depth;
use crate::runtime::JobError;
use crate::runtime::conductor::{Notice, WentBack};
use crate::runtime::left::LeftStates;

impl Job<'_> {
    /// Goes back to the last checkpoint, after `error`.
    pub(super) fn go_back(
        &mut self,
        threads: Threads,
        error: &JobError,
    ) -> Result<Threads, JobError> {
        let (writer, workers) = threads.stop()?;
        // What a write under way has become, and who has asked for something, still counts.
        while let Ok(report) = self.inbox.try_recv() {
            if report.is_of_workers() {
                continue;
            }
            self.handle(report, None)?;
        }
        // Not before: a checkpoint may have been completed meanwhile.
        self.gone_back += 1;
        let mut store = writer.into_store();
        let depth = match error.is_of_stored_bytes() {
            true => Depth::Thorough,
            false => Depth::Quick,
        };
        let mut recovery = store.recover(depth, None)?;
        let earlier = earlier_runs(recovery.restored.as_ref());
        let now = self.stage.clock.now();
        let reason = error.to_string();
        let settled = self.conductor.settle_swap(now, earlier.checkpoint, &reason);
        self.carry_out(settled, None)?;
        self.stage.go_back_to(earlier.checkpoint);
        let left = match (depth, workers) {
            (Depth::Quick, Some(workers)) => LeftStates::of(workers).back_to(earlier.checkpoint),
            _ => LeftStates::default(),
        };
        let notice = Notice::WentBack(WentBack {
            reason: error.to_string(),
            to: earlier.checkpoint,
            attempt: self.gone_back,
            attempts_max: GOING_BACK_MAX,
            in_memory: !left.is_empty(),
            passed_over: std::mem::take(&mut recovery.damaged),
        });
        let clock = self.stage.clock;
        self.watcher.notice(clock.now(), notice);
        self.count_from(earlier.records_in);
        let fresh = self.settings.fresh && recovery.restored.is_none();
        let life = self.stage.live(store, recovery, fresh, left)?;
        if let Some(found) = life.found {
            self.count_from(life.earlier.records_in);
            self.watcher.notice(clock.now(), Notice::WentBack(found));
        }
        let plan = Arc::clone(&self.stage.plan);
        self.conductor
            .begin_again(clock.now(), &plan, life.schemas, life.next_id, life.earlier);
        self.watcher.begun(&life.recovered);
        Ok(life.threads)
    }

    /// Has the counters say what this process has read, without what is read again.
    fn count_from(&self, records_in: u64) {
        let mut read = records_in.saturating_sub(self.records_in_before);
        for counters in &self.stage.counters {
            counters
                .records_in
                .store(std::mem::take(&mut read), Ordering::Relaxed);
            counters.records_out.store(0, Ordering::Relaxed);
        }
    }
}
