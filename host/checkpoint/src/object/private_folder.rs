//! An object store of files that only this user may use.
//!
//! The object store creates files with the mode that the umask gives, so each gets its mode once it is there. Until then the
//! folder that it is in keeps other users away, since this crate makes it for this user alone. Nothing is done to files
//! that are there already.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{Error, ObjectStore};

use super::objects::{Created, Got, Names, ObjectFuture, Objects};

/// A store of files, and its folder.
#[derive(Debug)]
pub(super) struct PrivateFolder {
    store: Arc<dyn ObjectStore>,
    folder: PathBuf,
}

impl PrivateFolder {
    pub(super) fn new(store: Arc<dyn ObjectStore>, folder: PathBuf) -> Self {
        Self { store, folder }
    }

    /// The file of an object: the names of objects have no characters that a store of files would replace.
    fn file(&self, path: &Path) -> PathBuf {
        self.folder.join(path.as_ref())
    }
}

impl Objects for PrivateFolder {
    fn put(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<()> {
        let file = self.file(&path);
        let put = Objects::put(&self.store, path, bytes);
        Box::pin(async move {
            put.await?;
            make_private(file)
        })
    }

    fn create(&self, path: Path, bytes: Vec<u8>) -> ObjectFuture<Created> {
        let file = self.file(&path);
        let create = Objects::create(&self.store, path, bytes);
        Box::pin(async move {
            let created = create.await?;
            if created == Created::Now {
                make_private(file)?;
            }
            Ok(created)
        })
    }

    fn get(&self, path: Path, range: Option<Range<u64>>, bytes_max: u64) -> ObjectFuture<Got> {
        Objects::get(&self.store, path, range, bytes_max)
    }

    fn list(&self, folder: Path) -> ObjectFuture<Names> {
        Objects::list(&self.store, folder)
    }

    fn delete(&self, path: Path) -> ObjectFuture<()> {
        Objects::delete(&self.store, path)
    }
}

fn make_private(file: PathBuf) -> Result<(), Error> {
    match fs::set_permissions(file, Permissions::from_mode(0o600)) {
        // Another writer has removed it meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        set => set.map_err(|source| Error::Generic {
            store: "folder",
            source: Box::new(source),
        }),
    }
}
