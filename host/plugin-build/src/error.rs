//! Errors of building a plugin, with messages that say what to do.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::{COMPONENT_BYTES_MAX, Language};

/// The reason why a plugin was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginBuildError {
    /// There is nothing at the path.
    #[error("there is no plugin `{}`; name a `.wasm` file or a folder to build", path.display())]
    Missing {
        /// The path that was given as a plugin.
        path: PathBuf,
    },
    /// The path is a device, a pipe or the like.
    #[error("the plugin `{}` is not a regular file; name a `.wasm` file or a folder to build", path.display())]
    NotAFile {
        /// The path that was given as a plugin.
        path: PathBuf,
    },
    /// The file is larger than any plugin.
    #[error("the plugin `{}` has more than {} MiB, so it is not a plugin; name a `.wasm` file", path.display(), COMPONENT_BYTES_MAX >> 20)]
    TooLarge {
        /// The path that was given as a plugin.
        path: PathBuf,
    },
    /// The language of the folder is unknown.
    #[error(
        "`{}` has no {}, so its language is unknown; name the folder of a plugin, make one with `floodmark new`, or name a `.wasm` file",
        path.display(),
        manifests()
    )]
    UnknownLanguage {
        /// The folder of the plugin.
        path: PathBuf,
    },
    /// A tool is missing.
    #[error(
        "{tool} is missing, which builds plugins of {language} such as `{}` ({reason}); install it: {install}",
        path.display()
    )]
    NoTool {
        /// The language of the plugin.
        language: Language,
        /// The tool, for people.
        tool: &'static str,
        /// The folder of the plugin.
        path: PathBuf,
        /// The result of looking for it.
        reason: String,
        /// The command that installs it.
        install: String,
    },
    /// The manifest of a project is invalid.
    #[error("`{}` {reason}", path.display())]
    Manifest {
        /// The path of the manifest.
        path: PathBuf,
        /// The mistake, and how to correct it.
        reason: String,
    },
    /// A folder cannot be read or written.
    #[error("the folder `{}` of a plugin cannot be used: {source}", path.display())]
    Folder {
        /// The folder of the plugin.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The compiled module cannot become a component.
    #[error("the build of `{}` did not give a plugin: {reason}", path.display())]
    NotAPlugin {
        /// The folder of the plugin.
        path: PathBuf,
        /// The import or export that does not fit.
        reason: String,
    },
    /// The target is missing, and cannot be added.
    #[error(
        "the Rust target `wasm32-wasip2` is missing and could not be added ({reason}); run `rustup target add wasm32-wasip2`, or install it as you installed Rust"
    )]
    NoTarget {
        /// Why it could not be added.
        reason: String,
    },
    /// The compiler failed, and has printed why.
    #[error("building the plugin `{}` failed ({status}); the compiler's messages are above", path.display())]
    Failed {
        /// The folder of the plugin.
        path: PathBuf,
        /// The exit status of the tool.
        status: ExitStatus,
    },
    /// The crate does not produce a component.
    #[error(
        "the crate `{}` produces no component; add `crate-type = [\"cdylib\"]` under `[lib]` in its `Cargo.toml`",
        path.display()
    )]
    NoComponent {
        /// The folder of the plugin.
        path: PathBuf,
    },
    /// The crate produces several components.
    #[error(
        "the crate `{}` produces {}; name the one you mean as a `.wasm` file",
        path.display(),
        shown(components)
    )]
    ManyComponents {
        /// The folder of the plugin.
        path: PathBuf,
        /// The components that the crate produces.
        components: Vec<PathBuf>,
    },
}

fn shown(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths
        .iter()
        .map(|path| format!("`{}`", path.display()))
        .collect();
    shown.join(" and ")
}

/// The names of the manifests of all languages, as text.
fn manifests() -> String {
    let shown = Language::ALL.map(|language| format!("`{}`", language.manifest()));
    let (last, others) = shown.split_last().expect("there are languages");
    format!("{} or {last}", others.join(", "))
}
