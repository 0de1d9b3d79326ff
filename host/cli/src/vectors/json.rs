//! Values of states: the expected ones in a file, and the JSON of the plugin.
//!
//! TOML has no null, and no integers above 63 bits: `{ json = "null" }` is any JSON text.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::bytes::TypedBytes;

/// A value in the notation of a file.
pub(super) struct Json(pub(super) Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value as JSON, or its text as `{ json = \"null\" }`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json(Value::String(text.to_owned())))
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Json, E> {
        Ok(Json(Value::Bool(truth)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Json, E> {
        let number = Number::from_f64(number);
        let number = number.ok_or_else(|| E::custom("JSON has no such number"))?;
        Ok(Json(Value::Number(number)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut values = Vec::new();
        while let Some(Json(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(Json(Value::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut table = Map::new();
        while let Some(field) = fields.next_key::<String>()? {
            let Json(value) = fields.next_value()?;
            table.insert(field, value);
        }
        match table.get("json") {
            Some(Value::String(text)) if table.len() == 1 => {
                let value = serde_json::from_str(text);
                let wrong = |error| A::Error::custom(format!("`{text}` is not JSON: {error}"));
                value.map(Json).map_err(wrong)
            }
            _ => Ok(Json(Value::Object(table))),
        }
    }
}

/// The values of a state by key: a table, or a list of `[key, value]` if a key is not text.
#[derive(Default)]
pub(super) struct ByKey(pub(super) Vec<(Vec<u8>, Value)>);

impl<'de> Deserialize<'de> for ByKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByKeyVisitor;

        impl<'de> Visitor<'de> for ByKeyVisitor {
            type Value = ByKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of values by key, or a list of `[key, value]`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<ByKey, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = fields.next_key::<String>()? {
                    let Json(value) = fields.next_value()?;
                    keys.push((key.into_bytes(), value));
                }
                Ok(ByKey(keys))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ByKey, A::Error> {
                let mut keys: Vec<(Vec<u8>, Value)> = Vec::new();
                while let Some((TypedBytes(key), Json(value))) = items.next_element()? {
                    if keys.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom("a key appears twice"));
                    }
                    keys.push((key, value));
                }
                Ok(ByKey(keys))
            }
        }

        deserializer.deserialize_any(ByKeyVisitor)
    }
}

/// Whether two values are equal: `1` equals `1.0`.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let has_fraction = one.is_f64() || other.is_f64();
            one == other || (has_fraction && one.as_f64() == other.as_f64())
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let has_same = |(key, value): (&String, &Value)| {
                other.get(key).is_some_and(|found| same(value, found))
            };
            one.len() == other.len() && one.iter().all(has_same)
        }
        _ => one == other,
    }
}

/// A map of the plugin, in the notation of the file: a table by the text of sub-keys, or pairs in order.
pub(super) fn map_like(expected: Option<&Value>, entries: Vec<(Value, Value)>) -> Value {
    if let Some(Value::Array(_)) = expected {
        let pairs = entries.into_iter();
        return Value::Array(
            pairs
                .map(|(key, value)| [key, value].to_vec().into())
                .collect(),
        );
    }
    let text = |key: Value| match key {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let entries = entries.into_iter().map(|(key, value)| (text(key), value));
    Value::Object(entries.collect())
}

#[cfg(test)]
mod tests {
    //! Catches different values that count as equal, and equal ones that count as different.

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_the_same_by_value() {
        for (one, other, expected) in [
            (json!(1), json!(1.0), true),
            (json!(1), json!(2), false),
            (json!(u64::MAX), json!(u64::MAX - 1), false),
            (json!([1, 2]), json!([1]), false),
            (json!([1]), json!([1, 2]), false),
            (json!({"a": 1}), json!({"a": 1.0}), true),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), false),
            (json!(null), json!({}), false),
            (json!("1"), json!(1), false),
        ] {
            assert_eq!(same(&one, &other), expected, "{one} {other}");
        }
    }

    #[test]
    fn a_map_takes_the_form_of_what_is_expected() {
        let entries = || vec![(json!("a"), json!(1)), (json!([2, "b"]), json!(null))];
        let table = json!({"a": 1, "[2,\"b\"]": null});
        assert_eq!(map_like(None, entries()), table);
        assert_eq!(map_like(Some(&json!({})), entries()), table);
        let pairs = json!([["a", 1], [[2, "b"], null]]);
        assert_eq!(map_like(Some(&json!([])), entries()), pairs);
    }
}
