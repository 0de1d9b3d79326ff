//! Finds the record that makes a call fail.
//!
//! A failed call is repeated in pieces, in order, on a fresh instance. Each piece is a transaction of its own, which
//! counts if it succeeds. A piece that fails is cut again, until a single record fails on a fresh instance: that record
//! is guilty. So all records before it have been processed, and those after it are not affected. If only large calls
//! fail, for example because they take too much memory, all pieces succeed. A plugin that does not open, and state that
//! cannot be read, are not blamed on a record, nor is a call that a stop of the job has interrupted.

use std::ops::Range;
use std::time::Duration;

use super::faults::Guilty;
use super::keyed::KeyedBatch;
use super::keyed_state::KeyedState;
use super::migration::{not_migrated, plainly};
use super::task::{OperatorTask, TaskError};
use crate::guest::{GuestError, Instance};
use floodmark_state::stream::{Batch, InputPort, OutputPort};

/// Pieces of a failed call. A trap costs about as much as thirty small calls, so a few traps more are worse than more
/// pieces.
const PIECES: usize = 32;
/// Least time limit for a call of several records, if the limit of a whole call is higher.
const TIME_MIN: Duration = Duration::from_millis(100);

/// A call that failed, possibly because of one of its records. Nothing of it is applied.
pub(super) struct FailedCall {
    pub(super) error: GuestError,
    /// Whether it was the first call of its instance.
    pub(super) was_fresh: bool,
    /// The state, its versions and the reason, if the plugin could not migrate what an earlier version wrote.
    pub(super) not_migrated: Option<String>,
}

impl FailedCall {
    /// Separates a call that a stop of the job has interrupted, as an error: nothing is to blame for it, and it is not
    /// repeated. Lists and maps are migrated by another instance of the task, whose error is here only as a message.
    ///
    /// # Errors
    /// When the call was interrupted.
    pub(super) fn unless_interrupted(self, instance: &Instance) -> Result<Self, GuestError> {
        if self.error.is_interruption() {
            return Err(self.error);
        }
        if self.not_migrated.is_some() && instance.has_no_grace() {
            return Err(instance.interruption("migrate"));
        }
        Ok(self)
    }

    /// The failure as the end of a sentence that begins with the operator. With a `key`, the call was for this key alone.
    fn in_words(&self, key: Option<&[u8]>) -> String {
        match (&self.not_migrated, key) {
            (None, _) => plainly(&self.error),
            (Some(what), None) => format!("cannot migrate an entry of state {what}"),
            (Some(what), Some(key)) => not_migrated(key, what),
        }
    }
}

/// Some of the records of a batch.
struct BatchPiece {
    records: Range<usize>,
    /// Number of cuts since the call that failed.
    cuts: u32,
}

impl<S: KeyedState> OperatorTask<S> {
    /// Processes a batch in pieces as large as `Caution` allows; or smaller, if a call with all of it has `failed`.
    ///
    /// # Errors
    /// As [`OperatorTask::process`], but the records before a guilty one have been applied.
    #[cold]
    pub(super) fn process_in_pieces(
        &mut self,
        input: InputPort,
        whole: &KeyedBatch,
        failed: Option<FailedCall>,
        wall_ms: u64,
    ) -> Result<Vec<(OutputPort, Batch)>, TaskError<S::Error>> {
        let mut leaving = Vec::new();
        let mut letters = Batch::default();
        let mut pending = vec![BatchPiece {
            records: 0..whole.batch.len(),
            cuts: 0,
        }];
        let reason = failed.as_ref().map(|failed| failed.in_words(None));
        let judged = self.desk.judged;
        match failed {
            None => {
                let size = self.desk.caution.records_max();
                cut(&mut pending, size);
            }
            Some(failed) => {
                self.blame(input, whole, failed, wall_ms, &mut pending, &mut letters)?;
            }
        }
        while let Some(next) = pending.pop() {
            let piece = whole.part(next.records.clone());
            self.shorten(&next);
            match self.attempt(input, &piece, wall_ms)? {
                Ok(output) => {
                    self.desk.send(std::mem::take(&mut letters), &mut leaving);
                    leaving.extend(self.finish(input, output, piece.batch, wall_ms)?);
                }
                Err(failed) => {
                    pending.push(next);
                    self.blame(input, whole, failed, wall_ms, &mut pending, &mut letters)?;
                }
            }
        }
        let whole = self.desk.time_per_call();
        self.instance_mut().set_time_per_call(whole);
        self.desk.send(letters, &mut leaving);
        if let Some(reason) = reason.filter(|_| self.desk.judged == judged) {
            self.desk.caution.failed();
            self.desk.warn(wall_ms, || {
                format!("the plugin {reason};\nno record is to blame: all of them were processed in smaller calls of a fresh instance")
            });
        }
        Ok(leaving)
    }

    /// Cuts the last pending piece, which has failed, into smaller ones, or finds the guilty record.
    fn blame(
        &mut self,
        input: InputPort,
        whole: &KeyedBatch,
        failed: FailedCall,
        wall_ms: u64,
        pending: &mut Vec<BatchPiece>,
        letters: &mut Batch,
    ) -> Result<(), TaskError<S::Error>> {
        let failed = failed.unless_interrupted(&self.plugin.instance)?;
        let BatchPiece { records, cuts } = pending.pop().expect("the piece that failed is pending");
        let is_alone = records.len() == 1;
        let is_guilty = is_alone && failed.was_fresh;
        let is_spoilt = failed.error.spoils_instance();
        self.desk.faults.traps += u64::from(is_spoilt);
        if is_spoilt || (is_alone && !is_guilty) {
            self.renew()?;
        }
        if is_guilty {
            self.desk.caution.failed();
            let slot = whole.batch.slots[records.start] as usize;
            let reason = failed.in_words(Some(whole.batch.keys.get(slot)));
            if failed.not_migrated.is_some() {
                self.plugin.sweep.refused(&reason);
            }
            let guilty = Guilty {
                batch: &whole.batch,
                record: records.start,
                reason,
            };
            self.desk
                .judge::<S::Error>(guilty, input, wall_ms, letters)?;
            join(pending, self.desk.caution.records_max());
            return Ok(());
        }
        let size = records.len().div_ceil(PIECES);
        let before = pending.len();
        pending.push(BatchPiece {
            records,
            cuts: cuts + u32::from(!is_alone),
        });
        cut(pending, size);
        self.desk.faults.retries += (pending.len() - before) as u64;
        Ok(())
    }

    /// Shortens the time limit of the next call with each cut, so that a plugin that hangs does not take the whole time
    /// at each step. A single record gets the whole time: otherwise it could be blamed for being slow in a group.
    fn shorten(&mut self, next: &BatchPiece) {
        let whole = self.desk.time_per_call();
        let time = match next.records.len() {
            1 => whole,
            _ => (whole / 2_u32.saturating_pow(next.cuts))
                .max(TIME_MIN)
                .min(whole),
        };
        self.instance_mut().set_time_per_call(time);
    }
}

/// Joins the rest of a call after a guilty record, and cuts it into pieces of at most `size` records: the small pieces
/// only served to find that record.
fn join(pending: &mut Vec<BatchPiece>, size: usize) {
    let (Some(last), Some(first)) = (pending.first(), pending.last()) else {
        return;
    };
    let whole = BatchPiece {
        records: first.records.start..last.records.end,
        cuts: last.cuts,
    };
    pending.clear();
    pending.push(whole);
    cut(pending, size);
}

/// Cuts the last pending piece into pieces of at most `size` records, so that the first one is last.
fn cut(pending: &mut Vec<BatchPiece>, size: usize) {
    let Some(BatchPiece { records, cuts }) = pending.pop() else {
        return;
    };
    let starts = records.clone().step_by(size);
    let pieces = starts.map(|start| BatchPiece {
        records: start..records.end.min(start + size),
        cuts,
    });
    let from = pending.len();
    pending.extend(pieces);
    pending[from..].reverse();
}

#[cfg(test)]
mod tests {
    //! Catches pieces that leave records out or change their order.

    use super::*;

    #[test]
    fn what_is_left_is_joined() {
        let piece = |records, cuts| BatchPiece { records, cuts };
        let mut pending = vec![
            piece(90..100, 1),
            piece(80..90, 1),
            piece(75..80, 2),
            piece(74..75, 3),
        ];
        join(&mut pending, 20);
        let left: Vec<_> = pending
            .iter()
            .map(|piece| (piece.records.clone(), piece.cuts))
            .collect();
        assert_eq!(left, [(94..100, 1), (74..94, 1)]);
        join(&mut Vec::new(), 20);
    }

    #[test]
    fn pieces_are_the_whole_in_order() {
        for len in 1..100 {
            for size in 1..20 {
                let piece = |records| BatchPiece { records, cuts: 3 };
                let mut pending = vec![piece(500..501), piece(7..7 + len)];
                cut(&mut pending, size);
                let mut records = Vec::new();
                while pending.len() > 1 {
                    let piece = pending.pop().unwrap();
                    assert!((1..=size).contains(&piece.records.len()) && piece.cuts == 3);
                    records.extend(piece.records);
                }
                assert!(records.into_iter().eq(7..7 + len));
            }
        }
    }
}
