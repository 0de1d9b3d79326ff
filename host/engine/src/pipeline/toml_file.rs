//! Reads other TOML files like a pipeline file: problems are reported with the line and the nearest known word.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::problem::{Document, Problem, Problems, TextPosition};
use super::reader::read;
use super::tree::{self, TomlNode, TomlTable, Value};

/// A TOML file.
#[derive(Debug, Clone)]
pub struct TomlFile {
    document: Document,
    root: TomlTable,
}

impl TomlFile {
    /// Parses text; messages call the file `name`.
    ///
    /// # Errors
    /// When it is not TOML: the problems.
    pub fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        let mut document = Document {
            name: name.to_owned(),
            text: text.to_owned(),
            sets: Vec::new(),
            places: BTreeMap::new(),
        };
        let root = tree::from_text(&document)?;
        document.places = tree::places(&root);
        Ok(Self { document, root })
    }

    /// Its content as a value.
    ///
    /// # Errors
    /// With the first fault.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let root = TomlNode::new(TextPosition::Line(1), Value::Table(self.root.clone()));
        read(&root).map_err(|fault| fault.into_problem(&self.document))
    }

    /// Whether it has a field of that name.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.root.contains_key(field)
    }

    /// The lines, from 1, of the items of a list.
    #[must_use]
    pub fn lines_of(&self, list: &str) -> Vec<usize> {
        let line = |node: &TomlNode| match node.place {
            TextPosition::Line(line) => line,
            TextPosition::Set(_) => 0,
        };
        match self.root.get(list).map(|node| &node.value) {
            Some(Value::List(items)) => items.iter().map(line).collect(),
            _ => Vec::new(),
        }
    }

    /// A problem of a field at a line.
    #[must_use]
    pub fn problem(&self, line: usize, field: &str, message: impl Into<String>) -> Problem {
        let place = Some(TextPosition::Line(line));
        self.document.place_problem(place, field, message.into())
    }
}
