//! Builds plugins in Rust: `cargo build` for `wasm32-wasip2`, whose linker emits a component.

mod paths;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use super::tool::tool;
use super::{Language, LineReporter, PluginBuildError, Reuse};

const TARGET: &str = "wasm32-wasip2";

/// Finds cargo; the target is added when it is needed.
pub(super) fn find_tools(folder: &Path) -> Result<(), PluginBuildError> {
    let asked = tool("cargo", folder).arg("--version").output();
    asked.map(drop).map_err(no_tool("cargo", folder))
}

/// Builds a crate, which cargo does only if something changed.
pub(super) fn build(
    folder: &Path,
    reuse: Reuse,
    report: LineReporter<'_>,
) -> Result<PathBuf, PluginBuildError> {
    let manifest = folder.join("Cargo.toml");
    let libraries = ensure_target(folder, report)?;
    if reuse == Reuse::Never {
        forget(folder)?;
    }
    let output = tool("cargo", folder)
        .args(["build", "--release", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .args(paths::arguments(folder, &libraries))
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

/// Removes what was built of a crate, but not of its dependencies.
fn forget(folder: &Path) -> Result<(), PluginBuildError> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
    let manifest = toml::from_str::<toml::Table>(&manifest).unwrap_or_default();
    let package = manifest
        .get("package")
        .and_then(|package| package.get("name"));
    let Some(name) = package.and_then(toml::Value::as_str) else {
        // The build says what is wrong with the manifest.
        return Ok(());
    };
    let status = tool("cargo", folder)
        .args(["clean", "--quiet", "--release", "--target", TARGET])
        .args(["--package", name])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .map_err(no_tool("cargo", folder))?;
    match status.success() {
        true => Ok(()),
        false => Err(PluginBuildError::Failed {
            path: folder.to_path_buf(),
            status,
        }),
    }
}

/// Adds the target if the folder's tool chain lacks it; returns the folder of its libraries.
fn ensure_target(folder: &Path, report: LineReporter<'_>) -> Result<PathBuf, PluginBuildError> {
    let asked = tool("rustc", folder)
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::inherit())
        .output()
        .map_err(no_tool("rustc", folder))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    if asked.status.success() && libraries.is_dir() {
        return Ok(libraries);
    }
    report(&format!("adding the Rust target `{TARGET}` with rustup"));
    let added = tool("rustup", folder)
        .args(["target", "add", TARGET])
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status();
    match added {
        Ok(status) if status.success() => Ok(libraries),
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
    move |error| PluginBuildError::NoTool {
        language: Language::Rust,
        tool,
        path,
        reason: error.to_string(),
        install: "see https://rustup.rs".to_owned(),
    }
}

/// The fields of a cargo message about an artifact that are used.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    target: CargoTarget,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
struct CargoTarget {
    #[serde(default)]
    kind: Vec<String>,
}

/// The components of the crate with this manifest, without those of its dependencies.
fn components(messages: &[u8], manifest: &Path) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let manifest = real(manifest);
    // Build scripts may print lines of their own.
    let mut components: Vec<PathBuf> = messages
        .split(|&byte| byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<CargoMessage>(line).ok())
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
    //! Catches a wrong artifact that is taken for the component.

    use super::*;

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
