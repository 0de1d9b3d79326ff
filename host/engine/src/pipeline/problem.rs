//! Problems of a pipeline, and where they were typed.
//!
//! A fault is found deep in the tree and gets its path on the way up; a problem is a fault with its line, ready to be
//! printed. All problems of one step are reported together.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::suggestions;

/// The place where something was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TextPosition {
    /// Line of the pipeline file, from 1.
    Line(usize),
    /// Index of a `--set`.
    Set(usize),
}

/// A pipeline file with the place of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// The name of the file in messages.
    pub(super) name: String,
    pub(super) text: String,
    pub(super) sets: Vec<String>,
    /// The place of each field, by path.
    pub(super) places: BTreeMap<Vec<String>, TextPosition>,
}

impl Document {
    /// A problem of the field at `path`; if it is missing, of the nearest table around it.
    pub(super) fn problem(&self, path: &[&str], message: impl Into<String>) -> Problem {
        let path: Vec<String> = path.iter().map(|&key| key.to_owned()).collect();
        let place = (1..=path.len())
            .rev()
            .find_map(|len| self.places.get(&path[..len]).copied());
        self.place_problem(place, &path.join("."), message.into())
    }

    pub(super) fn place_problem(
        &self,
        place: Option<TextPosition>,
        field: &str,
        message: String,
    ) -> Problem {
        let (at, quoted) = match place {
            Some(TextPosition::Line(line)) => (
                format!("{}:{line}", self.name),
                self.text
                    .lines()
                    .nth(line - 1)
                    .map(|text| quote(line, text)),
            ),
            Some(TextPosition::Set(index)) => (format!("--set {}", self.sets[index]), None),
            None => (self.name.clone(), None),
        };
        Problem {
            place,
            at,
            field: field.to_owned(),
            message,
            quoted,
        }
    }
}

/// Characters of a quoted line that are shown.
const QUOTED_CHARS_MAX: usize = 100;

fn quote(line: usize, text: &str) -> String {
    let shown: String = text
        .trim_end()
        .chars()
        .take(QUOTED_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    format!("{line:>5} | {shown}")
}

/// A problem, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    place: Option<TextPosition>,
    at: String,
    field: String,
    message: String,
    quoted: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        // A `--set` already names its field.
        let named = self.at.strip_prefix("--set ").is_some_and(|argument| {
            argument
                .split_once('=')
                .is_some_and(|(path, _)| path.trim() == self.field)
        });
        if !self.field.is_empty() && !named {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)?;
        match &self.quoted {
            Some(quoted) => write!(f, "\n{quoted}"),
            None => Ok(()),
        }
    }
}

/// All problems of a pipeline that one step found. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Returns `Ok` without problems.
    ///
    /// # Errors
    /// With the problems, if there are any, in the order of the file.
    pub(super) fn none(mut problems: Vec<Problem>) -> Result<(), Self> {
        problems.sort_by_key(|problem| problem.place);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self(problems))
        }
    }

    /// The problems, one at a time.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A problem that serde found, before its place in the file is known.
#[derive(Debug)]
pub(super) struct DeserializeFault {
    /// The path, from the inside out.
    path: Vec<String>,
    place: Option<TextPosition>,
    complaint: Complaint,
}

#[derive(Debug)]
enum Complaint {
    Said(String),
    UnknownField {
        field: String,
        known: Vec<&'static str>,
    },
}

impl DeserializeFault {
    /// Adds `key` in front of the path.
    pub(super) fn within(mut self, key: &str) -> Self {
        self.path.push(key.to_owned());
        self
    }

    /// Sets the place, unless a more exact one is known.
    pub(super) fn at(mut self, place: TextPosition) -> Self {
        self.place.get_or_insert(place);
        self
    }

    /// Adds known fields.
    pub(super) fn knowing(mut self, fields: &[&'static str]) -> Self {
        // Only the table that was read has them, not one inside of it.
        if let (Complaint::UnknownField { known, .. }, 1) = (&mut self.complaint, self.path.len()) {
            known.extend(fields);
        }
        self
    }

    pub(super) fn into_problem(self, document: &Document) -> Problem {
        let mut path = self.path;
        path.reverse();
        let message = match self.complaint {
            Complaint::Said(message) => message,
            Complaint::UnknownField { field, known } => {
                format!("unknown field{}", suggestions::hint(&field, known))
            }
        };
        document.place_problem(self.place, &path.join("."), message)
    }
}

impl fmt::Display for DeserializeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.complaint)
    }
}

impl std::error::Error for DeserializeFault {}

/// The value that serde expects, in words for people.
fn expected(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "a nonzero u16" => "a whole number from 1 to 65535".to_owned(),
        "a nonzero u32" => "a whole number from 1 to 4294967295".to_owned(),
        "a nonzero u64" | "a nonzero usize" => "a whole number, 1 or more".to_owned(),
        "i64" => "a whole number".to_owned(),
        "f64" => "a number".to_owned(),
        "a string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        other if other.starts_with("struct ") || other == "a map" => "a table".to_owned(),
        other => other.to_owned(),
    }
}

fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) => format!("the text {text:?}"),
        Unexpected::Bool(truth) => format!("`{truth}`"),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a table".to_owned(),
        other => other.to_string(),
    }
}

impl Error for DeserializeFault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: Vec::new(),
            place: None,
            complaint: Complaint::Said(message.to_string()),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::custom(format!(
            "must be {}, not {}",
            expected(wanted),
            found(unexpected)
        ))
    }

    fn invalid_value(unexpected: Unexpected<'_>, wanted: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, wanted)
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let hint = suggestions::hint(variant, known.iter().copied());
        Self::custom(format!("unknown value `{variant}`{hint}"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self {
            path: Vec::new(),
            place: None,
            complaint: Complaint::UnknownField {
                field: field.to_owned(),
                known: known.to_vec(),
            },
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::custom("is missing").within(field)
    }
}
