//! Decides how large batches and calls are, and where larger ones are cut.
//!
//! Sources and partitioners fill batches by bytes. The data of a batch between the lookup of its keys and the write of
//! their states has to stay in the processor's second-level cache, of 1 to 2 MiB on most servers: the batch, its copy
//! in the guest's memory, the output, and a few cache lines of state for each key. Batches of 128 KiB fit; with more
//! bytes, the write waits for memory that the lookup had already fetched. Small records still form batches of many
//! records, since a call costs a few microseconds regardless of its size.
//!
//! A batch that a plugin emitted already exists, so it is cut only if it is much larger: a cut copies.

use std::ops::Range;

use crate::connector::ReadLimits;
use floodmark_state::stream::Batch;

/// Largest number of records in a batch, and in a call of a plugin.
pub(super) const CALL_RECORDS_MAX: usize = 4096;
/// Bytes of keys and values after which a batch is full.
const BATCH_BYTES: usize = 128 << 10;
/// Largest number of bytes of keys and values up to which an emitted batch is not cut.
const CALL_BYTES_MAX: usize = 512 << 10;

/// Limits at which a batch that is being filled is full.
pub(super) const BATCH_LIMITS: ReadLimits = ReadLimits {
    records_max: CALL_RECORDS_MAX,
    bytes_max: BATCH_BYTES,
};

/// Whether a batch needs no cut.
#[must_use]
pub(super) fn is_call_sized(batch: &Batch, records_max: usize) -> bool {
    batch.len() <= records_max && batch.bytes_len() <= CALL_BYTES_MAX
}

/// The cuts of a batch for calls: the first piece has at most this many records, each other at most twice as many as
/// the one before, up to the usual size.
#[must_use]
pub(super) fn cuts(batch: &Batch, mut records_max: usize) -> Vec<Range<usize>> {
    let mut cuts = Vec::with_capacity(batch.len() / records_max + 1);
    let (mut from, mut bytes) = (0, 0);
    for (record, &slot) in batch.slots.iter().enumerate() {
        bytes += batch.keys.len_of(slot as usize) + batch.values.len_of(record);
        if record + 1 - from >= records_max || bytes >= BATCH_BYTES {
            cuts.push(from..record + 1);
            (from, bytes) = (record + 1, 0);
            records_max = CALL_RECORDS_MAX.min(2 * records_max);
        }
    }
    if from < batch.len() {
        cuts.push(from..batch.len());
    }
    cuts
}

/// A batch in pieces: cut by [`cuts`] if it is too large.
#[must_use]
pub(crate) fn call_sized(batch: Batch, records_max: usize) -> Vec<Batch> {
    if is_call_sized(&batch, records_max) {
        return vec![batch];
    }
    let pieces = cuts(&batch, records_max).into_iter();
    pieces.map(|records| batch.cut(records)).collect()
}

/// Decides how many records a call has after failures: few if failures are close together, since a failed call is
/// repeated in pieces.
///
/// With one failure in `gap` records, a call costs as much as about 60 records, and half a call is lost with each
/// failure; so the square root of 60 gaps is best. The gap is the one before the last failure, until more records than
/// that have succeeded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caution {
    gap: u64,
    since: u64,
}

impl Default for Caution {
    fn default() -> Self {
        Self {
            gap: u64::MAX / 60,
            since: 0,
        }
    }
}

impl Caution {
    /// Largest number of records in the next call.
    pub(super) fn records_max(&self) -> usize {
        let gap = self.gap.max(self.since);
        let best = (gap * 60).isqrt();
        usize::try_from(best).map_or(CALL_RECORDS_MAX, |best| best.clamp(8, CALL_RECORDS_MAX))
    }

    /// Notes that a record was to blame.
    pub(super) fn failed(&mut self) {
        self.gap = self.since.min(u64::MAX / 60);
        self.since = 0;
    }

    /// Notes that a call has succeeded.
    #[inline]
    pub(super) fn succeeded(&mut self, records: usize) {
        self.since = (self.since + records as u64).min(u64::MAX / 60);
    }
}

#[cfg(test)]
mod tests {
    //! Catches records that are lost or change places in pieces, pieces that are too large or too small, and calls that stay
    //! small long after the last failure, or large while failures are frequent.

    use super::*;

    fn batch(records: usize, value: &[u8]) -> Batch {
        let mut batch = Batch::default();
        for number in 0..records {
            batch.push(&number.to_be_bytes(), value, number as i64);
        }
        batch
    }

    fn lens(records: usize, value: &[u8], records_max: usize) -> Vec<usize> {
        let whole = batch(records, value);
        let pieces = call_sized(whole.clone(), records_max);
        assert!(pieces.iter().flat_map(Batch::iter).eq(whole.iter()));
        pieces.iter().map(Batch::len).collect()
    }

    #[test]
    fn pieces_double_up_to_the_usual_size() {
        assert_eq!(lens(0, b"", 16), [0]);
        assert_eq!(lens(10, b"", 16), [10]);
        assert_eq!(lens(16, b"", 16), [16]);
        assert_eq!(lens(100, b"", 16), [16, 32, 52]);
        assert_eq!(lens(3 * 4096, b"", 2048), [2048, 4096, 4096, 2048]);
        assert_eq!(lens(4097, b"", CALL_RECORDS_MAX), [4096, 1]);
    }

    #[test]
    fn pieces_have_as_many_bytes_as_the_cache_likes() {
        let (small, large, huge) = ([b'v'; 92], [b'v'; 10_000], vec![b'v'; 300_000]);
        // Of 100 bytes a record, key included.
        assert_eq!(
            lens(4096, &small, CALL_RECORDS_MAX),
            [4096],
            "not worth a copy"
        );
        assert_eq!(lens(5300, &small, CALL_RECORDS_MAX)[..2], [1311, 1311]);
        assert_eq!(lens(60, &large, CALL_RECORDS_MAX), [14, 14, 14, 14, 4]);
        assert_eq!(lens(3, &huge, CALL_RECORDS_MAX), [1, 1, 1]);
    }

    #[test]
    fn a_piece_shares_keys_that_records_in_a_row_share() {
        let mut whole = Batch::default();
        for number in 0..6000 {
            whole.push(b"", b"x", number);
        }
        assert_eq!(whole.keys.len(), 1);
        for piece in call_sized(whole, 16) {
            assert_eq!(piece.keys.len(), 1);
        }
    }

    #[test]
    fn calls_are_as_large_as_failures_are_rare() {
        let mut caution = Caution::default();
        assert_eq!(caution.records_max(), CALL_RECORDS_MAX);
        caution.succeeded(10_000);
        caution.failed();
        assert_eq!(caution.records_max(), 774);
        caution.succeeded(5000);
        assert_eq!(caution.records_max(), 774);
        caution.failed();
        caution.failed();
        assert_eq!(caution.records_max(), 8);
        caution.succeeded(100);
        assert_eq!(caution.records_max(), 77);
        caution.succeeded(1_000_000);
        assert_eq!(caution.records_max(), CALL_RECORDS_MAX);
    }
}
