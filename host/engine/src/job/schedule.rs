//! When a checkpoint begins, is complete, fails or is given up.
//!
//! ```text
//!          interval over, requested, stop, end of input     all parts acknowledged
//!   waiting ───────────────────────────────▶ collecting ─────────────────────────▶ writing
//!      ▲                                         │ timeout                           │ written, or not
//!      └─────────────────────────────────────────┴───────────────────────────────────┘
//! ```
//!
//! State that is not in a checkpoint yet stays in memory, even beyond the memory budget. A part with too much of it makes
//! the next checkpoint begin early.
//!
//! A request that arrives while a checkpoint is under way is answered with the next one: the current one may have begun
//! before the changes that the caller wants in it. A stop is a checkpoint after which sources read nothing. A drain makes
//! the sources end, so that operators emit what they hold back until the end of input; the last checkpoint follows.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Moment;
use crate::runtime::snapshot::RegionId;
use floodmark_checkpoint::Trigger;
use floodmark_state::stream::CheckpointId;

/// The settings of checkpoints. Numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// From the start of one to the start of the next; `None` for none but at the end of the job, and when state needs room.
    pub interval: Option<Duration>,
    /// How long collecting may take.
    pub timeout: Duration,
    /// The shortest time between the end of one and the start of the next. Requested checkpoints do not wait for it.
    pub min_pause: Duration,
    /// How many may fail in a row before the job does; `None` for any number.
    pub tolerable_failures: Option<u32>,
}

impl CheckpointSettings {
    /// With this interval, and defaults otherwise.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval: Some(interval),
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            tolerable_failures: None,
        }
    }
}

/// How often the last checkpoint of a job is tried before the job gives up.
const LAST_ATTEMPTS_MAX: u32 = 5;
/// How long to wait before it is tried again, or before another makes room for state.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A checkpoint under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) checkpoint: CheckpointId,
    pub(super) trigger: Trigger,
    pub(super) begun: Moment,
    /// Parts whose snapshots are not there yet; once there are none, it is being written.
    missing: BTreeSet<RegionId>,
    /// Whether it makes room for state.
    relieves: bool,
}

/// Why a checkpoint may begin before it is due.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wishes {
    pub(super) swap: bool,
    pub(super) rescale: bool,
    pub(super) checkpoint: bool,
    /// A rescale is done, and is in no checkpoint yet.
    pub(super) rescaled: bool,
}

/// What follows from a checkpoint that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// The job continues.
    Continue,
    /// More have failed in a row than are tolerated: so many.
    TooMany(u32),
    /// The last one of the job was tried often enough.
    WithoutLast,
}

/// When the input ends because of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DrainState {
    No,
    Requested,
    Told,
}

/// The schedule of a job's checkpoints.
#[derive(Debug)]
pub(super) struct Schedule {
    settings: CheckpointSettings,
    parts: BTreeSet<RegionId>,
    /// Those that have not seen the last of their records.
    running: BTreeSet<RegionId>,
    under_way: Option<UnderWay>,
    next_id: CheckpointId,
    next_at: Option<Duration>,
    /// Before this none begins to make room for state.
    pause_until: Duration,
    is_dirty: bool,
    stops: bool,
    drain: DrainState,
    failures: u32,
    last_attempts: u32,
}

impl Schedule {
    /// For a job that has not begun.
    pub(super) fn new(settings: CheckpointSettings) -> Self {
        Self {
            settings,
            parts: BTreeSet::new(),
            running: BTreeSet::new(),
            under_way: None,
            next_id: CheckpointId(0),
            next_at: None,
            pause_until: Duration::ZERO,
            is_dirty: false,
            stops: false,
            drain: DrainState::No,
            failures: 0,
            last_attempts: 0,
        }
    }

    /// All parts run, from a checkpoint on, and none is under way. A stop or drain that was requested stays.
    pub(super) fn start(
        &mut self,
        now: Duration,
        parts: BTreeSet<RegionId>,
        next_id: CheckpointId,
    ) {
        self.running.clone_from(&parts);
        self.parts = parts;
        self.under_way = None;
        self.next_id = self.next_id.max(next_id);
        self.next_at = self.settings.interval.map(|interval| now + interval);
        self.last_attempts = 0;
        // Tasks report it again.
        self.is_dirty = false;
        if self.drain == DrainState::Told {
            self.drain = DrainState::Requested;
        }
    }

    /// The checkpoint under way.
    pub(super) fn under_way(&self) -> Option<&UnderWay> {
        self.under_way.as_ref()
    }

    /// Requests that the job stops where it stands, or as if its input had ended.
    pub(super) fn stop(&mut self, drain: bool) {
        match drain {
            false => self.stops = true,
            true if self.drain == DrainState::No => self.drain = DrainState::Requested,
            true => {}
        }
    }

    /// Whether the job was requested to stop where it stands.
    pub(super) fn is_to_stop(&self) -> bool {
        self.stops
    }

    /// Whether the sources are to end, which is told once.
    pub(super) fn take_end_of_input(&mut self) -> bool {
        let is_requested = self.drain == DrainState::Requested;
        if is_requested {
            self.drain = DrainState::Told;
        }
        is_requested
    }

    /// When something is due, if nothing happens before.
    pub(super) fn wakes_at(&self) -> Option<Duration> {
        match &self.under_way {
            None => {
                let relief = self.is_dirty.then_some(self.pause_until);
                [self.next_at, relief].into_iter().flatten().min()
            }
            Some(under_way) if under_way.missing.is_empty() => None,
            Some(under_way) => Some(under_way.begun.clock + self.settings.timeout),
        }
    }

    /// A part has seen the last of its records.
    pub(super) fn note_end(&mut self, part: RegionId) {
        self.running.remove(&part);
    }

    /// State of a part that is not in a checkpoint yet needs room. The barrier of a checkpoint under way makes room where it
    /// has not come to yet.
    pub(super) fn note_dirty(&mut self, part: RegionId) {
        match &mut self.under_way {
            Some(under_way) if under_way.missing.contains(&part) => under_way.relieves = true,
            _ => self.is_dirty = true,
        }
    }

    /// A part has handed over its snapshot. Returns whether all have now, so that the checkpoint can be written.
    pub(super) fn acknowledge(&mut self, checkpoint: CheckpointId, part: RegionId) -> bool {
        let is_meant = |under_way: &&mut UnderWay| under_way.checkpoint == checkpoint;
        let Some(under_way) = self.under_way.as_mut().filter(is_meant) else {
            return false;
        };
        under_way.missing.remove(&part) && under_way.missing.is_empty()
    }

    /// The checkpoint under way that has taken too long to collect, if it has.
    pub(super) fn is_too_slow(&self, now: Duration) -> Option<CheckpointId> {
        let under_way = self.under_way.as_ref()?;
        let is_late = now >= under_way.begun.clock + self.settings.timeout;
        (is_late && !under_way.missing.is_empty()).then_some(under_way.checkpoint)
    }

    /// The checkpoint under way is durable.
    pub(super) fn succeeded(&mut self, now: Duration, id: CheckpointId) -> Option<UnderWay> {
        let under_way = self.ended(now, id)?;
        self.failures = 0;
        Some(under_way)
    }

    /// The checkpoint under way has failed.
    pub(super) fn failed(
        &mut self,
        now: Duration,
        id: CheckpointId,
    ) -> Option<(UnderWay, AfterFailure)> {
        let under_way = self.ended(now, id)?;
        self.is_dirty |= under_way.relieves;
        self.pause_until = self.pause_until.max(now + RETRY_DELAY);
        let after = match under_way.trigger {
            // The job goes back.
            Trigger::Swap => AfterFailure::Continue,
            Trigger::Stop | Trigger::Final => match self.tries_last_again(now) {
                true => AfterFailure::Continue,
                false => AfterFailure::WithoutLast,
            },
            Trigger::Periodic | Trigger::Asked | Trigger::Rescale => {
                self.failures += 1;
                let tolerable = self.settings.tolerable_failures;
                match tolerable.is_some_and(|tolerable| self.failures > tolerable) {
                    true => AfterFailure::TooMany(self.failures),
                    false => AfterFailure::Continue,
                }
            }
        };
        Some((under_way, after))
    }

    /// The last one was not taken, or its output is not visible. Returns whether another one is to follow: the number of
    /// attempts is limited.
    pub(super) fn tries_last_again(&mut self, now: Duration) -> bool {
        self.last_attempts += 1;
        self.next_at = Some(now + RETRY_DELAY);
        self.last_attempts < LAST_ATTEMPTS_MAX
    }

    fn ended(&mut self, now: Duration, id: CheckpointId) -> Option<UnderWay> {
        let is_meant = |under_way: &mut UnderWay| under_way.checkpoint == id;
        let under_way = self.under_way.take_if(is_meant)?;
        let earliest = now + self.settings.min_pause;
        self.pause_until = earliest;
        self.next_at = self.next_at.map(|next_at| next_at.max(earliest));
        Some(under_way)
    }

    /// Begins a checkpoint, if one is due or wished for.
    pub(super) fn begin(&mut self, now: Moment, wishes: Wishes) -> Option<&UnderWay> {
        if self.under_way.is_some() {
            return None;
        }
        let due = self.next_at.is_some_and(|at| now.clock >= at);
        let is_relief = self.is_dirty && now.clock >= self.pause_until;
        let is_retry = self.last_attempts > 0;
        let trigger = match (self.running.is_empty(), self.stops) {
            (true, _) if due || !is_retry => Trigger::Final,
            (false, true) if due || !is_retry => Trigger::Stop,
            (false, false) if wishes.swap => Trigger::Swap,
            (false, false) if wishes.rescale => Trigger::Rescale,
            (false, false) if wishes.checkpoint => Trigger::Asked,
            (false, false) if wishes.rescaled => Trigger::Rescale,
            (false, false) if due || is_relief => Trigger::Periodic,
            _ => return None,
        };
        let checkpoint = self.next_id;
        self.next_id = checkpoint.next();
        self.next_at = self.settings.interval.map(|interval| now.clock + interval);
        Some(self.under_way.insert(UnderWay {
            checkpoint,
            trigger,
            begun: now,
            missing: self.parts.clone(),
            relieves: std::mem::take(&mut self.is_dirty),
        }))
    }
}
