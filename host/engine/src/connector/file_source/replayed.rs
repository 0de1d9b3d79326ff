//! Reads dead letters that are replayed to their node: the files of one folder, which another process adds as a whole and
//! never changes. Letters of operators and sinks have the record. Those of a source have bytes, which are parsed once more.
//!
//! It is a file source with these differences: an empty folder is not an error, nor is a missing file, since a
//! checkpoint may have been carried elsewhere. Letters of output that was taken back are not read: the job returned to
//! a checkpoint from before that record failed, so the record is processed again anyway. A file has its letters in the
//! order of the checkpoints that they were written in, so such letters are at the end of a file that the checkpoint
//! does not have, and the split is permanently cut before them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::listing::Listing;
use super::split::FileSourceSplit;
use super::{FileSource, ReadFrom, RecordFields, SourceFormat};
use crate::connector::letter::LetterPlace;
use crate::connector::{ConnectorError, Source, SourceReader, regular_file};
use floodmark_checkpoint::Split;
use floodmark_state::stream::CheckpointId;

/// Interval of checking for new files: people add them, so a second is short enough.
const POLL: Duration = Duration::from_secs(1);

/// Reads letters that are replayed to an operator or sink, or whose bytes a source parses once more.
#[derive(Debug)]
pub struct ReplayedLetters {
    files: FileSource,
}

impl ReplayedLetters {
    /// A source of the files of `folder`, which must exist. With `follow` it waits for new ones, and does not end.
    #[must_use]
    pub fn new(folder: &Path, follow: bool) -> Self {
        Self::with_fields(
            folder,
            follow,
            RecordFields::only(SourceFormat::DeadLetters),
        )
    }

    /// A source of the letters of a source that gets records in this way.
    pub(super) fn of_source(folder: &Path, follow: bool, fields: Arc<RecordFields>) -> Self {
        let fields = RecordFields {
            of_letters: Some(fields),
            ..RecordFields::only(SourceFormat::DeadLetters)
        };
        Self::with_fields(folder, follow, fields)
    }

    fn with_fields(folder: &Path, follow: bool, fields: RecordFields) -> Self {
        let files = FileSource {
            base: folder.to_owned(),
            listing: Arc::new(Listing::new(folder, Path::new(""))),
            known: Arc::default(),
            read_from: ReadFrom::Start,
            fields: Arc::new(fields),
            follow,
            // Letters of one file stay in their order.
            split_bytes: None,
            poll: POLL,
        };
        Self { files }
    }

    /// The splits of existing files, and the paths of these files.
    fn there(&self, splits: Vec<Split>) -> Result<(Vec<Split>, BTreeSet<PathBuf>), ConnectorError> {
        let (mut kept, mut paths) = (Vec::new(), BTreeSet::new());
        for split in splits {
            if let FileSourceSplit::File(file) = self.files.decode(&split)? {
                if !file.path.exists() {
                    continue;
                }
                paths.insert(file.path);
            }
            kept.push(split);
        }
        Ok((kept, paths))
    }

    /// Cuts off letters that were taken back when the job returned to the checkpoint.
    fn without_taken_back(
        &self,
        split: Split,
        known: &BTreeSet<PathBuf>,
        from: Option<CheckpointId>,
    ) -> Result<Split, ConnectorError> {
        let FileSourceSplit::File(mut file) = self.files.decode(&split)? else {
            return Ok(split);
        };
        if known.contains(&file.path) {
            return Ok(split);
        }
        match taken_back_at(&file.path, from)? {
            None => return Ok(split),
            Some(0) => {
                file.position = file.len;
                file.print = None;
            }
            end => file.end = end,
        }
        Ok(FileSourceSplit::File(file).encode(&self.files.base))
    }
}

/// The position in a file of the first letter written after a checkpoint, if there is one.
fn taken_back_at(path: &Path, from: Option<CheckpointId>) -> Result<Option<u64>, ConnectorError> {
    let from = from.unwrap_or(CheckpointId(0));
    let name = path.file_name().and_then(|name| name.to_str());
    if name
        .and_then(LetterPlace::parse_file_name)
        .is_some_and(|(newest, _)| newest <= from)
    {
        return Ok(None);
    }
    let file = regular_file::open(path, 0).map_err(ConnectorError::io("open", path))?;
    let mut lines = BufReader::new(file);
    let (mut at, mut line) = (0, Vec::new());
    loop {
        let read = lines.read_until(b'\n', &mut line);
        if read.map_err(ConnectorError::io("read", path))? == 0 {
            return Ok(None);
        }
        // The reader reports an invalid line.
        let replayed = std::str::from_utf8(&line)
            .ok()
            .and_then(LetterPlace::of_line);
        if replayed.is_some_and(|replayed| replayed.checkpoint > from) {
            return Ok(Some(at));
        }
        at += line.len() as u64;
        line.clear();
    }
}

impl Source for ReplayedLetters {
    fn splits(
        &self,
        from: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        let (restored, known) = self.there(restored.unwrap_or_default())?;
        let splits = match self.files.splits(from, Some(restored)) {
            Err(ConnectorError::NoInput { .. }) => Vec::new(),
            splits => splits?,
        };
        let splits = splits.into_iter();
        splits
            .map(|split| self.without_taken_back(split, &known, from))
            .collect()
    }

    /// Files of letters may be gone.
    fn can_resume(&self, _: &[Split]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn is_beside_input(&self) -> bool {
        true
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        self.files.reader(splits)
    }
}

#[cfg(test)]
mod tests {
    //! Catches letters that are read although they were taken back, at once or after the next checkpoint, ones that are
    //! skipped although they were not, and added or removed files that stop the job.

    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::connector::letter::Letter;
    use crate::connector::{ReadLimits, ReadOutcome};
    use floodmark_state::stream::{Batch, NO_TIMESTAMP};

    /// Writes a file of letters of these checkpoints.
    fn write(folder: &TempDir, number: u64, checkpoints: &[u64]) -> PathBuf {
        let line = |&checkpoint: &u64| {
            let letter = Letter {
                operator: "count".to_owned(),
                plugin: String::new(),
                reason: "no".to_owned(),
                position: "here".to_owned(),
                input: "in".to_owned(),
                key: vec![255],
                value: format!("{number}.{checkpoint}").into_bytes(),
                timestamp: NO_TIMESTAMP,
                columns: Vec::new(),
                bytes_in_all: None,
            };
            let place = LetterPlace {
                checkpoint: CheckpointId(checkpoint),
                sink: "letters".to_owned(),
                part: "part".to_owned(),
                line: 1,
            };
            place.to_line(&letter) + "\n"
        };
        let text: String = checkpoints.iter().map(line).collect();
        let newest = checkpoints.iter().max().copied().unwrap();
        let path = folder
            .path()
            .join(LetterPlace::file_name(CheckpointId(newest), number));
        fs::write(&path, text).unwrap();
        path
    }

    /// All values that can be read now, and the splits afterwards.
    fn read(
        source: &ReplayedLetters,
        from: u64,
        restored: Option<Vec<Split>>,
    ) -> (String, Vec<Split>) {
        let splits = source.splits(Some(CheckpointId(from)), restored).unwrap();
        let mut reader = source.reader(splits).unwrap();
        let limits = ReadLimits {
            records_max: 2,
            bytes_max: usize::MAX,
        };
        let mut values = Vec::new();
        loop {
            let mut batch = Batch::default();
            let outcome = reader.read(Duration::ZERO, limits, &mut batch).unwrap();
            for (key, value, _) in batch.iter() {
                assert_eq!(key, [255]);
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
            if outcome != ReadOutcome::More {
                return (values.join(" "), reader.splits());
            }
        }
    }

    #[test]
    fn what_was_taken_back_is_never_read() {
        for follow in [false, true] {
            let folder = TempDir::new().unwrap();
            let source = ReplayedLetters::new(folder.path(), follow);
            assert_eq!(read(&source, 9, None).0, "");
            write(&folder, 1, &[3, 5, 5]);
            write(&folder, 2, &[6, 7]);
            assert_eq!(read(&source, 7, None).0, "1.3 1.5 1.5 2.6 2.7");
            // With `follow`, files of which only a part counts come first.
            let (values, _) = read(&source, 6, None);
            let mut values: Vec<&str> = values.split(' ').collect();
            values.sort_unstable();
            assert_eq!(values, ["1.3", "1.5", "1.5", "2.6"]);
            assert_eq!(read(&source, 2, None).0, "");
            let (values, splits) = read(&source, 4, None);
            assert_eq!(values, "1.3");
            // At checkpoint 20, letters that are written from now on are read; those that were skipped stay skipped.
            write(&folder, 3, &[8]);
            let (values, splits) = read(&source, 20, Some(splits));
            assert_eq!(values, "3.8");
            assert_eq!(read(&source, 20, Some(splits)).0, "");
        }
    }

    #[test]
    fn files_may_be_gone_and_come() {
        let folder = TempDir::new().unwrap();
        let source = ReplayedLetters::new(&folder.path().join("none"), false);
        assert_eq!(read(&source, 9, None).0, "");
        let source = ReplayedLetters::new(folder.path(), false);
        let path = write(&folder, 1, &[1]);
        let (_, splits) = read(&source, 9, None);
        fs::remove_file(path).unwrap();
        fs::write(folder.path().join(".draft"), "half a let").unwrap();
        let (values, splits) = read(&source, 9, Some(splits));
        assert_eq!((values.as_str(), splits.len()), ("", 0));
        write(&folder, 2, &[1]);
        assert_eq!(read(&source, 9, Some(splits)).0, "2.1");
    }

    #[test]
    fn a_line_that_is_no_letter_is_told() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("x.jsonl"), "\n{\"key\":\"k\"}\n").unwrap();
        let source = ReplayedLetters::new(folder.path(), false);
        let splits = source.splits(Some(CheckpointId(1)), None).unwrap();
        let mut reader = source.reader(splits).unwrap();
        let limits = ReadLimits {
            records_max: 9,
            bytes_max: 999,
        };
        let read = reader.read(Duration::ZERO, limits, &mut Batch::default());
        let ReadOutcome::Bad(bad) = read.unwrap() else {
            panic!("the line is not a letter")
        };
        assert_eq!(bad.place, "`x.jsonl`, line 2, byte 1");
        assert_eq!(
            bad.reason,
            "not a dead letter: it has no `timestamp`; correct or remove the line, or set another `format`"
        );
        assert_eq!(bad.content.bytes, b"{\"key\":\"k\"}");
    }
}
