//! Decides whether a built component is up to date with its project.
//!
//! All inputs are hashed: names and bytes of the files of project and SDK, versions of the tools, the contract, and the
//! version of this command. Modification times are ignored, since a checkout changes them. The versions of tools are not
//! asked for if their programs are the files that they were: starting some takes longer than all the rest.
//!
//! A note beside the component says what it was built from, and has its digest: a component that was written in part, or
//! that does not belong to the note, is not used.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{LineReporter, PluginBuildError, Project, Reuse, Tools, contract, hex, programs};

/// Folders with output of tools.
const MADE: [&str; 4] = ["build", "node_modules", "target", "__pycache__"];
/// A folder that has this entry is the output folder of a job.
const STAGED: &str = ".staged";
/// Largest number of files in a project: a folder with more is not a plugin's.
const FILES_MAX: usize = 20_000;

/// Variables with options of builds. Those that only choose the tools are not among them.
const OPTIONS: [&str; 3] = ["GOEXPERIMENT", "GOFLAGS", "SOURCE_DATE_EPOCH"];

/// What a component was built from: a line each in a file.
#[derive(Debug, PartialEq, Eq)]
struct BuildNote {
    /// The digest of the component.
    component: String,
    /// The digest of the files.
    files: String,
    /// The programs of the tools, if they can be recognised.
    programs: String,
    /// The versions of the tools.
    tools: String,
}

impl BuildNote {
    /// `None` if there is no note, it is not whole, or it belongs to another component.
    fn read(path: &Path, component: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.strip_suffix('\n')?.splitn(4, '\n').map(str::to_owned);
        let note = Self {
            component: lines.next()?,
            files: lines.next()?,
            programs: lines.next()?,
            tools: lines.next()?,
        };
        let built = fs::read(component).ok()?;
        (hex(Sha256::digest(built)) == note.component).then_some(note)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let Self {
            component,
            files,
            programs,
            tools,
        } = self;
        let unfinished = path.with_extension("unfinished");
        fs::write(
            &unfinished,
            format!("{component}\n{files}\n{programs}\n{tools}\n"),
        )?;
        fs::rename(unfinished, path)
    }
}

/// The component of a project: an earlier build if nothing has changed since, otherwise a new one, which `make` writes
/// to the given path. A job must also restart on a machine without compilers: if `tools` are missing, any earlier build
/// of the same files is used.
pub(super) fn up_to_date(
    project: &Project,
    reuse: Reuse,
    tools: impl FnOnce() -> Result<Tools, PluginBuildError>,
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
    let programs = programs::found(project.programs, &project.folder);
    let noted = BuildNote::read(&note, &component).filter(|noted| noted.files == files);
    let noted = noted.filter(|_| reuse == Reuse::IfUnchanged);
    if noted
        .as_ref()
        .is_some_and(|noted| programs.as_ref() == Some(&noted.programs))
    {
        return Ok(component);
    }
    let tools = match tools() {
        Ok(tools) => tools,
        Err(_) if noted.is_some() => return Ok(component),
        Err(missing) => return Err(missing),
    };
    let are_programs = programs::are_of(project.programs, &tools);
    let programs = programs.filter(|_| are_programs).unwrap_or_default();
    let new_note = |component: String| BuildNote {
        component,
        files: files.clone(),
        programs: programs.clone(),
        tools: tools.version.replace('\n', " "),
    };
    if let Some(noted) = noted {
        let renewed = new_note(noted.component.clone());
        if renewed.tools == noted.tools {
            // Other programs of the same version. If the note stays as it is, they are asked again.
            let _ = renewed.write(&note);
            return Ok(component);
        }
    }
    report(&format!("building `{}`", project.folder.display()));
    let unfinished = dir.join(format!("{}.{}.wasm", project.name, std::process::id()));
    let made = make(&tools, &unfinished).and_then(|()| {
        let put = || {
            let built = hex(Sha256::digest(fs::read(&unfinished)?));
            fs::rename(&unfinished, &component)?;
            new_note(built).write(&note)
        };
        put().map_err(unusable)
    });
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
    for option in OPTIONS {
        let value = std::env::var_os(option).unwrap_or_default();
        put(value.as_encoded_bytes());
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
    Ok(hex(digest.finalize()))
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
    //! Catches an outdated or half-written component that is used, an unnecessary build, and tools that are started without
    //! need.

    use std::cell::Cell;

    use super::*;

    fn found(version: &str) -> Result<Tools, PluginBuildError> {
        Ok(Tools {
            command: Vec::new(),
            version: version.to_owned(),
        })
    }

    fn built(
        project: &Project,
        tools: impl FnOnce() -> Result<Tools, PluginBuildError>,
        make: impl FnOnce(&Tools, &Path) -> Result<(), PluginBuildError>,
    ) -> Result<PathBuf, PluginBuildError> {
        up_to_date(project, Reuse::IfUnchanged, tools, &mut |_| (), make)
    }

    fn project_in(folder: &Path, elsewhere: Vec<PathBuf>) -> Project {
        Project {
            folder: folder.to_path_buf(),
            name: "demo".to_owned(),
            elsewhere,
            programs: &["tool"],
        }
    }

    /// Writes its number into each component.
    fn counting(made: &Cell<u32>) -> impl Fn(&Tools, &Path) -> Result<(), PluginBuildError> {
        move |_, out| {
            made.set(made.get() + 1);
            fs::write(out, made.get().to_string()).unwrap();
            Ok(())
        }
    }

    #[test]
    fn without_tools_a_component_of_the_same_files_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let project = project_in(folder.path(), Vec::new());
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
        built(&project, missing, make).unwrap_err();
        let made = built(&project, || found("1"), make).unwrap();
        let again = built(&project, missing, make).unwrap();
        assert_eq!(again, made);
        fs::write(folder.path().join("source"), "2").unwrap();
        built(&project, missing, make).unwrap_err();
    }

    #[test]
    fn it_is_made_anew_when_something_changed() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = tempfile::tempdir().unwrap();
        let project = project_in(folder.path(), vec![sdk.path().to_path_buf()]);
        let made = Cell::new(0);
        let check = |tools: &str, expected: u32| {
            let make = |_: &Tools, out: &Path| {
                made.set(made.get() + 1);
                fs::write(out, made.get().to_string()).unwrap();
                Ok(())
            };
            let component = built(&project, || found(tools), make).unwrap();
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
        let project = project_in(folder.path(), Vec::new());
        let good = |_: &Tools, out: &Path| {
            fs::write(out, "good").unwrap();
            Ok(())
        };
        let component = built(&project, || found("1"), good).unwrap();
        let bad = |_: &Tools, out: &Path| {
            fs::write(out, "half").unwrap();
            Err(PluginBuildError::UnknownLanguage {
                path: PathBuf::new(),
            })
        };
        built(&project, || found("2"), bad).unwrap_err();
        assert_eq!(fs::read_to_string(component).unwrap(), "good");
        assert_eq!(fs::read_dir(project.build_dir()).unwrap().count(), 3);
        built(&project, || found("2"), good).unwrap();
    }

    #[test]
    fn tools_are_not_started_if_nothing_changed() {
        let folder = tempfile::tempdir().unwrap();
        let project = project_in(folder.path(), Vec::new());
        let program = folder.path().join(".venv/bin/tool");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        let made = Cell::new(0);
        let started = Cell::new(0);
        let check = |version: &str, expected: (u32, u32)| {
            let tools = || {
                started.set(started.get() + 1);
                Ok(Tools {
                    command: vec![program.clone()],
                    version: version.to_owned(),
                })
            };
            built(&project, tools, counting(&made)).unwrap();
            assert_eq!((started.get(), made.get()), expected, "{version}");
        };
        fs::write(&program, "1").unwrap();
        check("tool\n1", (1, 1));
        check("tool\n1", (1, 1));
        // Installed once more, in the same version.
        fs::remove_file(&program).unwrap();
        fs::write(&program, "another").unwrap();
        check("tool\n1", (2, 1));
        check("tool\n1", (2, 1));
        fs::write(&program, "a later one").unwrap();
        check("tool\n2", (3, 2));
        fs::write(folder.path().join("source"), "").unwrap();
        check("tool\n2", (4, 3));
        check("tool\n2", (4, 3));
        let forced = || found("tool\n2");
        let (reuse, make) = (Reuse::Never, counting(&made));
        up_to_date(&project, reuse, forced, &mut |_| (), make).unwrap();
        assert_eq!(made.get(), 4);
    }

    #[test]
    fn a_component_that_is_not_the_one_of_its_note_is_built_again() {
        let folder = tempfile::tempdir().unwrap();
        let project = project_in(folder.path(), Vec::new());
        let made = Cell::new(0);
        let build = || built(&project, || found("1"), counting(&made)).unwrap();
        let component = build();
        let note = component.with_extension("inputs");
        let whole = fs::read_to_string(&note).unwrap();
        let check = |expected: u32| {
            assert_eq!(build(), component);
            let built = fs::read_to_string(&component).unwrap();
            assert_eq!((built, made.get()), (expected.to_string(), expected));
        };
        check(1);
        fs::write(&component, "").unwrap();
        check(2);
        // A component that was put there before the process died, beside an older note.
        fs::write(&note, &whole).unwrap();
        check(3);
        let whole = fs::read_to_string(&note).unwrap();
        fs::write(&note, &whole[..whole.len() - 1]).unwrap();
        check(4);
        fs::remove_file(&note).unwrap();
        check(5);
        check(5);
    }
}
