//! Whether a file is what was read of it, and where to continue: for plain files, for compressed ones, and for those that
//! became the one or the other.
//!
//! A position in a compressed file is one in its content. What proves it is the content before it, as for a plain file: so a
//! log is recognised after it was compressed. To look there, the content is decompressed up to the position; this is done
//! only for files that are no longer what they were. Otherwise the first bytes of the compressed file itself are proof
//! enough: it is read once and not cut.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::compressed::{FileStart, InputCompression, content_at, contradiction, refused};
use super::identity::{Fingerprint, Fit, PRINT_BYTES, Sighting};
use super::listing;
use super::split::{self, CompressedPart, FileSplit};
use crate::connector::ConnectorError;

/// Makes the ranges of a file one if it is compressed, before they are cut. A file that may grow and does not show yet what
/// it is stays as it is. What is wrong with a file as a whole is found by its reader: so it is one range, too, and is told of
/// once.
pub(super) fn plan(
    path: &Path,
    len: u64,
    ranges: &mut Vec<FileSplit>,
    follow: bool,
) -> Result<(), ConnectorError> {
    let file = match listing::open(path) {
        Err(error) if listing::may_not_be_read(&error) => {
            // Ranges that were begun have their own readers.
            if let [range] = &mut ranges[..]
                && range.position == 0
                && range.end.is_none()
            {
                range.compressed = Some(range.compressed.unwrap_or_default());
            }
            return Ok(());
        }
        opened => opened?.map(Arc::new),
    };
    // Another file may have the path by now: the reader looks for this one.
    let key = ranges.iter().find_map(|range| range.key);
    let is_other = |file: &Arc<File>| key.is_some_and(|key| !listing::is_file_of(file, key));
    let Some(file) = file.filter(|file| !is_other(file)) else {
        return Ok(());
    };
    match FileStart::of_file(&file, path)? {
        FileStart::Plain => decompressed(path, len, ranges)?,
        FileStart::Compressed(_) if ranges.iter().all(|it| it.compressed.is_some()) => {}
        FileStart::Compressed(kind) => {
            let mut joined = become_compressed(path, ranges)?;
            if joined.position > 0
                && ranges.iter().all(FileSplit::is_complete)
                && content_at(kind, &file, path, joined.position, 1)?.is_over
            {
                joined.compressed = joined.compressed.map(|part| CompressedPart {
                    read_len: len,
                    ..part
                });
            }
            *ranges = vec![joined];
        }
        FileStart::TooShort(_) if follow => {}
        FileStart::TooShort(_) | FileStart::Contradiction(_) => {
            *ranges = vec![become_compressed(path, ranges)?];
        }
    }
    for part in ranges.iter_mut().filter_map(|it| it.compressed.as_mut()) {
        if let Some(head) = part.head
            && !fits_head(head, &file, path)?
        {
            // Another compressed form of the same content.
            part.read_len = 0;
        }
        part.head = Some(head_of(&file, path, len)?);
    }
    Ok(())
}

/// A file that was decompressed in its place has its content as bytes now.
fn decompressed(path: &Path, len: u64, ranges: &mut [FileSplit]) -> Result<(), ConnectorError> {
    for range in ranges {
        if range.compressed.take().is_some() && len < range.position {
            return Err(ConnectorError::InputShrank {
                path: path.to_owned(),
                len,
                position: range.position,
            });
        }
    }
    Ok(())
}

/// A file that is compressed is one range. One that was read before it was compressed has been recognised by its content.
fn become_compressed(path: &Path, ranges: &[FileSplit]) -> Result<FileSplit, ConnectorError> {
    let is_proved = |range: &FileSplit| !range.is_begun() || range.print.is_some();
    match split::join(ranges).filter(|_| ranges.iter().all(is_proved)) {
        Some(joined) => Ok(FileSplit {
            compressed: Some(CompressedPart::default()),
            ..joined
        }),
        None => Err(refused(
            path,
            "it was read without decompression before the checkpoint; restore the file as it was, or start over with `--fresh`",
        )),
    }
}

/// The fingerprint of the first bytes of a compressed file of this length.
pub(super) fn head_of(file: &File, path: &Path, len: u64) -> Result<Fingerprint, ConnectorError> {
    let len = len.min(PRINT_BYTES as u64) as usize;
    Ok(Fingerprint::of(&listing::bytes_at(file, path, 0, len)?))
}

/// Whether the file of a split has the first bytes that it had when it was opened, if it is compressed.
pub(super) fn has_head(split: &FileSplit, file: &File) -> Result<bool, ConnectorError> {
    match split.compressed.and_then(|part| part.head) {
        None => Ok(true),
        Some(head) => fits_head(head, file, &split.path),
    }
}

fn fits_head(head: Fingerprint, file: &File, path: &Path) -> Result<bool, ConnectorError> {
    Ok(head.fits(&listing::bytes_at(file, path, 0, head.bytes_len())?))
}

/// Whether the file that was seen at a path has what was read of these ranges of one file. It may have been compressed since,
/// or decompressed. `None` if it is no longer there: it has got another name, or is deleted.
pub(super) fn fit(
    ranges: &[FileSplit],
    path: &Path,
    seen: &Sighting,
) -> Result<Option<Fit>, ConnectorError> {
    if !ranges.iter().any(FileSplit::has_proof) {
        return Ok(Some(Fit::Yes));
    }
    let file = match listing::open(path) {
        // Its key has to do. The reader tells of it, if there is something to read.
        Err(error) if listing::may_not_be_read(&error) => {
            let found = listing::facts_at(path)?.map(|facts| facts.key);
            let is_same = found.is_some() && ranges.iter().all(|range| range.key == found);
            return Ok(Some(if is_same { Fit::Yes } else { Fit::No }));
        }
        opened => opened?.map(Arc::new),
    };
    let is_seen = |file: &Arc<File>| {
        let facts = seen.facts(path);
        facts.is_some_and(|facts| listing::is_file_of(file, facts.key))
    };
    match file.filter(is_seen) {
        Some(file) => fit_opened(ranges, &file, path).map(Some),
        None => Ok(None),
    }
}

fn fit_opened(ranges: &[FileSplit], file: &Arc<File>, path: &Path) -> Result<Fit, ConnectorError> {
    let start = FileStart::of_file(file, path)?;
    let is_fit = match start {
        FileStart::Compressed(kind) => return fit_compressed(ranges, kind, file, path),
        FileStart::TooShort(_) => return Ok(Fit::NotYet),
        FileStart::Plain | FileStart::Contradiction(_) => has_bytes(ranges, file, path)?,
    };
    Ok(if is_fit { Fit::Yes } else { Fit::No })
}

/// Whether the file of a split is being compressed anew, and its content does not reach the position yet.
pub(super) fn is_behind(split: &FileSplit, file: &Arc<File>) -> Result<bool, ConnectorError> {
    if split.position == 0 || has_head(split, file)? {
        return Ok(false);
    }
    let mut split = split.clone();
    split.forget_form();
    Ok(fit_opened(std::slice::from_ref(&split), file, &split.path)? == Fit::NotYet)
}

fn has_bytes(ranges: &[FileSplit], file: &File, path: &Path) -> Result<bool, ConnectorError> {
    for range in ranges {
        let fits = match range.print {
            Some(print) => listing::fits(file, path, range.position, print)?,
            None => !range.has_proof(),
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

fn fit_compressed(
    ranges: &[FileSplit],
    kind: InputCompression,
    file: &Arc<File>,
    path: &Path,
) -> Result<Fit, ConnectorError> {
    let mut heads = ranges.iter().filter_map(|range| range.compressed?.head);
    if let Some(head) = heads.next()
        && fits_head(head, file, path)?
    {
        return Ok(Fit::Yes);
    }
    let Some(joined) = split::join(ranges) else {
        return Ok(Fit::No);
    };
    let Some(print) = joined.print else {
        return Ok(Fit::No);
    };
    let len = print.bytes_len();
    let Some(from) = joined.position.checked_sub(len as u64) else {
        return Ok(Fit::No);
    };
    let content = content_at(kind, file, path, from, len)?;
    Ok(if print.fits(&content.bytes) {
        Fit::Yes
    } else if content.is_cut {
        Fit::NotYet
    } else {
        Fit::No
    })
}

/// The bytes of a split's file that follow its position, at most two; of the content if it is compressed.
pub(super) fn next_bytes(split: &FileSplit, path: &Path) -> Result<Vec<u8>, ConnectorError> {
    let Some(file) = listing::open_if_allowed(path)?.map(Arc::new) else {
        return Ok(Vec::new());
    };
    let start = FileStart::of_file(&file, path)?;
    match start {
        FileStart::Compressed(kind) if split.compressed.is_some() => {
            Ok(content_at(kind, &file, path, split.position, 2)?.bytes)
        }
        _ => listing::bytes_at(&file, path, split.position, 2),
    }
}

/// The first bytes of a split's file, or of its content if it is compressed; `None` if more of these are yet to come.
pub(super) fn start_of(
    split: &FileSplit,
    file: &Arc<File>,
    len: usize,
) -> Result<Option<Vec<u8>>, ConnectorError> {
    let path = &split.path;
    let start = FileStart::of_file(file, path)?;
    match start {
        FileStart::Compressed(kind) if split.compressed.is_some() => {
            let start = content_at(kind, file, path, 0, len)?;
            Ok((!start.is_cut).then_some(start.bytes))
        }
        _ => listing::bytes_at(file, path, 0, len).map(Some),
    }
}

/// Counts a file as read if it is compressed; returns whether it is. Where its last line begins would show only at the end of
/// its content.
pub(super) fn pass_over(split: &mut FileSplit) -> Result<bool, ConnectorError> {
    let path = &split.path;
    let Some(file) = listing::open_if_allowed(path)? else {
        return Ok(false);
    };
    let found = FileStart::of_file(&file, path)?;
    let is_compressed = matches!(found, FileStart::Compressed(_));
    if is_compressed {
        split.compressed = Some(CompressedPart {
            read_len: split.len,
            ..CompressedPart::default()
        });
    }
    Ok(is_compressed)
}

/// Looks whether a file that may grow is compressed, if nothing of it was read yet; returns `false` if it is too early to
/// tell.
pub(super) fn recognise(split: &mut FileSplit, file: &File) -> Result<bool, ConnectorError> {
    let head = split.compressed.and_then(|part| part.head);
    if split.position > 0 || head.is_some() {
        return Ok(true);
    }
    let path = &split.path;
    split.compressed = match FileStart::of_file(file, path)? {
        FileStart::TooShort(_) => return Ok(false),
        FileStart::Plain => None,
        FileStart::Compressed(_) => Some(CompressedPart::default()),
        FileStart::Contradiction(promised) => return Err(contradiction(path, promised)),
    };
    Ok(true)
}
