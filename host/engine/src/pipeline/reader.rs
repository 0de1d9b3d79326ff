//! Reads settings structs from the tree, with serde.
//!
//! This deserializer adds what the existing ones lack: the place of a fault, and text for text fields where a `--set`
//! looks like a number. It supports only what settings need: no enums with data, no bytes, no borrowed text.

use serde::Deserialize;
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::problem::DeserializeFault;
use super::tree::{TomlNode, TomlTable, Value};

/// Reads a node.
///
/// # Errors
/// With the first fault.
pub(super) fn read<'de, T: Deserialize<'de>>(node: &'de TomlNode) -> Result<T, DeserializeFault> {
    T::deserialize(node)
}

impl<'de> Deserializer<'de> for &'de TomlNode {
    type Error = DeserializeFault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeFault> {
        match &self.value {
            Value::Text(text) => visitor.visit_str(text),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Bool(truth) => visitor.visit_bool(*truth),
            Value::Datetime => Err(DeserializeFault::invalid_type(
                Unexpected::Other("a date"),
                &visitor,
            )),
            Value::List(items) => visitor.visit_seq(ListAccess(items.iter())),
            Value::Table(table) => visitor.visit_map(TableAccess::new(table)),
        }
        .map_err(|fault| fault.at(self.place))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeFault> {
        match self.text() {
            Some(text) => visitor
                .visit_str(text)
                .map_err(|fault: DeserializeFault| fault.at(self.place)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeFault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeFault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DeserializeFault> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DeserializeFault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DeserializeFault> {
        match self.text() {
            Some(text) => visitor
                .visit_enum(StrDeserializer::new(text))
                .map_err(|fault: DeserializeFault| fault.at(self.place)),
            None => self.deserialize_any(WordVisitor).and_then(|()| {
                Err(DeserializeFault::custom("must be a word in quotes").at(self.place))
            }),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 bytes byte_buf unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

/// Expects a word, so that serde reports what it got instead.
struct WordVisitor;

impl Visitor<'_> for WordVisitor {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a word in quotes")
    }
}

struct ListAccess<'de>(std::slice::Iter<'de, TomlNode>);

impl<'de> SeqAccess<'de> for ListAccess<'de> {
    type Error = DeserializeFault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DeserializeFault> {
        self.0.next().map(|node| seed.deserialize(node)).transpose()
    }
}

struct TableAccess<'de> {
    rest: std::collections::btree_map::Iter<'de, String, TomlNode>,
    current: Option<(&'de String, &'de TomlNode)>,
}

impl<'de> TableAccess<'de> {
    fn new(table: &'de TomlTable) -> Self {
        Self {
            rest: table.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for TableAccess<'de> {
    type Error = DeserializeFault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DeserializeFault> {
        self.current = self.rest.next();
        let Some((key, node)) = self.current else {
            return Ok(None);
        };
        seed.deserialize(BorrowedStrDeserializer::new(key))
            .map(Some)
            .map_err(|fault: DeserializeFault| fault.within(key).at(node.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DeserializeFault> {
        let (key, node) = self.current.expect("serde asks for a key before its value");
        seed.deserialize(node).map_err(|fault| fault.within(key))
    }
}
