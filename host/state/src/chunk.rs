//! A chunk: a piece of the log, written from front to back, then sealed and shared.

/// The id of a chunk within a job. Ids are never reused, and grow with time: of two entries of a key, the one in the
/// chunk with the higher id, or further back in the same chunk, is the newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub u64);

/// A chunk, as checkpoints name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its id, which is never used for another chunk.
    pub id: ChunkId,
    /// Its length in bytes.
    pub len: u32,
}

/// A sealed chunk: its bytes never change again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its id, which is never used for another chunk.
    pub id: ChunkId,
    /// Its entries, as `state::layout` writes them.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// The reference to this chunk in a checkpoint.
    #[must_use]
    pub fn as_ref(&self) -> ChunkRef {
        ChunkRef {
            id: self.id,
            len: u32::try_from(self.bytes.len()).expect("a chunk stays below 4 GiB"),
        }
    }
}

/// Allocates ids of new chunks of one task: `first`, `first + stride`, and so on. Tasks of a job have the same stride
/// and different firsts, all higher than the ids of an earlier run.
#[derive(Debug, Clone)]
pub struct ChunkIds {
    next: u64,
    stride: u64,
}

impl ChunkIds {
    /// The ids of task `task` of `tasks`, from `first` on.
    #[must_use]
    pub fn new(first: ChunkId, task: u64, tasks: u64) -> Self {
        Self {
            next: first.0 + task,
            stride: tasks,
        }
    }

    pub(super) fn take(&mut self) -> ChunkId {
        let id = ChunkId(self.next);
        self.next += self.stride;
        id
    }

    /// Skips ids, so that the next one is higher than `id`: ids grow with time over all tasks of a job.
    pub(super) fn pass(&mut self, id: ChunkId) {
        if let Some(behind) = id.0.checked_sub(self.next) {
            let steps = behind / self.stride + 1;
            self.next += steps * self.stride;
        }
    }
}

#[cfg(test)]
mod tests {
    //! Catches an id that is not above one that was passed, one of another task, and a loop over all ids in between.

    use super::*;

    #[test]
    fn ids_above_one_that_was_passed() {
        for (next, passed, expected) in [
            (4, 0, 4),
            (4, 3, 4),
            (4, 4, 7),
            (4, 6, 7),
            (4, 7, 10),
            (4, 1 << 62, (1 << 62) + 3),
        ] {
            let mut ids = ChunkIds::new(ChunkId(next), 0, 3);
            ids.pass(ChunkId(passed));
            assert_eq!(ids.take(), ChunkId(expected), "{next} {passed}");
        }
    }
}
