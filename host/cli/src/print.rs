//! Standard output of the commands. Its reader may close it at any time, which is not an error.

use std::io::{BufWriter, StdoutLock, Write};

use serde_json::Value;

use super::CommandError;

/// Prints text to standard output, and flushes it.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(|error| CommandError::of_output(&error))
}

/// Prints JSON for people and programs.
pub(super) fn print_json(value: &Value) -> Result<(), CommandError> {
    print(&format!("{value:#}\n"))
}

/// Prints many lines, buffered.
pub(super) struct LinePrinter(BufWriter<StdoutLock<'static>>);

impl LinePrinter {
    pub(super) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, std::io::stdout().lock()))
    }

    /// Prints a line; returns whether the output is still open.
    pub(super) fn line(&mut self, line: &str) -> Result<bool, CommandError> {
        let written = self
            .0
            .write_all(line.as_bytes())
            .and_then(|()| self.0.write_all(b"\n"));
        go_on(written)
    }

    /// Flushes the remaining lines.
    pub(super) fn finish(mut self) -> Result<(), CommandError> {
        go_on(self.0.flush()).map(drop)
    }
}

fn go_on(written: std::io::Result<()>) -> Result<bool, CommandError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) => CommandError::of_output(&error).map(|()| false),
    }
}
