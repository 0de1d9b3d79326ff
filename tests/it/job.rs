//! A job in a folder of its own, run by the real command.
//!
//! The job is the word count of `in.txt` into `out`, unless a test writes another pipeline. Its data folder is the default
//! one. Compiled plugins are kept in one folder for all tests, else compiling would be most of the time that a test takes.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::output::Seen;
use crate::plugins::plugin;

/// What no run of a test takes.
const DEADLINE: Duration = Duration::from_secs(240);
/// What no wait for output takes.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(120);
/// Names another folder for compiled code, for tests that run while others do: the usual one is emptied at the start.
pub const CACHE_VARIABLE: &str = "FLOODMARK_TESTS_CACHE";

pub struct Job {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    /// None after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Asserts that the command did what it was asked.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Asserts that something was said on standard error.
    #[track_caller]
    pub fn says(self, words: &str) -> Self {
        assert!(
            self.stderr.contains(words),
            "not said: {words}\n{}",
            self.stderr
        );
        self
    }
}

impl Job {
    /// A job without an end that counts numbers into files, with these lines before.
    pub fn endless(lines: &str) -> Self {
        let job = Self::new();
        job.write(
            "pipeline.toml",
            format!(
                r#"
job.name = "words"
{lines}
source.numbers = {{ connector = "generator", keys = 10, rate = 20000 }}
operator.count = {{ plugin = {:?}, from = "numbers" }}
sink.counts = {{ connector = "file", from = "count", path = "out", format = "csv" }}
"#,
                plugin("word-count")
            ),
        );
        job
    }

    /// A job whose input is still to be written.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let job = Self { folder };
        job.write("pipeline.toml", pipeline());
        job
    }

    pub fn with_input(input: impl AsRef<[u8]>) -> Self {
        let job = Self::new();
        job.write("in.txt", input);
        job
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path(".floodmark/words")
    }

    /// `floodmark run pipeline.toml`, to its end.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        self.start(arguments).wait()
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_command(&[&["run", "pipeline.toml"], arguments].concat())
    }

    /// Any command, in the folder of the job.
    pub fn command(&self, arguments: &[&str]) -> Outcome {
        self.start_command(arguments).wait()
    }

    pub fn start_command(&self, arguments: &[&str]) -> Running {
        let mut command = command();
        command.args(arguments);
        self.spawn(command)
    }

    /// Starts a process in the folder of the job.
    pub fn spawn(&self, command: Command) -> Running {
        self.spawn_with(command, Stdio::null())
    }

    /// Starts a process in the folder of the job, with this standard input.
    pub fn spawn_with(&self, mut command: Command, input: Stdio) -> Running {
        let said = tempfile::tempdir().unwrap();
        let file = |name| File::create(said.path().join(name)).unwrap();
        let child = command
            .current_dir(&self.folder)
            .stdin(input)
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Running {
            child,
            said,
            since: Instant::now(),
        }
    }

    /// What `floodmark checkpoint` prints with `--json`; asserts that it succeeds.
    pub fn checkpoint(&self, arguments: &[&str]) -> Value {
        let data_dir = self.data_dir();
        let more = ["--json", "--data-dir", data_dir.to_str().unwrap()];
        let outcome = self.command(&[&["checkpoint"], arguments, &more].concat());
        serde_json::from_str(&outcome.succeeded().stdout).unwrap()
    }

    /// Ids of all checkpoints, newest first.
    pub fn checkpoint_ids(&self) -> Vec<u64> {
        let listed = self.checkpoint(&["list"]);
        let id = |checkpoint: &Value| checkpoint["id"].as_u64().unwrap();
        listed.as_array().unwrap().iter().map(id).collect()
    }

    /// The text of all parts in a folder, in the order of their names; empty if there is no such folder yet.
    pub fn written(&self, folder: &str) -> String {
        let Ok(entries) = fs::read_dir(self.path(folder)) else {
            return String::new();
        };
        let parts = entries.map(|entry| entry.unwrap().path());
        let mut parts: Vec<_> = parts.filter(|part| part.is_file()).collect();
        parts.sort();
        let text = |part: PathBuf| match fs::read_to_string(part) {
            // The job has taken it back meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.unwrap(),
        };
        parts.into_iter().map(text).collect()
    }

    /// All lines of the parts in a folder, which exists, sorted.
    pub fn lines(&self, folder: &str) -> Vec<String> {
        assert!(self.path(folder).is_dir(), "there is no `{folder}`");
        let written = self.written(folder);
        let mut lines: Vec<_> = written.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// What is visible of the output.
    pub fn output(&self) -> Seen {
        let mut seen = Seen::default();
        seen.look(&self.path("out"));
        seen
    }
}

pub fn pipeline() -> String {
    format!(
        r#"
[job]
name = "words"

[source.text]
connector = "file"
path = "in.txt"

[operator.split]
plugin = {:?}
from = "text"

[operator.count]
plugin = {:?}
from = "split"

[sink.counts]
connector = "file"
from = "count"
path = "out"
format = "csv"
"#,
        plugin("word-split"),
        plugin("word-count"),
    )
}

/// The command, which keeps compiled code where tests may: never in the home of who runs them.
pub fn command() -> Command {
    keeping_code(Command::new(env!("CARGO_BIN_EXE_floodmark")))
}

/// Another command that runs it.
pub fn keeping_code(mut command: Command) -> Command {
    command.env("FLOODMARK_CACHE_DIR", &*CACHE);
    command
}

/// A folder for compiled code, for all tests of a run.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    if let Some(cache) = std::env::var_os(CACHE_VARIABLE) {
        return cache.into();
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    // Files of earlier builds are of other names.
    let _ = fs::remove_dir_all(&cache);
    cache
});

/// A process that is killed when it is not waited for.
pub struct Running {
    child: Child,
    said: TempDir,
    since: Instant,
}

impl Running {
    pub fn stderr(&self) -> String {
        self.said("stderr")
    }

    fn said(&self, file: &str) -> String {
        let bytes = fs::read(self.said.path().join(file)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its standard input, which ends when this is dropped.
    pub fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Waits until the parts in the folder `out` have as many bytes as `expected`, and compares them.
    #[track_caller]
    pub fn wait_for_output(&self, job: &Job, expected: &str) {
        let since = Instant::now();
        while job.written("out").len() < expected.len() {
            assert!(since.elapsed() < OUTPUT_DEADLINE, "{}", self.stderr());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(job.written("out"), expected);
    }

    /// The most memory that the process ever had, while it runs.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        memory_peak_bytes(self.child.id())
    }

    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Outcome {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return self.outcome(status);
            }
            self.pause("its end");
        }
    }

    /// Waits until something is said on standard error.
    #[track_caller]
    pub fn wait_for(&mut self, words: &str) {
        while !self.stderr().contains(words) {
            assert!(
                !self.has_ended(),
                "ended without saying `{words}`:\n{}",
                self.stderr()
            );
            self.pause(words);
        }
    }

    #[track_caller]
    fn pause(&self, what: &str) {
        assert!(
            self.since.elapsed() < DEADLINE,
            "waited too long for {what}:\n{}",
            self.stderr()
        );
        std::thread::sleep(Duration::from_millis(2));
    }

    /// Sends SIGKILL and takes what was left to say.
    pub fn kill(mut self) -> Outcome {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        self.outcome(status)
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status();
        assert!(sent.unwrap().success());
    }

    fn outcome(&self, status: ExitStatus) -> Outcome {
        let outcome = Outcome {
            code: status.code(),
            stdout: self.said("stdout"),
            stderr: self.said("stderr"),
        };
        // What a guest says when it panics is indented.
        let panics = |line: &str| line.starts_with("thread '") && line.contains("panicked");
        assert!(!outcome.stderr.lines().any(panics), "{}", outcome.stderr);
        outcome
    }
}

/// The most memory that a process ever had, while it runs.
pub fn memory_peak_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
