//! The history of a job's checkpoints since the process began: counts, and the last ones in detail.
//!
//! Fields have the names of Flink's `/jobs/:jobid/checkpoints` if they mean the same. Times are in milliseconds.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};

/// Number of checkpoints in the history.
const HISTORY_MAX: usize = 20;

/// A completed or failed checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointFacts {
    /// The id of the checkpoint.
    pub id: u64,
    /// The reason for taking it, in words.
    pub trigger: &'static str,
    /// Wall-clock time of its trigger, in milliseconds since 1970.
    pub created_ms: u64,
    /// Time from the trigger until it was durable or aborted.
    pub total: Duration,
    /// Time from the trigger until all snapshots were collected.
    pub collecting: Duration,
    /// Longest pause of a worker for its barrier.
    pub stall: Duration,
    /// Bytes of state that it added.
    pub state_bytes_new: u64,
    /// Bytes of state that it holds, those of earlier checkpoints included.
    pub state_bytes: u64,
    /// Records read, over all runs of the job.
    pub records_in: u64,
    /// The reason, if it failed.
    pub failure: Option<String>,
    /// The file it was copied to.
    pub savepoint: Option<String>,
}

impl CheckpointFacts {
    fn json(&self) -> Value {
        let mut value = json!({
            "id": self.id,
            "status": match self.failure { None => "COMPLETED", Some(_) => "FAILED" },
            "is_savepoint": self.savepoint.is_some(),
            "trigger": self.trigger,
            "trigger_timestamp": self.created_ms,
            "end_to_end_duration": ms(self.total),
        });
        match &self.failure {
            Some(reason) => {
                value["failure_timestamp"] = (self.created_ms + ms(self.total)).into();
                value["failure_message"] = reason.as_str().into();
            }
            None => {
                value["latest_ack_timestamp"] = (self.created_ms + ms(self.collecting)).into();
                value["checkpointed_size"] = self.state_bytes_new.into();
                value["state_size"] = self.state_bytes.into();
                value["longest_stall_micros"] = u64::try_from(self.stall.as_micros())
                    .unwrap_or(u64::MAX)
                    .into();
                value["records_in"] = self.records_in.into();
            }
        }
        if let Some(path) = &self.savepoint {
            value["external_path"] = path.as_str().into();
        }
        value
    }
}

/// The history of a job's checkpoints.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    completed: u64,
    failed: u64,
    restored: u64,
    /// Id, reason and time of the running checkpoint.
    under_way: Option<(u64, &'static str, u64)>,
    latest_completed: Option<CheckpointFacts>,
    latest_failed: Option<CheckpointFacts>,
    latest_savepoint: Option<CheckpointFacts>,
    /// Id and time.
    latest_restored: Option<(u64, u64)>,
    /// The latest outcomes, oldest first.
    history: VecDeque<CheckpointFacts>,
}

impl Checkpoints {
    pub(super) fn begun(&mut self, id: u64, trigger: &'static str, created_ms: u64) {
        self.under_way = Some((id, trigger, created_ms));
    }

    pub(super) fn ended(&mut self, outcome: CheckpointFacts) {
        self.under_way = None;
        if outcome.failure.is_none() {
            self.completed += 1;
            self.latest_completed = Some(outcome.clone());
        } else {
            self.failed += 1;
            self.latest_failed = Some(outcome.clone());
        }
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(outcome);
    }

    /// The job was restored from this checkpoint, or started without one. A checkpoint that was running gets no
    /// outcome.
    pub(super) fn restored(&mut self, id: Option<u64>, now_ms: u64) {
        self.under_way = None;
        if let Some(id) = id {
            self.restored += 1;
            self.latest_restored = Some((id, now_ms));
        }
    }

    pub(super) fn copied(&mut self, id: u64, path: &str) {
        let known = self.history.iter_mut().chain(&mut self.latest_completed);
        for outcome in known.filter(|outcome| outcome.id == id) {
            outcome.savepoint = Some(path.to_owned());
            self.latest_savepoint = Some(outcome.clone());
        }
    }

    pub(super) fn latest_completed(&self) -> Option<&CheckpointFacts> {
        self.latest_completed.as_ref()
    }

    pub(super) fn completed_count(&self) -> u64 {
        self.completed
    }

    pub(super) fn failed_count(&self) -> u64 {
        self.failed
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    fn under_way_json(&self) -> Option<Value> {
        self.under_way.map(|(id, trigger, created_ms)| {
            json!({
                "id": id,
                "status": "IN_PROGRESS",
                "is_savepoint": false,
                "trigger": trigger,
                "trigger_timestamp": created_ms,
            })
        })
    }

    /// Counts, and the latest of each kind.
    pub(super) fn summary(&self) -> Value {
        let latest =
            |outcome: &Option<CheckpointFacts>| outcome.as_ref().map(CheckpointFacts::json);
        let restored = self
            .latest_restored
            .map(|(id, at)| json!({ "id": id, "restore_timestamp": at }));
        let in_progress = u64::from(self.is_under_way());
        json!({
            "counts": {
                "restored": self.restored,
                "total": self.completed + self.failed + in_progress,
                "in_progress": in_progress,
                "completed": self.completed,
                "failed": self.failed,
            },
            "latest": {
                "completed": latest(&self.latest_completed),
                "savepoint": latest(&self.latest_savepoint),
                "failed": latest(&self.latest_failed),
                "restored": restored,
            },
        })
    }

    /// The summary and the latest checkpoints, newest first.
    pub(super) fn json(&self) -> Value {
        let ended = self.history.iter().rev().map(CheckpointFacts::json);
        let mut value = self.summary();
        value["history"] = self.under_way_json().into_iter().chain(ended).collect();
        value
    }
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    //! Catches counts that do not add up, and a history that grows without limit or is in the wrong order.

    use super::*;

    fn outcome(id: u64, failure: Option<&str>) -> CheckpointFacts {
        CheckpointFacts {
            id,
            trigger: "interval",
            created_ms: 1000 * id,
            total: Duration::from_millis(7),
            failure: failure.map(str::to_owned),
            ..CheckpointFacts::default()
        }
    }

    #[test]
    fn what_became_of_checkpoints_is_counted_and_told() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.restored(Some(1), 5);
        for id in 2..40 {
            checkpoints.begun(id, "interval", 1000 * id);
            let failure = (id % 10 == 0).then_some("the disk is full");
            checkpoints.ended(outcome(id, failure));
        }
        checkpoints.copied(39, "/a/b");
        checkpoints.begun(40, "asked for", 40_000);
        let told = checkpoints.json();
        assert_eq!(
            told["counts"],
            json!({ "restored": 1, "total": 39, "in_progress": 1, "completed": 35, "failed": 3 })
        );
        let history = told["history"].as_array().unwrap();
        assert_eq!(history.len(), HISTORY_MAX + 1);
        assert_eq!(history[0]["status"], "IN_PROGRESS");
        assert_eq!(
            (&history[1]["id"], &history[20]["id"]),
            (&json!(39), &json!(20))
        );
        assert_eq!(told["latest"]["completed"]["id"], 39);
        assert_eq!(told["latest"]["savepoint"]["external_path"], "/a/b");
        assert_eq!(
            told["latest"]["failed"]["failure_message"],
            "the disk is full"
        );
        assert_eq!(told["latest"]["failed"]["failure_timestamp"], 30_007);
        assert_eq!(
            told["latest"]["restored"],
            json!({ "id": 1, "restore_timestamp": 5 })
        );
        checkpoints.restored(None, 6);
        assert_eq!(checkpoints.json()["counts"]["in_progress"], 0);
    }
}
