//! How a typed state becomes bytes.
//!
//! The host never reads these bytes. It keeps them with the version that the state declares, and hands them only to a
//! plugin that declares the same.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A way to write values of type `T` as bytes and to read them back.
///
/// `decode` of what `encode` appended gives an equal value; equal values give equal bytes, or replay after a failure would
/// not be exact.
#[diagnostic::on_unimplemented(
    message = "a state cannot keep `{T}` with the encoding `{Self}`",
    label = "no such encoding for this type",
    note = "`Value<T>` needs `serde::Serialize` and `serde::Deserialize` on `T`: derive both",
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
}

/// Compact bytes by postcard: the default.
#[derive(Debug)]
pub struct Postcard;

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Encoding<T> for Postcard {
    #[inline]
    fn encode(value: &T, bytes: &mut Vec<u8>) -> Result {
        postcard::serialize_with_flavor(value, Append(bytes))?;
        Ok(())
    }

    #[inline]
    fn decode(bytes: &[u8]) -> Result<T> {
        let (value, rest) = postcard::take_from_bytes(bytes)?;
        if !rest.is_empty() {
            let left = rest.len();
            return Err(Error::new(format!("{left} bytes are left over")));
        }
        Ok(value)
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
}

/// JSON text: readable in a checkpoint, larger and slower than [`Postcard`].
#[cfg(feature = "json")]
#[derive(Debug)]
pub struct Json;

#[cfg(feature = "json")]
#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned> Encoding<T> for Json {
    fn encode(value: &T, bytes: &mut Vec<u8>) -> Result {
        serde_json::to_writer(bytes, value)?;
        Ok(())
    }

    fn decode(bytes: &[u8]) -> Result<T> {
        Ok(serde_json::from_slice(bytes)?)
    }
}

/// What the longest common integer takes.
const INTEGER_BYTES_MAX: usize = 10;

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
        // Integers arrive here byte by byte; wider loads would wait for those stores.
        if bytes.len() <= INTEGER_BYTES_MAX {
            for &byte in bytes {
                self.0.push(byte);
            }
        } else {
            self.0.extend_from_slice(bytes);
        }
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
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        for number in [0, 1, 127, 128, u64::from(u32::MAX), u64::MAX] {
            check::<Postcard, _>(number);
        }
        check::<Postcard, _>((vec!["a long text of some length".to_owned()], Some(-1_i8)));
        check::<Raw, _>(vec![0, 255]);
        check::<Json, _>((1_u8, "text".to_owned()));
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        let error = <Postcard as Encoding<u64>>::decode(&[1, 2]).unwrap_err();
        assert_eq!(error.into_message(), "1 bytes are left over");
    }
}
