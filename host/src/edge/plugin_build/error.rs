//! Why there is no component, in words that say what to do.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use super::{COMPONENT_BYTES_MAX, Language};

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginBuildError {
    /// There is nothing at the path.
    #[error("there is no plugin `{}`; name a `.wasm` file or a folder to build", path.display())]
    Missing {
        /// The plugin.
        path: PathBuf,
    },
    /// It is a device, a pipe or the like.
    #[error("the plugin `{}` is no ordinary file; name a `.wasm` file or a folder to build", path.display())]
    NotAFile {
        /// The plugin.
        path: PathBuf,
    },
    /// No plugin is that large.
    #[error("the plugin `{}` has more than {} MiB, so it is none; name a `.wasm` file", path.display(), COMPONENT_BYTES_MAX >> 20)]
    TooLarge {
        /// The plugin.
        path: PathBuf,
    },
    /// The folder is of no known language.
    #[error(
        "`{}` has no {}, so it is not known how to build it; name the folder of a plugin, make one with `floodmark new`, or name a `.wasm` file",
        path.display(),
        manifests()
    )]
    UnknownLanguage {
        /// The folder.
        path: PathBuf,
    },
    /// A tool is not there.
    #[error(
        "{tool} is missing, which builds plugins of {language} such as `{}` ({reason}); install it: {install}",
        path.display()
    )]
    NoTool {
        /// Of which language.
        language: Language,
        /// The tool, in words.
        tool: &'static str,
        /// The folder.
        path: PathBuf,
        /// What happened when it was looked for.
        reason: String,
        /// The command that installs it.
        install: String,
    },
    /// The manifest of a project does not say what it must.
    #[error("`{}` {reason}", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A folder cannot be read or written.
    #[error("the folder `{}` of a plugin cannot be used: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What the compiler made cannot be a component.
    #[error("what was built of `{}` is no plugin: {reason}", path.display())]
    NotAPlugin {
        /// The folder.
        path: PathBuf,
        /// Which import or export does not fit.
        reason: String,
    },
    /// The target is not there, and cannot be added.
    #[error(
        "the Rust target `wasm32-wasip2` is missing and could not be added ({reason}); run `rustup target add wasm32-wasip2`, or install it as you installed Rust"
    )]
    NoTarget {
        /// Why not.
        reason: String,
    },
    /// The compiler has said why.
    #[error("building the plugin `{}` failed ({status}); the compiler's messages are above", path.display())]
    Failed {
        /// The folder.
        path: PathBuf,
        /// How the tool ended.
        status: ExitStatus,
    },
    /// The crate is no plugin.
    #[error(
        "the crate `{}` yields no component; add `crate-type = [\"cdylib\"]` under `[lib]` in its `Cargo.toml`",
        path.display()
    )]
    NoComponent {
        /// The folder.
        path: PathBuf,
    },
    /// Which one is meant?
    #[error(
        "the crate `{}` yields {}; name the one you mean as a `.wasm` file",
        path.display(),
        shown(components)
    )]
    ManyComponents {
        /// The folder.
        path: PathBuf,
        /// What it yields.
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

/// The manifests of all languages, in words.
fn manifests() -> String {
    let shown = Language::ALL.map(|language| format!("`{}`", language.manifest()));
    let (last, others) = shown.split_last().expect("there are languages");
    format!("{} or {last}", others.join(", "))
}
