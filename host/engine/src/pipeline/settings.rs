//! Reads the sections `[checkpoint]` and `[state]`, and the `ttl` of an operator's states, with their defaults.
//!
//! Numbers and words only. Names that Apache Flink uses for the same things are answered with the names here. Whether a
//! storage can be reached is not checked here.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::{duration, size, suggestions};

/// Largest number of checkpoints to keep.
pub const RETAINED_MAX: u16 = 1000;
/// Shortest time between two checkpoints: with less, a job would do little else.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Least memory for state on disk, in bytes: with less, a few chunks would be swapped all the time.
pub const MEMORY_MIN: u64 = 8 << 20;
/// Largest number of hooks.
pub const HOOKS_MAX: usize = 16;

/// The field `on-error`: the handling of a record that the plugin of an operator fails at or rejects, that a source cannot
/// read, or that a sink cannot write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnErrorSetting {
    /// The job fails. The restart strategy decides, if a plugin has failed.
    #[default]
    Fail,
    /// The record is skipped.
    Skip,
    /// The record leaves through the port `dead-letters`.
    DeadLetter,
}

/// The section `[checkpoint]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CheckpointSection {
    /// Time between triggers; `None` means only when the job stops or ends, or on request.
    #[serde(deserialize_with = "duration::deserialize_or_off")]
    pub interval: Option<Duration>,
    /// A checkpoint that takes longer fails.
    #[serde(deserialize_with = "duration::deserialize")]
    pub timeout: Duration,
    /// Least time between the end of one checkpoint and the start of the next.
    #[serde(deserialize_with = "duration::deserialize_or_zero")]
    pub min_pause: Duration,
    /// Number of checkpoints to keep, at least one.
    pub retained: u16,
    /// Number of failures in a row that are tolerated before the job fails; `None` for any number.
    #[serde(deserialize_with = "count_or_unlimited")]
    pub tolerable_failures: Option<u32>,
    /// How often a record may count after a failure.
    pub mode: CheckpointMode,
    /// Whether the checkpoints are kept when the user stops the job.
    pub on_cancel: OnCancel,
    /// How stored chunks are compressed.
    pub compression: CompressionSetting,
    /// Where checkpoints are stored.
    pub storage: StorageSetting,
    /// Commands and addresses to notify of each checkpoint.
    #[serde(deserialize_with = "texts")]
    pub on_checkpoint: Vec<String>,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(10)),
            timeout: Duration::from_secs(600),
            min_pause: Duration::ZERO,
            retained: 3,
            tolerable_failures: None,
            mode: CheckpointMode::ExactlyOnce,
            on_cancel: OnCancel::Keep,
            compression: CompressionSetting::Lz4,
            storage: StorageSetting::Redb,
            on_checkpoint: Vec::new(),
        }
    }
}

/// How often a record may count after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointMode {
    /// After a failure each record counts once.
    ExactlyOnce,
    /// After a failure a record may count more than once; no input waits for another's barrier.
    AtLeastOnce,
}

/// Whether the checkpoints are kept when the user stops the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnCancel {
    /// They are kept.
    Keep,
    /// They are deleted, unless a savepoint was requested.
    Delete,
}

/// How stored chunks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompressionSetting {
    /// Compressed if that makes them smaller.
    Lz4,
    /// No compression.
    None,
}

/// Where checkpoints are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageSetting {
    /// A file in the data folder.
    Redb,
    /// The memory of the process: lost with it.
    Memory,
    /// A folder of this or another machine: `file:///…`, an absolute path.
    Folder(PathBuf),
    /// An object store: `s3://BUCKET/PREFIX`, as typed.
    S3(String),
}

impl fmt::Display for StorageSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Redb => f.write_str("redb"),
            Self::Memory => f.write_str("memory"),
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::S3(url) => f.write_str(url),
        }
    }
}

/// Names of checkpoint storages in Apache Flink.
const STORAGES_OF_FLINK: [(&str, &str); 8] = [
    ("jobmanager", "memory"),
    ("filesystem", "file:///PATH"),
    ("memorystatebackend", "memory"),
    ("fsstatebackend", "file:///PATH"),
    ("rocksdb", "redb"),
    ("rocksdbstatebackend", "redb"),
    ("hashmap", "memory"),
    ("disk", "redb"),
];

impl StorageSetting {
    /// Parses the setting.
    ///
    /// # Errors
    /// The problem, for the user.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "redb" => return Ok(Self::Redb),
            "memory" => return Ok(Self::Memory),
            _ => {}
        }
        if let Some(path) = text.strip_prefix("file://") {
            let path = Path::new(path);
            let is_plain = !path
                .components()
                .any(|part| part == std::path::Component::ParentDir);
            return match path.is_absolute() && path.parent().is_some() && is_plain {
                true => Ok(Self::Folder(path.components().collect())),
                false => Err(format!(
                    "`{text}` names no folder; write an absolute path after `file://`, such as `file:///var/checkpoints`"
                )),
            };
        }
        if let Some(place) = text.strip_prefix("s3://") {
            let bucket = place.split('/').next().unwrap_or_default();
            return match bucket.is_empty() {
                false => Ok(Self::S3(text.trim_end_matches('/').to_owned())),
                true => Err(format!(
                    "`{text}` names no bucket; write `s3://BUCKET/PREFIX`"
                )),
            };
        }
        let plain = text.to_lowercase();
        let known = ["redb", "memory", "file:///PATH", "s3://BUCKET/PREFIX"];
        let habit = STORAGES_OF_FLINK.iter().find(|(old, _)| *old == plain);
        let hint = match habit {
            Some((_, new)) => format!("; it is called `{new}` here"),
            None => suggestions::hint(&plain, known),
        };
        Err(format!("unknown value `{text}`{hint}"))
    }
}

impl<'de> Deserialize<'de> for StorageSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// The section `[state]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StateSection {
    /// The place for state while the job runs.
    pub backend: StateBackendSetting,
    /// Bytes of state in memory, over all tasks. With the backend `memory` more state is refused, with `disk` it is in files.
    #[serde(deserialize_with = "given_size")]
    pub memory: Option<u64>,
}

impl Default for StateSection {
    fn default() -> Self {
        Self {
            backend: StateBackendSetting::Memory,
            memory: None,
        }
    }
}

impl StateSection {
    /// Bytes of state in memory with the backend `disk`.
    #[must_use]
    pub fn memory_beside_disk(&self) -> u64 {
        self.memory.unwrap_or(256 << 20)
    }
}

fn given_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    size::deserialize(deserializer).map(Some)
}

/// The place for state while the job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateBackendSetting {
    /// All of it in memory.
    Memory,
    /// Recently used state is in memory, the rest on disk.
    Disk,
}

impl StateBackendSetting {
    /// Its name in a pipeline file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
        }
    }
}

/// Names of backends in Apache Flink.
const BACKENDS_OF_FLINK: [(&str, &str); 9] = [
    ("hashmap", "memory"),
    ("hashmapstatebackend", "memory"),
    ("filesystem", "memory"),
    ("fsstatebackend", "memory"),
    ("jobmanager", "memory"),
    ("memorystatebackend", "memory"),
    ("rocksdb", "disk"),
    ("rocksdbstatebackend", "disk"),
    ("embeddedrocksdbstatebackend", "disk"),
];

impl<'de> Deserialize<'de> for StateBackendSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "memory" => return Ok(Self::Memory),
            "disk" => return Ok(Self::Disk),
            _ => {}
        }
        let plain = text.to_lowercase();
        let habit = BACKENDS_OF_FLINK.iter().find(|(old, _)| *old == plain);
        let hint = match habit {
            Some((_, new)) => format!("; it is called `{new}` here"),
            None if plain == "redb" => "; did you mean `disk`?".to_owned(),
            None => suggestions::hint(&plain, ["memory", "disk"]),
        };
        Err(D::Error::custom(format!("unknown value `{text}`{hint}")))
    }
}

/// Time to live of an entry after its last write, in place of the plugin's; `None` is without expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Ttl(
    /// At least one millisecond.
    #[serde(deserialize_with = "duration::deserialize_or_off")]
    pub Option<Duration>,
);

pub(super) fn count_or_unlimited<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    struct CountVisitor;

    impl Visitor<'_> for CountVisitor {
        type Value = Option<u32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number, 0 or more, or `unlimited`")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Option<u32>, E> {
            let count = u32::try_from(number);
            count
                .map(Some)
                .map_err(|_| E::invalid_type(serde::de::Unexpected::Signed(number), &self))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<u32>, E> {
            match text {
                "unlimited" => Ok(None),
                _ => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }

    deserializer.deserialize_any(CountVisitor)
}

/// One text, or a list of them.
/// The scheme of a text that is an address and not a command, but not one of HTTP, or one without a host.
fn unusable_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let is_of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_address = !scheme.is_empty()
        && scheme.bytes().all(is_of_scheme)
        && !text.contains(char::is_whitespace);
    let mut http = ["http", "https"].iter();
    let is_http = http.any(|known| scheme.eq_ignore_ascii_case(known));
    let has_host = !rest.is_empty() && !rest.starts_with(['/', '?', '#']);
    (is_address && !(is_http && has_host)).then_some(scheme)
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct TextsVisitor;

    impl<'de> Visitor<'de> for TextsVisitor {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a command or an address, or a list of them")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<String>, E> {
            let text = text.trim();
            if text.is_empty() {
                return Err(E::custom("is empty; write a command or an address"));
            }
            // The rest may have a password in it.
            if let Some(scheme) = unusable_scheme(text) {
                return Err(E::custom(format!(
                    "an address `{scheme}://…` is not one of HTTP with a host; write one such as `http://HOST/PATH`, or a command"
                )));
            }
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = items.next_element::<String>()? {
                texts.extend(self.visit_one(&text)?);
                if texts.len() > HOOKS_MAX {
                    let message =
                        format!("names more than {HOOKS_MAX}; call them from one command");
                    return Err(A::Error::custom(message));
                }
            }
            Ok(texts)
        }
    }

    impl TextsVisitor {
        fn visit_one<E: Error>(&self, text: &str) -> Result<Vec<String>, E> {
            TextsVisitor.visit_str(text)
        }
    }

    deserializer.deserialize_any(TextsVisitor)
}
