//! Creates files and folders that only this user may use, and checks a data folder that exists already.
//!
//! Modes are given explicitly, so they hold with any umask. The umask itself is not changed: it also applies to the
//! output of sinks, which is for other programs to read. The mode of an existing file or folder is not changed either,
//! since its owner may have shared it on purpose.
//!
//! A data folder is refused if another user could have prepared it, or could change it while the job runs:
//!
//! - It has to belong to this user or to root. A process of root may use any user's folder: in containers, volumes often
//!   belong to another user, and root can read and write everything anyway. That user is trusted then.
//! - No others may write to it. Neither may a group, except one with the number of the owner: on most systems it has this
//!   user as its only member, and a umask of 002 gives it the right to write. The group of a volume in a container has
//!   any number, so a process of root accepts each.
//! - The files in it are not symbolic links. The folder itself may be reached through a link: what is checked is the
//!   folder that the link leads to.
//!
//! A folder of checkpoints outside of it, and the folders in that, are refused for the same reasons.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::data_dir::DataDirError;

const ROOT: u32 = 0;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// What a job opens in its data folder. Folders that users may move to another disk (`plugins`, `savepoints`) are not
/// here, nor is the socket, which is removed and created again.
pub(super) const OPENED: [&str; 14] = [
    "lock",
    "id",
    "storage",
    "checkpoints.redb",
    "checkpoints.redb.new",
    "checkpoints.redb.restored",
    "checkpoints.redb.writing",
    "failures",
    "failed",
    "rollback",
    "later-output",
    "replay",
    "replay.lock",
    "compiled",
];

/// Options for a file of which this user alone gets the right to use it, if it is created. A symbolic link is refused.
pub(super) fn file() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Opening a pipe would wait for its other end otherwise.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    options.mode(0o600).custom_flags(flags);
    options
}

/// Creates a folder that this user alone may use. Its parent must exist.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Writes a file of a data folder as a whole: under its name with `.new` at the end first. It is durable when this returns.
///
/// # Errors
/// When it cannot be written: an earlier file of that name is unchanged, or the new one is there as a whole.
pub(super) fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = folder.join(format!("{name}.new"));
    let mut file = file().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// Checks that no other user can have prepared a data folder, or can change it.
///
/// # Errors
/// When that is possible, or cannot be found out. Nothing was changed.
pub(super) fn check(folder: &Path) -> Result<(), DataDirError> {
    let unknown = |path: &Path, source| DataDirError::Io {
        action: "look at",
        path: path.to_path_buf(),
        source,
    };
    let known = fs::metadata(folder).map_err(|source| unknown(folder, source))?;
    if !may_use(user(), known.uid()) {
        return Err(DataDirError::OfAnother {
            path: folder.to_path_buf(),
            owner: known.uid(),
        });
    }
    if others_write(user(), &known) {
        return Err(DataDirError::Writable {
            path: folder.to_path_buf(),
            mode: known.mode() & 0o7777,
        });
    }
    for name in OPENED {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(known) if known.is_symlink() => return Err(DataDirError::Link { path }),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(unknown(&path, source)),
        }
    }
    Ok(())
}

/// The reason why another user could have prepared a storage of checkpoints in a folder with these folders in it, or
/// could change it; `None` if there is none. What does not exist yet is this user's.
///
/// # Errors
/// When that cannot be found out.
pub(crate) fn storage_fault(folder: &Path, inner: &[&str]) -> io::Result<Option<String>> {
    let looked_at = |path: &Path, known: io::Result<fs::Metadata>| match known {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        known => known.map(|known| fault_of(path, &known)),
    };
    let fault = looked_at(folder, fs::metadata(folder))?;
    if fault.is_some() {
        return Ok(fault);
    }
    for name in inner {
        let path = folder.join(name);
        let fault = looked_at(&path, fs::symlink_metadata(&path))?;
        if fault.is_some() {
            return Ok(fault);
        }
    }
    Ok(None)
}

fn fault_of(path: &Path, known: &fs::Metadata) -> Option<String> {
    let path = path.display();
    if known.is_symlink() {
        return Some(format!(
            "`{path}` is a symbolic link, and another user may have made it to have checkpoints written elsewhere; remove it, or use another folder"
        ));
    }
    if !may_use(user(), known.uid()) {
        let owner = known.uid();
        return Some(format!(
            "`{path}` belongs to another user (user id {owner}), who can change the checkpoints; use a folder of your own"
        ));
    }
    others_write(user(), known).then(|| {
        let mode = known.mode() & 0o7777;
        format!(
            "other users may write to `{path}` (mode {mode:04o}), so they can change the checkpoints; forbid that with `chmod go-w`, or name a folder in it, which is created for you alone"
        )
    })
}

fn may_use(user: u32, owner: u32) -> bool {
    user == ROOT || owner == ROOT || owner == user
}

/// Whether users other than this one, the owner and root may create and replace files in a folder.
fn others_write(user: u32, folder: &fs::Metadata) -> bool {
    let mode = folder.mode();
    let by_group = mode & GROUP_WRITES != 0 && folder.gid() != folder.uid() && user != ROOT;
    by_group || mode & OTHERS_WRITE != 0
}

/// The user id of this process.
fn user() -> u32 {
    #[expect(unsafe_code, reason = "the standard library does not tell")]
    // SAFETY: the call takes nothing and cannot fail.
    unsafe {
        libc::geteuid()
    }
}

#[cfg(test)]
mod tests {
    //! Catches a data folder that another user prepared, and one of this user that is refused.

    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn said(folder: &Path) -> String {
        check(folder).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("data");
        create_folder(&folder).unwrap();
        let mode = fs::metadata(&folder).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700);
        for (mode, is_refused) in [
            (0o700, false),
            (0o755, false),
            (0o500, false),
            (0o702, true),
            (0o777, true),
            (0o1777, true),
        ] {
            fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
            let said = said(&folder);
            assert_eq!(!said.is_empty(), is_refused, "{mode:o}: {said}");
            let now = fs::metadata(&folder).unwrap().mode() & 0o7777;
            assert_eq!(now, mode, "the mode is not changed");
        }
    }

    #[test]
    fn root_may_use_folders_of_others_and_no_other_user_may() {
        for (user, owner, expected) in [
            (1000, 1000, true),
            (1000, 0, true),
            (1000, 1001, false),
            (0, 1001, true),
        ] {
            assert_eq!(may_use(user, owner), expected, "{user} {owner}");
        }
    }

    #[test]
    fn links_are_followed_to_the_folder_and_not_in_it() {
        let outer = tempfile::tempdir().unwrap();
        let (folder, link) = (outer.path().join("data"), outer.path().join("link"));
        create_folder(&folder).unwrap();
        symlink(&folder, &link).unwrap();
        assert_eq!(said(&link), "");
        symlink(outer.path(), folder.join("savepoints")).unwrap();
        symlink(outer.path(), folder.join("notes")).unwrap();
        assert_eq!(said(&link), "");
        for name in OPENED {
            symlink("nowhere", folder.join(name)).unwrap();
            let said = said(&link);
            assert!(said.contains("is a symbolic link"), "{name}: {said}");
            fs::remove_file(folder.join(name)).unwrap();
        }
    }

    #[test]
    fn a_storage_is_refused_like_a_data_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("store");
        let fault = || storage_fault(&folder, &["chunks", "plugins"]).unwrap();
        assert_eq!(fault(), None, "it does not exist yet");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(folder.join("chunks")).unwrap();
        let set = |path: &Path, mode| {
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        set(&folder, 0o755);
        set(&folder.join("chunks"), 0o700);
        assert_eq!(fault(), None);
        for path in [folder.clone(), folder.join("chunks")] {
            set(&path, 0o777);
            let said = fault().unwrap();
            assert!(said.contains("other users may write to"), "{said}");
            set(&path, 0o755);
        }
        symlink(folder.join("chunks"), folder.join("plugins")).unwrap();
        let said = fault().unwrap();
        assert!(said.contains("plugins` is a symbolic link"), "{said}");
    }
}
