//! Shows the progress of a job: records, records per second, the age of the last checkpoint, and for input with an end
//! how much is left. A bar on a terminal, a line every few seconds elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::escape::joined;
use super::terminal::Terminal;
use crate::hooks::{CheckpointEvent, CheckpointOutcome, Hooks};
use floodmark_checkpoint::Trigger;
use floodmark_engine::connector::Recovered;
use floodmark_engine::edge::drive::Watcher;
use floodmark_engine::edge::signals::StartStage;
use floodmark_engine::guest::LogLevel;
use floodmark_engine::job::restart::Limit;
use floodmark_engine::job::{CompletedCheckpoint, Notice, WentBack};
use floodmark_engine::observe::numbers::Counter;
use floodmark_engine::observe::{TaskMetrics, WorkerMetrics};
use floodmark_engine::runtime::plan::{Plan, WorkerIndex};
use floodmark_engine::runtime::worker::Counters;
use floodmark_engine::session::number::{bytes, rate, span, things};
use floodmark_engine::session::watched::Watched;
use floodmark_state::stream::CheckpointId;

/// Interval of progress lines where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Records per second are an average over this time.
const RATE_SPAN: Duration = Duration::from_secs(2);
/// Shortest time between two lines about periodic checkpoints.
const CHECKPOINT_LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Prints the progress of one job.
pub(super) struct ProgressDisplay {
    terminal: Terminal,
    /// The hooks to notify of checkpoints, and the job's name for them.
    hooks: Option<(Hooks, String)>,
    fresh: bool,
    /// Learns when the job has begun.
    stage: StartStage,
    watched: Watched,
    /// The newest checkpoint, and when it was completed; `None` for one that the job has gone back to.
    last_checkpoint: Option<(CheckpointId, Option<Duration>)>,
    /// Records read up to the last checkpoint that was completed.
    checkpoint_records: Option<u64>,
    samples: Vec<(Duration, u64, u64)>,
    line_at: Duration,
    checkpoint_line_at: Duration,
    /// The delay after the last failure, until the job runs again.
    delay: Option<RestartDelay>,
    totals: RunTotals,
}

/// A delay after a failure.
struct RestartDelay {
    until: Duration,
    /// The number of the attempt, such as `8 of 10`.
    attempt: String,
    /// What has failed, on one line.
    reason: String,
}

/// Totals since the job started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunTotals {
    pub(super) elapsed: Duration,
    pub(super) records_in: u64,
    pub(super) records_out: u64,
    pub(super) skipped: u64,
    pub(super) dead_letters: u64,
    pub(super) last_checkpoint: Option<CheckpointId>,
}

impl RestartDelay {
    fn describe(&self, now: Duration) -> String {
        let (attempt, reason) = (&self.attempt, &self.reason);
        let left = self.until.saturating_sub(now);
        if left.is_zero() {
            return format!("restarting after a failure, attempt {attempt}: {reason}");
        }
        format!(
            "waiting after a failure: attempt {attempt} in {}; `floodmark retry` tries now ({reason})",
            span(left)
        )
    }
}

impl ProgressDisplay {
    pub(super) fn new(terminal: Terminal, fresh: bool, watched: Watched) -> Self {
        Self {
            terminal,
            hooks: None,
            fresh,
            stage: StartStage::default(),
            watched,
            last_checkpoint: None,
            checkpoint_records: None,
            samples: Vec::new(),
            line_at: LINE_INTERVAL,
            checkpoint_line_at: Duration::ZERO,
            delay: None,
            totals: RunTotals::default(),
        }
    }

    /// Notifies these hooks of each checkpoint.
    pub(super) fn telling(self, hooks: Hooks, job: &str) -> Self {
        Self {
            hooks: Some((hooks, job.to_owned())),
            ..self
        }
    }

    /// Marks here that the job has begun.
    pub(super) fn marking(self, stage: &StartStage) -> Self {
        Self {
            stage: stage.clone(),
            ..self
        }
    }

    /// Notifies the hooks; returns at once.
    fn tell(&self, notice: &Notice) {
        let Some((hooks, job)) = &self.hooks else {
            return;
        };
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let event = match notice {
            Notice::Completed(checkpoint) => CheckpointEvent {
                event: CheckpointOutcome::Completed,
                job: job.clone(),
                checkpoint: checkpoint.id.0,
                created_ms: checkpoint.created_ms,
                trigger: checkpoint.trigger.word().to_owned(),
                state_bytes: checkpoint.state_bytes,
                duration_ms: ms(checkpoint.total),
                reason: None,
            },
            Notice::NotCompleted {
                checkpoint,
                trigger,
                created_ms,
                total,
                reason,
            } => CheckpointEvent {
                event: CheckpointOutcome::Failed,
                job: job.clone(),
                checkpoint: checkpoint.0,
                created_ms: *created_ms,
                trigger: trigger.word().to_owned(),
                state_bytes: 0,
                duration_ms: ms(*total),
                reason: Some(reason.to_string()),
            },
            _ => return,
        };
        hooks.tell(event);
    }

    pub(super) fn totals(&self) -> RunTotals {
        self.totals
    }

    fn completed(&mut self, now: Duration, checkpoint: CompletedCheckpoint) {
        self.last_checkpoint = Some((checkpoint.id, Some(now)));
        self.totals.last_checkpoint = Some(checkpoint.id);
        let told_lately = now < self.checkpoint_line_at;
        let before = self.checkpoint_records.replace(checkpoint.records_in);
        let has_no_news = before == Some(checkpoint.records_in);
        if checkpoint.trigger == Trigger::Periodic
            && (self.terminal.has_bar() || told_lately || has_no_news)
        {
            return;
        }
        self.checkpoint_line_at = now + CHECKPOINT_LINE_INTERVAL;
        self.terminal.say(&format!(
            "checkpoint {} completed: {} in, {} of state ({} new), {} in total, workers paused for {}",
            checkpoint.id,
            things(checkpoint.records_in, "record"),
            bytes(checkpoint.state_bytes),
            bytes(checkpoint.state_bytes_new),
            span(checkpoint.total),
            micros(checkpoint.stall),
        ));
    }

    fn went_back(&mut self, now: Duration, went_back: &WentBack) {
        for (id, reason) in &went_back.passed_over {
            self.terminal.say(&format!(
                "warning: checkpoint {id} is damaged and skipped: {reason}"
            ));
        }
        let to = match went_back.to {
            Some(id) => format!("resumes from checkpoint {id}"),
            None => "starts over, since it has no checkpoint yet".to_owned(),
        };
        let to = match went_back.in_memory {
            true => format!("{to} with the state in memory"),
            false => to,
        };
        let attempt = match went_back.attempts_max {
            Some(attempts_max) => format!("{} of {attempts_max}", went_back.attempt),
            None => went_back.attempt.to_string(),
        };
        let delay = match went_back.delay.is_zero() {
            true => String::new(),
            false => format!(", after {}", span(went_back.delay)),
        };
        self.terminal.say(&format!(
            "warning: {}; the job {to} (attempt {attempt}{delay})",
            went_back.reason,
        ));
        self.samples.clear();
        self.is_back_at(went_back.to);
        self.delay = (!went_back.delay.is_zero()).then(|| RestartDelay {
            until: now + went_back.delay,
            attempt,
            reason: joined(&went_back.reason),
        });
    }

    /// This is the newest checkpoint now: later ones are gone or damaged, if there were any.
    fn is_back_at(&mut self, checkpoint: Option<CheckpointId>) {
        let known = self.last_checkpoint.map(|(id, _)| id);
        if known != checkpoint {
            self.last_checkpoint = checkpoint.map(|id| (id, None));
        }
        self.totals.last_checkpoint = checkpoint;
    }

    fn gave_up(&self, limit: Limit, kept: Option<CheckpointId>) {
        let kept = match kept {
            Some(id) => format!(
                "checkpoint {id} is kept, and the same command resumes from it once the cause is removed or the setting is changed"
            ),
            None => "there is no checkpoint yet, so the same command starts over".to_owned(),
        };
        self.terminal
            .say(&format!("the job gives up: {limit}; {kept}"));
    }

    /// Reports the result of an operation, or of the trial of a swap.
    fn changed(&mut self, notice: &Notice) {
        let quoted = |names: &[String]| {
            let quoted = names.iter().map(|name| format!("`{name}`"));
            quoted.collect::<Vec<_>>().join(", ")
        };
        self.terminal.say(&match notice {
            Notice::Rescaled(rescaled) => format!(
                "rescaled from parallelism {} to {}; records paused for {}; checkpoint {}",
                rescaled.from,
                rescaled.to,
                micros(rescaled.pause),
                rescaled.checkpoint
            ),
            Notice::RolledBack(back) => format!(
                "rolled back to checkpoint {}, {} in; {}; checkpoint {}",
                back.to,
                things(back.records_in, "record"),
                gone(&back.deleted),
                back.checkpoint
            ),
            Notice::TrialFailed {
                operators,
                reason,
                to,
                ..
            } => format!(
                "warning: the new plugin of {} failed its trial: {reason}; the job goes back to checkpoint {to}, with the old plugin and its state",
                quoted(operators)
            ),
            Notice::Swapped(swapped) => format!(
                "{} replaced in {} at checkpoint {}; {}",
                quoted(&swapped.names()),
                micros(swapped.pause()),
                swapped.checkpoint,
                swapped.way_back(),
            ),
            Notice::TrialPassed { operators } => format!(
                "the new plugin of {} has passed its trial",
                quoted(operators)
            ),
            _ => return,
        });
        if !matches!(notice, Notice::TrialPassed { .. } | Notice::Swapped(_)) {
            self.samples.clear();
        }
    }

    /// Records per second over [`RATE_SPAN`], read and processed.
    fn rate(&mut self, now: Duration, records: u64, done: u64) -> (f64, f64) {
        self.samples.push((now, records, done));
        let old = self
            .samples
            .iter()
            .position(|(at, ..)| *at + RATE_SPAN >= now)
            .unwrap_or(0);
        self.samples.drain(..old.saturating_sub(1));
        let (at, records_then, done_then) = self.samples[0];
        let seconds = now.saturating_sub(at).as_secs_f64();
        if seconds <= 0.0 {
            return (0.0, 0.0);
        }
        (
            // After a failure the counters return to those of the checkpoint.
            records.saturating_sub(records_then) as f64 / seconds,
            done.saturating_sub(done_then) as f64 / seconds,
        )
    }
}

impl Watcher for ProgressDisplay {
    fn begun(&mut self, recovered: &[(String, Recovered)]) {
        self.watched.begun();
        self.stage.begun();
        self.delay = None;
        for (
            sink,
            Recovered {
                committed,
                aborted,
                retracted,
                counted,
                absent,
            },
        ) in recovered
        {
            let mut done = Vec::new();
            if *committed > 0 {
                done.push(format!(
                    "{} made visible",
                    things(*committed as u64, "part")
                ));
            }
            if *aborted > 0 {
                done.push(format!(
                    "{} removed",
                    things(*aborted as u64, "unfinished part")
                ));
            }
            if *retracted > 0 {
                let why = if self.fresh {
                    "of earlier runs removed"
                } else {
                    "of later checkpoints taken back"
                };
                done.push(format!("{} {why}", things(*retracted as u64, "part")));
            }
            if !done.is_empty() {
                self.terminal
                    .say(&format!("sink `{sink}`: {}", done.join(", ")));
            }
            if *absent > 0 {
                self.terminal.say(&format!(
                    "warning: sink `{sink}`: of {} that the checkpoint counts, {absent} {} not in its folder; this is right if they were moved away, or belong to an earlier run with another `path`",
                    things(*counted, "part"),
                    if *absent == 1 { "is" } else { "are" }
                ));
            }
        }
    }

    fn notice(&mut self, now: Duration, notice: Notice) {
        self.tell(&notice);
        self.watched.notice(&notice);
        match notice {
            Notice::Begun { .. } => {}
            Notice::Completed(checkpoint) => self.completed(now, checkpoint),
            Notice::NotCompleted {
                checkpoint, reason, ..
            } => {
                let last = match self.last_checkpoint {
                    Some((id, _)) => format!("checkpoint {id} stays the last one"),
                    None => "there is none yet since the start".to_owned(),
                };
                let next = match reason.is_failed_sync() {
                    true => "",
                    false => "the job continues, and ",
                };
                self.terminal.say(&format!(
                    "warning: checkpoint {checkpoint} failed: {reason}; {next}{last}"
                ));
            }
            Notice::NotVisible { reason } => self.terminal.say(&format!(
                "warning: output of a durable checkpoint is not visible yet: {reason}; the next checkpoint or start tries again"
            )),
            Notice::Failed { reason } => self.terminal.say(&format!("warning: the job failed: {reason}")),
            Notice::WentBack(went_back) => self.went_back(now, &went_back),
            Notice::BackAt { checkpoint } => self.is_back_at(Some(checkpoint)),
            Notice::Retried => {
                self.delay = None;
                self.terminal.say("restarting now, as requested; attempts count from 1 again");
            }
            Notice::GaveUp { limit, kept } => self.gave_up(limit, kept),
            Notice::StoppedAtRest { at } => {
                self.totals.last_checkpoint = at;
                let at = match at {
                    Some(id) => format!("its last checkpoint is {id}"),
                    None => "it has no checkpoint yet".to_owned(),
                };
                self.terminal
                    .say(&format!("the job stops while it waits after a failure: {at}"));
            }
            changed @ (Notice::Rescaled(_)
            | Notice::Swapped(_)
            | Notice::RolledBack(_)
            | Notice::TrialFailed { .. }
            | Notice::TrialPassed { .. }) => self.changed(&changed),
            Notice::Log { operator, task, line } => {
                if line.level < LogLevel::Info {
                    return;
                }
                let level = match line.level {
                    LogLevel::Warn => "warning: ",
                    LogLevel::Error => "error: ",
                    _ => "",
                };
                self.terminal.say(&format!("[{operator}/{task}] {level}{}", line.message));
            }
        }
    }

    fn watch(&mut self, now: Duration, counters: &[Arc<Counters>]) {
        let sum = |read: fn(&Counters) -> u64| {
            counters.iter().map(|counters| read(counters)).sum::<u64>()
        };
        self.watched.watch(now);
        self.totals.elapsed = now;
        self.totals.records_in = sum(|counters| counters.records_in.load(Ordering::Relaxed));
        self.totals.records_out = sum(|counters| counters.records_out.load(Ordering::Relaxed));
        self.totals.skipped = bad(counters, |task| &task.faults.skipped);
        self.totals.dead_letters = bad(counters, |task| &task.faults.dead_letters);
        let done = sum(|counters| counters.source_done.load(Ordering::Relaxed));
        let totals = counters
            .iter()
            .map(|counters| counters.source_total.load(Ordering::Relaxed));
        let total = totals.into_iter().try_fold(0_u64, u64::checked_add);
        let (records_rate, done_rate) = self.rate(now, self.totals.records_in, done);
        let mut parts = vec![
            format!("{} in", things(self.totals.records_in, "record")),
            rate(records_rate),
        ];
        parts.push(match self.last_checkpoint {
            Some((id, Some(at))) => {
                format!("checkpoint {id} is {} old", span(now.saturating_sub(at)))
            }
            Some((id, None)) => format!("back at checkpoint {id}"),
            None => "no checkpoint yet".to_owned(),
        });
        // An endless source reports the largest number as its total.
        let total = total.filter(|total| (1..u64::MAX).contains(total));
        if let Some(total) = total {
            parts.push(format!(
                "{} %",
                (u128::from(done) * 100 / u128::from(total)).min(100)
            ));
            if done_rate > 0.0 && done < total {
                let left = (total - done) as f64 / done_rate;
                parts.push(format!(
                    "{} left",
                    span(Duration::from_secs_f64(left.min(1e9)))
                ));
            }
        }
        let text = match &self.delay {
            Some(delay) => delay.describe(now),
            None => parts.join(", "),
        };
        if self.terminal.has_bar() {
            self.terminal.show(total.map(|total| (done, total)), &text);
        } else if now >= self.line_at {
            self.line_at = now + LINE_INTERVAL;
            self.terminal.say(&text);
        }
    }

    fn planned(&mut self, plan: &Plan, is_on_trial: bool) {
        self.watched.planned(plan, is_on_trial);
    }

    fn observed(&self, worker: WorkerIndex) -> Arc<WorkerMetrics> {
        self.watched.worker(worker)
    }
}

/// One way to handle bad records, over all tasks.
fn bad(counters: &[Arc<Counters>], read: fn(&TaskMetrics) -> &Counter) -> u64 {
    let tasks = counters.iter().flat_map(|counters| {
        let observed = &counters.observed;
        (0..).map_while(move |node| observed.task(node))
    });
    tasks.map(|task| read(task).get()).sum()
}

/// A text about the checkpoints that a rollback deleted.
pub(super) fn gone(deleted: &[CheckpointId]) -> String {
    let names: Vec<_> = deleted.iter().map(ToString::to_string).collect();
    match names.is_empty() {
        true => "there were no later checkpoints".to_owned(),
        false => format!(
            "later checkpoints are deleted, and their output is taken back: {}",
            names.join(", ")
        ),
    }
}

pub(super) fn micros(stall: Duration) -> String {
    match stall.as_micros() {
        micros @ 0..10_000 => format!("{:.1} ms", micros as f64 / 1000.0),
        _ => span(stall),
    }
}
