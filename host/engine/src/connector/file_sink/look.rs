//! Looks whether a folder can take the output of a sink, before anything is created in it.
//!
//! This finds the mistakes that a user makes: a folder without permission, a file in its place, the folder of another sink.
//! Whether its parts fit a checkpoint is seen when the job begins.

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::committer::read_mark;
use super::{Owner, staging};
use crate::connector::ConnectorError;

/// Looks at the folder, or the nearest one above it that exists.
pub(super) fn look(folder: &Path, owner: &Owner) -> Result<(), ConnectorError> {
    let staging = staging(folder);
    let Some(there) = nearest(&staging).map_err(ConnectorError::io("create folder", &staging))?
    else {
        return Ok(());
    };
    may_write(there).map_err(ConnectorError::io("create folder", &staging))?;
    read_mark(folder, &staging, owner).map(drop)
}

/// The nearest folder that exists: this one, or one above it. `None` if none of a relative path does.
fn nearest(path: &Path) -> io::Result<Option<&Path>> {
    for there in path.ancestors() {
        if there.as_os_str().is_empty() {
            break;
        }
        match fs::metadata(there) {
            Ok(found) if found.is_dir() => return Ok(Some(there)),
            Ok(_) => return Err(ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether this process may create files in a folder, as the system says.
fn may_write(folder: &Path) -> io::Result<()> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    #[expect(unsafe_code, reason = "the standard library does not tell")]
    // SAFETY: the call reads the string, which ends with a zero and lives until it returns.
    let answer = unsafe { libc::access(path.as_ptr(), libc::W_OK | libc::X_OK) };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    //! Catches a folder that is found to be unusable only after minutes of building, and a look that changes something.

    use super::*;

    fn owner(sink: &str) -> Owner {
        Owner {
            job: "words".to_owned(),
            sink: sink.to_owned(),
            data: "1".to_owned(),
        }
    }

    #[test]
    fn what_cannot_take_output_is_found_and_nothing_is_made() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/b");
        look(&folder, &owner("counts")).unwrap();
        assert!(!outer.path().join("a").exists());

        fs::write(outer.path().join("a"), "").unwrap();
        let error = look(&folder, &owner("counts")).unwrap_err().to_string();
        assert!(error.starts_with("cannot create folder `"), "{error}");
        fs::remove_file(outer.path().join("a")).unwrap();

        fs::create_dir_all(staging(&folder)).unwrap();
        look(&folder, &owner("counts")).unwrap();
        let mark = serde_json::to_string(&owner("counts")).unwrap() + "\n";
        fs::write(staging(&folder).join("owner"), mark).unwrap();
        look(&folder, &owner("counts")).unwrap();
        let error = look(&folder, &owner("other")).unwrap_err();
        assert!(matches!(error, ConnectorError::OutputTaken { .. }));
    }
}
