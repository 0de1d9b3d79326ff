//! Checks the graph without plugins: references exist, there is no cycle, and every node is read.
//!
//! Ports are not checked here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::from::Reference;
use super::problem::Problem;
use super::settings::OnErrorSetting;
use super::spec::Spec;
use super::suggestions;
use floodmark_state::stream::DEAD_LETTERS;

/// All problems of the wiring.
pub(super) fn check(spec: &Spec) -> Vec<Problem> {
    let mut problems = Vec::new();
    if spec.sources.is_empty() {
        problems.push(spec.problem(&[], "has no source; add a `[source.NAME]`"));
    }
    if spec.sinks.is_empty() {
        problems.push(spec.problem(&[], "has no sink; add a `[sink.NAME]`"));
    }
    sharing_input(spec, &mut problems);
    feeding_itself(spec, &mut problems);
    sharing_output(spec, &mut problems);
    dangling(spec, &mut problems);
    // After a reference to a missing node, the intended node looks unread.
    if problems.is_empty() {
        unread(spec, &mut problems);
        lost_letters(spec, &mut problems);
    }
    if problems.is_empty()
        && let Err(problem) = order(spec)
    {
        problems.push(problem);
    }
    problems
}

/// Two sources of standard input: which of them gets a line would be chance.
fn sharing_input(spec: &Spec, problems: &mut Vec<Problem>) {
    let sources = spec.sources.iter();
    let mut readers = sources.filter(|(_, source)| source.settings.reads_standard_input());
    let Some((first, _)) = readers.next() else {
        return;
    };
    for (name, _) in readers {
        let message = format!(
            "reads standard input, as source `{first}` does; let several nodes read from that source instead"
        );
        problems.push(spec.problem(&["source", name, "connector"], message));
    }
}

/// A sink that writes files where a source reads files: each run would read the output of the one before.
fn feeding_itself(spec: &Spec, problems: &mut Vec<Problem>) {
    for (name, sink) in &spec.sinks {
        let Some(written) = sink.settings.writes() else {
            continue;
        };
        for (source_name, source) in &spec.sources {
            let Some(read) = source.settings.reads() else {
                continue;
            };
            let part = written.join("part-00000001-000").with_extension("csv");
            let pattern = read.to_str().and_then(|text| glob::Pattern::new(text).ok());
            let reads = read == written
                || written.starts_with(read)
                || pattern.is_some_and(|pattern| pattern.matches_path_with(&part, PATTERN));
            if reads {
                let message = format!(
                    "is where source `{source_name}` reads, so the job would read its own output; write elsewhere"
                );
                problems.push(spec.problem(&["sink", name, "path"], message));
            }
        }
    }
}

/// Two sinks of which one writes to the folder of the other, or below it: with `folders` they could write the same files.
fn sharing_output(spec: &Spec, problems: &mut Vec<Problem>) {
    let sinks = spec.sinks.iter();
    let folders = sinks.filter_map(|(name, sink)| Some((name.as_str(), sink.settings.writes()?)));
    let folders: Vec<(&str, &Path)> = folders.collect();
    for (at, (name, folder)) in folders.iter().enumerate() {
        let outer = folders.iter().enumerate().find(|(index, (_, outer))| {
            let is_same = folder == outer;
            folder.starts_with(outer) && (!is_same || *index < at)
        });
        if let Some((_, (other, outer))) = outer {
            let place = if folder == outer { "is" } else { "is in" };
            let message = format!(
                "{place} the folder of sink `{other}`, so one could write the files of the other; give each sink a folder of its own, outside of all others"
            );
            problems.push(spec.problem(&["sink", name, "path"], message));
        }
    }
}

/// The rules for patterns of file sources: `*` does not match across folders.
const PATTERN: glob::MatchOptions = glob::MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// By reader: its section, and each reference with the input port if it was typed.
type Readers<'a> = BTreeMap<&'a str, (&'static str, Vec<(Option<&'a str>, &'a Reference)>)>;

fn readers(spec: &Spec) -> Readers<'_> {
    let operators = spec
        .operators
        .iter()
        .map(|(name, operator)| (name.as_str(), ("operator", operator.from.references())));
    let sinks = spec.sinks.iter().map(|(name, sink)| {
        let from = sink.from.iter().map(|reference| (None, reference));
        (name.as_str(), ("sink", from.collect()))
    });
    operators.chain(sinks).collect()
}

fn dangling(spec: &Spec, problems: &mut Vec<Problem>) {
    for (name, (section, references)) in readers(spec) {
        for (port, reference) in references {
            let node = reference.node.as_str();
            let is_sink = spec.sinks.contains_key(node);
            if spec.sources.contains_key(node)
                || spec.operators.contains_key(node)
                || (is_sink && is_of_letters(reference))
            {
                continue;
            }
            let message = if is_sink {
                format!(
                    "`{node}` is a sink, and a sink has no output but `{node}.{DEAD_LETTERS}`; name a source or an operator"
                )
            } else {
                let known = spec.sources.keys().chain(spec.operators.keys());
                let known: Vec<&str> = known
                    .map(String::as_str)
                    .filter(|&other| other != name)
                    .collect();
                format!(
                    "there is no node `{node}`{}",
                    suggestions::hint(node, known)
                )
            };
            let mut path = vec![section, name, "from"];
            path.extend(port);
            problems.push(spec.problem(&path, message));
        }
    }
}

fn is_of_letters(reference: &Reference) -> bool {
    reference.port.as_deref() == Some(DEAD_LETTERS)
}

fn unread(spec: &Spec, problems: &mut Vec<Problem>) {
    let readers = readers(spec);
    // The ports of an operator are checked once its plugin is known.
    let is_read = |reference: &Reference| {
        !is_of_letters(reference) || spec.operators.contains_key(&reference.node)
    };
    let read: BTreeSet<&str> = readers
        .values()
        .flat_map(|(_, references)| references.iter().map(|(_, reference)| *reference))
        .filter(|&reference| is_read(reference))
        .map(|reference| reference.node.as_str())
        .collect();
    let sources = spec.sources.keys().map(|name| ("source", name));
    let operators = spec.operators.keys().map(|name| ("operator", name));
    for (section, name) in sources.chain(operators) {
        if !read.contains(name.as_str()) {
            let message = format!(
                "nothing reads this {section}, so its records would vanish; name it in a `from`, or remove it"
            );
            problems.push(spec.problem(&[section, name], message));
        }
    }
}

/// Problems about dead letters that no node reads.
fn lost_letters(spec: &Spec, problems: &mut Vec<Problem>) {
    let of_operators = spec.operators.values();
    let of_operators = of_operators.flat_map(|operator| operator.from.references());
    let of_operators = of_operators.map(|(_, reference)| reference);
    let references: Vec<_> = of_operators
        .chain(spec.sinks.values().flat_map(|sink| &sink.from))
        .collect();
    let sources = spec.sources.keys().map(|name| ("source", name));
    let operators = spec.operators.keys().map(|name| ("operator", name));
    let sinks = spec.sinks.keys().map(|name| ("sink", name));
    for (section, name) in sources.chain(operators).chain(sinks) {
        let mut references = references.iter();
        let is_read =
            references.any(|reference| reference.node == *name && is_of_letters(reference));
        if spec.on_error_of(name) != Some(OnErrorSetting::DeadLetter) || is_read {
            continue;
        }
        let message = format!(
            "nothing reads `{name}.{DEAD_LETTERS}`, so its dead letters would vanish; add\n\n[sink.{name}-letters]\nconnector = \"file\"\nfrom = \"{name}.{DEAD_LETTERS}\"\npath = \"{DEAD_LETTERS}/{name}\"\nformat = \"jsonl\"\n"
        );
        problems.push(spec.problem(&[section, name, "on-error"], message));
    }
}

/// All nodes, each after those that it reads from; otherwise by name.
///
/// # Errors
/// When there is a cycle.
pub(super) fn order(spec: &Spec) -> Result<Vec<&str>, Problem> {
    let readers = readers(spec);
    let mut waiting: BTreeMap<&str, BTreeSet<&str>> = readers
        .iter()
        .map(|(name, (_, from))| {
            let from = from.iter().map(|(_, reference)| reference.node.as_str());
            (*name, from.collect())
        })
        .collect();
    let mut order: Vec<&str> = Vec::new();
    let mut ready: BTreeSet<&str> = spec.sources.keys().map(String::as_str).collect();
    while let Some(next) = ready.pop_first() {
        order.push(next);
        for (name, from) in &mut waiting {
            if from.remove(next) && from.is_empty() {
                ready.insert(name);
            }
        }
    }
    waiting.retain(|_, from| !from.is_empty());
    match cycle(&waiting) {
        None => Ok(order),
        Some(cycle) => {
            let first = cycle[0];
            let shown =
                suggestions::list(cycle.iter().copied().chain([first])).replace(", ", " -> ");
            let message = format!("forms a cycle: {shown}; a pipeline must not have cycles");
            let section = match spec.sinks.contains_key(first) {
                true => "sink",
                false => "operator",
            };
            Err(spec.problem(&[section, first, "from"], message))
        }
    }
}

/// The nodes of a cycle in the direction of the records, if any node waits.
fn cycle<'a>(waiting: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    let mut path: Vec<&str> = vec![waiting.keys().next()?];
    loop {
        let last = path.last()?;
        // Each waiting node waits for another waiting one, so following them always leads into a cycle.
        let next = waiting[last]
            .iter()
            .find(|node| waiting.contains_key(*node))?;
        if let Some(start) = path.iter().position(|node| node == next) {
            let mut cycle = path.split_off(start);
            cycle.reverse();
            let smallest = cycle.iter().enumerate().min_by_key(|(_, name)| **name)?.0;
            cycle.rotate_left(smallest);
            return Some(cycle);
        }
        path.push(next);
    }
}
