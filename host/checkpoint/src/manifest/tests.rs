//! Catches a change of released bytes, a lost field, damage that is not found, and bytes that make the decoder panic.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::{
    OperatorSnapshot, PluginChoice, PluginDigest, Scale, SinkSnapshot, SourceSnapshot, Split,
    Staged, TaskSnapshot, Trigger,
};
use floodmark_state::stream::{CheckpointId, KeyGroupRange, MaxParallelism};
use floodmark_state::{ChunkId, ChunkRef, StateId, StateKind, StateSchema};

fn sample() -> Checkpoint {
    let config = |value: &str| vec![("unit".to_owned(), value.to_owned())];
    Checkpoint {
        id: CheckpointId(300),
        created_ms: 1_700_000_000_123,
        trigger: Trigger::Swap,
        job: "word-count".into(),
        data_folder: "0c2f-77".into(),
        identity: "text|split|count|counts".into(),
        scale: Scale {
            parallelism: 2,
            configured_parallelism: 1,
            max_parallelism: MaxParallelism::DEFAULT,
        },
        records_in: 1_000,
        records_out: 5_000_000_000,
        sources: vec![SourceSnapshot {
            name: "text".into(),
            splits: vec![Split(vec![1, 2, 3]), Split(vec![])],
        }],
        operators: vec![OperatorSnapshot {
            name: "count".into(),
            plugin: PluginDigest([0xab; 32]),
            config: config("ms"),
            replaces: Some(PluginChoice {
                plugin: PluginDigest([0xcd; 32]),
                config: config("s"),
            }),
            states: vec![
                StateSchema {
                    id: StateId(7),
                    name: "total".into(),
                    kind: StateKind::Value,
                    version: 2,
                    ttl_ms: Some(3_600_000),
                },
                StateSchema {
                    id: StateId(8),
                    name: "seen".into(),
                    kind: StateKind::List,
                    version: 1,
                    ttl_ms: None,
                },
                StateSchema {
                    id: StateId(9),
                    name: "parts".into(),
                    kind: StateKind::Map,
                    version: 1,
                    ttl_ms: None,
                },
            ],
            tasks: vec![
                TaskSnapshot {
                    key_groups: KeyGroupRange(0..64),
                    chunks: vec![ChunkRef {
                        id: ChunkId(41),
                        len: 1_048_556,
                    }],
                    collided: vec![3, u64::MAX],
                },
                TaskSnapshot {
                    key_groups: KeyGroupRange(64..128),
                    chunks: vec![],
                    collided: Vec::new(),
                },
            ],
        }],
        sinks: vec![SinkSnapshot {
            name: "counts".into(),
            staged: vec![Staged(b"part-0-300".to_vec())],
            state: vec![0xff, 0],
        }],
    }
}

fn sealed(mut content: Vec<u8>) -> Vec<u8> {
    let checksum = xxh3_64(&content);
    content.extend_from_slice(&checksum.to_le_bytes());
    content
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures")
        .join(name)
}

/// The fixture has the bytes of version 1. Sixteen bytes per line, in hexadecimal.
#[test]
fn golden() {
    let path = fixture("manifest-v1.hex");
    let bytes = encode(&sample());
    let hex = |line: &[u8]| {
        line.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            + "\n"
    };
    let text: String = bytes.chunks(16).map(hex).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    assert_eq!(decode(&bytes), Ok(sample()));
}

#[test]
fn every_flipped_bit_and_every_cut_is_seen() {
    let bytes = encode(&sample());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert!(decode(&damaged).is_err(), "bit {bit} of byte {at}");
        }
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn each_reason_has_its_error() {
    let content = |version: u16, rest: &[u8]| [MAGIC, &version.to_le_bytes()[..], rest].concat();
    assert_eq!(decode(b""), Err(ManifestError::NotAManifest));
    assert_eq!(decode(&[0; 64]), Err(ManifestError::NotAManifest));
    let other = ManifestError::OtherVersion { found: 9 };
    assert_eq!(decode(&sealed(content(9, b"anything"))), Err(other));
    let short = decode(&sealed(content(1, b"")));
    assert!(matches!(short, Err(ManifestError::Malformed(_))));
    let mut long = encode(&sample());
    long.truncate(long.len() - CHECKSUM_BYTES);
    long.push(0);
    assert!(matches!(
        decode(&sealed(long)),
        Err(ManifestError::Malformed(_))
    ));
    let mut groups = sample();
    groups.operators[0].tasks[1].key_groups = KeyGroupRange(64..129);
    assert!(matches!(
        decode(&encode(&groups)),
        Err(ManifestError::Malformed(_))
    ));
}

/// What a job relies on without a check of its own.
fn is_sane(checkpoint: &Checkpoint) -> bool {
    let Scale {
        parallelism,
        configured_parallelism,
        max_parallelism,
    } = checkpoint.scale;
    let possible = 1..=max_parallelism.get();
    let chunks = crate::chunks_of(checkpoint).map(|chunk| chunk.id.0);
    let mut numbers = chunks.chain([
        checkpoint.id.0,
        checkpoint.records_in,
        checkpoint.records_out,
        checkpoint.created_ms,
    ]);
    let operator = &checkpoint.operators[0];
    let [first, second, third] = [0, 1, 2].map(|state| operator.states[state].id.0);
    let ends = operator.tasks.iter().map(|task| task.key_groups.0.end);
    possible.contains(&parallelism)
        && possible.contains(&configured_parallelism)
        && numbers.all(|number| number <= ID_MAX)
        && first != second
        && second != third
        && first.max(second).max(third) < u16::MAX
        && ends.max() <= Some(max_parallelism.get())
        && checkpoint.created_ms.checked_mul(1000).is_some()
}

#[test]
fn numbers_that_no_job_reaches_are_refused() {
    type Change = fn(&mut Checkpoint, u64);
    let changes: [(&str, Change); 14] = [
        ("id", |made, to| made.id.0 = to),
        ("created_ms", |made, to| made.created_ms = to),
        ("records_in", |made, to| made.records_in = to),
        ("records_out", |made, to| made.records_out = to),
        ("parallelism", |made, to| made.scale.parallelism = to as u16),
        ("configured", |made, to| {
            made.scale.configured_parallelism = to as u16;
        }),
        ("state", |made, to| {
            made.operators[0].states[1].id.0 = to as u16;
        }),
        ("version", |made, to| {
            made.operators[0].states[1].version = to as u32;
        }),
        ("ttl_ms", |made, to| {
            made.operators[0].states[1].ttl_ms = Some(to);
        }),
        ("chunk", |made, to| {
            made.operators[0].tasks[0].chunks[0].id.0 = to;
        }),
        ("len", |made, to| {
            made.operators[0].tasks[0].chunks[0].len = to as u32;
        }),
        ("first group", |made, to| {
            made.operators[0].tasks[1].key_groups.0.start = to as u16;
        }),
        ("end group", |made, to| {
            made.operators[0].tasks[1].key_groups.0.end = to as u16;
        }),
        ("collided", |made, to| {
            made.operators[0].tasks[0].collided[0] = to;
        }),
    ];
    for (field, change) in changes {
        let limits = [8, 16, 32, 62, 63].map(|bits| 1_u64 << bits);
        let around = limits.map(|limit| [limit - 1, limit, limit + 1]);
        let values = around.into_iter().flatten();
        for to in values.chain([0, 7, 128, 129, u64::MAX - 1, u64::MAX]) {
            let mut changed = sample();
            change(&mut changed, to);
            match decode(&encode(&changed)) {
                Ok(decoded) => {
                    assert_eq!(decoded, changed, "{field} {to}");
                    assert!(is_sane(&decoded), "{field} {to}");
                }
                Err(error) => assert!(
                    matches!(error, ManifestError::Malformed(_)),
                    "{field} {to}: {error}"
                ),
            }
        }
    }
    let mut largest = sample();
    largest.id.0 = ID_MAX;
    largest.operators[0].tasks[0].chunks[0].id.0 = ID_MAX;
    assert_eq!(decode(&encode(&largest)), Ok(largest));
}

proptest! {
    /// Bytes with a right checksum and wrong content: an error or a checkpoint, never a panic.
    #[test]
    fn hostile_bytes_do_no_harm(at in 0usize..200, with in proptest::collection::vec(any::<u8>(), 1..12)) {
        let mut bytes = encode(&sample());
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        let at = HEADER_BYTES + at % (bytes.len() - HEADER_BYTES);
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        let _ = decode(&sealed(bytes));
    }
}
