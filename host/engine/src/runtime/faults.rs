//! Handles records that a plugin cannot handle: they fail the job, are skipped, or become dead letters.
//!
//! [`super::blame`] finds the record; this module decides and counts.

use std::time::Duration;

use super::plan::{OnError, Operator};
use super::sizes::Caution;
use super::state_room::{StateBound, StateRoom};
use super::task::TaskError;
use super::throttled_log::ThrottledLog;
use crate::connector::letter::Letter;
use crate::guest::{CallTimes, LogLine, Reported};
use floodmark_checkpoint::PluginDigest;
use floodmark_state::stream::{Batch, InputPort, OutputPort};

/// Longest reason in a letter or message, in characters.
const REASON_CHARS_MAX: usize = 8192;

/// Counters of what went wrong in the calls of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Calls after which the instance had to be replaced.
    pub traps: u64,
    /// Calls that were repeated because an earlier one failed.
    pub retries: u64,
    /// Records that the plugin rejected.
    pub rejections: u64,
    /// Records that were skipped.
    pub skipped: u64,
    /// Records that became dead letters.
    pub dead_letters: u64,
}

/// The name of an operator, and its handling of records that its plugin cannot handle.
#[derive(Debug, Clone)]
pub struct Handling {
    on_error: OnError,
    operator: String,
    plugin: PluginDigest,
    inputs: Vec<String>,
    time_per_call: Duration,
    state_bound: StateBound,
    /// The port for dead letters: the first one after those of the plugin.
    port: OutputPort,
}

impl Handling {
    /// The handling that the plan sets for an operator.
    #[must_use]
    pub fn of(name: &str, operator: &Operator) -> Self {
        let description = operator.plugin.description();
        Self {
            on_error: operator.on_error,
            operator: name.to_owned(),
            plugin: operator.plugin.digest(),
            inputs: description.inputs.clone(),
            time_per_call: operator.limits.time_per_call,
            state_bound: StateBound::of(operator),
            port: OutputPort(description.outputs.len() as u16),
        }
    }

    /// The room for the state of a task. A later plugin of the task does not change it.
    pub(super) fn room(&self) -> StateRoom {
        StateRoom::new(self.state_bound.clone())
    }
}

/// A record that the plugin cannot handle, and the reason.
pub(super) struct Guilty<'a> {
    pub(super) batch: &'a Batch,
    pub(super) record: usize,
    /// The failure of the plugin, as the end of a sentence that begins with the operator.
    pub(super) reason: String,
}

/// Handles a task's guilty records, and counts them.
pub(super) struct FaultHandler {
    handling: Handling,
    pub(super) faults: Faults,
    /// The times of earlier instances.
    times: CallTimes,
    pub(super) caution: Caution,
    /// Number of records that were judged.
    pub(super) judged: u64,
    log: ThrottledLog,
    reported: Option<Reported>,
}

impl FaultHandler {
    pub(super) fn new(handling: Handling) -> Self {
        Self {
            handling,
            faults: Faults::default(),
            times: CallTimes::default(),
            caution: Caution::default(),
            judged: 0,
            log: ThrottledLog::default(),
            reported: None,
        }
    }

    /// The times including those of earlier instances.
    pub(super) fn all_times(&self, times: CallTimes) -> CallTimes {
        CallTimes {
            calls: self.times.calls + times.calls,
            guest_ns: self.times.guest_ns + times.guest_ns,
            copy_ns: self.times.copy_ns + times.copy_ns,
            host_ns: self.times.host_ns + times.host_ns,
        }
    }

    /// Adds the times of an instance that is being replaced.
    pub(super) fn keep_times(&mut self, times: CallTimes) {
        self.times = self.all_times(times);
    }

    /// The name of the operator.
    pub(super) fn operator(&self) -> &str {
        &self.handling.operator
    }

    /// The time limit of a call.
    pub(super) fn time_per_call(&self) -> Duration {
        self.handling.time_per_call
    }

    /// Switches to another plugin; counters carry over.
    pub(super) fn exchange_handling(&mut self, handling: &mut Handling) {
        std::mem::swap(&mut self.handling, handling);
    }

    pub(super) fn fails_job(&self) -> bool {
        self.handling.on_error == OnError::Fail
    }

    /// Keeps lines for the job's log, from earlier instances and this one.
    pub(super) fn keep_lines(&mut self, lines: Vec<LogLine>) {
        self.log.extend(lines);
    }

    /// Adds metrics that the plugin reported in a successful call.
    pub(super) fn keep_reported(&mut self, reported: Reported) {
        match &mut self.reported {
            Some(before) => before.merge(reported),
            none => *none = Some(reported),
        }
    }

    /// Takes the metrics that the plugin has reported since the last call of this.
    pub(super) fn take_reported(&mut self) -> Option<Reported> {
        self.reported.take()
    }

    pub(super) fn take_lines(&mut self) -> Vec<LogLine> {
        self.log.take()
    }

    /// Decides about a record that arrived at `input`; adds to `letters` if it becomes a dead letter.
    ///
    /// # Errors
    /// When the record must fail the job.
    pub(super) fn judge<E>(
        &mut self,
        guilty: Guilty<'_>,
        input: InputPort,
        wall_ms: u64,
        letters: &mut Batch,
    ) -> Result<(), TaskError<E>> {
        let Guilty {
            batch,
            record,
            reason,
        } = guilty;
        self.judged += 1;
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        let position = batch.origin.describe(record);
        let done = match self.handling.on_error {
            OnError::Fail => return Err(TaskError::Record { reason, position }),
            OnError::Skip => {
                self.faults.skipped += 1;
                "skipped"
            }
            OnError::DeadLetter => {
                self.faults.dead_letters += 1;
                self.write(batch, record, &reason, &position, input, letters);
                "set aside as a dead letter"
            }
        };
        self.warn(wall_ms, || {
            format!("a record is {done} ({position}): the plugin {reason}")
        });
        Ok(())
    }

    /// Emits the letters, if there are any.
    pub(super) fn send(&self, letters: Batch, leaving: &mut Vec<(OutputPort, Batch)>) {
        if !letters.is_empty() {
            leaving.push((self.handling.port, letters));
        }
    }

    fn write(
        &self,
        batch: &Batch,
        record: usize,
        reason: &str,
        position: &str,
        input: InputPort,
        letters: &mut Batch,
    ) {
        let key = batch.keys.get(batch.slots[record] as usize);
        let timestamp = batch.timestamps[record];
        let letter = Letter {
            operator: self.handling.operator.clone(),
            plugin: self.handling.plugin.to_string(),
            reason: reason.to_owned(),
            position: position.to_owned(),
            input: self.handling.inputs[usize::from(input.0)].clone(),
            key: key.to_vec(),
            value: batch.values.get(record).to_vec(),
            timestamp,
            columns: Vec::new(),
            bytes_in_all: None,
        };
        if letters.is_empty() {
            letters.origin = batch.origin.inherited();
        }
        letters.push(key, letter.to_json().as_bytes(), timestamp);
    }

    pub(super) fn warn(&mut self, wall_ms: u64, message: impl FnOnce() -> String) {
        self.log.warn(wall_ms, message);
    }
}
