//! Runs vectors, step by step and in all variations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::difference::{CallOutcome, Failed, Stop, compare, compare_again};
use super::json::{map_like, same};
use super::{
    Action, Call, Difference, Expected, ExpectedState, Expects, Step, Variation, VectorReport,
    Vectors, show,
};
use floodmark_engine::guest::{
    Description, GuestError, Instance, LogLevel, LogLine, Plugin, StatePart,
};
use floodmark_engine::pipeline::Problems;
use floodmark_engine::runtime::JobError;
use floodmark_engine::runtime::plan::Operator;
use floodmark_engine::runtime::saved::Saved;
use floodmark_engine::runtime::single_operator::{Called, SingleOperator};
use floodmark_state::stream::{Batch, Column, InputPort};

/// The start time of vectors, in milliseconds since 1970: 2026-01-01T00:00:00Z.
const BEGIN_MS: u64 = 1_767_225_600_000;
/// Lines of a plugin's log that are shown with a difference.
const LOG_LINES_MAX: usize = 5;

/// Runs a plugin on vectors. The caller must tick its engine; otherwise the time limits of calls are not enforced.
///
/// # Errors
/// When the file names ports or states that the plugin lacks.
pub fn run(plugin: &Plugin, vectors: &Vectors) -> Result<VectorReport, Problems> {
    let description = plugin.description();
    vectors.check(description)?;
    let mut report = VectorReport {
        name: vectors.name.clone(),
        steps: 0,
        variations: 0,
        records: 0,
        difference: None,
    };
    let plugin = match plugin.within(&description.name, vectors.limits) {
        Ok(plugin) => Arc::new(plugin),
        Err(error) => {
            report.difference = Some(before_steps(
                "the plugin cannot be used",
                &error.to_string(),
            ));
            return Ok(report);
        }
    };
    let steps = match &vectors.expects {
        Expects::Refusal(says) => {
            report.variations = 1;
            report.difference = refusal(&plugin, &vectors.config, says);
            return Ok(report);
        }
        Expects::Steps(steps) => steps,
    };
    report.steps = steps.len();
    report.records = calls(steps).map(|call| call.records.len()).sum();
    for variation in variations(steps) {
        report.variations += 1;
        report.difference = run_variation(&plugin, &vectors.config, steps, variation);
        if report.difference.is_some() {
            return Ok(report);
        }
    }
    if let Some(plain) = plugin.called_plainly() {
        report.variations += 1;
        let variation = Variation::ThroughOperator;
        report.difference = run_variation(&Arc::new(plain), &vectors.config, steps, variation);
    }
    Ok(report)
}

fn before_steps(what: &str, message: &str) -> Difference {
    Difference {
        step: None,
        variation: Variation::AsWritten.name(),
        what: what.to_owned(),
        lines: vec![format!("+ {}", show::message(message))],
    }
}

fn calls(steps: &[Step]) -> impl Iterator<Item = &Call> {
    steps.iter().filter_map(|step| match &step.action {
        Action::Call(call) => Some(call),
        _ => None,
    })
}

/// The variations that matter for these steps.
fn variations(steps: &[Step]) -> Vec<Variation> {
    let mut variations = vec![Variation::AsWritten];
    if calls(steps).any(is_cut) {
        variations.push(Variation::RecordByRecord);
    }
    if calls(steps).count() > 1 {
        variations.push(Variation::FreshInstances);
    }
    if calls(steps).count() > 0 {
        variations.push(Variation::Killed);
    }
    variations
}

/// Whether its records may be passed one by one: some records of a failing call would not fail alone.
fn is_cut(call: &Call) -> bool {
    call.records.len() > 1 && matches!(call.expected, Expected::Output { .. })
}

fn refusal(plugin: &Plugin, config: &[(String, String)], says: &str) -> Option<Difference> {
    let expected = format!(
        "- refuses its configuration, and says {}",
        show::bytes(says.as_bytes())
    );
    let opened = plugin.open(&plugin.description().name, config);
    let (what, came) = match opened {
        Err(GuestError::Open { reason, .. }) if reason.contains(says) => return None,
        Err(error) => (
            "the plugin does not open, but for another reason",
            show::message(&error.to_string()),
        ),
        Ok(_) => ("the plugin opens", "opens".to_owned()),
    };
    let mut difference = before_steps(what, "");
    difference.lines = vec![expected, format!("+ {came}")];
    Some(difference)
}

fn run_variation(
    plugin: &Arc<Plugin>,
    config: &[(String, String)],
    steps: &[Step],
    variation: Variation,
) -> Option<Difference> {
    let name = &plugin.description().name;
    let operator = Operator::new(Arc::clone(plugin), config.to_vec());
    let mut trial = match SingleOperator::new(name, &operator, BEGIN_MS) {
        Ok(alone) => VariationRun {
            plugin,
            alone,
            variation,
            teller: None,
            since: Vec::new(),
            log: Vec::new(),
        },
        Err(error) => return Some(before_steps("the plugin does not open", &error.to_string())),
    };
    for (index, step) in steps.iter().enumerate() {
        if let Err(stop) = trial.step(&step.action) {
            let log = trial.last_words();
            return Some(stop.at((index + 1, step.line), variation, log));
        }
    }
    None
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Trace => "trace",
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

/// A run of one variation.
struct VariationRun<'a> {
    plugin: &'a Plugin,
    alone: SingleOperator,
    variation: Variation,
    /// Converts values to JSON. It is never opened, and never processes records.
    teller: Option<Instance>,
    /// Calls since the last checkpoint.
    since: Vec<PastCall>,
    /// The plugin's log of the step.
    log: Vec<LogLine>,
}

/// A call that was made.
struct PastCall {
    input: InputPort,
    records: Batch,
    wall_ms: u64,
    outcome: CallOutcome,
}

impl From<JobError> for Stop {
    fn from(error: JobError) -> Self {
        let lines = vec![format!("+ {}", show::message(&error.to_string()))];
        Self::new("the plugin cannot continue", lines)
    }
}

impl VariationRun<'_> {
    fn step(&mut self, action: &Action) -> Result<(), Stop> {
        self.log.clear();
        match action {
            Action::Call(call) => {
                if self.variation == Variation::Killed {
                    self.checkpoint()?;
                }
                self.handle(call)?;
                if self.variation == Variation::Killed {
                    self.kill()?;
                }
                Ok(())
            }
            Action::DropInstance => Ok(self.alone.renew()?),
            Action::Checkpoint => self.checkpoint(),
            Action::Kill => self.kill(),
            Action::Restart => {
                self.checkpoint()?;
                Ok(self.alone.restore()?)
            }
            Action::Pass(time) => {
                let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 2);
                self.alone.wall_ms = self.alone.wall_ms.saturating_add(ms);
                Ok(())
            }
            Action::State(expected) => {
                let mut lines = Vec::new();
                for expected in expected {
                    lines.extend(self.compare_state(expected)?);
                }
                match lines.is_empty() {
                    true => Ok(()),
                    false => Err(Stop::new("the state differs", lines)),
                }
            }
        }
    }

    fn checkpoint(&mut self) -> Result<(), Stop> {
        self.since.clear();
        match self.alone.take_checkpoint()? {
            None => Ok(()),
            Some(error) => {
                let lines = vec![format!("+ {}", show::message(&error.to_string()))];
                let what = "the plugin fails when it is notified of a checkpoint";
                Err(Stop::new(what, lines))
            }
        }
    }

    /// Returns to the last checkpoint and replays the calls since, each at its original time.
    fn kill(&mut self) -> Result<(), Stop> {
        self.alone.restore()?;
        let now_ms = self.alone.wall_ms;
        for made in &self.since {
            self.alone.wall_ms = made.wall_ms;
            let again = self.alone.call(made.input, made.records.clone())?;
            let again = again.map_err(|error| Failed::of(&error));
            compare_again(&made.outcome, &again, &self.plugin.description().outputs)?;
        }
        self.alone.wall_ms = now_ms;
        self.hear_log();
        Ok(())
    }

    /// The last lines that the plugin logged in this step.
    fn last_words(&mut self) -> Vec<String> {
        self.hear_log();
        let from = self.log.len().saturating_sub(LOG_LINES_MAX);
        let line = |line: &LogLine| {
            let message = show::message(&line.message);
            format!("log {}: {message}", level(line.level))
        };
        self.log[from..].iter().map(line).collect()
    }

    fn hear_log(&mut self) {
        let lines = self.alone.take_log();
        self.log.extend(lines);
    }

    fn handle(&mut self, call: &Call) -> Result<(), Stop> {
        let Description {
            inputs, outputs, ..
        } = self.plugin.description();
        let mut ports = inputs.iter().zip((0..).map(InputPort));
        let input = match &call.input {
            Some(name) => ports
                .find(|(port, _)| *port == name)
                .map_or(InputPort(0), |(_, at)| at),
            None => InputPort(0),
        };
        let pieces = match self.variation == Variation::RecordByRecord && is_cut(call) {
            true => 1,
            false => call.records.len(),
        };
        let before = match call.expected {
            Expected::Failure { .. } => Some(self.all_state()?),
            Expected::Output { .. } => None,
        };
        let mut sum = Called::default();
        let mut outcome = Ok(());
        for (piece, records) in call.records.chunks(pieces).enumerate() {
            let mut batch = Batch::default();
            for record in records {
                batch.push(&record.key, &record.value, record.timestamp);
            }
            match self.call(input, batch)? {
                Ok(called) => {
                    sum.emitted.extend(called.emitted);
                    let rejected = called.rejected.into_iter().map(|mut rejection| {
                        rejection.record += (piece * pieces) as u32;
                        rejection
                    });
                    sum.rejected.extend(rejected);
                }
                Err(failed) => {
                    outcome = Err(failed);
                    break;
                }
            }
        }
        compare(call, &outcome.map(|()| sum), outputs)?;
        if let Some(before) = before
            && before != self.all_state()?
        {
            let what = "the call fails, but has changed the state";
            return Err(Stop::new(what, Vec::new()));
        }
        Ok(())
    }

    fn call(&mut self, input: InputPort, records: Batch) -> Result<CallOutcome, Stop> {
        if self.variation == Variation::FreshInstances {
            self.alone.renew()?;
        }
        let outcome = self.alone.call(input, records.clone())?;
        let outcome = outcome.map_err(|error| Failed::of(&error));
        self.hear_log();
        self.since.push(PastCall {
            input,
            records,
            wall_ms: self.alone.wall_ms,
            outcome: outcome.clone(),
        });
        Ok(outcome)
    }

    fn all_state(&mut self) -> Result<Vec<BTreeMap<Vec<u8>, Saved>>, Stop> {
        let states = 0..self.plugin.description().states.len();
        let mut all = Vec::with_capacity(states.len());
        for state in states {
            all.push(self.alone.state(state as u16)?);
        }
        Ok(all)
    }

    /// The lines of keys with another value.
    fn compare_state(&mut self, expected: &ExpectedState) -> Result<Vec<String>, Stop> {
        let name = &expected.state;
        let mut states = self.plugin.description().states.iter().zip(0..);
        let Some((_, index)) = states.find(|(state, _)| state.name == *name) else {
            return Ok(Vec::new());
        };
        let found = self.alone.state(index)?;
        let expected: BTreeMap<&[u8], &Value> = expected
            .keys
            .iter()
            .map(|(key, value)| (key.as_slice(), value))
            .collect();
        let got = self.tell(index, &found, &expected)?;
        let keys: BTreeSet<&[u8]> = expected.keys().chain(got.keys()).copied().collect();
        let mut lines = Vec::new();
        for key in keys {
            let (expected, got) = (expected.get(key).copied(), got.get(key));
            let is_same = match (expected, got) {
                (Some(expected), Some(got)) => same(expected, got),
                _ => false,
            };
            if is_same {
                continue;
            }
            let line = |mark: char, value: Option<&Value>| {
                let value = value.map_or("nothing".to_owned(), show::json);
                format!("{mark} {name}: {} = {value}", show::bytes(key))
            };
            lines.extend([line('-', expected), line('+', got)]);
        }
        Ok(lines)
    }

    /// The values of keys, as JSON of the plugin.
    fn tell<'a>(
        &mut self,
        state: u16,
        found: &'a BTreeMap<Vec<u8>, Saved>,
        expected: &BTreeMap<&[u8], &Value>,
    ) -> Result<BTreeMap<&'a [u8], Value>, Stop> {
        let column = |bytes: &mut dyn Iterator<Item = &'a Vec<u8>>| -> Column {
            bytes.map(Vec::as_slice).collect()
        };
        let values = column(&mut found.values().flat_map(Saved::values));
        let sub_keys = column(&mut found.values().flat_map(Saved::sub_keys));
        let mut values = self.in_json(state, StatePart::Value, &values)?.into_iter();
        let mut sub_keys = self
            .in_json(state, StatePart::SubKey, &sub_keys)?
            .into_iter();
        let mut told = BTreeMap::new();
        for (key, saved) in found {
            let value = match saved {
                Saved::Value(_) => values.next().unwrap_or_default(),
                Saved::List(items) => Value::Array(values.by_ref().take(items.len()).collect()),
                Saved::Map(entries) => {
                    let keys = sub_keys.by_ref().take(entries.len());
                    let entries = keys.zip(values.by_ref()).collect();
                    map_like(expected.get(key.as_slice()).copied(), entries)
                }
            };
            told.insert(key.as_slice(), value);
        }
        Ok(told)
    }

    fn in_json(&mut self, state: u16, part: StatePart, bytes: &Column) -> Result<Vec<Value>, Stop> {
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let unknown = |reason: &str| {
            let lines = vec![format!("+ {}", show::message(reason))];
            Stop::new("the plugin cannot show its state as JSON", lines)
        };
        let told = match &mut self.teller {
            Some(teller) => teller.to_json(state, part, bytes),
            none => {
                let teller = self.plugin.unopened(&self.plugin.description().name);
                teller.and_then(|teller| none.insert(teller).to_json(state, part, bytes))
            }
        };
        let told = told.map_err(|error| unknown(&error.to_string()))?;
        let value = |text: &[u8]| {
            let value = serde_json::from_slice(text);
            value.map_err(|error| unknown(&format!("it says what cannot be read: {error}")))
        };
        told.iter().map(value).collect()
    }
}
