//! Decides which checkpoints to retire, as a pure function.
//!
//! The newest ones are kept. A damaged one is retired by the next write, however new it is: it cannot be restored, and
//! must not push out a sound one. `store` and `object` do the retiring.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use floodmark_state::stream::CheckpointId;

/// The stored checkpoints to retire in the transaction that writes `new`, so that at most `retained` stay, `new` being one
/// of them.
#[must_use]
pub fn retire(
    stored: &BTreeSet<CheckpointId>,
    damaged: &BTreeSet<CheckpointId>,
    new: CheckpointId,
    retained: NonZeroU32,
) -> BTreeSet<CheckpointId> {
    let keep = usize::try_from(retained.get() - 1).unwrap_or(usize::MAX);
    let sound = stored
        .iter()
        .rev()
        .filter(|id| **id != new && !damaged.contains(id));
    let too_old = sound.skip(keep).copied();
    let broken = stored.intersection(damaged).copied();
    too_old.chain(broken).collect()
}

#[cfg(test)]
mod tests {
    //! Catches a limit that is off by one, and a damaged checkpoint that pushes out the only sound one.

    use super::*;

    fn check(stored: &[u64], damaged: &[u64], new: u64, retained: u32, expect: &[u64]) {
        let ids = |ids: &[u64]| ids.iter().copied().map(CheckpointId).collect();
        let retained = NonZeroU32::new(retained).expect("not zero");
        let retired = retire(&ids(stored), &ids(damaged), CheckpointId(new), retained);
        assert_eq!(
            retired,
            ids(expect),
            "{stored:?} {damaged:?} {new} {retained}"
        );
    }

    #[test]
    fn the_newest_stay() {
        check(&[], &[], 1, 1, &[]);
        check(&[1], &[], 2, 1, &[1]);
        check(&[1], &[], 2, 2, &[]);
        check(&[1, 2, 5], &[], 6, 3, &[1]);
        // The setting was lowered between two runs.
        check(&[1, 2, 3, 4, 5], &[], 6, 2, &[1, 2, 3, 4]);
        check(&[1, 2, 3], &[], 4, u32::MAX, &[]);
    }

    #[test]
    fn the_damaged_go_first() {
        check(&[4, 5], &[5], 6, 2, &[5]);
        check(&[3, 4, 5], &[3, 5], 6, 3, &[3, 5]);
        check(&[4], &[9], 6, 2, &[]);
    }
}
