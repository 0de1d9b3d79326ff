//! Plans what a job reads: finds the files of a checkpoint among those that are there now, and adds the new ones.
//!
//! [`identity`] decides which file is which; what that means depends on `follow`. A followed log may be
//! rotated: what vanished or was truncated counts as read if it was read to its end. Without `follow`, input that is no
//! longer what it was is an error. A name from a checkpoint is compared with `path` before anything is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::content;
use super::identity::{
    self, FileFacts, FileKey, Fit, LOOKS_MAX, Remembered, Sighting, Whereabouts,
};
use super::listing::{self, FilesByPath};
use super::split::{self, At, FileSourceSplit, FileSplit, Watch};
use super::{FileSource, ReadFrom};
use crate::connector::ConnectorError;
use floodmark_checkpoint::Split;

/// The ranges of one file, as they were restored.
type Ranges = Vec<FileSplit>;

/// Restored files. Two may have had the same name, one after the other.
type RestoredFiles = BTreeMap<(PathBuf, Option<FileKey>), Ranges>;

/// Where restored files are now. Those that count as read are in neither.
#[derive(Default)]
struct RecognisedFiles {
    /// By the paths that they have now.
    found: BTreeMap<PathBuf, (FileFacts, Ranges)>,
    /// Files that vanished, each with one that may be its copy and is still being compressed.
    awaiting: Vec<(FileSplit, FileKey)>,
    /// Whether a followed file was truncated, and no copy of it was seen.
    lacks_copy: bool,
    /// A path whose file had another name when it was opened. The rest of the files was not looked for.
    moved: Option<PathBuf>,
}

impl RecognisedFiles {
    /// Whether the files have to be seen once more: what was seen before may be out of date. A copy is made before its
    /// original is truncated, so it is seen the second time.
    fn is_outdated(&self, looks: usize) -> bool {
        self.moved.is_some() || (self.lacks_copy && looks == 1)
    }
}

impl FileSource {
    /// All pieces to read.
    pub(super) fn plan(
        &self,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<FileSourceSplit>, ConnectorError> {
        let is_first = restored.is_none();
        let files = self.restored_files(restored.unwrap_or_default())?;
        let (seen, recognised) = self.find_restored(&files, is_first)?;
        let RecognisedFiles {
            mut found,
            awaiting,
            ..
        } = recognised;
        let mut keys: BTreeSet<FileKey> = BTreeSet::new();
        if self.follow {
            // Two names of one file are one file.
            found.retain(|_, (facts, _)| keys.insert(facts.key));
        }
        let format = self.fields.format;
        for (path, facts) in seen.listed() {
            let is_known = self.follow && keys.contains(&facts.key);
            if found.contains_key(path) || is_known {
                continue;
            }
            keys.insert(facts.key);
            let mut file = FileSplit::of(path.clone(), format, facts);
            let is_passed_over = is_first && self.read_from == ReadFrom::End;
            if is_passed_over && !content::pass_over(&mut file)? {
                (file.position, file.print) = listing::last_line_end(path, facts.len)?;
            }
            found.insert(path.clone(), (*facts, vec![file]));
        }
        let mut planned = Vec::new();
        for (path, (facts, mut ranges)) in found {
            if ranges.iter().any(FileSplit::is_set_aside) {
                planned.append(&mut ranges);
                continue;
            }
            content::plan(&path, facts.len, &mut ranges, self.follow)?;
            refuse_continued(&path, facts.len, &ranges)?;
            split::plan(ranges, facts.len, self.split_bytes, &mut planned);
        }
        if self.follow {
            self.known.reset(&planned, !is_first)?;
        }
        for (file, copy) in awaiting {
            if let Some(key) = file.key {
                self.known.await_copy(key, copy);
                planned.push(file);
            }
        }
        let watches = self.follow.then(Watch::all).into_iter().flatten();
        let watches = watches.map(FileSourceSplit::Watch);
        Ok(watches
            .chain(planned.into_iter().map(FileSourceSplit::File))
            .collect())
    }

    /// The restored ranges, file by file.
    fn restored_files(&self, splits: Vec<Split>) -> Result<RestoredFiles, ConnectorError> {
        let mut files = RestoredFiles::new();
        for split in &splits {
            // Watches are added to all plans.
            if let FileSourceSplit::File(file) = self.decode(split)? {
                let name = (file.path.clone(), file.key);
                files.entry(name).or_default().push(file);
            }
        }
        // A copy may have been handed from one task to another, so that both saved it.
        for ranges in files.values_mut() {
            let open_ended = ranges.iter().filter(|range| range.end.is_none());
            let furthest = open_ended.map(|range| range.position).max();
            let mut has_one = false;
            ranges.retain(|range| {
                let is_furthest = Some(range.position) == furthest;
                range.end.is_some() || (is_furthest && !std::mem::replace(&mut has_one, true))
            });
        }
        Ok(files)
    }

    /// Sees the files that are there, and finds the restored ones among them.
    fn find_restored(
        &self,
        files: &RestoredFiles,
        is_first: bool,
    ) -> Result<(Sighting, RecognisedFiles), ConnectorError> {
        let mut looks = 0;
        loop {
            let seen = self.sight_with(files, is_first)?;
            let recognised = self.recognise(files, &seen)?;
            looks += 1;
            if !recognised.is_outdated(looks) {
                return Ok((seen, recognised));
            }
            if let (Some(path), LOOKS_MAX..) = (recognised.moved, looks) {
                let reason = "each time that it is looked for, it has just got another name; run the job again when no program renames files without a pause";
                let reason = io::Error::new(ErrorKind::ResourceBusy, reason);
                return Err(ConnectorError::io("read", &path)(reason));
            }
        }
    }

    /// The files that are there now, and the restored ones beside them.
    fn sight_with(
        &self,
        files: &RestoredFiles,
        is_first: bool,
    ) -> Result<Sighting, ConnectorError> {
        let mut seen = self.sight(is_first)?;
        let is_missed = |(path, key): &(PathBuf, Option<FileKey>)| {
            key.is_some_and(|key| seen.find(key, path).is_none())
        };
        if files.keys().any(is_missed) {
            // A folder is not read in one moment: a file may get another name, or be compressed, while this is done.
            seen = self.sight(is_first)?;
        }
        self.look_beside(files, &mut seen)?;
        Ok(seen)
    }

    /// The files that are there now.
    fn sight(&self, is_first: bool) -> Result<Sighting, ConnectorError> {
        let listed = match self.listing.list() {
            // Restored files are checked one by one.
            Err(ConnectorError::NoInput { .. }) if !is_first => FilesByPath::new(),
            // A folder or pattern may match no file at first, but a single file must exist.
            Err(ConnectorError::NoInput { .. }) if self.follow && self.listing.is_open() => {
                FilesByPath::new()
            }
            listed => listed?,
        };
        Ok(Sighting::new(listed))
    }

    /// Adds files that were renamed to something that `path` does not match, and those from which a followed link was turned
    /// away, if they are beside the one that it leads to now. A path in a checkpoint would say where such a file is, too, but
    /// could also be made to name any file.
    fn look_beside(
        &self,
        files: &RestoredFiles,
        seen: &mut Sighting,
    ) -> Result<(), ConnectorError> {
        let mut wanted: BTreeMap<PathBuf, BTreeSet<u64>> = BTreeMap::new();
        for (path, key) in files.keys() {
            let Some(key) = key.filter(|key| seen.find(*key, path).is_none()) else {
                continue;
            };
            let folder = path.parent().map(Path::to_owned);
            let target = match self.follow {
                true => listing::target_folder(path),
                false => None,
            };
            for folder in folder.into_iter().chain(target) {
                wanted.entry(folder).or_default().insert(key.inode);
            }
        }
        for (folder, inodes) in wanted {
            let mut beside = FilesByPath::new();
            listing::with_inodes(&folder, &|inode| inodes.contains(&inode), &mut beside)?;
            seen.add_beside(beside);
        }
        Ok(())
    }

    /// Finds the restored files.
    fn recognise(
        &self,
        files: &RestoredFiles,
        seen: &Sighting,
    ) -> Result<RecognisedFiles, ConnectorError> {
        let is_begun = |range: &&FileSplit| range.position > 0 || range.is_whole();
        let begun = files.values().flatten().filter(is_begun);
        let mut begun: BTreeSet<FileKey> = begun.filter_map(|range| range.key).collect();
        let mut recognised = RecognisedFiles::default();
        for ((path, _), ranges) in files {
            let mut ranges = ranges.clone();
            let is_aside = ranges.iter().any(FileSplit::is_set_aside);
            if is_aside {
                if let Some((place, facts)) = keyed(path, &ranges, seen) {
                    // It stays so, whatever its content is now.
                    self.take_place(&mut ranges, place, facts);
                    let found = recognised.found.entry(place.to_owned());
                    found.or_insert((*facts, ranges));
                    continue;
                }
                if !ranges.iter().any(FileSplit::has_proof) {
                    continue;
                }
                // What has replaced it is read: on from the position if it has the same bytes before that.
                ranges.iter_mut().for_each(FileSplit::readmit);
            }
            let file = remembered(path, &ranges);
            let found = match locate(&file, &ranges, seen, &begun)? {
                Ok(found) => found,
                Err(moved) => {
                    recognised.moved = Some(moved);
                    return Ok(recognised);
                }
            };
            let is_cut = matches!(found, Whereabouts::Truncated { copy: None, .. });
            recognised.lacks_copy |= is_cut && self.follow;
            let place = match found {
                Whereabouts::There(place) => Some(place),
                _ if is_aside => None,
                Whereabouts::Unclear(copy) if self.follow => {
                    let copy = seen.facts(copy).map(|facts| facts.key);
                    let waiting = split::join(&ranges).zip(copy);
                    recognised.awaiting.extend(waiting);
                    continue;
                }
                Whereabouts::Unclear(_) => self.accept(seen.lost(path), seen, &file, &ranges)?,
                found => self.accept(found, seen, &file, &ranges)?,
            };
            let Some((place, facts)) = place.and_then(|at| Some((at, seen.facts(at)?))) else {
                continue;
            };
            if file.position > 0 {
                begun.insert(facts.key);
            }
            let found = &mut recognised.found;
            // A copy may also be known as a file of its own, of which nothing was read.
            let known = found.get(place).map(|(_, known)| furthest(known));
            if known.is_some_and(|known| known >= file.position) {
                continue;
            }
            self.take_place(&mut ranges, place, facts);
            found.insert(place.to_owned(), (*facts, ranges));
        }
        Ok(recognised)
    }

    /// Gives ranges the key of their file and its path. A file that only a link has led to keeps the name of that.
    fn take_place(&self, ranges: &mut [FileSplit], place: &Path, facts: &FileFacts) {
        let is_named =
            ranges.iter().all(|range| range.path == place) || self.listing.may_name(place);
        for range in ranges {
            if is_named {
                range.path = place.to_owned();
            }
            range.key = Some(facts.key);
        }
    }

    /// Where to continue with a file that is not there as it was; `None` if it counts as read.
    fn accept<'a>(
        &self,
        found: Whereabouts<'a>,
        seen: &Sighting,
        file: &Remembered<'_>,
        ranges: &[FileSplit],
    ) -> Result<Option<&'a Path>, ConnectorError> {
        let is_complete = ranges.iter().all(FileSplit::is_complete);
        match found {
            Whereabouts::There(place) => Ok(Some(place)),
            // Without a copy, it is read from its beginning, like a new file.
            Whereabouts::Truncated { copy, .. } if self.follow => Ok(copy),
            Whereabouts::Truncated { path, .. } => {
                let len = seen.facts(path).map(|facts| facts.len);
                Err(changed(path, len, file))
            }
            Whereabouts::Replaced | Whereabouts::Gone if self.follow && file.position == 0 => {
                Ok(None)
            }
            Whereabouts::Replaced if self.follow && is_complete => Ok(None),
            Whereabouts::Replaced => Err(changed(file.path, None, file)),
            Whereabouts::Gone | Whereabouts::Unclear(_) if is_complete => Ok(None),
            Whereabouts::Gone | Whereabouts::Unclear(_) => Err(ConnectorError::InputGone {
                path: file.path.to_owned(),
                position: file.position,
            }),
        }
    }
}

/// Where the file of ranges is, if none of the files in `begun` is another one. The inner error is a path whose file is no
/// longer the one that was seen there.
fn locate<'a>(
    file: &Remembered<'_>,
    ranges: &[FileSplit],
    seen: &'a Sighting,
    begun: &BTreeSet<FileKey>,
) -> Result<Result<Whereabouts<'a>, PathBuf>, ConnectorError> {
    let is_unread = |key: FileKey| !begun.contains(&key);
    let mut moved = None;
    let mut fits = |at: &Path| {
        let fit = content::fit(ranges, at, seen)?;
        if fit.is_none() {
            moved = Some(at.to_owned());
        }
        Ok::<_, ConnectorError>(fit.unwrap_or(Fit::No))
    };
    let found = identity::find(file, seen, &is_unread, &mut fits)?;
    Ok(match moved {
        Some(moved) => Err(moved),
        None => Ok(found),
    })
}

/// Where the file of ranges is by its key alone.
fn keyed<'a>(
    path: &Path,
    ranges: &[FileSplit],
    seen: &'a Sighting,
) -> Option<(&'a Path, &'a FileFacts)> {
    let key = ranges.iter().find_map(|range| range.key)?;
    seen.find(key, path)
}

fn changed(path: &Path, len: Option<u64>, file: &Remembered<'_>) -> ConnectorError {
    match len {
        Some(len) if len < file.least_len => ConnectorError::InputShrank {
            path: path.to_owned(),
            len,
            position: file.least_len,
        },
        _ => ConnectorError::InputReplaced {
            path: path.to_owned(),
            position: file.position,
        },
    }
}

fn remembered<'a>(path: &'a Path, ranges: &[FileSplit]) -> Remembered<'a> {
    let begun = ranges.iter().filter(|range| range.position > range.start);
    Remembered {
        path,
        key: ranges.iter().find_map(|range| range.key),
        position: furthest(ranges),
        least_len: begun.map(FileSplit::least_len).max().unwrap_or(0),
        has_print: ranges.iter().any(FileSplit::has_proof),
    }
}

/// The furthest position in ranges.
fn furthest(ranges: &[FileSplit]) -> u64 {
    let begun = ranges.iter().filter(|range| range.position > range.start);
    begun.map(|range| range.position).max().unwrap_or(0)
}

/// Refuses a file whose last line was read as a record, and was not complete: what follows would be another record.
fn refuse_continued(path: &Path, len: u64, ranges: &[FileSplit]) -> Result<(), ConnectorError> {
    let unfinished = ranges.iter().filter(|range| range.at == At::Unfinished);
    let Some(range) = unfinished.max_by_key(|range| range.position) else {
        return Ok(());
    };
    let has_more = match range.compressed {
        None => range.position < len,
        Some(part) => part.read_len != len,
    };
    if !has_more {
        return Ok(());
    }
    let next = content::next_bytes(range, path)?;
    // A newline only ends the line.
    if next.is_empty() || next.starts_with(b"\n") || next == b"\r\n" {
        return Ok(());
    }
    Err(ConnectorError::InputContinued {
        path: path.to_owned(),
        position: range.position,
    })
}

#[cfg(test)]
mod tests {
    //! Catches a start that takes a file for truncated, or for gone, because it got another name or was copied between two
    //! looks at it: its lines would come twice, or be missing.

    use std::fs;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::connector::file_source::tests::{limits, source};
    use crate::connector::{ReadOutcome, Source};
    use floodmark_state::stream::Batch;

    /// What a start recognises if the log is changed in this way after its folder was listed, and what it reads then.
    fn check(change: impl Fn(&Path), is_moved: bool, lacks_copy: bool, expected: &[&str]) {
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("log");
        fs::write(&log, "one\ntwo\n").unwrap();
        let source = source(&folder, "path = 'log*'\nfollow = true");
        let splits = source.splits(None, None).unwrap();
        let (lines, splits) = read_for(&source, splits);
        assert_eq!(lines, ["one", "two"]);

        let files = source.restored_files(splits.clone()).unwrap();
        let seen = source.sight_with(&files, false).unwrap();
        change(&log);
        let recognised = source.recognise(&files, &seen).unwrap();
        assert_eq!(recognised.moved.is_some(), is_moved);
        assert_eq!(recognised.lacks_copy, lacks_copy);
        assert!(recognised.is_outdated(1));
        assert_eq!(recognised.is_outdated(2), is_moved);
        let splits = source.splits(None, Some(splits)).unwrap();
        assert_eq!(read_for(&source, splits).0, expected);
    }

    /// All lines that come in ten seconds, and the splits after that.
    fn read_for(source: &FileSource, splits: Vec<Split>) -> (Vec<String>, Vec<Split>) {
        let mut reader = source.reader(splits).unwrap();
        let (mut now, mut lines) = (Duration::ZERO, Vec::new());
        while now < Duration::from_secs(10) {
            let mut batch = Batch::default();
            match reader.read(now, limits(9), &mut batch).unwrap() {
                ReadOutcome::Idle { until } => now = until,
                outcome => assert_eq!(outcome, ReadOutcome::More),
            }
            let values = batch.values.iter();
            lines.extend(values.map(|line| String::from_utf8(line.to_vec()).unwrap()));
        }
        lines.sort();
        (lines, reader.splits())
    }

    #[test]
    fn a_file_that_changes_between_two_looks_is_looked_for_again() {
        let new_log = |log: &Path| fs::write(log, "three\n").unwrap();
        // Renamed, with and without a new one in its place.
        check(
            |log| fs::rename(log, log.with_extension("1")).unwrap(),
            true,
            false,
            &[],
        );
        check(
            |log| {
                fs::rename(log, log.with_extension("1")).unwrap();
                new_log(log);
            },
            true,
            false,
            &["three"],
        );
        // Compressed.
        check(
            |log| {
                let bytes = zstd::encode_all(&b"one\ntwo\nfour\n"[..], 1).unwrap();
                fs::write(log.with_extension("zst"), bytes).unwrap();
                fs::remove_file(log).unwrap();
            },
            true,
            false,
            &["four"],
        );
        // Copied and truncated.
        check(
            |log| {
                fs::copy(log, log.with_extension("1")).unwrap();
                new_log(log);
            },
            false,
            true,
            &["three"],
        );
    }
}
