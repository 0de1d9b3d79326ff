//! Sub-keys of a map as bytes whose order is that of the values.
//!
//! The host orders entries by these bytes and knows nothing else of them. Integers are big-endian with the sign bit
//! inverted over, text and bytes are as they are; in a tuple all but the last have a fixed length, so none needs an
//! end.

use serde_json::Value as Json;

use crate::{Error, Result};

/// What can be looked up in a [`Map`](crate::Map): a sub-key, or what one lends, such as `str` for `String`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the sub-key of a map",
    label = "its order as bytes is not known",
    note = "sub-keys are integers, `bool`, text, bytes, and tuples of which all but the last are integers or `bool`"
)]
pub trait AsSubKey {
    /// Appends its bytes.
    fn append_to(&self, bytes: &mut Vec<u8>);
}

/// A type that can be the sub-key of a [`Map`](crate::Map): its bytes sort like its values, and equal values have equal
/// bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the sub-key of a map",
    label = "its order as bytes is not known",
    note = "sub-keys are integers, `bool`, text, bytes, and tuples of which all but the last are integers or `bool`"
)]
pub trait SubKey: AsSubKey + Sized {
    /// Reads what [`AsSubKey::append_to`] wrote.
    ///
    /// # Errors
    /// These are not the bytes of such a sub-key.
    fn from_bytes(bytes: &[u8]) -> Result<Self>;

    /// For tools.
    #[doc(hidden)]
    fn to_json(&self) -> Json;

    /// For tools.
    #[doc(hidden)]
    fn from_json(json: &Json) -> Result<Self>;
}

/// A sub-key that always has the same length.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can only come last in a sub-key",
    label = "it has no fixed length",
    note = "in a tuple, all but the last are integers or `bool`"
)]
pub trait FixedSubKey: SubKey {
    /// Its length.
    const BYTES: usize;
}

macro_rules! integers {
    ($($integer:ty as $unsigned:ty, $flip:expr;)+) => { $(
        impl AsSubKey for $integer {
            #[inline]
            fn append_to(&self, bytes: &mut Vec<u8>) {
                let ordered = (*self as $unsigned) ^ $flip;
                bytes.extend_from_slice(&ordered.to_be_bytes());
            }
        }

        impl SubKey for $integer {
            #[inline]
            fn from_bytes(bytes: &[u8]) -> Result<Self> {
                let bytes = bytes.try_into().map_err(|_| wrong_length(bytes, Self::BYTES))?;
                Ok((<$unsigned>::from_be_bytes(bytes) ^ $flip) as $integer)
            }

            fn to_json(&self) -> Json {
                Json::from(*self)
            }

            fn from_json(json: &Json) -> Result<Self> {
                Ok(serde::Deserialize::deserialize(json)?)
            }
        }

        impl FixedSubKey for $integer {
            const BYTES: usize = size_of::<$integer>();
        }
    )+ };
}

integers! {
    u8 as u8, 0;
    u16 as u16, 0;
    u32 as u32, 0;
    u64 as u64, 0;
    i8 as u8, 1 << 7;
    i16 as u16, 1 << 15;
    i32 as u32, 1 << 31;
    i64 as u64, 1 << 63;
}

impl AsSubKey for bool {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(*self));
    }
}

impl SubKey for bool {
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Error::new("a sub-key is neither true nor false")),
        }
    }

    fn to_json(&self) -> Json {
        Json::Bool(*self)
    }

    fn from_json(json: &Json) -> Result<Self> {
        json.as_bool()
            .ok_or_else(|| Error::new(format!("`{json}` is neither true nor false")))
    }
}

impl FixedSubKey for bool {
    const BYTES: usize = 1;
}

impl AsSubKey for str {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }
}

impl AsSubKey for String {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self.as_bytes());
    }
}

impl SubKey for String {
    #[inline]
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(Self::from_utf8(bytes.to_vec())?)
    }

    fn to_json(&self) -> Json {
        Json::String(self.clone())
    }

    fn from_json(json: &Json) -> Result<Self> {
        let text = json.as_str();
        let text = text.ok_or_else(|| Error::new(format!("`{json}` is not text")))?;
        Ok(text.to_owned())
    }
}

impl AsSubKey for [u8] {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl AsSubKey for Vec<u8> {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl SubKey for Vec<u8> {
    #[inline]
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Ok(bytes.to_vec())
    }

    fn to_json(&self) -> Json {
        crate::encoding::bytes_to_json(self)
    }

    fn from_json(json: &Json) -> Result<Self> {
        crate::encoding::bytes_from_json(json)
    }
}

impl<A: FixedSubKey, B: SubKey> AsSubKey for (A, B) {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        self.0.append_to(bytes);
        self.1.append_to(bytes);
    }
}

impl<A: FixedSubKey, B: SubKey> SubKey for (A, B) {
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (first, rest) = split::<A>(bytes)?;
        Ok((first, B::from_bytes(rest)?))
    }

    fn to_json(&self) -> Json {
        Json::Array(vec![self.0.to_json(), self.1.to_json()])
    }

    fn from_json(json: &Json) -> Result<Self> {
        match json.as_array().map(Vec::as_slice) {
            Some([first, second]) => Ok((A::from_json(first)?, B::from_json(second)?)),
            _ => Err(Error::new(format!("`{json}` is not an array of 2"))),
        }
    }
}

impl<A: FixedSubKey, B: FixedSubKey> FixedSubKey for (A, B) {
    const BYTES: usize = A::BYTES + B::BYTES;
}

impl<A: FixedSubKey, B: FixedSubKey, C: SubKey> AsSubKey for (A, B, C) {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        self.0.append_to(bytes);
        self.1.append_to(bytes);
        self.2.append_to(bytes);
    }
}

impl<A: FixedSubKey, B: FixedSubKey, C: SubKey> SubKey for (A, B, C) {
    fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (first, rest) = split::<A>(bytes)?;
        let (second, rest) = split::<B>(rest)?;
        Ok((first, second, C::from_bytes(rest)?))
    }

    fn to_json(&self) -> Json {
        Json::Array(vec![self.0.to_json(), self.1.to_json(), self.2.to_json()])
    }

    fn from_json(json: &Json) -> Result<Self> {
        match json.as_array().map(Vec::as_slice) {
            Some([first, second, third]) => Ok((
                A::from_json(first)?,
                B::from_json(second)?,
                C::from_json(third)?,
            )),
            _ => Err(Error::new(format!("`{json}` is not an array of 3"))),
        }
    }
}

fn split<A: FixedSubKey>(bytes: &[u8]) -> Result<(A, &[u8])> {
    let split = bytes.split_at_checked(A::BYTES);
    let (first, rest) = split.ok_or_else(|| wrong_length(bytes, A::BYTES))?;
    Ok((A::from_bytes(first)?, rest))
}

#[cold]
fn wrong_length(bytes: &[u8], expected: usize) -> Error {
    Error::new(format!(
        "a sub-key, or what is left of one, has {} bytes instead of {expected}",
        bytes.len()
    ))
}

#[cfg(test)]
mod tests {
    //! Catches sub-keys that sort otherwise than their values, or do not come back.

    use super::*;

    /// For values in ascending order.
    fn check<K: SubKey + PartialEq + std::fmt::Debug>(values: &[K]) {
        let bytes: Vec<Vec<u8>> = values
            .iter()
            .map(|value| {
                let mut bytes = Vec::new();
                value.append_to(&mut bytes);
                assert_eq!(K::from_bytes(&bytes).unwrap(), *value);
                let text = value.to_json().to_string();
                let json = serde_json::from_str(&text).unwrap();
                assert_eq!(K::from_json(&json).unwrap(), *value);
                bytes
            })
            .collect();
        assert!(
            bytes.is_sorted_by(|one, next| one < next),
            "{values:?}: {bytes:?}"
        );
    }

    #[test]
    fn bytes_sort_like_values() {
        check(&[i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX]);
        check(&[i8::MIN, -1, 0, i8::MAX]);
        check(&[0, 1, 255, 256, u32::MAX]);
        check(&[0, u64::MAX]);
        check(&[false, true]);
        check(&[
            "".to_owned(),
            "a".to_owned(),
            "a\0".to_owned(),
            "ab".to_owned(),
            "ä".to_owned(),
        ]);
        check(&[vec![], vec![0], vec![0, 255], vec![1]]);
        check(&[
            (-1_i16, "b".to_owned()),
            (0, String::new()),
            (0, "a".to_owned()),
            (1, String::new()),
        ]);
        check(&[(1_u8, false, 7_u16), (1, true, 0), (1, true, 1)]);
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(u64::from_bytes(&[0; 7]).is_err());
        assert!(bool::from_bytes(&[2]).is_err());
        assert!(String::from_bytes(&[255]).is_err());
        assert!(<(u32, String)>::from_bytes(&[0; 3]).is_err());
        assert!(u8::from_json(&Json::from(256)).is_err());
    }
}
