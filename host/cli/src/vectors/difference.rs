//! The difference between a plugin's results and its vectors: the place, and line by line what was expected and what
//! came.

use std::fmt;

use super::bytes::Record;
use super::{Call, Emits, Expected, FailsBy, Variation, show};
use floodmark_engine::guest::{Exceeded, GuestError};
use floodmark_engine::runtime::single_operator::Called;
use floodmark_engine::session::number::things;

/// Largest number of lines of a difference that are shown.
const LINES_MAX: usize = 20;
/// Equal lines that are shown before and after those that differ.
const CONTEXT: usize = 2;

/// A step with an unexpected result.
#[derive(Debug, Clone)]
pub struct Difference {
    /// Its number, from 1, and its line in the file; `None` if the plugin does not open.
    pub step: Option<(usize, usize)>,
    /// The variation of the run.
    pub variation: &'static str,
    /// A description of the difference.
    pub what: String,
    /// Lines that were expected (`-`), lines that came (`+`), and what the plugin logged.
    pub lines: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((number, line)) = self.step {
            write!(f, ":{line}: step {number}")?;
            write!(f, ", {}", self.variation)?;
        }
        write!(f, ": {}", self.what)?;
        for line in self.lines.iter().flat_map(|line| line.lines()) {
            write!(f, "\n    {line}")?;
        }
        Ok(())
    }
}

/// The reason why a variation ends before its last step.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) what: String,
    pub(super) lines: Vec<String>,
}

impl Stop {
    pub(super) fn new(what: impl Into<String>, lines: Vec<String>) -> Self {
        let what = what.into();
        Self { what, lines }
    }

    /// The difference at a step, with what the plugin logged there.
    pub(super) fn at(
        self,
        step: (usize, usize),
        variation: Variation,
        log: Vec<String>,
    ) -> Difference {
        let mut lines = self.lines;
        let lines_max = LINES_MAX - log.len().min(LINES_MAX / 2);
        // Not more than a person would read.
        if lines.len() > lines_max {
            let left = lines.len() - lines_max + 1;
            lines.truncate(lines_max - 1);
            lines.push(format!("… and {left} more lines"));
        }
        lines.extend(log);
        Difference {
            step: Some(step),
            variation: variation.name(),
            what: self.what,
            lines,
        }
    }
}

/// The result of a call, or its failure.
pub(super) type CallOutcome = Result<Called, Failed>;

/// A failed call.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    by: Option<FailsBy>,
    message: String,
}

impl Failed {
    pub(super) fn of(error: &GuestError) -> Self {
        Self {
            by: fails_by(error),
            message: error.to_string(),
        }
    }
}

/// The kind of a failure.
fn fails_by(error: &GuestError) -> Option<FailsBy> {
    match error {
        GuestError::Failed { .. } => Some(FailsBy::Error),
        GuestError::Trapped { .. } => Some(FailsBy::Trap),
        GuestError::Limit { exceeded, .. } => match exceeded {
            Exceeded::Time { .. } | Exceeded::Fuel { .. } => Some(FailsBy::Time),
            Exceeded::Memory { .. } | Exceeded::Table { .. } => Some(FailsBy::Memory),
            Exceeded::Output { .. } | Exceeded::Emissions { .. } | Exceeded::Changes { .. } => {
                Some(FailsBy::Output)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Compares a result with what a file expects.
///
/// # Errors
/// With the difference.
pub(super) fn compare(call: &Call, outcome: &CallOutcome, outputs: &[String]) -> Result<(), Stop> {
    match (&call.expected, outcome) {
        (Expected::Failure { says, by }, Err(failed)) => compare_failure(says, by, failed),
        (Expected::Failure { says, by }, Ok(called)) => {
            let mut lines = vec![format!("- {}", failure(says, by))];
            let came = diff(outputs, |_| Vec::new(), |port| emitted(called, port));
            lines.extend(came);
            if lines.len() == 1 {
                lines.push("+ emits nothing".to_owned());
            }
            Err(Stop::new("the call does not fail", lines))
        }
        (Expected::Output { emits, .. }, Err(failed)) => {
            let expected = |port: &str| expected(emits, outputs, port);
            let mut lines = diff(outputs, expected, |_| Vec::new());
            lines.truncate(LINES_MAX / 2);
            lines.push(format!("+ {}", show::message(&failed.message)));
            Err(Stop::new("the call fails", lines))
        }
        (Expected::Output { emits, rejects }, Ok(called)) => {
            let expected = |port: &str| expected(emits, outputs, port);
            let mut lines = diff(outputs, expected, |port| emitted(called, port));
            let mut what = vec![];
            if !lines.is_empty() {
                what.push("the emitted records differ");
            }
            let rejections = compare_rejections(rejects, called);
            if !rejections.is_empty() {
                what.push("the rejected records differ");
            }
            lines.extend(rejections);
            match what.is_empty() {
                true => Ok(()),
                false => Err(Stop::new(what.join(", and "), lines)),
            }
        }
    }
}

/// Compares the results of the same records in two runs.
///
/// # Errors
/// With the difference.
pub(super) fn compare_again(
    before: &CallOutcome,
    again: &CallOutcome,
    outputs: &[String],
) -> Result<(), Stop> {
    let what = "after a kill, replayed records do not give the same results";
    let lines = match (before, again) {
        (Ok(before), Ok(again)) => {
            let mut lines = diff(
                outputs,
                |port| emitted(before, port),
                |port| emitted(again, port),
            );
            if before.rejected != again.rejected {
                let rejected = |called: &Called, mark: char| {
                    let rejected = sorted_rejections(called).into_iter();
                    let line = move |rejection: (usize, String)| rejection_line(mark, &rejection);
                    rejected.map(line).collect::<Vec<_>>()
                };
                lines.extend(rejected(before, '-'));
                lines.extend(rejected(again, '+'));
            }
            lines
        }
        (Err(before), Err(again)) if before.by == again.by => Vec::new(),
        _ => {
            let line = |outcome: &CallOutcome| match outcome {
                Ok(called) => format!("emits {}", things(called.emitted.len() as u64, "record")),
                Err(failed) => show::message(&failed.message),
            };
            vec![format!("- {}", line(before)), format!("+ {}", line(again))]
        }
    };
    match lines.is_empty() {
        true => Ok(()),
        false => Err(Stop::new(what, lines)),
    }
}

fn compare_failure(says: &str, by: &[FailsBy], failed: &Failed) -> Result<(), Stop> {
    let (kind, text) = (failed.by, &failed.message);
    let is_kind = by.is_empty() || kind.is_some_and(|kind| by.contains(&kind));
    if is_kind && text.contains(says) {
        return Ok(());
    }
    let came = match kind {
        Some(kind) => format!(", by \"{}\"", word(kind)),
        None => String::new(),
    };
    let lines = vec![
        format!("- {}", failure(says, by)),
        format!("+ fails{came}: {}", show::message(text)),
    ];
    Err(Stop::new("the call fails in a different way", lines))
}

fn failure(says: &str, by: &[FailsBy]) -> String {
    let words: Vec<_> = by
        .iter()
        .map(|kind| format!("\"{}\"", word(*kind)))
        .collect();
    let mut text = "fails".to_owned();
    if !words.is_empty() {
        text += &format!(", by {}", words.join(" or "));
    }
    if !says.is_empty() {
        text += &format!(", and says {}", show::bytes(says.as_bytes()));
    }
    text
}

fn word(kind: FailsBy) -> &'static str {
    match kind {
        FailsBy::Error => "error",
        FailsBy::Trap => "trap",
        FailsBy::Time => "time",
        FailsBy::Memory => "memory",
        FailsBy::Output => "output",
    }
}

fn expected(emits: &Emits, outputs: &[String], port: &str) -> Vec<Record> {
    match emits {
        Emits::ByFirst(records) if outputs.first().is_some_and(|first| first == port) => {
            records.clone()
        }
        Emits::ByFirst(_) => Vec::new(),
        Emits::ByPort(ports) => {
            let of_port = ports.iter().filter(|(name, _)| name == port);
            of_port.flat_map(|(_, records)| records.clone()).collect()
        }
    }
}

fn emitted(called: &Called, port: &str) -> Vec<Record> {
    let of_port = called.emitted.iter().filter(|emitted| emitted.port == port);
    let record = of_port.map(|emitted| Record {
        key: emitted.key.clone(),
        value: emitted.value.clone(),
        timestamp: emitted.timestamp,
    });
    record.collect()
}

/// The records of each port that differ, with some before and after them.
fn diff(
    outputs: &[String],
    expected: impl Fn(&str) -> Vec<Record>,
    got: impl Fn(&str) -> Vec<Record>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for port in outputs {
        let name = match outputs.len() {
            1 => String::new(),
            _ => format!("{port}: "),
        };
        let (expected, got) = (expected(port), got(port));
        if expected == got {
            continue;
        }
        let same = |(one, other): &(&Record, &Record)| one == other;
        let before = expected.iter().zip(&got).take_while(same).count();
        let rest = expected.iter().rev().zip(got.iter().rev());
        let rest_max = expected.len().min(got.len()) - before;
        let after = rest.take(rest_max).take_while(same).count();
        let line = |mark: char, record: &Record| format!("{mark} {name}{}", show::record(record));
        let some = |mark: char, records: &[Record]| {
            let mut lines: Vec<_> = records
                .iter()
                .take(LINES_MAX / 2 - CONTEXT)
                .map(|record| line(mark, record))
                .collect();
            if records.len() > lines.len() {
                let left = records.len() - lines.len();
                lines.push(format!("{mark} {name}… and {left} more"));
            }
            lines
        };
        let (expected_end, got_end) = (expected.len() - after, got.len() - after);
        let context = &expected[before.saturating_sub(CONTEXT)..before];
        lines.extend(context.iter().map(|record| line(' ', record)));
        lines.extend(some('-', &expected[before..expected_end]));
        lines.extend(some('+', &got[before..got_end]));
        let context = &expected[expected_end..expected.len().min(expected_end + CONTEXT)];
        lines.extend(context.iter().map(|record| line(' ', record)));
    }
    lines
}

fn compare_rejections(expected: &[(usize, String)], called: &Called) -> Vec<String> {
    let got = sorted_rejections(called);
    let is_as_expected = |(expected, got): (&(usize, String), &(usize, String))| {
        expected.0 == got.0 && got.1.contains(&expected.1)
    };
    if expected.len() == got.len() && expected.iter().zip(&got).all(is_as_expected) {
        return Vec::new();
    }
    let expected = expected.iter().map(|one| rejection_line('-', one));
    let got = got.iter().map(|one| rejection_line('+', one));
    let (expected, got) = (expected.take(LINES_MAX / 2), got.take(LINES_MAX / 2));
    expected.chain(got).collect()
}

fn sorted_rejections(called: &Called) -> Vec<(usize, String)> {
    let rejected = called.rejected.iter();
    let mut rejected: Vec<_> = rejected
        .map(|rejection| (rejection.record as usize, rejection.reason.clone()))
        .collect();
    rejected.sort();
    rejected
}

fn rejection_line(mark: char, (record, reason): &(usize, String)) -> String {
    format!(
        "{mark} rejects [{record}, {}]",
        show::bytes(reason.as_bytes())
    )
}
