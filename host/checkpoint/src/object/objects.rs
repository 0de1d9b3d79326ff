//! The requests that are sent to an object store, as a trait: only what checkpoints need.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

/// A request in flight.
pub(super) type ObjectFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// Names, and the lengths of the stored objects.
pub(super) type Names = BTreeMap<String, u64>;

/// Whether an object was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    Now,
    /// An object has that name already: another writer's, or this writer's if the answer to an earlier try was lost.
    Before,
}

/// The result of reading an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(Vec<u8>),
    /// There is no such object, or it ends before the requested range.
    Missing,
    /// It is longer than `bytes_max`, and was not read.
    TooLong,
}

/// An object store. Each object is stored as a whole or not at all.
pub(super) trait Objects: Debug + Send + Sync {
    /// Writes an object, and replaces an existing one of that name.
    fn put(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<()>;
    /// Writes an object if the name is free. Of two at the same time, one fails.
    fn create(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<Created>;
    /// Reads an object of at most `bytes_max`, or a part of it.
    fn get(&self, path: Path, range: Option<Range<u64>>, bytes_max: u64) -> ObjectFuture<Got>;
    /// The names in a folder.
    fn list(&self, folder: Path) -> ObjectFuture<Names>;
    /// Deletes an object; a missing object is not an error.
    fn delete(&self, path: Path) -> ObjectFuture<()>;
}

impl Objects for Arc<dyn ObjectStore> {
    fn put(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<()> {
        let store = Self::clone(self);
        Box::pin(async move {
            let payload = PutPayload::from(bytes);
            ObjectStoreExt::put(&store, &path, payload).await?;
            Ok(())
        })
    }

    fn create(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<Created> {
        let store = Self::clone(self);
        Box::pin(async move {
            let payload = PutPayload::from(bytes);
            match store.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(Created::Now),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                    Ok(Created::Before)
                }
                Err(error) => Err(error),
            }
        })
    }

    fn get(&self, path: Path, range: Option<Range<u64>>, bytes_max: u64) -> ObjectFuture<Got> {
        let store = Self::clone(self);
        Box::pin(async move {
            let end = range.as_ref().map(|range| range.end);
            let options = GetOptions {
                range: range.map(GetRange::Bounded),
                ..GetOptions::default()
            };
            let found = match (store.get_opts(&path, options).await, end) {
                (Ok(found), _) => found,
                (Err(Error::NotFound { .. }), _) => return Ok(Got::Missing),
                // Stores answer differently if there is nothing in that range.
                (Err(error), Some(end)) => {
                    let is_short = store.head(&path).await.is_ok_and(|meta| meta.size < end);
                    return if is_short {
                        Ok(Got::Missing)
                    } else {
                        Err(error)
                    };
                }
                (Err(error), None) => return Err(error),
            };
            if found.range.end.saturating_sub(found.range.start) > bytes_max {
                return Ok(Got::TooLong);
            }
            Ok(Got::Bytes(found.bytes().await?.to_vec()))
        })
    }

    fn list(&self, folder: Path) -> ObjectFuture<Names> {
        let store = Self::clone(self);
        Box::pin(async move {
            let listed = store.list_with_delimiter(Some(&folder)).await?;
            let named = listed
                .objects
                .into_iter()
                .filter_map(|object| Some((object.location.filename()?.to_owned(), object.size)));
            Ok(named.collect())
        })
    }

    fn delete(&self, path: Path) -> ObjectFuture<()> {
        let store = Self::clone(self);
        Box::pin(async move {
            match ObjectStoreExt::delete(&store, &path).await {
                Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
    }
}
