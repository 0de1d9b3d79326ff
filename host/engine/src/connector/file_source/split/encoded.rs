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

// The fields of these structs are those of the cases, in their order: a struct within a case has no bytes of its own.

/// The range of a file, and the position in it.
#[derive(Serialize, Deserialize)]
struct EncodedRange {
    name: Vec<u8>,
    format: SourceFormat,
    start: u64,
    end: Option<u64>,
    position: u64,
    at: At,
    len: u64,
}

/// The position in the content of a file that is not cut.
#[derive(Serialize, Deserialize)]
struct EncodedPlace {
    name: Vec<u8>,
    format: SourceFormat,
    position: u64,
    at: At,
    len: u64,
}

/// By what a file is recognised that is not cut.
#[derive(Serialize, Deserialize)]
struct EncodedProof {
    key: Option<FileKey>,
    print: Option<Fingerprint>,
    head: Option<Fingerprint>,
}

#[derive(Serialize, Deserialize)]
enum EncodedPiece {
    File {
        range: EncodedRange,
        key: Option<FileKey>,
        print: Option<Fingerprint>,
    },
    Watch {
        bucket: u8,
    },
    Compressed {
        place: EncodedPlace,
        read_len: u64,
        proof: EncodedProof,
    },
    SetAside {
        place: EncodedPlace,
        proof: EncodedProof,
    },
}

/// A piece of version 1.
#[derive(Serialize, Deserialize)]
enum NamedPiece {
    File(EncodedRange),
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
        let Some(part) = file.compressed else {
            let range = EncodedRange {
                name,
                format,
                start,
                end,
                position,
                at,
                len,
            };
            return Self::File { range, key, print };
        };
        let place = EncodedPlace {
            name,
            format,
            position,
            at,
            len,
        };
        let proof = EncodedProof {
            key,
            print,
            head: part.head,
        };
        match part.is_set_aside {
            true => Self::SetAside { place, proof },
            false => Self::Compressed {
                place,
                read_len: part.read_len,
                proof,
            },
        }
    }

    /// The piece, which is not checked yet.
    fn decoded(self, base: &Path) -> FileSourceSplit {
        FileSourceSplit::File(match self {
            Self::Watch { bucket } => return FileSourceSplit::Watch(Watch { bucket }),
            Self::File { range, key, print } => FileSplit {
                start: range.start,
                end: range.end,
                position: range.position,
                at: range.at,
                key,
                print,
                ..whole(&range.name, base, range.format, range.len)
            },
            Self::Compressed {
                place,
                read_len,
                proof,
            } => {
                let part = CompressedPart::read_to(read_len, proof.head);
                place.with(part, &proof, base)
            }
            Self::SetAside { place, proof } => {
                place.with(CompressedPart::aside(proof.head), &proof, base)
            }
        })
    }
}

impl EncodedPlace {
    fn with(self, part: CompressedPart, proof: &EncodedProof, base: &Path) -> FileSplit {
        FileSplit {
            position: self.position,
            at: self.at,
            compressed: Some(part),
            key: proof.key,
            print: proof.print,
            ..whole(&self.name, base, self.format, self.len)
        }
    }
}

fn whole(name: &[u8], base: &Path, format: SourceFormat, len: u64) -> FileSplit {
    FileSplit::whole(base.join(OsStr::from_bytes(name)), format, len)
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
            Self::File(range) => EncodedPiece::File {
                range,
                key: None,
                print: None,
            },
            // All watches know all files now.
            Self::Watch { bucket, .. } => EncodedPiece::Watch { bucket },
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches a case whose bytes change, so that checkpoints can no longer be read.

    use std::fmt::Write;

    use super::*;

    #[test]
    fn each_case_has_its_bytes() {
        let file = FileSplit {
            start: 3,
            end: Some(300),
            position: 200,
            at: At::Anywhere,
            key: Some(FileKey {
                inode: 5,
                ..FileKey::default()
            }),
            ..FileSplit::whole("/a/f".into(), SourceFormat::Csv, 400)
        };
        let compressed = |part| FileSplit {
            compressed: Some(part),
            end: None,
            start: 0,
            at: At::Record,
            ..file.clone()
        };
        let part = |part| FileSourceSplit::File(compressed(part));
        for (piece, expected) in [
            (
                FileSourceSplit::File(file.clone()),
                "02000166020301ac02c8010090030100050000",
            ),
            (FileSourceSplit::Watch(Watch { bucket: 7 }), "020107"),
            (
                part(CompressedPart::read_to(9, None)),
                "0202016602c80101900309010005000000",
            ),
            (
                part(CompressedPart::aside(None)),
                "0203016602c801019003010005000000",
            ),
        ] {
            let split = piece.encode(Path::new("/a"));
            let hex = split.0.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            assert_eq!(hex, expected);
            assert_eq!(
                FileSourceSplit::decode(&split, Path::new("/a")).unwrap(),
                piece
            );
        }
    }
}
