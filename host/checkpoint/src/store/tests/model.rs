//! Catches reference counts that drift, bytes that are deleted too early or never, a file that grows without bound, and
//! a layout that writes much more than it is given.

use super::*;

/// 120 checkpoints of random chunks, some shared with earlier ones, against a list of what must be there.
#[test]
fn random_checkpoints_against_a_list() {
    let mut random = Random(7);
    let disk = Disk::default();
    let mut store = open(&disk).unwrap();
    let mut live: Vec<Sample> = Vec::new();
    let mut next_chunk = 1;
    let mut len_half = 0;
    for id in 1..=120 {
        let mut chunks: Vec<_> = live.last().map_or(vec![], |last| last.chunks.clone());
        chunks.retain(|_| random.below(4) > 0);
        for _ in 0..random.below(5) {
            chunks.push(chunk(next_chunk, random.below(40_000) as usize));
            next_chunk += 1;
        }
        let sample = sample(id, random.below(3) as u8, chunks);
        let retained = 1 + random.below(4) as usize;
        let written = NonZeroU32::new(retained as u32).unwrap();
        sample.write_keeping(&mut store, written).unwrap();
        live.push(sample);
        live.drain(..live.len().saturating_sub(retained));

        let report = store.reader.verify(None).unwrap();
        assert!(report.is_sound(), "checkpoint {id}: {report:?}");
        let expected: BTreeSet<_> = live
            .iter()
            .flat_map(|sample| &sample.chunks)
            .map(|chunk| chunk.id)
            .collect();
        assert_eq!(report.chunks, expected.len(), "checkpoint {id}");
        assert_eq!(
            counts(&mut store),
            expected_counts(&live),
            "checkpoint {id}"
        );
        let listed: Vec<_> = store
            .reader
            .list()
            .unwrap()
            .into_iter()
            .map(|(id, _)| id.0)
            .rev()
            .collect();
        assert_eq!(listed, live.iter().map(Sample::id).collect::<Vec<_>>());
        if id % 10 == 0 {
            drop(store);
            store = open(&disk).unwrap();
            live.last().unwrap().assert_is_found(&mut store);
        }
        if id == 60 {
            len_half = disk.state().bytes.len();
        }
    }
    let len = disk.state().bytes.len();
    assert!(
        len <= 2 * len_half,
        "it grew from {len_half} to {len} bytes"
    );
}

fn counts(store: &mut CheckpointStore) -> BTreeMap<u64, u32> {
    let read = store.reader.with(|database| {
        let table = database.begin_read()?.open_table(tables::CHUNKS)?;
        let mut counts = BTreeMap::new();
        for entry in table.iter()? {
            let (id, stored) = entry?;
            counts.insert(id.value(), stored.value().0);
        }
        Ok(counts)
    });
    read.unwrap()
}

fn expected_counts(live: &[Sample]) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for chunk in live.iter().flat_map(|sample| &sample.chunks) {
        *counts.entry(chunk.id.0).or_default() += 1;
    }
    counts
}

/// 30 MB of full chunks, then lengths that fit no page, then one of 10 MB.
#[test]
fn bytes_written_for_each_byte_of_chunks() {
    let check = |lengths: &[usize]| {
        let disk = Disk::default();
        let mut store = open(&disk).unwrap();
        samples()[0].write(&mut store).unwrap();
        let given: usize = lengths.iter().sum();
        let chunks = (100..)
            .zip(lengths)
            .map(|(id, len)| chunk(id, *len))
            .collect();
        let sample = sample(2, 1, chunks);
        let written = disk.state().written;
        let syncs = disk.state().syncs;
        sample.write(&mut store).unwrap();
        let state = disk.state();
        let ratio = (state.written - written) as f64 / given as f64;
        let syncs = state.syncs - syncs;
        (ratio, syncs)
    };
    let full = check(&[CHUNK_BYTES_BEST; 30]);
    let odd = check(&[600_000, 530_000, 70_000, 5_000, 33_000, 1_048_570]);
    let large = check(&[10_000_000, 2_200_000]);
    assert!(full.0 < 1.02, "full {full:?}");
    assert!(odd.0 < 1.15, "odd {odd:?}");
    assert!(large.0 < 1.05, "large {large:?}");
}
