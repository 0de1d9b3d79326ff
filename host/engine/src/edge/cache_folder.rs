//! Finds the folder for compiled plugins: the user's cache folder, so that a plugin is compiled once for all jobs of a
//! user.
//!
//! `FLOODMARK_CACHE_DIR` names another folder, or `off` for none. Without it the folder is `floodmark` in
//! `XDG_CACHE_HOME`, or in `.cache` of the home folder. If that folder cannot be used (no home, a full or read-only
//! disk, another user's folder after `sudo`), code is kept in the job's data folder. `guest::compiled` decides which
//! files in the folder to trust.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::guest::prepare_cache;

/// The environment variable that names the folder.
pub const VARIABLE: &str = "FLOODMARK_CACHE_DIR";
/// The value that disables the cache.
const OFF: &str = "off";

/// The folder for compiled code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheFolder {
    /// The folder; `None` if compiled code is not kept.
    pub path: Option<PathBuf>,
    /// The reason why it is not the user's cache folder, for the user.
    pub warning: Option<String>,
}

/// Finds the folder for compiled code. `otherwise` is used if this user has no usable cache folder.
#[must_use]
pub fn cache_folder(otherwise: Option<PathBuf>) -> CacheFolder {
    find(|variable| std::env::var_os(variable), otherwise)
}

fn find(variable: impl Fn(&str) -> Option<OsString>, otherwise: Option<PathBuf>) -> CacheFolder {
    let given = variable(VARIABLE).filter(|value| !value.is_empty());
    if given.as_deref().is_some_and(|value| value == OFF) {
        return CacheFolder::default();
    }
    let is_given = given.is_some();
    let folder = match given {
        Some(folder) => Some(PathBuf::from(folder)),
        None => of_user(variable),
    };
    let Some(folder) = folder else {
        return CacheFolder {
            path: otherwise,
            warning: None,
        };
    };
    let path = folder.join("compiled");
    match prepare_cache(&path) {
        Ok(()) => CacheFolder {
            path: Some(path),
            warning: None,
        },
        // A missing home folder is not an error. An unusable folder that the user named or made is one.
        Err(_) if !is_given && !path.exists() => CacheFolder {
            path: otherwise,
            warning: None,
        },
        Err(error) => CacheFolder {
            warning: Some(unusable(&path, &error, otherwise.as_deref())),
            path: otherwise,
        },
    }
}

fn unusable(path: &Path, error: &std::io::Error, otherwise: Option<&Path>) -> String {
    let instead = match otherwise {
        Some(folder) => format!("it is kept in `{}` instead", folder.display()),
        None => "it is not kept".to_owned(),
    };
    format!(
        "compiled code cannot be kept in `{}` ({error}): {instead}; set {VARIABLE} to another folder, or to `{OFF}`",
        path.display()
    )
}

/// This user's cache folder by the XDG Base Directory Specification, which says to ignore relative paths.
fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name| {
        let path = variable(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| {
        // This never creates a home folder, and never writes to that of another user, as after `sudo`.
        let home = absolute("HOME")?;
        is_own(&home).then(|| home.join(".cache"))
    })?;
    Some(caches.join("floodmark"))
}

fn is_own(folder: &Path) -> bool {
    let own = std::fs::metadata("/proc/self").map(|process| process.uid());
    let owner = std::fs::metadata(folder).map(|folder| folder.uid());
    matches!((own, owner), (Ok(own), Ok(owner)) if own == owner)
}

#[cfg(test)]
mod tests {
    //! Catches compiled code that is kept in a folder that the user did not choose, that another user can write to, or
    //! nowhere.

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The folder for these variables, in `DIR`, and whether there is a warning.
    fn check(dir: &Path, variables: &[(&str, &str)]) -> (String, bool) {
        let value = |name: &str| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(value.replace("DIR", dir.to_str().unwrap()).into())
        };
        let found = find(value, Some(PathBuf::from("data")));
        let path = found.path.map(|path| path.display().to_string());
        let path = path.unwrap_or_default();
        (
            path.replace(dir.to_str().unwrap(), "DIR"),
            found.warning.is_some(),
        )
    }

    #[test]
    fn the_folder_is_the_users() {
        let dir = tempfile::tempdir().unwrap();
        for (variables, path, warns) in [
            (
                &[("FLOODMARK_CACHE_DIR", "off"), ("HOME", "DIR")][..],
                "",
                false,
            ),
            (
                &[("FLOODMARK_CACHE_DIR", "DIR/other"), ("HOME", "DIR")],
                "DIR/other/compiled",
                false,
            ),
            (
                &[("XDG_CACHE_HOME", "DIR/xdg"), ("HOME", "DIR")],
                "DIR/xdg/floodmark/compiled",
                false,
            ),
            (
                &[("XDG_CACHE_HOME", "relative"), ("HOME", "DIR")],
                "DIR/.cache/floodmark/compiled",
                false,
            ),
            (
                &[("FLOODMARK_CACHE_DIR", ""), ("HOME", "DIR")],
                "DIR/.cache/floodmark/compiled",
                false,
            ),
            (&[("HOME", "DIR/missing")], "data", false),
            (&[("HOME", "")], "data", false),
            (&[], "data", false),
            (&[("FLOODMARK_CACHE_DIR", "/proc/none")], "data", true),
        ] {
            assert_eq!(
                check(dir.path(), variables),
                (path.to_owned(), warns),
                "{variables:?}"
            );
        }
        let mode = fs::metadata(dir.path().join(".cache/floodmark/compiled")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o700);
        assert!(!dir.path().join("missing").exists());
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let compiled = dir.path().join("compiled");
        fs::create_dir(&compiled).unwrap();
        fs::set_permissions(&compiled, PermissionsExt::from_mode(0o777)).unwrap();
        let given = [("FLOODMARK_CACHE_DIR", "DIR")];
        assert_eq!(check(dir.path(), &given), ("data".to_owned(), true));
    }
}
