//! The only place that reads the system's clocks.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::guest::GuestClock;

/// A clock for measuring durations: nanoseconds since a start that is the same within a process.
#[must_use]
pub fn nanos() -> GuestClock {
    static BEGIN: OnceLock<Clock> = OnceLock::new();
    let begin = *BEGIN.get_or_init(Clock::start);
    Arc::new(move || u64::try_from(begin.now().as_nanos()).unwrap_or(u64::MAX))
}

/// Time since a job began, and wall-clock time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    begin: Instant,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn start() -> Self {
        Self {
            begin: Instant::now(),
        }
    }

    /// Time since the start; never goes back.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        u64::try_from(self.wall().as_millis()).unwrap_or(u64::MAX)
    }

    /// Time since 1970-01-01T00:00:00Z.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn wall(&self) -> Duration {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
    }
}
