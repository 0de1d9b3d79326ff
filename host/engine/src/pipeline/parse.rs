//! Parses the text of a pipeline file to a spec.
//!
//! Names, fields, values and references are checked here, before anything is built, so that a typo is reported without
//! compiling. [`super::plan`] checks ports, which needs the plugins. Nothing here opens a file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::Error;

use super::connectors::Connectors;
use super::from::References;
use super::problem::{DeserializeFault, Document, Problem, Problems, TextPosition};
use super::reader::read;
use super::restart::{self, RestartSettings};
use super::settings::{
    CheckpointSection, INTERVAL_MIN, MEMORY_MIN, OnErrorSetting, RETAINED_MAX, StateSection,
};
use super::spec::{NAME_CHARS_MAX, NODES_MAX, SinkSpec, SourceSpec, Spec};
use super::tree::{self, TomlNode, TomlTable, Value};
use super::{duration, flink, resolve, size, suggestions, wiring};
use floodmark_state::stream::MaxParallelism;

const SECTIONS: [&str; 8] = [
    "job",
    "checkpoint",
    "state",
    "limits",
    "restart",
    "source",
    "operator",
    "sink",
];

/// The text of a pipeline file.
#[derive(Debug, Clone, Copy)]
pub struct PipelineText<'a> {
    /// The name of the file in messages: the path as typed.
    pub name: &'a str,
    /// Its content.
    pub text: &'a str,
    /// The name of a job that has none: see [`Spec::name`].
    pub default_job_name: &'a str,
    /// The folder that relative paths in it start from: absolute, and without symbolic links.
    pub folder: &'a Path,
}

/// Reads a pipeline. Each of `sets` is a `path.to.field=value` that goes before what the file says; a relative path in one
/// is relative to `current_dir`, which must be absolute and without symbolic links. `connectors` are the known ones.
///
/// # Errors
/// With all problems that can be found at once.
pub fn parse(
    file: PipelineText<'_>,
    sets: &[String],
    current_dir: &Path,
    connectors: &Connectors,
) -> Result<Spec, Problems> {
    let mut document = Document {
        name: file.name.to_owned(),
        text: file.text.to_owned(),
        sets: sets.to_vec(),
        places: BTreeMap::new(),
    };
    let mut problems = Vec::new();
    let mut root = tree::from_text(&document)?;
    for (index, argument) in sets.iter().enumerate() {
        if let Err(message) = tree::set(&mut root, index, argument) {
            let place = Some(TextPosition::Set(index));
            problems.push(document.place_problem(place, "", message));
        }
    }
    document.places = tree::places(&root);
    problems.extend(flink::take(&mut root, &document));
    problems.extend(resolve::paths(
        &mut root,
        &document,
        file.folder,
        current_dir,
    ));
    let mut sections = Sections {
        root,
        document: &document,
        problems,
    };
    sections.check_names();
    let job = sections.job(file.default_job_name);
    let checkpoint = sections.checkpoint();
    let state = sections.state();
    let limits = sections.section("limits");
    let restart = sections.restart();
    let sources = sections.nodes("source", |node| source(node, connectors));
    let operators = sections.nodes("operator", |node| read(&node));
    let sinks = sections.nodes("sink", |node| sink(node, connectors));
    Problems::none(sections.problems)?;
    let spec = Spec {
        folder: file.folder.to_path_buf(),
        name: job.name.unwrap_or_default(),
        parallelism: job.parallelism,
        max_parallelism: MaxParallelism::new(job.max_parallelism)
            .expect("the section `job` was checked"),
        checkpoint,
        state,
        limits,
        restart,
        sources,
        operators,
        sinks,
        document,
    };
    Problems::none(wiring::check(&spec))?;
    Ok(spec)
}

/// The section `[job]`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct JobSection {
    name: Option<String>,
    parallelism: u16,
    max_parallelism: u16,
}

impl Default for JobSection {
    fn default() -> Self {
        Self {
            name: None,
            parallelism: 1,
            max_parallelism: MaxParallelism::DEFAULT.get(),
        }
    }
}

/// The sections of the file while the [`Spec`] is built, with the problems so far.
struct Sections<'a> {
    root: TomlTable,
    document: &'a Document,
    problems: Vec<Problem>,
}

impl Sections<'_> {
    fn problem(&mut self, path: &[&str], message: impl Into<String>) {
        self.problems.push(self.document.problem(path, message));
    }

    /// Checks the names of sections and nodes.
    fn check_names(&mut self) {
        let mut kinds: BTreeMap<String, &str> = BTreeMap::new();
        let mut found = Vec::new();
        for section in self
            .root
            .keys()
            .filter(|key| !SECTIONS.contains(&key.as_str()))
        {
            let hint = suggestions::hint(section, SECTIONS);
            found.push((vec![section.clone()], format!("unknown section{hint}")));
        }
        for section in ["source", "operator", "sink"] {
            let Some(Value::Table(nodes)) = self.root.get(section).map(|node| &node.value) else {
                continue;
            };
            for name in nodes.keys() {
                let path = vec![section.to_owned(), name.clone()];
                if let Err(message) = check_name(name) {
                    found.push((path, message));
                } else if let Some(first) = kinds.insert(name.clone(), section) {
                    let message =
                        format!("[{first}.{name}] has that name already; choose another one");
                    found.push((path, message));
                }
            }
        }
        for (path, message) in found {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            self.problem(&path, message);
        }
        if kinds.len() > NODES_MAX {
            let message = format!(
                "{} nodes, but at most {NODES_MAX} are allowed; split it into two pipelines",
                kinds.len()
            );
            self.problem(&[], message);
        }
    }

    fn section<T: Default + for<'de> Deserialize<'de>>(&mut self, section: &str) -> T {
        let Some(node) = self.root.get(section) else {
            return T::default();
        };
        read(node).unwrap_or_else(|fault| {
            self.problems
                .push(fault.within(section).into_problem(self.document));
            T::default()
        })
    }

    fn job(&mut self, default_name: &str) -> JobSection {
        let mut job: JobSection = self.section("job");
        match &job.name {
            Some(name) => {
                if let Err(message) = check_name(name) {
                    self.problem(&["job", "name"], message);
                }
            }
            None if check_name(default_name).is_ok() => job.name = Some(default_name.to_owned()),
            None => {
                let message = format!(
                    "is missing, and `{default_name}`, taken from the path of the file, is not a valid name; add `name` under `[job]`"
                );
                self.problem(&["job", "name"], message);
            }
        }
        if MaxParallelism::new(job.max_parallelism).is_none() {
            let message = format!(
                "{} is not between 1 and {}",
                job.max_parallelism,
                MaxParallelism::LIMIT
            );
            self.problem(&["job", "max-parallelism"], message);
        } else if !(1..=job.max_parallelism).contains(&job.parallelism) {
            let message = format!(
                "{} is not between 1 and {}, the `max-parallelism` of this job",
                job.parallelism, job.max_parallelism
            );
            self.problem(&["job", "parallelism"], message);
        }
        job
    }

    fn checkpoint(&mut self) -> CheckpointSection {
        let settings: CheckpointSection = self.section("checkpoint");
        if settings
            .interval
            .is_some_and(|interval| interval < INTERVAL_MIN)
        {
            let message = format!(
                "is shorter than {}; write a longer one, or `off`",
                duration::format(INTERVAL_MIN)
            );
            self.problem(&["checkpoint", "interval"], message);
        }
        if !(1..=RETAINED_MAX).contains(&settings.retained) {
            let message = format!("{} is not between 1 and {RETAINED_MAX}", settings.retained);
            self.problem(&["checkpoint", "retained"], message);
        }
        settings
    }

    fn state(&mut self) -> StateSection {
        let settings: StateSection = self.section("state");
        if settings.memory.is_some_and(|bytes| bytes < MEMORY_MIN) {
            let message = format!(
                "is less than {}; write a larger one",
                size::format(MEMORY_MIN)
            );
            self.problem(&["state", "memory"], message);
        }
        settings
    }

    fn restart(&mut self) -> RestartSettings {
        let Some(node) = self.root.get("restart") else {
            return RestartSettings::default();
        };
        match restart::settings(node) {
            Ok(settings) => {
                for (field, message) in settings.check() {
                    self.problem(&["restart", field], message);
                }
                settings
            }
            Err(fault) => {
                let fault = fault.within("restart");
                self.problems.push(fault.into_problem(self.document));
                RestartSettings::default()
            }
        }
    }

    fn nodes<T>(
        &mut self,
        section: &str,
        read: impl Fn(TomlNode) -> Result<T, DeserializeFault>,
    ) -> BTreeMap<String, T> {
        let nodes = match self.root.remove(section).map(|node| node.value) {
            Some(Value::Table(nodes)) => nodes,
            Some(_) => {
                let message = format!("must contain tables; write `[{section}.NAME]`");
                self.problem(&[section], message);
                return BTreeMap::new();
            }
            None => return BTreeMap::new(),
        };
        let mut read_nodes = BTreeMap::new();
        for (name, node) in nodes {
            match read(node) {
                Ok(node) => {
                    read_nodes.insert(name, node);
                }
                Err(fault) => {
                    let fault = fault.within(&name).within(section);
                    self.problems.push(fault.into_problem(self.document));
                }
            }
        }
        read_nodes
    }
}

/// Letters, digits, `-` and `_`; no dot, which separates a port.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(reserved) = name.chars().find(|&c| !allowed(c)) {
        return Err(format!(
            "the name {name:?} has a {reserved:?}; only ASCII letters, digits, `-` and `_` are allowed"
        ));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(format!(
            "the name {name:?} does not begin with a letter or digit"
        ));
    }
    if name.len() > NAME_CHARS_MAX {
        return Err(format!(
            "the name has {} characters, but at most {NAME_CHARS_MAX} are allowed",
            name.len()
        ));
    }
    Ok(())
}

/// Removes a field from a node: the remaining fields are its connector's.
fn take(node: &mut TomlNode, field: &'static str) -> Result<TomlNode, DeserializeFault> {
    let place = node.place;
    let Value::Table(table) = &mut node.value else {
        return Err(DeserializeFault::custom("must be a table").at(place));
    };
    table
        .remove(field)
        .ok_or_else(|| DeserializeFault::missing_field(field).at(place))
}

/// Removes the name of the connector from a node; returns it with its place.
fn take_connector(node: &mut TomlNode) -> Result<(String, TextPosition), DeserializeFault> {
    let name = take(node, "connector")?;
    let text = read(&name).map_err(|fault| fault.within("connector"))?;
    Ok((text, name.place))
}

/// Removes the handling of bad records from a node, which is the same for all connectors.
fn take_on_error(node: &mut TomlNode) -> Result<OnErrorSetting, DeserializeFault> {
    let given = match &mut node.value {
        Value::Table(table) => table.remove("on-error"),
        _ => None,
    };
    match given {
        None => Ok(OnErrorSetting::default()),
        Some(word) => read(&word).map_err(|fault| fault.within("on-error")),
    }
}

fn source(mut node: TomlNode, connectors: &Connectors) -> Result<SourceSpec, DeserializeFault> {
    let (connector, place) = take_connector(&mut node)?;
    let on_error = take_on_error(&mut node)?;
    let settings = connectors.source(&connector, place, &node);
    Ok(SourceSpec {
        settings: settings.map_err(|fault| fault.knowing(&["connector", "on-error"]))?,
        on_error,
        connector,
    })
}

fn sink(mut node: TomlNode, connectors: &Connectors) -> Result<SinkSpec, DeserializeFault> {
    let (connector, place) = take_connector(&mut node)?;
    let from = take(&mut node, "from");
    let on_error = take_on_error(&mut node)?;
    // An unknown field may be a mistyped `from`: that problem says more.
    let settings = connectors.sink(&connector, place, &node);
    let settings = settings.map_err(|fault| fault.knowing(&["connector", "from", "on-error"]))?;
    let from: References = read(&from?).map_err(|fault| fault.within("from"))?;
    Ok(SinkSpec {
        from: from.0,
        on_error,
        connector,
        settings,
    })
}
