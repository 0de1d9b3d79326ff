//! Builds plugins in Go: the ordinary compiler for WASI preview 1, as a library whose functions have the contract's
//! names.
//!
//! The SDK implements the canonical ABI itself, so there is no generated code. An adapter that needs no operating
//! system answers the system calls of Go's run-time (`go/preview1.wat`). Modules come from wherever the user's `go`
//! gets them; the SDK needs none. No other tool chain is downloaded.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use super::tool::tool;
use super::{Language, PluginBuildError, Project, Tools, contract};

/// The first version with `//go:wasmexport`.
const NEEDED: (u32, u32) = (1, 24);
const INSTALL: &str = "see https://go.dev/doc/install (Go 1.24 or later; no TinyGo)";
const PROGRAMS: [&str; 1] = ["go"];
/// The line that identifies the SDK's `go.mod`.
const SDK_MODULE: &str = "module floodmark.dev/sdk";
/// A profile in this file guides optimisation. The SDK has one; a project's own file takes precedence.
const PROFILE: &str = "default.pgo";
/// The module that the run-time imports from, and its adapter.
const ADAPTERS: [(&str, &[u8]); 1] = [(
    "wasi_snapshot_preview1",
    include_bytes!(concat!(env!("OUT_DIR"), "/preview1.wasm")),
)];

/// The project. Its name is the last part of its module's path; `replace` names the other folders that it is built
/// from.
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
        programs: &PROGRAMS,
    })
}

/// The last part of the module's path, without a version at the end.
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

/// The folders that replace modules.
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

/// Finds `go`, and checks its version.
pub(super) fn tools(folder: &Path) -> Result<Tools, PluginBuildError> {
    tools_by(Path::new(PROGRAMS[0]), folder)
}

fn tools_by(program: &Path, folder: &Path) -> Result<Tools, PluginBuildError> {
    let no_tool = |reason: String| PluginBuildError::NoTool {
        language: Language::Go,
        tool: "Go",
        path: folder.to_path_buf(),
        reason,
        install: INSTALL.to_owned(),
    };
    let asked = tool(program, folder)
        .env("GOTOOLCHAIN", "local")
        .arg("version")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| no_tool(error.to_string()))?;
    let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    check_version(&version).map_err(no_tool)?;
    Ok(Tools {
        command: vec![program.to_path_buf()],
        version,
    })
}

/// Parses the output of `go version`, such as `go version go1.26.1 linux/amd64`.
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
        // A compiler built from source has no version number.
        None if said.starts_with("go version devel") => Ok(()),
        Some((major, minor)) => Err(format!(
            "found Go {major}.{minor}, but {}.{} or later is needed",
            NEEDED.0, NEEDED.1
        )),
        None => Err("`go version` prints no version".to_owned()),
    }
}

/// Compiles the project, and wraps the module as a component.
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
    // The file may not exist.
    let _ = fs::remove_file(&module);
    made
}

fn compile(project: &Project, tools: &Tools, module: &Path) -> Result<(), PluginBuildError> {
    // The tool runs in the project's folder, and `out` may be relative to another.
    let module = std::path::absolute(module).map_err(|source| folder_error(project, source))?;
    let status = tool(&tools.command[0], &project.folder)
        .env("GOOS", "wasip1")
        .env("GOARCH", "wasm")
        .env("GOTOOLCHAIN", "local")
        // Keeps paths of this machine and the state of the repository out of the component.
        .args([
            "build",
            "-buildmode=c-shared",
            "-trimpath",
            "-buildvcs=false",
            "-ldflags=-s -w",
        ])
        .args(profile(project))
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

/// The profile of the SDK, if the project has none: the compiler finds the project's own one by itself.
fn profile(project: &Project) -> Option<OsString> {
    if project.folder.join(PROFILE).is_file() {
        return None;
    }
    let sdk = project.elsewhere.iter().find(|folder| {
        let manifest = fs::read_to_string(folder.join(Language::Go.manifest()));
        manifest.is_ok_and(|text| text.lines().any(|line| without_comment(line) == SDK_MODULE))
    })?;
    // The tool runs in the project's folder, and `sdk` may be relative to another.
    let profile = std::path::absolute(sdk.join(PROFILE)).ok()?;
    let mut flag = OsString::from("-pgo=");
    flag.push(&profile);
    profile.is_file().then_some(flag)
}

fn folder_error(project: &Project, source: std::io::Error) -> PluginBuildError {
    PluginBuildError::Folder {
        path: project.folder.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    //! Catches code that is not a plugin, a profile of another module, and unhelpful messages.

    use super::super::tool::or_skip;
    use super::*;

    const OPERATOR: &str = r#"package main

import "floodmark.dev/sdk"

type demo struct{}

func (*demo) Process(record sdk.Record, out *sdk.Output) error { return nil }

func init() { sdk.Register(&demo{}) }

func main() {}
"#;

    fn project_in(folder: &Path, operator: &str) {
        let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/go");
        let sdk = sdk.canonicalize().unwrap();
        let manifest = format!(
            "module example.com/demo/v2 // the second\n\ngo 1.24\n\nrequire floodmark.dev/sdk v0.0.0\n\nreplace (\n\tfloodmark.dev/sdk => {}\n)\n",
            sdk.display()
        );
        fs::write(folder.join("go.mod"), manifest).unwrap();
        fs::write(folder.join("main.go"), operator).unwrap();
        let project = project(folder).unwrap();
        assert_eq!(
            (project.name.as_str(), project.elsewhere),
            ("demo", vec![sdk])
        );
    }

    #[test]
    fn code_that_is_not_go_or_not_a_plugin_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        project_in(folder.path(), OPERATOR);
        let Some(tools) = or_skip(tools(folder.path())) else {
            return;
        };
        let project = project(folder.path()).unwrap();
        let out = folder.path().join("out.wasm");
        build(&project, &tools, &out).unwrap();
        assert!(out.is_file());
        // The compiler reports code that is not Go; this module reports code that is not a plugin.
        fs::write(
            folder.path().join("main.go"),
            "package main\nfunc main() { x }\n",
        )
        .unwrap();
        let failed = build(&project, &tools, &out).unwrap_err();
        assert!(
            matches!(failed, PluginBuildError::Failed { .. }),
            "{failed}"
        );
        fs::write(
            folder.path().join("main.go"),
            "package main\nfunc main() {}\n",
        )
        .unwrap();
        let refused = build(&project, &tools, &out).unwrap_err().to_string();
        assert!(refused.contains("registers its operator"), "{refused}");
    }

    #[test]
    fn the_profile_of_the_sdk_is_taken_unless_the_project_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        project_in(folder.path(), OPERATOR);
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("go.mod"), "module example.com/other\n").unwrap();
        fs::write(other.join(PROFILE), "of another module").unwrap();
        let mut project = project(folder.path()).unwrap();
        project.elsewhere.insert(0, other);
        let sdk = project.elsewhere[1].join(PROFILE);
        assert!(sdk.is_file(), "what `new` copies, and what is digested");
        let flag = profile(&project).unwrap();
        assert_eq!(flag.to_string_lossy(), format!("-pgo={}", sdk.display()));
        fs::write(folder.path().join(PROFILE), "").unwrap();
        assert_eq!(profile(&project), None);
        fs::remove_file(folder.path().join(PROFILE)).unwrap();
        project.elsewhere.truncate(1);
        assert_eq!(profile(&project), None);
    }

    #[test]
    fn what_is_missing_is_said_with_where_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = tools_by(Path::new("no-such-go"), folder.path())
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("Go is missing") && missing.contains("https://go.dev"),
            "{missing}"
        );
        let said = |version: &str| check_version(version).err();
        assert_eq!(said("go version go1.26.1 linux/amd64"), None);
        assert_eq!(said("go version go1.24 darwin/arm64"), None);
        assert_eq!(said("go version go1.25rc1 linux/amd64"), None);
        assert_eq!(said("go version devel go1.27-0123abc linux/amd64"), None);
        let old = said("go version go1.23.12 linux/amd64");
        assert_eq!(
            old.as_deref(),
            Some("found Go 1.23, but 1.24 or later is needed")
        );
        assert!(said("").is_some());
    }

    #[test]
    fn a_manifest_without_a_module_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("go.mod"),
            "// module x\ngo 1.24\nmodules y\n",
        )
        .unwrap();
        let refused = project(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("names no module"), "{refused}");
        assert_eq!(module_name("module \"demo\"\n"), Some("demo"));
        assert_eq!(module_name("module github.com/a/b.v2"), Some("b.v2"));
    }
}
