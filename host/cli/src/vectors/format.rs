//! Parses the text of a file to vectors. Problems are reported with the line, and with the nearest known word for an
//! unknown one.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::bytes::Record;
use super::json::ByKey;
use super::{Action, Call, Emits, Expected, ExpectedState, Expects, FailsBy, Step, Vectors};
use floodmark_engine::edge::limits::limits;
use floodmark_engine::guest::Description;
use floodmark_engine::pipeline::limits::LimitSettings;
use floodmark_engine::pipeline::toml_file::TomlFile;
use floodmark_engine::pipeline::{Problem, Problems, config, duration, suggestions};

/// Largest number of records of a step, the same as in a job's calls.
const RECORDS_MAX: usize = 4096;

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct VectorFile {
    #[serde(deserialize_with = "config::deserialize")]
    config: BTreeMap<String, String>,
    limits: LimitSettings,
    refuses: Option<String>,
    step: Vec<TypedStep>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct TypedStep {
    records: Option<Vec<Record>>,
    input: Option<String>,
    emits: Option<Emits>,
    rejects: Option<Vec<(usize, String)>>,
    fails: Option<String>,
    #[serde(deserialize_with = "fails_by")]
    fails_by: Option<Vec<FailsBy>>,
    drop_instance: Option<bool>,
    checkpoint: Option<bool>,
    kill: Option<bool>,
    restart: Option<bool>,
    #[serde(deserialize_with = "passes")]
    passes: Option<Duration>,
    state: Option<BTreeMap<String, ByKey>>,
}

fn passes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

/// A word, or several of which one must match.
fn fails_by<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<FailsBy>>, D::Error> {
    struct Words;

    impl<'de> serde::de::Visitor<'de> for Words {
        type Value = Vec<FailsBy>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a word in quotes, or a list of them")
        }

        fn visit_str<E: Error>(self, word: &str) -> Result<Vec<FailsBy>, E> {
            let word = serde::de::value::StrDeserializer::new(word);
            Ok(vec![FailsBy::deserialize(word)?])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut items: A,
        ) -> Result<Vec<FailsBy>, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = items.next_element()? {
                words.push(word);
            }
            match words.is_empty() {
                true => Err(A::Error::custom("the list is empty")),
                false => Ok(words),
            }
        }
    }

    deserializer.deserialize_any(Words).map(Some)
}

impl<'de> Deserialize<'de> for Emits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EmitsVisitor;

        impl<'de> serde::de::Visitor<'de> for EmitsVisitor {
            type Value = Emits;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of records, or a table of such lists by output port")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut items: A,
            ) -> Result<Emits, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = items.next_element()? {
                    records.push(record);
                }
                Ok(Emits::ByFirst(records))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut ports: A,
            ) -> Result<Emits, A::Error> {
                let mut by_port = Vec::new();
                while let Some(port) = ports.next_entry()? {
                    by_port.push(port);
                }
                Ok(Emits::ByPort(by_port))
            }
        }

        deserializer.deserialize_any(EmitsVisitor)
    }
}

impl Vectors {
    /// Parses the text of a file; messages call it `name`.
    ///
    /// # Errors
    /// With the problems.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        let file = TomlFile::parse(name, text)?;
        let typed: VectorFile = file.read().map_err(Problems::from)?;
        let expects = match (typed.refuses, typed.step.is_empty()) {
            (Some(says), true) => Expects::Refusal(says),
            (None, false) => Expects::Steps(steps(&file, typed.step)?),
            (Some(_), false) => {
                let line = file.lines_of("step").first().copied().unwrap_or(1);
                let message = "a plugin that refuses its configuration takes no steps; leave out `refuses` or the steps";
                return Err(file.problem(line, "step", message).into());
            }
            (None, true) => {
                let message = "there are no steps; write `[[step]]` with `records` and `emits`, or `refuses` for a configuration that is refused";
                return Err(file.problem(1, "", message).into());
            }
        };
        Ok(Self {
            name: name.to_owned(),
            config: typed.config.into_iter().collect(),
            limits: limits(typed.limits),
            expects,
            file,
        })
    }

    /// Checks that the plugin has the named ports and states.
    ///
    /// # Errors
    /// With all that it lacks.
    pub(super) fn check(&self, description: &Description) -> Result<(), Problems> {
        let Expects::Steps(steps) = &self.expects else {
            return Ok(());
        };
        let states = description.states.iter().map(|state| &state.name);
        let states: Vec<&String> = states.collect();
        let (inputs, outputs) = (&description.inputs, &description.outputs);
        for Step { line, action } in steps {
            let unknown = |what: &str, field: &str, name: &str, known: Vec<&String>| {
                let hint = suggestions::hint(name, known.iter().map(|name| name.as_str()));
                let message = format!("the plugin has no {what} `{name}`{hint}");
                Err(self.file.problem(*line, field, message).into())
            };
            match action {
                Action::Call(call) => {
                    if let Some(input) = call.input.as_ref().filter(|name| !inputs.contains(name)) {
                        return unknown("input", "input", input, inputs.iter().collect());
                    }
                    if let Expected::Output {
                        emits: Emits::ByPort(ports),
                        ..
                    } = &call.expected
                        && let Some((port, _)) =
                            ports.iter().find(|(port, _)| !outputs.contains(port))
                    {
                        return unknown("output", "emits", port, outputs.iter().collect());
                    }
                }
                Action::State(expected) => {
                    let mut expected = expected.iter().map(|expected| &expected.state);
                    if let Some(state) = expected.find(|name| !states.contains(name)) {
                        return unknown("state", "state", state, states);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn steps(file: &TomlFile, typed: Vec<TypedStep>) -> Result<Vec<Step>, Problem> {
    let lines = file.lines_of("step");
    let mut steps = Vec::with_capacity(typed.len());
    for (step, line) in typed.into_iter().zip(lines) {
        let action = step.action();
        let action = action.map_err(|(field, message)| {
            let at = format!("step {}", steps.len() + 1);
            let field = match field {
                "" => at,
                field => format!("{at}: {field}"),
            };
            file.problem(line, &field, message)
        })?;
        steps.push(Step { line, action });
    }
    Ok(steps)
}

type Wrong = (&'static str, String);

const KINDS: &str =
    "`records`, `drop-instance`, `checkpoint`, `kill`, `restart`, `passes` or `state`";

impl TypedStep {
    fn action(self) -> Result<Action, Wrong> {
        let plain = [
            ("drop-instance", self.drop_instance, Action::DropInstance),
            ("checkpoint", self.checkpoint, Action::Checkpoint),
            ("kill", self.kill, Action::Kill),
            ("restart", self.restart, Action::Restart),
        ];
        let mut kinds = Vec::new();
        for (field, truth, action) in plain {
            if truth == Some(false) {
                let message = format!("write `{field} = true`, or leave the step out");
                return Err((field, message));
            }
            kinds.extend(truth.map(|_| (field, action)));
        }
        kinds.extend(self.passes.map(|time| ("passes", Action::Pass(time))));
        if let Some(states) = self.state {
            let state = |(state, ByKey(keys))| ExpectedState { state, keys };
            let states = states.into_iter().map(state).collect();
            kinds.push(("state", Action::State(states)));
        }
        let extra = [
            ("input", self.input.is_some()),
            ("emits", self.emits.is_some()),
            ("rejects", self.rejects.is_some()),
            ("fails", self.fails.is_some()),
            ("fails-by", self.fails_by.is_some()),
        ];
        match self.records {
            Some(records) => {
                let expected = expected(
                    (self.emits, self.rejects, self.fails, self.fails_by),
                    records.len(),
                )?;
                let input = self.input;
                let call = Call {
                    input,
                    records,
                    expected,
                };
                kinds.push(("records", Action::Call(call)));
            }
            None => {
                if let Some((field, _)) = extra.iter().find(|(_, is_there)| *is_there) {
                    return Err((field, "belongs to `records`".to_owned()));
                }
            }
        }
        if kinds.len() > 1 {
            let names: Vec<_> = kinds
                .iter()
                .map(|(field, _)| format!("`{field}`"))
                .collect();
            let message = format!("must do one thing, not {}", names.join(" and "));
            return Err(("", message));
        }
        let action = kinds.pop().map(|(_, action)| action);
        action.ok_or_else(|| ("", format!("does nothing; write {KINDS}")))
    }
}

type TypedExpectation = (
    Option<Emits>,
    Option<Vec<(usize, String)>>,
    Option<String>,
    Option<Vec<FailsBy>>,
);

fn expected(
    (emits, rejects, fails, by): TypedExpectation,
    records: usize,
) -> Result<Expected, Wrong> {
    if records == 0 || records > RECORDS_MAX {
        let message = format!("a step has 1 to {RECORDS_MAX}, not {records}");
        return Err(("records", message));
    }
    if fails.is_some() || by.is_some() {
        let other = [("emits", emits.is_some()), ("rejects", rejects.is_some())];
        if let Some((field, _)) = other.iter().find(|(_, is_there)| *is_there) {
            let message = "a call that fails has no effects; leave out this field or `fails`";
            return Err((field, message.to_owned()));
        }
        return Ok(Expected::Failure {
            says: fails.unwrap_or_default(),
            by: by.unwrap_or_default(),
        });
    }
    let mut rejects = rejects.unwrap_or_default();
    rejects.sort();
    for (place, (record, _)) in rejects.iter().enumerate() {
        if *record >= records {
            let message =
                format!("there is no record {record}: the step has {records}, counted from 0");
            return Err(("rejects", message));
        }
        if rejects[..place].iter().any(|(other, _)| other == record) {
            return Err(("rejects", format!("record {record} is listed twice")));
        }
    }
    let emits = emits.unwrap_or(Emits::ByFirst(Vec::new()));
    Ok(Expected::Output { emits, rejects })
}
