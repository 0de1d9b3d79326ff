//! Notes a rollback in the data folder, until the job's next checkpoint records it.
//!
//! ```text
//! rollback    {"checkpoint":7,"named":{"count":{"plugin":"<sha256>","config":{"a":"b"}}}}
//! ```
//!
//! `named` has the plugin and configuration that the pipeline named for each operator at the time of the rollback. As long
//! as that checkpoint is the newest and the pipeline names the same, the checkpoint's plugins run instead of the pipeline's.
//! Ids of checkpoints are never reused, so a note that is left behind has no effect. A note that cannot be read is an error.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{private, regular_file};
use floodmark_checkpoint::{PluginChoice, PluginDigest};
use floodmark_state::stream::CheckpointId;

/// The name of the file in a data folder.
const FILE_NAME: &str = "rollback";
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A rollback, and the plugins that the pipeline named at the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBackNote {
    /// The checkpoint that the job returned to.
    pub checkpoint: CheckpointId,
    /// Plugins and configurations that the pipeline named, by operator.
    pub named: BTreeMap<String, PluginChoice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    checkpoint: u64,
    named: BTreeMap<String, Choice>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    plugin: String,
    config: BTreeMap<String, String>,
}

impl RolledBackNote {
    /// Writes the note to a data folder. It is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written: an earlier note is unchanged.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let choice = |(name, choice): (&String, &PluginChoice)| {
            let choice = Choice {
                plugin: choice.plugin.to_string(),
                config: choice.config.iter().cloned().collect(),
            };
            (name.clone(), choice)
        };
        let stored = Stored {
            checkpoint: self.checkpoint.0,
            named: self.named.iter().map(choice).collect(),
        };
        private::write(folder, FILE_NAME, &serde_json::to_vec(&stored)?)
    }

    /// Reads the note of a data folder; `None` if there is no note.
    ///
    /// # Errors
    /// When there is a note that cannot be read: it is unknown which plugins run.
    pub fn read(folder: &Path) -> Result<Option<Self>, UnreadableNote> {
        let path = folder.join(FILE_NAME);
        let unreadable = |reason: String| UnreadableNote {
            path: path.clone(),
            reason,
        };
        let text = match regular_file::read_own_text(&path, FILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| unreadable(error.to_string()))?,
        };
        let stored: Stored =
            serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        let mut named = BTreeMap::new();
        for (name, choice) in stored.named {
            let plugin = digest(&choice.plugin)
                .ok_or_else(|| unreadable("the digest of a plugin is not 64 digits".to_owned()))?;
            let config = choice.config.into_iter().collect();
            named.insert(name, PluginChoice { plugin, config });
        }
        Ok(Some(Self {
            checkpoint: CheckpointId(stored.checkpoint),
            named,
        }))
    }
}

/// The note of a rollback exists and cannot be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "the note of a rollback `{}` cannot be read, so it is unknown which plugins run: {reason}; restore the file, or remove it to run the plugins that the pipeline names",
    path.display()
)]
pub struct UnreadableNote {
    path: PathBuf,
    reason: String,
}

fn digest(text: &str) -> Option<PluginDigest> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(PluginDigest(bytes))
}

#[cfg(test)]
mod tests {
    //! Catches a note that is not read as it was written, and one that is trusted when it is damaged.

    use std::fs;

    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RolledBackNote::read(folder.path()).unwrap(), None);
        let choice = PluginChoice {
            plugin: PluginDigest(std::array::from_fn(|at| at as u8 * 8)),
            config: vec![("a".to_owned(), "\"b".to_owned())],
        };
        let note = RolledBackNote {
            checkpoint: CheckpointId(7),
            named: [("count".to_owned(), choice)].into(),
        };
        note.write(folder.path()).unwrap();
        assert_eq!(RolledBackNote::read(folder.path()).unwrap(), Some(note));
        let path = folder.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text.replace("00", "0x"),
            text.replace("00", "0ä"),
            text.replace('7', "-7"),
            text[..9].to_owned(),
        ] {
            fs::write(&path, damaged).unwrap();
            let error = RolledBackNote::read(folder.path()).unwrap_err();
            assert!(error.to_string().contains("cannot be read"), "{error}");
        }
    }
}
