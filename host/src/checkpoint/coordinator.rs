//! Decides when a checkpoint begins, is complete, or is given up, and when a job is over. Pure: events and the time come
//! in, effects go out; who collects snapshots, writes them and stops workers is elsewhere.
//!
//! ```text
//!          interval over, asked, stop, end of input        all parts acknowledged
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

use super::Trigger;
use crate::stream::CheckpointId;

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

/// What takes a snapshot of its own: a region of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// The worker.
    pub worker: usize,
    /// The region.
    pub region: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A part has handed its snapshot over.
    Acknowledged {
        /// Of this checkpoint.
        checkpoint: CheckpointId,
        /// Who.
        part: Part,
    },
    /// A checkpoint is durable.
    Written(CheckpointId),
    /// A checkpoint is not durable.
    NotWritten(CheckpointId),
    /// A part has seen the last of its records.
    Ended(Part),
    /// A checkpoint was requested.
    Asked,
    /// A swap was requested: a checkpoint at whose barrier plugins are replaced.
    SwapAsked,
    /// The state of a part that is not in a checkpoint yet exceeds its share of memory.
    StateDirty(Part),
    /// Another number of tasks was requested.
    RescaleAsked,
    /// A stop was requested: the job stops where it stands.
    StopAsked,
    /// A drain was requested: the job stops as if its input had ended.
    DrainAsked,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send barriers off.
    Begin {
        /// Of this checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        trigger: Trigger,
    },
    /// Write what was collected.
    Write(CheckpointId),
    /// Give up what was collected; it goes with the next one.
    Abandon(CheckpointId),
    /// Have the sources end.
    EndInput,
    /// Have sources read on after a barrier that was to be the last.
    Resume,
    /// All stands still at this checkpoint, which is durable: tasks are to be made anew.
    Remake(CheckpointId),
    /// The job is over.
    Finish(Ending),
}

/// How a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All input was handled, and all output is visible.
    Complete,
    /// It was stopped with a checkpoint; the next run resumes from it.
    Stopped,
    /// Its last checkpoint could not be taken; the next run resumes from an earlier one.
    WithoutLastCheckpoint,
    /// More checkpoints failed in a row than are tolerated.
    TooManyFailures,
}

/// Whether the sources are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    Asked,
    Told,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Collecting {
        checkpoint: CheckpointId,
        trigger: Trigger,
        since: Duration,
        missing: BTreeSet<Part>,
        /// Whether it makes room for state.
        relieves: bool,
    },
    Writing {
        checkpoint: CheckpointId,
        trigger: Trigger,
        relieves: bool,
    },
    /// Tasks are made anew, or the job is over: nothing begins.
    Over,
}

/// The coordinator of one job.
///
/// - At most one checkpoint is under way.
/// - Ids only grow.
/// - After [`Effect::Finish`] there are no effects.
#[derive(Debug)]
pub struct Coordinator {
    settings: CheckpointSettings,
    parts: BTreeSet<Part>,
    running: BTreeSet<Part>,
    phase: Phase,
    next_id: CheckpointId,
    next_at: Option<Duration>,
    /// Before this none begins to make room for state.
    pause_until: Duration,
    dirty: bool,
    asked: bool,
    swap_asked: bool,
    stop_asked: bool,
    rescale_asked: bool,
    drain: Drain,
    failures: u32,
    last_attempts: u32,
}

impl Coordinator {
    /// For a job with these parts, whose next checkpoint has this id.
    #[must_use]
    pub fn new(settings: CheckpointSettings, parts: BTreeSet<Part>, next_id: CheckpointId) -> Self {
        Self {
            settings,
            running: parts.clone(),
            parts,
            phase: Phase::Waiting,
            next_id,
            next_at: settings.interval,
            pause_until: Duration::ZERO,
            dirty: false,
            asked: false,
            swap_asked: false,
            stop_asked: false,
            rescale_asked: false,
            drain: Drain::No,
            failures: 0,
            last_attempts: 0,
        }
    }

    /// Starts over after the job has gone back to a checkpoint: all its parts run again, and no checkpoint is under way.
    /// Requests stay, except for a swap. `asked` tells whether a caller waits for a checkpoint.
    pub fn begin_again(&mut self, now: Duration, next_id: CheckpointId, asked: bool) {
        self.running.clone_from(&self.parts);
        self.phase = Phase::Waiting;
        self.next_id = self.next_id.max(next_id);
        self.next_at = self.settings.interval.map(|interval| now + interval);
        self.last_attempts = 0;
        // Tasks report it again.
        self.dirty = false;
        self.asked |= asked;
        // The new plugins were prepared for the tasks before.
        self.swap_asked = false;
        if self.drain == Drain::Told {
            self.drain = Drain::Asked;
        }
    }

    /// Sets the parts that the job has when it begins again. `rescale_asked` tells whether a caller still waits for another
    /// number of tasks.
    pub fn remake(&mut self, parts: BTreeSet<Part>, rescale_asked: bool) {
        self.parts = parts;
        self.rescale_asked = rescale_asked;
    }

    /// Nothing runs until the job begins again: what is asked meanwhile is noted, and nothing begins or takes too long.
    pub fn rest(&mut self) {
        self.phase = Phase::Over;
    }

    /// Whether the job was asked to stop where it stands.
    #[must_use]
    pub fn is_to_stop(&self) -> bool {
        self.stop_asked
    }

    /// Takes an event; adds what is to be done.
    pub fn step(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::Asked => self.asked = true,
            Event::SwapAsked => self.swap_asked = true,
            Event::StateDirty(part) => self.note_dirty(part),
            Event::RescaleAsked => self.rescale_asked = true,
            Event::StopAsked => self.stop_asked = true,
            Event::DrainAsked if self.drain == Drain::No => self.drain = Drain::Asked,
            Event::DrainAsked => {}
            Event::Ended(part) => {
                self.running.remove(&part);
            }
            Event::Acknowledged { checkpoint, part } => {
                self.acknowledged(checkpoint, part, effects)
            }
            Event::Written(written) => self.written(now, written, effects),
            Event::NotWritten(failed) => {
                if let Phase::Writing {
                    checkpoint,
                    trigger,
                    relieves,
                } = self.phase
                    && checkpoint == failed
                {
                    self.failed(now, trigger, relieves, effects);
                }
            }
        }
        self.expire(now, effects);
        self.begin(now, effects);
    }

    /// When to call [`Coordinator::step`] again, if nothing happens before.
    #[must_use]
    pub fn wakes_at(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Waiting => {
                let relief = self.dirty.then_some(self.pause_until);
                [self.next_at, relief].into_iter().flatten().min()
            }
            Phase::Collecting { since, .. } => Some(*since + self.settings.timeout),
            Phase::Writing { .. } | Phase::Over => None,
        }
    }

    /// The barrier of a checkpoint under way makes room where it has not come to yet.
    fn note_dirty(&mut self, part: Part) {
        match &mut self.phase {
            Phase::Collecting {
                missing, relieves, ..
            } if missing.contains(&part) => *relieves = true,
            _ => self.dirty = true,
        }
    }

    fn acknowledged(&mut self, acknowledged: CheckpointId, part: Part, effects: &mut Vec<Effect>) {
        let Phase::Collecting {
            checkpoint,
            trigger,
            missing,
            relieves,
            ..
        } = &mut self.phase
        else {
            return;
        };
        if *checkpoint != acknowledged {
            return;
        }
        missing.remove(&part);
        if missing.is_empty() {
            let (checkpoint, trigger) = (*checkpoint, *trigger);
            let relieves = *relieves;
            self.phase = Phase::Writing {
                checkpoint,
                trigger,
                relieves,
            };
            effects.push(Effect::Write(checkpoint));
        }
    }

    fn written(&mut self, now: Duration, written: CheckpointId, effects: &mut Vec<Effect>) {
        let Phase::Writing {
            checkpoint,
            trigger,
            ..
        } = self.phase
        else {
            return;
        };
        if checkpoint != written {
            return;
        }
        self.pause(now);
        self.failures = 0;
        let ending = match trigger {
            Trigger::Periodic | Trigger::Asked | Trigger::Swap => return,
            Trigger::Rescale => {
                self.phase = Phase::Over;
                effects.push(Effect::Remake(written));
                return;
            }
            Trigger::Stop => Ending::Stopped,
            Trigger::Final => Ending::Complete,
        };
        self.finish(ending, effects);
    }

    fn failed(
        &mut self,
        now: Duration,
        trigger: Trigger,
        relieves: bool,
        effects: &mut Vec<Effect>,
    ) {
        self.pause(now);
        self.dirty |= relieves;
        self.pause_until = self.pause_until.max(now + RETRY_DELAY);
        if trigger == Trigger::Swap {
            // The job goes back, and begins again.
            return;
        }
        if trigger == Trigger::Rescale {
            effects.push(Effect::Resume);
        }
        if !matches!(trigger, Trigger::Stop | Trigger::Final) {
            self.failures += 1;
            let tolerable = self.settings.tolerable_failures;
            if tolerable.is_some_and(|tolerable| self.failures > tolerable) {
                self.finish(Ending::TooManyFailures, effects);
            }
            return;
        }
        self.last_attempts += 1;
        if self.last_attempts >= LAST_ATTEMPTS_MAX {
            self.finish(Ending::WithoutLastCheckpoint, effects);
        } else {
            self.next_at = Some(now + RETRY_DELAY);
        }
    }

    /// One has come to its end, well or not.
    fn pause(&mut self, now: Duration) {
        self.phase = Phase::Waiting;
        let earliest = now + self.settings.min_pause;
        self.pause_until = earliest;
        self.next_at = self.next_at.map(|next_at| next_at.max(earliest));
    }

    fn finish(&mut self, ending: Ending, effects: &mut Vec<Effect>) {
        self.phase = Phase::Over;
        effects.push(Effect::Finish(ending));
    }

    fn expire(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if let Phase::Collecting {
            checkpoint,
            trigger,
            since,
            relieves,
            ..
        } = self.phase
            && now >= since + self.settings.timeout
        {
            effects.push(Effect::Abandon(checkpoint));
            self.failed(now, trigger, relieves, effects);
        }
    }

    fn begin(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if self.drain == Drain::Asked && !matches!(self.phase, Phase::Over) {
            self.drain = Drain::Told;
            effects.push(Effect::EndInput);
        }
        if !matches!(self.phase, Phase::Waiting) {
            return;
        }
        let due = self.next_at.is_some_and(|at| now >= at);
        let is_relief = self.dirty && now >= self.pause_until;
        let is_retry = self.last_attempts > 0;
        let trigger = match (self.running.is_empty(), self.stop_asked) {
            (true, _) if due || !is_retry => Trigger::Final,
            (false, true) if due || !is_retry => Trigger::Stop,
            (false, false) if self.swap_asked => Trigger::Swap,
            (false, false) if self.rescale_asked => Trigger::Rescale,
            (false, false) if self.asked => Trigger::Asked,
            (false, false) if due || is_relief => Trigger::Periodic,
            _ => return,
        };
        self.asked = false;
        // It has come, or one that ends the job.
        self.swap_asked = false;
        if trigger != Trigger::Swap {
            self.rescale_asked = false;
        }
        let checkpoint = self.next_id;
        self.next_id = checkpoint.next();
        self.next_at = self.settings.interval.map(|interval| now + interval);
        self.phase = Phase::Collecting {
            checkpoint,
            trigger,
            since: now,
            missing: self.parts.clone(),
            relieves: std::mem::take(&mut self.dirty),
        };
        effects.push(Effect::Begin {
            checkpoint,
            trigger,
        });
    }
}

#[cfg(test)]
#[path = "coordinator/tests.rs"]
mod tests;
