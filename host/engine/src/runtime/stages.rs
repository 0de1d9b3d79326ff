//! Measures the time of a worker by task and by stage.
//!
//! A worker does one thing at a time, so its time is divided into laps: each reading of the clock ends one and begins
//! the next. There are a few per batch and none per record. The clock is passed in; without one nothing is measured.
//! Time that belongs to no stage, such as that of a snapshot, is not counted here.

use std::sync::Arc;

use super::plan::NodeIndex;
use crate::guest::{GuestClock, Instance};
use crate::observe::{Stage, WorkerMetrics};

/// The stages of a worker's tasks.
///
/// - All time from one reading to the next goes to at most one stage of one task.
pub(super) struct Stages {
    clock: Option<GuestClock>,
    observed: Arc<WorkerMetrics>,
    /// The last reading.
    since: u64,
    /// The task and the stage that the time since then belongs to.
    current: Option<(NodeIndex, Stage)>,
}

impl Stages {
    /// Measures nothing until a clock is set.
    pub(super) fn new(observed: Arc<WorkerMetrics>) -> Self {
        Self {
            clock: None,
            observed,
            since: 0,
            current: None,
        }
    }

    /// Sets the clock, which must be that of the instances.
    pub(super) fn set_clock(&mut self, clock: GuestClock) {
        self.clock = Some(clock);
    }

    /// Starts a lap of a task in this stage.
    #[inline]
    pub(super) fn enter(&mut self, node: NodeIndex, stage: Stage) {
        let next = Some((node, stage));
        if self.current != next && self.lap().is_some() {
            self.current = next;
        }
    }

    /// Starts a lap that belongs to no stage.
    #[inline]
    pub(super) fn rest(&mut self) {
        if self.current.is_some() {
            self.lap();
            self.current = None;
        }
    }

    /// Starts a call of an operator, which measures its own laps.
    #[inline]
    pub(super) fn lend(&mut self) -> CallLaps {
        let since = self.lap();
        self.current = None;
        CallLaps {
            since,
            ..CallLaps::default()
        }
    }

    /// Ends a call; the task now passes on its output.
    #[inline]
    pub(super) fn take_back(&mut self, node: NodeIndex, laps: &CallLaps) {
        let Some(since) = laps.since else {
            return;
        };
        for (stage, spent) in [
            (Stage::Lookup, laps.lookup),
            (Stage::Guest, laps.guest),
            (Stage::Apply, laps.apply),
        ] {
            self.add(node, stage, spent);
        }
        self.since = since;
        self.current = Some((node, Stage::Exchange));
    }

    /// Ends a lap and returns the reading.
    fn lap(&mut self) -> Option<u64> {
        let now = self.clock.as_ref()?();
        let spent = now.saturating_sub(std::mem::replace(&mut self.since, now));
        if let Some((node, stage)) = self.current {
            self.add(node, stage, spent);
        }
        Some(now)
    }

    fn add(&self, node: NodeIndex, stage: Stage, spent: u64) {
        if let Some(task) = self.observed.task(node.0) {
            task.stages.of(stage).add(spent);
        }
    }
}

/// Laps of an operator while it processes one batch, in one or more calls of its plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CallLaps {
    /// The last reading; `None` if nothing is measured.
    since: Option<u64>,
    /// Whether a call was made.
    has_called: bool,
    lookup: u64,
    guest: u64,
    apply: u64,
}

impl CallLaps {
    /// Starts the lookup of state for a call. The time since an earlier call was spent on applying it.
    #[inline]
    pub(super) fn look_up(&mut self, instance: &Instance) {
        if std::mem::replace(&mut self.has_called, true) {
            self.applied(instance);
        }
    }

    /// Adds a call of the plugin, between the two readings.
    #[inline]
    pub(super) fn called(&mut self, call: Option<(u64, u64)>) {
        if let (Some(since), Some((begun, ended))) = (&mut self.since, call) {
            self.lookup += begun.saturating_sub(*since);
            self.guest += ended.saturating_sub(begun);
            *since = ended;
        }
    }

    /// Ends the time of applying the call's writes.
    #[inline]
    pub(super) fn applied(&mut self, instance: &Instance) {
        if self.since.is_some() {
            self.applied_at(instance.now());
        }
    }

    fn applied_at(&mut self, now: Option<u64>) {
        if let (Some(since), Some(now)) = (&mut self.since, now) {
            self.apply += now.saturating_sub(std::mem::replace(since, now));
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches time that is counted twice, not at all, or for the wrong task or stage.

    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const FIRST: NodeIndex = NodeIndex(0);
    const SECOND: NodeIndex = NodeIndex(1);

    /// Stages of two tasks whose clock doubles with each reading.
    fn stages() -> (Stages, Arc<WorkerMetrics>) {
        let observed = Arc::new(WorkerMetrics::new(2));
        let mut stages = Stages::new(Arc::clone(&observed));
        let now = AtomicU64::new(1);
        stages.set_clock(Arc::new(move || {
            now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(2 * now))
                .unwrap()
        }));
        (stages, observed)
    }

    fn spent(observed: &WorkerMetrics, node: NodeIndex) -> [u64; 6] {
        let stages = &observed.task(node.0).unwrap().stages;
        Stage::ALL.map(|stage| stages.of(stage).get())
    }

    #[test]
    fn all_time_goes_to_one_stage_of_one_task() {
        let (mut stages, observed) = stages();
        stages.enter(FIRST, Stage::Source); // at 1
        stages.enter(FIRST, Stage::Exchange); // at 2
        stages.enter(FIRST, Stage::Exchange); // no reading: nothing changes
        let mut laps = stages.lend(); // at 4
        laps.called(Some((5, 8)));
        laps.applied_at(Some(9));
        // A second call for the same batch, after a failure.
        laps.applied_at(Some(11));
        laps.called(Some((12, 15)));
        stages.take_back(SECOND, &laps);
        stages.enter(SECOND, Stage::Sink); // at 8, which is before 15: a clock that went back counts nothing
        stages.rest(); // at 16
        stages.rest(); // no reading
        stages.enter(FIRST, Stage::Source); // at 32: what was before belongs to no stage
        stages.rest(); // at 64
        assert_eq!(spent(&observed, FIRST), [1 + 32, 2, 0, 0, 0, 0]);
        assert_eq!(spent(&observed, SECOND), [0, 0, 1 + 1, 3 + 3, 1 + 2, 8]);
    }

    #[test]
    fn without_a_clock_nothing_is_counted() {
        let observed = Arc::new(WorkerMetrics::new(1));
        let mut stages = Stages::new(Arc::clone(&observed));
        stages.enter(FIRST, Stage::Source);
        let mut laps = stages.lend();
        laps.called(Some((5, 8)));
        laps.applied_at(Some(9));
        assert_eq!(laps, CallLaps::default());
        stages.take_back(FIRST, &laps);
        stages.rest();
        assert_eq!(spent(&observed, FIRST), [0; 6]);
    }

    #[test]
    fn an_unobserved_worker_measures_nothing() {
        let mut stages = Stages::new(Arc::default());
        stages.set_clock(Arc::new(|| 7));
        stages.enter(NodeIndex(3), Stage::Source);
        stages.rest();
    }
}
