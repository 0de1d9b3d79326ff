//! Go: the ordinary compiler, for WASI preview 1, as a library whose functions have the contract's names.
//!
//! The SDK speaks the canonical ABI by itself, so there is nothing to generate. What Go's run-time asks of an operating system is
//! answered by an adapter that needs none (`go/preview1.wat`); modules come from wherever the user's `go` gets them, and the SDK alone
//! needs none. No other tool chain is ever fetched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::tool::tool;
use super::{Language, PluginBuildError, Project, Tools, contract};

/// The version that knows `//go:wasmexport`.
const NEEDED: (u32, u32) = (1, 24);
const INSTALL: &str = "see https://go.dev/doc/install (Go 1.24 or later; no TinyGo)";
/// What the run-time imports, and who answers.
const ADAPTERS: [(&str, &str); 1] = [("wasi_snapshot_preview1", include_str!("go/preview1.wat"))];

/// The project is called as the last part of its module's path; what it is built from elsewhere is what `replace` says.
pub(super) fn project(folder: &Path) -> Result<Project, PluginBuildError> {
    let manifest = folder.join(Language::Go.manifest());
    let text = fs::read_to_string(&manifest).map_err(|source| PluginBuildError::Folder {
        path: folder.to_path_buf(),
        source,
    })?;
    let Some(name) = module_name(&text) else {
        return Err(PluginBuildError::Manifest {
            path: manifest,
            reason: "names no module; write `module example.com/my-plugin` into it".to_owned(),
        });
    };
    let elsewhere = replaced(&text)
        .map(|path| folder.join(path))
        .filter(|path| path.is_dir())
        .collect();
    Ok(Project {
        folder: folder.to_path_buf(),
        name: name.to_owned(),
        elsewhere,
    })
}

/// What comes last in the module's path, without the version that may end it.
fn module_name(manifest: &str) -> Option<&str> {
    let path = manifest
        .lines()
        .filter_map(|line| without_comment(line).strip_prefix("module"))
        .find(|rest| rest.starts_with([' ', '\t']))?;
    let is_version = |part: &&str| {
        let number = part.strip_prefix('v');
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut parts = unquoted(path).rsplit('/').skip_while(is_version);
    parts.next().filter(|name| !name.is_empty())
}

/// The folders that stand in for modules.
fn replaced(manifest: &str) -> impl Iterator<Item = &str> {
    manifest
        .lines()
        .filter_map(|line| without_comment(line).split_once("=>"))
        .map(|(_, target)| unquoted(target))
        .filter(|target| {
            target.starts_with("./") || target.starts_with("../") || target.starts_with('/')
        })
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or(line).trim()
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['"', '`'])
}

/// Looks for `go`, and whether it is new enough.
pub(super) fn tools(folder: &Path) -> Result<Tools, PluginBuildError> {
    let no_tool = |reason: String| PluginBuildError::NoTool {
        language: Language::Go,
        tool: "Go",
        path: folder.to_path_buf(),
        reason,
        install: INSTALL.to_owned(),
    };
    let asked = tool("go", folder)
        .env("GOTOOLCHAIN", "local")
        .arg("version")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| no_tool(format!("go: {error}")))?;
    let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    check_version(&version).map_err(no_tool)?;
    Ok(Tools {
        command: vec![PathBuf::from("go")],
        version,
    })
}

/// Reads what `go version` says, such as `go version go1.26.1 linux/amd64`.
fn check_version(said: &str) -> Result<(), String> {
    let words = said.split_whitespace();
    let number = words
        .filter_map(|word| word.strip_prefix("go"))
        .find_map(|number| {
            let (major, rest) = number.split_once('.')?;
            let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
    match number {
        Some(found) if found >= NEEDED => Ok(()),
        // A compiler that was built from its source has no number.
        None if said.starts_with("go version devel") => Ok(()),
        Some((major, minor)) => Err(format!(
            "Go {major}.{minor} is there, and {}.{} or later is needed",
            NEEDED.0, NEEDED.1
        )),
        None => Err("`go version` says nothing of a version".to_owned()),
    }
}

/// Compiles, and makes a component of the module.
pub(super) fn build(project: &Project, tools: &Tools, out: &Path) -> Result<(), PluginBuildError> {
    let module = out.with_extension("module");
    let made = compile(project, tools, &module).and_then(|()| {
        let bytes = fs::read(&module).map_err(|source| folder_error(project, source))?;
        let component = contract::component_of(bytes, &ADAPTERS);
        let component = component.map_err(|reason| PluginBuildError::NotAPlugin {
            path: project.folder.clone(),
            reason: format!(
                "{reason}; a plugin is a package `main` that imports `floodmark.dev/sdk` and registers its operator"
            ),
        })?;
        fs::write(out, component).map_err(|source| folder_error(project, source))
    });
    // It may not be there at all.
    let _ = fs::remove_file(&module);
    made
}

fn compile(project: &Project, tools: &Tools, module: &Path) -> Result<(), PluginBuildError> {
    // The tool runs in the project's folder, and `out` may be named from elsewhere.
    let module = std::path::absolute(module).map_err(|source| folder_error(project, source))?;
    let status = tool(&tools.command[0], &project.folder)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env("GOTOOLCHAIN", "local")
        // Neither paths of this machine nor the state of the repository get into the component.
        .args([
            "build",
            "-buildmode=c-shared",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w",
        ])
        .arg("-o")
        .arg(module)
        .arg(".")
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .map_err(|source| folder_error(project, source))?;
    match status.success() {
        true => Ok(()),
        false => Err(PluginBuildError::Failed {
            path: project.folder.clone(),
            status,
        }),
    }
}

fn folder_error(project: &Project, source: std::io::Error) -> PluginBuildError {
    PluginBuildError::Folder {
        path: project.folder.clone(),
        source,
    }
}
