//! The answers of a running job to its clients, and the reports to its observer.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Failure;
use super::checkpoint::why;
use super::failure::{EXIT_DATA, EXIT_USAGE};
use super::terminal::Terminal;
use super::what_runs::Preparing;
use crate::checkpoint::store::savepoint;
use crate::checkpoint::{CheckpointReader, StoreSettings};
use crate::edge::clock::Clock;
use crate::edge::control::address::{Listen, ListenError};
use crate::edge::control::job::{JobSide, Savepoints, routes};
use crate::edge::control::swap::with_swap;
use crate::edge::control::{self, Doors, Serving, changes};
use crate::edge::drive::Inputs;
use crate::edge::scratch;
use crate::edge::swap::Swapper;
use crate::guest::GuestEngine;
use crate::job::Notice;
use crate::observe::{JobState, Kind, NodeFacts, Observer, Outcome, PluginFacts, WorkerMetrics};
use crate::runtime::plan::{Plan, Role};

/// The variable that may have the token.
const TOKEN_VARIABLE: &str = "FLOODMARK_TOKEN";

/// Where a job can be asked besides its socket.
#[derive(Debug, Default, clap::Args)]
pub struct ListenArguments {
    /// Lets the job be asked over HTTP at this address, too, such as `127.0.0.1:8081`, `:8081` or `[::1]:0`: status,
    /// checkpoints, stop, and metrics for Prometheus. An address that other machines reach needs a token
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// A file with the token that callers over TCP have to show, at least 16 characters; or set `FLOODMARK_TOKEN`
    #[arg(long, value_name = "FILE", requires = "listen")]
    listen_token_file: Option<std::path::PathBuf>,
}

impl ListenArguments {
    /// The door on TCP, if there is to be one.
    ///
    /// # Errors
    /// When it may not or cannot be: nothing has begun yet.
    pub(super) fn door(&self, terminal: &Terminal) -> Result<Doors, Failure> {
        let mut doors = Doors::default();
        let Some(typed) = &self.listen else {
            return Ok(doors);
        };
        let token = std::env::var(TOKEN_VARIABLE).ok();
        let listen = Listen::new(typed, self.listen_token_file.as_ref(), token);
        let bound = listen.and_then(|listen| doors.on_tcp(&listen));
        let address = bound.map_err(|error| {
            let code = match error {
                ListenError::Bind { .. } => EXIT_DATA,
                _ => EXIT_USAGE,
            };
            Failure::new(code, error.to_string())
        })?;
        terminal.say(&format!("listening on http://{address}"));
        Ok(doors)
    }
}

/// What savepoints are copied from, until the job is over: who waits for one outlives it.
pub(super) type LookedAt = Arc<Mutex<Option<Arc<dyn CheckpointReader>>>>;

/// A job that can be asked.
pub(super) struct Answering {
    serving: Option<Serving>,
    pub(super) observer: Arc<Observer>,
    stopped_with_savepoint: Arc<AtomicBool>,
    looked_at: LookedAt,
}

impl Answering {
    /// From here on the job can be asked.
    pub(super) fn begin(
        mut doors: Doors,
        folder: &Path,
        reader: Arc<dyn CheckpointReader>,
        (inputs, preparing): (Inputs, Preparing),
        watched: &Watched,
        terminal: &Terminal,
    ) -> Self {
        let looked_at: LookedAt = Arc::new(Mutex::new(Some(reader)));
        let swapper = swapper(
            folder,
            &looked_at,
            &inputs,
            &preparing.engine,
            watched.clock,
        );
        let stopped_with_savepoint = Arc::new(AtomicBool::new(false));
        let side = JobSide {
            inputs,
            observer: Arc::clone(&watched.observer),
            clock: watched.clock,
            savepoints: savepoints(&looked_at),
            folder: folder.to_path_buf(),
            stopped_with_savepoint: Arc::clone(&stopped_with_savepoint),
        };
        if let Err(error) = doors.on_socket(folder) {
            terminal.say(&format!(
                "warning: cannot listen on `{}` ({error}): `floodmark stop` and the like do not reach this job",
                folder.join(control::FILE_NAME).display()
            ));
        }
        let rollbacks = preparing.rollbacks(&looked_at);
        let routes = changes::with(routes(&side), &side, rollbacks);
        let serving = doors.open(with_swap(routes, swapper, folder.to_path_buf()));
        let refused = |error: &std::io::Error| {
            terminal.say(&format!(
                "warning: cannot answer calls ({error}): `floodmark stop` and the like do not reach this job"
            ));
        };
        Self {
            serving: serving.inspect_err(refused).ok(),
            observer: Arc::clone(&watched.observer),
            stopped_with_savepoint,
            looked_at,
        }
    }

    /// Answers the requests that are still open after the job has ended. Returns whether its last checkpoint was copied for
    /// the client that stopped it.
    pub(super) fn finish(self, state: JobState) -> bool {
        self.observer.is_now(state);
        if let Some(serving) = self.serving {
            serving.finish();
        }
        *self
            .looked_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.stopped_with_savepoint
            .load(std::sync::atomic::Ordering::Relaxed)
    }
}

fn swapper(
    folder: &Path,
    reader: &LookedAt,
    inputs: &Inputs,
    engine: &GuestEngine,
    clock: Clock,
) -> Swapper {
    let (folder, reader) = (folder.to_path_buf(), Arc::clone(reader));
    let look = move || {
        let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        reader.clone()
    };
    Swapper {
        engine: engine.clone(),
        inputs: inputs.clone(),
        reader: Arc::new(look),
        scratch: Arc::new(move || scratch::file_in(&folder)),
        clock,
    }
}

fn savepoints(reader: &LookedAt) -> Savepoints {
    let reader = Arc::clone(reader);
    Arc::new(move |id, to| {
        let reader = reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let reader = reader.ok_or("the job is over")?;
        let checkpoint = reader.read(id);
        let copied = checkpoint.and_then(|checkpoint| {
            savepoint::create(to, &*reader, &checkpoint, StoreSettings::default())
        });
        copied.map_err(|error| error.to_string())
    })
}

/// A job that is observed.
#[derive(Clone)]
pub(super) struct Watched {
    pub(super) observer: Arc<Observer>,
    pub(super) clock: Clock,
}

impl Watched {
    /// A job that is about to begin.
    pub(super) fn new(plan: &Plan, clock: Clock) -> Self {
        let observer = Observer::new(
            &plan.job,
            plan.parallelism,
            plan.max_parallelism.get(),
            nodes(plan),
            clock.wall_ms(),
        );
        Self {
            observer: Arc::new(observer),
            clock,
        }
    }

    /// The job runs this from now on.
    pub(super) fn planned(&self, plan: &Plan, is_on_trial: bool) {
        self.observer
            .runs(plan.parallelism, nodes(plan), is_on_trial);
    }

    /// Records may flow.
    pub(super) fn begun(&self) {
        self.observer.is_now(JobState::Running);
    }

    /// Some time has passed.
    pub(super) fn watch(&self, now: Duration) {
        self.observer.sample(now);
    }

    pub(super) fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        self.observer.worker(index)
    }

    pub(super) fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Begun {
                checkpoint,
                trigger,
                created_ms,
            } => self
                .observer
                .checkpoint_begun(checkpoint.0, why(*trigger), *created_ms),
            Notice::Completed(checkpoint) => self.observer.checkpoint_ended(Outcome {
                id: checkpoint.id.0,
                trigger: why(checkpoint.trigger),
                created_ms: checkpoint.created_ms,
                total: checkpoint.total,
                collecting: checkpoint.collecting,
                stall: checkpoint.stall,
                state_bytes_new: checkpoint.state_bytes_new,
                state_bytes: checkpoint.state_bytes,
                records_in: checkpoint.records_in,
                ..Outcome::default()
            }),
            Notice::NotCompleted {
                checkpoint,
                trigger,
                created_ms,
                total,
                reason,
            } => self.observer.checkpoint_ended(Outcome {
                id: checkpoint.0,
                trigger: why(*trigger),
                created_ms: *created_ms,
                total: *total,
                failure: Some(reason.clone()),
                ..Outcome::default()
            }),
            Notice::WentBack(went_back) => {
                let now_ms = self.clock.wall_ms();
                self.observer.failed(&went_back.reason, now_ms);
                self.observer.restarting();
                let to = went_back.to.map(|id| id.0);
                self.observer.restored(to, now_ms);
            }
            Notice::Rescaled(_) => self.observer.rescaled(),
            Notice::Swapped(swapped) => self.observer.swapped(swapped.pause()),
            Notice::RolledBack(rolled_back) => {
                let now_ms = self.clock.wall_ms();
                self.observer.restored(Some(rolled_back.to.0), now_ms);
            }
            Notice::TrialFailed { reason, to, .. } => {
                let now_ms = self.clock.wall_ms();
                self.observer.failed(reason, now_ms);
                self.observer.restored(Some(to.0), now_ms);
                self.observer.swap_undone();
                self.observer.trial_is_over();
            }
            Notice::TrialPassed { .. } => self.observer.trial_is_over(),
            Notice::NotVisible { .. }
            | Notice::GaveUp { .. }
            | Notice::StoppedAtRest { .. }
            | Notice::Log { .. } => {}
        }
    }
}

fn nodes(plan: &Plan) -> Vec<NodeFacts> {
    let nodes = plan.nodes.iter().map(|node| NodeFacts {
        name: node.name.clone(),
        kind: match &node.role {
            Role::Source(_) => Kind::Source,
            Role::Sink(_) => Kind::Sink,
            Role::Operator(operator) => Kind::Operator(plugin_facts(&operator.plugin)),
        },
    });
    nodes.collect()
}

/// What a plugin says of itself.
fn plugin_facts(plugin: &crate::guest::Plugin) -> PluginFacts {
    let description = plugin.description();
    PluginFacts {
        name: description.name.clone(),
        version: description.version.clone(),
        digest: plugin.digest().to_string(),
    }
}
