//! Builds a plugin that is given as a folder, with the tools of its language.
//!
//! A folder is of the language whose manifest it has. Cargo knows by itself what has to be built; for the other languages a
//! component is made anew when a file of the project, its SDK, the tools or the contract changed, and lies in the folder's
//! `build`; where tools are missing, one that fits the files will do. Nothing is installed here but the target of Rust: a message says what is missing and the command that installs it.
//! What a component offers is checked by `guest`, when it is loaded.

mod c;
mod go;
mod javascript;
mod python;
mod rust;

pub mod contract;

mod error;
mod fresh;
mod tool;

use std::fmt;
use std::path::{Path, PathBuf};

pub use self::error::PluginBuildError;
use self::fresh::up_to_date;

/// Bytes of a component.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// The folder in a project's folder where all that is made of it goes.
const BUILD: &str = "build";

/// Takes a line for people.
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
    /// `package.json`; TypeScript, too.
    JavaScript,
    /// `plugin.toml`; C++ and Zig, too.
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Rust,
        Self::Go,
        Self::Python,
        Self::JavaScript,
        Self::C,
    ];

    /// Its name on the command line, and that of its folder beside the other languages' in this repository.
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

    /// The file by which a folder is known to be of this language.
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

    /// The language of a folder, if it is known.
    #[must_use]
    pub fn of(folder: &Path) -> Option<Self> {
        let has = |language: &Self| folder.join(language.manifest()).is_file();
        Self::ALL.into_iter().find(has)
    }

    /// Whether this machine has the tools to build such plugins. `folder` is one, since tools may be installed beside it.
    ///
    /// # Errors
    /// [`PluginBuildError::NoTool`] says what is missing, and how to install it.
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

/// A folder with a plugin, as its manifest tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Project {
    folder: PathBuf,
    /// What the component is called.
    name: String,
    /// Folders elsewhere that it is built from, such as an SDK.
    elsewhere: Vec<PathBuf>,
}

impl Project {
    /// Where all that is made of it goes.
    fn build_dir(&self) -> PathBuf {
        self.folder.join(BUILD)
    }
}

/// The component of a plugin: `path` itself if it is a file, what its folder yields otherwise. The compiler's messages go to
/// standard error, and `report` gets a line for people when something is installed or takes long.
///
/// # Errors
/// When there is no such plugin, or it cannot be built. A target that was added stays, and so does an older component.
pub fn component(path: &Path, report: LineReporter<'_>) -> Result<PathBuf, PluginBuildError> {
    if path.is_dir() {
        return build(path, report);
    }
    let path = path.to_path_buf();
    match path.metadata() {
        // Bytes of a device never end, and those of a pipe may never come.
        Ok(file) if !file.is_file() => Err(PluginBuildError::NotAFile { path }),
        Ok(file) if file.len() > COMPONENT_BYTES_MAX => Err(PluginBuildError::TooLarge { path }),
        Ok(_) => Ok(path),
        Err(_) => Err(PluginBuildError::Missing { path }),
    }
}

fn build(folder: &Path, report: LineReporter<'_>) -> Result<PathBuf, PluginBuildError> {
    let Some(language) = Language::of(folder) else {
        return Err(PluginBuildError::UnknownLanguage {
            path: folder.to_path_buf(),
        });
    };
    match language {
        Language::Rust => rust::build(folder, report),
        Language::Go => {
            let project = go::project(folder)?;
            up_to_date(&project, go::tools(folder), report, |tools, out| {
                go::build(&project, tools, out)
            })
        }
        Language::Python => {
            let project = python::project(folder)?;
            up_to_date(&project, python::tools(folder), report, |tools, out| {
                python::build(&project, tools, out)
            })
        }
        Language::JavaScript => {
            let project = javascript::project(folder)?;
            up_to_date(&project, javascript::tools(folder), report, |tools, out| {
                javascript::build(&project, tools, out)
            })
        }
        Language::C => {
            let project = c::project(folder)?;
            up_to_date(&project, c::tools(folder), report, |tools, out| {
                c::build(&project, tools, out)
            })
        }
    }
}

/// What is needed to build plugins of a language.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tools {
    /// How to start the tool: a program, and arguments that go before all others.
    command: Vec<PathBuf>,
    /// What it says of its version: another one builds anew.
    version: String,
}

#[cfg(test)]
mod tests {
    //! Catches a plugin that is built with the flags of an outer build, a wrong artifact that is taken for the component, and
    //! a build that fails without saying so.

    use super::*;

    /// Names differ between tests: with a target folder of the user's all crates share it.
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
