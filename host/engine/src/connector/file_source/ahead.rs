//! Parts of one file that are read ahead of the window: at most two consecutive ones, in reused buffers.
//!
//! - Parts follow each other without a gap; none extends beyond `end`.
//! - Short files, and the ends of long ones, are not worth a request, and are not read ahead.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;

use crate::connector::read_ahead::{PendingRead, ReadAhead, ReadPart};

/// Largest number of requested parts: one may be read while the one before it waits for the worker.
const PARTS_MAX: usize = 2;
/// A buffer has room in front of its part for the start of a record that continues in it: the length of a part, divided
/// by this.
const HEAD_SHARE: usize = 8;

pub(super) struct Ahead {
    service: Arc<dyn ReadAhead>,
    file: Arc<File>,
    /// No part begins at or after this position.
    end: u64,
    asked: VecDeque<RequestedRange>,
    spare: Vec<Vec<u8>>,
}

struct RequestedRange {
    from: u64,
    to: u64,
    pending: Box<dyn PendingRead>,
}

impl Ahead {
    pub(super) fn new(service: Arc<dyn ReadAhead>, file: Arc<File>, end: u64) -> Self {
        Self {
            service,
            file,
            end,
            asked: VecDeque::with_capacity(PARTS_MAX),
            spare: Vec::new(),
        }
    }

    /// The size of a part, in bytes.
    pub(super) fn part_bytes(&self) -> usize {
        self.service.part_bytes()
    }

    /// The part that begins at `next`, read or not; `None` if it was not requested.
    pub(super) fn take(&mut self, next: u64) -> Option<ReadPart> {
        match self.asked.front() {
            Some(asked) if asked.from == next => self.asked.pop_front()?.pending.take(),
            _ => {
                // The part before them was shorter than requested.
                self.asked.clear();
                None
            }
        }
    }

    /// Requests the parts after `next`, the position after the bytes in memory.
    pub(super) fn ask(&mut self, next: u64) {
        let part_bytes = self.service.part_bytes();
        if self.asked.front().is_some_and(|asked| asked.from != next) {
            self.asked.clear();
        }
        while self.asked.len() < PARTS_MAX {
            let from = self.asked.back().map_or(next, |asked| asked.to);
            let left = self.end.saturating_sub(from);
            if left < part_bytes as u64 {
                return;
            }
            let head = part_bytes / HEAD_SHARE;
            let buffer = self.spare.pop();
            let part = ReadPart {
                file: Arc::clone(&self.file),
                offset: from,
                buffer: buffer.unwrap_or_else(|| vec![0; head + part_bytes]),
                room: head..head + part_bytes,
                len: 0,
            };
            self.asked.push_back(RequestedRange {
                from,
                to: from + part_bytes as u64,
                pending: self.service.begin(part),
            });
        }
    }

    /// Takes back a buffer for reuse.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        let part_bytes = self.part_bytes();
        let is_one = buffer.len() == part_bytes / HEAD_SHARE + part_bytes;
        if is_one && self.spare.is_empty() {
            self.spare.push(buffer);
        }
    }
}
