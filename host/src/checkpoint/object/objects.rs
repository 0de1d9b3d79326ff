//! What is asked of a place for objects, as requests on their way: all that is needed, and no more.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutPayload};

/// A request on its way.
pub(super) type ObjectFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// A name and the length of what is stored there.
pub(super) type Names = BTreeMap<String, u64>;

/// Whether an object was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    Now,
    /// An object has that name already: another writer's, or this writer's if the answer to an earlier try was lost.
    Before,
}

/// What was found under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(Vec<u8>),
    /// There is no such object, or it ends before what was asked for.
    Missing,
    /// It is longer than was asked for, and was not read.
    TooLong,
}

/// A place for objects. Each is there whole or not at all.
pub(super) trait Objects: Debug + Send + Sync {
    /// Puts an object, and replaces the one with that name.
    fn put(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<()>;
    /// Puts an object, unless there is one: of two at the same time, one loses.
    fn create(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<Created>;
    /// Reads an object of at most `bytes_max`, or a part of it.
    fn get(&self, path: Path, range: Option<Range<u64>>, bytes_max: u64) -> ObjectFuture<Got>;
    /// Names in a folder.
    fn list(&self, folder: Path) -> ObjectFuture<Names>;
    /// Deletes an object; one that is not there is as good as deleted.
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
                // Stores answer in different ways when there is nothing at that range.
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
