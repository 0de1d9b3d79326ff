//! `floodmark state migrate`: lets a running job migrate and drop what is left of earlier versions of its state at full speed,
//! until nothing of it is left or the plugin cannot migrate the rest.
//!
//! The job does the work and says what is left; this command repeats the request, which holds for seconds only, and asks for
//! a checkpoint whenever nothing moves: state that was written since the last one is looked through after it, and an
//! earlier version is gone once a checkpoint without it is durable. So no signal has to be handled: when this process ends,
//! the job is back at its normal pace soon.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::CommandError;
use crate::escape::one_line;
use crate::failure::EXIT_NOT_MIGRATED;
use crate::job::{JobArguments, JobLocation};
use crate::print::{print, print_json};
use crate::terminal::Terminal;
use floodmark_control::migrate::PATH;
use floodmark_engine::session::number::{bytes, things};

/// Time between two requests.
const REQUEST_INTERVAL: Duration = Duration::from_millis(200);
/// Requests between two lines about the progress, if there is no bar.
const REQUESTS_A_LINE: u64 = 25;
/// Checkpoints in a row without any change, after which the rest counts as what cannot be migrated.
const VAIN_CHECKPOINTS_MAX: u32 = 8;

/// Migrates what is left of earlier versions of state in a running job, now
#[derive(Debug, Args)]
pub struct MigrateArguments {
    #[command(flatten)]
    job: JobArguments,
    /// Migrates the state of this operator only
    #[arg(long, value_name = "OPERATOR")]
    operator: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// A state of which earlier versions are left.
#[derive(Debug, Clone)]
struct OutdatedState {
    operator: String,
    state: String,
    /// The earlier versions, newest first.
    versions: Vec<u64>,
    /// Steps of the operator's sweep so far.
    steps: u64,
    /// The size of the state in which entries of these versions may be, if it is known yet.
    bytes: Option<u64>,
    /// The number of entries that could not be migrated, and the first reason.
    refused: Option<(u64, String)>,
}

/// Runs the command.
///
/// # Errors
/// When no job runs there, it ends meanwhile or cannot take a checkpoint, or something could not be migrated: that stays as
/// it is.
pub(super) fn migrate(arguments: &MigrateArguments) -> Result<(), CommandError> {
    let place = arguments.job.place()?;
    let mut hurried = HurriedJob {
        place,
        wish: json!({ "operator": arguments.operator }),
        terminal: Terminal::new(),
        requests: 0,
        checkpoints: 0,
    };
    let first = hurried.request()?;
    let left = hurried.run(first.clone());
    hurried.terminal.clear();
    let left = left?;
    let is_left = |one: &&OutdatedState| {
        let mut left = left.iter();
        left.any(|left| left.operator == one.operator && left.state == one.state)
    };
    let migrated: Vec<_> = first.iter().filter(|one| !is_left(one)).collect();
    if arguments.json {
        print_json(&json!({
            "migrated": migrated.iter().map(|one| one.json()).collect::<Value>(),
            "left": left.iter().map(OutdatedState::json).collect::<Value>(),
            "checkpoints": hurried.checkpoints,
        }))?;
    } else if first.is_empty() {
        print("nothing to migrate: all state is of the newest versions\n")?;
    } else {
        let lines = migrated.iter().map(|one| {
            let (name, versions) = (one.name(), one.versions());
            format!("{name}: nothing of {versions} is left\n")
        });
        print(&lines.collect::<String>())?;
    }
    if left.is_empty() {
        return Ok(());
    }
    let reasons: Vec<_> = left.iter().map(OutdatedState::why_left).collect();
    Err(CommandError::new(EXIT_NOT_MIGRATED, reasons.join("\n")))
}

/// A running job that this command hurries.
struct HurriedJob {
    place: JobLocation,
    wish: Value,
    terminal: Terminal,
    requests: u64,
    checkpoints: u64,
}

impl HurriedJob {
    /// Hurries the job; returns what is left.
    fn request(&mut self) -> Result<Vec<OutdatedState>, CommandError> {
        let answer = self.place.call(PATH, &self.wish)?;
        self.requests += 1;
        Ok(OutdatedState::all_in(&answer))
    }

    /// Hurries the job until nothing is left, or nothing changes any more. Returns what is left then.
    fn run(&mut self, first: Vec<OutdatedState>) -> Result<Vec<OutdatedState>, CommandError> {
        let mut left = first;
        let mut in_vain = 0;
        while !left.is_empty() && in_vain < VAIN_CHECKPOINTS_MAX {
            self.show(&left);
            pause();
            let now = self.request()?;
            if has_moved(&left, &now) {
                in_vain = 0;
            } else {
                self.place.take_checkpoint(None)?;
                self.checkpoints += 1;
                in_vain += 1;
            }
            left = now;
        }
        Ok(left)
    }

    fn show(&self, left: &[OutdatedState]) {
        let each: Vec<_> = left.iter().map(OutdatedState::progress).collect();
        let text = format!("migrating {}", each.join("; "));
        if self.terminal.has_bar() {
            self.terminal.show(None, &text);
        } else if self.requests % REQUESTS_A_LINE == 1 {
            self.terminal.say(&text);
        }
    }
}

/// Whether the job has migrated or dropped something between two answers.
fn has_moved(before: &[OutdatedState], now: &[OutdatedState]) -> bool {
    let is_same = |(one, other): (&OutdatedState, &OutdatedState)| {
        one.operator == other.operator
            && one.state == other.state
            && one.versions == other.versions
            && one.steps == other.steps
    };
    before.len() != now.len() || !before.iter().zip(now).all(is_same)
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing runs here that could wait instead"
)]
fn pause() {
    std::thread::sleep(REQUEST_INTERVAL);
}

impl OutdatedState {
    /// All of an answer of the job.
    fn all_in(answer: &Value) -> Vec<Self> {
        let mut all = Vec::new();
        for (operator, found) in answer["operators"].as_object().into_iter().flatten() {
            for (state, left) in found["states"].as_object().into_iter().flatten() {
                let versions = left["versions"].as_array().into_iter().flatten();
                let refused = found["not-migrated"].as_array().into_iter().flatten();
                let mut refused = refused.filter(|refused| refused["state"] == state.as_str());
                all.push(Self {
                    operator: operator.clone(),
                    state: state.clone(),
                    versions: versions.filter_map(Value::as_u64).collect(),
                    steps: found["steps"].as_u64().unwrap_or_default(),
                    bytes: left["bytes"].as_u64(),
                    refused: refused.next().map(|refused| {
                        let reason = refused["first-reason"].as_str().unwrap_or_default();
                        let count = refused["count"].as_u64().unwrap_or_default();
                        (count, reason.to_owned())
                    }),
                });
            }
        }
        all
    }

    fn json(&self) -> Value {
        let refused = self.refused.as_ref();
        json!({
            "operator": self.operator,
            "state": self.state,
            "versions": self.versions,
            "not-migrated": refused.map_or(0, |(count, _)| *count),
            "first-reason": refused.map(|(_, reason)| reason),
        })
    }

    fn name(&self) -> String {
        let (operator, state) = (one_line(&self.operator), one_line(&self.state));
        format!("operator `{operator}`, state `{state}`")
    }

    fn versions(&self) -> String {
        let numbers: Vec<_> = self.versions.iter().map(u64::to_string).collect();
        let plural = if numbers.len() == 1 { "" } else { "s" };
        format!("version{plural} {}", numbers.join(", "))
    }

    fn progress(&self) -> String {
        let (name, versions) = (self.name(), self.versions());
        match self.bytes {
            Some(left) if left > 0 => {
                format!("{name}: {} may have entries of {versions}", bytes(left))
            }
            _ => format!("{name}: entries of {versions}"),
        }
    }

    /// The reason why something is left that the job no longer moves, and what to do.
    fn why_left(&self) -> String {
        let (name, versions) = (self.name(), self.versions());
        match &self.refused {
            Some((count, reason)) => format!(
                "{name}: {} of {versions} could not be migrated and {}; swap to a plugin that migrates {}; the first: the plugin {reason}",
                things(*count, "value"),
                if *count == 1 {
                    "stays as it is"
                } else {
                    "stay as they are"
                },
                if *count == 1 { "it" } else { "them" },
            ),
            None => format!(
                "{name}: checkpoints still name {versions}, though the job finds nothing to migrate; `floodmark state list --count` counts its keys"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches an answer of the job that is misread, and a migration that is given up while the job works on it.

    use super::*;

    fn left(versions: &Value, steps: u64, bytes: &Value) -> Vec<OutdatedState> {
        let refused = json!([
            { "state": "other", "count": 3, "first-reason": "cannot migrate another" },
            { "state": "count", "count": 1, "first-reason": "cannot migrate this" },
        ]);
        OutdatedState::all_in(&json!({ "operators": { "op": {
            "states": { "count": { "versions": versions, "bytes": bytes } },
            "steps": steps,
            "not-migrated": refused,
        } } }))
    }

    #[test]
    fn only_steps_and_versions_count_as_progress() {
        let before = left(&json!([2, 1]), 5, &json!(2048));
        for (now, expected) in [
            (left(&json!([2, 1]), 5, &json!(2048)), false),
            // Records are written to the same chunks.
            (left(&json!([2, 1]), 5, &json!(4096)), false),
            (left(&json!([2, 1]), 6, &json!(2048)), true),
            (left(&json!([2]), 5, &json!(2048)), true),
            (Vec::new(), true),
        ] {
            assert_eq!(has_moved(&before, &now), expected, "{now:?}");
        }
    }

    #[test]
    fn an_answer_is_told_in_words() {
        let all = left(&json!([2, 1]), 5, &json!(2048));
        let found = &all[0];
        assert_eq!(
            found.progress(),
            "operator `op`, state `count`: 2.0 KiB may have entries of versions 2, 1"
        );
        assert!(found.why_left().contains("1 value of versions 2, 1"));
        assert!(found.why_left().contains("cannot migrate this"));
        assert!(OutdatedState::all_in(&json!({ "operators": {} })).is_empty());
    }
}
