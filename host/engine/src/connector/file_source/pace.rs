//! When a reader that follows files looks at them again.
//!
//! Pure: the time is handed in. While nothing changes, the reader looks less and less often. If it is notified of changes,
//! a look at all files is only a safety net.

use std::time::Duration;

/// The longest interval of looking at all files, if nothing says which have changed.
const POLL_MAX: Duration = Duration::from_secs(1);
/// The interval of looking at all files although each change should be notified: notifications may be lost, and network
/// file systems notify only of changes by this machine.
const LOST_EVENTS: Duration = Duration::from_secs(10);
/// The shortest time between two looks that notifications ask for.
const NOTIFIED_MIN: Duration = Duration::from_millis(10);
/// A reader spends at most one part in so many of its time on looking at all files.
const COST_FACTOR: u32 = 100;

/// Decides when to look.
#[derive(Debug)]
pub(super) struct LookPace {
    /// The shortest interval.
    poll: Duration,
    interval: Duration,
    until: Duration,
    /// The earliest time of the next look.
    earliest: Duration,
}

impl LookPace {
    pub(super) fn new(poll: Duration) -> Self {
        Self {
            poll,
            interval: poll,
            until: Duration::ZERO,
            earliest: Duration::ZERO,
        }
    }

    /// Whether it is time to look at all files.
    pub(super) fn is_time(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// When to look next.
    pub(super) fn until(&self) -> Duration {
        self.until
    }

    /// Something has changed that only a look at all files explains.
    pub(super) fn want_all(&mut self) {
        self.until = self.until.min(self.earliest);
    }

    /// All files were looked at, which took `cost`. If the reader is notified of changes, the next look is only for those
    /// that no notification came of.
    pub(super) fn looked(
        &mut self,
        now: Duration,
        cost: Duration,
        found_changes: bool,
        is_notified: bool,
    ) {
        self.interval = match (is_notified, found_changes) {
            (true, _) => LOST_EVENTS,
            (false, true) => self.poll,
            (false, false) => (self.interval * 3 / 2).clamp(self.poll, POLL_MAX.max(self.poll)),
        };
        let shortest = match is_notified {
            true => NOTIFIED_MIN,
            false => self.poll,
        };
        let fair = cost * COST_FACTOR;
        self.until = now + self.interval.max(fair);
        self.earliest = now + shortest.max(fair);
    }
}

#[cfg(test)]
mod tests {
    //! Catches looks at all files that are too rare to notice a change, or so frequent that they take a core.

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn looks_are_as_rare_as_changes() {
        let mut pace = LookPace::new(200 * MS);
        assert!(pace.is_time(Duration::ZERO));
        let mut waits = Vec::new();
        let mut now = Duration::ZERO;
        for changes in [true, false, false, false, false, false, true] {
            pace.looked(now, Duration::ZERO, changes, false);
            waits.push((pace.until() - now).as_millis());
            now = pace.until();
        }
        assert_eq!(waits, [200, 300, 450, 675, 1000, 1000, 200]);
        pace.looked(now, 30 * MS, true, false);
        assert_eq!(pace.until() - now, 3000 * MS);
    }

    #[test]
    fn a_notified_reader_looks_when_it_has_to() {
        let mut pace = LookPace::new(200 * MS);
        pace.looked(Duration::ZERO, Duration::ZERO, false, true);
        assert!(!pace.is_time(9999 * MS) && pace.is_time(10_000 * MS));
        pace.want_all();
        assert!(!pace.is_time(9 * MS) && pace.is_time(10 * MS));
        pace.looked(Duration::ZERO, 5 * MS, false, true);
        pace.want_all();
        assert!(!pace.is_time(499 * MS) && pace.is_time(500 * MS));
        // Without notifications again.
        pace.looked(Duration::ZERO, Duration::ZERO, false, false);
        assert_eq!(pace.until(), 1000 * MS);
    }
}
