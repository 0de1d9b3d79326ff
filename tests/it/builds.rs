//! Plugins that are given as folders: when their tools run, what they get, and what comes out.
//!
//! Catches a tool that is started although nothing changed, a component that is used although it is old or half-written, tools that
//! get secrets or outlive the command, and a component that differs from folder to folder or says where it was built.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use floodmark_plugin_build::Language;

use crate::job::{Job, Outcome, Running, command};
use crate::languages::is_available;
use crate::plugins::plugin;

/// A plugin of Python in a folder with a tool of its own, a script: it writes down how it is started, and then does `work`,
/// with the path of the component as `$1`.
struct FakeTool {
    job: Job,
}

impl FakeTool {
    fn new(work: &str) -> Self {
        let job = Job::new();
        job.write(
            "demo/pyproject.toml",
            "[project]\nname = \"demo\"\nversion = \"1\"\n[tool.floodmark]\nmodule = \"demo\"\n",
        );
        job.write("demo/demo.py", "1");
        let script = "demo/.venv/bin/componentize-py";
        let started = job.path("started");
        job.write(
            script,
            format!(
                "#!/bin/sh\n\
                 echo \"$1 token=$FLOODMARK_TOKEN key=$AWS_SECRET_ACCESS_KEY\" >> {started:?}\n\
                 [ \"$1\" = --version ] && echo fake 1 && exit\n\
                 while [ \"$1\" != -o ]; do shift; done; shift\n\
                 {work}\n"
            ),
        );
        let executable = fs::Permissions::from_mode(0o700);
        fs::set_permissions(job.path(script), executable).unwrap();
        Self { job }
    }

    fn start(&self, arguments: &[&str], pass: &str) -> Running {
        let mut command = command();
        command
            .args(["build", "demo"])
            .args(arguments)
            // No tool of this machine is looked at.
            .env("PATH", "/usr/bin:/bin")
            .env("FLOODMARK_PASS_ENV", pass)
            .env("FLOODMARK_TOKEN", "0123456789abcdef")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
        self.job.spawn(command)
    }

    fn build(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments, "").wait()
    }

    /// The lines that the script has written since this was called last.
    fn started(&self) -> Vec<String> {
        let path = self.job.path("started");
        let lines = fs::read_to_string(&path).unwrap_or_default();
        // The file may not exist.
        let _ = fs::remove_file(path);
        lines.lines().map(str::to_owned).collect()
    }
}

/// A tool that copies a component.
fn copying() -> FakeTool {
    FakeTool::new(&format!("cp {:?} \"$1\"", plugin("word-count")))
}

#[test]
fn no_tool_is_started_for_a_folder_that_did_not_change() {
    let tool = copying();
    let component = tool.job.path("demo/build/demo.wasm");
    let check = |arguments: &[&str], expected: usize| {
        let outcome = tool.build(arguments).succeeded();
        assert!(outcome.stdout.contains("\nplugin "), "{}", outcome.stdout);
        let started = tool.started();
        assert_eq!(started.len(), expected, "{started:?}");
    };
    // The question for the version, and the build.
    check(&[], 2);
    check(&[], 0);
    tool.job.write("demo/demo.py", "2");
    check(&[], 2);
    check(&["--force"], 2);
    check(&[], 0);
    let whole = fs::read(&component).unwrap();
    fs::write(&component, &whole[..whole.len() / 2]).unwrap();
    check(&[], 2);
    assert!(fs::read(&component).unwrap() == whole);
    // The same tool, installed once more.
    let script = tool.job.path("demo/.venv/bin/componentize-py");
    let copy = tool.job.path("demo/.venv/bin/copy");
    fs::copy(&script, &copy).unwrap();
    fs::rename(copy, script).unwrap();
    check(&[], 1);
    check(&[], 0);
}

#[test]
fn tools_get_the_secrets_that_are_asked_for_and_no_others() {
    let tool = copying();
    for (pass, expected) in [
        ("", " token= key="),
        ("AWS_SECRET_ACCESS_KEY", " token= key=secret"),
        ("HOME, FLOODMARK_TOKEN", " token=0123456789abcdef key="),
    ] {
        tool.start(&["--force"], pass).wait().succeeded();
        let started = tool.started();
        assert!(!started.is_empty());
        for line in started {
            assert!(line.ends_with(expected), "`{pass}`: {line}");
        }
    }
}

#[test]
fn a_message_names_the_folder_of_the_plugin() {
    let tool = FakeTool::new("echo 'no component' > \"$1\"");
    let outcome = tool.build(&[]);
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("operator `"), "{}", outcome.stderr);
    outcome.says("error: the plugin `demo` is not a WebAssembly component");
}

/// Whether a process is there and is not only waited for.
fn lives(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

#[test]
fn tools_end_with_the_command() {
    let tool = FakeTool::new("sleep 600 & echo $! > \"$1.process\"; wait");
    let mut build = tool.start(&[], "");
    let dir = tool.job.path("demo/build");
    let process = loop {
        let files = fs::read_dir(&dir).into_iter().flatten();
        let paths = files.map(|file| file.unwrap().path());
        let written = paths.filter(|path| path.extension().is_some_and(|end| end == "process"));
        let text: String = written
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        if text.ends_with('\n') {
            break text.trim().to_owned();
        }
        assert!(!build.has_ended(), "{}", build.stderr());
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(lives(&process));
    build.signal("TERM");
    let outcome = build.wait();
    assert_eq!(outcome.code, Some(130), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("error:"), "{}", outcome.stderr);
    let begin = Instant::now();
    while lives(&process) {
        assert!(begin.elapsed() < Duration::from_secs(30), "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs a command to its end.
#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}");
}

/// The folder of a new plugin.
fn new_plugin(language: Language, parent: &Path) -> PathBuf {
    fs::create_dir_all(parent).unwrap();
    let mut new = command();
    new.args(["new", "--language", language.name(), "same"]);
    succeed(new.current_dir(parent));
    let folder = parent.join("same");
    if language == Language::C {
        // The name of the source becomes a part of the component.
        let source = folder.join("src/same.c");
        let text = fs::read_to_string(&source).unwrap();
        let named = text.replace("fm_decimal(n)", "fm_text(__FILE__)");
        assert_ne!(named, text);
        fs::write(source, named).unwrap();
    }
    folder
}

fn build_in(folder: &Path, more: impl FnOnce(&mut Command)) -> Vec<u8> {
    let mut build = command();
    build.args(["build", ".", "--out", "out.wasm"]);
    more(build.current_dir(folder));
    succeed(&mut build);
    fs::read(folder.join("out.wasm")).unwrap()
}

/// That a component is the same as another, and has none of these paths in it.
#[track_caller]
fn check_same(component: &[u8], other: &[u8], paths: &[&Path]) {
    for path in paths {
        let path = path.to_str().unwrap().as_bytes();
        let has = |bytes: &[u8]| memchr::memmem::find(bytes, path).is_some();
        let places = [component, other].map(has);
        assert_eq!(places, [false; 2], "{}", String::from_utf8_lossy(path));
    }
    assert!(component == other, "the components differ");
}

#[test]
fn a_component_is_the_same_in_any_folder() {
    for language in [Language::Go, Language::C] {
        if !is_available(language) {
            continue;
        }
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (first, second) = (first.path(), second.path().join("deep/er"));
        let built = build_in(&new_plugin(language, first), |_| ());
        let other = build_in(&new_plugin(language, &second), |_| ());
        check_same(&built, &other, &[first, &second]);
    }
}

#[test]
fn a_rust_component_is_the_same_in_any_folder_and_home() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (first.path(), second.path().join("deep/er"));
    let home = env::home_dir().unwrap();
    let folder_of = |variable: &str, name: &str| {
        let set = env::var_os(variable).map(PathBuf::from);
        set.unwrap_or_else(|| home.join(name))
    };
    let (cargo, rustup) = (
        folder_of("CARGO_HOME", ".cargo"),
        folder_of("RUSTUP_HOME", ".rustup"),
    );
    // Crates are compiled once for all runs of this test.
    let target = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);

    let folder = new_plugin(Language::Rust, first);
    let built = build_in(&folder, |build| {
        build.env("CARGO_TARGET_DIR", target("same-first"));
    });

    let other_folder = new_plugin(Language::Rust, &second);
    fs::copy(folder.join("Cargo.lock"), other_folder.join("Cargo.lock")).unwrap();
    // Another home, with the same crates.
    let other_cargo = second.join("home/cargo");
    fs::create_dir_all(&other_cargo).unwrap();
    for name in ["registry", "config.toml"] {
        if cargo.join(name).exists() {
            symlink(cargo.join(name), other_cargo.join(name)).unwrap();
        }
    }
    let other = build_in(&other_folder, |build| {
        build
            .env("CARGO_TARGET_DIR", target("same-second"))
            .env("CARGO_HOME", &other_cargo)
            .env("CARGO_NET_OFFLINE", "true")
            .env("RUSTUP_HOME", &rustup)
            .env("HOME", second.join("home"));
    });
    let targets = Path::new(env!("CARGO_TARGET_TMPDIR"));
    check_same(&built, &other, &[first, &second, &cargo, targets]);
}
