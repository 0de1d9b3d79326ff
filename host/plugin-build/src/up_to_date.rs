//! Decides whether a built component is up to date with its project.
//!
//! All inputs are hashed: names and bytes of the files of project and SDK, versions of the tools, the contract, and the
//! version of this command. Modification times are ignored, since a checkout changes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{LineReporter, PluginBuildError, Project, Tools, contract};

/// Folders with output of tools.
const MADE: [&str; 4] = ["build", "node_modules", "target", "__pycache__"];
/// A folder that has this entry is the output folder of a job.
const STAGED: &str = ".staged";
/// Largest number of files in a project: a folder with more is not a plugin's.
const FILES_MAX: usize = 20_000;

/// The component of a project: an earlier build if nothing has changed since, otherwise a new one, which `make` writes
/// to the given path. A job must also restart on a machine without compilers: if `tools` are missing, any earlier build
/// of the same files is used.
pub(super) fn up_to_date(
    project: &Project,
    tools: Result<Tools, PluginBuildError>,
    report: LineReporter<'_>,
    make: impl FnOnce(&Tools, &Path) -> Result<(), PluginBuildError>,
) -> Result<PathBuf, PluginBuildError> {
    let dir = project.build_dir();
    let component = dir.join(format!("{}.wasm", project.name));
    let note = dir.join(format!("{}.inputs", project.name));
    let unusable = |source| PluginBuildError::Folder {
        path: dir.clone(),
        source,
    };
    fs::create_dir_all(&dir).map_err(unusable)?;
    // Several jobs may build the same plugin at once; the lock ends with the file handle.
    let lock = fs::File::create(dir.join(".lock")).map_err(unusable)?;
    lock.lock().map_err(unusable)?;
    let files = digest(project)?;
    let noted = fs::read_to_string(&note)
        .ok()
        .filter(|_| component.is_file());
    let noted = noted.as_deref().and_then(|noted| noted.split_once('\n'));
    let fits = |(noted_files, noted_tools): (&str, &str)| {
        let same_tools = |tools: &Tools| tools.version == noted_tools;
        noted_files == files && tools.as_ref().map_or(true, same_tools)
    };
    if noted.is_some_and(fits) {
        return Ok(component);
    }
    let tools = tools?;
    report(&format!("building `{}`", project.folder.display()));
    let unfinished = dir.join(format!("{}.{}.wasm", project.name, std::process::id()));
    let made = make(&tools, &unfinished)
        .and_then(|()| fs::rename(&unfinished, &component).map_err(unusable))
        .and_then(|()| fs::write(&note, format!("{files}\n{}", tools.version)).map_err(unusable));
    if made.is_err() {
        // The file may not exist.
        let _ = fs::remove_file(&unfinished);
    }
    made.map(|()| component)
}

/// A hash of all inputs of a project's component, except the tools.
fn digest(project: &Project) -> Result<String, PluginBuildError> {
    let mut digest = Sha256::new();
    let mut put = |bytes: &[u8]| {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    };
    put(env!("CARGO_PKG_VERSION").as_bytes());
    for (name, text) in contract::FILES {
        put(name.as_bytes());
        put(text.as_bytes());
    }
    for folder in std::iter::once(&project.folder).chain(&project.elsewhere) {
        let unreadable = |source| PluginBuildError::Folder {
            path: folder.clone(),
            source,
        };
        let mut files = Vec::new();
        files_below(folder, &mut files).map_err(unreadable)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(folder).unwrap_or(&file);
            put(name.as_os_str().as_encoded_bytes());
            put(&fs::read(&file).map_err(unreadable)?);
        }
    }
    let digest = digest.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// All files below a folder, except hidden ones and output of tools.
fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let kind = entry.file_type()?;
        if name.starts_with('.') || MADE.contains(&name.as_ref()) {
            continue;
        }
        if kind.is_dir() && !entry.path().join(STAGED).exists() {
            files_below(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
        if files.len() > FILES_MAX {
            return Err(io::Error::other(format!(
                "it has more than {FILES_MAX} files, so it is not a plugin's folder"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Catches an outdated component that is used, and an unnecessary build.

    use std::cell::Cell;

    use super::*;

    fn found(version: &str) -> Result<Tools, PluginBuildError> {
        Ok(Tools {
            command: Vec::new(),
            version: version.to_owned(),
        })
    }

    #[test]
    fn without_tools_a_component_of_the_same_files_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project {
            folder: folder.path().to_path_buf(),
            name: "demo".to_owned(),
            elsewhere: Vec::new(),
        };
        let missing = || {
            Err(PluginBuildError::NotAFile {
                path: PathBuf::new(),
            })
        };
        let make = |_: &Tools, out: &Path| {
            fs::write(out, "made").unwrap();
            Ok(())
        };
        fs::write(folder.path().join("source"), "1").unwrap();
        up_to_date(&project, missing(), &mut |_| (), make).unwrap_err();
        let made = up_to_date(&project, found("1"), &mut |_| (), make).unwrap();
        let again = up_to_date(&project, missing(), &mut |_| (), make).unwrap();
        assert_eq!(again, made);
        fs::write(folder.path().join("source"), "2").unwrap();
        up_to_date(&project, missing(), &mut |_| (), make).unwrap_err();
    }

    #[test]
    fn it_is_made_anew_when_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = tempfile::tempdir().unwrap();
        let project = Project {
            folder: folder.path().to_path_buf(),
            name: "demo".to_owned(),
            elsewhere: vec![sdk.path().to_path_buf()],
        };
        let made = Cell::new(0);
        let check = |tools: &str, expected: u32| {
            let make = |_: &Tools, out: &Path| {
                made.set(made.get() + 1);
                fs::write(out, made.get().to_string()).unwrap();
                Ok(())
            };
            let component = up_to_date(&project, found(tools), &mut |_| (), make).unwrap();
            let which = fs::read_to_string(component).unwrap();
            assert_eq!((which, made.get()), (expected.to_string(), expected));
        };
        fs::write(folder.path().join("source"), "1").unwrap();
        check("tool 1", 1);
        check("tool 1", 1);
        fs::write(folder.path().join("source"), "2").unwrap();
        check("tool 1", 2);
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("deep/source"), "").unwrap();
        check("tool 1", 3);
        fs::write(sdk.path().join("source"), "").unwrap();
        check("tool 1", 4);
        check("tool 2", 5);
        fs::create_dir(folder.path().join("node_modules")).unwrap();
        fs::write(folder.path().join("node_modules/any"), "").unwrap();
        check("tool 2", 5);
        fs::create_dir_all(folder.path().join("out/.staged")).unwrap();
        fs::write(folder.path().join("out/part-1.csv"), "").unwrap();
        check("tool 2", 5);
        fs::remove_file(folder.path().join("build/demo.wasm")).unwrap();
        check("tool 2", 6);
    }

    #[test]
    fn a_failed_build_leaves_the_last_component_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project {
            folder: folder.path().to_path_buf(),
            name: "demo".to_owned(),
            elsewhere: Vec::new(),
        };
        let good = |_: &Tools, out: &Path| {
            fs::write(out, "good").unwrap();
            Ok(())
        };
        let component = up_to_date(&project, found("1"), &mut |_| (), good).unwrap();
        let bad = |_: &Tools, out: &Path| {
            fs::write(out, "half").unwrap();
            Err(PluginBuildError::UnknownLanguage {
                path: PathBuf::new(),
            })
        };
        up_to_date(&project, found("2"), &mut |_| (), bad).unwrap_err();
        assert_eq!(fs::read_to_string(component).unwrap(), "good");
        assert_eq!(fs::read_dir(project.build_dir()).unwrap().count(), 3);
        up_to_date(&project, found("2"), &mut |_| (), good).unwrap();
    }
}
