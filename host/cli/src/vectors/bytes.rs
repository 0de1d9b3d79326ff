//! Bytes and records in the notation of a file: text or `{ hex = ".." }`, and `[key, value]` or `[key, value, event
//! time]`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Timestamp;
use floodmark_state::stream::NO_TIMESTAMP;

/// An input or output record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) timestamp: Timestamp,
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RecordVisitor;

        impl<'de> Visitor<'de> for RecordVisitor {
            type Value = Record;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record: `[key, value]` or `[key, value, event time in ms]`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Record, A::Error> {
                let wanted = "a record is `[key, value]` or `[key, value, event time in ms]`";
                let missing = || A::Error::custom(format!("{wanted}, but this has fewer items"));
                let key: TypedBytes = items.next_element()?.ok_or_else(missing)?;
                let value: TypedBytes = items.next_element()?.ok_or_else(missing)?;
                let timestamp: Option<i64> = items.next_element()?;
                if items.next_element::<serde::de::IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom(format!(
                        "{wanted}, but this has more items"
                    )));
                }
                Ok(Record {
                    key: key.0,
                    value: value.0,
                    timestamp: timestamp.unwrap_or(NO_TIMESTAMP),
                })
            }
        }

        deserializer.deserialize_any(RecordVisitor)
    }
}

/// Text or hexadecimal digits.
pub(super) struct TypedBytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for TypedBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = TypedBytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, or bytes as `{ hex = \"ff00\" }`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<TypedBytes, E> {
                Ok(TypedBytes(text.as_bytes().to_vec()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<TypedBytes, A::Error> {
                let mut bytes = None;
                while let Some(field) = fields.next_key::<String>()? {
                    if field != "hex" {
                        return Err(A::Error::unknown_field(&field, &["hex"]));
                    }
                    let digits: String = fields.next_value()?;
                    bytes = Some(from_hex(&digits).map_err(A::Error::custom)?);
                }
                let none = || A::Error::custom("must be text, or bytes as `{ hex = \"ff00\" }`");
                bytes.map(TypedBytes).ok_or_else(none)
            }
        }

        deserializer.deserialize_any(BytesVisitor)
    }
}

fn from_hex(hex: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = hex.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| format!("`{hex}` is not an even number of hexadecimal digits"))
}
