//! What the pipeline file may say of each connector.
//!
//! Plain settings without behaviour: the connectors themselves read and write. All are tables in kebab-case; an unknown
//! field is refused.

use std::path::PathBuf;

use serde::Deserialize;

/// How records stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A record is a line; it has no key.
    #[default]
    Lines,
    /// A record is a JSON object on a line.
    Jsonl,
    /// A record is a row of comma-separated values.
    Csv,
}

impl Format {
    /// The word in the pipeline file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
}

/// `connector = "file"` of a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileSourceSettings {
    /// A file, a folder or a pattern.
    pub path: PathBuf,
    /// How records stand in it.
    #[serde(default)]
    pub format: Format,
    /// Where the key of a record is.
    pub key: Option<String>,
    /// What ends the key in a line.
    pub key_separator: Option<String>,
    /// Where the event time of a record is.
    pub timestamp: Option<String>,
    /// Whether to wait for more at the end.
    #[serde(default)]
    pub follow: bool,
    /// The bytes of a file that are read as one split.
    #[serde(default = "split_bytes")]
    pub split_bytes: u64,
}

fn split_bytes() -> u64 {
    64 << 20
}

/// `connector = "generator"` of a source.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GeneratorSettings {
    /// How many records; without it, no end.
    pub records: Option<u64>,
    /// How many different keys.
    #[serde(default = "generator_keys")]
    pub keys: u64,
    /// The length of a value.
    #[serde(default = "generator_value_bytes")]
    pub value_bytes: u32,
    /// Records a second; without it, as fast as they are taken.
    pub rate: Option<f64>,
    /// What the records are drawn from.
    #[serde(default)]
    pub seed: u64,
}

fn generator_keys() -> u64 {
    1000
}

fn generator_value_bytes() -> u32 {
    100
}

/// `connector = "file"` of a sink.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FileSinkSettings {
    /// The folder of the parts.
    pub path: PathBuf,
    /// How records stand in them.
    #[serde(default)]
    pub format: Format,
}

/// `connector = "stdout"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StdoutSettings {
    /// How records are printed.
    #[serde(default)]
    pub format: Format,
}

/// `connector = "discard"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscardSettings {}
