//! How a typed state becomes bytes.
//!
//! The host never reads these bytes. It keeps them with the version that the state declares, and hands them only to a
//! plugin that declares the same, or that says how to take that version over. For people and tools each encoding also
//! says what a value is as JSON; no operator that runs pays for that.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result, short};

pub use crate::sub_key::{AsSubKey, FixedSubKey, SubKey};

/// A way to write values of type `T` as bytes and to read them back.
///
/// `decode` of what `encode` appended gives an equal value; equal values give equal bytes, or replay after a failure
/// would not be exact.
#[diagnostic::on_unimplemented(
    message = "a state cannot keep `{T}` with the encoding `{Self}`",
    label = "no such encoding for this type",
    note = "`Value<T>` needs `serde::Serialize` and `serde::Deserialize` on `T`: derive both",
    note = "to use a `{T}` for configuration or as a cache instead, make the field a `{T}` with `#[state(skip)]` on it",
    note = "`Value<Vec<u8>, Raw>` keeps bytes as they are"
)]
pub trait Encoding<T> {
    /// Appends `value` to `bytes`.
    ///
    /// # Errors
    /// The value cannot be written this way; what was appended until then is of no use.
    fn encode(value: &T, bytes: &mut Vec<u8>) -> Result;

    /// Reads a value that takes up all of `bytes`.
    ///
    /// # Errors
    /// These are not the bytes of such a value.
    fn decode(bytes: &[u8]) -> Result<T>;

    /// Appends the JSON text of an encoded value, for tools that show or save state.
    ///
    /// # Errors
    /// The bytes are not such a value, or the value cannot be JSON. An encoding that does not say how always fails.
    fn to_json(bytes: &[u8], json: &mut Vec<u8>) -> Result {
        let _ = (bytes, json);
        Err(Error::new("the encoding of this state has no JSON"))
    }

    /// Appends the encoded value of a JSON text, for tools that make state.
    ///
    /// # Errors
    /// The text is not such a value. An encoding that does not say how always fails.
    fn from_json(json: &[u8], bytes: &mut Vec<u8>) -> Result {
        let _ = (json, bytes);
        Err(Error::new("the encoding of this state has no JSON"))
    }
}

/// Compact bytes by postcard: the default.
#[derive(Debug)]
pub struct Postcard;

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Encoding<T> for Postcard {
    #[inline]
    fn encode(value: &T, bytes: &mut Vec<u8>) -> Result {
        // `postcard::serialize_with_flavor` is not inlined, and then neither is what a type writes.
        value.serialize(&mut postcard::Serializer {
            output: Append(bytes),
        })?;
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T> {
        let mut reader = postcard::Deserializer::from_bytes(bytes);
        let value = T::deserialize(&mut reader)?;
        let rest = reader.finalize()?;
        if !rest.is_empty() {
            let left = rest.len();
            return Err(Error::new(format!("{left} bytes are left over")));
        }
        Ok(value)
    }

    fn to_json(bytes: &[u8], json: &mut Vec<u8>) -> Result {
        let value = <Self as Encoding<T>>::decode(bytes)?;
        serde_json::to_writer(json, &value)?;
        Ok(())
    }

    fn from_json(json: &[u8], bytes: &mut Vec<u8>) -> Result {
        let value: T = serde_json::from_slice(json)?;
        <Self as Encoding<T>>::encode(&value, bytes)
    }
}

/// Bytes as they are, for states that are bytes already.
#[derive(Debug)]
pub struct Raw;

impl Encoding<Vec<u8>> for Raw {
    fn encode(value: &Vec<u8>, bytes: &mut Vec<u8>) -> Result {
        bytes.extend_from_slice(value);
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>> {
        Ok(bytes.to_vec())
    }

    fn to_json(bytes: &[u8], json: &mut Vec<u8>) -> Result {
        serde_json::to_writer(json, &bytes_to_json(bytes))?;
        Ok(())
    }

    fn from_json(json: &[u8], bytes: &mut Vec<u8>) -> Result {
        bytes.extend(bytes_from_json(&serde_json::from_slice(json)?)?);
        Ok(())
    }
}

const HEX: &str = "hex";

/// Text where the bytes are some, `{"hex": ".."}` where not.
pub(crate) fn bytes_to_json(bytes: &[u8]) -> serde_json::Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
            let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
            let hex: String = bytes.iter().flat_map(digits).collect();
            serde_json::Value::Object([(HEX.to_owned(), hex.into())].into_iter().collect())
        }
    }
}

pub(crate) fn bytes_from_json(json: &serde_json::Value) -> Result<Vec<u8>> {
    if let Some(text) = json.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let hex = json.get(HEX).and_then(serde_json::Value::as_str);
    let read = |hex: &str| {
        let pair = |pair: &[u8]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let number = digit(pair[0])? * 16 + digit(*pair.get(1)?)?;
            u8::try_from(number).ok()
        };
        hex.as_bytes().chunks(2).map(pair).collect()
    };
    hex.and_then(read)
        .ok_or_else(|| Error::new(format!("`{json}` is neither text nor {{\"hex\": \"..\"}}")))
}

/// JSON text: readable in a checkpoint, larger and slower than [`Postcard`].
#[derive(Debug)]
pub struct Json;

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Encoding<T> for Json {
    fn encode(value: &T, bytes: &mut Vec<u8>) -> Result {
        serde_json::to_writer(bytes, value)?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T> {
        Ok(serde_json::from_slice(bytes)?)
    }

    fn to_json(bytes: &[u8], json: &mut Vec<u8>) -> Result {
        let value = <Self as Encoding<T>>::decode(bytes)?;
        serde_json::to_writer(json, &value)?;
        Ok(())
    }

    fn from_json(json: &[u8], bytes: &mut Vec<u8>) -> Result {
        let value: T = serde_json::from_slice(json)?;
        <Self as Encoding<T>>::encode(&value, bytes)
    }
}

/// Lets postcard write behind what a vector already holds.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        short::append(self.0, bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! Catches an encoding that does not read what it wrote, or that reads half of what it is given.

    use super::*;

    fn check<E: Encoding<T>, T: PartialEq + std::fmt::Debug>(value: T) {
        let mut bytes = b"before".to_vec();
        E::encode(&value, &mut bytes).unwrap();
        let written = bytes.strip_prefix(b"before").unwrap();
        assert_eq!(E::decode(written).unwrap(), value);

        let (mut json, mut again) = (Vec::new(), Vec::new());
        E::to_json(written, &mut json).unwrap();
        E::from_json(&json, &mut again).unwrap();
        assert_eq!(again, written, "{}", String::from_utf8_lossy(&json));
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        for number in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            check::<Postcard, _>(number);
        }
        check::<Postcard, _>((vec!["a long text of some length".to_owned()], Some(-1_i8)));
        check::<Raw, _>(vec![0, 255]);
        check::<Raw, _>(b"text".to_vec());
        check::<Json, _>((1_u8, "text".to_owned()));
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        let error = <Postcard as Encoding<u64>>::decode(&[1, 2]).unwrap_err();
        assert_eq!(error.into_message(), "1 bytes are left over");
    }
}
