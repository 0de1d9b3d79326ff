//! Encodes and decodes the manifest of a checkpoint: the only module that knows its bytes.
//!
//! ```text
//! "FLMK-MAN" | version: u16, little-endian | postcard of ManifestV1 | XXH3-64 of all before, little-endian
//! ```
//!
//! The structs in `v1` mirror the domain's, so that a change in the domain cannot change released bytes by accident: a
//! new version gets structs of its own, and the old ones stay to read existing files. The checksum finds damage, not
//! malice: anyone can compute it. So no input makes `decode` panic, or take more memory than a small multiple of its
//! length, and numbers that no job reaches are refused: later sums and loops need no checks of their own. This module
//! does no I/O, and does not check whether chunks or plugins exist.

mod v1;

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::Checkpoint;
use v1::ManifestV1;

const MAGIC: &[u8; 8] = b"FLMK-MAN";
/// The version that [`encode`] writes. No other version exists yet.
const VERSION: u16 = 1;
const HEADER_BYTES: usize = MAGIC.len() + 2;
const CHECKSUM_BYTES: usize = 8;

/// Highest id of a checkpoint or chunk that is read. No job reaches it, unless it started from a forged one.
pub(crate) const ID_MAX: u64 = 1 << 62;
/// Highest id in a savepoint that a job may start from. The job's own ids, which are higher, stay below [`ID_MAX`].
pub(crate) const CARRIED_ID_MAX: u64 = ID_MAX / 2;
/// Highest id of a state that is read.
pub(crate) const STATE_ID_MAX: u16 = 1 << 14;
/// Largest number of records that is read.
pub(crate) const RECORDS_MAX: u64 = 1 << 62;

/// The reason why bytes are not a valid manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// They do not begin like a manifest, or end too early.
    #[error("the bytes are not a checkpoint manifest")]
    NotAManifest,
    /// Another version of Floodmark wrote them.
    #[error(
        "the manifest has version {found}, and this floodmark reads version {VERSION}; use the floodmark that wrote it"
    )]
    OtherVersion {
        /// The version that was found.
        found: u16,
    },
    /// The checksum does not match: the bytes changed after they were written.
    #[error("the manifest's checksum does not match its bytes")]
    Checksum,
    /// The checksum matches, but the content is invalid.
    #[error("the manifest is malformed: {0}")]
    Malformed(&'static str),
}

/// The manifest of a checkpoint as bytes, with header and checksum.
#[must_use]
pub fn encode(checkpoint: &Checkpoint) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let mut bytes = postcard::to_extend(&ManifestV1::from(checkpoint), bytes)
        .expect("a manifest has only what postcard can encode, and a vector takes any length");
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Decodes bytes that [`encode`] returned.
///
/// # Errors
///
/// When the bytes are not a valid manifest.
pub fn decode(bytes: &[u8]) -> Result<Checkpoint, ManifestError> {
    let content = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .filter(|content| *content >= HEADER_BYTES && bytes.starts_with(MAGIC))
        .ok_or(ManifestError::NotAManifest)?;
    let (content, checksum) = bytes.split_at(content);
    // The checksum comes first: a damaged version number is damage, not another version.
    if xxh3_64(content).to_le_bytes() != checksum {
        return Err(ManifestError::Checksum);
    }
    let found = u16::from_le_bytes([content[MAGIC.len()], content[MAGIC.len() + 1]]);
    let body = &content[HEADER_BYTES..];
    match found {
        VERSION => fields::<ManifestV1<'_>>(body)?.into_checkpoint(),
        _ => Err(ManifestError::OtherVersion { found }),
    }
}

fn fields<'a, M: Deserialize<'a>>(body: &'a [u8]) -> Result<M, ManifestError> {
    let (manifest, rest) = postcard::take_from_bytes::<M>(body)
        .map_err(|_| ManifestError::Malformed("its fields do not match its version"))?;
    if !rest.is_empty() {
        return Err(ManifestError::Malformed(
            "there are bytes after its last field",
        ));
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests;
