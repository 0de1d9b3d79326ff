//! Builds plugins in Python: `componentize-py` makes a component of modules, its own CPython, and the memory after
//! importing them.
//!
//! It takes exports from one module, which is generated here: it imports the user's module and calls the SDK. Modules
//! are searched in the project, in the folders of `path`, and among the packages of the environment that has the tool.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use super::tool::tool;
use super::{Language, PluginBuildError, Project, Tools, contract};

/// The command that installs the version that the SDK is tested with.
const INSTALL: &str = "pip install componentize-py==0.25.1";
const PROGRAMS: [&str; 1] = ["componentize-py"];
/// Starts the tool if it is installed as a module, but its command is not on the path.
const AS_MODULE: &str = "import sys; from componentize_py import script; sys.exit(script())";
/// The generated module. No user's module has this name.
const ENTRY: &str = "floodmark_entry";
const NAME_CHARS_MAX: usize = 64;

/// The fields of `pyproject.toml` that are used.
#[derive(Deserialize)]
struct PyprojectFile {
    project: Option<About>,
    #[serde(default)]
    tool: Tables,
}

#[derive(Deserialize)]
struct About {
    name: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize, Default)]
struct Tables {
    floodmark: Option<Table>,
}

/// The table `[tool.floodmark]`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    /// The module with the operator.
    module: String,
    /// Folders with further modules, including the SDK's if the project has no copy of it.
    #[serde(default)]
    path: Vec<PathBuf>,
}

/// A checked manifest.
struct Said {
    name: String,
    version: String,
    module: String,
    elsewhere: Vec<PathBuf>,
}

pub(super) fn project(folder: &Path) -> Result<Project, PluginBuildError> {
    let said = said(folder)?;
    Ok(Project {
        folder: folder.to_path_buf(),
        name: said.name,
        elsewhere: said.elsewhere,
        programs: &PROGRAMS,
    })
}

fn said(folder: &Path) -> Result<Said, PluginBuildError> {
    let path = folder.join(Language::Python.manifest());
    let wrong = |reason: String| PluginBuildError::Manifest {
        path: path.clone(),
        reason,
    };
    let text =
        fs::read_to_string(&path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let manifest: PyprojectFile = toml::from_str(&text)
        .map_err(|error| wrong(format!("is invalid: {}", error.message().trim())))?;
    let missing = |field: &str, example: &str| {
        wrong(format!(
            "has no `{field}` in `[project]`; write one such as `{field} = \"{example}\"`"
        ))
    };
    let about = manifest.project;
    let about = about.ok_or_else(|| missing("name", "word-count"))?;
    let name = about.name.ok_or_else(|| missing("name", "word-count"))?;
    let version = about.version.ok_or_else(|| missing("version", "0.1.0"))?;
    let name = plugin_name(&name).ok_or_else(|| {
        wrong(format!(
            "names the project `{name}`, and a plugin's name is 1 to {NAME_CHARS_MAX} characters of `a-z`, `0-9` and `-`"
        ))
    })?;
    let Some(Table { module, path: more }) = manifest.tool.floodmark else {
        return Err(wrong(
            "has no `[tool.floodmark]`; write it with `module = \"..\"`, the module with the operator".to_owned(),
        ));
    };
    let elsewhere: Vec<PathBuf> = more.iter().map(|more| folder.join(more)).collect();
    if let Some(missing) = elsewhere.iter().find(|folder| !folder.is_dir()) {
        return Err(wrong(format!(
            "names the folder `{}` in `path`, which does not exist",
            missing.display()
        )));
    }
    let file = module.replace('.', "/");
    let has = |folder: &PathBuf| {
        folder.join(format!("{file}.py")).is_file()
            || folder.join(&file).join("__init__.py").is_file()
    };
    if !is_module(&module) || !elsewhere.iter().chain([&folder.to_path_buf()]).any(has) {
        return Err(wrong(format!(
            "names the module `{module}`, but there is no `{file}.py`; set `module` to the one with the operator"
        )));
    }
    Ok(Said {
        name,
        version,
        module,
        elsewhere,
    })
}

/// The name of a project as a plugin's name: in lower case with `-` between words, since names of packages are compared
/// that way.
fn plugin_name(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase().replace(['_', '.'], "-");
    let is_fine = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    let is_name = !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(is_fine);
    is_name.then_some(name)
}

/// Whether this is a name such as `package.module` that is safe in code.
fn is_module(name: &str) -> bool {
    name.split('.').all(|part| {
        let mut chars = part.chars();
        let starts = chars
            .next()
            .is_some_and(|char| char.is_alphabetic() || char == '_');
        starts && chars.all(|char| char.is_alphanumeric() || char == '_')
    })
}

/// The tool in the project's own environment, otherwise the one on the path.
pub(super) fn tools(folder: &Path) -> Result<Tools, PluginBuildError> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let of_project = folder
        .ancestors()
        .map(|folder| folder.join(".venv/bin/componentize-py"))
        .find(|path| path.is_file());
    let by_module = ["python3", "-c", AS_MODULE].map(PathBuf::from);
    let commands = of_project.map(|path| vec![path]).into_iter();
    let commands = commands.chain([vec!["componentize-py".into()], by_module.into()]);
    let mut reason = String::new();
    for command in commands {
        match version(&command, &folder) {
            Ok(version) => return Ok(Tools { command, version }),
            Err(_) if !reason.is_empty() => {}
            Err(error) => reason = format!("`{}`: {error}", command[0].display()),
        }
    }
    Err(PluginBuildError::NoTool {
        language: Language::Python,
        tool: "componentize-py",
        path: folder,
        reason,
        install: INSTALL.to_owned(),
    })
}

fn version(command: &[PathBuf], folder: &Path) -> io::Result<String> {
    let asked = tool(&command[0], folder)
        .args(&command[1..])
        .arg("--version")
        .output()?;
    if !asked.status.success() {
        return Err(io::Error::other(asked.status.to_string()));
    }
    Ok(String::from_utf8_lossy(&asked.stdout).trim().to_owned())
}

pub(super) fn build(project: &Project, tools: &Tools, out: &Path) -> Result<(), PluginBuildError> {
    let said = said(&project.folder)?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let dir = absolute(&project.build_dir()).join("python");
    let unusable = |source| PluginBuildError::Folder {
        path: dir.clone(),
        source,
    };
    let contract = dir.join("wit");
    contract::unpack(&contract).map_err(unusable)?;
    fs::write(dir.join(format!("{ENTRY}.py")), entry(&said)).map_err(unusable)?;

    let mut command = tool(&tools.command[0], &project.folder);
    command.args(&tools.command[1..]);
    if let Some(environment) = environment_of(&tools.command[0]) {
        // With this variable the tool finds the packages that are installed beside it.
        command.env("VIRTUAL_ENV", environment);
    }
    command.arg("-d").arg(contract);
    command.args([
        "-w",
        contract::PACKED_WORLD,
        "componentize",
        "--stub-wasi",
        ENTRY,
    ]);
    let folders = [dir.clone(), absolute(&project.folder)];
    for folder in folders.iter().chain(&said.elsewhere) {
        command.arg("-p").arg(absolute(folder));
    }
    // Its standard output only reports success.
    let status = command
        .arg("-o")
        .arg(absolute(out))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .map_err(unusable)?;
    if !status.success() {
        return Err(PluginBuildError::Failed {
            path: project.folder.clone(),
            status,
        });
    }
    Ok(())
}

/// The virtual environment of a tool.
fn environment_of(tool: &Path) -> Option<&Path> {
    let environment = tool.parent()?.parent()?;
    let is_one = environment.join("pyvenv.cfg").is_file();
    is_one.then_some(environment)
}

/// The module that exports the operator.
fn entry(said: &Said) -> String {
    // JSON strings are also Python strings.
    let text = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "\"\"\"Made by `floodmark build`.\"\"\"\n\n\
         import importlib\n\n\
         from floodmark import component\n\n\
         globals().update(component.exports(importlib.import_module({}), {}, {}))\n",
        text(&said.module),
        text(&said.name),
        text(&said.version),
    )
}

#[cfg(test)]
mod tests {
    //! Catches a manifest whose mistake is not noticed or not named, a missing tool without the command that installs
    //! it, and a component that differs from its project.

    use super::super::tool::or_skip;
    use super::*;

    fn refusal(manifest: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("pyproject.toml"), manifest).unwrap();
        let error = project(folder.path()).unwrap_err().to_string();
        error.split_once("` ").unwrap().1.to_owned()
    }

    #[test]
    fn a_wrong_manifest_is_refused_by_what_is_wrong() {
        let about = "[project]\nname = \"demo\"\nversion = \"1\"\n";
        let check = |manifest: &str, expected: &str| {
            let refusal = refusal(manifest);
            assert!(refusal.contains(expected), "{refusal}");
        };
        check("[project", "is invalid: ");
        check("", "has no `name` in `[project]`; write one such as");
        check(
            "[project]\nname = \"demo\"",
            "has no `version` in `[project]`",
        );
        check(
            "[project]\nname = \"dé\"\nversion = \"1\"",
            "names the project `dé`, and",
        );
        check(about, "has no `[tool.floodmark]`; write it with `module = ");
        check(
            &format!("{about}[tool.floodmark]"),
            "missing field `module`",
        );
        check(
            &format!("{about}[tool.floodmark]\nmodul = \"demo\""),
            "unknown field `modul`, expected `module` or `path`",
        );
        check(
            &format!("{about}[tool.floodmark]\nmodule = \"demo\""),
            "names the module `demo`, but there is no `demo.py`",
        );
        check(
            &format!("{about}[tool.floodmark]\nmodule = \"demo\"\npath = [\"none\"]"),
            "names the folder `",
        );
    }

    #[test]
    fn a_missing_tool_is_named_with_the_command_that_installs_it() {
        let folder = tempfile::tempdir().unwrap();
        let found = tools(folder.path());
        if let Err(error) = found {
            let error = error.to_string();
            let expected = "componentize-py is missing, which builds plugins of Python";
            assert!(error.starts_with(expected), "{error}");
            assert!(
                error.ends_with(&format!("install it: {INSTALL}")),
                "{error}"
            );
        }
        let own = folder.path().join(".venv/bin");
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("componentize-py"), "#!/bin/sh\necho its own\n").unwrap();
        make_executable(&own.join("componentize-py"));
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        assert_eq!(tools(&inner).unwrap().version, "its own");
    }

    #[cfg(unix)]
    fn make_executable(path: &Path) {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_project_is_built_if_the_tool_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let Some(tools) = or_skip(tools(folder.path())) else {
            return;
        };
        let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/python");
        let manifest = format!(
            "[project]\nname = \"Built_Demo\"\nversion = \"1.2\"\n[tool.floodmark]\nmodule = \"demo\"\npath = [{sdk:?}]\n"
        );
        fs::write(folder.path().join("pyproject.toml"), manifest).unwrap();
        let code = "from floodmark import Operator, Value\nclass Demo(Operator):\n    count = Value(int)\n";
        fs::write(folder.path().join("demo.py"), code).unwrap();
        let built = project(folder.path()).unwrap();
        assert_eq!(built.name, "built-demo");
        let out = folder.path().join("out.wasm");
        build(&built, &tools, &out).unwrap();
        let bytes = fs::read(out).unwrap();
        assert_eq!(&bytes[..8], b"\0asm\x0d\0\x01\0");

        fs::write(folder.path().join("demo.py"), "no code").unwrap();
        let failed = build(&built, &tools, &folder.path().join("none.wasm"));
        assert!(matches!(failed, Err(PluginBuildError::Failed { .. })));
    }
}
