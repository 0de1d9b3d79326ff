//! References to nodes: `from = "node"`, `"node.port"`, a list of those, or a table with one of these for each input port.
//!
//! Only the form is read here; `wiring` and `plan` check that the node and port exist.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor, value};

/// The inputs of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// For the only input port.
    Only(Vec<Reference>),
    /// By input port.
    ByInput(BTreeMap<String, Vec<Reference>>),
}

impl From {
    /// All references, with the input port if it was typed.
    pub fn references(&self) -> Vec<(Option<&str>, &Reference)> {
        match self {
            Self::Only(references) => references.iter().map(|item| (None, item)).collect(),
            Self::ByInput(inputs) => inputs
                .iter()
                .flat_map(|(port, items)| items.iter().map(|item| (Some(port.as_str()), item)))
                .collect(),
        }
    }
}

/// `node`, or `node.port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The source or operator.
    pub node: String,
    /// Its output port, if it has several.
    pub port: Option<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            Some(port) => write!(f, "{}.{port}", self.node),
            None => f.write_str(&self.node),
        }
    }
}

/// A reference, or a list of them.
#[derive(Debug)]
pub(super) struct References(pub(super) Vec<Reference>);

fn reference<E: Error>(text: &str) -> Result<Reference, E> {
    let (node, port) = match text.split_once('.') {
        Some((node, port)) => (node, Some(port.to_owned())),
        None => (text, None),
    };
    if node.is_empty() || port.as_ref().is_some_and(String::is_empty) {
        let message = format!("{text:?} names no node; write `NODE`, or `NODE.PORT`");
        return Err(E::custom(message));
    }
    Ok(Reference {
        node: node.to_owned(),
        port,
    })
}

impl<'de> Deserialize<'de> for References {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReferencesVisitor;

        impl<'de> Visitor<'de> for ReferencesVisitor {
            type Value = References;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a node, or a list of names")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<References, E> {
                Ok(References(vec![reference(text)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<References, A::Error> {
                let mut references = Vec::new();
                while let Some(text) = items.next_element::<String>()? {
                    let next = reference(&text)?;
                    if references.contains(&next) {
                        return Err(A::Error::custom(format!("names `{next}` twice")));
                    }
                    references.push(next);
                }
                if references.is_empty() {
                    return Err(A::Error::custom("is empty; name a source or an operator"));
                }
                Ok(References(references))
            }
        }

        deserializer.deserialize_any(ReferencesVisitor)
    }
}

impl<'de> Deserialize<'de> for From {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FromVisitor;

        impl<'de> Visitor<'de> for FromVisitor {
            type Value = From;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a node, a list of names, or a table of input ports")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<From, E> {
                Ok(From::Only(vec![reference(text)?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<From, A::Error> {
                let items = value::SeqAccessDeserializer::new(items);
                References::deserialize(items).map(|references| From::Only(references.0))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<From, A::Error> {
                let mut inputs = BTreeMap::new();
                while let Some((port, references)) = map.next_entry::<String, References>()? {
                    inputs.insert(port, references.0);
                }
                if inputs.is_empty() {
                    return Err(A::Error::custom("is empty; name a source or an operator"));
                }
                Ok(From::ByInput(inputs))
            }
        }

        deserializer.deserialize_any(FromVisitor)
    }
}
