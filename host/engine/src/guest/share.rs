//! State shared by all instances of one operator, over all tasks and versions of its plugin: the number of live
//! instances, the remaining log lines, the names of reported metrics, and the grace of each task after a stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::deadline::{Haste, TaskGrace};
use super::limits::{Exceeded, Limits, TICKS_PER_SECOND};
use super::reported::LeftOut;

/// The shared state of all operators of an engine.
#[derive(Debug)]
pub(super) struct Shares {
    /// Largest number of tasks of an operator.
    tasks: u32,
    /// Ticks since the engine was created.
    ticks: Arc<AtomicU64>,
    /// That of the job, if the engine has one.
    haste: Arc<OnceLock<Haste>>,
    /// When the stop was first noticed.
    stopped_at: Arc<OnceLock<Duration>>,
    by_operator: Mutex<BTreeMap<String, Arc<Share>>>,
}

impl Shares {
    pub(super) fn new(tasks: u32) -> Self {
        Self {
            tasks,
            ticks: Arc::default(),
            haste: Arc::default(),
            stopped_at: Arc::default(),
            by_operator: Mutex::default(),
        }
    }

    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// From when this begins, calls have only the grace of their task. Only the first call of this counts.
    pub(super) fn hasten_with(&self, haste: &Haste) {
        let _ = self.haste.set(haste.clone());
    }

    pub(super) fn of(&self, operator: &str) -> Arc<Share> {
        let mut shares = self
            .by_operator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(operator) {
            return Arc::clone(share);
        }
        let share = Arc::new(Share {
            tasks: self.tasks,
            ticks: Arc::clone(&self.ticks),
            haste: Arc::clone(&self.haste),
            stopped_at: Arc::clone(&self.stopped_at),
            graces: Mutex::default(),
            live: AtomicU32::new(0),
            log: Mutex::default(),
            metrics: Mutex::default(),
            left_out: AtomicU32::new(0),
        });
        shares.insert(operator.to_owned(), Arc::clone(&share));
        share
    }
}

/// State shared by the instances of one operator.
#[derive(Debug)]
pub(super) struct Share {
    tasks: u32,
    ticks: Arc<AtomicU64>,
    haste: Arc<OnceLock<Haste>>,
    stopped_at: Arc<OnceLock<Duration>>,
    /// By number of a task.
    graces: Mutex<BTreeMap<u16, Arc<TaskGrace>>>,
    live: AtomicU32,
    log: Mutex<LogWindow>,
    /// The names of the metrics.
    metrics: Mutex<BTreeSet<String>>,
    /// The reasons for dropping metrics that were already logged: one bit each.
    left_out: AtomicU32,
}

/// A second of an operator's log.
#[derive(Debug, Default)]
struct LogWindow {
    since: u64,
    lines: u32,
}

impl Share {
    /// Counts another instance, if the limit allows it.
    pub(super) fn enter(self: &Arc<Self>, limits: &Limits) -> Result<Alive, Exceeded> {
        let allowed = self.tasks.saturating_mul(2);
        let allowed = allowed.saturating_add(limits.instances);
        let more = |live: u32| (live < allowed).then(|| live + 1);
        match self
            .live
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        {
            Ok(_) => Ok(Alive(Arc::clone(self))),
            Err(_) => Err(Exceeded::Instances { allowed }),
        }
    }

    /// Ticks since the engine was created; 0 without a ticker.
    pub(super) fn now(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// The time since it was noticed that the job was asked to stop; `None` as long as it was not. Guests look once a tick
    /// and before each call, so it is noticed late only if none was running. `now` is a clock that all instances share.
    #[inline]
    pub(super) fn since_stop(&self, now: impl FnOnce() -> Duration) -> Option<Duration> {
        if !self.haste.get().is_some_and(Haste::has_begun) {
            return None;
        }
        let now = now();
        let stopped_at = *self.stopped_at.get_or_init(|| now);
        Some(now.saturating_sub(stopped_at))
    }

    /// The grace of a task, for all instances that it ever has.
    pub(super) fn grace_of(&self, task: u16) -> Arc<TaskGrace> {
        let mut graces = self.graces.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(graces.entry(task).or_default())
    }

    /// Whether another line may be logged in this second. Without a ticker there are no seconds, so there is no limit.
    pub(super) fn may_log(&self, lines_per_second: u32) -> bool {
        let now = self.now();
        if now == 0 {
            return true;
        }
        let mut window = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if now - window.since.min(now) >= TICKS_PER_SECOND {
            *window = LogWindow {
                since: now,
                lines: 0,
            };
        }
        let may = window.lines < lines_per_second;
        window.lines += u32::from(may);
        may
    }

    /// Whether the operator may have a metric of this name, with at most `names_max` names.
    pub(super) fn may_report(&self, name: &str, names_max: usize) -> bool {
        let mut names = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < names_max && !names.contains(name) {
            names.insert(name.to_owned());
        }
        names.contains(name)
    }

    /// Whether this reason for dropping a metric occurs for the first time.
    pub(super) fn is_first(&self, why: LeftOut) -> bool {
        let bit = 1 << why as u32;
        self.left_out.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

/// Counts an instance as live until it is dropped.
#[derive(Debug)]
pub(super) struct Alive(Arc<Share>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}
