//! Compressed files: which ones are, and the decoder that gives their content.
//!
//! The first bytes of a file decide, not its name: so renamed files are read, and a name that promises compression which
//! the file does not have is an error. Content comes as a stream, so memory is bounded however much it is: a window of
//! gzip has 32 KiB, and one of zstd more than 128 MiB is refused. There are no indexes and no archives: a position can
//! only be reached from the start or from the end of a member, and the files in a `.tar.gz` are not told apart.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::file_bytes::FileBytes;
use super::gzip_members::GzipMembers;
use super::identity::Fingerprint;
use super::listing;
use super::member_end::MemberEnd;
use super::split::FileSplit;
use super::zstd_frames::ZstdFrames;
use crate::connector::ConnectorError;

/// The first bytes of a member of gzip, with its only method.
pub(super) const GZIP_MAGIC: &[u8] = b"\x1f\x8b\x08";
/// The first bytes of a frame of zstd.
const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";
/// Bytes of the longer one.
const MAGIC_BYTES_MAX: usize = 4;
/// The first bytes of a frame that decoders of zstd skip, after one byte from 0x50 to 0x5f.
const SKIPPABLE_MAGIC: &[u8] = b"\x2a\x4d\x18";
/// The base-2 logarithm of the largest window of zstd: what `zstd` itself accepts without being asked.
const WINDOW_LOG_MAX: u32 = 27;
/// What to do about a file that is not whole. One that was set aside is not read again when it has changed.
const REPLACE: &str =
    "replace it with the whole file, or add that under another name if this one was set aside";
/// What other bytes follow.
const END: &str = "the end of the gzip data; cut off what follows, or take the file out of `path`";
/// Compressed bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputCompression {
    Gzip,
    Zstd,
}

/// What the start of a file tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileStart {
    Plain,
    Compressed(InputCompression),
    /// The name promises compression, and the file is too short to show it.
    TooShort(InputCompression),
    /// The name promises compression, and the file has none.
    Contradiction(InputCompression),
}

impl InputCompression {
    /// Its name, and the ending of names that promise it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Gzip => ("gzip", ".gz"),
            Self::Zstd => ("zstd", ".zst"),
        }
    }

    /// The compression that a name promises.
    fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?;
        if ending.eq_ignore_ascii_case("gz") {
            Some(Self::Gzip)
        } else if ending.eq_ignore_ascii_case("zst") {
            Some(Self::Zstd)
        } else {
            None
        }
    }

    /// The usual command that prints the content of a file.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Gzip => "zcat",
            Self::Zstd => "zstdcat",
        }
    }

    /// The compression that the first bytes of a file show.
    pub(super) fn of_bytes(start: &[u8], promised: Option<Self>) -> Option<Self> {
        // Other formats have such frames, too.
        let is_skippable = |start: &[u8]| {
            start.first().is_some_and(|byte| byte >> 4 == 5)
                && start[1..].starts_with(SKIPPABLE_MAGIC)
        };
        if start.starts_with(GZIP_MAGIC) {
            Some(Self::Gzip)
        } else if start.starts_with(ZSTD_MAGIC)
            || (promised == Some(Self::Zstd) && is_skippable(start))
        {
            Some(Self::Zstd)
        } else {
            None
        }
    }
}

impl FileStart {
    fn of(start: &[u8], promised: Option<InputCompression>) -> Self {
        if let Some(found) = InputCompression::of_bytes(start, promised) {
            return Self::Compressed(found);
        }
        match promised {
            None => Self::Plain,
            Some(InputCompression::Gzip) if GZIP_MAGIC.starts_with(start) => {
                Self::TooShort(InputCompression::Gzip)
            }
            Some(InputCompression::Zstd) if start.len() < ZSTD_MAGIC.len() => {
                Self::TooShort(InputCompression::Zstd)
            }
            Some(promised) => Self::Contradiction(promised),
        }
    }

    /// Reads the start of a file.
    pub(super) fn of_file(file: &File, path: &Path) -> Result<Self, ConnectorError> {
        let start = listing::bytes_at(file, path, 0, MAGIC_BYTES_MAX)?;
        Ok(Self::of(&start, InputCompression::of_name(path)))
    }
}

/// The error for a file that is not what its name or an earlier run says.
pub(super) fn refused(path: &Path, reason: impl Into<String>) -> ConnectorError {
    ConnectorError::Compressed {
        path: path.to_owned(),
        byte: 0,
        reason: reason.into(),
    }
}

/// The error for a file whose name promises this.
pub(super) fn contradiction(path: &Path, promised: InputCompression) -> ConnectorError {
    let (name, ending) = promised.words();
    refused(
        path,
        format!(
            "its name ends in `{ending}`, but it is not compressed with {name}; rename it, or take it out of `path`"
        ),
    )
}

fn too_short(path: &Path, promised: InputCompression) -> ConnectorError {
    let (name, _) = promised.words();
    refused(
        path,
        format!("it ends within the start of {name}; {REPLACE}, or take it out of `path`"),
    )
}

/// Decompresses a file from its start, or from the end of a member: all members of gzip, or all frames of zstd.
pub(super) enum ContentDecoder {
    Gzip(Box<GzipMembers>),
    Zstd(Box<ZstdFrames>),
}

impl ContentDecoder {
    /// A decoder from the start of a file.
    pub(super) fn new(kind: InputCompression, file: &Arc<File>) -> io::Result<Self> {
        Self::behind(0, kind, file)
    }

    /// A decoder from the end of a member on.
    fn behind(member_end: u64, kind: InputCompression, file: &Arc<File>) -> io::Result<Self> {
        let bytes = FileBytes::new(Arc::clone(file), member_end);
        let bytes = BufReader::with_capacity(READ_BYTES, bytes);
        Ok(match kind {
            InputCompression::Gzip => Self::Gzip(Box::new(GzipMembers::new(bytes))),
            InputCompression::Zstd => Self::Zstd(Box::new(ZstdFrames::new(bytes, WINDOW_LOG_MAX)?)),
        })
    }

    fn compressed(&self) -> &FileBytes {
        match self {
            Self::Gzip(members) => members.compressed(),
            Self::Zstd(frames) => frames.compressed(),
        }
    }

    /// The position in the file up to which members are whole. What the latest call of `read` gave is behind it.
    fn member_end(&self) -> u64 {
        match self {
            Self::Gzip(members) => members.member_end(),
            Self::Zstd(frames) => frames.frame_end(),
        }
    }

    /// The number of bytes that follow the content, if reading has failed because of them.
    fn following(&self) -> Option<u64> {
        match self {
            Self::Gzip(members) => members.following(),
            Self::Zstd(_) => None,
        }
    }
}

impl Read for ContentDecoder {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Gzip(members) => members.read(room),
            Self::Zstd(frames) => frames.read(room),
        }
    }
}

/// Some content of a compressed file.
pub(super) struct ContentPart {
    pub(super) bytes: Vec<u8>,
    /// Whether bytes are missing since the file ends before its content does.
    pub(super) is_cut: bool,
    /// Whether bytes are missing since the content is over.
    pub(super) is_over: bool,
}

/// Decompresses up to `len` bytes of content from `from`. There are fewer at the end of the content, of the file, and where
/// it is damaged.
pub(super) fn content_at(
    kind: InputCompression,
    file: &Arc<File>,
    path: &Path,
    from: u64,
    len: usize,
) -> Result<ContentPart, ConnectorError> {
    let decoder = ContentDecoder::new(kind, file);
    let mut decoder = decoder.map_err(ConnectorError::io("decompress", path))?;
    let mut bytes = Vec::new();
    let passed = io::copy(&mut decoder.by_ref().take(from), &mut io::sink());
    let read = passed.and_then(|passed| match passed == from {
        true => decoder.by_ref().take(len as u64).read_to_end(&mut bytes),
        false => Ok(0),
    });
    let compressed = decoder.compressed();
    match read {
        Err(error) if compressed.has_failed => Err(ConnectorError::io("read", path)(error)),
        Err(_) => Ok(ContentPart {
            bytes,
            is_cut: compressed.has_ended && decoder.following().is_none(),
            is_over: false,
        }),
        Ok(_) => Ok(ContentPart {
            is_cut: false,
            is_over: bytes.len() < len,
            bytes,
        }),
    }
}

/// The content of a compressed file, for its window.
pub(super) struct FileContent {
    kind: InputCompression,
    decoder: ContentDecoder,
    /// The position in the content up to which it was read before.
    start: u64,
    /// Of the content before that.
    print: Option<Fingerprint>,
    may_grow: bool,
    /// The length of the file at the end of its content.
    ended: Option<u64>,
    /// Where decompression has begun, if that is not the start of the file.
    begun: Option<Arc<MemberEnd>>,
    /// The last end of a member, if the file has grown since it was first read.
    newest_end: Option<MemberEnd>,
    /// The last one before that in which no record has begun that continues behind it.
    settled_end: Option<MemberEnd>,
}

impl FileContent {
    /// The content of the file of a split, of which what is before `position` was read.
    pub(super) fn open(
        file: &Arc<File>,
        split: &FileSplit,
        position: u64,
    ) -> Result<Self, ConnectorError> {
        let path = &split.path;
        let kind = match FileStart::of_file(file, path)? {
            FileStart::Compressed(kind) => kind,
            FileStart::TooShort(promised) => return Err(too_short(path, promised)),
            FileStart::Contradiction(promised) => return Err(contradiction(path, promised)),
            FileStart::Plain => {
                return Err(refused(
                    path,
                    "it was compressed when the job began, and is not any more; restore the file, or run the job again",
                ));
            }
        };
        let begun = match &split.member_end {
            Some(end) if end.content <= position && end.is_in(file, path)? => Some(Arc::clone(end)),
            _ => None,
        };
        let from = begun.as_ref().map_or(0, |end| end.compressed);
        let decoder = ContentDecoder::behind(from, kind, file);
        Ok(Self {
            kind,
            decoder: decoder.map_err(ConnectorError::io("decompress", path))?,
            start: position,
            print: split.print.filter(|_| split.position == position),
            may_grow: split.compressed.is_some_and(|part| part.may_grow),
            ended: None,
            begun,
            newest_end: None,
            settled_end: None,
        })
    }

    /// Where decompression has begun, if that is not the start of the file.
    pub(super) fn begun(&self) -> Option<&MemberEnd> {
        self.begun.as_deref()
    }

    /// Notes whether the latest call of [`Self::read`] has passed the end of a member. `before` are bytes of content before
    /// what it gave, which is at position `at`; records until `taken` are complete.
    pub(super) fn note_member_end(&mut self, before: &[u8], taken: u64, at: u64) {
        // A file that never grows has no use for it.
        if !self.may_grow || self.start == 0 {
            return;
        }
        let end = self.decoder.member_end();
        let known = self.newest_end.as_ref();
        if end > 0 && known.is_none_or(|known| known.compressed != end) {
            let newest = MemberEnd::new(end, at, before);
            let last = self.newest_end.replace(newest);
            if let Some(last) = last.filter(|last| last.content <= taken) {
                self.settled_end = Some(last);
            }
        }
    }

    /// The last known end of a member that is not behind a position: a record may continue in the next member.
    pub(super) fn member_end(&self, position: u64) -> Option<&MemberEnd> {
        let ends = [
            self.newest_end.as_ref(),
            self.settled_end.as_ref(),
            self.begun(),
        ];
        let mut ends = ends.into_iter().flatten();
        ends.find(|end| end.content <= position)
    }

    pub(super) fn kind(&self) -> InputCompression {
        self.kind
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The fingerprint of the content before the start, if it has to be checked.
    pub(super) fn print(&self) -> Option<Fingerprint> {
        self.print
    }

    pub(super) fn ended(&self) -> Option<u64> {
        self.ended
    }

    /// Decompresses more; 0 at the end, also at the end of what is there of a file that may grow. `at` is the position in the
    /// content, for errors.
    pub(super) fn read(
        &mut self,
        room: &mut [u8],
        path: &Path,
        at: u64,
    ) -> Result<usize, ConnectorError> {
        let error = match self.decoder.read(room) {
            Ok(0) => {
                self.ended = Some(self.decoder.compressed().at());
                return Ok(0);
            }
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let bytes = self.decoder.compressed();
        if bytes.has_failed {
            return Err(ConnectorError::io("read", path)(error));
        }
        // A decoder that has asked for more than there is says so in several ways.
        let reason = match (self.decoder.following(), bytes.has_ended) {
            (Some(1), _) => format!("1 byte follows {END}"),
            (Some(following), _) => format!("{following} bytes follow {END}"),
            (None, true) if self.may_grow => return Ok(0),
            (None, true) => format!("the file ends before its content does; {REPLACE}"),
            (None, false) if error.to_string().contains("too much memory") => format!(
                "it needs a window of more than {} MiB; compress it with `zstd --long={WINDOW_LOG_MAX}` or less",
                (1_u64 << WINDOW_LOG_MAX) >> 20
            ),
            (None, false) => {
                format!("it cannot be decompressed ({error}); {REPLACE}, or take it out of `path`")
            }
        };
        Err(ConnectorError::Compressed {
            path: path.to_owned(),
            byte: at,
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Catches a name that counts more than the bytes of a file, and content that is lost at the borders of members, or whose
    //! damage is taken for its end.

    use std::io::Write;

    use super::*;
    use crate::connector::file_source::SourceFormat;
    use crate::connector::file_source::split::{CompressedPart, FileSourceSplit};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        zstd::encode_all(content, 1).unwrap()
    }

    #[test]
    fn the_first_bytes_decide() {
        use InputCompression::{Gzip, Zstd};
        let check = |start: &[u8], name: &str, expected: FileStart| {
            let promised = InputCompression::of_name(Path::new(name));
            assert_eq!(FileStart::of(start, promised), expected, "{name}");
        };
        check(b"text", "a.log", FileStart::Plain);
        check(b"", "a.log", FileStart::Plain);
        check(b"\x1f\x8b\x08\x00", "a.log", FileStart::Compressed(Gzip));
        check(b"\x28\xb5\x2f\xfd", "a.gz", FileStart::Compressed(Zstd));
        check(b"\x1f\x8b", "a.gz", FileStart::TooShort(Gzip));
        check(b"", "a.zst", FileStart::TooShort(Zstd));
        check(b"text", "a.GZ", FileStart::Contradiction(Gzip));
        check(b"text", "a.zst", FileStart::Contradiction(Zstd));
        let skippable = b"\x51\x2a\x4d\x18";
        check(skippable, "a.zst", FileStart::Compressed(Zstd));
        check(skippable, "a.log", FileStart::Plain);
    }

    /// The content of a file of these bytes, or the error.
    fn read(bytes: &[u8], may_grow: bool) -> Result<(Vec<u8>, bool), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let path = Path::new("a");
        let split = FileSplit {
            compressed: Some(CompressedPart {
                may_grow,
                ..CompressedPart::default()
            }),
            ..FileSplit::whole(path.to_owned(), SourceFormat::Lines, bytes.len() as u64)
        };
        let mut content = FileContent::open(&Arc::new(file), &split, 0).unwrap();
        let (mut all, mut room) = (Vec::new(), [0; 1000]);
        loop {
            match content.read(&mut room, path, all.len() as u64) {
                Ok(0) => return Ok((all, content.ended() == Some(bytes.len() as u64))),
                Ok(read) => all.extend_from_slice(&room[..read]),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    #[test]
    fn content_is_read_to_its_end() {
        // Little enough in common that its last bytes are in the last compressed ones.
        let numbers = (0..20_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let content: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
        for compress in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
            let bytes = compress(&content);
            assert_eq!(read(&bytes, false), Ok((content.clone(), true)));
            let twice = [bytes.clone(), compress(b""), bytes.clone()].concat();
            let expected = [content.clone(), content.clone()].concat();
            assert_eq!(read(&twice, false), Ok((expected, true)));

            for missing in [1, 5, bytes.len() / 2] {
                let start = &bytes[..bytes.len() - missing];
                let error = read(start, false).unwrap_err();
                assert!(error.contains("ends before its content does"), "{error}");
                let (found, has_ended) = read(start, true).unwrap();
                assert!(content.starts_with(&found) && !has_ended);
            }
        }
    }

    #[test]
    fn each_member_of_a_file_that_grows_is_read_once() {
        for compress in [gzip as fn(&[u8]) -> Vec<u8>, zstd] {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let path = Path::new("a");
            let mut split = FileSplit {
                compressed: Some(CompressedPart {
                    may_grow: true,
                    ..CompressedPart::default()
                }),
                ..FileSplit::whole(path.to_owned(), SourceFormat::Lines, 0)
            };
            let (mut lens, mut taken, mut expected) = (Vec::new(), 0, 0);
            for number in 0..300 {
                let line = format!("line {number}\n");
                let member = compress(line.as_bytes());
                (&*file).write_all(&member).unwrap();
                lens.push(member.len() as u64);
                expected += line.len() as u64;
                let mut content = FileContent::open(&file, &split, split.position).unwrap();
                let from = content.decoder.compressed().at();
                let mut at = content.begun().map_or(0, |end| end.content);
                let mut room = [0; 100];
                while let read @ 1.. = content.read(&mut room, path, at).unwrap() {
                    content.note_member_end(&[], at, at);
                    at += read as u64;
                }
                content.note_member_end(&[], at, at);
                assert_eq!(at, expected);
                split.position = at;
                let end = content.member_end(at).map(|end| end.proved(&file, path));
                split.member_end = end.transpose().unwrap().map(Arc::new);
                taken += content.decoder.compressed().at() - from;
            }
            // When it grows for the first time, it is decompressed from its start.
            assert_eq!(taken, lens[0] + lens.iter().sum::<u64>());
        }
    }

    #[test]
    fn a_position_in_content_comes_back_from_a_checkpoint() {
        let with = |read_len| FileSplit {
            position: 1 << 40,
            compressed: Some(CompressedPart {
                read_len,
                head: Some(Fingerprint::of(b"head")),
                ..CompressedPart::default()
            }),
            print: Some(Fingerprint::of(b"end")),
            ..FileSplit::whole("/a/f.gz".into(), SourceFormat::Lines, 7)
        };
        let back = |read_len| {
            let split = FileSourceSplit::File(with(read_len)).encode(Path::new("/a"));
            FileSourceSplit::decode(&split, Path::new("/b"))
        };
        for (read_len, is_whole) in [(0, false), (6, false), (7, true)] {
            let expected = FileSplit {
                path: "/b/f.gz".into(),
                ..with(read_len)
            };
            assert_eq!(expected.is_whole(), is_whole);
            assert_eq!(back(read_len).unwrap(), FileSourceSplit::File(expected));
        }
        assert!(back(8).is_err());
        let mut aside = with(0);
        aside.set_aside();
        assert!(aside.is_set_aside());
        let split = FileSourceSplit::File(aside.clone()).encode(Path::new("/a"));
        let read = FileSourceSplit::decode(&split, Path::new("/b")).unwrap();
        aside.path = "/b/f.gz".into();
        assert_eq!(read, FileSourceSplit::File(aside));
    }
}
