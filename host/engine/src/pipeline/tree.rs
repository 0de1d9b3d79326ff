//! The pipeline file as a tree in which every value knows where it was typed, with the `--set` arguments applied.
//!
//! A `toml::Value` does not have lines; and the value of a `--set` is text until the type of the field is known: `--set
//! job.name=7` names a job `7`.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Document, Problem, Problems, TextPosition};
use super::suggestions;

/// Largest number of syntax problems that are reported at once: later ones are often caused by earlier ones.
const SYNTAX_PROBLEMS_MAX: usize = 3;

/// A value and the place where it was typed.
#[derive(Debug, Clone)]
pub(super) struct TomlNode {
    pub(super) place: TextPosition,
    /// The characters after `--set …=`, for text fields.
    pub(super) typed: Option<String>,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Datetime,
    List(Vec<TomlNode>),
    Table(TomlTable),
}

pub(super) type TomlTable = BTreeMap<String, TomlNode>;

impl TomlNode {
    pub(super) fn new(place: TextPosition, value: Value) -> Self {
        Self {
            place,
            typed: None,
            value,
        }
    }

    /// The text for a text field.
    pub(super) fn text(&self) -> Option<&str> {
        match (&self.value, &self.typed) {
            (Value::Text(text), _) | (_, Some(text)) => Some(text),
            _ => None,
        }
    }
}

/// Parses the text of the document.
///
/// # Errors
/// When it is not TOML: the problems.
pub(super) fn from_text(document: &Document) -> Result<TomlTable, Problems> {
    let lines = LineStarts::new(&document.text);
    let (root, errors) = DeTable::parse_recoverable(&document.text);
    if !errors.is_empty() {
        let mut problems: Vec<Problem> = errors
            .iter()
            .map(|error| {
                let place = error.span().map(|span| lines.place(span.start));
                let message = format!("not TOML: {}", error.message().replace('\n', ", "));
                document.place_problem(place, "", message)
            })
            .collect();
        problems.dedup_by(|next, first| next.to_string() == first.to_string());
        problems.truncate(SYNTAX_PROBLEMS_MAX);
        Problems::none(problems)?;
    }
    table(root.get_ref(), &|offset| lines.place(offset)).map_err(|(place, message)| {
        Problems::from(document.place_problem(Some(place), "", message))
    })
}

/// The start of each line.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn new(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).collect())
    }

    fn place(&self, offset: usize) -> TextPosition {
        TextPosition::Line(self.0.partition_point(|&end| end < offset) + 1)
    }
}

type Unrepresentable = (TextPosition, String);

fn table(
    table: &DeTable<'_>,
    place: &impl Fn(usize) -> TextPosition,
) -> Result<TomlTable, Unrepresentable> {
    table
        .iter()
        .map(|(key, value)| {
            let node = TomlNode::new(place(key.span().start), convert(value, place)?);
            Ok((key.get_ref().to_string(), node))
        })
        .collect()
}

fn convert(
    spanned: &Spanned<DeValue<'_>>,
    place: &impl Fn(usize) -> TextPosition,
) -> Result<Value, Unrepresentable> {
    let unfit = |text: &str| {
        (
            place(spanned.span().start),
            format!("the number `{text}` is too large"),
        )
    };
    Ok(match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| unfit(number.as_str()))?,
        DeValue::Float(number) => number
            .as_str()
            .parse()
            .map(Value::Float)
            .map_err(|_| unfit(number.as_str()))?,
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| {
                    Ok(TomlNode::new(
                        place(item.span().start),
                        convert(item, place)?,
                    ))
                })
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(inner) => Value::Table(table(inner, place)?),
    })
}

/// Applies `--set PATH=VALUE`, the `index`-th one, to the tree.
///
/// # Errors
/// When the argument has no path, or the path leads through something that is not a table, or to a node that the file
/// does not have: `--set` changes nodes and adds none, so that a typo in a name is found. The tree is unchanged then.
pub(super) fn set(root: &mut TomlTable, index: usize, argument: &str) -> Result<(), String> {
    let form = "write `--set path.to.field=value`";
    let (path, text) = argument
        .split_once('=')
        .ok_or_else(|| format!("has no `=`; {form}"))?;
    let path = path_keys(path).ok_or_else(|| format!("`{path}` is not a path of names; {form}"))?;
    check_node(root, &path)?;
    let place = TextPosition::Set(index);
    let value = DeValue::parse(text)
        .ok()
        .and_then(|value| convert(&value, &|_| place).ok())
        .unwrap_or_else(|| Value::Text(text.to_owned()));
    let (last, tables) = path.split_last().ok_or_else(|| form.to_owned())?;
    let mut inner = root;
    for key in tables {
        let node = inner
            .entry(key.clone())
            .or_insert_with(|| TomlNode::new(place, Value::Table(TomlTable::new())));
        inner = match &mut node.value {
            Value::Table(table) => table,
            _ => {
                return Err(format!(
                    "`{key}` is not a table, so nothing in it can be set"
                ));
            }
        };
    }
    let node = TomlNode {
        place,
        typed: Some(text.to_owned()),
        value,
    };
    inner.insert(last.clone(), node);
    Ok(())
}

/// The keys of a TOML path such as `operator.count.config."a b"`.
fn path_keys(path: &str) -> Option<Vec<String>> {
    if path.contains(['\n', '=', '#', '[']) {
        return None;
    }
    let document = format!("{path} = 0");
    let root = DeTable::parse(&document).ok()?;
    let mut keys = Vec::new();
    let mut table = root.get_ref();
    loop {
        let (key, value) = table.iter().next()?;
        keys.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(keys),
        }
    }
}

fn check_node(root: &TomlTable, path: &[String]) -> Result<(), String> {
    let [section, name, ..] = path else {
        return Ok(());
    };
    if !["source", "operator", "sink"].contains(&section.as_str()) {
        return Ok(());
    }
    let known: Vec<&str> = match root.get(section).map(|node| &node.value) {
        Some(Value::Table(nodes)) => nodes.keys().map(String::as_str).collect(),
        _ => Vec::new(),
    };
    if known.contains(&name.as_str()) {
        return Ok(());
    }
    let hint = suggestions::hint(name, known);
    Err(format!("the pipeline has no {section} `{name}`{hint}"))
}

/// The place of every value, by path.
pub(super) fn places(root: &TomlTable) -> BTreeMap<Vec<String>, TextPosition> {
    fn walk(table: &TomlTable, path: &[String], places: &mut BTreeMap<Vec<String>, TextPosition>) {
        for (key, node) in table {
            let path = [path, std::slice::from_ref(key)].concat();
            if let Value::Table(inner) = &node.value {
                walk(inner, &path, places);
            }
            places.insert(path, node.place);
        }
    }
    let mut places = BTreeMap::new();
    walk(root, &[], &mut places);
    places
}
