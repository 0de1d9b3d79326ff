//! Builds plugins in JavaScript and TypeScript: esbuild bundles the operator and its SDK into one module, and
//! componentize-qjs combines it with QuickJS.
//!
//! Only the `floodmark` table of `package.json` is used and none of its scripts run, so a build does the same
//! everywhere. Types are not checked: that is the job of `tsc` and the editor.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::tool::tool;
use super::{Language, PluginBuildError, Project, Tools, contract};

const COMPONENTIZE: &str = "componentize-qjs";
const ESBUILD: &str = "esbuild";
const PROGRAMS: [&str; 2] = [COMPONENTIZE, ESBUILD];
/// The command that installs the tools, in versions that are known to work.
const INSTALL: &str = "npm install --save-dev componentize-qjs@0.4.5 esbuild@0.28.2";
/// Longest name of a plugin, in characters.
const NAME_LEN_MAX: usize = 64;

/// The fields of `package.json` that are used.
#[derive(Deserialize)]
struct Manifest {
    name: Option<String>,
    version: Option<String>,
    floodmark: Option<Table>,
    #[serde(default, rename = "devDependencies")]
    dev_dependencies: serde_json::Map<String, serde_json::Value>,
}

/// The table `floodmark`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    /// The module whose default export is the operator.
    entry: PathBuf,
    /// The folder of the SDK.
    sdk: PathBuf,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entry: "src/index.ts".into(),
            sdk: "floodmark-sdk".into(),
        }
    }
}

/// A checked manifest.
struct Stated {
    name: String,
    version: String,
    entry: PathBuf,
    sdk: PathBuf,
}

pub(super) fn project(folder: &Path) -> Result<Project, PluginBuildError> {
    let stated = stated(folder)?;
    Ok(Project {
        folder: folder.to_path_buf(),
        name: stated.name,
        elsewhere: vec![stated.sdk],
        programs: &PROGRAMS,
    })
}

fn manifest(folder: &Path) -> Result<Manifest, PluginBuildError> {
    let path = folder.join(Language::JavaScript.manifest());
    let text =
        fs::read(&path).map_err(|error| wrong(folder, format!("cannot be read: {error}")))?;
    serde_json::from_slice(&text).map_err(|error| wrong(folder, format!("is wrong: {error}")))
}

fn wrong(folder: &Path, reason: impl Into<String>) -> PluginBuildError {
    PluginBuildError::Manifest {
        path: folder.join(Language::JavaScript.manifest()),
        reason: reason.into(),
    }
}

fn stated(folder: &Path) -> Result<Stated, PluginBuildError> {
    let manifest = manifest(folder)?;
    let table = manifest.floodmark.unwrap_or_default();
    let name = manifest.name.unwrap_or_default();
    // A scope names the publisher of a package, so it is removed.
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let is_name_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.bytes().all(is_name_byte) {
        return Err(wrong(
            folder,
            "has no valid `name`; use 1 to 64 characters of `a-z`, `0-9` and `-`",
        ));
    }
    let Some(version) = manifest.version.filter(|version| !version.is_empty()) else {
        return Err(wrong(
            folder,
            "has no `version`; add one, such as \"0.1.0\"",
        ));
    };
    let entry = folder.join(&table.entry);
    if !entry.is_file() {
        return Err(wrong(
            folder,
            format!(
                "says `floodmark.entry` is `{}`, which is not a file; name the module whose default export is the operator",
                table.entry.display()
            ),
        ));
    }
    let sdk = folder.join(&table.sdk);
    if !sdk.join("src/entry.ts").is_file() {
        return Err(wrong(
            folder,
            format!(
                "says `floodmark.sdk` is `{}`, which is not the SDK; name the folder that has it, relative to this one",
                table.sdk.display()
            ),
        ));
    }
    Ok(Stated {
        name,
        version,
        entry,
        sdk,
    })
}

/// Finds the tools: `command` is componentize-qjs, followed by esbuild.
pub(super) fn tools(folder: &Path) -> Result<Tools, PluginBuildError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    tools_on(folder, &path)
}

fn tools_on(folder: &Path, path: &[PathBuf]) -> Result<Tools, PluginBuildError> {
    let componentize = find(COMPONENTIZE, folder, path)?;
    let esbuild = find(ESBUILD, folder, path)?;
    let missing = |reason: String| no_tool(ESBUILD, folder, reason);
    let asked = tool(&esbuild, folder)
        .arg("--version")
        .output()
        .map_err(|error| missing(error.to_string()))?;
    if !asked.status.success() {
        let said = String::from_utf8_lossy(&asked.stderr);
        return Err(missing(format!("it does not start: {}", said.trim())));
    }
    let version = format!(
        "{COMPONENTIZE} {} {ESBUILD} {}",
        version_of(&componentize),
        String::from_utf8_lossy(&asked.stdout).trim()
    );
    Ok(Tools {
        command: vec![componentize, esbuild],
        version,
    })
}

/// A tool of the project, of one of its parent folders, or of the user.
fn find(name: &'static str, folder: &Path, path: &[PathBuf]) -> Result<PathBuf, PluginBuildError> {
    let absolute = folder
        .canonicalize()
        .unwrap_or_else(|_| folder.to_path_buf());
    let of_project = absolute
        .ancestors()
        .map(|folder| folder.join("node_modules/.bin"));
    of_project
        .chain(path.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|tool| tool.is_file())
        .ok_or_else(|| {
            no_tool(
                name,
                folder,
                "it is neither in `node_modules` here or above, nor on PATH".to_owned(),
            )
        })
}

fn no_tool(name: &'static str, folder: &Path, reason: String) -> PluginBuildError {
    let is_listed =
        manifest(folder).is_ok_and(|manifest| manifest.dev_dependencies.contains_key(name));
    let install = match is_listed {
        true => "npm install",
        false => INSTALL,
    };
    PluginBuildError::NoTool {
        language: Language::JavaScript,
        tool: name,
        path: folder.to_path_buf(),
        reason,
        install: format!("run `{install}` in the folder"),
    }
}

/// The version of a tool that does not print it, from the manifest of its package.
fn version_of(tool: &Path) -> String {
    let real = tool.canonicalize().unwrap_or_else(|_| tool.to_path_buf());
    let of_package = |folder: &Path| manifest(folder).ok()?.version;
    let version = real.ancestors().skip(1).find_map(of_package);
    version.unwrap_or_else(|| "of unknown version".to_owned())
}

pub(super) fn build(project: &Project, tools: &Tools, out: &Path) -> Result<(), PluginBuildError> {
    let [componentize, esbuild] = tools.command.as_slice() else {
        unreachable!("`tools` finds two");
    };
    let unusable = |source: io::Error| PluginBuildError::Folder {
        path: project.folder.clone(),
        source,
    };
    // The tools run in the folder, so relative paths would not be found.
    let folder = project.folder.canonicalize().map_err(unusable)?;
    let out = std::path::absolute(out).map_err(unusable)?;
    let stated = stated(&folder)?;
    let sdk = stated.sdk.canonicalize().map_err(unusable)?;
    let dir = folder.join("build");
    fs::create_dir_all(&dir).map_err(unusable)?;
    contract::unpack(&dir.join("wit")).map_err(unusable)?;
    let (entry, bundle) = (dir.join("entry.js"), dir.join("plugin.js"));
    fs::write(&entry, entry_module(&stated)).map_err(unusable)?;

    let mut alias = std::ffi::OsString::from("--alias:floodmark=");
    alias.push(&sdk);
    let mut outfile = std::ffi::OsString::from("--outfile=");
    outfile.push(&bundle);
    run(
        tool(esbuild, &folder)
            .arg(&entry)
            .args(["--bundle", "--format=esm", "--platform=neutral"])
            .args([
                "--main-fields=module,main",
                "--target=es2023",
                "--log-level=warning",
            ])
            .arg("--external:floodmark:*")
            .args([alias, outfile]),
        project,
    )?;
    run(
        tool(componentize, &folder)
            .args(["--sync", "--stub-wasi", "--world", contract::PACKED_WORLD])
            .arg("--wit")
            .arg(dir.join("wit"))
            .arg("--js")
            .arg(&bundle)
            .arg("--output")
            .arg(&out),
        project,
    )
}

/// Imports the operator, the SDK and the engine. The module that closes the world comes first: modules are loaded in
/// order.
fn entry_module(stated: &Stated) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "import \"floodmark/src/close-world.ts\";\n\
         import state from \"floodmark:engine/state@0.1.0\";\n\
         import log from \"floodmark:engine/log@0.1.0\";\n\
         import metrics from \"floodmark:engine/metrics@0.1.0\";\n\
         import {{ attach, plugin }} from \"floodmark/src/entry.ts\";\n\
         import * as made from {};\n\
         const exports = plugin(made.default, {}, {});\n\
         attach({{ state, log, metrics }});\n\
         export const {{ operator, operatorPacked, inputColumns, stateValues, checkpointListener }} = exports;\n",
        quoted(&stated.entry.to_string_lossy()),
        quoted(&stated.name),
        quoted(&stated.version),
    )
}

fn run(command: &mut Command, project: &Project) -> Result<(), PluginBuildError> {
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .map_err(|source| PluginBuildError::Folder {
            path: project.folder.clone(),
            source,
        })?;
    match status.success() {
        true => Ok(()),
        false => Err(PluginBuildError::Failed {
            path: project.folder.clone(),
            status,
        }),
    }
}

#[cfg(test)]
mod tests {
    //! Catches an invalid manifest that is accepted, a message without the command to run, and a build that does not
    //! yield a component.

    use super::super::tool::or_skip;
    use super::*;

    const SDK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/javascript");

    fn project_in(folder: &Path, manifest: &str, code: &str) {
        fs::create_dir_all(folder.join("src")).unwrap();
        fs::write(folder.join("package.json"), manifest.replace("SDK", SDK)).unwrap();
        fs::write(folder.join("src/index.ts"), code).unwrap();
    }

    #[test]
    fn a_wrong_manifest_is_refused_with_what_to_write() {
        let folder = tempfile::tempdir().unwrap();
        let check = |manifest: &str, expected: &str| {
            project_in(folder.path(), manifest, "");
            let error = project(folder.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{", "is wrong: EOF");
        check("{}", "has no valid `name`");
        check(r#"{"name": "Big"}"#, "use 1 to 64 characters");
        check(r#"{"name": "demo"}"#, "has no `version`");
        let with = |table: &str| {
            format!(r#"{{"name": "@us/demo", "version": "1.0.0", "floodmark": {table}}}"#)
        };
        check(&with(r#"{"entri": "a"}"#), "unknown field `entri`");
        check(
            &with(r#"{"entry": "a.ts", "sdk": "SDK"}"#),
            "`a.ts`, which is not a file",
        );
        check(&with("{}"), "`floodmark-sdk`, which is not the SDK");
        project_in(folder.path(), &with(r#"{"sdk": "SDK"}"#), "");
        assert_eq!(project(folder.path()).unwrap().name, "demo");
    }

    #[test]
    fn what_is_missing_is_said_with_the_command() {
        let folder = tempfile::tempdir().unwrap();
        let check = |manifest: &str, expected: &str| {
            project_in(folder.path(), manifest, "");
            let error = tools_on(folder.path(), &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("{}", INSTALL);
        check(
            r#"{"devDependencies": {"componentize-qjs": "0.4.5"}}"#,
            "run `npm install` in",
        );
        // Tools of a parent folder are used as well.
        let bin = folder.path().join("node_modules/.bin");
        fs::create_dir_all(&bin).unwrap();
        fs::write(bin.join(COMPONENTIZE), "").unwrap();
        let below = folder.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        let error = tools_on(&below, &[]).unwrap_err().to_string();
        assert!(error.starts_with("esbuild is missing"), "{error}");
    }

    #[test]
    fn a_project_becomes_a_component_and_a_wrong_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = r#"{"name": "demo", "version": "1.0.0", "floodmark": {"sdk": "SDK"}}"#;
        let code = "import { Operator } from \"floodmark\";\nexport default class Demo extends Operator { process() {} }\n";
        project_in(folder.path(), manifest, code);
        let Some(tools) = or_skip(tools(folder.path())) else {
            return;
        };
        let project = project(folder.path()).unwrap();
        let out = folder.path().join("demo.wasm");
        build(&project, &tools, &out).unwrap();
        assert_eq!(&fs::read(&out).unwrap()[..8], b"\0asm\x0d\0\x01\0");
        for wrong in ["export default 1 +", "export default class {}"] {
            project_in(folder.path(), manifest, wrong);
            let error = build(&project, &tools, &out).unwrap_err();
            assert!(matches!(error, PluginBuildError::Failed { .. }), "{error}");
        }
    }
}
