//! Builds a plugin that is given as a folder, with the tools of its language.
//!
//! The manifest in a folder decides its language. Cargo knows itself when to rebuild. For other languages, a component
//! is rebuilt when a file of the project, its SDK, the tools or the contract changed; it is kept in the folder's
//! `build`. No tool is started to find out. If tools are missing, an earlier build of the same files is used. Only Rust's
//! target is installed automatically: for everything else, a message says what is missing and which command installs it.
//! `guest` checks a component when it is loaded.

mod c;
mod go;
mod javascript;
mod python;
mod rust;

pub mod contract;
pub mod environment;
pub mod new_plugin;

mod error;
mod programs;
mod tool;
mod up_to_date;

use std::fmt;
use std::path::{Path, PathBuf};

pub use self::error::PluginBuildError;
use self::up_to_date::up_to_date;

/// Largest component, in bytes.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// The folder in a project's folder for all build output.
const BUILD: &str = "build";

/// Receives lines for the user.
type LineReporter<'a> = &'a mut dyn FnMut(&str);

/// A language that plugins are built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// `Cargo.toml`
    Rust,
    /// `go.mod`
    Go,
    /// `pyproject.toml`
    Python,
    /// `package.json`, also for TypeScript
    JavaScript,
    /// `plugin.toml`, also for C++ and Zig
    C,
}

impl Language {
    /// All languages.
    pub const ALL: [Self; 5] = [
        Self::Rust,
        Self::Go,
        Self::Python,
        Self::JavaScript,
        Self::C,
    ];

    /// The name on the command line, and of the language's folders in this repository.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Go => "go",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::C => "c",
        }
    }

    /// The file that identifies a folder of this language.
    #[must_use]
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Go => "go.mod",
            Self::Python => "pyproject.toml",
            Self::JavaScript => "package.json",
            Self::C => "plugin.toml",
        }
    }

    /// The language of a folder; `None` if unknown.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let has = |language: &Self| folder.join(language.manifest()).is_file();
        Self::ALL.into_iter().find(has)
    }

    /// Checks that this machine has the tools to build such plugins. `folder` is a plugin, since tools may be installed
    /// beside it.
    ///
    /// # Errors
    /// [`PluginBuildError::NoTool`] names the missing tool and the command that installs it.
    pub fn find_tools(self, folder: &Path) -> Result<(), PluginBuildError> {
        match self {
            Self::Rust => rust::find_tools(folder),
            Self::Go => go::tools(folder).map(drop),
            Self::Python => python::tools(folder).map(drop),
            Self::JavaScript => javascript::tools(folder).map(drop),
            Self::C => c::tools(folder).map(drop),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Go => "Go",
            Self::Python => "Python",
            Self::JavaScript => "TypeScript",
            Self::C => "C",
        })
    }
}

/// A folder with a plugin, as described by its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Project {
    folder: PathBuf,
    /// The name of the component.
    name: String,
    /// Other folders that it is built from, such as an SDK.
    elsewhere: Vec<PathBuf>,
    /// The names of the programs that may build it.
    programs: &'static [&'static str],
}

impl Project {
    /// The folder for all build output.
    fn build_dir(&self) -> PathBuf {
        self.folder.join(BUILD)
    }
}

/// The component of a plugin: `path` itself if it is a file, otherwise the result of building the folder. The
/// compiler's messages go to standard error, and `report` gets a line for the user when something is installed or takes
/// long.
///
/// # Errors
/// When there is no such plugin, or it cannot be built. An added target stays, and so does an older component.
pub fn component(path: &Path, report: LineReporter<'_>) -> Result<PathBuf, PluginBuildError> {
    component_by(path, Reuse::IfUnchanged, report)
}

/// The same as [`component`], but builds a folder although nothing in it has changed. Dependencies of a crate are kept.
///
/// # Errors
/// Those of [`component`]. An earlier component of a crate may be gone.
pub fn component_anew(path: &Path, report: LineReporter<'_>) -> Result<PathBuf, PluginBuildError> {
    component_by(path, Reuse::Never, report)
}

/// When an earlier build of a folder is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    IfUnchanged,
    Never,
}

fn component_by(
    path: &Path,
    reuse: Reuse,
    report: LineReporter<'_>,
) -> Result<PathBuf, PluginBuildError> {
    if path.is_dir() {
        return build(path, reuse, report);
    }
    let path = path.to_path_buf();
    match path.metadata() {
        // Reading a device may never end, and reading a pipe may never start.
        Ok(file) if !file.is_file() => Err(PluginBuildError::NotAFile { path }),
        Ok(file) if file.len() > COMPONENT_BYTES_MAX => Err(PluginBuildError::TooLarge { path }),
        Ok(_) => Ok(path),
        Err(_) => Err(PluginBuildError::Missing { path }),
    }
}

fn build(
    folder: &Path,
    reuse: Reuse,
    report: LineReporter<'_>,
) -> Result<PathBuf, PluginBuildError> {
    let Some(language) = Language::of(folder) else {
        return Err(PluginBuildError::UnknownLanguage {
            path: folder.to_path_buf(),
        });
    };
    match language {
        Language::Rust => rust::build(folder, reuse, report),
        Language::Go => {
            let project = go::project(folder)?;
            let find = || go::tools(folder);
            up_to_date(&project, reuse, find, report, |tools, out| {
                go::build(&project, tools, out)
            })
        }
        Language::Python => {
            let project = python::project(folder)?;
            let find = || python::tools(folder);
            up_to_date(&project, reuse, find, report, |tools, out| {
                python::build(&project, tools, out)
            })
        }
        Language::JavaScript => {
            let project = javascript::project(folder)?;
            let find = || javascript::tools(folder);
            up_to_date(&project, reuse, find, report, |tools, out| {
                javascript::build(&project, tools, out)
            })
        }
        Language::C => {
            let project = c::project(folder)?;
            let find = || c::tools(folder);
            up_to_date(&project, reuse, find, report, |tools, out| {
                c::build(&project, tools, out)
            })
        }
    }
}

/// The tools to build plugins of a language.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tools {
    /// The program and its first arguments.
    command: Vec<PathBuf>,
    /// The version that the tool reports; another version rebuilds.
    version: String,
}

/// The digits of a digest.
fn hex(digest: impl AsRef<[u8]>) -> String {
    let bytes = digest.as_ref().iter();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    //! Catches a plugin that is built with the flags of an outer build, a wrong artifact that is taken for the component, and
    //! a build that fails without saying so.

    use super::*;

    /// Names differ between tests, since all crates may share a target folder of the user.
    fn crate_in(folder: &Path, name: &str, library: &str, code: &str) {
        let manifest = format!(
            "[package]\nname = \"{name}\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n{library}\n[workspace]\n"
        );
        std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
        std::fs::write(folder.join("lib.rs"), code).unwrap();
    }

    fn silent(_: &str) {}

    #[test]
    fn a_folder_is_built_and_its_component_found() {
        let folder = tempfile::tempdir().unwrap();
        crate_in(folder.path(), "built-demo", "crate-type = [\"cdylib\"]", "");
        let built = component(folder.path(), &mut silent).unwrap();
        let bytes = std::fs::read(&built).unwrap();
        assert_eq!(
            &bytes[..8],
            b"\0asm\x0d\0\x01\0",
            "a component, not a module"
        );
        assert_eq!(component(&built, &mut silent).unwrap(), built);
    }

    #[test]
    fn what_is_no_plugin_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = || component(folder.path(), &mut silent).unwrap_err();
        assert!(matches!(
            refusal(),
            PluginBuildError::UnknownLanguage { .. }
        ));
        crate_in(folder.path(), "refused-demo", "", "");
        assert!(matches!(refusal(), PluginBuildError::NoComponent { .. }));
        crate_in(
            folder.path(),
            "refused-demo",
            "crate-type = [\"cdylib\"]",
            "compile_error!(\"meant\");",
        );
        assert!(matches!(refusal(), PluginBuildError::Failed { .. }));
        let missing = component(&folder.path().join("none.wasm"), &mut silent);
        assert!(matches!(missing, Err(PluginBuildError::Missing { .. })));
    }
}
