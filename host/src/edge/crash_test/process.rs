//! One run of the command in a process of its own, which may be told to die at a crash point.
//!
//! Every run of a round has the same folder: `data`, `out`, and `said` with its messages. Children are in process groups of
//! their own, so that Ctrl-C reaches only the process that started them, which then ends them by their handles.

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

use crate::crash::{self, CrashAt};
use crate::edge::clock::Clock;
use crate::edge::control;

/// How often it is looked whether a child has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// Bytes of the end of what a run said that are told.
const SAID_BYTES_MAX: usize = 2000;

/// What is run, again and again.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The command.
    pub program: PathBuf,
    /// Its arguments, without those that lead into a folder.
    pub arguments: Vec<String>,
    /// The names of all sinks, whose paths are led into a folder.
    pub sinks: Vec<String>,
    /// Whether checkpoints are kept as objects.
    pub stores_objects: bool,
    /// What is asked of each job while it runs, until it has been done once: the verb, and what follows the data folder.
    pub asked: Option<(String, Vec<String>)>,
    /// Set when everything is to end.
    pub interrupted: Arc<AtomicBool>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEnded {
    /// As it should.
    Finished,
    /// At its crash point.
    Killed,
    /// Otherwise: the reason for people.
    Failed(String),
    /// It was ended because everything is to end.
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
    /// In a new folder, with compiled plugins of an earlier round.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(subject: &'a Subject, folder: PathBuf, compiled: Option<&Path>) -> io::Result<Self> {
        fs::create_dir_all(folder.join("data"))?;
        if let Some(from) = compiled.filter(|from| from.is_dir()) {
            let to = folder.join("data/compiled");
            DirBuilder::new().mode(0o700).create(&to)?;
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

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The highest number of a checkpoint that its runs have told of: they do not tell of each.
    ///
    /// # Errors
    /// When what they told cannot be read.
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

    /// Runs the command until it ends, or dies at `at`; one that takes longer than `at_most` is ended, as a failure.
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

    /// The arguments that lead everything into the folder of the round.
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

    /// Asks the job for what is to be asked, as long as it was not done.
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
        if self.has_been_asked || !data.join(control::FILE_NAME).exists() {
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

    /// What the run said at its end.
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

/// A child process that is killed and waited for when this is dropped.
#[derive(Debug)]
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        // One that has ended already is not there to be killed.
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
