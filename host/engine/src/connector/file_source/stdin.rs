//! The source of standard input: one split, which one task reads as it comes.
//!
//! Input that was read cannot be asked for a second time, so the last of it is kept in memory, up to a bound. The source
//! outlives a restart inside the process, and a reader that is remade continues from what was kept: a failure of a plugin
//! loses nothing that is within the bound. A process that dies loses what it had read after its last checkpoint. Reads
//! never wait: the descriptor is asked first whether it has something. It is not switched to another mode, since other
//! processes may share it.

use std::fs::File;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event_time::{TimestampFormat, TimestampUnit};
use super::place::LineCounter;
use super::refused::ReadStop;
use super::replayed::ReplayedLetters;
use super::row::RowReader;
use super::settings::{CsvSettings, KeyFields, TimestampSettings, check};
use super::split::FileSplit;
use super::standard_input::StandardInput;
use super::window::Window;
use super::{FileSourceSettings, RecordFields, SourceFormat, line};
use crate::connector::csv_layout::CsvCharacter;
use crate::connector::{
    ConnectorError, Endless, NodeContext, ReadLimits, ReadOutcome, Source, SourceProgress,
    SourceReader, SourceSettings, encoding,
};
use floodmark_checkpoint::Split;
use floodmark_state::stream::{Batch, CheckpointId, Unit};

const VERSION: u8 = 1;
const WHAT: &str = "a split of a stdin source";
/// The name of standard input in messages.
pub(super) const NAME: &str = "standard input";
/// The first and the longest wait for input, when there is none.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);

/// The fields of a source with `connector = "stdin"`; most are those of a file source.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StdinSettings {
    /// The format of the input.
    pub format: SourceFormat,
    /// The key: fields in `jsonl`, columns in `csv`.
    pub key: Option<KeyFields>,
    /// In `lines`: separates the key from the value.
    pub key_separator: Option<String>,
    /// The field or column with the event time.
    pub timestamp: Option<String>,
    /// The unit of event times that are numbers.
    pub timestamp_unit: Option<TimestampUnit>,
    /// The only form that event times may have.
    pub timestamp_format: Option<TimestampFormat>,
    /// In `csv`: the character between fields.
    pub delimiter: Option<CsvCharacter>,
    /// In `csv`: the character around fields.
    pub quote: Option<CsvCharacter>,
    /// In `csv`: whether the first row names the columns.
    pub header: Option<bool>,
    /// In `csv`: the names of the columns.
    pub columns: Option<Vec<String>>,
    /// The number of bytes that are kept in memory for a restart inside the process.
    pub replay_bytes: NonZeroUsize,
}

impl Default for StdinSettings {
    fn default() -> Self {
        Self {
            format: SourceFormat::default(),
            key: None,
            key_separator: None,
            timestamp: None,
            timestamp_unit: None,
            timestamp_format: None,
            delimiter: None,
            quote: None,
            header: None,
            columns: None,
            replay_bytes: const { NonZeroUsize::new(64 << 20).expect("not 0") },
        }
    }
}

impl StdinSettings {
    /// The same settings for a file.
    fn as_of_file(&self) -> FileSourceSettings {
        FileSourceSettings {
            format: self.format,
            key: self.key.clone(),
            key_separator: self.key_separator.clone(),
            timestamp: TimestampSettings {
                field: self.timestamp.clone(),
                unit: self.timestamp_unit,
                format: self.timestamp_format.clone(),
            },
            csv: CsvSettings {
                delimiter: self.delimiter,
                quote: self.quote,
                header: self.header,
                columns: self.columns.clone(),
            },
            ..FileSourceSettings::of(NAME.into())
        }
    }
}

impl SourceSettings for StdinSettings {
    fn identity(&self, folder: &Path) -> Vec<(String, String)> {
        let mut facts = self.as_of_file().identity(folder);
        facts.retain(|(field, _)| field != "path");
        facts
    }

    fn endless(&self) -> Option<Endless> {
        None
    }

    fn reads(&self) -> Option<&Path> {
        None
    }

    fn reads_standard_input(&self) -> bool {
        true
    }

    fn open(&self, _: &NodeContext<'_>) -> Result<Arc<dyn Source>, ConnectorError> {
        Ok(Arc::new(StdinSource::new(self)?))
    }
}

/// Reads standard input.
pub struct StdinSource {
    fields: Arc<RecordFields>,
    input: Arc<StandardInput>,
}

#[derive(Serialize, Deserialize)]
struct StdinSplit {
    /// Bytes that were read, by all processes of the job.
    position: u64,
}

impl StdinSource {
    /// A source with these settings.
    ///
    /// # Errors
    /// When settings contradict each other. Nothing was read.
    pub fn new(settings: &StdinSettings) -> Result<Self, ConnectorError> {
        let as_of_file = settings.as_of_file();
        check(&as_of_file)?;
        Ok(Self {
            fields: Arc::new(RecordFields::new(&as_of_file)?),
            input: Arc::new(StandardInput::new(settings.replay_bytes)),
        })
    }
}

fn decode(split: &Split) -> Result<u64, ConnectorError> {
    let split: StdinSplit = encoding::decode(WHAT, VERSION, &split.0)?;
    Ok(split.position)
}

fn encode(position: u64) -> Split {
    Split(encoding::encode(VERSION, &StdinSplit { position }))
}

/// A split and its position for people, on one line.
#[must_use]
pub fn describe(split: &Split) -> String {
    match decode(split) {
        Ok(position) => format!("{NAME} at byte {position}"),
        Err(error) => error.to_string(),
    }
}

impl Source for StdinSource {
    fn splits(
        &self,
        _: Option<CheckpointId>,
        restored: Option<Vec<Split>>,
    ) -> Result<Vec<Split>, ConnectorError> {
        let restored = restored.unwrap_or_default();
        let position = restored.first().map_or(Ok(0), decode)?;
        self.input.check_kept(position)?;
        Ok(vec![encode(position)])
    }

    /// Before the first read of a process, every position is the one at which its input begins.
    fn can_resume(&self, splits: &[Split]) -> Result<(), ConnectorError> {
        let position = splits.first().map_or(Ok(0), decode)?;
        self.input.check_kept(position)
    }

    fn is_beside_input(&self) -> bool {
        false
    }

    fn reader(&self, splits: Vec<Split>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let mut reader = StdinReader {
            input: Arc::clone(&self.input),
            fields: Arc::clone(&self.fields),
            split: None,
            open: None,
            label: format!("`{NAME}`").into(),
            pause: PAUSE,
        };
        if let Some(split) = splits.first() {
            let position = decode(split)?;
            reader.split = Some(FileSplit {
                position,
                ..FileSplit::whole(NAME.into(), self.fields.format, u64::MAX)
            });
        }
        Ok(Box::new(reader))
    }

    fn letters(&self, folder: &Path, follow: bool) -> Option<Arc<dyn Source>> {
        let letters = ReplayedLetters::of_source(folder, follow, Arc::clone(&self.fields));
        Some(Arc::new(letters))
    }

    fn bytes_lost_behind(&self, splits: Option<&[Split]>) -> u64 {
        let split = splits.and_then(|splits| splits.first());
        let position = split.and_then(|split| decode(split).ok());
        self.input.taken_behind(position)
    }
}

struct StdinReader {
    input: Arc<StandardInput>,
    fields: Arc<RecordFields>,
    /// `None` if another task reads the input.
    split: Option<FileSplit>,
    open: Option<OpenStream>,
    label: Arc<str>,
    /// The wait after the next read without input.
    pause: Duration,
}

enum OpenStream {
    Lines(Box<Window>),
    Rows(Box<RowReader>),
}

impl OpenStream {
    fn at(
        position: u64,
        fields: &RecordFields,
        input: &Arc<StandardInput>,
    ) -> Result<Self, ReadStop> {
        let file: Arc<File> = input.begin(position)?;
        let window = Window::of_stream(Arc::clone(input), file, position);
        if fields.format != SourceFormat::Csv {
            return Ok(Self::Lines(Box::new(window)));
        }
        // At the start of the input, the names are read again.
        let names = match position == input.start() {
            true => None,
            false => input.names(),
        };
        let rows = RowReader::of_stream(window, fields, names)?;
        Ok(Self::Rows(Box::new(rows)))
    }

    /// Adds records; returns `true` if there are no more whole ones at hand.
    fn read(
        &mut self,
        reader: (&RecordFields, &StandardInput),
        split: &mut FileSplit,
        takes_tail: bool,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<bool, ReadStop> {
        let (fields, input) = reader;
        match self {
            Self::Lines(window) => {
                // Each process of the job may get input that begins with a mark.
                if window.position() == input.start() {
                    window.pass_mark()?;
                }
                line::read(fields, window, split, takes_tail, limits, batch)
            }
            Self::Rows(rows) => {
                if let Some(names) = rows.read_names(fields, split, takes_tail)? {
                    input.set_names(names);
                }
                let ended = rows.read(fields, split, takes_tail, limits, batch)?;
                if ended {
                    rows.go_back(fields, split.position, split.position == input.start());
                }
                Ok(ended)
            }
        }
    }
}

/// Tells of what cannot be read, behind which the next call continues. The rest of input with a wrong header is set aside.
///
/// # Errors
/// When it is not the input that is wrong.
#[cold]
fn stopped(
    stop: ReadStop,
    label: &Arc<str>,
    input: &StandardInput,
) -> Result<ReadOutcome, ConnectorError> {
    let refused = match stop {
        ReadStop::Refused(refused) => *refused,
        ReadStop::Failed(error) => return Err(error),
    };
    if refused.content.is_file {
        input.set_aside(refused.span.1);
    }
    let bad = refused.into_bad_record(label, &mut LineCounter::default());
    Ok(ReadOutcome::Bad(Box::new(bad)))
}

impl SourceReader for StdinReader {
    fn read(
        &mut self,
        now: Duration,
        limits: ReadLimits,
        batch: &mut Batch,
    ) -> Result<ReadOutcome, ConnectorError> {
        let Some(split) = &mut self.split else {
            return Ok(ReadOutcome::Finished);
        };
        if self.input.is_set_aside(split.position) {
            return Ok(ReadOutcome::Finished);
        }
        if self.open.is_none() {
            match OpenStream::at(split.position, &self.fields, &self.input) {
                Ok(open) => self.open = Some(open),
                Err(stop) => return stopped(stop, &self.label, &self.input),
            }
        }
        let open = self.open.as_mut().expect("it has just been opened");
        let takes_tail = self.input.has_ended();
        let (from, len) = (split.position, batch.len());
        let reader = (&*self.fields, &*self.input);
        let read = open.read(reader, split, takes_tail, limits, batch);
        let records = batch.len() - len;
        if records > 0 {
            let span = (from, split.position);
            batch.origin.read(&self.label, Unit::Bytes, span, records);
        }
        let ended = match read {
            Ok(ended) => ended,
            Err(stop) => {
                self.pause = PAUSE;
                return stopped(stop, &self.label, &self.input);
            }
        };
        if ended && takes_tail {
            return Ok(ReadOutcome::Finished);
        }
        // What follows the last line end counts once the input has ended.
        if !ended || records > 0 || self.input.has_ended() {
            self.pause = PAUSE;
            return Ok(ReadOutcome::More);
        }
        let until = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(ReadOutcome::Idle { until })
    }

    fn splits(&self) -> Vec<Split> {
        let splits = self.split.iter();
        splits.map(|split| encode(split.position)).collect()
    }

    fn progress(&self) -> SourceProgress {
        SourceProgress {
            done: self.split.as_ref().map_or(0, |split| split.position),
            total: None,
        }
    }
}
