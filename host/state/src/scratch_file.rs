//! The scratch file of a task: keeps sealed chunks that do not fit into the task's memory.
//!
//! A chunk takes one slot of 1 MiB, or several if it is longer; slots of dropped chunks are reused. Each entry is read
//! on its own, at the cost of a system call. Nothing here is durable: the file is useless after a crash, and is never
//! synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const SLOT_BYTES: usize = 1 << 20;

/// A file with slots.
#[derive(Debug)]
pub(super) struct ScratchFile {
    file: File,
    slots: u32,
    free: Vec<u32>,
}

/// The slots of a chunk in the file.
#[derive(Debug)]
pub(super) struct Slots(Box<[u32]>);

impl ScratchFile {
    pub(super) fn new(file: File) -> Self {
        Self {
            file,
            slots: 0,
            free: Vec::new(),
        }
    }

    /// Writes a chunk.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Slots> {
        let mut slots = Vec::with_capacity(bytes.len().div_ceil(SLOT_BYTES));
        for piece in bytes.chunks(SLOT_BYTES) {
            let slot = self.free.pop().unwrap_or(self.slots);
            self.slots = self.slots.max(slot + 1);
            slots.push(slot);
            let written = self.file.write_all_at(piece, position(slot, 0));
            if let Err(error) = written {
                self.free.append(&mut slots);
                return Err(error);
            }
        }
        Ok(Slots(slots.into_boxed_slice()))
    }

    /// Reads bytes of a chunk from `offset` on.
    pub(super) fn read(&self, slots: &Slots, offset: usize, into: &mut [u8]) -> io::Result<()> {
        let mut offset = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let slot = slots.0.get(offset / SLOT_BYTES);
            let slot = slot.ok_or(io::ErrorKind::UnexpectedEof)?;
            let within = offset % SLOT_BYTES;
            let (piece, after) = rest.split_at_mut(rest.len().min(SLOT_BYTES - within));
            self.file.read_exact_at(piece, position(*slot, within))?;
            offset += piece.len();
            rest = after;
        }
        Ok(())
    }

    /// Frees the slots of a chunk.
    pub(super) fn release(&mut self, slots: Slots) {
        self.free.extend(slots.0);
    }
}

fn position(slot: u32, within: usize) -> u64 {
    u64::from(slot) * SLOT_BYTES as u64 + within as u64
}

#[cfg(test)]
mod tests {
    //! Catches chunks that overlap in the file, and a slot that is reused while it is taken.

    use super::*;

    #[test]
    fn chunks_come_back_whole_and_in_parts() {
        let mut scratch = ScratchFile::new(tempfile::tempfile().expect("a file"));
        let chunk = |seed: usize, len: usize| -> Vec<u8> {
            (0..len)
                .map(|at| (at * 31 + seed * 7 + at / 251) as u8)
                .collect()
        };
        let lens = [10, SLOT_BYTES, 2 * SLOT_BYTES + 77, 0, 500];
        let mut kept: Vec<_> = lens
            .iter()
            .enumerate()
            .map(|(seed, &len)| {
                let bytes = chunk(seed, len);
                (scratch.write(&bytes).expect("room"), bytes)
            })
            .collect();
        let (slots, _) = kept.remove(2);
        scratch.release(slots);
        let bytes = chunk(9, SLOT_BYTES + 1);
        kept.push((scratch.write(&bytes).expect("room"), bytes));
        assert_eq!(scratch.slots, 6, "freed slots are used again");
        for (slots, bytes) in &kept {
            let mut read = vec![0; bytes.len()];
            scratch.read(slots, 0, &mut read).expect("it is there");
            assert!(read == *bytes);
            if bytes.len() > SLOT_BYTES {
                let mut part = [0; 100];
                scratch
                    .read(slots, SLOT_BYTES - 99, &mut part)
                    .expect("it is there");
                assert_eq!(part[..], bytes[SLOT_BYTES - 99..SLOT_BYTES + 1]);
            }
        }
        let mut beyond = [0; 8];
        assert!(scratch.read(&kept[0].0, SLOT_BYTES, &mut beyond).is_err());
    }
}
