//! Maps keys to key groups and tasks.
//!
//! The hash of a key is part of the checkpoint format: XXH3 with 64 bits and seed 0 over the key's bytes (Collet,
//! xxHash specification 0.2). Its remainder by the maximum parallelism is the key group; a task owns a contiguous range
//! of groups, so that another parallelism redistributes whole groups.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::TaskIndex;

/// The hash of a key. It never changes.
#[inline]
#[must_use]
pub fn hash_key(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The number of key groups of a job: fixed for the life of its state, 1 to 32,768.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxParallelism(u16);

impl MaxParallelism {
    /// The default number.
    pub const DEFAULT: Self = Self(128);
    /// The largest number.
    pub const LIMIT: u16 = 1 << 15;

    /// `groups` key groups, or `None` outside 1 to 32,768.
    #[must_use]
    pub fn new(groups: u16) -> Option<Self> {
        (1..=Self::LIMIT).contains(&groups).then_some(Self(groups))
    }

    /// Number of key groups.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// The group of a key with this hash.
    #[inline]
    #[must_use]
    pub fn group_of(self, hash: u64) -> KeyGroup {
        // A division takes about five nanoseconds, and the default is a power of two.
        if self.0.is_power_of_two() {
            return KeyGroup(hash as u16 & (self.0 - 1));
        }
        // The remainder is below 32,768.
        KeyGroup((hash % u64::from(self.0)) as u16)
    }

    /// The task that owns a group when there are `parallelism` tasks.
    #[inline]
    #[must_use]
    pub fn owner(self, group: KeyGroup, parallelism: u16) -> TaskIndex {
        TaskIndex((u32::from(group.0) * u32::from(parallelism) / u32::from(self.0)) as u16)
    }

    /// The groups that a task of `parallelism` owns: those whose [`MaxParallelism::owner`] it is.
    #[must_use]
    pub fn range(self, task: TaskIndex, parallelism: u16) -> KeyGroupRange {
        let (groups, tasks) = (u32::from(self.0), u32::from(parallelism));
        let first = |task: u32| (task * groups).div_ceil(tasks) as u16;
        let task = u32::from(task.0);
        KeyGroupRange(first(task)..first(task + 1))
    }

    /// All groups, which an operator's only task owns.
    #[must_use]
    pub fn all_groups(self) -> KeyGroupRange {
        KeyGroupRange(0..self.0)
    }
}

/// A set of keys that always stay together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroup(pub u16);

/// A range of contiguous key groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyGroupRange(pub Range<u16>);

impl KeyGroupRange {
    /// Whether the group is in the range.
    #[inline]
    #[must_use]
    pub fn contains(&self, group: KeyGroup) -> bool {
        self.0.contains(&group.0)
    }
}

#[cfg(test)]
mod tests {
    //! Catches a key group that two tasks or no task own, and a hash that changes under existing checkpoints.

    use super::*;

    #[test]
    fn each_group_has_one_owner() {
        for groups in [1, 2, 7, 128, 1000, MaxParallelism::LIMIT] {
            let max = MaxParallelism::new(groups).expect("within the limits");
            for parallelism in [1, 2, 3, 4, 7, 64]
                .into_iter()
                .filter(|&tasks| tasks <= groups)
            {
                let mut next = 0;
                for task in (0..parallelism).map(TaskIndex) {
                    let range = max.range(task, parallelism);
                    assert_eq!(range.0.start, next);
                    next = range.0.end;
                    assert!(
                        range
                            .0
                            .clone()
                            .all(|group| max.owner(KeyGroup(group), parallelism) == task)
                    );
                }
                assert_eq!(next, groups);
            }
            assert_eq!(max.all_groups(), max.range(TaskIndex(0), 1));
        }
    }

    #[test]
    fn the_hash_is_the_specified_one() {
        assert_eq!(hash_key(b""), 0x2d06_8005_38d3_94c2);
        assert_eq!(hash_key(b"floodmark"), xxh3_64(b"floodmark"));
    }
}
