//! The stdout sink: writes records as text, as soon as they arrive.
//!
//! Written output cannot be taken back, so it is at least once: after a failure, records since the last checkpoint are
//! written again. Tasks take turns batch by batch. A closed pipe is an error that [`ConnectorError::is_closed_pipe`]
//! recognises; the caller decides whether it is a failure.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::record_format::RecordLayout;
use super::{
    ConnectorError, Guarantee, NodeContext, Recovered, RestoredSink, Sink, SinkCommitter,
    SinkFormat, SinkSettings, SinkWriter, UnwritableRecord,
};
use floodmark_checkpoint::{CommitPermit, Staged};
use floodmark_state::stream::{Batch, CheckpointId, TaskIndex};

/// A larger buffer is freed after use.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// The fields of a sink with `connector = "stdout"`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StdoutSinkSettings {
    /// The format of records.
    pub format: SinkFormat,
}

/// Writes to standard output.
#[derive(Debug)]
pub struct StdoutSink {
    format: SinkFormat,
}

impl StdoutSink {
    /// A sink with these settings.
    #[must_use]
    pub fn new(settings: &StdoutSinkSettings) -> Self {
        Self {
            format: settings.format,
        }
    }
}

impl SinkSettings for StdoutSinkSettings {
    fn identity(&self, _: &Path) -> Vec<(String, String)> {
        Vec::new()
    }

    fn writes(&self) -> Option<&Path> {
        None
    }

    fn format(&self) -> Option<SinkFormat> {
        Some(self.format)
    }

    fn open(&self, _: &NodeContext<'_>) -> Result<Arc<dyn Sink>, ConnectorError> {
        Ok(Arc::new(StdoutSink::new(self)))
    }
}

impl Sink for StdoutSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    fn writer(&self, _task: TaskIndex) -> Result<Box<dyn SinkWriter>, ConnectorError> {
        Ok(Box::new(StreamWriter {
            layout: self.format.into(),
            buffer: Vec::new(),
            output: io::stdout(),
        }))
    }

    fn committer(&self) -> Result<Box<dyn SinkCommitter>, ConnectorError> {
        Ok(Box::new(NothingToCommit))
    }
}

struct StreamWriter<W> {
    layout: RecordLayout,
    buffer: Vec<u8>,
    output: W,
}

impl<W: Write + Send> SinkWriter for StreamWriter<W> {
    fn write(&mut self, batch: &Batch) -> Result<Vec<UnwritableRecord>, ConnectorError> {
        self.buffer.clear();
        let mut unwritable = Vec::new();
        for (record, (key, value, _)) in batch.iter().enumerate() {
            if let Err(reason) = self.layout.write_record(key, value, &mut self.buffer) {
                unwritable.push(UnwritableRecord { record, reason });
            }
        }
        // One call: the lock of stdout is held once, so that batches of tasks do not mix.
        let written = self.output.write_all(&self.buffer);
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        written
            .and_then(|()| self.output.flush())
            .map_err(ConnectorError::io("write to", Path::new("stdout")))?;
        Ok(unwritable)
    }

    fn stage(&mut self, _checkpoint: CheckpointId) -> Result<Option<Staged>, ConnectorError> {
        self.output
            .flush()
            .map_err(ConnectorError::io("write to", Path::new("stdout")))?;
        Ok(None)
    }
}

struct NothingToCommit;

impl SinkCommitter for NothingToCommit {
    fn prepare(&mut self, _staged: &[Staged]) -> Result<Vec<u8>, ConnectorError> {
        Ok(Vec::new())
    }

    fn commit(&mut self, _: &CommitPermit, _: &[Staged]) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn recover(&mut self, _: Option<RestoredSink<'_>>) -> Result<Recovered, ConnectorError> {
        Ok(Recovered::default())
    }

    fn clear(&mut self) -> Result<Recovered, ConnectorError> {
        Ok(Recovered::default())
    }

    fn summary(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    //! Catches records that stay in a buffer, and a closed pipe that looks like any other failure.

    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn batch() -> Batch {
        let mut batch = Batch::default();
        batch.push(b"k", b"v", 0);
        batch.push(b"", b"w,", 0);
        batch
    }

    #[test]
    fn a_batch_is_out_when_write_returns() {
        // A line writer holds back an incomplete last line, and a buffered writer everything.
        let mut writer = StreamWriter {
            layout: SinkFormat::Csv.into(),
            buffer: Vec::new(),
            output: io::BufWriter::new(Vec::new()),
        };
        writer.write(&batch()).unwrap();
        assert_eq!(writer.output.get_ref(), b"k,v\n,\"w,\"\n");
        assert_eq!(writer.stage(CheckpointId(1)).unwrap(), None);
    }

    #[test]
    fn a_closed_pipe_can_be_told() {
        let mut writer = StreamWriter {
            layout: SinkFormat::Lines.into(),
            buffer: Vec::new(),
            output: Closed,
        };
        let error = writer.write(&batch()).unwrap_err();
        assert!(error.is_closed_pipe());
        assert!(error.to_string().contains("stdout"));
    }
}
