//! Standard error: lines, and on a terminal a bar below them. All text is escaped here; the bar's own control sequences
//! are not text.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::escape;
use floodmark_engine::Say;

/// Prints messages of a command to standard error.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// With a bar if standard error is a terminal.
    pub(super) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(bounded_style(false));
            bar
        });
        Self { bar }
    }

    pub(super) fn has_bar(&self) -> bool {
        self.bar.is_some()
    }

    /// Prints a line above the bar.
    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| warn(line)),
            None => warn(line),
        }
    }

    /// Takes lines from the engine.
    pub(super) fn saying(&self) -> Say {
        let terminal = self.clone();
        Arc::new(move |line| terminal.say(line))
    }

    /// Shows the progress of a job; with a share done, as a bar.
    pub(super) fn show(&self, done: Option<(u64, u64)>, text: &str) {
        let Some(bar) = &self.bar else {
            return;
        };
        if let Some((done, total)) = done {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.set_style(bounded_style(true));
            }
            bar.set_position(done);
        }
        bar.set_message(escape::one_line(text).into_owned());
    }

    /// Removes the bar.
    pub(super) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bounded_style(bounded: bool) -> ProgressStyle {
    let template = if bounded { "{bar:24} {msg}" } else { "{msg}" };
    ProgressStyle::with_template(template)
        .expect("the template is right")
        .progress_chars("=> ")
}

/// Prints a line, or a message of several lines, where no [`Terminal`] is available.
pub(super) fn warn(line: &str) {
    // A closed standard error is ignored: there is no other place to report to.
    let _ = writeln!(stderr(), "{}", escape::message(line));
}
