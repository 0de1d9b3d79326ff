//! The splits of a file source as a checkpoint stores them.
//!
//! Version 2 has four cases: a range, a watch, a compressed file and one that is set aside. Version 1 has names only, and is
//! still read. Does not know what a split is for: [`super`] refuses what no job writes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{At, CompressedPart, FileSourceSplit, FileSplit, Watch, name_of};
use crate::connector::file_source::SourceFormat;
use crate::connector::file_source::identity::{FileKey, Fingerprint};
use crate::connector::{ConnectorError, encoding};
use floodmark_checkpoint::Split;

const VERSION: u8 = 2;
/// Splits without keys and fingerprints.
const VERSION_OF_NAMES: u8 = 1;
const WHAT: &str = "a split of a file source";

#[derive(Serialize, Deserialize)]
enum EncodedPiece {
    File {
        name: Vec<u8>,
        format: SourceFormat,
        start: u64,
        end: Option<u64>,
        position: u64,
        at: At,
        len: u64,
        key: Option<FileKey>,
        print: Option<Fingerprint>,
    },
    Watch {
        bucket: u8,
    },
    Compressed {
        name: Vec<u8>,
        format: SourceFormat,
        position: u64,
        at: At,
        len: u64,
        read_len: u64,
        key: Option<FileKey>,
        print: Option<Fingerprint>,
        head: Option<Fingerprint>,
    },
    SetAside {
        name: Vec<u8>,
        format: SourceFormat,
        position: u64,
        at: At,
        len: u64,
        key: Option<FileKey>,
        print: Option<Fingerprint>,
        head: Option<Fingerprint>,
    },
}

/// A piece of version 1.
#[derive(Serialize, Deserialize)]
enum NamedPiece {
    File {
        name: Vec<u8>,
        format: SourceFormat,
        start: u64,
        end: Option<u64>,
        position: u64,
        at: At,
        len: u64,
    },
    Watch {
        bucket: u8,
        known: BTreeSet<Vec<u8>>,
    },
}

impl FileSourceSplit {
    pub(in crate::connector::file_source) fn encode(&self, base: &Path) -> Split {
        let encoded = match self {
            Self::File(file) => EncodedPiece::of(file, base),
            Self::Watch(watch) => EncodedPiece::Watch {
                bucket: watch.bucket,
            },
        };
        Split(encoding::encode(VERSION, &encoded))
    }

    pub(in crate::connector::file_source) fn decode(
        split: &Split,
        base: &Path,
    ) -> Result<Self, ConnectorError> {
        let piece = match split.0.first() {
            Some(&VERSION_OF_NAMES) => {
                encoding::decode::<NamedPiece>(WHAT, VERSION_OF_NAMES, &split.0)?.upgrade()
            }
            _ => encoding::decode(WHAT, VERSION, &split.0)?,
        };
        let piece = piece.decoded(base);
        match piece.check() {
            Ok(()) => Ok(piece),
            Err(reason) => Err(ConnectorError::Undecodable {
                what: WHAT,
                reason: reason.to_owned(),
            }),
        }
    }
}

impl EncodedPiece {
    fn of(file: &FileSplit, base: &Path) -> Self {
        let name = name_of(&file.path, base);
        let FileSplit {
            format,
            start,
            end,
            position,
            at,
            len,
            key,
            print,
            ..
        } = *file;
        match file.compressed {
            None => Self::File {
                name,
                format,
                start,
                end,
                position,
                at,
                len,
                key,
                print,
            },
            Some(part) if part.is_set_aside => Self::SetAside {
                name,
                format,
                position,
                at,
                len,
                key,
                print,
                head: part.head,
            },
            Some(part) => Self::Compressed {
                name,
                format,
                position,
                at,
                len,
                read_len: part.read_len,
                key,
                print,
                head: part.head,
            },
        }
    }

    /// The piece, which is not checked yet.
    fn decoded(self, base: &Path) -> FileSourceSplit {
        let whole = |name: Vec<u8>, format, len| {
            FileSplit::whole(base.join(OsStr::from_bytes(&name)), format, len)
        };
        let file = match self {
            Self::Watch { bucket } => return FileSourceSplit::Watch(Watch { bucket }),
            Self::File {
                name,
                format,
                start,
                end,
                position,
                at,
                len,
                key,
                print,
            } => FileSplit {
                start,
                end,
                position,
                at,
                key,
                print,
                ..whole(name, format, len)
            },
            Self::Compressed {
                name,
                format,
                position,
                at,
                len,
                read_len,
                key,
                print,
                head,
            } => FileSplit {
                position,
                at,
                compressed: Some(CompressedPart::read_to(read_len, head)),
                key,
                print,
                ..whole(name, format, len)
            },
            Self::SetAside {
                name,
                format,
                position,
                at,
                len,
                key,
                print,
                head,
            } => FileSplit {
                position,
                at,
                compressed: Some(CompressedPart::aside(head)),
                key,
                print,
                ..whole(name, format, len)
            },
        };
        FileSourceSplit::File(file)
    }
}

impl CompressedPart {
    /// A file that had this length at the end of its content, or 0.
    fn read_to(read_len: u64, head: Option<Fingerprint>) -> Self {
        Self {
            read_len,
            head,
            ..Self::default()
        }
    }

    /// A file that is set aside.
    fn aside(head: Option<Fingerprint>) -> Self {
        Self {
            is_set_aside: true,
            head,
            ..Self::default()
        }
    }
}

impl NamedPiece {
    fn upgrade(self) -> EncodedPiece {
        match self {
            Self::File {
                name,
                format,
                start,
                end,
                position,
                at,
                len,
            } => EncodedPiece::File {
                name,
                format,
                start,
                end,
                position,
                at,
                len,
                key: None,
                print: None,
            },
            // All watches know all files now.
            Self::Watch { bucket, .. } => EncodedPiece::Watch { bucket },
        }
    }
}
