//! The names and bytes of objects. No other module knows them.
//!
//! ```text
//! checkpoints/<id>           a record: a checkpoint, or a mark that no checkpoint has this id
//! chunks/<id>-<writer>       a chunk, compressed or not, and its index
//! plugins/<sha256>-<writer>  a plugin's component as it is
//! newest                     the id of the newest checkpoint, as 20 digits
//! ```
//!
//! Numbers in names have 20 decimal digits. `<writer>` is the id of the mark with which the object's writer began.
//!
//! ```text
//! record: "FLMK-OCP" | version: u16 | postcard of RecordV1 | XXH3-64 of all before
//! chunk:  "FLMK-OCH" | version: u16 | codec: u8 (0 plain, 1 lz4 block) | has index: u8 (0, 1)
//!         | length: u32 | stored length: u32 | index length: u32 | id: u64 | XXH3-64 of the plain bytes
//!         | XXH3-64 of the stored bytes | XXH3-64 of the header before      (56 bytes)
//!         | stored bytes | if it has an index: the index, and its XXH3-64 with the chunk's id as seed
//! ```
//!
//! All numbers are little-endian. Nothing in an object makes this module panic, or take more memory than its record says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Checkpoint, Compression, ManifestError, PluginDigest, manifest};
use floodmark_state::stream::CheckpointId;
use floodmark_state::{ChunkId, ChunkRef};

pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const CHUNKS: &str = "chunks";
pub(super) const PLUGINS: &str = "plugins";
pub(super) const NEWEST: &str = "newest";

const RECORD_MAGIC: &[u8; 8] = b"FLMK-OCP";
const CHUNK_MAGIC: &[u8; 8] = b"FLMK-OCH";
/// The version of records and chunks.
pub(super) const VERSION: u16 = 1;
const HEADER_BYTES: usize = 56;
const CHECKSUM_BYTES: usize = 8;
const PLAIN: u8 = 0;
const LZ4: u8 = 1;

/// The writer of an object: the id of the mark with which it started. Later writers have higher ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WriterId(pub u64);

/// A chunk as described by its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredChunk {
    pub chunk: ChunkRef,
    pub writer: WriterId,
    /// Length of its stored bytes.
    pub stored: u32,
    /// Length of its index; `None` without an index.
    pub index: Option<u32>,
    /// XXH3-64 of its uncompressed bytes.
    pub checksum: u64,
}

impl StoredChunk {
    pub(super) fn name(&self) -> String {
        chunk_name(self.chunk.id, self.writer)
    }

    /// Length of its object in bytes, with header and index.
    pub(super) fn object_bytes(&self) -> u64 {
        let index = self.index.map_or(0, |len| u64::from(len) + 8);
        HEADER_BYTES as u64 + u64::from(self.stored) + index
    }

    /// The range of the index and its checksum in the object.
    pub(super) fn index_range(&self) -> Option<std::ops::Range<u64>> {
        self.index?;
        Some(HEADER_BYTES as u64 + u64::from(self.stored)..self.object_bytes())
    }
}

/// A plugin as described by its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredPlugin {
    pub writer: WriterId,
    pub len: u64,
}

/// A checkpoint, and its stored chunks and plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredCheckpoint {
    pub checkpoint: Checkpoint,
    pub chunks: BTreeMap<ChunkId, StoredChunk>,
    pub plugins: BTreeMap<PluginDigest, StoredPlugin>,
}

/// The content of an object in `checkpoints/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CheckpointRecord {
    pub writer: WriterId,
    /// The id of the next record.
    pub next: u64,
    /// The highest chunk id that was ever used, as far as this writer knew.
    pub highest_chunk: u64,
    /// `None` in a mark.
    pub kept: Option<StoredCheckpoint>,
}

/// Formats a number with 20 digits, so that names sort like numbers.
pub(super) fn number(number: u64) -> String {
    format!("{number:020}")
}

pub(super) fn parse_number(name: &str) -> Option<u64> {
    let is_number = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| name.parse().ok())?
}

pub(super) fn chunk_name(id: ChunkId, writer: WriterId) -> String {
    format!("{}-{}", number(id.0), number(writer.0))
}

pub(super) fn plugin_name(plugin: PluginDigest, writer: WriterId) -> String {
    format!("{plugin}-{}", number(writer.0))
}

/// Splits a name into the part before the writer, and the writer.
pub(super) fn parse_name(name: &str) -> Option<(&str, WriterId)> {
    let (object, writer) = name.split_once('-')?;
    Some((object, WriterId(parse_number(writer)?)))
}

#[derive(Serialize, Deserialize)]
struct RecordV1<'a> {
    id: u64,
    writer: u64,
    next: u64,
    highest_chunk: u64,
    #[serde(borrow)]
    checkpoint: Option<CheckpointV1<'a>>,
}

#[derive(Serialize, Deserialize)]
struct CheckpointV1<'a> {
    manifest: &'a [u8],
    chunks: Vec<StoredChunkV1>,
    plugins: Vec<PluginV1>,
}

#[derive(Serialize, Deserialize)]
struct StoredChunkV1 {
    id: u64,
    writer: u64,
    len: u32,
    stored: u32,
    index: Option<u32>,
    checksum: u64,
}

#[derive(Serialize, Deserialize)]
struct PluginV1 {
    digest: [u8; 32],
    writer: u64,
    len: u64,
}

/// Encodes the record with this id.
pub(super) fn encode_record(id: u64, record: &CheckpointRecord) -> Vec<u8> {
    let manifest = record
        .kept
        .as_ref()
        .map(|kept| manifest::encode(&kept.checkpoint));
    let parts = record.kept.as_ref().zip(manifest.as_deref());
    let checkpoint = parts.map(|(kept, manifest)| CheckpointV1 {
        manifest,
        chunks: kept.chunks.values().map(StoredChunkV1::from).collect(),
        plugins: kept
            .plugins
            .iter()
            .map(|(digest, plugin)| PluginV1 {
                digest: digest.0,
                writer: plugin.writer.0,
                len: plugin.len,
            })
            .collect(),
    });
    let body = RecordV1 {
        id,
        writer: record.writer.0,
        next: record.next,
        highest_chunk: record.highest_chunk,
        checkpoint,
    };
    let mut bytes = RECORD_MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let mut bytes = postcard::to_extend(&body, bytes)
        .expect("a record has only what postcard can encode, and a vector takes any length");
    let checksum = xxh3_64(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Decodes a record with this id that [`encode_record`] encoded.
pub(super) fn decode_record(id: u64, bytes: &[u8]) -> Result<CheckpointRecord, ManifestError> {
    let malformed = ManifestError::Malformed;
    let content = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .filter(|content| *content >= RECORD_MAGIC.len() + 2 && bytes.starts_with(RECORD_MAGIC))
        .ok_or(ManifestError::NotAManifest)?;
    let (content, checksum) = bytes.split_at(content);
    if xxh3_64(content).to_le_bytes() != checksum {
        return Err(ManifestError::Checksum);
    }
    let found = u16::from_le_bytes([content[8], content[9]]);
    if found != VERSION {
        return Err(ManifestError::OtherVersion { found });
    }
    let (record, rest) = postcard::take_from_bytes::<RecordV1<'_>>(&content[10..])
        .map_err(|_| malformed("its record does not match version 1"))?;
    if !rest.is_empty() {
        return Err(malformed("there are bytes after its record"));
    }
    if record.id != id {
        return Err(malformed("it is stored under a different id"));
    }
    if record.next <= id {
        return Err(malformed("the next id in its record is not above its own"));
    }
    if record.next > manifest::ID_MAX || record.highest_chunk > manifest::ID_MAX {
        return Err(malformed("an id in its record is out of range"));
    }
    Ok(CheckpointRecord {
        writer: WriterId(record.writer),
        next: record.next,
        highest_chunk: record.highest_chunk,
        kept: record
            .checkpoint
            .map(|found| found.into_kept(id))
            .transpose()?,
    })
}

impl From<&StoredChunk> for StoredChunkV1 {
    fn from(stored: &StoredChunk) -> Self {
        Self {
            id: stored.chunk.id.0,
            writer: stored.writer.0,
            len: stored.chunk.len,
            stored: stored.stored,
            index: stored.index,
            checksum: stored.checksum,
        }
    }
}

impl CheckpointV1<'_> {
    fn into_kept(self, id: u64) -> Result<StoredCheckpoint, ManifestError> {
        let malformed = ManifestError::Malformed;
        let checkpoint = manifest::decode(self.manifest)?;
        if checkpoint.id != CheckpointId(id) {
            return Err(malformed("it is stored under a different id"));
        }
        let chunks = self.chunks.into_iter().map(|chunk| {
            let id = ChunkId(chunk.id);
            let stored = StoredChunk {
                chunk: ChunkRef { id, len: chunk.len },
                writer: WriterId(chunk.writer),
                stored: chunk.stored,
                index: chunk.index,
                checksum: chunk.checksum,
            };
            (id, stored)
        });
        let plugins = self.plugins.into_iter().map(|plugin| {
            let stored = StoredPlugin {
                writer: WriterId(plugin.writer),
                len: plugin.len,
            };
            (PluginDigest(plugin.digest), stored)
        });
        let (chunks, plugins): (BTreeMap<_, _>, BTreeMap<_, _>) =
            (chunks.collect(), plugins.collect());
        let is_told = |chunk: ChunkRef| {
            chunks
                .get(&chunk.id)
                .is_some_and(|told: &StoredChunk| told.chunk == chunk)
        };
        if !crate::chunks_of(&checkpoint).all(is_told) {
            return Err(malformed("its record does not say where its chunks are"));
        }
        if !crate::plugins_of(&checkpoint).all(|plugin| plugins.contains_key(&plugin)) {
            return Err(malformed("its record does not say where its plugins are"));
        }
        Ok(StoredCheckpoint {
            checkpoint,
            chunks,
            plugins,
        })
    }
}

/// Encodes the object of a chunk. Also returns the entry for its record.
pub(super) fn encode_chunk(
    id: ChunkId,
    plain: &[u8],
    index: Option<&[u8]>,
    writer: WriterId,
    compression: Compression,
) -> (StoredChunk, Vec<u8>) {
    let packed = match compression {
        Compression::Lz4 => Some(lz4_flex::block::compress(plain)),
        Compression::None => None,
    };
    // Chunks that do not shrink are stored uncompressed.
    let packed = packed.filter(|packed| packed.len() < plain.len());
    let (codec, bytes) = match &packed {
        Some(packed) => (LZ4, &packed[..]),
        None => (PLAIN, plain),
    };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a chunk stays below 4 GiB");
    let stored = StoredChunk {
        chunk: ChunkRef {
            id,
            len: length(plain),
        },
        writer,
        stored: length(bytes),
        index: index.map(length),
        checksum: xxh3_64(plain),
    };
    let mut object =
        Vec::with_capacity(HEADER_BYTES + bytes.len() + index.map_or(0, <[u8]>::len) + 8);
    object.extend_from_slice(CHUNK_MAGIC);
    object.extend_from_slice(&VERSION.to_le_bytes());
    object.extend_from_slice(&[codec, u8::from(index.is_some())]);
    for length in [stored.chunk.len, stored.stored, stored.index.unwrap_or(0)] {
        object.extend_from_slice(&length.to_le_bytes());
    }
    object.extend_from_slice(&id.0.to_le_bytes());
    object.extend_from_slice(&stored.checksum.to_le_bytes());
    object.extend_from_slice(&xxh3_64(bytes).to_le_bytes());
    let checksum = xxh3_64(&object);
    object.extend_from_slice(&checksum.to_le_bytes());
    object.extend_from_slice(bytes);
    if let Some(index) = index {
        object.extend_from_slice(index);
        let checksum = xxh3_64_with_seed(index, id.0);
        object.extend_from_slice(&checksum.to_le_bytes());
    }
    (stored, object)
}

/// The uncompressed bytes of the chunk in an object, or a description of the damage.
pub(super) fn decode_chunk(expected: &StoredChunk, object: &[u8]) -> Result<Vec<u8>, &'static str> {
    let range = HEADER_BYTES..HEADER_BYTES + expected.stored as usize;
    if object.len() as u64 != expected.object_bytes() {
        return Err("has a different length than its checkpoint says");
    }
    let (header, bytes) = (&object[..HEADER_BYTES], &object[range]);
    let (content, checksum) = header.split_at(HEADER_BYTES - CHECKSUM_BYTES);
    if !content.starts_with(CHUNK_MAGIC) || xxh3_64(content).to_le_bytes() != checksum {
        return Err("has a damaged header");
    }
    if content[8..10] != VERSION.to_le_bytes() {
        return Err("has a version that this floodmark does not support");
    }
    let told = [
        &[u8::from(expected.index.is_some())][..],
        &expected.chunk.len.to_le_bytes(),
        &expected.stored.to_le_bytes(),
        &expected.index.unwrap_or(0).to_le_bytes(),
        &expected.chunk.id.0.to_le_bytes(),
        &expected.checksum.to_le_bytes(),
    ];
    if content[11..40] != told.concat() {
        return Err("is not the one that its checkpoint names");
    }
    let unfit = "does not match its checksum";
    if xxh3_64(bytes).to_le_bytes() != content[40..48] {
        return Err(unfit);
    }
    let plain = match content[10] {
        PLAIN => bytes.to_vec(),
        // An lz4 block grows by a factor of 255 at most, so larger lengths are refused.
        LZ4 if (expected.chunk.len as usize) / 256 <= bytes.len() => {
            lz4_flex::block::decompress(bytes, expected.chunk.len as usize)
                .map_err(|_| "cannot be decompressed")?
        }
        _ => return Err("has an unknown compression"),
    };
    if plain.len() != expected.chunk.len as usize || xxh3_64(&plain) != expected.checksum {
        return Err(unfit);
    }
    Ok(plain)
}

/// The index in the bytes behind the chunk; `None` if it is damaged.
pub(super) fn decode_index(expected: &StoredChunk, bytes: &[u8]) -> Option<Vec<u8>> {
    let (index, checksum) = bytes.split_at_checked(expected.index? as usize)?;
    let fits = xxh3_64_with_seed(index, expected.chunk.id.0).to_le_bytes() == checksum;
    fits.then(|| index.to_vec())
}
