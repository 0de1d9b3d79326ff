//! When a job must go back and when it must give up, told from outside: a plain reading of the documentation of the restart
//! strategies, kept beside the job and compared with what it does.

use std::time::Duration;

use floodmark_engine::job::restart::Strategy;
use floodmark_engine::job::{EarlierRuns, JobSettings, WentBack};

/// What is known of the failures of a job.
#[derive(Debug, Default)]
pub struct RestartModel {
    restart: Strategy,
    /// Records read at the newest checkpoint, at each failure in a row without progress.
    row: Vec<u64>,
    records_in: u64,
    /// Failures since the job has last ended well: no process runs for so long that they are forgotten.
    failures: u32,
    /// Whether what follows from the newest failure is not known yet.
    is_undecided: bool,
}

impl RestartModel {
    /// A process has begun with a strategy, from a checkpoint.
    pub fn resumed(&mut self, settings: &JobSettings, from: EarlierRuns) {
        self.restart = settings.restart;
        self.records_in = from.records_in;
    }

    /// The newest checkpoint was found.
    pub fn found(&mut self, newest: EarlierRuns) {
        self.records_in = newest.records_in;
    }

    /// The job has ended well: earlier failures no longer count.
    pub fn ended(&mut self) {
        self.row.clear();
        self.failures = 0;
    }

    /// A failure was kept: it counts.
    pub fn kept(&mut self) {
        if self
            .row
            .last()
            .is_some_and(|before| self.records_in > *before)
        {
            self.row.clear();
        }
        self.row.push(self.records_in);
        self.failures += 1;
        self.is_undecided = true;
    }

    /// The job resumes after a failure.
    pub fn went_back(&mut self, told: &WentBack) {
        let is_worked_around = told.attempts_max == Some(1) && !told.passed_over.is_empty();
        let is_undone_swap = told.attempts_max.is_none();
        if is_worked_around || is_undone_swap {
            // These do not count.
            return assert_eq!(told.delay, Duration::ZERO);
        }
        self.decide("went back");
        match self.restart {
            Strategy::None => panic!("a job without restarts went back"),
            Strategy::FixedDelay { attempts, delay } => {
                let failures = self.row.len() as u32;
                assert!(
                    attempts.is_none_or(|attempts| failures <= attempts),
                    "failure {failures} of {attempts:?}"
                );
                assert_eq!(told.delay, delay);
            }
            Strategy::FailureRate { delay, .. } => assert_eq!(told.delay, delay),
            Strategy::ExponentialDelay(backoff) => {
                let attempts = backoff.attempts.unwrap_or(u32::MAX);
                assert!(
                    self.failures <= attempts,
                    "failure {} of {attempts}",
                    self.failures
                );
                assert!(told.delay <= backoff.max);
            }
        }
    }

    /// The job has given up.
    pub fn gave_up(&mut self) {
        self.decide("gave up");
        let (failures, attempts) = match self.restart {
            Strategy::FixedDelay { attempts, .. } => (self.row.len() as u32, attempts),
            Strategy::ExponentialDelay(backoff) => (self.failures, backoff.attempts),
            Strategy::None | Strategy::FailureRate { .. } => return,
        };
        let attempts = attempts.unwrap_or(u32::MAX);
        assert!(failures > attempts, "gave up at {failures} of {attempts}");
    }

    fn decide(&mut self, what: &str) {
        let is_undecided = std::mem::take(&mut self.is_undecided);
        assert!(is_undecided, "{what} after a failure that was not kept");
    }
}
