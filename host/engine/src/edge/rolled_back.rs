//! Notes a rollback in the data folder, until the job's next checkpoint records it.
//!
//! ```text
//! rollback    {"checkpoint":7,"named":{"count":{"plugin":"<sha256>","config":{"a":"b"}}}}
//! ```
//!
//! `named` has the plugin and configuration that the pipeline named for each operator at the time of the rollback. As long
//! as that checkpoint is the newest and the pipeline names the same, the checkpoint's plugins run instead of the pipeline's.
//! Ids of checkpoints are never reused, so a note that is left behind has no effect. A note that cannot be read is ignored.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::private;
use floodmark_checkpoint::{PluginChoice, PluginDigest};
use floodmark_state::stream::CheckpointId;

/// The name of the file in a data folder.
const FILE_NAME: &str = "rollback";
/// The name while the file is being written.
const NEW_FILE_NAME: &str = "rollback.new";
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
        let new = folder.join(NEW_FILE_NAME);
        let mut file = private::file()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(FILE_NAME))?;
        File::open(folder)?.sync_all()
    }

    /// Reads the note of a data folder; `None` if there is no readable note.
    #[must_use]
    pub fn read(folder: &Path) -> Option<Self> {
        use std::io::Read;

        let mut text = Vec::new();
        let file = File::open(folder.join(FILE_NAME)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_end(&mut text).ok()?;
        let stored: Stored = serde_json::from_slice(&text).ok()?;
        let choice = |(name, choice): (String, Choice)| {
            let choice = PluginChoice {
                plugin: digest(&choice.plugin)?,
                config: choice.config.into_iter().collect(),
            };
            Some((name, choice))
        };
        let named = stored.named.into_iter().map(choice);
        Some(Self {
            checkpoint: CheckpointId(stored.checkpoint),
            named: named.collect::<Option<_>>()?,
        })
    }
}

fn digest(text: &str) -> Option<PluginDigest> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
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

    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RolledBackNote::read(folder.path()), None);
        let choice = PluginChoice {
            plugin: PluginDigest(std::array::from_fn(|at| at as u8 * 8)),
            config: vec![("a".to_owned(), "\"b".to_owned())],
        };
        let note = RolledBackNote {
            checkpoint: CheckpointId(7),
            named: [("count".to_owned(), choice)].into(),
        };
        note.write(folder.path()).unwrap();
        assert_eq!(RolledBackNote::read(folder.path()), Some(note));
        let path = folder.path().join(FILE_NAME);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in [
            text.replace("00", "0x"),
            text.replace("00", "0ä"),
            text.replace('7', "-7"),
            text[..9].to_owned(),
        ] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(RolledBackNote::read(folder.path()), None);
        }
    }
}
