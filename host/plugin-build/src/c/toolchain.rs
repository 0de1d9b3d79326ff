//! Finds the compiler: zig, which brings its own C library, or a clang with one for WASI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::tool::tool;
use super::super::{Language, PluginBuildError, Tools};
use super::manifest::Dialect;

const INSTALL: &str = "pip install ziglang==0.17.1";
/// Prefixes of the versions, which identify the compiler later.
const ZIG: &str = "zig ";
const CLANGS: [&str; 6] = [
    "clang", "clang-22", "clang-21", "clang-20", "clang-19", "clang-18",
];
const TARGET: &str = "wasm32-wasi";
/// The programs that may be found.
pub(super) const PROGRAMS: [&str; 7] = [
    "zig", "clang", "clang-22", "clang-21", "clang-20", "clang-19", "clang-18",
];

/// Searches the environment variable, the path, and the project's own Python.
pub(super) fn find(folder: &Path) -> Result<Tools, PluginBuildError> {
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH") {
        return clang(&PathBuf::from(sdk).join("bin/clang"), folder).ok_or_else(|| {
            missing(
                folder,
                "`WASI_SDK_PATH` is set, and has no `bin/clang` that works",
            )
        });
    }
    zigs(folder)
        .into_iter()
        .find_map(|command| zig(command, folder))
        .or_else(|| {
            CLANGS
                .iter()
                .find_map(|name| clang(Path::new(name), folder))
        })
        .ok_or_else(|| {
            missing(
                folder,
                "neither zig nor a clang with a C library for WASI was found",
            )
        })
}

pub(super) fn missing(folder: &Path, reason: &str) -> PluginBuildError {
    PluginBuildError::NoTool {
        language: Language::C,
        tool: "zig",
        path: folder.to_path_buf(),
        reason: reason.to_owned(),
        install: INSTALL.to_owned(),
    }
}

/// Commands that may start zig.
fn zigs(folder: &Path) -> Vec<Vec<PathBuf>> {
    let full = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let environments = full
        .ancestors()
        .map(|parent| parent.join(".venv/bin/python3"));
    let pythons = environments
        .filter(|python| python.is_file())
        .chain(["python3", "python"].map(PathBuf::from));
    let modules = pythons.map(|python| vec![python, "-m".into(), "ziglang".into()]);
    std::iter::once(vec!["zig".into()]).chain(modules).collect()
}

fn zig(command: Vec<PathBuf>, folder: &Path) -> Option<Tools> {
    let said = said(started(&command, folder).arg("version"))?;
    Some(Tools {
        version: format!("{ZIG}{}", said.trim()),
        command,
    })
}

fn clang(path: &Path, folder: &Path) -> Option<Tools> {
    let target = format!("--target={TARGET}");
    let library = said(tool(path, folder).args([&target, "-print-file-name=libc.a"]))?;
    let builtins = said(tool(path, folder).args([&target, "-print-libgcc-file-name"]))?;
    let is_there = |said: &str| Path::new(said.trim()).is_file();
    let version = said(tool(path, folder).arg("--version"))?;
    (is_there(&library) && is_there(&builtins)).then(|| Tools {
        command: vec![path.to_path_buf()],
        version: version.lines().next().unwrap_or_default().to_owned(),
    })
}

/// The output of a command, if it succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

fn started(command: &[PathBuf], folder: &Path) -> Command {
    let (program, arguments) = command.split_first().expect("a tool has a program");
    let mut started = tool(program, folder);
    started.args(arguments);
    started
}

/// A compiler that was found.
pub(super) struct CCompiler {
    command: Vec<PathBuf>,
    is_zig: bool,
}

impl CCompiler {
    pub(super) fn of(tools: &Tools) -> Self {
        Self {
            command: tools.command.clone(),
            is_zig: tools.version.starts_with(ZIG),
        }
    }

    /// The compiler of a dialect of C.
    pub(super) fn command(&self, dialect: Dialect, folder: &Path) -> Command {
        let is_cpp = dialect == Dialect::Cpp;
        if self.is_zig {
            let mut command = started(&self.command, folder);
            command
                .arg(if is_cpp { "c++" } else { "cc" })
                .args(["-target", TARGET]);
            return command;
        }
        let mut command = match is_cpp {
            true => tool(plus_plus(&self.command[0]), folder),
            false => started(&self.command, folder),
        };
        command.arg(format!("--target={TARGET}"));
        command
    }

    /// A subcommand of zig, which clang does not have.
    pub(super) fn zig(&self, subcommand: &str, folder: &Path) -> Command {
        let mut command = started(&self.command, folder);
        command.args([subcommand, "-target", TARGET]);
        command
    }

    pub(super) fn knows_zig(&self) -> bool {
        self.is_zig
    }
}

/// `clang++-19` for `clang-19`.
fn plus_plus(clang: &Path) -> PathBuf {
    let name = clang.file_name().unwrap_or_default().to_string_lossy();
    clang.with_file_name(name.replacen("clang", "clang++", 1))
}

#[cfg(test)]
mod tests {
    //! Catches a C++ compiler that does not belong to the C compiler, and a message without the command to install one.

    use super::*;

    #[test]
    fn the_compiler_of_cpp_is_beside_that_of_c() {
        let check = |clang: &str, expected: &str| {
            assert_eq!(plus_plus(Path::new(clang)), Path::new(expected));
        };
        check("clang", "clang++");
        check("clang-19", "clang++-19");
        check("/opt/clang/bin/clang", "/opt/clang/bin/clang++");
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_installs_it() {
        let message = missing(Path::new("demo"), "because").to_string();
        for part in ["zig is missing", "`demo`", "because", INSTALL] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_environment_of_the_project_comes_before_the_machines() {
        let root = tempfile::tempdir().unwrap();
        let python = root.path().join(".venv/bin/python3");
        let folder = root.path().join("plugins/demo");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(python.parent().unwrap()).unwrap();
        std::fs::write(&python, "").unwrap();
        let found = zigs(&folder);
        assert_eq!(found[0], [PathBuf::from("zig")]);
        assert_eq!(found[1], [python, "-m".into(), "ziglang".into()]);
    }
}
