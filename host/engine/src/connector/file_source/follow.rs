//! One task's share of a file source that follows its files, also when these are rotated.
//!
//! The reader works in rounds: it looks which files have changed, reads those, and is idle for a while. A file is known by
//! its key in the file system, so a new name changes nothing. The files that were read last are kept open: such a file is
//! read to its end even if it was deleted. One that was truncated is read from its beginning. [`vanished`] handles files that
//! are no longer where they were; [`KnownFiles`] is how the tasks agree on who reads a file.

mod looking;
mod vanished;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::RecordFields;
use super::content;
use super::identity::{FileFacts, FileKey};
use super::known::KnownFiles;
use super::listing::{self, Listing, facts_of};
use super::notified::Notified;
use super::pace::LookPace;
use super::place::LineCounter;
use super::reader::{FILES_PER_READ, FileReader, OpenFile, label_of};
use super::refused::{ReadStop, whole_file};
use super::split::{FileSourceSplit, FileSplit, Watch};
use crate::connector::folder_events::FolderEvents;
use crate::connector::read_ahead::ReadAhead;
use crate::connector::{ConnectorError, ReadLimits, ReadOutcome, SourceProgress, SourceReader};
use floodmark_checkpoint::Split;
use floodmark_state::stream::{Batch, Unit};

/// Files that are kept open: those that were read last.
const HELD_MAX: usize = 256;
/// A new file that begins like a known one is read when its length has not changed for so long: it is no copy then that
/// is about to replace the known one.
const COPY_TIME: Duration = Duration::from_secs(3);
/// How long such a file waits between two looks at it.
const RETRY: Duration = Duration::from_millis(200);
/// How long a file, or the content of a compressed one, may be too short before it counts as truncated: a program that writes
/// it anew, with more at its end, truncates it first.
const REWRITE_TIME: Duration = Duration::from_secs(1);

/// What the readers of a source have in common.
#[derive(Debug, Clone)]
pub(super) struct FollowedSource {
    pub(super) base: PathBuf,
    pub(super) fields: Arc<RecordFields>,
    pub(super) listing: Arc<Listing>,
    pub(super) known: Arc<KnownFiles>,
}

/// Reads the files of one task.
///
/// - Each file of `ready` and `held` is in `files`, or is ignored.
/// - Names change only while no file is open.
pub(super) struct FollowReader {
    source: FollowedSource,
    /// Reads ranges with an end, which an earlier run without `follow` has left.
    ranges: FileReader,
    watches: Vec<Watch>,
    files: BTreeMap<FileKey, FollowedFile>,
    /// Files that have changed.
    ready: VecDeque<FileKey>,
    open: Option<OpenFollowed>,
    held: VecDeque<(FileKey, Arc<File>)>,
    /// Files that may be copies, or wait for theirs, and when to look at them again.
    waiting: BTreeSet<FileKey>,
    retry_at: Duration,
    pace: LookPace,
    /// Counts lines for messages.
    lines: LineCounter,
    /// `Some` if a service says what has changed.
    notified: Option<Notified>,
}

struct FollowedFile {
    split: FileSplit,
    /// The name of the link that has led to it, if a checkpoint may not have the path itself.
    link: Option<PathBuf>,
    /// The facts of the file when it was last read to its end.
    read: Option<FileFacts>,
    /// While it may be a copy: its length, and since when it has this length.
    suspected: Option<(u64, Duration)>,
    /// Since when it has been shorter than what was read.
    short_since: Option<Duration>,
    /// Whether it was deleted: its last line is complete then, with a newline or without.
    is_deleted: bool,
    /// Whether the last look at all files has not found it.
    is_missed: bool,
    /// `Some` if it vanished, and a file that is still being written may have its content.
    awaited: Option<AwaitedCopy>,
    /// Whether the folder is watched that a link with its name leads to.
    has_target_watched: bool,
}

/// A compressed file of which too little is there to tell what it is a copy of.
struct AwaitedCopy {
    path: PathBuf,
    len: u64,
    /// Since when it has this length.
    since: Duration,
}

struct OpenFollowed {
    key: FileKey,
    file: Arc<File>,
    facts: FileFacts,
    content: OpenFile,
    label: Arc<str>,
}

impl FollowedFile {
    fn new(split: FileSplit) -> Self {
        Self {
            split,
            link: None,
            read: None,
            suspected: None,
            short_since: None,
            is_deleted: false,
            is_missed: false,
            awaited: None,
            has_target_watched: false,
        }
    }

    /// Whether there may be something to read, given the facts of now.
    fn has_changed(&self, facts: &FileFacts) -> bool {
        self.read.as_ref() != Some(facts) && !self.split.is_set_aside()
    }
}

impl FollowReader {
    /// A reader of these splits. Those without an end have a key.
    pub(super) fn new(
        source: FollowedSource,
        splits: Vec<FileSplit>,
        watches: Vec<Watch>,
        poll: Duration,
    ) -> Self {
        let (files, ranges): (Vec<_>, Vec<_>) =
            splits.into_iter().partition(|split| split.end.is_none());
        let files = files
            .into_iter()
            .filter_map(|split| Some((split.key?, FollowedFile::new(split))));
        let (base, fields) = (source.base.clone(), Arc::clone(&source.fields));
        Self {
            source,
            ranges: FileReader::new(base, fields, ranges),
            watches,
            files: files.collect(),
            ready: VecDeque::new(),
            open: None,
            held: VecDeque::new(),
            waiting: BTreeSet::new(),
            retry_at: Duration::ZERO,
            pace: LookPace::new(poll),
            lines: LineCounter::default(),
            notified: None,
        }
    }

    /// Opens a file that has changed, if it has something to read.
    fn open(&mut self, key: FileKey, now: Duration) -> Result<(), ReadStop> {
        let is_aside = |it: &FollowedFile| it.split.is_set_aside();
        if self.files.get(&key).is_some_and(is_aside) {
            return Ok(());
        }
        let Some((file, facts)) = self.opened(key)? else {
            return Ok(());
        };
        let Some(followed) = self.files.get_mut(&key) else {
            return Ok(());
        };
        let split = &mut followed.split;
        if followed.read == Some(facts) || split.is_read() {
            followed.read = Some(facts);
            return Ok(());
        }
        if facts.len < split.least_len() || content::is_behind(split, &file)? {
            let since = *followed.short_since.get_or_insert(now);
            if now < since + REWRITE_TIME {
                self.waiting.insert(key);
                self.retry_at = now + RETRY;
                return Ok(());
            }
        }
        followed.short_since = None;
        if facts.len < split.least_len() || !content::has_head(split, &file)? {
            return Ok(self.truncated(key)?);
        }
        if !content::recognise(split, &file)? {
            // It does not show yet what it is.
            followed.read = Some(facts);
            return Ok(());
        }
        split.len = match &mut split.compressed {
            None => facts.len.max(split.position),
            Some(part) => {
                part.may_grow = true;
                facts.len
            }
        };
        // If it was whole at this length before, something was written into it: its content shows whether it is another file.
        let is_rewritten = followed.read.is_some_and(|read| read.len == facts.len);
        if split.is_whole() && (!is_rewritten || split.position == 0) {
            followed.read = Some(facts);
            return Ok(());
        }
        let is_new = split.position == 0 && facts.len > 0;
        if is_new && !self.may_begin(key, &file, facts, now)? {
            return Ok(());
        }
        self.begin(key, file, facts)
    }

    /// The file with this key, if it is where it was last seen.
    fn opened(&mut self, key: FileKey) -> Result<Option<(Arc<File>, FileFacts)>, ConnectorError> {
        let Some(followed) = self.files.get_mut(&key) else {
            return Ok(None);
        };
        if followed.is_missed {
            // It has no name to be opened by.
            self.pace.want_all();
            return Ok(None);
        }
        let path = &followed.split.path;
        let opened = match held(&self.held, key) {
            Some(file) => Ok(Some(Arc::clone(file))),
            None => listing::open(path).map(|file| file.map(Arc::new)),
        };
        let file = match opened {
            Err(error) if listing::may_not_be_read(&error) => {
                let facts = listing::facts_at(path)?.filter(|facts| facts.key == key);
                let Some(facts) = facts else {
                    self.pace.want_all();
                    return Ok(None);
                };
                // How long it is tells whether something would be missing.
                followed.split.len = match followed.split.compressed {
                    None => facts.len.max(followed.split.position),
                    Some(_) => facts.len,
                };
                followed.read = Some(facts);
                return Err(error);
            }
            opened => opened?,
        };
        let Some(file) = file else {
            // The next look at all files finds it, or not.
            self.pace.want_all();
            return Ok(None);
        };
        let found = file.metadata().map_err(ConnectorError::io("read", path))?;
        let facts = facts_of(&found);
        if facts.key != key {
            // The name is another file's by now.
            self.pace.want_all();
            return Ok(None);
        }
        Ok(Some((file, facts)))
    }

    /// Begins to read a file from its position.
    fn begin(&mut self, key: FileKey, file: Arc<File>, facts: FileFacts) -> Result<(), ReadStop> {
        let Some(followed) = self.files.get_mut(&key) else {
            return Ok(());
        };
        let split = &mut followed.split;
        if let Some(notified) = &mut self.notified
            && !std::mem::replace(&mut followed.has_target_watched, true)
        {
            notified.watch_target(&split.path);
        }
        let (fields, is_deleted) = (&self.source.fields, followed.is_deleted);
        let ahead = self.ranges.ahead();
        let content = match OpenFile::begin(&file, split, fields, is_deleted, ahead) {
            Err(ReadStop::Failed(error)) if is_cut(&error) => return Ok(self.truncated(key)?),
            content => content?,
        };
        self.open = Some(OpenFollowed {
            key,
            label: label_of(split, &self.source.base),
            file,
            facts,
            content,
        });
        Ok(())
    }

    /// Whether to begin with a file now. One that may be a copy waits: if the file that it begins like is truncated, or
    /// vanishes since it was compressed, the task of that one reads the copy from where it was.
    fn may_begin(
        &mut self,
        key: FileKey,
        file: &Arc<File>,
        facts: FileFacts,
        now: Duration,
    ) -> Result<bool, ConnectorError> {
        let Some(followed) = self.files.get_mut(&key) else {
            return Ok(false);
        };
        let known = &self.source.known;
        let since = match followed.suspected {
            Some((len, since)) if len == facts.len => Some(since),
            _ if known.wants_start(key) => {
                let start = content::start_of(&followed.split, file, KnownFiles::start_len())?;
                // Of a file that is still being compressed, too little may be there to tell.
                let may_be = start.is_none_or(|start| known.may_be_copy(key, &start));
                may_be.then_some(now)
            }
            suspected => suspected.map(|_| now),
        };
        followed.suspected = since.map(|since| (facts.len, since));
        let is_suspect = since.is_some_and(|since| now < since + COPY_TIME);
        if is_suspect || known.is_awaited(key) {
            self.waiting.insert(key);
            self.retry_at = now + RETRY;
            return Ok(false);
        }
        followed.suspected = None;
        let may = known.begin(key);
        if !may {
            // The task that had the original has it.
            self.files.remove(&key);
        }
        Ok(may)
    }

    /// Reads from the open file; returns whether there is no more in it for now.
    fn read_open(&mut self, limits: ReadLimits, batch: &mut Batch) -> Result<bool, ReadStop> {
        let Some(open) = &mut self.open else {
            return Ok(true);
        };
        let Some(followed) = self.files.get_mut(&open.key) else {
            return Ok(true);
        };
        let split = &mut followed.split;
        let (from, len) = (split.position, batch.len());
        let takes_tail = followed.is_deleted;
        let fields = &self.source.fields;
        let read = open.content.read(split, fields, takes_tail, limits, batch);
        let key = open.key;
        if batch.len() > len {
            let records = batch.len() - len;
            let span = (from, split.position);
            batch.origin.read(&open.label, Unit::Bytes, span, records);
        }
        let (ended, is_whole) = match read {
            // The content before the position is another one now.
            Err(ReadStop::Failed(
                ConnectorError::InputReplaced { .. } | ConnectorError::InputShrank { .. },
            )) => {
                self.open = None;
                self.truncated(key)?;
                return Ok(true);
            }
            // It became shorter. The records until here were read before that.
            Err(ReadStop::Failed(error)) if is_cut(&error) => (true, false),
            read => (read?, true),
        };
        if ended {
            split.print = open.content.window().print(split);
            followed.read = is_whole.then_some(open.facts);
            if !is_whole {
                self.ready.push_back(key);
            }
        }
        self.note_head(key)?;
        Ok(ended)
    }

    /// Lets the tasks know what the open file begins with, as soon as something of it was read: it may be copied and truncated
    /// before it is read to its end.
    fn note_head(&self, key: FileKey) -> Result<(), ConnectorError> {
        let (Some(open), Some(followed)) = (&self.open, self.files.get(&key)) else {
            return Ok(());
        };
        let (split, known) = (&followed.split, &self.source.known);
        if split.position > 0 && known.wants_head(key) {
            let len = KnownFiles::head_len(split);
            let head = listing::bytes_at(&open.file, &split.path, 0, len)?;
            known.begun(key, &head);
        }
        Ok(())
    }

    /// Tells of what cannot be read of a file, behind which the next call continues.
    ///
    /// # Errors
    /// When it is not the file that is wrong.
    #[cold]
    fn stopped(&mut self, key: FileKey, stop: ReadStop) -> Result<ReadOutcome, ConnectorError> {
        let Some(followed) = self.files.get_mut(&key) else {
            return match stop {
                ReadStop::Failed(error) => Err(error),
                ReadStop::Refused(_) => Ok(ReadOutcome::More),
            };
        };
        let split = &mut followed.split;
        let label = label_of(split, &self.source.base);
        let refused = match stop {
            ReadStop::Refused(refused) => *refused,
            ReadStop::Failed(error) => match whole_file(split, error)? {
                Some(refused) => refused,
                None => {
                    self.open = None;
                    return Ok(ReadOutcome::More);
                }
            },
        };
        if refused.content.is_file {
            if let Some(open) = self.open.take() {
                split.print = open.content.window().print(split);
            }
            split.set_aside();
            self.held.retain(|(held, _)| *held != key);
        }
        let bad = refused.into_bad_record(&label, &mut self.lines);
        Ok(ReadOutcome::Bad(Box::new(bad)))
    }

    /// Closes the open file, and keeps its descriptor for a while.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        if !self.files.contains_key(&open.key) {
            return;
        }
        self.held.retain(|(held, _)| *held != open.key);
        self.held.push_back((open.key, open.file));
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }
}

fn held(held: &VecDeque<(FileKey, Arc<File>)>, key: FileKey) -> Option<&Arc<File>> {
    let found = held.iter().find(|(held, _)| *held == key);
    found.map(|(_, file)| file)
}

/// Whether an error says that a file no longer has what was read or what it had a moment ago.
fn is_cut(error: &ConnectorError) -> bool {
    match error {
        ConnectorError::InputReplaced { .. } => true,
        ConnectorError::Io { source, .. } => source.kind() == ErrorKind::UnexpectedEof,
        _ => false,
    }
}

impl SourceReader for FollowReader {
    fn read(
        &mut self,
        now: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        match self.ranges.read(now, limits, batch)? {
            ReadOutcome::Finished => {}
            outcome => return Ok(outcome),
        }
        for _ in 0..FILES_PER_READ {
            if let Some(key) = self.open.as_ref().map(|open| open.key) {
                match self.read_open(limits, batch) {
                    Ok(true) => self.close(),
                    Ok(false) => return Ok(ReadOutcome::More),
                    Err(stop) => return self.stopped(key, stop),
                }
                continue;
            }
            if let Some(key) = self.ready.pop_front() {
                if let Err(stop) = self.open(key, now) {
                    return self.stopped(key, stop);
                }
                continue;
            }
            if let Some(news) = self.notified.as_mut().and_then(Notified::news) {
                self.look_at_news(&news);
                continue;
            }
            if !self.waiting.is_empty() && now >= self.retry_at {
                self.ready.extend(std::mem::take(&mut self.waiting));
                continue;
            }
            if !self.pace.is_time(now) {
                let until = match self.waiting.is_empty() {
                    true => self.pace.until(),
                    false => self.pace.until().min(self.retry_at),
                };
                return Ok(ReadOutcome::Idle { until });
            }
            self.look_at_all(now)?;
        }
        Ok(ReadOutcome::More)
    }

    fn read_ahead_by(&mut self, service: &Arc<dyn ReadAhead>) {
        self.ranges.read_ahead_by(service);
    }

    fn notify_by(&mut self, service: &Arc<dyn FolderEvents>) {
        if self.files.is_empty() && self.watches.is_empty() {
            return;
        }
        self.notified = Some(Notified::new(service));
    }

    fn take_warning(&mut self) -> Option<String> {
        let problem = self.notified.as_mut()?.take_problem();
        problem.filter(|_| self.source.known.warns_first())
    }

    fn has_news(&self) -> bool {
        self.notified.as_ref().is_some_and(Notified::has_news)
    }

    fn splits(&self) -> Vec<Split> {
        let watches = self.watches.iter().copied().map(FileSourceSplit::Watch);
        let files = self.files.iter().map(|(key, file)| {
            let mut split = file.split.clone();
            if let Some(open) = self.open.as_ref().filter(|open| open.key == *key) {
                split.print = open.content.window().print(&split);
            }
            if let Some(link) = &file.link {
                split.path.clone_from(link);
            }
            FileSourceSplit::File(split)
        });
        let pieces = watches.chain(files);
        let pieces = pieces.map(|piece| piece.encode(&self.source.base));
        pieces.chain(self.ranges.splits()).collect()
    }

    fn progress(&self) -> SourceProgress {
        let files = self.files.values().map(|file| file.split.done());
        SourceProgress {
            done: self.ranges.progress().done + files.sum::<u64>(),
            total: None,
        }
    }
}
