//! Finds fields of a JSON text by their paths, and makes keys of them.
//!
//! A path is names with dots between them, such as `user.id`. A name that has a dot itself stands in double quotes. In
//! an array, a name that is a number counts elements from 0. The text is checked as a whole, and nothing is copied but
//! texts with escapes. A field that is `null` is treated like one that is missing. The file source makes keys and event
//! times of fields, the file sink names of folders.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::connector::bad_record::json_reason;

/// The path of a field: in `csv`, the name of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath {
    text: String,
    names: Vec<String>,
}

impl FieldPath {
    /// Reads a path as it stands in a pipeline file.
    ///
    /// # Errors
    /// The reason, for the user.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let (name, after) = if rest.starts_with('"') {
                quoted(rest)?
            } else {
                let end = rest.find('.').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            };
            names.push(name);
            if after.is_empty() {
                break;
            }
            rest = after
                .strip_prefix('.')
                .ok_or("something follows a quoted name; write a dot between two names")?;
        }
        Ok(Self {
            text: text.to_owned(),
            names,
        })
    }

    /// A column, whose name may have dots.
    pub(super) fn column(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            names: vec![name.to_owned()],
        }
    }

    /// The path as it was typed.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The text or number of the field.
    ///
    /// # Errors
    /// When the text is not JSON, or has no such text or number: the reason, for the user.
    pub(super) fn value<'a>(&self, json: &'a str) -> Result<Cow<'a, str>, String> {
        let path = &self.text;
        let found = self
            .find(json)
            .map_err(|error| not_json(&json_reason(&error)))?;
        let Some(value) = found else {
            return Err(format!(
                "there is no field `{path}`; correct the line, or name another field (for `key`, start over with `--fresh`)"
            ));
        };
        match value.as_bytes().first() {
            Some(b'"') => serde_json::from_str::<Name>(value)
                .map(|text| text.0)
                .map_err(|error| format!("field `{path}` cannot be read: {}", json_reason(&error))),
            Some(b'{' | b'[') => Err(format!(
                "field `{path}` is an object or an array; name a text, a number, or a field inside"
            )),
            Some(b'n') => Err(format!(
                "field `{path}` is null, which counts as missing; correct the line, or name another field (for `key`, start over with `--fresh`)"
            )),
            _ => Ok(Cow::Borrowed(value)),
        }
    }

    /// The JSON text of the field. If a name appears several times, the last one counts. Checks the whole text.
    fn find<'a>(&self, json: &'a str) -> Result<Option<&'a str>, serde_json::Error> {
        let mut inner: &'a RawValue = serde_json::from_str(json)?;
        for name in &self.names {
            let text = inner.get();
            let mut reader = serde_json::Deserializer::from_str(text);
            let found = match text.as_bytes().first() {
                Some(b'{') => reader.deserialize_map(Member { name })?,
                Some(b'[') => match name.parse::<usize>() {
                    Ok(index) => reader.deserialize_seq(ArrayElement { index })?,
                    Err(_) => None,
                },
                _ => None,
            };
            match found {
                Some(found) => inner = found,
                None => return Ok(None),
            }
        }
        Ok(Some(inner.get()))
    }
}

/// The key of a JSON text: the value of the only field, or the values of several as a JSON array of texts.
///
/// # Errors
/// As those of [`FieldPath::value`].
pub(super) fn key<'a>(fields: &[FieldPath], json: &'a str) -> Result<Cow<'a, str>, String> {
    match fields {
        [] => Ok(Cow::Borrowed("")),
        [field] => field.value(json),
        fields => {
            let values: Vec<Cow<'_, str>> = fields
                .iter()
                .map(|field| field.value(json))
                .collect::<Result<_, String>>()?;
            let text = serde_json::to_string(&values).expect("texts always encode");
            Ok(Cow::Owned(text))
        }
    }
}

/// Says that a line is not JSON.
pub(super) fn not_json(error: &dyn fmt::Display) -> String {
    format!(
        "the line is not valid JSON ({error}); correct it, or set `format = \"lines\"` and start over with `--fresh`"
    )
}

/// A name in quotes at the start of a path, and what follows it.
fn quoted(path: &str) -> Result<(String, &str), &'static str> {
    let mut texts = serde_json::Deserializer::from_str(path).into_iter::<String>();
    match texts.next() {
        Some(Ok(name)) => Ok((name, &path[texts.byte_offset()..])),
        _ => Err("a quoted name is not a JSON text; write it such as `\"a.b\".c`"),
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Picks one member of an object.
struct Member<'a> {
    name: &'a str,
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Name>()? {
            if name.0 == self.name {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Picks one element of an array.
struct ArrayElement {
    index: usize,
}

impl<'de> Visitor<'de> for ArrayElement {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        for _ in 0..self.index {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = items.next_element::<&'de RawValue>()?;
        if found.is_some() {
            while items.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    //! Catches a path that finds another field than its user meant, and two records that differ and have one key.

    use super::*;

    #[track_caller]
    fn check(path: &str, json: &str, expected: Result<&str, &str>) {
        let found = FieldPath::parse(path).unwrap();
        assert_eq!(found.text(), path);
        match (found.value(json), expected) {
            (Ok(value), expected) => assert_eq!(Ok(&*value), expected, "{path} of {json}"),
            (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
            (Err(reason), Ok(_)) => panic!("{path} of {json}: {reason}"),
        }
    }

    #[test]
    fn paths_lead_to_fields() {
        let json =
            r#"{"a":{"b":1,"0":2},"a.b":{"c":3},"l":[{"x":4},[5,"6"]],"":{"":7},"\"":8,"n":null}"#;
        for (path, expected) in [
            ("a.b", Ok("1")),
            ("a.0", Ok("2")),
            ("\"a.b\".c", Ok("3")),
            ("\"a.b\".\"c\"", Ok("3")),
            ("l.0.x", Ok("4")),
            ("l.1.1", Ok("6")),
            (".", Ok("7")),
            ("\"\\\"\"", Ok("8")),
            ("l.2", Err("there is no field `l.2`")),
            ("l.1.2", Err("there is no field `l.1.2`")),
            ("l.x", Err("there is no field `l.x`")),
            ("l.-1", Err("there is no field `l.-1`")),
            ("l", Err("is an object or an array")),
            ("a.b.c", Err("there is no field `a.b.c`")),
            ("n", Err("field `n` is null, which counts as missing")),
            ("n.x", Err("there is no field `n.x`")),
        ] {
            check(path, json, expected);
        }
        check("a", r#"{"a":"null"}"#, Ok("null"));
        check("a", r#"{"a":true,"a":false}"#, Ok("false"));
        check("0", "[1, ]", Err("not valid JSON"));
        check("0", "[1] x", Err("not valid JSON"));
    }

    #[test]
    fn paths_that_cannot_be_read_are_refused() {
        for (path, expected) in [
            ("\"a", "not a JSON text"),
            ("a.\"b", "not a JSON text"),
            ("\"a\"b", "write a dot"),
        ] {
            let reason = FieldPath::parse(path).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
        assert!(FieldPath::parse("a\"b").is_ok());
    }

    #[test]
    fn a_key_of_several_fields_says_where_each_ends() {
        let fields = ["a", "b"].map(|path| FieldPath::parse(path).unwrap());
        let check = |json: &str, expected: &str| {
            assert_eq!(key(&fields, json).unwrap(), expected);
        };
        check(r#"{"a":"x","b":1.50}"#, r#"["x","1.50"]"#);
        check(r#"{"a":"x\",\"y","b":""}"#, r#"["x\",\"y",""]"#);
        check(r#"{"b":true,"a":"\u00e9"}"#, r#"["é","true"]"#);
        assert!(key(&fields, r#"{"a":1,"b":null}"#).is_err());
        assert_eq!(key(&[], "1").unwrap(), "");
        assert_eq!(key(&fields[..1], r#"{"a":1}"#).unwrap(), "1");
    }
}
