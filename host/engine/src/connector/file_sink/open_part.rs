//! A part that is being written: its buffer, and its file once the buffer was written for the first time.
//!
//! A part has one file, which may be closed and opened again in between, unless it is compressed. Nothing is synced here.

use std::fs::{File, OpenOptions};
use std::path::Path;

use super::compression::{OutputCompression, PartOutput};
use super::part::Size;
use crate::connector::ConnectorError;
use crate::connector::record_format::RecordLayout;

/// Bytes that are written at once.
pub(super) const WRITE_BYTES: usize = 256 << 10;

/// - A part without records has no number, no file and an empty buffer.
pub(super) struct OpenPart {
    /// The folder where it will be visible, relative to that of the sink.
    pub(super) folder: String,
    /// Its number within the checkpoint, from 1; 0 before its first record.
    pub(super) number: u32,
    /// When its file was used: a later use has a higher number.
    pub(super) used: u64,
    buffer: Vec<u8>,
    size: Size,
    /// Whether there is a file.
    is_made: bool,
    output: Option<PartOutput>,
}

impl OpenPart {
    pub(super) fn new(folder: String) -> Self {
        Self {
            folder,
            number: 0,
            used: 0,
            buffer: Vec::new(),
            size: Size::default(),
            is_made: false,
            output: None,
        }
    }

    /// Adds a record to the buffer.
    ///
    /// # Errors
    /// When it does not fit the format, with the reason; nothing was added.
    #[inline]
    pub(super) fn push(
        &mut self,
        (layout, has_header): (RecordLayout, bool),
        key: &[u8],
        value: &[u8],
    ) -> Result<(), String> {
        if has_header && self.size.records == 0 {
            layout.write_header(&mut self.buffer);
        }
        if let Err(reason) = layout.write_record(key, value, &mut self.buffer) {
            if self.size.records == 0 {
                self.buffer.clear();
            }
            return Err(reason);
        }
        self.size.records += 1;
        Ok(())
    }

    pub(super) fn records(&self) -> u64 {
        self.size.records
    }

    /// Bytes that are not in the file yet.
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The length of the file, with what the buffer adds to it. What an encoder will make of its input is unknown.
    pub(super) fn bytes(&self, compression: OutputCompression) -> u64 {
        match compression {
            OutputCompression::None => self.size.bytes + self.buffer.len() as u64,
            OutputCompression::Gzip | OutputCompression::Zstd => self.size.bytes,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.output.is_some()
    }

    /// Whether everything is in the file.
    pub(super) fn is_written(&self) -> bool {
        self.is_made && self.buffer.is_empty()
    }

    /// Makes the file, or opens it again to append.
    pub(super) fn open(
        &mut self,
        path: &Path,
        compression: OutputCompression,
    ) -> Result<(), ConnectorError> {
        let output = if self.is_made {
            let file = OpenOptions::new().append(true).open(path);
            let file = file.map_err(ConnectorError::io("open", path))?;
            PartOutput::resume(file, self.size.bytes)
        } else {
            File::create(path)
                .and_then(|file| PartOutput::begin(file, compression))
                .map_err(ConnectorError::io("create", path))?
        };
        self.output = Some(output);
        self.is_made = true;
        Ok(())
    }

    /// Writes the buffer to the open file.
    pub(super) fn write(&mut self, path: &Path) -> Result<(), ConnectorError> {
        if let Some(output) = &mut self.output {
            output
                .write_all(&self.buffer)
                .map_err(ConnectorError::io("write", path))?;
            self.size.bytes = output.bytes();
            self.buffer.clear();
            // One long record must not keep its memory permanently.
            self.buffer.shrink_to(2 * WRITE_BYTES);
        }
        Ok(())
    }

    /// Closes a file that can be opened again. Many parts are closed, so only open ones keep memory for a buffer.
    pub(super) fn close(&mut self) {
        self.output = None;
        self.buffer.shrink_to_fit();
    }

    /// Ends the part, and closes its file. The next record begins another part.
    pub(super) fn end(&mut self, path: &Path) -> Result<Size, ConnectorError> {
        if let Some(output) = self.output.take() {
            let finished = output.finish();
            self.size.bytes = finished.map_err(ConnectorError::io("write", path))?;
        }
        self.number = 0;
        self.is_made = false;
        self.buffer.shrink_to_fit();
        Ok(std::mem::take(&mut self.size))
    }
}

#[cfg(test)]
mod tests {
    //! Catches empty buffers of many folders that take much memory together.

    use super::*;
    use crate::connector::SinkFormat;
    use crate::connector::csv_layout::CsvLayout;

    #[test]
    fn only_an_open_part_keeps_an_empty_buffer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let layout = RecordLayout {
            format: SinkFormat::Lines,
            csv: CsvLayout::new(None, None),
        };
        let value = vec![b'x'; WRITE_BYTES];
        let mut part = OpenPart::new(String::new());
        let write = |part: &mut OpenPart| {
            part.push((layout, false), b"", &value).unwrap();
            part.open(&path, OutputCompression::None).unwrap();
            part.write(&path).unwrap();
            assert!(part.buffer.capacity() >= WRITE_BYTES);
        };
        write(&mut part);
        part.close();
        assert_eq!(part.buffer.capacity(), 0);
        write(&mut part);
        assert_eq!(part.end(&path).unwrap().records, 2);
        assert_eq!(part.buffer.capacity(), 0);
    }
}
