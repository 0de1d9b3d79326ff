//! Builds a plugin that is given as a folder, with the tools of its language.
//!
//! Rust for now: `cargo build` for `wasm32-wasip2`, whose linker emits a component by itself. What the component offers is
//! checked by `guest`, when it is loaded.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

const TARGET: &str = "wasm32-wasip2";

/// Bytes of a component.
const COMPONENT_BYTES_MAX: u64 = 256 << 20;

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
        "`{}` has no `Cargo.toml`, so it is not known how to build it; plugins are built from Rust for now, others are given as a `.wasm` file",
        path.display()
    )]
    UnknownLanguage {
        /// The folder.
        path: PathBuf,
    },
    /// A tool cannot be started.
    #[error("cannot start `{tool}` to build `{}`: {source}; install Rust from https://rustup.rs", path.display())]
    NoTool {
        /// The tool.
        tool: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The target is not there, and cannot be added.
    #[error(
        "the Rust target `{TARGET}` is missing and could not be added ({reason}); run `rustup target add {TARGET}`, or install it as you installed Rust"
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
        /// How cargo ended.
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

/// The component of a plugin: `path` itself if it is a file, what its folder yields otherwise. The compiler's messages go to
/// standard error, and `report` gets a line for people when something is installed.
///
/// # Errors
/// When there is no such plugin, or it cannot be built. A target that was added stays.
pub fn component(path: &Path, report: &mut dyn FnMut(&str)) -> Result<PathBuf, PluginBuildError> {
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

fn build(folder: &Path, report: &mut dyn FnMut(&str)) -> Result<PathBuf, PluginBuildError> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(PluginBuildError::UnknownLanguage {
            path: folder.to_path_buf(),
        });
    }
    ensure_target(folder, report)?;
    let output = tool("cargo", folder)
        .args(["build", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .map_err(no_tool("cargo", folder))?;
    if !output.status.success() {
        return Err(PluginBuildError::Failed {
            path: folder.to_path_buf(),
            status: output.status,
        });
    }
    let mut components = components(&output.stdout, &manifest);
    match components.len() {
        0 => Err(PluginBuildError::NoComponent {
            path: folder.to_path_buf(),
        }),
        1 => Ok(components.remove(0)),
        _ => Err(PluginBuildError::ManyComponents {
            path: folder.to_path_buf(),
            components,
        }),
    }
}

/// Adds the target unless the tool chain that builds this folder has it.
fn ensure_target(folder: &Path, report: &mut dyn FnMut(&str)) -> Result<(), PluginBuildError> {
    let asked = tool("rustc", folder)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::inherit())
        .output()
        .map_err(no_tool("rustc", folder))?;
    let libraries = String::from_utf8_lossy(&asked.stdout);
    if asked.status.success() && Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    report(&format!("adding the Rust target `{TARGET}` with rustup"));
    let added = tool("rustup", folder)
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    match added {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(PluginBuildError::NoTarget {
            reason: format!("rustup: {status}"),
        }),
        Err(error) => Err(PluginBuildError::NoTarget {
            reason: format!("rustup: {error}"),
        }),
    }
}

fn no_tool(tool: &'static str, folder: &Path) -> impl FnOnce(io::Error) -> PluginBuildError {
    let path = folder.to_path_buf();
    move |source| PluginBuildError::NoTool { tool, path, source }
}

/// A tool that runs in the folder as if the user had started it there.
fn tool(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(name);
    command.current_dir(folder).stdin(Stdio::null());
    for (variable, _) in std::env::vars_os() {
        if is_of_an_outer_build(&variable) {
            command.env_remove(variable);
        }
    }
    command
}

/// Whether a variable was made for another build than this one: by an outer `cargo run` or `cargo test`, or flags and
/// wrappers that suit the host's compiler. What configures cargo for a user stays.
fn is_of_an_outer_build(variable: &OsStr) -> bool {
    let Some(name) = variable.to_str() else {
        return false;
    };
    const NAMES: &[&str] = &[
        "CARGO",
        "CARGO_BIN_NAME",
        "CARGO_BUILD_TARGET",
        "CARGO_CRATE_NAME",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_MAKEFLAGS",
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_LINKS",
        "CARGO_MANIFEST_PATH",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "DEBUG",
        "HOST",
        "MAKEFLAGS",
        "MFLAGS",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOC",
        "RUSTFLAGS",
        "TARGET",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_PKG_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_BIN_EXE_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What cargo says of an artifact, as far as it is needed.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
struct Target {
    #[serde(default)]
    kind: Vec<String>,
}

/// The components that the crate with this manifest yields. Its dependencies' are not meant.
fn components(messages: &[u8], manifest: &Path) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let manifest = real(manifest);
    // Build scripts may print lines of their own.
    let mut components: Vec<PathBuf> = messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.target.kind.iter().any(|kind| kind == "cdylib"))
        .filter(|message| real(&message.manifest_path) == manifest)
        .flat_map(|message| message.filenames)
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "wasm")
        })
        .collect();
    components.sort();
    components.dedup();
    components
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

    #[test]
    fn only_what_an_outer_build_made_is_removed() {
        for name in [
            "CARGO",
            "CARGO_PKG_NAME",
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "OUT_DIR",
        ] {
            assert!(is_of_an_outer_build(OsStr::new(name)), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_NET_OFFLINE",
            "RUSTUP_HOME",
        ] {
            assert!(!is_of_an_outer_build(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn components_of_dependencies_are_not_meant() {
        let line = |manifest: &str, kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"{manifest}","target":{{"kind":["{kind}"]}},"filenames":["{file}"]}}"#
            )
        };
        let messages = [
            line("/p/Cargo.toml", "cdylib", "/t/p.wasm"),
            line("/p/Cargo.toml", "bin", "/t/tool.wasm"),
            line("/q/Cargo.toml", "cdylib", "/t/q.wasm"),
            "not json".to_owned(),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ];
        let found = components(messages.join("\n").as_bytes(), Path::new("/p/Cargo.toml"));
        assert_eq!(found, [PathBuf::from("/t/p.wasm")]);
    }
}
