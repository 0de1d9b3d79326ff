//! Notifies commands and HTTP addresses of completed and failed checkpoints. Best effort: the job never waits for a
//! hook.
//!
//! Each listener has a queue, which the job puts events into, and a thread, which delivers them in order: a listener that
//! hangs delays no other. If one is so slow that its queue is full, its oldest event is dropped. Each notification has a
//! time limit, after which a command is killed with all its child processes. The first failure is reported in full and
//! later ones are counted: a listener that is down for a day must not fill a log. Answers of listeners have no effect on
//! the job.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use signal_hook::consts::SIGKILL;

use floodmark_engine::edge::clock::Clock;
use floodmark_plugin_build::environment::withhold_secrets;

/// Largest number of queued events.
const QUEUED_MAX: usize = 64;
/// Longest reason in bytes; longer ones are cut, so that an event fits into the pipe of a command that does not read
/// it.
const REASON_BYTES_MAX: usize = 4096;
const COMMAND_TIME: Duration = Duration::from_secs(30);
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Time that the end of a job waits for queued events.
const STOP_TIME: Duration = Duration::from_secs(3);
/// Interval of checking whether a running command has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A command or an address to notify of each checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// A command line for `sh -c`, which gets the event on its standard input.
    Command(String),
    /// An address that the event is posted to.
    Url(String),
}

impl Hook {
    /// Parses a hook: an address if it begins with `http://` or `https://`, otherwise a command.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let is_url = ["http://", "https://"].iter().any(|scheme| {
            text.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        if is_url {
            Self::Url(text.to_owned())
        } else {
            Self::Command(text.to_owned())
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(text) => f.write_str(&without_users(text, &ENDS_IN_COMMANDS)),
            Self::Url(url) => f.write_str(&without_users(url, &ENDS)),
        }
    }
}

/// What ends the part of an address that has user, password and host.
const ENDS: [char; 4] = ['/', '\\', '?', '#'];
/// The same in a command line, where an address is one word of several.
const ENDS_IN_COMMANDS: [char; 10] = ['/', '\\', '?', '#', ' ', '\t', '\n', '"', '\'', '`'];

/// A text without user and password of the addresses in it, which do not belong in a log.
fn without_users(text: &str, ends: &[char]) -> String {
    const SCHEME_END: &str = "://";
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEME_END) {
        let (scheme, address) = rest.split_at(at + SCHEME_END.len());
        shown.push_str(scheme);
        let end = address.find(ends).unwrap_or(address.len());
        let host = address[..end].rfind('@').map_or(0, |at| at + 1);
        rest = &address[host..];
    }
    shown + rest
}

/// A completed or failed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckpointEvent {
    /// Whether the checkpoint completed or failed.
    pub event: CheckpointOutcome,
    /// The name of the job.
    pub job: String,
    /// The id of the checkpoint.
    pub checkpoint: u64,
    /// Wall-clock time of its trigger, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_ms: u64,
    /// The reason for taking it, such as `interval`.
    pub trigger: String,
    /// Bytes of state that the checkpoint holds.
    pub state_bytes: u64,
    /// Time from the trigger to the outcome, in milliseconds.
    pub duration_ms: u64,
    /// The reason, if the checkpoint failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a checkpoint completed or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointOutcome {
    /// The checkpoint is durable.
    Completed,
    /// The checkpoint is not durable, or it is unknown whether it is.
    Failed,
}

/// Longest times for one notification, and for queued events at the end of the job.
#[derive(Debug, Clone, Copy)]
struct TimeLimits {
    command: Duration,
    request: Duration,
    stop: Duration,
}

const LIMITS: TimeLimits = TimeLimits {
    command: COMMAND_TIME,
    request: REQUEST_TIME,
    stop: STOP_TIME,
};

/// The listeners of a job.
#[derive(Debug)]
pub struct Hooks {
    deliveries: Vec<Delivery>,
    limits: TimeLimits,
}

/// The thread that delivers events to one listener, and its queue.
#[derive(Debug)]
struct Delivery {
    queue: Arc<Queue>,
    thread: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<CheckpointEvent>,
    dropped: u64,
    is_stopping: bool,
    /// The job stopped waiting: the running command or request is to be ended.
    is_given_up: bool,
    is_over: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event, and drops the oldest one if there are too many.
    fn put(&self, event: CheckpointEvent) {
        let mut state = self.state();
        if state.events.len() >= QUEUED_MAX {
            state.events.pop_front();
            state.dropped += 1;
        }
        state.events.push_back(event);
        drop(state);
        self.changed.notify_all();
    }

    /// The next event; `None` once the job has ended and all events were taken.
    fn next(&self) -> Option<CheckpointEvent> {
        let waits = |state: &mut QueueState| state.events.is_empty() && !state.is_stopping;
        let waited = self.changed.wait_while(self.state(), waits);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.is_given_up {
            return None;
        }
        state.events.pop_front()
    }

    /// Waits for this long, or until the job stops waiting for its hooks; returns whether it has stopped.
    fn rest(&self, at_most: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.state(), at_most, |state| !state.is_given_up);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_given_up
    }
}

impl Hooks {
    /// Starts a thread for each hook. Commands run in `folder`; `warn` receives warnings for the user.
    #[must_use]
    pub fn start(
        hooks: Vec<Hook>,
        folder: PathBuf,
        warn: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        Self::start_within(LIMITS, hooks, folder, warn)
    }

    #[expect(clippy::disallowed_methods, reason = "this is where threads come from")]
    fn start_within(
        limits: TimeLimits,
        hooks: Vec<Hook>,
        folder: PathBuf,
        warn: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        let warn = Arc::new(warn);
        let delivery = |hook: Hook| {
            let queue = Arc::new(Queue::default());
            let (folder, of_thread, warn) = (folder.clone(), Arc::clone(&queue), Arc::clone(&warn));
            let thread = std::thread::spawn(move || {
                let ended = EndSignal(Arc::clone(&of_thread));
                let mut teller = Teller {
                    hook,
                    failures: 0,
                    folder,
                    limits,
                    queue: of_thread,
                    client: None,
                };
                teller.run(&*warn);
                drop(ended);
            });
            Delivery { queue, thread }
        };
        Self {
            deliveries: hooks.into_iter().map(delivery).collect(),
            limits,
        }
    }

    /// Queues an event; returns at once.
    pub fn tell(&self, mut event: CheckpointEvent) {
        if let Some(reason) = &mut event.reason {
            let end = reason.floor_char_boundary(REASON_BYTES_MAX);
            reason.truncate(end);
        }
        for delivery in &self.deliveries {
            delivery.queue.put(event.clone());
        }
    }

    fn end(&mut self) {
        for Delivery { queue, .. } in &self.deliveries {
            queue.state().is_stopping = true;
            queue.changed.notify_all();
        }
        let clock = Clock::start();
        for Delivery { queue, .. } in &self.deliveries {
            let rest = self.limits.stop.saturating_sub(clock.now());
            let is_busy = |state: &mut QueueState| !state.is_over;
            let waited = queue
                .changed
                .wait_timeout_while(queue.state(), rest, is_busy);
            drop(waited);
        }
        for Delivery { queue, .. } in &self.deliveries {
            queue.state().is_given_up = true;
            queue.changed.notify_all();
        }
        for Delivery { thread, .. } in self.deliveries.drain(..) {
            // The thread ends soon: a running command is killed, and a request is dropped.
            let _ = thread.join();
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.end();
    }
}

/// Marks the thread as ended, also when `warn` has panicked.
struct EndSignal(Arc<Queue>);

impl Drop for EndSignal {
    fn drop(&mut self) {
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

/// The state of a thread.
struct Teller {
    hook: Hook,
    /// The number of events that could not be delivered.
    failures: u64,
    folder: PathBuf,
    limits: TimeLimits,
    queue: Arc<Queue>,
    client: Option<Client>,
}

impl Teller {
    fn run(&mut self, warn: &dyn Fn(String)) {
        while let Some(event) = self.queue.next() {
            let mut json = serde_json::to_vec(&event).expect("an event is of texts and numbers");
            json.push(b'\n');
            let Err(reason) = self.tell(&json) else {
                continue;
            };
            self.failures += 1;
            if self.failures == 1 {
                warn(format!(
                    "`on-checkpoint` could not notify `{}` of checkpoint {}: {reason}; the job continues, and further failures are counted",
                    self.hook, event.checkpoint
                ));
            }
        }
        let state = self.queue.state();
        let lost = state.dropped + state.events.len() as u64;
        drop(state);
        if self.failures > 1 {
            warn(format!(
                "`on-checkpoint` could not notify `{}` of {} checkpoints in total",
                self.hook, self.failures
            ));
        }
        if lost > 0 {
            warn(format!(
                "`on-checkpoint` is slower than checkpoints are taken: {lost} of them were not reported to `{}`",
                self.hook
            ));
        }
    }

    fn tell(&mut self, json: &[u8]) -> Result<(), String> {
        match &self.hook {
            Hook::Command(line) => run(line, &self.folder, json, self.limits.command, &self.queue),
            Hook::Url(url) => {
                let client = match self.client.take() {
                    Some(client) => client,
                    None => Client::new()?,
                };
                let client = self.client.insert(client);
                client.post(url, json, self.limits.request, &self.queue)
            }
        }
    }
}

/// Runs a command to its end, or kills it with all its child processes.
fn run(
    line: &str,
    folder: &Path,
    json: &[u8],
    at_most: Duration,
    queue: &Queue,
) -> Result<(), String> {
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .current_dir(folder)
        .stdin(Stdio::piped())
        // The command's output is not the job's: standard output belongs to the job's records.
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        // A process group of its own: Ctrl-C does not end it, and it can be killed with its child processes.
        .process_group(0);
    withhold_secrets(&mut command);
    let mut child = command
        .spawn()
        .map_err(|error| format!("it cannot be started: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // A pipe has room for an event, so this does not block even if the command does not read it.
        let _ = input.write_all(json);
    }
    let clock = Clock::start();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return ended(status),
            Ok(None) => {}
            Err(error) => return killed(&mut child, error.to_string()),
        }
        let is_given_up = queue.rest(LOOK_INTERVAL);
        if is_given_up {
            return killed(&mut child, "it was killed when the job ended".to_owned());
        }
        if clock.now() >= at_most {
            let seconds = at_most.as_secs_f32();
            return killed(&mut child, format!("it was killed after {seconds} s"));
        }
    }
}

fn ended(status: ExitStatus) -> Result<(), String> {
    if status.success() {
        Ok(())
    } else {
        Err(format!("it ended with {status}"))
    }
}

/// Kills a command, unless it has ended since it was last looked at; that is no reason to report it as killed.
fn killed(child: &mut Child, reason: String) -> Result<(), String> {
    match kill(child) {
        Ok(status) if status.signal() != Some(SIGKILL) => ended(status),
        _ => Err(reason),
    }
}

fn kill(child: &mut Child) -> io::Result<ExitStatus> {
    // The group's id is that of its first process, which is not waited for yet: no other process can have that id.
    let group = format!("-{}", child.id());
    let killed = Command::new("kill")
        .args(["-KILL", "--", &group])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !killed.is_ok_and(|status| status.success()) {
        // Kills at least the shell.
        let _ = child.kill();
    }
    child.wait()
}

/// Posts events. Its runtime runs on the calling thread, and resolves host names on a thread of its own.
struct Client {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    fn new() -> Result<Self, String> {
        // The same provider may already be installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("floodmark/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| whole(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(|error: io::Error| error.to_string())?;
        Ok(Self { client, runtime })
    }

    fn post(&self, url: &str, json: &[u8], at_most: Duration, queue: &Queue) -> Result<(), String> {
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .timeout(at_most)
            .body(json.to_vec());
        let answer = self.runtime.block_on(async {
            let mut answer = std::pin::pin!(request.send());
            loop {
                match tokio::time::timeout(LOOK_INTERVAL, &mut answer).await {
                    Ok(answer) => return answer.map_err(|error| whole(&error.without_url())),
                    Err(_) if queue.state().is_given_up => {
                        return Err("it had not answered when the job ended".to_owned());
                    }
                    Err(_) => {}
                }
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("it answered with {status}"))
        }
    }
}

/// The error with its causes: the outer ones only say that something failed.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
