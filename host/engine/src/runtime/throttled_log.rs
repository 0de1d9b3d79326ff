//! Lines of a task for the job's log. Warnings are throttled: thousands of records may fail for the same reason.

use crate::guest::{LogLevel, LogLine};

/// Warnings of a task that are reported in a window of time; further ones are only counted.
const WARNINGS_MAX: u32 = 5;
const WARNINGS_WINDOW_MS: u64 = 10_000;

/// The lines that are not reported yet.
#[derive(Default)]
pub(super) struct ThrottledLog {
    lines: Vec<LogLine>,
    window_begin_ms: u64,
    warnings: u32,
}

impl ThrottledLog {
    /// Adds lines of others.
    pub(super) fn extend(&mut self, lines: Vec<LogLine>) {
        self.lines.extend(lines);
    }

    /// Takes all lines.
    pub(super) fn take(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.lines)
    }

    /// Adds a warning, unless there were many in this window of time.
    pub(super) fn warn(&mut self, wall_ms: u64, message: impl FnOnce() -> String) {
        let mut held_back = 0;
        if wall_ms.abs_diff(self.window_begin_ms) >= WARNINGS_WINDOW_MS {
            held_back = self.warnings.saturating_sub(WARNINGS_MAX);
            (self.window_begin_ms, self.warnings) = (wall_ms, 0);
        }
        self.warnings = self.warnings.saturating_add(1);
        if self.warnings > WARNINGS_MAX {
            return;
        }
        let mut message = message();
        if held_back > 0 {
            message += &format!("; {held_back} similar lines were suppressed before");
        }
        // A plugin's message may have several lines.
        let lines: Vec<_> = message.lines().map(str::trim).collect();
        self.lines.push(LogLine {
            level: LogLevel::Warn,
            message: lines.join(" "),
        });
    }
}

#[cfg(test)]
mod tests {
    //! Catches a log that is flooded, and one that does not say how much it left out.

    use super::*;

    #[test]
    fn warnings_are_held_back_and_counted() {
        let mut log = ThrottledLog::default();
        for number in 0..9 {
            log.warn(20_000, || format!("line {number}\n more"));
        }
        let lines = log.take();
        assert_eq!(lines.len(), WARNINGS_MAX as usize);
        assert_eq!(lines[4].message, "line 4 more");
        log.warn(29_999, || "not yet".to_owned());
        log.warn(30_000, || "again".to_owned());
        let lines: Vec<_> = log.take().into_iter().map(|line| line.message).collect();
        assert_eq!(lines, ["again; 5 similar lines were suppressed before"]);
    }
}
