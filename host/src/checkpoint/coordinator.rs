//! Decides when a checkpoint begins, is complete, or is given up, and when a job is over. Pure: events and the time come
//! in, effects go out; who collects snapshots, writes them and stops workers is elsewhere.
//!
//! ```text
//!             interval over, end of input, stop            all parts acknowledged
//!   waiting ───────────────────────────────▶ collecting ─────────────────────────▶ writing
//!      ▲                                         │ timeout                           │ written, or not
//!      └─────────────────────────────────────────┴───────────────────────────────────┘
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use super::Trigger;
use crate::stream::CheckpointId;

/// The settings of checkpoints. Numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointSettings {
    /// From the start of one to the start of the next; `None` for none but at the end of the job.
    pub interval: Option<Duration>,
    /// How long collecting may take.
    pub timeout: Duration,
}

/// How often the last checkpoint of a job is tried before the job gives up.
const LAST_ATTEMPTS_MAX: u32 = 5;
/// How long to wait before it is tried again.
const LAST_RETRY_DELAY: Duration = Duration::from_secs(1);

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
    /// Somebody asks the job to stop.
    StopAsked,
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
    /// The job is over.
    Finish(Ending),
}

/// How a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All input was handled, and all output is visible.
    Complete,
    /// It was stopped with a checkpoint, and goes on from there.
    Stopped,
    /// Its last checkpoint could not be taken: it goes on from an earlier one.
    WithoutLastCheckpoint,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Collecting {
        checkpoint: CheckpointId,
        trigger: Trigger,
        since: Duration,
        missing: BTreeSet<Part>,
    },
    Writing {
        checkpoint: CheckpointId,
        trigger: Trigger,
    },
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
    stop_asked: bool,
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
            stop_asked: false,
            last_attempts: 0,
        }
    }

    /// Takes an event; adds what is to be done.
    pub fn step(&mut self, now: Duration, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Tick => {}
            Event::StopAsked => self.stop_asked = true,
            Event::Ended(part) => {
                self.running.remove(&part);
            }
            Event::Acknowledged { checkpoint, part } => {
                self.acknowledged(checkpoint, part, effects)
            }
            Event::Written(written) => self.written(written, effects),
            Event::NotWritten(failed) => {
                if let Phase::Writing {
                    checkpoint,
                    trigger,
                } = self.phase
                    && checkpoint == failed
                {
                    self.failed(now, trigger, effects);
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
            Phase::Waiting => self.next_at,
            Phase::Collecting { since, .. } => Some(*since + self.settings.timeout),
            Phase::Writing { .. } | Phase::Over => None,
        }
    }

    fn acknowledged(&mut self, acknowledged: CheckpointId, part: Part, effects: &mut Vec<Effect>) {
        let Phase::Collecting {
            checkpoint,
            trigger,
            missing,
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
            self.phase = Phase::Writing {
                checkpoint,
                trigger,
            };
            effects.push(Effect::Write(checkpoint));
        }
    }

    fn written(&mut self, written: CheckpointId, effects: &mut Vec<Effect>) {
        let Phase::Writing {
            checkpoint,
            trigger,
        } = self.phase
        else {
            return;
        };
        if checkpoint != written {
            return;
        }
        self.phase = Phase::Waiting;
        let ending = match trigger {
            Trigger::Periodic | Trigger::Asked => return,
            Trigger::Stop => Ending::Stopped,
            Trigger::Final => Ending::Complete,
        };
        self.finish(ending, effects);
    }

    fn failed(&mut self, now: Duration, trigger: Trigger, effects: &mut Vec<Effect>) {
        self.phase = Phase::Waiting;
        if matches!(trigger, Trigger::Periodic | Trigger::Asked) {
            return;
        }
        self.last_attempts += 1;
        if self.last_attempts >= LAST_ATTEMPTS_MAX {
            self.finish(Ending::WithoutLastCheckpoint, effects);
        } else {
            self.next_at = Some(now + LAST_RETRY_DELAY);
        }
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
            ..
        } = self.phase
            && now >= since + self.settings.timeout
        {
            effects.push(Effect::Abandon(checkpoint));
            self.failed(now, trigger, effects);
        }
    }

    fn begin(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Waiting) {
            return;
        }
        let due = self.next_at.is_some_and(|at| now >= at);
        let is_retry = self.last_attempts > 0;
        let trigger = match (self.running.is_empty(), self.stop_asked) {
            (true, _) if due || !is_retry => Trigger::Final,
            (false, true) if due || !is_retry => Trigger::Stop,
            (false, false) if due => Trigger::Periodic,
            _ => return,
        };
        let checkpoint = self.next_id;
        self.next_id = checkpoint.next();
        self.next_at = self.settings.interval.map(|interval| now + interval);
        self.phase = Phase::Collecting {
            checkpoint,
            trigger,
            since: now,
            missing: self.parts.clone(),
        };
        effects.push(Effect::Begin {
            checkpoint,
            trigger,
        });
    }
}

#[cfg(test)]
mod tests {
    //! Catches a checkpoint that begins twice, completes without a part, or never ends, and a job that ends without its
    //! last checkpoint.

    use super::*;

    /// Runs a script of `time event` lines for a job with parts a and b; prints `time effects` where there are any.
    fn check(script: &str, expected: &str) {
        let part = |name: &str| Part {
            worker: usize::from(name == "b"),
            region: 0,
        };
        let settings = CheckpointSettings {
            interval: Some(Duration::from_secs(10)),
            timeout: Duration::from_secs(30),
        };
        let parts = [part("a"), part("b")].into_iter().collect();
        let mut coordinator = Coordinator::new(settings, parts, CheckpointId(1));
        let mut seen = Vec::new();
        for line in script
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            let words: Vec<_> = line.split(' ').collect();
            let id = |index: usize| CheckpointId(words[index].parse().expect("an id"));
            let event = match words[1] {
                "tick" => Event::Tick,
                "stop" => Event::StopAsked,
                "ended" => Event::Ended(part(words[2])),
                "ack" => Event::Acknowledged {
                    checkpoint: id(2),
                    part: part(words[3]),
                },
                "written" => Event::Written(id(2)),
                "failed" => Event::NotWritten(id(2)),
                other => panic!("no event {other}"),
            };
            let mut effects = Vec::new();
            let now = Duration::from_secs(words[0].parse().expect("a time"));
            coordinator.step(now, event, &mut effects);
            for effect in effects {
                seen.push(match effect {
                    Effect::Begin {
                        checkpoint,
                        trigger,
                    } => format!("{} begin {checkpoint} {trigger:?}", words[0]),
                    Effect::Write(checkpoint) => format!("{} write {checkpoint}", words[0]),
                    Effect::Abandon(checkpoint) => format!("{} abandon {checkpoint}", words[0]),
                    Effect::Finish(ending) => format!("{} finish {ending:?}", words[0]),
                });
            }
        }
        let expected: Vec<_> = expected
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn periodic_ones_follow_the_interval() {
        check(
            "9 tick
             10 tick
             11 ack 1 a
             11 ack 1 a
             12 ack 1 b
             13 tick
             14 written 1
             19 tick
             20 tick",
            "10 begin 1 Periodic
             12 write 1
             20 begin 2 Periodic",
        );
    }

    #[test]
    fn a_slow_one_is_given_up_and_its_acknowledgements_are_ignored() {
        check(
            "10 tick
             11 ack 1 a
             40 tick
             41 ack 1 b
             42 ack 2 a
             43 ack 2 b
             44 failed 2
             50 tick",
            "10 begin 1 Periodic
             40 abandon 1
             40 begin 2 Periodic
             43 write 2
             50 begin 3 Periodic",
        );
    }

    #[test]
    fn the_end_of_input_takes_a_last_one() {
        check(
            "1 ended a
             2 ended b
             3 ack 1 a
             3 ack 1 b
             4 written 1
             100 tick",
            "2 begin 1 Final
             3 write 1
             4 finish Complete",
        );
    }

    #[test]
    fn a_stop_waits_for_the_one_under_way() {
        check(
            "10 tick
             11 stop
             12 ack 1 a
             12 ack 1 b
             13 written 1
             14 ack 2 a
             14 ack 2 b
             15 written 2",
            "10 begin 1 Periodic
             12 write 1
             13 begin 2 Stop
             14 write 2
             15 finish Stopped",
        );
    }

    #[test]
    fn the_last_one_is_tried_again_and_not_for_ever() {
        let mut script = String::from("0 stop\n");
        let mut expected = String::new();
        for attempt in 1..=5 {
            let at = (attempt - 1) * 2;
            script += &format!(
                "{at} tick\n{at} ack {attempt} a\n{at} ack {attempt} b\n{at} failed {attempt}\n"
            );
            expected += &format!("{at} begin {attempt} Stop\n{at} write {attempt}\n");
        }
        check(
            &script,
            &format!("{expected}8 finish WithoutLastCheckpoint"),
        );
    }
}
