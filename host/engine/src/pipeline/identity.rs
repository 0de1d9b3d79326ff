//! Builds the identity of a job, which decides whether a run may resume from another's checkpoint.
//!
//! It is a text, because it is stored in checkpoints and shown to people: one `field = "value"` per line, sorted by
//! field. It has the settings that change the meaning of saved positions, state or staged output, and nothing else:
//! checkpoint settings, parallelism, plugins and their configuration may change between two runs.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::{NodeId, NodeKind, PipelineGraph};
use floodmark_state::stream::DEAD_LETTERS;

pub(super) type IdentityFields = BTreeMap<String, String>;

impl PipelineGraph {
    /// The identity of this pipeline's job.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut fields = IdentityFields::new();
        fields.insert("job.name".to_owned(), self.spec.name.clone());
        let groups = self.spec.max_parallelism.get().to_string();
        fields.insert("job.max-parallelism".to_owned(), groups);
        for node in &self.nodes {
            let prefix = format!("{}.{}", section(node.kind), node.name);
            for (field, value) in self.node_facts(node.id) {
                fields.insert(format!("{prefix}.{field}"), value);
            }
        }
        let lines = fields
            .iter()
            .map(|(field, value)| format!("{field} = {value:?}\n"));
        lines.collect()
    }

    fn node_facts(&self, id: NodeId) -> Vec<(String, String)> {
        let node = self.node(id);
        let mut facts = match node.kind {
            NodeKind::Source => {
                let source = &self.spec.sources[&node.name];
                let mut facts = source.settings.identity(&self.spec.folder);
                facts.push(("connector".to_owned(), source.connector.clone()));
                facts
            }
            NodeKind::Sink => {
                let sink = &self.spec.sinks[&node.name];
                let mut facts = sink.settings.identity(&self.spec.folder);
                facts.push(("connector".to_owned(), sink.connector.clone()));
                facts
            }
            NodeKind::Operator { .. } => Vec::new(),
        };
        let mut by_input: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for edge in self.incoming(id) {
            let from = self.node(edge.from);
            let output = &from.outputs[usize::from(edge.output.0)];
            let from = match output.as_str() {
                "" => from.name.clone(),
                port => format!("{}.{port}", from.name),
            };
            let input = &node.inputs[usize::from(edge.input.0)];
            by_input.entry(input).or_default().push(from);
        }
        for (input, mut from) in by_input {
            from.sort();
            let field = if input.is_empty() {
                "from".to_owned()
            } else {
                format!("from.{input}")
            };
            facts.push((field, from.join(", ")));
        }
        facts
    }
}

fn section(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Source => "source",
        NodeKind::Operator { .. } => "operator",
        NodeKind::Sink => "sink",
    }
}

/// The value of a field such as `source.text.connector` in an identity.
#[must_use]
pub fn field(identity: &str, name: &str) -> Option<String> {
    fields(identity).remove(name)
}

/// The first difference between two identities, in words; `None` if there is none.
#[must_use]
pub fn difference(old: &str, new: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let (old, mut new) = (fields(old), fields(new));
    leave_out_new_letters(&old, &mut new);
    if old == new {
        return None;
    }
    // An added or removed node is a better message than its fields.
    let (old_nodes, new_nodes) = (nodes(&old), nodes(&new));
    if let Some((section, name)) = old_nodes.difference(&new_nodes).next() {
        return Some(format!("the {section} `{name}` was removed"));
    }
    if let Some((section, name)) = new_nodes.difference(&old_nodes).next() {
        return Some(format!("the {section} `{name}` is new"));
    }
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .find(|&field| old.get(field) != new.get(field))
        .map(|field| changed(field, old.get(field), new.get(field)))
        .or_else(|| Some("it is recorded in another form".to_owned()))
}

/// Removes sinks that were added only to read dead letters: nothing saved depends on them, and a user whose job fails
/// at a record must be able to set that record aside and resume.
fn leave_out_new_letters(old: &IdentityFields, new: &mut IdentityFields) {
    let known: BTreeSet<String> = nodes(old)
        .into_iter()
        .map(|(_, name)| name.to_owned())
        .collect();
    let is_letters = |(field, from): (&String, &String)| {
        let name = field.strip_prefix("sink.")?.strip_suffix(".from")?;
        let mut from = from.split(", ");
        let only = from.all(|node| node.ends_with(&format!(".{DEAD_LETTERS}")));
        (only && !known.contains(name)).then(|| format!("sink.{name}."))
    };
    let prefixes: Vec<String> = new.iter().filter_map(is_letters).collect();
    new.retain(|field, _| !prefixes.iter().any(|prefix| field.starts_with(prefix)));
}

pub(super) fn changed(field: &str, old: Option<&String>, new: Option<&String>) -> String {
    let parts: Vec<&str> = field.splitn(3, '.').collect();
    let reads_or_writes =
        matches!(parts[..], [_, _, rest] if rest == "path" || rest.starts_with("from"));
    let absent = match reads_or_writes {
        true => "nothing",
        false => "not set",
    };
    let show = |value: Option<&String>| value.map_or(absent.to_owned(), |text| format!("`{text}`"));
    let (old, new) = (show(old), show(new));
    match parts[..] {
        ["job", "name"] => format!("the job was called {old}, now it is called {new}"),
        ["source", name, "path"] => format!("source `{name}` read {old}, now reads {new}"),
        ["sink", name, "path"] => format!("sink `{name}` wrote to {old}, now writes to {new}"),
        ["operator" | "sink", name, rest] if rest == "from" || rest.starts_with("from.") => {
            let input = rest
                .strip_prefix("from.")
                .map(|port| format!(" by `{port}`"));
            let input = input.unwrap_or_default();
            format!(
                "{} `{name}` read from {old}{input}, now reads from {new}",
                parts[0]
            )
        }
        _ => format!("`{field}` was {old}, now is {new}"),
    }
}

/// The fields of an identity. A line that is not `field = "value"` is kept as it is, so that any change is a
/// difference.
pub(super) fn fields(identity: &str) -> IdentityFields {
    let fields = identity.lines().map(|line| {
        let (field, value) = line.split_once(" = ").unwrap_or((line, ""));
        let value = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .unwrap_or(value);
        (field.to_owned(), value.to_owned())
    });
    fields.collect()
}

pub(super) fn nodes(fields: &IdentityFields) -> BTreeSet<(&str, &str)> {
    fields
        .keys()
        .filter_map(|field| {
            let (section, rest) = field.split_once('.')?;
            let (name, _) = rest.split_once('.')?;
            Some((section, name))
        })
        .collect()
}
