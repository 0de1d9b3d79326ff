//! Encodes the data of connectors in a checkpoint: one version byte, then postcard.
//!
//! Each connector has private structs for this, so that its own types can change and old checkpoints can still be read.
//! Bytes that are read are not trusted: they may be of another version, or damaged.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ConnectorError;

/// Encodes `value`, with `version` in front.
pub(super) fn encode<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version])
        .expect("plain structs always encode, and a vector takes any length")
}

/// Decodes what [`encode`] returned; `what` names it in the error.
pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    version: u8,
    bytes: &[u8],
) -> Result<T, ConnectorError> {
    let undecodable = |reason: String| ConnectorError::Undecodable { what, reason };
    let Some((&found, rest)) = bytes.split_first() else {
        return Err(undecodable("it is empty".to_owned()));
    };
    if found != version {
        return Err(undecodable(format!(
            "it is of version {found}, not {version}"
        )));
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok((_, more)) => Err(undecodable(format!("{} bytes too many", more.len()))),
        Err(error) => Err(undecodable(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    //! Catches foreign bytes that are accepted.

    use super::*;

    #[test]
    fn only_the_whole_encoding_is_read() {
        let bytes = encode(3, &(7_u64, "seven"));
        let read = |bytes: &[u8]| decode::<(u64, String)>("a test", 3, bytes);
        assert_eq!(read(&bytes).unwrap(), (7, "seven".to_owned()));
        assert!(read(&[]).is_err());
        assert!(read(&bytes[..bytes.len() - 1]).is_err());
        assert!(read(&[bytes.clone(), vec![0]].concat()).is_err());
        assert!(decode::<(u64, String)>("a test", 4, &bytes).is_err());
    }
}
