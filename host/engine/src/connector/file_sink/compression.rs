//! The compression of parts: each part is one member of gzip, or one frame of zstd, that other tools read as well.
//!
//! The level is the default of the format. A part that is compressed cannot be continued once it was ended: its writer
//! begins another one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Deserialize;
use zstd::stream::read::Decoder as ZstdDecoder;
use zstd::stream::write::Encoder as ZstdEncoder;

/// Zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// How the parts of a file sink are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputCompression {
    /// Not at all.
    #[default]
    None,
    /// As gzip, with the ending `.gz`.
    Gzip,
    /// As zstd, with the ending `.zst`.
    Zstd,
}

impl OutputCompression {
    pub(super) const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// What names of files end in after the extension of the format.
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Zstd => ".zst",
        }
    }

    /// Reads what is in a part.
    pub(super) fn decode(self, part: File) -> io::Result<Box<dyn BufRead>> {
        Ok(match self {
            Self::None => Box::new(BufReader::new(part)),
            Self::Gzip => Box::new(BufReader::new(GzDecoder::new(part))),
            Self::Zstd => Box::new(BufReader::new(ZstdDecoder::new(part)?)),
        })
    }
}

/// A file, and the number of bytes in it.
pub(super) struct CountedFile {
    file: File,
    bytes: u64,
}

impl Write for CountedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The open file of a part.
pub(super) enum PartOutput {
    Plain(CountedFile),
    Gzip(Box<GzEncoder<CountedFile>>),
    Zstd(Box<ZstdEncoder<'static, CountedFile>>),
}

impl PartOutput {
    /// Begins a part in an empty file.
    pub(super) fn begin(file: File, compression: OutputCompression) -> io::Result<Self> {
        let file = CountedFile { file, bytes: 0 };
        Ok(match compression {
            OutputCompression::None => Self::Plain(file),
            OutputCompression::Gzip => {
                let encoder = GzEncoder::new(file, flate2::Compression::default());
                Self::Gzip(Box::new(encoder))
            }
            OutputCompression::Zstd => {
                let mut encoder = ZstdEncoder::new(file, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(Box::new(encoder))
            }
        })
    }

    /// Continues a part that is not compressed, in a file that was opened to append and has this many bytes.
    pub(super) fn resume(file: File, bytes: u64) -> Self {
        Self::Plain(CountedFile { file, bytes })
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// The number of bytes in the file so far. An encoder may hold more.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Plain(file) => file.bytes,
            Self::Gzip(encoder) => encoder.get_ref().bytes,
            Self::Zstd(encoder) => encoder.get_ref().bytes,
        }
    }

    /// Ends the part. Returns the number of bytes in the file.
    pub(super) fn finish(self) -> io::Result<u64> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        Ok(file.bytes)
    }
}

#[cfg(test)]
mod tests {
    //! Catches a part that is cut short, and a length that is not that of the file.

    use std::io::Read;

    use super::*;

    #[test]
    fn a_part_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let text: String = (0..100_000).map(|number| format!("{number}\n")).collect();
        for compression in OutputCompression::ALL {
            let path = folder.path().join("part");
            let file = File::create(&path).unwrap();
            let mut output = PartOutput::begin(file, compression).unwrap();
            for piece in text.as_bytes().chunks(70_000) {
                output.write_all(piece).unwrap();
            }
            let so_far = output.bytes();
            let bytes = output.finish().unwrap();
            assert!(so_far <= bytes, "{compression:?}");
            assert_eq!(bytes, std::fs::metadata(&path).unwrap().len());
            let is_smaller = bytes < text.len() as u64;
            assert_eq!(is_smaller, compression != OutputCompression::None);
            let mut decoded = compression.decode(File::open(&path).unwrap()).unwrap();
            let mut found = String::new();
            decoded.read_to_string(&mut found).unwrap();
            assert!(found == text, "{compression:?}");
        }
    }
}
