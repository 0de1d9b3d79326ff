//! Checkpoints in an object store, against stores that fail, other writers, and damage. Each file's head says which mistake
//! it catches; here are the samples, and the contract in plain cases.

mod damage;
mod faults;
mod faulty;
mod race;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use sha2::{Digest, Sha256};

use super::*;
use crate::store::{CheckpointRefusal, RestoredCheckpoint};
use crate::{OperatorSnapshot, PluginDigest, Scale, TaskSnapshot, Trigger, chunks_of, plugins_of};
use floodmark_state::stream::{KeyGroupRange, MaxParallelism};
use floodmark_state::{Chunk, ChunkId, chunk_index};

const RETAINED: NonZeroU32 = NonZeroU32::new(2).unwrap();

/// A checkpoint with all that it names.
#[derive(Debug, Clone)]
struct Sample {
    checkpoint: Checkpoint,
    chunks: Vec<Arc<Chunk>>,
    plugins: Vec<(PluginDigest, Arc<[u8]>)>,
}

/// The bytes of a chunk follow from its id; every other one can be compressed.
fn chunk(id: u64) -> Arc<Chunk> {
    let len = [40, 300, 1200][id as usize % 3];
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    let bytes = (0..len).map(|at| {
        if id.is_multiple_of(2) && at > 20 {
            7
        } else {
            next()
        }
    });
    Arc::new(Chunk {
        id: ChunkId(id),
        bytes: bytes.collect(),
    })
}

fn plugin(number: u8) -> (PluginDigest, Arc<[u8]>) {
    let bytes = vec![number; 60];
    (PluginDigest(Sha256::digest(&bytes).into()), bytes.into())
}

fn sample(id: u64, plugin_number: u8, chunks: impl Iterator<Item = u64>) -> Sample {
    let chunks: Vec<_> = chunks.map(chunk).collect();
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

/// A checkpoint that shares two chunks with the one before; the plugin changes at the third.
fn nth(id: u64) -> Sample {
    sample(id, 1 + u8::from(id > 2), id..id + 3)
}

fn settings() -> ObjectSettings {
    ObjectSettings::default()
}

fn in_memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

fn open(store: &Arc<dyn ObjectStore>) -> ObjectStorage {
    let remote = Remote::new("memory://test", Arc::clone(store), Path::from("some/job")).unwrap();
    ObjectStorage::on(remote, None, settings())
}

/// All objects below the prefix, marks and the note left out, by path.
fn objects(store: &Arc<dyn ObjectStore>) -> BTreeMap<String, Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut found = BTreeMap::new();
        for folder in ["", "/chunks", "/plugins", "/checkpoints"] {
            let folder = Path::from(format!("some/job{folder}"));
            let listed = store.list_with_delimiter(Some(&folder)).await.unwrap();
            for object in listed.objects {
                let bytes = store
                    .get(&object.location)
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap();
                found.insert(object.location.to_string(), bytes.to_vec());
            }
        }
        found
    })
}

fn replace(store: &Arc<dyn ObjectStore>, path: &str, bytes: Option<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let path = Path::from(path);
    runtime.block_on(async {
        match bytes {
            Some(bytes) => drop(store.put(&path, PutPayload::from(bytes)).await.unwrap()),
            None => store.delete(&path).await.unwrap(),
        }
    });
}

impl Sample {
    fn write(&self, storage: &mut ObjectStorage) -> Result<CommitPermit, StoreError> {
        storage.write(&NewCheckpoint {
            checkpoint: &self.checkpoint,
            chunks: &self.chunks,
            plugins: &self.plugins,
            retained: RETAINED,
        })
    }

    /// `found` is this checkpoint, and what it names is there to the byte.
    fn assert_is(&self, found: &RestoredCheckpoint, reader: &dyn CheckpointReader) {
        assert_eq!(self.checkpoint, found.checkpoint);
        assert_eq!(found.permit.checkpoint(), self.checkpoint.id);
        for wanted in chunks_of(&self.checkpoint) {
            let bytes = chunk(wanted.id.0).bytes.clone();
            assert!(
                reader.chunk(wanted).unwrap() == bytes,
                "wrong bytes in a chunk"
            );
            let index = reader.chunk_index(wanted).unwrap();
            assert!(index.is_none_or(|index| index == chunk_index::of(&bytes)));
        }
    }
}

/// All that is stored is named by a checkpoint, and all that is named is stored and sound.
#[track_caller]
fn assert_tidy(store: &Arc<dyn ObjectStore>) {
    let reader = open(store).reader();
    let report = reader.verify(None).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let mut chunks = BTreeSet::new();
    let mut plugins = BTreeSet::new();
    for (_, checkpoint) in reader.list().unwrap() {
        let checkpoint = checkpoint.unwrap();
        chunks.extend(chunks_of(&checkpoint).map(|chunk| layout::number(chunk.id.0)));
        plugins.extend(plugins_of(&checkpoint).map(|plugin| plugin.to_string()));
    }
    for path in objects(store).keys() {
        let (folder, name) = path.rsplit_once('/').unwrap();
        let name = layout::parse_name(name).map(|(name, _)| name.to_owned());
        let name = name.unwrap_or_default();
        let is_named = match folder.rsplit_once('/').unwrap().1 {
            "chunks" => chunks.contains(&name),
            "plugins" => plugins.contains(&name),
            _ => true,
        };
        assert!(is_named, "nothing names {path}");
    }
}

fn ids(storage: &ObjectStorage) -> Vec<u64> {
    let listed = storage.reader().list().unwrap();
    listed.into_iter().map(|(id, _)| id.0).collect()
}

fn check_contract(mut open: impl FnMut() -> ObjectStorage) {
    let mut storage = open();
    let empty = storage.recover(Depth::Quick, None).unwrap();
    assert!(empty.restored.is_none() && empty.damaged.is_empty());
    assert_eq!(
        (empty.next_id, empty.next_chunk),
        (CheckpointId(1), ChunkId(1))
    );
    for id in 1..=4 {
        assert_eq!(
            nth(id).write(&mut storage).unwrap().checkpoint(),
            CheckpointId(id)
        );
    }
    assert_eq!(ids(&storage), [4, 3]);
    let reader = storage.reader();
    assert_eq!(reader.read(CheckpointId(3)).unwrap(), nth(3).checkpoint);
    let gone = reader.read(CheckpointId(2));
    assert!(matches!(gone, Err(StoreError::NoSuchCheckpoint { .. })));
    assert_eq!(reader.plugin(plugin(2).0).unwrap(), plugin(2).1[..]);
    for id in 3..=6 {
        let wanted = Chunk::as_ref(&chunk(id));
        assert_eq!(reader.chunk(wanted).unwrap(), chunk(id).bytes);
        let index = chunk_index::of(&chunk(id).bytes);
        assert_eq!(reader.chunk_index(wanted).unwrap(), Some(index));
    }
    let report = reader.verify(Some(CheckpointId(4))).unwrap();
    assert!(report.is_sound() && report.chunks == 3, "{report:?}");

    // A new process continues above all used ids, also when all checkpoints were deleted.
    for depth in [Depth::Quick, Depth::Thorough] {
        let recovery = open().recover(depth, None).unwrap();
        nth(4).assert_is(&recovery.restored.unwrap(), &*open().reader());
        assert_eq!(recovery.next_chunk, ChunkId(7));
        let recovery = open().recover(depth, Some(CheckpointId(3))).unwrap();
        nth(3).assert_is(&recovery.restored.unwrap(), &*open().reader());
    }
    let mut storage = open();
    let none = storage.recover(Depth::Quick, Some(CheckpointId(1)));
    assert!(matches!(none, Err(StoreError::NoSuchCheckpoint { .. })));
    let next = storage.recover(Depth::Quick, None).unwrap().next_id;
    let none = storage.delete(&[CheckpointId(4), CheckpointId(2)]);
    assert!(matches!(none, Err(StoreError::NoSuchCheckpoint { .. })));
    assert_eq!(ids(&storage), [4, 3]);
    storage.delete(&[CheckpointId(3)]).unwrap();
    sample(next.0, 2, 4..8).write(&mut storage).unwrap();
    storage.delete(&[CheckpointId(4), next]).unwrap();
    assert!(ids(&storage).is_empty());
    let recovery = open().recover(Depth::Thorough, None).unwrap();
    assert!(recovery.restored.is_none() && recovery.damaged.is_empty());
    assert!(recovery.next_id > next);
    assert_eq!(recovery.next_chunk, ChunkId(8));
}

#[test]
fn what_is_written_is_read() {
    let store = in_memory();
    check_contract(|| open(&store));
    assert_tidy(&store);
    let stored = objects(&store);
    let left = stored
        .keys()
        .filter(|path| path.contains("chunks/") || path.contains("plugins/"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_folder_keeps_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/a folder 100%/below", folder.path().display());
    let absent = open_reader(&url, settings());
    assert!(matches!(absent, Err(StoreError::Absent { .. })));
    check_contract(|| ObjectStorage::open(&url, settings()).unwrap());
    assert!(
        folder
            .path()
            .join("a folder 100%/below/checkpoints")
            .is_dir()
    );
    // What a writer left that died with a file half written.
    let piece = folder
        .path()
        .join("a folder 100%/below/chunks/00000000000000000009-00000000000000000001#1");
    std::fs::write(&piece, "half").unwrap();
    let mut storage = ObjectStorage::open(&url, settings()).unwrap();
    let next = storage.recover(Depth::Quick, None).unwrap().next_id;
    assert!(!piece.exists());
    sample(next.0, 1, 20..24).write(&mut storage).unwrap();
    let reader = open_reader(&url, settings()).unwrap();
    assert_eq!(reader.list().unwrap().len(), 1);
    assert_eq!(
        reader.chunk(Chunk::as_ref(&chunk(22))).unwrap(),
        chunk(22).bytes
    );
}

#[test]
fn a_broken_contract_is_refused_and_writes_nothing() {
    let store = in_memory();
    let mut storage = open(&store);
    nth(1).write(&mut storage).unwrap();
    let before = objects(&store);
    let mut check = |sample: Sample, expect: CheckpointRefusal| match sample.write(&mut storage) {
        Err(StoreError::Refused { reason, .. }) => assert_eq!(reason, expect),
        other => panic!("{other:?}"),
    };
    let highest = CheckpointId(1);
    check(nth(1), CheckpointRefusal::IdNotNew { highest });
    let mut missing = nth(2);
    missing.chunks.clear();
    check(
        missing,
        CheckpointRefusal::ChunkMissing { chunk: ChunkId(4) },
    );
    let mut reused = nth(2);
    Arc::make_mut(&mut reused.chunks[0]).bytes[7] ^= 1;
    check(reused, CheckpointRefusal::ChunkReused { chunk: ChunkId(2) });
    let mut shorter = nth(2);
    Arc::make_mut(&mut shorter.chunks[0]).bytes.pop();
    check(
        shorter,
        CheckpointRefusal::ChunkLength { chunk: ChunkId(2) },
    );
    let mut no_plugin = nth(3);
    no_plugin.plugins.clear();
    let plugin = plugin(2).0;
    no_plugin.checkpoint.id = CheckpointId(2);
    check(no_plugin, CheckpointRefusal::PluginMissing { plugin });
    assert!(before == objects(&store));
    nth(2).write(&mut storage).unwrap();
}

#[test]
fn a_checkpoint_is_copied_from_one_storage_to_another() {
    let (here, there) = (in_memory(), in_memory());
    let mut from = open(&here);
    for id in 1..=4 {
        nth(id).write(&mut from).unwrap();
    }
    let mut to = open(&there);
    // Its id is far above: the ids in between are never used.
    let mut far = nth(4);
    far.checkpoint.id = CheckpointId(900);
    far.write(&mut from).unwrap();
    to.import(&*from.reader(), &far.checkpoint).unwrap();
    let again = to.import(&*from.reader(), &far.checkpoint);
    assert!(matches!(again, Err(StoreError::Refused { .. })));
    let recovery = open(&there).recover(Depth::Thorough, None).unwrap();
    far.assert_is(&recovery.restored.unwrap(), &*open(&there).reader());
    assert_eq!(recovery.next_id, CheckpointId(902));
    assert_tidy(&there);

    // A chunk with the same id and other bytes is of another job.
    let mut other = open(&in_memory());
    let mut differs = nth(1);
    Arc::make_mut(&mut differs.chunks[0]).bytes[0] ^= 1;
    differs.checkpoint.id = CheckpointId(950);
    differs.write(&mut other).unwrap();
    let mut third = open(&here);
    third.recover(Depth::Quick, None).unwrap();
    let mut clash = sample(960, 1, 1..4);
    clash.write(&mut third).unwrap();
    clash.checkpoint.id = CheckpointId(970);
    let refused = third.import(&*other.reader(), &clash.checkpoint);
    let reused = CheckpointRefusal::ChunkReused { chunk: ChunkId(1) };
    assert!(
        matches!(refused, Err(StoreError::Refused { reason, .. }) if reason == reused),
        "{refused:?}"
    );
}

#[test]
fn addresses_that_make_no_sense_are_refused() {
    let check = |url: &str, expect: &str| match ObjectStorage::open(url, settings()) {
        Err(StoreError::Unusable { reason, .. }) => assert!(reason.contains(expect), "{reason}"),
        other => panic!("{other:?}"),
    };
    check("gs://bucket/x", "neither `file:///` nor `s3://`");
    check("file://folder", "an absolute path");
    check("s3:///x", "no bucket");
    check("s3://bucket/a/../b", "..");
}

#[test]
fn index_and_chunk_of_an_object_are_read_apart() {
    let plain = chunk(2).bytes.clone();
    for compression in [Compression::None, Compression::Lz4] {
        for index in [None, Some(&b"an index"[..]), Some(&b""[..])] {
            let (stored, object) =
                layout::encode_chunk(ChunkId(2), &plain, index, layout::WriterId(3), compression);
            assert_eq!(stored.object_bytes(), object.len() as u64);
            assert_eq!(layout::decode_chunk(&stored, &object).unwrap(), plain);
            let range = stored
                .index_range()
                .map(|range| range.start as usize..range.end as usize);
            let found = range.and_then(|range| layout::decode_index(&stored, &object[range]));
            assert_eq!(found.as_deref(), index);
        }
    }
}
