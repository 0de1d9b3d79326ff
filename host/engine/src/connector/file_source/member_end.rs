//! Ends of members in a compressed file: from there its content can be decompressed without what is before.
//!
//! A writer that appends members lets a followed file grow. Its reader continues behind the last member that it has read,
//! since decompressing the file from its start at each growth costs the square of its length. An end is kept in memory only,
//! for files that have grown: a checkpoint has no place for the content before it, so a restart decompresses the file once.
//! Within a member there is no such place: a file that is one long member is decompressed from its start each time.

use std::fs::File;
use std::path::Path;

use super::identity::{Fingerprint, PRINT_BYTES};
use super::listing;
use crate::connector::ConnectorError;

/// The end of a member of gzip, or of a frame of zstd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MemberEnd {
    /// Its position in the file.
    pub(super) compressed: u64,
    /// Its position in the content.
    pub(super) content: u64,
    /// The last bytes of the content before it. They prove a position that is close behind it.
    pub(super) before: Vec<u8>,
    /// Of the bytes of the file before it; `None` until reading ends.
    print: Option<Fingerprint>,
}

impl MemberEnd {
    /// An end behind this content, of which only the last bytes are kept.
    pub(super) fn new(compressed: u64, content: u64, before: &[u8]) -> Self {
        let from = before.len().saturating_sub(PRINT_BYTES);
        Self {
            compressed,
            content,
            before: before[from..].to_vec(),
            print: None,
        }
    }

    /// The same, with the fingerprint of the bytes before it in its file.
    pub(super) fn proved(&self, file: &File, path: &Path) -> Result<Self, ConnectorError> {
        let len = self.compressed.min(PRINT_BYTES as u64);
        let bytes = listing::bytes_at(file, path, self.compressed - len, len as usize)?;
        Ok(Self {
            print: Some(Fingerprint::of(&bytes)),
            ..self.clone()
        })
    }

    /// Whether a file still has the bytes before it.
    pub(super) fn is_in(&self, file: &File, path: &Path) -> Result<bool, ConnectorError> {
        match self.print {
            Some(print) => listing::fits(file, path, self.compressed, print),
            None => Ok(false),
        }
    }
}
