//! Runs the command once in a process of its own, which may die at a crash point.
//!
//! All runs of a round share a folder with `data`, `out`, and `said` (their messages). Child processes are in process
//! groups of their own, so that Ctrl-C reaches only the process that started them, which then ends them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::SIGKILL;

use floodmark_checkpoint::crash::{self, CrashAt};
use floodmark_engine::edge::clock::Clock;

/// Interval of checking whether a child process has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Bytes of the end of a run's messages that are reported.
const SAID_BYTES_MAX: usize = 2000;

/// The command that is run repeatedly.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The path of the program.
    pub program: PathBuf,
    /// Its arguments, without those that redirect it to a folder.
    pub arguments: Vec<String>,
    /// The names of all sinks, whose paths are redirected.
    pub sinks: Vec<String>,
    /// Whether checkpoints are kept as objects.
    pub stores_objects: bool,
    /// An operation to request from each running job until it was done once: the command, and its arguments after the
    /// data folder.
    pub asked: Option<(String, Vec<String>)>,
    /// Set when the user interrupts the test.
    pub interrupted: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnded {
    /// The job finished.
    Finished,
    /// It died at its crash point.
    Killed,
    /// It ended otherwise: the reason for people.
    Failed(String),
    /// It was ended because the user interrupted the test.
    Interrupted,
}

/// A sequence of runs on one data folder.
#[derive(Debug)]
pub struct Round<'a> {
    subject: &'a Subject,
    folder: PathBuf,
    has_been_asked: bool,
}

impl<'a> Round<'a> {
    /// Starts a round in a new folder, with compiled plugins of an earlier round.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn new(subject: &'a Subject, folder: PathBuf, compiled: Option<&Path>) -> io::Result<Self> {
        // A data folder that others may write to is refused.
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        private.create(folder.join("data"))?;
        if let Some(from) = compiled.filter(|from| from.is_dir()) {
            let to = folder.join("data/compiled");
            private.create(&to)?;
            for file in fs::read_dir(from)? {
                let file = file?;
                fs::copy(file.path(), to.join(file.file_name()))?;
            }
        }
        Ok(Self {
            subject,
            folder,
            has_been_asked: false,
        })
    }

    /// The folder that all its runs use.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The highest checkpoint number in the messages of its runs, which do not mention every checkpoint.
    ///
    /// # Errors
    /// When the messages cannot be read.
    pub fn checkpoints(&self) -> io::Result<u64> {
        let said = fs::read(self.folder.join("said"))?;
        let said = String::from_utf8_lossy(&said);
        let number = |rest: &str| {
            let end = rest.find(|next: char| !next.is_ascii_digit());
            rest[..end.unwrap_or(rest.len())].parse().ok()
        };
        let numbers = said.split("checkpoint ").skip(1).filter_map(number);
        Ok(numbers.max().unwrap_or(0))
    }

    /// Runs the command until it ends, or dies at `at`. A run that takes longer than `at_most` is killed and counts as
    /// a failure.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&mut self, at: Option<CrashAt>, at_most: Duration) -> io::Result<RunEnded> {
        let mut said = OpenOptions::new();
        let said = said
            .create(true)
            .append(true)
            .open(self.folder.join("said"))?;
        let begun = said.metadata()?.len();
        let mut command = self.command(&self.subject.program, &said)?;
        command.args(&self.subject.arguments).args(self.places());
        if let Some(at) = at {
            command.env(crash::VARIABLE, at.to_string());
        }
        let mut child = Ends(command.spawn()?);
        let mut asking: Option<Ends> = None;
        let clock = Clock::start();
        loop {
            if let Some(status) = child.0.try_wait()? {
                return Ok(match (status.signal(), at) {
                    (Some(SIGKILL), Some(_)) => RunEnded::Killed,
                    _ if status.success() => RunEnded::Finished,
                    _ => RunEnded::Failed(self.reason(status, begun)),
                });
            }
            if self.subject.interrupted.load(Ordering::Relaxed) {
                return Ok(RunEnded::Interrupted);
            }
            if clock.now() > at_most {
                let seconds = at_most.as_secs();
                return Ok(RunEnded::Failed(format!(
                    "it did not end within {seconds} s"
                )));
            }
            self.ask(&mut asking)?;
            rest();
        }
    }

    fn command(&self, program: &Path, said: &File) -> io::Result<Command> {
        let mut command = Command::new(program);
        command
            .env_remove(crash::VARIABLE)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said.try_clone()?)
            .process_group(0);
        Ok(command)
    }

    /// The arguments that redirect everything to the folder of the round.
    fn places(&self) -> Vec<String> {
        let quoted = |path: PathBuf| {
            let text = path.display().to_string();
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        };
        let data = self.folder.join("data").display().to_string();
        let mut places = vec!["--data-dir".to_owned(), data];
        let mut sets = Vec::new();
        for sink in &self.subject.sinks {
            let path = super::lines::folder_of(&self.folder, sink);
            sets.push(format!("sink.{sink}.path={}", quoted(path)));
        }
        if self.subject.stores_objects {
            let url = format!("file://{}", self.folder.join("storage").display());
            sets.push(format!("checkpoint.storage={}", quoted(url.into())));
        }
        places.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
        places
    }

    /// Requests the operation from the job, unless it was done before.
    fn ask(&mut self, asking: &mut Option<Ends>) -> io::Result<()> {
        let Some((verb, rest)) = &self.subject.asked else {
            return Ok(());
        };
        if let Some(child) = asking {
            if let Some(status) = child.0.try_wait()? {
                self.has_been_asked = status.success();
                *asking = None;
            }
            return Ok(());
        }
        let data = self.folder.join("data");
        if self.has_been_asked || !data.join(floodmark_control::FILE_NAME).exists() {
            return Ok(());
        }
        let mut said = OpenOptions::new();
        let said = said
            .create(true)
            .append(true)
            .open(self.folder.join("asked"))?;
        let mut command = self.command(&self.subject.program, &said)?;
        command.arg(verb).arg(data).args(rest);
        *asking = Some(Ends(command.spawn()?));
        Ok(())
    }

    /// The last messages of the run.
    fn reason(&self, status: ExitStatus, begun: u64) -> String {
        let said = fs::read(self.folder.join("said")).unwrap_or_default();
        let said = said.get(begun as usize..).unwrap_or_default();
        let said = &said[said.len().saturating_sub(SAID_BYTES_MAX)..];
        let said = String::from_utf8_lossy(said);
        let error = said.lines().rev().find(|line| line.starts_with("error"));
        let last = error.or(said.lines().last()).unwrap_or_default();
        format!("it ended with {status}: {last}")
    }
}

/// A child process that is killed and waited for on drop.
#[derive(Debug)]
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing to do but to wait for a child"
)]
fn rest() {
    std::thread::sleep(LOOK_INTERVAL);
}
