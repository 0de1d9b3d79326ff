//! The store against disks that die, fill up and lie, and against a dumb model. Each file's head says what it catches;
//! here are the sample checkpoints, and the store's contract in plain cases.

mod crash;
mod damage;
mod disk;
mod file;
mod format;
mod full;
mod model;
mod moving;
mod space;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use redb::{ReadableDatabase, ReadableTable};
use sha2::{Digest, Sha256};

use super::*;
use crate::{
    CheckpointReader, CheckpointStorage, CommitPermit, Compression, Depth, NewCheckpoint,
    OperatorSnapshot, PluginDigest, Scale, TaskSnapshot, Trigger,
};
use disk::Disk;
use floodmark_state::stream::{KeyGroupRange, MaxParallelism};
use floodmark_state::{Chunk, ChunkId};
use floodmark_testing::Random;

const SETTINGS: CheckpointStorageSettings = CheckpointStorageSettings {
    compression: Compression::Lz4,
    cache_bytes_max: 1 << 30,
};
const RETAINED: NonZeroU32 = NonZeroU32::new(2).unwrap();

type Plugins = Vec<(PluginDigest, Arc<[u8]>)>;

/// A checkpoint with all that it names.
#[derive(Debug, Clone)]
struct Sample {
    checkpoint: Checkpoint,
    chunks: Vec<Arc<Chunk>>,
    plugins: Plugins,
}

/// The length of a chunk that can be compressed.
const WORDY: usize = 9000;

/// The bytes of a chunk follow from its id and length.
fn chunk(id: u64, len: usize) -> Arc<Chunk> {
    let mut random = Random(id);
    let range = if len == WORDY { 3 } else { 256 };
    let bytes = (0..len).map(|_| random.below(range) as u8).collect();
    Arc::new(Chunk {
        id: ChunkId(id),
        bytes,
    })
}

fn plugin(number: u8) -> (PluginDigest, Arc<[u8]>) {
    let bytes = vec![number; 5000 + usize::from(number)];
    (PluginDigest(Sha256::digest(&bytes).into()), bytes.into())
}

fn sample(id: u64, plugin_number: u8, chunks: Vec<Arc<Chunk>>) -> Sample {
    let plugin = plugin(plugin_number);
    let task = TaskSnapshot {
        key_groups: KeyGroupRange(0..128),
        chunks: chunks.iter().map(|chunk| Chunk::as_ref(chunk)).collect(),
        collided: Vec::new(),
    };
    let operator = OperatorSnapshot {
        name: "count".into(),
        plugin: plugin.0,
        config: Vec::new(),
        replaces: None,
        states: vec![],
        tasks: vec![task],
    };
    let checkpoint = Checkpoint {
        id: CheckpointId(id),
        created_ms: id * 1000,
        trigger: Trigger::Periodic,
        job: "job".into(),
        data_folder: String::new(),
        identity: "identity".into(),
        scale: Scale::configured(1, MaxParallelism::DEFAULT),
        records_in: id,
        records_out: id,
        sources: vec![],
        operators: vec![operator],
        sinks: vec![],
    };
    Sample {
        checkpoint,
        chunks,
        plugins: vec![plugin],
    }
}

/// Checkpoints that share chunks with the one before, and change the plugin in the middle.
fn samples() -> Vec<Sample> {
    let of = |id: u64| {
        let lengths = [100, WORDY, 70_000];
        let chunks = (id..id + 3).map(|id| chunk(id, lengths[id as usize % 3]));
        sample(id, 1 + u8::from(id > 2), chunks.collect())
    };
    (1..=4).map(of).collect()
}

fn open(disk: &Disk) -> Result<CheckpointStore, StoreError> {
    CheckpointStore::open_on(disk.clone(), SETTINGS)
}

impl Sample {
    fn write(&self, store: &mut CheckpointStore) -> Result<CommitPermit, StoreError> {
        self.write_keeping(store, RETAINED)
    }

    fn write_keeping(
        &self,
        store: &mut CheckpointStore,
        retained: NonZeroU32,
    ) -> Result<CommitPermit, StoreError> {
        store.write(&NewCheckpoint {
            checkpoint: &self.checkpoint,
            chunks: &self.chunks,
            plugins: &self.plugins,
            retained,
        })
    }

    fn id(&self) -> u64 {
        self.checkpoint.id.0
    }

    /// `found` is this checkpoint, to the byte.
    fn assert_is(&self, store: &CheckpointStore, found: &RestoredCheckpoint) {
        assert_eq!(found.permit.checkpoint(), self.checkpoint.id);
        assert_eq!(self.checkpoint, found.checkpoint);
        self.assert_in(&*store.reader);
    }

    /// It is what a thorough start finds.
    fn assert_is_found(&self, store: &mut CheckpointStore) {
        let found = store.recover(Depth::Thorough, None).unwrap();
        self.assert_is(store, &found.restored.unwrap());
    }

    /// `reader` has this checkpoint, to the byte.
    fn assert_in(&self, reader: &dyn CheckpointReader) {
        assert_eq!(reader.read(self.checkpoint.id).unwrap(), self.checkpoint);
        for chunk in &self.chunks {
            let bytes = reader.chunk(Chunk::as_ref(chunk)).unwrap();
            assert!(bytes == chunk.bytes, "wrong bytes in a chunk");
        }
        for (digest, bytes) in &self.plugins {
            assert!(reader.plugin(*digest).unwrap()[..] == bytes[..]);
        }
    }
}

#[test]
fn what_is_written_is_read() {
    let disk = Disk::default();
    let samples = samples();
    let mut store = open(&disk).unwrap();
    let empty = store.recover(Depth::Thorough, None).unwrap();
    assert!(empty.restored.is_none() && empty.damaged.is_empty());
    assert_eq!(
        (empty.next_id, empty.next_chunk),
        (CheckpointId(1), ChunkId(1))
    );
    for sample in &samples {
        assert_eq!(
            sample.write(&mut store).unwrap().checkpoint(),
            sample.checkpoint.id
        );
    }
    drop(store);
    let mut store = open(&disk).unwrap();
    let recovery = store.recover(Depth::Thorough, None).unwrap();
    samples[3].assert_is(&store, &recovery.restored.unwrap());
    assert_eq!(
        (recovery.next_id, recovery.next_chunk),
        (CheckpointId(5), ChunkId(7))
    );
    let listed: Vec<_> = store
        .reader
        .list()
        .unwrap()
        .into_iter()
        .map(|(id, _)| id.0)
        .collect();
    assert_eq!(listed, [4, 3]);
    assert_eq!(
        store.reader.read(CheckpointId(3)).unwrap(),
        samples[2].checkpoint
    );
    let gone = store.reader.read(CheckpointId(2));
    assert!(matches!(gone, Err(StoreError::NoSuchCheckpoint { .. })));
    assert_eq!(store.reader.plugin(plugin(2).0).unwrap(), plugin(2).1[..]);
    assert!(
        store.reader.plugin(plugin(1).0).is_err(),
        "nothing names it now"
    );
    let report = store.reader.verify(None).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.chunks, 4);
}

#[test]
fn a_broken_contract_is_refused_and_writes_nothing() {
    let disk = Disk::default();
    let mut store = open(&disk).unwrap();
    samples()[0].write(&mut store).unwrap();
    let mut check = |sample: Sample, expect: CheckpointRefusal| match sample.write(&mut store) {
        Err(StoreError::Refused { reason, .. }) => assert_eq!(reason, expect),
        other => panic!("{other:?}"),
    };
    let highest = CheckpointId(1);
    check(
        samples()[0].clone(),
        CheckpointRefusal::IdNotNew { highest },
    );
    let mut missing = samples()[1].clone();
    missing.chunks.clear();
    check(
        missing,
        CheckpointRefusal::ChunkMissing { chunk: ChunkId(4) },
    );
    let mut reused = samples()[1].clone();
    Arc::make_mut(&mut reused.chunks[0]).bytes[7] ^= 1;
    check(reused, CheckpointRefusal::ChunkReused { chunk: ChunkId(2) });
    let mut shorter = samples()[1].clone();
    Arc::make_mut(&mut shorter.chunks[0]).bytes.pop();
    check(
        shorter,
        CheckpointRefusal::ChunkLength { chunk: ChunkId(2) },
    );
    let mut no_plugin = samples()[2].clone();
    no_plugin.plugins.clear();
    let missing = plugin(2).0;
    check(
        no_plugin,
        CheckpointRefusal::PluginMissing { plugin: missing },
    );
    let report = store.reader.verify(None).unwrap();
    assert!(report.is_sound() && report.chunks == 3, "{report:?}");
    samples()[1].write(&mut store).unwrap();
}
