//! Standard output of the commands. Its reader may close it at any time, which is not an error.
//!
//! Text for people is escaped here. JSON and CSV are data: in a file or a pipe they stay as they are, and only a terminal
//! gets them escaped.

use std::borrow::Cow;
use std::io::{BufWriter, IsTerminal, StdoutLock, Write, stdout};

use serde_json::Value;

use super::{CommandError, escape};

/// Prints text to standard output, and flushes it.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    write(&escape::lines(text))
}

/// Prints JSON for people and programs.
pub(super) fn print_json(value: &Value) -> Result<(), CommandError> {
    print_json_text(&format!("{value:#}"))
}

/// Prints JSON that is text already.
pub(super) fn print_json_text(json: &str) -> Result<(), CommandError> {
    let json = match stdout().is_terminal() {
        true => escape::json(json),
        false => Cow::Borrowed(json),
    };
    write(&format!("{json}\n"))
}

fn write(text: &str) -> Result<(), CommandError> {
    let mut out = stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.or_else(|error| CommandError::of_output(&error))
}

/// Prints many lines, buffered.
pub(super) struct LinePrinter {
    out: BufWriter<StdoutLock<'static>>,
    is_terminal: bool,
}

impl LinePrinter {
    pub(super) fn new() -> Self {
        let out = stdout().lock();
        Self {
            is_terminal: out.is_terminal(),
            out: BufWriter::with_capacity(64 << 10, out),
        }
    }

    /// Prints a line of text, or several; returns whether the output is still open.
    pub(super) fn text(&mut self, text: &str) -> Result<bool, CommandError> {
        self.line(&escape::lines(text))
    }

    /// Prints a line of JSON; returns whether the output is still open.
    pub(super) fn json(&mut self, json: &str) -> Result<bool, CommandError> {
        match self.is_terminal {
            true => self.line(&escape::json(json)),
            false => self.line(json),
        }
    }

    /// Prints a row of CSV; returns whether the output is still open.
    pub(super) fn csv(&mut self, row: &str) -> Result<bool, CommandError> {
        match self.is_terminal {
            true => self.line(&escape::lines(row)),
            false => self.line(row),
        }
    }

    fn line(&mut self, line: &str) -> Result<bool, CommandError> {
        let written = self
            .out
            .write_all(line.as_bytes())
            .and_then(|()| self.out.write_all(b"\n"));
        go_on(written)
    }

    /// Flushes the remaining lines.
    pub(super) fn finish(mut self) -> Result<(), CommandError> {
        go_on(self.out.flush()).map(drop)
    }
}

fn go_on(written: std::io::Result<()>) -> Result<bool, CommandError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) => CommandError::of_output(&error).map(|()| false),
    }
}
