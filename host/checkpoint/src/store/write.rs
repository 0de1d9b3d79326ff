//! Writes a checkpoint, imports one from another storage, and deletes some: each in one transaction.
//!
//! At a commit redb reads each new page again for its checksum, and writes pages twice that did not fit its buffer. So
//! a large write gets a handle whose buffer holds all of it, if the settings allow that much memory, and releases it
//! afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use super::change::{ContentSource, Handed, New, StoreChange};
use super::error::{StoreError, StoreFault};
use super::recover::RestoredCheckpoint;
use super::{CheckpointStore, FailedWrite, Fate, Health, Recovery, file, tables};
use crate::crash::{self, Point};
use crate::{Checkpoint, CheckpointReader, CheckpointStorage, CommitPermit, Depth, NewCheckpoint};
use floodmark_state::stream::CheckpointId;

/// Bytes that the buffer of an ordinary handle certainly holds.
const WRITE_BYTES_SMALL: usize = file::CACHE_BYTES / 4;

/// Marks a running commit: an empty file beside the store that exists from before each transaction until after it.
///
/// A commit of redb on a damaged page can end the process, and would do so again at each start. A process that opens a
/// store and finds the marker checks all pages first; without the marker it skips that check. The marker is never
/// synced: it must survive the process, not the machine, since redb itself survives a crash of the machine. A marker
/// that remains although the file is sound (after a kill, or a disk failure) costs a slower start.
#[derive(Debug)]
pub(super) struct Marker {
    path: PathBuf,
}

impl Marker {
    pub(super) fn of(store: &Path) -> Self {
        Self {
            path: file::writing_name(store),
        }
    }

    /// Whether a commit did not return. `true` if this cannot be determined.
    pub(super) fn is_set(&self) -> bool {
        self.path.try_exists().unwrap_or(true)
    }

    /// Creates the marker; returns whether it exists.
    fn set(&self) -> bool {
        let mut options = file::private();
        let options = options.write(true).create(true).truncate(true);
        options.open(&self.path).is_ok()
    }

    fn clear(&self) {
        // If it stays, the next start is slower.
        let _ = fs::remove_file(&self.path);
    }
}

impl CheckpointStorage for CheckpointStore {
    fn write(&mut self, new: &NewCheckpoint<'_>) -> Result<CommitPermit, StoreError> {
        let chunks = new.chunks.iter().map(|chunk| chunk.bytes.len());
        let plugins = new.plugins.iter().map(|(_, plugin)| plugin.len());
        let bytes = chunks.chain(plugins).sum::<usize>();
        self.require_name()?;
        let change = StoreChange {
            new: Some(New {
                checkpoint: new.checkpoint,
                source: ContentSource::Handed(Handed::of(new)),
                retained: Some(new.retained),
            }),
            deleted: &[],
            compression: self.settings.compression,
        };
        if bytes <= WRITE_BYTES_SMALL {
            return self.write_once(new.checkpoint, &change);
        }
        // Half of the cache is for writing; pages are a little larger than their content.
        let cache_bytes = bytes * 2 + bytes / 4 + file::CACHE_BYTES;
        self.reopen(cache_bytes.min(self.settings.cache_bytes_max.max(file::CACHE_BYTES)));
        let written = self.write_once(new.checkpoint, &change);
        self.reopen(file::CACHE_BYTES);
        written
    }

    fn recover(&mut self, depth: Depth, at: Option<CheckpointId>) -> Result<Recovery, StoreError> {
        self.find(depth, at)
    }

    fn import(
        &mut self,
        from: &dyn CheckpointReader,
        checkpoint: &Checkpoint,
    ) -> Result<CommitPermit, StoreError> {
        self.require_name()?;
        let change = StoreChange {
            new: Some(New {
                checkpoint,
                source: ContentSource::Reader(from),
                retained: None,
            }),
            deleted: &[],
            compression: self.settings.compression,
        };
        self.write_once(checkpoint, &change)
    }

    fn delete(&mut self, ids: &[CheckpointId]) -> Result<(), StoreError> {
        self.require_name()?;
        let change = StoreChange {
            new: None,
            deleted: ids,
            compression: self.settings.compression,
        };
        let deleted = self.transact(|database| commit(database, &change));
        deleted.map_err(|fault| fault.of(self.reader.path()))
    }

    fn reader(&self) -> Arc<dyn CheckpointReader> {
        Arc::clone(&self.reader) as Arc<dyn CheckpointReader>
    }
}

impl CheckpointStore {
    /// Drops the handle, so that the next one has this cache size.
    fn reopen(&mut self, cache_bytes: usize) {
        self.reader.alone(|slot| {
            slot.cache_bytes = cache_bytes;
            slot.database = None;
        });
    }

    /// Refuses a file that was removed: anything written to it would be lost when this process ends.
    pub(super) fn require_name(&self) -> Result<(), StoreError> {
        if self.marker.is_some() && !self.reader.path().exists() {
            return Err(StoreError::Removed { path: self.path() });
        }
        Ok(())
    }

    /// Refuses a damaged file: redb's commit could end the process.
    fn require_health(&mut self) -> Result<(), StoreError> {
        if matches!(self.health, Health::Suspicious) {
            let found = self.reader.check_pages()?;
            self.health = found.map_or(Health::Sound, Health::Damaged);
        }
        match &self.health {
            Health::Damaged(reason) => Err(StoreError::Damaged {
                path: self.path(),
                reason: reason.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Calls redb to write, under the marker of a commit.
    pub(super) fn transact<T>(
        &mut self,
        call: impl FnOnce(&Database) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        self.under_mark(|store| store.reader.attempt(call))
    }

    pub(super) fn under_mark<T>(
        &mut self,
        call: impl FnOnce(&Self) -> Result<T, StoreFault>,
    ) -> Result<T, StoreFault> {
        // Whether the last failed write was stored is settled before this one starts.
        self.reader.settle()?;
        self.require_health()?;
        // Without a marker, there is no other sign that redb did not return from a commit.
        if self.marker.as_ref().is_some_and(|marker| !marker.set()) {
            self.health = Health::Suspicious;
            self.require_health()?;
        }
        let done = call(self);
        match &done {
            Err(StoreFault::Redb(redb::Error::Io(_))) => {}
            // The cause was not the disk: the next write checks all pages first.
            Err(fault) if fault.spoils_handle() => self.health = Health::Suspicious,
            _ => self.clear_mark(),
        }
        done
    }

    pub(super) fn clear_mark(&self) {
        if let Some(marker) = &self.marker {
            marker.clear();
        }
    }

    fn write_once(
        &mut self,
        checkpoint: &Checkpoint,
        change: &StoreChange<'_>,
    ) -> Result<CommitPermit, StoreError> {
        match self.transact(|database| commit(database, change)) {
            Ok(()) => Ok(RestoredCheckpoint::permit(checkpoint)),
            Err(fault) => {
                // Without a handle, the transaction may have been interrupted at any step, including its commit.
                if fault.spoils_handle() {
                    self.reader.alone(|slot| {
                        slot.failed = Some(FailedWrite {
                            checkpoint: checkpoint.id,
                            fate: Fate::Unknown,
                        });
                        slot.database = None;
                    });
                }
                Err(fault.of(self.reader.path()))
            }
        }
    }
}

fn commit(database: &Database, change: &StoreChange<'_>) -> Result<(), StoreFault> {
    let highest = tables::meta(&database.begin_read()?)?;
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    change.apply(&transaction, &highest)?;
    crash::point(Point::StoreFilled);
    transaction.commit()?;
    crash::point(Point::StoreCommitted);
    Ok(())
}
